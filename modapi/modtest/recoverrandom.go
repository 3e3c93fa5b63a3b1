package modtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// TestRecovery does steps of random work on the file systems that newFS makes,
// in every binding, and lets them die and come back again and again; a twin that
// never dies must not differ. A failure names its seed.
func TestRecovery(t *testing.T, newFS func(t *testing.T) FSUnderTest, seed uint64, steps int) {
	eachBinding(t, func(t *testing.T, b Binding) {
		f := mountFS(t, b, newFS(t))
		f.newFS = newFS
		f.need(vfsops.CapRecoverable | vfsops.HasCreator | vfsops.HasRemover | vfsops.HasPinner)
		randomLives(f, seed, steps)
	})
}

// Random work, checkpoints and deaths.
func ruleCheckpointRandom(f *fsT) {
	f.need(vfsops.CapRecoverable | vfsops.HasCreator | vfsops.HasRemover | vfsops.HasPinner)
	if f.b.Name != "direct" {
		randomLives(f, 100, 400)
		return
	}
	for seed := range uint64(8) {
		randomLives(f, seed, 400)
	}
}

// twins are a mount that never dies and one that does, of which the same is
// asked. Both have the same Fsid, so that handles are equal too.
type twins struct {
	*testing.T
	r       *rand.Rand
	a, b    *life // a lives
	seed    uint64
	step    int
	nodes   []*tnode     // with a name
	pinned  []abi.Handle // without a name, each as often as it is pinned
	dead    []abi.Handle
	history []string
	killing chan struct{} // not nil: b's process is being killed, by now or soon; closed when it has been
	kills   int           // that hit something in flight
}

// tnode is a node as far as the twins' driver has to know it.
type tnode struct {
	h      abi.Handle
	typ    abi.VType
	up     *tnode // of directories: where they are
	links  int
	isRoot bool
}

func randomLives(f *fsT, seed uint64, steps int) {
	f.Helper()
	p := &twins{T: f.T, seed: seed, r: rand.New(rand.NewPCG(seed, 99)), a: newLife(f), b: newLife(f)}
	p.nodes = []*tnode{{h: p.a.root.Handle, typ: abi.VDIR, isRoot: true, links: 1}}
	ways := []struct {
		weight int
		do     func()
	}{
		{28, p.create}, {18, p.remove}, {14, p.rename}, {6, p.link}, {8, p.setattr}, {6, p.fill}, {6, p.xattr}, {6, p.unpin}, {6, p.stat},
		{4, p.checkpoint}, {3, p.die}, {2, p.compare}, {3, p.kill},
	}
	total := 0
	for _, w := range ways {
		total += w.weight
	}
	for p.step = range steps {
		n := p.r.IntN(total)
		for _, w := range ways {
			if n -= w.weight; n < 0 {
				w.do()
				break
			}
		}
		if f.Failed() {
			p.fatal("seed %d", seed)
		}
	}
	p.compare()
	p.b.recover()
	p.compare()
	if f.Failed() {
		p.fatal("seed %d", seed)
	}
	f.Logf("seed %d: %d steps, %d deaths, %d of them over something in flight", seed, steps, p.b.deaths, p.kills)
}

func (p *twins) fatal(format string, args ...any) {
	p.Helper()
	for _, h := range p.history[max(0, len(p.history)-20):] {
		p.Log(h)
	}
	p.Fatalf("seed %d, step %d: %s", p.seed, p.step, fmt.Sprintf(format, args...))
}

// do asks both the same, and notes the answer.
func (p *twins) do(what string, m mutator, about ...any) (any, error) {
	p.Helper()
	ga, ea := p.a.do(what, m)
	gb, eb := p.b.do(what, m)
	if p.killing != nil && abi.ErrnoOf(eb) == abi.EIO {
		// Killed over it: it was not answered, so it is not replayed but asked again.
		p.kills++
		p.settle()
		p.b.seq--
		gb, eb = p.b.do(what, m)
	}
	p.history = append(p.history, fmt.Sprint(p.step, " ", what, " ", fmt.Sprint(about...), ": ", abi.ErrnoOf(ea).Name()))
	if abi.ErrnoOf(ea) != abi.ErrnoOf(eb) || !reflect.DeepEqual(ga, gb) {
		p.fatal("%s %v answers %+v, %v; its twin that never died %+v, %v", what, about, gb, eb, ga, ea)
	}
	return ga, ea
}

func (p *twins) one(of nodeKind) *tnode {
	var c []*tnode
	for _, n := range p.nodes {
		if of == anyNode || of == onlyDirs && n.typ == abi.VDIR || of == onlyFiles && n.typ == abi.VREG {
			c = append(c, n)
		}
	}
	if len(c) == 0 {
		return nil
	}
	return c[p.r.IntN(len(c))]
}

type nodeKind int

const (
	anyNode nodeKind = iota
	onlyDirs
	onlyFiles
)

func (p *twins) name() string { return fmt.Sprint("name", p.r.IntN(12)) }

// at is what has a name in a directory, by the living twin; nil: nothing.
func (p *twins) at(d *tnode, name string) *tnode {
	p.Helper()
	res, err := p.a.walk(d.h, name)
	p.a.must("lookup", err)
	// The other twin need not look: it would read more than it has to.
	if len(res.Trace) == 0 {
		return nil
	}
	for _, n := range p.nodes {
		if n.h == res.Trace[0].Handle {
			return n
		}
	}
	p.fatal("lookup of %s found %v", name, res.Trace[0].Handle)
	return nil
}

func (p *twins) create() {
	d, name := p.one(onlyDirs), p.name()
	what := []string{"create", "create", "create", "mkdir", "symlink", "mknod"}[p.r.IntN(6)]
	if what == "mkdir" && p.dirs() > 5 {
		what = "create" // the names are to meet
	}
	if what == "symlink" && !p.a.has(vfsops.HasSymlinker) || what == "mknod" && !p.a.has(vfsops.HasMknoder) {
		what = "create"
	}
	got, err := p.do(what, makes(what, d.h, name), d.h, name)
	if err == nil {
		e := got.(vfsops.Mutated).Node
		p.nodes = append(p.nodes, &tnode{h: e.Handle, typ: e.Vattr.Type, up: d, links: 1})
	}
}

// lost notes that a node has a name less, and was pinned before it went.
func (p *twins) lost(n *tnode, pins int) {
	if n.links--; n.links > 0 {
		return
	}
	for range pins {
		p.pinned = append(p.pinned, n.h)
	}
	if pins == 0 {
		p.dead = append(p.dead, n.h)
	}
	for i, x := range p.nodes {
		if x == n {
			p.nodes = append(p.nodes[:i], p.nodes[i+1:]...)
			return
		}
	}
}

func (p *twins) dirs() (n int) {
	for _, x := range p.nodes {
		if x.typ == abi.VDIR {
			n++
		}
	}
	return n
}

// pin pins a node that is about to lose its last name, sometimes, and answers
// how often.
func (p *twins) pin(n *tnode) (times int) {
	if n == nil || n.links > 1 || p.r.IntN(2) == 0 {
		return 0
	}
	for range 1 + p.r.IntN(2) {
		if _, err := p.do("pin", pins(n.h, true), n.h); err == nil {
			times++
		}
		if p.r.IntN(4) == 0 {
			p.checkpoint()
		}
	}
	return times
}

// unpinNow takes pins back.
func (p *twins) unpinNow(n *tnode, times int) {
	for range times {
		p.do("unpin", pins(n.h, false), n.h)
	}
}

func (p *twins) remove() {
	d, name := p.one(onlyDirs), p.name()
	n := p.at(d, name)
	if n == nil {
		return
	}
	pinned := p.pin(n)
	_, err := p.do("remove", func(fs vfsops.FS, op vfsops.Op) (any, error) {
		r := vfsops.RemoveReq{Op: op, Dir: d.h, Name: []byte(name), Victim: n.h}
		if n.typ == abi.VDIR {
			return fs.(vfsops.Remover).Rmdir(context.Background(), r)
		}
		return fs.(vfsops.Remover).Remove(context.Background(), r)
	}, d.h, name)
	if err == nil {
		p.lost(n, pinned)
	} else {
		p.unpinNow(n, pinned)
	}
}

// below reports whether n is d or lies below it.
func below(d, n *tnode) bool {
	for ; n != nil; n = n.up {
		if n == d {
			return true
		}
	}
	return false
}

func (p *twins) rename() {
	fd, td, fn, tn := p.one(onlyDirs), p.one(onlyDirs), p.name(), p.name()
	from, to := p.at(fd, fn), p.at(td, tn)
	exchange := to != nil && p.r.IntN(4) == 0
	switch {
	case !p.a.has(vfsops.HasRenamer) || from == nil || from == to,
		from.typ == abi.VDIR && below(from, td),
		to != nil && !exchange && (from.typ == abi.VDIR) != (to.typ == abi.VDIR),
		exchange && to.typ == abi.VDIR && below(to, fd):
		return // the kernel would not ask
	}
	pinned := 0
	if !exchange {
		pinned = p.pin(to)
	}
	_, err := p.do("rename", func(fs vfsops.FS, op vfsops.Op) (any, error) {
		r := vfsops.RenameReq{Op: op, FDir: fd.h, FName: []byte(fn), From: from.h, TDir: td.h, TName: []byte(tn)}
		if to != nil {
			r.To = to.h
		}
		if exchange {
			r.Flags = abi.RENAME_EXCHANGE
		}
		return fs.(vfsops.Renamer).Rename(context.Background(), r)
	}, fd.h, fn, td.h, tn, exchange)
	switch {
	case err == nil && exchange:
		from.up, to.up = td, fd
	case err == nil:
		from.up = td
		if to != nil {
			p.lost(to, pinned)
		}
	default:
		p.unpinNow(to, pinned)
	}
}

func (p *twins) link() {
	n, d, name := p.one(onlyFiles), p.one(onlyDirs), p.name()
	if n == nil || !p.a.has(vfsops.HasLinker) {
		return
	}
	_, err := p.do("link", func(fs vfsops.FS, op vfsops.Op) (any, error) {
		return fs.(vfsops.Linker).Link(context.Background(), vfsops.LinkReq{Op: op, Node: n.h, Dir: d.h, Name: []byte(name)})
	}, n.h, d.h, name)
	if err == nil {
		n.links++
	}
}

func (p *twins) setattr() {
	n := p.one(anyNode)
	if !p.a.has(vfsops.HasSetattrer) {
		return
	}
	mask := []abi.SetMask{abi.SetMode, abi.SetUid | abi.SetGid, abi.SetMtime, abi.SetAtime}[p.r.IntN(4)]
	v := abi.Vattr{Mode: uint32(p.r.IntN(0o1000)), Uid: uint32(p.r.IntN(9)), Gid: uint32(p.r.IntN(9))}
	v.Atime = abi.Timespec{Sec: 1<<30 + int64(p.r.IntN(1e6)), Nsec: int32(p.r.IntN(1e9))}
	v.Mtime = v.Atime
	p.do("setattr", func(fs vfsops.FS, op vfsops.Op) (any, error) {
		return fs.(vfsops.Setattrer).Setattr(context.Background(), vfsops.SetattrReq{Op: op, Node: n.h, Mask: mask, Attr: v})
	}, n.h, mask)
}

func (p *twins) fill() {
	if n := p.one(onlyFiles); n != nil {
		size := int64(p.r.IntN(20000))
		p.do("fill", p.a.fills(n.h, size), n.h, size)
	}
}

func (p *twins) xattr() {
	n := p.one(anyNode)
	if !p.a.has(vfsops.HasXattrer | vfsops.CapXattr) {
		return
	}
	name, val := fmt.Sprint("user.x", p.r.IntN(4)), ""
	if p.r.IntN(3) > 0 {
		val = fmt.Sprint("value ", p.step)
	}
	p.do("setxattr", setxattrs(n.h, name, val), n.h, name, val)
}

func (p *twins) unpin() {
	if len(p.pinned) == 0 {
		return
	}
	i := p.r.IntN(len(p.pinned))
	h := p.pinned[i]
	p.pinned = append(p.pinned[:i:i], p.pinned[i+1:]...)
	if _, err := p.do("unpin", pins(h, false), h); err != nil {
		p.fatal("unpin: %v", err)
	}
	if !slices.Contains(p.pinned, h) {
		p.dead = append(p.dead, h)
	}
}

// stat asks both for a node, alive or dead.
func (p *twins) stat() {
	p.settle()
	h := p.one(anyNode).h
	want := abi.Errno(0)
	if n := len(p.dead); n > 0 && p.r.IntN(3) > 0 {
		h, want = p.dead[p.r.IntN(n)], abi.ESTALE
	}
	va, ea := p.a.fs.Getattr(p.a.ctx, h)
	vb, eb := p.b.fs.Getattr(p.b.ctx, h)
	if va != vb || abi.ErrnoOf(ea) != want || abi.ErrnoOf(eb) != want {
		p.fatal("getattr of %v answers %+v, %v; its twin that never died %+v, %v; want %s", h, vb, eb, va, ea, want.Name())
	}
}

// checkpoint makes one in the mount that dies; the other need not know.
func (p *twins) checkpoint() {
	p.history = append(p.history, fmt.Sprint(p.step, " checkpoint"))
	err := p.b.checkpoint(len(p.b.log), true)
	if p.killing != nil && abi.ErrnoOf(err) == abi.EIO {
		p.kills++
		p.settle()
		err = p.b.checkpoint(len(p.b.log), true)
	}
	p.b.must("checkpoint", err)
}

// kill lets b's process be killed at some moment from now on, if it is one.
func (p *twins) kill() {
	var ks []Killer
	for _, m := range p.b.mods {
		if k, ok := m.(Killer); ok {
			ks = append(ks, k)
		}
	}
	if p.killing != nil || len(ks) == 0 {
		return
	}
	wait := time.Duration(p.r.IntN(1500)) * time.Microsecond
	p.history = append(p.history, fmt.Sprint(p.step, " killed after ", wait))
	killing := make(chan struct{})
	p.killing = killing
	time.AfterFunc(wait, func() {
		defer close(killing)
		for _, k := range ks {
			k.Kill()
		}
	})
}

// settle waits for a kill that is under way, and recovers.
func (p *twins) settle() {
	p.Helper()
	if p.killing == nil {
		return
	}
	<-p.killing
	p.killing = nil
	p.history = append(p.history, fmt.Sprint(p.step, " recovered"))
	p.b.recover()
}

// die lets it die, in one of the ways there are.
func (p *twins) die() {
	p.settle()
	b := p.b
	way := p.r.IntN(6)
	p.history = append(p.history, fmt.Sprint(p.step, " death, way ", way))
	switch way {
	case 0: // between the checkpoint and its commit
		b.must("checkpoint", b.checkpoint(len(b.log), false))
	case 1: // it is replaying when it dies again
		b.die()
		b.replay(p.r.IntN(len(b.log) + 1))
	case 2: // a checkpoint is made in the replay, then it dies again
		b.die()
		n := p.r.IntN(len(b.log) + 1)
		b.replay(n)
		b.must("checkpoint", b.checkpoint(n, true))
	case 3: // a checkpoint, and it dies at once
		b.commit()
	}
	b.recover()
}

// compare looks at all of both.
func (p *twins) compare() {
	p.Helper()
	p.settle()
	p.history = append(p.history, fmt.Sprint(p.step, " compare"))
	p.b.same("beside the twin that never died", p.b.image(p.pinned...), p.a.image(p.pinned...))
	for _, h := range p.pinned {
		if v := p.b.getattr(h); v.Nlink != 0 {
			p.fatal("node %v without a name has %d links", h, v.Nlink)
		}
	}
}
