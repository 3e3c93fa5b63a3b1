package config

import (
	"flag"
	"os"
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
		{"? " + many("[", 20000) + many("]", 20000) + "\n: 1", "line 1: exceeded max depth of 10000"},
		{"a: &a [1,1,1,1,1,1,1,1,1]\n" + many("b#: &b# [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n", 1), "a: unknown key (there are components, devices, exports, interfaces, kernel, log, mounts, server)"},
	} {
		_, e := build("config.yaml", []byte(c.text), nil, nil)
		if e == nil || e.Error() != "config.yaml: "+c.want {
			t.Errorf("%.60q:\ngot  %v\nwant config.yaml: %s", c.text, e, c.want)
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
