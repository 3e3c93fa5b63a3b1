package ext4

import (
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Changes of the tree of extents.

// exStep is a node on the way to a leaf, and the entry on the way: of the leaf the
// last one at or before the block, -1 if there is none.
type exStep struct {
	x *exNode
	i int
}

// exPath is the way to the leaf where a block is, or would be.
func (t *tx) exPath(in *inode, lblk uint32) ([]exStep, error) {
	x, err := t.exRoot(in)
	if err != nil {
		return nil, err
	}
	var path []exStep
	for {
		i := x.find(lblk)
		if x.depth == 0 {
			return append(path, exStep{x, i}), nil
		}
		i = max(i, 0)
		path = append(path, exStep{x, i})
		if x, err = t.exChild(in, x, i); err != nil {
			return nil, err
		}
	}
}

func (x *exNode) setEntries(n int) { le.PutUint16(x.data[2:], uint16(n)) }

func (x *exNode) putLeaf(i int, e extent) {
	p := x.data[x.at(i):]
	n := e.n
	if e.unwritten {
		n += exMaxLen
	}
	le.PutUint32(p, e.lblk)
	le.PutUint16(p[4:], uint16(n))
	le.PutUint16(p[6:], uint16(e.pblk>>32))
	le.PutUint32(p[8:], uint32(e.pblk))
}

func (x *exNode) putIndex(i int, lblk uint32, blk uint64) {
	p := x.data[x.at(i):]
	le.PutUint32(p, lblk)
	le.PutUint32(p[4:], uint32(blk))
	le.PutUint16(p[8:], uint16(blk>>32))
	le.PutUint16(p[10:], 0)
}

// open makes room for an entry, close takes one away.
func (x *exNode) open(i int) {
	n := x.entries()
	copy(x.data[x.at(i+1):x.at(n+1)], x.data[x.at(i):x.at(n)])
	x.setEntries(n + 1)
}

func (x *exNode) close(i int) {
	n := x.entries()
	copy(x.data[x.at(i):], x.data[x.at(i+1):x.at(n)])
	clear(x.data[x.at(n-1):x.at(n)])
	x.setEntries(n - 1)
}

// exSeal ends a change of a node.
func (t *tx) exSeal(in *inode, x *exNode) {
	if x.blk != 0 && t.f.s.csum() {
		at := exHeader + x.max*exEntry
		le.PutUint32(x.data[at:], crc32c(t.f.s.inodeSeed(in.ino, in.gen()), x.data[:at]))
	}
}

// exFix makes the keys above a leaf those of its first entry.
func (t *tx) exFix(in *inode, path []exStep) {
	for l := len(path) - 2; l >= 0; l-- {
		x, c := path[l], path[l+1].x
		if c.entries() == 0 || x.x.lblk(x.i) == c.lblk(0) {
			return
		}
		t.mod(x.x.b)
		le.PutUint32(x.x.data[x.x.at(x.i):], c.lblk(0))
		t.exSeal(in, x.x)
		if x.i != 0 {
			return
		}
	}
}

// exMost is how many blocks an extent can have.
func exMost(unwritten bool) uint32 {
	if unwritten {
		return exMaxLen - 1
	}
	return exMaxLen
}

// exInsert adds an extent where there is a hole, together with its neighbours if
// it can be.
func (t *tx) exInsert(in *inode, e extent) error {
	for try := 0; try < 4*exMaxDepth; try++ {
		path, err := t.exPath(in, e.lblk)
		if err != nil {
			return err
		}
		leaf := path[len(path)-1]
		x, i := leaf.x, leaf.i
		if i >= 0 {
			l := x.leaf(i)
			if l.end() > uint64(e.lblk) {
				return t.f.damage(fmt.Errorf("inode %d: block %d is there already: %w", in.ino, e.lblk, abi.EIO), "inode", in.ino)
			}
			if l.end() == uint64(e.lblk) && l.pblk+uint64(l.n) == e.pblk && l.unwritten == e.unwritten && l.n+e.n <= exMost(e.unwritten) {
				t.mod(x.b)
				l.n += e.n
				x.putLeaf(i, l)
				if i+1 < x.entries() {
					if r := x.leaf(i + 1); l.end() == uint64(r.lblk) && l.pblk+uint64(l.n) == r.pblk && l.unwritten == r.unwritten && l.n+r.n <= exMost(e.unwritten) {
						l.n += r.n
						x.putLeaf(i, l)
						x.close(i + 1)
					}
				}
				t.exSeal(in, x)
				return nil
			}
		}
		if i+1 < x.entries() {
			if r := x.leaf(i + 1); e.end() == uint64(r.lblk) && e.pblk+uint64(e.n) == r.pblk && e.unwritten == r.unwritten && e.n+r.n <= exMost(e.unwritten) {
				t.mod(x.b)
				r.lblk, r.pblk, r.n = e.lblk, e.pblk, r.n+e.n
				x.putLeaf(i+1, r)
				t.exSeal(in, x)
				t.exFix(in, path)
				return nil
			}
		}
		if x.entries() < x.max {
			t.mod(x.b)
			x.open(i + 1)
			x.putLeaf(i+1, e)
			t.exSeal(in, x)
			t.exFix(in, path)
			return nil
		}
		if err := t.exRoom(in, path); err != nil {
			return err
		}
	}
	return t.f.damage(fmt.Errorf("inode %d: no room for an extent: %w", in.ino, abi.EIO), "inode", in.ino)
}

// exRoom splits the highest full node on a path, or has the tree grow.
func (t *tx) exRoom(in *inode, path []exStep) error {
	k := len(path) - 1
	for k >= 0 && path[k].x.entries() >= path[k].x.max {
		k--
	}
	if k < 0 {
		return t.exGrow(in, path[0].x)
	}
	up, s := path[k], path[k+1]
	x := s.x
	n := x.entries()
	from := n / 2
	if s.i == n-1 {
		from = n - 1 // it is being appended to
	}
	b, err := t.allocMeta(in, x.blk)
	if err != nil {
		return err
	}
	t.mod(x.b)
	t.mod(up.x.b)
	c := t.exNew(b, x.depth)
	copy(c.data[c.at(0):], x.data[x.at(from):x.at(n)])
	c.setEntries(n - from)
	clear(x.data[x.at(from):x.at(n)])
	x.setEntries(from)
	up.x.open(up.i + 1)
	up.x.putIndex(up.i+1, c.lblk(0), b.n)
	t.exSeal(in, c)
	t.exSeal(in, x)
	t.exSeal(in, up.x)
	return nil
}

// exNew makes a node in a new block.
func (t *tx) exNew(b *buf, depth int) *exNode {
	room := int(t.f.s.bs)
	if t.f.s.csum() {
		room -= 4
	}
	c := &exNode{b: b, data: b.data, depth: depth, max: (room - exHeader) / exEntry, blk: b.n}
	le.PutUint16(b.data, exMagic)
	le.PutUint16(b.data[4:], uint16(c.max))
	le.PutUint16(b.data[6:], uint16(depth))
	b.ok |= okExtent
	return c
}

// exGrow puts what is in the root into a block below it.
func (t *tx) exGrow(in *inode, root *exNode) error {
	if root.depth >= exMaxDepth {
		return abi.EFBIG
	}
	b, err := t.allocMeta(in, t.goalOf(in))
	if err != nil {
		return err
	}
	t.mod(in.b)
	c := t.exNew(b, root.depth)
	n := root.entries()
	copy(c.data[c.at(0):], root.data[root.at(0):root.at(n)])
	c.setEntries(n)
	t.exSeal(in, c)
	clear(root.data[root.at(0):])
	root.setEntries(1)
	le.PutUint16(root.data[6:], uint16(root.depth+1))
	root.putIndex(0, c.lblk(0), b.n)
	return nil
}

// exCut takes away what is mapped from a block up to another (exclusive), and
// gives it to free. After budget extents it answers where to go on; to: it is done.
func (t *tx) exCut(in *inode, from, to uint64, budget int, free func(e extent) error) (uint64, error) {
	for from < to {
		path, err := t.exPath(in, uint32(from))
		if err != nil {
			return from, err
		}
		leaf := path[len(path)-1]
		x, i := leaf.x, leaf.i
		if i < 0 {
			i = 0
		} else if e := x.leaf(i); e.end() <= from {
			i++
		}
		if i >= x.entries() {
			// In the next leaf, if there is one.
			next := to
			for _, s := range path[:len(path)-1] {
				if s.i+1 < s.x.entries() {
					next = min(next, uint64(s.x.lblk(s.i+1)))
				}
			}
			if next <= from {
				return from, t.f.damage(fmt.Errorf("inode %d: extents with a wrong order: %w", in.ino, abi.EIO), "inode", in.ino)
			}
			from = next
			continue
		}
		e := x.leaf(i)
		if uint64(e.lblk) >= to {
			return to, nil
		}
		if budget--; budget < 0 {
			return from, nil
		}
		lo, hi := max(uint64(e.lblk), from), min(e.end(), to)
		cut := extent{lblk: uint32(lo), n: uint32(hi - lo), pblk: e.pblk + lo - uint64(e.lblk), unwritten: e.unwritten}
		rest := extent{lblk: uint32(hi), n: uint32(e.end() - hi), pblk: e.pblk + hi - uint64(e.lblk), unwritten: e.unwritten}
		t.mod(x.b)
		switch {
		case lo == uint64(e.lblk) && rest.n == 0:
			if err := t.exDelete(in, path, i); err != nil {
				return from, err
			}
		case lo == uint64(e.lblk):
			x.putLeaf(i, rest)
			t.exSeal(in, x)
			t.exFix(in, path)
		default:
			e.n = uint32(lo - uint64(e.lblk))
			x.putLeaf(i, e)
			t.exSeal(in, x)
			if rest.n > 0 {
				if err := t.exInsert(in, rest); err != nil {
					return from, err
				}
			}
		}
		if err := free(cut); err != nil {
			return from, err
		}
		from = hi
	}
	return to, nil
}

// exDelete takes entry i out of a leaf, and nodes that become empty out of the
// tree.
func (t *tx) exDelete(in *inode, path []exStep, i int) error {
	for l := len(path) - 1; l >= 0; l-- {
		x := path[l].x
		t.mod(x.b)
		x.close(i)
		if x.entries() > 0 {
			t.exSeal(in, x)
			if i == 0 {
				// path[l].i is not the way to what is first now, but exFix looks
				// at the ways above it only.
				t.exFix(in, path[:l+1])
			}
			return nil
		}
		if l == 0 {
			break
		}
		if err := t.freeMeta(in, x.blk); err != nil {
			return err
		}
		i = path[l-1].i
	}
	in.initExtents()
	return nil
}
