package vfs

import (
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestSpaceIsMemory says that a file system whose pages the kernel keeps
// promises no more than the kernel's limit, and that what it promises is there.
func TestSpaceIsMemory(t *testing.T) {
	const pages = 64
	k := newKern(t, variants[len(variants)-1], Options{MemLimit: pages * pageSize})
	space := func() (total, left uint64) {
		t.Helper()
		st, err := k.Statvfs(ctx, su(), "/")
		k.ok(err)
		if st.Bavail != st.Bfree {
			t.Fatalf("%d blocks free, %d available", st.Bfree, st.Bavail)
		}
		return st.Blocks * st.Frsize, st.Bavail * st.Frsize
	}
	if total, left := space(); total > pages*pageSize || left == 0 || left > total {
		t.Fatalf("%d bytes, %d left, of %d of memory", total, left, pages*pageSize)
	}
	_, before := space()
	k.write("/small", "one page")
	if _, left := space(); left != before-pageSize {
		t.Errorf("one page of %d bytes leaves %d", before, left)
	}
	k.ok(k.Unlink(ctx, su(), "/small", 0))
	f := k.open("/f", abi.O_RDWR|abi.O_CREAT)
	n, err := f.Ops.Write(ctx, abi.KernelCaller, f, make([]byte, 2*pages*pageSize), 0)
	if err != nil && abi.ErrnoOf(err) != abi.ENOSPC {
		t.Fatal(err)
	}
	// Names and vnodes may have taken some of it.
	if uint64(n) > before || uint64(n) < before*3/4 {
		t.Errorf("wrote %d of the %d bytes that were left", n, before)
	}
	if _, left := space(); left > before/4 {
		t.Errorf("%d bytes left when it is full", left)
	}
	_, err = f.Ops.Write(ctx, abi.KernelCaller, f, []byte{1}, int64(n))
	k.is(err, abi.ENOSPC)
	k.ok(f.Release(ctx))
	k.ok(k.Unlink(ctx, su(), "/f", 0))
	if _, again := space(); again != before {
		t.Errorf("%d bytes left after unlink, %d before", again, before)
	}
}

// TestSpaceOfTwo: what one mount has taken is not used space of another one.
func TestSpaceOfTwo(t *testing.T) {
	k := newKern(t, variants[len(variants)-1], Options{MemLimit: 128 * pageSize})
	k.ok(k.Mkdir(ctx, su(), "/b", 0o755))
	_, err := k.Mount(ctx, su(), MountArgs{Type: "mem", Dir: "/b"})
	k.ok(err)
	f := k.open("/f", abi.O_RDWR|abi.O_CREAT)
	if _, err := f.Ops.Write(ctx, abi.KernelCaller, f, make([]byte, 90*pageSize), 0); err != nil {
		t.Fatal(err)
	}
	k.ok(f.Release(ctx))
	st, err := k.Statvfs(ctx, su(), "/b")
	k.ok(err)
	// memFS says that half of its hundred blocks are used; the rest is free.
	if used := st.Blocks - st.Bfree; used > 50 {
		t.Errorf("%d blocks of /b are used, though / took 90", used)
	}
}
