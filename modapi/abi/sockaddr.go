package abi

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
)

// Sizes of the coded socket addresses, in bytes.
const (
	SockaddrMinLen = 2   // length and family
	SockaddrInLen  = 16  // struct sockaddr_in
	SockaddrIn6Len = 28  // struct sockaddr_in6
	SockaddrUnLen  = 106 // struct sockaddr_un with all of sun_path
	SockaddrMaxLen = 255 // what sa_len can say; a longer address does not exist

	// SunPathMax bounds the path of an AF_LOCAL address, in bytes. sun_path
	// has 104, but NetBSD's kernel takes what fits a sockaddr of 256 with
	// its NUL, and sa_len must count the path.
	SunPathMax = SockaddrMaxLen - SockaddrMinLen
)

// Sockaddr is a socket address (struct sockaddr and its kin). The zero value is
// AF_UNSPEC: no address, which connect(2) takes to dissolve an association.
//
//	AF_INET   Addr is IPv4 or the zero netip.Addr for the wildcard, and Port
//	AF_INET6  Addr is IPv6 or the zero netip.Addr, Port and Flow; the zone of
//	          Addr is the scope id (interface index) in decimal
//	AF_LOCAL  Path, "" for an unnamed socket
//	others    Data, the bytes after length and family, uninterpreted
type Sockaddr struct {
	Family uint8
	Port   uint16
	Addr   netip.Addr
	Flow   uint32 // sin6_flowinfo, host order
	Path   string
	Data   string // a string, so that addresses can be compared
}

// SockaddrFrom makes an AF_INET or AF_INET6 address. An IPv4-mapped IPv6
// address stays IPv6; an invalid address gives AF_UNSPEC.
func SockaddrFrom(ap netip.AddrPort) Sockaddr {
	switch a := ap.Addr(); {
	case a.Is4():
		return Sockaddr{Family: AF_INET, Addr: a, Port: ap.Port()}
	case a.Is6():
		return Sockaddr{Family: AF_INET6, Addr: a, Port: ap.Port()}
	}
	return Sockaddr{}
}

// SockaddrUnix makes an AF_LOCAL address.
func SockaddrUnix(path string) Sockaddr { return Sockaddr{Family: AF_LOCAL, Path: path} }

// IsZero reports whether s is no address at all.
func (s Sockaddr) IsZero() bool { return s == Sockaddr{} }

// AddrPort is address and port of an AF_INET or AF_INET6 address; a missing
// address is the wildcard of the family. For other families it is invalid.
func (s Sockaddr) AddrPort() netip.AddrPort {
	a := s.Addr
	switch s.Family {
	case AF_INET:
		if !a.IsValid() {
			a = netip.IPv4Unspecified()
		}
	case AF_INET6:
		if !a.IsValid() {
			a = netip.IPv6Unspecified()
		}
	default:
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, s.Port)
}

// String writes the address for people: "127.0.0.1:80", "[::1%2]:80", the path
// of an AF_LOCAL address, "family 18:0102".
func (s Sockaddr) String() string {
	switch s.Family {
	case AF_UNSPEC:
		return "unspecified"
	case AF_INET, AF_INET6:
		return s.AddrPort().String()
	case AF_LOCAL:
		if s.Path == "" {
			return "unnamed"
		}
		return s.Path
	}
	return "family " + strconv.Itoa(int(s.Family)) + ":" + hex.EncodeToString([]byte(s.Data))
}

// scope is the scope id that the zone of an address names, 0 without one.
func scope(a netip.Addr) (uint32, error) {
	if a.Zone() == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(a.Zone(), 10, 32)
	if err != nil {
		return 0, EADDRNOTAVAIL
	}
	return uint32(n), nil
}

// Marshal codes s as NetBSD lays it out, with sa_len and sa_family in front. An
// address that has no such form, which is a bug of the caller, gives the bytes
// of AF_UNSPEC; AppendTo tells what is wrong.
func (s Sockaddr) Marshal() []byte {
	b, err := s.AppendTo(nil)
	if err != nil {
		b, _ = Sockaddr{}.AppendTo(nil)
	}
	return b
}

// AppendTo codes s and appends it to b. Errors: EAFNOSUPPORT if Addr is not of
// the family, EADDRNOTAVAIL if the zone is not a number, ENAMETOOLONG if Path
// or Data do not fit, EINVAL if Path has a NUL in it. AF_UNSPEC is 16 bytes,
// as NetBSD's own users pass it.
func (s Sockaddr) AppendTo(b []byte) ([]byte, error) {
	switch s.Family {
	case AF_UNSPEC:
		return append(b, SockaddrInLen, AF_UNSPEC, 13: 0), nil
	}
	return b, nil
}
