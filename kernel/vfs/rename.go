package vfs

import (
	"context"
	"errors"
	"strings"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Rename moves old to path, replacing what is there (rename(2)). flags are
// RENAME_NOREPLACE or RENAME_EXCHANGE. Two names of one file stay as they are,
// as POSIX wants it. EXDEV, EINVAL for a directory into itself or "." and
// "..", ENOTEMPTY, ENOTDIR, EISDIR, EBUSY for a mount point.
func (fs *VFS) Rename(ctx context.Context, w Where, old string, wnew Where, path string, flags uint32) error {
	if flags&^(abi.RENAME_NOREPLACE|abi.RENAME_EXCHANGE) != 0 || flags == abi.RENAME_NOREPLACE|abi.RENAME_EXCHANGE {
		return abi.EINVAL
	}
	for try := 0; ; try++ {
		fdir, fname, fslash, err := fs.nameiParent(ctx, &w, old)
		if err != nil {
			return err
		}
		tdir, tname, tslash, err := fs.nameiParent(ctx, &wnew, path)
		if err != nil {
			fdir.put()
			return err
		}
		r := &renameOp{fs: fs, ctx: ctx, c: w.Caller, fdir: fdir, tdir: tdir, fname: fname, tname: tname, flags: flags}
		r.wantDir = fslash || tslash
		err = r.check()
		if err == nil {
			err = r.locked()
		}
		fdir.put()
		tdir.put()
		if err == nil || !errors.Is(err, abi.ESTALE) || try >= staleTries || fdir.dead.Load() != 0 || tdir.dead.Load() != 0 {
			return err
		}
		fs.cnt.stale.Inc()
		fs.nc.remove(fdir, fname)
		fs.nc.remove(tdir, tname)
		fdir.invalidate()
		tdir.invalidate()
	}
}

type renameOp struct {
	fs           *VFS
	ctx          context.Context
	c            *abi.Caller
	fdir, tdir   *Vnode
	fname, tname string
	from, to     *Vnode
	flags        uint32
	wantDir      bool // slashes follow a name
	fdva, tdva   abi.Vattr
	expect       func(from, to *Vnode) bool // not nil: ESTALE unless it answers true
}

// check is what needs no lock.
func (r *renameOp) check() error {
	for _, n := range []string{r.fname, r.tname} {
		switch n {
		case "":
			return abi.EBUSY // a root
		case ".", "..":
			return abi.EINVAL
		}
	}
	if r.fdir.m != r.tdir.m {
		// A mount point is busy wherever it would go: EXDEV would have mv copy it.
		if r.fs.mountPoint(r.fdir, r.fname) || r.fs.mountPoint(r.tdir, r.tname) {
			return abi.EBUSY
		}
		return abi.EXDEV
	}
	return nil
}

// mountPoint reports whether something is mounted on the directory called name
// in dir.
func (fs *VFS) mountPoint(dir *Vnode, name string) bool {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	dir.m.treeMu.RLock()
	defer dir.m.treeMu.RUnlock()
	for _, m := range fs.mounts {
		on := m.on.Load()
		if on != nil && on.m == dir.m && on.link != nil && on.link.dir == dir && on.link.name == name {
			return true
		}
	}
	return false
}

// lockDirs locks both directories: the one above first, else by handle. It
// answers how to unlock.
func (r *renameOp) lockDirs() func() {
	a, b := r.fdir, r.tdir
	if a == b {
		a.mu.Lock()
		return a.mu.Unlock
	}
	if a.below(b) || !b.below(a) && b.handle().Less(a.handle()) {
		a, b = b, a
	}
	a.mu.Lock()
	b.mu.Lock()
	return func() { b.mu.Unlock(); a.mu.Unlock() }
}

// locked does the rename under the mount's rename lock.
func (r *renameOp) locked() error {
	m := r.fdir.m
	b, err := r.fdir.bind(r.ctx)
	if err != nil {
		return err
	}
	m.renameMu.Lock()
	defer m.renameMu.Unlock()
	defer r.lockDirs()()
	defer func() {
		for _, v := range []*Vnode{r.from, r.to} {
			if v != nil {
				v.put()
			}
		}
	}()
	for _, d := range []struct {
		v  *Vnode
		va *abi.Vattr
	}{{r.fdir, &r.fdva}, {r.tdir, &r.tdva}} {
		if d.v.unlinked.Load() {
			return abi.ENOENT
		}
		if err := d.v.getattrLocked(r.ctx, d.va); err != nil {
			return err
		}
		if err := d.v.access(r.ctx, r.c, abi.VEXEC, d.va); err != nil {
			return err
		}
	}
	if r.from, err = r.fdir.lookupLocked(r.ctx, b, r.fname); err != nil {
		return err
	}
	if r.from == nil {
		return abi.ENOENT
	}
	if r.to, err = r.tdir.lookupLocked(r.ctx, b, r.tname); err != nil {
		return err
	}
	if r.from == r.to && m.casefold() && r.fdir == r.tdir && r.fname != r.tname &&
		strings.EqualFold(r.fname, r.tname) && r.flags&abi.RENAME_EXCHANGE == 0 {
		// The same name, to be spelt otherwise.
		r.to.put()
		r.to = nil
	}
	if r.expect != nil && !r.expect(r.from, r.to) {
		return abi.ESTALE
	}
	if err := r.tree(); err != nil {
		return err
	}
	if r.from == r.to {
		return nil
	}
	defer r.lockNodes()()
	if err := r.authorize(); err != nil {
		return err
	}
	if b.renamer == nil {
		return abi.EROFS
	}
	unpin := func() {}
	if r.to != nil && r.flags&abi.RENAME_EXCHANGE == 0 {
		var va abi.Vattr
		if err := r.to.getattrLocked(r.ctx, &va); err != nil {
			return err
		}
		if unpin, err = r.to.pinLocked(r.ctx, b, &va, 1); err != nil {
			return err
		}
	}
	if err = r.call(b); err != nil {
		unpin()
	}
	return err
}

// tree checks what the shape of the tree and the types forbid.
func (r *renameOp) tree() error {
	from, to := r.from, r.to
	exchange := r.flags&abi.RENAME_EXCHANGE != 0
	isDir := from.typ == abi.VDIR
	switch {
	case r.flags&abi.RENAME_NOREPLACE != 0 && to != nil:
		return abi.EEXIST
	case exchange && to == nil:
		return abi.ENOENT
	case isDir && r.tdir.below(from):
		return abi.EINVAL
	case to != nil && to.typ == abi.VDIR && r.fdir.below(to) && exchange:
		return abi.EINVAL
	case to != nil && to.typ == abi.VDIR && r.fdir.below(to):
		if !isDir {
			return abi.EISDIR
		}
		return abi.ENOTEMPTY
	case from.mounted.Load() != nil || to != nil && to.mounted.Load() != nil:
		return abi.EBUSY
	case r.wantDir && !isDir:
		return abi.ENOTDIR
	case exchange || to == nil:
	case isDir && to.typ != abi.VDIR:
		return abi.ENOTDIR
	case !isDir && to.typ == abi.VDIR:
		return abi.EISDIR
	}
	return nil
}

// lockNodes locks from and to, by handle.
func (r *renameOp) lockNodes() func() {
	a, b := r.from, r.to
	if b == nil {
		a.mu.Lock()
		return a.mu.Unlock
	}
	if b.handle().Less(a.handle()) {
		a, b = b, a
	}
	a.mu.Lock()
	b.mu.Lock()
	return func() { b.mu.Unlock(); a.mu.Unlock() }
}

// authorize asks for the right to take the names away and make them, and, for
// a directory that gets another parent, to change its "..".
func (r *renameOp) authorize() error {
	nodes := []*Vnode{r.from}
	if r.to != nil {
		nodes = append(nodes, r.to)
	} else if err := r.tdir.access(r.ctx, r.c, abi.VWRITE, &r.tdva); err != nil {
		return err
	}
	for i, v := range nodes {
		dir, dva := r.fdir, &r.fdva
		if i == 1 {
			dir, dva = r.tdir, &r.tdva
		}
		var va abi.Vattr
		if err := v.getattrLocked(r.ctx, &va); err != nil {
			return err
		}
		if err := v.mayDelete(r.ctx, r.c, dir, dva, &va); err != nil {
			return err
		}
		if v.typ == abi.VDIR && r.fdir != r.tdir && (i == 0 || r.flags&abi.RENAME_EXCHANGE != 0) {
			if err := v.access(r.ctx, r.c, abi.VWRITE, &va); err != nil {
				return err
			}
		}
	}
	return nil
}

// note tells who watches of the names that came and went. What the target lost
// is told where its attributes change.
func (r *renameOp) note() {
	hint := uint32(abi.NOTE_WRITE)
	if r.from.typ == abi.VDIR && r.fdir != r.tdir {
		hint |= abi.NOTE_LINK // another ".."
	}
	r.fdir.note(r.ctx, hint)
	if r.tdir != r.fdir {
		r.tdir.note(r.ctx, hint)
	}
	r.from.note(r.ctx, abi.NOTE_RENAME)
	if r.flags&abi.RENAME_EXCHANGE != 0 {
		r.to.note(r.ctx, abi.NOTE_RENAME)
	}
}

// call asks the file system and brings the caches up to date.
func (r *renameOp) call(b *binding) error {
	m, nc := r.fdir.m, r.fs.nc
	exchange := r.flags&abi.RENAME_EXCHANGE != 0
	req := vfsops.RenameReq{Op: m.op(r.c), FDir: r.fdir.handle(), FName: []byte(r.fname), From: r.from.handle(),
		TDir: r.tdir.handle(), TName: []byte(r.tname), Flags: r.flags & abi.RENAME_EXCHANGE}
	if r.to != nil {
		req.To = r.to.handle()
	}
	m.begin()
	defer m.end()
	res, err := b.renamer.Rename(r.ctx, req)
	if errors.Is(err, abi.ENOSPC) && m.squeeze(r.ctx, b, nil) {
		res, err = b.renamer.Rename(r.ctx, req)
	}
	r.fs.lists.drop(r.fdir)
	r.fs.lists.drop(r.tdir)
	r.fdir.entryChanged(r.ctx, r.fname)
	r.tdir.entryChanged(r.ctx, r.tname)
	if err != nil {
		if e := abi.ErrnoOf(err); e != abi.ENOTEMPTY {
			nc.remove(r.fdir, r.fname)
			nc.remove(r.tdir, r.tname)
			for _, v := range []*Vnode{r.fdir, r.tdir, r.from, r.to} {
				if v != nil {
					v.invalidate()
				}
			}
		}
		return err
	}
	r.fdir.apply(b, &res.Dir)
	if r.tdir != r.fdir {
		r.tdir.apply(b, &res.Dir2)
	}
	r.from.apply(b, &res.Node.Vattr)
	r.note()
	m.spellings(r.fdir)
	m.spellings(r.tdir)
	m.cacheName(b, r.tdir, r.tname, r.from, nil)
	if exchange {
		r.to.apply(b, &res.Victim)
		m.cacheName(b, r.fdir, r.fname, r.to, nil)
	} else {
		m.cacheName(b, r.fdir, r.fname, nil, nil)
		if r.to != nil {
			r.to.removed(r.ctx, b, &res.Victim, r.to.typ == abi.VDIR)
		}
	}
	if r.from.typ == abi.VDIR {
		r.from.setLink(r.tdir, r.tname, nil)
	}
	if exchange && r.to.typ == abi.VDIR {
		r.to.setLink(r.fdir, r.fname, nil)
	}
	return nil
}
