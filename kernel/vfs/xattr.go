package vfs

import (
	"context"
	"errors"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// maxXattr bounds the value of an extended attribute, in bytes.
const maxXattr = 65536

// Target names a file for the extended attribute calls: a vnode if V is not
// nil, an open file if F is not nil, else a path.
type Target struct {
	W      Where
	Path   string
	Follow bool
	F      *file.File
	V      *Vnode // held, instead of F and Path
}

func (fs *VFS) withTarget(ctx context.Context, t Target, fn func(v *Vnode) error) error {
	if t.V != nil {
		return fn(t.V)
	}
	if t.F != nil {
		return withFile(t.F, fn)
	}
	return fs.withPath(ctx, t.W, t.Path, t.Follow, fn)
}

// xattrs checks a name and finds the file system's Xattrer.
func (v *Vnode) xattrs(ctx context.Context, name string) (*binding, error) {
	if name == "" || len(name) > abi.NAME_MAX {
		return nil, abi.EINVAL
	}
	b, err := v.bind(ctx)
	if err == nil && b.xattrer == nil {
		err = abi.EOPNOTSUPP
	}
	return b, err
}

// xattrAccess authorises: attributes in "system." are the super-user's, others
// follow the permissions of the file.
func (v *Vnode) xattrAccess(ctx context.Context, c *abi.Caller, name string, want abi.AccMode) error {
	var va abi.Vattr
	if err := v.getattrLocked(ctx, &va); err != nil {
		return err
	}
	if len(name) >= 7 && name[:7] == "system." && !v.m.vfs.privileged(c, &va) {
		return abi.EPERM
	}
	return v.access(ctx, c, want, &va)
}

// Getxattr answers the value of an extended attribute; names are
// "user.NAME" or "system.NAME". ENOATTR, EOPNOTSUPP.
func (fs *VFS) Getxattr(ctx context.Context, t Target, name string) (val []byte, err error) {
	err = fs.withTarget(ctx, t, func(v *Vnode) error {
		b, err := v.xattrs(ctx, name)
		if err != nil {
			return err
		}
		v.mu.RLock()
		defer v.mu.RUnlock()
		if err := v.xattrAccess(ctx, t.W.Caller, name, abi.VREAD); err != nil {
			return err
		}
		val, err = b.xattrer.Getxattr(ctx, v.handle(), []byte(name))
		return noattr(err)
	})
	return val, err
}

// noattr turns ENODATA into NetBSD's ENOATTR.
func noattr(err error) error {
	if errors.Is(err, abi.ENODATA) {
		return abi.ENOATTR
	}
	return err
}

// Listxattr answers the names of the extended attributes, each ended by NUL.
func (fs *VFS) Listxattr(ctx context.Context, t Target) (names []byte, err error) {
	err = fs.withTarget(ctx, t, func(v *Vnode) error {
		b, err := v.xattrs(ctx, "list")
		if err != nil {
			return err
		}
		v.mu.RLock()
		defer v.mu.RUnlock()
		if err := v.xattrAccess(ctx, t.W.Caller, "", abi.VREAD); err != nil {
			return err
		}
		names, err = b.xattrer.Listxattr(ctx, v.handle())
		return err
	})
	return names, err
}

// Setxattr sets an extended attribute. flags XATTR_CREATE: EEXIST if it is
// there; XATTR_REPLACE: ENOATTR if it is not. ERANGE for a value over 64 KiB.
func (fs *VFS) Setxattr(ctx context.Context, t Target, name string, val []byte, flags uint32) error {
	if flags&^(abi.XATTR_CREATE|abi.XATTR_REPLACE) != 0 {
		return abi.EINVAL
	}
	if len(val) > maxXattr {
		return abi.ERANGE
	}
	return fs.xattrChange(ctx, t, name, func(v *Vnode, b *binding, op vfsops.Op) error {
		return b.xattrer.Setxattr(ctx, vfsops.SetxattrReq{Op: op, Node: v.handle(), Name: []byte(name), Value: val, Flags: flags})
	})
}

// Removexattr removes an extended attribute. ENOATTR.
func (fs *VFS) Removexattr(ctx context.Context, t Target, name string) error {
	return fs.xattrChange(ctx, t, name, func(v *Vnode, b *binding, op vfsops.Op) error {
		return b.xattrer.Removexattr(ctx, op, v.handle(), []byte(name))
	})
}

func (fs *VFS) xattrChange(ctx context.Context, t Target, name string, call func(v *Vnode, b *binding, op vfsops.Op) error) error {
	return fs.withTarget(ctx, t, func(v *Vnode) error {
		b, err := v.xattrs(ctx, name)
		if err != nil {
			return err
		}
		if v.m.readonly() {
			return abi.EROFS
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		if err := v.xattrAccess(ctx, t.W.Caller, name, abi.VWRITE); err != nil {
			return err
		}
		v.m.begin()
		defer v.m.end()
		err = call(v, b, v.m.op(t.W.Caller))
		v.invalidate() // the change time is new
		return noattr(err)
	})
}
