package fat

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Rename moves From, replacing To, or exchanges the two.
func (f *FS) Rename(ctx context.Context, req vfsops.RenameReq) (m vfsops.Mutated, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(ctx); err != nil {
		return m, err
	}
	fdir, err := f.getDir(ctx, req.FDir)
	if err != nil {
		return m, err
	}
	tdir, err := f.getDir(ctx, req.TDir)
	if err != nil {
		return m, err
	}
	fe, n, err := f.named(ctx, fdir, req.FName, req.From)
	if err != nil {
		return m, err
	}
	if tdir.gone {
		return m, abi.ENOENT
	}
	var te *dent
	var to *node
	if req.To != (abi.Handle{}) {
		if te, to, err = f.named(ctx, tdir, req.TName, req.To); err != nil {
			return m, err
		}
	} else if e := tdir.d.find(req.TName); e != nil {
		if e != fe {
			return m, abi.ESTALE
		}
		te, to = fe, n // another spelling of the same name
	}
	if req.Flags&abi.RENAME_EXCHANGE != 0 {
		if to == nil {
			return m, abi.ENOENT
		}
		err = f.exchange(ctx, &req, fdir, fe, n, tdir, te, to)
		to = nil
	} else {
		err = f.rename(ctx, &req, fdir, fe, n, tdir, te, to)
	}
	if err != nil {
		return m, err
	}
	m = vfsops.Mutated{Node: f.entry(n), Dir: f.attr(fdir)}
	if tdir != fdir {
		m.Dir2 = f.attr(tdir)
	}
	if to != nil && to != n {
		m.Victim = f.attr(to)
	}
	return m, nil
}

func (f *FS) rename(ctx context.Context, req *vfsops.RenameReq, fdir *node, fe *dent, n *node, tdir *node, te *dent, to *node) error {
	switch {
	case to == n && string(req.TName) == fe.name:
		return nil
	case to == nil || to == n:
	case to.dir && !n.dir:
		return abi.EISDIR
	case !to.dir && n.dir:
		return abi.ENOTDIR
	case to.dir && to.d.n > 0:
		return abi.ENOTEMPTY
	}
	if len(req.TName) > abi.NAME_MAX {
		return abi.ENAMETOOLONG
	}
	// The slots of what is replaced are taken over if they say the name.
	over := to != nil && to != n && te.name == string(req.TName)
	var nm naming
	var from int
	if !over {
		var err error
		var old *dent
		if to == n {
			old = fe
		}
		if nm, err = tdir.d.nameFor(req.TName, old); err != nil {
			return err
		}
		if from, err = f.place(ctx, tdir, nm.slots); err != nil {
			return err
		}
	}
	return f.changing(ctx, func() error {
		at, sn, nt := int64(0), nm.sn, nm.nt
		if over {
			at, sn, nt = te.at, te.sn, te.nt
			f.leave(to)
			to.gone = true
			if to.pins == 0 {
				if err := f.end(ctx, to); err != nil {
					return err
				}
			}
			tdir.d.setDir(te, n.dir)
		} else {
			e, err := f.insert(ctx, tdir, from, &nm, n.dir)
			if err != nil {
				return err
			}
			at = e.at
			if to != nil && to != n {
				if err := f.unname(ctx, tdir, te, to); err != nil {
					return err
				}
				// erase forgot what both spell.
				tdir.d.know(e)
			}
		}
		if err := f.erase(ctx, fdir, fe); err != nil {
			return err
		}
		if !over && to == n {
			tdir.d.know(tdir.d.ents[from+nm.slots-1])
		}
		f.leave(n)
		n.s.name, n.s.nt = sn, nt
		f.put(n, at)
		if err := f.store(ctx, n); err != nil {
			return err
		}
		return f.moved(ctx, req, n, fdir, tdir)
	})
}

// exchange swaps what two slots say, but for their names.
func (f *FS) exchange(ctx context.Context, req *vfsops.RenameReq, fdir *node, fe *dent, n *node, tdir *node, te *dent, to *node) error {
	if n == to {
		return nil
	}
	return f.changing(ctx, func() error {
		f.leave(n)
		f.leave(to)
		n.s.name, n.s.nt, to.s.name, to.s.nt = te.sn, te.nt, fe.sn, fe.nt
		f.put(n, te.at)
		f.put(to, fe.at)
		fdir.d.setDir(fe, to.dir)
		tdir.d.setDir(te, n.dir)
		for _, x := range []*node{n, to} {
			if err := f.store(ctx, x); err != nil {
				return err
			}
		}
		if err := f.parent(ctx, to, fdir, tdir); err != nil {
			return err
		}
		return f.moved(ctx, req, n, fdir, tdir)
	})
}

// moved is what is left to do after a move.
func (f *FS) moved(ctx context.Context, req *vfsops.RenameReq, n, fdir, tdir *node) error {
	if err := f.parent(ctx, n, tdir, fdir); err != nil {
		return err
	}
	for _, d := range []*node{fdir, tdir} {
		f.touched(d, req.Op.Now)
		if err := f.store(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// parent writes the parent of a directory that has moved into its `..`.
func (f *FS) parent(ctx context.Context, n, now, before *node) error {
	if !n.dir || now == before {
		return nil
	}
	at := f.slotAt(n, 1)
	var b [slotSize]byte
	if err := f.c.read(ctx, b[:], at, 0); err != nil {
		return err
	}
	s := parseSlot(b[:])
	if s.name != dotdotName {
		return nil // damage, which is not made worse
	}
	s.first = firstOf(now)
	return f.c.write(ctx, s.bytes(), at)
}
