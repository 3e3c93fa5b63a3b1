package posixtest_test

import (
	"context"
	"strings"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// kernelProc is a process of the kernel.
type kernelProc struct {
	c   *rumpclient.Client
	ctx context.Context
	end context.CancelFunc
}

func (k *kernelProc) Openat(dirfd int, path string, flags int, mode uint32) (int, error) {
	return k.c.Openat(k.ctx, dirfd, path, flags, mode)
}
func (k *kernelProc) Close(fd int) error      { return k.c.Close(k.ctx, fd) }
func (k *kernelProc) Dup(fd int) (int, error) { return k.c.Dup(k.ctx, fd) }
func (k *kernelProc) Getfd(fd int) (bool, error) {
	n, err := k.c.Fcntl(k.ctx, fd, abi.F_GETFD, 0)
	return n&abi.FD_CLOEXEC != 0, err
}
func (k *kernelProc) Setfl(fd, flags int) error {
	_, err := k.c.Fcntl(k.ctx, fd, abi.F_SETFL, flags)
	return err
}
func (k *kernelProc) Read(fd int, p []byte) (int, error)  { return k.c.Read(k.ctx, fd, p) }
func (k *kernelProc) Write(fd int, p []byte) (int, error) { return k.c.Write(k.ctx, fd, p) }
func (k *kernelProc) Pread(fd int, p []byte, off int64) (int, error) {
	return k.c.Pread(k.ctx, fd, p, off)
}
func (k *kernelProc) Pwrite(fd int, p []byte, off int64) (int, error) {
	return k.c.Pwrite(k.ctx, fd, p, off)
}
func (k *kernelProc) Readv(fd int, iov [][]byte) (int, error)  { return k.c.Readv(k.ctx, fd, iov) }
func (k *kernelProc) Writev(fd int, iov [][]byte) (int, error) { return k.c.Writev(k.ctx, fd, iov) }
func (k *kernelProc) Preadv(fd int, iov [][]byte, off int64) (int, error) {
	return k.c.Preadv(k.ctx, fd, iov, off)
}
func (k *kernelProc) Pwritev(fd int, iov [][]byte, off int64) (int, error) {
	return k.c.Pwritev(k.ctx, fd, iov, off)
}
func (k *kernelProc) Lseek(fd int, off int64, whence int) (int64, error) {
	return k.c.Lseek(k.ctx, fd, off, whence)
}
func (k *kernelProc) Ftruncate(fd int, size int64) error       { return k.c.Ftruncate(k.ctx, fd, size) }
func (k *kernelProc) Truncate(path string, size int64) error   { return k.c.Truncate(k.ctx, path, size) }
func (k *kernelProc) Fallocate(fd int, off, n int64) error     { return k.c.Fallocate(k.ctx, fd, off, n) }
func (k *kernelProc) Punch(fd int, off, n int64) error         { return k.c.Fdiscard(k.ctx, fd, off, n) }
func (k *kernelProc) Fsync(fd int) error                       { return k.c.Fsync(k.ctx, fd) }
func (k *kernelProc) Fdatasync(fd int) error                   { return k.c.Fdatasync(k.ctx, fd) }
func (k *kernelProc) Fstat(fd int) (abi.Stat, error)           { return k.c.Fstat(k.ctx, fd) }
func (k *kernelProc) Fchmod(fd int, mode uint32) error         { return k.c.Fchmod(k.ctx, fd, mode) }
func (k *kernelProc) Fchown(fd, uid, gid int) error            { return k.c.Fchown(k.ctx, fd, uid, gid) }
func (k *kernelProc) Statvfs(path string) (abi.Statvfs, error) { return k.c.Statvfs(k.ctx, path) }
func (k *kernelProc) Getdents(fd int, buf []byte) ([]abi.Dirent, error) {
	return k.c.Getdents(k.ctx, fd, buf)
}
func (k *kernelProc) Fstatat(dirfd int, path string, flags int) (abi.Stat, error) {
	return k.c.Fstatat(k.ctx, dirfd, path, flags)
}
func (k *kernelProc) Faccessat(dirfd int, path string, mode, flags int) error {
	return k.c.Faccessat(k.ctx, dirfd, path, mode, flags)
}
func (k *kernelProc) Fchmodat(dirfd int, path string, mode uint32, flags int) error {
	return k.c.Fchmodat(k.ctx, dirfd, path, mode, flags)
}
func (k *kernelProc) Fchownat(dirfd int, path string, uid, gid, flags int) error {
	return k.c.Fchownat(k.ctx, dirfd, path, uid, gid, flags)
}
func (k *kernelProc) Futimens(fd int, atime, mtime abi.Timespec) error {
	return k.c.Futimens(k.ctx, fd, atime, mtime)
}
func (k *kernelProc) Utimensat(dirfd int, path string, atime, mtime abi.Timespec, flags int) error {
	return k.c.Utimensat(k.ctx, dirfd, path, atime, mtime, flags)
}
func (k *kernelProc) Mkdirat(dirfd int, path string, mode uint32) error {
	return k.c.Mkdirat(k.ctx, dirfd, path, mode)
}
func (k *kernelProc) call(num int, path string, v ...int) error {
	a := &abi.Sysargs{}
	a.Path[0] = path
	for i, x := range v {
		a.SetInt(i, x)
	}
	return k.c.Syscall(k.ctx, num, a)
}
func (k *kernelProc) Mknodat(dirfd int, path string, mode uint32, dev abi.Dev) error {
	return k.call(abi.SYS_mknodat, path, dirfd, int(mode), int(dev))
}
func (k *kernelProc) Mkfifoat(dirfd int, path string, mode uint32) error {
	return k.call(abi.SYS_mkfifoat, path, dirfd, int(mode))
}
func (k *kernelProc) Symlinkat(target string, dirfd int, path string) error {
	return k.c.Symlinkat(k.ctx, target, dirfd, path)
}
func (k *kernelProc) Readlinkat(dirfd int, path string) (string, error) {
	return k.c.Readlinkat(k.ctx, dirfd, path)
}
func (k *kernelProc) Linkat(fromfd int, from string, tofd int, to string, flags int) error {
	return k.c.Linkat(k.ctx, fromfd, from, tofd, to, flags)
}
func (k *kernelProc) Unlinkat(dirfd int, path string, flags int) error {
	return k.c.Unlinkat(k.ctx, dirfd, path, flags)
}
func (k *kernelProc) Renameat(fromfd int, from string, tofd int, to string, flags int) error {
	if flags == 0 {
		return k.c.Renameat(k.ctx, fromfd, from, tofd, to)
	}
	return k.c.Renameat2(k.ctx, fromfd, from, tofd, to, flags)
}
func (k *kernelProc) Setxattr(path, name string, value []byte, flags int) error {
	return k.c.Setxattr(k.ctx, path, name, value, flags)
}
func (k *kernelProc) Getxattr(path, name string) ([]byte, error) {
	return k.c.Getxattr(k.ctx, path, name)
}
func (k *kernelProc) Listxattr(path string) ([]string, error) {
	b, err := k.c.Listxattr(k.ctx, path)
	if len(b) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"), err
}
func (k *kernelProc) Removexattr(path, name string) error  { return k.c.Removexattr(k.ctx, path, name) }
func (k *kernelProc) Lock(fd, cmd int, fl abi.Flock) error { return k.c.Lock(k.ctx, fd, cmd, fl) }
func (k *kernelProc) Getlk(fd int, fl abi.Flock) (abi.Flock, error) {
	return k.c.Getlk(k.ctx, fd, fl)
}
func (k *kernelProc) Flock(fd, op int) error            { return k.c.Flock(k.ctx, fd, op) }
func (k *kernelProc) Chdir(path string) error           { return k.c.Chdir(k.ctx, path) }
func (k *kernelProc) Fchdir(fd int) error               { return k.c.Fchdir(k.ctx, fd) }
func (k *kernelProc) Chroot(path string) error          { return k.c.Chroot(k.ctx, path) }
func (k *kernelProc) Getcwd() (string, error)           { return k.c.Getcwd(k.ctx) }
func (k *kernelProc) Umask(mask uint32) (uint32, error) { return k.c.Umask(k.ctx, mask) }
func (k *kernelProc) Setreuid(r, e int) error           { return k.c.Setreuid(k.ctx, r, e) }
func (k *kernelProc) SetFsize(n int64) error {
	if n < 0 {
		n = abi.RLIM_INFINITY
	}
	r, err := k.c.Getrlimit(k.ctx, abi.RLIMIT_FSIZE)
	if err != nil {
		return err
	}
	r.Cur = n
	return k.c.Setrlimit(k.ctx, abi.RLIMIT_FSIZE, r)
}
func (k *kernelProc) Bind(path string) error {
	s, err := k.c.Socket(k.ctx, abi.AF_LOCAL, abi.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	return k.c.Bind(k.ctx, s, abi.SockaddrUnix(path))
}
func (k *kernelProc) Exit() {
	k.c.Exit()
	k.end()
}
