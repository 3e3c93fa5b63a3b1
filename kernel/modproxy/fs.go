package modproxy

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// fstype is a type of file system of the component.
type fstype struct {
	l    *Link
	k    modapi.Kernel // of the module that attached it
	name string
	caps vfsops.Caps // as declared
}

var _ vfsops.FSType = (*fstype)(nil)

// Mount asks the component to mount.
func (t *fstype) Mount(ctx context.Context, req *vfsops.MountReq) (vfsops.FS, error) {
	r := wire.MountReq(*req)
	r.Type = t.name
	k := stream.GetCall()
	defer k.Release()
	k.Header.Op, k.Header.Object, k.Header.OpSeq = wire.OpMount, uint64(req.Fsid), req.Op.Seq
	k.Args = r.Append(k.Args)
	if t.caps&vfsops.CapCheckpoint != 0 {
		t.l.setStore(req.Fsid, t.k.Store(req.Fsid)) // it is read meanwhile
	}
	if err := t.l.call(ctx, k); err != nil {
		t.l.setStore(req.Fsid, nil)
		return nil, err
	}
	var res wire.MountRes
	if err := t.l.parse(k, &res); err != nil {
		return nil, err
	}
	return &fs{l: t.l, id: req.Fsid, caps: res.Caps}, nil
}

// fs is a file system of the component. It has every optional interface.
type fs struct {
	l    *Link
	id   abi.Fsid
	caps vfsops.Caps
}

var (
	_ vfsops.FS         = (*fs)(nil)
	_ vfsops.Creator    = (*fs)(nil)
	_ vfsops.Remover    = (*fs)(nil)
	_ vfsops.Renamer    = (*fs)(nil)
	_ vfsops.Linker     = (*fs)(nil)
	_ vfsops.Symlinker  = (*fs)(nil)
	_ vfsops.Mknoder    = (*fs)(nil)
	_ vfsops.Setattrer  = (*fs)(nil)
	_ vfsops.Writer     = (*fs)(nil)
	_ vfsops.Truncater  = (*fs)(nil)
	_ vfsops.Xattrer    = (*fs)(nil)
	_ vfsops.Fallocater = (*fs)(nil)
	_ vfsops.Readlinker = (*fs)(nil)
	_ vfsops.Pager      = (*fs)(nil)
	_ vfsops.Pinner     = (*fs)(nil)
	_ vfsops.Reclaimer  = (*fs)(nil)
	_ vfsops.Reserver   = (*fs)(nil)
	_ vfsops.Syncer     = (*fs)(nil)
	_ vfsops.Accesser   = (*fs)(nil)

	_ vfsops.Checkpointer = (*fs)(nil)
	_ vfsops.HoleSeeker   = (*fs)(nil)
)

// Caps is what the file system can do: as declared, and the optional
// interfaces that it has.
func (f *fs) Caps() vfsops.Caps { return f.caps }

func (f *fs) has(c vfsops.Caps) bool { return f.caps&c != 0 }

// start takes a call for op on this mount.
func (f *fs) start(op wire.Op, seq abi.OpSeq) *stream.Call {
	k := stream.GetCall()
	k.Header.Op, k.Header.Object, k.Header.OpSeq = op, uint64(f.id), seq
	return k
}

// Root asks for the root directory.
func (f *fs) Root(ctx context.Context) (vfsops.Entry, error) {
	k := f.start(wire.OpRoot, 0)
	defer k.Release()
	if err := f.l.call(ctx, k); err != nil {
		return vfsops.Entry{}, err
	}
	var r wire.Entry
	if err := f.l.parse(k, &r); err != nil {
		return vfsops.Entry{}, err
	}
	e := vfsops.Entry(r)
	s := entryFault(&e, f.id)
	if s == "" && e.Vattr.Type != abi.VDIR {
		s = "no directory"
	}
	if s != "" {
		return vfsops.Entry{}, f.l.lie("root: %s", s)
	}
	return e, nil
}

// Lookup walks names. Those that do not fit into one message are walked by
// further ones.
func (f *fs) Lookup(ctx context.Context, req vfsops.LookupReq) (vfsops.LookupRes, error) {
	var all vfsops.LookupRes
	for {
		n := wire.FitNames(req.Names)
		part := vfsops.LookupReq{Start: req.Start, Names: req.Names[:n]}
		res, err := f.lookup(ctx, part)
		if err != nil {
			return all, err
		}
		if n == len(req.Names) && all.Trace == nil {
			return res, nil
		}
		all.Trace, all.Err = append(all.Trace, res.Trace...), res.Err
		if len(res.Trace) < n || n == len(req.Names) {
			return all, nil
		}
		last := &res.Trace[n-1]
		if last.Vattr.Type != abi.VDIR {
			return all, nil
		}
		req.Start, req.Names = last.Handle, req.Names[n:]
	}
}

func (f *fs) lookup(ctx context.Context, req vfsops.LookupReq) (vfsops.LookupRes, error) {
	var none vfsops.LookupRes
	if len(req.Names) == 0 {
		return none, fmt.Errorf("lookup of no names: %w", abi.EINVAL)
	}
	k := f.start(wire.OpLookup, 0)
	defer k.Release()
	k.Args = (*wire.LookupReq)(&req).Append(k.Args)
	k.Scratch(wire.TraceSize(len(req.Names)))
	if err := f.l.call(ctx, k); err != nil {
		return none, err
	}
	var r wire.LookupRes
	if err := f.l.parse(k, &r); err != nil {
		return none, err
	}
	var tr wire.Trace
	if err := tr.Parse(k.Got()); err != nil || int(r.N) != len(tr) || r.Err < 0 || r.Err > 255 {
		return none, f.l.lie("trace of %d entries, errno %d: %v", r.N, r.Err, err)
	}
	for i := range tr {
		s := entryFault(&tr[i], f.id)
		if s == "" && i < len(tr)-1 && tr[i].Vattr.Type != abi.VDIR {
			s = "walked through what is no directory"
		}
		if s != "" {
			return none, f.l.lie("trace: entry %d: %s", i, s)
		}
	}
	res := vfsops.LookupRes{Trace: tr, Err: r.Err}
	stopped := len(tr) > 0 && tr[len(tr)-1].Vattr.Type != abi.VDIR
	switch {
	case stopped || len(tr) == len(req.Names):
		res.Err = 0
	case res.Err == 0:
		return none, f.l.lie("trace: %d of %d names and no reason", len(tr), len(req.Names))
	}
	return res, nil
}

// node sends a request that is a node and no more.
func (f *fs) node(ctx context.Context, op wire.Op, h abi.Handle, room int) (*stream.Call, error) {
	k := f.start(op, 0)
	k.Args = (&wire.HandleReq{Node: h}).Append(k.Args)
	if room > 0 {
		k.Scratch(room)
	}
	err := f.l.call(ctx, k)
	return k, err
}

// attrs reads the attributes of h out of a reply.
func (f *fs) attrs(k *stream.Call, h abi.Handle) (abi.Vattr, error) {
	var v wire.Vattr
	err := f.l.parse(k, &v)
	if err == nil {
		err = f.vattr((*abi.Vattr)(&v), h, k.Header.Op.String())
	}
	if err != nil {
		return abi.Vattr{}, err
	}
	return abi.Vattr(v), nil
}

// Getattr asks for attributes.
func (f *fs) Getattr(ctx context.Context, h abi.Handle) (abi.Vattr, error) {
	k, err := f.node(ctx, wire.OpGetattr, h, 0)
	defer k.Release()
	if err != nil {
		return abi.Vattr{}, err
	}
	return f.attrs(k, h)
}

// maxReaddir bounds one message of entries, in bytes.
const maxReaddir = 64 << 10

// Readdir lists a directory.
func (f *fs) Readdir(ctx context.Context, req vfsops.ReaddirReq) (vfsops.ReaddirRes, error) {
	var none vfsops.ReaddirRes
	if req.Max < 0 {
		return none, abi.EINVAL
	}
	req.Max = min(req.Max, maxReaddir)
	k := f.start(wire.OpReaddir, 0)
	defer k.Release()
	k.Args = (*wire.ReaddirReq)(&req).Append(k.Args)
	k.Scratch(req.Max)
	if err := f.l.call(ctx, k); err != nil {
		return none, err
	}
	var r wire.ReaddirRes
	if err := f.l.parse(k, &r); err != nil {
		return none, err
	}
	var ents wire.Dirents
	if err := ents.Parse(k.Got()); err != nil {
		return none, f.l.lie("readdir: %v", err)
	}
	last := req.Cookie
	for i := range ents {
		d := &ents[i]
		switch {
		case !legalName(d.Name):
			return none, f.l.lie("readdir: name %.40q", d.Name)
		case d.Type > abi.VFIFO || d.Fileid == 0:
			return none, f.l.lie("readdir: type %d, file id %d", d.Type, d.Fileid)
		case d.Cookie <= last:
			return none, f.l.lie("readdir: cookie %d after %d", d.Cookie, last)
		}
		last = d.Cookie
	}
	if len(ents) == 0 && !r.EOF && req.Max >= 24+255 {
		return none, f.l.lie("readdir: no entries and no end")
	}
	return vfsops.ReaddirRes{Entries: ents, EOF: r.EOF}, nil
}

// Read reads from a file, in several messages if need be.
func (f *fs) Read(ctx context.Context, h abi.Handle, off int64, dst abi.Iov) (int, error) {
	return f.read(ctx, wire.OpRead, h, off, dst)
}

func (f *fs) read(ctx context.Context, op wire.Op, h abi.Handle, off int64, dst abi.Iov) (int, error) {
	total := dst.Len()
	done := 0
	for {
		part := dst
		want := total - done
		if done > 0 || want > wire.MaxPayload {
			want = min(want, wire.MaxPayload)
			part = dst.Slice(done, want)
		}
		k := f.start(op, 0)
		k.Args = (&wire.IOReq{Node: h, Off: off + int64(done)}).Append(k.Args)
		k.Dst = part
		err := f.l.call(ctx, k)
		n := k.N
		k.Release()
		if err != nil {
			if done > 0 && op == wire.OpRead {
				return done, nil
			}
			return 0, err
		}
		done += n
		if n < want || done == total {
			return done, nil
		}
	}
}

// Seek asks for the next data or hole of a file.
func (f *fs) Seek(ctx context.Context, h abi.Handle, off int64, whence int) (int64, error) {
	if !f.has(vfsops.HasHoleSeeker) {
		return 0, abi.EOPNOTSUPP
	}
	if whence != abi.SEEK_DATA && whence != abi.SEEK_HOLE {
		return 0, abi.EINVAL
	}
	k := f.start(wire.OpSeek, 0)
	defer k.Release()
	k.Args = (&wire.SeekReq{Node: h, Off: off, Whence: int32(whence)}).Append(k.Args)
	if err := f.l.call(ctx, k); err != nil {
		return 0, err
	}
	var r wire.NumRes
	if err := f.l.parse(k, &r); err != nil {
		return 0, err
	}
	if off < 0 || r.N < off {
		return 0, f.l.lie("seek: %d after %d", r.N, off)
	}
	return r.N, nil
}

// Statvfs describes the file system.
func (f *fs) Statvfs(ctx context.Context) (abi.Statvfs, error) {
	k := f.start(wire.OpStatvfs, 0)
	defer k.Release()
	if err := f.l.call(ctx, k); err != nil {
		return abi.Statvfs{}, err
	}
	var r wire.Statvfs
	if err := f.l.parse(k, &r); err != nil {
		return abi.Statvfs{}, err
	}
	r.FSType, r.From, r.On = wire.ParseErrText([]byte(r.FSType)), wire.ParseErrText([]byte(r.From)), ""
	return abi.Statvfs(r), nil
}

// Unmount ends the file system.
func (f *fs) Unmount(ctx context.Context) error {
	k := f.start(wire.OpUnmount, 0)
	defer k.Release()
	err := f.l.call(ctx, k)
	if err == nil {
		f.l.setStore(f.id, nil)
	}
	return err
}
