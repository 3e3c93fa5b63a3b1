package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// abilities are what a file system has beside files and directories.
type abilities struct {
	links, symlinks, modes, xattrs bool
}

// node is a file, directory or symbolic link as the model has it.
type node struct {
	kids   map[string]*node // of a directory
	target string           // of a symbolic link
	data   []byte
	mode   uint32
	nlink  int
	xattr  string
	id     abi.Fileid // 0: not known
}

func (n *node) isDir() bool  { return n != nil && n.kids != nil }
func (n *node) isLink() bool { return n != nil && n.target != "" }
func (n *node) isFile() bool { return n != nil && n.kids == nil && n.target == "" }

// opened is a file that stays open.
type opened struct {
	fd  int
	n   *node
	off int64
}

// tree is a client with a subtree of its own, and the exact model of it.
type tree struct {
	c    *rumpclient.Client
	name string // for complaints, and in tags
	root string
	can  abilities
	rng  *rand.Rand
	top  *node
	held []*opened
	tag  int
	sync func() // told when all so far is durable; may be nil
}

// Bounds of a subtree.
const (
	treeNames = 6
	treeDepth = 3
	treeFile  = 16 << 10
	treeHeld  = 4
)

// newTree makes the directory root.
func newTree(ctx context.Context, c *rumpclient.Client, root string, can abilities, rng *rand.Rand) (*tree, error) {
	t := &tree{c: c, name: root, root: root, can: can, rng: rng, top: &node{kids: map[string]*node{}, nlink: 2, mode: 0o755}}
	return t, c.Mkdir(ctx, root, 0o755)
}

// place is a name in a directory.
type place struct {
	dir   *node
	path  string // of dir
	name  string
	depth int
}

func (p place) full() string { return p.path + "/" + p.name }
func (p place) node() *node  { return p.dir.kids[p.name] }

// pick is any place.
func (t *tree) pick() place {
	p := place{dir: t.top, path: t.root, depth: 1}
	for {
		p.name = "n" + string(rune('0'+t.rng.IntN(treeNames)))
		d := p.node()
		if !d.isDir() || t.rng.IntN(4) == 0 {
			return p
		}
		p = place{dir: d, path: p.full(), depth: p.depth + 1}
	}
}

// pickOf is a place whose node does; false if none was found.
func (t *tree) pickOf(ok func(*node) bool) (place, bool) {
	for range 12 {
		if p := t.pick(); ok(p.node()) {
			return p, true
		}
	}
	return place{}, false
}

// say is a complaint.
func (t *tree) say(what, path string, err error) error {
	return fmt.Errorf("%s: %s %s: %w", t.name, what, path, err)
}

// want is a complaint if err is not the number that is due; done reports
// whether the call was to succeed, and did.
func (t *tree) want(what, path string, err error, due abi.Errno) error {
	if got := abi.ErrnoOf(err); err != nil && due == 0 {
		return t.say(what, path, err)
	} else if got != due {
		return t.say(what, path, fmt.Errorf("answered %v, not %s: %w", err, due.Name(), abi.EIO))
	}
	return nil
}

// mark is a tag that nobody else writes.
func (t *tree) mark() []byte {
	t.tag++
	m := fmt.Appendf(nil, "<%s.%d>", t.name, t.tag)
	if t.rng.IntN(8) == 0 { // now and then more than a page
		m = bytes.Repeat(m, 1+6000/len(m))
	}
	return m
}

// step does one thing and checks the answer.
func (t *tree) step(ctx context.Context) error {
	p := t.pick()
	switch n := p.node(); {
	case t.rng.IntN(12) == 0:
		return t.useHeld(ctx)
	case n == nil:
		return t.absent(ctx, p)
	case n.isDir():
		return t.directory(ctx, p, n)
	case n.isLink():
		return t.symlink(ctx, p, n)
	default:
		return t.file(ctx, p, n)
	}
}

// absent is what is done with a name that is not there.
func (t *tree) absent(ctx context.Context, p place) error {
	path, c := p.full(), t.c
	switch k := t.rng.IntN(12); {
	case k < 5:
		fd, err := c.Open(ctx, path, abi.O_CREAT|abi.O_EXCL|abi.O_RDWR, 0o640)
		if err != nil {
			return t.say("create", path, err)
		}
		n := &node{mode: 0o640, nlink: 1}
		p.dir.kids[p.name] = n
		if err := t.write(ctx, path, fd, n, 0, t.mark()); err != nil {
			return err
		}
		if t.rng.IntN(6) == 0 && len(t.held) < treeHeld {
			t.held = append(t.held, &opened{fd: fd, n: n})
			return nil
		}
		return t.want("close", path, c.Close(ctx, fd), 0)
	case k == 5:
		_, err := c.Stat(ctx, path)
		return t.want("stat", path, err, abi.ENOENT)
	case k == 6:
		return t.want("unlink", path, c.Unlink(ctx, path), abi.ENOENT)
	case k == 7 && p.depth < treeDepth:
		if err := c.Mkdir(ctx, path, 0o755); err != nil {
			return t.say("mkdir", path, err)
		}
		p.dir.kids[p.name] = &node{kids: map[string]*node{}, mode: 0o755, nlink: 2}
		p.dir.nlink++
	case k == 8 && t.can.symlinks:
		target := fmt.Sprintf("nowhere/%s.%d", t.name, t.tag) // leads nowhere
		if err := c.Symlink(ctx, target, path); err != nil {
			return t.say("symlink", path, err)
		}
		p.dir.kids[p.name] = &node{target: target, nlink: 1}
	case k == 9 && t.can.links:
		from, ok := t.pickOf((*node).isFile)
		if !ok {
			return nil
		}
		if err := c.Link(ctx, from.full(), path); err != nil {
			return t.say("link "+from.full(), path, err)
		}
		n := from.node()
		n.nlink++
		p.dir.kids[p.name] = n
	default:
		from, ok := t.pickOf(func(n *node) bool { return n != nil })
		if !ok {
			return nil
		}
		return t.rename(ctx, from, p)
	}
	return nil
}

// within reports whether d is n or below it.
func within(n, d *node) bool {
	if n == d {
		return true
	}
	for _, k := range n.kids {
		if k.isDir() && within(k, d) {
			return true
		}
	}
	return false
}

// rename renames, where that is nothing that the model does not know.
func (t *tree) rename(ctx context.Context, from, to place) error {
	n, old := from.node(), to.node()
	if n == old || n.isDir() && (within(n, to.dir) || old != nil || to.depth+1 > treeDepth) || old.isDir() {
		return nil
	}
	if err := t.c.Rename(ctx, from.full(), to.full()); err != nil {
		return t.say("rename "+from.full(), to.full(), err)
	}
	if old != nil {
		old.nlink--
	}
	delete(from.dir.kids, from.name)
	to.dir.kids[to.name] = n
	if n.isDir() {
		from.dir.nlink--
		to.dir.nlink++
	}
	if !t.can.links { // a name is all that such a file system has
		n.id = 0
	}
	return nil
}

// write writes to an open file, all of it.
func (t *tree) write(ctx context.Context, path string, fd int, n *node, off int64, p []byte) error {
	k, err := t.c.Pwrite(ctx, fd, p, off)
	if err != nil || k != len(p) {
		return t.say("write", path, fmt.Errorf("%d bytes of %d: %w", k, len(p), errors.Join(err, abi.EIO)))
	}
	n.put(off, p)
	return nil
}

func (n *node) put(off int64, p []byte) {
	if end := int(off) + len(p); end > len(n.data) {
		n.data = append(n.data, make([]byte, end-len(n.data))...)
	}
	copy(n.data[off:], p)
}

// file is what is done with a file.
func (t *tree) file(ctx context.Context, p place, n *node) error {
	path, c := p.full(), t.c
	with := func(flags int, do func(fd int) error) error {
		fd, err := c.Open(ctx, path, flags, 0)
		if err != nil {
			return t.say("open", path, err)
		}
		err = do(fd)
		return errors.Join(err, t.want("close", path, c.Close(ctx, fd), 0))
	}
	switch t.rng.IntN(20) {
	case 0, 1, 2, 3:
		if len(n.data) > treeFile {
			return with(abi.O_WRONLY|abi.O_TRUNC, func(fd int) error {
				n.data = nil
				return t.write(ctx, path, fd, n, 0, t.mark())
			})
		}
		return with(abi.O_WRONLY|abi.O_APPEND, func(fd int) error {
			m := t.mark()
			k, err := c.Write(ctx, fd, m)
			if err != nil || k != len(m) {
				return t.say("append", path, fmt.Errorf("%d bytes of %d: %w", k, len(m), errors.Join(err, abi.EIO)))
			}
			n.put(int64(len(n.data)), m)
			return nil
		})
	case 4, 5:
		return with(abi.O_RDWR, func(fd int) error {
			off := int64(t.rng.IntN(len(n.data) + 1000))
			m := t.mark()
			if err := t.write(ctx, path, fd, n, off, m); err != nil {
				return err
			}
			got := make([]byte, len(m))
			if k, err := c.Pread(ctx, fd, got, off); err != nil || !bytes.Equal(got[:k], m) {
				return t.say("read of what was just written", path, fmt.Errorf("%q, not %q: %w", got[:k], m, errors.Join(err, abi.EIO)))
			}
			return nil
		})
	case 6:
		size := t.rng.IntN(len(n.data) + 100)
		if err := c.Truncate(ctx, path, int64(size)); err != nil {
			return t.say("truncate", path, err)
		}
		n.data = append(n.data, make([]byte, max(0, size-len(n.data)))...)[:size:size]
	case 7, 8:
		if err := c.Unlink(ctx, path); err != nil {
			return t.say("unlink", path, err)
		}
		delete(p.dir.kids, p.name)
		n.nlink--
	case 9, 10:
		if to, ok := t.pickOf(func(o *node) bool { return !o.isDir() }); ok {
			return t.rename(ctx, p, to)
		}
	case 11:
		if t.can.modes {
			mode := uint32(0o600 + t.rng.IntN(64))
			if err := c.Chmod(ctx, path, mode); err != nil {
				return t.say("chmod", path, err)
			}
			n.mode = mode
		}
	case 12:
		if t.can.xattrs {
			v := string(t.mark())
			if err := c.Setxattr(ctx, path, "user.chaos", []byte(v), 0); err != nil {
				return t.say("setxattr", path, err)
			}
			n.xattr = v
		}
	case 13:
		_, err := c.Open(ctx, path, abi.O_CREAT|abi.O_EXCL|abi.O_RDWR, 0o640)
		return t.want("exclusive create", path, err, abi.EEXIST)
	case 14:
		return with(abi.O_RDWR, func(fd int) error {
			if err := c.Fsync(ctx, fd); err != nil {
				return t.say("fsync", path, err)
			}
			return nil
		})
	case 15:
		if len(t.held) >= treeHeld {
			return nil
		}
		fd, err := c.Open(ctx, path, abi.O_RDWR, 0)
		if err != nil {
			return t.say("open", path, err)
		}
		t.held = append(t.held, &opened{fd: fd, n: n})
	default:
		return t.check(ctx, path, n)
	}
	return nil
}

// directory is what is done with a directory.
func (t *tree) directory(ctx context.Context, p place, n *node) error {
	path := p.full()
	switch t.rng.IntN(6) {
	case 0:
		if len(n.kids) > 0 {
			return t.want("rmdir", path, t.c.Rmdir(ctx, path), abi.ENOTEMPTY)
		}
		if err := t.c.Rmdir(ctx, path); err != nil {
			return t.say("rmdir", path, err)
		}
		delete(p.dir.kids, p.name)
		p.dir.nlink--
	case 1:
		return t.want("mkdir", path, t.c.Mkdir(ctx, path, 0o755), abi.EEXIST)
	case 2:
		if to, ok := t.pickOf(func(o *node) bool { return o == nil }); ok {
			return t.rename(ctx, p, to)
		}
	default:
		return t.list(ctx, path, n)
	}
	return nil
}

// symlink is what is done with a symbolic link.
func (t *tree) symlink(ctx context.Context, p place, n *node) error {
	path := p.full()
	if t.rng.IntN(3) > 0 {
		return t.check(ctx, path, n)
	}
	if err := t.c.Unlink(ctx, path); err != nil {
		return t.say("unlink", path, err)
	}
	delete(p.dir.kids, p.name)
	return nil
}

// useHeld uses a file that was open all the while: its offset, its contents, also
// without a name; or closes it.
func (t *tree) useHeld(ctx context.Context) error {
	if len(t.held) == 0 {
		return nil
	}
	i := t.rng.IntN(len(t.held))
	o := t.held[i]
	path := fmt.Sprintf("(descriptor %d)", o.fd)
	switch t.rng.IntN(5) {
	case 0:
		t.held = slices.Delete(t.held, i, i+1)
		return t.want("close", path, t.c.Close(ctx, o.fd), 0)
	case 1, 2:
		m := t.mark()
		if o.off > treeFile {
			return nil
		}
		k, err := t.c.Write(ctx, o.fd, m)
		if err != nil || k != len(m) {
			return t.say("write", path, fmt.Errorf("%d bytes of %d: %w", k, len(m), errors.Join(err, abi.EIO)))
		}
		o.n.put(o.off, m)
		o.off += int64(k)
	case 3:
		off, err := t.c.Lseek(ctx, o.fd, 0, abi.SEEK_CUR)
		if err != nil || off != o.off {
			return t.say("lseek", path, fmt.Errorf("at %d, not %d: %w", off, o.off, errors.Join(err, abi.EIO)))
		}
	default:
		return t.contents(ctx, path, o.fd, o.n)
	}
	return nil
}

// contents compares an open file.
func (t *tree) contents(ctx context.Context, path string, fd int, n *node) error {
	got := make([]byte, len(n.data)+100)
	k, err := t.c.Pread(ctx, fd, got, 0)
	if err != nil {
		return t.say("read", path, err)
	}
	if !bytes.Equal(got[:k], n.data) {
		return t.say("read", path, fmt.Errorf("%s: %w", differ(got[:k], n.data), abi.EIO))
	}
	st, err := t.c.Fstat(ctx, fd)
	if err != nil {
		return t.say("fstat", path, err)
	}
	return t.attributes(path, st, n)
}

// differ says where two contents differ.
func differ(got, want []byte) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	cut := func(b []byte) []byte { return b[i:min(i+40, len(b))] }
	return fmt.Sprintf("%d bytes, not %d; from %d on %q, not %q", len(got), len(want), i, cut(got), cut(want))
}

// attributes compares what stat answers.
func (t *tree) attributes(path string, st abi.Stat, n *node) error {
	var bad string
	switch {
	case n.isFile() && st.Size != int64(len(n.data)):
		bad = fmt.Sprintf("size %d, not %d", st.Size, len(n.data))
	case t.can.links && int(st.Nlink) != n.nlink:
		bad = fmt.Sprintf("%d names, not %d", st.Nlink, n.nlink)
	case t.can.modes && !n.isLink() && st.Mode&0o777 != n.mode:
		bad = fmt.Sprintf("mode %o, not %o", st.Mode, n.mode)
	case n.id != 0 && st.Fileid != n.id:
		bad = fmt.Sprintf("file id %d, not %d", st.Fileid, n.id)
	case n.isDir() != (st.Type == abi.VDIR) || n.isLink() != (st.Type == abi.VLNK):
		bad = fmt.Sprintf("type %v", st.Type)
	}
	if bad != "" {
		return t.say("stat", path, fmt.Errorf("%s: %w", bad, abi.EIO))
	}
	n.id = st.Fileid
	return nil
}

// check compares a file or symbolic link.
func (t *tree) check(ctx context.Context, path string, n *node) error {
	if n.isLink() {
		got, err := t.c.Readlink(ctx, path)
		if err != nil || got != n.target {
			return t.say("readlink", path, fmt.Errorf("%q, not %q: %w", got, n.target, errors.Join(err, abi.EIO)))
		}
		return nil
	}
	st, err := t.c.Stat(ctx, path)
	if err != nil {
		return t.say("stat", path, err)
	}
	if err := t.attributes(path, st, n); err != nil {
		return err
	}
	if t.can.xattrs && n.xattr != "" {
		if v, err := t.c.Getxattr(ctx, path, "user.chaos"); err != nil || string(v) != n.xattr {
			return t.say("getxattr", path, fmt.Errorf("%q, not %q: %w", v, n.xattr, errors.Join(err, abi.EIO)))
		}
	}
	fd, err := t.c.Open(ctx, path, abi.O_RDONLY, 0)
	if err != nil {
		return t.say("open", path, err)
	}
	return errors.Join(t.contents(ctx, path, fd, n), t.want("close", path, t.c.Close(ctx, fd), 0))
}

// list compares the names in a directory.
func (t *tree) list(ctx context.Context, path string, n *node) error {
	ents, err := t.c.ReadDir(ctx, path)
	if err != nil {
		return t.say("readdir", path, err)
	}
	var got []string
	for _, e := range ents {
		got = append(got, e.Name)
	}
	slices.Sort(got)
	if want := slices.Sorted(maps.Keys(n.kids)); !slices.Equal(got, want) {
		return t.say("readdir", path, fmt.Errorf("%v, not %v: %w", got, want, abi.EIO))
	}
	st, err := t.c.Stat(ctx, path)
	if err != nil {
		return t.say("stat", path, err)
	}
	return t.attributes(path, st, n)
}

// all compares everything.
func (t *tree) all(ctx context.Context) error {
	var walk func(path string, n *node) error
	walk = func(path string, n *node) error {
		if !n.isDir() {
			return t.check(ctx, path, n)
		}
		if err := t.list(ctx, path, n); err != nil {
			return err
		}
		for name, k := range n.kids {
			if err := walk(path+"/"+name, k); err != nil {
				return err
			}
		}
		return nil
	}
	for _, o := range t.held {
		if err := t.contents(ctx, fmt.Sprintf("(descriptor %d)", o.fd), o.fd, o.n); err != nil {
			return err
		}
	}
	return walk(t.root, t.top)
}

// release closes what is open.
func (t *tree) release(ctx context.Context) error {
	var errs []error
	for _, o := range t.held {
		errs = append(errs, t.want("close", "(held)", t.c.Close(ctx, o.fd), 0))
	}
	t.held = nil
	return errors.Join(errs...)
}
