package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

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
	// link makes to a further name of from, which is not followed.
	link(ctx context.Context, from, to string) error
	// mknod makes a fifo or device node.
	mknod(ctx context.Context, p string, st *abi.Stat) error
	// remove removes a file that is no directory.
	remove(ctx context.Context, p string) error
	open(ctx context.Context, p string) (input, error)
	// create makes a file, or empties one that is there (fresh is false then).
	create(ctx context.Context, p string, mode uint32, how creation) (f output, fresh bool, err error)
	// xattrsOf are the extended attributes of a directory.
	xattrsOf(p string) xattrs
	// setattr sets permissions and, with all, owner and times. It does not
	// follow a symbolic link.
	setattr(ctx context.Context, p string, st *abi.Stat, all bool) error
	// confined is the tree seen from dir, which nothing that follows can leave.
	confined(dir string) (tree, error)
	// close gives back what confined took.
	close()
}

// creation says what create does with a file that is there.
type creation int

const (
	createAny creation = iota // empties it
	createNew                 // EEXIST
)

// input is a file that is read. A file that is not regular is read in order,
// whatever off is. Files of the kernel and of the host are xattrs too.
type input interface {
	stat(ctx context.Context) (abi.Stat, error)
	// readAt answers 0 and nil at the end.
	readAt(ctx context.Context, b []byte, off int64) (int, error)
	// data finds the next data at or behind off: start to end, or both size.
	data(ctx context.Context, off, size int64) (start, end int64)
	close(ctx context.Context) error
}

// output is a file that is written, as input.
type output interface {
	writeAt(ctx context.Context, b []byte, off int64) error
	truncate(ctx context.Context, size int64) error
	setattr(ctx context.Context, st *abi.Stat, all bool) error
	close(ctx context.Context) error
}

// kernelTree is the kernel's side of a copy.
type kernelTree struct{ k *rumpclient.Client }

func (t *kernelTree) kernel() bool         { return true }
func (t *kernelTree) name(p string) string { return "kernel:" + p }
func (t *kernelTree) lstat(ctx context.Context, p string) (abi.Stat, error) {
	return t.k.Lstat(ctx, p)
}
func (t *kernelTree) stat(ctx context.Context, p string) (abi.Stat, error) { return t.k.Stat(ctx, p) }
func (t *kernelTree) readdir(ctx context.Context, p string) ([]abi.Dirent, error) {
	return t.k.ReadDir(ctx, p)
}
func (t *kernelTree) readlink(ctx context.Context, p string) (string, error) {
	return t.k.Readlink(ctx, p)
}
func (t *kernelTree) mkdir(ctx context.Context, p string, mode uint32) error {
	return t.k.Mkdir(ctx, path.Clean(p), mode)
}
func (t *kernelTree) symlink(ctx context.Context, target, p string) error {
	return t.k.Symlink(ctx, target, p)
}
func (t *kernelTree) link(ctx context.Context, from, to string) error {
	return t.k.Linkat(ctx, abi.AT_FDCWD, from, abi.AT_FDCWD, to, 0)
}
func (t *kernelTree) mknod(ctx context.Context, p string, st *abi.Stat) error {
	if st.Type == abi.VFIFO {
		return t.k.Mkfifo(ctx, p, st.Mode&0o777)
	}
	return t.k.Mknod(ctx, p, abi.TypeMode(st.Type)|st.Mode&0o777, st.Rdev)
}
func (t *kernelTree) remove(ctx context.Context, p string) error { return t.k.Unlink(ctx, p) }
func (t *kernelTree) xattrsOf(p string) xattrs                   { return &kernelFile{k: t.k, fd: -1, path: p} }
func (t *kernelTree) confined(string) (tree, error)              { return t, nil }
func (t *kernelTree) close()                                     {}

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

func (t *kernelTree) create(ctx context.Context, p string, mode uint32, how creation) (output, bool, error) {
	fd, err := t.k.Open(ctx, p, abi.O_WRONLY|abi.O_CREAT|abi.O_EXCL|abi.O_CLOEXEC, mode)
	if err == nil {
		return &kernelFile{k: t.k, fd: fd, path: p}, true, nil
	}
	if how == createNew || !errors.Is(err, abi.EEXIST) {
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
	mode := keptMode(st, all, true)
	if all {
		switch err := t.k.Lchown(ctx, p, int(st.Uid), int(st.Gid)); {
		case errors.Is(err, abi.EPERM):
			mode &^= abi.S_ISUID | abi.S_ISGID
		case err != nil:
			return err
		}
	}
	if st.Type != abi.VLNK {
		if err := t.k.Fchmodat(ctx, abi.AT_FDCWD, p, mode, no); err != nil {
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
	mode := keptMode(st, true, true)
	err := f.k.Fchown(ctx, f.fd, int(st.Uid), int(st.Gid))
	if errors.Is(err, abi.EPERM) {
		// Nobody becomes by a set-id bit who the owner was not.
		mode &^= abi.S_ISUID | abi.S_ISGID
		err = nil
	}
	if err == nil {
		err = f.k.Fchmod(ctx, f.fd, mode)
	}
	if err == nil {
		err = f.k.Futimens(ctx, f.fd, st.Atime, st.Mtime)
	}
	return named(err, f.path)
}

// eachXattr goes by name if the file is not open.
func (f *kernelFile) eachXattr(ctx context.Context, each func(name string, value []byte) error) error {
	var list []byte
	var err error
	if f.fd < 0 {
		list, err = f.k.Llistxattr(ctx, f.path)
	} else {
		list, err = f.k.Flistxattr(ctx, f.fd)
	}
	if errors.Is(err, abi.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return named(err, f.path)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		var value []byte
		if f.fd < 0 {
			value, err = f.k.Lgetxattr(ctx, f.path, name)
		} else {
			value, err = f.k.Fgetxattr(ctx, f.fd, name)
		}
		if errors.Is(err, abi.ENOATTR) {
			continue // gone since
		}
		if err == nil {
			err = each(name, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *kernelFile) setXattr(ctx context.Context, name string, value []byte) error {
	if f.fd < 0 {
		return f.k.Lsetxattr(ctx, f.path, name, value, 0)
	}
	return f.k.Fsetxattr(ctx, f.fd, name, value, 0)
}

func (f *kernelFile) close(ctx context.Context) error {
	return named(f.k.Close(context.WithoutCancel(ctx), f.fd), f.path)
}
