package vfs

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// later is an Options.Async that keeps what it is given.
type later struct{ fns []func(context.Context) }

func (l *later) add(fn func(context.Context)) { l.fns = append(l.fns, fn) }

func (l *later) run() {
	for len(l.fns) > 0 {
		fn := l.fns[0]
		l.fns = l.fns[1:]
		fn(ctx)
	}
}

// coldFile makes a file of n pages, page i full of byte i, of which none is in
// memory, and opens it.
func coldFile(k *kern, name string, n int) *file.File {
	k.t.Helper()
	var b []byte
	for i := range n {
		b = append(b, bytes.Repeat([]byte{byte(i)}, pageSize)...)
	}
	k.write(name, string(b))
	k.evictPages(1<<20, true, false)
	f := k.open(name, abi.O_RDWR)
	clear(k.fs().calls)
	return f
}

// page reads page i of f and checks its contents.
func (k *kern) page(f *file.File, i int) {
	k.t.Helper()
	b := make([]byte, pageSize)
	n, err := f.Ops.Read(ctx, abi.KernelCaller, f, b, int64(i)*pageSize)
	k.ok(err)
	if n != pageSize || b[0] != byte(i) || b[pageSize-1] != byte(i) {
		k.t.Fatalf("page %d: %d bytes of %d", i, n, b[0])
	}
}

// TestReadahead: who reads in order gets the pages of the next window before he
// asks for them, and windows grow; who seeks gets smaller ones; advice is
// followed.
func TestReadahead(t *testing.T) {
	for _, tc := range []struct {
		name   string
		advice int
		order  func(i int) int
		calls  int // of readpages, for 1024 pages
		upto   int // pages read at most, for so many that were wanted
		wanted int
	}{
		{"in order", abi.POSIX_FADV_NORMAL, func(i int) int { return i }, 7, 1024, 1024},
		{"sequential", abi.POSIX_FADV_SEQUENTIAL, func(i int) int { return i }, 5, 1024, 1024},
		{"random", abi.POSIX_FADV_RANDOM, func(i int) int { return i * 337 % 1024 }, 32, 32, 32},
		{"seeks", abi.POSIX_FADV_NORMAL, func(i int) int { return i * 337 % 1024 }, 32, 96, 32},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := newKern(t, variants[2], Options{})
			f := coldFile(k, "/f", 1024)
			k.ok(k.Advise(ctx, f, 0, 0, tc.advice))
			for i := range tc.wanted {
				k.page(f, tc.order(i))
			}
			if n := k.fs().calls["readpages"]; n > tc.calls {
				t.Errorf("%d calls", n)
			}
			if n := int(k.PageBytes() / pageSize); n > tc.upto {
				t.Errorf("%d pages for %d", n, tc.wanted)
			}
			k.ok(f.Release(ctx))
			k.settled()
		})
	}
}

// TestReadaheadAsync: the reader does not wait for what is read ahead; what is
// written, cut off or unmounted meanwhile wins.
func TestReadaheadAsync(t *testing.T) {
	var l later
	k := newKern(t, variants[2], Options{Async: l.add})
	start := func(name string) *file.File {
		t.Helper()
		f := coldFile(k, name, 128)
		for i := range 20 { // a miss, and the trigger of the next window
			k.page(f, i)
		}
		if k.fs().calls["readpages"] != 1 || len(l.fns) != 1 {
			t.Fatalf("%d calls, %d to come", k.fs().calls["readpages"], len(l.fns))
		}
		return f
	}
	f := start("/f")
	l.run()
	clear(k.fs().calls)
	for i := 20; i < 96; i++ { // two windows
		k.page(f, i)
	}
	if n := k.fs().calls["readpages"]; n != 0 {
		t.Errorf("%d calls", n)
	}
	l.run()
	k.ok(f.Release(ctx))

	// A write while the pages are on their way.
	f = start("/g")
	k.fs().hook = func(op string) error {
		if op == "readpages" {
			k.fs().hook = nil
			done := make(chan error, 1)
			go func() {
				_, err := f.Ops.Write(ctx, abi.KernelCaller, f, bytes.Repeat([]byte{0xee}, pageSize), 40*pageSize)
				done <- err
			}()
			t.Cleanup(func() { k.ok(<-done) })
		}
		return nil
	}
	l.run()
	for b := make([]byte, 1); ; time.Sleep(time.Millisecond) {
		_, err := f.Ops.Read(ctx, abi.KernelCaller, f, b, 40*pageSize)
		k.ok(err)
		if b[0] == 0xee {
			break
		}
	}
	l.run()
	k.page(f, 41)
	k.ok(f.Release(ctx))

	// The file is cut off before the pages are asked for.
	f = start("/h")
	k.ok(k.Ftruncate(ctx, abi.KernelCaller, f, 8*pageSize))
	l.run()
	if n := vnodeOf(f).data.Load().npages.Load(); n > 8 {
		t.Errorf("%d pages of a file of 8", n)
	}
	k.ok(f.Release(ctx))
	k.settled()
}

// TestReadaheadUnmount: what is on its way does not keep a file system from
// being unmounted.
func TestReadaheadUnmount(t *testing.T) {
	var l later
	k := newKern(t, variants[2], Options{Async: l.add})
	k.ok(k.Mkdir(ctx, su(), "/m", 0o755))
	_, err := k.Mount(ctx, su(), MountArgs{Type: "mem", Dir: "/m"})
	k.ok(err)
	f := coldFile(k, "/m/f", 128)
	b := make([]byte, pageSize)
	for i := range int64(20) {
		_, err := f.Ops.Read(ctx, abi.KernelCaller, f, b, i*pageSize)
		k.ok(err)
	}
	k.ok(f.Release(ctx))
	if len(l.fns) != 1 {
		t.Fatalf("%d to come", len(l.fns))
	}
	done := make(chan error, 1)
	go func() { done <- k.Unmount(ctx, su(), "/m", 0) }()
	select {
	case err := <-done:
		t.Fatalf("unmount did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	l.run()
	k.ok(<-done)
}

// TestAdvise: what posix_fadvise refuses, and that pages come and go by it.
func TestAdvise(t *testing.T) {
	k := newKern(t, variants[2], Options{})
	f := coldFile(k, "/f", 100)
	for _, tc := range []struct {
		off, n int64
		advice int
	}{{-1, 0, 0}, {0, -1, 0}, {0, 0, -1}, {0, 0, 6}} {
		k.is(k.Advise(ctx, f, tc.off, tc.n, tc.advice), abi.EINVAL)
	}
	pages := func() int { return int(k.PageBytes() / pageSize) }
	k.ok(k.Advise(ctx, f, 10*pageSize, 20*pageSize, abi.POSIX_FADV_WILLNEED))
	if pages() != 20 || k.fs().calls["readpages"] != 1 {
		t.Errorf("%d pages, %v", pages(), k.fs().calls)
	}
	clear(k.fs().calls)
	k.page(f, 10)
	k.page(f, 29)
	if k.fs().calls["readpages"] != 0 {
		t.Errorf("%v", k.fs().calls)
	}
	_, err := f.Ops.Write(ctx, abi.KernelCaller, f, []byte("new"), 12*pageSize)
	k.ok(err)
	k.ok(k.Advise(ctx, f, 0, 20*pageSize, abi.POSIX_FADV_DONTNEED))
	if pages() != 10 || k.fs().calls["writepages"] != 1 {
		t.Errorf("%d pages, %v", pages(), k.fs().calls)
	}
	b := make([]byte, 3)
	_, err = f.Ops.Read(ctx, abi.KernelCaller, f, b, 12*pageSize)
	k.ok(err)
	if string(b) != "new" {
		t.Errorf("%q", b)
	}
	d := k.open("/", abi.O_RDONLY)
	k.ok(k.Advise(ctx, d, 0, 0, abi.POSIX_FADV_WILLNEED))
	k.ok(d.Release(ctx))
	k.is(k.Advise(ctx, &file.File{Type: file.TypePipe}, 0, 0, 0), abi.ESPIPE)
	k.is(k.Advise(ctx, &file.File{Type: file.TypeKqueue}, 0, 0, 0), abi.EOPNOTSUPP)
	k.ok(f.Release(ctx))
	k.settled()
}

// TestWriteBehind: many dirty pages are written without anybody asking; an
// error leaves them dirty, and is told to who syncs.
func TestWriteBehind(t *testing.T) {
	var l later
	k := newKern(t, variants[2], Options{Async: l.add})
	f := k.open("/f", abi.O_RDWR|abi.O_CREAT)
	fill := func(n int) {
		t.Helper()
		_, err := f.Ops.Write(ctx, abi.KernelCaller, f, make([]byte, n*pageSize), 0)
		k.ok(err)
	}
	fill(writeBehind - 1)
	if len(l.fns) != 0 {
		t.Error("too early")
	}
	fill(writeBehind)
	fill(writeBehind)
	if len(l.fns) != 1 || k.fs().calls["writepages"] != 0 {
		t.Errorf("%d to come, %v", len(l.fns), k.fs().calls)
	}
	fail := true
	k.fs().hook = func(op string) error {
		if op == "writepages" && fail {
			return abi.ENOSPC
		}
		return nil
	}
	l.run()
	d := vnodeOf(f).data.Load()
	if d.ndirty != writeBehind {
		t.Errorf("%d dirty pages", d.ndirty)
	}
	k.is(f.Ops.Fsync(ctx, abi.KernelCaller, f, false), abi.ENOSPC)
	fail = false
	fill(writeBehind)
	l.run()
	if d.ndirty != 0 {
		t.Errorf("%d dirty pages", d.ndirty)
	}
	// Who writes faster than that writes himself.
	fill(writeNow)
	if d.ndirty >= writeNow {
		t.Errorf("%d dirty pages", d.ndirty)
	}
	l.run()
	k.ok(f.Release(ctx))
	k.settled()
}
