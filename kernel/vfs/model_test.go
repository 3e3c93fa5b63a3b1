package vfs

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"pgregory.net/rapid"
)

// model is a file system as simple as can be: what TestModel compares with.
type mnode struct {
	dir    map[string]*mnode
	parent *mnode
	target string
	data   string
	nlink  int
	typ    abi.VType
	mode   uint32
}

func newDir(parent *mnode) *mnode {
	n := &mnode{dir: map[string]*mnode{}, parent: parent, typ: abi.VDIR, nlink: 2, mode: 0o755}
	if parent == nil {
		n.parent = n
	}
	return n
}

type model struct{ root *mnode }

// walk resolves a path; with parent up to the last component.
func (m *model) walk(path string, follow, parent bool) (at *mnode, last string, e abi.Errno) {
	return m.walkFrom(m.root, path, follow, parent, 0)
}

func (m *model) walkFrom(at *mnode, path string, follow, parent bool, links int) (*mnode, string, abi.Errno) {
	if strings.HasPrefix(path, "/") {
		at = m.root
	}
	names := strings.Split(strings.Trim(path, "/"), "/")
	for i, n := range names {
		if at.typ != abi.VDIR {
			return nil, "", abi.ENOTDIR
		}
		if n == "" {
			continue
		}
		lastOne := i == len(names)-1
		if parent && lastOne {
			return at, n, 0
		}
		if n == ".." {
			at = at.parent
			continue
		}
		next := at.dir[n]
		if next == nil {
			return nil, "", abi.ENOENT
		}
		if next.typ == abi.VLNK && (!lastOne || follow) {
			if links++; links > abi.MAXSYMLINKS {
				return nil, "", abi.ELOOP
			}
			rest := next.target
			if !lastOne {
				rest += "/" + strings.Join(names[i+1:], "/")
			}
			return m.walkFrom(at, rest, follow, parent, links)
		}
		at = next
	}
	return at, "", 0
}

func (m *model) below(n, anc *mnode) bool {
	for ; n != anc; n = n.parent {
		if n == n.parent {
			return false
		}
	}
	return true
}

func (m *model) make(path string, n *mnode) abi.Errno {
	dir, last, e := m.walk(path, false, true)
	switch {
	case e != 0:
		return e
	case dir.dir[last] != nil:
		return abi.EEXIST
	}
	if n.typ == abi.VDIR {
		n.parent = dir
		dir.nlink++
	}
	dir.dir[last] = n
	return 0
}

func (m *model) write(path, data string, app bool) abi.Errno {
	n, _, e := m.walk(path, true, false)
	if e == abi.ENOENT {
		// O_CREAT goes through dangling links: find where they end.
		for links := 0; ; links++ {
			dir, last, e := m.walk(path, false, true)
			if e != 0 {
				return e
			}
			l := dir.dir[last]
			if l == nil {
				n = &mnode{typ: abi.VREG, nlink: 1, mode: 0o644}
				dir.dir[last] = n
				break
			}
			if l.typ != abi.VLNK {
				return abi.ENOENT
			}
			if links > abi.MAXSYMLINKS {
				return abi.ELOOP
			}
			// Links of this test are absolute paths.
			path = l.target
		}
	} else if e != 0 {
		return e
	}
	if n.typ == abi.VDIR {
		return abi.EISDIR
	}
	if !app {
		n.data = ""
	}
	n.data += data
	return 0
}

func (m *model) unlink(path string, rmdir bool) abi.Errno {
	dir, last, e := m.walk(path, false, true)
	if e != 0 {
		return e
	}
	n := dir.dir[last]
	switch {
	case n == nil:
		return abi.ENOENT
	case rmdir && n.typ != abi.VDIR:
		return abi.ENOTDIR
	case !rmdir && n.typ == abi.VDIR:
		return abi.EPERM
	case rmdir && len(n.dir) > 0:
		return abi.ENOTEMPTY
	}
	delete(dir.dir, last)
	if n.nlink--; rmdir {
		dir.nlink--
	}
	return 0
}

func (m *model) rename(a, b string) abi.Errno {
	fd, fn, e := m.walk(a, false, true)
	if e != 0 {
		return e
	}
	td, tn, e := m.walk(b, false, true)
	if e != 0 {
		return e
	}
	from, to := fd.dir[fn], td.dir[tn]
	switch {
	case from == nil:
		return abi.ENOENT
	case from.typ == abi.VDIR && m.below(td, from):
		return abi.EINVAL
	case to != nil && to.typ == abi.VDIR && m.below(fd, to) && from.typ != abi.VDIR:
		return abi.EISDIR
	case to != nil && to.typ == abi.VDIR && m.below(fd, to):
		return abi.ENOTEMPTY
	case from == to:
		return 0
	case to == nil:
	case from.typ == abi.VDIR && to.typ != abi.VDIR:
		return abi.ENOTDIR
	case from.typ != abi.VDIR && to.typ == abi.VDIR:
		return abi.EISDIR
	case to.typ == abi.VDIR && len(to.dir) > 0:
		return abi.ENOTEMPTY
	}
	if to != nil {
		to.nlink--
		if to.typ == abi.VDIR {
			td.nlink--
		}
	}
	delete(fd.dir, fn)
	td.dir[tn] = from
	if from.typ == abi.VDIR {
		fd.nlink--
		td.nlink++
		from.parent = td
	}
	return 0
}

func (m *model) link(a, b string) abi.Errno {
	n, _, e := m.walk(a, false, false)
	switch {
	case e != 0:
		return e
	case n.typ == abi.VDIR:
		return abi.EPERM
	}
	if e := m.make(b, n); e != 0 {
		return e
	}
	n.nlink++
	return 0
}

// compare walks both trees.
func (m *model) compare(t *rapid.T, k *kern, n *mnode, path string) {
	st := k.stat(path + "/.")
	if int(st.Nlink) != n.nlink || st.Mode != n.mode {
		t.Fatalf("%s: nlink %d mode %o, want %d %o", path, st.Nlink, st.Mode, n.nlink, n.mode)
	}
	var names []string
	for _, d := range k.ls(path + "/")[2:] {
		names = append(names, d.Name)
	}
	slices.Sort(names)
	if want := slices.Sorted(maps.Keys(n.dir)); !slices.Equal(names, want) {
		t.Fatalf("%s has %v, want %v", path, names, want)
	}
	for name, c := range n.dir {
		p := path + "/" + name
		st := k.stat(p)
		if st.Type != c.typ || int(st.Nlink) != c.nlink {
			t.Fatalf("%s is %v with %d names, want %v with %d", p, st.Type, st.Nlink, c.typ, c.nlink)
		}
		switch c.typ {
		case abi.VDIR:
			m.compare(t, k, c, p)
		case abi.VREG:
			if got := k.read(p); got != c.data || st.Size != int64(len(c.data)) || st.Mode != c.mode {
				t.Fatalf("%s has %q, size %d, mode %o; want %q, %o", p, got, st.Size, st.Mode, c.data, c.mode)
			}
		case abi.VLNK:
			if got, err := k.Readlink(ctx, su(), p); err != nil || got != c.target {
				t.Fatalf("%s leads to %q, %v", p, got, err)
			}
		}
	}
}

// TestModel runs random operations on a VFS with small caches and on a model,
// and compares every errno and now and then everything.
func TestModel(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) { runModel(t, rt, v) })
		})
	}
}

func runModel(t *testing.T, rt *rapid.T, v variant) {
	k := newKern(t, v, Options{MaxVnodes: 4, MaxNames: 8, MemLimit: 1 << 20})
	defer k.UnmountAll(ctx)
	m := &model{root: newDir(nil)}
	name := rapid.SampledFrom([]string{"a", "b", "c"})
	pathGen := rapid.Custom(func(t *rapid.T) string {
		return "/" + strings.Join(rapid.SliceOfN(name, 1, 4).Draw(t, "names"), "/")
	})
	path := func(l string) string { return pathGen.Draw(rt, l) }
	check := func(op string, err error, want abi.Errno) {
		if got := abi.ErrnoOf(err); got != want {
			rt.Fatalf("%s: got %s, want %s", op, got.Name(), want.Name())
		}
	}
	write := func(p, data string, fl int) error {
		f, err := k.Open(ctx, su(), p, abi.O_WRONLY|abi.O_CREAT|fl, 0o644)
		if err != nil {
			return err
		}
		_, err = f.Ops.Write(ctx, abi.KernelCaller, f, []byte(data), file.Cur)
		if err2 := f.Release(ctx); err == nil {
			err = err2
		}
		return err
	}
	rt.Repeat(map[string]func(*rapid.T){
		"mkdir": func(*rapid.T) {
			p := path("p")
			check("mkdir "+p, k.Mkdir(ctx, su(), p, 0o755), m.make(p, newDir(m.root)))
		},
		"write": func(t *rapid.T) {
			p, app := path("p"), rapid.Bool().Draw(t, "append")
			data, fl := strings.Repeat(rapid.StringN(0, 3, 9).Draw(t, "data"), 700), abi.O_TRUNC
			if app {
				fl = abi.O_APPEND
			}
			check("write "+p, write(p, data, fl), m.write(p, data, app))
		},
		"unlink": func(*rapid.T) {
			p := path("p")
			check("unlink "+p, k.Unlink(ctx, su(), p, 0), m.unlink(p, false))
		},
		"rmdir": func(*rapid.T) {
			p := path("p")
			check("rmdir "+p, k.Rmdir(ctx, su(), p), m.unlink(p, true))
		},
		"rename": func(*rapid.T) {
			a, b := path("a"), path("b")
			check("rename "+a+" "+b, k.Rename(ctx, su(), a, su(), b, 0), m.rename(a, b))
		},
		"link": func(*rapid.T) {
			a, b := path("a"), path("b")
			check("link "+a+" "+b, k.Link(ctx, su(), a, su(), b, false), m.link(a, b))
		},
		"symlink": func(*rapid.T) {
			a, b := path("a"), path("b")
			check("symlink "+a+" "+b, k.Symlink(ctx, su(), a, b), m.make(b, &mnode{typ: abi.VLNK, target: a, nlink: 1}))
		},
		"truncate": func(t *rapid.T) {
			p, size := path("p"), rapid.IntRange(0, 6000).Draw(t, "size")
			n, _, e := m.walk(p, true, false)
			if e == 0 && n.typ == abi.VDIR {
				e = abi.EISDIR
			} else if e == 0 {
				n.data = (n.data + strings.Repeat("\x00", size))[:max(size, min(size, len(n.data)))]
			}
			check("truncate "+p, k.Truncate(ctx, su(), p, int64(size)), e)
		},
		"chmod": func(t *rapid.T) {
			p, mode := path("p"), rapid.Uint32Range(0, 0o777).Draw(t, "mode")
			n, _, e := m.walk(p, true, false)
			if e == 0 {
				n.mode = mode
			}
			check("chmod "+p, k.Chmod(ctx, su(), p, mode, true), e)
		},
		"stat dotdot": func(*rapid.T) {
			p := path("p") + "/../" + name.Draw(rt, "name")
			_, _, e := m.walk(p, true, false)
			_, err := k.Stat(ctx, su(), p, true)
			check("stat "+p, err, e)
		},
		"": func(t *rapid.T) {
			if rapid.IntRange(0, 9).Draw(t, "compare") == 0 {
				m.compare(rt, k, m.root, "")
			}
		},
	})
	m.compare(rt, k, m.root, "")
	k.settled()
}
