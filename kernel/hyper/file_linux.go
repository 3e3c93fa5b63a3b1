//go:build linux

package hyper

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// iovMax is how many areas one preadv takes (UIO_MAXIOV).
const iovMax = 1024

var linuxErrno = map[uintptr]abi.Errno{
	uintptr(unix.EAGAIN): abi.EAGAIN, uintptr(unix.ELOOP): abi.ELOOP, uintptr(unix.ENAMETOOLONG): abi.ENAMETOOLONG,
	uintptr(unix.EDQUOT): abi.EDQUOT, uintptr(unix.ESTALE): abi.ESTALE, uintptr(unix.ETIMEDOUT): abi.ETIMEDOUT,
	uintptr(unix.EOPNOTSUPP): abi.EOPNOTSUPP, uintptr(unix.ENOSYS): abi.EOPNOTSUPP, uintptr(unix.EOVERFLOW): abi.EOVERFLOW,
}

func fromHost(what, path string, err error) error {
	if err == nil {
		return nil
	}
	var n unix.Errno
	if !errors.As(err, &n) {
		return fileErr(what, path, abi.EIO, err)
	}
	e := hostErrno(uintptr(n), linuxErrno)
	if e == abi.EIO && n != unix.EIO {
		return fileErr(what, path, e, n)
	}
	return fileErr(what, path, e, nil)
}

// hostFile is a File by Linux's calls.
type hostFile struct {
	path string
	ro   bool
	fd   int

	mu     sync.RWMutex // read-held over calls with fd, so that Close does not take it away
	closed bool         // protected by mu
}

// OpenFile opens a file or block device. It is locked against other kernels of
// this machine (an open-file-description lock: shared for read-only): EBUSY,
// unless o.NoLock. EFTYPE for what is neither a regular file nor a block device.
func (Base) OpenFile(_ context.Context, o FileOpen) (File, error) {
	flags := unix.O_CLOEXEC | unix.O_NOCTTY | unix.O_NONBLOCK
	if o.ReadOnly {
		flags |= unix.O_RDONLY
	} else {
		flags |= unix.O_RDWR
	}
	if o.Create {
		flags |= unix.O_CREAT
	}
	fd, err := open(o.Path, flags)
	if err != nil {
		return nil, fromHost("open", o.Path, err)
	}
	f := &hostFile{path: o.Path, ro: o.ReadOnly, fd: fd}
	if err := f.admit(o); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if o.Create {
		if err := syncDir(o.Path); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	runtime.SetFinalizer(f, func(f *hostFile) { f.Close() })
	return f, nil
}

func (f *hostFile) admit(o FileOpen) error {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return fromHost("stat", f.path, err)
	}
	if t := st.Mode & unix.S_IFMT; t != unix.S_IFREG && t != unix.S_IFBLK {
		return fileErr("open", f.path, abi.EFTYPE, errors.New("neither a regular file nor a block device"))
	}
	if o.NoLock {
		return nil
	}
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: 0}
	if o.ReadOnly {
		l.Type = unix.F_RDLCK
	}
	switch err := unix.FcntlFlock(uintptr(f.fd), unix.F_OFD_SETLK, &l); err {
	case nil:
	case unix.EAGAIN, unix.EACCES:
		return fileErr("open", f.path, abi.EBUSY, errors.New("in use by another kernel"))
	default:
		return fromHost("lock", f.path, err)
	}
	return nil
}

func open(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags, 0o600)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func syncDir(path string) error {
	dir := filepath.Dir(path)
	fd, err := open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return fromHost("open", dir, err)
	}
	defer unix.Close(fd)
	return fromHost("sync", dir, unix.Fsync(fd))
}

// RemoveFile removes a file on the host, and syncs its directory.
func (Base) RemoveFile(path string) error {
	switch err := os.Remove(path); {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fromHost("remove", path, err)
	}
	return syncDir(path)
}

// hold keeps the descriptor while it is used. ENXIO: closed.
func (f *hostFile) hold() error {
	f.mu.RLock()
	if f.closed {
		f.mu.RUnlock()
		return fileErr("use", f.path, abi.ENXIO, errors.New("closed"))
	}
	return nil
}

func (f *hostFile) Info() (FileInfo, error) {
	if err := f.hold(); err != nil {
		return FileInfo{}, err
	}
	defer f.mu.RUnlock()
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return FileInfo{}, fromHost("stat", f.path, err)
	}
	r := FileInfo{Size: st.Size, Sector: 512, ReadOnly: f.ro, Dev: uint64(st.Dev), Ino: st.Ino,
		Mtime: abi.Timespec{Sec: int64(st.Mtim.Sec), Nsec: int32(st.Mtim.Nsec)}}
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		r.Block, r.Dev, r.Ino = true, uint64(st.Rdev), 0
		var size uint64
		if err := ioctl(f.fd, unix.BLKGETSIZE64, unsafe.Pointer(&size)); err != nil {
			return FileInfo{}, fromHost("size of", f.path, err)
		}
		sec, err := unix.IoctlGetInt(f.fd, unix.BLKSSZGET)
		if err != nil {
			return FileInfo{}, fromHost("sector size of", f.path, err)
		}
		r.Size, r.Sector = int64(size), uint32(sec)
	}
	return r, nil
}

func ioctl(fd int, req uint, arg unsafe.Pointer) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(req), uintptr(arg)); e != 0 {
		return e
	}
	return nil
}

// move repeats a vectored call until v is done, nothing more comes, or it
// fails. One area at an offset needs no list.
func move(v abi.Iov, off int64, one func(v [][]byte, off int64) (int, error)) (int, error) {
	done := 0
	rest := [][]byte(v)
	for len(rest) > 0 {
		if len(rest[0]) == 0 {
			rest = rest[1:]
			continue
		}
		part := rest
		if len(part) > iovMax {
			part = part[:iovMax]
		}
		n, err := one(part, off+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return done, err
		}
		done += n
		var next [][]byte // v is the caller's and stays as it is
		for i, p := range rest {
			if n < len(p) {
				next = append([][]byte{p[n:]}, rest[i+1:]...)
				break
			}
			n -= len(p)
		}
		rest = next
	}
	return done, nil
}

func (f *hostFile) ReadAt(v abi.Iov, off int64) (int, error) {
	if err := f.hold(); err != nil {
		return 0, err
	}
	defer f.mu.RUnlock()
	n, err := move(v, off, func(v [][]byte, off int64) (int, error) {
		if len(v) == 1 {
			return unix.Pread(f.fd, v[0], off)
		}
		return unix.Preadv(f.fd, v, off)
	})
	return n, fromHost("read", f.path, err)
}

func (f *hostFile) WriteAt(v abi.Iov, off int64, durable bool) (int, error) {
	if err := f.hold(); err != nil {
		return 0, err
	}
	defer f.mu.RUnlock()
	n, err := move(v, off, func(v [][]byte, off int64) (int, error) {
		switch {
		case durable:
			return unix.Pwritev2(f.fd, v, off, unix.RWF_DSYNC)
		case len(v) == 1:
			return unix.Pwrite(f.fd, v[0], off)
		}
		return unix.Pwritev(f.fd, v, off)
	})
	if err == nil && n < v.Len() {
		return n, fileErr("write", f.path, abi.EIO, errors.New("the host took only a part"))
	}
	return n, fromHost("write", f.path, err)
}

func (f *hostFile) Sync() error {
	if err := f.hold(); err != nil {
		return err
	}
	defer f.mu.RUnlock()
	return fromHost("sync", f.path, unix.Fdatasync(f.fd))
}

func (f *hostFile) fallocate(what string, mode uint32, off, n int64) error {
	if err := f.hold(); err != nil {
		return err
	}
	defer f.mu.RUnlock()
	for {
		if err := unix.Fallocate(f.fd, mode, off, n); err != unix.EINTR {
			return fromHost(what, f.path, err)
		}
	}
}

// Discard punches a hole, in a device too (fallocate(2)).
func (f *hostFile) Discard(off, n int64) error {
	return f.fallocate("discard in", unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// Zero keeps the space if the host's file system can, else punches a hole.
func (f *hostFile) Zero(off, n int64) error {
	err := f.fallocate("zero in", unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if errors.Is(err, abi.EOPNOTSUPP) {
		err = f.Discard(off, n)
	}
	return err
}

func (f *hostFile) Truncate(n int64) error {
	if err := f.hold(); err != nil {
		return err
	}
	defer f.mu.RUnlock()
	return fromHost("truncate", f.path, unix.Ftruncate(f.fd, n))
}

func (f *hostFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	return fromHost("close", f.path, unix.Close(f.fd))
}
