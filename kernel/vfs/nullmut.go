package vfs

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// in runs fn on a name in a lower directory, which is locked.
func (n *nullFS) in(ctx context.Context, op vfsops.Op, h abi.Handle, name []byte, fn func(p *parentOp) error) (*Vnode, error) {
	dir, err := n.find(h)
	if err != nil {
		return nil, err
	}
	p := &parentOp{fs: n.vfs, ctx: ctx, c: op.Caller, w: &Where{Caller: op.Caller}, dir: dir, name: string(name)}
	return dir, p.run(fn)
}

// make makes a name below.
func (n *nullFS) make(ctx context.Context, req *vfsops.CreateReq, fn func(p *parentOp) (*Vnode, error)) (res vfsops.Mutated, err error) {
	var v *Vnode
	dir, err := n.in(ctx, req.Op, req.Dir, req.Name, func(p *parentOp) (err error) {
		if err = p.mayCreate(); err == nil {
			v, err = fn(p)
		}
		return err
	})
	if err != nil {
		return res, err
	}
	if res.Node, err = n.keep(ctx, v); err != nil {
		return res, err
	}
	res.Dir = n.now(ctx, dir)
	return res, nil
}

// Create makes a regular file below.
func (n *nullFS) Create(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return n.make(ctx, &req, func(p *parentOp) (*Vnode, error) { return p.create(req.Mode) })
}

// Mkdir makes a directory below.
func (n *nullFS) Mkdir(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return n.make(ctx, &req, func(p *parentOp) (*Vnode, error) {
		if p.b.creator == nil {
			return nil, abi.EROFS
		}
		low := p.request(req.Mode)
		return p.creation(func() (vfsops.Mutated, error) { return p.b.creator.Mkdir(ctx, low) })
	})
}

// Mknod makes a node below.
func (n *nullFS) Mknod(ctx context.Context, req vfsops.MknodReq) (vfsops.Mutated, error) {
	return n.make(ctx, &req.CreateReq, func(p *parentOp) (*Vnode, error) {
		if p.b.mknoder == nil {
			return nil, abi.EROFS
		}
		low := vfsops.MknodReq{CreateReq: p.request(req.Mode), Type: req.Type, Rdev: req.Rdev}
		return p.creation(func() (vfsops.Mutated, error) { return p.b.mknoder.Mknod(ctx, low) })
	})
}

// Symlink makes a symbolic link below.
func (n *nullFS) Symlink(ctx context.Context, req vfsops.SymlinkReq) (vfsops.Mutated, error) {
	return n.make(ctx, &req.CreateReq, func(p *parentOp) (*Vnode, error) {
		if p.b.symlinker == nil {
			return nil, abi.EROFS
		}
		low := vfsops.SymlinkReq{CreateReq: p.request(req.Mode), Target: req.Target}
		return p.creation(func() (vfsops.Mutated, error) { return p.b.symlinker.Symlink(ctx, low) })
	})
}

// Link gives a file another name below.
func (n *nullFS) Link(ctx context.Context, req vfsops.LinkReq) (res vfsops.Mutated, err error) {
	v, err := n.find(req.Node)
	if err != nil {
		return res, err
	}
	dir, err := n.in(ctx, req.Op, req.Dir, req.Name, func(p *parentOp) error { return p.link(v) })
	if err != nil {
		return res, err
	}
	v.hold()
	if res.Node, err = n.keep(ctx, v); err != nil {
		return res, err
	}
	res.Dir = n.now(ctx, dir)
	return res, nil
}

// Remove removes a name below. ESTALE if it is another file by now.
func (n *nullFS) Remove(ctx context.Context, req vfsops.RemoveReq) (vfsops.Mutated, error) {
	return n.remove(ctx, &req, false)
}

// Rmdir removes an empty directory below.
func (n *nullFS) Rmdir(ctx context.Context, req vfsops.RemoveReq) (vfsops.Mutated, error) {
	return n.remove(ctx, &req, true)
}

func (n *nullFS) remove(ctx context.Context, req *vfsops.RemoveReq, rmdir bool) (res vfsops.Mutated, err error) {
	victim, err := n.find(req.Victim)
	if err != nil {
		return res, err
	}
	dir, err := n.in(ctx, req.Op, req.Dir, req.Name, func(p *parentOp) error {
		if p.v != victim {
			return abi.ESTALE
		}
		return p.remove(rmdir)
	})
	if err != nil {
		return res, err
	}
	res.Victim = n.now(ctx, victim)
	res.Dir = n.now(ctx, dir)
	return res, nil
}

// Rename renames below. ESTALE if a name is another file's by now.
func (n *nullFS) Rename(ctx context.Context, req vfsops.RenameReq) (res vfsops.Mutated, err error) {
	fdir, err := n.find(req.FDir)
	if err != nil {
		return res, err
	}
	tdir, err := n.find(req.TDir)
	if err != nil {
		return res, err
	}
	from, err := n.find(req.From)
	if err != nil {
		return res, err
	}
	var to *Vnode
	if req.To != (abi.Handle{}) {
		if to, err = n.find(req.To); err != nil {
			return res, err
		}
	}
	r := &renameOp{fs: n.vfs, ctx: ctx, c: req.Op.Caller, fdir: fdir, tdir: tdir, fname: string(req.FName), tname: string(req.TName), flags: req.Flags,
		expect: func(f, t *Vnode) bool { return f == from && t == to }}
	if err = r.check(); err == nil {
		err = r.locked()
	}
	if err != nil {
		return res, err
	}
	from.hold()
	if res.Node, err = n.keep(ctx, from); err != nil {
		return res, err
	}
	res.Dir = n.now(ctx, fdir)
	if fdir != tdir {
		res.Dir2 = n.now(ctx, tdir)
	}
	if to != nil {
		res.Victim = n.now(ctx, to)
	}
	return res, nil
}

// Setattr sets attributes below.
func (n *nullFS) Setattr(ctx context.Context, req vfsops.SetattrReq) (abi.Vattr, error) {
	v, err := n.find(req.Node)
	if err != nil {
		return abi.Vattr{}, err
	}
	err = v.change(ctx, req.Op.Caller, func(va *abi.Vattr) (abi.SetMask, error) {
		for _, f := range []struct {
			bit abi.SetMask
			set func()
		}{
			{abi.SetMode, func() { va.Mode = req.Attr.Mode }},
			{abi.SetUid, func() { va.Uid = req.Attr.Uid }},
			{abi.SetGid, func() { va.Gid = req.Attr.Gid }},
			{abi.SetAtime, func() { va.Atime = req.Attr.Atime }},
			{abi.SetMtime, func() { va.Mtime = req.Attr.Mtime }},
			{abi.SetCtime, func() { va.Ctime = req.Attr.Ctime }},
			{abi.SetFlags, func() { va.Flags = req.Attr.Flags }},
		} {
			if req.Mask&f.bit != 0 {
				f.set()
			}
		}
		return req.Mask &^ abi.SetSize, nil
	})
	if err != nil {
		return abi.Vattr{}, err
	}
	return n.attr(ctx, v)
}

// Write writes below.
func (n *nullFS) Write(ctx context.Context, req vfsops.WriteReq, src abi.Iov) (res vfsops.WriteRes, err error) {
	v, err := n.find(req.Node)
	if err != nil {
		return res, err
	}
	var p []byte
	if len(src) == 1 {
		p = src[0]
	} else {
		p = make([]byte, src.Len())
		src.CopyOut(p)
	}
	res.N, res.Off, err = v.write(ctx, req.Op.Caller, p, req.Off, req.Append)
	v.behind()
	if err != nil && res.N == 0 {
		return res, err
	}
	res.Vattr, err = n.attr(ctx, v)
	return res, err
}

// Truncate sets the size below.
func (n *nullFS) Truncate(ctx context.Context, op vfsops.Op, h abi.Handle, size int64) (abi.Vattr, error) {
	v, err := n.find(h)
	if err != nil {
		return abi.Vattr{}, err
	}
	if err := v.truncate(ctx, op.Caller, size); err != nil {
		return abi.Vattr{}, err
	}
	return n.attr(ctx, v)
}

// target is a lower vnode for the extended attribute calls. The upper mount has
// authorised.
func (n *nullFS) target(h abi.Handle, c *abi.Caller) (Target, error) {
	v, err := n.find(h)
	return Target{W: Where{Caller: c}, V: v}, err
}

// Getxattr reads an extended attribute below.
func (n *nullFS) Getxattr(ctx context.Context, h abi.Handle, name []byte) ([]byte, error) {
	t, err := n.target(h, abi.KernelCaller)
	if err != nil {
		return nil, err
	}
	return n.vfs.Getxattr(ctx, t, string(name))
}

// Listxattr lists the extended attributes below.
func (n *nullFS) Listxattr(ctx context.Context, h abi.Handle) ([]byte, error) {
	t, err := n.target(h, abi.KernelCaller)
	if err != nil {
		return nil, err
	}
	return n.vfs.Listxattr(ctx, t)
}

// Setxattr sets an extended attribute below.
func (n *nullFS) Setxattr(ctx context.Context, req vfsops.SetxattrReq) error {
	t, err := n.target(req.Node, req.Op.Caller)
	if err != nil {
		return err
	}
	return n.vfs.Setxattr(ctx, t, string(req.Name), req.Value, req.Flags)
}

// Removexattr removes an extended attribute below.
func (n *nullFS) Removexattr(ctx context.Context, op vfsops.Op, h abi.Handle, name []byte) error {
	t, err := n.target(h, op.Caller)
	if err != nil {
		return err
	}
	return n.vfs.Removexattr(ctx, t, string(name))
}
