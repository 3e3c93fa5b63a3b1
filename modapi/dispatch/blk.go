package dispatch

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// serveBlk serves an operation on a block device driver.
func (s *Server) serveBlk(ctx context.Context, req *stream.Request, a *answer) error {
	q := ask{ctx, req, a}
	dev := abi.Dev(req.Header.Object)
	s.mu.RLock()
	k, ok := s.blks[dev.Major()]
	s.mu.RUnlock()
	if !ok {
		return abi.ENODEV
	}
	unit := dev.Minor()
	switch req.Header.Op {
	case wire.OpBlkGeometry:
		g, err := k.d.Geometry(ctx, unit)
		if err == nil {
			a.args = (&wire.GeomMsg{Geom: g}).Append(nil)
		}
		return err
	case wire.OpBlkIoctl:
		var r wire.NumReq
		if err := r.Parse(req.Args); err != nil {
			return bad(req, err)
		}
		if p, handled, err := devops.ServeControl(ctx, k.d, uint32(r.N), append([]byte(nil), req.Payload...)); handled {
			if err == nil && uint32(r.N) != devops.DIOCPROBE {
				err = s.tellNodes(dev, k)
			}
			return q.bytes(p, err)
		}
		p, err := k.d.Ioctl(ctx, unit, uint32(r.N), append([]byte(nil), req.Payload...))
		return q.bytes(p, err)
	case wire.OpBlkOpen, wire.OpBlkClose:
		var r wire.DevReq
		if err := r.Parse(req.Args); err != nil {
			return bad(req, err)
		}
		if req.Header.Op == wire.OpBlkOpen {
			return k.d.Open(ctx, unit, int(r.Flags))
		}
		return k.d.Close(ctx, unit, int(r.Flags))
	}
	var r wire.BufReq
	if err := r.Parse(req.Args); err != nil {
		return bad(req, err)
	}
	b := &devops.Buf{ID: r.ID, Dev: dev, Blkno: r.Blkno, Bytes: r.Bytes, Flags: r.Flags}
	switch req.Header.Op {
	case wire.OpBlkRead:
		if b.Op() != devops.BRead || r.Bytes != int64(req.Header.ReplyLen) {
			return abi.EINVAL
		}
		b.Data = a.room(int(r.Bytes))
		err := k.d.Strategy(ctx, b)
		if err == nil {
			a.n = int(r.Bytes)
		}
		return err
	case wire.OpBlkWrite:
		if b.Op() != devops.BWrite || r.Bytes != int64(len(req.Payload)) {
			return abi.EINVAL
		}
		b.Data = abi.IovOf(req.Payload)
		return k.d.Strategy(ctx, b)
	case wire.OpBlkControl:
		if b.Op()&(devops.BRead|devops.BWrite) != 0 {
			return abi.EINVAL
		}
		return k.d.Strategy(ctx, b)
	}
	return abi.ENOSYS
}

func (k *kernel) AttachBlk(name string, d devops.Blk) (abi.Dev, error) {
	s := k.m.s
	if k.m.getState() != starting {
		return 0, fmt.Errorf("attach-blk outside Init: %w", abi.EPERM)
	}
	req := wire.AttachBlkReq{Name: name}
	nodes, has := blkNodes(d)
	req.HasNodes = has
	var res wire.NumRes
	if err := s.upcallWith(wire.OpAttachBlk, uint64(k.m.index), req.Append(nil), nodes, &res); err != nil {
		return 0, err
	}
	dev := abi.Dev(res.N)
	s.mu.Lock()
	s.blks[dev.Major()] = blk{k.m, d}
	s.mu.Unlock()
	return dev, nil
}

// blkNodes are the coded nodes of a driver, if it names them.
func blkNodes(d devops.Blk) ([]byte, bool) {
	n, ok := d.(devops.Noder)
	if !ok {
		return (&wire.NodesMsg{}).Append(nil), false
	}
	return (&wire.NodesMsg{Nodes: n.Nodes()}).Append(nil), true
}

func (k *kernel) BlkChanged(dev abi.Dev) error {
	s := k.m.s
	s.mu.RLock()
	b, ok := s.blks[dev.Major()]
	s.mu.RUnlock()
	if !ok || b.m != k.m {
		return fmt.Errorf("disk %v: %w", dev, abi.ENXIO)
	}
	return s.tellNodes(dev, b)
}

// tellNodes tells the kernel the nodes that a driver has now, if it names them.
func (s *Server) tellNodes(dev abi.Dev, b blk) error {
	nodes, has := blkNodes(b.d)
	if !has {
		return nil
	}
	return s.upcallWith(wire.OpBlkChanged, uint64(b.m.index), (&wire.NumReq{N: int64(dev)}).Append(nil), nodes, nil)
}

func (k *kernel) Block(dev, user abi.Dev) (devops.BlockIO, error) {
	if k.m.getState() == idle {
		return nil, fmt.Errorf("block-open: %w", abi.EPERM)
	}
	req := wire.BlockOpenReq{Dev: dev, User: user}
	var res wire.NumRes
	if err := k.m.s.upcallWith(wire.OpBlockOpen, uint64(k.m.index), req.Append(nil), nil, &res); err != nil {
		return nil, err
	}
	return &blockIO{s: k.m.s, handle: uint64(res.N)}, nil
}

// blockIO is a block device of the kernel that a module has open.
type blockIO struct {
	s      *Server
	handle uint64
}

// call takes a call of an upcall on it. The kernel takes its time: the device
// may be a process that is being restarted.
func (b *blockIO) call(op wire.Op) (*stream.Conn, *stream.Call) {
	b.s.mu.RLock()
	c := b.s.conn
	b.s.mu.RUnlock()
	k := stream.GetCall()
	k.Header.Op, k.Header.Object = op, b.handle
	k.Timeout = -1
	return c, k
}

// Geometry of the device.
func (b *blockIO) Geometry(ctx context.Context) (devops.Geom, error) {
	c, k := b.call(wire.OpBlockGeometry)
	defer k.Release()
	var r wire.GeomMsg
	err := c.Call(ctx, k)
	if err == nil {
		err = r.Parse(k.Reply)
	}
	return r.Geom, err
}

// Strategy does a buf.
func (b *blockIO) Strategy(ctx context.Context, buf *devops.Buf) error {
	op := wire.OpBlockControl
	switch buf.Op() {
	case devops.BRead:
		op = wire.OpBlockRead
	case devops.BWrite:
		op = wire.OpBlockWrite
	}
	if op != wire.OpBlockControl && (int64(buf.Data.Len()) != buf.Bytes || buf.Bytes > devops.MaxPhys) {
		return abi.EINVAL
	}
	c, k := b.call(op)
	defer k.Release()
	k.Args = (&wire.BufReq{ID: buf.ID, Blkno: buf.Blkno, Bytes: buf.Bytes, Flags: buf.Flags}).Append(k.Args)
	switch op {
	case wire.OpBlockRead:
		k.Dst = buf.Data
	case wire.OpBlockWrite:
		k.Payload = buf.Data
	}
	err := c.Call(ctx, k)
	if err == nil && op == wire.OpBlockRead && int64(k.N) != buf.Bytes {
		err = abi.EIO
	}
	return err
}

// Close gives the device back.
func (b *blockIO) Close(ctx context.Context) error {
	c, k := b.call(wire.OpBlockClose)
	defer k.Release()
	return c.Call(ctx, k)
}

// upcallWith is upcall with a payload.
func (s *Server) upcallWith(op wire.Op, object uint64, args, payload []byte, res interface{ Parse([]byte) error }) error {
	s.mu.RLock()
	c := s.conn
	s.mu.RUnlock()
	if c == nil {
		return fmt.Errorf("%s: no stream to the kernel: %w", op, abi.ENOTCONN)
	}
	k := stream.GetCall()
	defer k.Release()
	k.Header.Op, k.Header.Object = op, object
	k.Args = append(k.Args, args...)
	k.SetPayload(payload)
	k.Timeout = -1
	if err := c.Call(context.Background(), k); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if res != nil {
		return res.Parse(k.Reply)
	}
	return nil
}
