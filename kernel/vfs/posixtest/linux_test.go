package posixtest_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/host/export/linuxabi"
	"github.com/rumpus-kernel/rumpus/kernel/vfs/posixtest"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// linuxProc is a process of Linux: a thread with ids, descriptors, a working
// directory, a umask and record locks of its own, which end with it. What a
// thread cannot have for itself is only RLIMIT_FSIZE. Its descriptors begin as
// copies of the program's: Go's runtime may use its own ones from any thread.
type linuxProc struct {
	calls chan func()
	done  chan struct{}
	once  sync.Once
	fds   map[int]bool // opened by the process; the thread's
	fsize unix.Rlimit  // what it was
	cut   bool
}

// prepare is what has to be so before the first thread is a process: the runtime
// has its descriptors for waiting, which come with the first pipe.
var prepare = sync.OnceFunc(func() {
	signal.Ignore(syscall.SIGXFSZ)
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
})

func newLinuxProc(t testing.TB, uid, gid uint32, groups []uint32) *linuxProc {
	t.Helper()
	prepare()
	l := &linuxProc{calls: make(chan func()), done: make(chan struct{}), fds: map[int]bool{}}
	ready := make(chan error, 1)
	go func() {
		defer close(l.done)
		runtime.LockOSThread() // and never unlocked: the thread ends here
		err := become(uid, gid, groups)
		ready <- err
		if err != nil {
			return
		}
		for fn := range l.calls {
			fn()
		}
		unix.Chdir("/")
		for fd := range l.fds {
			unix.Close(fd)
		}
	}()
	if err := <-ready; err != nil {
		t.Fatalf("a thread as a process: %v", err)
	}
	return l
}

// become makes the thread a process of its own.
func become(uid, gid uint32, groups []uint32) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_FILES); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if os.Geteuid() != 0 {
		return nil // the caller's own ids
	}
	gs := make([]uint32, len(groups)+1)
	copy(gs, groups)
	// The raw calls are the thread's alone; syscall's are all threads'.
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&gs[0])), 0); e != 0 {
		return os.NewSyscallError("setgroups", e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); e != 0 {
		return os.NewSyscallError("setresgid", e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
		return os.NewSyscallError("setresuid", e)
	}
	return nil
}

// do runs fn on the thread.
func (l *linuxProc) do(fn func() error) error {
	var err error
	ran := make(chan struct{})
	select {
	case l.calls <- func() { err = fn(); close(ran) }:
	case <-l.done:
		return abi.ESRCH
	}
	<-ran
	return bsdErr(err)
}

func bsdErr(err error) error {
	var e syscall.Errno
	if errors.As(err, &e) {
		return linuxabi.FromErrno(e)
	}
	return err
}

func (l *linuxProc) num(fn func() (int, error)) (n int, err error) {
	err = l.do(func() (err error) { n, err = fn(); return err })
	return n, err
}

func at(fd int) int {
	if fd == abi.AT_FDCWD {
		return unix.AT_FDCWD
	}
	return fd
}

func atFlags(fl int) int {
	r := 0
	for _, f := range []struct{ bsd, linux int }{
		{abi.AT_EACCESS, unix.AT_EACCESS}, {abi.AT_SYMLINK_NOFOLLOW, unix.AT_SYMLINK_NOFOLLOW},
		{abi.AT_SYMLINK_FOLLOW, unix.AT_SYMLINK_FOLLOW}, {abi.AT_REMOVEDIR, unix.AT_REMOVEDIR},
	} {
		if fl&f.bsd != 0 {
			r |= f.linux
		}
	}
	return r
}

// restart repeats a call that a signal of Go's runtime has interrupted.
func restart(fn func() error) error {
	for {
		if err := fn(); err != unix.EINTR {
			return err
		}
	}
}

func (l *linuxProc) Openat(dirfd int, path string, flags int, mode uint32) (int, error) {
	return l.num(func() (fd int, err error) {
		err = restart(func() (err error) {
			fd, err = unix.Openat(at(dirfd), path, linuxabi.FromOpenFlags(flags), mode)
			return err
		})
		return l.opened(fd, err)
	})
}

// opened notes a descriptor as the process's own.
func (l *linuxProc) opened(fd int, err error) (int, error) {
	if err == nil {
		l.fds[fd] = true
	}
	return fd, err
}

// Close closes only what the process has opened.
func (l *linuxProc) Close(fd int) error {
	return l.do(func() error {
		if !l.fds[fd] {
			return unix.EBADF
		}
		delete(l.fds, fd)
		return unix.Close(fd)
	})
}

func (l *linuxProc) Dup(fd int) (int, error) {
	return l.num(func() (int, error) { return l.opened(unix.Dup(fd)) })
}

func (l *linuxProc) Getfd(fd int) (bool, error) {
	n, err := l.num(func() (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0) })
	return n&unix.FD_CLOEXEC != 0, err
}

func (l *linuxProc) Setfl(fd, flags int) error {
	return l.do(func() error {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, linuxabi.FromOpenFlags(flags))
		return err
	})
}

func (l *linuxProc) Read(fd int, p []byte) (int, error) {
	return l.num(func() (n int, err error) {
		err = restart(func() (err error) { n, err = unix.Read(fd, p); return err })
		return n, err
	})
}

func (l *linuxProc) Write(fd int, p []byte) (int, error) {
	return l.num(func() (int, error) { return unix.Write(fd, p) })
}

func (l *linuxProc) Pread(fd int, p []byte, off int64) (int, error) {
	return l.num(func() (int, error) { return unix.Pread(fd, p, off) })
}

func (l *linuxProc) Pwrite(fd int, p []byte, off int64) (int, error) {
	return l.num(func() (int, error) { return unix.Pwrite(fd, p, off) })
}

func (l *linuxProc) Readv(fd int, iov [][]byte) (int, error) {
	return l.num(func() (int, error) { return unix.Readv(fd, iov) })
}

func (l *linuxProc) Writev(fd int, iov [][]byte) (int, error) {
	return l.num(func() (int, error) { return unix.Writev(fd, iov) })
}

func (l *linuxProc) Preadv(fd int, iov [][]byte, off int64) (int, error) {
	return l.num(func() (int, error) { return unix.Preadv(fd, iov, off) })
}

func (l *linuxProc) Pwritev(fd int, iov [][]byte, off int64) (int, error) {
	return l.num(func() (int, error) { return unix.Pwritev(fd, iov, off) })
}

func (l *linuxProc) Lseek(fd int, off int64, whence int) (n int64, err error) {
	err = l.do(func() (err error) { n, err = unix.Seek(fd, off, whence); return err }) // the numbers are the same
	return n, err
}

func (l *linuxProc) Ftruncate(fd int, size int64) error {
	return l.do(func() error { return unix.Ftruncate(fd, size) })
}

func (l *linuxProc) Truncate(path string, size int64) error {
	return l.do(func() error { return unix.Truncate(path, size) })
}

func (l *linuxProc) Fallocate(fd int, off, n int64) error {
	return l.do(func() error { return unix.Fallocate(fd, 0, off, n) })
}

func (l *linuxProc) Punch(fd int, off, n int64) error {
	return l.do(func() error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}

func (l *linuxProc) Fsync(fd int) error     { return l.do(func() error { return unix.Fsync(fd) }) }
func (l *linuxProc) Fdatasync(fd int) error { return l.do(func() error { return unix.Fdatasync(fd) }) }

func (l *linuxProc) Getdents(fd int, buf []byte) (ds []abi.Dirent, err error) {
	n, err := l.num(func() (int, error) { return unix.Getdents(fd, buf) })
	// struct linux_dirent64: u64 number, s64 offset, u16 length, u8 type, name.
	for b := buf[:max(n, 0)]; len(b) > 19; {
		reclen := int(binary.NativeEndian.Uint16(b[16:]))
		name, _, _ := bytes.Cut(b[19:reclen], []byte{0})
		ds = append(ds, abi.Dirent{Fileid: abi.Fileid(binary.NativeEndian.Uint64(b)), Type: abi.ModeType(uint32(b[18]) << 12), Name: string(name)})
		b = b[reclen:]
	}
	return ds, err
}

// stat asks by statx, which has the time of birth too.
func (l *linuxProc) stat(fd int, path string, flags int) (st abi.Stat, err error) {
	err = l.do(func() error {
		var x unix.Statx_t
		if err := unix.Statx(fd, path, flags, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x); err != nil {
			return err
		}
		ts := func(t unix.StatxTimestamp) abi.Timespec { return abi.Timespec{Sec: t.Sec, Nsec: int32(t.Nsec)} }
		st = abi.Stat{Dev: abi.Fsid(unix.Mkdev(x.Dev_major, x.Dev_minor)), Vattr: abi.Vattr{
			Type: abi.ModeType(uint32(x.Mode)), Mode: uint32(x.Mode) & abi.ALLPERMS, Nlink: x.Nlink, Uid: x.Uid, Gid: x.Gid,
			Rdev: abi.Makedev(x.Rdev_major, x.Rdev_minor), Size: int64(x.Size), Bytes: int64(x.Blocks) * 512, Blksize: x.Blksize,
			Fileid: abi.Fileid(x.Ino), Atime: ts(x.Atime), Mtime: ts(x.Mtime), Ctime: ts(x.Ctime), Btime: ts(x.Btime),
		}}
		return nil
	})
	return st, err
}

func (l *linuxProc) Fstat(fd int) (abi.Stat, error) { return l.stat(fd, "", unix.AT_EMPTY_PATH) }

func (l *linuxProc) Fstatat(dirfd int, path string, flags int) (abi.Stat, error) {
	return l.stat(at(dirfd), path, atFlags(flags))
}

func (l *linuxProc) Faccessat(dirfd int, path string, mode, flags int) error {
	return l.do(func() error {
		// The C library of x/sys/unix works with the program's ids; these are
		// the thread's.
		return raw4(unix.SYS_FACCESSAT2, at(dirfd), path, uintptr(mode), uintptr(atFlags(flags)))
	})
}

func raw4(nr uintptr, dirfd int, path string, a, b uintptr) error {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	if _, _, e := unix.Syscall6(nr, uintptr(dirfd), uintptr(unsafe.Pointer(p)), a, b, 0, 0); e != 0 {
		return e
	}
	return nil
}

func (l *linuxProc) Fchmod(fd int, mode uint32) error {
	return l.do(func() error { return unix.Fchmod(fd, mode) })
}

func (l *linuxProc) Fchmodat(dirfd int, path string, mode uint32, flags int) error {
	return l.do(func() error { return unix.Fchmodat(at(dirfd), path, mode, atFlags(flags)) })
}

func (l *linuxProc) Fchown(fd, uid, gid int) error {
	return l.do(func() error { return unix.Fchown(fd, uid, gid) })
}

func (l *linuxProc) Fchownat(dirfd int, path string, uid, gid, flags int) error {
	return l.do(func() error { return unix.Fchownat(at(dirfd), path, uid, gid, atFlags(flags)) })
}

func linuxTimes(ts ...abi.Timespec) (r [2]unix.Timespec) {
	for i, t := range ts {
		r[i] = unix.Timespec{Sec: t.Sec, Nsec: int64(t.Nsec)}
	}
	return r // UTIME_NOW and UTIME_OMIT are the same numbers
}

func (l *linuxProc) Futimens(fd int, atime, mtime abi.Timespec) error {
	return l.do(func() error {
		ts := linuxTimes(atime, mtime)
		_, _, e := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts[0])), 0, 0, 0)
		if e != 0 {
			return e
		}
		return nil
	})
}

func (l *linuxProc) Utimensat(dirfd int, path string, atime, mtime abi.Timespec, flags int) error {
	return l.do(func() error {
		ts := linuxTimes(atime, mtime)
		return unix.UtimesNanoAt(at(dirfd), path, ts[:], atFlags(flags))
	})
}

func (l *linuxProc) Statvfs(path string) (sv abi.Statvfs, err error) {
	err = l.do(func() error {
		var s unix.Statfs_t
		if err := unix.Statfs(path, &s); err != nil {
			return err
		}
		sv = abi.Statvfs{Bsize: uint64(s.Bsize), Frsize: uint64(s.Frsize), Blocks: s.Blocks, Bfree: s.Bfree, Bavail: s.Bavail, Files: s.Files, Ffree: s.Ffree, Namemax: uint64(s.Namelen)}
		return nil
	})
	return sv, err
}

func (l *linuxProc) Mkdirat(dirfd int, path string, mode uint32) error {
	return l.do(func() error { return unix.Mkdirat(at(dirfd), path, mode) })
}

func (l *linuxProc) Mknodat(dirfd int, path string, mode uint32, dev abi.Dev) error {
	return l.do(func() error { return unix.Mknodat(at(dirfd), path, mode, int(linuxabi.FromDev(dev))) })
}

func (l *linuxProc) Mkfifoat(dirfd int, path string, mode uint32) error {
	return l.do(func() error { return unix.Mkfifoat(at(dirfd), path, mode) })
}

func (l *linuxProc) Symlinkat(target string, dirfd int, path string) error {
	return l.do(func() error { return unix.Symlinkat(target, at(dirfd), path) })
}

func (l *linuxProc) Readlinkat(dirfd int, path string) (string, error) {
	b := make([]byte, 5000)
	n, err := l.num(func() (int, error) { return unix.Readlinkat(at(dirfd), path, b) })
	return string(b[:max(n, 0)]), err
}

func (l *linuxProc) Linkat(fromfd int, from string, tofd int, to string, flags int) error {
	return l.do(func() error { return unix.Linkat(at(fromfd), from, at(tofd), to, atFlags(flags)) })
}

func (l *linuxProc) Unlinkat(dirfd int, path string, flags int) error {
	return l.do(func() error { return unix.Unlinkat(at(dirfd), path, atFlags(flags)) })
}

func (l *linuxProc) Renameat(fromfd int, from string, tofd int, to string, flags int) error {
	return l.do(func() error {
		fl := uint(0)
		if flags&abi.RENAME_NOREPLACE != 0 {
			fl |= unix.RENAME_NOREPLACE
		}
		if flags&abi.RENAME_EXCHANGE != 0 {
			fl |= unix.RENAME_EXCHANGE
		}
		if flags&^(abi.RENAME_NOREPLACE|abi.RENAME_EXCHANGE) != 0 {
			fl |= 1 << 30 // none that Linux has
		}
		return unix.Renameat2(at(fromfd), from, at(tofd), to, fl)
	})
}

func (l *linuxProc) Setxattr(path, name string, value []byte, flags int) error {
	return l.do(func() error { return unix.Setxattr(path, linuxabi.FromXattr(name), value, flags) })
}

func (l *linuxProc) Getxattr(path, name string) ([]byte, error) {
	b := make([]byte, 65536)
	n, err := l.num(func() (int, error) { return unix.Getxattr(path, linuxabi.FromXattr(name), b) })
	return b[:max(n, 0)], err
}

func (l *linuxProc) Listxattr(path string) (names []string, err error) {
	b := make([]byte, 65536)
	n, err := l.num(func() (int, error) { return unix.Listxattr(path, b) })
	for _, s := range strings.Split(string(b[:max(n, 0)]), "\x00") {
		if s, err := linuxabi.Xattr(s); err == nil {
			names = append(names, s)
		}
	}
	return names, err
}

func (l *linuxProc) Removexattr(path, name string) error {
	return l.do(func() error { return unix.Removexattr(path, linuxabi.FromXattr(name)) })
}

func linuxFlock(fl abi.Flock) *unix.Flock_t {
	typ := int16(linuxabi.FromLockType(fl.Type))
	if fl.Type > abi.F_WRLCK {
		typ = fl.Type // none of Linux's either
	}
	return &unix.Flock_t{Type: typ, Whence: fl.Whence, Start: fl.Start, Len: fl.Len}
}

func (l *linuxProc) Lock(fd, cmd int, fl abi.Flock) error {
	return l.do(func() error {
		c := unix.F_SETLK
		if cmd == abi.F_SETLKW {
			c = unix.F_SETLKW
		}
		return restart(func() error { return unix.FcntlFlock(uintptr(fd), c, linuxFlock(fl)) })
	})
}

func (l *linuxProc) Getlk(fd int, fl abi.Flock) (abi.Flock, error) {
	x := linuxFlock(fl)
	err := l.do(func() error { return unix.FcntlFlock(uintptr(fd), unix.F_GETLK, x) })
	typ, _ := linuxabi.LockType(uint32(x.Type))
	return abi.Flock{Start: x.Start, Len: x.Len, Pid: x.Pid, Type: typ, Whence: x.Whence}, err
}

func (l *linuxProc) Flock(fd, op int) error {
	return l.do(func() error { return restart(func() error { return unix.Flock(fd, op) }) }) // the same numbers
}

func (l *linuxProc) Chdir(path string) error {
	return l.do(func() error { return unix.Chdir(path) })
}

func (l *linuxProc) Fchdir(fd int) error {
	return l.do(func() error { return unix.Fchdir(fd) })
}

func (l *linuxProc) Chroot(path string) error {
	return l.do(func() error { return unix.Chroot(path) })
}

func (l *linuxProc) Getcwd() (string, error) {
	b := make([]byte, 4096)
	n, err := l.num(func() (int, error) { return unix.Getcwd(b) })
	if n > 0 {
		n-- // the NUL
	}
	return string(b[:max(n, 0)]), err
}

func (l *linuxProc) Umask(mask uint32) (old uint32, err error) {
	err = l.do(func() error { old = uint32(unix.Umask(int(mask))); return nil })
	return old, err
}

func (l *linuxProc) Setreuid(r, e int) error {
	return l.do(func() error {
		if _, _, no := unix.RawSyscall(unix.SYS_SETREUID, uintptr(r), uintptr(e), 0); no != 0 {
			return no
		}
		return nil
	})
}

func (l *linuxProc) SetFsize(n int64) error {
	return l.do(func() error {
		if !l.cut {
			if err := unix.Prlimit(0, unix.RLIMIT_FSIZE, nil, &l.fsize); err != nil {
				return err
			}
			l.cut = true
		}
		r := l.fsize
		if n >= 0 {
			r.Cur = uint64(n)
		}
		return unix.Prlimit(0, unix.RLIMIT_FSIZE, &r, nil)
	})
}

func (l *linuxProc) Bind(path string) error {
	return l.do(func() error {
		fd, err := l.opened(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0))
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	})
}

func (l *linuxProc) Exit() {
	l.once.Do(func() {
		if l.cut {
			l.SetFsize(-1)
		}
		close(l.calls)
		<-l.done
	})
}

// linuxWorld judges a directory of Linux's.
func linuxWorld(t *testing.T, name string, kind posixtest.Kind, dir string) posixtest.World {
	t.Helper()
	d := filepath.Join(dir, "posix")
	if err := os.Mkdir(d, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(d, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(d) })
	return posixtest.World{Name: name, Kind: kind, Dir: d, Root: os.Geteuid() == 0,
		Lacks: map[string]string{"emlink": "tmpfs has no limit, 65000 links of ext4 take their time"},
		New:   func(uid, gid uint32, groups ...uint32) posixtest.Sys { return newLinuxProc(t, uid, gid, groups) }}
}
