package vfs

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// fuzzNode is a file of the tree that FuzzPath walks: a directory, a symbolic
// link, or a file.
type fuzzNode struct {
	path   string // where it is
	up     *fuzzNode
	dir    map[string]*fuzzNode
	target string
}

func (n *fuzzNode) add(name string, c *fuzzNode) *fuzzNode {
	c.up, c.path = n, strings.TrimSuffix(n.path, "/")+"/"+name
	n.dir[name] = c
	return c
}

func fuzzDir() *fuzzNode               { return &fuzzNode{dir: map[string]*fuzzNode{}} }
func fuzzLink(target string) *fuzzNode { return &fuzzNode{target: target} }

func fuzzTree() *fuzzNode {
	root := fuzzDir()
	root.path, root.up = "/", root
	a := root.add("a", fuzzDir())
	b := a.add("b", fuzzDir())
	a.add("f", &fuzzNode{})
	a.add("l", fuzzLink("b"))
	a.add("up", fuzzLink(".."))
	a.add("fl", fuzzLink("f/"))
	b.add("back", fuzzLink("../../a/./l/../f"))
	b.add("abs", fuzzLink("/a/b"))
	b.add(strings.Repeat("n", 255), fuzzDir()).add("f", &fuzzNode{})
	b.add("long", fuzzLink(strings.Repeat("../b/", 200)))
	root.add("loop", fuzzLink("loop"))
	root.add("ping", fuzzLink("a/../pong"))
	root.add("pong", fuzzLink("/ping"))
	root.add("gone", fuzzLink("none"))
	root.add("\xff \n", &fuzzNode{})
	return root
}

// resolve is namei as the book has it, without caches, mounts or permissions.
func (n *fuzzNode) resolve(root *fuzzNode, path string, follow bool) (*fuzzNode, abi.Errno) {
	switch {
	case path == "":
		return nil, abi.ENOENT
	case len(path) >= abi.PATH_MAX:
		return nil, abi.ENAMETOOLONG
	case strings.Contains(path, "\x00"):
		return nil, abi.EINVAL
	}
	at := n
	if path[0] == '/' {
		at = root
	}
	for links := 0; ; {
		name := strings.TrimLeft(path, "/")
		slash := name != path
		if name == "" {
			if slash && at.dir == nil {
				return nil, abi.ENOTDIR
			}
			return at, 0
		}
		if at.dir == nil {
			return nil, abi.ENOTDIR
		}
		if i := strings.IndexByte(name, '/'); i >= 0 {
			name, path = name[:i], name[i:]
		} else {
			path = ""
		}
		switch {
		case name == ".":
			continue
		case name == "..":
			if at != root {
				at = at.up
			}
			continue
		case len(name) > abi.NAME_MAX:
			return nil, abi.ENAMETOOLONG
		}
		next := at.dir[name]
		switch {
		case next == nil:
			return nil, abi.ENOENT
		case next.target == "" || path == "" && !follow:
			at = next
			continue
		}
		if links++; links > abi.MAXSYMLINKS {
			return nil, abi.ELOOP
		}
		if path = next.target + path; len(path) >= abi.PATH_MAX {
			return nil, abi.ENAMETOOLONG
		}
		if path[0] == '/' {
			at = root
		}
	}
}

// FuzzPath walks any path, from the root and inside a chroot, and compares with
// resolve: what is not in the caches, and what is.
func FuzzPath(f *testing.F) {
	for _, s := range []string{
		"/", "a", "a/b/../f", "/a/l/back", "a/up/a/up/a/l", "loop", "ping", "gone", "gone/", "a/f/", "a/f/.", "a/fl", "//a//b//", "..", "../../a",
		"a/b/abs/abs/abs/back", "a/b/long", "a/b/long/", "/\xff \n", "a/b/" + strings.Repeat("n", 255) + "/f", strings.Repeat("n", 256),
		"none/" + strings.Repeat("n", 256), strings.Repeat("a/../", 204) + "a", "a\x00b", "", "./.", "a/l/./../../gone/x", "up/..", "abs", "f/..",
	} {
		f.Add(s, true, false)
		f.Add(s, false, true)
	}
	f.Fuzz(func(t *testing.T, path string, follow, jail bool) {
		k := newKern(t, variants[0], Options{})
		root := fuzzTree()
		var plant func(n *fuzzNode)
		plant = func(n *fuzzNode) {
			for _, c := range n.dir {
				switch {
				case c.dir != nil:
					k.ok(k.Mkdir(ctx, su(), c.path, 0o755))
				case c.target != "":
					k.ok(k.Symlink(ctx, su(), c.target, c.path))
				default:
					k.write(c.path, "")
				}
				plant(c)
			}
		}
		plant(root)
		w, from, top := su(), root, root
		w.Cwd = NewCwdinfo()
		defer w.Cwd.Release()
		if jail {
			top = root.dir["a"]
			from = top.dir["b"]
			k.ok(k.Chroot(ctx, w, "/a"))
			k.ok(k.Chdir(ctx, w, "/b"))
		}
		want, e := from.resolve(top, path, follow)
		k.nc.purge()
		for _, what := range []string{"cold", "warm"} {
			st, err := k.Stat(ctx, w, path, follow)
			if abi.ErrnoOf(err) != e {
				t.Fatalf("%s: %q is %v, want %s", what, path, err, e.Name())
			}
			if e == 0 {
				if id := k.stat(want.path).Fileid; st.Fileid != id {
					t.Fatalf("%s: %q is %d, want %s, %d", what, path, st.Fileid, want.path, id)
				}
			}
		}
	})
}

// FuzzXattr sets, reads, lists and removes extended attributes with any names
// and values, and compares with a map.
func FuzzXattr(f *testing.F) {
	f.Add("user.a", []byte("value"), "user.b", []byte{}, uint8(0))
	f.Add("user.a", []byte("value"), "user.a", []byte("x"), uint8(1))
	f.Add("user.a", []byte("value"), "user.b", []byte("x"), uint8(2))
	f.Add("system.a", []byte{0}, "trusted.b", []byte("x"), uint8(3))
	f.Add("", []byte{}, "user.", bytes.Repeat([]byte("x"), 65537), uint8(0))
	f.Add("user."+strings.Repeat("n", 250), []byte("1"), "user."+strings.Repeat("n", 251), []byte("2"), uint8(4))
	f.Add("a\x00b", []byte("1"), "\xff", []byte("2"), uint8(0))
	f.Fuzz(func(t *testing.T, n1 string, v1 []byte, n2 string, v2 []byte, flags uint8) {
		k := newKern(t, variants[len(variants)-1], Options{})
		k.write("/f", "")
		target := Target{W: su(), Path: "/f", Follow: true}
		model := map[string][]byte{}
		for i, n := range []string{n1, n2, n1} {
			v, fl := v1, uint32(0)
			if i == 1 {
				v, fl = v2, uint32(flags)
			}
			err := k.Setxattr(ctx, target, n, v, fl)
			_, had := model[n]
			want := abi.Errno(0)
			switch {
			case fl&^(abi.XATTR_CREATE|abi.XATTR_REPLACE) != 0, fl == abi.XATTR_CREATE|abi.XATTR_REPLACE && err != nil,
				n == "" || len(n) > abi.NAME_MAX, len(v) > maxXattr, strings.Contains(n, "\x00"):
				if err == nil && !strings.Contains(n, "\x00") {
					t.Fatalf("setxattr %q, %d bytes, flags %d: no error", n, len(v), fl)
				}
				if err != nil {
					continue
				}
			case had && fl&abi.XATTR_CREATE != 0:
				want = abi.EEXIST
			case !had && fl&abi.XATTR_REPLACE != 0:
				want = abi.ENOATTR
			}
			if abi.ErrnoOf(err) != want {
				// A file system may refuse a name outside of the name spaces.
				if want == 0 && !strings.HasPrefix(n, "user.") && !strings.HasPrefix(n, "system.") {
					continue
				}
				t.Fatalf("setxattr %q, %d bytes, flags %d: %v, want %s", n, len(v), fl, err, want.Name())
			}
			if want == 0 {
				model[n] = v
			}
		}
		b, err := k.Listxattr(ctx, target)
		k.ok(err)
		var names []string
		for n, v := range model {
			got, err := k.Getxattr(ctx, target, n)
			if err != nil || !bytes.Equal(got, v) {
				t.Fatalf("getxattr %q: %q, %v", n, got, err)
			}
			names = append(names, n)
		}
		listed := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
		if len(b) == 0 {
			listed = nil
		}
		slices.Sort(names)
		slices.Sort(listed)
		if !slices.Equal(names, listed) {
			t.Fatalf("listed %q, want %q", listed, names)
		}
		for n := range model {
			k.ok(k.Removexattr(ctx, target, n))
			_, err := k.Getxattr(ctx, target, n)
			k.is(err, abi.ENOATTR)
		}
	})
}

// FuzzGetdents lists a directory with names, buffers, and changes in between
// that the input chooses: what a call answers can be decoded, names that stay
// come once, and a place can be come back to.
func FuzzGetdents(f *testing.F) {
	f.Add([]byte("abc"), []byte{255, 40, 24, 16, 0, 255})
	f.Add([]byte{0, 255, 7, 9, 200, 13, 14, 15, 16, 17}, []byte{3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3})
	f.Add(bytes.Repeat([]byte{1, 2, 250}, 20), []byte{128, 64, 32, 200, 129, 7})
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, lens, ops []byte) {
		if len(lens) > 200 || len(ops) > 200 {
			return
		}
		k := newKern(t, variants[len(ops)%len(variants)], Options{})
		k.ok(k.Mkdir(ctx, su(), "/d", 0o755))
		stay := map[string]int{}
		for i, l := range lens {
			n := fmt.Sprintf("s%d-%s", i, strings.Repeat("x", int(l)))
			n = n[:min(len(n), abi.NAME_MAX)]
			k.write("/d/"+n, "")
			stay[n] = 0
			if i%2 == 0 {
				k.write(fmt.Sprintf("/d/go%d", i), "")
			}
		}
		d := k.open("/d", abi.O_RDONLY)
		defer d.Release(ctx)
		once := map[string]int{}
		buf := make([]byte, 4*256+abi.DirentMaxSize)
		for i := 0; ; i++ {
			size, op := len(buf), byte(255)
			if i < len(ops) {
				op = ops[i]
				size = int(op) * 4
			}
			at, err := d.Ops.Seek(ctx, abi.KernelCaller, d, 0, abi.SEEK_CUR)
			k.ok(err)
			n, err := k.Getdents(ctx, abi.KernelCaller, d, buf[:size])
			if err != nil && size < abi.DirentMaxSize {
				k.is(err, abi.EINVAL) // not one fits
				continue
			}
			k.ok(err)
			ds, err := abi.ParseDirents(buf[:n])
			k.ok(err)
			if op%5 == 0 { // the same again
				_, err := d.Ops.Seek(ctx, abi.KernelCaller, d, at, abi.SEEK_SET)
				k.ok(err)
				other := make([]byte, size)
				m, err := k.Getdents(ctx, abi.KernelCaller, d, other)
				k.ok(err)
				if !bytes.Equal(buf[:n], other[:m]) {
					t.Fatalf("from %d on: %d bytes, and then %d others", at, n, m)
				}
			}
			for _, e := range ds {
				once[e.Name]++
				if _, ok := stay[e.Name]; ok {
					stay[e.Name]++
				}
			}
			if n == 0 && i >= len(ops) {
				break
			}
			if op%3 == 1 {
				k.Unlink(ctx, su(), fmt.Sprintf("/d/go%d", int(op)%(len(lens)+1)), 0)
				k.write(fmt.Sprintf("/d/new%d", i), "")
			}
		}
		for n, c := range stay {
			if c != 1 {
				t.Errorf("%q came %d times", n, c)
			}
		}
		for n, c := range once {
			if c > 1 {
				t.Errorf("%q came %d times", n, c)
			}
		}
	})
}
