package ext4

import (
	"fmt"
	"sort"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// The tree of extents: its root is in the inode, nodes are blocks.
const (
	exMagic    = 0xf30a
	exHeader   = 12
	exEntry    = 12
	exMaxDepth = 5
	exMaxLen   = 32768 // blocks of an extent; more in its length says unwritten
)

// extent is a part of a file that lies together.
type extent struct {
	lblk      uint32 // block of the file
	n         uint32 // blocks
	pblk      uint64 // block of the device; 0: a hole
	unwritten bool   // reads as zeroes
}

func (e *extent) end() uint64 { return uint64(e.lblk) + uint64(e.n) }

// exNode is a node of the tree: the inode's, or a block's.
type exNode struct {
	b     *buf // of the root: the inode's
	data  []byte
	depth int
	max   int
	blk   uint64 // 0: the root
}

func (x *exNode) entries() int      { return int(le.Uint16(x.data[2:])) }
func (x *exNode) at(i int) int      { return exHeader + i*exEntry }
func (x *exNode) lblk(i int) uint32 { return le.Uint32(x.data[x.at(i):]) }

// leaf is entry i of a leaf.
func (x *exNode) leaf(i int) extent {
	p := x.data[x.at(i):]
	e := extent{lblk: le.Uint32(p), n: uint32(le.Uint16(p[4:])), pblk: uint64(le.Uint16(p[6:]))<<32 | uint64(le.Uint32(p[8:]))}
	if e.n > exMaxLen {
		e.n, e.unwritten = e.n-exMaxLen, true
	}
	return e
}

// child is the block that entry i of an inner node leads to.
func (x *exNode) child(i int) uint64 {
	p := x.data[x.at(i):]
	return uint64(le.Uint16(p[8:]))<<32 | uint64(le.Uint32(p[4:]))
}

// find is the last entry that begins at a block or before; -1: none does.
func (x *exNode) find(lblk uint32) int {
	return sort.Search(x.entries(), func(i int) bool { return x.lblk(i) > lblk }) - 1
}

// exRoot is the root of the tree of an inode.
func (t *tx) exRoot(in *inode) (*exNode, error) {
	x := &exNode{b: in.b, data: in.block()}
	if err := t.exCheck(in, x, -1); err != nil {
		return nil, t.f.damage(err, "inode", in.ino, "block", in.b.n)
	}
	return x, nil
}

// exChild is the node below entry i.
func (t *tx) exChild(in *inode, x *exNode, i int) (*exNode, error) {
	blk := x.child(i)
	if !t.f.s.inData(blk, 1) {
		return nil, t.f.damage(fmt.Errorf("inode %d has extents at block %d: %w", in.ino, blk, abi.EIO), "inode", in.ino, "block", blk)
	}
	b, err := t.get(blk)
	if err != nil {
		return nil, err
	}
	c := &exNode{b: b, data: b.data, blk: blk}
	if b.ok&okExtent != 0 {
		c.depth, c.max = int(le.Uint16(b.data[6:])), int(le.Uint16(b.data[4:]))
		if c.depth == x.depth-1 {
			return c, nil
		}
	}
	if err := t.exCheck(in, c, x.depth-1); err != nil {
		return nil, t.f.damage(err, "inode", in.ino, "block", blk)
	}
	b.ok |= okExtent
	return c, nil
}

// exCheck looks at a node that was read, which is to have a depth (-1: any).
func (t *tx) exCheck(in *inode, x *exNode, depth int) error {
	h := x.data
	n := int(le.Uint16(h[2:]))
	x.max, x.depth = int(le.Uint16(h[4:])), int(le.Uint16(h[6:]))
	bad := func(what string) error { return fmt.Errorf("inode %d: extents with %s: %w", in.ino, what, abi.EIO) }
	switch {
	case le.Uint16(h) != exMagic:
		return bad("another magic number")
	case x.depth > exMaxDepth || depth >= 0 && x.depth != depth:
		return bad("a wrong depth")
	case x.max == 0 || exHeader+x.max*exEntry > len(h) || n > x.max || x.depth > 0 && n == 0:
		return bad("a wrong number of entries")
	}
	if x.blk != 0 && t.f.s.csum() {
		at := exHeader + x.max*exEntry
		if at+4 > len(h) || crc32c(t.f.s.inodeSeed(in.ino, in.gen()), h[:at]) != le.Uint32(h[at:]) {
			return bad("a wrong checksum")
		}
	}
	end := uint64(0)
	for i := range n {
		if x.depth > 0 {
			if l := uint64(x.lblk(i)); l < end || i > 0 && l == end-1 {
				return bad("a wrong order")
			} else {
				end = l + 1
			}
			continue
		}
		e := x.leaf(i)
		if e.n == 0 || uint64(e.lblk) < end || e.end() > 1<<32 || !t.f.s.inData(e.pblk, uint64(e.n)) {
			return bad("a wrong entry")
		}
		end = e.end()
	}
	return nil
}

// inData reports whether blocks may belong to files.
func (s *super) inData(blk, n uint64) bool {
	return blk > superAt>>s.logBS && blk >= s.first && blk < s.blocks && n <= s.blocks-blk
}

// exMap finds the extent that has a block, or the hole.
func (t *tx) exMap(in *inode, lblk uint32) (extent, error) {
	x, err := t.exRoot(in)
	if err != nil {
		return extent{}, err
	}
	next := uint64(1) << 32
	for {
		i := x.find(lblk)
		if i+1 < x.entries() {
			next = min(next, uint64(x.lblk(i+1)))
		}
		if x.depth > 0 {
			if i < 0 {
				break
			}
			if x, err = t.exChild(in, x, i); err != nil {
				return extent{}, err
			}
			continue
		}
		if i >= 0 {
			if e := x.leaf(i); uint64(lblk) < e.end() {
				return e, nil
			}
		}
		break
	}
	if next <= uint64(lblk) {
		return extent{}, t.f.damage(fmt.Errorf("inode %d: extents with a wrong order: %w", in.ino, abi.EIO), "inode", in.ino)
	}
	return extent{lblk: lblk, n: uint32(min(next-uint64(lblk), 1<<32-1))}, nil
}
