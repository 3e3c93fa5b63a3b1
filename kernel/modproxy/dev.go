package modproxy

import (
	"context"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// chr is a character device driver of the component.
type chr struct {
	l     *Link
	k     modapi.Kernel
	major atomic.Uint32
}

// noderChr is one that names its nodes.
type noderChr struct {
	*chr
	nodes []devops.Node
}

var (
	_ devops.Chr   = (*chr)(nil)
	_ devops.Noder = noderChr{}
)

// Nodes are the device nodes as the driver told them at attach.
func (c noderChr) Nodes() []devops.Node { return c.nodes }

// attachChr attaches a driver and answers its device number.
func (m *module) attachChr(k modapi.Kernel, r *wire.AttachChrReq) ([]byte, error) {
	if !legal(r.Name, 31) {
		return nil, m.l.lie("attach-chr: name %q", r.Name)
	}
	c := &chr{l: m.l, k: k}
	var d devops.Chr = c
	if r.HasNodes {
		for i := range r.Nodes {
			n := &r.Nodes[i]
			if !legalName(n.Name) || !legal(n.Name, 31) || abi.Makedev(0, n.Unit).Minor() != n.Unit {
				return nil, m.l.lie("attach-chr: node %.40q, unit %d", n.Name, n.Unit)
			}
			n.Mode &= 0o777
		}
		d = noderChr{c, r.Nodes}
	}
	dev, err := k.AttachChr(r.Name, d)
	if err != nil {
		return nil, err
	}
	c.major.Store(dev.Major())
	m.l.mu.Lock()
	m.l.chrs[dev.Major()] = c
	m.l.mu.Unlock()
	return (&wire.NumRes{N: int64(dev)}).Append(nil), nil
}

// start takes a call for op on a unit.
func (c *chr) start(op wire.Op, unit uint32, off int64, flags int) *stream.Call {
	k := stream.GetCall()
	k.Header.Op, k.Header.Object = op, uint64(abi.Makedev(c.major.Load(), unit))
	k.Args = (&wire.DevReq{Off: off, Flags: int64(flags)}).Append(k.Args)
	return k
}

// Open opens a unit.
func (c *chr) Open(ctx context.Context, unit uint32, flags int) error {
	k := c.start(wire.OpDevOpen, unit, 0, flags)
	defer k.Release()
	return c.l.call(ctx, k)
}

// Close closes it.
func (c *chr) Close(ctx context.Context, unit uint32, flags int) error {
	k := c.start(wire.OpDevClose, unit, 0, flags)
	defer k.Release()
	return c.l.call(ctx, k)
}

// Read reads at most wire.MaxPayload bytes.
func (c *chr) Read(ctx context.Context, unit uint32, off int64, dst abi.Iov, flags int) (int, error) {
	if dst.Len() > wire.MaxPayload {
		dst = dst.Slice(0, wire.MaxPayload)
	}
	k := c.start(wire.OpDevRead, unit, off, flags)
	defer k.Release()
	k.Dst = dst
	if err := c.l.call(ctx, k); err != nil {
		return 0, err
	}
	return k.N, nil
}

// Write writes at most wire.MaxPayload bytes.
func (c *chr) Write(ctx context.Context, unit uint32, off int64, src abi.Iov, flags int) (int, error) {
	if src.Len() > wire.MaxPayload {
		src = src.Slice(0, wire.MaxPayload)
	}
	k := c.start(wire.OpDevWrite, unit, off, flags)
	k.Payload = src
	n, err := c.num(ctx, k, int64(src.Len()))
	return int(n), err
}

// num waits for a call that answers a number from 0 to hi.
func (c *chr) num(ctx context.Context, k *stream.Call, hi int64) (int64, error) {
	defer k.Release()
	if err := c.l.call(ctx, k); err != nil {
		return 0, err
	}
	var r wire.NumRes
	if err := c.l.parse(k, &r); err != nil {
		return 0, err
	}
	if r.N < 0 || r.N > hi {
		return 0, c.l.lie("%s: %d, not 0 to %d", k.Header.Op, r.N, hi)
	}
	return r.N, nil
}

// maxIoctl bounds an ioctl's argument, in bytes (IOCPARM_MASK).
const maxIoctl = 8191

// Ioctl passes a command.
func (c *chr) Ioctl(ctx context.Context, unit uint32, cmd uint32, arg []byte) ([]byte, error) {
	if len(arg) > maxIoctl {
		return nil, abi.EINVAL
	}
	k := stream.GetCall()
	defer k.Release()
	k.Header.Op, k.Header.Object = wire.OpDevIoctl, uint64(abi.Makedev(c.major.Load(), unit))
	k.Args = (&wire.NumReq{N: int64(cmd)}).Append(k.Args)
	k.SetPayload(arg)
	k.Scratch(maxIoctl)
	if err := c.l.call(ctx, k); err != nil {
		return nil, err
	}
	return append([]byte(nil), k.Got()...), nil
}

// Poll asks what is ready now.
func (c *chr) Poll(ctx context.Context, unit uint32) (abi.PollEvents, error) {
	k := c.start(wire.OpDevPoll, unit, 0, 0)
	n, err := c.num(ctx, k, 0x7fff)
	return abi.PollEvents(n), err
}
