package inet

import (
	"context"
	"fmt"
	"io"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

// Domain is AF_INET or AF_INET6 on the module's stack.
type Domain struct {
	m  *Module
	af int
}

var (
	_ sockops.Domain = (*Domain)(nil)
	_ sockops.Router = (*Domain)(nil)
)

// backlogMax bounds what Listen takes; the kernel's kern.somaxconn is smaller.
const backlogMax = 1 << 14

// Socket makes a socket: SOCK_STREAM with TCP, SOCK_DGRAM with UDP. EPROTOTYPE
// for a type that has no protocol of its own, EPROTONOSUPPORT otherwise,
// SOCK_RAW included.
func (d *Domain) Socket(_ context.Context, id abi.SockID, typ, proto int) error {
	ep, q, err := d.newEndpoint(typ, proto)
	if err != nil {
		return err
	}
	_, err = d.m.add(id, d.af, typ, ep, q)
	return err
}

// mapped reports whether a is IPv4 in IPv6, which a socket with IPV6_V6ONLY
// has no use for.
func (s *sock) mapped(a netip.Addr) bool {
	return s.af == abi.AF_INET6 && a.Is4In6() && s.ep.SocketOptions().GetV6Only()
}

// Bind names a socket. EINVAL if it has a name, EADDRINUSE, EADDRNOTAVAIL,
// EAFNOSUPPORT.
func (d *Domain) Bind(_ context.Context, id abi.SockID, a abi.Sockaddr) error {
	s, err := d.sock(id)
	if err != nil {
		return err
	}
	f, err := fullAddr(d.af, a)
	if err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if s.mapped(a.Addr) {
		return fmt.Errorf("bind %s: %w", a, abi.EADDRNOTAVAIL)
	}
	return wrap("bind "+a.String(), s.ep.Bind(f))
}

// Connect begins to connect a stream (EINPROGRESS) or sets the peer of a
// datagram socket; AF_UNSPEC takes the latter's peer away. EISCONN, EALREADY,
// ECONNREFUSED, ETIMEDOUT, EADDRNOTAVAIL (port 0), EAFNOSUPPORT, EOPNOTSUPP
// (listening), EINVAL (was connected or has failed before), ENETUNREACH,
// EHOSTUNREACH.
func (d *Domain) Connect(_ context.Context, id abi.SockID, a abi.Sockaddr) error {
	s, err := d.sock(id)
	if err != nil {
		return err
	}
	if a.Family == abi.AF_UNSPEC && s.typ == abi.SOCK_DGRAM {
		if err := s.ep.Disconnect(); err != nil {
			return wrap("disconnect", err)
		}
		s.connected.Store(false)
		return nil
	}
	f, err := fullAddr(d.af, a)
	switch {
	case err != nil:
		return fmt.Errorf("connect: %w", err)
	case s.mapped(a.Addr):
		return fmt.Errorf("connect %s: %w", a, abi.EINVAL)
	case a.Port == 0:
		return fmt.Errorf("connect %s: %w", a, abi.EADDRNOTAVAIL)
	}
	if s.typ == abi.SOCK_DGRAM {
		if err := s.ep.Connect(f); err != nil {
			return wrap("connect "+a.String(), err)
		}
		s.connected.Store(true)
		return nil
	}
	if s.state() == tcp.StateListen {
		return fmt.Errorf("connect %s: %w", a, abi.EOPNOTSUPP)
	}
	s.arm(evAll)
	switch err := s.ep.Connect(f); err.(type) {
	case nil:
		// The handshake is over, and the edge has said so.
		return fmt.Errorf("connect %s: %w", a, abi.EISCONN)
	case *tcpip.ErrConnectionAborted:
		// The endpoint is dead and its error was told.
		return fmt.Errorf("connect %s: %w", a, abi.EINVAL)
	default:
		s.told(err)
		return wrap("connect "+a.String(), err)
	}
}

// Listen lets a stream be connected to. It admits one and a half times backlog
// and one, as NetBSD's sonewconn. EOPNOTSUPP for datagrams, EINVAL if
// connected.
func (d *Domain) Listen(_ context.Context, id abi.SockID, backlog int) error {
	s, err := d.sock(id)
	if err != nil {
		return err
	}
	if s.typ != abi.SOCK_STREAM {
		return fmt.Errorf("listen: %w", abi.EOPNOTSUPP)
	}
	backlog = min(max(backlog, 0), backlogMax)
	if err := s.ep.Listen(backlog*3/2 + 1); err != nil {
		return wrap("listen", err)
	}
	s.rdShut.Store(false)
	return nil
}

// Accept takes a connection from ls and names it as; it begins with the options
// of ls. EAGAIN if there is none,
// EINVAL if ls does not listen, EOPNOTSUPP for datagrams, ECONNABORTED after
// Shutdown, EEXIST if as is taken.
func (d *Domain) Accept(_ context.Context, ls, as abi.SockID) (abi.Sockaddr, error) {
	s, err := d.sock(ls)
	if err != nil {
		return abi.Sockaddr{}, err
	}
	if s.typ != abi.SOCK_STREAM {
		return abi.Sockaddr{}, fmt.Errorf("accept: %w", abi.EOPNOTSUPP)
	}
	if s.rdShut.Load() && s.state() == tcp.StateListen {
		return abi.Sockaddr{}, fmt.Errorf("accept: %w", abi.ECONNABORTED)
	}
	if _, dup := d.m.socks.Load(as); dup {
		return abi.Sockaddr{}, fmt.Errorf("accept as socket %d: %w", as, abi.EEXIST)
	}
	var peer tcpip.FullAddress
	ep, q, terr := s.ep.Accept(&peer)
	if wouldBlock(terr) {
		s.arm(evIn)
		ep, q, terr = s.ep.Accept(&peer)
	}
	if terr != nil {
		return abi.Sockaddr{}, wrap("accept", terr)
	}
	s.drained(evIn)
	n, err := d.m.add(as, d.af, abi.SOCK_STREAM, ep, q)
	if err != nil {
		return abi.Sockaddr{}, err
	}
	n.inherit(s)
	// What came before the listener was registered is in the state now.
	n.drained(evAll)
	return sockaddr(d.af, peer), nil
}

// Shutdown ends one direction or both. ENOTCONN, EINVAL (how). After SHUT_RD a
// stream is at its end and what it had received is gone (sorflush).
func (d *Domain) Shutdown(_ context.Context, id abi.SockID, how int) error {
	s, err := d.sock(id)
	if err != nil {
		return err
	}
	var f tcpip.ShutdownFlags
	switch how {
	case abi.SHUT_RD:
		f = tcpip.ShutdownRead
	case abi.SHUT_WR:
		f = tcpip.ShutdownWrite
	case abi.SHUT_RDWR:
		f = tcpip.ShutdownRead | tcpip.ShutdownWrite
	default:
		return fmt.Errorf("shutdown %d: %w", how, abi.EINVAL)
	}
	if s.typ == abi.SOCK_DGRAM && !s.connected.Load() {
		return fmt.Errorf("shutdown: %w", abi.ENOTCONN)
	}
	if s.typ == abi.SOCK_STREAM {
		st := s.state()
		if unconnected(st) && st != tcp.StateListen {
			return fmt.Errorf("shutdown: %w", abi.ENOTCONN)
		}
		if f&tcpip.ShutdownRead != 0 {
			s.rdShut.Store(true)
			if st != tcp.StateListen {
				s.flush()
			}
		}
	}
	return wrap("shutdown", s.ep.Shutdown(f))
}

// flush drops what a stream has received.
func (s *sock) flush() {
	for range tcpBufMax / tcpBufMin {
		if _, err := s.ep.Read(io.Discard, tcpip.ReadOptions{}); err != nil {
			return
		}
	}
}

// Name answers the own address, the wildcard with port 0 if there is none, or
// the peer's. ENOTCONN.
func (d *Domain) Name(_ context.Context, id abi.SockID, peer bool) (abi.Sockaddr, error) {
	s, err := d.sock(id)
	if err != nil {
		return abi.Sockaddr{}, err
	}
	if !peer {
		f, err := s.ep.GetLocalAddress()
		if err != nil {
			return abi.Sockaddr{}, wrap("getsockname", err)
		}
		return sockaddr(d.af, f), nil
	}
	if s.typ == abi.SOCK_STREAM && unconnected(s.state()) {
		return abi.Sockaddr{}, fmt.Errorf("getpeername: %w", abi.ENOTCONN)
	}
	f, terr := s.ep.GetRemoteAddress()
	if terr != nil {
		return abi.Sockaddr{}, wrap("getpeername", terr)
	}
	return sockaddr(d.af, f), nil
}

// Close ends the socket: no more edges, and the id is free. A connection goes
// on closing by itself; with SO_LINGER and time 0 it is reset. EBADF.
func (d *Domain) Close(_ context.Context, id abi.SockID) error {
	s, err := d.sock(id)
	if err != nil {
		return err
	}
	if !d.m.socks.CompareAndDelete(id, s) {
		return fmt.Errorf("socket %d: %w", id, abi.EBADF)
	}
	s.q.EventUnregister(&s.entry)
	s.ep.Close()
	return nil
}
