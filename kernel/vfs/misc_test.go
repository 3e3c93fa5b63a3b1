package vfs

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

func TestFileOps(t *testing.T) {
	each(t, func(t *testing.T, k *kern) {
		c := abi.KernelCaller
		k.write("/f", "0123456789")
		f := k.open("/f", abi.O_RDWR|abi.O_SYNC)
		if _, err := f.Ops.Read(ctx, c, f, make([]byte, 3), file.Cur); err != nil {
			t.Fatal(err)
		}
		out, err := f.Ops.Ioctl(ctx, c, f, abi.FIONREAD, nil)
		if err != nil || binary.LittleEndian.Uint32(out) != 7 {
			t.Errorf("FIONREAD %v, %v", out, err)
		}
		_, err = f.Ops.Ioctl(ctx, c, f, abi.TIOCGWINSZ, nil)
		k.is(err, abi.ENOTTY)
		_, err = f.Ops.Ioctl(ctx, c, f, abi.FIONBIO, nil)
		k.ok(err)
		if ev := f.Ops.Poll(ctx, f, abi.POLLIN|abi.POLLOUT); ev != abi.POLLIN|abi.POLLOUT || f.Ops.Selinfo(f) != nil {
			t.Errorf("poll %v", ev)
		}
		// O_SYNC: the file system has it when the write returns.
		if _, err := f.Ops.Write(ctx, c, f, []byte("more and more"), 8); err != nil {
			t.Fatal(err)
		}
		if fs := k.fs(); fs != nil && fs.nodes[vkey{k.stat("/f").Fileid, 1}].va.Size != 21 {
			t.Error("size not written back")
		}
		k.ok(f.Ops.Fsync(ctx, c, f, true))
		k.ok(k.Fchown(ctx, c, f, 3, 4))
		k.ok(k.Futimens(ctx, c, f, &[2]abi.Timespec{{Sec: 5, Nsec: 6}, {Nsec: abi.UTIME_OMIT}}))
		if st := k.stat("/f"); st.Uid != 3 || st.Gid != 4 || st.Atime != (abi.Timespec{Sec: 5, Nsec: 6}) || st.Mtime.Sec == 0 {
			t.Errorf("stat %+v", st)
		}
		if st, err := k.Fstatvfs(ctx, f); err != nil || st.On != "/" || st.Flag&abi.MNT_ROOTFS == 0 {
			t.Errorf("statvfs %+v, %v", st, err)
		}
		_, err = k.Path(su(), f)
		k.is(err, abi.ENOENT)
		k.is(k.Ftruncate(ctx, c, f, -1), abi.EINVAL)
		k.ok(f.Release(ctx))
		f = k.open("/f", abi.O_RDONLY)
		k.is(k.Ftruncate(ctx, c, f, 1), abi.EINVAL)
		k.ok(f.Release(ctx))
		k.ok(k.Mkdir(ctx, su(), "/d", 0o755))
		k.ok(k.Mkdir(ctx, su(), "/d/e", 0o755))
		f = k.open("/d/e", abi.O_RDONLY)
		k.ok(k.Rename(ctx, su(), "/d", su(), "/moved", 0))
		if p, err := k.Path(su(), f); err != nil || p != "/moved/e" {
			t.Errorf("path %q, %v", p, err)
		}
		k.ok(f.Release(ctx))
		k.settled()
	})
}

func TestChrootInside(t *testing.T) {
	k := newKern(t, variants[0], Options{})
	k.tree()
	w := su()
	w.Cwd = NewCwdinfo()
	k.ok(k.Chdir(ctx, w, "/d/sub"))
	k.ok(k.Chroot(ctx, w, "/d"))
	if p, err := k.Getcwd(ctx, w); err != nil || p != "/sub" {
		t.Errorf("getcwd %q, %v", p, err)
	}
	shared := w.Cwd.Share()
	w.Cwd.Release()
	if p, err := k.Getcwd(ctx, w); err != nil || p != "/sub" {
		t.Errorf("getcwd %q, %v of a shared Cwdinfo", p, err)
	}
	shared.Release()
	k.is(k.Chdir(ctx, su(), "/d"), abi.EINVAL)
	k.is(k.Chroot(ctx, su(), "/d"), abi.EINVAL)
	k.settled()
}

func TestFileTableFull(t *testing.T) {
	tab := &file.Table{}
	tab.Max.Store(2)
	k := newKern(t, variants[0], Options{Files: tab})
	k.write("/f", "x")
	a, b := k.open("/f", abi.O_RDONLY), k.open("/f", abi.O_RDONLY)
	_, err := k.Open(ctx, su(), "/f", abi.O_RDONLY, 0)
	k.is(err, abi.ENFILE)
	k.ok(a.Release(ctx))
	k.ok(b.Release(ctx))
	k.settled()
}

func TestFifo(t *testing.T) {
	closed := 0
	k := newKern(t, variants[0], Options{OpenFifo: func(_ context.Context, _ *abi.Caller, a *Assoc, _ int) (file.Ops, any, error) {
		a.Lock()
		defer a.Unlock()
		if a.V == nil {
			a.V = new(int)
		}
		*a.V.(*int)++
		return closeCounter{n: &closed}, a.V, nil
	}})
	k.ok(k.Mkfifo(ctx, su(), "/p", 0o600))
	a, b := k.open("/p", abi.O_RDONLY), k.open("/p", abi.O_WRONLY)
	if a.Data != b.Data || *a.Data.(*int) != 2 {
		t.Error("two opens of a fifo do not meet")
	}
	k.ok(k.Unlink(ctx, su(), "/p", 0))
	k.ok(a.Release(ctx))
	k.ok(b.Release(ctx))
	if closed != 2 {
		t.Errorf("closed %d times", closed)
	}
	k.settled()
}

type closeCounter struct {
	file.NoOps
	n *int
}

func (c closeCounter) Close(context.Context, *file.File) error { *c.n++; return nil }

func TestPagePool(t *testing.T) {
	p := newPagePool(&memory{limit: 3 * chunkBytes})
	var all []*page
	seen := map[*page]bool{}
	for {
		pg := p.alloc()
		if pg == nil {
			break
		}
		if seen[pg] {
			t.Fatal("a page was given twice")
		}
		seen[pg] = true
		pg[0], pg[pageSize-1] = 1, 2
		all = append(all, pg)
	}
	if len(all) != 3*chunkPages || len(p.chunks) != 3 {
		t.Fatalf("%d pages in %d chunks", len(all), len(p.chunks))
	}
	p.release(all[chunkPages:]...)
	if len(p.chunks) > 2 {
		t.Errorf("%d chunks kept for one", len(p.chunks))
	}
	p.release(all[:chunkPages]...)
	p.trim()
	if len(p.chunks) != 0 || p.mem.used.Load() != 0 {
		t.Errorf("%d chunks, %d pages left", len(p.chunks), p.mem.used.Load())
	}
	if pg := p.alloc(); pg == nil {
		t.Error("no page after a trim")
	}
}

func TestNameCacheBound(t *testing.T) {
	k := newKern(t, variants[0], Options{MaxNames: 64})
	for i := range 1000 {
		_, err := k.Stat(ctx, su(), "/none"+string(rune('a'+i%26))+string(rune('a'+i/26)), true)
		k.is(err, abi.ENOENT)
	}
	n := 0
	for i := range k.nc.shards {
		s := &k.nc.shards[i]
		in := 0
		for j := range *s.table.Load() {
			for e := (*s.table.Load())[j].Load(); e != nil; e = e.next.Load() {
				in++
			}
		}
		if in != len(s.ring) {
			t.Fatal("ring and table differ")
		}
		n += in
	}
	if n > 2*nameShards {
		t.Errorf("%d names", n)
	}
	if k.cnt.ncEvicted.Load() == 0 {
		t.Error("nothing was counted")
	}
}

func TestCasefold(t *testing.T) {
	// A name that is missing in one spelling may exist in another.
	k := newKern(t, variant{"fold", vfsops.CapSole | vfsops.CapCasefold, variants[1].wrap}, Options{})
	for range 2 {
		_, err := k.Stat(ctx, su(), "/none", true)
		k.is(err, abi.ENOENT)
	}
	if n := k.fs().calls["lookup"]; n != 2 {
		t.Errorf("%d lookups", n)
	}
	k.write("/Name", "x")
	root := k.root.Load().root
	v, err := k.namei(ctx, su(), "/Name", noFollow)
	k.ok(err)
	k.nc.enter(root, "nAME", v, nil) // as a lookup in this spelling would
	v.put()
	k.stat("/nAME")
	k.ok(k.Unlink(ctx, su(), "/Name", 0))
	_, err = k.Stat(ctx, su(), "/nAME", true)
	k.is(err, abi.ENOENT)
}

func TestRelatime(t *testing.T) {
	now := abi.Timespec{Sec: 100}
	k := newKern(t, variants[0], Options{Now: func() abi.Timespec { return now }})
	_, err := k.Mount(ctx, su(), MountArgs{Dir: "/", Flags: abi.MNT_UPDATE, Options: map[string]string{"relatime": ""}})
	k.ok(err)
	k.write("/f", "x")
	for _, tc := range []struct{ at, want int64 }{{200, 200}, {300, 200}} {
		now.Sec = tc.at
		k.read("/f")
		if got := k.stat("/f").Atime.Sec; got != tc.want {
			t.Errorf("read at %d: access time %d, want %d", tc.at, got, tc.want)
		}
	}
}
