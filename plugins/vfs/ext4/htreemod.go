package ext4

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Changes of indexed directories.

// htSeal computes the checksum of a node.
func (t *tx) htSeal(dir *inode, x *htFrame) {
	if t.f.s.csum() {
		at := x.base + x.limit()*htEntry
		clear(x.b.data[at : at+4])
		le.PutUint32(x.b.data[at+4:], t.f.s.htCsum(dir, x))
	}
	x.b.ok |= okIndex
}

func (x *htFrame) setCount(n int) { le.PutUint16(x.b.data[x.base+2:], uint16(n)) }

// insert adds an entry behind the one at x.at.
func (x *htFrame) insert(hash, blk uint32) {
	p := x.b.data[x.base:]
	n, i := x.count(), x.at+1
	copy(p[(i+1)*htEntry:(n+1)*htEntry], p[i*htEntry:n*htEntry])
	le.PutUint32(p[i*htEntry:], hash)
	le.PutUint32(p[i*htEntry+4:], blk)
	x.setCount(n + 1)
}

// htMake makes an index of a directory of one block. ok is false if it cannot have
// one.
func (t *tx) htMake(dir *inode) (ok bool, err error) {
	s := t.f.s
	b, err := t.dirBlock(dir, 0)
	if err != nil {
		return false, err
	}
	dot, err := s.dentAt(b.data, 0, s.room())
	if err != nil || string(dot.name) != "." || dot.rec != need(1) {
		return false, nil
	}
	dotdot, err := s.dentAt(b.data, dot.rec, s.room())
	if err != nil || string(dotdot.name) != ".." {
		return false, nil
	}
	parent := dotdot.ino
	ents := s.ents(nil, b.data[dotdot.off+dotdot.rec:], s.room()-dotdot.off-dotdot.rec, s.defaultHash())
	leaf, l, err := t.grow(dir)
	if err != nil {
		return false, err
	}
	s.pack(leaf.data, ents)
	t.sealDir(dir, leaf)
	t.mod(b)
	p := b.data
	clear(p)
	s.putDent(p, need(1), dir.ino, []byte("."), abi.VDIR)
	s.putDent(p[need(1):], int(s.bs)-need(1), parent, []byte(".."), abi.VDIR)
	p[htInfo+4], p[htInfo+5] = s.defaultHash()%hashUnsigned, htInfoLen
	x := htFrame{b: b, base: htInfo + htInfoLen}
	x.setLimit(s)
	x.setCount(1)
	le.PutUint32(p[x.base+4:], l)
	b.ok &^= okDir
	t.htSeal(dir, &x)
	t.mod(dir.b)
	le.PutUint32(dir.raw[inFlags:], dir.flags()|flIndex)
	t.seal(dir)
	return true, nil
}

func (x *htFrame) setLimit(s *super) {
	n := (int(s.bs) - x.base) / htEntry
	if s.csum() {
		n--
	}
	le.PutUint16(x.b.data[x.base:], uint16(n))
}

// ent is an entry that is being moved.
type ent struct {
	hash uint32
	ino  uint32
	typ  byte
	name []byte
}

// ents are copies of the entries of a block.
func (s *super) ents(es []ent, p []byte, end int, version uint8) []ent {
	s.eachDent(p, end, func(d *dent) bool {
		h, _, _ := s.hashOf(version, d.name)
		es = append(es, ent{h, d.ino, d.typ, append([]byte(nil), d.name...)})
		return true
	})
	return es
}

// pack makes a block of entries.
func (s *super) pack(p []byte, es []ent) {
	s.newDirBlock(p)
	off := 0
	for i, e := range es {
		rec := need(len(e.name))
		if i == len(es)-1 {
			rec = s.room() - off
		}
		q := p[off:]
		le.PutUint32(q, e.ino)
		putRecLen(q, rec, int(s.bs))
		q[deName], q[deType] = byte(len(e.name)), e.typ
		copy(q[deHead:], e.name)
		off += rec
	}
}

// htAdd adds an entry to an indexed directory.
func (t *tx) htAdd(dir *inode, name []byte, ino uint32, typ abi.VType) error {
	s := t.f.s
	_, version, _, err := t.htRoot(dir)
	if err != nil {
		return err
	}
	hash, _, err := s.hashOf(version, name)
	if err != nil {
		return err
	}
	for range 16 {
		path, err := t.htPath(dir, hash)
		if err != nil {
			return err
		}
		leaf, _, err := t.htLeaf(dir, path)
		if err != nil {
			return err
		}
		if s.fits(leaf.data, need(len(name))) {
			t.mod(leaf)
			s.putIn(leaf.data, ino, name, typ)
			t.sealDir(dir, leaf)
			return nil
		}
		if k := len(path) - 1; path[k].count() < path[k].limit() {
			if err := t.htSplitLeaf(dir, &path[k], leaf, version); err != nil {
				return err
			}
			continue
		}
		if err := t.htSplitNode(dir, path); err != nil {
			return err
		}
	}
	return t.f.damage(fmt.Errorf("directory %d: no room for an entry: %w", dir.ino, abi.EIO), "inode", dir.ino)
}

// htSplitLeaf moves the entries of a leaf with the higher hashes to a new one.
func (t *tx) htSplitLeaf(dir *inode, up *htFrame, leaf *buf, version uint8) error {
	s := t.f.s
	es := s.ents(nil, leaf.data, s.room(), version)
	if len(es) < 2 {
		// One entry, and no room for another: what is empty is in pieces.
		t.mod(leaf)
		s.pack(leaf.data, es)
		t.sealDir(dir, leaf)
		return nil
	}
	slices.SortStableFunc(es, func(a, b ent) int { return cmp.Compare(a.hash, b.hash) })
	total := 0
	for _, e := range es {
		total += need(len(e.name))
	}
	cut, size := len(es), 0
	for cut > 1 && size+need(len(es[cut-1].name)) <= total/2 {
		cut--
		size += need(len(es[cut].name))
	}
	cut = min(max(cut, 1), len(es)-1)
	hash := es[cut].hash
	if es[cut-1].hash == hash {
		hash |= 1 // the hash goes on there
	}
	b, l, err := t.grow(dir)
	if err != nil {
		return err
	}
	t.mod(leaf)
	t.mod(up.b)
	s.pack(leaf.data, es[:cut])
	s.pack(b.data, es[cut:])
	t.sealDir(dir, leaf)
	t.sealDir(dir, b)
	up.insert(hash, l)
	t.htSeal(dir, up)
	return nil
}

// htSplitNode makes room in the nodes of a path: it splits the highest full one
// below one with room, or puts what is in the root into a node below it. ENOSPC:
// the index is as deep as can be.
func (t *tx) htSplitNode(dir *inode, path []htFrame) error {
	s := t.f.s
	k := len(path) - 1
	for k >= 0 && path[k].count() >= path[k].limit() {
		k--
	}
	if k < 0 {
		root := &path[0]
		if len(path)-1 >= s.maxLevels() {
			return fmt.Errorf("the index of directory %d is full: %w", dir.ino, abi.ENOSPC)
		}
		b, l, err := t.grow(dir)
		if err != nil {
			return err
		}
		t.mod(root.b)
		x := t.htNewNode(b, l)
		n := root.count()
		copy(b.data[x.base+4:], root.b.data[root.base+4:root.base+n*htEntry])
		x.setCount(n)
		t.htSeal(dir, &x)
		p := root.b.data
		clear(p[root.base+4 : root.base+n*htEntry])
		le.PutUint32(p[root.base+4:], l)
		root.setCount(1)
		p[htInfo+6]++
		t.htSeal(dir, root)
		return nil
	}
	up, x := &path[k], &path[k+1]
	b, l, err := t.grow(dir)
	if err != nil {
		return err
	}
	t.mod(up.b)
	t.mod(x.b)
	y := t.htNewNode(b, l)
	n := x.count()
	half := n / 2
	hash := x.hash(half)
	copy(b.data[y.base:], x.b.data[x.base+half*htEntry:x.base+n*htEntry])
	y.setLimit(s)
	y.setCount(n - half)
	clear(x.b.data[x.base+half*htEntry : x.base+n*htEntry])
	x.setCount(half)
	t.htSeal(dir, &y)
	t.htSeal(dir, x)
	up.insert(hash, l)
	t.htSeal(dir, up)
	return nil
}

// htNewNode makes an empty node of a new block.
func (t *tx) htNewNode(b *buf, l uint32) htFrame {
	clear(b.data)
	putRecLen(b.data, int(t.f.s.bs), int(t.f.s.bs))
	x := htFrame{b: b, lblk: l, base: htNode}
	x.setLimit(t.f.s)
	return x
}
