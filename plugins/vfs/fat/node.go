package fat

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// rootID is the file id of the root; that of others is the index of their slot
// on the device, and slotID.
const (
	rootID  abi.Fileid = 1
	slotID             = 2
	freshID abi.Fileid = 1 << 56 // from here on: ids of files whose place was taken
)

// node is a file or directory that somebody knows. Protected by FS.mu.
type node struct {
	id   abi.Fileid
	gen  abi.Gen
	at   int64 // where its short slot is; 0: the root, or it has no name
	s    slot  // as it is on the device, or will be
	dir  bool
	ch   chain
	pins uint32
	// init is up to where a file has contents on the device; the rest is
	// zeroes that are yet to be written.
	init int64
	d    *dir // a directory that has been read
	gone bool // no name
}

func (n *node) size() int64 { return int64(n.s.size) }

// genOf is the generation of a file.
func (f *FS) genOf(id abi.Fileid, s *slot) abi.Gen {
	if g, odd := f.ids.gens[id]; odd {
		return g
	}
	return genOf(s)
}

// genOf is the generation of a file by the time of its creation.
func genOf(s *slot) abi.Gen {
	g := abi.Gen(uint32(s.btime.date)<<16|uint32(s.btime.time)) + abi.Gen(s.btime.cs)*2654435761
	return max(g, 1)
}

// idOf is the file id of what has its short slot at a place.
func (f *FS) idOf(at int64) abi.Fileid {
	if id, ok := f.ids.byPlace[at]; ok {
		return id
	}
	return abi.Fileid(at/slotSize) + slotID
}

// placeOf is where the short slot of an id is: 0 if it has no name, or nobody
// can have it.
func (f *FS) placeOf(id abi.Fileid) int64 {
	if at, ok := f.ids.byID[id]; ok {
		return at
	}
	if id <= slotID || id >= freshID {
		return 0
	}
	at := int64(id-slotID) * slotSize
	if _, other := f.ids.byPlace[at]; other {
		return 0
	}
	return at
}

// get finds the node of a handle. ESTALE if there is none.
func (f *FS) get(ctx context.Context, h abi.Handle) (*node, error) {
	if n := f.nodes[h.File]; n != nil {
		if h.FS != f.fsid || n.gen != h.Gen {
			return nil, abi.ESTALE
		}
		return n, nil
	}
	if h.FS != f.fsid {
		return nil, abi.ESTALE
	}
	// The kernel knows it from another process.
	at := f.placeOf(h.File)
	if at < f.t.root || at < f.t.data && f.t.rootSize == 0 || at >= f.t.at(f.t.clusters+1)+f.t.cluster {
		return nil, abi.ESTALE
	}
	n, err := f.nodeAt(ctx, at)
	if err == nil && n.gen != h.Gen {
		err = abi.ESTALE
	}
	return n, err
}

// nodeAt is the node whose short slot is at a place. ESTALE if there is none.
func (f *FS) nodeAt(ctx context.Context, at int64) (*node, error) {
	id := f.idOf(at)
	if n := f.nodes[id]; n != nil {
		return n, nil
	}
	var b [slotSize]byte
	if err := f.c.read(ctx, b[:], at, 0); err != nil {
		return nil, err
	}
	if b[0] == slotEnd || b[0] == slotFree || b[11]&attrLabel != 0 {
		return nil, abi.ESTALE
	}
	s := parseSlot(b[:])
	n := &node{id: id, gen: f.genOf(id, &s), at: at, s: s, dir: s.attr&attrDir != 0}
	if f.t.bits != 32 {
		n.s.first &= 0xffff
	}
	if n.dir {
		n.s.size = 0
	} else if n.s.size == 0 {
		n.s.first = 0 // what a chain behind nothing is fsck's business
	}
	n.init = n.size()
	n.ch.reset(n.s.first)
	f.nodes[id] = n
	return n, nil
}

// getDir is get for a directory. ENOTDIR.
func (f *FS) getDir(ctx context.Context, h abi.Handle) (*node, error) {
	n, err := f.get(ctx, h)
	switch {
	case err != nil:
		return nil, err
	case !n.dir:
		return nil, abi.ENOTDIR
	}
	return n, f.readDir(ctx, n)
}

// clustersFor is how many clusters so many bytes need.
func (f *FS) clustersFor(size int64) uint32 {
	return uint32((size + f.t.cluster - 1) / f.t.cluster)
}

// attr is what stat shows. Preconditions: the whole chain of a directory is
// known (readDir).
func (f *FS) attr(n *node) abi.Vattr {
	v := abi.Vattr{Type: abi.VREG, Mode: f.opt.mask, Nlink: 1, Uid: f.opt.uid, Gid: f.opt.gid, Fileid: n.id, Gen: n.gen,
		Size: n.size(), Blksize: uint32(max(f.t.cluster, abi.PageSize))}
	v.Bytes = int64(f.clustersFor(v.Size)) * f.t.cluster
	if n.dir {
		v.Type, v.Mode, v.Nlink = abi.VDIR, f.opt.dirmask, 2
		if n.d != nil {
			v.Nlink += n.d.dirs
		}
		v.Size = int64(n.ch.n) * f.t.cluster
		if n.id == rootID && f.t.rootSize > 0 {
			v.Size = f.t.rootSize
		}
		v.Bytes = v.Size
	} else if n.s.attr&attrReadOnly != 0 {
		v.Mode &^= 0o222
	}
	if n.gone {
		v.Nlink = 0
	}
	v.Mtime = f.opt.fromFat(fatTime{n.s.mdate, n.s.mtime, 0})
	v.Atime = f.opt.fromFat(fatTime{date: n.s.adate})
	v.Ctime = v.Mtime
	v.Btime = f.opt.fromFat(n.s.btime)
	return v
}

func (f *FS) entry(n *node) vfsops.Entry {
	return vfsops.Entry{Handle: abi.Handle{FS: f.fsid, File: n.id, Gen: n.gen}, Vattr: f.attr(n)}
}

// store writes a node's slot to where it is.
func (f *FS) store(ctx context.Context, n *node) error {
	n.s.first = n.ch.first
	if n.at == 0 { // the root's is in the Store, as is that of a file without a name
		f.ids.changed[n.id] = true
		return nil
	}
	if f.t.bits != 32 && n.s.first > 0xffff {
		return fmt.Errorf("cluster %d in a slot of 16 bits: %w", n.s.first, abi.EIO)
	}
	return f.c.write(ctx, n.s.bytes(), n.at)
}

// touched sets the time of the last change.
func (f *FS) touched(n *node, now abi.Timespec) {
	t := f.opt.toFat(now)
	n.s.mdate, n.s.mtime = t.date, t.time
	if !n.dir {
		n.s.attr |= attrArchive
	}
}

// ids are the file ids that are not those of their places.
type ids struct {
	byPlace map[int64]abi.Fileid
	byID    map[abi.Fileid]int64 // 0: it has no name
	next    abi.Fileid
	changed map[abi.Fileid]bool // since the last checkpoint; rootID: next
	burnt   map[abi.Fileid]abi.Gen
	gens    map[abi.Fileid]abi.Gen // those that genOf does not answer, given by a replay
}

// taken reports whether a file has an id that would be another's by its place.
func (i *ids) taken(id abi.Fileid) bool {
	_, ok := i.byID[id]
	return ok
}

// leave notes that a node is not at its place any more. It is put elsewhere, or
// forgotten.
func (f *FS) leave(n *node) {
	if f.ids.byPlace[n.at] == n.id {
		delete(f.ids.byPlace, n.at)
	}
	n.at = 0
	f.ids.byID[n.id] = 0
	f.ids.changed[n.id] = true
}

// put notes that a node is at a place from now on. Preconditions: it is at none.
func (f *FS) put(n *node, at int64) {
	n.at = at
	f.ids.changed[n.id] = true
	if abi.Fileid(at/slotSize)+slotID == n.id {
		delete(f.ids.byID, n.id)
		return
	}
	f.ids.byID[n.id] = at
	f.ids.byPlace[at] = n.id
}

// forget frees the id of a node that is gone for good.
func (f *FS) forget(n *node) {
	f.leave(n)
	i := &f.ids
	if len(i.burnt) > 1<<16 {
		clear(i.burnt)
	}
	i.burnt[n.id] = n.gen
	delete(i.byID, n.id)
	delete(i.gens, n.id)
	delete(f.nodes, n.id)
	delete(f.lazy, n)
}

// newID gives a file made at a place its id and generation: those of a replay,
// or by the place, or a fresh id. EEXIST: a replay's is in use.
func (f *FS) newID(op *vfsops.Op, n *node, at int64) error {
	n.gen = genOf(&n.s)
	n.id = abi.Fileid(at/slotSize) + slotID
	if op.Fileid != 0 {
		if f.nodes[op.Fileid] != nil || f.ids.taken(op.Fileid) {
			return fmt.Errorf("replay of file %d.%d: %w", op.Fileid, op.Gen, abi.EEXIST)
		}
		n.id = op.Fileid
		if n.id >= f.ids.next {
			f.ids.next = n.id + 1
		}
		if op.Gen != n.gen {
			n.gen = op.Gen
			f.ids.gens[n.id] = op.Gen
		}
		return nil
	}
	if g, was := f.ids.burnt[n.id]; f.ids.taken(n.id) || f.nodes[n.id] != nil || was && g == n.gen {
		f.ids.next = max(f.ids.next, freshID)
		n.id = f.ids.next
		f.ids.next++
	}
	return nil
}
