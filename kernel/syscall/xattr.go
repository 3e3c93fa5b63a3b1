package syscall

import (
	"context"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Extended attributes, as sys_xattr.c of NetBSD has them (its Linux-like
// family): names are "user.NAME" or "system.NAME". Those of a path have it as
// Path[0] and the name as Path[1], those of a descriptor have it as A[0] and
// the name as Path[0]. Out without room asks for the length.

// xattrCall is what one of the calls does with its file.
type xattrCall func(ctx context.Context, k *Kernel, a *abi.Sysargs, t vfs.Target, name string) error

// xattrPath is a call on a path.
func xattrPath(follow bool, call xattrCall) fn {
	return func(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
		return call(ctx, k, a, vfs.Target{W: where(l), Path: a.Path[0], Follow: follow}, a.Path[1])
	}
}

// xattrFd is a call on a descriptor.
func xattrFd(call xattrCall) fn {
	return func(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
		return vnode(ctx, l, a, func(f *file.File) error {
			a.A[0] = a.A[1]
			return call(ctx, k, a, vfs.Target{W: where(l), F: f}, a.Path[0])
		})
	}
}

// xattrAnswer puts a value or list into Out; with no room for anything only its
// length is answered. ERANGE if it does not fit.
func xattrAnswer(a *abi.Sysargs, b []byte) error {
	a.R[0] = uint64(len(b))
	switch {
	case len(a.Out) == 0:
		return nil
	case len(b) > len(a.Out):
		return abi.ERANGE
	}
	a.NO = copy(a.Out, b)
	return nil
}

// doGetxattr is getxattr(2). ENOATTR, ERANGE, EOPNOTSUPP.
func doGetxattr(ctx context.Context, k *Kernel, a *abi.Sysargs, t vfs.Target, name string) error {
	b, err := k.VFS.Getxattr(ctx, t, name)
	if err != nil {
		return err
	}
	return xattrAnswer(a, b)
}

// doListxattr is listxattr(2): names, each ended by NUL.
func doListxattr(ctx context.Context, k *Kernel, a *abi.Sysargs, t vfs.Target, _ string) error {
	b, err := k.VFS.Listxattr(ctx, t)
	if err != nil {
		return err
	}
	return xattrAnswer(a, b)
}

// doSetxattr is setxattr(2): In is the value, A[0] (of a descriptor A[1]) the
// flags. EEXIST, ENOATTR, ERANGE, ENOSPC.
func doSetxattr(ctx context.Context, k *Kernel, a *abi.Sysargs, t vfs.Target, name string) error {
	return k.VFS.Setxattr(ctx, t, name, a.In, a.U32(0))
}

// doRemovexattr is removexattr(2). ENOATTR.
func doRemovexattr(ctx context.Context, k *Kernel, _ *abi.Sysargs, t vfs.Target, name string) error {
	return k.VFS.Removexattr(ctx, t, name)
}
