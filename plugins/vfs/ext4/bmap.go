package ext4

import (
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// The map of blocks of ext2: 12 blocks in the inode, then one that has the
// numbers of blocks, one that has those of such, and one more level.
const (
	nDirect = 12
	nLevels = 3
)

// indPath is how a block of a file is found: indexes from the inode on. ok is
// false for blocks behind the largest file.
func (s *super) indPath(lblk uint64) (path [nLevels + 1]uint32, depth int, ok bool) {
	per := uint64(s.bs / 4)
	if lblk < nDirect {
		path[0] = uint32(lblk)
		return path, 0, true
	}
	lblk -= nDirect
	span := per
	for d := 1; d <= nLevels; d++ {
		if lblk < span {
			path[0] = uint32(nDirect + d - 1)
			for i := d; i > 0; i-- {
				path[i] = uint32(lblk % per)
				lblk /= per
			}
			return path, d, true
		}
		lblk -= span
		span *= per
	}
	return path, 0, false
}

// maxInd is how many blocks a file without extents can have.
func (s *super) maxInd() uint64 {
	per := uint64(s.bs / 4)
	return min(nDirect+per+per*per+per*per*per, 1<<32-1)
}

// indMap finds the run of blocks, or of a hole, that has a block.
func (t *tx) indMap(in *inode, lblk uint32) (extent, error) {
	s := t.f.s
	path, depth, ok := s.indPath(uint64(lblk))
	if !ok {
		return extent{lblk: lblk, n: max(1<<32-1-lblk, 1)}, nil
	}
	words, i := in.block(), path[0]
	per := uint64(s.bs / 4)
	for d := 0; ; d++ {
		blk := uint64(le.Uint32(words[4*i:]))
		if blk != 0 && !s.inData(blk, 1) {
			return extent{}, t.f.damage(fmt.Errorf("inode %d has block %d: %w", in.ino, blk, abi.EIO), "inode", in.ino, "block", blk)
		}
		if d == depth {
			last := uint32(len(words) / 4)
			if d == 0 {
				last = nDirect
			}
			e := extent{lblk: lblk, n: 1, pblk: blk}
			for j := i + 1; j < last; j++ {
				next := uint64(le.Uint32(words[4*j:]))
				if blk == 0 && next != 0 || blk != 0 && next != blk+uint64(j-i) || blk != 0 && next >= s.blocks {
					break
				}
				e.n++
			}
			return e, nil
		}
		if blk == 0 {
			// All below is a hole: from here to the end of the subtree.
			span := uint64(1)
			for k := d; k < depth; k++ {
				span *= per
			}
			in := uint64(0)
			for k := d + 1; k <= depth; k++ {
				in = in*per + uint64(path[k])
			}
			return extent{lblk: lblk, n: uint32(min(span-in, 1<<31))}, nil
		}
		b, err := t.get(blk)
		if err != nil {
			return extent{}, err
		}
		words, i = b.data, path[d+1]
	}
}

// bmap finds the run that has a block of a file.
func (t *tx) bmap(in *inode, lblk uint32) (extent, error) {
	if in.flags()&flInline != 0 {
		return extent{}, fmt.Errorf("inode %d keeps its data itself: %w", in.ino, abi.EIO)
	}
	if in.extents() {
		return t.exMap(in, lblk)
	}
	return t.indMap(in, lblk)
}

// part is bmap from a block on: what is before it is cut off.
func (t *tx) part(in *inode, lblk uint32) (extent, error) {
	e, err := t.bmap(in, lblk)
	if err == nil && lblk > e.lblk {
		d := lblk - e.lblk
		e.lblk, e.n = lblk, e.n-d
		if e.pblk != 0 {
			e.pblk += uint64(d)
		}
	}
	return e, err
}

// fileBlock reads a block of an inode's own data, of a directory. A hole is EIO.
func (t *tx) fileBlock(in *inode, lblk uint32) (*buf, error) {
	e, err := t.part(in, lblk)
	if err != nil {
		return nil, err
	}
	if e.pblk == 0 || e.unwritten {
		return nil, t.f.damage(fmt.Errorf("block %d of inode %d is missing: %w", lblk, in.ino, abi.EIO), "inode", in.ino)
	}
	return t.getRun(e.pblk, int(min(e.n, 32)))
}
