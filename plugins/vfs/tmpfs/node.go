package tmpfs

import (
	"context"
	"fmt"
	"maps"
	"math"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// node is a file of any type. FS.mu protects all of it.
type node struct {
	fileid abi.Fileid
	gen    abi.Gen
	mode   uint32
	nlink  uint32
	uid    uint32
	gid    uint32
	flags  uint32
	pins   uint32
	typ    abi.VType
	stored bool  // the Store has records of it, perhaps
	dirty  bool  // it is in FS.dirty
	size   int64 // regular files and symbolic links; directories count entries
	atime  abi.Timespec
	mtime  abi.Timespec
	ctime  abi.Timespec
	btime  abi.Timespec
	dir    *dir   // directories
	extra  *extra // what few nodes have
}

// extra is what few nodes have.
type extra struct {
	target string // symbolic links
	rdev   abi.Dev
	xattrs []xattr // in order of name
	xcost  int64   // of all of them, see xattr.cost
	xcold  bool    // they are in the Store only
	// Names of those that have changed since the last checkpoint.
	xchanged map[string]struct{}
}

// rootID is the root directory's fileid, as UFS has it.
const rootID abi.Fileid = 2

// direntSize is what an entry adds to the size of its directory: sizeof
// (tmpfs_dirent_t) on NetBSD/amd64.
const direntSize = 40

// roundPage rounds n up to whole pages, staying below the largest int64.
func roundPage(n int64) int64 {
	if n > math.MaxInt64-(abi.PageSize-1) {
		return math.MaxInt64 &^ (abi.PageSize - 1)
	}
	return (n + abi.PageSize - 1) &^ (abi.PageSize - 1)
}

// fill writes the attributes of n into v.
func (n *node) fill(v *abi.Vattr) {
	v.Type = n.typ
	v.Mode = n.mode
	v.Nlink = n.nlink
	v.Uid = n.uid
	v.Gid = n.gid
	v.Flags = n.flags
	v.Rdev = abi.NoDev
	v.Size = n.size
	switch {
	case n.dir != nil:
		v.Size = int64(n.dir.len()) * direntSize
	case n.typ == abi.VBLK || n.typ == abi.VCHR:
		v.Rdev = n.extra.rdev
	}
	v.Bytes = roundPage(v.Size)
	v.Blksize = abi.PageSize
	v.Fileid = n.fileid
	v.Gen = n.gen
	v.Atime = n.atime
	v.Mtime = n.mtime
	v.Ctime = n.ctime
	v.Btime = n.btime
}

// attr are the attributes of n.
func (n *node) attr() (v abi.Vattr) {
	n.fill(&v)
	return v
}

// touch marks n as changed: modification and change time.
func (n *node) touch(now abi.Timespec) {
	n.mtime, n.ctime = now, now
}

// ext is n.extra, made if need be.
func (n *node) ext() *extra {
	if n.extra == nil {
		n.extra = &extra{}
	}
	return n.extra
}

// target is the text of a symbolic link.
func (n *node) target() string {
	if n.extra == nil {
		return ""
	}
	return n.extra.target
}

// handle is the handle of n.
func (f *FS) handle(n *node) abi.Handle {
	return abi.Handle{FS: f.fsid, File: n.fileid, Gen: n.gen}
}

// entry is the Entry of n.
func (f *FS) entry(n *node) (e vfsops.Entry) {
	e.Handle = f.handle(n)
	n.fill(&e.Vattr)
	return e
}

// get finds the node of a handle; ESTALE if it is gone.
//
// Preconditions: f.mu is held, at least as by rlock.
func (f *FS) get(ctx context.Context, h abi.Handle) (*node, error) {
	n := f.nodes[h.File]
	if n == nil && f.lazy {
		var err error
		if n, err = f.byID(ctx, h.File); err != nil {
			return nil, err
		}
	}
	if n == nil || n.gen != h.Gen || h.FS != f.fsid {
		return nil, fmt.Errorf("tmpfs: %v: %w", h, abi.ESTALE)
	}
	return n, nil
}

// getDir is get for directories, with their entries; ENOTDIR for anything else.
func (f *FS) getDir(ctx context.Context, h abi.Handle) (*node, error) {
	n, err := f.get(ctx, h)
	switch {
	case err != nil:
		return nil, err
	case n.dir == nil:
		return nil, abi.ENOTDIR
	case n.dir.cold > 0:
		return n, f.warm(ctx, n)
	}
	return n, nil
}

// getLiveDir is getDir for one that takes entries; ENOENT if it was removed.
func (f *FS) getLiveDir(ctx context.Context, h abi.Handle) (*node, error) {
	n, err := f.getDir(ctx, h)
	if err == nil && n.nlink == 0 {
		return nil, abi.ENOENT
	}
	return n, err
}

// newID chooses the identity of a new node: the one that a replay brings
// along, or the next. Own ids are never used twice, so their generation is 1.
//
// Preconditions: f.mu is held.
func (f *FS) newID(ctx context.Context, op *vfsops.Op) (abi.Fileid, abi.Gen, error) {
	if id := op.Fileid; id != 0 {
		n, err := f.byID(ctx, id)
		if err != nil {
			return 0, 0, err
		}
		if n != nil {
			return 0, 0, fmt.Errorf("tmpfs: replay gives fileid %d, which is in use: %w", id, abi.EINVAL)
		}
		return id, max(op.Gen, 1), nil
	}
	if f.next == 0 || f.nodes[f.next] != nil {
		return 0, 0, fmt.Errorf("tmpfs: out of fileids: %w", abi.ENOSPC)
	}
	return f.next, 1, nil
}

// newNode makes a node without a name. It counts against the mount's nodes.
//
// Preconditions: f.mu is held; f.roomForName said yes.
func (f *FS) newNode(ctx context.Context, op *vfsops.Op, t abi.VType, mode, uid, gid uint32) (*node, error) {
	id, gen, err := f.newID(ctx, op)
	if err != nil {
		return nil, err
	}
	n := &node{
		fileid: id, gen: gen, typ: t, nlink: 1,
		mode: mode & abi.ALLPERMS, uid: uid, gid: gid,
		atime: op.Now, mtime: op.Now, ctime: op.Now, btime: op.Now,
	}
	if t == abi.VDIR {
		n.dir, n.nlink = &dir{}, 2
	}
	f.nodes[id] = n
	f.live++
	f.mark(n)
	if id >= f.next {
		f.next = id + 1 // 0 after the very last: newID says ENOSPC
	}
	return n, nil
}

// gone forgets n if nothing keeps it any more.
//
// Preconditions: f.mu is held.
func (f *FS) gone(n *node) {
	if !n.isGone() {
		return
	}
	f.peak = max(f.peak, len(f.nodes))
	delete(f.nodes, n.fileid)
	if f.peak >= shrinkFrom && len(f.nodes) < f.peak/4 {
		f.nodes = shrunk(f.nodes)
		f.peak = len(f.nodes)
	}
	f.live--
	if n.extra != nil {
		f.xbytes -= n.extra.xcost
	}
	f.bury(n)
}

// shrinkFrom is how large a map has been whose room is given back when most of
// it is empty: Go's maps never do that.
const shrinkFrom = 1 << 14

// shrunk is m with no more room than it needs.
func shrunk[K comparable, V any](m map[K]V) map[K]V {
	r := make(map[K]V, len(m))
	maps.Copy(r, m)
	return r
}

// isGone reports whether nothing keeps n.
func (n *node) isGone() bool { return n.nlink == 0 && n.pins == 0 }
