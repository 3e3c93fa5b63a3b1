package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the messages of testdata/wrong.txt anew")

const wrongFile = "testdata/wrong.txt"

// TestWrong holds the exact line for each wrong configuration.
func TestWrong(t *testing.T) {
	data, err := os.ReadFile(wrongFile)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(data), "\n")
	cases := 0
	for i, line := range lines {
		kind, quoted, _ := strings.Cut(line, " ")
		if kind != "file" && kind != "env" && kind != "set" {
			continue
		}
		text, err := strconv.Unquote(quoted)
		if err != nil || i+1 == len(lines) {
			t.Fatalf("%s:%d: %v", wrongFile, i+1, err)
		}
		cases++
		var e *Error
		switch kind {
		case "file":
			_, e = build("config.yaml", []byte(text), nil, nil)
		case "env":
			_, e = build("config.yaml", nil, []string{text}, nil)
		case "set":
			key, value, _ := strings.Cut(text, "=")
			_, e = build("config.yaml", nil, nil, map[string]any{key: value})
		}
		if e == nil {
			t.Errorf("%s:%d: %s is accepted", wrongFile, i+1, line)
			continue
		}
		if *rewrite {
			lines[i+1] = "\t" + e.Error()
		} else if got := "\t" + e.Error(); got != lines[i+1] {
			t.Errorf("%s:%d: %s\ngot  %s\nwant %s", wrongFile, i+1, line, got, lines[i+1])
		}
	}
	if cases < 100 {
		t.Errorf("only %d cases", cases)
	}
	if *rewrite {
		if err := os.WriteFile(wrongFile, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Limits that are too long to write down, and values that no YAML makes.
func TestLimits(t *testing.T) {
	many := func(format string, n int) string {
		var s strings.Builder
		for i := range n {
			s.WriteString(strings.ReplaceAll(format, "#", strconv.Itoa(i)))
		}
		return s.String()
	}
	for _, c := range []struct{ text, want string }{
		{"components:\n" + many("  c#: {class: vfs}\n", 65), "components: 65 entries, at most 64 are allowed"},
		{"mounts:\n" + many("  - {dir: /#, type: x}\n", 1025), "mounts: 1025 mounts, at most 1024 are allowed"},
		{"kernel:\n  module-path: [" + many("a#,", 257) + "]\n", "kernel/module-path: got a list, wanted at most 256 entries"},
		{"kernel:\n  sysctl:\n" + many("    a.b#: 1\n", 1025), "kernel/sysctl: 1025 entries, at most 1024 are allowed"},
		{"components: {vfs: {props: {a: " + many("[", 20) + many("]", 20) + "}}}", "components/vfs/props/a: nested more than 16 deep"},
		{"components: {vfs: {props: {a: [" + many("1,", 1025) + "]}}}", "components/vfs/props/a: 1025 entries, at most 1024 are allowed"},
		{"log: {file: " + many("x", 4097) + "}", `log/file: got "` + many("x", 64) + `...", wanted at most 4096 bytes`},
		{many("x", 100) + ": 1", many("x", 64) + "...: unknown key (there are components, devices, exports, interfaces, kernel, log, mounts, server)"},
		{"server: {socket: /" + many("x", 107) + "}", "server/socket: the path has 108 bytes, a socket's has at most 107"},
		{"mounts: [{type: x, dir: /" + many("x", 1023) + "}]", `mounts/0/dir: got "/` + many("x", 63) + `...", wanted at most 1023 bytes`},
		{"components: {vfs: {props: {" + many("x", 256) + ": 1}}}", "components/vfs/props/" + many("x", 64) + "...: bad name (wanted 1 to 255 bytes)"},
		{"? " + many("[", 20000) + many("]", 20000) + "\n: 1", "exceeded max depth of 10000"},
		{"a: &a [1,1,1,1,1,1,1,1,1]\n" + many("b#: &b# [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n", 1), "a: unknown key (there are components, devices, exports, interfaces, kernel, log, mounts, server)"},
	} {
		_, e := build("config.yaml", []byte(c.text), nil, nil)
		if e == nil || e.Line == 0 || e.Error() != "config.yaml:"+strconv.Itoa(e.Line)+": "+c.want {
			t.Errorf("%.60q:\ngot  %v\nwant config.yaml:LINE: %s", c.text, e, c.want)
		}
	}
	for _, v := range []any{[]string{"a"}, struct{}{}, func() {}, map[any]any{1.5: 2}} {
		for _, key := range []string{"kernel/secmodels", "kernel/sysctl", "kernel/ncpu", "components/vfs/props/x", "mounts"} {
			if _, e := build("config.yaml", nil, nil, map[string]any{key: v}); e == nil {
				t.Errorf("%s = %T is accepted", key, v)
			}
		}
	}
	// Bombs of aliases end by the parser's own bound, in bounded time.
	bomb := "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := range 9 {
		p, q := strconv.Itoa(i), strconv.Itoa(i+1)
		bomb += "a" + q + ": &a" + q + " [" + many("*a"+p+",", 10) + "]\n"
	}
	if _, e := build("config.yaml", []byte(bomb), nil, nil); e == nil || !strings.Contains(e.Msg, "excessive aliasing") {
		t.Errorf("bomb: got %v", e)
	}
}

// FuzzLoad: whatever the bytes of a file, there is a usable Config or a line.
func FuzzLoad(f *testing.F) {
	sample, err := os.ReadFile(sampleFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sample)
	f.Add(commented.ReplaceAll(sample, []byte("$1$2")))
	wrong, err := os.ReadFile(wrongFile)
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(wrong)) {
		if q, ok := strings.CutPrefix(strings.TrimSpace(line), "file "); ok {
			if s, err := strconv.Unquote(q); err == nil {
				f.Add([]byte(s))
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		usable(t, data, nil)
	})
}

// FuzzEnvironment: the same for the name and value of a variable.
func FuzzEnvironment(f *testing.F) {
	f.Add("LOG__LEVEL", "debug")
	f.Add("COMPONENTS__VFS__PROPS__A__B", "[1, {a: 2}]")
	f.Add("KERNEL__SYSCTL__KERN__MAXFILES", "12")
	f.Add("MOUNTS", "[{dir: /, type: x}]")
	f.Add("COMPONENTS__VFS__ENABLED__", "")
	f.Fuzz(func(t *testing.T, name, value string) {
		usable(t, nil, []string{"RUMPUS_" + name + "=" + value})
	})
}

func usable(t *testing.T, data []byte, environ []string) {
	c, e := build("config.yaml", data, environ, nil)
	if e != nil {
		if s := e.Error(); strings.ContainsAny(s, "\n\r\x00\x1b") || e.Msg == "" || len(s) > 4096 {
			t.Fatalf("not a line: %q", s)
		}
		return
	}
	c.Check(func(string) error { return nil })
	c.Enabled()
	for name, comp := range c.Components {
		if comp.Name != name || !classes[comp.Class] || comp.Plugin == "" || comp.StartTimeout <= 0 || comp.Props == nil {
			t.Fatalf("component %q: %+v", name, comp)
		}
	}
	for _, m := range c.Mounts {
		if m.Dir == "" || m.Type == "" || m.Options == nil {
			t.Fatalf("mount: %+v", m)
		}
	}
	for name, d := range c.Devices {
		if (d.Etfs == "") == (d.Md == Size{}) || d.Offset.Bytes%512 != 0 || name == "" {
			t.Fatalf("device %q: %+v", name, d)
		}
	}
	if c.Kernel.Sysctl == nil || c.Server.Clients < 1 || c.Log.Level == "" {
		t.Fatalf("got %+v", c)
	}
}

// TestAllMistakes: Load tells everything that is wrong, the file's by line, then
// what came from elsewhere.
func TestAllMistakes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "c.yaml")
	for _, tc := range []struct{ text, want string }{
		{`log: {level: loud}
components:
  vfs: {enabeld: true}
  BAD: {}
  net:
    restart:
      budget: lots
mounts:
  - dir: /
    type: tmpfs
  - dir: relative
    type: "no such"
    colour: red
kernel:
  ncpu: 0
`, `F:1: log/level: got "loud", wanted
F:3: components/vfs/enabeld: unknown key
F:4: components/BAD: bad component name
F:7: components/net/restart/budget: got "lots"
F:11: mounts/1/dir: got "relative", wanted an absolute path
F:12: mounts/1/type: got "no such"
F:13: mounts/1/colour: unknown key
F:15: kernel/ncpu: got the number 0
environment RUMPUS_SERVER__CLIENTS: server/clients: 
--set: log/json: `},
		// What only the whole shows, when the rest is right.
		{`components:
  vfs: {}
  strange: {plugin: vfs}
  dev: {}
mounts:
  - {dir: /, type: tmpfs, noauto: true}
  - {dir: /a, type: tmpfs, instance: nobody}
  - {dir: /b, type: tmpfs, instance: dev}
  - {dir: /b, type: tmpfs}
  - {dir: /c}
  - {dir: /d, type: tmpfs, essential: true, noauto: true}
devices:
  disk0: {}
exports: {fuse: [{dir: /x}, {dir: /x}]}
`, `F:3: components/strange/class: missing
F:6: mounts/0/noauto: true, but the mount is the root
F:7: mounts/1/instance: no component nobody (there are dev, strange, vfs)
F:8: mounts/2/instance: component dev is of class dev, wanted vfs
F:9: mounts/3/dir: /b is a mount point already (mounts/2)
F:10: mounts/4/type: missing
F:11: mounts/5/noauto: true, but the mount is essential
F:13: devices/disk0: nothing that it is
F:14: exports/fuse/1/dir: /x is mounted on already`},
		{"a: [\nb: {\n", "F:2: "},
	} {
		if err := os.WriteFile(file, []byte(tc.text), 0o644); err != nil {
			t.Fatal(err)
		}
		o := Options{Path: file, Environ: []string{}}
		if strings.Contains(tc.want, "--set") {
			o.Environ, o.Overrides = []string{"RUMPUS_SERVER__CLIENTS=0"}, map[string]any{"log/json": "perhaps"}
		}
		_, err := Load(o)
		var e *Error
		if !errors.As(err, &e) || e.File != file {
			t.Errorf("no *Error of the file: %v", err)
			continue
		}
		got, want := strings.Split(err.Error(), "\n"), strings.Split(tc.want, "\n")
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || !strings.HasPrefix(strings.ReplaceAll(got[i], file, "F"), want[i]) {
				t.Errorf("wanted\n%s\ngot\n%v", tc.want, err)
				break
			}
		}
	}
}

// TestManyMistakes: a file of nothing but mistakes is not told to its end.
func TestManyMistakes(t *testing.T) {
	_, errs := buildAll("c.yaml", []byte(strings.Repeat("- 1\n", 10)), nil, nil)
	if len(errs) != 1 {
		t.Errorf("%v", errs)
	}
	var b strings.Builder
	for i := range 1000 {
		b.WriteString("key" + strconv.Itoa(i) + ": 1\n")
	}
	if _, errs = buildAll("c.yaml", []byte(b.String()), nil, nil); len(errs) != maxFaults || errs[0].Line == 0 {
		t.Errorf("%d mistakes", len(errs))
	}
}
