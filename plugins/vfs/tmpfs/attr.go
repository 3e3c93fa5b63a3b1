package tmpfs

import (
	"context"
	"slices"
	"strings"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Setattr writes the attributes in req.Mask. The change time becomes Op.Now
// unless the mask has it; a new size sets the modification time likewise.
// Size is for regular files: EISDIR for directories, EINVAL for the rest and
// for a negative one; a fractional second outside 0..999999999 is EINVAL.
func (f *FS) Setattr(ctx context.Context, req vfsops.SetattrReq) (abi.Vattr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.get(ctx, req.Node)
	if err != nil {
		return abi.Vattr{}, err
	}
	has := func(bit abi.SetMask) bool { return req.Mask&bit != 0 }
	a := &req.Attr
	if has(abi.SetSize) {
		switch {
		case n.dir != nil:
			return abi.Vattr{}, abi.EISDIR
		case n.typ != abi.VREG, a.Size < 0:
			return abi.Vattr{}, abi.EINVAL
		}
	}
	times := []struct {
		bit      abi.SetMask
		from, to *abi.Timespec
	}{
		{abi.SetAtime, &a.Atime, &n.atime},
		{abi.SetMtime, &a.Mtime, &n.mtime},
		{abi.SetCtime, &a.Ctime, &n.ctime},
		{abi.SetBtime, &a.Btime, &n.btime},
	}
	for _, t := range times {
		if has(t.bit) && (t.from.Nsec < 0 || t.from.Nsec > 999999999) {
			return abi.Vattr{}, abi.EINVAL
		}
	}
	f.mark(n)
	if has(abi.SetMode) {
		n.mode = a.Mode & abi.ALLPERMS
	}
	if has(abi.SetUid) {
		n.uid = a.Uid
	}
	if has(abi.SetGid) {
		n.gid = a.Gid
	}
	if has(abi.SetFlags) {
		n.flags = a.Flags
	}
	if has(abi.SetSize) {
		n.size = a.Size
		n.mtime = req.Op.Now
	}
	if req.Mask != 0 {
		n.ctime = req.Op.Now
	}
	for _, t := range times {
		if has(t.bit) {
			*t.to = *t.from
		}
	}
	return n.attr(), nil
}

// Readlink is the text of a symbolic link; EINVAL for anything else.
func (f *FS) Readlink(ctx context.Context, h abi.Handle) ([]byte, error) {
	f.rlock()
	defer f.runlock()
	n, err := f.get(ctx, h)
	if err != nil {
		return nil, err
	}
	if n.typ != abi.VLNK {
		return nil, abi.EINVAL
	}
	return []byte(n.target()), nil
}

// Limits of extended attributes, those of Linux.
const (
	maxXattrValue = 64 << 10 // bytes of one value, else E2BIG
	maxXattrNames = 64 << 10 // bytes of Listxattr of one node, else ENOSPC
)

// xattr is an extended attribute.
type xattr struct {
	name  string
	value []byte
}

// cost is what x takes from the mount's space, in bytes.
func (x *xattr) cost() int64 { return int64(len(x.name) + len(x.value) + 40) }

// findXattr is where name is, or belongs.
func (n *node) findXattr(name string) (int, bool) {
	if n.extra == nil {
		return 0, false
	}
	return slices.BinarySearchFunc(n.extra.xattrs, name, func(x xattr, s string) int {
		return strings.Compare(x.name, s)
	})
}

// Getxattr is the value of an extended attribute; ENOATTR.
func (f *FS) Getxattr(ctx context.Context, h abi.Handle, name []byte) ([]byte, error) {
	f.rlock()
	defer f.runlock()
	n, err := f.get(ctx, h)
	if err != nil {
		return nil, err
	}
	if err := f.warmXattrs(ctx, n); err != nil {
		return nil, err
	}
	i, ok := n.findXattr(string(name))
	if !ok {
		return nil, abi.ENOATTR
	}
	return slices.Clone(n.extra.xattrs[i].value), nil
}

// Listxattr is the names in order, each ended by NUL.
func (f *FS) Listxattr(ctx context.Context, h abi.Handle) ([]byte, error) {
	f.rlock()
	defer f.runlock()
	n, err := f.get(ctx, h)
	if err == nil {
		err = f.warmXattrs(ctx, n)
	}
	if err != nil || n.extra == nil {
		return nil, err
	}
	var b []byte
	for _, x := range n.extra.xattrs {
		b = append(append(b, x.name...), 0)
	}
	return b, nil
}

// Setxattr sets an extended attribute. EEXIST and ENOATTR by the flags, E2BIG
// for a value over 64 KiB, ENAMETOOLONG for a name over 255 bytes, ENOSPC.
func (f *FS) Setxattr(ctx context.Context, req vfsops.SetxattrReq) error {
	name := string(req.Name)
	switch {
	case name == "" || strings.IndexByte(name, 0) >= 0,
		req.Flags&^(abi.XATTR_CREATE|abi.XATTR_REPLACE) != 0,
		req.Flags == abi.XATTR_CREATE|abi.XATTR_REPLACE:
		return abi.EINVAL
	case len(name) > abi.NAME_MAX:
		return abi.ENAMETOOLONG
	case len(req.Value) > maxXattrValue:
		return abi.E2BIG
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.get(ctx, req.Node)
	if err != nil {
		return err
	}
	if err := f.warmXattrs(ctx, n); err != nil {
		return err
	}
	i, found := n.findXattr(name)
	x := xattr{name, slices.Clone(req.Value)}
	more := x.cost()
	switch {
	case found && req.Flags&abi.XATTR_CREATE != 0:
		return abi.EEXIST
	case !found && req.Flags&abi.XATTR_REPLACE != 0:
		return abi.ENOATTR
	case found:
		more -= n.extra.xattrs[i].cost()
	default:
		names := len(name) + 1
		if n.extra != nil {
			for _, y := range n.extra.xattrs {
				names += len(y.name) + 1
			}
		}
		if names > maxXattrNames {
			return abi.ENOSPC
		}
	}
	// A budget of their own: the kernel takes pages well before it needs them.
	if more > 0 && f.xbytes+more > f.opt.pages*abi.PageSize {
		return abi.ENOSPC
	}
	e := n.ext()
	if found {
		e.xattrs[i] = x
	} else {
		e.xattrs = slices.Insert(e.xattrs, i, x)
	}
	f.changeXattr(n, name, more)
	n.ctime = req.Op.Now
	return nil
}

// Removexattr removes an extended attribute; ENOATTR.
func (f *FS) Removexattr(ctx context.Context, op vfsops.Op, h abi.Handle, name []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.get(ctx, h)
	if err != nil {
		return err
	}
	if err := f.warmXattrs(ctx, n); err != nil {
		return err
	}
	i, ok := n.findXattr(string(name))
	if !ok {
		return abi.ENOATTR
	}
	f.changeXattr(n, string(name), -n.extra.xattrs[i].cost())
	n.extra.xattrs = slices.Delete(n.extra.xattrs, i, i+1)
	n.ctime = op.Now
	return nil
}

// changeXattr counts more bytes of an extended attribute, and notes that it has
// changed.
func (f *FS) changeXattr(n *node, name string, more int64) {
	f.xbytes += more
	n.extra.xcost += more
	if f.st == nil {
		return
	}
	f.mark(n)
	if n.extra.xchanged == nil {
		n.extra.xchanged = make(map[string]struct{})
	}
	n.extra.xchanged[name] = struct{}{}
}
