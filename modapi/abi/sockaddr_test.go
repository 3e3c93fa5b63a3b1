package abi

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func inet(s string) Sockaddr { return SockaddrFrom(netip.MustParseAddrPort(s)) }

// Golden bytes, from struct sockaddr_in, sockaddr_in6 and sockaddr_un of NetBSD
// on a little-endian machine.
var sockaddrGolden = []struct {
	name string
	sa   Sockaddr
	hex  string
	text string
}{
	{"unspec", Sockaddr{}, "10000000000000000000000000000000", "unspecified"},
	{"inet", inet("127.0.0.1:80"), "100200507f0000010000000000000000", "127.0.0.1:80"},
	{"inet any", inet("0.0.0.0:65535"), "1002ffff000000000000000000000000", "0.0.0.0:65535"},
	{"inet6", inet("[2001:db8::1]:8080"), "1c181f900000000020010db800000000000000000000000100000000", "[2001:db8::1]:8080"},
	{"inet6 scope", inet("[fe80::2%258]:1"), "1c18000100000000fe80000000000000000000000000000202010000", "[fe80::2%258]:1"},
	{"inet6 mapped", inet("[::ffff:10.0.0.1]:53"), "1c1800350000000000000000000000000000ffff0a00000100000000", "[::ffff:10.0.0.1]:53"},
	{"inet6 flow", Sockaddr{Family: AF_INET6, Addr: netip.IPv6Loopback(), Port: 7, Flow: 0x12345},
		"1c180007000123450000000000000000000000000000000100000000", "[::1]:7"},
	{"local", SockaddrUnix("/tmp/s"), "08012f746d702f73", "/tmp/s"},
	{"local unnamed", SockaddrUnix(""), "0201", "unnamed"},
	{"link", Sockaddr{Family: AF_LINK, Data: "\x01\x00"}, "04120100", "family 18:0100"},
}

func TestSockaddrGolden(t *testing.T) {
	for _, c := range sockaddrGolden {
		want, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.sa.Marshal(); !bytes.Equal(got, want) {
			t.Errorf("%s: coded %x, want %x", c.name, got, want)
		}
		if want[0] != byte(len(want)) {
			t.Errorf("%s: sa_len %d in %d bytes", c.name, want[0], len(want))
		}
		got, err := ParseSockaddr(want)
		if err != nil || got != c.sa {
			t.Errorf("%s: parsed %+v, %v, want %+v", c.name, got, err, c.sa)
		}
		if c.sa.String() != c.text {
			t.Errorf("%s: text %q, want %q", c.name, c.sa.String(), c.text)
		}
		if pre, err := c.sa.AppendTo([]byte("pre")); err != nil || string(pre) != "pre"+string(want) {
			t.Errorf("%s: AppendTo gave %x, %v", c.name, pre, err)
		}
	}
}

func TestParseSockaddrForms(t *testing.T) {
	in := inet("1.2.3.4:5").Marshal()
	in6 := inet("[::1]:5").Marshal()
	storage := func(b []byte) []byte { return append(bytes.Clone(b), make([]byte, 128-len(b))...) }
	zeroLen := func(b []byte) []byte { b = bytes.Clone(b); b[0] = 0; return b }
	un := append([]byte{0, AF_LOCAL}, "/a/b\x00garbage"...)
	long := append([]byte{255, AF_LOCAL}, bytes.Repeat([]byte("x"), SunPathMax)...)
	for _, c := range []struct {
		name string
		b    []byte
		want Sockaddr
		err  error
	}{
		{"inet without sa_len", zeroLen(in), inet("1.2.3.4:5"), nil},
		{"inet in storage", storage(in), inet("1.2.3.4:5"), nil},
		{"inet in storage without sa_len", zeroLen(storage(in)), Sockaddr{}, EINVAL},
		{"inet short", in[:15], Sockaddr{}, EINVAL},
		{"inet6 without sa_len", zeroLen(in6), inet("[::1]:5"), nil},
		{"inet6 in storage", storage(in6), inet("[::1]:5"), nil},
		{"inet6 short", in6[:24], Sockaddr{}, EINVAL},
		{"local ends at NUL", un, SockaddrUnix("/a/b"), nil},
		{"local longest", long, SockaddrUnix(strings.Repeat("x", SunPathMax)), nil},
		{"local too long", append(long, 'y'), Sockaddr{}, EINVAL},
		{"empty", nil, Sockaddr{}, EINVAL},
		{"one byte", []byte{16}, Sockaddr{}, EINVAL},
		{"unspec short", []byte{0, 0}, Sockaddr{}, nil},
		{"huge", make([]byte, 4096), Sockaddr{}, EINVAL},
	} {
		got, err := ParseSockaddr(c.b)
		if got != c.want || err != c.err {
			t.Errorf("%s: %+v, %v, want %+v, %v", c.name, got, err, c.want, c.err)
		}
	}
}

func TestSockaddrAppendErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		sa   Sockaddr
		want Errno
	}{
		{"inet6 in inet", Sockaddr{Family: AF_INET, Addr: netip.IPv6Loopback()}, EAFNOSUPPORT},
		{"mapped in inet", Sockaddr{Family: AF_INET, Addr: netip.MustParseAddr("::ffff:1.2.3.4")}, EAFNOSUPPORT},
		{"inet in inet6", Sockaddr{Family: AF_INET6, Addr: netip.MustParseAddr("1.2.3.4")}, EAFNOSUPPORT},
		{"zone is a name", inet("[fe80::1%eth0]:1"), EADDRNOTAVAIL},
		{"zone too large", inet("[fe80::1%4294967296]:1"), EADDRNOTAVAIL},
		{"path too long", SockaddrUnix(strings.Repeat("x", SunPathMax+1)), ENAMETOOLONG},
		{"path with NUL", SockaddrUnix("a\x00b"), EINVAL},
		{"data too long", Sockaddr{Family: AF_LINK, Data: strings.Repeat("x", 254)}, ENAMETOOLONG},
	} {
		b, err := c.sa.AppendTo([]byte("pre"))
		if !errors.Is(err, c.want) || string(b) != "pre" {
			t.Errorf("%s: %q, %v, want %v", c.name, b, err, c.want)
		}
		if got, err := ParseSockaddr(c.sa.Marshal()); err != nil || !got.IsZero() {
			t.Errorf("%s: Marshal gives %+v, %v, want AF_UNSPEC", c.name, got, err)
		}
	}
}

func TestSockaddrWildcards(t *testing.T) {
	for _, c := range []struct {
		sa   Sockaddr
		want string
	}{
		{Sockaddr{Family: AF_INET, Port: 9}, "0.0.0.0:9"},
		{Sockaddr{Family: AF_INET6, Port: 9}, "[::]:9"},
	} {
		got, err := ParseSockaddr(c.sa.Marshal())
		if err != nil || got != inet(c.want) || c.sa.String() != c.want {
			t.Errorf("%v: %+v, %v, want %s", c.sa, got, err, c.want)
		}
	}
	if SockaddrUnix("/x").AddrPort().IsValid() {
		t.Error("AF_LOCAL has an AddrPort")
	}
	if !SockaddrFrom(netip.AddrPort{}).IsZero() {
		t.Error("an invalid AddrPort is not AF_UNSPEC")
	}
}

func FuzzParseSockaddr(f *testing.F) {
	for _, c := range sockaddrGolden {
		f.Add(c.sa.Marshal())
	}
	f.Add([]byte{})
	f.Add([]byte{0, AF_INET, 1})
	f.Add(append([]byte{0, AF_LOCAL}, bytes.Repeat([]byte{'/', 0}, 120)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		sa, err := ParseSockaddr(b)
		if err != nil {
			if err != EINVAL || sa != (Sockaddr{}) {
				t.Fatalf("%x: %+v, %v", b, sa, err)
			}
			return
		}
		out, err := sa.AppendTo(nil)
		if err != nil {
			t.Fatalf("%x: cannot code %+v: %v", b, sa, err)
		}
		if int(out[0]) != len(out) || len(out) > SockaddrMaxLen || out[1] != b[1] {
			t.Fatalf("%x: coded %x", b, out)
		}
		again, err := ParseSockaddr(out)
		if err != nil || again != sa {
			t.Fatalf("%x: %+v, then %+v, %v", b, sa, again, err)
		}
		_ = sa.String()
	})
}
