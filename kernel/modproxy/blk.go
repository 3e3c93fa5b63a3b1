package modproxy

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// blk is a block device driver of the component.
type blk struct {
	l     *Link
	m     *module
	major atomic.Uint32
	// nodes are what the driver named last; nil: it names none.
	nodes atomic.Pointer[[]devops.Node]
}

// noderBlk is one that names its nodes.
type noderBlk struct{ *blk }

var (
	_ devops.Blk   = (*blk)(nil)
	_ devops.Noder = noderBlk{}
)

// Nodes are the device nodes as the driver told them last.
func (b noderBlk) Nodes() []devops.Node { return *b.nodes.Load() }

// nodesOf decodes and checks the nodes in the payload of a request.
func (l *Link) nodesOf(req *stream.Request) ([]devops.Node, error) {
	var r wire.NodesMsg
	req.Own() // it is read twice
	if err := r.Parse(req.Payload); err != nil {
		return nil, l.lie("%s: %v", req.Header.Op, err)
	}
	for i := range r.Nodes {
		n := &r.Nodes[i]
		if !legalName(n.Name) || !legal(n.Name, 30) || abi.Makedev(0, n.Unit).Minor() != n.Unit {
			return nil, l.lie("%s: node %.40q, unit %d", req.Header.Op, n.Name, n.Unit)
		}
		n.Mode &= 0o777
	}
	if r.Nodes == nil {
		r.Nodes = []devops.Node{}
	}
	return r.Nodes, nil
}

// attachBlk attaches a driver and answers its device number.
func (m *module) attachBlk(k modapi.Kernel, req *stream.Request) ([]byte, error) {
	var r wire.AttachBlkReq
	if err := r.Parse(req.Args); err != nil {
		return nil, m.l.lie("%s: %v", req.Header.Op, err)
	}
	if !legal(r.Name, 31) {
		return nil, m.l.lie("attach-blk: name %q", r.Name)
	}
	b := &blk{l: m.l, m: m}
	var d devops.Blk = b
	if r.HasNodes {
		nodes, err := m.l.nodesOf(req)
		if err != nil {
			return nil, err
		}
		b.nodes.Store(&nodes)
		d = noderBlk{b}
	}
	dev, err := k.AttachBlk(r.Name, d)
	if err != nil {
		return nil, err
	}
	b.major.Store(dev.Major())
	m.l.mu.Lock()
	m.l.blks[dev.Major()] = b
	m.l.mu.Unlock()
	return (&wire.NumRes{N: int64(dev)}).Append(nil), nil
}

// blkChanged takes new nodes of a driver over. If the kernel refuses them, the
// old ones hold.
func (m *module) blkChanged(k modapi.Kernel, req *stream.Request) error {
	var r wire.NumReq
	if err := r.Parse(req.Args); err != nil {
		return m.l.lie("%s: %v", req.Header.Op, err)
	}
	nodes, err := m.l.nodesOf(req)
	if err != nil {
		return err
	}
	dev := abi.Dev(r.N)
	m.l.mu.Lock()
	b := m.l.blks[dev.Major()]
	m.l.mu.Unlock()
	if b == nil || b.m != m || b.nodes.Load() == nil {
		return m.l.lie("blk-changed: device %v", dev)
	}
	old := b.nodes.Swap(&nodes)
	if err := k.BlkChanged(dev); err != nil {
		b.nodes.CompareAndSwap(&nodes, old)
		return err
	}
	return nil
}

// start takes a call for op on a unit.
func (b *blk) start(op wire.Op, unit uint32) *stream.Call {
	k := stream.GetCall()
	k.Header.Op, k.Header.Object = op, uint64(abi.Makedev(b.major.Load(), unit))
	return k
}

// Geometry asks what a unit is.
func (b *blk) Geometry(ctx context.Context, unit uint32) (devops.Geom, error) {
	k := b.start(wire.OpBlkGeometry, unit)
	defer k.Release()
	var r wire.GeomMsg
	if err := b.l.call(ctx, k); err != nil {
		return r.Geom, err
	}
	if err := b.l.parse(k, &r); err != nil {
		return r.Geom, err
	}
	if err := r.Check(); err != nil {
		return r.Geom, b.l.lie("geometry of unit %d: %v", unit, err)
	}
	r.Type, r.Label = wire.ParseErrText([]byte(r.Type)), wire.ParseErrText([]byte(r.Label))
	return r.Geom, nil
}

// Open opens a unit.
func (b *blk) Open(ctx context.Context, unit uint32, flags int) error {
	return b.open(ctx, wire.OpBlkOpen, unit, flags)
}

// Close closes it.
func (b *blk) Close(ctx context.Context, unit uint32, flags int) error {
	return b.open(ctx, wire.OpBlkClose, unit, flags)
}

func (b *blk) open(ctx context.Context, op wire.Op, unit uint32, flags int) error {
	k := b.start(op, unit)
	defer k.Release()
	k.Args = (&wire.DevReq{Flags: int64(flags)}).Append(k.Args)
	return b.l.call(ctx, k)
}

// Strategy does a buf. Reads can be given up, the others are awaited.
func (b *blk) Strategy(ctx context.Context, buf *devops.Buf) error {
	op := wire.OpBlkControl
	switch buf.Op() {
	case devops.BRead:
		op = wire.OpBlkRead
	case devops.BWrite:
		op = wire.OpBlkWrite
	}
	if op != wire.OpBlkControl && (int64(buf.Data.Len()) != buf.Bytes || buf.Bytes > devops.MaxPhys) {
		return abi.EINVAL
	}
	k := b.start(op, buf.Dev.Minor())
	defer k.Release()
	k.Args = (&wire.BufReq{ID: buf.ID, Blkno: buf.Blkno, Bytes: buf.Bytes, Flags: buf.Flags}).Append(k.Args)
	switch op {
	case wire.OpBlkRead:
		k.Dst = buf.Data
	case wire.OpBlkWrite:
		k.Payload = buf.Data
	}
	if err := b.l.call(ctx, k); err != nil {
		return err
	}
	if op == wire.OpBlkRead && int64(k.N) != buf.Bytes {
		return b.l.lie("blk-read: %d of %d bytes", k.N, buf.Bytes)
	}
	return nil
}

// Ioctl passes a command.
func (b *blk) Ioctl(ctx context.Context, unit uint32, cmd uint32, arg []byte) ([]byte, error) {
	if len(arg) > maxIoctl {
		return nil, abi.EINVAL
	}
	k := b.start(wire.OpBlkIoctl, unit)
	defer k.Release()
	k.Args = (&wire.NumReq{N: int64(cmd)}).Append(k.Args)
	k.SetPayload(arg)
	if cmd == devops.DIOCPROBE {
		k.Scratch(devops.MaxProbe)
	} else {
		k.Scratch(maxIoctl)
	}
	if err := b.l.call(ctx, k); err != nil {
		return nil, err
	}
	return append([]byte(nil), k.Got()...), nil
}

// block is a block device of the kernel that the component has open.
type block struct {
	io devops.BlockIO
	m  *module
}

// maxBlocks bounds those of one component.
const maxBlocks = 4096

// blockOpen opens one and answers its handle.
func (m *module) blockOpen(k modapi.Kernel, req *stream.Request) ([]byte, error) {
	var r wire.BlockOpenReq
	if err := r.Parse(req.Args); err != nil {
		return nil, m.l.lie("%s: %v", req.Header.Op, err)
	}
	l := m.l
	l.mu.Lock()
	n := len(l.blocks)
	l.mu.Unlock()
	if n >= maxBlocks {
		return nil, fmt.Errorf("%d block devices open: %w", n, abi.EMFILE)
	}
	io, err := k.Block(r.Dev, r.User)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	late := m.kernel == nil || l.conn.Err() != nil
	if !late {
		l.lastBlock++
		l.blocks[l.lastBlock] = block{io, m}
	}
	h := l.lastBlock
	l.mu.Unlock()
	if late {
		io.Close(context.Background())
		return nil, abi.ENXIO
	}
	return (&wire.NumRes{N: int64(h)}).Append(nil), nil
}

// dropBlocks closes what a module has open; nil: what all have.
func (l *Link) dropBlocks(m *module) {
	l.mu.Lock()
	var ios []devops.BlockIO
	for h, b := range l.blocks {
		if m == nil || b.m == m {
			ios = append(ios, b.io)
			delete(l.blocks, h)
		}
	}
	l.mu.Unlock()
	for _, io := range ios {
		io.Close(context.Background())
	}
}

// serveBlock serves an operation on a handle.
func (l *Link) serveBlock(ctx context.Context, req *stream.Request) {
	h := req.Header.Object
	l.mu.Lock()
	b, ok := l.blocks[h]
	known := h != 0 && h <= l.lastBlock
	if ok && req.Header.Op == wire.OpBlockClose {
		delete(l.blocks, h)
	}
	l.mu.Unlock()
	switch {
	case !known:
		l.lie("%s of handle %d", req.Header.Op, h)
		return
	case !ok:
		req.Reply(abi.EBADF, nil, nil)
		return
	}
	switch req.Header.Op {
	case wire.OpBlockClose:
		req.Reply(abi.ErrnoOf(b.io.Close(ctx)), nil, nil)
	case wire.OpBlockGeometry:
		g, err := b.io.Geometry(ctx)
		if err != nil {
			req.Reply(abi.ErrnoOf(err), nil, nil)
			return
		}
		req.Reply(0, (&wire.GeomMsg{Geom: g}).Append(nil), nil)
	default:
		l.serveBuf(ctx, req, b.io)
	}
}

// serveBuf does a buf of the component's.
func (l *Link) serveBuf(ctx context.Context, req *stream.Request, io devops.BlockIO) {
	var r wire.BufReq
	if err := r.Parse(req.Args); err != nil {
		l.lie("%s: %v", req.Header.Op, err)
		return
	}
	b := &devops.Buf{Blkno: r.Blkno, Bytes: r.Bytes, Flags: r.Flags}
	bad := false
	var room []byte
	switch req.Header.Op {
	case wire.OpBlockRead:
		if bad = b.Op() != devops.BRead || r.Bytes != int64(req.Header.ReplyLen); bad || r.Bytes == 0 {
			break
		}
		if room = req.Room(int(r.Bytes)); room == nil {
			buf := stream.GetBuf(int(r.Bytes))
			defer stream.PutBuf(buf)
			room = *buf
		}
		b.Data = abi.IovOf(room)
	case wire.OpBlockWrite:
		bad = b.Op() != devops.BWrite || r.Bytes != int64(len(req.Payload))
		b.Data = abi.IovOf(req.Payload)
	case wire.OpBlockControl:
		bad = b.Op()&(devops.BRead|devops.BWrite) != 0
	}
	if bad {
		l.lie("%s of %d bytes, flags %#x", req.Header.Op, r.Bytes, uint32(r.Flags))
		return
	}
	if err := io.Strategy(ctx, b); err != nil {
		req.Reply(abi.ErrnoOf(err), nil, nil)
		return
	}
	if room != nil {
		req.Reply(0, nil, abi.IovOf(room))
		return
	}
	req.Reply(0, nil, nil)
}
