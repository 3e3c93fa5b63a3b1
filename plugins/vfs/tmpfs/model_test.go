package tmpfs

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// mnode is a node of the model: nothing but maps.
type mnode struct {
	h     abi.Handle
	typ   abi.VType
	kids  map[string]*mnode
	links int // names, without "." and ".."
	pins  int
	size  int64
	text  string
}

// model is tmpfs as simply as it can be said, beside the real one.
type model struct {
	t    *rapid.T
	k    *kernel
	root *mnode
	all  []*mnode // every node that was ever made
}

func (m *model) alive(n *mnode) bool { return n == m.root || n.links > 0 || n.pins > 0 }

func (m *model) nlink(n *mnode) uint32 {
	if n.typ != abi.VDIR {
		return uint32(n.links)
	}
	if n != m.root && n.links == 0 {
		return 0
	}
	c := uint32(2)
	for _, k := range n.kids {
		if k.typ == abi.VDIR {
			c++
		}
	}
	return c
}

// below reports whether n is d or lies below it.
func below(d, n *mnode) bool {
	if d == n {
		return true
	}
	for _, k := range d.kids {
		if k.typ == abi.VDIR && below(k, n) {
			return true
		}
	}
	return false
}

var names = []string{"a", "b", "c", "dd", "e e"}

func (m *model) name(label string) string { return rapid.SampledFrom(names).Draw(m.t, label) }

func (m *model) node(label string) *mnode {
	return m.all[rapid.IntRange(0, len(m.all)-1).Draw(m.t, label)]
}

func (m *model) dir(label string) *mnode {
	var ds []*mnode
	for _, n := range m.all {
		if n.typ == abi.VDIR {
			ds = append(ds, n)
		}
	}
	return ds[rapid.IntRange(0, len(ds)-1).Draw(m.t, label)]
}

func (m *model) want(what string, err error, want abi.Errno) {
	if abi.ErrnoOf(err) != want {
		m.t.Fatalf("%s: got %v, want %s", what, err, want.Name())
	}
}

// dirErr is what making a name in d answers before anything else.
func (m *model) dirErr(d *mnode) abi.Errno {
	switch {
	case !m.alive(d):
		return abi.ESTALE
	case d != m.root && d.links == 0:
		return abi.ENOENT
	}
	return 0
}

func (m *model) make(*rapid.T) {
	d, name := m.dir("dir"), m.name("name")
	typ := rapid.SampledFrom([]abi.VType{abi.VREG, abi.VDIR, abi.VLNK, abi.VFIFO}).Draw(m.t, "type")
	n := &mnode{typ: typ, links: 1}
	req := m.k.create(d.h, name)
	var mut vfsops.Mutated
	var err error
	switch typ {
	case abi.VREG:
		mut, err = m.k.Create(ctx, req)
	case abi.VDIR:
		n.kids = map[string]*mnode{}
		mut, err = m.k.Mkdir(ctx, req)
	case abi.VLNK:
		n.text = "to " + name
		n.size = int64(len(n.text))
		mut, err = m.k.Symlink(ctx, vfsops.SymlinkReq{CreateReq: req, Target: []byte(n.text)})
	case abi.VFIFO:
		mut, err = m.k.Mknod(ctx, vfsops.MknodReq{CreateReq: req, Type: typ})
	}
	want := m.dirErr(d)
	if want == 0 && d.kids[name] != nil {
		want = abi.EEXIST
	}
	m.want("make", err, want)
	if want == 0 {
		n.h = mut.Node.Handle
		for _, o := range m.all {
			if o.h == n.h {
				m.t.Fatalf("handle %v given twice", n.h)
			}
		}
		d.kids[name] = n
		m.all = append(m.all, n)
	}
}

func (m *model) link(*rapid.T) {
	n, d, name := m.node("node"), m.dir("dir"), m.name("name")
	_, err := m.k.Link(ctx, vfsops.LinkReq{Op: m.k.op(), Node: n.h, Dir: d.h, Name: []byte(name)})
	want := m.dirErr(d)
	switch {
	case !m.alive(n):
		want = abi.ESTALE
	case want != 0:
	case n.typ == abi.VDIR:
		want = abi.EPERM
	case n.links == 0:
		want = abi.ENOENT
	case d.kids[name] != nil:
		want = abi.EEXIST
	}
	m.want("link", err, want)
	if want == 0 {
		d.kids[name] = n
		n.links++
	}
}

func (m *model) remove(*rapid.T) {
	d, name := m.dir("dir"), m.name("name")
	n := d.kids[name]
	if n == nil {
		n = m.node("victim")
	}
	asDir := rapid.Bool().Draw(m.t, "rmdir")
	req := vfsops.RemoveReq{Op: m.k.op(), Dir: d.h, Name: []byte(name), Victim: n.h}
	var err error
	if asDir {
		_, err = m.k.Rmdir(ctx, req)
	} else {
		_, err = m.k.Remove(ctx, req)
	}
	var want abi.Errno
	switch {
	case !m.alive(d) || d.kids[name] != n:
		want = abi.ESTALE
	case asDir && n.typ != abi.VDIR:
		want = abi.ENOTDIR
	case asDir && len(n.kids) > 0:
		want = abi.ENOTEMPTY
	case !asDir && n.typ == abi.VDIR:
		want = abi.EPERM
	}
	m.want("remove", err, want)
	if want == 0 {
		delete(d.kids, name)
		n.links--
	}
}

func (m *model) rename(*rapid.T) {
	fd, td, fn, tn := m.dir("fdir"), m.dir("tdir"), m.name("fname"), m.name("tname")
	exchange := rapid.Bool().Draw(m.t, "exchange")
	f, to := fd.kids[fn], td.kids[tn]
	if f == nil || m.dirErr(td) != 0 || !m.alive(fd) {
		return // the kernel would not ask
	}
	if f.typ == abi.VDIR && below(f, td) || exchange && to != nil && to.typ == abi.VDIR && below(to, fd) {
		return
	}
	req := vfsops.RenameReq{Op: m.k.op(), FDir: fd.h, FName: []byte(fn), From: f.h, TDir: td.h, TName: []byte(tn)}
	if to != nil {
		req.To = to.h
	}
	if exchange {
		req.Flags = abi.RENAME_EXCHANGE
	}
	_, err := m.k.Rename(ctx, req)
	var want abi.Errno
	switch {
	case to == nil && exchange:
		want = abi.ENOENT
	case to == nil, to == f, exchange:
	case to.typ == abi.VDIR && f.typ != abi.VDIR:
		want = abi.EISDIR
	case to.typ != abi.VDIR && f.typ == abi.VDIR:
		want = abi.ENOTDIR
	case len(to.kids) > 0:
		want = abi.ENOTEMPTY
	}
	m.want("rename", err, want)
	switch {
	case want != 0 || to == f:
	case exchange:
		fd.kids[fn], td.kids[tn] = to, f
	default:
		if to != nil {
			to.links--
		}
		delete(fd.kids, fn)
		td.kids[tn] = f
	}
}

func (m *model) pin(*rapid.T) {
	n := m.node("node")
	if !m.alive(n) || n == m.root {
		return
	}
	if n.pins > 0 && rapid.Bool().Draw(m.t, "unpin") {
		m.want("unpin", m.k.Unpin(ctx, n.h), 0)
		n.pins--
		return
	}
	m.want("pin", m.k.Pin(ctx, n.h), 0)
	n.pins++
}

func (m *model) resize(*rapid.T) {
	n, size := m.node("node"), rapid.Int64Range(0, 1<<40).Draw(m.t, "size")
	_, err := m.k.Setattr(ctx, vfsops.SetattrReq{Op: m.k.op(), Node: n.h, Mask: abi.SetSize, Attr: abi.Vattr{Size: size}})
	var want abi.Errno
	switch {
	case !m.alive(n):
		want = abi.ESTALE
	case n.typ == abi.VDIR:
		want = abi.EISDIR
	case n.typ != abi.VREG:
		want = abi.EINVAL
	}
	m.want("resize", err, want)
	if want == 0 {
		n.size = size
	}
}

// check compares everything.
func (m *model) check(*rapid.T) {
	live, used := 0, int64(1)
	for _, n := range m.all {
		v, err := m.k.Getattr(ctx, n.h)
		if !m.alive(n) {
			m.want("getattr of a dead node", err, abi.ESTALE)
			continue
		}
		live++
		m.want("getattr", err, 0)
		size := n.size
		if n.typ == abi.VDIR {
			size = int64(len(n.kids)) * direntSize
		}
		if v.Type != n.typ || v.Nlink != m.nlink(n) || v.Size != size {
			m.t.Fatalf("%v: %+v, want type %v, nlink %d, size %d", n.h, v, n.typ, m.nlink(n), size)
		}
		if n.typ != abi.VDIR {
			continue
		}
		used += int64(len(n.kids))
		if got, want := slices.Sorted(slices.Values(m.k.list(n.h, 60))), slices.Sorted(maps.Keys(n.kids)); !slices.Equal(got, want) {
			m.t.Fatalf("%v lists %q, want %q", n.h, got, want)
		}
		for _, name := range names {
			tr, e := m.k.lookup(n.h, name)
			kid := n.kids[name]
			if kid == nil && e != abi.ENOENT || kid != nil && (len(tr) != 1 || tr[0].Handle != kid.h) {
				m.t.Fatalf("lookup %q in %v: %v %v", name, n.h, tr, e)
			}
		}
	}
	if len(m.k.nodes) != live || m.k.names != used {
		m.t.Fatalf("%d nodes and %d names, want %d and %d", len(m.k.nodes), m.k.names, live, used)
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		k := mount(t)
		m := &model{t: rt, k: k, root: &mnode{h: k.rootH(), typ: abi.VDIR, kids: map[string]*mnode{}}}
		m.all = []*mnode{m.root}
		rt.Repeat(map[string]func(*rapid.T){
			"make": m.make, "make2": m.make, "link": m.link, "remove": m.remove,
			"rename": m.rename, "pin": m.pin, "resize": m.resize, "": m.check,
		})
	})
}
