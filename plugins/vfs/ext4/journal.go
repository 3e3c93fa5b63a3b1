package ext4

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// The journal (JBD2): a file of blocks. Block 0 is its superblock; behind it are
// transactions: descriptors, which name the blocks that follow, those blocks,
// revocations, and a commit block. What has no commit block does not count. All
// numbers are big-endian.
const (
	jMagic      = 0xc03b3998
	jDescriptor = 1
	jCommit     = 2
	jSuperV1    = 3
	jSuperV2    = 4
	jRevoke     = 5
	jHead       = 12 // bytes of the header: magic, type, sequence

	jsBlockSize = 12
	jsMaxLen    = 16
	jsFirst     = 20
	jsSequence  = 24
	jsStart     = 28
	jsErrno     = 32
	jsCompat    = 36
	jsIncompat  = 40
	jsUUID      = 48
	jsCsumType  = 80
	jsFastLen   = 84
	jsCsum      = 0xfc
	jsLen       = 1024

	jCompatChecksum  = 1
	jIncompatRevoke  = 1
	jIncompat64bit   = 2
	jIncompatAsync   = 4
	jIncompatCsumV2  = 8
	jIncompatCsumV3  = 0x10
	jIncompatFast    = 0x20
	jIncompatKnown   = jIncompatRevoke | jIncompat64bit | jIncompatAsync | jIncompatCsumV2 | jIncompatCsumV3 | jIncompatFast
	jTagEscape       = 1
	jTagSameUUID     = 2
	jTagLast         = 8
	jCsumCRC32C      = 4
	jFastDefault     = 256
	jMinBlocks       = 1024
	jCommitCsum      = 16
	jCommitSec       = 48
	jCommitNsec      = 56
	jRevokeHead      = 16
	jDefaultLateSize = 8 << 20
)

var be = binary.BigEndian

// journal is the file system's journal. Protected by FS.mu.
type journal struct {
	f        *FS
	sb       []byte
	at       []uint64 // where its blocks are on the device
	first    uint32
	last     uint32 // behind the last block for transactions
	seq      uint32 // of the next transaction
	head     uint32 // where that goes
	incompat uint32
	seed     uint32
	late     map[uint64]*buf      // committed, and not at their places yet
	logged   map[uint64]overBlock // where the newest copy of a block in the journal is
}

// overBlock says where the journal has a block.
type overBlock struct {
	at     uint64
	escape bool
}

// openJournal finds the journal, and replays it: in memory if the device is not to
// be written.
func (f *FS) openJournal(ctx context.Context) error {
	s := f.s
	if s.compat&compatHasJournal == 0 {
		if s.has(incompatRecover) {
			return fmt.Errorf("it needs recovery but has no journal: %w", abi.EINVAL)
		}
		return nil
	}
	recover := s.has(incompatRecover)
	j, why, err := f.loadJournal(ctx)
	if err != nil {
		if !recover && f.readOnly {
			f.log("the journal is not looked at: " + err.Error())
			return nil
		}
		return fmt.Errorf("the journal: %w", err)
	}
	if why != "" && !f.readOnly {
		f.readOnly = true
		f.log("it can only be read", "because of", why)
	}
	if be.Uint32(j.sb[jsStart:]) != 0 {
		if j.incompat&jIncompatFast != 0 {
			return fmt.Errorf("the journal has fast commits (fast_commit) and needs recovery: %w", abi.EINVAL)
		}
		over, end, err := j.scan(ctx)
		if err != nil {
			return fmt.Errorf("the journal: %w", err)
		}
		f.log("the journal is replayed", "transactions", end-be.Uint32(j.sb[jsSequence:]), "blocks", len(over))
		f.c.over = over
		if !f.readOnly {
			if err := j.apply(ctx, over); err != nil {
				return fmt.Errorf("replay of the journal: %w", err)
			}
			f.c.over = nil
		}
		f.c.blks = map[uint64]*buf{}
		f.c.lru.Init()
		clear(f.groupOK)
		j.seq = end + 1
		if err := f.again(ctx); err != nil {
			return err
		}
	}
	if f.readOnly {
		return nil
	}
	if e := be.Uint32(j.sb[jsErrno:]); e != 0 {
		f.damaged = true
		be.PutUint32(j.sb[jsErrno:], 0)
	}
	return j.begin(ctx)
}

// again reads the superblock once more: the journal may have had it.
func (f *FS) again(ctx context.Context) error {
	sb, err := f.reader(ctx).superBlock()
	if err != nil {
		return err
	}
	s, err := parseSuper(sb.raw, f.geom.Size)
	if err != nil {
		return err
	}
	if s.bs != f.s.bs || s.blocks != f.s.blocks || s.inodes != f.s.inodes || s.descSize != f.s.descSize || s.inodeSize != f.s.inodeSize {
		return fmt.Errorf("the journal changes the layout: %w", abi.EIO)
	}
	why, err := s.gate()
	if err != nil {
		return err
	}
	if why != "" {
		f.readOnly = true
	}
	f.s = s
	return nil
}

// loadJournal reads the journal's superblock. why says what forbids to write to it.
func (f *FS) loadJournal(ctx context.Context) (j *journal, why string, err error) {
	s := f.s
	if s.journal == 0 || s.journalDev != 0 {
		return nil, "", fmt.Errorf("it is on another device: %w", abi.EINVAL)
	}
	t := f.reader(ctx)
	in, err := t.inode(s.journal)
	if err != nil {
		return nil, "", err
	}
	n := in.size() >> s.logBS
	if !in.isReg() || n < 8 || n > int64(s.blocks) || n > 1<<28 {
		return nil, "", fmt.Errorf("a file of %d blocks: %w", n, abi.EIO)
	}
	j = &journal{f: f, at: make([]uint64, 0, min(n, 1<<16)), late: map[uint64]*buf{}, logged: map[uint64]overBlock{}}
	for int64(len(j.at)) < n {
		e, err := t.part(in, uint32(len(j.at)))
		if err != nil {
			return nil, "", err
		}
		if e.pblk == 0 || e.unwritten {
			return nil, "", fmt.Errorf("block %d is missing: %w", len(j.at), abi.EIO)
		}
		for i := uint32(0); i < e.n && int64(len(j.at)) < n; i++ {
			j.at = append(j.at, e.pblk+uint64(i))
		}
	}
	blk := make([]byte, s.bs)
	if err := f.c.read(ctx, int64(j.at[0]), abi.IovOf(blk)); err != nil {
		return nil, "", err
	}
	j.sb = blk[:jsLen]
	typ, ln := be.Uint32(blk[4:]), be.Uint32(blk[jsMaxLen:])
	j.first, j.last = be.Uint32(blk[jsFirst:]), ln
	switch {
	case be.Uint32(blk) != jMagic || typ != jSuperV1 && typ != jSuperV2:
		return nil, "", fmt.Errorf("it has no superblock: %w", abi.EIO)
	case int64(be.Uint32(blk[jsBlockSize:])) != s.bs || ln < 8 || int64(ln) > n || j.first == 0 || j.first >= ln:
		return nil, "", fmt.Errorf("it has a wrong superblock: %w", abi.EIO)
	}
	if typ == jSuperV2 {
		j.incompat = be.Uint32(blk[jsIncompat:])
	} else {
		why = "a journal of version 1"
	}
	if bad := j.incompat &^ jIncompatKnown; bad != 0 {
		return nil, "", fmt.Errorf("it has unknown features %#x: %w", bad, abi.EINVAL)
	}
	if j.csums() {
		if blk[jsCsumType] != jCsumCRC32C || j.superCsum() != be.Uint32(blk[jsCsum:]) {
			return nil, "", fmt.Errorf("the checksum of its superblock is wrong: %w", abi.EIO)
		}
	}
	j.seed = crc32c(^uint32(0), blk[jsUUID:jsUUID+16])
	if j.incompat&jIncompatFast != 0 {
		k := be.Uint32(blk[jsFastLen:])
		if k == 0 {
			k = jFastDefault
		}
		if k >= j.last-j.first {
			return nil, "", fmt.Errorf("%d blocks for fast commits: %w", k, abi.EIO)
		}
		j.last -= k
	}
	if j.last-j.first < 64 {
		why = fmt.Sprintf("a journal of %d blocks", j.last)
	}
	j.seq, j.head = be.Uint32(blk[jsSequence:]), j.first
	return j, why, nil
}

// csums reports whether blocks of the journal have checksums of their own.
func (j *journal) csums() bool { return j.incompat&(jIncompatCsumV2|jIncompatCsumV3) != 0 }

func (j *journal) superCsum() uint32 {
	c := crc32c(^uint32(0), j.sb[:jsCsum])
	return crc32c(crc32c(c, []byte{0, 0, 0, 0}), j.sb[jsCsum+4:jsLen])
}

// tagLen is the length of an entry of a descriptor.
func (j *journal) tagLen() int {
	if j.incompat&jIncompatCsumV3 != 0 {
		return 16
	}
	n := 8
	if j.incompat&jIncompat64bit != 0 {
		n += 4
	}
	if j.incompat&jIncompatCsumV2 != 0 {
		n += 2
	}
	return n
}

// jtag is an entry of a descriptor.
type jtag struct {
	blk   uint64
	flags uint32
	csum  uint32
}

// tags reads a descriptor.
func (j *journal) tags(p []byte) []jtag {
	var out []jtag
	n := j.tagLen()
	end := len(p)
	if j.csums() {
		end -= 4
	}
	for off := jHead; off+n <= end; {
		q := p[off:]
		t := jtag{blk: uint64(be.Uint32(q))}
		if j.incompat&jIncompatCsumV3 != 0 {
			t.flags, t.csum = be.Uint32(q[4:]), be.Uint32(q[12:])
			if j.incompat&jIncompat64bit != 0 {
				t.blk |= uint64(be.Uint32(q[8:])) << 32
			}
		} else {
			t.csum, t.flags = uint32(be.Uint16(q[4:])), uint32(be.Uint16(q[6:]))
			if j.incompat&jIncompat64bit != 0 {
				t.blk |= uint64(be.Uint32(q[8:])) << 32
			}
		}
		out = append(out, t)
		off += n
		if t.flags&jTagSameUUID == 0 {
			off += 16
		}
		if t.flags&jTagLast != 0 {
			break
		}
	}
	return out
}

func (j *journal) tagCsum(seq uint32, p []byte) uint32 {
	var b [4]byte
	be.PutUint32(b[:], seq)
	c := crc32c(crc32c(j.seed, b[:]), p)
	if j.incompat&jIncompatCsumV3 == 0 {
		c &= 0xffff
	}
	return c
}

// tailCsum is the checksum at the end of descriptors and revocations.
func (j *journal) tailCsum(p []byte) uint32 {
	return crc32c(crc32c(j.seed, p[:len(p)-4]), []byte{0, 0, 0, 0})
}

func (j *journal) commitCsum(p []byte) uint32 {
	c := crc32c(j.seed, p[:jCommitCsum])
	return crc32c(crc32c(c, []byte{0, 0, 0, 0}), p[jCommitCsum+4:])
}

func (j *journal) next(n uint32) uint32 {
	if n++; n >= j.last {
		return j.first
	}
	return n
}

// scan reads the transactions that are to be replayed: where each block is that
// they have, and the sequence behind the last one. It stops where the first begins
// that is not whole.
func (j *journal) scan(ctx context.Context) (map[uint64]overBlock, uint32, error) {
	type entry struct {
		blk uint64
		seq uint32
		ob  overBlock
	}
	var all []entry
	revoked := map[uint64]uint32{}
	p := make([]byte, j.f.s.bs)
	read := func(n uint32) error { return j.f.c.read(ctx, int64(j.at[n]), abi.IovOf(p)) }
	pos, seq := be.Uint32(j.sb[jsStart:]), be.Uint32(j.sb[jsSequence:])
	if pos < j.first || pos >= j.last {
		return nil, 0, fmt.Errorf("it begins at block %d: %w", pos, abi.EIO)
	}
	var now []entry
	var revoking []uint64
	v1, sum := be.Uint32(j.sb[jsCompat:])&jCompatChecksum != 0 && !j.csums(), ^uint32(0)
	stop := func(why string) {
		j.f.log("the journal ends with a transaction that is not whole", "sequence", seq, "why", why)
	}
scan:
	for left := int64(j.last - j.first); left > 0; left-- {
		modapi.Tick(ctx)
		if err := read(pos); err != nil {
			return nil, 0, err
		}
		if be.Uint32(p) != jMagic || be.Uint32(p[8:]) != seq {
			break
		}
		pos = j.next(pos)
		switch be.Uint32(p[4:]) {
		case jDescriptor:
			if j.csums() && j.tailCsum(p) != be.Uint32(p[len(p)-4:]) {
				stop("a descriptor's checksum")
				break scan
			}
			if v1 {
				sum = crc32be(sum, p)
			}
			for _, t := range j.tags(p) {
				if left--; left <= 0 {
					break scan
				}
				if err := read(pos); err != nil {
					return nil, 0, err
				}
				if j.csums() && j.tagCsum(seq, p) != t.csum {
					stop("a block's checksum")
					break scan
				}
				if v1 {
					sum = crc32be(sum, p)
				}
				if t.blk >= j.f.s.blocks {
					return nil, 0, fmt.Errorf("it has block %d of %d: %w", t.blk, j.f.s.blocks, abi.EIO)
				}
				now = append(now, entry{t.blk, seq, overBlock{j.at[pos], t.flags&jTagEscape != 0}})
				pos = j.next(pos)
			}
		case jRevoke:
			if j.csums() && j.tailCsum(p) != be.Uint32(p[len(p)-4:]) {
				stop("the checksum of revocations")
				break scan
			}
			end, n := int(be.Uint32(p[jHead:])), 4
			if j.incompat&jIncompat64bit != 0 {
				n = 8
			}
			if end > len(p) {
				stop("revocations that are too many")
				break scan
			}
			for off := jRevokeHead; off+n <= end; off += n {
				blk := uint64(be.Uint32(p[off:]))
				if n == 8 {
					blk = be.Uint64(p[off:])
				}
				revoking = append(revoking, blk)
			}
		case jCommit:
			if j.csums() && j.commitCsum(p) != be.Uint32(p[jCommitCsum:]) {
				stop("the checksum of a commit")
				break scan
			}
			if v1 && p[jHead] == 1 && p[jHead+1] == 4 && be.Uint32(p[jCommitCsum:]) != sum {
				stop("the checksum of a transaction")
				break scan
			}
			all = append(all, now...)
			for _, blk := range revoking {
				revoked[blk] = seq
			}
			now, revoking, sum = now[:0], revoking[:0], ^uint32(0)
			seq++
		default:
			break scan
		}
	}
	over := map[uint64]overBlock{}
	for _, e := range all {
		if r, ok := revoked[e.blk]; ok && int32(e.seq-r) <= 0 {
			continue
		}
		over[e.blk] = e.ob
	}
	return over, seq, nil
}

// crc32be is the checksum of transactions of version 1: CRC-32, the highest bit
// first.
func crc32be(crc uint32, p []byte) uint32 {
	for _, b := range p {
		crc = crc<<8 ^ crcBE[byte(crc>>24)^b]
	}
	return crc
}

var crcBE = func() (t [256]uint32) {
	const poly = 0x04c11db7
	for i := range t {
		c := uint32(i) << 24
		for range 8 {
			if c&(1<<31) != 0 {
				c = c<<1 ^ poly
			} else {
				c <<= 1
			}
		}
		t[i] = c
	}
	return t
}()

// apply puts the blocks of a replay in their places, and empties the journal.
func (j *journal) apply(ctx context.Context, over map[uint64]overBlock) error {
	blks := make([]uint64, 0, len(over))
	for b := range over {
		blks = append(blks, b)
	}
	slices.Sort(blks)
	p := make([]byte, j.f.s.bs)
	for i, b := range blks {
		if i%64 == 0 {
			modapi.Tick(ctx)
		}
		if err := j.f.c.readOver(ctx, over[b], p); err != nil {
			return err
		}
		if err := transfer(ctx, j.f.dev, devops.BWrite|devops.BMeta, int64(b)*j.f.s.bs, abi.IovOf(p)); err != nil {
			return err
		}
	}
	return j.f.flushDev(ctx)
}

// begin makes the journal ready to be written: empty, with the features that the
// file system wants.
func (j *journal) begin(ctx context.Context) error {
	s := j.f.s
	j.incompat |= jIncompatRevoke
	if s.has(incompat64bit) {
		j.incompat |= jIncompat64bit
	}
	if s.csum() {
		j.incompat = j.incompat&^jIncompatCsumV2 | jIncompatCsumV3
		j.sb[jsCsumType] = jCsumCRC32C
	}
	j.incompat &^= jIncompatAsync
	be.PutUint32(j.sb[jsCompat:], be.Uint32(j.sb[jsCompat:])&^jCompatChecksum)
	be.PutUint32(j.sb[jsIncompat:], j.incompat)
	j.f.j = j
	if err := j.empty(ctx); err != nil {
		return err
	}
	return j.f.flushDev(ctx)
}

// empty says in the journal's superblock that there is nothing to replay.
func (j *journal) empty(ctx context.Context) error {
	j.head = j.first
	clear(j.logged)
	return j.writeSuper(ctx, 0)
}

func (j *journal) writeSuper(ctx context.Context, start uint32) error {
	be.PutUint32(j.sb[jsSequence:], j.seq)
	be.PutUint32(j.sb[jsStart:], start)
	if j.csums() {
		be.PutUint32(j.sb[jsCsum:], j.superCsum())
	}
	blk := make([]byte, j.f.s.bs)
	copy(blk, j.sb)
	return transfer(ctx, j.f.dev, devops.BWrite|devops.BMeta, int64(j.at[0])*j.f.s.bs, abi.IovOf(blk))
}

// sorted are the blocks of the running transaction in order.
func (f *FS) sorted() []*buf { return sortBufs(f.dirty) }

func sortBufs(m map[uint64]*buf) []*buf {
	bs := make([]*buf, 0, len(m))
	for _, b := range m {
		bs = append(bs, b)
	}
	slices.SortFunc(bs, func(a, b *buf) int { return cmp.Compare(a.n, b.n) })
	return bs
}

// writeHome gives the device blocks, in their order, adjacent ones together.
func (f *FS) writeHome(ctx context.Context, bs []*buf) error {
	for i := 0; i < len(bs); {
		var iov abi.Iov
		from := i
		for ; i < len(bs) && bs[i].n == bs[from].n+uint64(i-from) && int64(i-from+1)*f.s.bs <= devops.MaxPhys; i++ {
			iov = append(iov, bs[i].data)
		}
		if err := transfer(ctx, f.dev, devops.BWrite|devops.BMeta, int64(bs[from].n)*f.s.bs, iov); err != nil {
			return err
		}
	}
	return nil
}
