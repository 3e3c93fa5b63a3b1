package inet

import (
	"encoding/binary"
	"fmt"
	"math"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// defaultTTL is the hop limit of packets whose socket says nothing
// (net.inet.ip.ttl, net.inet6.ip6.hlim).
const defaultTTL = 64

// ttl is IP_TTL: 1 to 255, and 64 until it is set.
var ttl = option{
	get: func(s *sock) ([]byte, error) {
		v, err := s.ep.GetSockOptInt(tcpip.IPv4TTLOption)
		if v == tcpip.UseDefaultIPv4TTL {
			v = defaultTTL
		}
		return int32Val(v), wrap("getsockopt", err)
	},
	set: ranged(0, tcpip.IPv4TTLOption, 1, 255, getByteOrInt).set,
}

// hops is IPV6_UNICAST_HOPS: 0 to 255, -1 for the default.
var hops = option{
	get: func(s *sock) ([]byte, error) {
		v, err := s.ep.GetSockOptInt(tcpip.IPv6HopLimitOption)
		if v == tcpip.UseDefaultIPv6HopLimit {
			v = defaultTTL
		}
		return int32Val(v), wrap("getsockopt", err)
	},
	set: ranged(0, tcpip.IPv6HopLimitOption, -1, 255, getInt).set,
}

// mcastTTL is IP_MULTICAST_TTL.
var mcastTTL = ranged(abi.SOCK_DGRAM, tcpip.MulticastTTLOption, 0, 255, getByteOrInt)

// mcastHops is IPV6_MULTICAST_HOPS: as IP_MULTICAST_TTL, and -1 for 1, the
// default.
var mcastHops = option{
	typ: abi.SOCK_DGRAM,
	get: mcastTTL.get,
	set: func(s *sock, val []byte) error {
		v, err := getInt(val)
		switch {
		case err != nil:
			return err
		case v < -1 || v > 255:
			return fmt.Errorf("hop limit %d: %w", v, abi.EINVAL)
		case v == -1:
			v = 1
		}
		return wrap("setsockopt", s.ep.SetSockOptInt(tcpip.MulticastTTLOption, v))
	},
}

// mcastLoop is IP_MULTICAST_LOOP and IPV6_MULTICAST_LOOP: 0 or 1.
var mcastLoop = option{
	typ: abi.SOCK_DGRAM,
	get: func(s *sock) ([]byte, error) { return boolVal(s.ep.SocketOptions().GetMulticastLoop()), nil },
	set: func(s *sock, val []byte) error {
		v, err := getByteOrInt(val)
		if err == nil && v != 0 && v != 1 {
			err = fmt.Errorf("value %d: %w", v, abi.EINVAL)
		}
		if err == nil {
			s.ep.SocketOptions().SetMulticastLoop(v == 1)
		}
		return err
	},
}

// mcastIf4 is IP_MULTICAST_IF: struct in_addr, an address of the interface.
var mcastIf4 = option{
	typ: abi.SOCK_DGRAM,
	get: func(s *sock) ([]byte, error) {
		var o tcpip.MulticastInterfaceOption
		if err := s.ep.GetSockOpt(&o); err != nil {
			return nil, wrap("getsockopt", err)
		}
		if o.InterfaceAddr.Len() != 4 {
			return make([]byte, 4), nil
		}
		return o.InterfaceAddr.AsSlice(), nil
	},
	set: func(s *sock, val []byte) error {
		if len(val) != 4 {
			return fmt.Errorf("struct in_addr of %d bytes: %w", len(val), abi.EINVAL)
		}
		return wrap("setsockopt", s.ep.SetSockOpt(&tcpip.MulticastInterfaceOption{InterfaceAddr: inAddr(val)}))
	},
}

// mcastIf6 is IPV6_MULTICAST_IF: the interface's number, 0 for any.
var mcastIf6 = ranged(abi.SOCK_DGRAM, tcpip.IPv6MulticastInterfaceOption, 0, math.MaxInt32, getInt)

// inAddr is an IPv4 address from 4 bytes, empty for the wildcard.
func inAddr(b []byte) tcpip.Address {
	if [4]byte(b) == [4]byte{} {
		return tcpip.Address{}
	}
	return tcpip.AddrFrom4([4]byte(b))
}

// membership reads struct ip_mreq (two addresses: group, interface) or struct
// ipv6_mreq (group and interface number).
func membership(s *sock, val []byte) (tcpip.MembershipOption, error) {
	var o tcpip.MembershipOption
	if s.af == abi.AF_INET {
		if len(val) != 8 {
			return o, fmt.Errorf("struct ip_mreq of %d bytes: %w", len(val), abi.EINVAL)
		}
		o.MulticastAddr, o.InterfaceAddr = inAddr(val[:4]), inAddr(val[4:])
		if val[0]&0xf0 != 0xe0 {
			return o, fmt.Errorf("%s is no multicast group: %w", o.MulticastAddr, abi.EINVAL)
		}
		return o, nil
	}
	if len(val) != 20 {
		return o, fmt.Errorf("struct ipv6_mreq of %d bytes: %w", len(val), abi.EINVAL)
	}
	o.MulticastAddr = tcpip.AddrFrom16([16]byte(val))
	if val[0] != 0xff {
		return o, fmt.Errorf("%s is no multicast group: %w", o.MulticastAddr, abi.EINVAL)
	}
	n := binary.LittleEndian.Uint32(val[16:])
	if n > math.MaxInt32 {
		return o, fmt.Errorf("interface %d: %w", n, abi.ENXIO)
	}
	o.NIC = tcpip.NICID(n)
	return o, nil
}

// join and leave are IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP, IPV6_JOIN_GROUP
// and IPV6_LEAVE_GROUP. EADDRINUSE, EADDRNOTAVAIL, ENXIO.
var (
	join = option{typ: abi.SOCK_DGRAM, set: func(s *sock, val []byte) error {
		o, err := membership(s, val)
		if err != nil {
			return err
		}
		a := tcpip.AddMembershipOption(o)
		return wrap("join "+o.MulticastAddr.String(), s.ep.SetSockOpt(&a))
	}}
	leave = option{typ: abi.SOCK_DGRAM, set: func(s *sock, val []byte) error {
		o, err := membership(s, val)
		if err != nil {
			return err
		}
		r := tcpip.RemoveMembershipOption(o)
		return wrap("leave "+o.MulticastAddr.String(), s.ep.SetSockOpt(&r))
	}}
)

// v6only is IPV6_V6ONLY, on at first; EINVAL once the socket has a name.
var v6only = option{
	get: func(s *sock) ([]byte, error) { return boolVal(s.ep.SocketOptions().GetV6Only()), nil },
	set: func(s *sock, val []byte) error {
		v, err := getInt(val)
		if err != nil {
			return err
		}
		local, terr := s.ep.GetLocalAddress()
		if terr == nil && local.Port != 0 || s.typ == abi.SOCK_STREAM && s.state() != tcp.StateInitial {
			return fmt.Errorf("socket has a name: %w", abi.EINVAL)
		}
		s.ep.SocketOptions().SetV6Only(v != 0)
		return nil
	},
}

// ipOptions are the options at IPPROTO_IP, for AF_INET sockets, and at
// IPPROTO_IPV6, for AF_INET6.
var ipOptions = map[optKey]option{
	{abi.IPPROTO_IP, abi.IP_TTL}:             ttl,
	{abi.IPPROTO_IP, abi.IP_TOS}:             ranged(0, tcpip.IPv4TOSOption, 0, 255, getByteOrInt),
	{abi.IPPROTO_IP, abi.IP_MULTICAST_IF}:    mcastIf4,
	{abi.IPPROTO_IP, abi.IP_MULTICAST_TTL}:   mcastTTL,
	{abi.IPPROTO_IP, abi.IP_MULTICAST_LOOP}:  mcastLoop,
	{abi.IPPROTO_IP, abi.IP_ADD_MEMBERSHIP}:  join,
	{abi.IPPROTO_IP, abi.IP_DROP_MEMBERSHIP}: leave,

	{abi.IPPROTO_IPV6, abi.IPV6_UNICAST_HOPS}:   hops,
	{abi.IPPROTO_IPV6, abi.IPV6_TCLASS}:         ranged(0, tcpip.IPv6TrafficClassOption, 0, 255, getInt),
	{abi.IPPROTO_IPV6, abi.IPV6_V6ONLY}:         v6only,
	{abi.IPPROTO_IPV6, abi.IPV6_MULTICAST_IF}:   mcastIf6,
	{abi.IPPROTO_IPV6, abi.IPV6_MULTICAST_HOPS}: mcastHops,
	{abi.IPPROTO_IPV6, abi.IPV6_MULTICAST_LOOP}: mcastLoop,
	{abi.IPPROTO_IPV6, abi.IPV6_JOIN_GROUP}:     join,
	{abi.IPPROTO_IPV6, abi.IPV6_LEAVE_GROUP}:    leave,
}
