package tmpfs

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// maxTarget bounds the text of a symbolic link, in bytes.
const maxTarget = abi.PATH_MAX - 1

// Create makes a regular file.
func (f *FS) Create(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return f.makeNode(ctx, &req, abi.VREG, nil)
}

// Mkdir makes a directory.
func (f *FS) Mkdir(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return f.makeNode(ctx, &req, abi.VDIR, nil)
}

// Mknod makes a device node, fifo or socket; EINVAL for another type.
func (f *FS) Mknod(ctx context.Context, req vfsops.MknodReq) (vfsops.Mutated, error) {
	switch req.Type {
	case abi.VBLK, abi.VCHR:
		return f.makeNode(ctx, &req.CreateReq, req.Type, &extra{rdev: req.Rdev})
	case abi.VFIFO, abi.VSOCK:
		return f.makeNode(ctx, &req.CreateReq, req.Type, nil)
	}
	return vfsops.Mutated{}, abi.EINVAL
}

// Symlink makes a symbolic link; ENAMETOOLONG for more than 1023 bytes of
// text, EINVAL for none.
func (f *FS) Symlink(ctx context.Context, req vfsops.SymlinkReq) (vfsops.Mutated, error) {
	switch {
	case len(req.Target) == 0:
		return vfsops.Mutated{}, abi.EINVAL
	case len(req.Target) > maxTarget:
		return vfsops.Mutated{}, abi.ENAMETOOLONG
	}
	return f.makeNode(ctx, &req.CreateReq, abi.VLNK, &extra{target: string(req.Target)})
}

// makeNode makes a node of any type and gives it its first name. Nothing has
// changed if it fails.
func (f *FS) makeNode(ctx context.Context, req *vfsops.CreateReq, t abi.VType, x *extra) (m vfsops.Mutated, err error) {
	if err := checkName(req.Name); err != nil {
		return m, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.getLiveDir(ctx, req.Dir)
	switch {
	case err != nil:
		return m, err
	case d.dir.find(req.Name) != nil:
		return m, abi.EEXIST
	case t == abi.VDIR && d.nlink >= abi.LINK_MAX:
		return m, abi.EMLINK
	case f.names >= f.opt.nodes:
		return m, abi.ENOSPC
	}
	n, err := f.newNode(ctx, &req.Op, t, req.Mode, req.Uid, req.Gid)
	if err != nil {
		return m, err
	}
	if x != nil {
		n.extra = x
		n.size = int64(len(x.target))
	}
	if t == abi.VDIR {
		d.nlink++ // its ".."
	}
	f.addName(d, string(req.Name), n, req.Op.Now)
	m.Node = f.entry(n)
	d.fill(&m.Dir)
	return m, nil
}

// addName adds an entry to d and counts it.
func (f *FS) addName(d *node, name string, n *node, now abi.Timespec) {
	e := d.dir.add(name, n)
	f.names++
	d.touch(now)
	f.changed(d, e)
}

// Link gives a file another name. EPERM for directories, ENOENT for a file
// without a name, EMLINK, EEXIST; ENOSPC because a name counts as a node.
func (f *FS) Link(ctx context.Context, req vfsops.LinkReq) (m vfsops.Mutated, err error) {
	if err := checkName(req.Name); err != nil {
		return m, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.get(ctx, req.Node)
	if err != nil {
		return m, err
	}
	d, err := f.getLiveDir(ctx, req.Dir)
	switch {
	case err != nil:
		return m, err
	case n.dir != nil:
		return m, abi.EPERM
	case n.nlink == 0:
		return m, abi.ENOENT
	case d.dir.find(req.Name) != nil:
		return m, abi.EEXIST
	case n.nlink >= abi.LINK_MAX:
		return m, abi.EMLINK
	case f.names >= f.opt.nodes:
		return m, abi.ENOSPC
	}
	n.nlink++
	n.ctime = req.Op.Now
	f.mark(n)
	f.addName(d, string(req.Name), n, req.Op.Now)
	m.Node = f.entry(n)
	d.fill(&m.Dir)
	return m, nil
}

// findVictim is the entry that a request names; ESTALE if it is another node
// than the kernel locked.
//
// Preconditions: f.mu is held.
func (f *FS) findVictim(ctx context.Context, d *node, name []byte, want abi.Handle) (*dirent, error) {
	e := d.dir.find(name)
	if e == nil {
		return nil, abi.ESTALE
	}
	n, err := f.nodeOf(ctx, e)
	if err == nil && f.handle(n) != want {
		err = abi.ESTALE
	}
	return e, err
}

// Remove takes away the name of a file that is no directory; EPERM for one.
func (f *FS) Remove(ctx context.Context, req vfsops.RemoveReq) (m vfsops.Mutated, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.getDir(ctx, req.Dir)
	if err != nil {
		return m, err
	}
	e, err := f.findVictim(ctx, d, req.Name, req.Victim)
	if err != nil {
		return m, err
	}
	n := e.node
	if n.dir != nil {
		return m, abi.EPERM
	}
	f.delName(d, e, req.Op.Now)
	f.dropLink(n, req.Op.Now)
	n.fill(&m.Victim)
	d.fill(&m.Dir)
	return m, nil
}

// Rmdir removes an empty directory. ENOTDIR, ENOTEMPTY.
func (f *FS) Rmdir(ctx context.Context, req vfsops.RemoveReq) (m vfsops.Mutated, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.getDir(ctx, req.Dir)
	if err != nil {
		return m, err
	}
	e, err := f.findVictim(ctx, d, req.Name, req.Victim)
	if err != nil {
		return m, err
	}
	n := e.node
	switch {
	case n.dir == nil:
		return m, abi.ENOTDIR
	case n.dir.len() > 0:
		return m, abi.ENOTEMPTY
	}
	f.delName(d, e, req.Op.Now)
	d.nlink-- // its ".."
	f.dropLink(n, req.Op.Now)
	n.fill(&m.Victim)
	d.fill(&m.Dir)
	return m, nil
}

// delName takes an entry out of d and counts it.
func (f *FS) delName(d *node, e *dirent, now abi.Timespec) {
	f.changed(d, e)
	d.dir.del(e)
	f.names--
	d.touch(now)
	if d.dir.names == nil && !d.stored {
		d.dir.changed = nil // nothing of it was ever written
	}
}

// changed notes that an entry of d, and d itself, have changed.
func (f *FS) changed(d *node, e *dirent) {
	if f.st != nil {
		f.mark(d)
		d.dir.change(e.cookie)
	}
}

// dropLink takes a link from n, whose name is gone or another node's now. A
// directory has only one name, so that nothing is left.
func (f *FS) dropLink(n *node, now abi.Timespec) {
	if n.dir != nil {
		n.nlink = 0
	} else {
		n.nlink--
	}
	n.ctime = now
	f.mark(n)
	f.gone(n)
}
