package abi

import (
	"bytes"
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

// AppendTo codes s and appends it to b. On an error b comes back as it was:
// EAFNOSUPPORT if Addr is not of the family, EADDRNOTAVAIL if its zone is not a
// scope id, ENAMETOOLONG if Path or Data do not fit, EINVAL if Path contains a
// NUL.
func (s Sockaddr) AppendTo(b []byte) ([]byte, error) {
	switch s.Family {
	case AF_UNSPEC:
		b = append(b, SockaddrInLen, AF_UNSPEC)
		return append(b, make([]byte, SockaddrInLen-SockaddrMinLen)...), nil
	case AF_INET:
		var a [4]byte
		if s.Addr.IsValid() {
			if !s.Addr.Is4() {
				return b, EAFNOSUPPORT
			}
			a = s.Addr.As4()
		}
		b = append(b, SockaddrInLen, AF_INET)
		b = binary.BigEndian.AppendUint16(b, s.Port)
		b = append(b, a[:]...)
		return append(b, 0, 0, 0, 0, 0, 0, 0, 0), nil
	case AF_INET6:
		if s.Addr.IsValid() && !s.Addr.Is6() {
			return b, EAFNOSUPPORT
		}
		id, err := scope(s.Addr)
		if err != nil {
			return b, err
		}
		b = append(b, SockaddrIn6Len, AF_INET6)
		b = binary.BigEndian.AppendUint16(b, s.Port)
		b = binary.BigEndian.AppendUint32(b, s.Flow)
		a := netip.IPv6Unspecified().As16()
		if s.Addr.IsValid() {
			a = s.Addr.As16()
		}
		b = append(b, a[:]...)
		return binary.LittleEndian.AppendUint32(b, id), nil
	case AF_LOCAL:
		if len(s.Path) > SunPathMax {
			return b, ENAMETOOLONG
		}
		if strings.IndexByte(s.Path, 0) >= 0 {
			return b, EINVAL
		}
		b = append(b, byte(SockaddrMinLen+len(s.Path)), AF_LOCAL)
		return append(b, s.Path...), nil
	}
	if len(s.Data) > SockaddrMaxLen-SockaddrMinLen {
		return b, ENAMETOOLONG
	}
	b = append(b, byte(SockaddrMinLen+len(s.Data)), s.Family)
	return append(b, s.Data...), nil
}

// ParseSockaddr decodes a socket address from outside; b is all that the caller
// passed. As in NetBSD's kernel len(b) counts and not sa_len, which many
// programs leave 0. An AF_INET or AF_INET6 address must have the exact size of
// its structure, unless sa_len says so within a larger buffer such as struct
// sockaddr_storage. An AF_LOCAL path ends at its first NUL.
//
// The one error is EINVAL, for a length that does not fit. Whether a family is
// supported, and whether a scope id exists, is for others to say.
func ParseSockaddr(b []byte) (Sockaddr, error) {
	if len(b) < SockaddrMinLen || len(b) > SockaddrMaxLen {
		return Sockaddr{}, EINVAL
	}
	s := Sockaddr{Family: b[1]}
	switch s.Family {
	case AF_UNSPEC:
	case AF_INET:
		if !fits(b, SockaddrInLen) {
			return Sockaddr{}, EINVAL
		}
		s.Port = binary.BigEndian.Uint16(b[2:])
		s.Addr = netip.AddrFrom4([4]byte(b[4:8]))
	case AF_INET6:
		if !fits(b, SockaddrIn6Len) {
			return Sockaddr{}, EINVAL
		}
		s.Port = binary.BigEndian.Uint16(b[2:])
		s.Flow = binary.BigEndian.Uint32(b[4:])
		s.Addr = netip.AddrFrom16([16]byte(b[8:24]))
		if id := binary.LittleEndian.Uint32(b[24:]); id != 0 {
			s.Addr = s.Addr.WithZone(strconv.FormatUint(uint64(id), 10))
		}
	case AF_LOCAL:
		path := b[SockaddrMinLen:]
		if i := bytes.IndexByte(path, 0); i >= 0 {
			path = path[:i]
		}
		s.Path = string(path)
	default:
		s.Data = string(b[SockaddrMinLen:])
	}
	return s, nil
}

// fits reports whether b holds a structure of size bytes: exactly, or with
// sa_len saying so in a larger buffer.
func fits(b []byte, size int) bool {
	return len(b) == size || len(b) > size && int(b[0]) == size
}
