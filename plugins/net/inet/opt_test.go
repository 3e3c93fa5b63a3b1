package inet

import (
	"bytes"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestIntOptions sets and reads every int option: its first value, one to set,
// and what it reads as then.
func TestIntOptions(t *testing.T) {
	const (
		stream = abi.SOCK_STREAM
		dgram  = abi.SOCK_DGRAM
		sol    = abi.SOL_SOCKET
	)
	k := boot(t)
	for _, c := range []struct {
		what                   string
		af, typ, level, name   int
		first, set, after, bad int // bad: EINVAL, 0 for none
	}{
		{"DEBUG", abi.AF_INET, stream, sol, abi.SO_DEBUG, 0, 1, 1, 0},
		{"REUSEADDR", abi.AF_INET, stream, sol, abi.SO_REUSEADDR, 0, 4, 1, 0},
		{"REUSEPORT", abi.AF_INET, dgram, sol, abi.SO_REUSEPORT, 0, 1, 1, 0},
		{"KEEPALIVE", abi.AF_INET6, stream, sol, abi.SO_KEEPALIVE, 0, 1, 1, 0},
		{"BROADCAST", abi.AF_INET, dgram, sol, abi.SO_BROADCAST, 0, 1, 1, 0},
		{"OOBINLINE", abi.AF_INET, stream, sol, abi.SO_OOBINLINE, 1, 1, 1, 0},
		{"SNDBUF", abi.AF_INET, stream, sol, abi.SO_SNDBUF, tcpBufDefault / bufFactor, 65536, 65536, -1},
		{"SNDBUF small", abi.AF_INET, stream, sol, abi.SO_SNDBUF, tcpBufDefault / bufFactor, 1, tcpBufMin / bufFactor, -1},
		{"RCVBUF", abi.AF_INET, stream, sol, abi.SO_RCVBUF, tcpBufDefault / bufFactor, 65536, 65536, -1},
		{"RCVBUF udp", abi.AF_INET, dgram, sol, abi.SO_RCVBUF, udpBufDefault / bufFactor, 65536, 65536, -1},
		{"SNDBUF udp", abi.AF_INET6, dgram, sol, abi.SO_SNDBUF, udpBufDefault / bufFactor, 1, udpBufMin / bufFactor, -1},
		{"NODELAY", abi.AF_INET, stream, abi.IPPROTO_TCP, abi.TCP_NODELAY, 0, 1, 1, 0},
		{"KEEPIDLE", abi.AF_INET, stream, abi.IPPROTO_TCP, abi.TCP_KEEPIDLE, 7200, 60, 60, -1},
		{"KEEPINTVL", abi.AF_INET, stream, abi.IPPROTO_TCP, abi.TCP_KEEPINTVL, 75, 10, 10, -1},
		{"KEEPCNT", abi.AF_INET, stream, abi.IPPROTO_TCP, abi.TCP_KEEPCNT, 9, 3, 3, -1},
		{"TTL", abi.AF_INET, stream, abi.IPPROTO_IP, abi.IP_TTL, 64, 3, 3, 256},
		{"TTL udp", abi.AF_INET, dgram, abi.IPPROTO_IP, abi.IP_TTL, 64, 255, 255, -1},
		{"TOS", abi.AF_INET, dgram, abi.IPPROTO_IP, abi.IP_TOS, 0, 0x10, 0x10, 256},
		{"MULTICAST_TTL", abi.AF_INET, dgram, abi.IPPROTO_IP, abi.IP_MULTICAST_TTL, 1, 8, 8, 256},
		{"MULTICAST_LOOP", abi.AF_INET, dgram, abi.IPPROTO_IP, abi.IP_MULTICAST_LOOP, 1, 0, 0, 2},
		{"UNICAST_HOPS", abi.AF_INET6, stream, abi.IPPROTO_IPV6, abi.IPV6_UNICAST_HOPS, 64, 3, 3, 256},
		{"UNICAST_HOPS udp", abi.AF_INET6, dgram, abi.IPPROTO_IPV6, abi.IPV6_UNICAST_HOPS, 64, -1, 64, -2},
		{"TCLASS", abi.AF_INET6, dgram, abi.IPPROTO_IPV6, abi.IPV6_TCLASS, 0, 0x20, 0x20, 256},
		{"V6ONLY", abi.AF_INET6, dgram, abi.IPPROTO_IPV6, abi.IPV6_V6ONLY, 1, 0, 0, 0},
		{"MULTICAST_IF", abi.AF_INET6, dgram, abi.IPPROTO_IPV6, abi.IPV6_MULTICAST_IF, 0, 1, 1, -1},
		{"MULTICAST_HOPS", abi.AF_INET6, dgram, abi.IPPROTO_IPV6, abi.IPV6_MULTICAST_HOPS, 1, 9, 9, -2},
		{"MULTICAST_LOOP 6", abi.AF_INET6, dgram, abi.IPPROTO_IPV6, abi.IPV6_MULTICAST_LOOP, 1, 0, 0, 2},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := k.socket(c.af, c.typ)
			if v := s.opt(c.level, c.name); v != c.first {
				t.Errorf("first value %d, want %d", v, c.first)
			}
			if c.bad != 0 {
				wantErr(t, "bad value", s.setopt(c.level, c.name, c.bad), abi.EINVAL)
			}
			wantErr(t, "short value", s.d.Setopt(bg, s.id, c.level, c.name, []byte{1, 2}), abi.EINVAL)
			wantErr(t, "set", s.setopt(c.level, c.name, c.set), 0)
			if v := s.opt(c.level, c.name); v != c.after {
				t.Errorf("reads %d after set to %d, want %d", v, c.set, c.after)
			}
		})
	}
}

func TestOptionErrors(t *testing.T) {
	k := boot(t)
	for _, c := range []struct {
		what                      string
		af, typ, level, name, val int
		set, get                  abi.Errno
	}{
		{"unknown", abi.AF_INET, abi.SOCK_STREAM, abi.SOL_SOCKET, 0x7777, 1, abi.ENOPROTOOPT, abi.ENOPROTOOPT},
		{"the kernel's RCVTIMEO", abi.AF_INET, abi.SOCK_STREAM, abi.SOL_SOCKET, abi.SO_RCVTIMEO, 1, abi.ENOPROTOOPT, abi.ENOPROTOOPT},
		{"unknown level", abi.AF_INET, abi.SOCK_STREAM, 77, 1, 1, abi.ENOPROTOOPT, abi.ENOPROTOOPT},
		{"TCP on UDP", abi.AF_INET, abi.SOCK_DGRAM, abi.IPPROTO_TCP, abi.TCP_NODELAY, 1, abi.ENOPROTOOPT, abi.ENOPROTOOPT},
		{"IP on IPv6", abi.AF_INET6, abi.SOCK_DGRAM, abi.IPPROTO_IP, abi.IP_TTL, 1, abi.ENOPROTOOPT, abi.ENOPROTOOPT},
		{"IPv6 on IP", abi.AF_INET, abi.SOCK_DGRAM, abi.IPPROTO_IPV6, abi.IPV6_V6ONLY, 1, abi.ENOPROTOOPT, abi.ENOPROTOOPT},
		{"MAXSEG small", abi.AF_INET, abi.SOCK_STREAM, abi.IPPROTO_TCP, abi.TCP_MAXSEG, 1, abi.EINVAL, 0},
		{"OOBINLINE off", abi.AF_INET, abi.SOCK_STREAM, abi.SOL_SOCKET, abi.SO_OOBINLINE, 0, abi.EOPNOTSUPP, 0},
		{"SNDBUF huge", abi.AF_INET, abi.SOCK_STREAM, abi.SOL_SOCKET, abi.SO_SNDBUF, 1 << 30, abi.ENOBUFS, 0},
		{"ERROR", abi.AF_INET, abi.SOCK_STREAM, abi.SOL_SOCKET, abi.SO_ERROR, 1, abi.ENOPROTOOPT, 0},
		{"TYPE", abi.AF_INET, abi.SOCK_STREAM, abi.SOL_SOCKET, abi.SO_TYPE, 1, abi.ENOPROTOOPT, 0},
		{"ACCEPTCONN", abi.AF_INET, abi.SOCK_STREAM, abi.SOL_SOCKET, abi.SO_ACCEPTCONN, 1, abi.ENOPROTOOPT, 0},
		{"ACCEPTCONN udp", abi.AF_INET, abi.SOCK_DGRAM, abi.SOL_SOCKET, abi.SO_ACCEPTCONN, 1, abi.ENOPROTOOPT, 0},
		{"membership", abi.AF_INET, abi.SOCK_DGRAM, abi.IPPROTO_IP, abi.IP_ADD_MEMBERSHIP, 1, abi.EINVAL, abi.ENOPROTOOPT},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := k.socket(c.af, c.typ)
			wantErr(t, "set", s.setopt(c.level, c.name, c.val), c.set)
			_, err := s.d.Getopt(bg, s.id, c.level, c.name)
			wantErr(t, "get", err, c.get)
		})
	}
}

func TestOtherOptions(t *testing.T) {
	k := boot(t)
	s := k.socket(abi.AF_INET, abi.SOCK_STREAM)
	if v := s.opt(abi.SOL_SOCKET, abi.SO_TYPE); v != abi.SOCK_STREAM {
		t.Errorf("SO_TYPE %d", v)
	}
	wantErr(t, "bind", s.bind(lo4), 0)
	if v := s.opt(abi.SOL_SOCKET, abi.SO_ACCEPTCONN); v != 0 {
		t.Errorf("SO_ACCEPTCONN %d before listen", v)
	}
	wantErr(t, "listen", s.listen(1), 0)
	if v := s.opt(abi.SOL_SOCKET, abi.SO_ACCEPTCONN); v != 1 {
		t.Errorf("SO_ACCEPTCONN %d after listen", v)
	}

	get := func(level, name int) []byte {
		t.Helper()
		b, err := s.d.Getopt(bg, s.id, level, name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	set := func(level, name int, val []byte) error { return s.d.Setopt(bg, s.id, level, name, val) }
	l := func(on, sec int) []byte { return append(int32Val(on), int32Val(sec)...) }
	if b := get(abi.SOL_SOCKET, abi.SO_LINGER); !bytes.Equal(b, l(0, 0)) {
		t.Errorf("SO_LINGER %v", b)
	}
	wantErr(t, "linger", set(abi.SOL_SOCKET, abi.SO_LINGER, l(5, 7)), 0)
	if b := get(abi.SOL_SOCKET, abi.SO_LINGER); !bytes.Equal(b, l(1, 7)) {
		t.Errorf("SO_LINGER %v", b)
	}
	wantErr(t, "linger for ever", set(abi.SOL_SOCKET, abi.SO_LINGER, l(1, 1<<30)), abi.EDOM)
	wantErr(t, "linger backwards", set(abi.SOL_SOCKET, abi.SO_LINGER, l(1, -1)), abi.EDOM)
	wantErr(t, "linger short", set(abi.SOL_SOCKET, abi.SO_LINGER, l(1, 0)[:4]), abi.EINVAL)

	if b := get(abi.IPPROTO_TCP, abi.TCP_CONGCTL); string(b) != "newreno\x00" {
		t.Errorf("TCP_CONGCTL %q", b)
	}
	wantErr(t, "cubic", set(abi.IPPROTO_TCP, abi.TCP_CONGCTL, []byte("cubic\x00junk")), 0)
	if b := get(abi.IPPROTO_TCP, abi.TCP_CONGCTL); string(b) != "cubic\x00" {
		t.Errorf("TCP_CONGCTL %q", b)
	}
	wantErr(t, "newreno", set(abi.IPPROTO_TCP, abi.TCP_CONGCTL, []byte("newreno")), 0)
	wantErr(t, "bbr9", set(abi.IPPROTO_TCP, abi.TCP_CONGCTL, []byte("bbr9")), abi.ENOENT)
	wantErr(t, "a long name", set(abi.IPPROTO_TCP, abi.TCP_CONGCTL, make([]byte, 65)), abi.EINVAL)
	wantErr(t, "ttl as a byte", set(abi.IPPROTO_IP, abi.IP_TTL, []byte{9}), 0)
	if v := s.opt(abi.IPPROTO_IP, abi.IP_TTL); v != 9 {
		t.Errorf("IP_TTL %d", v)
	}
}

// TestReuseAddr has a server listen again where connections of the one before
// it are still in TIME_WAIT.
func TestReuseAddr(t *testing.T) {
	k := boot(t)
	l := k.socket(abi.AF_INET, abi.SOCK_STREAM)
	wantErr(t, "setopt", l.setopt(abi.SOL_SOCKET, abi.SO_REUSEADDR, 1), 0)
	wantErr(t, "bind", l.bind(lo4), 0)
	wantErr(t, "listen", l.listen(1), 0)
	a := l.name(false)
	c := k.socket(abi.AF_INET, abi.SOCK_STREAM)
	if err := c.connect(a); err != nil {
		t.Fatal(err)
	}
	s, _, err := l.accept()
	if err != nil {
		t.Fatal(err)
	}
	s.close() // the server's end closes first and is in TIME_WAIT
	if _, err := c.Read(make([]byte, 1)); err != errEOF {
		t.Fatal(err)
	}
	c.close()
	l.close()
	wantErr(t, "bind without SO_REUSEADDR", k.socket(abi.AF_INET, abi.SOCK_STREAM).bind(a), abi.EADDRINUSE)
	l = k.socket(abi.AF_INET, abi.SOCK_STREAM)
	wantErr(t, "setopt", l.setopt(abi.SOL_SOCKET, abi.SO_REUSEADDR, 1), 0)
	wantErr(t, "bind again", l.bind(a), 0)
	wantErr(t, "listen again", l.listen(1), 0)
}

// TestInherit has an accepted connection begin with its listener's options
// (sonewconn).
func TestInherit(t *testing.T) {
	k := boot(t)
	l, a := k.listener(abi.AF_INET)
	linger := append(int32Val(1), int32Val(7)...)
	wantErr(t, "linger", l.d.Setopt(bg, l.id, abi.SOL_SOCKET, abi.SO_LINGER, linger), 0)
	ints := []struct{ level, name, v int }{
		{abi.SOL_SOCKET, abi.SO_KEEPALIVE, 1},
		{abi.SOL_SOCKET, abi.SO_SNDBUF, 65536},
		{abi.IPPROTO_TCP, abi.TCP_NODELAY, 1},
		{abi.IPPROTO_TCP, abi.TCP_KEEPIDLE, 60},
		{abi.IPPROTO_TCP, abi.TCP_KEEPCNT, 2},
		{abi.IPPROTO_IP, abi.IP_TTL, 3},
	}
	for _, o := range ints {
		wantErr(t, "setopt", l.setopt(o.level, o.name, o.v), 0)
	}
	c := k.socket(abi.AF_INET, abi.SOCK_STREAM)
	if err := c.connect(a); err != nil {
		t.Fatal(err)
	}
	s, _, err := l.accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range ints {
		if v := s.opt(o.level, o.name); v != o.v {
			t.Errorf("option %#x at %#x is %d, the listener's %d", o.name, o.level, v, o.v)
		}
	}
	b, err := s.d.Getopt(bg, s.id, abi.SOL_SOCKET, abi.SO_LINGER)
	if err != nil || !bytes.Equal(b, linger) {
		t.Errorf("SO_LINGER %v, %v", b, err)
	}
	if v := s.opt(abi.SOL_SOCKET, abi.SO_ACCEPTCONN); v != 0 {
		t.Error("an accepted connection listens")
	}
}
