package modproxy

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// mutated waits for a mutator and checks what it answers. node is the node it
// is about, zero for one that is made; types are those that one may have.
func (f *fs) mutated(ctx context.Context, k *stream.Call, node, dir, dir2, victim abi.Handle, made abi.VType) (vfsops.Mutated, error) {
	defer k.Release()
	var none vfsops.Mutated
	if err := f.l.call(ctx, k); err != nil {
		return none, err
	}
	op := k.Header.Op.String()
	var r wire.Mutated
	if err := f.l.parse(k, &r); err != nil {
		return none, err
	}
	if r.Node != (vfsops.Entry{}) {
		s := entryFault(&r.Node, f.id)
		switch {
		case s != "":
		case made != abi.VNON && r.Node.Vattr.Type != made:
			s = "type " + r.Node.Vattr.Type.String()
		case made == abi.VNON && r.Node.Handle != node:
			s = "another file"
		}
		if s != "" {
			return none, f.l.lie("%s: node: %s", op, s)
		}
	} else if made != abi.VNON {
		return none, f.l.lie("%s: no node", op)
	}
	if err := f.dirVattr(&r.Dir, dir, op); err != nil {
		return none, err
	}
	if err := f.dirVattr(&r.Dir2, dir2, op); err != nil {
		return none, err
	}
	if r.Victim != (abi.Vattr{}) {
		if err := f.vattr(&r.Victim, victim, op); err != nil {
			return none, err
		}
	}
	return vfsops.Mutated(r), nil
}

var zero abi.Handle

// Create makes a regular file.
func (f *fs) Create(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return f.create(ctx, wire.OpCreate, &req, abi.VREG)
}

// Mkdir makes a directory.
func (f *fs) Mkdir(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return f.create(ctx, wire.OpMkdir, &req, abi.VDIR)
}

func (f *fs) create(ctx context.Context, op wire.Op, req *vfsops.CreateReq, t abi.VType) (vfsops.Mutated, error) {
	if !f.has(vfsops.HasCreator) {
		return vfsops.Mutated{}, abi.EROFS
	}
	k := f.start(op, req.Op.Seq)
	k.Args = (*wire.CreateReq)(req).Append(k.Args)
	return f.mutated(ctx, k, zero, req.Dir, zero, zero, t)
}

// Mknod makes a special file.
func (f *fs) Mknod(ctx context.Context, req vfsops.MknodReq) (vfsops.Mutated, error) {
	if !f.has(vfsops.HasMknoder) {
		return vfsops.Mutated{}, abi.EROFS
	}
	k := f.start(wire.OpMknod, req.Op.Seq)
	k.Args = (*wire.MknodReq)(&req).Append(k.Args)
	return f.mutated(ctx, k, zero, req.Dir, zero, zero, req.Type)
}

// Symlink makes a symbolic link.
func (f *fs) Symlink(ctx context.Context, req vfsops.SymlinkReq) (vfsops.Mutated, error) {
	if !f.has(vfsops.HasSymlinker) {
		return vfsops.Mutated{}, abi.EROFS
	}
	k := f.start(wire.OpSymlink, req.Op.Seq)
	k.Args = (*wire.SymlinkReq)(&req).Append(k.Args)
	return f.mutated(ctx, k, zero, req.Dir, zero, zero, abi.VLNK)
}

// Link gives a file another name.
func (f *fs) Link(ctx context.Context, req vfsops.LinkReq) (vfsops.Mutated, error) {
	if !f.has(vfsops.HasLinker) {
		return vfsops.Mutated{}, abi.EROFS
	}
	k := f.start(wire.OpLink, req.Op.Seq)
	k.Args = (*wire.LinkReq)(&req).Append(k.Args)
	return f.mutated(ctx, k, req.Node, req.Dir, zero, zero, abi.VNON)
}

// Remove removes a name of a file.
func (f *fs) Remove(ctx context.Context, req vfsops.RemoveReq) (vfsops.Mutated, error) {
	return f.remove(ctx, wire.OpRemove, &req)
}

// Rmdir removes a directory.
func (f *fs) Rmdir(ctx context.Context, req vfsops.RemoveReq) (vfsops.Mutated, error) {
	return f.remove(ctx, wire.OpRmdir, &req)
}

func (f *fs) remove(ctx context.Context, op wire.Op, req *vfsops.RemoveReq) (vfsops.Mutated, error) {
	if !f.has(vfsops.HasRemover) {
		return vfsops.Mutated{}, abi.EROFS
	}
	k := f.start(op, req.Op.Seq)
	k.Args = (*wire.RemoveReq)(req).Append(k.Args)
	return f.mutated(ctx, k, req.Victim, req.Dir, zero, req.Victim, abi.VNON)
}

// Rename renames.
func (f *fs) Rename(ctx context.Context, req vfsops.RenameReq) (vfsops.Mutated, error) {
	if !f.has(vfsops.HasRenamer) {
		return vfsops.Mutated{}, abi.EROFS
	}
	k := f.start(wire.OpRename, req.Op.Seq)
	k.Args = (*wire.RenameReq)(&req).Append(k.Args)
	return f.mutated(ctx, k, req.From, req.FDir, req.TDir, req.To, abi.VNON)
}

// Setattr changes attributes.
func (f *fs) Setattr(ctx context.Context, req vfsops.SetattrReq) (abi.Vattr, error) {
	if !f.has(vfsops.HasSetattrer) {
		return abi.Vattr{}, abi.EROFS
	}
	k := f.start(wire.OpSetattr, req.Op.Seq)
	defer k.Release()
	k.Args = (*wire.SetattrReq)(&req).Append(k.Args)
	if err := f.l.call(ctx, k); err != nil {
		return abi.Vattr{}, err
	}
	return f.attrs(k, req.Node)
}

// Write writes to a file: at most wire.MaxPayload bytes, the rest is for the
// caller to write.
func (f *fs) Write(ctx context.Context, req vfsops.WriteReq, src abi.Iov) (vfsops.WriteRes, error) {
	var none vfsops.WriteRes
	if !f.has(vfsops.HasWriter) {
		return none, abi.EROFS
	}
	if src.Len() > wire.MaxPayload {
		src = src.Slice(0, wire.MaxPayload)
	}
	k := f.start(wire.OpWrite, req.Op.Seq)
	defer k.Release()
	k.Args = (&wire.WriteReq{WriteReq: req}).Append(k.Args)
	k.Payload = src
	if err := f.l.call(ctx, k); err != nil {
		return none, err
	}
	var r wire.WriteRes
	if err := f.l.parse(k, &r); err != nil {
		return none, err
	}
	if r.N < 0 || r.N > src.Len() || r.Off < 0 || !req.Append && r.Off != req.Off {
		return none, f.l.lie("write: %d of %d bytes at %d", r.N, src.Len(), r.Off)
	}
	if err := f.vattr(&r.Vattr, req.Node, "write"); err != nil {
		return none, err
	}
	return vfsops.WriteRes(r), nil
}

// Truncate changes the size of a file.
func (f *fs) Truncate(ctx context.Context, op vfsops.Op, h abi.Handle, size int64) (abi.Vattr, error) {
	if !f.has(vfsops.HasTruncater) {
		return abi.Vattr{}, abi.EROFS
	}
	k := f.start(wire.OpTruncate, op.Seq)
	defer k.Release()
	k.Args = (&wire.TruncateReq{Op: op, Node: h, Size: size}).Append(k.Args)
	if err := f.l.call(ctx, k); err != nil {
		return abi.Vattr{}, err
	}
	return f.attrs(k, h)
}

// Fallocate allocates or frees space of a file.
func (f *fs) Fallocate(ctx context.Context, op vfsops.Op, h abi.Handle, off, n int64, punch bool) (abi.Vattr, error) {
	if !f.has(vfsops.HasFallocater) {
		return abi.Vattr{}, abi.EOPNOTSUPP
	}
	k := f.start(wire.OpFallocate, op.Seq)
	defer k.Release()
	k.Args = (&wire.FallocReq{Op: op, Node: h, Off: off, N: n, Punch: punch}).Append(k.Args)
	if err := f.l.call(ctx, k); err != nil {
		return abi.Vattr{}, err
	}
	return f.attrs(k, h)
}

// bytes answers a copy of what a node request got.
func (f *fs) bytes(ctx context.Context, op wire.Op, h abi.Handle, room int) ([]byte, error) {
	k, err := f.node(ctx, op, h, room)
	defer k.Release()
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), k.Got()...), nil
}

// maxLink bounds the text of a symbolic link, in bytes.
const maxLink = 1023

// Readlink reads a symbolic link.
func (f *fs) Readlink(ctx context.Context, h abi.Handle) ([]byte, error) {
	if !f.has(vfsops.HasReadlinker) {
		return nil, abi.EINVAL
	}
	b, err := f.bytes(ctx, wire.OpReadlink, h, maxLink)
	if err != nil {
		return nil, err
	}
	for _, c := range b {
		if c == 0 {
			return nil, f.l.lie("readlink: NUL in the text")
		}
	}
	return b, nil
}

// Getxattr reads an extended attribute.
func (f *fs) Getxattr(ctx context.Context, h abi.Handle, name []byte) ([]byte, error) {
	if !f.has(vfsops.HasXattrer) {
		return nil, abi.EOPNOTSUPP
	}
	k := f.start(wire.OpGetxattr, 0)
	defer k.Release()
	k.Args = (&wire.XattrReq{Node: h, Name: name}).Append(k.Args)
	k.Scratch(wire.MaxXattr)
	if err := f.l.call(ctx, k); err != nil {
		return nil, err
	}
	return append([]byte(nil), k.Got()...), nil
}

// Listxattr lists the names of extended attributes.
func (f *fs) Listxattr(ctx context.Context, h abi.Handle) ([]byte, error) {
	if !f.has(vfsops.HasXattrer) {
		return nil, abi.EOPNOTSUPP
	}
	b, err := f.bytes(ctx, wire.OpListxattr, h, wire.MaxXattr)
	if err == nil && len(b) > 0 && b[len(b)-1] != 0 {
		return nil, f.l.lie("listxattr: the last name has no end")
	}
	return b, err
}

// Setxattr sets an extended attribute.
func (f *fs) Setxattr(ctx context.Context, req vfsops.SetxattrReq) error {
	if !f.has(vfsops.HasXattrer) {
		return abi.EOPNOTSUPP
	}
	if len(req.Value) > wire.MaxXattr {
		return fmt.Errorf("value of %d bytes: %w", len(req.Value), abi.E2BIG)
	}
	k := f.start(wire.OpSetxattr, req.Op.Seq)
	defer k.Release()
	k.Args = (*wire.SetxattrReq)(&req).Append(k.Args)
	k.SetPayload(req.Value)
	return f.l.call(ctx, k)
}

// Removexattr removes an extended attribute.
func (f *fs) Removexattr(ctx context.Context, op vfsops.Op, h abi.Handle, name []byte) error {
	if !f.has(vfsops.HasXattrer) {
		return abi.EOPNOTSUPP
	}
	k := f.start(wire.OpRemovexattr, op.Seq)
	defer k.Release()
	k.Args = (&wire.XattrReq{Op: op, Node: h, Name: name}).Append(k.Args)
	return f.l.call(ctx, k)
}

// ReadPages reads whole pages.
func (f *fs) ReadPages(ctx context.Context, h abi.Handle, off int64, dst abi.Iov) error {
	if !f.has(vfsops.HasPager) {
		return abi.EOPNOTSUPP
	}
	n, err := f.read(ctx, wire.OpReadPages, h, off, dst)
	if err == nil && n != dst.Len() {
		return f.l.lie("readpages: %d bytes of %d", n, dst.Len())
	}
	return err
}

// WritePages writes whole pages, in several messages if need be.
func (f *fs) WritePages(ctx context.Context, op vfsops.Op, h abi.Handle, off int64, src abi.Iov, size int64) error {
	if !f.has(vfsops.HasPager) {
		return abi.EOPNOTSUPP
	}
	total := src.Len()
	for done := 0; done < total; done += wire.MaxPayload {
		k := f.start(wire.OpWritePages, op.Seq)
		k.Args = (&wire.WritePagesReq{Op: op, Node: h, Off: off + int64(done), Size: size}).Append(k.Args)
		k.Payload = src
		if total > wire.MaxPayload {
			k.Payload = src.Slice(done, wire.MaxPayload)
		}
		err := f.l.call(ctx, k)
		k.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// Pin keeps a node alive without a name.
func (f *fs) Pin(ctx context.Context, h abi.Handle) error {
	return f.pin(ctx, wire.OpPin, h)
}

// Unpin lets it go.
func (f *fs) Unpin(ctx context.Context, h abi.Handle) error {
	return f.pin(ctx, wire.OpUnpin, h)
}

func (f *fs) pin(ctx context.Context, op wire.Op, h abi.Handle) error {
	if !f.has(vfsops.HasPinner) {
		return abi.EBUSY
	}
	k, err := f.node(ctx, op, h, 0)
	k.Release()
	return err
}

// UnpinAll lets several nodes go with one doorbell. The error is the first.
// kernel/vfs finds it by its name.
func (f *fs) UnpinAll(ctx context.Context, hs []abi.Handle) error {
	if !f.has(vfsops.HasPinner) {
		return abi.EBUSY
	}
	ks := make([]*stream.Call, len(hs))
	for i, h := range hs {
		ks[i] = f.start(wire.OpUnpin, 0)
		ks[i].Args = (&wire.HandleReq{Node: h}).Append(ks[i].Args)
	}
	return f.l.batch(ctx, ks)
}

// Reclaim tells the component which nodes the kernel has forgotten: as many as
// there are, in messages that go with one doorbell.
func (f *fs) Reclaim(ctx context.Context, hs []abi.Handle) error {
	if !f.has(vfsops.HasReclaimer) {
		return nil
	}
	var ks []*stream.Call
	for len(hs) > 0 {
		n := min(len(hs), wire.MaxHandles)
		k := f.start(wire.OpReclaim, 0)
		k.Args = (&wire.HandlesReq{Nodes: hs[:n]}).Append(k.Args)
		ks = append(ks, k)
		hs = hs[n:]
	}
	return f.l.batch(ctx, ks)
}

// Reserve takes or gives back pages.
func (f *fs) Reserve(ctx context.Context, pages int64) (int64, error) {
	if !f.has(vfsops.HasReserver) {
		return pages, nil
	}
	k := f.start(wire.OpReserve, 0)
	defer k.Release()
	k.Args = (&wire.NumReq{N: pages}).Append(k.Args)
	if err := f.l.call(ctx, k); err != nil {
		return 0, err
	}
	var r wire.NumRes
	if err := f.l.parse(k, &r); err != nil {
		return 0, err
	}
	if pages > 0 && (r.N < 0 || r.N > pages) {
		return 0, f.l.lie("reserve: %d of %d pages", r.N, pages)
	}
	return r.N, nil
}

// Checkpoint makes the component write what has changed to its Store.
// EOPNOTSUPP if it cannot.
func (f *fs) Checkpoint(ctx context.Context, seq abi.OpSeq) error {
	if !f.has(vfsops.HasCheckpointer) {
		return abi.EOPNOTSUPP
	}
	k := f.start(wire.OpCheckpoint, seq)
	defer k.Release()
	k.Args = (&wire.NumReq{N: int64(seq)}).Append(k.Args)
	return f.l.call(ctx, k)
}

// Sync makes things durable.
func (f *fs) Sync(ctx context.Context, h abi.Handle, dataOnly bool) error {
	if !f.has(vfsops.HasSyncer) {
		return nil
	}
	k := f.start(wire.OpSync, 0)
	defer k.Release()
	k.Args = (&wire.SyncReq{Node: h, DataOnly: dataOnly}).Append(k.Args)
	return f.l.call(ctx, k)
}

// Access asks for a decision.
func (f *fs) Access(ctx context.Context, h abi.Handle, c *abi.Caller, want abi.AccMode) error {
	if !f.has(vfsops.HasAccesser) {
		return abi.EACCES
	}
	k := f.start(wire.OpAccess, 0)
	defer k.Release()
	k.Args = (&wire.AccessReq{Node: h, Caller: c, Want: want}).Append(k.Args)
	return f.l.call(ctx, k)
}
