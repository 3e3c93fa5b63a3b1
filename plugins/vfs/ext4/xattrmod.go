package ext4

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

var _ vfsops.Xattrer = (*FS)(nil)

// xaLen is what attributes take: their entries, the end, and their values.
func xaLen(xs []xattr) int {
	n := 4
	for i := range xs {
		n += (xaEntry+len(xs[i].name)+3)&^3 + (len(xs[i].value)+3)&^3
	}
	return n
}

// putXattrs writes attributes into p, the first entry at byte from; values are at
// offsets from byte base. Preconditions: there is room.
func putXattrs(p []byte, from, base int, xs []xattr, hash bool) {
	clear(p[from:])
	end := len(p)
	for i := range xs {
		x := &xs[i]
		q := p[from:]
		q[0], q[1] = byte(len(x.name)), x.index
		le.PutUint32(q[4:], x.inum)
		le.PutUint32(q[8:], x.size)
		copy(q[xaEntry:], x.name)
		if n := len(x.value); n > 0 {
			end -= (n + 3) &^ 3
			copy(p[end:], x.value)
			le.PutUint16(q[2:], uint16(end-base))
		}
		if hash {
			le.PutUint32(q[12:], x.hash())
		}
		from += (xaEntry + len(x.name) + 3) &^ 3
	}
}

// hash is the hash of an entry of a block.
func (x *xattr) hash() uint32 {
	h := uint32(0)
	for _, c := range []byte(x.name) {
		h = h<<5 ^ h>>27 ^ uint32(c)
	}
	v := x.value
	for len(v) > 0 {
		var w [4]byte
		n := copy(w[:], v)
		v = v[n:]
		h = h<<16 ^ h>>16 ^ le.Uint32(w[:])
	}
	return h
}

// setXattr changes the attributes of an inode: a nil value takes one away. ENOSPC.
func (t *tx) setXattr(in *inode, index byte, name string, value []byte, flags uint32) error {
	body, err := t.bodyXattrs(in)
	if err != nil {
		return err
	}
	block, err := t.blockXattrs(in)
	if err != nil {
		return err
	}
	clone := func(xs []xattr) []xattr {
		for i := range xs {
			xs[i].value = bytes.Clone(xs[i].value)
		}
		return xs
	}
	body, block = clone(body), clone(block)
	is := func(x xattr) bool { return x.index == index && x.name == name }
	had := slices.ContainsFunc(body, is) || slices.ContainsFunc(block, is)
	switch {
	case had && flags&1 != 0:
		return abi.EEXIST
	case !had && (flags&2 != 0 || value == nil):
		return abi.ENODATA
	}
	nb, nk := slices.DeleteFunc(slices.Clone(body), is), slices.DeleteFunc(slices.Clone(block), is)
	room := 0
	if at := in.bodyAt(); at != 0 {
		room = len(in.raw) - at - 4
	}
	if value != nil {
		x := xattr{index: index, name: name, value: value, size: uint32(len(value))}
		if more := append(slices.Clone(nb), x); xaLen(more) <= room {
			nb = more
		} else if nk = append(nk, x); xaLen(nk) > int(t.f.s.bs)-xaHead {
			return abi.ENOSPC
		}
	}
	t.mod(in.b)
	if at := in.bodyAt(); at != 0 && (len(body) > 0 || len(nb) > 0) {
		clear(in.raw[at:])
		if len(nb) > 0 {
			le.PutUint32(in.raw[at:], xaMagic)
			putXattrs(in.raw, at+4, at+4, nb, false)
		}
	}
	if len(block) > 0 || len(nk) > 0 {
		if err := t.putXattrBlock(in, nk); err != nil {
			return err
		}
	}
	return nil
}

// putXattrBlock gives an inode a block of attributes, or none.
func (t *tx) putXattrBlock(in *inode, xs []xattr) error {
	b, err := t.xattrBlock(in)
	if err != nil {
		return err
	}
	if len(xs) == 0 {
		return t.dropXattrBlock(in)
	}
	if b != nil && le.Uint32(b.data[xaRefcount:]) > 1 {
		if err := t.dropXattrBlock(in); err != nil {
			return err
		}
		b = nil
	}
	if b == nil {
		if b, err = t.allocMeta(in, t.goalOf(in)); err != nil {
			return err
		}
		if b.n > in.s.hiMask() {
			return abi.ENOSPC
		}
		le.PutUint32(in.raw[inACL:], uint32(b.n))
		le.PutUint16(in.raw[inACLHi:], uint16(b.n>>32))
	}
	t.mod(b)
	clear(b.data)
	le.PutUint32(b.data, xaMagic)
	le.PutUint32(b.data[xaRefcount:], 1)
	le.PutUint32(b.data[xaBlocks:], 1)
	slices.SortStableFunc(xs, func(a, b xattr) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(len(a.name), len(b.name)), cmp.Compare(a.name, b.name))
	})
	putXattrs(b.data, xaHead, 0, xs, true)
	h := uint32(0)
	for i := range xs {
		eh := xs[i].hash()
		if eh == 0 {
			h = 0
			break
		}
		h = h<<16 ^ h>>16 ^ eh
	}
	le.PutUint32(b.data[xaHash:], h)
	t.sealXattr(b)
	return nil
}

func (t *tx) sealXattr(b *buf) {
	if t.f.s.csum() {
		le.PutUint32(b.data[xaCsum:], t.f.s.xattrCsum(b.n, b.data))
	}
	b.ok |= okXattr
}

// dropXattrBlock takes the block of attributes from an inode, and frees it if no
// other has it.
func (t *tx) dropXattrBlock(in *inode) error {
	b, err := t.xattrBlock(in)
	if err != nil || b == nil {
		return err
	}
	t.mod(in.b)
	le.PutUint32(in.raw[inACL:], 0)
	le.PutUint16(in.raw[inACLHi:], 0)
	if n := le.Uint32(b.data[xaRefcount:]); n > 1 {
		t.mod(b)
		le.PutUint32(b.data[xaRefcount:], n-1)
		t.sealXattr(b)
		return t.addBlocks(in, -1)
	}
	return t.freeMeta(in, b.n)
}

// Setxattr sets an extended attribute. EOPNOTSUPP: a name that has no place;
// E2BIG, ENOSPC.
func (f *FS) Setxattr(ctx context.Context, req vfsops.SetxattrReq) error {
	index, name, err := xaName(req.Name)
	if err != nil {
		return err
	}
	v := append([]byte{}, req.Value...)
	if index == 2 || index == 3 {
		if v, err = aclToDisk(v); err != nil {
			return err
		}
	}
	if len(v) > maxXattr {
		return abi.E2BIG
	}
	return f.xattrChange(ctx, &req.Op, req.Node, index, name, v, req.Flags)
}

// Removexattr takes an extended attribute away. ENODATA.
func (f *FS) Removexattr(ctx context.Context, op vfsops.Op, h abi.Handle, name []byte) error {
	index, rest, err := xaName(name)
	if err != nil {
		return err
	}
	return f.xattrChange(ctx, &op, h, index, rest, nil, 0)
}

func (f *FS) xattrChange(ctx context.Context, op *vfsops.Op, h abi.Handle, index byte, name string, v []byte, flags uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.change(ctx, op, func(t *tx) error {
		in, err := t.load(h)
		if err != nil {
			return err
		}
		if index == 7 && name == "data" {
			return abi.EPERM
		}
		if err := t.setXattr(in, index, name, v, flags); err != nil {
			return err
		}
		in.touch(op.Now, false)
		t.seal(in)
		if t.f.s.compat&compatExtAttr == 0 {
			sb, err := t.superBlock()
			if err != nil {
				return err
			}
			t.mod(sb.b)
			t.f.s.compat |= compatExtAttr
			le.PutUint32(sb.raw[sbCompat:], t.f.s.compat)
		}
		return nil
	})
}
