package inet

import (
	"context"
	"net/netip"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

var bg = context.Background()

func TestSocketTypes(t *testing.T) {
	k := boot(t)
	for _, c := range []struct {
		typ, proto int
		want       abi.Errno
	}{
		{abi.SOCK_STREAM, 0, 0},
		{abi.SOCK_STREAM, abi.IPPROTO_TCP, 0},
		{abi.SOCK_DGRAM, 0, 0},
		{abi.SOCK_DGRAM, abi.IPPROTO_UDP, 0},
		{abi.SOCK_STREAM, abi.IPPROTO_UDP, abi.EPROTONOSUPPORT},
		{abi.SOCK_DGRAM, abi.IPPROTO_TCP, abi.EPROTONOSUPPORT},
		{abi.SOCK_RAW, 0, abi.EPROTONOSUPPORT},
		{abi.SOCK_RAW, abi.IPPROTO_ICMP, abi.EPROTONOSUPPORT},
		{abi.SOCK_SEQPACKET, 0, abi.EPROTOTYPE},
		{0, 0, abi.EPROTOTYPE},
		{-1, -1, abi.EPROTONOSUPPORT},
		{abi.SOCK_STREAM, 1 << 20, abi.EPROTONOSUPPORT},
	} {
		for af, d := range k.dom {
			id := k.id()
			err := d.Socket(bg, id, c.typ, c.proto)
			wantErr(t, names[af], err, c.want)
			if err != nil {
				wantErr(t, "close of what was never made", d.Close(bg, id), abi.EBADF)
				continue
			}
			wantErr(t, "same id again", d.Socket(bg, id, c.typ, c.proto), abi.EEXIST)
			wantErr(t, "close", d.Close(bg, id), 0)
			wantErr(t, "close again", d.Close(bg, id), abi.EBADF)
		}
	}
	if st, err := k.mod.(modapi.Stater).Stat(bg); err != nil || st != "0 sockets, 1 interfaces" {
		t.Errorf("stat: %q, %v", st, err)
	}
}

// TestBadID calls everything with an id that there is not, and one of the
// other family.
func TestBadID(t *testing.T) {
	k := boot(t)
	other := k.socket(abi.AF_INET6, abi.SOCK_STREAM)
	d := k.dom[abi.AF_INET]
	for _, id := range []abi.SockID{0, 1 << 60, other.id} {
		_, err := d.Accept(bg, id, k.id())
		wantErr(t, "accept", err, abi.EBADF)
		_, err = d.Send(bg, id, sockops.SendReq{}, nil)
		wantErr(t, "send", err, abi.EBADF)
		_, err = d.Recv(bg, id, sockops.RecvReq{}, nil)
		wantErr(t, "recv", err, abi.EBADF)
		_, err = d.Getopt(bg, id, abi.SOL_SOCKET, abi.SO_TYPE)
		wantErr(t, "getopt", err, abi.EBADF)
		_, err = d.Name(bg, id, false)
		wantErr(t, "name", err, abi.EBADF)
		_, err = d.Poll(bg, id)
		wantErr(t, "poll", err, abi.EBADF)
		wantErr(t, "bind", d.Bind(bg, id, lo4), abi.EBADF)
		wantErr(t, "connect", d.Connect(bg, id, lo4), abi.EBADF)
		wantErr(t, "listen", d.Listen(bg, id, 1), abi.EBADF)
		wantErr(t, "shutdown", d.Shutdown(bg, id, abi.SHUT_RD), abi.EBADF)
		wantErr(t, "setopt", d.Setopt(bg, id, abi.SOL_SOCKET, abi.SO_DEBUG, int32Val(1)), abi.EBADF)
		wantErr(t, "close", d.Close(bg, id), abi.EBADF)
	}
}

func TestStreamErrors(t *testing.T) {
	for _, af := range []int{abi.AF_INET, abi.AF_INET6} {
		t.Run(names[af], func(t *testing.T) {
			k := boot(t)
			lo := loOf[af]
			other := loOf[abi.AF_INET+abi.AF_INET6-af]

			s := k.socket(af, abi.SOCK_STREAM)
			if ev := s.poll(); ev != 0 {
				t.Errorf("a new socket is ready for %v", ev)
			}
			_, err := s.d.Name(bg, s.id, true)
			wantErr(t, "peer of nobody", err, abi.ENOTCONN)
			if a := s.name(false); a.Port != 0 || !a.Addr.IsUnspecified() || int(a.Family) != af {
				t.Errorf("name before bind: %v", a)
			}
			_, err = s.d.Send(bg, s.id, sockops.SendReq{}, abi.IovOf([]byte("x")))
			wantErr(t, "send unconnected", err, abi.ENOTCONN)
			_, err = s.d.Recv(bg, s.id, sockops.RecvReq{}, abi.IovOf(make([]byte, 1)))
			wantErr(t, "recv unconnected", err, abi.ENOTCONN)
			wantErr(t, "shutdown unconnected", s.shutdown(abi.SHUT_RDWR), abi.ENOTCONN)
			wantErr(t, "shutdown 3", s.shutdown(3), abi.EINVAL)
			wantErr(t, "shutdown -1", s.shutdown(-1), abi.EINVAL)
			_, err = s.d.Accept(bg, s.id, k.id())
			wantErr(t, "accept without listen", err, abi.EINVAL)
			wantErr(t, "bind other family", s.bind(other), abi.EAFNOSUPPORT)
			wantErr(t, "connect other family", s.start(port(other, 80)), abi.EAFNOSUPPORT)
			wantErr(t, "connect nothing", s.start(abi.Sockaddr{}), abi.EAFNOSUPPORT)
			wantErr(t, "connect port 0", s.start(lo), abi.EADDRNOTAVAIL)
			alien := map[int]string{abi.AF_INET: "192.0.2.1", abi.AF_INET6: "2001:db8::1"}[af]
			far := abi.SockaddrFrom(netip.AddrPortFrom(netip.MustParseAddr(alien), 80))
			wantErr(t, "bind alien", s.bind(far), abi.EADDRNOTAVAIL)
			if e := abi.ErrnoOf(s.start(far)); e != abi.EHOSTUNREACH && e != abi.ENETUNREACH {
				t.Errorf("connect without route: %v", e.Name())
			}
			wantErr(t, "bind", s.bind(lo), 0)
			wantErr(t, "bind twice", s.bind(lo), abi.EINVAL)
			wantErr(t, "bind in use", k.socket(af, abi.SOCK_STREAM).bind(s.name(false)), abi.EADDRINUSE)

			a := s.name(false)
			if a.Port < anonPortMin {
				t.Errorf("anonymous port %d", a.Port)
			}
			c := k.socket(af, abi.SOCK_STREAM)
			wantErr(t, "connect to a closed port", c.connect(a), abi.ECONNREFUSED)
			if e := c.soError(); e != 0 {
				t.Errorf("SO_ERROR told twice: %s", e.Name())
			}
			if ev := c.poll(); ev&abi.POLLIN == 0 || ev&abi.POLLOUT == 0 {
				t.Errorf("a failed connection is ready for %v", ev)
			}
			wantErr(t, "connect after failure", c.start(a), abi.EINVAL)
			n, err := c.d.Recv(bg, c.id, sockops.RecvReq{}, abi.IovOf(make([]byte, 1)))
			wantErr(t, "recv after failure", err, 0)
			if n.N != 0 {
				t.Errorf("recv after failure: %d bytes", n.N)
			}
			_, err = c.d.Send(bg, c.id, sockops.SendReq{}, abi.IovOf([]byte("x")))
			wantErr(t, "send after failure", err, abi.EPIPE)

			wantErr(t, "listen", s.listen(1), 0)
			wantErr(t, "connect while listening", s.start(a), abi.EOPNOTSUPP)
			_, err = s.d.Accept(bg, s.id, k.id())
			wantErr(t, "accept of none", err, abi.EAGAIN)
			_, err = s.d.Send(bg, s.id, sockops.SendReq{}, abi.IovOf([]byte("x")))
			wantErr(t, "send on listener", err, abi.ENOTCONN)
			_, err = s.d.Recv(bg, s.id, sockops.RecvReq{}, abi.IovOf(make([]byte, 1)))
			wantErr(t, "recv on listener", err, abi.ENOTCONN)
			if ev := s.poll(); ev != 0 {
				t.Errorf("an idle listener is ready for %v", ev)
			}
			wantErr(t, "shutdown listener", s.shutdown(abi.SHUT_RD), 0)
			if ev := s.poll(); ev&abi.POLLIN == 0 {
				t.Errorf("a shut listener is ready for %v", ev)
			}
			_, err = s.d.Accept(bg, s.id, k.id())
			wantErr(t, "accept after shutdown", err, abi.ECONNABORTED)
		})
	}
}

func TestConnected(t *testing.T) {
	k := boot(t)
	c, s := k.pair(abi.AF_INET)
	wantErr(t, "connect again", c.start(s.name(false)), abi.EISCONN)
	wantErr(t, "connect accepted", s.start(c.name(false)), abi.EISCONN)
	wantErr(t, "bind connected", c.bind(lo4), abi.EINVAL)
	wantErr(t, "listen connected", c.listen(1), abi.EINVAL)
	_, err := c.d.Recv(bg, c.id, sockops.RecvReq{}, abi.IovOf(make([]byte, 1)))
	wantErr(t, "recv of nothing", err, abi.EAGAIN)
	_, err = c.d.Recv(bg, c.id, sockops.RecvReq{Flags: abi.MSG_OOB}, abi.IovOf(make([]byte, 1)))
	wantErr(t, "recv oob", err, abi.EOPNOTSUPP)
	_, err = c.d.Send(bg, c.id, sockops.SendReq{Flags: abi.MSG_OOB}, abi.IovOf([]byte("x")))
	wantErr(t, "send oob", err, abi.EOPNOTSUPP)
	_, err = c.d.Send(bg, c.id, sockops.SendReq{Control: []byte("x")}, abi.IovOf([]byte("x")))
	wantErr(t, "send control", err, abi.EINVAL)
	n, err := c.d.Send(bg, c.id, sockops.SendReq{Flags: abi.MSG_NOSIGNAL}, nil)
	if n != 0 || err != nil {
		t.Errorf("send of nothing: %d, %v", n, err)
	}
	if ev := c.poll(); ev != abi.POLLOUT {
		t.Errorf("idle connection is ready for %v", ev)
	}
	wantErr(t, "accept as an id in use", func() error {
		l, _ := k.listener(abi.AF_INET)
		_, err := l.d.Accept(bg, l.id, c.id)
		return err
	}(), abi.EEXIST)

	// Several areas, empty ones among them, both ways.
	n, err = c.d.Send(bg, c.id, sockops.SendReq{}, abi.Iov{nil, []byte("ab"), {}, []byte("cdef"), nil})
	if n != 6 || err != nil {
		t.Fatalf("send: %d, %v", n, err)
	}
	if _, err := s.waitFor(abi.POLLIN); err != nil {
		t.Fatal(err)
	}
	v := abi.Iov{make([]byte, 1), nil, make([]byte, 3)}
	r, err := s.d.Recv(bg, s.id, sockops.RecvReq{}, v)
	if err != nil || r.N != 4 || string(v[0])+string(v[2]) != "abcd" {
		t.Fatalf("recv: %+v %q, %v", r, v, err)
	}

	// SHUT_RD drops what is there and ends the stream.
	wantErr(t, "shutdown", s.shutdown(abi.SHUT_RD), 0)
	if r, err := s.d.Recv(bg, s.id, sockops.RecvReq{}, v); err != nil || r.N != 0 {
		t.Errorf("recv after SHUT_RD: %+v, %v", r, err)
	}
	if ev := s.poll(); ev&abi.POLLIN == 0 {
		t.Errorf("after SHUT_RD: %v", ev)
	}
	// SHUT_WR: EPIPE here, the end there.
	wantErr(t, "shutdown", s.shutdown(abi.SHUT_WR), 0)
	_, err = s.d.Send(bg, s.id, sockops.SendReq{}, abi.IovOf([]byte("x")))
	wantErr(t, "send after SHUT_WR", err, abi.EPIPE)
	if _, err := c.Read(make([]byte, 1)); err != errEOF {
		t.Errorf("read at the end: %v", err)
	}
}

// TestReset has the peer close with data unread and with SO_LINGER 0.
func TestReset(t *testing.T) {
	for name, reset := range map[string]func(t *testing.T, c, s *so){
		"unread": func(t *testing.T, c, s *so) {
			if _, err := c.Write([]byte("unread")); err != nil {
				t.Fatal(err)
			}
			if _, err := s.waitFor(abi.POLLIN); err != nil {
				t.Fatal(err)
			}
			s.close()
		},
		"linger": func(t *testing.T, c, s *so) {
			b := append(int32Val(1), int32Val(0)...)
			if err := s.d.Setopt(bg, s.id, abi.SOL_SOCKET, abi.SO_LINGER, b); err != nil {
				t.Fatal(err)
			}
			s.close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := boot(t)
			c, s := k.pair(abi.AF_INET)
			reset(t, c, s)
			_, err := c.Read(make([]byte, 1))
			wantErr(t, "read", err, abi.ECONNRESET)
			if e := c.soError(); e != 0 {
				t.Errorf("SO_ERROR after it was told: %s", e.Name())
			}
			if _, err := c.Read(make([]byte, 1)); err != errEOF {
				t.Errorf("second read: %v", err)
			}
			_, err = c.Write([]byte("x"))
			wantErr(t, "write", err, abi.EPIPE)
			_, err = c.d.Name(bg, c.id, true)
			wantErr(t, "peer", err, abi.ENOTCONN)
		})
	}
}

// TestListenBacklog fills a listener's queue; what was admitted is accepted.
func TestListenBacklog(t *testing.T) {
	k := boot(t)
	l := k.socket(abi.AF_INET, abi.SOCK_STREAM)
	wantErr(t, "bind", l.bind(lo4), 0)
	wantErr(t, "listen", l.listen(-5), 0)
	wantErr(t, "listen again", l.listen(4), 0)
	// The queue is in the order in which handshakes ended, which is not that
	// of the calls.
	waiting := map[abi.Sockaddr]bool{}
	for range 5 {
		c := k.socket(abi.AF_INET, abi.SOCK_STREAM)
		if err := c.connect(l.name(false)); err != nil {
			t.Fatal(err)
		}
		waiting[c.name(false)] = true
	}
	for len(waiting) > 0 {
		s, peer, err := l.accept()
		if err != nil {
			t.Fatal(err)
		}
		if !waiting[peer] || peer != s.name(true) {
			t.Fatalf("accepted %v, peer %v, of %v", peer, s.name(true), waiting)
		}
		delete(waiting, peer)
	}
}

func TestDgramErrors(t *testing.T) {
	for _, af := range []int{abi.AF_INET, abi.AF_INET6} {
		t.Run(names[af], func(t *testing.T) {
			k := boot(t)
			lo := loOf[af]
			s := k.socket(af, abi.SOCK_DGRAM)
			if ev := s.poll(); ev != abi.POLLOUT {
				t.Errorf("a new socket is ready for %v", ev)
			}
			wantErr(t, "listen", s.listen(1), abi.EOPNOTSUPP)
			_, err := s.d.Accept(bg, s.id, k.id())
			wantErr(t, "accept", err, abi.EOPNOTSUPP)
			wantErr(t, "shutdown unconnected", s.shutdown(abi.SHUT_WR), abi.ENOTCONN)
			send := func(to abi.Sockaddr, n int) error {
				_, err := s.d.Send(bg, s.id, sockops.SendReq{To: to}, abi.IovOf(make([]byte, n)))
				return err
			}
			wantErr(t, "send to nobody", send(abi.Sockaddr{}, 1), abi.EDESTADDRREQ)
			wantErr(t, "send to port 0", send(lo, 1), abi.EADDRNOTAVAIL)
			wantErr(t, "send to other family", send(port(loOf[abi.AF_INET+abi.AF_INET6-af], 9), 1), abi.EAFNOSUPPORT)
			wantErr(t, "send too much", send(port(lo, 9), 65536), abi.EMSGSIZE)
			if s.name(false).Port == 0 {
				t.Error("sending did not bind")
			}
			wantErr(t, "bind after sending", s.bind(lo), abi.EINVAL)
			s = k.socket(af, abi.SOCK_DGRAM)
			wantErr(t, "bind", s.bind(lo), 0)
			wantErr(t, "bind twice", s.bind(lo), abi.EINVAL)
			wantErr(t, "bind in use", k.socket(af, abi.SOCK_DGRAM).bind(s.name(false)), abi.EADDRINUSE)
			_, err = s.d.Recv(bg, s.id, sockops.RecvReq{}, abi.IovOf(make([]byte, 1)))
			wantErr(t, "recv of none", err, abi.EAGAIN)
			_, err = s.d.Name(bg, s.id, true)
			wantErr(t, "peer of nobody", err, abi.ENOTCONN)

			// A closed port refuses by ICMP; the next call tells.
			c := k.socket(af, abi.SOCK_DGRAM)
			closed := k.socket(af, abi.SOCK_DGRAM)
			wantErr(t, "bind", closed.bind(lo), 0)
			gone := closed.name(false)
			closed.close()
			wantErr(t, "connect port 0", c.start(lo), abi.EADDRNOTAVAIL)
			wantErr(t, "connect", c.start(gone), 0)
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			_, err = c.Read(make([]byte, 1))
			wantErr(t, "read refused", err, abi.ECONNREFUSED)
			if ev := c.poll(); ev != abi.POLLOUT {
				t.Errorf("after the error was told: %v", ev)
			}
		})
	}
}
