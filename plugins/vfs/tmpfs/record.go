package tmpfs

import (
	"encoding/binary"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// The records of a mount in its Store. Numbers in keys are big-endian, so that
// the order of the keys is that of the numbers; those in values are varints.
//
//	"s"                     the mount: counters
//	"n" fileid              a node
//	"d" fileid chunk        entries of a directory: those whose cookie is in
//	                        chunk<<chunkBits and the next
//	"x" fileid name         an extended attribute
//
// A node knows how many entries it has and whether it has extended attributes,
// which are read when somebody asks for them.
const (
	keySuper = 's'
	keyNode  = 'n'
	keyDir   = 'd'
	keyXattr = 'x'
)

// recordVersion is the version of the layout, in keySuper's record.
const recordVersion = 1

// chunkBits is how many bits of a cookie number the entries of a chunk. At
// most 64 entries of 255 bytes fit into one value.
const chunkBits = 6

// nodeKey is the key of a node, and of what begins with it.
func appendKey(b []byte, kind byte, id abi.Fileid) []byte {
	return binary.BigEndian.AppendUint64(append(b, kind), uint64(id))
}

func appendChunkKey(b []byte, id abi.Fileid, chunk uint64) []byte {
	return binary.BigEndian.AppendUint64(appendKey(b, keyDir, id), chunk)
}

// keyLen is the length of a node's key.
const keyLen = 9

// superblock are the counters of a mount.
type superblock struct {
	seq    abi.OpSeq
	root   abi.Fileid
	next   abi.Fileid
	names  int64
	live   int64
	xbytes int64
}

func (s *superblock) append(b []byte) []byte {
	b = append(b, recordVersion)
	for _, v := range [...]uint64{uint64(s.seq), uint64(s.root), uint64(s.next), uint64(s.names), uint64(s.live), uint64(s.xbytes)} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func (s *superblock) parse(b []byte) error {
	r := reader{b: b}
	if v := r.byte(); r.err == nil && v != recordVersion {
		return fmt.Errorf("tmpfs: records of version %d, not %d: %w", v, recordVersion, abi.EPROGMISMATCH)
	}
	s.seq = abi.OpSeq(r.uint())
	s.root = abi.Fileid(r.uint())
	s.next = abi.Fileid(r.uint())
	s.names = int64(r.uint())
	s.live = int64(r.uint())
	s.xbytes = int64(r.uint())
	return r.end("the mount")
}

// appendNode codes a node, without its entries and extended attributes.
func appendNode(b []byte, n *node) []byte {
	b = append(b, byte(n.typ))
	for _, v := range [...]uint32{uint32(n.gen), n.mode, n.nlink, n.uid, n.gid, n.flags, n.pins} {
		b = binary.AppendUvarint(b, uint64(v))
	}
	b = binary.AppendUvarint(b, uint64(n.size))
	b = appendTime(b, n.ctime)
	for _, t := range [...]abi.Timespec{n.mtime, n.atime, n.btime} {
		if t == n.ctime {
			b = append(b, 0)
		} else {
			b = appendTime(append(b, 1), t)
		}
	}
	switch n.typ {
	case abi.VDIR:
		b = binary.AppendUvarint(b, n.dir.last)
		b = binary.AppendUvarint(b, uint64(n.dir.len()))
	case abi.VBLK, abi.VCHR:
		b = binary.AppendUvarint(b, uint64(n.extra.rdev))
	case abi.VLNK:
		t := n.target()
		b = append(binary.AppendUvarint(b, uint64(len(t))), t...)
	}
	var cost int64
	if n.extra != nil {
		cost = n.extra.xcost
	}
	return binary.AppendUvarint(b, uint64(cost))
}

func appendTime(b []byte, t abi.Timespec) []byte {
	return binary.AppendUvarint(binary.AppendVarint(b, t.Sec), uint64(t.Nsec))
}

// parseNode makes the node of a record.
func parseNode(id abi.Fileid, b []byte) (*node, error) {
	r := reader{b: b}
	n := &node{fileid: id, typ: abi.VType(r.byte()), stored: true}
	for _, p := range [...]*uint32{(*uint32)(&n.gen), &n.mode, &n.nlink, &n.uid, &n.gid, &n.flags, &n.pins} {
		*p = uint32(r.uint())
	}
	n.size = int64(r.uint())
	n.ctime = r.time()
	for _, p := range [...]*abi.Timespec{&n.mtime, &n.atime, &n.btime} {
		*p = n.ctime
		if r.byte() != 0 {
			*p = r.time()
		}
	}
	switch n.typ {
	case abi.VREG, abi.VFIFO, abi.VSOCK:
	case abi.VDIR:
		n.dir = &dir{last: r.uint(), cold: int(r.uint())}
		if n.dir.cold < 0 {
			r.fail()
		}
	case abi.VBLK, abi.VCHR:
		n.extra = &extra{rdev: abi.Dev(r.uint())}
	case abi.VLNK:
		n.extra = &extra{target: string(r.bytes(r.uint()))}
	default:
		r.fail()
	}
	if cost := int64(r.uint()); cost > 0 {
		n.ext().xcost = cost
		n.extra.xcold = true
	}
	if n.size < 0 {
		r.fail()
	}
	return n, r.end("a node")
}

// appendEntry codes an entry of a chunk.
func appendEntry(b []byte, e *dirent) []byte {
	b = append(b, byte(e.cookie&(1<<chunkBits-1)), byte(e.typ))
	b = binary.AppendUvarint(b, uint64(e.id))
	b = append(b, byte(len(e.name)))
	return append(b, e.name...)
}

// parseChunk answers the entries of a chunk, at most one for each cookie, in
// order. They and their names are pieces of two allocations: a directory may
// have many.
func parseChunk(chunk uint64, b []byte) ([]dirent, error) {
	all := string(b)
	es := make([]dirent, 0, min(len(b)/minEntry, 1<<chunkBits))
	r := reader{b: b}
	for len(r.b) > 0 {
		var e dirent
		low := r.byte()
		e.typ = abi.VType(r.byte())
		e.id = abi.Fileid(r.uint())
		n := int(r.byte())
		at := len(b) - len(r.b)
		r.bytes(uint64(n))
		e.cookie = chunk<<chunkBits | uint64(low)
		if low >= 1<<chunkBits || e.id == 0 || n == 0 || len(es) > 0 && e.cookie <= es[len(es)-1].cookie {
			r.fail()
		}
		if r.err != nil {
			break
		}
		e.name = all[at : at+n]
		es = append(es, e)
	}
	return es, r.end("a directory")
}

// minEntry is how many bytes an entry takes at least.
const minEntry = 5

// reader decodes; its first error stays.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail() {
	r.b, r.err = nil, abi.EIO
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) time() (t abi.Timespec) {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return t
	}
	r.b = r.b[n:]
	t.Sec = v
	ns := r.uint()
	if ns > 999999999 {
		r.fail()
	}
	t.Nsec = int32(ns)
	return t
}

// end is the verdict on a record.
func (r *reader) end(what string) error {
	if r.err != nil || len(r.b) != 0 {
		return fmt.Errorf("tmpfs: the record of %s is damaged: %w", what, abi.EIO)
	}
	return nil
}
