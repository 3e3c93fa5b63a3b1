package vfs

import (
	"context"
	"encoding/binary"
	"math"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// vnodeFile is what an open regular file or directory does (vnops). File.Data
// is the *Vnode.
type vnodeFile struct{ file.NoOps }

// specFile is an open device or fifo: what it does is another layer's, what it
// is, is a vnode.
type specFile struct {
	file.Ops
	v *Vnode
}

var (
	_ file.Ops = vnodeFile{}
	_ file.Ops = (*specFile)(nil)
)

// vnodeOf is the vnode of an open file, nil if it has none.
func vnodeOf(f *file.File) *Vnode {
	switch o := f.Ops.(type) {
	case vnodeFile:
		return f.Data.(*Vnode)
	case *specFile:
		return o.v
	}
	return nil
}

// Read reads a regular file. EISDIR for a directory.
func (vnodeFile) Read(ctx context.Context, c *abi.Caller, f *file.File, dst []byte, off int64) (int, error) {
	v := f.Data.(*Vnode)
	if v.typ != abi.VREG {
		return 0, abi.EISDIR
	}
	if off != file.Cur {
		return v.read(ctx, dst, off)
	}
	f.OffMu.Lock()
	n, err := v.read(ctx, dst, f.Offset)
	f.Offset += int64(n)
	f.OffMu.Unlock()
	return n, err
}

// Write writes a regular file; with O_APPEND at its end, whatever off is.
func (vnodeFile) Write(ctx context.Context, c *abi.Caller, f *file.File, src []byte, off int64) (int, error) {
	v := f.Data.(*Vnode)
	if v.typ != abi.VREG {
		return 0, abi.EISDIR
	}
	fl := f.Flags()
	app := fl&abi.O_APPEND != 0
	var n int
	var err error
	if off != file.Cur {
		n, _, err = v.write(ctx, c, src, off, app)
	} else {
		var at int64
		f.OffMu.Lock()
		n, at, err = v.write(ctx, c, src, f.Offset, app)
		if err == nil {
			f.Offset = at + int64(n)
		}
		f.OffMu.Unlock()
	}
	v.behind()
	if err == nil && (fl&(abi.O_SYNC|abi.O_DSYNC) != 0 || v.m.flags.Load()&abi.MNT_SYNCHRONOUS != 0) {
		err = v.fsync(ctx, c, fl&abi.O_SYNC == 0)
	}
	return n, err
}

// Seek moves the offset. EINVAL for one below 0; EOVERFLOW.
func (vnodeFile) Seek(ctx context.Context, c *abi.Caller, f *file.File, off int64, whence int) (int64, error) {
	v := f.Data.(*Vnode)
	f.OffMu.Lock()
	defer f.OffMu.Unlock()
	base := int64(0)
	switch whence {
	case abi.SEEK_SET:
	case abi.SEEK_CUR:
		base = f.Offset
	case abi.SEEK_END, abi.SEEK_DATA, abi.SEEK_HOLE:
		var va abi.Vattr
		if err := v.getattr(ctx, &va); err != nil {
			return 0, err
		}
		if whence != abi.SEEK_END {
			to, err := v.seekData(ctx, off, va.Size, whence)
			if err == nil {
				f.Offset = to
			}
			return to, err
		}
		base = va.Size
	default:
		return 0, abi.EINVAL
	}
	if off > 0 && base > math.MaxInt64-off {
		return 0, abi.EOVERFLOW
	}
	if base+off < 0 {
		return 0, abi.EINVAL
	}
	f.Offset = base + off
	return f.Offset, nil
}

// Stat answers the attributes.
func (vnodeFile) Stat(ctx context.Context, c *abi.Caller, f *file.File) (st abi.Stat, err error) {
	err = f.Data.(*Vnode).stat(ctx, &st)
	return st, err
}

// Ioctl knows FIONREAD, FIONBIO and FIOASYNC.
func (vnodeFile) Ioctl(ctx context.Context, c *abi.Caller, f *file.File, cmd uint32, arg []byte) ([]byte, error) {
	switch cmd {
	case abi.FIONBIO, abi.FIOASYNC:
		return nil, nil
	case abi.FIONREAD:
		var va abi.Vattr
		if err := f.Data.(*Vnode).getattr(ctx, &va); err != nil {
			return nil, err
		}
		f.OffMu.Lock()
		left := max(0, min(va.Size-f.Offset, math.MaxInt32))
		f.OffMu.Unlock()
		return binary.LittleEndian.AppendUint32(nil, uint32(left)), nil
	}
	return nil, abi.ENOTTY
}

// Fsync makes the file durable.
func (vnodeFile) Fsync(ctx context.Context, c *abi.Caller, f *file.File, dataOnly bool) error {
	return f.Data.(*Vnode).fsync(ctx, c, dataOnly)
}

// Close writes cached attributes back at the last close, and lets the vnode
// go.
func (vnodeFile) Close(ctx context.Context, f *file.File) error {
	v := f.Data.(*Vnode)
	if f.Writable() {
		for w := v; w != nil; w = w.lower {
			w.writers.Add(-1)
		}
	}
	v.m.vfs.unlock(v, lockOwner{f: f})
	err := v.closed(ctx)
	v.put()
	return err
}

// closed counts an open file out. After the last one, what reads and writes
// have changed is written back. An access time alone can wait, and so can all of
// it where the contents are the kernel's own (kpages): sync, the drain and the
// reclaim write it back, and close waits for no file system, unless there are
// more vnodes than may be already.
func (v *Vnode) closed(ctx context.Context) error {
	if v.lower != nil {
		v.opens.Add(-1)
		return v.lower.closed(ctx)
	}
	if v.opens.Add(-1) > 0 || v.unlinked.Load() || v.dead.Load() != 0 {
		return nil
	}
	v.amu.Lock()
	now := v.dirty&^abi.SetAtime != 0
	v.amu.Unlock()
	if !now || v.m.b.Load() == nil || v.m.kpages() && v.m.vfs.nvnodes.Load() <= v.m.vfs.maxVnodes {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.writebackLocked(ctx, abi.KernelCaller)
}

// Stat answers the attributes of the vnode.
func (s *specFile) Stat(ctx context.Context, c *abi.Caller, f *file.File) (st abi.Stat, err error) {
	err = s.v.stat(ctx, &st)
	return st, err
}

// Close closes the other layer's half and lets the vnode go.
func (s *specFile) Close(ctx context.Context, f *file.File) error {
	err := s.Ops.Close(ctx, f)
	s.v.m.vfs.unlock(s.v, lockOwner{f: f})
	s.v.closed(ctx)
	s.v.put()
	return err
}
