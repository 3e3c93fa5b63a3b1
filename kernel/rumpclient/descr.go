package rumpclient

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Open is open(2): a descriptor for path, with O_* flags; mode counts with
// O_CREAT.
func (c *Client) Open(ctx context.Context, path string, flags int, mode uint32) (int, error) {
	return c.run(ctx, abi.SYS_open, path, argsPath(path, flags, int(mode)))
}

// Openat is openat(2): as Open, relative to the directory dirfd or abi.AT_FDCWD.
func (c *Client) Openat(ctx context.Context, dirfd int, path string, flags int, mode uint32) (int, error) {
	return c.run(ctx, abi.SYS_openat, path, argsPath(path, dirfd, flags, int(mode)))
}

// Close is close(2).
func (c *Client) Close(ctx context.Context, fd int) error {
	return c.do(ctx, abi.SYS_close, "", args(fd))
}

// transfer runs step over p in pieces of at most abi.MaxTransfer bytes, until p
// is done, a piece comes back short or fails. A failure after the first byte is
// left for the next call to find.
func transfer(p []byte, step func(p []byte, done int) (int, error)) (int, error) {
	done := 0
	for {
		piece := p[done:min(len(p), done+abi.MaxTransfer)]
		n, err := step(piece, done)
		if err != nil {
			if done > 0 {
				return done, nil
			}
			return 0, err
		}
		done += n
		if n < len(piece) || done == len(p) {
			return done, nil
		}
	}
}

func (c *Client) readPiece(ctx context.Context, num int, a *abi.Sysargs, p []byte) (int, error) {
	n, _, err := c.out(ctx, num, "", a, p)
	if err != nil {
		return 0, err
	}
	return n, nil
}

func (c *Client) writePiece(ctx context.Context, num int, a *abi.Sysargs, p []byte) (int, error) {
	a.In = p
	n, err := c.run(ctx, num, "", a)
	return min(max(n, 0), len(p)), err
}

// Read is read(2); 0 bytes without an error is the end of the file.
func (c *Client) Read(ctx context.Context, fd int, p []byte) (int, error) {
	if len(p) <= abi.MaxTransfer {
		return c.readPiece(ctx, abi.SYS_read, args(fd), p)
	}
	return transfer(p, func(p []byte, _ int) (int, error) { return c.readPiece(ctx, abi.SYS_read, args(fd), p) })
}

// Write is write(2). It may write less than p without an error.
func (c *Client) Write(ctx context.Context, fd int, p []byte) (int, error) {
	if len(p) <= abi.MaxTransfer {
		return c.writePiece(ctx, abi.SYS_write, args(fd), p)
	}
	return transfer(p, func(p []byte, _ int) (int, error) { return c.writePiece(ctx, abi.SYS_write, args(fd), p) })
}

// Pread is pread(2): Read at off, the descriptor's offset unchanged.
func (c *Client) Pread(ctx context.Context, fd int, p []byte, off int64) (int, error) {
	if len(p) <= abi.MaxTransfer {
		return c.readPiece(ctx, abi.SYS_pread, args(fd, int(off)), p)
	}
	return transfer(p, func(p []byte, done int) (int, error) {
		return c.readPiece(ctx, abi.SYS_pread, args(fd, int(off)+done), p)
	})
}

// Pwrite is pwrite(2): Write at off, the descriptor's offset unchanged.
func (c *Client) Pwrite(ctx context.Context, fd int, p []byte, off int64) (int, error) {
	if len(p) <= abi.MaxTransfer {
		return c.writePiece(ctx, abi.SYS_pwrite, args(fd, int(off)), p)
	}
	return transfer(p, func(p []byte, done int) (int, error) {
		return c.writePiece(ctx, abi.SYS_pwrite, args(fd, int(off)+done), p)
	})
}

// Lseek is lseek(2): the new offset from the start of the file, in bytes.
func (c *Client) Lseek(ctx context.Context, fd int, off int64, whence int) (int64, error) {
	n, err := c.run(ctx, abi.SYS_lseek, "", args(fd, int(off), whence))
	return int64(n), err
}

// Dup is dup(2).
func (c *Client) Dup(ctx context.Context, fd int) (int, error) {
	return c.run(ctx, abi.SYS_dup, "", args(fd))
}

// Dup2 is dup2(2).
func (c *Client) Dup2(ctx context.Context, from, to int) (int, error) {
	return c.run(ctx, abi.SYS_dup2, "", args(from, to))
}

// Dup3 is dup3(2), with O_CLOEXEC, O_NONBLOCK and O_NOSIGPIPE as flags.
func (c *Client) Dup3(ctx context.Context, from, to, flags int) (int, error) {
	return c.run(ctx, abi.SYS_dup3, "", args(from, to, flags))
}

// Fcntl is fcntl(2) for the commands with an integer argument.
func (c *Client) Fcntl(ctx context.Context, fd, cmd, arg int) (int, error) {
	return c.run(ctx, abi.SYS_fcntl, "", args(fd, cmd, arg))
}

// SetNonblock sets or clears O_NONBLOCK.
func (c *Client) SetNonblock(ctx context.Context, fd int, on bool) error {
	fl, err := c.Fcntl(ctx, fd, abi.F_GETFL, 0)
	if err != nil {
		return err
	}
	fl &^= abi.O_NONBLOCK
	if on {
		fl |= abi.O_NONBLOCK
	}
	_, err = c.Fcntl(ctx, fd, abi.F_SETFL, fl)
	return err
}

// Ioctl is ioctl(2). arg is read and written as the command says in its number
// (abi.IOCDir), abi.IOCParmLen(cmd) bytes of it; EINVAL if arg is shorter.
func (c *Client) Ioctl(ctx context.Context, fd int, cmd uint32, arg []byte) (int, error) {
	a := args(fd, int(cmd))
	n := abi.IOCParmLen(cmd)
	dir := abi.IOCDir(cmd)
	if dir&abi.IOC_INOUT == 0 {
		n = 0
	}
	if len(arg) < n {
		free(a)
		return 0, fail(abi.SYS_ioctl, "", abi.EINVAL)
	}
	if dir&abi.IOC_IN != 0 {
		a.In = arg[:n]
	}
	if dir&abi.IOC_OUT != 0 {
		a.Out = arg[:n]
	}
	return c.run(ctx, abi.SYS_ioctl, "", a)
}

// Poll is poll(2): it fills Revents and answers how many are not 0. The timeout
// is in milliseconds, abi.INFTIM waits until ctx ends.
func (c *Client) Poll(ctx context.Context, fds []abi.Pollfd, timeout int) (int, error) {
	a := args(timeout)
	a.In = abi.AppendPollfds(nil, fds)
	p := make([]byte, len(a.In))
	n, r, err := c.out(ctx, abi.SYS_poll, "", a, p)
	if err != nil {
		return 0, err
	}
	if n < len(p) {
		if r == 0 { // nothing is ready, so nothing was copied out
			for i := range fds {
				fds[i].Revents = 0
			}
			return 0, nil
		}
		return 0, answer(abi.SYS_poll, "", abi.EINVAL)
	}
	got, err := abi.ParsePollfds(p)
	if err != nil {
		return 0, answer(abi.SYS_poll, "", err)
	}
	for i := range fds {
		fds[i].Revents = got[i].Revents
	}
	return int(r), nil
}

// Pipe2 is pipe2(2): the end to read from and the end to write to.
func (c *Client) Pipe2(ctx context.Context, flags int) (r, w int, err error) {
	a := args(flags)
	err = c.k.Syscall(ctx, abi.SYS_pipe2, a)
	r, w = int(a.R[0]), int(a.R[1])
	free(a)
	return r, w, fail(abi.SYS_pipe2, "", err)
}

// Fsync is fsync(2).
func (c *Client) Fsync(ctx context.Context, fd int) error {
	return c.do(ctx, abi.SYS_fsync, "", args(fd))
}

// Fadvise is posix_fadvise(2): what will be done with n bytes of the file from
// off on (0: to its end), POSIX_FADV_*.
func (c *Client) Fadvise(ctx context.Context, fd int, off, n int64, advice int) error {
	return c.do(ctx, abi.SYS_posix_fadvise, "", args(fd, int(off), int(n), advice))
}

// Fdatasync is fdatasync(2).
func (c *Client) Fdatasync(ctx context.Context, fd int) error {
	return c.do(ctx, abi.SYS_fdatasync, "", args(fd))
}

// Flock is flock(2), with a LOCK_* operation.
func (c *Client) Flock(ctx context.Context, fd, op int) error {
	return c.do(ctx, abi.SYS_flock, "", args(fd, op))
}

// Fstat is fstat(2).
func (c *Client) Fstat(ctx context.Context, fd int) (abi.Stat, error) {
	return c.stat(ctx, abi.SYS_fstat, "", args(fd))
}

// Fstatvfs is fstatvfs(2).
func (c *Client) Fstatvfs(ctx context.Context, fd int) (abi.Statvfs, error) {
	return c.statvfs(ctx, abi.SYS_fstatvfs1, "", args(fd, abi.MNT_WAIT))
}

// Ftruncate is ftruncate(2).
func (c *Client) Ftruncate(ctx context.Context, fd int, size int64) error {
	return c.do(ctx, abi.SYS_ftruncate, "", args(fd, int(size)))
}

// Fchmod is fchmod(2).
func (c *Client) Fchmod(ctx context.Context, fd int, mode uint32) error {
	return c.do(ctx, abi.SYS_fchmod, "", args(fd, int(mode)))
}

// Fchown is fchown(2); -1 leaves an id as it is.
func (c *Client) Fchown(ctx context.Context, fd, uid, gid int) error {
	return c.do(ctx, abi.SYS_fchown, "", args(fd, uid, gid))
}

// Fchdir is fchdir(2).
func (c *Client) Fchdir(ctx context.Context, fd int) error {
	return c.do(ctx, abi.SYS_fchdir, "", args(fd))
}

// Futimens is futimens(2); see Utimensat for the times.
func (c *Client) Futimens(ctx context.Context, fd int, atime, mtime abi.Timespec) error {
	a := args(fd)
	a.In = times(atime, mtime)
	return c.do(ctx, abi.SYS_futimens, "", a)
}

func times(atime, mtime abi.Timespec) []byte {
	return abi.AppendTimespec(abi.AppendTimespec(make([]byte, 0, abi.TimesSize), atime), mtime)
}
