package ext4

import (
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Changes of directories.

// newDirBlock makes a block of entries with none.
func (s *super) newDirBlock(p []byte) {
	clear(p)
	putRecLen(p, s.room(), int(s.bs))
	if s.csum() {
		q := p[s.room():]
		putRecLen(q, deTail, int(s.bs))
		q[deType] = deMark
	}
}

// sealDir computes the checksum of a block of entries.
func (t *tx) sealDir(in *inode, b *buf) {
	if t.f.s.csum() {
		le.PutUint32(b.data[t.f.s.room()+8:], t.f.s.dirCsum(in, b.data))
	}
	b.ok |= okDir
}

// putDent writes an entry.
func (s *super) putDent(p []byte, rec int, ino uint32, name []byte, typ abi.VType) {
	le.PutUint32(p, ino)
	putRecLen(p, rec, int(s.bs))
	p[deName], p[deType] = byte(len(name)), 0
	if s.has(incompatFiletype) {
		p[deType] = deTypes[typ]
	}
	copy(p[deHead:], name)
}

// putIn writes a new entry into a block, if there is room.
func (s *super) putIn(p []byte, ino uint32, name []byte, typ abi.VType) bool {
	want := need(len(name))
	end := s.room()
	for off := 0; off < end; {
		d, err := s.dentAt(p, off, end)
		if err != nil {
			return false
		}
		has := 0
		if d.ino != 0 {
			has = need(len(d.name))
		}
		if d.rec-has >= want {
			rec := d.rec
			if has > 0 {
				putRecLen(p[off:], has, int(s.bs))
				off, rec = off+has, rec-has
			}
			s.putDent(p[off:], rec, ino, name, typ)
			return true
		}
		off += d.rec
	}
	return false
}

// addName adds an entry that is not there. ENOSPC.
func (t *tx) addName(dir *inode, name []byte, ino uint32, typ abi.VType) error {
	if len(name) > abi.NAME_MAX {
		return abi.ENAMETOOLONG
	}
	if dir.flags()&flIndex != 0 && t.f.s.compat&compatDirIndex != 0 {
		return t.htAdd(dir, name, ino, typ)
	}
	n, err := t.dirBlocks(dir)
	if err != nil {
		return err
	}
	put := func(b *buf) bool {
		t.mod(b)
		if !t.f.s.putIn(b.data, ino, name, typ) {
			return false
		}
		t.sealDir(dir, b)
		return true
	}
	for i := range n {
		b, err := t.dirBlock(dir, i)
		if err != nil {
			return err
		}
		if t.f.s.fits(b.data, need(len(name))) && put(b) {
			return nil
		}
	}
	if n == 1 && t.f.s.compat&compatDirIndex != 0 {
		if ok, err := t.htMake(dir); err != nil {
			return err
		} else if ok {
			return t.htAdd(dir, name, ino, typ)
		}
	}
	if dir.flags()&flIndex != 0 {
		// The index is not kept up, as the feature is off.
		t.mod(dir.b)
		le.PutUint32(dir.raw[inFlags:], dir.flags()&^flIndex)
	}
	b, _, err := t.grow(dir)
	if err != nil {
		return err
	}
	t.f.s.newDirBlock(b.data)
	if !put(b) {
		return abi.EIO
	}
	return nil
}

// fits reports whether there is room for an entry in a block.
func (s *super) fits(p []byte, want int) bool {
	end := s.room()
	for off := 0; off < end; {
		d, err := s.dentAt(p, off, end)
		if err != nil {
			return false
		}
		has := 0
		if d.ino != 0 {
			has = need(len(d.name))
		}
		if d.rec-has >= want {
			return true
		}
		off += d.rec
	}
	return false
}

// dropName takes an entry away.
func (t *tx) dropName(dir *inode, r found) error {
	s := t.f.s
	t.mod(r.b)
	p := r.b.data
	end := s.room()
	for off, last := 0, -1; off < end; {
		d, err := s.dentAt(p, off, end)
		if err != nil {
			return t.f.damage(fmt.Errorf("directory %d: %w", dir.ino, err), "inode", dir.ino, "block", r.b.n)
		}
		if off == r.off {
			if last >= 0 {
				putRecLen(p[last:], off-last+d.rec, int(s.bs))
				clear(p[off : off+deHead+len(d.name)])
			} else {
				le.PutUint32(p[off:], 0)
			}
			t.sealDir(dir, r.b)
			return nil
		}
		last, off = off, off+d.rec
	}
	return t.f.damage(fmt.Errorf("directory %d: an entry is not where it was: %w", dir.ino, abi.EIO), "inode", dir.ino)
}

// pointName makes an entry lead to another inode.
func (t *tx) pointName(dir *inode, r found, ino uint32, typ abi.VType) {
	t.mod(r.b)
	p := r.b.data[r.off:]
	le.PutUint32(p, ino)
	if t.f.s.has(incompatFiletype) {
		p[deType] = deTypes[typ]
	}
	if r.lblk == 0 && dir.flags()&flIndex != 0 && t.f.s.compat&compatDirIndex != 0 {
		t.htSeal(dir, &htFrame{b: r.b, base: htInfo + htInfoLen})
		return
	}
	t.sealDir(dir, r.b)
}

// makeDir gives a new directory its first block.
func (t *tx) makeDir(in *inode, parent uint32) error {
	b, _, err := t.grow(in)
	if err != nil {
		return err
	}
	s := t.f.s
	s.newDirBlock(b.data)
	s.putDent(b.data, need(1), in.ino, []byte("."), abi.VDIR)
	s.putDent(b.data[need(1):], s.room()-need(1), parent, []byte(".."), abi.VDIR)
	t.sealDir(in, b)
	return nil
}

// maxLinks is how many links a file has at most.
const maxLinks = 65000

// addLink counts a directory in another. EMLINK.
func (t *tx) addLink(dir *inode) error {
	n := dir.links()
	switch {
	case n == 1 && t.f.s.ro(roDirNlink): // too many to be counted
		return nil
	case n+1 > maxLinks && t.f.s.ro(roDirNlink):
		n = 0
	case n+1 > maxLinks:
		return abi.EMLINK
	}
	t.mod(dir.b)
	dir.setLinks(n + 1)
	return nil
}

func (t *tx) dropLink(dir *inode) {
	if n := dir.links(); n > 2 {
		t.mod(dir.b)
		dir.setLinks(n - 1)
	}
}
