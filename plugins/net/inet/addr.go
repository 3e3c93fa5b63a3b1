package inet

import (
	"fmt"
	"net/netip"
	"strconv"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// netProto is netstack's number of an address family.
func netProto(af int) tcpip.NetworkProtocolNumber {
	if af == abi.AF_INET6 {
		return ipv6.ProtocolNumber
	}
	return ipv4.ProtocolNumber
}

// tcpipAddr is an address in netstack's form, without zone. The zero
// netip.Addr is netstack's empty address.
func tcpipAddr(a netip.Addr) tcpip.Address {
	switch {
	case a.Is4():
		return tcpip.AddrFrom4(a.As4())
	case a.Is6():
		return tcpip.AddrFrom16(a.As16())
	}
	return tcpip.Address{}
}

// fullAddr is the address a for a socket of family af. The wildcard becomes
// netstack's empty address. EAFNOSUPPORT if a is of another family,
// EADDRNOTAVAIL if its zone is no interface number.
func fullAddr(af int, a abi.Sockaddr) (tcpip.FullAddress, error) {
	if int(a.Family) != af {
		return tcpip.FullAddress{}, fmt.Errorf("address family %d: %w", a.Family, abi.EAFNOSUPPORT)
	}
	f := tcpip.FullAddress{Port: a.Port}
	ip := a.Addr
	if !ip.IsValid() || ip.IsUnspecified() {
		return f, nil
	}
	if ip.Is4() != (af == abi.AF_INET) {
		return tcpip.FullAddress{}, fmt.Errorf("address %s: %w", ip, abi.EAFNOSUPPORT)
	}
	if z := ip.Zone(); z != "" {
		n, err := strconv.ParseUint(z, 10, 31)
		if err != nil {
			return tcpip.FullAddress{}, fmt.Errorf("address %s: %w", ip, abi.EADDRNOTAVAIL)
		}
		f.NIC = tcpip.NICID(n)
	}
	f.Addr = tcpipAddr(ip)
	return f, nil
}

// sockaddr is the address f as a socket of family af shows it. On an AF_INET6
// socket an IPv4 address appears mapped, an empty one as the wildcard; the
// zone is shown of link-local addresses only.
func sockaddr(af int, f tcpip.FullAddress) abi.Sockaddr {
	var ip netip.Addr
	switch f.Addr.Len() {
	case 4:
		ip = netip.AddrFrom4(f.Addr.As4())
		if af == abi.AF_INET6 {
			ip = netip.AddrFrom16(ip.As16())
		}
	case 16:
		ip = netip.AddrFrom16(f.Addr.As16())
		if f.NIC != 0 && (ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast()) {
			ip = ip.WithZone(strconv.Itoa(int(f.NIC)))
		}
	default:
		ip = netip.IPv4Unspecified()
		if af == abi.AF_INET6 {
			ip = netip.IPv6Unspecified()
		}
	}
	return abi.Sockaddr{Family: uint8(af), Port: f.Port, Addr: ip}
}

// subnet is a prefix in netstack's form. The prefix must be valid.
func subnet(p netip.Prefix) tcpip.Subnet {
	p = p.Masked()
	return tcpip.AddressWithPrefix{
		Address:   tcpipAddr(p.Addr().WithZone("")),
		PrefixLen: p.Bits(),
	}.Subnet()
}
