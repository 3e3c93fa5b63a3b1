package ext4

import (
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// maxFile is the largest size of a file.
func (t *tx) maxFile(in *inode) int64 {
	if in.extents() {
		return (1<<32 - 1) << t.f.s.logBS
	}
	n := int64(t.f.s.maxInd()) << t.f.s.logBS
	if !t.f.s.ro(roHugeFile) {
		n = min(n, 1<<41-1<<16) // i_blocks has 32 bits
	}
	return n
}

// setMap maps a run of blocks of a file.
func (t *tx) setMap(in *inode, e extent) error {
	if in.extents() {
		return t.exInsert(in, e)
	}
	for i := range e.n {
		if err := t.indSet(in, e.lblk+i, e.pblk+uint64(i)); err != nil {
			return err
		}
	}
	return nil
}

// cutMap takes away what is mapped, up to a budget.
func (t *tx) cutMap(in *inode, from, to uint64, budget int, free func(e extent) error) (uint64, error) {
	if in.extents() {
		return t.exCut(in, from, to, budget, free)
	}
	return t.indCut(in, from, to, budget, free)
}

// punch frees blocks of a file, up to a budget, and answers where to go on.
func (t *tx) punch(in *inode, from, to uint64, budget int) (uint64, error) {
	meta := in.isDir() || in.isLnk()
	next, err := t.cutMap(in, from, to, budget, func(e extent) error {
		if err := t.addBlocks(in, -int64(e.n)); err != nil {
			return err
		}
		return t.release(e.pblk, e.n, meta)
	})
	t.seal(in)
	return next, err
}

// goalFor is where a block of a file is wanted: behind the one before it.
func (t *tx) goalFor(in *inode, lblk uint32) uint64 {
	if lblk > 0 {
		if e, err := t.part(in, lblk-1); err == nil && e.pblk != 0 {
			return e.pblk + 1
		}
	}
	return t.goalOf(in)
}

// fill gives blocks to all holes of a range; with unwritten they read as zeroes,
// else what is unwritten there is not any more. Contents are the caller's
// business.
func (t *tx) fill(in *inode, from, to uint64, unwritten bool) error {
	for from < to {
		e, err := t.part(in, uint32(from))
		if err != nil {
			return err
		}
		n := uint32(min(uint64(e.n), to-from))
		switch {
		case e.pblk == 0:
			blk, k, err := t.alloc(t.goalFor(in, uint32(from)), min(n, exMost(unwritten)))
			if err != nil {
				return err
			}
			if err := t.addBlocks(in, int64(k)); err != nil {
				return err
			}
			if err := t.setMap(in, extent{lblk: uint32(from), n: k, pblk: blk, unwritten: unwritten}); err != nil {
				return err
			}
			n = k
		case e.unwritten && !unwritten:
			if _, err := t.exCut(in, from, from+uint64(n), 1<<30, func(extent) error { return nil }); err != nil {
				return err
			}
			if err := t.exInsert(in, extent{lblk: uint32(from), n: n, pblk: e.pblk}); err != nil {
				return err
			}
		}
		from += uint64(n)
	}
	return nil
}

// grow adds a block of metadata to the end of a directory.
func (t *tx) grow(in *inode) (*buf, uint32, error) {
	n, err := t.dirBlocks(in)
	if err != nil {
		return nil, 0, err
	}
	size := int64(n+1) << t.f.s.logBS
	if size > 1<<32-1 && !t.f.s.has(incompatLargedir) {
		return nil, 0, abi.ENOSPC
	}
	blk, _, err := t.alloc(t.goalFor(in, n), 1)
	if err != nil {
		return nil, 0, err
	}
	if err := t.addBlocks(in, 1); err != nil {
		return nil, 0, err
	}
	if err := t.setMap(in, extent{lblk: n, n: 1, pblk: blk}); err != nil {
		return nil, 0, err
	}
	in.setSize(size)
	t.seal(in)
	return t.fresh(blk), n, nil
}

// resize sets the size of a file, and says so in the superblock if that is the
// first large one.
func (t *tx) resize(in *inode, size int64) error {
	if size > t.maxFile(in) {
		return abi.EFBIG
	}
	if size > 1<<31-1 && !t.f.s.ro(roLargeFile) {
		sb, err := t.superBlock()
		if err != nil {
			return err
		}
		t.mod(sb.b)
		t.f.s.roCompat |= roLargeFile
		le.PutUint32(sb.raw[sbRoCompat:], le.Uint32(sb.raw[sbRoCompat:])|roLargeFile)
	}
	t.mod(in.b)
	in.setSize(size)
	return nil
}
