package dispatch

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// ask is what every generic helper below needs of a request.
type ask struct {
	ctx context.Context
	req *stream.Request
	a   *answer
}

// bad is the error for arguments that do not parse: the kernel and this side
// disagree about the message.
func bad(req *stream.Request, err error) error {
	return fmt.Errorf("%s: %v: %w", req.Header.Op, err, abi.EINVAL)
}

// checkEntry keeps a module's bug from being taken for a lie: an entry without
// an id is EIO and nothing worse.
func checkEntry(e *vfsops.Entry) error {
	if e.Handle.File == 0 || e.Vattr.Fileid != e.Handle.File {
		return fmt.Errorf("entry %v with file id %d: %w", e.Handle, e.Vattr.Fileid, abi.EIO)
	}
	return nil
}

func (s *Server) mountOf(h *wire.Header) *mount {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mounts[abi.Fsid(h.Object)]
}

func (s *Server) serveVFS(ctx context.Context, req *stream.Request, a *answer) error {
	op := req.Header.Op
	if op == wire.OpMount {
		return s.mount(ctx, req, a)
	}
	m := s.mountOf(&req.Header)
	if m == nil {
		return abi.ENODEV
	}
	q := ask{ctx, req, a}
	switch op {
	case wire.OpRoot:
		e, err := m.fs.Root(ctx)
		if err == nil {
			err = checkEntry(&e)
		}
		a.args = (*wire.Entry)(&e).Append(nil)
		return err
	case wire.OpLookup:
		return q.lookup(m.fs)
	case wire.OpGetattr:
		var r wire.HandleReq
		if err := r.Parse(req.Args); err != nil {
			return bad(req, err)
		}
		return q.vattr(m.fs.Getattr(ctx, r.Node))
	case wire.OpReaddir:
		return q.readdir(m.fs)
	case wire.OpRead:
		var r wire.IOReq
		if err := r.Parse(req.Args); err != nil {
			return bad(req, err)
		}
		n, err := m.fs.Read(ctx, r.Node, r.Off, a.room(int(req.Header.ReplyLen)))
		a.n = n
		return q.checkN(n, err)
	case wire.OpStatvfs:
		st, err := m.fs.Statvfs(ctx)
		a.args = (*wire.Statvfs)(&st).Append(nil)
		return err
	case wire.OpUnmount:
		if err := m.fs.Unmount(ctx); err != nil {
			return err
		}
		s.mu.Lock()
		delete(s.mounts, abi.Fsid(req.Header.Object))
		s.mu.Unlock()
		return nil
	}
	if served, err := q.mutate(m.fs); served {
		return err
	}
	return q.other(m.fs)
}

func (s *Server) mount(ctx context.Context, req *stream.Request, a *answer) error {
	var r wire.MountReq
	if err := r.Parse(req.Args); err != nil {
		return bad(req, err)
	}
	r.Fsid = abi.Fsid(req.Header.Object)
	s.mu.RLock()
	t, ok := s.fstypes[r.Type]
	_, busy := s.mounts[r.Fsid]
	s.mu.RUnlock()
	switch {
	case !ok:
		return fmt.Errorf("file system type %q: %w", r.Type, abi.ENODEV)
	case busy:
		return abi.EEXIST
	}
	fs, err := t.t.Mount(ctx, (*vfsops.MountReq)(&r))
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.mounts[r.Fsid] = &mount{t.m, fs}
	s.mu.Unlock()
	a.args = (&wire.MountRes{Caps: t.caps | vfsops.CapsOf(fs)}).Append(nil)
	return nil
}

// checkN answers EIO for a count that a module cannot have meant.
func (q ask) checkN(n int, err error) error {
	if err == nil && (n < 0 || n > int(q.req.Header.ReplyLen)) {
		q.a.n = 0
		return fmt.Errorf("%s: %d bytes of %d: %w", q.req.Header.Op, n, q.req.Header.ReplyLen, abi.EIO)
	}
	if err != nil {
		q.a.n = 0
	}
	return err
}

func (q ask) vattr(v abi.Vattr, err error) error {
	if err == nil {
		q.a.args = (*wire.Vattr)(&v).Append(nil)
	}
	return err
}

func (q ask) mutated(m vfsops.Mutated, err error) error {
	if err != nil {
		return err
	}
	if m.Node != (vfsops.Entry{}) {
		if err := checkEntry(&m.Node); err != nil {
			return err
		}
	}
	q.a.args = (*wire.Mutated)(&m).Append(nil)
	return nil
}

func (q ask) lookup(fs vfsops.FS) error {
	var r wire.LookupReq
	if err := r.Parse(q.req.Args); err != nil {
		return bad(q.req, err)
	}
	res, err := fs.Lookup(q.ctx, vfsops.LookupReq(r))
	if err != nil {
		return err
	}
	if len(res.Trace) > len(r.Names) {
		return fmt.Errorf("lookup of %d names found %d: %w", len(r.Names), len(res.Trace), abi.EIO)
	}
	for i := range res.Trace {
		if err := checkEntry(&res.Trace[i]); err != nil {
			return err
		}
	}
	q.a.args = (&wire.LookupRes{Err: res.Err, N: uint32(len(res.Trace))}).Append(nil)
	if len(res.Trace) > 0 {
		size := wire.TraceSize(len(res.Trace))
		q.a.room(size)
		(*wire.Trace)(&res.Trace).Append(q.a.mem[:0])
		q.a.n = size
	}
	return nil
}

func (q ask) readdir(fs vfsops.FS) error {
	var r wire.ReaddirReq
	if err := r.Parse(q.req.Args); err != nil {
		return bad(q.req, err)
	}
	room := int(q.req.Header.ReplyLen)
	if r.Max > room {
		r.Max = room
	}
	res, err := fs.Readdir(q.ctx, vfsops.ReaddirReq(r))
	if err != nil {
		return err
	}
	q.a.room(room)
	b := q.a.mem[:0]
	for i := range res.Entries {
		if len(b)+wire.DirentSize+len(res.Entries[i].Name) > room {
			res.EOF = false // the rest comes with the next request
			break
		}
		b = wire.AppendDirent(b, &res.Entries[i])
	}
	q.a.n = len(b)
	q.a.args = (&wire.ReaddirRes{EOF: res.EOF}).Append(nil)
	return nil
}

// mutate serves the mutators; false if the op is none of them. What the file
// system lacks is answered with the errno of the interface's comment.
func (q ask) mutate(fs vfsops.FS) (bool, error) {
	req, ctx := q.req, q.ctx
	var err error
	switch req.Header.Op {
	case wire.OpCreate, wire.OpMkdir:
		var r wire.CreateReq
		if err = r.Parse(req.Args); err != nil {
			return true, bad(req, err)
		}
		f, ok := fs.(vfsops.Creator)
		switch {
		case !ok:
			return true, abi.EROFS
		case req.Header.Op == wire.OpCreate:
			return true, q.mutated(f.Create(ctx, vfsops.CreateReq(r)))
		}
		return true, q.mutated(f.Mkdir(ctx, vfsops.CreateReq(r)))
	case wire.OpMknod:
		var r wire.MknodReq
		if err = r.Parse(req.Args); err != nil {
			return true, bad(req, err)
		}
		if f, ok := fs.(vfsops.Mknoder); ok {
			return true, q.mutated(f.Mknod(ctx, vfsops.MknodReq(r)))
		}
	case wire.OpSymlink:
		var r wire.SymlinkReq
		if err = r.Parse(req.Args); err != nil {
			return true, bad(req, err)
		}
		if f, ok := fs.(vfsops.Symlinker); ok {
			return true, q.mutated(f.Symlink(ctx, vfsops.SymlinkReq(r)))
		}
	case wire.OpLink:
		var r wire.LinkReq
		if err = r.Parse(req.Args); err != nil {
			return true, bad(req, err)
		}
		if f, ok := fs.(vfsops.Linker); ok {
			return true, q.mutated(f.Link(ctx, vfsops.LinkReq(r)))
		}
	case wire.OpRemove, wire.OpRmdir:
		var r wire.RemoveReq
		if err = r.Parse(req.Args); err != nil {
			return true, bad(req, err)
		}
		f, ok := fs.(vfsops.Remover)
		switch {
		case !ok:
			return true, abi.EROFS
		case req.Header.Op == wire.OpRemove:
			return true, q.mutated(f.Remove(ctx, vfsops.RemoveReq(r)))
		}
		return true, q.mutated(f.Rmdir(ctx, vfsops.RemoveReq(r)))
	case wire.OpRename:
		var r wire.RenameReq
		if err = r.Parse(req.Args); err != nil {
			return true, bad(req, err)
		}
		if f, ok := fs.(vfsops.Renamer); ok {
			return true, q.mutated(f.Rename(ctx, vfsops.RenameReq(r)))
		}
	case wire.OpSetattr:
		var r wire.SetattrReq
		if err = r.Parse(req.Args); err != nil {
			return true, bad(req, err)
		}
		if f, ok := fs.(vfsops.Setattrer); ok {
			return true, q.vattr(f.Setattr(ctx, vfsops.SetattrReq(r)))
		}
	case wire.OpWrite:
		var r wire.WriteReq
		if err = r.Parse(req.Args); err != nil {
			return true, bad(req, err)
		}
		if f, ok := fs.(vfsops.Writer); ok {
			res, err := f.Write(ctx, r.WriteReq, abi.IovOf(req.Payload))
			if err == nil {
				q.a.args = (*wire.WriteRes)(&res).Append(nil)
			}
			return true, err
		}
	case wire.OpTruncate:
		var r wire.TruncateReq
		if err = r.Parse(req.Args); err != nil {
			return true, bad(req, err)
		}
		if f, ok := fs.(vfsops.Truncater); ok {
			return true, q.vattr(f.Truncate(ctx, r.Op, r.Node, r.Size))
		}
	default:
		return false, nil
	}
	return true, abi.EROFS
}
