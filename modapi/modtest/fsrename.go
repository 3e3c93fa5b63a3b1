package modtest

import (
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

func (f *fsT) rename(req vfsops.RenameReq) (vfsops.Mutated, error) {
	req.Op = f.op()
	fn, tn := string(req.FName), string(req.TName)
	req.FName, req.TName = []byte(fn), []byte(tn)
	m, err := f.fs.(vfsops.Renamer).Rename(f.ctx, req)
	spoil(req.FName)
	spoil(req.TName)
	if err != nil {
		return m, err
	}
	if m.Node.Handle != req.From {
		f.Errorf("rename of %v answered %v: handles are stable", req.From, m.Node.Handle)
	} else {
		f.checkAttr("renamed", req.From, m.Node.Vattr)
	}
	f.checkAttr("source directory", req.FDir, m.Dir)
	if req.TDir != req.FDir {
		f.checkAttr("target directory", req.TDir, m.Dir2)
	} else if m.Dir2 != (abi.Vattr{}) {
		f.Error("Dir2 is for another directory only")
	}
	return m, nil
}

// Rename moves a name and keeps the handle.
func ruleRename(f *fsT) {
	f.need(vfsops.HasCreator | vfsops.HasRenamer)
	e := f.create(f.root.Handle, "a")
	d := f.mkdir(f.root.Handle, "d")
	_, err := f.rename(vfsops.RenameReq{FDir: f.root.Handle, FName: []byte("a"), From: e.Handle, TDir: f.root.Handle, TName: []byte("b")})
	f.must("rename", err)
	f.gone(f.root.Handle, "a")
	if got := f.lookup(f.root.Handle, "b"); got.Handle != e.Handle {
		f.Errorf("b is %v, want %v", got.Handle, e.Handle)
	}
	_, err = f.rename(vfsops.RenameReq{FDir: f.root.Handle, FName: []byte("b"), From: e.Handle, TDir: d.Handle, TName: []byte("c")})
	f.must("rename", err)
	f.gone(f.root.Handle, "b")
	if got := f.lookup(f.root.Handle, "d", "c"); got.Handle != e.Handle || got.Vattr.Nlink != 1 {
		f.Errorf("d/c is %v with %d links, want %v with 1", got.Handle, got.Vattr.Nlink, e.Handle)
	}
}

// What was there under the new name is gone.
func ruleRenameReplace(f *fsT) {
	f.need(vfsops.HasCreator | vfsops.HasRenamer)
	a := f.create(f.root.Handle, "a")
	b := f.create(f.root.Handle, "b")
	m, err := f.rename(vfsops.RenameReq{FDir: f.root.Handle, FName: []byte("a"), From: a.Handle, TDir: f.root.Handle, TName: []byte("b"), To: b.Handle})
	f.must("rename", err)
	if m.Victim.Fileid != b.Handle.File || m.Victim.Nlink != 0 {
		f.Errorf("the victim is %+v, want file id %d without links", m.Victim, b.Handle.File)
	}
	f.gone(f.root.Handle, "a")
	if got := f.lookup(f.root.Handle, "b"); got.Handle != a.Handle {
		f.Errorf("b is %v, want %v", got.Handle, a.Handle)
	}
	_, err = f.fs.Getattr(f.ctx, b.Handle)
	f.want("getattr of what was replaced", err, abi.ESTALE)
	if n := len(f.list(f.root.Handle, 4096, nil)); n != 1 {
		f.Errorf("%d entries, want 1", n)
	}
}

// Directories move with what is in them, and replace empty ones only.
func ruleRenameDir(f *fsT) {
	f.need(vfsops.HasCreator | vfsops.HasRenamer)
	p, q := f.mkdir(f.root.Handle, "p"), f.mkdir(f.root.Handle, "q")
	d := f.mkdir(p.Handle, "d")
	f.create(d.Handle, "in")
	_, err := f.rename(vfsops.RenameReq{FDir: p.Handle, FName: []byte("d"), From: d.Handle, TDir: q.Handle, TName: []byte("e")})
	f.must("rename", err)
	f.lookup(f.root.Handle, "q", "e", "in")
	if f.has(vfsops.CapSole) {
		if a, b := f.getattr(p.Handle).Nlink, f.getattr(q.Handle).Nlink; a != 2 || b != 3 {
			f.Errorf("links of the two parents: %d and %d, want 2 and 3", a, b)
		}
	}
	full := f.mkdir(f.root.Handle, "full")
	f.create(full.Handle, "x")
	_, err = f.rename(vfsops.RenameReq{FDir: q.Handle, FName: []byte("e"), From: d.Handle, TDir: f.root.Handle, TName: []byte("full"), To: full.Handle})
	f.want("rename over a full directory", err, abi.ENOTEMPTY)
	f.lookup(f.root.Handle, "q", "e", "in")
	m, err := f.rename(vfsops.RenameReq{FDir: q.Handle, FName: []byte("e"), From: d.Handle, TDir: f.root.Handle, TName: []byte("p"), To: p.Handle})
	f.must("rename over an empty directory", err)
	if m.Victim.Fileid != p.Handle.File || m.Victim.Nlink != 0 {
		f.Errorf("the victim is %+v, want file id %d without links", m.Victim, p.Handle.File)
	}
	f.lookup(f.root.Handle, "p", "in")
}

// A name that is not what the kernel thought is ESTALE, and nothing happens.
func ruleRenameStale(f *fsT) {
	f.need(vfsops.HasCreator | vfsops.HasRenamer)
	a, b, c := f.create(f.root.Handle, "a"), f.create(f.root.Handle, "b"), f.create(f.root.Handle, "c")
	r := f.root.Handle
	for _, tc := range []struct {
		what     string
		from, to abi.Handle
		tname    string
	}{
		{"another source", c.Handle, b.Handle, "b"},
		{"another target", a.Handle, c.Handle, "b"},
		{"a target that was not expected", a.Handle, abi.Handle{}, "b"},
		{"a target that is not there", a.Handle, b.Handle, "new"},
	} {
		_, err := f.rename(vfsops.RenameReq{FDir: r, FName: []byte("a"), From: tc.from, TDir: r, TName: []byte(tc.tname), To: tc.to})
		f.want("rename with "+tc.what, err, abi.ESTALE)
	}
	for name, h := range map[string]abi.Handle{"a": a.Handle, "b": b.Handle, "c": c.Handle} {
		if got := f.lookup(r, name); got.Handle != h {
			f.Errorf("%s is %v, was %v", name, got.Handle, h)
		}
	}
}

// Two names change places, of whatever type.
func ruleRenameExchange(f *fsT) {
	f.need(vfsops.HasCreator | vfsops.HasRenamer)
	a := f.create(f.root.Handle, "a")
	d := f.mkdir(f.root.Handle, "d")
	b := f.mkdir(d.Handle, "b")
	m, err := f.rename(vfsops.RenameReq{FDir: f.root.Handle, FName: []byte("a"), From: a.Handle, TDir: d.Handle, TName: []byte("b"), To: b.Handle, Flags: abi.RENAME_EXCHANGE})
	if abi.ErrnoOf(err) == abi.EINVAL || notSupported(err) {
		f.Skip("it does not exchange")
	}
	f.must("exchange", err)
	if m.Victim != (abi.Vattr{}) && m.Victim.Nlink == 0 {
		f.Error("an exchange has no victim without links")
	}
	if x, y := f.lookup(f.root.Handle, "a"), f.lookup(f.root.Handle, "d", "b"); x.Handle != b.Handle || y.Handle != a.Handle {
		f.Errorf("a is %v and d/b %v, want %v and %v", x.Handle, y.Handle, b.Handle, a.Handle)
	}
}
