package posixtest

import "github.com/rumpus-kernel/rumpus/modapi/abi"

// Sys is one process: its system calls, with NetBSD's flags, numbers and
// structures. Errors are, or wrap, an abi.Errno. Calls of one Sys are made one
// at a time, those of two beside each other.
type Sys interface {
	Openat(dirfd int, path string, flags int, mode uint32) (int, error)
	Close(fd int) error
	Dup(fd int) (int, error)
	Getfd(fd int) (cloexec bool, err error)
	Setfl(fd, flags int) error // O_APPEND, O_NONBLOCK
	Read(fd int, p []byte) (int, error)
	Write(fd int, p []byte) (int, error)
	Pread(fd int, p []byte, off int64) (int, error)
	Pwrite(fd int, p []byte, off int64) (int, error)
	Readv(fd int, iov [][]byte) (int, error)
	Writev(fd int, iov [][]byte) (int, error)
	Preadv(fd int, iov [][]byte, off int64) (int, error)
	Pwritev(fd int, iov [][]byte, off int64) (int, error)
	Lseek(fd int, off int64, whence int) (int64, error)
	Ftruncate(fd int, size int64) error
	Truncate(path string, size int64) error
	Fallocate(fd int, off, n int64) error // posix_fallocate
	Punch(fd int, off, n int64) error     // fdiscard
	Fsync(fd int) error
	Fdatasync(fd int) error
	Getdents(fd int, buf []byte) ([]abi.Dirent, error)

	Fstat(fd int) (abi.Stat, error)
	Fstatat(dirfd int, path string, flags int) (abi.Stat, error)
	Faccessat(dirfd int, path string, mode, flags int) error
	Fchmod(fd int, mode uint32) error
	Fchmodat(dirfd int, path string, mode uint32, flags int) error
	Fchown(fd, uid, gid int) error
	Fchownat(dirfd int, path string, uid, gid, flags int) error
	Futimens(fd int, atime, mtime abi.Timespec) error
	Utimensat(dirfd int, path string, atime, mtime abi.Timespec, flags int) error
	Statvfs(path string) (abi.Statvfs, error)

	Mkdirat(dirfd int, path string, mode uint32) error
	Mknodat(dirfd int, path string, mode uint32, dev abi.Dev) error
	Mkfifoat(dirfd int, path string, mode uint32) error
	Symlinkat(target string, dirfd int, path string) error
	Readlinkat(dirfd int, path string) (string, error)
	Linkat(fromfd int, from string, tofd int, to string, flags int) error
	Unlinkat(dirfd int, path string, flags int) error
	Renameat(fromfd int, from string, tofd int, to string, flags int) error

	Setxattr(path, name string, value []byte, flags int) error
	Getxattr(path, name string) ([]byte, error)
	Listxattr(path string) ([]string, error)
	Removexattr(path, name string) error

	Lock(fd, cmd int, fl abi.Flock) error // F_SETLK, F_SETLKW
	Getlk(fd int, fl abi.Flock) (abi.Flock, error)
	Flock(fd, op int) error

	Chdir(path string) error
	Fchdir(fd int) error
	Chroot(path string) error
	Getcwd() (string, error)
	Umask(mask uint32) (uint32, error)
	Setreuid(r, e int) error
	SetFsize(n int64) error // RLIMIT_FSIZE, -1 takes it away; SIGXFSZ is ignored
	Bind(path string) error // makes a local socket and its name
	Exit()                  // closes everything and ends the process
}

// Kind says by whose book a file system is judged where systems differ.
type Kind int

// The kinds.
const (
	BSD   Kind = iota // this kernel, by its own system calls
	Linux             // a file system of Linux's
	FUSE              // this kernel's files through Linux's system calls
)

// World is a file system, and the system that it is reached by.
type World struct {
	Name string
	Kind Kind
	// New makes a process with these real and effective ids. The first one is
	// made with those of the caller. It fails the test itself.
	New func(uid, gid uint32, groups ...uint32) Sys
	// Dir is an empty directory of the file system, open to all; cases make
	// theirs there.
	Dir string
	// Small is a directory of a file system of a few megabytes that nobody else
	// uses; "small" is to be in Lacks if there is none.
	Small string
	// Root says that New can make processes of any user, and the super-user's
	// has all rights; else cases that need that are skipped.
	Root bool
	// Lacks names what the file system is known not to have, with the reason:
	// cases that need it are skipped. See Case.Needs.
	Lacks map[string]string
}
