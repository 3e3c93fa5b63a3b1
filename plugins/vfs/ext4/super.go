package ext4

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var le = binary.LittleEndian

// Places in the superblock, which is 1024 bytes at byte 1024.
const (
	superAt    = 1024
	superLen   = 1024
	superMagic = 0xef53

	sbInodes      = 0x0
	sbBlocks      = 0x4
	sbReserved    = 0x8
	sbFree        = 0xc
	sbFreeInodes  = 0x10
	sbFirst       = 0x14
	sbLogBlock    = 0x18
	sbLogCluster  = 0x1c
	sbPerGroup    = 0x20
	sbInodesPer   = 0x28
	sbMtime       = 0x2c
	sbWtime       = 0x30
	sbMntCount    = 0x34
	sbMagicAt     = 0x38
	sbState       = 0x3a
	sbErrors      = 0x3c
	sbRev         = 0x4c
	sbFirstIno    = 0x54
	sbInodeSize   = 0x58
	sbCompat      = 0x5c
	sbIncompat    = 0x60
	sbRoCompat    = 0x64
	sbUUID        = 0x68
	sbLabel       = 0x78
	sbReservedGDT = 0xce
	sbJournalIno  = 0xe0
	sbJournalDev  = 0xe4
	sbLastOrphan  = 0xe8
	sbHashSeed    = 0xec
	sbDefHash     = 0xfc
	sbDescSize    = 0xfe
	sbFirstMeta   = 0x104
	sbBlocksHi    = 0x150
	sbReservedHi  = 0x154
	sbFreeHi      = 0x158
	sbMinExtra    = 0x15c
	sbWantExtra   = 0x15e
	sbFlags       = 0x160
	sbLogFlex     = 0x174
	sbCsumType    = 0x175
	sbKbytes      = 0x178
	sbErrorCount  = 0x194
	sbCsumSeed    = 0x270
	sbOrphanInode = 0x280
	sbCsum        = 0x3fc
)

// Bits of s_state and s_flags.
const (
	stateValid   = 1
	stateErrors  = 2
	stateOrphans = 4

	flagSignedHash   = 1
	flagUnsignedHash = 2
)

// Bounds of what is mounted.
const (
	maxBlockSize = 64 << 10
	maxGroups    = 1 << 24
	maxInodeSize = 4096
	rootIno      = 2
	journalIno   = 8
	oldFirstIno  = 11
)

// super is what the superblock says about the layout: that does not change while
// the file system is mounted. Counters are in the block itself.
type super struct {
	bs          int64 // bytes of a block
	logBS       uint
	cluster     int64 // blocks of a cluster; 1 without bigalloc
	blocks      uint64
	inodes      uint32
	first       uint64 // first data block: 1 with blocks of 1 KiB
	perGroup    uint32
	inodesPer   uint32
	groups      uint32
	inodeSize   int
	firstIno    uint32
	descSize    int
	rev         uint32
	compat      uint32
	incompat    uint32
	roCompat    uint32
	uuid        [16]byte
	label       string
	seed        uint32
	hashSeed    [4]uint32
	defHash     uint8
	unsigned    bool
	firstMeta   uint32
	logFlex     uint
	journal     uint32
	journalDev  uint32
	wantExtra   int
	errors      uint16
	reservedGDT uint32
	itable      uint32 // blocks of the inode table of a group
}

func (s *super) has(incompat uint32) bool { return s.incompat&incompat != 0 }
func (s *super) ro(bit uint32) bool       { return s.roCompat&bit != 0 }
func (s *super) csum() bool               { return s.roCompat&roMetadataCsum != 0 }
func (s *super) gdtCsum() bool            { return s.roCompat&(roGdtCsum|roMetadataCsum) != 0 }

// parseSuper reads the superblock of a device of so many bytes. EINVAL: it is
// none, or says what cannot be.
func parseSuper(b []byte, size int64) (*super, error) {
	bad := func(format string, a ...any) (*super, error) {
		return nil, fmt.Errorf("%s: %w", fmt.Sprintf(format, a...), abi.EINVAL)
	}
	if len(b) < superLen || le.Uint16(b[sbMagicAt:]) != superMagic {
		return bad("no ext2, ext3 or ext4")
	}
	s := &super{rev: le.Uint32(b[sbRev:]), inodeSize: 128, firstIno: oldFirstIno, descSize: 32, cluster: 1}
	if s.rev > 1 {
		return bad("revision %d", s.rev)
	}
	if s.rev == 1 {
		s.inodeSize = int(le.Uint16(b[sbInodeSize:]))
		s.firstIno = le.Uint32(b[sbFirstIno:])
		s.compat, s.incompat, s.roCompat = le.Uint32(b[sbCompat:]), le.Uint32(b[sbIncompat:]), le.Uint32(b[sbRoCompat:])
	}
	copy(s.uuid[:], b[sbUUID:])
	for _, c := range b[sbLabel : sbLabel+16] {
		if c == 0 {
			break
		}
		s.label += string(rune(c))
	}
	if s.incompat&incompatJournalDev != 0 {
		return bad("it is the journal of another file system")
	}
	if s.csum() {
		if b[sbCsumType] != 1 {
			return bad("checksums of type %d", b[sbCsumType])
		}
		if crc32c(^uint32(0), b[:sbCsum]) != le.Uint32(b[sbCsum:]) {
			return nil, fmt.Errorf("the superblock's checksum is wrong: %w", abi.EIO)
		}
		s.seed = crc32c(^uint32(0), s.uuid[:])
	}
	if s.incompat&incompatCsumSeed != 0 {
		s.seed = le.Uint32(b[sbCsumSeed:])
	}
	log := le.Uint32(b[sbLogBlock:])
	if log > 6 {
		return bad("blocks of 2^%d KiB", log)
	}
	s.logBS = uint(log) + 10
	s.bs = 1 << s.logBS
	if s.ro(roBigalloc) {
		lc := le.Uint32(b[sbLogCluster:])
		if lc < log || lc > 20 {
			return bad("clusters of 2^%d KiB", lc)
		}
		s.cluster = 1 << (lc - log)
	}
	s.blocks, s.inodes = uint64(le.Uint32(b[sbBlocks:])), le.Uint32(b[sbInodes:])
	if s.incompat&incompat64bit != 0 {
		s.blocks |= uint64(le.Uint32(b[sbBlocksHi:])) << 32
		s.descSize = int(le.Uint16(b[sbDescSize:]))
		if s.descSize < 64 || int64(s.descSize) > min(s.bs, 1024) || bits.OnesCount(uint(s.descSize)) != 1 {
			return bad("group descriptors of %d bytes", s.descSize)
		}
	}
	s.first, s.perGroup, s.inodesPer = uint64(le.Uint32(b[sbFirst:])), le.Uint32(b[sbPerGroup:]), le.Uint32(b[sbInodesPer:])
	switch {
	case s.inodeSize < 128 || int64(s.inodeSize) > min(s.bs, maxInodeSize) || bits.OnesCount(uint(s.inodeSize)) != 1:
		return bad("inodes of %d bytes", s.inodeSize)
	case s.firstIno < oldFirstIno && s.rev == 1:
		return bad("the first inode is %d", s.firstIno)
	case s.blocks > 1<<48 || s.blocks <= s.first || int64(s.blocks) > size>>s.logBS:
		return bad("%d blocks of %d bytes on a device of %d bytes", s.blocks, s.bs, size)
	case s.bs == 1024 && s.cluster == 1 && s.first != 1 || s.bs > 1024 && s.first != 0:
		return bad("the first block is %d", s.first)
	case s.perGroup == 0 || int64(s.perGroup) > 8*s.bs*s.cluster || s.perGroup%8 != 0:
		return bad("%d blocks in a group", s.perGroup)
	case s.inodesPer == 0 || int64(s.inodesPer) > 8*s.bs || int64(s.inodesPer)*int64(s.inodeSize)%s.bs != 0:
		return bad("%d inodes in a group", s.inodesPer)
	}
	n := (s.blocks - s.first + uint64(s.perGroup) - 1) / uint64(s.perGroup)
	if n > maxGroups || n*uint64(s.inodesPer) != uint64(s.inodes) {
		return bad("%d inodes in %d groups of %d", s.inodes, n, s.inodesPer)
	}
	s.groups = uint32(n)
	s.itable = uint32(int64(s.inodesPer) * int64(s.inodeSize) >> s.logBS)
	for i := range s.hashSeed {
		s.hashSeed[i] = le.Uint32(b[sbHashSeed+4*i:])
	}
	s.defHash = b[sbDefHash]
	s.unsigned = le.Uint32(b[sbFlags:])&flagUnsignedHash != 0
	s.firstMeta = le.Uint32(b[sbFirstMeta:])
	if s.incompat&incompatFlexBG != 0 && b[sbLogFlex] < 32 {
		s.logFlex = uint(b[sbLogFlex])
	}
	s.journal, s.journalDev = le.Uint32(b[sbJournalIno:]), le.Uint32(b[sbJournalDev:])
	s.wantExtra = min(max(int(le.Uint16(b[sbWantExtra:])), 0), s.inodeSize-128)
	if s.inodeSize > 128 && s.wantExtra == 0 {
		s.wantExtra = min(32, s.inodeSize-128)
	}
	s.wantExtra &^= 3
	s.errors = le.Uint16(b[sbErrors:])
	s.reservedGDT = uint32(le.Uint16(b[sbReservedGDT:]))
	return s, nil
}

// hasSuper reports whether a group has a copy of the superblock.
func (s *super) hasSuper(g uint32) bool {
	if g == 0 || g == 1 || !s.ro(roSparseSuper) {
		return true
	}
	if g%2 == 0 {
		return false
	}
	for _, p := range []uint32{3, 5, 7} {
		n := p
		for n < g {
			n *= p
		}
		if n == g {
			return true
		}
	}
	return false
}

// descAt is where the descriptor of a group is: block and byte.
func (s *super) descAt(g uint32) (uint64, int) {
	per := uint32(s.bs) / uint32(s.descSize)
	blk, off := g/per, int(g%per)*s.descSize
	if s.incompat&incompatMetaBG == 0 || blk < s.firstMeta {
		return superAt>>s.logBS + 1 + uint64(blk), off
	}
	first := blk * per // group
	at := s.groupStart(first)
	if s.hasSuper(first) {
		at++
	}
	return at, off
}

// groupStart is the first block of a group.
func (s *super) groupStart(g uint32) uint64 { return s.first + uint64(g)*uint64(s.perGroup) }

// groupBlocks is how many blocks a group has.
func (s *super) groupBlocks(g uint32) uint32 {
	return uint32(min(s.blocks-s.groupStart(g), uint64(s.perGroup)))
}

// groupOf is the group of a block, and its place there. Preconditions: it is
// s.first or behind.
func (s *super) groupOf(blk uint64) (uint32, uint32) {
	n := blk - s.first
	return uint32(n / uint64(s.perGroup)), uint32(n % uint64(s.perGroup))
}
