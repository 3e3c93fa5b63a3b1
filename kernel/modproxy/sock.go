package modproxy

import (
	"context"
	"errors"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// domain is a protocol family of the component.
type domain struct {
	l  *Link
	k  modapi.Kernel
	af int
}

// routerDomain is one that takes routes.
type routerDomain struct {
	*domain
}

var (
	_ sockops.Domain  = (*domain)(nil)
	_ sockops.Router  = routerDomain{}
	_ sockops.IfClass = (*ifclass)(nil)
)

// sockErr makes the end of the link ECONNRESET.
func sockErr(err error) error {
	var dead *stream.Dead
	if errors.As(err, &dead) {
		return fmt.Errorf("net component: %w", abi.ECONNRESET)
	}
	return err
}

func (d *domain) start(op wire.Op, id abi.SockID) *stream.Call {
	k := stream.GetCall()
	k.Header.Op, k.Header.Object = op, uint64(id)
	return k
}

// do sends a call that answers nothing, and releases it.
func (d *domain) do(ctx context.Context, k *stream.Call) error {
	defer k.Release()
	return sockErr(d.l.call(ctx, k))
}

// do1 sends one number.
func (d *domain) do1(ctx context.Context, op wire.Op, id abi.SockID, n int) error {
	k := d.start(op, id)
	k.Args = (&wire.NumReq{N: int64(n)}).Append(k.Args)
	return d.do(ctx, k)
}

// know enters a socket before the component hears of it, so that an edge may
// come at once; forget takes it out.
func (d *domain) know(id abi.SockID) {
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	d.l.socks[id] = d
	d.l.maxSock = max(d.l.maxSock, id)
}

func (d *domain) forget(id abi.SockID) {
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	delete(d.l.socks, id)
}

// Socket makes a socket.
func (d *domain) Socket(ctx context.Context, id abi.SockID, typ, proto int) error {
	d.know(id)
	k := d.start(wire.OpSocket, id)
	k.Args = (&wire.SocketReq{AF: int32(d.af), Type: int32(typ), Proto: int32(proto)}).Append(k.Args)
	err := d.do(ctx, k)
	if err != nil {
		d.forget(id)
	}
	return err
}

// Bind names a socket.
func (d *domain) Bind(ctx context.Context, id abi.SockID, a abi.Sockaddr) error {
	k := d.start(wire.OpBind, id)
	k.Args = (&wire.AddrMsg{Addr: a}).Append(k.Args)
	return d.do(ctx, k)
}

// Connect begins to connect.
func (d *domain) Connect(ctx context.Context, id abi.SockID, a abi.Sockaddr) error {
	k := d.start(wire.OpConnect, id)
	k.Args = (&wire.AddrMsg{Addr: a}).Append(k.Args)
	return d.do(ctx, k)
}

// Listen lets a socket be connected to.
func (d *domain) Listen(ctx context.Context, id abi.SockID, backlog int) error {
	return d.do1(ctx, wire.OpListen, id, backlog)
}

// Shutdown ends one or both directions.
func (d *domain) Shutdown(ctx context.Context, id abi.SockID, how int) error {
	return d.do1(ctx, wire.OpShutdown, id, how)
}

// addr waits for a call that answers an address of the family.
func (d *domain) addr(ctx context.Context, k *stream.Call) (abi.Sockaddr, error) {
	defer k.Release()
	if err := d.l.call(ctx, k); err != nil {
		return abi.Sockaddr{}, sockErr(err)
	}
	var r wire.AddrMsg
	if err := d.l.parse(k, &r); err != nil {
		return abi.Sockaddr{}, sockErr(err)
	}
	return r.Addr, d.checkAddr(&r.Addr, k.Header.Op)
}

func (d *domain) checkAddr(a *abi.Sockaddr, op wire.Op) error {
	bad := a.Family != 0 && int(a.Family) != d.af
	switch a.Family {
	case abi.AF_INET:
		bad = bad || a.Addr.IsValid() && !a.Addr.Is4()
	case abi.AF_INET6:
		bad = bad || a.Addr.IsValid() && !a.Addr.Is6()
	}
	if bad {
		d.l.lie("%s: address %v of family %d", op, a.Addr, a.Family)
		return abi.ECONNRESET
	}
	return nil
}

// Accept takes a connection.
func (d *domain) Accept(ctx context.Context, ls, as abi.SockID) (abi.Sockaddr, error) {
	d.know(as)
	k := d.start(wire.OpAccept, ls)
	k.Args = (&wire.AcceptReq{As: as}).Append(k.Args)
	a, err := d.addr(ctx, k)
	if err != nil {
		d.forget(as)
	}
	return a, err
}

// Name asks for the own or the peer's address.
func (d *domain) Name(ctx context.Context, id abi.SockID, peer bool) (abi.Sockaddr, error) {
	k := d.start(wire.OpName, id)
	n := int64(0)
	if peer {
		n = 1
	}
	k.Args = (&wire.NumReq{N: n}).Append(k.Args)
	return d.addr(ctx, k)
}

// num waits for a call that answers a number from lo to hi.
func (d *domain) num(ctx context.Context, k *stream.Call, lo, hi int64) (int64, error) {
	defer k.Release()
	if err := d.l.call(ctx, k); err != nil {
		return 0, sockErr(err)
	}
	var r wire.NumRes
	if err := d.l.parse(k, &r); err != nil {
		return 0, abi.ECONNRESET
	}
	if r.N < lo || r.N > hi {
		d.l.lie("%s: %d, not %d to %d", k.Header.Op, r.N, lo, hi)
		return 0, abi.ECONNRESET
	}
	return r.N, nil
}

// Send sends at most wire.MaxPayload bytes.
func (d *domain) Send(ctx context.Context, id abi.SockID, req sockops.SendReq, src abi.Iov) (int, error) {
	if len(req.Control) > wire.MaxControl {
		return 0, fmt.Errorf("%d bytes of control messages: %w", len(req.Control), abi.EINVAL)
	}
	if src.Len() > wire.MaxPayload {
		src = src.Slice(0, wire.MaxPayload)
	}
	k := d.start(wire.OpSend, id)
	k.Args = (*wire.SendReq)(&req).Append(k.Args)
	k.Payload = src
	n, err := d.num(ctx, k, 0, int64(src.Len()))
	return int(n), err
}

// Recv receives at most wire.MaxPayload bytes.
func (d *domain) Recv(ctx context.Context, id abi.SockID, req sockops.RecvReq, dst abi.Iov) (sockops.RecvRes, error) {
	var none sockops.RecvRes
	if dst.Len() > wire.MaxPayload {
		dst = dst.Slice(0, wire.MaxPayload)
	}
	req.MaxControl = max(0, min(req.MaxControl, wire.MaxControl))
	k := d.start(wire.OpRecv, id)
	defer k.Release()
	k.Args = (*wire.RecvReq)(&req).Append(k.Args)
	k.Dst = dst
	if err := d.l.call(ctx, k); err != nil {
		return none, sockErr(err)
	}
	var r wire.RecvRes
	if err := d.l.parse(k, &r); err != nil {
		return none, abi.ECONNRESET
	}
	longer := req.Flags&abi.MSG_TRUNC != 0 && r.N > dst.Len() && k.N == dst.Len()
	if r.N != k.N && !longer || len(r.Control) > req.MaxControl {
		d.l.lie("recv: %d bytes, %d sent, %d of control", r.N, k.N, len(r.Control))
		return none, abi.ECONNRESET
	}
	if err := d.checkAddr(&r.From, wire.OpRecv); err != nil {
		return none, err
	}
	r.Control = append([]byte(nil), r.Control...)
	return sockops.RecvRes(r), nil
}

// Setopt sets an option.
func (d *domain) Setopt(ctx context.Context, id abi.SockID, level, name int, val []byte) error {
	if len(val) > wire.MaxOpt {
		return fmt.Errorf("option of %d bytes: %w", len(val), abi.EINVAL)
	}
	k := d.start(wire.OpSetopt, id)
	k.Args = (&wire.OptReq{Level: int32(level), Name: int32(name)}).Append(k.Args)
	k.SetPayload(val)
	return d.do(ctx, k)
}

// Getopt asks for an option's value.
func (d *domain) Getopt(ctx context.Context, id abi.SockID, level, name int) ([]byte, error) {
	k := d.start(wire.OpGetopt, id)
	defer k.Release()
	k.Args = (&wire.OptReq{Level: int32(level), Name: int32(name)}).Append(k.Args)
	k.Scratch(wire.MaxOpt)
	if err := d.l.call(ctx, k); err != nil {
		return nil, sockErr(err)
	}
	return append([]byte(nil), k.Got()...), nil
}

// Close ends a socket.
func (d *domain) Close(ctx context.Context, id abi.SockID) error {
	err := d.do(ctx, d.start(wire.OpSockClose, id))
	d.forget(id)
	return err
}

// Poll asks what is ready now.
func (d *domain) Poll(ctx context.Context, id abi.SockID) (abi.PollEvents, error) {
	n, err := d.num(ctx, d.start(wire.OpSockPoll, id), 0, 0x7fff)
	return abi.PollEvents(n), err
}

// SetRoutes replaces the routing table.
func (d routerDomain) SetRoutes(ctx context.Context, routes []sockops.Route) error {
	if len(routes) > wire.MaxRoutes {
		return fmt.Errorf("%d routes: %w", len(routes), abi.ENOBUFS)
	}
	k := d.start(wire.OpSetRoutes, 0)
	k.Args = (&wire.NumReq{N: int64(d.af)}).Append(k.Args)
	k.SetPayload((&wire.RoutesMsg{Routes: routes}).Append(nil))
	return d.do(ctx, k)
}

// ifclass is a kind of interface of the component.
type ifclass struct {
	l     *Link
	class string
}

func (c *ifclass) config(ctx context.Context, op wire.Op, conf sockops.IfConfig) error {
	conf.Class = c.class
	k := stream.GetCall()
	defer k.Release()
	k.Header.Op = op
	k.Args = (*wire.IfConfig)(&conf).Append(k.Args)
	return c.l.call(ctx, k)
}

// Create makes an interface.
func (c *ifclass) Create(ctx context.Context, conf sockops.IfConfig) error {
	return c.config(ctx, wire.OpIfCreate, conf)
}

// Configure brings an interface to conf.
func (c *ifclass) Configure(ctx context.Context, conf sockops.IfConfig) error {
	return c.config(ctx, wire.OpIfConfigure, conf)
}

// Destroy takes an interface away.
func (c *ifclass) Destroy(ctx context.Context, name string) error {
	k := stream.GetCall()
	defer k.Release()
	k.Header.Op = wire.OpIfDestroy
	k.Args = (&wire.IfName{Class: c.class, Name: name}).Append(k.Args)
	return c.l.call(ctx, k)
}

// Stats asks for the counters of an interface.
func (c *ifclass) Stats(ctx context.Context, name string) (sockops.IfStats, error) {
	k := stream.GetCall()
	defer k.Release()
	k.Header.Op = wire.OpIfStats
	k.Args = (&wire.IfName{Class: c.class, Name: name}).Append(k.Args)
	if err := c.l.call(ctx, k); err != nil {
		return sockops.IfStats{}, err
	}
	var r wire.IfStats
	err := c.l.parse(k, &r)
	return sockops.IfStats(r), err
}
