package ext4

import (
	"context"
	"errors"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

var (
	_ vfsops.Creator   = (*FS)(nil)
	_ vfsops.Remover   = (*FS)(nil)
	_ vfsops.Linker    = (*FS)(nil)
	_ vfsops.Symlinker = (*FS)(nil)
	_ vfsops.Mknoder   = (*FS)(nil)
	_ vfsops.Setattrer = (*FS)(nil)
	_ vfsops.Pinner    = (*FS)(nil)
	_ vfsops.Syncer    = (*FS)(nil)

	_ vfsops.Checkpointer = (*FS)(nil)
)

// Create makes a regular file.
func (f *FS) Create(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return f.make(ctx, &req, modeReg, nil)
}

// Mkdir makes a directory.
func (f *FS) Mkdir(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return f.make(ctx, &req, modeDir, nil)
}

// Mknod makes a special file.
func (f *FS) Mknod(ctx context.Context, req vfsops.MknodReq) (vfsops.Mutated, error) {
	mode, ok := map[abi.VType]uint16{abi.VBLK: modeBlk, abi.VCHR: modeChr, abi.VFIFO: modeFIFO, abi.VSOCK: modeSock}[req.Type]
	if !ok {
		return vfsops.Mutated{}, abi.EINVAL
	}
	return f.make(ctx, &req.CreateReq, mode, func(t *tx, in *inode) error {
		if mode == modeBlk || mode == modeChr {
			major, minor := req.Rdev.Major(), req.Rdev.Minor()
			if major < 256 && minor < 256 {
				le.PutUint32(in.raw[inBlock:], major<<8|minor)
			} else {
				le.PutUint32(in.raw[inBlock+4:], minor&0xff|major<<8|minor&^0xff<<12)
			}
		}
		return nil
	})
}

// Symlink makes a symbolic link.
func (f *FS) Symlink(ctx context.Context, req vfsops.SymlinkReq) (vfsops.Mutated, error) {
	target := req.Target
	return f.make(ctx, &req.CreateReq, modeLnk, func(t *tx, in *inode) error {
		switch n := int64(len(target)); {
		case n == 0:
			return abi.EINVAL
		case n >= f.s.bs:
			return abi.ENAMETOOLONG
		case n < inBlockLen:
			copy(in.block(), target)
			in.setSize(n)
			return nil
		}
		if t.f.s.has(incompatExtents) {
			le.PutUint32(in.raw[inFlags:], in.flags()|flExtents)
			in.initExtents()
		}
		blk, _, err := t.alloc(t.goalOf(in), 1)
		if err != nil {
			return err
		}
		if err := t.addBlocks(in, 1); err != nil {
			return err
		}
		if err := t.setMap(in, extent{n: 1, pblk: blk}); err != nil {
			return err
		}
		copy(t.fresh(blk).data, target)
		in.setSize(int64(len(target)))
		return nil
	})
}

// make makes a file of a type.
func (f *FS) make(ctx context.Context, req *vfsops.CreateReq, mode uint16, init func(t *tx, in *inode) error) (m vfsops.Mutated, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err = f.change(ctx, &req.Op, func(t *tx) error {
		dir, err := t.loadDir(req.Dir)
		switch {
		case err != nil:
			return err
		case dir.links() == 0:
			return abi.ENOENT
		case len(req.Name) > abi.NAME_MAX:
			return abi.ENAMETOOLONG
		}
		if _, err := t.find(dir, req.Name); err == nil {
			return abi.EEXIST
		} else if !errors.Is(err, abi.ENOENT) {
			return err
		}
		in, err := t.newInode(dir, mode|uint16(req.Mode&0o7777), req.Uid, req.Gid)
		if err != nil {
			return err
		}
		in.setLinks(1)
		if mode == modeDir {
			in.setLinks(2)
			if err := t.makeDir(in, dir.ino); err != nil {
				return err
			}
			if err := t.addLink(dir); err != nil {
				return err
			}
		}
		if init != nil {
			if err := init(t, in); err != nil {
				return err
			}
		}
		if err := t.inheritACL(dir, in); err != nil {
			return err
		}
		t.seal(in)
		if err := t.addName(dir, req.Name, in.ino, in.vtype()); err != nil {
			return err
		}
		t.touchDir(dir)
		m = vfsops.Mutated{Node: f.entry(in), Dir: dir.attr()}
		return nil
	})
	if err != nil {
		return vfsops.Mutated{}, err
	}
	return m, nil
}

// inheritACL gives a new directory the default access control list of the one it
// is in. The access list of a new file is the kernel's to compute: it says the
// mode.
func (t *tx) inheritACL(dir, in *inode) error {
	if !in.isDir() || dir.acl() == 0 && (dir.bodyAt() == 0 || le.Uint32(dir.raw[dir.bodyAt():]) != xaMagic) {
		return nil
	}
	v, err := t.xattr(dir, 3, "")
	if err != nil {
		if errors.Is(err, abi.ENODATA) {
			err = nil
		}
		return err
	}
	return t.setXattr(in, 3, "", v, 0)
}

// touchDir notes that a directory was changed.
func (t *tx) touchDir(dir *inode) {
	t.mod(dir.b)
	dir.touch(t.op.Now, true)
	if n := dir.u32(inVersion); true {
		le.PutUint32(dir.raw[inVersion:], n+1)
	}
	t.seal(dir)
}

// named finds an entry of a directory, which must be that of a node. ESTALE if it
// is not.
func (t *tx) named(dir *inode, name []byte, h abi.Handle) (found, *inode, error) {
	r, err := t.find(dir, name)
	if err != nil {
		if errors.Is(err, abi.ENOENT) {
			err = abi.ESTALE
		}
		return found{}, nil, err
	}
	if abi.Fileid(r.ino) != h.File || h.FS != t.f.fsid {
		return found{}, nil, abi.ESTALE
	}
	in, err := t.entryIno(dir.ino, r.ino)
	if err != nil {
		return found{}, nil, err
	}
	if genOf(in.gen()) != h.Gen {
		return found{}, nil, abi.ESTALE
	}
	return r, in, nil
}

// Remove takes away a name of a file.
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
	err = f.change(ctx, &req.Op, func(t *tx) error {
		dir, err := t.loadDir(req.Dir)
		if err != nil {
			return err
		}
		r, in, err := t.named(dir, req.Name, req.Victim)
		switch {
		case err != nil:
			return err
		case isDir && !in.isDir():
			return abi.ENOTDIR
		case !isDir && in.isDir():
			return abi.EISDIR
		}
		if isDir {
			if ok, err := t.empty(in); err != nil {
				return err
			} else if !ok {
				return abi.ENOTEMPTY
			}
		}
		if err := t.dropName(dir, r); err != nil {
			return err
		}
		if isDir {
			t.dropLink(dir)
		}
		t.touchDir(dir)
		m.Dir = dir.attr()
		m.Victim, err = t.lose(in)
		return err
	})
	if err != nil {
		return vfsops.Mutated{}, err
	}
	return m, f.reapAll(ctx, &req.Op)
}

// lose takes a link from an inode, a directory's are all gone with its name. It
// answers the attributes behind it.
func (t *tx) lose(in *inode) (abi.Vattr, error) {
	t.mod(in.b)
	n := in.links()
	if n = n - min(n, 1); in.isDir() {
		n = 0
	}
	in.setLinks(n)
	in.touch(t.op.Now, false)
	t.seal(in)
	v := in.attr()
	if n > 0 {
		return v, nil
	}
	return v, t.unlinked(in)
}

// Link gives a file another name.
func (f *FS) Link(ctx context.Context, req vfsops.LinkReq) (m vfsops.Mutated, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err = f.change(ctx, &req.Op, func(t *tx) error {
		dir, err := t.loadDir(req.Dir)
		if err != nil {
			return err
		}
		in, err := t.load(req.Node)
		switch {
		case err != nil:
			return err
		case dir.links() == 0:
			return abi.ENOENT
		case in.isDir():
			return abi.EPERM
		case in.links() >= maxLinks:
			return abi.EMLINK
		case len(req.Name) > abi.NAME_MAX:
			return abi.ENAMETOOLONG
		}
		if _, err := t.find(dir, req.Name); err == nil {
			return abi.EEXIST
		} else if !errors.Is(err, abi.ENOENT) {
			return err
		}
		if in.links() == 0 {
			if err := t.orphanDrop(in); err != nil {
				return err
			}
		}
		if err := t.addName(dir, req.Name, in.ino, in.vtype()); err != nil {
			return err
		}
		t.mod(in.b)
		in.setLinks(in.links() + 1)
		in.touch(req.Op.Now, false)
		t.seal(in)
		t.touchDir(dir)
		m = vfsops.Mutated{Node: f.entry(in), Dir: dir.attr()}
		return nil
	})
	return m, err
}

// Setattr changes attributes. The generation and the size are not among them.
func (f *FS) Setattr(ctx context.Context, req vfsops.SetattrReq) (v abi.Vattr, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := &req.Attr
	err = f.change(ctx, &req.Op, func(t *tx) error {
		in, err := t.load(req.Node)
		if err != nil {
			return err
		}
		t.mod(in.b)
		has := func(m abi.SetMask) bool { return req.Mask&m != 0 }
		if has(abi.SetMode) {
			le.PutUint16(in.raw[inMode:], in.u16(inMode)&modeFmt|uint16(a.Mode&0o7777))
		}
		cur := in.attr()
		if has(abi.SetUid) {
			cur.Uid = a.Uid
		}
		if has(abi.SetGid) {
			cur.Gid = a.Gid
		}
		in.putOwner(cur.Uid, cur.Gid)
		if has(abi.SetFlags) {
			fl := in.flags()
			left := a.Flags
			for _, x := range fileFlags {
				fl &^= x.fl
				if left&x.uf != 0 {
					fl |= x.fl
				}
				left &^= x.uf
			}
			if left != 0 {
				return abi.EOPNOTSUPP
			}
			le.PutUint32(in.raw[inFlags:], fl)
		}
		if has(abi.SetAtime) {
			in.putTime(inAtime, inAtimeX, a.Atime)
		}
		if has(abi.SetMtime) {
			in.putTime(inMtime, inMtimeX, a.Mtime)
		}
		if has(abi.SetBtime) && in.fits(inCrtime, 8) {
			in.putTime(inCrtime, inCrtimeX, a.Btime)
		}
		if has(abi.SetCtime) {
			in.putTime(inCtime, inCtimeX, a.Ctime)
		} else {
			in.touch(req.Op.Now, false)
		}
		t.seal(in)
		v = in.attr()
		return nil
	})
	if err != nil {
		return abi.Vattr{}, err
	}
	return v, nil
}

// Pin keeps a node alive without a name.
func (f *FS) Pin(ctx context.Context, h abi.Handle) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	in, err := f.reader(ctx).load(h)
	if err != nil {
		return err
	}
	f.node(in.ino).pins++
	f.pinsChanged[in.ino] = true
	return nil
}

// Unpin undoes Pin; with the last one what a node without a name has is free.
// EINVAL if there is no pin.
func (f *FS) Unpin(ctx context.Context, h abi.Handle) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	in, err := f.reader(ctx).load(h)
	if err != nil {
		return err
	}
	n := f.node(in.ino)
	if n.pins == 0 {
		return abi.EINVAL
	}
	n.pins--
	f.pinsChanged[in.ino] = true
	if n.pins > 0 || in.links() > 0 || f.readOnly {
		return nil
	}
	// The time of a deletion is that of the last change: an Unpin brings none.
	op := vfsops.Op{Now: in.time(inCtime, inCtimeX), Caller: abi.KernelCaller}
	f.reap = append(f.reap, in.ino)
	return f.reapAll(ctx, &op)
}
