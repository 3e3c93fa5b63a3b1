package ext4

import (
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Places in an inode.
const (
	inMode      = 0
	inUid       = 2
	inSize      = 4
	inAtime     = 8
	inCtime     = 12
	inMtime     = 16
	inDtime     = 20
	inGid       = 24
	inLinks     = 26
	inBlocks    = 28
	inFlags     = 32
	inVersion   = 36
	inBlock     = 40
	inGen       = 100
	inACL       = 104
	inSizeHi    = 108
	inBlocksHi  = 116
	inACLHi     = 118
	inUidHi     = 120
	inGidHi     = 122
	inCsum      = 124
	inExtra     = 128 // length of what follows, from here
	inCsumHi    = 130
	inCtimeX    = 132
	inMtimeX    = 136
	inAtimeX    = 140
	inCrtime    = 144
	inCrtimeX   = 148
	inVersionHi = 152
	inProject   = 156
	goodOld     = 128 // bytes of an inode without extras
	inBlockLen  = 60
)

// Flags of an inode.
const (
	flImmutable   = 0x10
	flAppend      = 0x20
	flNodump      = 0x40
	flIndex       = 0x1000
	flTopdir      = 0x20000
	flHugeFile    = 0x40000
	flExtents     = 0x80000
	flVerity      = 0x100000
	flEAInode     = 0x200000
	flInline      = 0x10000000
	flProjInherit = 0x20000000
	flEncrypt     = 0x800
	flJournalData = 0x4000

	// inherited by what is made in a directory, and by files that are no
	// directories.
	flInherit    = 0x1 | 0x4 | 0x8 | flNodump | 0x80 | 0x400 | flJournalData | flProjInherit | 0x10000
	flNotForFile = 0x10000 | flProjInherit
)

// Types in i_mode.
const (
	modeFmt  = 0xf000
	modeFIFO = 0x1000
	modeChr  = 0x2000
	modeDir  = 0x4000
	modeBlk  = 0x6000
	modeReg  = 0x8000
	modeLnk  = 0xa000
	modeSock = 0xc000
)

// inode is an inode in its block of the inode table. It is valid until the end of
// the operation, or the next trim of the cache.
type inode struct {
	ino uint32
	b   *buf
	raw []byte
	s   *super
}

// inodeAt is where an inode is. EIO.
func (t *tx) inodeAt(ino uint32) (*inode, *group, error) {
	s := t.f.s
	if ino == 0 || ino > s.inodes {
		return nil, nil, fmt.Errorf("inode %d of %d: %w", ino, s.inodes, abi.EIO)
	}
	g, err := t.group((ino - 1) / s.inodesPer)
	if err != nil {
		return nil, nil, err
	}
	off := int64((ino-1)%s.inodesPer) * int64(s.inodeSize)
	first := g.inodeTable()
	blk := first + uint64(off>>s.logBS)
	b, err := t.getRun(blk, int(min(first+uint64(s.itable)-blk, 16)))
	if err != nil {
		return nil, nil, err
	}
	in := off & (s.bs - 1)
	return &inode{ino: ino, b: b, raw: b.data[in : in+int64(s.inodeSize) : in+int64(s.inodeSize)], s: s}, g, nil
}

// inode finds an inode that is in use or, with no links, still pinned. ESTALE: it
// is not in use. EIO: it is damaged.
func (t *tx) inode(ino uint32) (*inode, error) {
	in, g, err := t.inodeAt(ino)
	if err != nil {
		return nil, err
	}
	i := (ino - 1) % t.f.s.inodesPer
	if t.f.s.gdtCsum() && (g.flags()&bgInodeUninit != 0 || i >= t.f.s.inodesPer-min(g.unused(), t.f.s.inodesPer)) || in.u16(inMode) == 0 {
		return nil, fmt.Errorf("inode %d is not in use: %w", ino, abi.ESTALE)
	}
	if t.f.known(ino) {
		return in, nil
	}
	if err := in.check(); err != nil {
		return nil, t.f.damage(err, "inode", ino, "block", in.b.n)
	}
	return in, nil
}

// check looks at an inode that was read.
func (in *inode) check() error {
	if in.s.csum() {
		c := in.csum()
		lo := le.Uint16(in.raw[inCsum:])
		if uint16(c) != lo || in.fits(inCsumHi, 2) && uint16(c>>16) != le.Uint16(in.raw[inCsumHi:]) {
			return fmt.Errorf("the checksum of inode %d is wrong: %w", in.ino, abi.EIO)
		}
	}
	if len(in.raw) > goodOld {
		if x := int(le.Uint16(in.raw[inExtra:])); x+goodOld > len(in.raw) || x%4 != 0 {
			return fmt.Errorf("inode %d has %d extra bytes: %w", in.ino, x, abi.EIO)
		}
	}
	if in.vtype() == abi.VBAD {
		return fmt.Errorf("inode %d has the mode %#o: %w", in.ino, in.u16(inMode), abi.EIO)
	}
	if in.size() < 0 || in.size() > in.s.bs<<32 {
		return fmt.Errorf("inode %d has %d bytes: %w", in.ino, uint64(in.size()), abi.EIO)
	}
	return nil
}

func (in *inode) csum() uint32 {
	c := in.s.inodeSeed(in.ino, in.gen())
	c = crc32c(c, in.raw[:inCsum])
	c = crc32c(c, []byte{0, 0})
	c = crc32c(c, in.raw[inCsum+2:goodOld])
	if len(in.raw) > goodOld {
		c = crc32c(c, in.raw[goodOld:inCsumHi])
		at := inCsumHi
		if in.fits(inCsumHi, 2) {
			c = crc32c(c, []byte{0, 0})
			at += 2
		}
		c = crc32c(c, in.raw[at:])
	}
	return c
}

// fits reports whether an inode has room for an extra field.
func (in *inode) fits(at, n int) bool {
	return len(in.raw) > goodOld && goodOld+int(le.Uint16(in.raw[inExtra:])) >= at+n && at+n <= len(in.raw)
}

func (in *inode) u16(at int) uint16 { return le.Uint16(in.raw[at:]) }
func (in *inode) u32(at int) uint32 { return le.Uint32(in.raw[at:]) }
func (in *inode) gen() uint32       { return in.u32(inGen) }
func (in *inode) flags() uint32     { return in.u32(inFlags) }
func (in *inode) links() uint32     { return uint32(in.u16(inLinks)) }
func (in *inode) isDir() bool       { return in.u16(inMode)&modeFmt == modeDir }
func (in *inode) isReg() bool       { return in.u16(inMode)&modeFmt == modeReg }
func (in *inode) isLnk() bool       { return in.u16(inMode)&modeFmt == modeLnk }
func (in *inode) extents() bool     { return in.flags()&flExtents != 0 }
func (in *inode) block() []byte     { return in.raw[inBlock : inBlock+inBlockLen : inBlock+inBlockLen] }

func (in *inode) size() int64 {
	n := int64(in.u32(inSize))
	if in.isReg() || in.isDir() && in.s.has(incompatLargedir) {
		n |= int64(in.u32(inSizeHi)) << 32
	}
	return n
}

func (in *inode) acl() uint64 {
	return uint64(in.u32(inACL)) | uint64(in.u16(inACLHi))<<32&in.s.hiMask()
}

// hiMask is what of block numbers beyond 32 bits means something.
func (s *super) hiMask() uint64 {
	if s.has(incompat64bit) {
		return ^uint64(0)
	}
	return 1<<32 - 1
}

// bytes is the storage that an inode has.
func (in *inode) bytes() int64 {
	n := int64(in.u32(inBlocks))
	if in.s.ro(roHugeFile) {
		n |= int64(in.u16(inBlocksHi)) << 32
		if in.flags()&flHugeFile != 0 {
			return n << in.s.logBS
		}
	}
	return n << 9
}

func (in *inode) vtype() abi.VType {
	switch in.u16(inMode) & modeFmt {
	case modeReg:
		return abi.VREG
	case modeDir:
		return abi.VDIR
	case modeLnk:
		return abi.VLNK
	case modeChr:
		return abi.VCHR
	case modeBlk:
		return abi.VBLK
	case modeFIFO:
		return abi.VFIFO
	case modeSock:
		return abi.VSOCK
	}
	return abi.VBAD
}

// time reads a time: seconds, and if there is room the bits beyond 32 and
// nanoseconds.
func (in *inode) time(at, extra int) abi.Timespec {
	ts := abi.Timespec{Sec: int64(int32(in.u32(at)))}
	if in.fits(extra, 4) {
		x := in.u32(extra)
		ts.Sec += int64(x&3) << 32
		ts.Nsec = int32(min(x>>2, 999999999))
	}
	return ts
}

// rdev is the device of a device node. Linux's and NetBSD's numbers lie in the
// same bits.
func (in *inode) rdev() abi.Dev {
	if v := in.vtype(); v != abi.VCHR && v != abi.VBLK {
		return 0
	}
	if old := in.u32(inBlock); old != 0 {
		return abi.Makedev(old>>8&0xff, old&0xff)
	}
	n := in.u32(inBlock + 4)
	return abi.Makedev(n>>8&0xfff, n&0xff|n>>12&0xfff00)
}

// genOf is the generation that a handle has: never 0.
func genOf(n uint32) abi.Gen { return abi.Gen(max(n, 1)) }

// Flags that chflags(2) knows.
var fileFlags = []struct{ fl, uf uint32 }{{flNodump, abi.UF_NODUMP}, {flImmutable, abi.SF_IMMUTABLE}, {flAppend, abi.SF_APPEND}}

// attr is what stat shows.
func (in *inode) attr() abi.Vattr {
	v := abi.Vattr{
		Type: in.vtype(), Mode: uint32(in.u16(inMode)) & 0o7777, Nlink: in.links(), Rdev: in.rdev(),
		Uid: uint32(in.u16(inUid)) | uint32(in.u16(inUidHi))<<16, Gid: uint32(in.u16(inGid)) | uint32(in.u16(inGidHi))<<16,
		Size: in.size(), Bytes: in.bytes(), Blksize: uint32(max(in.s.bs, abi.PageSize)), Fileid: abi.Fileid(in.ino), Gen: genOf(in.gen()),
		Atime: in.time(inAtime, inAtimeX), Mtime: in.time(inMtime, inMtimeX), Ctime: in.time(inCtime, inCtimeX),
	}
	for _, x := range fileFlags {
		if in.flags()&x.fl != 0 {
			v.Flags |= x.uf
		}
	}
	if in.fits(inCrtime, 8) {
		v.Btime = in.time(inCrtime, inCrtimeX)
	} else {
		v.Btime = v.Ctime
		if v.Mtime.Before(v.Btime) {
			v.Btime = v.Mtime
		}
	}
	return v
}
