package ext4

import (
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// dirGroups bounds the groups that are looked at to place a directory.
const dirGroups = 1024

// groupFor chooses the group of a new inode: files near their directory,
// directories of the root spread (Orlov), others near their parent unless it is
// crowded there. It depends on nothing but what is on the disk.
func (t *tx) groupFor(parent *inode, isDir bool) (uint32, error) {
	s := t.f.s
	pg := (parent.ino - 1) / s.inodesPer
	if !isDir {
		return pg, nil
	}
	top := parent.ino == rootIno || parent.flags()&flTopdir != 0
	var sumI, sumB, sumD, n uint64
	look := min(s.groups, dirGroups)
	for i := range look {
		if g, err := t.group((pg + i) % s.groups); err == nil {
			sumI, sumB, sumD, n = sumI+uint64(g.freeInodes()), sumB+uint64(g.freeBlocks()), sumD+uint64(g.dirs()), n+1
		}
	}
	if n == 0 {
		return pg, nil
	}
	best, found := pg, false
	least := ^uint32(0)
	for i := range look {
		g, err := t.group((pg + i) % s.groups)
		if err != nil || g.freeInodes() == 0 {
			continue
		}
		ok := uint64(g.freeInodes()) >= sumI/n && uint64(g.freeBlocks()) >= sumB/n
		if !top {
			// It may have more directories than others, but not many more.
			if uint64(g.dirs()) <= sumD/n+uint64(s.inodesPer/16) && uint64(g.freeInodes()) >= sumI/n/4 && uint64(g.freeBlocks()) >= sumB/n/4 {
				return g.n, nil
			}
			continue
		}
		if ok && g.dirs() < least {
			best, least, found = g.n, g.dirs(), true
		}
	}
	if !found {
		best = pg
	}
	return best, nil
}

// newInode takes an inode and makes it that of a new file, with the mode given. A
// replay gets what it asks for: EEXIST if that is in use. ENOSPC.
func (t *tx) newInode(parent *inode, mode uint16, uid, gid uint32) (*inode, error) {
	s := t.f.s
	isDir := mode&modeFmt == modeDir
	if id := t.op.Fileid; id != 0 {
		if id > abi.Fileid(s.inodes) || id < abi.Fileid(s.firstIno) {
			return nil, fmt.Errorf("replay of file %d: %w", id, abi.EEXIST)
		}
		g, err := t.group(uint32(id-1) / s.inodesPer)
		if err != nil {
			return nil, err
		}
		i := uint32(id-1) % s.inodesPer
		b, err := t.inodeBitmap(g)
		if err != nil {
			return nil, err
		}
		if b.data[i/8]>>(i%8)&1 != 0 {
			return nil, fmt.Errorf("replay of file %d: %w", id, abi.EEXIST)
		}
		return t.takeInode(g, i, parent, mode, uid, gid)
	}
	g0, err := t.groupFor(parent, isDir)
	if err != nil {
		return nil, err
	}
	for k := range s.groups {
		if k%256 == 255 {
			modapi.Tick(t.ctx)
		}
		g, err := t.group((g0 + k) % s.groups)
		if err != nil || g.freeInodes() == 0 {
			continue
		}
		b, err := t.inodeBitmap(g)
		if err != nil {
			continue
		}
		from := uint32(0)
		if g.n == 0 {
			from = s.firstIno - 1
		}
		if i := nextBit(b.data, nil, min(from, s.inodesPer), s.inodesPer, false); i < s.inodesPer {
			return t.takeInode(g, i, parent, mode, uid, gid)
		}
	}
	return nil, abi.ENOSPC
}

func (t *tx) takeInode(g *group, i uint32, parent *inode, mode uint16, uid, gid uint32) (*inode, error) {
	s := t.f.s
	b, err := t.inodeBitmap(g)
	if err != nil {
		return nil, err
	}
	t.mod(b)
	b.data[i/8] |= 1 << (i % 8)
	t.changeGroup(g)
	ino := g.n*s.inodesPer + i + 1
	if s.gdtCsum() {
		if g.flags()&bgInodeUninit != 0 {
			g.clearFlag(bgInodeUninit)
			g.put32(gdUnused, gdUnusedHi, s.inodesPer)
		}
		if used := s.inodesPer - min(g.unused(), s.inodesPer); i >= used {
			if err := t.zeroInodes(g, used, i); err != nil {
				return nil, err
			}
			g.put32(gdUnused, gdUnusedHi, s.inodesPer-i-1)
		}
		// A bitmap of blocks that is used along with it.
		if g.flags()&bgBlockUninit != 0 {
			bb, err := t.blockBitmap(g)
			if err != nil {
				return nil, err
			}
			t.mod(bb)
			g.clearFlag(bgBlockUninit)
		}
	}
	g.put32(gdFreeInodes, gdFreeInodesHi, g.freeInodes()-min(1, g.freeInodes()))
	if mode&modeFmt == modeDir {
		g.put32(gdDirs, gdDirsHi, g.dirs()+1)
	}
	if err := t.count(sbFreeInodes, 0, -1); err != nil {
		return nil, err
	}
	in, _, err := t.inodeAt(ino)
	if err != nil {
		return nil, err
	}
	t.mod(in.b)
	gen := max(in.gen(), 1) + 1
	if t.op.Fileid != 0 {
		gen = uint32(t.op.Gen)
	}
	clear(in.raw)
	le.PutUint16(in.raw[inMode:], mode)
	in.putOwner(uid, gid)
	le.PutUint32(in.raw[inGen:], max(gen, 1))
	fl := parent.flags() & flInherit
	if mode&modeFmt != modeDir {
		fl &^= flNotForFile
	}
	if mode&modeFmt != modeReg && mode&modeFmt != modeDir {
		fl &= flNodump | 0x80
	}
	if len(in.raw) > goodOld {
		le.PutUint16(in.raw[inExtra:], uint16(s.wantExtra))
	}
	if t := mode & modeFmt; s.has(incompatExtents) && (t == modeReg || t == modeDir) {
		fl |= flExtents
		in.initExtents()
	}
	le.PutUint32(in.raw[inFlags:], fl)
	if parent.flags()&flProjInherit != 0 && in.fits(inProject, 4) && parent.fits(inProject, 4) {
		copy(in.raw[inProject:inProject+4], parent.raw[inProject:])
	}
	for _, at := range [][2]int{{inAtime, inAtimeX}, {inMtime, inMtimeX}, {inCtime, inCtimeX}} {
		in.putTime(at[0], at[1], t.op.Now)
	}
	if in.fits(inCrtime, 8) {
		in.putTime(inCrtime, inCrtimeX, t.op.Now)
	}
	t.seal(in)
	t.made = append(t.made, ino)
	t.f.node(ino)
	return in, nil
}

// initExtents makes an empty root of the tree of extents.
func (in *inode) initExtents() {
	p := in.block()
	clear(p)
	le.PutUint16(p, exMagic)
	le.PutUint16(p[4:], (inBlockLen-exHeader)/exEntry)
}

// zeroInodes makes inodes of a group zeroes that come into use for the first time,
// up to the end of the block that one is in.
func (t *tx) zeroInodes(g *group, from, to uint32) error {
	s := t.f.s
	per := uint32(s.bs / int64(s.inodeSize))
	for blk := from / per; blk <= to/per; blk++ {
		at := g.inodeTable() + uint64(blk)
		first := uint32(0)
		if blk == from/per {
			first = from % per
		}
		if first == 0 {
			t.fresh(at)
			continue
		}
		b, err := t.get(at)
		if err != nil {
			return err
		}
		t.mod(b)
		clear(b.data[int64(first)*int64(s.inodeSize):])
	}
	return nil
}

// freeInode gives back an inode that has nothing any more.
func (t *tx) freeInode(in *inode) error {
	s := t.f.s
	g, err := t.group((in.ino - 1) / s.inodesPer)
	if err != nil {
		return err
	}
	b, err := t.inodeBitmap(g)
	if err != nil {
		return err
	}
	i := (in.ino - 1) % s.inodesPer
	if b.data[i/8]>>(i%8)&1 == 0 {
		return t.f.damage(fmt.Errorf("inode %d is free already: %w", in.ino, abi.EIO), "inode", in.ino)
	}
	t.mod(b)
	b.data[i/8] &^= 1 << (i % 8)
	t.changeGroup(g)
	g.put32(gdFreeInodes, gdFreeInodesHi, g.freeInodes()+1)
	if in.isDir() {
		g.put32(gdDirs, gdDirsHi, g.dirs()-min(1, g.dirs()))
	}
	if err := t.count(sbFreeInodes, 0, 1); err != nil {
		return err
	}
	t.mod(in.b)
	le.PutUint32(in.raw[inDtime:], uint32(min(max(t.op.Now.Sec, 1), 1<<32-1)))
	le.PutUint16(in.raw[inLinks:], 0)
	in.setSize(0)
	t.seal(in)
	t.gone = append(t.gone, in.ino)
	return nil
}

// seal computes the checksum of an inode that was changed.
func (t *tx) seal(in *inode) {
	t.mod(in.b)
	if !in.s.csum() {
		return
	}
	c := in.csum()
	le.PutUint16(in.raw[inCsum:], uint16(c))
	if in.fits(inCsumHi, 2) {
		le.PutUint16(in.raw[inCsumHi:], uint16(c>>16))
	}
}

func (in *inode) putOwner(uid, gid uint32) {
	le.PutUint16(in.raw[inUid:], uint16(uid))
	le.PutUint16(in.raw[inUidHi:], uint16(uid>>16))
	le.PutUint16(in.raw[inGid:], uint16(gid))
	le.PutUint16(in.raw[inGidHi:], uint16(gid>>16))
}

// putTime writes a time, as far as there is room for it.
func (in *inode) putTime(at, extra int, ts abi.Timespec) {
	if !in.fits(extra, 4) {
		le.PutUint32(in.raw[at:], uint32(int32(min(max(ts.Sec, -1<<31), 1<<31-1))))
		return
	}
	sec := min(max(ts.Sec, -1<<31), 1<<31-1+3<<32)
	le.PutUint32(in.raw[at:], uint32(sec))
	epoch := uint32((sec-int64(int32(uint32(sec))))>>32) & 3
	le.PutUint32(in.raw[extra:], uint32(ts.Nsec)<<2|epoch)
}

func (in *inode) setSize(n int64) {
	le.PutUint32(in.raw[inSize:], uint32(n))
	if in.isReg() {
		le.PutUint32(in.raw[inSizeHi:], uint32(n>>32))
	}
}

func (in *inode) setLinks(n uint32) { le.PutUint16(in.raw[inLinks:], uint16(n)) }

// touch sets times of an inode.
func (in *inode) touch(ts abi.Timespec, mtime bool) {
	in.putTime(inCtime, inCtimeX, ts)
	if mtime {
		in.putTime(inMtime, inMtimeX, ts)
	}
}

// addBlocks counts blocks of an inode. EFBIG.
func (t *tx) addBlocks(in *inode, d int64) error {
	t.mod(in.b)
	n := int64(in.u32(inBlocks))
	most := int64(1<<32 - 1)
	if in.s.ro(roHugeFile) {
		n |= int64(in.u16(inBlocksHi)) << 32
		most = 1<<48 - 1
		if in.flags()&flHugeFile == 0 {
			d <<= in.s.logBS - 9
		}
	} else {
		d <<= in.s.logBS - 9
	}
	if n += d; n > most {
		return abi.EFBIG
	}
	n = max(n, 0)
	le.PutUint32(in.raw[inBlocks:], uint32(n))
	if in.s.ro(roHugeFile) {
		le.PutUint16(in.raw[inBlocksHi:], uint16(n>>32))
	}
	return nil
}
