package rumpclient

import (
	"context"
	"slices"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// maxStatvfs is the longest coded Statvfs, in bytes.
const maxStatvfs = 80 + 3*(2+abi.PATH_MAX)

func (c *Client) statvfs(ctx context.Context, num int, path string, a *abi.Sysargs) (sv abi.Statvfs, err error) {
	p := make([]byte, maxStatvfs)
	n, _, err := c.out(ctx, num, path, a, p)
	if err != nil {
		return sv, err
	}
	if _, err := abi.ParseStatvfs(p[:n], &sv); err != nil {
		return sv, answer(num, path, err)
	}
	return sv, nil
}

// Statvfs is statvfs(2): the file system that path is on.
func (c *Client) Statvfs(ctx context.Context, path string) (abi.Statvfs, error) {
	return c.statvfs(ctx, abi.SYS_statvfs1, path, argsPath(path, abi.MNT_WAIT))
}

// Getvfsstat is getvfsstat(2): all mounts. flags is abi.MNT_WAIT, or
// abi.MNT_NOWAIT for what is known without asking the file systems.
func (c *Client) Getvfsstat(ctx context.Context, flags int) ([]abi.Statvfs, error) {
	count, err := c.run(ctx, abi.SYS_getvfsstat, "", args(flags))
	if err != nil {
		return nil, err
	}
	count = min(max(count, 0), 1<<16)
	p := make([]byte, min((count+8)*maxStatvfs, abi.MaxTransfer))
	n, _, err := c.out(ctx, abi.SYS_getvfsstat, "", args(flags), p)
	if err != nil {
		return nil, err
	}
	var all []abi.Statvfs
	for p = p[:n]; len(p) > 0; {
		var sv abi.Statvfs
		n, err := abi.ParseStatvfs(p, &sv)
		if err != nil {
			return all, answer(abi.SYS_getvfsstat, "", err)
		}
		all = append(all, sv)
		p = p[n:]
	}
	return all, nil
}

// Mount mounts a file system of a type at dir, with MNT_* flags and options as
// text (mountx). source is what the type mounts, "" if nothing.
func (c *Client) Mount(ctx context.Context, fstype, dir string, flags int, source string, opts map[string]string) error {
	in := []byte(source)
	keys := make([]string, 0, len(opts))
	for k := range opts {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		in = append(in, 0)
		in = append(in, k...)
		in = append(in, '=')
		in = append(in, opts[k]...)
	}
	a := argsPaths(fstype, dir, flags)
	a.In = in
	err := c.k.Syscall(ctx, abi.SYS_mountx, a)
	free(a)
	if err != nil {
		return failOp("mount", dir, err)
	}
	return nil
}

// Unmount is unmount(2), with abi.MNT_FORCE even if it is in use.
func (c *Client) Unmount(ctx context.Context, dir string, flags int) error {
	return c.do(ctx, abi.SYS_unmount, dir, argsPath(dir, flags))
}

// Sync is sync(2).
func (c *Client) Sync(ctx context.Context) error {
	return c.do(ctx, abi.SYS_sync, "", args())
}

// Syncfs writes back the one file system that fd is on.
func (c *Client) Syncfs(ctx context.Context, fd int) error {
	return c.do(ctx, abi.SYS_syncfs, "", args(fd))
}
