// Package devfs is the file system of device nodes: what the drivers that are
// attached now call their devices. It is built into the kernel, bound
// in-process, and the same vfsops.FSType as any module's.
//
// There is one directory. Its names come from the device switch at every call,
// and nothing here is remembered but which number a name has, so that handles
// stay right when a driver goes and comes. For the same reason it does not
// declare vfsops.CapSole: drivers come and go without the kernel's caches
// being told. Names cannot be made, removed or changed: the operations for
// that are missing, which reads as EROFS. Nodes belong to root and have the
// mode that the driver gave them. A node that shows as a regular file (etfs) is
// opened as the block device that it is, which moves bytes.
//
// Lock order: FS.mu is a leaf, but for the device switch's lock.
package devfs

import (
	"context"
	"slices"
	"sort"
	"sync"

	"github.com/rumpus-kernel/rumpus/kernel/dev"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Caps are the declared capabilities: none.
const Caps vfsops.Caps = 0

// rootID is the file number of the directory; nodes have those above it.
const rootID abi.Fileid = 2

// Devices lists device nodes by name; *dev.Switch does.
type Devices interface {
	Nodes() []dev.Node
}

// Opener opens the block device behind a node that shows as a regular file.
type Opener func(ctx context.Context, c *abi.Caller, n abi.Dev, flags int) (file.Ops, any, error)

// Type is the file-system type "devfs".
type Type struct {
	d    Devices
	open Opener
}

// New makes the file-system type over a device switch. Without open, what shows
// as a regular file cannot be opened (EIO).
func New(d Devices, open Opener) *Type { return &Type{d, open} }

// Mount makes a devfs. It takes no options (EINVAL); the source means nothing.
func (t *Type) Mount(_ context.Context, req *vfsops.MountReq) (vfsops.FS, error) {
	if len(req.Options) > 0 {
		return nil, abi.EINVAL
	}
	return &FS{d: t.d, open: t.open, fsid: req.Fsid, born: req.Op.Now, ids: make(map[string]known), last: rootID}, nil
}

// FS is a mounted devfs.
type FS struct {
	d    Devices
	open Opener
	fsid abi.Fsid
	born abi.Timespec

	mu   sync.Mutex
	ids  map[string]known // of all names ever seen, protected by mu
	last abi.Fileid       // protected by mu
}

var (
	_ vfsops.FSType = (*Type)(nil)
	_ vfsops.FS     = (*FS)(nil)
)

// known is the file number of a name, as long as it means the same device:
// another one is another file.
type known struct {
	id  abi.Fileid
	dev abi.Dev
	typ abi.VType
}

// item is a node with its file number.
type item struct {
	dev.Node
	id abi.Fileid
}

func vtype(n dev.Node) abi.VType {
	switch {
	case n.File:
		return abi.VREG
	case n.Blk:
		return abi.VBLK
	}
	return abi.VCHR
}

func (i item) vtype() abi.VType { return vtype(i.Node) }

// list answers what there is now, in the order of file numbers: a scan that
// goes on after a cookie sees each entry that stays exactly once, for numbers
// only grow.
func (f *FS) list() []item {
	nodes := f.d.Nodes()
	items := make([]item, len(nodes))
	f.mu.Lock()
	for i, n := range nodes {
		id, ok := f.ids[n.Name]
		if !ok || id.dev != n.Dev || id.typ != vtype(n) {
			f.last++
			id = known{f.last, n.Dev, vtype(n)}
			f.ids[n.Name] = id
		}
		items[i] = item{n, id.id}
	}
	f.mu.Unlock()
	sort.Slice(items, func(i, j int) bool { return items[i].id < items[j].id })
	return items
}

func (f *FS) entry(va abi.Vattr) vfsops.Entry {
	return vfsops.Entry{Handle: va.Handle(f.fsid), Vattr: va}
}

func (f *FS) rootAttr() abi.Vattr {
	return abi.Vattr{
		Type: abi.VDIR, Mode: 0o755, Nlink: 2, Size: 512, Blksize: abi.PageSize, Fileid: rootID, Gen: 1,
		Atime: f.born, Mtime: f.born, Ctime: f.born, Btime: f.born,
	}
}

func (f *FS) attr(i item) abi.Vattr {
	va := abi.Vattr{
		Type: i.vtype(), Mode: i.Mode, Nlink: 1, Rdev: i.Dev, Blksize: abi.PageSize, Fileid: i.id, Gen: 1,
		Atime: f.born, Mtime: f.born, Ctime: f.born, Btime: f.born,
	}
	if i.File {
		va.Rdev, va.Size, va.Bytes = 0, i.Size, i.Size
	}
	return va
}

// OpenFile opens what shows as a regular file (vfs.FileOpener). O_TRUNC does
// nothing: a disk has the size that it has.
func (f *FS) OpenFile(ctx context.Context, c *abi.Caller, h abi.Handle, flags int) (file.Ops, any, error) {
	i, err := f.find(h)
	switch {
	case err != nil:
		return nil, nil, err
	case !i.File || f.open == nil:
		return nil, nil, abi.EIO
	}
	return f.open(ctx, c, i.Dev, flags&^abi.O_TRUNC)
}

func (f *FS) isRoot(h abi.Handle) bool { return h == f.rootHandle() }

func (f *FS) rootHandle() abi.Handle { return abi.Handle{FS: f.fsid, File: rootID, Gen: 1} }

// Root is the directory.
func (f *FS) Root(context.Context) (vfsops.Entry, error) { return f.entry(f.rootAttr()), nil }

// Lookup finds one name; a node ends the walk. ENOTDIR below a node, ESTALE
// for a handle that is not here.
func (f *FS) Lookup(_ context.Context, req vfsops.LookupReq) (vfsops.LookupRes, error) {
	if !f.isRoot(req.Start) {
		if _, err := f.find(req.Start); err != nil {
			return vfsops.LookupRes{}, err
		}
		return vfsops.LookupRes{}, abi.ENOTDIR
	}
	if len(req.Names) == 0 {
		return vfsops.LookupRes{}, abi.EINVAL
	}
	name := string(req.Names[0])
	for _, i := range f.list() {
		if i.Name == name {
			return vfsops.LookupRes{Trace: []vfsops.Entry{f.entry(f.attr(i))}}, nil
		}
	}
	return vfsops.LookupRes{Err: abi.ENOENT}, nil
}

func (f *FS) find(h abi.Handle) (item, error) {
	if h.FS == f.fsid && h.Gen == 1 {
		for _, i := range f.list() {
			if i.id == h.File {
				return i, nil
			}
		}
	}
	return item{}, abi.ESTALE
}

// Getattr answers the attributes of a node; ESTALE while its driver is gone.
func (f *FS) Getattr(_ context.Context, h abi.Handle) (abi.Vattr, error) {
	if f.isRoot(h) {
		return f.rootAttr(), nil
	}
	i, err := f.find(h)
	if err != nil {
		return abi.Vattr{}, err
	}
	return f.attr(i), nil
}

// Readdir lists the nodes. Cookies are file numbers.
func (f *FS) Readdir(_ context.Context, req vfsops.ReaddirReq) (vfsops.ReaddirRes, error) {
	if !f.isRoot(req.Dir) {
		if _, err := f.find(req.Dir); err != nil {
			return vfsops.ReaddirRes{}, err
		}
		return vfsops.ReaddirRes{}, abi.ENOTDIR
	}
	items := f.list()
	at := slices.IndexFunc(items, func(i item) bool { return uint64(i.id) > req.Cookie })
	if at < 0 {
		return vfsops.ReaddirRes{EOF: true}, nil
	}
	var r vfsops.ReaddirRes
	room := req.Max
	for _, i := range items[at:] {
		if room -= 24 + len(i.Name); room < 0 {
			if len(r.Entries) == 0 {
				return r, abi.EINVAL
			}
			return r, nil
		}
		r.Entries = append(r.Entries, abi.Dirent{Fileid: i.id, Cookie: uint64(i.id), Type: i.vtype(), Name: i.Name})
	}
	r.EOF = true
	return r, nil
}

// Read is never asked of devices; EISDIR for the directory.
func (f *FS) Read(_ context.Context, h abi.Handle, _ int64, _ abi.Iov) (int, error) {
	if f.isRoot(h) {
		return 0, abi.EISDIR
	}
	return 0, abi.EIO
}

// Statvfs says how many nodes there are; there is no space.
func (f *FS) Statvfs(context.Context) (abi.Statvfs, error) {
	return abi.Statvfs{Bsize: abi.PageSize, Frsize: abi.PageSize, Files: uint64(len(f.d.Nodes())) + 1, Namemax: 255}, nil
}

// Unmount has nothing to end.
func (f *FS) Unmount(context.Context) error { return nil }
