package inet

import (
	"context"
	"fmt"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

// sock is a socket: an endpoint of netstack under a kernel-issued id.
type sock struct {
	m     *Module
	id    abi.SockID
	af    int
	typ   int // abi.SOCK_STREAM or SOCK_DGRAM
	ep    tcpip.Endpoint
	q     *waiter.Queue
	entry waiter.Entry

	armed     atomic.Uint32 // abi.PollEvents whose next edge is wanted
	connected atomic.Bool   // dgram: has a peer, so that sendto is EISCONN
	rdShut    atomic.Bool   // stream: reading was shut down
	optSet    atomic.Bool   // an option was set
	debug     atomic.Bool   // SO_DEBUG, kept and without effect
	lingerSec atomic.Int32  // SO_LINGER's time while it is off
}

// The edges of one direction are coalesced: one is sent only if the kernel may
// wait for it, which it can only after a call that told it "not now": a Poll,
// an EAGAIN, or a call that left nothing behind. Such a call arms the
// direction; the edge that is sent disarms it. Without this, every segment and
// every datagram would cost an upcall.
//
// Arming comes before the look at the endpoint that the answer rests on. A
// change of state comes before its notification. So either the notification
// sees the direction armed, or the look sees the change.
const (
	evIn  = abi.POLLIN | abi.POLLRDNORM
	evOut = abi.POLLOUT
	evAll = evIn | evOut
)

// arm asks for the next edges of ev.
func (s *sock) arm(ev abi.PollEvents) { s.armed.Or(uint32(ev)) }

// fire sends the edges of ev that are armed, and disarms them.
func (s *sock) fire(ev abi.PollEvents) {
	if s.armed.Load()&uint32(ev) == 0 {
		return
	}
	if ev &= abi.PollEvents(s.armed.And(^uint32(ev))); ev != 0 {
		s.m.k.Ready(sockops.Ready{Sock: s.id, Events: ev})
	}
}

// drained arms ev after a call that may have left nothing there. If there is
// something by now, its notification may have come too early: the edge is sent
// here.
func (s *sock) drained(ev abi.PollEvents) {
	s.arm(ev)
	if now := s.ready() & ev; now != 0 {
		s.fire(now)
	}
}

// NotifyEvent turns a notification of netstack into an edge for the kernel.
// It runs with locks of netstack held.
func (s *sock) NotifyEvent(mask waiter.EventMask) {
	if mask&(waiter.EventErr|waiter.EventHUp|waiter.EventRdHUp) != 0 {
		// An error or end makes reads and writes answer at once. It is
		// rare, and never held back.
		s.armed.And(^uint32(evAll))
		s.m.k.Ready(sockops.Ready{Sock: s.id, Events: evAll})
		return
	}
	var ev abi.PollEvents
	if mask&waiter.ReadableEvents != 0 {
		ev |= evIn
	}
	if mask&waiter.WritableEvents != 0 {
		ev |= evOut
	}
	s.fire(ev)
}

// add enters an endpoint into the table and listens to it from now on. EEXIST
// if the id is taken; the endpoint is gone then.
func (m *Module) add(id abi.SockID, af, typ int, ep tcpip.Endpoint, q *waiter.Queue) (*sock, error) {
	s := &sock{m: m, id: id, af: af, typ: typ, ep: ep, q: q}
	s.arm(evAll)
	if _, dup := m.socks.LoadOrStore(id, s); dup {
		ep.Abort()
		return nil, fmt.Errorf("socket %d: %w", id, abi.EEXIST)
	}
	s.entry.Init(s, waiter.AllEvents)
	q.EventRegister(&s.entry)
	return s, nil
}

// sock finds a socket of the domain. EBADF.
func (d *Domain) sock(id abi.SockID) (*sock, error) {
	if v, ok := d.m.socks.Load(id); ok {
		if s := v.(*sock); s.af == d.af {
			return s, nil
		}
	}
	return nil, fmt.Errorf("socket %d: %w", id, abi.EBADF)
}

// state is the state of a stream's endpoint.
func (s *sock) state() tcp.EndpointState { return tcp.EndpointState(s.ep.State()) }

// unconnected reports whether a stream was never connected so far.
func unconnected(st tcp.EndpointState) bool {
	switch st {
	case tcp.StateInitial, tcp.StateBound, tcp.StateListen:
		return true
	}
	return connecting(st)
}

// connecting reports whether a stream's handshake goes on.
func connecting(st tcp.EndpointState) bool {
	switch st {
	case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
		return true
	}
	return false
}

// takeError is the pending error, which it clears. netstack keeps the error of
// a failed handshake twice.
func (s *sock) takeError() abi.Errno {
	first := s.ep.LastError()
	if first != nil && s.typ == abi.SOCK_STREAM {
		s.ep.LastError()
	}
	return errnoOf(first)
}

// told notes that the caller was told a connection's error by a call other
// than Getopt(SO_ERROR), which is then clear, as NetBSD's so_error.
func (s *sock) told(err tcpip.Error) {
	if s.typ != abi.SOCK_STREAM {
		return
	}
	switch err.(type) {
	case *tcpip.ErrConnectionRefused, *tcpip.ErrConnectionReset, *tcpip.ErrTimeout,
		*tcpip.ErrHostUnreachable, *tcpip.ErrNetworkUnreachable:
		s.ep.LastError()
	}
}

// Poll answers what is ready now, as NetBSD's sopoll does: readable with data,
// a connection to accept, at the end, or with an error; writable with room in
// a connected stream or any datagram socket, when writing was shut down, or
// with an error. sopoll answers neither POLLERR nor POLLHUP.
func (d *Domain) Poll(_ context.Context, id abi.SockID) (abi.PollEvents, error) {
	s, err := d.sock(id)
	if err != nil {
		return 0, err
	}
	s.arm(evAll)
	return s.ready(), nil
}

// ready is what Poll answers.
func (s *sock) ready() abi.PollEvents {
	r := s.ep.Readiness(waiter.ReadableEvents | waiter.WritableEvents | waiter.EventErr)
	if r&waiter.EventErr != 0 {
		return evAll
	}
	var ev abi.PollEvents
	if r&waiter.ReadableEvents != 0 || s.rdShut.Load() {
		ev |= evIn
	}
	if r&waiter.WritableEvents != 0 {
		ev |= evOut
	}
	return ev
}

// newEndpoint makes an endpoint of a type and protocol.
func (d *Domain) newEndpoint(typ, proto int) (tcpip.Endpoint, *waiter.Queue, error) {
	var tp tcpip.TransportProtocolNumber
	switch {
	case typ == abi.SOCK_STREAM && (proto == 0 || proto == abi.IPPROTO_TCP):
		tp = tcp.ProtocolNumber
	case typ == abi.SOCK_DGRAM && (proto == 0 || proto == abi.IPPROTO_UDP):
		tp = udp.ProtocolNumber
	case proto == 0 && typ != abi.SOCK_RAW:
		return nil, nil, fmt.Errorf("socket type %d: %w", typ, abi.EPROTOTYPE)
	default:
		return nil, nil, fmt.Errorf("socket type %d, protocol %d: %w", typ, proto, abi.EPROTONOSUPPORT)
	}
	q := new(waiter.Queue)
	ep, err := d.m.stack.NewEndpoint(tp, netProto(d.af), q)
	if err != nil {
		return nil, nil, wrap("socket", err)
	}
	if d.af == abi.AF_INET6 {
		ep.SocketOptions().SetV6Only(true) // net.inet6.ip6.v6only is 1
	}
	return ep, q, nil
}
