package ext4

import (
	"context"
	"errors"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

var _ vfsops.Renamer = (*FS)(nil)

// Rename moves From, replacing To, or exchanges the two.
func (f *FS) Rename(ctx context.Context, req vfsops.RenameReq) (m vfsops.Mutated, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err = f.change(ctx, &req.Op, func(t *tx) error {
		var err error
		m, err = t.rename(&req)
		return err
	})
	if err != nil {
		return vfsops.Mutated{}, err
	}
	return m, f.reapAll(ctx, &req.Op)
}

func (t *tx) rename(req *vfsops.RenameReq) (m vfsops.Mutated, err error) {
	f := t.f
	fdir, err := t.loadDir(req.FDir)
	if err != nil {
		return m, err
	}
	tdir, err := t.loadDir(req.TDir)
	if err != nil {
		return m, err
	}
	if fdir.ino == tdir.ino {
		tdir = fdir
	}
	fr, in, err := t.named(fdir, req.FName, req.From)
	if err != nil {
		return m, err
	}
	switch {
	case tdir.links() == 0:
		return m, abi.ENOENT
	case len(req.TName) > abi.NAME_MAX:
		return m, abi.ENAMETOOLONG
	}
	var tr found
	var to *inode
	if req.To != (abi.Handle{}) {
		if tr, to, err = t.named(tdir, req.TName, req.To); err != nil {
			return m, err
		}
	} else if _, err := t.find(tdir, req.TName); err == nil {
		return m, abi.ESTALE
	} else if !errors.Is(err, abi.ENOENT) {
		return m, err
	}
	if req.Flags&abi.RENAME_EXCHANGE != 0 {
		if to == nil {
			return m, abi.ENOENT
		}
		if err := t.exchange(fdir, fr, in, tdir, tr, to); err != nil {
			return m, err
		}
		to = nil
	} else if to != nil && to.ino == in.ino {
		to = nil // two names of one file: nothing is done
	} else {
		if err := t.move(req, fdir, fr, in, tdir, tr, to); err != nil {
			return m, err
		}
		if to != nil {
			if m.Victim, err = t.lose(to); err != nil {
				return m, err
			}
		}
	}
	m.Node, m.Dir = f.entry(in), fdir.attr()
	if tdir != fdir {
		m.Dir2 = tdir.attr()
	}
	return m, nil
}

// move gives a node its new name, and takes the old one.
func (t *tx) move(req *vfsops.RenameReq, fdir *inode, fr found, in, tdir *inode, tr found, to *inode) error {
	switch {
	case to == nil:
	case to.isDir() && !in.isDir():
		return abi.EISDIR
	case !to.isDir() && in.isDir():
		return abi.ENOTDIR
	case to.isDir():
		if ok, err := t.empty(to); err != nil {
			return err
		} else if !ok {
			return abi.ENOTEMPTY
		}
	}
	if to != nil {
		t.pointName(tdir, tr, in.ino, in.vtype())
	} else if err := t.addName(tdir, req.TName, in.ino, in.vtype()); err != nil {
		return err
	}
	// The old entry may have moved when the new one was made.
	fr, err := t.find(fdir, req.FName)
	if err != nil {
		return err
	}
	if err := t.dropName(fdir, fr); err != nil {
		return err
	}
	if in.isDir() {
		if fdir != tdir {
			if err := t.setParent(in, tdir.ino); err != nil {
				return err
			}
			t.dropLink(fdir)
			if to == nil {
				if err := t.addLink(tdir); err != nil {
					return err
				}
			}
		} else if to != nil {
			t.dropLink(fdir)
		}
	}
	t.mod(in.b)
	in.touch(req.Op.Now, false)
	t.seal(in)
	t.touchDir(fdir)
	if tdir != fdir {
		t.touchDir(tdir)
	}
	return nil
}

// exchange has two names change places.
func (t *tx) exchange(fdir *inode, fr found, in, tdir *inode, tr found, to *inode) error {
	t.pointName(fdir, fr, to.ino, to.vtype())
	t.pointName(tdir, tr, in.ino, in.vtype())
	if fdir != tdir {
		for _, x := range []struct{ n, from, to *inode }{{in, fdir, tdir}, {to, tdir, fdir}} {
			if !x.n.isDir() {
				continue
			}
			if err := t.setParent(x.n, x.to.ino); err != nil {
				return err
			}
			t.dropLink(x.from)
			if err := t.addLink(x.to); err != nil {
				return err
			}
		}
	}
	for _, n := range []*inode{in, to} {
		t.mod(n.b)
		n.touch(t.op.Now, false)
		t.seal(n)
	}
	t.touchDir(fdir)
	if tdir != fdir {
		t.touchDir(tdir)
	}
	return nil
}

// setParent makes `..` of a directory lead elsewhere.
func (t *tx) setParent(dir *inode, parent uint32) error {
	r, err := t.find(dir, []byte(".."))
	if err != nil {
		return err
	}
	t.pointName(dir, r, parent, abi.VDIR)
	return nil
}
