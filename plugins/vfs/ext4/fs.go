package ext4

import (
	"context"
	"fmt"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// FS is a mounted file system.
type FS struct {
	fsid   abi.Fsid
	dev    devops.BlockIO
	geom   devops.Geom
	opt    options
	st     modapi.Store
	logger modapi.Logger
	mod    *Module // nil in tests

	// ioMu is held shared while file contents go to the device, so that a commit
	// comes behind those whose blocks it has.
	ioMu sync.RWMutex

	mu          sync.Mutex
	s           *super
	c           *cache
	j           *journal // nil: there is none, or it is not to be written to
	nodes       map[uint32]*node
	groupOK     map[uint32]bool   // descriptors that were looked at
	dirtyGroups map[uint32]bool   // whose bitmaps or descriptors changed since the last commit
	dirty       map[uint64]*buf   // blocks of the running transaction
	pend        map[uint32][]byte // blocks that the running transaction freed, as bitmaps of groups
	revoked     map[uint64]bool   // blocks of metadata that it freed
	revoking    []uint64          // and that the operation under way did
	dropping    []uint64
	pinsChanged map[uint32]bool // since the last checkpoint
	reap        []uint32        // orphans from which more is to be taken
	opID        uint64
	lastNow     abi.Timespec // of the last change
	overhead    uint64
	readOnly    bool
	wasValid    bool // the superblock said so
	noted       bool // that is in the Store
	broken      error
	damaged     bool // the superblock is to say so
	logged      int
}

// node is what is known of an inode that somebody uses. Protected by FS.mu.
type node struct {
	ino  uint32
	pins uint32
}

var (
	_ vfsops.FS         = (*FS)(nil)
	_ vfsops.Readlinker = (*FS)(nil)
	_ vfsops.HoleSeeker = (*FS)(nil)
	_ vfsops.Reclaimer  = (*FS)(nil)
)

// log tells of what is wrong, but not of all of it.
func (f *FS) log(what string, kv ...any) {
	const most = 100
	if f.logged++; f.logger != nil && f.logged <= most {
		f.logger.Warn(what, append(kv, "mount", f.fsid)...)
	}
}

// damage tells of damage, and does what the mount is to do then. It answers err.
func (f *FS) damage(err error, kv ...any) error {
	f.log("damaged: "+err.Error(), kv...)
	f.damaged = true
	if f.opt.remountRO && !f.readOnly {
		f.readOnly = true
		f.log("no changes from now on (errors=remount-ro)")
	}
	return err
}

// known reports whether an inode has been looked at.
func (f *FS) known(ino uint32) bool { return f.nodes[ino] != nil }

// nodesMost is how many nodes without pins are remembered.
const nodesMost = 1 << 16

func (f *FS) node(ino uint32) *node {
	n := f.nodes[ino]
	if n == nil {
		if len(f.nodes) >= nodesMost {
			for i, x := range f.nodes {
				if x.pins == 0 {
					delete(f.nodes, i)
				}
			}
		}
		n = &node{ino: ino}
		f.nodes[ino] = n
	}
	return n
}

// load finds the inode of a handle. ESTALE.
func (t *tx) load(h abi.Handle) (*inode, error) {
	f := t.f
	if h.FS != f.fsid || h.File == 0 || h.File > abi.Fileid(f.s.inodes) || h.File != rootIno && h.File < abi.Fileid(f.s.firstIno) {
		return nil, abi.ESTALE
	}
	in, err := t.inode(uint32(h.File))
	if err != nil {
		return nil, err
	}
	n := f.nodes[in.ino]
	if genOf(in.gen()) != h.Gen || in.links() == 0 && (n == nil || n.pins == 0) {
		return nil, abi.ESTALE
	}
	f.node(in.ino)
	return in, nil
}

// loadDir is load for a directory. ENOTDIR.
func (t *tx) loadDir(h abi.Handle) (*inode, error) {
	in, err := t.load(h)
	if err == nil && !in.isDir() {
		err = abi.ENOTDIR
	}
	return in, err
}

// loadFile is load for a regular file. EISDIR, EINVAL.
func (t *tx) loadFile(h abi.Handle) (*inode, error) {
	in, err := t.load(h)
	switch {
	case err != nil:
		return nil, err
	case in.isDir():
		return nil, abi.EISDIR
	case !in.isReg():
		return nil, abi.EINVAL
	}
	return in, nil
}

func (f *FS) entry(in *inode) vfsops.Entry {
	v := in.attr()
	return vfsops.Entry{Handle: v.Handle(f.fsid), Vattr: v}
}

// Root is the root directory.
func (f *FS) Root(ctx context.Context) (vfsops.Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	in, err := f.reader(ctx).inode(rootIno)
	if err == nil && !in.isDir() {
		err = fmt.Errorf("the root is no directory: %w", abi.EIO)
	}
	if err != nil {
		return vfsops.Entry{}, err
	}
	f.node(rootIno)
	return f.entry(in), nil
}

// entryIno loads the inode that a directory's entry names. EIO.
func (t *tx) entryIno(dir, ino uint32) (*inode, error) {
	if ino != rootIno && ino < t.f.s.firstIno || ino > t.f.s.inodes {
		return nil, t.f.damage(fmt.Errorf("directory %d has an entry for inode %d: %w", dir, ino, abi.EIO), "inode", dir)
	}
	in, err := t.inode(ino)
	if err == nil && in.links() == 0 {
		err = abi.ESTALE
	}
	if abi.ErrnoOf(err) == abi.ESTALE {
		err = t.f.damage(fmt.Errorf("directory %d has an entry for inode %d, which is not in use: %w", dir, ino, abi.EIO), "inode", dir)
	}
	return in, err
}

// Lookup walks names.
func (f *FS) Lookup(ctx context.Context, req vfsops.LookupReq) (vfsops.LookupRes, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.reader(ctx)
	in, err := t.loadDir(req.Start)
	if err != nil {
		return vfsops.LookupRes{}, err
	}
	res := vfsops.LookupRes{Trace: make([]vfsops.Entry, 0, len(req.Names))}
	for _, name := range req.Names {
		if !in.isDir() {
			break
		}
		if len(name) > abi.NAME_MAX {
			res.Err = abi.ENAMETOOLONG
			break
		}
		if in.links() == 0 {
			res.Err = abi.ENOENT
			break
		}
		r, err := t.find(in, name)
		if err == nil {
			in, err = t.entryIno(in.ino, r.ino)
		}
		if err != nil {
			if res.Err = abi.ErrnoOf(err); res.Err == abi.ESTALE {
				res.Err = abi.EIO
			}
			break
		}
		f.node(in.ino)
		res.Trace = append(res.Trace, f.entry(in))
	}
	return res, nil
}

// Getattr answers the attributes of a node.
func (f *FS) Getattr(ctx context.Context, h abi.Handle) (abi.Vattr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	in, err := f.reader(ctx).load(h)
	if err != nil {
		return abi.Vattr{}, err
	}
	return in.attr(), nil
}

// Readdir lists a directory in the order of its hashes.
func (f *FS) Readdir(ctx context.Context, req vfsops.ReaddirReq) (vfsops.ReaddirRes, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.reader(ctx)
	in, err := t.loadDir(req.Dir)
	if err != nil {
		return vfsops.ReaddirRes{}, err
	}
	return t.readdir(in, &req)
}

// maxLink bounds what a symbolic link says.
const maxLink = 4096

// Readlink reads a symbolic link. EINVAL: it is none.
func (f *FS) Readlink(ctx context.Context, h abi.Handle) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.reader(ctx)
	in, err := t.load(h)
	if err != nil {
		return nil, err
	}
	if !in.isLnk() {
		return nil, abi.EINVAL
	}
	n := in.size()
	if n <= 0 || n > maxLink || n >= f.s.bs && n >= inBlockLen {
		return nil, f.damage(fmt.Errorf("symbolic link %d of %d bytes: %w", in.ino, n, abi.EIO), "inode", in.ino)
	}
	if in.flags()&flInline != 0 {
		p, err := t.inlineData(in)
		if err == nil && int64(len(p)) < n {
			err = abi.EIO
		}
		if err != nil {
			return nil, err
		}
		return p[:n], nil
	}
	if in.fast() {
		return append([]byte(nil), in.block()[:n]...), nil
	}
	b, err := t.fileBlock(in, 0)
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), b.data[:n]...), nil
}

// fast reports whether a symbolic link is in its inode.
func (in *inode) fast() bool {
	return in.isLnk() && in.size() < inBlockLen && !in.extents() && in.flags()&flInline == 0
}

// Statvfs describes the file system.
func (f *FS) Statvfs(ctx context.Context) (abi.Statvfs, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.reader(ctx)
	sb, err := t.superBlock()
	if err != nil {
		return abi.Statvfs{}, err
	}
	u := func(lo, hi int) uint64 {
		n := uint64(le.Uint32(sb.raw[lo:]))
		if f.s.has(incompat64bit) {
			n |= uint64(le.Uint32(sb.raw[hi:])) << 32
		}
		return n
	}
	st := abi.Statvfs{Bsize: uint64(max(f.s.bs, abi.PageSize)), Frsize: uint64(f.s.bs), Blocks: f.s.blocks - min(f.overhead, f.s.blocks),
		Files: uint64(f.s.inodes), Ffree: uint64(le.Uint32(sb.raw[sbFreeInodes:])), Namemax: abi.NAME_MAX, Fsid: f.fsid, FSType: "ext4"}
	st.Bfree = min(u(sbFree, sbFreeHi), st.Blocks)
	st.Bavail = st.Bfree - min(u(sbReserved, sbReservedHi), st.Bfree)
	st.Ffree = min(st.Ffree, st.Files)
	return st, nil
}

// sbuf is the superblock in its block.
type sbuf struct {
	b   *buf
	raw []byte
}

func (t *tx) superBlock() (sbuf, error) {
	off := int64(superAt)
	b, err := t.get(uint64(off >> t.f.s.logBS))
	if err != nil {
		return sbuf{}, err
	}
	off &= t.f.s.bs - 1
	return sbuf{b, b.data[off : off+superLen]}, nil
}

// Getxattr reads an extended attribute. ENODATA.
func (f *FS) Getxattr(ctx context.Context, h abi.Handle, name []byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.reader(ctx)
	in, err := t.load(h)
	if err != nil {
		return nil, err
	}
	index, rest, err := xaName(name)
	if err != nil {
		return nil, err
	}
	v, err := t.xattr(in, index, rest)
	if err == nil && (index == 2 || index == 3) {
		v, err = aclFromDisk(v)
	}
	return v, err
}

// Listxattr answers the names.
func (f *FS) Listxattr(ctx context.Context, h abi.Handle) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.reader(ctx)
	in, err := t.load(h)
	if err != nil {
		return nil, err
	}
	xs, err := t.xattrs(in)
	if err != nil {
		return nil, err
	}
	var out []byte
	for i := range xs {
		if n := xs[i].full(); n != "" && n != "system.data" {
			out = append(append(out, n...), 0)
		}
	}
	return out, nil
}

// Reclaim forgets nodes that the kernel has forgotten.
func (f *FS) Reclaim(_ context.Context, hs []abi.Handle) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range hs {
		if n := f.nodes[uint32(h.File)]; n != nil && abi.Fileid(n.ino) == h.File && n.pins == 0 {
			delete(f.nodes, n.ino)
		}
	}
	return nil
}
