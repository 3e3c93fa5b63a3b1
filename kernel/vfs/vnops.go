package vfs

import (
	"context"
	"errors"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// staleTries is how often a mutator looks a name up again when the file system
// says that it is not what the kernel thought.
const staleTries = 5

// inParent finds the directory of path, locks it, looks the last name up and
// calls fn with both (v nil: no such name) and the directory's attributes; fn
// may be called again if it answers ESTALE. fn finds v unlocked.
func (fs *VFS) inParent(ctx context.Context, w Where, path string, fn func(p *parentOp) error) error {
	for try := 0; ; try++ {
		dir, last, slash, err := fs.nameiParent(ctx, &w, path)
		if err != nil {
			return err
		}
		p := &parentOp{fs: fs, ctx: ctx, c: w.Caller, w: &w, dir: dir, name: last, slash: slash}
		err = p.run(fn)
		dir.put()
		if err == nil || !errors.Is(err, abi.ESTALE) || try >= staleTries || dir.dead.Load() != 0 {
			return err
		}
		fs.cnt.stale.Inc()
		fs.nc.remove(dir, last)
		dir.invalidate()
	}
}

// parentOp is one operation on a name in a directory.
type parentOp struct {
	fs    *VFS
	ctx   context.Context
	c     *abi.Caller
	w     *Where
	dir   *Vnode
	name  string // may be "", "." or ".."
	slash bool
	b     *binding
	v     *Vnode    // what name is, nil if nothing
	dva   abi.Vattr // of dir
}

// dots reports whether the name is none that can be made or removed.
func (p *parentOp) dots() bool { return p.name == "" || p.name == "." || p.name == ".." }

func (p *parentOp) run(fn func(p *parentOp) error) error {
	if p.dots() {
		return fn(p)
	}
	b, err := p.dir.bind(p.ctx)
	if err != nil {
		return err
	}
	p.b = b
	p.dir.mu.Lock()
	defer p.dir.mu.Unlock()
	if err := p.load(); err != nil {
		return err
	}
	err = fn(p)
	if p.v != nil {
		p.v.put()
		p.v = nil
	}
	return err
}

// load gets the directory's attributes and the name. Preconditions: dir is
// locked.
func (p *parentOp) load() error {
	if err := p.dir.err(); err != nil {
		return err
	}
	if p.dir.unlinked.Load() {
		return abi.ENOENT
	}
	if err := p.dir.getattrLocked(p.ctx, &p.dva); err != nil {
		return err
	}
	if err := p.dir.access(p.ctx, p.c, abi.VEXEC, &p.dva); err != nil {
		return err
	}
	var err error
	p.v, err = p.dir.lookupLocked(p.ctx, p.b, p.name)
	return err
}

// mayCreate says whether the name can be made, EEXIST first.
func (p *parentOp) mayCreate() error {
	switch {
	case p.dots() || p.v != nil:
		return abi.EEXIST
	}
	return p.dir.access(p.ctx, p.c, abi.VWRITE, &p.dva)
}

// request makes a CreateReq: owned by the caller, with the directory's group,
// as BSD has it.
func (p *parentOp) request(mode uint32) vfsops.CreateReq {
	return vfsops.CreateReq{Op: p.dir.m.op(p.c), Dir: p.dir.handle(), Name: []byte(p.name), Mode: mode & abi.ALLPERMS,
		Uid: p.c.Cred.Euid, Gid: p.dva.Gid}
}

// creation calls a mutator that makes a name, and enters the result. It
// answers the new vnode with a reference.
func (p *parentOp) creation(call func() (vfsops.Mutated, error)) (*Vnode, error) {
	m := p.dir.m
	m.begin()
	defer m.end()
	m.reclaimMu.RLock()
	defer m.reclaimMu.RUnlock()
	res, err := call()
	if errors.Is(err, abi.ENOSPC) && m.squeeze(p.ctx, p.b, p.dir) {
		res, err = call()
	}
	m.vfs.lists.drop(p.dir)
	p.dir.entryChanged(p.ctx, p.name)
	if err != nil {
		// It may have happened or not: ask again next time.
		m.vfs.nc.remove(p.dir, p.name)
		p.dir.invalidate()
		return nil, err
	}
	p.dir.apply(p.b, &res.Dir)
	if res.Node.Handle == m.root.handle() {
		return nil, abi.EIO
	}
	v, err := m.vget(p.b, &res.Node, nameStamp{})
	if err != nil {
		m.vfs.nc.remove(p.dir, p.name)
		return nil, err
	}
	if v.typ == abi.VDIR {
		if err := v.setLink(p.dir, p.name, nil); err != nil {
			v.put()
			return nil, err
		}
	}
	m.cacheName(p.b, p.dir, p.name, v, nil)
	if v.typ == abi.VDIR {
		p.dir.note(p.ctx, abi.NOTE_WRITE|abi.NOTE_LINK)
	} else {
		p.dir.note(p.ctx, abi.NOTE_WRITE)
	}
	return v, nil
}

// create makes a regular file for open. Preconditions: mayCreate.
func (p *parentOp) create(mode uint32) (*Vnode, error) {
	if p.b.creator == nil {
		return nil, abi.EROFS
	}
	req := p.request(p.createMode(mode))
	return p.creation(func() (vfsops.Mutated, error) { return p.b.creator.Create(p.ctx, req) })
}

// createMode is the mode of a new file: without the set-group-id bit if the
// group that it will get is none of the caller's, and without the sticky bit,
// unless privileged.
func (p *parentOp) createMode(mode uint32) uint32 {
	if mode&(abi.S_ISGID|abi.S_ISVTX) != 0 && !p.fs.privileged(p.c, &p.dva) {
		mode &^= abi.S_ISVTX
		if !p.c.Cred.InGroup(p.dva.Gid) {
			mode &^= abi.S_ISGID
		}
	}
	return mode
}

// Mkdir makes a directory (mkdir(2)). EEXIST, EROFS, EACCES, EMLINK, ENOSPC.
func (fs *VFS) Mkdir(ctx context.Context, w Where, path string, mode uint32) error {
	mode &= abi.ACCESSPERMS
	mode &^= w.Cwd.mask()
	return fs.inParent(ctx, w, path, func(p *parentOp) error {
		if err := p.mayCreate(); err != nil {
			return err
		}
		if p.b.creator == nil {
			return abi.EROFS
		}
		req := p.request(mode)
		v, err := p.creation(func() (vfsops.Mutated, error) { return p.b.creator.Mkdir(ctx, req) })
		if err == nil {
			v.put()
		}
		return err
	})
}

// Mknod makes a device node, fifo, socket or, as the type bits of mode say, a
// regular file (mknod(2)). EPERM for devices by others than the super-user;
// EINVAL for another type.
func (fs *VFS) Mknod(ctx context.Context, w Where, path string, mode uint32, dev abi.Dev) error {
	t := abi.ModeType(mode)
	switch t {
	case abi.VBLK, abi.VCHR:
		if err := fs.o.Privileged(w.Caller, "mknod"); err != nil {
			return err
		}
	case abi.VFIFO, abi.VSOCK, abi.VREG:
		dev = 0
	default:
		return abi.EINVAL
	}
	perm := mode & abi.ALLPERMS &^ w.Cwd.mask()
	return fs.inParent(ctx, w, path, func(p *parentOp) error {
		if err := p.mayCreate(); err != nil {
			return err
		}
		if p.slash {
			return abi.ENOENT
		}
		var v *Vnode
		var err error
		if t == abi.VREG {
			v, err = p.create(perm)
		} else {
			if p.b.mknoder == nil {
				return abi.EROFS
			}
			req := vfsops.MknodReq{CreateReq: p.request(p.createMode(perm)), Type: t, Rdev: dev}
			v, err = p.creation(func() (vfsops.Mutated, error) { return p.b.mknoder.Mknod(ctx, req) })
		}
		if err == nil {
			v.put()
		}
		return err
	})
}

// Mkfifo makes a fifo (mkfifo(2)).
func (fs *VFS) Mkfifo(ctx context.Context, w Where, path string, mode uint32) error {
	return fs.Mknod(ctx, w, path, mode&abi.ALLPERMS|abi.S_IFIFO, 0)
}

// Symlink makes a symbolic link with the given text (symlink(2)). ENOENT for
// an empty text, ENAMETOOLONG for one over 1023 bytes.
func (fs *VFS) Symlink(ctx context.Context, w Where, target, path string) error {
	switch {
	case target == "":
		return abi.ENOENT
	case len(target) >= abi.PATH_MAX:
		return abi.ENAMETOOLONG
	}
	mode := uint32(abi.ACCESSPERMS) &^ w.Cwd.mask()
	return fs.inParent(ctx, w, path, func(p *parentOp) error {
		if err := p.mayCreate(); err != nil {
			return err
		}
		if p.slash {
			return abi.ENOENT
		}
		if p.b.symlinker == nil {
			return abi.EROFS
		}
		req := vfsops.SymlinkReq{CreateReq: p.request(mode), Target: []byte(target)}
		v, err := p.creation(func() (vfsops.Mutated, error) { return p.b.symlinker.Symlink(ctx, req) })
		if err == nil {
			v.put()
		}
		return err
	})
}

// Link gives the file at old another name (link(2)); follow says whether a
// symbolic link as last component of old is followed. EPERM for a directory;
// EXDEV, EMLINK, EEXIST.
func (fs *VFS) Link(ctx context.Context, w Where, old string, wnew Where, path string, follow bool) error {
	return fs.withPath(ctx, w, old, follow, func(v *Vnode) error {
		if v.typ == abi.VDIR {
			return abi.EPERM
		}
		return fs.link(ctx, v, wnew, path)
	})
}

func (fs *VFS) link(ctx context.Context, v *Vnode, wnew Where, path string) error {
	return fs.inParent(ctx, wnew, path, func(p *parentOp) error { return p.link(v) })
}

// link makes p's name one of v. Preconditions: the directory is locked.
func (p *parentOp) link(v *Vnode) error {
	if p.dots() || p.v != nil {
		return abi.EEXIST
	}
	if v.m != p.dir.m {
		return abi.EXDEV
	}
	if err := p.mayCreate(); err != nil {
		return err
	}
	if p.slash {
		return abi.ENOENT
	}
	if p.b.linker == nil {
		return abi.EROFS
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.unlinked.Load() {
		return abi.ENOENT
	}
	var va abi.Vattr
	if err := v.getattrLocked(p.ctx, &va); err != nil {
		return err
	}
	if va.Flags&(abi.UF_IMMUTABLE|abi.SF_IMMUTABLE|abi.UF_APPEND|abi.SF_APPEND) != 0 {
		return abi.EPERM
	}
	if va.Nlink >= abi.LINK_MAX {
		return abi.EMLINK
	}
	req := vfsops.LinkReq{Op: v.m.op(p.c), Node: v.handle(), Dir: p.dir.handle(), Name: []byte(p.name)}
	var got vfsops.Mutated
	n, err := p.creation(func() (vfsops.Mutated, error) {
		var err error
		got, err = p.b.linker.Link(p.ctx, req)
		return got, err
	})
	if err != nil {
		v.invalidate()
		return err
	}
	v.apply(p.b, &got.Node.Vattr)
	v.note(p.ctx, abi.NOTE_LINK)
	same := n == v
	n.put()
	if !same {
		return abi.EIO
	}
	return nil
}

// Unlink removes a name (unlink(2); with AT_REMOVEDIR in flags rmdir(2)). EPERM
// for a directory, ENOTDIR and ENOTEMPTY for Rmdir, EBUSY for a mount point.
func (fs *VFS) Unlink(ctx context.Context, w Where, path string, flags int) error {
	if flags&^abi.AT_REMOVEDIR != 0 {
		return abi.EINVAL
	}
	rmdir := flags&abi.AT_REMOVEDIR != 0
	return fs.inParent(ctx, w, path, func(p *parentOp) error {
		switch {
		case p.name == "":
			return abi.EBUSY
		case p.name == "." && rmdir:
			return abi.EINVAL
		case p.name == ".." && rmdir:
			return abi.ENOTEMPTY
		case p.dots():
			return abi.EPERM
		case p.v == nil:
			return abi.ENOENT
		}
		return p.remove(rmdir)
	})
}

// Rmdir removes an empty directory (rmdir(2)).
func (fs *VFS) Rmdir(ctx context.Context, w Where, path string) error {
	return fs.Unlink(ctx, w, path, abi.AT_REMOVEDIR)
}

// remove removes p.v under p.name. Preconditions: the directory is locked.
func (p *parentOp) remove(rmdir bool) error {
	v, m := p.v, p.dir.m
	v.mu.Lock()
	defer v.mu.Unlock()
	var va abi.Vattr
	if err := v.getattrLocked(p.ctx, &va); err != nil {
		return err
	}
	if v.mounted.Load() != nil {
		return abi.EBUSY
	}
	if err := v.mayDelete(p.ctx, p.c, p.dir, &p.dva, &va); err != nil {
		return err
	}
	switch {
	case rmdir && v.typ != abi.VDIR, !rmdir && v.typ != abi.VDIR && p.slash:
		return abi.ENOTDIR
	case !rmdir && v.typ == abi.VDIR:
		return abi.EPERM
	case p.b.remover == nil:
		return abi.EROFS
	}
	unpin, err := v.pinLocked(p.ctx, p.b, &va, 1)
	if err != nil {
		return err
	}
	req := vfsops.RemoveReq{Op: m.op(p.c), Dir: p.dir.handle(), Name: []byte(p.name), Victim: v.handle()}
	m.begin()
	defer m.end()
	call := p.b.remover.Remove
	if rmdir {
		call = p.b.remover.Rmdir
	}
	res, err := call(p.ctx, req)
	m.vfs.lists.drop(p.dir)
	p.dir.entryChanged(p.ctx, p.name)
	if err != nil {
		unpin()
		if e := abi.ErrnoOf(err); e != abi.ENOTEMPTY {
			m.vfs.nc.remove(p.dir, p.name)
			p.dir.invalidate()
			v.invalidate()
		}
		return err
	}
	p.dir.apply(p.b, &res.Dir)
	m.spellings(p.dir)
	m.cacheName(p.b, p.dir, p.name, nil, nil)
	v.removed(p.ctx, p.b, &res.Victim, rmdir)
	if rmdir {
		p.dir.note(p.ctx, abi.NOTE_WRITE|abi.NOTE_LINK)
	} else {
		p.dir.note(p.ctx, abi.NOTE_WRITE)
	}
	return nil
}

// pinLocked pins v if its last name is about to go while it has users beyond
// the own references of the caller, and answers how to take that back if the
// name stays. EBUSY if the file system cannot and v is open. Preconditions: v
// is locked exclusively.
func (v *Vnode) pinLocked(ctx context.Context, b *binding, va *abi.Vattr, own int32) (unpin func(), err error) {
	nothing := func() {}
	switch {
	case v.typ != abi.VDIR && va.Nlink > 1 || v.pinned.Load():
		return nothing, nil
	case b.pinner == nil:
		if v.opens.Load() > 0 {
			return nil, abi.EBUSY
		}
		return nothing, nil
	case v.refs.Load() <= own:
		return nothing, nil
	}
	if err := b.pinner.Pin(ctx, v.handle()); err != nil {
		return nil, err
	}
	v.pinned.Store(true)
	return func() {
		v.pinned.Store(false)
		if err := b.pinner.Unpin(ctx, v.handle()); err != nil {
			v.m.vfs.o.Log.Warn("unpin", "mount", v.m.dir, "handle", v.handle().String(), "err", err)
		}
	}, nil
}

// removed takes note that a name of v has gone; va are its new attributes.
// Preconditions: v is locked.
func (v *Vnode) removed(ctx context.Context, b *binding, va *abi.Vattr, dir bool) {
	if va.Type == v.typ {
		v.apply(b, va)
	} else {
		// The file system said nothing: count ourselves, and ask.
		v.amu.Lock()
		if v.va.Nlink > 0 {
			v.va.Nlink--
		}
		if v.va.Nlink > 0 && !dir {
			v.setValidLocked(false)
		}
		va.Nlink = v.va.Nlink
		v.amu.Unlock()
	}
	if dir || va.Nlink == 0 {
		v.amu.Lock()
		v.va.Nlink = 0
		v.amu.Unlock()
		v.unlinked.Store(true)
		v.note(ctx, abi.NOTE_DELETE)
	} else {
		v.note(ctx, abi.NOTE_LINK)
	}
}
