package ext4

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Extended attributes are in what is left of an inode, and in one block.
const (
	xaMagic    = 0xea020000
	xaHead     = 32 // header of the block
	xaEntry    = 16 // an entry without its name
	xaRefcount = 4
	xaBlocks   = 8
	xaHash     = 12
	xaCsum     = 16
	maxXattr   = 64 << 10
)

// xaPrefixes are the prefixes of names that have a number.
var xaPrefixes = []struct {
	index byte
	name  string
}{
	{2, "system.posix_acl_access"}, {3, "system.posix_acl_default"}, {8, "system.richacl"},
	{1, "user."}, {4, "trusted."}, {6, "security."}, {7, "system."},
}

// xaName is what a name is on the disk. EOPNOTSUPP: it has none.
func xaName(name []byte) (byte, string, error) {
	s := string(name)
	for _, p := range xaPrefixes {
		switch {
		case !strings.HasSuffix(p.name, "."):
			if s == p.name {
				return p.index, "", nil
			}
		case strings.HasPrefix(s, p.name):
			if len(s) == len(p.name) || len(s)-len(p.name) > 255 {
				return 0, "", abi.EINVAL
			}
			return p.index, s[len(p.name):], nil
		}
	}
	return 0, "", fmt.Errorf("extended attribute %q: %w", s, abi.EOPNOTSUPP)
}

// xattr is one attribute as it is on the disk.
type xattr struct {
	index byte
	name  string
	value []byte
	size  uint32
	inum  uint32 // the inode that has the value
}

// full is the name that people use; "": none.
func (x *xattr) full() string {
	for _, p := range xaPrefixes {
		if p.index == x.index {
			return p.name + x.name
		}
	}
	return ""
}

// parseXattrs reads entries, of which the first is at byte from of p. Values are
// at offsets from byte base.
func parseXattrs(p []byte, from, base int) ([]xattr, error) {
	bad := func(what string, off int) error {
		return fmt.Errorf("an extended attribute with %s at byte %d: %w", what, off, abi.EIO)
	}
	var xs []xattr
	for off := from; ; {
		if off+4 > len(p) {
			return nil, bad("no end", off)
		}
		if le.Uint32(p[off:]) == 0 {
			return xs, nil
		}
		if off+xaEntry > len(p) {
			return nil, bad("no room", off)
		}
		n := int(p[off])
		x := xattr{index: p[off+1], inum: le.Uint32(p[off+4:]), size: le.Uint32(p[off+8:])}
		if off+xaEntry+n > len(p) {
			return nil, bad("a wrong name", off)
		}
		x.name = string(p[off+xaEntry : off+xaEntry+n])
		if at := base + int(le.Uint16(p[off+2:])); x.inum == 0 && x.size > 0 {
			if x.size > uint32(len(p)) || at < from || at+int(x.size) > len(p) {
				return nil, bad("a wrong value", off)
			}
			x.value = p[at : at+int(x.size)]
		} else if x.size > maxXattr {
			return nil, bad("a wrong size", off)
		}
		xs = append(xs, x)
		off += (xaEntry + n + 3) &^ 3
	}
}

// bodyAt is where the attributes in an inode begin; 0: there is no room.
func (in *inode) bodyAt() int {
	if len(in.raw) <= goodOld {
		return 0
	}
	at := goodOld + int(le.Uint16(in.raw[inExtra:]))
	if at == goodOld || at+8 > len(in.raw) {
		return 0
	}
	return at
}

// bodyXattrs are the attributes in the inode.
func (t *tx) bodyXattrs(in *inode) ([]xattr, error) {
	at := in.bodyAt()
	if at == 0 || le.Uint32(in.raw[at:]) != xaMagic {
		return nil, nil
	}
	xs, err := parseXattrs(in.raw[:], at+4, at+4)
	if err != nil {
		return nil, t.f.damage(fmt.Errorf("inode %d: %w", in.ino, err), "inode", in.ino, "block", in.b.n)
	}
	return xs, nil
}

// xattrBlock reads the block of attributes of an inode; nil: it has none.
func (t *tx) xattrBlock(in *inode) (*buf, error) {
	blk := in.acl()
	if blk == 0 {
		return nil, nil
	}
	bad := func(what string) error {
		return t.f.damage(fmt.Errorf("inode %d has extended attributes with %s: %w", in.ino, what, abi.EIO), "inode", in.ino, "block", blk)
	}
	if !t.f.s.inData(blk, 1) {
		return nil, bad("a wrong block")
	}
	b, err := t.get(blk)
	if err != nil || b.ok&okXattr != 0 {
		return b, err
	}
	if le.Uint32(b.data) != xaMagic || le.Uint32(b.data[xaBlocks:]) != 1 {
		return nil, bad("another magic number")
	}
	if t.f.s.csum() && t.f.s.xattrCsum(blk, b.data) != le.Uint32(b.data[xaCsum:]) {
		return nil, bad("a wrong checksum")
	}
	b.ok |= okXattr
	return b, nil
}

func (s *super) xattrCsum(blk uint64, p []byte) uint32 {
	var n [8]byte
	le.PutUint64(n[:], blk)
	c := crc32c(crc32c(s.seed, n[:]), p[:xaCsum])
	return crc32c(crc32c(c, []byte{0, 0, 0, 0}), p[xaCsum+4:])
}

// blockXattrs are the attributes in the block.
func (t *tx) blockXattrs(in *inode) ([]xattr, error) {
	b, err := t.xattrBlock(in)
	if err != nil || b == nil {
		return nil, err
	}
	xs, err := parseXattrs(b.data, xaHead, 0)
	if err != nil {
		return nil, t.f.damage(fmt.Errorf("inode %d: %w", in.ino, err), "inode", in.ino, "block", b.n)
	}
	return xs, nil
}

// xattrs are all attributes of an inode.
func (t *tx) xattrs(in *inode) ([]xattr, error) {
	a, err := t.bodyXattrs(in)
	if err != nil {
		return nil, err
	}
	b, err := t.blockXattrs(in)
	return append(a, b...), err
}

// xattr finds the value of an attribute. ENODATA.
func (t *tx) xattr(in *inode, index byte, name string) ([]byte, error) {
	xs, err := t.xattrs(in)
	if err != nil {
		return nil, err
	}
	for i := range xs {
		if xs[i].index == index && xs[i].name == name {
			return t.xattrValue(in, &xs[i])
		}
	}
	return nil, abi.ENODATA
}

func (t *tx) xattrValue(in *inode, x *xattr) ([]byte, error) {
	if x.inum == 0 {
		return bytes.Clone(x.value), nil
	}
	v, err := t.inode(x.inum)
	if err != nil || v.flags()&flEAInode == 0 || !v.isReg() || v.size() != int64(x.size) {
		return nil, t.f.damage(fmt.Errorf("inode %d has an extended attribute in inode %d: %w", in.ino, x.inum, abi.EIO), "inode", in.ino)
	}
	out := make([]byte, 0, int64(x.size)+t.f.s.bs)
	for i := uint32(0); int64(len(out)) < int64(x.size); i++ {
		b, err := t.fileBlock(v, i)
		if err != nil {
			return nil, err
		}
		out = append(out, b.data...)
	}
	return out[:x.size], nil
}

// inlineData is what an inode keeps itself: its first 60 bytes where others have
// the map of their blocks, the rest in an attribute.
func (t *tx) inlineData(in *inode) ([]byte, error) {
	p := bytes.Clone(in.block())
	x, err := t.xattr(in, 7, "data")
	if err != nil && err != abi.ENODATA {
		return nil, err
	}
	return append(p, x...), nil
}

// eachInline is eachBlock for a directory that has its entries in the inode.
func (t *tx) eachInline(in *inode, do func(p []byte, end int) bool) error {
	p, err := t.inlineData(in)
	if err != nil {
		return err
	}
	for _, part := range [][]byte{p[4:inBlockLen], p[inBlockLen:]} {
		for off := 0; off < len(part); {
			d, err := t.f.s.dentAt(part, off, len(part))
			if err != nil {
				return t.f.damage(fmt.Errorf("directory %d: %w", in.ino, err), "inode", in.ino)
			}
			off += d.rec
		}
		if len(part) > 0 && !do(part, len(part)) {
			return nil
		}
	}
	return nil
}

func (t *tx) inlineFind(in *inode, name []byte) (found, error) {
	var r found
	err := t.eachInline(in, func(p []byte, end int) bool {
		t.f.s.eachDent(p, end, func(d *dent) bool {
			if bytes.Equal(d.name, name) {
				r.ino, r.typ = d.ino, d.typ
			}
			return r.ino == 0
		})
		return r.ino == 0
	})
	if err == nil && r.ino == 0 {
		err = abi.ENOENT
	}
	return r, err
}

// POSIX ACLs have another form on the disk than in getxattr(2): version 1, and
// entries without an id where there is none. Tags that have one: user, group.
func aclFromDisk(p []byte) ([]byte, error) {
	if len(p) < 4 || le.Uint32(p) != 1 {
		return nil, fmt.Errorf("an access control list of version %d: %w", len(p), abi.EIO)
	}
	out := []byte{2, 0, 0, 0}
	for p = p[4:]; len(p) > 0; {
		if len(p) < 4 {
			return nil, abi.EIO
		}
		out = append(out, p[:4]...)
		if tag := le.Uint16(p); tag == 2 || tag == 8 {
			if len(p) < 8 {
				return nil, abi.EIO
			}
			out = append(out, p[4:8]...)
			p = p[8:]
			continue
		}
		out = append(out, 0xff, 0xff, 0xff, 0xff)
		p = p[4:]
	}
	return out, nil
}

// aclToDisk is the other way round. EINVAL.
func aclToDisk(p []byte) ([]byte, error) {
	if len(p) < 4 || le.Uint32(p) != 2 || len(p)%8 != 4 {
		return nil, abi.EINVAL
	}
	out := []byte{1, 0, 0, 0}
	for p = p[4:]; len(p) > 0; p = p[8:] {
		out = append(out, p[:4]...)
		switch le.Uint16(p) {
		case 2, 8:
			out = append(out, p[4:8]...)
		case 1, 4, 16, 32:
		default:
			return nil, abi.EINVAL
		}
	}
	return out, nil
}
