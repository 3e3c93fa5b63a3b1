package rumpclient

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// FS is the whole tree below the client's root directory as an io/fs.FS, with
// all that can be done beside reading. See WriteFS.
func (c *Client) FS() WriteFS { return clientFS{c: c} }

// clientFS is the tree below root, "" or a path that begins with "/".
type clientFS struct {
	c    *Client
	root string
}

var (
	_ WriteFS   = clientFS{}
	_ WriteFile = (*fsFile)(nil)
)

// path turns a name of io/fs into one of the kernel.
func (f clientFS) path(op, name string) (string, error) {
	if !fs.ValidPath(name) || strings.IndexByte(name, 0) >= 0 {
		return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	if name == "." {
		return f.root + "/", nil
	}
	return f.root + "/" + name, nil
}

func pathErr(op, name string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	// The number alone says it, unless the kernel had more to say.
	var e *Error
	if errors.As(err, &e) && e.Text == "" {
		err = e.Errno
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func (f clientFS) Open(name string) (fs.File, error) {
	file, err := f.open(name, abi.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	return file, nil
}

// open opens a file with the kernel's flags and mode.
func (f clientFS) open(name string, flags int, mode uint32) (*fsFile, error) {
	p, err := f.path("open", name)
	if err != nil {
		return nil, err
	}
	file, err := f.c.OpenFile(context.Background(), p, flags, mode)
	if err != nil {
		return nil, pathErr("open", name, err)
	}
	return &fsFile{f: file, path: p, name: name}, nil
}

// Sub is the tree below dir, which need not be there yet. Symbolic links in it
// lead where they lead, and absolute ones begin at the client's root.
func (f clientFS) Sub(dir string) (fs.FS, error) {
	p, err := f.path("sub", dir)
	if err != nil {
		return nil, err
	}
	if dir == "." {
		return f, nil
	}
	return clientFS{c: f.c, root: p}, nil
}

func (f clientFS) Stat(name string) (fs.FileInfo, error) {
	return f.stat("stat", name, f.c.Stat)
}

func (f clientFS) Lstat(name string) (fs.FileInfo, error) {
	return f.stat("lstat", name, f.c.Lstat)
}

func (f clientFS) stat(op, name string, call func(context.Context, string) (abi.Stat, error)) (fs.FileInfo, error) {
	p, err := f.path(op, name)
	if err != nil {
		return nil, err
	}
	st, err := call(context.Background(), p)
	if err != nil {
		return nil, pathErr(op, name, err)
	}
	return NewFileInfo(base(name), &st), nil
}

func (f clientFS) ReadLink(name string) (string, error) {
	p, err := f.path("readlink", name)
	if err != nil {
		return "", err
	}
	s, err := f.c.Readlink(context.Background(), p)
	return s, pathErr("readlink", name, err)
}

func (f clientFS) ReadFile(name string) ([]byte, error) {
	p, err := f.path("open", name)
	if err != nil {
		return nil, err
	}
	b, err := f.c.ReadFile(context.Background(), p)
	return b, pathErr("read", name, err)
}

func (f clientFS) ReadDir(name string) ([]fs.DirEntry, error) {
	p, err := f.path("open", name)
	if err != nil {
		return nil, err
	}
	ds, err := f.c.ReadDir(context.Background(), p)
	es := entries(f.c, p, name, ds)
	slices.SortFunc(es, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return es, pathErr("readdir", name, err)
}

func base(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// fsFile is a file or directory of FS.
type fsFile struct {
	f    *File
	path string // in the kernel
	name string

	mu   sync.Mutex
	buf  []byte       // protected by mu; directories only
	left []abi.Dirent // protected by mu: read but not yet given out
}

func (f *fsFile) Stat() (fs.FileInfo, error) {
	if f.f.gone.Load() {
		return nil, pathErr("stat", f.name, abi.EBADF)
	}
	st, err := f.f.c.Fstat(context.Background(), f.f.fd)
	if err != nil {
		return nil, pathErr("stat", f.name, err)
	}
	return NewFileInfo(base(f.name), &st), nil
}

func (f *fsFile) Write(p []byte) (int, error) {
	n, err := f.f.Write(p)
	return n, pathErr("write", f.name, err)
}

func (f *fsFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.f.WriteAt(p, off)
	return n, pathErr("write", f.name, err)
}

func (f *fsFile) Truncate(size int64) error {
	return pathErr("truncate", f.name, f.f.Truncate(size))
}

func (f *fsFile) Sync() error { return pathErr("sync", f.name, f.f.Sync()) }

func (f *fsFile) Chmod(mode fs.FileMode) error {
	if f.f.gone.Load() {
		return pathErr("chmod", f.name, abi.EBADF)
	}
	return pathErr("chmod", f.name, f.f.c.Fchmod(context.Background(), f.f.fd, kernelMode(mode)))
}

func (f *fsFile) Read(p []byte) (int, error) {
	n, err := f.f.Read(p)
	return n, pathErr("read", f.name, err)
}

func (f *fsFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.f.ReadAt(p, off)
	return n, pathErr("read", f.name, err)
}

func (f *fsFile) Seek(off int64, whence int) (int64, error) {
	n, err := f.f.Seek(off, whence)
	f.mu.Lock()
	f.left = nil
	f.mu.Unlock()
	return n, pathErr("seek", f.name, err)
}

func (f *fsFile) Close() error { return pathErr("close", f.name, f.f.Close()) }

// ReadDir lists as os.File does: with n > 0 at most n entries and io.EOF at the
// end, otherwise all that are left.
func (f *fsFile) ReadDir(n int) ([]fs.DirEntry, error) {
	if f.f.gone.Load() {
		return nil, pathErr("readdir", f.name, abi.EBADF)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.buf == nil {
		f.buf = make([]byte, 32<<10)
	}
	var ds []abi.Dirent
	for n <= 0 || len(ds) < n {
		if len(f.left) == 0 {
			more, err := f.f.c.Getdents(context.Background(), f.f.fd, f.buf)
			if err != nil {
				return entries(f.f.c, f.path, f.name, ds), pathErr("readdir", f.name, err)
			}
			if len(more) == 0 {
				break
			}
			f.left = slices.DeleteFunc(more, func(d abi.Dirent) bool { return d.Name == "." || d.Name == ".." })
			continue
		}
		ds = append(ds, f.left[0])
		f.left = f.left[1:]
	}
	if n > 0 && len(ds) == 0 {
		return nil, io.EOF
	}
	return entries(f.f.c, f.path, f.name, ds), nil
}

// entry is a directory entry whose attributes are asked for when wanted.
type entry struct {
	c          *Client
	path, name string // in the kernel, and in the FS
	d          abi.Dirent
}

// entries are those of the directory dir, which is called name in the FS.
func entries(c *Client, dir, name string, ds []abi.Dirent) []fs.DirEntry {
	es := make([]fs.DirEntry, 0, len(ds))
	dir = strings.TrimRight(dir, "/") + "/"
	if name == "." {
		name = ""
	} else {
		name += "/"
	}
	for _, d := range ds {
		p := dir + d.Name
		if d.Type == abi.VNON { // a file system that does not say
			if st, err := c.Lstat(context.Background(), p); err == nil {
				d.Type = st.Type
			}
		}
		es = append(es, &entry{c, p, name + d.Name, d})
	}
	return es
}

func (e *entry) Name() string      { return e.d.Name }
func (e *entry) IsDir() bool       { return e.Type().IsDir() }
func (e *entry) String() string    { return fs.FormatDirEntry(e) }
func (e *entry) Type() fs.FileMode { return fileMode(e.d.Type, 0).Type() }

func (e *entry) Info() (fs.FileInfo, error) {
	st, err := e.c.Lstat(context.Background(), e.path)
	if err != nil {
		return nil, pathErr("lstat", e.name, err)
	}
	return NewFileInfo(e.d.Name, &st), nil
}

// fileInfo is an abi.Stat as fs.FileInfo.
type fileInfo struct {
	name string
	st   abi.Stat
}

// NewFileInfo makes the fs.FileInfo of a file named name; its Sys is the
// *abi.Stat.
func NewFileInfo(name string, st *abi.Stat) fs.FileInfo { return &fileInfo{name, *st} }

func (i *fileInfo) Name() string       { return i.name }
func (i *fileInfo) Size() int64        { return i.st.Size }
func (i *fileInfo) Mode() fs.FileMode  { return fileMode(i.st.Type, i.st.Mode) }
func (i *fileInfo) ModTime() time.Time { return i.st.Mtime.Time() }
func (i *fileInfo) IsDir() bool        { return i.st.Type == abi.VDIR }
func (i *fileInfo) Sys() any           { return &i.st }
func (i *fileInfo) String() string     { return fs.FormatFileInfo(i) }

var typeModes = [...]fs.FileMode{
	abi.VNON: fs.ModeIrregular, abi.VREG: 0, abi.VDIR: fs.ModeDir, abi.VBLK: fs.ModeDevice,
	abi.VCHR: fs.ModeDevice | fs.ModeCharDevice, abi.VLNK: fs.ModeSymlink, abi.VSOCK: fs.ModeSocket,
	abi.VFIFO: fs.ModeNamedPipe, abi.VBAD: fs.ModeIrregular,
}

// fileMode is type and mode in the words of io/fs.
func fileMode(t abi.VType, mode uint32) fs.FileMode {
	m := fs.FileMode(mode & abi.ACCESSPERMS)
	if int(t) < len(typeModes) {
		m |= typeModes[t]
	} else {
		m |= fs.ModeIrregular
	}
	if mode&abi.S_ISUID != 0 {
		m |= fs.ModeSetuid
	}
	if mode&abi.S_ISGID != 0 {
		m |= fs.ModeSetgid
	}
	if mode&abi.S_ISVTX != 0 {
		m |= fs.ModeSticky
	}
	return m
}
