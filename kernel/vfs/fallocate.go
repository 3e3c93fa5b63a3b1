package vfs

import (
	"context"
	"math"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Fallocate gives a range of an open file space of its own, so that writes to it
// cannot fail for lack of any (posix_fallocate(2)), or with punch takes the
// space of a range back, which reads as zeroes then (fdiscard(2)). The file
// becomes longer if the range ends behind its end; punch leaves its size alone.
// Either all of the range is allocated or nothing has changed.
//
// EBADF if the file is not open for writing, EINVAL for a negative offset or an
// empty range, EFBIG for a range that no file or not this process may have,
// ESPIPE for a fifo, EISDIR, ENODEV for other files, ENOSPC, EROFS, EOPNOTSUPP
// if the file system cannot.
func (fs *VFS) Fallocate(ctx context.Context, c *abi.Caller, f *file.File, off, n int64, punch bool) error {
	if !f.Writable() {
		return abi.EBADF
	}
	if off < 0 || n <= 0 {
		return abi.EINVAL
	}
	return withFile(f, func(v *Vnode) error {
		switch v.typ {
		case abi.VREG:
		case abi.VDIR:
			return abi.EISDIR
		case abi.VFIFO:
			return abi.ESPIPE
		default:
			return abi.ENODEV
		}
		if off > math.MaxInt64-n {
			return abi.EFBIG
		}
		if v.m.readonly() {
			return abi.EROFS
		}
		if punch {
			return v.punch(ctx, c, off, n)
		}
		return v.allocate(ctx, c, off, n)
	})
}

// allocate gives a range of a regular file space.
func (v *Vnode) allocate(ctx context.Context, c *abi.Caller, off, n int64) error {
	b, err := v.bind(ctx)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.err(); err != nil {
		return err
	}
	var va abi.Vattr
	if err := v.getattrLocked(ctx, &va); err != nil {
		return err
	}
	if off+n > va.Size && !c.FsizeOK(off+n) || off+n > maxFileSize {
		return abi.EFBIG
	}
	if b.kpages() {
		if err := v.kallocate(ctx, b, off, n); err != nil {
			return err
		}
		v.wrote(c, &va, max(va.Size, off+n))
		v.noteSize(ctx, va.Size, max(va.Size, off+n))
		return nil
	}
	return v.fallocateBelow(ctx, b, c, off, n, false)
}

// fallocateBelow has the file system allocate or free a range. Preconditions: v
// is locked exclusively.
func (v *Vnode) fallocateBelow(ctx context.Context, b *binding, c *abi.Caller, off, n int64, punch bool) error {
	if b.fallocater == nil {
		return abi.EOPNOTSUPP
	}
	if err := v.writebackLocked(ctx, c); err != nil {
		return err
	}
	before := v.size()
	v.m.begin()
	defer v.m.end()
	got, err := b.fallocater.Fallocate(ctx, v.m.op(c), v.handle(), off, n, punch)
	if err != nil {
		v.invalidate()
		return err
	}
	if d := v.data.Load(); d != nil && b.paged() && punch {
		d.punch(off, n)
	}
	v.apply(b, &got)
	v.clearSetid(ctx, b, c)
	v.noteSize(ctx, before, got.Size)
	return nil
}

// kallocate gives every hole in a range of a kpages file a page: all of them, or
// ENOSPC. Preconditions: v is locked exclusively.
func (v *Vnode) kallocate(ctx context.Context, b *binding, off, n int64) error {
	d := v.pages()
	first, last := off/pageSize, (off+n-1)/pageSize
	// A range far too long is refused before its pages are counted.
	if last-first >= d.npages.Load()+v.m.vfs.mem.pagesLeft()/pageSize+leafPages {
		return abi.ENOSPC
	}
	missing := int64(0)
	for i := first; i <= last; i++ {
		if d.page(i) == nil {
			missing++
		}
	}
	if missing == 0 {
		return nil
	}
	have := int64(0)
	for have < missing {
		got, err := v.m.reserve(ctx, b, missing-have)
		if err != nil {
			v.m.unreserve(ctx, have, d.epoch)
			return err
		}
		have += got
	}
	made := make([]int64, 0, missing)
	for i := first; i <= last; i++ {
		if d.page(i) != nil {
			continue
		}
		p := v.m.vfs.pool.allocFor(v)
		if p == nil {
			for _, j := range made {
				d.punch(j*pageSize, pageSize)
			}
			v.m.unreserve(ctx, missing, d.epoch)
			return abi.ENOSPC
		}
		clear(p[:])
		d.put(i, p)
		made = append(made, i)
	}
	return nil
}

// Fallocate allocates or frees space below.
func (n *nullFS) Fallocate(ctx context.Context, op vfsops.Op, h abi.Handle, off, size int64, punch bool) (abi.Vattr, error) {
	v, err := n.find(h)
	if err != nil {
		return abi.Vattr{}, err
	}
	if punch {
		err = v.punch(ctx, op.Caller, off, size)
	} else {
		err = v.allocate(ctx, op.Caller, off, size)
	}
	if err != nil {
		return abi.Vattr{}, err
	}
	return n.attr(ctx, v)
}

var _ vfsops.Fallocater = (*nullFS)(nil)
