package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/rumpus-kernel/rumpus/host/config"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func TestPrintable(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"plain name", "plain name"},
		{"größe 文件", "größe 文件"},
		{"a\x1b[31mred", "a?[31mred"},
		{"tab\tnewline\n", "tab?newline?"},
		{"c1\u009b31m", "c1?31m"},
		{"bidi\u202egnp.exe", "bidi?gnp.exe"},
		{"bad\xff\xfeutf8", "bad??utf8"},
		{"\x7f", "?"},
	} {
		if got := printable(c.in); got != c.want {
			t.Errorf("printable(%q) = %q, not %q", c.in, got, c.want)
		}
	}
	if got := printableLines("a\tb\x1b\nc\r\n"); got != "a\tb?\nc?\n" {
		t.Errorf("printableLines: %q", got)
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("name")
	f.Add("\x1b]0;title\a\u200b\xc0\x80")
	f.Fuzz(func(t *testing.T, s string) {
		p := printable(s)
		for _, r := range p {
			if unicode.IsControl(r) || !unicode.IsGraphic(r) {
				t.Fatalf("printable(%q) lets %q through", s, r)
			}
		}
		if printable(p) != p {
			t.Fatalf("printable(%q) changes when it is repeated", s)
		}
		if n := strings.Count(printableLines(s), "\n"); n != strings.Count(s, "\n") {
			t.Fatalf("printableLines(%q) has %d lines", s, n+1)
		}
	})
}

func TestExitCode(t *testing.T) {
	_, conf := config.Load(config.Options{Path: "/nowhere/config.yaml", Environ: []string{}})
	_, connect := rumpclient.Open(t.Context(), "unix:///nowhere/k.sock")
	_, host := os.Stat("/nowhere")
	kernel := &rumpclient.Error{Op: "open", Path: "/a", Errno: abi.ENOENT}
	absent := &rumpclient.Error{Op: "socket", Errno: abi.EOPNOTSUPP, Text: "net component not available"}
	for _, c := range []struct {
		err  error
		code int
		text string
	}{
		{nil, 0, ""},
		{kernel, 1, "open /a: no such file or directory (ENOENT)"},
		{fmt.Errorf("x: %w", kernel), 1, "x: open /a: no such file or directory (ENOENT)"},
		{&rumpclient.Error{Op: "open", Path: "/\x1b[2J", Errno: abi.Errno(200)}, 1, "open /?[2J: errno 200 (E200)"},
		{host, 1, "stat /nowhere: no such file or directory (ENOENT)"},
		{hostErr(host), 1, "stat /nowhere: no such file or directory (ENOENT)"},
		{syscall.ENOSPC, 1, "no space left on device (ENOSPC)"},
		{usagef("bad %s", "flag"), 2, "bad flag"},
		{conf, 2, conf.Error()},
		{connect, 3, connect.Error()},
		{fmt.Errorf("write: %w", rumpclient.ErrGone), 3, "write: the kernel is gone"},
		{absent, 4, "socket: net component not available (EOPNOTSUPP)"},
		{exitError(130), 130, ""},
		{context.DeadlineExceeded, 1, "context deadline exceeded (ETIMEDOUT)"},
		{errors.New("odd"), 1, "odd"},
	} {
		if got := exitCode(c.err); got != c.code {
			t.Errorf("exitCode(%v) = %d, not %d", c.err, got, c.code)
		}
		if c.text != "" && errorText(c.err) != c.text {
			t.Errorf("errorText(%v) = %q, not %q", c.err, errorText(c.err), c.text)
		}
	}
	if !strings.Contains(connect.Error(), "no kernel reached at unix:///nowhere/k.sock") {
		t.Errorf("connect: %v", connect)
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		n    uint64
		want string
	}{
		{0, "0B"}, {999, "999B"}, {1000, "1.0K"}, {1024, "1.0K"}, {1536, "1.5K"}, {10 << 10, "10K"}, {1 << 20, "1.0M"},
		{1023 << 20, "1.0G"}, {64 << 30, "64G"}, {1<<64 - 1, "16E"},
	} {
		if got := human(c.n); got != c.want {
			t.Errorf("human(%d) = %q, not %q", c.n, got, c.want)
		}
	}
	for _, c := range []struct {
		used, avail uint64
		want        string
	}{{0, 0, "-"}, {0, 9, "0%"}, {1, 999, "1%"}, {50, 50, "50%"}, {1, 0, "100%"}, {1<<64 - 1, 1<<64 - 1, "50%"}} {
		if got := percent(c.used, c.avail); got != c.want {
			t.Errorf("percent(%d, %d) = %q, not %q", c.used, c.avail, got, c.want)
		}
	}
	if n := bytesOf(1<<60, 4096); n != 1<<64-1 {
		t.Errorf("bytesOf overflows to %d", n)
	}
	if n := bytesOf(3, 4096); n != 12288 {
		t.Errorf("bytesOf = %d", n)
	}
}

func TestModeString(t *testing.T) {
	for _, c := range []struct {
		typ  abi.VType
		mode uint32
		want string
	}{
		{abi.VREG, 0o644, "-rw-r--r--"}, {abi.VDIR, 0o1777, "drwxrwxrwt"}, {abi.VLNK, 0o755, "lrwxr-xr-x"},
		{abi.VCHR, 0o600, "crw-------"}, {abi.VBLK, 0, "b---------"}, {abi.VREG, 0o6755, "-rwsr-sr-x"},
		{abi.VREG, 0o7644, "-rwSr-Sr-T"}, {abi.VFIFO, 0o111, "p--x--x--x"}, {abi.VSOCK, 0o222, "s-w--w--w-"}, {abi.VBAD, 0, "?---------"},
	} {
		if got := modeString(c.typ, c.mode); got != c.want {
			t.Errorf("modeString(%v, %o) = %q, not %q", c.typ, c.mode, got, c.want)
		}
	}
}

func TestLsTime(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		t    time.Time
		want string
	}{
		{now.Add(-time.Hour), "Jul  1 11:00"},
		{now.AddDate(-1, 0, 0), "Jul  1  2025"},
		{now.AddDate(1, 0, 0), "Jul  1  2027"},
	} {
		if got := lsTime(c.t, now); got != c.want {
			t.Errorf("lsTime(%v) = %q, not %q", c.t, got, c.want)
		}
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	table(&b, "lrl", [][]string{{"NAME", "SIZE", "X"}, {"größe", "12345", ""}, {"a", "1", "last"}})
	want := "NAME   SIZE X\ngröße 12345\na         1 last\n"
	if b.String() != want {
		t.Errorf("table:\n%q\n%q", b.String(), want)
	}
	b.Reset()
	columns(&b, []string{"a", "b", "c", "d", "long"}, 20)
	if want := "a     c     long\nb     d\n"; b.String() != want {
		t.Errorf("columns:\n%q\n%q", b.String(), want)
	}
	b.Reset()
	columns(&b, []string{strings.Repeat("x", 100), "y"}, 20)
	if n := strings.Count(b.String(), "\n"); n != 2 {
		t.Errorf("columns of a long name: %d lines", n)
	}
}

func TestMessages(t *testing.T) {
	got := messages("[    1.000002] net: up\nno stamp\n[x] y\n")
	want := []message{{1e9 + 2000, "net: up"}, {0, "no stamp"}, {0, "[x] y"}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("messages: %v, not %v", got, want)
	}
}
