package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// node is a file of fakeKernel.
type node struct {
	typ     abi.VType
	content string
	target  string
	entries []abi.Dirent // may lie
}

// fakeKernel is a Caller that answers what a hostile kernel might: a tree by
// exact path names, whose directories list what they like.
type fakeKernel struct {
	nodes map[string]node

	mu    sync.Mutex
	fds   map[int]string
	read  map[int]bool // directories that have been listed
	next  int
	calls map[int]func(ctx context.Context, a *abi.Sysargs) error // instead of the tree
}

func newFake(nodes map[string]node) *fakeKernel {
	return &fakeKernel{nodes: nodes, fds: make(map[int]string), read: make(map[int]bool), next: 3}
}

func (k *fakeKernel) Close() error { return nil }

func (k *fakeKernel) Syscall(ctx context.Context, num int, a *abi.Sysargs) error {
	if f := k.calls[num]; f != nil {
		return f(ctx, a)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	stat := func(p string) error {
		n, ok := k.nodes[p]
		if !ok {
			return abi.ENOENT
		}
		st := abi.Stat{Dev: 1, Vattr: abi.Vattr{Type: n.typ, Mode: 0o6755, Nlink: 1, Size: int64(len(n.content)), Bytes: int64(len(n.content)), Fileid: abi.Fileid(len(p))}}
		a.NO = copy(a.Out, abi.AppendStat(nil, &st))
		return nil
	}
	switch num {
	case abi.SYS_umask, abi.SYS_shutdown:
		return nil
	case abi.SYS_open:
		if _, ok := k.nodes[a.Path[0]]; !ok {
			return abi.ENOENT
		}
		k.next++
		k.fds[k.next] = a.Path[0]
		a.R[0] = uint64(k.next)
		return nil
	case abi.SYS_close:
		delete(k.fds, a.Int(0))
		return nil
	case abi.SYS_stat, abi.SYS_lstat:
		return stat(a.Path[0])
	case abi.SYS_fstat:
		return stat(k.fds[a.Int(0)])
	case abi.SYS_readlink:
		a.NO = copy(a.Out, k.nodes[a.Path[0]].target)
		return nil
	case abi.SYS_getdents:
		if fd := a.Int(0); !k.read[fd] {
			k.read[fd] = true
			var b []byte
			for _, d := range k.nodes[k.fds[fd]].entries {
				rec := make([]byte, abi.DirentMaxSize)
				b = append(b, rec[:abi.PutDirent(rec, &d)]...)
			}
			a.NO = copy(a.Out, b)
		}
		return nil
	case abi.SYS_pread:
		s := k.nodes[k.fds[a.Int(0)]].content
		a.NO = copy(a.Out, s[min(a.Int(1), len(s)):])
		a.R[0] = uint64(a.NO)
		return nil
	}
	return abi.ENOSYS
}

// fakeCall is a call of verb name to the kernel k.
func fakeCall(t *testing.T, k rumpclient.Caller, name string, stdin io.Reader) (*call, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	var out, errs bytes.Buffer
	c := newCall(streams{stdin: stdin, stdout: &out, stderr: &errs}, globals{}, verbNamed(name))
	c.client = rumpclient.New(k)
	return c, &out, &errs
}

// runFake runs a verb as dispatch does and gives its exit code.
func runFake(t *testing.T, c *call, args ...string) int {
	t.Helper()
	fs := newFlags(c.verb.name)
	f := c.verb.setup(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return c.finish(c.run(t.Context(), f, fs.Args()))
}

func dirents(names ...string) []abi.Dirent {
	var ds []abi.Dirent
	for _, n := range names {
		ds = append(ds, abi.Dirent{Fileid: 1, Type: abi.VREG, Name: n})
	}
	return ds
}

// TestHostileNames: what the kernel calls its files cannot drive a terminal.
func TestHostileNames(t *testing.T) {
	const evil = "\x1b]0;owned\x07"
	k := newFake(map[string]node{
		"/":         {typ: abi.VDIR, entries: dirents(evil, "ok")},
		"/" + evil:  {typ: abi.VLNK, target: "\x1b[2J"},
		"/ok":       {typ: abi.VREG},
		"/\x1bfile": {typ: abi.VREG},
	})
	for _, args := range [][]string{{"/"}, {"-l", "/"}, {"-lR", "/"}, {"/\x1bfile"}, {"/\x1bnothing"}} {
		c, out, errs := fakeCall(t, k, "ls", nil)
		c.tty = true
		runFake(t, c, args...)
		if s := out.String() + errs.String(); strings.ContainsAny(s, "\x1b\x07") || s == "" {
			t.Errorf("ls %q writes %q", args, s)
		}
	}
	c, out, _ := fakeCall(t, k, "ls", nil)
	if runFake(t, c, "/"); out.String() != evil+"\nok\n" {
		t.Errorf("ls into a pipe writes %q", out)
	}
}

// TestCpHostile: a tree that lies about its names, or lists one name as a link
// and as a directory, writes nothing outside of the destination.
func TestCpHostile(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	if err := os.Mkdir(outside, 0o777); err != nil {
		t.Fatal(err)
	}
	for i, flag := range []string{"-rp", "-a", "-rp", "-a"} {
		k := newFake(map[string]node{
			"/t":                    {typ: abi.VDIR, entries: dirents("../outside/a", "..", ".", "x/y", "good")},
			"/t/../outside/a":       {typ: abi.VREG, content: "escaped"},
			"/t/x/y":                {typ: abi.VREG, content: "escaped"},
			"/t/good":               {typ: abi.VREG, content: "good"},
			"/t/..":                 {typ: abi.VDIR, entries: dirents("outside")},
			"/t/../outside":         {typ: abi.VDIR, entries: dirents("b")},
			"/t/../outside/b":       {typ: abi.VREG, content: "escaped"},
			"/t/../outside/nothing": {typ: abi.VREG},
		})
		if i > 1 {
			k = &swapKernel(t, outside).fakeKernel
		}
		to := filepath.Join(dir, "to")
		os.RemoveAll(to)
		c, _, errs := fakeCall(t, k, "cp", nil)
		if code := runFake(t, c, flag, "kernel:/t", to); code != exitRefused {
			t.Errorf("exit %d: %s", code, errs)
		}
		for _, name := range []string{"../outside/a", "x/y"} {
			if i < 2 && !strings.Contains(errs.String(), fmt.Sprintf("it has an entry named %q", name)) {
				t.Errorf("nothing is said of %q: %s", name, errs)
			}
		}
		if got, err := os.ReadFile(filepath.Join(to, "good")); err != nil || string(got) != "good" {
			t.Errorf("good: %q, %v", got, err)
		}
		if fi, err := os.Stat(filepath.Join(to, "good")); err != nil || fi.Mode() != 0o755 {
			t.Errorf("good has mode %v", fi.Mode())
		}
		if ents, err := os.ReadDir(outside); err != nil || len(ents) != 0 {
			t.Fatalf("something was written outside: %v %v\n%s", ents, err, errs)
		}
		if ents, err := os.ReadDir(dir); err != nil || len(ents) != 2 {
			t.Fatalf("something was written beside: %v %v\n%s", ents, err, errs)
		}
	}
}

// swapFake is a tree in which "sub" is first a link that leads out and then a
// directory with a file.
type swapFake struct {
	fakeKernel
	asked int
}

func swapKernel(t *testing.T, outside string) *swapFake {
	s := &swapFake{fakeKernel: *newFake(nil)}
	s.nodes = map[string]node{
		"/t":          {typ: abi.VDIR, entries: dirents("good", "sub", "sub")},
		"/t/good":     {typ: abi.VREG, content: "good"},
		"/t/sub":      {typ: abi.VDIR, target: outside, entries: dirents("file")},
		"/t/sub/file": {typ: abi.VREG, content: "escaped"},
	}
	s.calls = map[int]func(context.Context, *abi.Sysargs) error{
		abi.SYS_lstat: func(ctx context.Context, a *abi.Sysargs) error {
			n, ok := s.nodes[a.Path[0]]
			if !ok {
				return abi.ENOENT
			}
			typ := n.typ
			if a.Path[0] == "/t/sub" {
				if s.asked++; s.asked == 1 {
					typ = abi.VLNK
				}
			}
			st := abi.Stat{Dev: 1, Vattr: abi.Vattr{Type: typ, Mode: 0o755, Fileid: abi.Fileid(len(a.Path[0]))}}
			a.NO = copy(a.Out, abi.AppendStat(nil, &st))
			return nil
		},
	}
	return s
}

// TestPump: everything arrives in order, and an error of the writer ends it
// although the reader waits.
func TestPump(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789"), 10000)
	var got bytes.Buffer
	r := bytes.NewReader(want)
	err := pump(777, r.Read, func(b []byte) error { got.Write(b); return nil })
	if err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Fatalf("%d bytes of %d, %v", got.Len(), len(want), err)
	}
	if err := pump(8, func([]byte) (int, error) { return 0, abi.EIO }, nil); err != abi.EIO {
		t.Errorf("an error of read: %v", err)
	}
	block := make(chan struct{})
	first := true
	err = pump(8, func(b []byte) (int, error) {
		if first {
			first = false
			return copy(b, "x"), nil
		}
		<-block
		return 0, io.EOF
	}, func([]byte) error { return abi.EPIPE })
	if err != abi.EPIPE {
		t.Errorf("an error of write: %v", err)
	}
	close(block)
	goleak.VerifyNone(t)
}

// blockReader is a standard input that says nothing until it is closed.
type blockReader struct{ c chan struct{} }

func (r blockReader) Read([]byte) (int, error) { <-r.c; return 0, io.EOF }

// TestNcEnds: how nc ends when the two directions end differently.
func TestNcEnds(t *testing.T) {
	eof := func(_ context.Context, a *abi.Sysargs) error { a.NO, a.R[0] = 0, 0; return nil }
	wait := func(ctx context.Context, a *abi.Sysargs) error { <-ctx.Done(); return abi.EINTR }
	fail := func(e abi.Errno) func(context.Context, *abi.Sysargs) error {
		return func(context.Context, *abi.Sysargs) error { return e }
	}
	idle := blockReader{make(chan struct{})}
	for _, c := range []struct {
		name        string
		stdin       io.Reader
		read, write func(context.Context, *abi.Sysargs) error
		f           ncFlags
		want        abi.Errno
	}{
		{"both end", strings.NewReader(""), eof, nil, ncFlags{}, 0},
		{"listener's input idles", idle, eof, nil, ncFlags{listen: true}, 0},
		{"nothing comes", idle, wait, nil, ncFlags{wait: 1}, 0},
		{"reset", idle, fail(abi.ECONNRESET), nil, ncFlags{}, abi.ECONNRESET},
		{"write fails", strings.NewReader("x"), wait, fail(abi.EPIPE), ncFlags{}, abi.EPIPE},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newFake(nil)
			k.calls = map[int]func(context.Context, *abi.Sysargs) error{abi.SYS_read: c.read, abi.SYS_write: c.write}
			call, _, _ := fakeCall(t, k, "nc", c.stdin)
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			err := newNcCopy(call, call.client, 3, c.f).run(ctx, nil)
			if abi.ErrnoOf(err) != c.want {
				t.Errorf("ends with %v", err)
			}
		})
	}
	close(idle.c)
	goleak.VerifyNone(t)
}

// TestLeftBehind: a verb that no context ends is left behind.
func TestLeftBehind(t *testing.T) {
	idle := blockReader{make(chan struct{})}
	c, _, _ := fakeCall(t, newFake(map[string]node{"/f": {typ: abi.VREG}}), "write", idle)
	c.timeout = 20 * time.Millisecond
	fs := newFlags("write")
	err := c.run(t.Context(), c.verb.setup(fs), []string{"/f"})
	if abi.ErrnoOf(err) != abi.ETIMEDOUT {
		t.Errorf("%v", err)
	}
	close(idle.c)
	goleak.VerifyNone(t)
}
