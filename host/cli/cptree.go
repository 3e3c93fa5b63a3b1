package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// tree is one side of a copy: a file system. Errors of the host wrap the
// kernel's numbers where cp asks for them: ENOENT, EEXIST.
type tree interface {
	kernel() bool
	// name is a path as messages show it.
	name(p string) string
	lstat(ctx context.Context, p string) (abi.Stat, error)
	stat(ctx context.Context, p string) (abi.Stat, error)
	readdir(ctx context.Context, p string) ([]abi.Dirent, error)
	readlink(ctx context.Context, p string) (string, error)
	mkdir(ctx context.Context, p string, mode uint32) error
	symlink(ctx context.Context, target, p string) error
	remove(ctx context.Context, p string) error
	open(ctx context.Context, p string) (input, error)
	// create makes a file, or empties one that is there (fresh is false then).
	create(ctx context.Context, p string, mode uint32) (f output, fresh bool, err error)
	// setattr sets permissions and, with all, owner and times. It does not
	// follow a symbolic link.
	setattr(ctx context.Context, p string, st *abi.Stat, all bool) error
	// confined is the tree seen from dir, which nothing that follows can leave.
	confined(dir string) (tree, error)
	// close gives back what confined took.
	close()
}

// input is a file that is read. A file that is not regular is read in order,
// whatever off is.
type input interface {
	stat(ctx context.Context) (abi.Stat, error)
	// readAt answers 0 and nil at the end.
	readAt(ctx context.Context, b []byte, off int64) (int, error)
	// data finds the next data at or behind off: start to end, or both size.
	data(ctx context.Context, off, size int64) (start, end int64)
	close(ctx context.Context) error
}

// output is a file that is written.
type output interface {
	writeAt(ctx context.Context, b []byte, off int64) error
	truncate(ctx context.Context, size int64) error
	setattr(ctx context.Context, st *abi.Stat, all bool) error
	close(ctx context.Context) error
}

// kernelFile is an open file of the kernel.
type kernelFile struct {
	k      *rumpclient.Client
	fd     int
	path   string
	stream bool // no regular file: offsets mean nothing
}

func (t *kernelTree) open(ctx context.Context, p string) (input, error) {
	fd, err := t.k.Open(ctx, p, abi.O_RDONLY|abi.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &kernelFile{k: t.k, fd: fd, path: p}, nil
}

func (t *kernelTree) create(ctx context.Context, p string, mode uint32) (output, bool, error) {
	fd, err := t.k.Open(ctx, p, abi.O_WRONLY|abi.O_CREAT|abi.O_EXCL|abi.O_CLOEXEC, mode)
	if err == nil {
		return &kernelFile{k: t.k, fd: fd, path: p}, true, nil
	}
	if !errors.Is(err, abi.EEXIST) {
		return nil, false, err
	}
	// A link to nothing is EEXIST as well, and is created through.
	fd, err = t.k.Open(ctx, p, abi.O_WRONLY|abi.O_CREAT|abi.O_TRUNC|abi.O_CLOEXEC, mode)
	if err != nil {
		return nil, false, err
	}
	st, err := t.k.Fstat(ctx, fd)
	if err != nil {
		t.k.Close(context.WithoutCancel(ctx), fd)
		return nil, false, named(err, p)
	}
	return &kernelFile{k: t.k, fd: fd, path: p, stream: st.Type != abi.VREG}, false, nil
}

func (t *kernelTree) setattr(ctx context.Context, p string, st *abi.Stat, all bool) error {
	const no = abi.AT_SYMLINK_NOFOLLOW
	if st.Type != abi.VLNK {
		if all {
			if err := t.k.Lchown(ctx, p, int(st.Uid), int(st.Gid)); err != nil && !errors.Is(err, abi.EPERM) {
				return err
			}
		}
		if err := t.k.Fchmodat(ctx, abi.AT_FDCWD, p, keptMode(st, all, true), no); err != nil {
			return err
		}
	}
	if all {
		return t.k.Utimensat(ctx, abi.AT_FDCWD, p, st.Atime, st.Mtime, no)
	}
	return nil
}

// keptMode are the permissions that a copy gets. Set-id bits never reach the
// host: the tree may be a stranger's.
func keptMode(st *abi.Stat, all, kernel bool) uint32 {
	switch {
	case all && kernel:
		return st.Mode & abi.ALLPERMS
	case all:
		return st.Mode & (0o777 | abi.S_ISVTX)
	}
	return st.Mode & 0o777
}

func (f *kernelFile) stat(ctx context.Context) (abi.Stat, error) {
	st, err := f.k.Fstat(ctx, f.fd)
	f.stream = st.Type != abi.VREG
	return st, named(err, f.path)
}

func (f *kernelFile) readAt(ctx context.Context, b []byte, off int64) (n int, err error) {
	if f.stream {
		n, err = f.k.Read(ctx, f.fd, b)
	} else {
		n, err = f.k.Pread(ctx, f.fd, b, off)
	}
	return n, named(err, f.path)
}

func (f *kernelFile) data(ctx context.Context, off, size int64) (int64, int64) {
	return findData(off, size, func(off int64, whence int) (int64, error) {
		if whence == unix.SEEK_DATA {
			whence = abi.SEEK_DATA
		} else {
			whence = abi.SEEK_HOLE
		}
		n, err := f.k.Lseek(ctx, f.fd, off, whence)
		return n, err
	}, abi.ENXIO)
}

// findData finds data with SEEK_DATA and SEEK_HOLE. Who does not know these has
// no holes.
func findData(off, size int64, seek func(off int64, whence int) (int64, error), none error) (int64, int64) {
	start, err := seek(off, unix.SEEK_DATA)
	if errors.Is(err, none) {
		return size, size
	}
	if err != nil || start < off {
		return off, size
	}
	end, err := seek(start, unix.SEEK_HOLE)
	if err != nil || end <= start {
		end = size
	}
	return min(start, size), min(end, size)
}

func (f *kernelFile) writeAt(ctx context.Context, b []byte, off int64) error {
	for len(b) > 0 {
		var n int
		var err error
		if f.stream {
			n, err = f.k.Write(ctx, f.fd, b)
		} else {
			n, err = f.k.Pwrite(ctx, f.fd, b, off)
		}
		if err == nil && n == 0 {
			err = fmt.Errorf("%w: %w", io.ErrShortWrite, abi.EIO)
		}
		if err != nil {
			return named(err, f.path)
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

func (f *kernelFile) truncate(ctx context.Context, size int64) error {
	if f.stream {
		return nil
	}
	return named(f.k.Ftruncate(ctx, f.fd, size), f.path)
}

// setattr has nothing to do for a new file without -p: it was created with its
// mode, and the umask is 0.
func (f *kernelFile) setattr(ctx context.Context, st *abi.Stat, all bool) error {
	if !all || f.stream {
		return nil
	}
	err := f.k.Fchown(ctx, f.fd, int(st.Uid), int(st.Gid))
	if err == nil || errors.Is(err, abi.EPERM) {
		err = f.k.Fchmod(ctx, f.fd, keptMode(st, true, true))
	}
	if err == nil {
		err = f.k.Futimens(ctx, f.fd, st.Atime, st.Mtime)
	}
	return named(err, f.path)
}

func (f *kernelFile) close(ctx context.Context) error {
	return named(f.k.Close(context.WithoutCancel(ctx), f.fd), f.path)
}

// hostTree is the host's side of a copy: all of it or, with root, what is below
// dir.
type hostTree struct {
	root *os.Root
	dir  string
}

// hostError gives an error of the host the kernel's number where cp asks for it.
type hostError struct {
	error
	no abi.Errno
}

func (e *hostError) Unwrap() []error { return []error{e.error, e.no} }

func hostErr(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &hostError{err, abi.ENOENT}
	case errors.Is(err, syscall.EEXIST):
		return &hostError{err, abi.EEXIST}
	case errors.Is(err, syscall.EPERM):
		return &hostError{err, abi.EPERM}
	}
	return err
}

// rel is p as root knows it.
func (t *hostTree) rel(p string) string {
	r := strings.TrimPrefix(strings.TrimPrefix(p, t.dir), "/")
	if r == "" {
		return "."
	}
	return r
}

func (t *hostTree) kernel() bool         { return false }
func (t *hostTree) name(p string) string { return p }

func hostStat(fi fs.FileInfo, err error) (abi.Stat, error) {
	if err != nil {
		return abi.Stat{}, hostErr(err)
	}
	sys, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return abi.Stat{}, fmt.Errorf("stat %s: %w", fi.Name(), abi.EIO)
	}
	// Linux has NetBSD's numbers for file types and permissions.
	return abi.Stat{Dev: abi.Fsid(sys.Dev), Vattr: abi.Vattr{
		Type: abi.ModeType(sys.Mode), Mode: sys.Mode & abi.ALLPERMS, Nlink: uint32(sys.Nlink), Uid: sys.Uid, Gid: sys.Gid,
		Size: sys.Size, Bytes: sys.Blocks * 512, Fileid: abi.Fileid(sys.Ino),
		Atime: abi.Timespec{Sec: sys.Atim.Sec, Nsec: int32(sys.Atim.Nsec)}, Mtime: abi.Timespec{Sec: sys.Mtim.Sec, Nsec: int32(sys.Mtim.Nsec)},
	}}, nil
}

func (t *hostTree) lstat(_ context.Context, p string) (abi.Stat, error) {
	if t.root != nil {
		return hostStat(t.root.Lstat(t.rel(p)))
	}
	return hostStat(os.Lstat(p))
}

func (t *hostTree) stat(_ context.Context, p string) (abi.Stat, error) {
	if t.root != nil {
		return hostStat(t.root.Stat(t.rel(p)))
	}
	return hostStat(os.Stat(p))
}

func (t *hostTree) readdir(_ context.Context, p string) ([]abi.Dirent, error) {
	ents, err := os.ReadDir(p)
	ds := make([]abi.Dirent, len(ents))
	for i, e := range ents {
		ds[i].Name = e.Name()
	}
	return ds, hostErr(err)
}

func (t *hostTree) readlink(_ context.Context, p string) (string, error) {
	s, err := os.Readlink(p)
	return s, hostErr(err)
}

func (t *hostTree) mkdir(_ context.Context, p string, mode uint32) error {
	if t.root != nil {
		return hostErr(t.root.Mkdir(t.rel(p), os.FileMode(mode)))
	}
	return hostErr(os.Mkdir(p, os.FileMode(mode)))
}

func (t *hostTree) symlink(_ context.Context, target, p string) error {
	if t.root != nil {
		return hostErr(t.root.Symlink(target, t.rel(p)))
	}
	return hostErr(os.Symlink(target, p))
}

func (t *hostTree) remove(_ context.Context, p string) error {
	if t.root != nil {
		return hostErr(t.root.Remove(t.rel(p)))
	}
	return hostErr(os.Remove(p))
}

func (t *hostTree) open(_ context.Context, p string) (input, error) {
	f, err := os.Open(p)
	if err != nil {
		return nil, hostErr(err)
	}
	return &hostFile{f: f}, nil
}

func (t *hostTree) create(_ context.Context, p string, mode uint32) (output, bool, error) {
	open := func(flags int) (*os.File, error) {
		// Without O_NONBLOCK a fifo would wait for its reader.
		if t.root != nil {
			return t.root.OpenFile(t.rel(p), flags, os.FileMode(mode))
		}
		return os.OpenFile(p, flags, os.FileMode(mode))
	}
	f, err := open(os.O_WRONLY | os.O_CREATE | os.O_EXCL)
	fresh := err == nil
	if errors.Is(err, syscall.EEXIST) {
		f, err = open(os.O_WRONLY | os.O_CREATE | os.O_TRUNC)
	}
	if err != nil {
		return nil, false, hostErr(err)
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, false, hostErr(err)
	}
	return &hostFile{f: f, stream: !fi.Mode().IsRegular()}, fresh, nil
}

func (t *hostTree) setattr(_ context.Context, p string, st *abi.Stat, all bool) error {
	root, name := t.root, t.rel(p)
	if root == nil {
		var err error
		if root, err = os.OpenRoot(filepath.Dir(p)); err != nil {
			return hostErr(err)
		}
		defer root.Close()
		name = filepath.Base(p)
	}
	if all {
		if err := root.Lchown(name, int(st.Uid), int(st.Gid)); err != nil && !errors.Is(err, syscall.EPERM) {
			return hostErr(err)
		}
	}
	if st.Type == abi.VLNK {
		return nil // the host's Chmod and Chtimes follow links
	}
	if err := root.Chmod(name, hostMode(keptMode(st, all, false))); err != nil {
		return hostErr(err)
	}
	if all {
		return hostErr(root.Chtimes(name, st.Atime.Time(), st.Mtime.Time()))
	}
	return nil
}

func hostMode(mode uint32) os.FileMode {
	m := os.FileMode(mode & 0o777)
	if mode&abi.S_ISVTX != 0 {
		m |= os.ModeSticky
	}
	return m
}

func (t *hostTree) confined(dir string) (tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, hostErr(err)
	}
	return &hostTree{root: root, dir: dir}, nil
}

func (t *hostTree) close() {
	if t.root != nil {
		t.root.Close()
	}
}

// hostFile is an open file of the host.
type hostFile struct {
	f      *os.File
	stream bool
}

func (f *hostFile) stat(context.Context) (abi.Stat, error) {
	st, err := hostStat(f.f.Stat())
	f.stream = st.Type != abi.VREG
	return st, err
}

func (f *hostFile) readAt(_ context.Context, b []byte, off int64) (n int, err error) {
	if f.stream {
		n, err = f.f.Read(b)
	} else {
		n, err = f.f.ReadAt(b, off)
	}
	if err == io.EOF {
		err = nil
	}
	return n, hostErr(err)
}

func (f *hostFile) data(_ context.Context, off, size int64) (int64, int64) {
	return findData(off, size, func(off int64, whence int) (int64, error) {
		return unix.Seek(int(f.f.Fd()), off, whence)
	}, syscall.ENXIO)
}

func (f *hostFile) writeAt(_ context.Context, b []byte, off int64) error {
	var err error
	if f.stream {
		_, err = f.f.Write(b)
	} else {
		_, err = f.f.WriteAt(b, off)
	}
	return hostErr(err)
}

func (f *hostFile) truncate(_ context.Context, size int64) error {
	if f.stream {
		return nil
	}
	return hostErr(f.f.Truncate(size))
}

func (f *hostFile) setattr(_ context.Context, st *abi.Stat, all bool) error {
	if f.stream {
		return nil
	}
	if all {
		if err := f.f.Chown(int(st.Uid), int(st.Gid)); err != nil && !errors.Is(err, syscall.EPERM) {
			return hostErr(err)
		}
	}
	if err := f.f.Chmod(hostMode(keptMode(st, all, false))); err != nil {
		return hostErr(err)
	}
	if !all {
		return nil
	}
	tv := []unix.Timespec{unix.NsecToTimespec(nanos(st.Atime)), unix.NsecToTimespec(nanos(st.Mtime))}
	if err := unix.UtimesNanoAt(int(f.f.Fd()), "", tv, unix.AT_EMPTY_PATH); err != nil {
		// A kernel that does not know AT_EMPTY_PATH here goes by name.
		return hostErr(os.Chtimes(fmt.Sprintf("/proc/self/fd/%d", f.f.Fd()), time.Unix(tv[0].Unix()), time.Unix(tv[1].Unix())))
	}
	return nil
}

func (f *hostFile) close(context.Context) error { return hostErr(f.f.Close()) }
