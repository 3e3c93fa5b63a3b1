package fat

import (
	"slices"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// TestDirtyFlag: a mount sets the flag with its first change, clears it when it
// ends, and writes nothing at all if it changes nothing or may not.
func TestDirtyFlag(t *testing.T) {
	for _, fm := range formats {
		t.Run(fm.name, func(t *testing.T) {
			disk := newDisk(t, fm.size, fm.o)
			dirty := func() bool {
				t.Helper()
				r := mountRO(t, disk)
				d, err := r.readDirty(ctx)
				r.must(err)
				return d
			}
			before := slices.Clone(disk.Bytes())
			r := mountRig(t, disk, nil)
			r.must(r.Unmount(ctx))
			if !slices.Equal(before, disk.Bytes()) {
				t.Error("a mount that changed nothing has changed the device")
			}
			r = mountRig(t, disk, nil)
			h := r.create(r.root(), "a file")
			r.must(r.put(h, make([]byte, 10000)))
			r.must(r.Sync(ctx, abi.Handle{}, false))
			if !dirty() {
				t.Error("not flagged while it is mounted")
			}
			before = slices.Clone(disk.Bytes())
			ro := mountRO(t, disk)
			if _, err := ro.Create(ctx, vfsops.CreateReq{Op: r.op(), Dir: r.root(), Name: []byte("x")}); abi.ErrnoOf(err) != abi.EROFS {
				t.Errorf("create on a read-only mount: %v", err)
			}
			ro.get(ro.lookup("a file"))
			r.must(ro.Unmount(ctx))
			if !slices.Equal(before, disk.Bytes()) {
				t.Error("a read-only mount has written")
			}
			r.must(r.Unmount(ctx))
			if dirty() {
				t.Error("flagged after it was unmounted")
			}
			fsck(t, disk.Bytes())
		})
	}
}

// mountRO mounts a device read-only.
func mountRO(t testing.TB, disk *modtest.RAM) *rig {
	t.Helper()
	r := &rig{TB: t, dev: disk}
	o, _ := parseOptions(nil)
	var err error
	if r.FS, err = open(ctx, disk, o, &vfsops.MountReq{Fsid: 7, ReadOnly: true, Op: r.op()}, modapi.NoStore{}, nil); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestLost: clusters of files that were open without a name when everything
// died are free after the next mount, and those of other files are as they were.
func TestLost(t *testing.T) {
	for _, fm := range formats {
		t.Run(fm.name, func(t *testing.T) {
			disk := newDisk(t, fm.size, fm.o)
			r := mountRig(t, disk, nil)
			d := r.mkdir(r.root(), "Directory of some length")
			sub := r.mkdir(d, "sub")
			data := make([]byte, 30000)
			for i := range data {
				data[i] = byte(i * 7)
			}
			for i := range 40 {
				r.must(r.put(r.create([]abi.Handle{r.root(), d, sub}[i%3], name(i)), data[:i*700]))
			}
			want, err := r.Statvfs(ctx)
			r.must(err)
			for i := range 10 {
				n := name(100 + i)
				h := r.create(sub, n)
				r.must(r.put(h, data))
				r.must(r.Pin(ctx, h))
				_, err := r.Remove(ctx, vfsops.RemoveReq{Op: r.op(), Dir: sub, Name: []byte(n), Victim: h})
				r.must(err)
			}
			r.must(r.Sync(ctx, abi.Handle{}, false))
			image := slices.Clone(disk.Bytes())
			check := func(disk *modtest.RAM) {
				t.Helper()
				r := mountRig(t, disk, nil)
				got, err := r.Statvfs(ctx)
				r.must(err)
				// The directory may have become longer.
				if got.Bfree > want.Bfree || got.Bfree+20 < want.Bfree {
					t.Errorf("%d clusters are free, %d were without the lost ones", got.Bfree, want.Bfree)
				}
				for i := range 40 {
					path := [][]string{{name(i)}, {"Directory of some length", name(i)}, {"Directory of some length", "sub", name(i)}}[i%3]
					if p := r.get(r.lookup(path...)); !slices.Equal(p, data[:i*700]) {
						t.Errorf("%s: %d bytes are not the %d written", path, len(p), i*700)
					}
				}
				r.create(r.root(), "more")
				r.must(r.Unmount(ctx))
				fsck(t, disk.Bytes())
			}
			again := modtest.NewRAM(fm.size, uint32(max(fm.o.Sector, 512)))
			copy(again.Bytes(), image)
			check(again)
			// A mount that ends by force frees them itself.
			r.must(r.Unmount(ctx))
			fsck(t, disk.Bytes())
			check(disk)
		})
	}
}

// TestLostDamaged: where damage may hide whose a cluster is nothing is freed, and
// the flag stays.
func TestLostDamaged(t *testing.T) {
	disk := newDisk(t, 2<<20, FormatOptions{Bits: 12})
	r := mountRig(t, disk, nil)
	a, b := r.create(r.root(), "a"), r.create(r.root(), "b")
	r.must(r.put(a, make([]byte, 5000)))
	r.must(r.put(b, make([]byte, 5000)))
	na, nb := r.nodes[a.File], r.nodes[b.File]
	r.must(r.t.set(ctx, na.ch.first, nb.ch.first)) // the rest of a is lost, and b is in both
	r.must(r.Sync(ctx, abi.Handle{}, false))
	st, err := r.Statvfs(ctx)
	r.must(err)
	r = mountRig(t, disk, nil)
	got, err := r.Statvfs(ctx)
	r.must(err)
	if got.Bfree != st.Bfree {
		t.Errorf("%d clusters are free, %d were", got.Bfree, st.Bfree)
	}
	r.create(r.root(), "new")
	r.must(r.Unmount(ctx))
	if d, err := mountRO(t, disk).readDirty(ctx); err != nil || !d {
		t.Errorf("the flag is gone (%v)", err)
	}
}
