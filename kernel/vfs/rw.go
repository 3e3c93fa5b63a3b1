package vfs

import (
	"context"
	"errors"
	"math"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// maxXfer bounds one Read or Write of a file system, in bytes.
const maxXfer = 1 << 20

// maxFileSize is the largest size of a file whose pages are here, in bytes.
const maxFileSize = math.MaxInt64 - pageSize

// read reads from a regular file.
func (v *Vnode) read(ctx context.Context, dst []byte, off int64) (int, error) {
	if off < 0 {
		return 0, abi.EINVAL
	}
	if len(dst) == 0 {
		return 0, v.err()
	}
	v.mu.RLock()
	n, err := v.readLocked(ctx, dst, off)
	v.mu.RUnlock()
	if err == errMiss {
		n, err = v.readMiss(ctx, dst, off)
	} else if err == nil {
		v.ahead(off, n)
	}
	if err == nil {
		v.accessed()
	}
	return n, err
}

func (v *Vnode) readLocked(ctx context.Context, dst []byte, off int64) (int, error) {
	if e := v.dead.Load(); e != 0 {
		return 0, abi.Errno(e)
	}
	if v.m.has(vfsops.CapKpages | vfsops.HasPager) {
		size := int64(-1)
		v.amu.Lock()
		if v.valid {
			size = v.va.Size
		}
		v.amu.Unlock()
		if size < 0 {
			var va abi.Vattr
			if err := v.getattrLocked(ctx, &va); err != nil {
				return 0, err
			}
			size = va.Size
		}
		if off >= size {
			return 0, nil
		}
		dst = dst[:min(int64(len(dst)), size-off)]
		d := v.data.Load()
		switch {
		case v.m.kpages() && d != nil, v.m.paged() && d != nil && d.has(off, len(dst)):
			v.m.vfs.cnt.pgReads.Inc()
			d.read(dst, off)
			return len(dst), nil
		case v.m.kpages():
			clear(dst)
			return len(dst), nil
		case v.m.paged():
			return 0, errMiss
		}
	}
	b, err := v.bind(ctx)
	if err != nil {
		return 0, err
	}
	done := 0
	for done < len(dst) {
		part := dst[done:min(len(dst), done+maxXfer)]
		n, err := b.fs.Read(ctx, v.handle(), off+int64(done), abi.IovOf(part))
		if n < 0 || n > len(part) {
			return done, abi.EIO
		}
		done += n
		if err != nil && done == 0 {
			return 0, err
		}
		if err != nil || n < len(part) {
			break
		}
	}
	return done, nil
}

// write writes to a regular file, at its end with app. It answers where the
// bytes went.
func (v *Vnode) write(ctx context.Context, c *abi.Caller, src []byte, off int64, app bool) (n int, at int64, err error) {
	if off < 0 && !app {
		return 0, 0, abi.EINVAL
	}
	b, err := v.bind(ctx)
	if err != nil {
		return 0, 0, err
	}
	if v.m.readonly() {
		return 0, 0, abi.EROFS
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.err(); err != nil {
		return 0, 0, err
	}
	if !b.paged() {
		return v.writeThrough(ctx, b, c, src, off, app)
	}
	var va abi.Vattr
	if !v.known(&va) {
		if err := v.getattrLocked(ctx, &va); err != nil {
			return 0, 0, err
		}
	}
	if app {
		off = va.Size
	}
	if len(src) == 0 {
		return 0, off, nil
	}
	if off >= maxFileSize || !c.FsizeOK(off+min(int64(len(src)), maxFileSize-off)) {
		return 0, off, abi.EFBIG
	}
	src = src[:min(int64(len(src)), maxFileSize-off)]
	v.m.vfs.cnt.pgWrites.Inc()
	if b.kpages() {
		n, err = v.kwrite(ctx, b, src, off)
	} else {
		n, err = v.pagerWrite(ctx, b, c, src, off, va.Size)
	}
	if n == 0 {
		return 0, off, err
	}
	v.wrote(c, &va, max(va.Size, off+int64(n)))
	if off+int64(n) > va.Size {
		v.note(ctx, abi.NOTE_WRITE|abi.NOTE_EXTEND)
	} else {
		v.note(ctx, abi.NOTE_WRITE)
	}
	return n, off, nil
}

// wrote notes a change of contents made here; set-id bits go unless the writer
// is privileged.
func (v *Vnode) wrote(c *abi.Caller, va *abi.Vattr, size int64) {
	v.touch(size, abi.SetMtime|abi.SetCtime, v.m.vfs.o.Now())
	if va.Mode&(abi.S_ISUID|abi.S_ISGID) != 0 && c.Cred.Euid != 0 {
		v.amu.Lock()
		v.va.Mode &^= abi.S_ISUID | abi.S_ISGID
		v.dirty |= abi.SetMode
		v.amu.Unlock()
	}
}

// writeThrough writes by the file system's own Write. Preconditions: v is
// locked exclusively.
func (v *Vnode) writeThrough(ctx context.Context, b *binding, c *abi.Caller, src []byte, off int64, app bool) (done int, at int64, err error) {
	if b.writer == nil {
		return 0, off, abi.EROFS
	}
	v.amu.Lock()
	size := v.va.Size
	v.amu.Unlock()
	end := off
	if app {
		end = size
	}
	if int64(len(src)) > math.MaxInt64-end || !c.FsizeOK(end+int64(len(src))) {
		return 0, off, abi.EFBIG
	}
	at = off
	v.m.begin()
	defer v.m.end()
	defer func() {
		if done == 0 {
			return
		}
		hint := uint32(abi.NOTE_WRITE)
		if app || at+int64(done) > size {
			hint |= abi.NOTE_EXTEND
		}
		v.note(ctx, hint)
	}()
	for first := true; first || done < len(src); first = false {
		part := src[done:min(len(src), done+maxXfer)]
		res, err := b.writer.Write(ctx, vfsops.WriteReq{Op: v.m.op(c), Node: v.handle(), Off: off + int64(done), Append: app}, abi.IovOf(part))
		if err == nil && (res.N < 0 || res.N > len(part)) {
			err = abi.EIO
		}
		if err != nil {
			v.invalidate()
			if done > 0 {
				return done, at, nil
			}
			return 0, at, err
		}
		if app && first {
			at, off = res.Off, res.Off
		}
		done += res.N
		v.apply(b, &res.Vattr)
		if res.N < len(part) {
			break
		}
	}
	v.clearSetid(ctx, b, c)
	return done, at, nil
}

// clearSetid takes the set-id bits away after a write by somebody else than
// the super-user. Preconditions: v is locked exclusively.
func (v *Vnode) clearSetid(ctx context.Context, b *binding, c *abi.Caller) {
	v.amu.Lock()
	va := v.va
	v.amu.Unlock()
	if va.Mode&(abi.S_ISUID|abi.S_ISGID) == 0 || c.Cred.Euid == 0 || b.setattrer == nil {
		return
	}
	va.Mode &^= abi.S_ISUID | abi.S_ISGID
	if got, err := v.setattrLocked(ctx, b, c, abi.SetMode, &va); err == nil {
		v.apply(b, &got)
	}
}

// truncate sets the size of a regular file.
func (v *Vnode) truncate(ctx context.Context, c *abi.Caller, size int64) error {
	switch {
	case v.typ == abi.VDIR:
		return abi.EISDIR
	case v.typ != abi.VREG:
		return abi.EINVAL
	case v.m.readonly():
		return abi.EROFS
	}
	b, err := v.bind(ctx)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	var va abi.Vattr
	if err := v.getattrLocked(ctx, &va); err != nil {
		return err
	}
	if va.Flags&(abi.UF_IMMUTABLE|abi.SF_IMMUTABLE|abi.UF_APPEND|abi.SF_APPEND) != 0 {
		return abi.EPERM
	}
	if size > va.Size && !c.FsizeOK(size) {
		return abi.EFBIG
	}
	if !b.kpages() {
		if b.truncater == nil {
			return abi.EROFS
		}
		v.m.begin()
		defer v.m.end()
		got, err := b.truncater.Truncate(ctx, v.m.op(c), v.handle(), size)
		if size > va.Size && errors.Is(err, abi.ENOSPC) && b.grows() {
			// What it needs can be promised, to itself even.
			if err := v.writePages(ctx, b, c, v.pages()); err != nil {
				return err
			}
			if v.m.squeeze(ctx, b, v) {
				got, err = b.truncater.Truncate(ctx, v.m.op(c), v.handle(), size)
			}
		}
		if err != nil {
			v.invalidate()
			return err
		}
		if d := v.data.Load(); d != nil && b.paged() {
			v.resized(ctx, b, d, size)
			d.drop((size + pageSize - 1) / pageSize)
			d.zeroTail(size)
		}
		v.amu.Lock()
		v.dirty &^= abi.SetSize | abi.SetMtime | abi.SetCtime
		v.amu.Unlock()
		v.apply(b, &got)
		v.clearSetid(ctx, b, c)
		v.noteSize(ctx, va.Size, size)
		return nil
	}
	if size > maxFileSize {
		return abi.EFBIG
	}
	if d := v.data.Load(); d != nil && size < va.Size {
		freed := d.drop((size + pageSize - 1) / pageSize)
		d.zeroTail(size)
		v.m.unreserve(ctx, freed, d.epoch)
	}
	v.wrote(c, &va, size)
	v.noteSize(ctx, va.Size, size)
	return nil
}

// noteSize tells who watches of a truncation.
func (v *Vnode) noteSize(ctx context.Context, from, to int64) {
	hint := uint32(abi.NOTE_WRITE | abi.NOTE_ATTRIB)
	if to > from {
		hint |= abi.NOTE_EXTEND
	}
	v.note(ctx, hint)
}

// needsFlush reports whether something of v has to be written back.
func (v *Vnode) needsFlush() bool { return v.isDirty() }

// writebackLocked writes back what is newer here than in the file system.
// Preconditions: v is locked exclusively.
func (v *Vnode) writebackLocked(ctx context.Context, c *abi.Caller) error {
	if d := v.data.Load(); d != nil && d.ndirty > 0 && !v.unlinked.Load() && v.dead.Load() == 0 {
		b, err := v.bind(ctx)
		if err != nil {
			return err
		}
		if err := v.writePages(ctx, b, c, d); err != nil {
			return err
		}
	}
	return v.flushLocked(ctx, c)
}

// fsync makes a file durable (VOP_FSYNC).
func (v *Vnode) fsync(ctx context.Context, c *abi.Caller, dataOnly bool) error {
	b, err := v.bind(ctx)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.writebackLocked(ctx, c); err != nil {
		return err
	}
	if b.syncer == nil || v.m.readonly() {
		return nil
	}
	return b.syncer.Sync(ctx, v.handle(), dataOnly)
}
