package vfs

import (
	"bytes"
	"context"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestPagerCache reads and writes at random through a cache that holds a tenth
// of the file, and compares with a slice.
func TestPagerCache(t *testing.T) {
	for _, mem := range []int64{1 << 30, 64 * pageSize, pageSize} {
		k := newKern(t, variants[2], Options{MemLimit: mem})
		r := rand.New(rand.NewPCG(uint64(mem), 2))
		var model []byte
		names := []string{"/f", "/g"}
		files := make([]*file.File, 2)
		models := make([][]byte, 2)
		for i, n := range names {
			files[i] = k.open(n, abi.O_RDWR|abi.O_CREAT)
		}
		const span = 600 * pageSize
		for i := range 400 {
			which := r.IntN(2)
			f := files[which]
			model = models[which]
			off, n := r.IntN(span), 1+r.IntN(6*pageSize)
			switch r.IntN(8) {
			case 0, 1, 2:
				b := bytes.Repeat([]byte{byte(i)}, n)
				if got, err := f.Ops.Write(ctx, abi.KernelCaller, f, b, int64(off)); err != nil || got != n {
					t.Fatalf("write: %d of %d, %v", got, n, err)
				}
				if off+n > len(model) {
					model = append(model, make([]byte, off+n-len(model))...)
				}
				copy(model[off:], b)
			case 3:
				size := r.IntN(span)
				k.ok(k.Ftruncate(ctx, abi.KernelCaller, f, int64(size)))
				if size > len(model) {
					model = append(model, make([]byte, size-len(model))...)
				}
				model = model[:size]
			case 4:
				k.ok(f.Ops.Fsync(ctx, abi.KernelCaller, f, i%2 == 0))
			case 5:
				k.evictPages(1<<20, r.IntN(2) == 0, r.IntN(2) == 0)
			default:
				buf := make([]byte, n)
				got, err := f.Ops.Read(ctx, abi.KernelCaller, f, buf, int64(off))
				k.ok(err)
				want := model[min(off, len(model)):min(off+n, len(model))]
				if !bytes.Equal(buf[:got], want) {
					t.Fatalf("limit %d: read %d bytes at %d, want %d bytes, first difference at %d", mem, got, off, len(want), diff(buf[:got], want))
				}
			}
			models[which] = model
			if used := k.PageBytes(); used > mem {
				t.Fatalf("%d bytes of pages, %d allowed", used, mem)
			}
		}
		for i, f := range files {
			k.ok(f.Release(ctx))
			// What is in the file system after the last close is the truth.
			n := k.fs().nodes[vkey{k.stat(names[i]).Fileid, 1}]
			if !bytes.Equal(n.data, models[i]) || n.va.Size != int64(len(models[i])) {
				t.Errorf("written back %d bytes, want %d, first difference at %d", len(n.data), len(models[i]), diff(n.data, models[i]))
			}
		}
		k.settled()
	}
}

func diff(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// TestPagerCalls counts what crosses to the file system: one read for many
// pages in a row, no write before it must be, none twice.
func TestPagerCalls(t *testing.T) {
	k := newKern(t, variants[2], Options{})
	k.write("/f", string(bytes.Repeat([]byte("x"), 64*pageSize)))
	k.evictPages(1<<20, false, false)
	m := k.fs()
	clear(m.calls)
	f := k.open("/f", abi.O_RDWR)
	for i := range 64 {
		_, err := f.Ops.Read(ctx, abi.KernelCaller, f, make([]byte, pageSize), int64(i)*pageSize)
		k.ok(err)
	}
	if m.calls["readpages"] != 2 || m.calls["read"] != 0 {
		t.Errorf("calls %v", m.calls)
	}
	for i := range 64 {
		_, err := f.Ops.Write(ctx, abi.KernelCaller, f, []byte("y"), int64(i)*pageSize)
		k.ok(err)
	}
	if m.calls["writepages"] != 0 {
		t.Errorf("calls %v", m.calls)
	}
	k.ok(f.Ops.Fsync(ctx, abi.KernelCaller, f, false))
	k.ok(f.Ops.Fsync(ctx, abi.KernelCaller, f, false))
	k.ok(f.Release(ctx))
	if m.calls["writepages"] != 1 || m.calls["setattr"] != 1 {
		t.Errorf("calls %v", m.calls)
	}
	// An error of a delayed write comes at fsync, and the pages stay.
	f = k.open("/f", abi.O_RDWR)
	_, err := f.Ops.Write(ctx, abi.KernelCaller, f, []byte("z"), 0)
	k.ok(err)
	m.hook = func(op string) error {
		if op == "writepages" {
			return abi.ENOSPC
		}
		return nil
	}
	k.is(f.Ops.Fsync(ctx, abi.KernelCaller, f, false), abi.ENOSPC)
	k.is(k.SyncAll(ctx), abi.ENOSPC)
	m.hook = nil
	k.ok(k.SyncAll(ctx))
	if m.nodes[vkey{k.stat("/f").Fileid, 1}].data[0] != 'z' {
		t.Error("the page was lost")
	}
	k.ok(f.Release(ctx))
}

// TestWarmNeedsNoComponent holds that what is cached crosses to no component.
func TestWarmNeedsNoComponent(t *testing.T) {
	k := newKern(t, variants[0], Options{})
	k.ok(k.Mkdir(ctx, su(), "/a", 0o755))
	k.ok(k.Mkdir(ctx, su(), "/a/b", 0o755))
	k.write("/a/b/f", "hello")
	k.ok(k.Symlink(ctx, su(), "b/f", "/a/l"))
	m := k.fs()
	use := func() {
		t.Helper()
		if k.read("/a/l") != "hello" || k.stat("/a/b/f").Size != 5 {
			t.Error("contents")
		}
		_, err := k.Stat(ctx, user(7), "/a/b/none", true)
		k.is(err, abi.ENOENT)
		k.is(k.Access(ctx, user(7), "/a/b/f", abi.W_OK, 0), abi.EACCES)
	}
	use()
	clear(m.calls)
	use()
	if len(m.calls) != 0 {
		t.Errorf("calls %v", m.calls)
	}
	// A cold path is one message, whatever its length.
	k.nc.purge()
	clear(m.calls)
	k.stat("/a/b/f")
	if m.calls["lookup"] != 1 || len(m.calls) != 1 {
		t.Errorf("a cold stat made calls %v", m.calls)
	}
	k.nc.purge()
	clear(m.calls)
	k.stat("/a/b/../b/f")
	if m.calls["lookup"] != 2 {
		t.Errorf("a cold stat with .. made calls %v", m.calls)
	}
}

// TestReclaim fills the vnode table beyond its bound: what is forgotten is
// said, what was changed is written back, contents stay.
func TestReclaim(t *testing.T) {
	for _, v := range []variant{variants[0], variants[3]} {
		k := newKern(t, v, Options{MaxVnodes: 50})
		for i := range 500 {
			k.write("/"+string(rune('a'+i%26))+string(rune('a'+i/26)), "contents")
		}
		k.startDrain()
		for k.draining.Load() {
			runtime.Gosched()
		}
		if n := k.Vnodes(); n > 60 {
			t.Errorf("%s: %d vnodes", v.name, n)
		}
		if v.name == "shared" && len(k.fs().freed) < 400 {
			t.Errorf("told of %d", len(k.fs().freed))
		}
		for _, d := range k.ls("/")[2:] {
			if got := k.read("/" + d.Name); got != "contents" {
				t.Fatalf("%s: %s has %q", v.name, d.Name, got)
			}
		}
		k.settled()
	}
}

// authzFS decides about permissions itself.
type authzFS struct {
	memData
	asked int
}

func (f *authzFS) Access(_ context.Context, _ abi.Handle, c *abi.Caller, want abi.AccMode) error {
	if f.asked++; c.Cred.Euid == 7 && want&abi.VWRITE != 0 {
		return abi.EACCES
	}
	return nil
}
