package rumpclient

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Mkdir is mkdir(2).
func (c *Client) Mkdir(ctx context.Context, path string, mode uint32) error {
	return c.do(ctx, abi.SYS_mkdir, path, argsPath(path, int(mode)))
}

// Mkdirat is mkdirat(2).
func (c *Client) Mkdirat(ctx context.Context, dirfd int, path string, mode uint32) error {
	return c.do(ctx, abi.SYS_mkdirat, path, argsPath(path, dirfd, int(mode)))
}

// Rmdir is rmdir(2).
func (c *Client) Rmdir(ctx context.Context, path string) error {
	return c.do(ctx, abi.SYS_rmdir, path, argsPath(path))
}

// Unlink is unlink(2).
func (c *Client) Unlink(ctx context.Context, path string) error {
	return c.do(ctx, abi.SYS_unlink, path, argsPath(path))
}

// Unlinkat is unlinkat(2), with abi.AT_REMOVEDIR for a directory.
func (c *Client) Unlinkat(ctx context.Context, dirfd int, path string, flags int) error {
	return c.do(ctx, abi.SYS_unlinkat, path, argsPath(path, dirfd, flags))
}

// Rename is rename(2).
func (c *Client) Rename(ctx context.Context, from, to string) error {
	return c.do(ctx, abi.SYS_rename, from, argsPaths(from, to))
}

// Renameat is renameat(2).
func (c *Client) Renameat(ctx context.Context, fromfd int, from string, tofd int, to string) error {
	return c.do(ctx, abi.SYS_renameat, from, argsPaths(from, to, fromfd, tofd))
}

// Renameat2 is Renameat with RENAME_* flags.
func (c *Client) Renameat2(ctx context.Context, fromfd int, from string, tofd int, to string, flags int) error {
	return c.do(ctx, abi.SYS_renameat2, from, argsPaths(from, to, fromfd, tofd, flags))
}

// Link is link(2): a further name, to, for the file from.
func (c *Client) Link(ctx context.Context, from, to string) error {
	return c.do(ctx, abi.SYS_link, to, argsPaths(from, to))
}

// Linkat is linkat(2), with abi.AT_SYMLINK_FOLLOW.
func (c *Client) Linkat(ctx context.Context, fromfd int, from string, tofd int, to string, flags int) error {
	return c.do(ctx, abi.SYS_linkat, to, argsPaths(from, to, fromfd, tofd, flags))
}

// Symlink is symlink(2): path becomes a symbolic link with text target.
func (c *Client) Symlink(ctx context.Context, target, path string) error {
	return c.do(ctx, abi.SYS_symlink, path, argsPaths(target, path))
}

// Symlinkat is symlinkat(2).
func (c *Client) Symlinkat(ctx context.Context, target string, dirfd int, path string) error {
	return c.do(ctx, abi.SYS_symlinkat, path, argsPaths(target, path, dirfd))
}

// Readlink is readlink(2): the text of a symbolic link.
func (c *Client) Readlink(ctx context.Context, path string) (string, error) {
	p := make([]byte, abi.PATH_MAX)
	n, _, err := c.out(ctx, abi.SYS_readlink, path, argsPath(path), p)
	return string(p[:n]), err
}

// Readlinkat is readlinkat(2).
func (c *Client) Readlinkat(ctx context.Context, dirfd int, path string) (string, error) {
	p := make([]byte, abi.PATH_MAX)
	n, _, err := c.out(ctx, abi.SYS_readlinkat, path, argsPath(path, dirfd), p)
	return string(p[:n]), err
}

// Mknod is mknod(2); mode includes the type.
func (c *Client) Mknod(ctx context.Context, path string, mode uint32, dev abi.Dev) error {
	return c.do(ctx, abi.SYS_mknod, path, argsPath(path, int(mode), int(dev)))
}

// Mkfifo is mkfifo(2).
func (c *Client) Mkfifo(ctx context.Context, path string, mode uint32) error {
	return c.do(ctx, abi.SYS_mkfifo, path, argsPath(path, int(mode)))
}

var statPool = sync.Pool{New: func() any { return new([abi.StatSize]byte) }}

func (c *Client) stat(ctx context.Context, num int, path string, a *abi.Sysargs) (st abi.Stat, err error) {
	p := statPool.Get().(*[abi.StatSize]byte)
	defer statPool.Put(p)
	n, _, err := c.out(ctx, num, path, a, p[:])
	if err != nil {
		return st, err
	}
	if err := abi.ParseStat(p[:n], &st); err != nil {
		return st, answer(num, path, err)
	}
	return st, nil
}

// Stat is stat(2).
func (c *Client) Stat(ctx context.Context, path string) (abi.Stat, error) {
	return c.stat(ctx, abi.SYS_stat, path, argsPath(path))
}

// Lstat is lstat(2): a symbolic link itself.
func (c *Client) Lstat(ctx context.Context, path string) (abi.Stat, error) {
	return c.stat(ctx, abi.SYS_lstat, path, argsPath(path))
}

// Fstatat is fstatat(2), with abi.AT_SYMLINK_NOFOLLOW.
func (c *Client) Fstatat(ctx context.Context, dirfd int, path string, flags int) (abi.Stat, error) {
	return c.stat(ctx, abi.SYS_fstatat, path, argsPath(path, dirfd, flags))
}

// Chmod is chmod(2).
func (c *Client) Chmod(ctx context.Context, path string, mode uint32) error {
	return c.do(ctx, abi.SYS_chmod, path, argsPath(path, int(mode)))
}

// Lchmod is lchmod(2): a symbolic link itself.
func (c *Client) Lchmod(ctx context.Context, path string, mode uint32) error {
	return c.do(ctx, abi.SYS_lchmod, path, argsPath(path, int(mode)))
}

// Fchmodat is fchmodat(2), with abi.AT_SYMLINK_NOFOLLOW.
func (c *Client) Fchmodat(ctx context.Context, dirfd int, path string, mode uint32, flags int) error {
	return c.do(ctx, abi.SYS_fchmodat, path, argsPath(path, dirfd, int(mode), flags))
}

// Chown is chown(2); -1 leaves an id as it is.
func (c *Client) Chown(ctx context.Context, path string, uid, gid int) error {
	return c.do(ctx, abi.SYS_chown, path, argsPath(path, uid, gid))
}

// Lchown is lchown(2): a symbolic link itself.
func (c *Client) Lchown(ctx context.Context, path string, uid, gid int) error {
	return c.do(ctx, abi.SYS_lchown, path, argsPath(path, uid, gid))
}

// Fchownat is fchownat(2), with abi.AT_SYMLINK_NOFOLLOW.
func (c *Client) Fchownat(ctx context.Context, dirfd int, path string, uid, gid, flags int) error {
	return c.do(ctx, abi.SYS_fchownat, path, argsPath(path, dirfd, uid, gid, flags))
}

// Utimensat is utimensat(2), with abi.AT_SYMLINK_NOFOLLOW. A time whose Nsec is
// abi.UTIME_NOW is the current one, with abi.UTIME_OMIT it stays as it is.
func (c *Client) Utimensat(ctx context.Context, dirfd int, path string, atime, mtime abi.Timespec, flags int) error {
	a := argsPath(path, dirfd, flags)
	a.In = times(atime, mtime)
	return c.do(ctx, abi.SYS_utimensat, path, a)
}

// Truncate is truncate(2).
func (c *Client) Truncate(ctx context.Context, path string, size int64) error {
	return c.do(ctx, abi.SYS_truncate, path, argsPath(path, int(size)))
}

// Access is access(2): by the real ids, with R_OK, W_OK, X_OK or F_OK.
func (c *Client) Access(ctx context.Context, path string, mode int) error {
	return c.do(ctx, abi.SYS_access, path, argsPath(path, mode))
}

// Faccessat is faccessat(2), with abi.AT_EACCESS and abi.AT_SYMLINK_NOFOLLOW.
func (c *Client) Faccessat(ctx context.Context, dirfd int, path string, mode, flags int) error {
	return c.do(ctx, abi.SYS_faccessat, path, argsPath(path, dirfd, mode, flags))
}

// Chdir is chdir(2).
func (c *Client) Chdir(ctx context.Context, path string) error {
	return c.do(ctx, abi.SYS_chdir, path, argsPath(path))
}

// Chroot is chroot(2).
func (c *Client) Chroot(ctx context.Context, path string) error {
	return c.do(ctx, abi.SYS_chroot, path, argsPath(path))
}

// Getcwd is getcwd(3).
func (c *Client) Getcwd(ctx context.Context) (string, error) {
	p := make([]byte, abi.PATH_MAX)
	n, _, err := c.out(ctx, abi.SYS___getcwd, "", args(), p)
	s, _, _ := bytes.Cut(p[:n], []byte{0})
	return string(s), err
}

// Umask is umask(2): it sets the mask and answers the old one.
func (c *Client) Umask(ctx context.Context, mask uint32) (uint32, error) {
	n, err := c.run(ctx, abi.SYS_umask, "", args(int(mask)))
	return uint32(n), err
}

// Getdents is getdents(2): the next entries of the directory fd, as many as fit
// into buf, decoded; none at the end. Their Cookie is 0: the descriptor's offset
// says where to go on, so keep Lseek(fd, 0, SEEK_CUR) to come back to a place,
// and Lseek(fd, 0, SEEK_SET) starts anew.
func (c *Client) Getdents(ctx context.Context, fd int, buf []byte) ([]abi.Dirent, error) {
	buf = buf[:min(len(buf), abi.MaxTransfer)]
	n, _, err := c.out(ctx, abi.SYS_getdents, "", args(fd), buf)
	if err != nil {
		return nil, err
	}
	ds, err := abi.ParseDirents(buf[:n])
	if err != nil {
		return nil, answer(abi.SYS_getdents, "", err)
	}
	return ds, nil
}

// ReadDir lists a whole directory in its own order, without "." and "..".
func (c *Client) ReadDir(ctx context.Context, path string) ([]abi.Dirent, error) {
	fd, err := c.Open(ctx, path, abi.O_RDONLY|abi.O_DIRECTORY|abi.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer c.Close(context.WithoutCancel(ctx), fd)
	buf := make([]byte, 64<<10)
	var all []abi.Dirent
	for {
		ds, err := c.Getdents(ctx, fd, buf)
		if e, ok := errors.AsType[*Error](err); ok {
			e.Path = path
		}
		if err != nil || len(ds) == 0 {
			return all, err
		}
		for _, d := range ds {
			if d.Name != "." && d.Name != ".." {
				all = append(all, d)
			}
		}
	}
}
