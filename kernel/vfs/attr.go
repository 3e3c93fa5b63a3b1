package vfs

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// refresh takes attributes from an answer of the file system into v, unless a
// mutator may have overtaken it (see vget). What the vnode has as the truth wins
// but with nocache.
func (v *Vnode) refresh(b *binding, va *abi.Vattr, asked nameStamp) {
	v.amu.Lock()
	if (!v.valid || v.m.nocache && asked.at) && v.m.fresh(asked) && v.m.current(b) {
		v.mergeLocked(va)
		v.setValidLocked(v.m.sole())
	}
	v.amu.Unlock()
}

// apply takes the attributes that a mutator answered; a zero va, which says
// nothing, makes the cached ones invalid. Preconditions: v.mu is held
// exclusively.
func (v *Vnode) apply(b *binding, va *abi.Vattr) {
	v.amu.Lock()
	if !v.m.current(b) {
		v.amu.Unlock()
		return
	}
	if v.fits(va) {
		v.mergeLocked(va)
		v.setValidLocked(v.m.sole())
	} else {
		v.setValidLocked(false)
	}
	v.amu.Unlock()
}

// fits reports whether attributes that the file system answered can be v's.
func (v *Vnode) fits(va *abi.Vattr) bool {
	h := v.h.Load()
	return va.Type == v.typ && va.Fileid == h.File && va.Gen == h.Gen && va.Size >= 0
}

// invalidate forgets that the attributes are the truth.
func (v *Vnode) invalidate() {
	v.amu.Lock()
	v.setValidLocked(false)
	v.amu.Unlock()
}

// setValidLocked says whether va is the truth, after it was changed.
func (v *Vnode) setValidLocked(on bool) {
	v.valid = on
	v.search.Store(nil)
}

// searchable answers directory v's attributes if they are known to be the truth
// and may be answered from here, but its times and size: without a lock, for
// walks. They must not be changed.
func (v *Vnode) searchable() *abi.Vattr {
	va := v.search.Load()
	if va == nil && !v.m.nocache {
		v.amu.Lock()
		if v.valid {
			c := v.va
			va = &c
			v.search.Store(va)
		}
		v.amu.Unlock()
	}
	return va
}

// mergeLocked replaces all fields but those that are newer here.
func (v *Vnode) mergeLocked(va *abi.Vattr) {
	got := *va
	v.newerLocked(&got)
	v.va = got
}

// newerLocked puts in the fields that are newer here than in the file system.
func (v *Vnode) newerLocked(va *abi.Vattr) {
	if v.dirty&abi.SetSize != 0 {
		va.Size = v.va.Size
	}
	if v.dirty&abi.SetMtime != 0 {
		va.Mtime = v.va.Mtime
	}
	if v.dirty&abi.SetAtime != 0 {
		va.Atime = v.va.Atime
	}
	if v.dirty&abi.SetCtime != 0 && va.Ctime.Before(v.va.Ctime) {
		va.Ctime = v.va.Ctime
	}
	if v.dirty&abi.SetMode != 0 {
		va.Mode = v.va.Mode
	}
}

// cached copies the attributes if they are known to be the truth and may be
// answered from here.
func (v *Vnode) cached(va *abi.Vattr) bool { return !v.m.nocache && v.known(va) }

// known copies the attributes if they are known to be the truth.
func (v *Vnode) known(va *abi.Vattr) bool {
	v.amu.Lock()
	ok := v.valid
	if ok {
		*va = v.va
	}
	v.amu.Unlock()
	return ok
}

// getattr answers the attributes of v. Preconditions: v.mu is not held.
func (v *Vnode) getattr(ctx context.Context, va *abi.Vattr) error {
	if err := v.err(); err != nil {
		return err
	}
	if v.cached(va) {
		v.fixBytes(va)
		return nil
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.getattrLocked(ctx, va)
}

// getattrWalked is getattr behind nameiAttr: what that walk has brought is not
// asked for again. It is that walk's own answer, not the vnode's last known
// attributes: those can be of somebody who asked before and came back after.
func (v *Vnode) getattrWalked(ctx context.Context, va *abi.Vattr, got *walked) error {
	if !got.ok {
		return v.getattr(ctx, va)
	}
	*va = got.va
	if v.m.sole() {
		// What is newer here may have been written back since.
		v.amu.Lock()
		v.newerLocked(va)
		ok := v.m.unchanged(got.asked)
		v.amu.Unlock()
		if !ok {
			return v.getattr(ctx, va)
		}
	}
	v.fixBytes(va)
	return v.err()
}

// getattrLocked is getattr with v.mu held, shared or exclusively.
func (v *Vnode) getattrLocked(ctx context.Context, va *abi.Vattr) error {
	if v.cached(va) {
		v.fixBytes(va)
		return v.err()
	}
	b, err := v.bind(ctx)
	if err != nil {
		return err
	}
	got, err := b.fs.Getattr(ctx, v.handle())
	if err != nil {
		return err
	}
	if !v.fits(&got) {
		return abi.ESTALE
	}
	v.amu.Lock()
	if (!v.valid || v.m.nocache) && v.m.current(b) {
		v.mergeLocked(&got)
		v.setValidLocked(b.sole())
	}
	*va = v.va
	v.amu.Unlock()
	v.fixBytes(va)
	return nil
}

// fixBytes puts in the storage that the page cache knows of, for contents that
// live there.
func (v *Vnode) fixBytes(va *abi.Vattr) {
	if v.typ == abi.VREG && v.m.kpages() {
		va.Bytes = 0
		if d := v.data.Load(); d != nil {
			va.Bytes = d.npages.Load() * abi.PageSize
		}
	}
}

// isDirty reports whether attributes or pages are newer here than in the file
// system. A truncation writes the attributes and leaves pages.
func (v *Vnode) isDirty() bool {
	if d := v.data.Load(); d != nil && d.soiled.Load() {
		return true
	}
	v.amu.Lock()
	defer v.amu.Unlock()
	return v.dirty != 0
}

// size is the current size of a cached file.
func (v *Vnode) size() int64 {
	v.amu.Lock()
	defer v.amu.Unlock()
	return v.va.Size
}

// touch changes cached attributes: the size (if not negative) and the times,
// which the file system learns of later. Preconditions: valid attributes.
func (v *Vnode) touch(size int64, mask abi.SetMask, now abi.Timespec) {
	v.amu.Lock()
	if size >= 0 {
		v.va.Size = size
		mask |= abi.SetSize
	}
	if mask&abi.SetMtime != 0 {
		v.va.Mtime = now
	}
	if mask&abi.SetCtime != 0 {
		v.va.Ctime = now
	}
	if mask&abi.SetAtime != 0 {
		v.va.Atime = now
	}
	v.dirty |= mask
	v.amu.Unlock()
}

// accessed sets the access time after a read; with MNT_RELATIME only if it does
// not already come after the last change.
func (v *Vnode) accessed() {
	fl := v.m.flags.Load()
	if fl&(abi.MNT_NOATIME|abi.MNT_RDONLY) != 0 || !v.m.sole() {
		return
	}
	if fl&abi.MNT_RELATIME != 0 {
		v.amu.Lock()
		skip := v.va.Mtime.Before(v.va.Atime) && v.va.Ctime.Before(v.va.Atime)
		v.amu.Unlock()
		if skip {
			return
		}
	}
	v.touch(-1, abi.SetAtime, v.m.vfs.o.Now())
}

// flushLocked writes cached attributes back (VOP_UPDATE). Preconditions: v.mu
// is held exclusively.
func (v *Vnode) flushLocked(ctx context.Context, c *abi.Caller) error {
	v.amu.Lock()
	mask, va := v.dirty, v.va
	if mask != 0 && (v.unlinked.Load() || v.dead.Load() != 0 || v.m.readonly()) {
		v.dirty, mask = 0, 0
	}
	v.amu.Unlock()
	if mask == 0 {
		return nil
	}
	b, err := v.bind(ctx)
	if err != nil {
		return err
	}
	if b.setattrer == nil {
		v.amu.Lock()
		v.dirty &^= mask
		v.amu.Unlock()
		return nil
	}
	send := mask
	if !b.kpages() {
		send &^= abi.SetSize // the file system has it from WritePages
	}
	if send&abi.SetSize != 0 {
		// A size that is set changes the time; ours may have been set since.
		send |= abi.SetMtime
	}
	got, err := v.setattrLocked(ctx, b, c, send, &va)
	if err != nil {
		return err
	}
	v.amu.Lock()
	// An access time can have moved on: reads hold the lock shared.
	if v.va.Atime == va.Atime {
		v.dirty &^= mask
	} else {
		v.dirty &^= mask &^ abi.SetAtime
	}
	v.amu.Unlock()
	v.apply(b, &got)
	return nil
}

// setattrLocked calls Setattr. Preconditions: v.mu is held exclusively.
func (v *Vnode) setattrLocked(ctx context.Context, b *binding, c *abi.Caller, mask abi.SetMask, va *abi.Vattr) (abi.Vattr, error) {
	if b.setattrer == nil {
		return abi.Vattr{}, abi.EROFS
	}
	v.m.begin()
	defer v.m.end()
	return b.setattrer.Setattr(ctx, vfsops.SetattrReq{Op: v.m.op(c), Node: v.handle(), Mask: mask, Attr: *va})
}
