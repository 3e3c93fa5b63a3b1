package vfs

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// DefaultAuthorize lets effective uid 0 do everything, but execute a file that
// nobody may execute; for everybody else the file system's opinion stands.
func DefaultAuthorize(c *abi.Caller, want abi.AccMode, va *abi.Vattr, fsErr error) error {
	if fsErr == nil || c.Cred.Euid != 0 {
		return fsErr
	}
	if want&abi.VEXEC != 0 && va.Type == abi.VREG && va.Mode&0o111 == 0 {
		return fsErr
	}
	return nil
}

func defaultPrivileged(c *abi.Caller, _ string) error {
	if c.Cred.Euid != 0 {
		return abi.EPERM
	}
	return nil
}

// access authorises want on v, whose attributes are va (genfs_can_access, then
// the vnode scope). EROFS for changing what a read-only mount holds.
func (v *Vnode) access(ctx context.Context, c *abi.Caller, want abi.AccMode, va *abi.Vattr) error {
	if want&(abi.VWRITE|abi.VAPPEND) != 0 {
		if v.m.readonly() && (v.typ == abi.VREG || v.typ == abi.VDIR || v.typ == abi.VLNK) {
			return abi.EROFS
		}
		if va.Flags&(abi.UF_IMMUTABLE|abi.SF_IMMUTABLE) != 0 {
			return abi.EPERM
		}
	}
	if want == 0 {
		return nil
	}
	if v.m.authz() {
		b, err := v.bind(ctx)
		if err != nil {
			return err
		}
		if b.accesser != nil {
			fsErr := b.accesser.Access(ctx, v.handle(), c, want)
			if e := abi.ErrnoOf(fsErr); e != 0 && e != abi.EACCES && e != abi.EPERM {
				return fsErr
			}
			return v.m.vfs.o.Authorize(c, want, va, fsErr)
		}
	}
	return v.m.vfs.o.Authorize(c, want, va, abi.Vaccess(va, c.Cred, want))
}

// mayDelete authorises taking a name of victim out of directory dir: the right
// to write the directory, and in a sticky one ownership of either.
func (v *Vnode) mayDelete(ctx context.Context, c *abi.Caller, dir *Vnode, dva, va *abi.Vattr) error {
	if err := dir.access(ctx, c, abi.VWRITE, dva); err != nil {
		return err
	}
	if va.Flags&(abi.UF_IMMUTABLE|abi.SF_IMMUTABLE|abi.UF_APPEND|abi.SF_APPEND) != 0 || dva.Flags&(abi.UF_APPEND|abi.SF_APPEND) != 0 {
		return abi.EPERM
	}
	if dva.Mode&abi.S_ISVTX == 0 || c.Cred.Euid == dva.Uid || c.Cred.Euid == va.Uid || v.m.authz() {
		return nil
	}
	return v.m.vfs.o.Authorize(c, abi.VADMIN, va, abi.EPERM)
}

// privileged reports whether c may do to the file what its owner may not, the
// privilege to keep set-id bits and to give files away.
func (fs *VFS) privileged(c *abi.Caller, va *abi.Vattr) bool {
	return fs.o.Authorize(c, abi.VADMIN, va, abi.EPERM) == nil
}
