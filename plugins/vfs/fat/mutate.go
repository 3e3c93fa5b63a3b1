package fat

import (
	"context"
	"fmt"
	"math"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// ready prepares a mutator.
func (f *FS) ready(ctx context.Context) error {
	switch {
	case f.broken != nil:
		return f.broken
	case f.ro:
		return abi.EROFS
	}
	if err := f.t.load(ctx); err != nil || f.dirty {
		return err
	}
	return f.setDirty(ctx, true)
}

// Create makes a regular file.
func (f *FS) Create(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	s := slot{attr: attrArchive}
	if req.Mode&0o200 == 0 {
		s.attr |= attrReadOnly
	}
	return f.make(ctx, &req, s)
}

// Mkdir makes a directory.
func (f *FS) Mkdir(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return f.make(ctx, &req, slot{attr: attrDir})
}

func (f *FS) make(ctx context.Context, req *vfsops.CreateReq, s slot) (m vfsops.Mutated, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(ctx); err != nil {
		return m, err
	}
	dir, err := f.getDir(ctx, req.Dir)
	switch {
	case err != nil:
		return m, err
	case dir.gone:
		return m, abi.ENOENT
	case len(req.Name) > abi.NAME_MAX:
		return m, abi.ENAMETOOLONG
	case dir.d.find(req.Name) != nil:
		return m, abi.EEXIST
	}
	nm, err := dir.d.nameFor(req.Name, nil)
	if err != nil {
		return m, err
	}
	from, err := f.place(ctx, dir, nm.slots)
	if err != nil {
		return m, err
	}
	t := f.opt.toFat(req.Op.Now)
	s.name, s.nt, s.btime, s.adate, s.mdate, s.mtime = nm.sn, nm.nt, t, t.date, t.date, t.time
	isDir := s.attr&attrDir != 0
	n := &node{s: s, dir: isDir}
	n.ch.reset(0)
	at := f.slotAt(dir, from+nm.slots-1)
	if isDir && f.avail() == 0 {
		return m, abi.ENOSPC
	}
	if err := f.newID(&req.Op, n, at); err != nil {
		return m, err
	}
	err = f.changing(ctx, func() error {
		if isDir {
			if err := f.newDir(ctx, n, dir); err != nil {
				return err
			}
		}
		if _, err := f.insert(ctx, dir, from, &nm, isDir); err != nil {
			return err
		}
		f.nodes[n.id] = n
		f.put(n, at)
		if err := f.store(ctx, n); err != nil {
			return err
		}
		f.touched(dir, req.Op.Now)
		return f.store(ctx, dir)
	})
	if err != nil {
		return m, err
	}
	return vfsops.Mutated{Node: f.entry(n), Dir: f.attr(dir)}, nil
}

// newDir gives a directory its first cluster, with its two names.
func (f *FS) newDir(ctx context.Context, n, parent *node) error {
	if err := f.t.grow(ctx, &n.ch, 1); err != nil {
		return err
	}
	at := f.t.at(n.ch.first)
	if err := f.c.zero(ctx, at, f.t.cluster); err != nil {
		return err
	}
	f.own(n)
	dot, dotdot := n.s, n.s
	dot.nt, dotdot.nt = 0, 0
	dot.name, dot.first = dotName, n.ch.first
	dotdot.name, dotdot.first = dotdotName, firstOf(parent)
	slots := int(f.t.cluster / slotSize)
	n.d = &dir{slots: slots, end: 2, ents: make([]*dent, slots), used: make([]bool, slots), byName: map[string]*dent{}, short: map[[11]byte]bool{}}
	n.d.used[0], n.d.used[1] = true, true
	return f.c.write(ctx, append(dot.bytes(), dotdot.bytes()...), at)
}

// firstOf is how a directory's `..` names its parent: the root is 0 always.
func firstOf(parent *node) uint32 {
	if parent.id == rootID {
		return 0
	}
	return parent.ch.first
}

// named finds an entry of a directory, which must be that of a node. ESTALE if
// it is not.
func (f *FS) named(ctx context.Context, dir *node, name []byte, h abi.Handle) (*dent, *node, error) {
	e := dir.d.find(name)
	if e == nil || dir.gone {
		return nil, nil, abi.ESTALE
	}
	n, err := f.nodeOf(ctx, e)
	if err != nil {
		return nil, nil, err
	}
	if n.id != h.File || n.gen != h.Gen || h.FS != f.fsid {
		return nil, nil, abi.ESTALE
	}
	return e, n, nil
}

// Remove takes away the name of a file.
func (f *FS) Remove(ctx context.Context, req vfsops.RemoveReq) (vfsops.Mutated, error) {
	return f.remove(ctx, &req, false)
}

// Rmdir removes an empty directory.
func (f *FS) Rmdir(ctx context.Context, req vfsops.RemoveReq) (vfsops.Mutated, error) {
	return f.remove(ctx, &req, true)
}

func (f *FS) remove(ctx context.Context, req *vfsops.RemoveReq, isDir bool) (m vfsops.Mutated, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(ctx); err != nil {
		return m, err
	}
	dir, err := f.getDir(ctx, req.Dir)
	if err != nil {
		return m, err
	}
	e, n, err := f.named(ctx, dir, req.Name, req.Victim)
	switch {
	case err != nil:
		return m, err
	case isDir && !n.dir:
		return m, abi.ENOTDIR
	case !isDir && n.dir:
		return m, abi.EISDIR
	case isDir && n.d.n > 0:
		return m, abi.ENOTEMPTY
	}
	err = f.changing(ctx, func() error {
		if err := f.unname(ctx, dir, e, n); err != nil {
			return err
		}
		f.touched(dir, req.Op.Now)
		return f.store(ctx, dir)
	})
	if err != nil {
		return m, err
	}
	return vfsops.Mutated{Dir: f.attr(dir), Victim: f.attr(n)}, nil
}

// unname takes away the only name of a node, which is gone unless it is pinned.
func (f *FS) unname(ctx context.Context, dir *node, e *dent, n *node) error {
	if err := f.erase(ctx, dir, e); err != nil {
		return err
	}
	f.leave(n)
	n.gone = true
	if n.pins > 0 {
		return nil
	}
	return f.end(ctx, n)
}

// end frees what a node without a name has.
func (f *FS) end(ctx context.Context, n *node) error {
	if err := f.t.load(ctx); err != nil {
		return err
	}
	first := n.ch.first
	f.forget(n)
	f.disown(n)
	if n.ch.runs = nil; first == 0 {
		return nil
	}
	return f.t.release(ctx, first)
}

// Setattr changes times and whether a file may be written. EINVAL: another
// owner; EOPNOTSUPP: flags.
func (f *FS) Setattr(ctx context.Context, req vfsops.SetattrReq) (abi.Vattr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(ctx); err != nil {
		return abi.Vattr{}, err
	}
	n, err := f.get(ctx, req.Node)
	if err == nil && n.dir {
		err = f.readDir(ctx, n)
	}
	a := &req.Attr
	switch {
	case err != nil:
		return abi.Vattr{}, err
	case req.Mask&abi.SetUid != 0 && a.Uid != f.opt.uid, req.Mask&abi.SetGid != 0 && a.Gid != f.opt.gid:
		return abi.Vattr{}, fmt.Errorf("FAT has no owners: %w", abi.EINVAL)
	case req.Mask&abi.SetFlags != 0 && a.Flags != 0:
		return abi.Vattr{}, abi.EOPNOTSUPP
	}
	if req.Mask&abi.SetMode != 0 && !n.dir {
		n.s.attr &^= attrReadOnly
		if a.Mode&0o222 == 0 {
			n.s.attr |= attrReadOnly
		}
	}
	if req.Mask&abi.SetAtime != 0 {
		n.s.adate = f.opt.toFat(a.Atime).date
	}
	if req.Mask&abi.SetMtime != 0 {
		t := f.opt.toFat(a.Mtime)
		n.s.mdate, n.s.mtime = t.date, t.time
	}
	if err := f.changing(ctx, func() error { return f.store(ctx, n) }); err != nil {
		return abi.Vattr{}, err
	}
	return f.attr(n), nil
}

// Link is EOPNOTSUPP.
func (f *FS) Link(context.Context, vfsops.LinkReq) (vfsops.Mutated, error) {
	return vfsops.Mutated{}, abi.EOPNOTSUPP
}

// Symlink is EOPNOTSUPP.
func (f *FS) Symlink(context.Context, vfsops.SymlinkReq) (vfsops.Mutated, error) {
	return vfsops.Mutated{}, abi.EOPNOTSUPP
}

// Mknod is EOPNOTSUPP.
func (f *FS) Mknod(context.Context, vfsops.MknodReq) (vfsops.Mutated, error) {
	return vfsops.Mutated{}, abi.EOPNOTSUPP
}

// Truncate changes the size of a file. EFBIG, ENOSPC.
func (f *FS) Truncate(ctx context.Context, op vfsops.Op, h abi.Handle, size int64) (abi.Vattr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(ctx); err != nil {
		return abi.Vattr{}, err
	}
	n, err := f.getFile(ctx, h)
	if err != nil {
		return abi.Vattr{}, err
	}
	if size < 0 {
		return abi.Vattr{}, abi.EINVAL
	}
	if err := f.resize(ctx, n, size, f.avail()); err != nil {
		return abi.Vattr{}, err
	}
	f.touched(n, op.Now)
	if err := f.changing(ctx, func() error { return f.store(ctx, n) }); err != nil {
		return abi.Vattr{}, err
	}
	return f.attr(n), nil
}

// getFile is get for a regular file. EISDIR.
func (f *FS) getFile(ctx context.Context, h abi.Handle) (*node, error) {
	n, err := f.get(ctx, h)
	if err == nil && n.dir {
		return nil, abi.EISDIR
	}
	return n, err
}

// resize gives a file so many bytes, and the clusters for them, of which free
// can be had.
func (f *FS) resize(ctx context.Context, n *node, size int64, free uint32) error {
	if size > math.MaxUint32 {
		return abi.EFBIG
	}
	if err := f.t.walk(ctx, &n.ch, math.MaxUint32); err != nil {
		return err
	}
	want := f.clustersFor(size)
	if want > n.ch.n && want-n.ch.n > free {
		return abi.ENOSPC
	}
	return f.changing(ctx, func() error {
		if err := f.t.grow(ctx, &n.ch, want); err != nil {
			return err
		}
		if err := f.t.shrink(ctx, &n.ch, want); err != nil {
			return err
		}
		n.s.size = uint32(size)
		n.init = min(n.init, size)
		f.isLazy(n)
		return f.store(ctx, n)
	})
}

func (f *FS) isLazy(n *node) {
	if n.init < n.size() {
		if f.lazy == nil {
			f.lazy = map[*node]bool{}
		}
		f.lazy[n] = true
		return
	}
	delete(f.lazy, n)
}
