package ext4

import (
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Places in a group descriptor: the low half, and the high one with 64bit.
const (
	gdBlockBitmap  = 0
	gdInodeBitmap  = 4
	gdInodeTable   = 8
	gdFreeBlocks   = 12
	gdFreeInodes   = 14
	gdDirs         = 16
	gdFlags        = 18
	gdBlockCsum    = 24
	gdInodeCsum    = 26
	gdUnused       = 28
	gdCsum         = 30
	gdHi           = 32 // the first byte of the high half
	gdFreeBlocksHi = 44
	gdFreeInodesHi = 46
	gdDirsHi       = 48
	gdUnusedHi     = 50
	gdBlockCsumHi  = 56
	gdInodeCsumHi  = 58
	gdHiLen        = 64
)

// Flags of a group.
const (
	bgInodeUninit = 1
	bgBlockUninit = 2
	bgZeroed      = 4
)

// group is a descriptor in its block.
type group struct {
	n   uint32
	b   *buf
	raw []byte
	hi  bool
}

// group finds a descriptor. EIO: its checksum is wrong, or it points nowhere.
func (t *tx) group(n uint32) (*group, error) {
	s := t.f.s
	if n >= s.groups {
		return nil, fmt.Errorf("group %d of %d: %w", n, s.groups, abi.EIO)
	}
	blk, off := s.descAt(n)
	b, err := t.get(blk)
	if err != nil {
		return nil, err
	}
	g := &group{n: n, b: b, raw: b.data[off : off+s.descSize], hi: s.descSize >= gdHiLen}
	if !t.f.groupOK[n] {
		if err := t.checkGroup(g); err != nil {
			return nil, t.f.damage(err, "group", n, "block", blk)
		}
		t.f.groupOK[n] = true
	}
	return g, nil
}

func (t *tx) checkGroup(g *group) error {
	s := t.f.s
	if s.gdtCsum() && s.descCsum(g.n, g.raw) != le.Uint16(g.raw[gdCsum:]) {
		return fmt.Errorf("the checksum of group %d is wrong: %w", g.n, abi.EIO)
	}
	for _, at := range []struct {
		blk uint64
		n   uint32
	}{{g.blockBitmap(), 1}, {g.inodeBitmap(), 1}, {g.inodeTable(), s.itable}} {
		if at.blk <= superAt>>s.logBS || at.blk+uint64(at.n) > s.blocks || at.blk+uint64(at.n) < at.blk {
			return fmt.Errorf("group %d has metadata at block %d: %w", g.n, at.blk, abi.EIO)
		}
	}
	return nil
}

// descCsum is the checksum of a group descriptor.
func (s *super) descCsum(n uint32, raw []byte) uint16 {
	var num [4]byte
	le.PutUint32(num[:], n)
	if s.csum() {
		c := crc32c(crc32c(s.seed, num[:]), raw[:gdCsum])
		c = crc32c(c, []byte{0, 0})
		if len(raw) > gdHi {
			c = crc32c(c, raw[gdHi:])
		}
		return uint16(c)
	}
	c := crc16(crc16(crc16(0xffff, s.uuid[:]), num[:]), raw[:gdCsum])
	if len(raw) > gdHi {
		c = crc16(c, raw[gdHi:])
	}
	return c
}

func (g *group) u64(at int) uint64 {
	n := uint64(le.Uint32(g.raw[at:]))
	if g.hi {
		n |= uint64(le.Uint32(g.raw[gdHi+at:])) << 32
	}
	return n
}

func (g *group) u32(lo, hi int) uint32 {
	n := uint32(le.Uint16(g.raw[lo:]))
	if g.hi {
		n |= uint32(le.Uint16(g.raw[hi:])) << 16
	}
	return n
}

func (g *group) put32(lo, hi int, n uint32) {
	le.PutUint16(g.raw[lo:], uint16(n))
	if g.hi {
		le.PutUint16(g.raw[hi:], uint16(n>>16))
	}
}

func (g *group) blockBitmap() uint64 { return g.u64(gdBlockBitmap) }
func (g *group) inodeBitmap() uint64 { return g.u64(gdInodeBitmap) }
func (g *group) inodeTable() uint64  { return g.u64(gdInodeTable) }
func (g *group) freeBlocks() uint32  { return g.u32(gdFreeBlocks, gdFreeBlocksHi) }
func (g *group) freeInodes() uint32  { return g.u32(gdFreeInodes, gdFreeInodesHi) }
func (g *group) dirs() uint32        { return g.u32(gdDirs, gdDirsHi) }
func (g *group) unused() uint32      { return g.u32(gdUnused, gdUnusedHi) }
func (g *group) flags() uint16       { return le.Uint16(g.raw[gdFlags:]) }

// change makes a descriptor ready to be written to.
func (t *tx) changeGroup(g *group) {
	t.mod(g.b)
	t.f.dirtyGroups[g.n] = true
}

// hasMeta reports whether a block belongs to the descriptors of groups or the
// copies of the superblock, for a group without a bitmap.
func (s *super) baseMeta(n uint32) uint32 {
	meta := uint32(0)
	if s.hasSuper(n) {
		meta = 1
	}
	per := uint32(s.bs) / uint32(s.descSize)
	if s.incompat&incompatMetaBG == 0 || n/per < s.firstMeta {
		if meta == 1 {
			blocks := (s.groups + per - 1) / per
			if s.incompat&incompatMetaBG != 0 {
				blocks = s.firstMeta
			}
			meta += blocks + s.reservedGDT
		}
		return meta
	}
	if m := n % per; m == 0 || m == 1 || m == per-1 {
		meta++
	}
	return meta
}

// blockBitmap reads the bitmap of a group's blocks; one that was never written is
// made.
func (t *tx) blockBitmap(g *group) (*buf, error) {
	s := t.f.s
	at := g.blockBitmap()
	if g.flags()&bgBlockUninit != 0 && s.gdtCsum() {
		b := t.f.c.fresh(at)
		if b.ok&okBitmap == 0 {
			t.initBlockBitmap(g, b.data)
			b.ok |= okBitmap
		}
		return b, nil
	}
	b, err := t.get(at)
	if err != nil || b.ok&okBitmap != 0 {
		return b, err
	}
	if s.csum() {
		c := crc32c(s.seed, b.data[:s.perGroup/uint32(s.cluster)/8])
		if !g.sameCsum(gdBlockCsum, gdBlockCsumHi, c) {
			return nil, t.f.damage(fmt.Errorf("the checksum of the block bitmap of group %d is wrong: %w", g.n, abi.EIO), "block", at)
		}
	}
	b.ok |= okBitmap
	return b, nil
}

func (g *group) sameCsum(lo, hi int, c uint32) bool {
	return le.Uint16(g.raw[lo:]) == uint16(c) && (!g.hi || le.Uint16(g.raw[hi:]) == uint16(c>>16))
}

// initBlockBitmap says which blocks of a group that was never used are taken.
func (t *tx) initBlockBitmap(g *group, p []byte) {
	s := t.f.s
	clear(p)
	start, n := s.groupStart(g.n), s.groupBlocks(g.n)
	set := func(i uint32) { p[i/8] |= 1 << (i % 8) }
	for i := range min(s.baseMeta(g.n), n) {
		set(i)
	}
	in := func(blk uint64) {
		if blk >= start && blk < start+uint64(n) {
			set(uint32(blk - start))
		}
	}
	in(g.blockBitmap())
	in(g.inodeBitmap())
	for i := range s.itable {
		in(g.inodeTable() + uint64(i))
	}
	for i := n; i < uint32(8*s.bs); i++ {
		set(i)
	}
}

// inodeBitmap reads the bitmap of a group's inodes.
func (t *tx) inodeBitmap(g *group) (*buf, error) {
	s := t.f.s
	at := g.inodeBitmap()
	if g.flags()&bgInodeUninit != 0 && s.gdtCsum() {
		b := t.f.c.fresh(at)
		if b.ok&okBitmap == 0 {
			clear(b.data)
			for i := s.inodesPer; i < uint32(8*s.bs); i++ {
				b.data[i/8] |= 1 << (i % 8)
			}
			b.ok |= okBitmap
		}
		return b, nil
	}
	b, err := t.get(at)
	if err != nil || b.ok&okBitmap != 0 {
		return b, err
	}
	if s.csum() {
		c := crc32c(s.seed, b.data[:s.inodesPer/8])
		if !g.sameCsum(gdInodeCsum, gdInodeCsumHi, c) {
			return nil, t.f.damage(fmt.Errorf("the checksum of the inode bitmap of group %d is wrong: %w", g.n, abi.EIO), "block", at)
		}
	}
	b.ok |= okBitmap
	return b, nil
}
