package ext4

import (
	"fmt"
	"math/bits"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// nextBit is the first bit from a place on that is set (or, want false, clear) in
// either of two bitmaps (clear: in both); end if there is none. q may be nil.
func nextBit(p, q []byte, from, end uint32, want bool) uint32 {
	for i := from; i < end; {
		if i%64 == 0 && end-i >= 64 {
			w := le.Uint64(p[i/8:])
			if q != nil {
				w |= le.Uint64(q[i/8:])
			}
			if !want {
				w = ^w
			}
			if w != 0 {
				return i + uint32(bits.TrailingZeros64(w))
			}
			i += 64
			continue
		}
		b := p[i/8]
		if q != nil {
			b |= q[i/8]
		}
		if b>>(i%8)&1 != 0 == want {
			return i
		}
		i++
	}
	return end
}

// bestRun looks for free blocks: those at from if there are enough, else the first
// run of want, else the longest.
func bestRun(p, q []byte, from, end, want uint32) (at, n uint32) {
	scan := func(i, stop uint32) bool {
		for i < stop {
			i = nextBit(p, q, i, stop, false)
			if i >= stop {
				break
			}
			k := nextBit(p, q, i, min(end, i+want), true) - i
			if k > n {
				at, n = i, k
			}
			if n >= want {
				return true
			}
			i += k
		}
		return false
	}
	if from < end {
		if k := nextBit(p, q, from, min(end, from+want), true) - from; k >= min(want, 16) {
			return from, k
		}
		if scan(from, end) {
			return at, n
		}
	}
	scan(0, min(from, end))
	return at, n
}

// count changes one of the superblock's numbers of 64 bits.
func (t *tx) count(lo, hi int, d int64) error {
	sb, err := t.superBlock()
	if err != nil {
		return err
	}
	t.mod(sb.b)
	n := int64(le.Uint32(sb.raw[lo:]))
	if hi != 0 && t.f.s.has(incompat64bit) {
		n |= int64(le.Uint32(sb.raw[hi:])) << 32
	}
	n = max(n+d, 0)
	le.PutUint32(sb.raw[lo:], uint32(n))
	if hi != 0 && t.f.s.has(incompat64bit) {
		le.PutUint32(sb.raw[hi:], uint32(n>>32))
	}
	return nil
}

// free is how many blocks may be taken by who asks.
func (t *tx) free() (uint64, error) {
	sb, err := t.superBlock()
	if err != nil {
		return 0, err
	}
	n, r := uint64(le.Uint32(sb.raw[sbFree:])), uint64(le.Uint32(sb.raw[sbReserved:]))
	if t.f.s.has(incompat64bit) {
		n |= uint64(le.Uint32(sb.raw[sbFreeHi:])) << 32
		r |= uint64(le.Uint32(sb.raw[sbReservedHi:])) << 32
	}
	if c := t.op.Caller; c == nil || c.Cred == nil || c.Cred.Euid == 0 {
		return n, nil
	}
	return n - min(n, r), nil
}

// alloc takes up to want blocks that lie together, near goal if that can be. ENOSPC.
func (t *tx) alloc(goal uint64, want uint32) (uint64, uint32, error) {
	f, s := t.f, t.f.s
	free, err := t.free()
	if err != nil {
		return 0, 0, err
	}
	want = uint32(min(uint64(want), free))
	if want == 0 {
		return 0, 0, abi.ENOSPC
	}
	if goal < s.first || goal >= s.blocks {
		goal = s.first
	}
	g0, off := s.groupOf(goal)
	var best struct {
		g     *group
		at, n uint32
	}
	tries := 0
	for i := range s.groups {
		n := (g0 + i) % s.groups
		g, err := t.group(n)
		if err != nil {
			continue // it is told; others may do
		}
		if g.freeBlocks() == 0 {
			continue
		}
		b, err := t.blockBitmap(g)
		if err != nil {
			continue
		}
		from := uint32(0)
		if i == 0 {
			from = off
		}
		at, k := bestRun(b.data, f.pend[n], from, s.groupBlocks(n), want)
		if k > best.n {
			best.g, best.at, best.n = g, at, k
		}
		if tries++; best.n == want || best.n > 0 && (tries >= 16 || best.n >= 512) {
			break
		}
	}
	if best.n == 0 {
		return 0, 0, abi.ENOSPC
	}
	return s.groupStart(best.g.n) + uint64(best.at), best.n, t.take(best.g, best.at, best.n)
}

// take marks blocks of a group as used.
func (t *tx) take(g *group, at, n uint32) error {
	s := t.f.s
	b, err := t.blockBitmap(g)
	if err != nil {
		return err
	}
	start := s.groupStart(g.n) + uint64(at)
	over := func(blk, k uint64) bool { return blk < start+uint64(n) && start < blk+k }
	if over(g.blockBitmap(), 1) || over(g.inodeBitmap(), 1) || over(g.inodeTable(), uint64(s.itable)) || !s.inData(start, uint64(n)) || at < s.baseMeta(g.n) {
		return t.f.damage(fmt.Errorf("the block bitmap of group %d says that its metadata is free: %w", g.n, abi.EIO), "block", g.blockBitmap())
	}
	t.mod(b)
	for i := at; i < at+n; i++ {
		b.data[i/8] |= 1 << (i % 8)
	}
	t.changeGroup(g)
	g.clearFlag(bgBlockUninit)
	g.put32(gdFreeBlocks, gdFreeBlocksHi, g.freeBlocks()-min(n, g.freeBlocks()))
	return t.count(sbFree, sbFreeHi, -int64(n))
}

func (g *group) clearFlag(fl uint16) {
	le.PutUint16(g.raw[gdFlags:], g.flags()&^fl)
}

// release frees blocks. meta: they are metadata, in the cache and perhaps in the
// journal.
func (t *tx) release(blk uint64, n uint32, meta bool) error {
	f, s := t.f, t.f.s
	if !s.inData(blk, uint64(n)) {
		return f.damage(fmt.Errorf("blocks %d to %d are not to be freed: %w", blk, blk+uint64(n), abi.EIO), "block", blk)
	}
	for n > 0 {
		gn, at := s.groupOf(blk)
		k := min(n, s.groupBlocks(gn)-at)
		g, err := t.group(gn)
		if err != nil {
			return err
		}
		b, err := t.blockBitmap(g)
		if err != nil {
			return err
		}
		if nextBit(b.data, nil, at, at+k, false) != at+k {
			return f.damage(fmt.Errorf("blocks of %d to %d are free already: %w", blk, blk+uint64(k), abi.EIO), "block", blk)
		}
		t.mod(b)
		p := f.pend[gn]
		if p == nil {
			p = make([]byte, s.bs)
			f.pend[gn] = p
		}
		for i := at; i < at+k; i++ {
			b.data[i/8] &^= 1 << (i % 8)
			p[i/8] |= 1 << (i % 8)
		}
		t.changeGroup(g)
		g.put32(gdFreeBlocks, gdFreeBlocksHi, g.freeBlocks()+k)
		if err := t.count(sbFree, sbFreeHi, int64(k)); err != nil {
			return err
		}
		for i := range uint64(k) {
			if meta || f.c.blks[blk+i] != nil {
				f.dropping = append(f.dropping, blk+i)
			}
			if meta {
				f.revoking = append(f.revoking, blk+i)
			}
		}
		blk, n = blk+uint64(k), n-k
	}
	return nil
}

// goalOf is where blocks of an inode are wanted: in its group.
func (t *tx) goalOf(in *inode) uint64 {
	return t.f.s.groupStart((in.ino - 1) / t.f.s.inodesPer)
}

// allocMeta takes a block of metadata for an inode, which is zeroes.
func (t *tx) allocMeta(in *inode, goal uint64) (*buf, error) {
	blk, _, err := t.alloc(goal, 1)
	if err != nil {
		return nil, err
	}
	if err := t.addBlocks(in, 1); err != nil {
		return nil, err
	}
	return t.fresh(blk), nil
}

// freeMeta frees a block of metadata of an inode.
func (t *tx) freeMeta(in *inode, blk uint64) error {
	if err := t.addBlocks(in, -1); err != nil {
		return err
	}
	return t.release(blk, 1, true)
}
