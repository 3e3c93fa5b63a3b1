package rumpclient

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// xattrMax is the size of the largest value, and of the largest list of names.
const xattrMax = 64 << 10

func (c *Client) xattrOut(ctx context.Context, num int, path string, a *abi.Sysargs) ([]byte, error) {
	p := make([]byte, xattrMax)
	n, _, err := c.out(ctx, num, path, a, p)
	return p[:n:n], err
}

// Getxattr is getxattr(2): the value of an extended attribute, "user.NAME" or
// "system.NAME". ENOATTR; EOPNOTSUPP where files have none.
func (c *Client) Getxattr(ctx context.Context, path, name string) ([]byte, error) {
	return c.xattrOut(ctx, abi.SYS_getxattr, path, argsPaths(path, name))
}

// Lgetxattr is lgetxattr(2): of a symbolic link itself.
func (c *Client) Lgetxattr(ctx context.Context, path, name string) ([]byte, error) {
	return c.xattrOut(ctx, abi.SYS_lgetxattr, path, argsPaths(path, name))
}

// Fgetxattr is fgetxattr(2).
func (c *Client) Fgetxattr(ctx context.Context, fd int, name string) ([]byte, error) {
	return c.xattrOut(ctx, abi.SYS_fgetxattr, "", argsPath(name, fd))
}

// Listxattr is listxattr(2): the names, each ended by NUL.
func (c *Client) Listxattr(ctx context.Context, path string) ([]byte, error) {
	return c.xattrOut(ctx, abi.SYS_listxattr, path, argsPath(path))
}

// Llistxattr is llistxattr(2): of a symbolic link itself.
func (c *Client) Llistxattr(ctx context.Context, path string) ([]byte, error) {
	return c.xattrOut(ctx, abi.SYS_llistxattr, path, argsPath(path))
}

// Flistxattr is flistxattr(2).
func (c *Client) Flistxattr(ctx context.Context, fd int) ([]byte, error) {
	return c.xattrOut(ctx, abi.SYS_flistxattr, "", argsPath("", fd))
}

// Setxattr is setxattr(2); flags are abi.XATTR_CREATE and abi.XATTR_REPLACE.
// EEXIST, ENOATTR, ERANGE for a value over 64 KiB, ENOSPC.
func (c *Client) Setxattr(ctx context.Context, path, name string, value []byte, flags int) error {
	a := argsPaths(path, name, flags)
	a.In = value
	return c.do(ctx, abi.SYS_setxattr, path, a)
}

// Lsetxattr is lsetxattr(2): of a symbolic link itself.
func (c *Client) Lsetxattr(ctx context.Context, path, name string, value []byte, flags int) error {
	a := argsPaths(path, name, flags)
	a.In = value
	return c.do(ctx, abi.SYS_lsetxattr, path, a)
}

// Fsetxattr is fsetxattr(2).
func (c *Client) Fsetxattr(ctx context.Context, fd int, name string, value []byte, flags int) error {
	a := argsPath(name, fd, flags)
	a.In = value
	return c.do(ctx, abi.SYS_fsetxattr, "", a)
}

// Removexattr is removexattr(2). ENOATTR.
func (c *Client) Removexattr(ctx context.Context, path, name string) error {
	return c.do(ctx, abi.SYS_removexattr, path, argsPaths(path, name))
}

// Lremovexattr is lremovexattr(2): of a symbolic link itself.
func (c *Client) Lremovexattr(ctx context.Context, path, name string) error {
	return c.do(ctx, abi.SYS_lremovexattr, path, argsPaths(path, name))
}

// Fremovexattr is fremovexattr(2).
func (c *Client) Fremovexattr(ctx context.Context, fd int, name string) error {
	return c.do(ctx, abi.SYS_fremovexattr, "", argsPath(name, fd))
}
