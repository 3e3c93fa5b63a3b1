package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// mnode is a file of the model.
type mnode struct {
	h     abi.Handle
	data  []byte
	dir   map[string]*mnode
	link  string
	xa    map[string]string
	links int
	up    *mnode
}

type model struct {
	*rig
	r    *rand.Rand
	root *mnode
	dirs []*mnode
	step int
}

// TestRandom works at random on every layout, against a model, and has e2fsck
// look.
func TestRandom(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			random(t, mkfs(t, l.size, l.args...), 1, 800)
		})
	}
}

func random(t *testing.T, disk *modtest.RAM, seed uint64, steps int) {
	t.Helper()
	m := &model{rig: mountRig(t, disk, false), r: rand.New(rand.NewPCG(seed, 1))}
	m.root = &mnode{h: m.rt, dir: map[string]*mnode{}}
	lf := m.lookup("lost+found")
	m.root.dir["lost+found"] = &mnode{h: lf.Handle, dir: map[string]*mnode{}, links: 1, up: m.root}
	m.dirs = []*mnode{m.root}
	for m.step = range steps {
		m.one()
		if m.step%400 == 199 {
			m.must(m.Sync(ctx, abi.Handle{}, false))
			fsck(t, disk.Bytes())
			m.compare(m.root)
		}
	}
	m.compare(m.root)
	m.must(m.Unmount(ctx))
	fsck(t, disk.Bytes())
	// A new mount sees the same.
	m.rig = mountRig(t, disk, true)
	m.compare(m.root)
	m.must(m.Unmount(ctx))
}

func (m *model) pick(d *mnode) (string, *mnode) {
	names := make([]string, 0, len(d.dir))
	for k := range d.dir {
		if k != "lost+found" {
			names = append(names, k)
		}
	}
	if len(names) == 0 {
		return "", nil
	}
	slices.Sort(names)
	n := names[m.r.IntN(len(names))]
	return n, d.dir[n]
}

func (m *model) name() string {
	switch m.r.IntN(4) {
	case 0:
		return fmt.Sprintf("f%d", m.r.IntN(400))
	case 1:
		return strings.Repeat("ü", 1+m.r.IntN(90)) + fmt.Sprint(m.r.IntN(9))
	}
	return fmt.Sprintf("a file with a longer name, number %d", m.r.IntN(400))
}

func (m *model) one() {
	m.Helper()
	r := m.r
	d := m.dirs[r.IntN(len(m.dirs))]
	if r.IntN(2) == 0 {
		d = m.dirs[len(m.dirs)-1]
	}
	want := func(what string, err error, e abi.Errno) bool {
		m.Helper()
		if got := abi.ErrnoOf(err); got != e && got != abi.ENOSPC {
			m.Fatalf("%d: %s: %v, want %v", m.step, what, err, e)
		}
		return err == nil
	}
	exist := func(n string) abi.Errno {
		if d.dir[n] != nil {
			return abi.EEXIST
		}
		return 0
	}
	switch r.IntN(17) {
	case 0, 1, 2, 3:
		n := m.name()
		x, err := m.Create(ctx, vfsops.CreateReq{Op: m.op(), Dir: d.h, Name: []byte(n), Mode: 0o644})
		if want("create", err, exist(n)) {
			d.dir[n] = &mnode{h: x.Node.Handle, links: 1, up: d}
		}
	case 4:
		if len(m.dirs) > 15 {
			return
		}
		n := m.name()
		x, err := m.Mkdir(ctx, vfsops.CreateReq{Op: m.op(), Dir: d.h, Name: []byte(n), Mode: 0o755})
		if want("mkdir", err, exist(n)) {
			d.dir[n] = &mnode{h: x.Node.Handle, links: 1, dir: map[string]*mnode{}, up: d}
			m.dirs = append(m.dirs, d.dir[n])
		}
	case 5:
		n, target := m.name(), strings.Repeat("x/", 1+r.IntN(200))
		x, err := m.Symlink(ctx, vfsops.SymlinkReq{CreateReq: vfsops.CreateReq{Op: m.op(), Dir: d.h, Name: []byte(n), Mode: 0o777}, Target: []byte(target)})
		if want("symlink", err, exist(n)) {
			d.dir[n] = &mnode{h: x.Node.Handle, links: 1, link: target, up: d}
		}
	case 6, 7, 8:
		_, x := m.pick(d)
		if x == nil || x.dir != nil || x.link != "" {
			return
		}
		off := r.IntN(40) * abi.PageSize
		if r.IntN(10) == 0 {
			off *= 40
		}
		n := (1 + r.IntN(20)) * abi.PageSize
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		size := max(off+n-r.IntN(abi.PageSize), len(x.data))
		err := m.WritePages(ctx, m.op(), x.h, int64(off), abi.IovOf(p), int64(size))
		if want("write", err, 0) {
			x.data = append(x.data, make([]byte, size-len(x.data))...)
			copy(x.data[off:], p)
		}
	case 9:
		_, x := m.pick(d)
		if x == nil || x.dir != nil || x.link != "" {
			return
		}
		size := r.IntN(200000)
		_, err := m.Truncate(ctx, m.op(), x.h, int64(size))
		if want("truncate", err, 0) {
			x.data = append(x.data, make([]byte, max(size-len(x.data), 0))...)[:size]
		}
	case 10, 11:
		n, x := m.pick(d)
		if x == nil {
			return
		}
		req := vfsops.RemoveReq{Op: m.op(), Dir: d.h, Name: []byte(n), Victim: x.h}
		if x.dir != nil {
			_, err := m.Rmdir(ctx, req)
			e := abi.Errno(0)
			if len(x.dir) > 0 {
				e = abi.ENOTEMPTY
			}
			if want("rmdir", err, e) {
				delete(d.dir, n)
				m.dirs = slices.DeleteFunc(m.dirs, func(y *mnode) bool { return y == x })
			}
			return
		}
		_, err := m.Remove(ctx, req)
		if want("remove", err, 0) {
			delete(d.dir, n)
			x.links--
		}
	case 12:
		n, x := m.pick(d)
		to := m.dirs[r.IntN(len(m.dirs))]
		if x == nil {
			return
		}
		for p := to; p != nil; p = p.up {
			if p == x {
				return
			}
		}
		tn := m.name()
		y := to.dir[tn]
		req := vfsops.RenameReq{Op: m.op(), FDir: d.h, FName: []byte(n), From: x.h, TDir: to.h, TName: []byte(tn)}
		if y != nil {
			req.To = y.h
			if r.IntN(3) == 0 {
				for p := d; p != nil; p = p.up {
					if p == y {
						return
					}
				}
				req.Flags = abi.RENAME_EXCHANGE
			} else if (x.dir != nil) != (y.dir != nil) || len(y.dir) > 0 {
				return
			}
		}
		_, err := m.Rename(ctx, req)
		if !want("rename", err, 0) || x == y {
			return
		}
		if req.Flags != 0 {
			d.dir[n], to.dir[tn] = y, x
			x.up, y.up = to, d
			return
		}
		delete(d.dir, n)
		to.dir[tn] = x
		x.up = to
		if y != nil {
			if y.links--; y.dir != nil {
				m.dirs = slices.DeleteFunc(m.dirs, func(z *mnode) bool { return z == y })
			}
		}
	case 13:
		_, x := m.pick(d)
		n := m.name()
		if x == nil || x.dir != nil {
			return
		}
		_, err := m.Link(ctx, vfsops.LinkReq{Op: m.op(), Node: x.h, Dir: d.h, Name: []byte(n)})
		if want("link", err, exist(n)) {
			d.dir[n] = x
			x.links++
		}
	case 14:
		_, x := m.pick(d)
		if x == nil {
			return
		}
		if x.xa == nil {
			x.xa = map[string]string{}
		}
		n, v := fmt.Sprintf("user.x%d", r.IntN(5)), strings.Repeat("v", r.IntN(300))
		if r.IntN(3) == 0 && x.xa[n] != "" {
			m.must(m.Removexattr(ctx, m.op(), x.h, []byte(n)))
			delete(x.xa, n)
		} else if want("setxattr", m.Setxattr(ctx, vfsops.SetxattrReq{Op: m.op(), Node: x.h, Name: []byte(n), Value: []byte(v)}), 0) {
			x.xa[n] = v
		}
	case 15, 16:
		_, x := m.pick(d)
		if x == nil || x.dir != nil || x.link != "" {
			return
		}
		off, n := r.IntN(100000), 1+r.IntN(100000)
		punch := r.IntN(2) == 0
		_, err := m.Fallocate(ctx, m.op(), x.h, int64(off), int64(n), punch)
		if errors.Is(err, abi.EOPNOTSUPP) || !want("fallocate", err, 0) {
			return
		}
		if punch {
			clear(x.data[min(off, len(x.data)):min(off+n, len(x.data))])
		} else {
			x.data = append(x.data, make([]byte, max(off+n-len(x.data), 0))...)
		}
	}
}

func (m *model) compare(d *mnode) {
	m.Helper()
	got := m.names(d.h)
	slices.Sort(got)
	want := make([]string, 0, len(d.dir))
	for n := range d.dir {
		want = append(want, n)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		m.Fatalf("step %d: a directory has %d entries, want %d:\n%q\n%q", m.step, len(got), len(want), got, want)
	}
	for n, c := range d.dir {
		res, err := m.Lookup(ctx, vfsops.LookupReq{Start: d.h, Names: [][]byte{[]byte(n)}})
		if err != nil || len(res.Trace) != 1 || res.Trace[0].Handle != c.h {
			m.Fatalf("%q: %v, %v, %v", n, res, err, c.h)
		}
		v := res.Trace[0].Vattr
		if c.dir == nil && int(v.Nlink) != c.links {
			m.Fatalf("%q has %d links, want %d", n, v.Nlink, c.links)
		}
		for k, val := range c.xa {
			if got, err := m.Getxattr(ctx, c.h, []byte(k)); err != nil || string(got) != val {
				m.Fatalf("%q: %s is %d bytes, want %d: %v", n, k, len(got), len(val), err)
			}
		}
		switch {
		case c.dir != nil:
			m.compare(c)
		case c.link != "":
			if got, err := m.Readlink(ctx, c.h); err != nil || string(got) != c.link {
				m.Fatalf("%q leads to %q: %v", n, got, err)
			}
		default:
			if p := m.get(c.h); !bytes.Equal(p, c.data) {
				at := 0
				for at < min(len(p), len(c.data)) && p[at] == c.data[at] {
					at++
				}
				m.Fatalf("step %d: %q: %d bytes are not the %d written, from %d on", m.step, n, len(p), len(c.data), at)
			}
		}
	}
}
