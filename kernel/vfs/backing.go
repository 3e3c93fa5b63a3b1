package vfs

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Backing is a regular file that is the contents of a block device (vnd(4)). It
// is open as long as the device is there, so that its file system cannot be
// unmounted.
//
// What is written to such a file may come from writing back other pages, those
// of a file system on that device. So no memory is made for its own pages by
// writing pages back: that could come back to the lock that is held here.
type Backing struct {
	f     *file.File
	v     *Vnode
	write bool
}

// OpenBacking opens a file as the contents of a device. EBUSY: it is that of
// another device already, and one of the two writes; EFTYPE: no regular file;
// EPERM: it may only be appended to; what Open answers.
func (fs *VFS) OpenBacking(ctx context.Context, w Where, path string, write bool) (*Backing, error) {
	flags := abi.O_RDONLY
	if write {
		flags = abi.O_RDWR
	}
	f, err := fs.Open(ctx, w, path, flags|abi.O_REGULAR, 0)
	if err != nil {
		return nil, err
	}
	v := vnodeOf(f).base()
	if _, plain := f.Ops.(vnodeFile); !plain { // its contents are another layer's
		f.Release(ctx)
		return nil, fmt.Errorf("%s: %w", path, abi.EFTYPE)
	}
	b := &Backing{f: f, v: v, write: write}
	switch {
	case write && v.backing.CompareAndSwap(0, -1):
		return b, nil
	case !write:
		for n := v.backing.Load(); n >= 0; n = v.backing.Load() {
			if v.backing.CompareAndSwap(n, n+1) {
				return b, nil
			}
		}
	}
	f.Release(ctx)
	return nil, fmt.Errorf("%s is a disk already: %w", path, abi.EBUSY)
}

// Close lets the file go. The error is that of writing back attributes.
func (b *Backing) Close(ctx context.Context) error {
	if b.write {
		b.v.backing.Store(0)
	} else {
		b.v.backing.Add(-1)
	}
	return b.f.Release(ctx)
}

// Instance is whose file system the file lies on, "" for the kernel's own.
func (b *Backing) Instance() string { return b.v.m.instance }

// Size is how long the file is now, in bytes.
func (b *Backing) Size(ctx context.Context) (int64, error) {
	var va abi.Vattr
	if err := b.v.getattr(ctx, &va); err != nil {
		return 0, err
	}
	return va.Size, nil
}

// within answers EIO if the file has no n bytes at off: somebody has made it
// shorter.
func (b *Backing) within(ctx context.Context, off, n int64) error {
	size, err := b.Size(ctx)
	if err == nil && (off > size || n > size-off) {
		err = fmt.Errorf("the file has %d bytes only, it was made shorter: %w", size, abi.EIO)
	}
	return err
}

// ReadAt fills iov. EIO: the file is too short.
func (b *Backing) ReadAt(ctx context.Context, iov abi.Iov, off int64) error {
	for _, p := range iov {
		for len(p) > 0 {
			n, err := b.v.read(ctx, p, off)
			if err != nil {
				return err
			}
			if n == 0 {
				return b.short(ctx, off, int64(len(p)))
			}
			p, off = p[n:], off+int64(n)
		}
	}
	return nil
}

// short is the error of a transfer that stops.
func (b *Backing) short(ctx context.Context, off, n int64) error {
	if err := b.within(ctx, off, n); err != nil {
		return err
	}
	return abi.EIO
}

// WriteAt writes iov inside the file. EIO: it is too short; ENOSPC.
func (b *Backing) WriteAt(ctx context.Context, iov abi.Iov, off int64) error {
	if !b.write {
		return abi.EROFS
	}
	if err := b.within(ctx, off, int64(iov.Len())); err != nil {
		return err
	}
	for _, p := range iov {
		for len(p) > 0 {
			n, _, err := b.v.write(ctx, abi.KernelCaller, p, off, false)
			if err != nil {
				return err
			}
			if n == 0 {
				return abi.EIO
			}
			p, off = p[n:], off+int64(n)
		}
	}
	b.v.behind()
	return nil
}

// Sync makes the file durable.
func (b *Backing) Sync(ctx context.Context) error {
	return b.v.fsync(ctx, abi.KernelCaller, false)
}

// Punch makes a range of the file read as zeroes and gives its space back.
// EOPNOTSUPP: the file system cannot.
func (b *Backing) Punch(ctx context.Context, off, n int64) error {
	if !b.write {
		return abi.EROFS
	}
	if err := b.within(ctx, off, n); err != nil {
		return err
	}
	return b.v.punch(ctx, abi.KernelCaller, off, n)
}

// punch frees a range of a regular file, which then reads as zeroes; its size
// stays.
func (v *Vnode) punch(ctx context.Context, c *abi.Caller, off, n int64) error {
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
	if b.kpages() {
		if d := v.data.Load(); d != nil {
			v.m.unreserve(ctx, d.punch(off, n), d.epoch)
		}
		v.wrote(c, &va, -1)
		v.note(ctx, abi.NOTE_WRITE)
		return nil
	}
	return v.fallocateBelow(ctx, b, c, off, n, true)
}

// punch frees the whole pages of a range and clears what it has of others; it
// answers how many were freed.
func (d *fileData) punch(off, n int64) int64 {
	d.gen++
	end := off + n
	first, last := (off+pageSize-1)/pageSize, end/pageSize // whole pages: first to last-1
	if o := off & (pageSize - 1); o != 0 {
		if p := d.page(off / pageSize); p != nil {
			clear(p[o:min(pageSize, o+n)])
		}
	}
	if o := end & (pageSize - 1); o != 0 && (last > off/pageSize || off&(pageSize-1) == 0) {
		if p := d.page(last); p != nil {
			clear(p[:o])
		}
	}
	var batch []*page
	for k, l := range d.leaves {
		base := k << leafShift
		for i := max(first-base, 0); i < min(last-base, int64(len(l.pages))); i++ {
			if p := l.pages[i]; p != nil {
				batch = append(batch, p)
				l.pages[i] = nil
			}
			d.clean(l, int(i))
		}
	}
	d.m.vfs.pool.release(batch...)
	d.npages.Add(-int64(len(batch)))
	return int64(len(batch))
}
