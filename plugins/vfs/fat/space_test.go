package fat

import (
	"errors"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// TestReserve: what is granted is for files that WritePages makes longer, others
// do not get it, and all of it comes back.
func TestReserve(t *testing.T) {
	for _, fm := range formats {
		t.Run(fm.name, func(t *testing.T) {
			r := mountRig(t, newDisk(t, fm.size, fm.o), nil)
			free := func() int64 {
				t.Helper()
				st, err := r.Statvfs(ctx)
				r.must(err)
				return int64(st.Bfree * st.Frsize)
			}
			h, other := r.create(r.root(), "f"), r.create(r.root(), "g")
			all := free()
			got, err := r.Reserve(ctx, 1<<40)
			if err != nil || got != (all+abi.PageSize-1)/abi.PageSize || free() != 0 {
				t.Fatalf("%d pages of %d bytes granted, %d left, %v", got, all, free(), err)
			}
			if _, err := r.Reserve(ctx, 1); !errors.Is(err, abi.ENOSPC) {
				t.Errorf("one more: %v", err)
			}
			if _, err := r.Mkdir(ctx, vfsops.CreateReq{Op: r.op(), Dir: r.root(), Name: []byte("d")}); !errors.Is(err, abi.ENOSPC) {
				t.Errorf("mkdir: %v", err)
			}
			if _, err := r.Truncate(ctx, r.op(), other, 1); !errors.Is(err, abi.ENOSPC) {
				t.Errorf("truncate: %v", err)
			}
			const n = 16 * abi.PageSize
			r.must(r.WritePages(ctx, r.op(), h, 0, abi.IovOf(make([]byte, n)), n))
			// The kernel gives back what was taken: nothing changes.
			_, err = r.Reserve(ctx, -n/abi.PageSize)
			r.must(err)
			if left := free(); left != 0 {
				t.Errorf("%d bytes are free, all else is granted", left)
			}
			_, err = r.Reserve(ctx, -10)
			r.must(err)
			if left := free(); left > 10*abi.PageSize || left <= 9*abi.PageSize { // the last page was granted in part
				t.Errorf("%d bytes are free, 10 pages came back", left)
			}
			_, err = r.Reserve(ctx, -(got - 10 - n/abi.PageSize))
			r.must(err)
			if left := free(); left != all-n {
				t.Errorf("%d bytes are free, want %d", left, all-n)
			}
			_, err = r.Reserve(ctx, -1<<62) // more than there ever was
			r.must(err)
			if left := free(); left != all-n {
				t.Errorf("%d bytes are free, want %d", left, all-n)
			}
			r.check()
		})
	}
}
