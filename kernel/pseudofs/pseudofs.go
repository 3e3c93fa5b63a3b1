// Package pseudofs is what kernfs and procfs have in common: a file system
// whose files are made up by functions (pfs in other systems).
//
// # The words
//
// A Node is a file, directory or symbolic link with the function that makes its
// contents. A Source finds nodes by number and by name; what it does not find
// is not there, now: names come and go with what they stand for, and nothing is
// cached, because the type declares no vfsops.CapSole.
//
// # Contents
//
// The contents of a file are made when it is opened, and all reads of that open
// file are from them, so that who reads in small pieces sees one state. Its size,
// as stat tells it, is what would be read if it were opened now. There is no
// other state, and no lock.
//
// # What goes wrong
//
// Names cannot be made, removed or changed, and attributes cannot be set: the
// operations are missing, which reads as EROFS. A file that has no Write cannot
// be opened for writing: EPERM, for root too. What a node stands for goes away:
// ESTALE by its handle, ENOENT by its name; files that are open go on.
package pseudofs

import (
	"context"
	"math"
	"slices"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Caps are the declared capabilities: none.
const Caps vfsops.Caps = 0

// MaxFile bounds the contents of a file, in bytes; more is cut off.
const MaxFile = 1 << 20

// Node is a file that a Source has made up. ID and Gen are its number, the same
// as long as it is the same thing; in a directory numbers are the order of
// listing, so that one that comes later must have a number of its own.
type Node struct {
	Name     string
	ID       abi.Fileid
	Gen      abi.Gen
	Type     abi.VType // VREG, VDIR, VLNK
	Mode     uint32
	Uid, Gid uint32

	// Read makes the contents of a file, or the text of a link. c is who asks,
	// nil if that is not known: then what only some may see is EACCES.
	Read func(ctx context.Context, c *abi.Caller) ([]byte, error)

	// Write takes what was written to a file in one call. nil: EPERM.
	Write func(ctx context.Context, c *abi.Caller, p []byte) error

	// List are the entries of a directory, in order of ID, as c sees them.
	List func(ctx context.Context, c *abi.Caller) []Node
}

// Source has the nodes of one mount. It is called by many at once.
type Source interface {
	// Root is the root directory; its ID is not 0.
	Root() Node
	// Find finds a node by its number; false: it is not there (any more).
	Find(ctx context.Context, id abi.Fileid, gen abi.Gen) (Node, bool)
	// Child finds an entry of a directory, as c sees it.
	Child(ctx context.Context, c *abi.Caller, dir *Node, name string) (Node, bool)
}

// FS is a mounted file system of made-up files.
type FS struct {
	src  Source
	fsid abi.Fsid
	born abi.Timespec
}

var (
	_ vfsops.FS         = (*FS)(nil)
	_ vfsops.Readlinker = (*FS)(nil)
	_ vfs.FileOpener    = (*FS)(nil)
	_ vfs.Personal      = (*FS)(nil)
)

// New makes the file system of a mount.
func New(req *vfsops.MountReq, src Source) *FS {
	return &FS{src: src, fsid: req.Fsid, born: req.Op.Now}
}

// Personal says that answers depend on who asks (vfs.Personal).
func (f *FS) Personal() {}

func (f *FS) node(ctx context.Context, h abi.Handle) (Node, error) {
	if h.FS == f.fsid {
		if n, ok := f.src.Find(ctx, h.File, h.Gen); ok {
			return n, nil
		}
	}
	return Node{}, abi.ESTALE
}

func cut(b []byte) []byte { return b[:min(len(b), MaxFile)] }

// attr are the attributes of a node: its size is that of its contents now, of
// what cannot be read without a caller it is 0.
func (f *FS) attr(ctx context.Context, n *Node) abi.Vattr {
	va := abi.Vattr{
		Type: n.Type, Mode: n.Mode, Nlink: 1, Uid: n.Uid, Gid: n.Gid, Blksize: abi.PageSize, Fileid: n.ID, Gen: n.Gen,
		Atime: f.born, Mtime: f.born, Ctime: f.born, Btime: f.born,
	}
	switch {
	case n.Type == abi.VDIR:
		va.Nlink, va.Size = 2, 512
	case n.Read != nil:
		b, err := n.Read(ctx, vfs.CallerOf(ctx))
		if err == nil {
			va.Size = int64(len(cut(b)))
		}
	}
	return va
}

func (f *FS) entry(ctx context.Context, n *Node) vfsops.Entry {
	va := f.attr(ctx, n)
	return vfsops.Entry{Handle: va.Handle(f.fsid), Vattr: va}
}

// Root is the root directory.
func (f *FS) Root(ctx context.Context) (vfsops.Entry, error) {
	n := f.src.Root()
	return f.entry(ctx, &n), nil
}

// Lookup walks names. ENOTDIR below a file, ESTALE for a handle that is not
// here any more.
func (f *FS) Lookup(ctx context.Context, req vfsops.LookupReq) (res vfsops.LookupRes, err error) {
	dir, err := f.node(ctx, req.Start)
	if err != nil {
		return res, err
	}
	if dir.Type != abi.VDIR {
		return res, abi.ENOTDIR
	}
	c := vfs.CallerOf(ctx)
	for _, name := range req.Names {
		n, ok := f.src.Child(ctx, c, &dir, string(name))
		if !ok {
			res.Err = abi.ENOENT
			break
		}
		res.Trace = append(res.Trace, f.entry(ctx, &n))
		if n.Type != abi.VDIR {
			break
		}
		dir = n
	}
	return res, nil
}

// Getattr answers the attributes. ESTALE.
func (f *FS) Getattr(ctx context.Context, h abi.Handle) (abi.Vattr, error) {
	n, err := f.node(ctx, h)
	if err != nil {
		return abi.Vattr{}, err
	}
	return f.attr(ctx, &n), nil
}

// Readdir lists a directory; cookies are file numbers.
func (f *FS) Readdir(ctx context.Context, req vfsops.ReaddirReq) (r vfsops.ReaddirRes, err error) {
	dir, err := f.node(ctx, req.Dir)
	if err != nil {
		return r, err
	}
	if dir.Type != abi.VDIR {
		return r, abi.ENOTDIR
	}
	nodes := dir.List(ctx, vfs.CallerOf(ctx))
	at := slices.IndexFunc(nodes, func(n Node) bool { return uint64(n.ID) > req.Cookie })
	if at < 0 {
		return vfsops.ReaddirRes{EOF: true}, nil
	}
	room := req.Max
	for i := range nodes[at:] {
		n := &nodes[at+i]
		if room -= 24 + len(n.Name); room < 0 {
			if len(r.Entries) == 0 {
				return r, abi.EINVAL
			}
			return r, nil
		}
		r.Entries = append(r.Entries, abi.Dirent{Fileid: n.ID, Cookie: uint64(n.ID), Type: n.Type, Name: n.Name})
	}
	r.EOF = true
	return r, nil
}

// Read reads contents made for this call alone; open files do not come here.
func (f *FS) Read(ctx context.Context, h abi.Handle, off int64, dst abi.Iov) (int, error) {
	n, err := f.node(ctx, h)
	switch {
	case err != nil:
		return 0, err
	case n.Type == abi.VDIR:
		return 0, abi.EISDIR
	case n.Read == nil:
		return 0, nil
	}
	b, err := n.Read(ctx, vfs.CallerOf(ctx))
	if err != nil {
		return 0, err
	}
	b = cut(b)
	if off < 0 || off >= int64(len(b)) {
		return 0, nil
	}
	return dst.CopyIn(b[off:]), nil
}

// Readlink makes the text of a symbolic link.
func (f *FS) Readlink(ctx context.Context, h abi.Handle) ([]byte, error) {
	n, err := f.node(ctx, h)
	switch {
	case err != nil:
		return nil, err
	case n.Type != abi.VLNK:
		return nil, abi.EINVAL
	}
	b, err := n.Read(ctx, vfs.CallerOf(ctx))
	if err == nil && len(b) >= abi.PATH_MAX {
		err = abi.ENAMETOOLONG
	}
	return b, err
}

// Statvfs says how many nodes the root has; there is no space.
func (f *FS) Statvfs(ctx context.Context) (abi.Statvfs, error) {
	root := f.src.Root()
	n := len(root.List(ctx, vfs.CallerOf(ctx)))
	return abi.Statvfs{Bsize: abi.PageSize, Frsize: abi.PageSize, Files: uint64(n) + 1, Namemax: abi.NAME_MAX}, nil
}

// Unmount has nothing to end.
func (f *FS) Unmount(context.Context) error { return nil }

// OpenFile opens a regular file and makes its contents (vfs.FileOpener). EPERM
// for writing to what has no Write; ESTALE.
func (f *FS) OpenFile(ctx context.Context, c *abi.Caller, h abi.Handle, flags int) (file.Ops, any, error) {
	n, err := f.node(ctx, h)
	if err != nil {
		return nil, nil, err
	}
	write := flags&abi.O_ACCMODE != abi.O_RDONLY
	if (write || flags&abi.O_TRUNC != 0) && n.Write == nil {
		return nil, nil, abi.EPERM
	}
	o := &openNode{n: n}
	if flags&abi.O_ACCMODE != abi.O_WRONLY && n.Read != nil {
		b, err := n.Read(ctx, c)
		if err != nil {
			return nil, nil, err
		}
		o.b = cut(b)
	}
	return o, nil, nil
}

// openNode is an open file: contents that do not change.
type openNode struct {
	file.NoOps
	n Node
	b []byte
}

// Read reads from what was made at the open.
func (o *openNode) Read(_ context.Context, _ *abi.Caller, f *file.File, dst []byte, off int64) (int, error) {
	if off != file.Cur {
		return o.at(dst, off)
	}
	f.OffMu.Lock()
	defer f.OffMu.Unlock()
	n, err := o.at(dst, f.Offset)
	f.Offset += int64(n)
	return n, err
}

func (o *openNode) at(dst []byte, off int64) (int, error) {
	if off < 0 {
		return 0, abi.EINVAL
	}
	if off >= int64(len(o.b)) {
		return 0, nil
	}
	return copy(dst, o.b[off:]), nil
}

// Write hands the bytes to the node; where they are meant to go is of no
// interest.
func (o *openNode) Write(ctx context.Context, c *abi.Caller, f *file.File, src []byte, off int64) (int, error) {
	if o.n.Write == nil {
		return 0, abi.EPERM
	}
	if len(src) > abi.PageSize {
		return 0, abi.EINVAL
	}
	if err := o.n.Write(ctx, c, src); err != nil {
		return 0, err
	}
	if off == file.Cur {
		f.OffMu.Lock()
		f.Offset += int64(len(src))
		f.OffMu.Unlock()
	}
	return len(src), nil
}

// Seek moves the offset. EINVAL, EOVERFLOW.
func (o *openNode) Seek(_ context.Context, _ *abi.Caller, f *file.File, off int64, whence int) (int64, error) {
	f.OffMu.Lock()
	defer f.OffMu.Unlock()
	base := int64(0)
	switch whence {
	case abi.SEEK_SET:
	case abi.SEEK_CUR:
		base = f.Offset
	case abi.SEEK_END:
		base = int64(len(o.b))
	default:
		return 0, abi.EINVAL
	}
	if off > 0 && base > math.MaxInt64-off {
		return 0, abi.EOVERFLOW
	}
	if base+off < 0 {
		return 0, abi.EINVAL
	}
	f.Offset = base + off
	return f.Offset, nil
}

// Poll: a file never waits.
func (o *openNode) Poll(_ context.Context, _ *file.File, want abi.PollEvents) abi.PollEvents {
	return want & (abi.POLLIN | abi.POLLRDNORM | abi.POLLOUT | abi.POLLWRNORM)
}

// Fsync has nothing to write.
func (o *openNode) Fsync(context.Context, *abi.Caller, *file.File, bool) error { return nil }
