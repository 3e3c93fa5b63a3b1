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

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

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
		Rdev: abi.Makedev(unix.Major(sys.Rdev), unix.Minor(sys.Rdev)), Size: sys.Size, Bytes: sys.Blocks * 512, Fileid: abi.Fileid(sys.Ino),
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

func (t *hostTree) link(_ context.Context, from, to string) error {
	if t.root != nil {
		return hostErr(t.root.Link(t.rel(from), t.rel(to)))
	}
	return hostErr(os.Link(from, to))
}

// mknod makes no device nodes: a node with the numbers of the host's disk,
// written by a tree of the kernel, would be the host's disk.
func (t *hostTree) mknod(_ context.Context, p string, st *abi.Stat) error {
	if st.Type != abi.VFIFO {
		return fmt.Errorf("%s: a %v is not made on the host: %w", p, st.Type, abi.EPERM)
	}
	return t.at(p, func(dir int, name string) error { return unix.Mkfifoat(dir, name, st.Mode&0o777) })
}

// at calls f with the directory of p, open, and the name in it. What is below
// a root is found without leaving it.
func (t *hostTree) at(p string, f func(dir int, name string) error) error {
	var dir *os.File
	var err error
	if t.root != nil {
		dir, err = t.root.Open(filepath.Dir(t.rel(p)))
	} else {
		dir, err = os.Open(filepath.Dir(p))
	}
	if err != nil {
		return hostErr(err)
	}
	defer dir.Close()
	if err := f(int(dir.Fd()), filepath.Base(p)); err != nil {
		return hostErr(fmt.Errorf("%s: %w", p, err))
	}
	return nil
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

func (t *hostTree) create(_ context.Context, p string, mode uint32, how creation) (output, bool, error) {
	open := func(flags int) (*os.File, error) {
		// Without O_NONBLOCK a fifo would wait for its reader.
		if t.root != nil {
			return t.root.OpenFile(t.rel(p), flags, os.FileMode(mode))
		}
		return os.OpenFile(p, flags, os.FileMode(mode))
	}
	f, err := open(os.O_WRONLY | os.O_CREATE | os.O_EXCL)
	fresh := err == nil
	if how != createNew && errors.Is(err, syscall.EEXIST) {
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
	if st.Type != abi.VLNK { // the host's Chmod follows links
		if err := root.Chmod(name, hostMode(keptMode(st, all, false))); err != nil {
			return hostErr(err)
		}
	}
	if !all {
		return nil
	}
	return t.at(p, func(dir int, name string) error {
		return unix.UtimesNanoAt(dir, name, hostTimes(st), unix.AT_SYMLINK_NOFOLLOW)
	})
}

func hostTimes(st *abi.Stat) []unix.Timespec {
	return []unix.Timespec{{Sec: st.Atime.Sec, Nsec: int64(st.Atime.Nsec)}, {Sec: st.Mtime.Sec, Nsec: int64(st.Mtime.Nsec)}}
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
	tv := hostTimes(st)
	if err := unix.UtimesNanoAt(int(f.f.Fd()), "", tv, unix.AT_EMPTY_PATH); err != nil {
		// A kernel that does not know AT_EMPTY_PATH here goes by name.
		return hostErr(os.Chtimes(fmt.Sprintf("/proc/self/fd/%d", f.f.Fd()), time.Unix(tv[0].Unix()), time.Unix(tv[1].Unix())))
	}
	return nil
}

func (f *hostFile) close(context.Context) error { return hostErr(f.f.Close()) }

func (t *hostTree) xattrsOf(p string) xattrs { return &hostDir{t, p} }

// hostDir has the extended attributes of a directory of the host.
type hostDir struct {
	t *hostTree
	p string
}

// file calls do with the directory, open.
func (d *hostDir) file(do func(f *hostFile) error) error {
	var f *os.File
	var err error
	if d.t.root != nil {
		f, err = d.t.root.OpenFile(d.t.rel(d.p), os.O_RDONLY|syscall.O_DIRECTORY, 0)
	} else {
		f, err = os.OpenFile(d.p, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	}
	if err != nil {
		return hostErr(err)
	}
	defer f.Close()
	return do(&hostFile{f: f})
}

func (d *hostDir) eachXattr(ctx context.Context, each func(name string, value []byte) error) error {
	return d.file(func(f *hostFile) error { return f.eachXattr(ctx, each) })
}

func (d *hostDir) setXattr(ctx context.Context, name string, value []byte) error {
	return d.file(func(f *hostFile) error { return f.setXattr(ctx, name, value) })
}

// xattrSize is the size of the largest value, and of the largest list of names.
const xattrSize = 64 << 10

func (f *hostFile) eachXattr(_ context.Context, each func(name string, value []byte) error) error {
	fd := int(f.f.Fd())
	list := make([]byte, xattrSize)
	n, err := unix.Flistxattr(fd, list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return hostErr(fmt.Errorf("%s: %w", f.f.Name(), err))
	}
	value := make([]byte, xattrSize)
	for name := range strings.SplitSeq(string(list[:n]), "\x00") {
		if name == "" {
			continue
		}
		n, err := unix.Fgetxattr(fd, name, value)
		if errors.Is(err, unix.ENODATA) {
			continue // gone since
		}
		if err == nil {
			err = each(name, value[:n])
		}
		if err != nil {
			return hostErr(err)
		}
	}
	return nil
}

func (f *hostFile) setXattr(_ context.Context, name string, value []byte) error {
	return hostErr(unix.Fsetxattr(int(f.f.Fd()), name, value, 0))
}
