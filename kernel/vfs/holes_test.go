package vfs

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// memHoles is a file system that calls every page of zeros a hole.
type memHoles struct{ memPager }

var _ vfsops.HoleSeeker = memHoles{}

func (f memHoles) Seek(_ context.Context, h abi.Handle, off int64, whence int) (int64, error) {
	ns, err := f.in("seek", h)
	defer f.mu.Unlock()
	if err != nil {
		return 0, err
	}
	data := ns[0].data
	size := int64(len(data))
	if off < 0 || off >= size {
		return 0, abi.ENXIO
	}
	for at := off; at < size; at = (at/pageSize + 1) * pageSize {
		page := data[at/pageSize*pageSize : min(size, (at/pageSize+1)*pageSize)]
		if hole := len(bytes.Trim(page, "\x00")) == 0; hole == (whence == abi.SEEK_HOLE) {
			return at, nil
		}
	}
	if whence == abi.SEEK_HOLE {
		return size, nil
	}
	return 0, abi.ENXIO
}

var holes = variant{"holes", vfsops.CapSole, func(f *memFS) vfsops.FS { return memHoles{memPager{memData{f}}} }}

// TestHolesNotWritten: what has not been written back is data, and nothing is
// written back for a question.
func TestHolesNotWritten(t *testing.T) {
	for _, unlinked := range []bool{false, true} {
		k := newKern(t, holes, Options{})
		m := k.fs()
		f := k.open("/f", abi.O_RDWR|abi.O_CREAT)
		if unlinked {
			k.ok(k.Unlink(ctx, su(), "/f", 0))
		}
		put := func(off int64, s string) {
			t.Helper()
			_, err := f.Ops.Write(ctx, abi.KernelCaller, f, []byte(s), off)
			k.ok(err)
		}
		seek := func(off int64, whence int) int64 {
			t.Helper()
			to, err := f.Ops.Seek(ctx, abi.KernelCaller, f, off, whence)
			if err != nil {
				return -int64(abi.ErrnoOf(err))
			}
			return to
		}
		const p = pageSize
		put(3*p, "three")
		if !unlinked {
			k.ok(f.Ops.Fsync(ctx, abi.KernelCaller, f, false))
		}
		put(5*p+100, "five")
		put(700*p+7, "far")
		clear(m.calls)
		for _, c := range []struct{ off, data, hole int64 }{
			{0, 3 * p, 0}, {3 * p, 3 * p, 4 * p}, {3*p + 1, 3*p + 1, 4 * p}, {4*p + 1, 5 * p, 4*p + 1},
			{5*p + 200, 5*p + 200, 6 * p}, {6 * p, 700 * p, 6 * p}, {700*p + 9, 700*p + 9, 700*p + 10},
			{700*p + 10, -int64(abi.ENXIO), -int64(abi.ENXIO)}, {-1, -int64(abi.ENXIO), -int64(abi.ENXIO)},
		} {
			want := [2]int64{c.data, c.hole}
			if !unlinked && c.off <= 3*p+1 && c.off >= 3*p {
				want[1] = 3*p + 5 // where the file ends for the file system
			}
			if got := [2]int64{seek(c.off, abi.SEEK_DATA), seek(c.off, abi.SEEK_HOLE)}; got != want {
				t.Errorf("unlinked %v, %d: %v, want %v", unlinked, c.off, got, want)
			}
		}
		if m.calls["writepages"] != 0 || m.calls["seek"] == 0 {
			t.Errorf("calls: %v", m.calls)
		}
		k.ok(f.Release(ctx))
		k.settled()
	}
}

// TestHolesModel asks at random while pages come, are written back and go: a
// hole has nothing but zeros, and everything that was written is found.
func TestHolesModel(t *testing.T) {
	k := newKern(t, holes, Options{MemLimit: 64 * pageSize})
	f := k.open("/f", abi.O_RDWR|abi.O_CREAT)
	r := rand.New(rand.NewPCG(3, 4))
	var model []byte
	const span = 600 * pageSize
	for range 500 {
		off := r.IntN(span)
		switch r.IntN(12) {
		case 0, 1:
			b := bytes.Repeat([]byte{'x'}, 1+r.IntN(3*pageSize))
			_, err := f.Ops.Write(ctx, abi.KernelCaller, f, b, int64(off))
			k.ok(err)
			model = append(model, make([]byte, max(0, off+len(b)-len(model)))...)
			copy(model[off:], b)
		case 2:
			k.ok(k.Ftruncate(ctx, abi.KernelCaller, f, int64(off)))
			model = append(model, make([]byte, max(0, off-len(model)))...)[:off]
		case 3:
			k.ok(f.Ops.Fsync(ctx, abi.KernelCaller, f, false))
		case 4:
			k.evictPages(1<<20, r.IntN(2) == 0, r.IntN(2) == 0)
		default:
			data, err := f.Ops.Seek(ctx, abi.KernelCaller, f, int64(off), abi.SEEK_DATA)
			if off >= len(model) {
				k.is(err, abi.ENXIO)
				continue
			}
			if abi.ErrnoOf(err) == abi.ENXIO {
				data, err = int64(len(model)), nil
			}
			k.ok(err)
			if data < int64(off) || data > int64(len(model)) || len(bytes.Trim(model[off:data], "\x00")) > 0 {
				t.Fatalf("data after %d of %d at %d", off, len(model), data)
			}
			hole, err := f.Ops.Seek(ctx, abi.KernelCaller, f, int64(off), abi.SEEK_HOLE)
			k.ok(err)
			if hole < int64(off) || hole > int64(len(model)) || (hole == int64(off)) != (data != int64(off)) {
				t.Fatalf("after %d of %d: data %d, hole %d", off, len(model), data, hole)
			}
			if hole < int64(len(model)) && model[hole] != 0 {
				t.Fatalf("the hole at %d is data", hole)
			}
		}
	}
	k.ok(f.Release(ctx))
	k.settled()
}
