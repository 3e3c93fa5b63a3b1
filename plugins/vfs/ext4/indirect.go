package ext4

import (
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Changes of the map of blocks.

// indSet makes a block of a file be one of the device, with the blocks of numbers
// that this takes. EFBIG.
func (t *tx) indSet(in *inode, lblk uint32, pblk uint64) error {
	if pblk > 1<<32-1 {
		return abi.EFBIG
	}
	path, depth, ok := t.f.s.indPath(uint64(lblk))
	if !ok {
		return abi.EFBIG
	}
	t.mod(in.b)
	words, i := in.block(), path[0]
	for d := 0; d < depth; d++ {
		blk := uint64(le.Uint32(words[4*i:]))
		var b *buf
		var err error
		if blk == 0 {
			if b, err = t.allocMeta(in, pblk); err != nil {
				return err
			}
			if b.n > 1<<32-1 {
				return abi.EFBIG
			}
			le.PutUint32(words[4*i:], uint32(b.n))
		} else {
			if !t.f.s.inData(blk, 1) {
				return t.f.damage(fmt.Errorf("inode %d has block %d: %w", in.ino, blk, abi.EIO), "inode", in.ino, "block", blk)
			}
			if b, err = t.get(blk); err != nil {
				return err
			}
			t.mod(b)
		}
		words, i = b.data, path[d+1]
	}
	le.PutUint32(words[4*i:], uint32(pblk))
	return nil
}

// indCutter takes blocks of a file away, and blocks of numbers that become empty.
type indCutter struct {
	t        *tx
	in       *inode
	from, to uint64
	budget   int
	next     uint64 // where to go on, when the budget is used up
	run      extent // what is to be freed, to do it in one go
	free     func(e extent) error
}

// indCut is exCut for a map of blocks.
func (t *tx) indCut(in *inode, from, to uint64, budget int, free func(e extent) error) (uint64, error) {
	to = min(to, t.f.s.maxInd())
	if from >= to {
		return to, nil
	}
	c := &indCutter{t: t, in: in, from: from, to: to, budget: budget, next: to, free: free}
	t.mod(in.b)
	base := uint64(0)
	per := uint64(t.f.s.bs / 4)
	if err := c.cut(in.block()[:4*nDirect], 0, 0); err != nil {
		return from, err
	}
	base, span := nDirect, per
	for d := 1; d <= nLevels && c.next == to; d++ {
		if err := c.cut(in.block()[4*(nDirect+d-1):4*(nDirect+d)], d, base); err != nil {
			return from, err
		}
		base += span
		span *= per
	}
	if err := c.flush(); err != nil {
		return from, err
	}
	return c.next, nil
}

func (c *indCutter) flush() error {
	if c.run.n == 0 {
		return nil
	}
	e := c.run
	c.run = extent{}
	return c.free(e)
}

// cut goes over numbers of blocks that have depth levels below them, of which the
// first is for block base of the file.
func (c *indCutter) cut(words []byte, depth int, base uint64) error {
	s := c.t.f.s
	span := uint64(1)
	for range depth {
		span *= uint64(s.bs / 4)
	}
	first := uint64(0)
	if c.from > base {
		first = (c.from - base) / span
	}
	for i := first; i < uint64(len(words)/4) && base+i*span < c.to; i++ {
		at := base + i*span
		blk := uint64(le.Uint32(words[4*i:]))
		if blk == 0 {
			continue
		}
		if !s.inData(blk, 1) {
			return c.t.f.damage(fmt.Errorf("inode %d has block %d: %w", c.in.ino, blk, abi.EIO), "inode", c.in.ino, "block", blk)
		}
		if depth == 0 {
			if c.budget--; c.budget < 0 {
				c.next = at
				return nil
			}
			le.PutUint32(words[4*i:], 0)
			if r := &c.run; r.n > 0 && r.pblk+uint64(r.n) == blk {
				r.n++
				continue
			}
			if err := c.flush(); err != nil {
				return err
			}
			c.run = extent{lblk: uint32(at), n: 1, pblk: blk}
			continue
		}
		b, err := c.t.get(blk)
		if err != nil {
			return err
		}
		c.t.mod(b)
		if err := c.cut(b.data, depth-1, at); err != nil {
			return err
		}
		if zero(b.data) {
			le.PutUint32(words[4*i:], 0)
			if err := c.t.freeMeta(c.in, blk); err != nil {
				return err
			}
		}
		if c.next != c.to {
			return nil
		}
	}
	return nil
}

func zero(p []byte) bool {
	for len(p) >= 8 {
		if le.Uint64(p) != 0 {
			return false
		}
		p = p[8:]
	}
	return true
}
