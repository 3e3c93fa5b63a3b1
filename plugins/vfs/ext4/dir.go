package ext4

import (
	"bytes"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Entries of directories: inode, length of the entry, length of the name, type,
// name.
const (
	deInode = 0
	deLen   = 4
	deName  = 6
	deType  = 7
	deHead  = 8
	deTail  = 12   // bytes of the entry that has the checksum
	deMark  = 0xde // its type
	deAlign = 4
)

// Types in entries, by abi.VType.
var deTypes = [...]byte{abi.VNON: 0, abi.VREG: 1, abi.VDIR: 2, abi.VCHR: 3, abi.VBLK: 4, abi.VFIFO: 5, abi.VSOCK: 6, abi.VLNK: 7, abi.VBAD: 0}

var deVTypes = [...]abi.VType{abi.VNON, abi.VREG, abi.VDIR, abi.VCHR, abi.VBLK, abi.VFIFO, abi.VSOCK, abi.VLNK}

// dent is an entry in a block. It is valid as long as the block is not changed.
type dent struct {
	off  int // in the block
	ino  uint32
	rec  int // length of the entry
	name []byte
	typ  byte
}

// need is the length of an entry with a name.
func need(n int) int { return (deHead + n + deAlign - 1) &^ (deAlign - 1) }

// recLen and putRecLen know that 64 KiB do not fit in 16 bits.
func recLen(p []byte, bs int) int {
	n := int(le.Uint16(p[deLen:]))
	if bs < 1<<16 {
		return n
	}
	if n == 0xffff || n == 0 {
		return bs
	}
	return n&0xfffc | n&3<<16
}

func putRecLen(p []byte, n, bs int) {
	if n >= 1<<16 {
		n = n&0xfffc | n>>16&3
		if n == 0 {
			n = 0xffff
		}
	}
	le.PutUint16(p[deLen:], uint16(n))
}

// dentAt reads the entry at a place of a directory's block, of which the first
// end bytes are entries. EIO.
func (s *super) dentAt(p []byte, off, end int) (dent, error) {
	bad := func(what string) (dent, error) {
		return dent{}, fmt.Errorf("an entry with %s at byte %d: %w", what, off, abi.EIO)
	}
	if off+deHead > end {
		return bad("no room")
	}
	d := dent{off: off, ino: le.Uint32(p[off:]), rec: recLen(p[off:], int(s.bs)), typ: p[off+deType]}
	n := int(p[off+deName])
	if !s.has(incompatFiletype) {
		n |= int(d.typ) << 8
		d.typ = 0
	}
	switch {
	case d.rec < deHead+4 && d.rec != deHead || d.rec%deAlign != 0 || off+d.rec > end:
		return bad("a wrong length")
	case n > 255 || deHead+n > d.rec:
		return bad("a wrong name")
	case d.ino > s.inodes:
		return bad("a wrong inode")
	}
	d.name = p[off+deHead : off+deHead+n]
	if d.ino != 0 && (n == 0 || bytes.IndexByte(d.name, 0) >= 0 || bytes.IndexByte(d.name, '/') >= 0) {
		return bad("a wrong name")
	}
	return d, nil
}

// room is how many bytes of a directory's block are for entries.
func (s *super) room() int {
	if s.csum() {
		return int(s.bs) - deTail
	}
	return int(s.bs)
}

// dirBlock reads a block of a directory that has entries, and checks it.
func (t *tx) dirBlock(in *inode, lblk uint32) (*buf, error) {
	b, err := t.fileBlock(in, lblk)
	if err != nil || b.ok&okDir != 0 {
		return b, err
	}
	if err := t.f.s.checkDir(in, b.data); err != nil {
		return nil, t.f.damage(fmt.Errorf("directory %d: %w", in.ino, err), "inode", in.ino, "block", b.n)
	}
	b.ok |= okDir
	return b, nil
}

func (s *super) checkDir(in *inode, p []byte) error {
	end := int(s.bs)
	if s.csum() {
		end -= deTail
		if q := p[end:]; le.Uint32(q) != 0 || recLen(q, int(s.bs)) != deTail || q[deName] != 0 || q[deType] != deMark {
			return fmt.Errorf("no checksum: %w", abi.EIO)
		}
		if s.dirCsum(in, p) != le.Uint32(p[end+8:]) {
			return fmt.Errorf("the checksum is wrong: %w", abi.EIO)
		}
	}
	for off := 0; off < end; {
		d, err := s.dentAt(p, off, end)
		if err != nil {
			return err
		}
		off += d.rec
	}
	return nil
}

func (s *super) dirCsum(in *inode, p []byte) uint32 {
	return crc32c(s.inodeSeed(in.ino, in.gen()), p[:len(p)-deTail])
}

// eachDent calls do with every entry in use in a block that was checked, until it
// answers false.
func (s *super) eachDent(p []byte, end int, do func(d *dent) bool) {
	for off := 0; off < end; {
		d, err := s.dentAt(p, off, end)
		if err != nil {
			return
		}
		if d.ino != 0 && !do(&d) {
			return
		}
		off += d.rec
	}
}

// findIn looks for a name in a block.
func (s *super) findIn(p []byte, name []byte) (dent, bool) {
	end := s.room()
	for off := 0; off+deHead <= end; {
		rec := recLen(p[off:], int(s.bs))
		if int(p[off+deName]) == len(name) && le.Uint32(p[off:]) != 0 && off+deHead+len(name) <= end && string(p[off+deHead:off+deHead+len(name)]) == string(name) {
			if d, err := s.dentAt(p, off, end); err == nil {
				return d, true
			}
		}
		if rec < deHead {
			break
		}
		off += rec
	}
	return dent{}, false
}

// dirBlocks is how many blocks a directory has. EIO.
func (t *tx) dirBlocks(in *inode) (uint32, error) {
	n := (in.size() + t.f.s.bs - 1) >> t.f.s.logBS
	if n > 1<<31 || n > int64(t.f.s.blocks) || in.size()&(t.f.s.bs-1) != 0 {
		return 0, t.f.damage(fmt.Errorf("directory %d has %d bytes: %w", in.ino, in.size(), abi.EIO), "inode", in.ino)
	}
	return uint32(n), nil
}

// found is where a name is.
type found struct {
	ino  uint32
	typ  byte
	b    *buf // the block
	lblk uint32
	off  int
}

// find looks for a name in a directory. ENOENT.
func (t *tx) find(in *inode, name []byte) (found, error) {
	if in.flags()&flInline != 0 {
		return t.inlineFind(in, name)
	}
	if in.flags()&flIndex != 0 && t.f.s.compat&compatDirIndex != 0 {
		return t.htFind(in, name)
	}
	n, err := t.dirBlocks(in)
	if err != nil {
		return found{}, err
	}
	for i := range n {
		if i%1024 == 1023 {
			t.trim()
		}
		b, err := t.dirBlock(in, i)
		if err != nil {
			return found{}, err
		}
		if d, ok := t.f.s.findIn(b.data, name); ok {
			return found{d.ino, d.typ, b, i, d.off}, nil
		}
	}
	return found{}, abi.ENOENT
}

// isDot reports whether a name is one of the two that are not listed.
func isDot(name []byte) bool {
	return len(name) == 1 && name[0] == '.' || len(name) == 2 && name[0] == '.' && name[1] == '.'
}

// empty reports whether a directory has no entries but its dots.
func (t *tx) empty(in *inode) (bool, error) {
	some := false
	err := t.eachBlock(in, func(p []byte, end int) bool {
		t.f.s.eachDent(p, end, func(d *dent) bool {
			some = !isDot(d.name)
			return !some
		})
		return !some
	})
	return !some, err
}

// eachBlock calls do with the blocks of a directory that have entries, until it
// answers false.
func (t *tx) eachBlock(in *inode, do func(p []byte, end int) bool) error {
	if in.flags()&flInline != 0 {
		return t.eachInline(in, do)
	}
	ino := in.ino
	n, err := t.dirBlocks(in)
	if err != nil {
		return err
	}
	index := in.flags()&flIndex != 0 && t.f.s.compat&compatDirIndex != 0
	for i := range n {
		if i%256 == 255 && t.op == nil {
			t.trim()
			if in, err = t.inode(ino); err != nil {
				return err
			}
		}
		if index {
			b, err := t.fileBlock(in, i)
			if err != nil {
				return err
			}
			if i == 0 || b.ok&okIndex != 0 || t.f.s.looksIndex(b.data) {
				if i == 0 && !do(b.data[:24], 24) {
					return nil
				}
				continue
			}
		}
		b, err := t.dirBlock(in, i)
		if err != nil {
			return err
		}
		if !do(b.data, t.f.s.room()) {
			return nil
		}
	}
	return nil
}

// looksIndex reports whether a block of an indexed directory has no entries: one
// empty entry is all of it.
func (s *super) looksIndex(p []byte) bool {
	return le.Uint32(p) == 0 && recLen(p, int(s.bs)) == int(s.bs)
}
