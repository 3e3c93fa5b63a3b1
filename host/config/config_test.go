package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// load builds a configuration from the text of a file.
func load(t *testing.T, text string, environ ...string) *Config {
	t.Helper()
	c, e := build("config.yaml", []byte(text), environ, nil)
	if e != nil {
		t.Fatal(e)
	}
	return c
}

// want fails unless two configurations agree in all but their source.
func want(t *testing.T, got, want *Config) {
	t.Helper()
	g, w := *got, *want
	g.Source, w.Source = "", ""
	if !reflect.DeepEqual(g, w) {
		t.Fatalf("got  %+v\nwant %+v", g, w)
	}
}

func component(name, class string) Component {
	c := Component{
		Name: name, Class: class, Plugin: name, Enabled: true, StartTimeout: 10 * time.Second,
		Restart: Restart{Budget: 5, Window: 10 * time.Second, Wait: 5 * time.Second},
		Grant:   []string{}, Sandbox: Sandbox{MayMiss: []string{}}, Props: map[string]any{},
	}
	c.Restart.Spare = name == "vfs"
	if name == "dev" {
		c.Grant = []string{"host.console"}
	}
	return c
}

// builtin is what the defaults decode to, written out.
func builtin() *Config {
	return &Config{
		Kernel: Kernel{
			Threads: true, Sysctl: map[string]any{}, Secmodels: []string{"suser"}, Owner: "root",
			ModulePath: []string{"$EXE/plugins"},
		},
		Server: Server{Mode: 0o700, Clients: 256},
		Components: map[string]Component{
			"vfs": component("vfs", "vfs"), "net": component("net", "net"), "dev": component("dev", "dev"),
		},
		Mounts: []Mount{
			{Dir: "/", Type: "tmpfs", Options: map[string]any{}},
			{Dir: "/dev", Type: "devfs", Options: map[string]any{}},
		},
		Devices:    map[string]Device{},
		Interfaces: map[string]Interface{"lo0": {}},
		Exports:    Exports{Fuse: []Fuse{}, NineP: []any{}, SFTP: []any{}, NBD: []NBD{}, Socks: []any{}},
		Log:        Log{Level: "warn"},
	}
}

func TestDefaults(t *testing.T) {
	want(t, Default(), builtin())
	for _, text := range []string{
		"", "# nothing\n", "---\n", "{}", "kernel:\nserver:\nlog:\nexports:\n", "kernel: {}\nexports: {metrics: }\n",
	} {
		want(t, load(t, text), builtin())
	}
}

func TestEverything(t *testing.T) {
	c := load(t, `
kernel:
  hostname: box.example
  ncpu: 3
  memlimit: 64m
  threads: false
  verbose: true
  blkfail: "100"
  sysctl: {kern.maxfiles: 4096, net.inet.ip.forwarding: true, kern.x: text}
  secmodels: []
  module-path: [/a, b]
server: {socket: "unix:///tmp/s", mode: "0770", clients: 1}
components:
  vfs: {essential: true, start-timeout: 3s, restart: {budget: 0, wait: 1s}, grant: [a, b], props: {n: 1, l: [1, {a: 2}], f: 1.5}}
  untrusted: {class: vfs, plugin: ./bin/vfs}
  net: {enabled: false}
mounts:
  - {dir: /, type: tmpfs, options: {size: 25%, ro: true}}
  - {dir: /img, type: hostfs, source: ./tree, instance: untrusted}
log: {level: "off", json: true, file: x.log}
`)
	w := builtin()
	w.Kernel = Kernel{
		Hostname: "box.example", NCPU: 3, Memlimit: Size{Bytes: 64 << 20}, Verbose: true, Blkfail: "100",
		Sysctl:    map[string]any{"kern.maxfiles": 4096, "net.inet.ip.forwarding": true, "kern.x": "text"},
		Secmodels: []string{}, Owner: "root", ModulePath: []string{"/a", "b"},
	}
	w.Server = Server{Socket: "/tmp/s", Mode: 0o770, Clients: 1}
	vfs, untrusted, net := component("vfs", "vfs"), component("untrusted", "vfs"), component("net", "net")
	vfs.Essential, vfs.StartTimeout, vfs.Grant = true, 3*time.Second, []string{"a", "b"}
	vfs.Restart = Restart{Budget: 0, Window: 10 * time.Second, Wait: time.Second, Spare: true}
	vfs.Props = map[string]any{"n": 1, "l": []any{1, map[string]any{"a": 2}}, "f": 1.5}
	untrusted.Plugin = "./bin/vfs"
	net.Enabled = false
	w.Components = map[string]Component{"vfs": vfs, "untrusted": untrusted, "net": net}
	w.Mounts = []Mount{
		{Dir: "/", Type: "tmpfs", Options: map[string]any{"size": "25%", "ro": true}},
		{Dir: "/img", Type: "hostfs", Source: "./tree", Instance: "untrusted", Options: map[string]any{}},
	}
	w.Log = Log{Level: "off", JSON: true, File: "x.log"}
	want(t, c, w)

	var names []string
	for _, comp := range c.Enabled() {
		names = append(names, comp.Name)
	}
	if g := strings.Join(names, " "); g != "vfs untrusted" {
		t.Errorf("Enabled: got %s", g)
	}
}

// A file's components, interfaces and mounts are all there are.
func TestReplace(t *testing.T) {
	for text, names := range map[string]string{
		"components: {vfs: }":              "vfs",
		"components: {net: {}, dev: {}}":   "dev net",
		"components:":                      "",
		"components: {}":                   "",
		"log: {level: info}":               "dev net vfs",
		"components: {x: {class: net}}":    "x",
		"components: {vfs: {plugin: v2}} ": "vfs",
	} {
		if g := strings.Join(sortedKeys(load(t, text).Components), " "); g != names {
			t.Errorf("%s: got components %q, want %q", text, g, names)
		}
	}
	if c := load(t, "interfaces:\nmounts: []\n"); len(c.Interfaces) != 0 || len(c.Mounts) != 0 {
		t.Errorf("got %v, %v, want none", c.Interfaces, c.Mounts)
	}
	// An anchor is YAML's own way to say a thing twice.
	c := load(t, "components:\n  vfs: &c {start-timeout: 1s}\n  net: *c\n  dev: {<<: *c, essential: true}\n")
	for name, comp := range c.Components {
		if comp.StartTimeout != time.Second || comp.Class != name || comp.Essential != (name == "dev") {
			t.Errorf("got %+v", comp)
		}
	}
}

func TestEnvironment(t *testing.T) {
	file := "components: {vfs: {}, net: {}, my_fs: {class: vfs, props: {Deep: {Key: 1}}}}\nkernel: {sysctl: {kern.max_files: 1}}\n"
	for _, c := range []struct {
		env  []string
		want func(c *Config)
	}{
		{[]string{"RUMPUS_LOG__LEVEL=debug"}, func(c *Config) { c.Log.Level = "debug" }},
		{[]string{"RUMPUS_log__Level=debug", "HOME=/", "RUMPUS_CONFIG=other", "RUMPUS_DEBUG=1"}, func(c *Config) { c.Log.Level = "debug" }},
		{[]string{"RUMPUS_LOG__LEVEL=info", "RUMPUS_LOG__LEVEL=debug"}, func(c *Config) { c.Log.Level = "debug" }},
		{[]string{"RUMPUS_KERNEL__NCPU=4", "RUMPUS_KERNEL__MEMLIMIT=4096", "RUMPUS_KERNEL__THREADS=0"}, func(c *Config) {
			c.Kernel.NCPU, c.Kernel.Memlimit, c.Kernel.Threads = 4, Size{Bytes: 4096}, false
		}},
		{[]string{"RUMPUS_KERNEL__MEMLIMIT=50%", "RUMPUS_KERNEL__HOSTNAME=007"}, func(c *Config) {
			c.Kernel.Memlimit, c.Kernel.Hostname = Size{Percent: 50}, "007"
		}},
		{[]string{"RUMPUS_KERNEL__MODULE_PATH=/a, /b"}, func(c *Config) { c.Kernel.ModulePath = []string{"/a", "/b"} }},
		{[]string{"RUMPUS_KERNEL__MODULE_PATH=[/a, /b]"}, func(c *Config) { c.Kernel.ModulePath = []string{"/a", "/b"} }},
		{[]string{"RUMPUS_KERNEL__MODULE_PATH="}, func(c *Config) { c.Kernel.ModulePath = []string{} }},
		{[]string{"RUMPUS_SERVER__MODE=0750", "RUMPUS_SERVER__CLIENTS=7"}, func(c *Config) { c.Server.Mode, c.Server.Clients = 0o750, 7 }},
		{[]string{"RUMPUS_COMPONENTS__NET__ENABLED=false"}, func(c *Config) {
			n := c.Components["net"]
			n.Enabled = false
			c.Components["net"] = n
		}},
		{[]string{"RUMPUS_COMPONENTS__MY_FS__START_TIMEOUT=1s", "RUMPUS_COMPONENTS__MY_FS__PROPS__DEEP__KEY=2"}, func(c *Config) {
			n := c.Components["my_fs"]
			n.StartTimeout, n.Props = time.Second, map[string]any{"Deep": map[string]any{"Key": 2}}
			c.Components["my_fs"] = n
		}},
		{[]string{"RUMPUS_COMPONENTS__DEV={}"}, func(c *Config) { c.Components["dev"] = component("dev", "dev") }},
		{[]string{"RUMPUS_COMPONENTS={dev: }", "RUMPUS_COMPONENTS__NET__PLUGIN=n2"}, func(c *Config) {
			n := component("net", "net")
			n.Plugin = "n2"
			c.Components = map[string]Component{"dev": component("dev", "dev"), "net": n}
		}},
		{[]string{"RUMPUS_KERNEL__SYSCTL__KERN__MAX_FILES=2", "RUMPUS_KERNEL__SYSCTL__VM__ON=true"}, func(c *Config) {
			c.Kernel.Sysctl = map[string]any{"kern.max_files": 2, "vm.on": true}
		}},
		{[]string{"RUMPUS_MOUNTS=[{dir: /, type: kernfs}]"}, func(c *Config) {
			c.Mounts = []Mount{{Dir: "/", Type: "kernfs", Options: map[string]any{}}}
		}},
		// NetBSD's names, and ours above them.
		{[]string{"RUMP_THREADS=0", "RUMP_NCPU=2", "RUMP_VERBOSE=1", "RUMP_MEMLIMIT=16m", "RUMP_SERVER=unix:///x", "RUMP_BLKFAIL=10"}, func(c *Config) {
			c.Kernel.Threads, c.Kernel.NCPU, c.Kernel.Verbose, c.Kernel.Memlimit = false, 2, true, Size{Bytes: 16 << 20}
			c.Server.Socket, c.Kernel.Blkfail = "/x", "10"
		}},
		{[]string{"RUMP_THREADS=", "RUMP_VERBOSE=0", "RUMP_NCPU=host", "RUMP_SERVER=rel/sock", "RUMP_OTHER=1"}, func(c *Config) {
			c.Server.Socket = "rel/sock"
		}},
		{[]string{"RUMPUS_KERNEL__NCPU=9", "RUMP_NCPU=2"}, func(c *Config) { c.Kernel.NCPU = 9 }},
	} {
		w := load(t, file)
		c.want(w)
		t.Run(strings.Join(c.env, " "), func(t *testing.T) { want(t, load(t, file, c.env...), w) })
	}
}

func TestOverrides(t *testing.T) {
	c, err := Load(Options{
		Dir: t.TempDir(), Environ: []string{"RUMPUS_LOG__LEVEL=info", "RUMPUS_LOG__JSON=true"},
		Overrides: map[string]any{
			"log/level": "debug", "kernel/ncpu": 2, "kernel/threads": "false", "components/net/enabled": false,
			"kernel/sysctl/kern.maxfiles": "12", "kernel/sysctl/kern.name": "a b", "mounts": "[]",
			"server/clients": "3", "components/dev/props/Some": "x",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w := builtin()
	w.Log.Level, w.Log.JSON, w.Kernel.NCPU, w.Kernel.Threads = "debug", true, 2, false
	n, d := w.Components["net"], w.Components["dev"]
	n.Enabled, d.Props = false, map[string]any{"Some": "x"}
	w.Components["net"], w.Components["dev"] = n, d
	w.Kernel.Sysctl = map[string]any{"kern.maxfiles": 12, "kern.name": "a b"}
	w.Mounts, w.Server.Clients = []Mount{}, 3
	want(t, c, w)

	if k, v, err := ParseSet("a/b=c=d"); k != "a/b" || v != "c=d" || err != nil {
		t.Errorf("ParseSet: %q %q %v", k, v, err)
	}
	for _, s := range []string{"", "a", "=b"} {
		if _, _, err := ParseSet(s); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("ParseSet(%q): %v", s, err)
		}
	}
}

func TestWhichFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, level string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte("log: {level: "+level+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	check := func(o Options, level, source string) {
		t.Helper()
		if o.Environ == nil {
			o.Environ = []string{}
		}
		c, err := Load(o)
		if err != nil {
			t.Fatal(err)
		}
		if c.Log.Level != level || c.Source != source {
			t.Errorf("got %s of %s, want %s of %s", c.Log.Level, c.Source, level, source)
		}
	}
	check(Options{Dir: dir}, "warn", BuiltIn)
	def := write("config.yaml", "info")
	check(Options{Dir: dir}, "info", def)
	env := write("env.yaml", "debug")
	check(Options{Dir: dir, Environ: []string{"RUMPUS_CONFIG=" + env}}, "debug", env)
	check(Options{Dir: dir, Environ: []string{"RUMPUS_CONFIG="}}, "info", def)
	flag := write("flag.yaml", "error")
	check(Options{Path: flag, Dir: dir, Environ: []string{"RUMPUS_CONFIG=" + env}}, "error", flag)
	check(Options{Path: "/dev/null"}, "warn", "/dev/null")
	t.Chdir(dir)
	check(Options{}, "info", "config.yaml")

	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Path: "missing.yaml"}, "missing.yaml: no such file"},
		{Options{Environ: []string{"RUMPUS_CONFIG=gone"}}, "gone: no such file"},
		{Options{Path: "/"}, "/: is a directory, wanted a file"},
		{Options{Path: big}, big + ": longer than 1 MiB, which is no configuration"},
		{Options{Path: "config.yaml/x"}, "config.yaml/x: not a directory"},
	} {
		_, err := Load(c.o)
		var e *Error
		if !errors.As(err, &e) || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

func TestCheck(t *testing.T) {
	c := load(t, `
components: {vfs: {plugin: a}, net: {plugin: a}, dev: {plugin: b, enabled: false}, x: {class: vfs, enabled: false}}
mounts: [{dir: /, type: tmpfs}, {dir: /x, type: tmpfs, instance: x}]`)
	asked := ""
	errs := c.Check(func(name string) error {
		asked += name
		return errors.New("plugin " + name + "\nis not there")
	})
	if asked != "a" {
		t.Errorf("asked for %q, want a once", asked)
	}
	var lines []string
	for _, e := range errs {
		lines = append(lines, e.Error())
	}
	w := []string{
		"config.yaml: components/net/plugin: plugin a is not there",
		"config.yaml: components/vfs/plugin: plugin a is not there",
		"config.yaml: mounts/1/instance: component x is not enabled",
	}
	if !reflect.DeepEqual(lines, w) {
		t.Errorf("got %q, want %q", lines, w)
	}
	if errs := Default().Check(func(string) error { return nil }); len(errs) != 0 {
		t.Errorf("the defaults: %v", errs)
	}
}

func TestPluginPath(t *testing.T) {
	exe := t.TempDir()
	dir := filepath.Join(exe, "plugins")
	for name, mode := range map[string]os.FileMode{"vfs": 0o755, "text": 0o644} {
		if err := os.MkdirAll(filepath.Join(dir, "dir"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	c := Default()
	c.Kernel.ModulePath = []string{"/nonexistent", "$EXE/plugins"}
	for _, x := range []struct{ name, path, err string }{
		{"vfs", dir + "/vfs", ""},
		{dir + "/vfs", dir + "/vfs", ""},
		{"net", "", "plugin net not found in /nonexistent, " + dir},
		{"text", "", "plugin " + dir + "/text: not executable"},
		{"dir", "", "plugin " + dir + "/dir: is a directory"},
		{"./none", "./none", "plugin ./none: no such file"},
		{"/dev/null", "/dev/null", "plugin /dev/null: not a regular file"},
	} {
		p, err := c.PluginPath(x.name, exe)
		if msg := ""; err != nil {
			if msg = err.Error(); msg != x.err {
				t.Errorf("%s: got %q, want %q", x.name, msg, x.err)
			}
		} else if p != x.path || x.err != "" {
			t.Errorf("%s: got %s, want %s %s", x.name, p, x.path, x.err)
		}
	}
}

func TestSocketPath(t *testing.T) {
	c := Default()
	if g := c.SocketPath([]string{"XDG_RUNTIME_DIR=/run/x"}); g != "/run/x/rumpus/default.sock" {
		t.Errorf("got %s", g)
	}
	for _, env := range [][]string{{}, {"XDG_RUNTIME_DIR="}, {"XDG_RUNTIME_DIR=relative"}} {
		if g := DefaultSocket(env); !regexp.MustCompile(`^(/run/user/\d+/rumpus|/tmp/rumpus-\d+)/default\.sock$`).MatchString(g) {
			t.Errorf("%v: got %s", env, g)
		}
	}
	c.Server.Socket = "/s"
	if g := c.SocketPath(nil); g != "/s" {
		t.Errorf("got %s", g)
	}
}

func TestSize(t *testing.T) {
	for text, w := range map[string]Size{
		"0": {}, "7": {Bytes: 7}, "64k": {Bytes: 64 << 10}, "3M": {Bytes: 3 << 20}, "1g": {Bytes: 1 << 30},
		"2t": {Bytes: 2 << 40}, "1%": {Percent: 1}, "100%": {Percent: 100}, "9223372036854775807": {Bytes: 1<<63 - 1},
	} {
		g, err := ParseSize(text)
		if err != nil || g != w {
			t.Errorf("%s: got %v, %v", text, g, err)
		}
		if back, err := ParseSize(g.String()); err != nil || back != g {
			t.Errorf("%s: String gives %s, which is %v, %v", text, g, back, err)
		}
	}
	for _, text := range []string{"", "k", "-1", "+1", "1x", "1kk", "0%", "101%", "8388608t", "9223372036854775808", "1 k", "0x10", "1.5g", "１"} {
		if g, err := ParseSize(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, g)
		}
	}
	if g := (Size{Percent: 25}).Of(1<<63 + 400); g != 1<<61+100 {
		t.Errorf("25%%: got %d", g)
	}
	if g := (Size{Bytes: 9}).Of(1); g != 9 {
		t.Errorf("got %d", g)
	}
	if g := (Size{Percent: 100}).Of(1<<64 - 1); g != 1<<64-1 {
		t.Errorf("100%%: got %d", g)
	}
	if CPUs(0).Count() < 1 || CPUs(0).String() != "host" || CPUs(3).Count() != 3 || Mode(0o70).String() != "0070" || Mode(0o600).Perm() != 0o600 {
		t.Error("CPUs or Mode")
	}
}
