package vnd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memFile is a file that is memory.
type memFile struct {
	mu     sync.Mutex
	p      []byte
	ro     bool
	holes  bool // Punch works
	syncs  int
	closed int
	err    error         // of every transfer
	enter  chan struct{} // told of each read, which waits for leave
	leave  chan struct{}
}

func (f *memFile) Size(context.Context) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(len(f.p)), nil
}

func (f *memFile) move(off, n int64) error {
	if off+n > int64(len(f.p)) {
		return abi.EIO
	}
	return f.err
}

func (f *memFile) ReadAt(_ context.Context, v abi.Iov, off int64) error {
	if f.enter != nil {
		f.enter <- struct{}{}
		<-f.leave
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.move(off, int64(v.Len()))
	if err == nil {
		v.CopyIn(f.p[off:])
	}
	return err
}

func (f *memFile) WriteAt(_ context.Context, v abi.Iov, off int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.move(off, int64(v.Len()))
	if err == nil {
		v.CopyOut(f.p[off:])
	}
	return err
}

func (f *memFile) Punch(_ context.Context, off, n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.holes {
		return abi.EOPNOTSUPP
	}
	err := f.move(off, n)
	if err == nil {
		clear(f.p[off : off+n])
	}
	return err
}

func (f *memFile) Sync(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.syncs++
	return f.err
}

func (f *memFile) Close(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed++
	return nil
}

// files are some of them by path.
func table(files map[string]*memFile) *Table {
	return New(Options{Open: func(_ context.Context, path string, write bool) (File, error) {
		f := files[path]
		switch {
		case f == nil:
			return nil, abi.ENOENT
		case f.ro && write:
			return nil, abi.EROFS
		}
		return f, nil
	}})
}

func want(t *testing.T, what string, err error, e abi.Errno) {
	t.Helper()
	if e == 0 && err != nil || e != 0 && !errors.Is(err, e) {
		t.Errorf("%s: %v, want %v", what, err, e)
	}
}

// module attaches a table with a unit.
type module struct {
	t   *Table
	arg string
}

func (m module) Info() modapi.Info {
	return modapi.Info{Name: "vnd", Class: modapi.ClassDriver, Kern: abi.KernVersionCurrent, Version: "1"}
}

func (m module) Init(ctx context.Context, k modapi.Kernel, _ modapi.Reason, _ modapi.Props) error {
	if _, err := m.t.Configure(ctx, devops.Units{}, abi.NoDev, []byte(m.arg)); err != nil {
		return err
	}
	_, err := k.AttachBlk("vnd", m.t)
	return err
}

func (m module) Fini(ctx context.Context) error { return m.t.CloseAll(ctx) }

// TestRules holds the rules of block device drivers for a file with holes, one
// without, and one that is only read.
func TestRules(t *testing.T) {
	for name, f := range map[string]func() *memFile{
		"holes": func() *memFile { return &memFile{p: make([]byte, 1<<20+100), holes: true} },
		"plain": func() *memFile { return &memFile{p: make([]byte, 1<<20)} },
		"ro":    func() *memFile { return &memFile{p: make([]byte, 1<<20), ro: true} },
	} {
		t.Run(name, func(t *testing.T) {
			modtest.TestBlk(t, func(*testing.T) modtest.BlkUnderTest {
				file := f()
				tb := table(map[string]*memFile{"/img": file})
				m := module{tb, fmt.Sprintf(`{"name": "vnd0", "file": "/img", "ro": %v}`, file.ro)}
				return modtest.BlkUnderTest{Mods: []modapi.Module{m}, Driver: "vnd", Units: []uint32{0}, BadUnit: 1}
			})
		})
	}
}

func buf(unit uint32, op devops.BufFlags, off int64, p []byte) *devops.Buf {
	return &devops.Buf{Dev: abi.Makedev(14, unit), Flags: op, Blkno: off / devops.DevBsize, Bytes: int64(len(p)), Data: abi.IovOf(p)}
}

// TestConfigure is what may be configured, and what becomes of numbers.
func TestConfigure(t *testing.T) {
	ctx := t.Context()
	files := map[string]*memFile{"/a": {p: make([]byte, 1<<20)}, "/small": {p: make([]byte, 511)}, "/ro": {p: make([]byte, 4096), ro: true}}
	tb := table(files)
	conf := func(arg string) (uint32, error) {
		u, err := tb.Configure(ctx, devops.Units{}, abi.NoDev, []byte(arg))
		return u.First, err
	}
	for _, c := range []struct {
		arg string
		e   abi.Errno
	}{
		{`{`, abi.EINVAL},
		{`{"name": "vnd0", "path": "/a"}`, abi.EINVAL},
		{`{"file": "/a"}`, abi.EINVAL},
		{`{"name": "a/b", "file": "/a"}`, abi.EINVAL},
		{`{"name": "..", "file": "/a"}`, abi.EINVAL},
		{`{"name": "vnd0", "file": "a"}`, abi.EINVAL},
		{`{"name": "` + strings.Repeat("x", 255) + `", "file": "/a"}`, abi.ENAMETOOLONG},
		{`{"name": "vnd0", "file": "/none"}`, abi.ENOENT},
		{`{"name": "vnd0", "file": "/small"}`, abi.ENXIO},
		{`{"name": "vnd0", "file": "/ro"}`, abi.EROFS},
	} {
		_, err := conf(c.arg)
		want(t, c.arg, err, c.e)
	}
	if files["/small"].closed != 1 {
		t.Error("a file of no use stays open")
	}
	if _, err := tb.Configure(ctx, devops.Units{}, abi.Makedev(1, 1), []byte(`{"name": "vnd0", "file": "/a"}`)); !errors.Is(err, abi.EINVAL) {
		t.Errorf("on a device: %v", err)
	}
	n, err := conf(`{"name": "vnd0", "file": "/a"}`)
	want(t, "one", err, 0)
	_, err = conf(`{"name": "vnd0", "file": "/ro", "ro": true}`)
	want(t, "its name", err, abi.EEXIST)
	_, err = conf(`{"name": "rvnd0", "file": "/ro", "ro": true}`)
	want(t, "its raw side", err, abi.EEXIST)
	want(t, "open", tb.Open(ctx, n, abi.O_RDWR), 0)
	want(t, "unconfigure", tb.Unconfigure(ctx, devops.Units{First: n, Count: 1}, false), abi.EBUSY)
	if files["/a"].closed != 0 || len(tb.List()) != 1 || tb.List()[0].Open != 1 {
		t.Errorf("%+v", tb.List())
	}
	want(t, "close", tb.Close(ctx, n, 0), 0)
	want(t, "unconfigure", tb.Unconfigure(ctx, devops.Units{First: n, Count: 1}, false), 0)
	want(t, "again", tb.Unconfigure(ctx, devops.Units{First: n, Count: 1}, false), abi.ENXIO)
	if files["/a"].closed != 1 {
		t.Error("the file was not closed")
	}
	m, err := conf(`{"name": "vnd0", "file": "/a"}`)
	if err != nil || m == n {
		t.Errorf("number %d came twice, %v", m, err)
	}
	want(t, "the old number", tb.Strategy(ctx, buf(n, devops.BRead, 0, make([]byte, 512))), abi.ENXIO)
	tb.next = MaxNumber + 1
	_, err = conf(`{"name": "vnd1", "file": "/ro", "ro": true}`)
	want(t, "no numbers left", err, abi.ENOMEM)
	want(t, "the end", tb.CloseAll(ctx), 0)
	if files["/a"].closed != 2 || len(tb.Nodes()) != 0 {
		t.Error("CloseAll has left something")
	}
}

// TestRest: who is told of a unit may refuse it, and hears of its end.
func TestRest(t *testing.T) {
	f := &memFile{p: make([]byte, 4096)}
	rests, refuse := 0, abi.ELOOP
	tb := New(Options{
		Open: func(context.Context, string, bool) (File, error) { return f, nil },
		Rest: func(uint32, File) (func(), error) {
			if refuse != 0 {
				return nil, refuse
			}
			rests++
			return func() { rests-- }, nil
		},
	})
	arg := []byte(`{"name": "vnd0", "file": "/a"}`)
	_, err := tb.Configure(t.Context(), devops.Units{}, abi.NoDev, arg)
	want(t, "refused", err, abi.ELOOP)
	if f.closed != 1 || len(tb.List()) != 0 {
		t.Error("something is left of it")
	}
	refuse = 0
	u, err := tb.Configure(t.Context(), devops.Units{}, abi.NoDev, arg)
	want(t, "configure", err, 0)
	if rests != 1 {
		t.Errorf("%d rest", rests)
	}
	want(t, "unconfigure", tb.Unconfigure(t.Context(), u, true), 0)
	if rests != 0 {
		t.Errorf("%d rest", rests)
	}
}

// TestForce: a unit is taken away under its users; requests in the file end, and
// the file is closed behind them; those that waited for a place get ENXIO.
func TestForce(t *testing.T) {
	f := &memFile{p: make([]byte, 1<<20), enter: make(chan struct{}), leave: make(chan struct{})}
	tb := table(map[string]*memFile{"/a": f})
	u, err := tb.Configure(t.Context(), devops.Units{}, abi.NoDev, []byte(`{"name": "vnd0", "file": "/a"}`))
	want(t, "configure", err, 0)
	want(t, "open", tb.Open(t.Context(), u.First, abi.O_RDWR), 0)
	var wg sync.WaitGroup
	read := func(ctx context.Context) error {
		return tb.Strategy(ctx, buf(u.First, devops.BRead, 0, make([]byte, 512)))
	}
	for range QueueDepth {
		wg.Go(func() { want(t, "in the file", read(t.Context()), 0) })
	}
	for range QueueDepth {
		<-f.enter
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	want(t, "given up", read(gone), abi.EINTR)
	waiting := make(chan error)
	go func() { waiting <- read(t.Context()) }()
	want(t, "force, not waited for", tb.Unconfigure(gone, u, true), abi.EINTR)
	want(t, "waited for a place", <-waiting, abi.ENXIO)
	want(t, "later", read(t.Context()), abi.ENXIO)
	f.mu.Lock()
	if f.closed != 0 {
		t.Error("closed under a request")
	}
	f.mu.Unlock()
	for range QueueDepth {
		f.leave <- struct{}{}
	}
	wg.Wait()
}

// TestErrors: what the file says comes through with its path.
func TestErrors(t *testing.T) {
	f := &memFile{p: make([]byte, 1<<20), holes: true}
	tb := table(map[string]*memFile{"/dir/img": f})
	u, err := tb.Configure(t.Context(), devops.Units{}, abi.NoDev, []byte(`{"name": "vnd0", "file": "/dir/img"}`))
	want(t, "configure", err, 0)
	do := func(op devops.BufFlags, off int64) error {
		b := buf(u.First, op, off, make([]byte, 4096))
		if b.Op() != devops.BRead && b.Op() != devops.BWrite {
			b.Data = nil
		}
		return tb.Strategy(t.Context(), b)
	}
	want(t, "fua", do(devops.BWrite|devops.BFua, 0), 0)
	want(t, "zeroes, fua", do(devops.BZeroes|devops.BFua, 0), 0)
	want(t, "flush", do(devops.BFlush, 0), 0)
	if f.syncs != 3 {
		t.Errorf("%d syncs, want 3", f.syncs)
	}
	f.err = abi.ENOSPC
	for _, op := range []devops.BufFlags{devops.BRead, devops.BWrite, devops.BFlush, devops.BDiscard, devops.BZeroes} {
		err := do(op, 0)
		if !errors.Is(err, abi.ENOSPC) || !strings.Contains(err.Error(), "/dir/img") {
			t.Errorf("flags %#x: %v", uint32(op), err)
		}
	}
	f.err = nil
	f.p = f.p[:1<<19]
	want(t, "made shorter", do(devops.BWrite, 1<<20-4096), abi.EIO)
	want(t, "made shorter", do(devops.BRead, 1<<20-4096), abi.EIO)
	want(t, "before the cut", do(devops.BRead, 0), 0)
	want(t, "the end", tb.CloseAll(t.Context()), 0)
}
