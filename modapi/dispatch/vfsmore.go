package dispatch

import (
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// other serves what is neither mandatory nor a mutator of names and contents.
func (q ask) other(fs vfsops.FS) error {
	switch q.req.Header.Op {
	case wire.OpReadlink, wire.OpListxattr, wire.OpPin, wire.OpUnpin:
		return q.node(fs)
	case wire.OpGetxattr, wire.OpSetxattr, wire.OpRemovexattr:
		return q.xattr(fs)
	case wire.OpReadPages, wire.OpWritePages:
		return q.pages(fs)
	case wire.OpFallocate:
		var r wire.FallocReq
		if err := r.Parse(q.req.Args); err != nil {
			return bad(q.req, err)
		}
		if f, ok := fs.(vfsops.Fallocater); ok {
			return q.vattr(f.Fallocate(q.ctx, r.Op, r.Node, r.Off, r.N, r.Punch))
		}
		return abi.EOPNOTSUPP
	case wire.OpReclaim:
		var r wire.HandlesReq
		if err := r.Parse(q.req.Args); err != nil {
			return bad(q.req, err)
		}
		if f, ok := fs.(vfsops.Reclaimer); ok {
			return f.Reclaim(q.ctx, r.Nodes)
		}
		return nil
	case wire.OpReserve:
		var r wire.NumReq
		if err := r.Parse(q.req.Args); err != nil {
			return bad(q.req, err)
		}
		n, err := r.N, error(nil)
		if f, ok := fs.(vfsops.Reserver); ok {
			n, err = f.Reserve(q.ctx, r.N)
		}
		q.a.args = (&wire.NumRes{N: n}).Append(nil)
		return err
	case wire.OpCheckpoint:
		var r wire.NumReq
		if err := r.Parse(q.req.Args); err != nil {
			return bad(q.req, err)
		}
		if f, ok := fs.(vfsops.Checkpointer); ok {
			return f.Checkpoint(q.ctx, abi.OpSeq(r.N))
		}
		return abi.EOPNOTSUPP
	case wire.OpSeek:
		var r wire.SeekReq
		if err := r.Parse(q.req.Args); err != nil {
			return bad(q.req, err)
		}
		f, ok := fs.(vfsops.HoleSeeker)
		if !ok {
			return abi.EOPNOTSUPP
		}
		n, err := f.Seek(q.ctx, r.Node, r.Off, int(r.Whence))
		q.a.args = (&wire.NumRes{N: n}).Append(nil)
		return err
	case wire.OpSync:
		var r wire.SyncReq
		if err := r.Parse(q.req.Args); err != nil {
			return bad(q.req, err)
		}
		if f, ok := fs.(vfsops.Syncer); ok {
			return f.Sync(q.ctx, r.Node, r.DataOnly)
		}
		return nil
	case wire.OpAccess:
		var r wire.AccessReq
		if err := r.Parse(q.req.Args); err != nil {
			return bad(q.req, err)
		}
		if f, ok := fs.(vfsops.Accesser); ok {
			return f.Access(q.ctx, r.Node, r.Caller, r.Want)
		}
		return abi.EACCES
	}
	return abi.ENOSYS
}

// node serves the operations whose request is a node and no more.
func (q ask) node(fs vfsops.FS) error {
	var r wire.HandleReq
	if err := r.Parse(q.req.Args); err != nil {
		return bad(q.req, err)
	}
	switch q.req.Header.Op {
	case wire.OpReadlink:
		f, ok := fs.(vfsops.Readlinker)
		if !ok {
			return abi.EINVAL
		}
		p, err := f.Readlink(q.ctx, r.Node)
		return q.bytes(p, err)
	case wire.OpListxattr:
		f, ok := fs.(vfsops.Xattrer)
		if !ok {
			return abi.EOPNOTSUPP
		}
		p, err := f.Listxattr(q.ctx, r.Node)
		return q.bytes(p, err)
	}
	f, ok := fs.(vfsops.Pinner)
	switch {
	case !ok:
		return abi.EBUSY
	case q.req.Header.Op == wire.OpPin:
		return f.Pin(q.ctx, r.Node)
	}
	return f.Unpin(q.ctx, r.Node)
}

// bytes answers a module's bytes as the payload.
func (q ask) bytes(p []byte, err error) error {
	if err == nil && len(p) > int(q.req.Header.ReplyLen) {
		return abi.E2BIG
	}
	q.a.data = p
	return err
}

func (q ask) xattr(fs vfsops.FS) error {
	f, ok := fs.(vfsops.Xattrer)
	if q.req.Header.Op == wire.OpSetxattr {
		var r wire.SetxattrReq
		if err := r.Parse(q.req.Args); err != nil {
			return bad(q.req, err)
		}
		if !ok {
			return abi.EOPNOTSUPP
		}
		// The value may be kept, the payload's buffer not.
		r.Value = append([]byte{}, q.req.Payload...)
		return f.Setxattr(q.ctx, vfsops.SetxattrReq(r))
	}
	var r wire.XattrReq
	if err := r.Parse(q.req.Args); err != nil {
		return bad(q.req, err)
	}
	switch {
	case !ok:
		return abi.EOPNOTSUPP
	case q.req.Header.Op == wire.OpRemovexattr:
		return f.Removexattr(q.ctx, r.Op, r.Node, r.Name)
	}
	p, err := f.Getxattr(q.ctx, r.Node, r.Name)
	return q.bytes(p, err)
}

func (q ask) pages(fs vfsops.FS) error {
	f, ok := fs.(vfsops.Pager)
	if q.req.Header.Op == wire.OpReadPages {
		var r wire.IOReq
		if err := r.Parse(q.req.Args); err != nil {
			return bad(q.req, err)
		}
		if !ok {
			return abi.EOPNOTSUPP
		}
		n := int(q.req.Header.ReplyLen)
		err := f.ReadPages(q.ctx, r.Node, r.Off, q.a.room(n))
		q.a.n = n
		return q.checkN(n, err)
	}
	var r wire.WritePagesReq
	if err := r.Parse(q.req.Args); err != nil {
		return bad(q.req, err)
	}
	if !ok {
		return abi.EOPNOTSUPP
	}
	return f.WritePages(q.ctx, r.Op, r.Node, r.Off, abi.IovOf(q.req.Payload), r.Size)
}
