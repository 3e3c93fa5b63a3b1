package inet

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

func TestUDP(t *testing.T) {
	for _, af := range []int{abi.AF_INET, abi.AF_INET6} {
		t.Run(names[af], func(t *testing.T) {
			k := boot(t)
			a, b := k.socket(af, abi.SOCK_DGRAM), k.socket(af, abi.SOCK_DGRAM)
			for _, s := range []*so{a, b} {
				if err := s.bind(loOf[af]); err != nil {
					t.Fatal(err)
				}
			}
			send := func(p []byte) {
				t.Helper()
				n, err := a.d.Send(bg, a.id, sockops.SendReq{To: b.name(false)}, abi.Iov{p[:len(p)/2], p[len(p)/2:]})
				if err != nil || n != len(p) {
					t.Fatalf("send: %d, %v", n, err)
				}
			}
			buf := make([]byte, 65536)

			big := pattern(65507)
			if af == abi.AF_INET6 {
				big = pattern(65487) // what one IPv6 packet over lo0 carries
			}
			for _, p := range [][]byte{[]byte("one"), nil, []byte("two"), big} {
				send(p)
				r, err := b.recv(buf, 0)
				if err != nil || !bytes.Equal(buf[:r.N], p) || r.Flags != 0 {
					t.Fatalf("recv of %d bytes: %d bytes, flags %#x, %v", len(p), r.N, r.Flags, err)
				}
				if r.From != a.name(false) {
					t.Errorf("from %v, not %v", r.From, a.name(false))
				}
			}

			// Peek leaves it; a short read cuts it and says so.
			send([]byte("truncate"))
			send([]byte("next"))
			r, err := b.recv(buf[:3], abi.MSG_PEEK)
			if err != nil || string(buf[:r.N]) != "tru" || r.Flags != abi.MSG_TRUNC {
				t.Fatalf("peek: %+v %q %v", r, buf[:r.N], err)
			}
			r, err = b.recv(buf[:5], 0)
			if err != nil || string(buf[:r.N]) != "trunc" || r.Flags != abi.MSG_TRUNC {
				t.Fatalf("short recv: %+v %q %v", r, buf[:r.N], err)
			}
			r, err = b.recv(nil, 0)
			if err != nil || r.N != 0 || r.Flags != abi.MSG_TRUNC {
				t.Fatalf("recv of nothing: %+v %v", r, err)
			}

			// Connected: a peer, a filter, EISCONN; and no more.
			if err := b.start(a.name(false)); err != nil {
				t.Fatal(err)
			}
			if b.name(true) != a.name(false) {
				t.Errorf("peer %v", b.name(true))
			}
			_, err = b.d.Send(bg, b.id, sockops.SendReq{To: a.name(false)}, nil)
			wantErr(t, "sendto connected", err, abi.EISCONN)
			c := k.socket(af, abi.SOCK_DGRAM)
			if _, err := c.d.Send(bg, c.id, sockops.SendReq{To: b.name(false)}, abi.IovOf([]byte("stranger"))); err != nil {
				t.Fatal(err)
			}
			send([]byte("friend"))
			if r, err := b.recv(buf, 0); err != nil || string(buf[:r.N]) != "friend" {
				t.Fatalf("recv: %q %v", buf[:r.N], err)
			}
			if err := b.start(abi.Sockaddr{}); err != nil {
				t.Fatalf("dissolve: %v", err)
			}
			_, err = b.d.Name(bg, b.id, true)
			wantErr(t, "peer after dissolve", err, abi.ENOTCONN)
			send([]byte("again"))
			if r, err := b.recv(buf, 0); err != nil || string(buf[:r.N]) != "again" {
				t.Fatalf("recv: %q %v", buf[:r.N], err)
			}

			// Shut down reading: the end, readable.
			if err := b.start(a.name(false)); err != nil {
				t.Fatal(err)
			}
			wantErr(t, "shutdown", b.shutdown(abi.SHUT_RD), 0)
			if r, err := b.recv(buf, 0); err != nil || r.N != 0 {
				t.Errorf("recv after SHUT_RD: %+v, %v", r, err)
			}
			wantErr(t, "shutdown", b.shutdown(abi.SHUT_WR), 0)
			_, err = b.Write([]byte("x"))
			wantErr(t, "send after SHUT_WR", err, abi.EPIPE)
		})
	}
}

// TestDualStack has an IPv6 listener without IPV6_V6ONLY take an IPv4 caller.
func TestDualStack(t *testing.T) {
	k := boot(t)
	l := k.socket(abi.AF_INET6, abi.SOCK_STREAM)
	if v := l.opt(abi.IPPROTO_IPV6, abi.IPV6_V6ONLY); v != 1 {
		t.Errorf("IPV6_V6ONLY is %d at first", v)
	}
	mapped := abi.SockaddrFrom(netip.MustParseAddrPort("[::ffff:127.0.0.1]:0"))
	wantErr(t, "bind mapped with v6only", l.bind(mapped), abi.EADDRNOTAVAIL)
	wantErr(t, "connect mapped with v6only", l.start(port(mapped, 9)), abi.EINVAL)
	wantErr(t, "setopt", l.setopt(abi.IPPROTO_IPV6, abi.IPV6_V6ONLY, 0), 0)
	wantErr(t, "bind", l.bind(abi.Sockaddr{Family: abi.AF_INET6}), 0)
	wantErr(t, "setopt bound", l.setopt(abi.IPPROTO_IPV6, abi.IPV6_V6ONLY, 1), abi.EINVAL)
	wantErr(t, "listen", l.listen(1), 0)
	c := k.socket(abi.AF_INET, abi.SOCK_STREAM)
	if err := c.connect(port(lo4, l.name(false).Port)); err != nil {
		t.Fatal(err)
	}
	s, peer, err := l.accept()
	if err != nil {
		t.Fatal(err)
	}
	if !peer.Addr.Is4In6() || peer.Port != c.name(false).Port {
		t.Errorf("accepted from %v", peer)
	}
	if s.name(true) != peer || !s.name(false).Addr.Is4In6() {
		t.Errorf("names %v, %v", s.name(true), s.name(false))
	}
}

// TestV6OnlyByDefault has the wildcard of IPv6 leave IPv4's port alone.
func TestV6OnlyByDefault(t *testing.T) {
	k := boot(t)
	s6 := k.socket(abi.AF_INET6, abi.SOCK_STREAM)
	wantErr(t, "bind", s6.bind(abi.Sockaddr{Family: abi.AF_INET6}), 0)
	wantErr(t, "listen", s6.listen(1), 0)
	a := port(any4, s6.name(false).Port)
	s4 := k.socket(abi.AF_INET, abi.SOCK_STREAM)
	wantErr(t, "bind the same port of IPv4", s4.bind(a), 0)
}

func TestMulticast(t *testing.T) {
	k := boot(t)
	group := []byte{224, 0, 0, 251}
	s := k.socket(abi.AF_INET, abi.SOCK_DGRAM)
	wantErr(t, "bind", s.bind(any4), 0)
	set := func(name int, val []byte) error { return s.d.Setopt(bg, s.id, abi.IPPROTO_IP, name, val) }
	mreq := append(group[:4:4], 127, 0, 0, 1)
	wantErr(t, "leave what was not joined", set(abi.IP_DROP_MEMBERSHIP, mreq), abi.EADDRNOTAVAIL)
	wantErr(t, "join", set(abi.IP_ADD_MEMBERSHIP, mreq), 0)
	wantErr(t, "join again", set(abi.IP_ADD_MEMBERSHIP, mreq), abi.EADDRINUSE)
	wantErr(t, "join no group", set(abi.IP_ADD_MEMBERSHIP, []byte{10, 0, 0, 1, 127, 0, 0, 1}), abi.EINVAL)
	wantErr(t, "short mreq", set(abi.IP_ADD_MEMBERSHIP, mreq[:4]), abi.EINVAL)
	wantErr(t, "interface", set(abi.IP_MULTICAST_IF, []byte{127, 0, 0, 1}), 0)
	wantErr(t, "alien interface", set(abi.IP_MULTICAST_IF, []byte{192, 0, 2, 1}), abi.EADDRNOTAVAIL)
	to := port(s.name(false), s.name(false).Port)
	to.Addr = netip.AddrFrom4([4]byte(group))
	if _, err := s.d.Send(bg, s.id, sockops.SendReq{To: to}, abi.IovOf([]byte("all"))); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 8)
	if r, err := s.recv(b, 0); err != nil || string(b[:r.N]) != "all" {
		t.Fatalf("recv: %q, %v", b[:r.N], err)
	}
	wantErr(t, "leave", set(abi.IP_DROP_MEMBERSHIP, mreq), 0)
}
