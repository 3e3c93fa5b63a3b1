package rumpclient

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// network is what a network's name of package net stands for.
type network struct {
	typ    int // SOCK_*
	want   int // AF_*, AF_UNSPEC for tcp and udp, which take both
	stream bool
}

var networks = map[string]network{
	"tcp": {abi.SOCK_STREAM, abi.AF_UNSPEC, true}, "tcp4": {abi.SOCK_STREAM, abi.AF_INET, true}, "tcp6": {abi.SOCK_STREAM, abi.AF_INET6, true},
	"udp": {abi.SOCK_DGRAM, abi.AF_UNSPEC, false}, "udp4": {abi.SOCK_DGRAM, abi.AF_INET, false}, "udp6": {abi.SOCK_DGRAM, abi.AF_INET6, false},
	"unix": {abi.SOCK_STREAM, abi.AF_LOCAL, true}, "unixgram": {abi.SOCK_DGRAM, abi.AF_LOCAL, false}, "unixpacket": {abi.SOCK_SEQPACKET, abi.AF_LOCAL, true},
}

// resolve turns an address as package net writes it into the addresses to try.
// Names are not looked up, but for localhost and the names of ports: the kernel
// has its own network, in which the host's names mean nothing. A missing host is
// localhost, or to listen the wildcard.
func resolve(ctx context.Context, name, address string, listen bool) (network, []abi.Sockaddr, error) {
	n, ok := networks[name]
	if !ok {
		return n, nil, net.UnknownNetworkError(name)
	}
	if n.want == abi.AF_LOCAL {
		return n, []abi.Sockaddr{abi.SockaddrUnix(address)}, nil
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return n, nil, err
	}
	base := "tcp"
	if !n.stream {
		base = "udp"
	}
	port, err := net.DefaultResolver.LookupPort(ctx, base, service)
	if err != nil {
		return n, nil, err
	}
	var hosts []netip.Addr
	switch {
	case host == "" && listen:
		hosts = []netip.Addr{netip.IPv6Unspecified(), netip.IPv4Unspecified()}
	case host == "" || strings.EqualFold(host, "localhost"):
		hosts = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	default:
		a, err := netip.ParseAddr(host)
		if err != nil {
			return n, nil, &net.DNSError{Err: "names are not looked up in the kernel's network", Name: host, IsNotFound: true}
		}
		hosts = []netip.Addr{a.Unmap()}
	}
	var to []abi.Sockaddr
	for _, a := range hosts {
		sa := abi.SockaddrFrom(netip.AddrPortFrom(a, uint16(port)))
		if n.want == abi.AF_UNSPEC || int(sa.Family) == n.want {
			to = append(to, sa)
		}
	}
	if len(to) == 0 {
		return n, nil, &net.AddrError{Err: "no suitable address", Addr: address}
	}
	return n, to, nil
}

// netAddr is a socket address as package net has it.
func netAddr(name string, sa abi.Sockaddr) net.Addr {
	switch sa.Family {
	case abi.AF_INET, abi.AF_INET6:
		ap := sa.AddrPort()
		ap = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
		if strings.HasPrefix(name, "udp") {
			return net.UDPAddrFromAddrPort(ap)
		}
		return net.TCPAddrFromAddrPort(ap)
	case abi.AF_LOCAL:
		return &net.UnixAddr{Name: sa.Path, Net: name}
	}
	switch {
	case strings.HasPrefix(name, "udp"):
		return &net.UDPAddr{}
	case strings.HasPrefix(name, "unix"):
		return &net.UnixAddr{Net: name}
	}
	return &net.TCPAddr{}
}

// sockaddr is the way back, for a socket of family af: an IPv6 socket reaches
// IPv4 by mapped addresses.
func sockaddr(a net.Addr, af int) (abi.Sockaddr, error) {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		ap = a.AddrPort()
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UnixAddr:
		return abi.SockaddrUnix(a.Name), nil
	case nil:
		return abi.Sockaddr{}, errors.New("missing address")
	default:
		var err error
		if ap, err = netip.ParseAddrPort(a.String()); err != nil {
			return abi.Sockaddr{}, &net.AddrError{Err: "not an address of this network", Addr: a.String()}
		}
	}
	ip := ap.Addr().Unmap()
	if ip.Zone() != "" {
		if _, err := strconv.Atoi(ip.Zone()); err != nil {
			return abi.Sockaddr{}, &net.AddrError{Err: "a zone is an interface's number here", Addr: a.String()}
		}
	}
	if ip.Is4() && af == abi.AF_INET6 {
		ip = netip.AddrFrom16(ip.As16())
	}
	return abi.SockaddrFrom(netip.AddrPortFrom(ip, ap.Port())), nil
}
