package ext4

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// An indexed directory: block 0 has the two dots and behind them the root of a
// tree, whose leaves are blocks of entries.
const (
	htInfo    = 24 // of the root: where its header is
	htInfoLen = 8
	htNode    = 8 // of other nodes: where their entries are, behind an empty entry of the whole block
	htEntry   = 8
	htTail    = 8
)

// htFrame is a node on the way to a leaf.
type htFrame struct {
	b    *buf
	lblk uint32
	base int // where its entries are
	at   int // the entry on the way
}

func (x *htFrame) limit() int         { return int(le.Uint16(x.b.data[x.base:])) }
func (x *htFrame) count() int         { return int(le.Uint16(x.b.data[x.base+2:])) }
func (x *htFrame) hash(i int) uint32  { return le.Uint32(x.b.data[x.base+i*htEntry:]) }
func (x *htFrame) block(i int) uint32 { return le.Uint32(x.b.data[x.base+i*htEntry+4:]) & 0x0fffffff }

// errNoIndex is for a directory whose index is of a kind that is not known: its
// blocks can be read without.
var errNoIndex = fmt.Errorf("an index of another kind: %w", abi.EIO)

// maxLevels is how many levels of nodes there can be below the root.
func (s *super) maxLevels() int {
	if s.has(incompatLargedir) {
		return 2
	}
	return 1
}

// htRoot reads the root of the index.
func (t *tx) htRoot(in *inode) (htFrame, uint8, int, error) {
	b, err := t.fileBlock(in, 0)
	if err != nil {
		return htFrame{}, 0, 0, err
	}
	p := b.data
	version, length, levels := p[htInfo+4], int(p[htInfo+5]), int(p[htInfo+6])
	if le.Uint32(p[htInfo:]) != 0 || length != htInfoLen || version > hashTEA {
		return htFrame{}, 0, 0, errNoIndex
	}
	if levels > t.f.s.maxLevels() {
		return htFrame{}, 0, 0, t.htBad(in, b, "a depth of %d", levels)
	}
	if t.f.s.unsigned {
		version += hashUnsigned
	}
	x := htFrame{b: b, base: htInfo + htInfoLen}
	return x, version, levels, t.htCheck(in, &x)
}

func (t *tx) htBad(in *inode, b *buf, format string, a ...any) error {
	return t.f.damage(fmt.Errorf("directory %d has an index with %s: %w", in.ino, fmt.Sprintf(format, a...), abi.EIO), "inode", in.ino, "block", b.n)
}

func (t *tx) htCheck(in *inode, x *htFrame) error {
	if x.b.ok&okIndex != 0 {
		return nil
	}
	s := t.f.s
	most := (int(s.bs) - x.base) / htEntry
	if s.csum() {
		most--
	}
	n, l := x.count(), x.limit()
	if l != most || n == 0 || n > l {
		return t.htBad(in, x.b, "%d of %d entries", n, l)
	}
	if s.csum() {
		if s.htCsum(in, x) != le.Uint32(x.b.data[x.base+l*htEntry+4:]) {
			return t.htBad(in, x.b, "a wrong checksum")
		}
	}
	if x.lblk != 0 && !s.looksIndex(x.b.data) {
		return t.htBad(in, x.b, "a node that is none")
	}
	x.b.ok |= okIndex
	return nil
}

// htCsum is the checksum of a node.
func (s *super) htCsum(in *inode, x *htFrame) uint32 {
	p := x.b.data
	tail := x.base + x.limit()*htEntry
	c := crc32c(s.inodeSeed(in.ino, in.gen()), p[:x.base+x.count()*htEntry])
	c = crc32c(c, p[tail:tail+4])
	return crc32c(c, []byte{0, 0, 0, 0})
}

// htPath finds the way to the leaf where a hash would be.
func (t *tx) htPath(in *inode, hash uint32) ([]htFrame, error) {
	x, _, levels, err := t.htRoot(in)
	if err != nil {
		return nil, err
	}
	path := make([]htFrame, 0, 4)
	for {
		lo, hi := 1, x.count()
		for lo < hi {
			if m := (lo + hi) / 2; x.hash(m) > hash {
				hi = m
			} else {
				lo = m + 1
			}
		}
		x.at = lo - 1
		path = append(path, x)
		if len(path) > levels {
			return path, nil
		}
		if x, err = t.htChild(in, &x); err != nil {
			return nil, err
		}
	}
}

func (t *tx) htChild(in *inode, x *htFrame) (htFrame, error) {
	n, err := t.dirBlocks(in)
	if err != nil {
		return htFrame{}, err
	}
	l := x.block(x.at)
	if l == 0 || l >= n {
		return htFrame{}, t.htBad(in, x.b, "block %d of %d", l, n)
	}
	b, err := t.fileBlock(in, l)
	if err != nil {
		return htFrame{}, err
	}
	c := htFrame{b: b, lblk: l, base: htNode}
	return c, t.htCheck(in, &c)
}

// htLeaf reads the leaf at the end of a path.
func (t *tx) htLeaf(in *inode, path []htFrame) (*buf, uint32, error) {
	x := &path[len(path)-1]
	l := x.block(x.at)
	n, err := t.dirBlocks(in)
	if err != nil {
		return nil, 0, err
	}
	if l == 0 || l >= n {
		return nil, 0, t.htBad(in, x.b, "block %d of %d", l, n)
	}
	b, err := t.dirBlock(in, l)
	return b, l, err
}

// htNext goes on to the next leaf, and answers the hash that it begins with; ok
// is false at the end.
func (t *tx) htNext(in *inode, path []htFrame) (hash uint32, ok bool, err error) {
	i := len(path) - 1
	for ; i >= 0 && path[i].at+1 >= path[i].count(); i-- {
	}
	if i < 0 {
		return 0, false, nil
	}
	path[i].at++
	hash = path[i].hash(path[i].at)
	for i++; i < len(path); i++ {
		if path[i], err = t.htChild(in, &path[i-1]); err != nil {
			return 0, false, err
		}
	}
	return hash, true, nil
}

// htFind looks for a name in an indexed directory.
func (t *tx) htFind(in *inode, name []byte) (found, error) {
	if isDot(name) {
		b, err := t.fileBlock(in, 0)
		if err != nil {
			return found{}, err
		}
		// The second one's entry goes on over the index, to the end of the block.
		off := 0
		if len(name) == 2 {
			off = need(1)
		}
		if d, err := t.f.s.dentAt(b.data, off, len(b.data)); err == nil && string(d.name) == string(name) {
			return found{d.ino, d.typ, b, 0, off}, nil
		}
		return found{}, t.htBad(in, b, "no dots")
	}
	_, version, _, err := t.htRoot(in)
	if err != nil {
		return found{}, err
	}
	hash, _, err := t.f.s.hashOf(version, name)
	if err != nil {
		return found{}, err
	}
	path, err := t.htPath(in, hash)
	if err != nil {
		return found{}, err
	}
	for {
		b, l, err := t.htLeaf(in, path)
		if err != nil {
			return found{}, err
		}
		if d, ok := t.f.s.findIn(b.data, name); ok {
			return found{d.ino, d.typ, b, l, d.off}, nil
		}
		next, ok, err := t.htNext(in, path)
		if err != nil {
			return found{}, err
		}
		if !ok || next&^1 != hash {
			return found{}, abi.ENOENT
		}
	}
}

// listed is an entry for readdir. Its key is its cookie: made of its hash and its
// name, so that it stays what it is wherever the entry is put.
type listed struct {
	key  uint64
	ino  uint32
	typ  byte
	name string
}

// keyOf is the cookie of a name: 31 bits of the hash, 32 of a checksum.
func (s *super) keyOf(version uint8, name []byte) uint64 {
	h, _, err := s.hashOf(version, name)
	if err != nil {
		h, _, _ = s.hashOf(hashHalfMD4, name)
	}
	return max(uint64(h>>1)<<32|uint64(crc32c(0, name)), 1)
}

// defaultHash is what directories without an index are listed by, and get.
func (s *super) defaultHash() uint8 {
	v := s.defHash
	if v > hashTEA {
		v = hashHalfMD4
	}
	if s.unsigned {
		v += hashUnsigned
	}
	return v
}

// listMost is how many entries one pass over a directory without index keeps.
const listMost = 4096

// list calls emit with entries behind a cookie, in order, until it answers false.
// Entries with the same cookie come together.
func (t *tx) list(in *inode, cookie uint64, emit func([]listed) bool) error {
	s := t.f.s
	if in.flags()&flIndex != 0 && s.compat&compatDirIndex != 0 && in.flags()&flInline == 0 {
		_, version, _, err := t.htRoot(in)
		if err == nil {
			return t.htList(in, version, cookie, emit)
		}
		if err != errNoIndex {
			return err
		}
	}
	version := s.defaultHash()
	ino := in.ino
	for {
		var ls []listed
		cut := false
		err := t.eachBlock(in, func(p []byte, end int) bool {
			ls = s.collect(ls, p, end, version, cookie)
			if len(ls) > 2*listMost {
				sortListed(ls)
				ls, cut = ls[:listMost], true
			}
			return true
		})
		if err != nil {
			return err
		}
		sortListed(ls)
		if len(ls) == 0 || !emitGroups(ls, emit) || !cut {
			return nil
		}
		cookie = ls[len(ls)-1].key
		if in, err = t.inode(ino); err != nil {
			return err
		}
	}
}

func (s *super) collect(ls []listed, p []byte, end int, version uint8, cookie uint64) []listed {
	s.eachDent(p, end, func(d *dent) bool {
		if !isDot(d.name) {
			if k := s.keyOf(version, d.name); k > cookie {
				ls = append(ls, listed{k, d.ino, d.typ, string(d.name)})
			}
		}
		return true
	})
	return ls
}

func sortListed(ls []listed) {
	slices.SortFunc(ls, func(a, b listed) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.name, b.name)) })
}

// emitGroups gives entries to emit, those with one key together.
func emitGroups(ls []listed, emit func([]listed) bool) bool {
	for i := 0; i < len(ls); {
		j := i + 1
		for j < len(ls) && ls[j].key == ls[i].key {
			j++
		}
		if !emit(ls[i:j]) {
			return false
		}
		i = j
	}
	return true
}

func (t *tx) htList(in *inode, version uint8, cookie uint64, emit func([]listed) bool) error {
	path, err := t.htPath(in, uint32(cookie>>32)<<1)
	if err != nil {
		return err
	}
	var ls []listed
	for n := 0; ; n++ {
		b, _, err := t.htLeaf(in, path)
		if err != nil {
			return err
		}
		ls = t.f.s.collect(ls, b.data, t.f.s.room(), version, cookie)
		next, more, err := t.htNext(in, path)
		if err != nil {
			return err
		}
		if more && next&1 != 0 && len(ls) < 1<<16 {
			continue // the same hash goes on there
		}
		sortListed(ls)
		if !emitGroups(ls, emit) || !more {
			return nil
		}
		if ls = ls[:0]; n > 1<<22 {
			return t.htBad(in, b, "a cycle")
		}
	}
}

// Readdir lists a directory in the order of its hashes. EINVAL if not even one
// entry fits in req.Max.
func (t *tx) readdir(in *inode, req *vfsops.ReaddirReq) (vfsops.ReaddirRes, error) {
	res := vfsops.ReaddirRes{EOF: true}
	room := min(req.Max, abi.MaxTransfer)
	var short error
	err := t.list(in, req.Cookie, func(ls []listed) bool {
		n := 0
		for _, l := range ls {
			n += 24 + len(l.name)
		}
		if n > room {
			res.EOF = false
			if len(res.Entries) > 0 {
				return false
			}
			// More names with one cookie than fit: what does is shown.
			for len(ls) > 0 && n > room {
				n -= 24 + len(ls[len(ls)-1].name)
				ls = ls[:len(ls)-1]
			}
			if len(ls) == 0 {
				short = abi.EINVAL
				return false
			}
		}
		room -= n
		for _, l := range ls {
			d := abi.Dirent{Fileid: abi.Fileid(l.ino), Cookie: l.key, Name: l.name}
			if int(l.typ) < len(deVTypes) {
				d.Type = deVTypes[l.typ]
			}
			res.Entries = append(res.Entries, d)
		}
		return true
	})
	if err == nil {
		err = short
	}
	return res, err
}
