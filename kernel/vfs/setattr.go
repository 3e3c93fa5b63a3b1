package vfs

import (
	"context"
	"errors"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// withPath runs fn on the vnode of a path.
func (fs *VFS) withPath(ctx context.Context, w Where, path string, follow bool, fn func(v *Vnode) error) error {
	mode := noFollow
	if follow {
		mode = followLink
	}
	for try := 0; ; try++ {
		v, err := fs.namei(ctx, w, path, mode)
		if err != nil {
			return err
		}
		err = fn(v)
		again := fs.again(v, err, try)
		v.put()
		if !again {
			return err
		}
	}
}

// again reports whether an operation on v, found by its path, should look the
// path up again: v lost its last name between the walk and the operation.
func (fs *VFS) again(v *Vnode, err error, try int) bool {
	if err == nil || try >= staleTries || v.dead.Load() != 0 || !errors.Is(err, abi.ESTALE) {
		return false
	}
	fs.cnt.stale.Inc()
	return true
}

// withFile runs fn on the vnode of an open file. EINVAL if it has none.
func withFile(f *file.File, fn func(v *Vnode) error) error {
	v := vnodeOf(f)
	if v == nil {
		return abi.EINVAL
	}
	return fn(v)
}

// Stat answers the attributes of a path (stat(2), lstat(2) without follow).
func (fs *VFS) Stat(ctx context.Context, w Where, path string, follow bool) (st abi.Stat, err error) {
	mode := noFollow
	if follow {
		mode = followLink
	}
	var got walked
	for try := 0; ; try++ {
		v, err := fs.nameiAttr(ctx, w, path, mode, &got)
		if err != nil {
			return st, err
		}
		st.Dev = v.m.fsid
		err = v.getattrWalked(ctx, &st.Vattr, &got)
		again := fs.again(v, err, try)
		v.put()
		if !again {
			return st, err
		}
	}
}

func (v *Vnode) stat(ctx context.Context, st *abi.Stat) error {
	st.Dev = v.m.fsid
	return v.getattr(ctx, &st.Vattr)
}

// Access checks with the real ids, or with AT_EACCESS the effective ones,
// whether a path can be used as mode (R_OK, W_OK, X_OK, F_OK) says (access(2),
// faccessat(2)).
func (fs *VFS) Access(ctx context.Context, w Where, path string, mode uint32, flags int) error {
	if mode&^(abi.R_OK|abi.W_OK|abi.X_OK) != 0 || flags&^(abi.AT_EACCESS|abi.AT_SYMLINK_NOFOLLOW) != 0 {
		return abi.EINVAL
	}
	if c := w.Caller; flags&abi.AT_EACCESS == 0 && (c.Cred.Euid != c.Cred.Ruid || c.Cred.Egid != c.Cred.Rgid) {
		cred := c.Cred.Clone()
		cred.Euid, cred.Egid = cred.Ruid, cred.Rgid
		w.Caller = &abi.Caller{Cred: cred, Pid: c.Pid, Lid: c.Lid}
	}
	return fs.withPath(ctx, w, path, flags&abi.AT_SYMLINK_NOFOLLOW == 0, func(v *Vnode) error {
		var va abi.Vattr
		if err := v.getattr(ctx, &va); err != nil {
			return err
		}
		return v.access(ctx, w.Caller, abi.AccMode(mode), &va)
	})
}

// Readlink answers the text of a symbolic link (readlink(2)). EINVAL for
// anything else.
func (fs *VFS) Readlink(ctx context.Context, w Where, path string) (string, error) {
	var t string
	err := fs.withPath(ctx, w, path, false, func(v *Vnode) (err error) {
		t, err = v.readlink(v.m.asking(ctx, w.Caller))
		return err
	})
	return t, err
}

// Chmod changes the mode of a path (chmod(2), lchmod(2) without follow).
// EPERM, EROFS; EFTYPE for a sticky bit on a file by others than the super-user.
func (fs *VFS) Chmod(ctx context.Context, w Where, path string, mode uint32, follow bool) error {
	return fs.withPath(ctx, w, path, follow, func(v *Vnode) error { return v.chmod(ctx, w.Caller, mode) })
}

// Fchmod is Chmod on an open file (fchmod(2)).
func (fs *VFS) Fchmod(ctx context.Context, c *abi.Caller, f *file.File, mode uint32) error {
	return withFile(f, func(v *Vnode) error { return v.chmod(ctx, c, mode) })
}

func (v *Vnode) chmod(ctx context.Context, c *abi.Caller, mode uint32) error {
	mode &= abi.ALLPERMS
	return v.change(ctx, c, func(va *abi.Vattr) (abi.SetMask, error) {
		if err := v.access(ctx, c, abi.VADMIN, va); err != nil {
			return 0, err
		}
		if !v.m.vfs.privileged(c, va) {
			if v.typ != abi.VDIR && mode&abi.S_ISVTX != 0 {
				return 0, abi.EFTYPE
			}
			if mode&abi.S_ISGID != 0 && !c.Cred.InGroup(va.Gid) {
				return 0, abi.EPERM
			}
		}
		va.Mode = mode
		return abi.SetMode, nil
	})
}

// NoID as an owner or group means that it stays ((uid_t)-1).
const NoID = ^uint32(0)

// Chown changes owner and group of a path, either may be NoID (chown(2),
// lchown(2) without follow). EPERM unless the owner gives it to a group of his
// or the super-user does anything. Set-id bits go if it is not the super-user.
func (fs *VFS) Chown(ctx context.Context, w Where, path string, uid, gid uint32, follow bool) error {
	return fs.withPath(ctx, w, path, follow, func(v *Vnode) error { return v.chown(ctx, w.Caller, uid, gid) })
}

// Fchown is Chown on an open file (fchown(2)).
func (fs *VFS) Fchown(ctx context.Context, c *abi.Caller, f *file.File, uid, gid uint32) error {
	return withFile(f, func(v *Vnode) error { return v.chown(ctx, c, uid, gid) })
}

func (v *Vnode) chown(ctx context.Context, c *abi.Caller, uid, gid uint32) error {
	return v.change(ctx, c, func(va *abi.Vattr) (abi.SetMask, error) {
		if uid == NoID {
			uid = va.Uid
		}
		if gid == NoID {
			gid = va.Gid
		}
		if err := v.access(ctx, c, abi.VADMIN, va); err != nil {
			return 0, err
		}
		priv := v.m.vfs.privileged(c, va)
		if !priv && (uid != va.Uid || gid != va.Gid && !c.Cred.InGroup(gid)) {
			return 0, abi.EPERM
		}
		mask := abi.SetUid | abi.SetGid
		if !priv && va.Mode&(abi.S_ISUID|abi.S_ISGID) != 0 && v.typ != abi.VDIR {
			va.Mode &^= abi.S_ISUID | abi.S_ISGID
			mask |= abi.SetMode
		}
		va.Uid, va.Gid = uid, gid
		return mask, nil
	})
}

// Utimens sets access and modification time of a path (utimensat(2)). Nsec may
// be UTIME_NOW or UTIME_OMIT; nil means both now. Explicit times need
// ownership (EPERM), now needs that or write permission (EACCES). EINVAL.
func (fs *VFS) Utimens(ctx context.Context, w Where, path string, times *[2]abi.Timespec, follow bool) error {
	return fs.withPath(ctx, w, path, follow, func(v *Vnode) error { return v.utimens(ctx, w.Caller, times) })
}

// Futimens is Utimens on an open file (futimens(2)).
func (fs *VFS) Futimens(ctx context.Context, c *abi.Caller, f *file.File, times *[2]abi.Timespec) error {
	return withFile(f, func(v *Vnode) error { return v.utimens(ctx, c, times) })
}

func (v *Vnode) utimens(ctx context.Context, c *abi.Caller, times *[2]abi.Timespec) error {
	t := [2]abi.Timespec{{Nsec: abi.UTIME_NOW}, {Nsec: abi.UTIME_NOW}}
	if times != nil {
		t = *times
	}
	allNow := t[0].Nsec == abi.UTIME_NOW && t[1].Nsec == abi.UTIME_NOW
	var mask abi.SetMask
	now := v.m.vfs.o.Now()
	for i, bit := range []abi.SetMask{abi.SetAtime, abi.SetMtime} {
		switch {
		case t[i].Nsec == abi.UTIME_OMIT:
			continue
		case t[i].Nsec == abi.UTIME_NOW:
			t[i] = now
		case t[i].Nsec < 0 || t[i].Nsec > 999999999:
			return abi.EINVAL
		}
		mask |= bit
	}
	if mask == 0 {
		return nil
	}
	return v.change(ctx, c, func(va *abi.Vattr) (abi.SetMask, error) {
		err := v.access(ctx, c, abi.VADMIN, va)
		if err != nil && allNow {
			err = v.access(ctx, c, abi.VWRITE, va)
		}
		if err != nil {
			return 0, err
		}
		if mask&abi.SetAtime != 0 {
			va.Atime = t[0]
		}
		if mask&abi.SetMtime != 0 {
			va.Mtime = t[1]
		}
		return mask, nil
	})
}

// Chflags sets the flags of a path (chflags(2), lchflags(2) without follow).
func (fs *VFS) Chflags(ctx context.Context, w Where, path string, flags uint32, follow bool) error {
	return fs.withPath(ctx, w, path, follow, func(v *Vnode) error {
		return v.change(ctx, w.Caller, func(va *abi.Vattr) (abi.SetMask, error) {
			if err := v.access(ctx, w.Caller, abi.VADMIN, va); err != nil {
				return 0, err
			}
			if (va.Flags^flags)&abi.SF_SETTABLE != 0 && (!fs.privileged(w.Caller, va) || fs.o.Privileged(w.Caller, "chsysflags") != nil) {
				return 0, abi.EPERM
			}
			va.Flags = flags
			return abi.SetFlags, nil
		})
	})
}

// change is the frame of all changes of attributes: lock; fn checks, changes va
// and says which fields; call; update. Other fields that are newer here than in
// the file system stay so.
func (v *Vnode) change(ctx context.Context, c *abi.Caller, fn func(va *abi.Vattr) (abi.SetMask, error)) error {
	if v.m.readonly() {
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
	old := va
	mask, err := fn(&va)
	if err != nil {
		return err
	}
	if v.changeHere(b, mask, &old, &va) {
		v.note(ctx, abi.NOTE_ATTRIB)
		return nil
	}
	got, err := v.setattrLocked(ctx, b, c, mask, &va)
	if err != nil {
		v.invalidate()
		return err
	}
	v.amu.Lock()
	v.dirty &^= mask
	v.amu.Unlock()
	v.apply(b, &got)
	v.note(ctx, abi.NOTE_ATTRIB)
	return nil
}

// changeHere makes a change of mode and times without the file system, as writes
// change size and times: for contents that live here, whose vnode is written
// back before it goes. Owners that stay what they are count as no change.
// Preconditions: v.mu is held exclusively.
func (v *Vnode) changeHere(b *binding, mask abi.SetMask, old, va *abi.Vattr) bool {
	const here = abi.SetMode | abi.SetAtime | abi.SetMtime
	if mask&^(here|abi.SetUid|abi.SetGid) != 0 || old.Uid != va.Uid || old.Gid != va.Gid ||
		v.typ != abi.VREG || !b.kpages() || b.setattrer == nil || v.m.nocache || v.unlinked.Load() {
		return false
	}
	v.amu.Lock()
	defer v.amu.Unlock()
	if !v.valid || !v.m.current(b) {
		return false
	}
	if mask&abi.SetMode != 0 {
		v.va.Mode = va.Mode
	}
	if mask&abi.SetAtime != 0 {
		v.va.Atime = va.Atime
	}
	if mask&abi.SetMtime != 0 {
		v.va.Mtime = va.Mtime
	}
	v.va.Ctime = v.m.vfs.o.Now()
	v.dirty |= mask&here | abi.SetCtime
	return true
}

// Truncate sets the size of the file at path (truncate(2)). EISDIR, EACCES,
// EROFS, EFBIG, EINVAL.
func (fs *VFS) Truncate(ctx context.Context, w Where, path string, size int64) error {
	if size < 0 {
		return abi.EINVAL
	}
	return fs.withPath(ctx, w, path, true, func(v *Vnode) error {
		if v.typ == abi.VDIR {
			return abi.EISDIR
		}
		var va abi.Vattr
		if err := v.getattr(ctx, &va); err != nil {
			return err
		}
		if err := v.access(ctx, w.Caller, abi.VWRITE, &va); err != nil {
			return err
		}
		return v.truncate(ctx, w.Caller, size)
	})
}

// Ftruncate sets the size of an open file (ftruncate(2)). EINVAL if it is not
// open for writing or no regular file.
func (fs *VFS) Ftruncate(ctx context.Context, c *abi.Caller, f *file.File, size int64) error {
	if size < 0 || !f.Writable() {
		return abi.EINVAL
	}
	return withFile(f, func(v *Vnode) error { return v.truncate(ctx, c, size) })
}

// Statvfs describes the file system that holds path (statvfs(2)).
func (fs *VFS) Statvfs(ctx context.Context, w Where, path string) (st abi.Statvfs, err error) {
	err = fs.withPath(ctx, w, path, true, func(v *Vnode) error { return v.m.statvfs(ctx, &st) })
	return st, err
}

// Fstatvfs describes the file system that holds an open file (fstatvfs(2)).
func (fs *VFS) Fstatvfs(ctx context.Context, f *file.File) (st abi.Statvfs, err error) {
	err = withFile(f, func(v *Vnode) error { return v.m.statvfs(ctx, &st) })
	return st, err
}

// StatvfsAll describes every mount in order (getvfsstat(2)). A mount that does
// not answer is listed without numbers.
func (fs *VFS) StatvfsAll(ctx context.Context) []abi.Statvfs {
	fs.mu.RLock()
	ms := append([]*Mount(nil), fs.mounts...)
	fs.mu.RUnlock()
	r := make([]abi.Statvfs, len(ms))
	for i, m := range ms {
		if err := m.statvfs(ctx, &r[i]); err != nil {
			m.describe(&r[i])
		}
	}
	return r
}

func (m *Mount) statvfs(ctx context.Context, st *abi.Statvfs) error {
	b, err := m.binding(ctx)
	if err != nil {
		return err
	}
	if *st, err = b.fs.Statvfs(ctx); err != nil {
		return err
	}
	if b.kpages() {
		m.space(st)
	} else if b.grows() {
		m.spareSpace(st)
	}
	m.describe(st)
	return nil
}

func (m *Mount) describe(st *abi.Statvfs) {
	st.Flag = m.flags.Load() & abi.MNT_VISFLAGMASK
	st.Fsid, st.FSType, st.From, st.On = m.fsid, m.typ, m.source, m.dir
	if st.From == "" {
		st.From = m.typ
	}
	if st.Namemax == 0 {
		st.Namemax = abi.NAME_MAX
	}
}
