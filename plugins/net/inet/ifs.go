package inet

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/loopback"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

// The MTU of lo interfaces, in bytes. NetBSD's is 33184 (LOMTU); the larger
// default carries a full IP packet, which is what throughput wants.
const (
	loMTU    = 65536
	loMTUMin = 1280 // what IPv6 asks of a link (RFC 8200, section 5)
	loMTUMax = 65536
)

// ifNameMax bounds an interface's name (IFNAMSIZ without its NUL).
const ifNameMax = 15

// iface is an interface of the stack. Module.mu protects it.
type iface struct {
	id    tcpip.NICID
	class string
	cfg   sockops.IfConfig
}

// loClass is the interface class "lo".
type loClass struct{ m *Module }

var _ sockops.IfClass = (*loClass)(nil)

// checkIf says what is wrong with a configuration for class lo.
func checkIf(c *sockops.IfConfig) error {
	if c.Name == "" || len(c.Name) > ifNameMax {
		return fmt.Errorf("interface name of %d bytes: %w", len(c.Name), abi.EINVAL)
	}
	if c.MTU != 0 && (c.MTU < loMTUMin || c.MTU > loMTUMax) {
		return fmt.Errorf("%s: mtu %d is not between %d and %d: %w", c.Name, c.MTU, loMTUMin, loMTUMax, abi.EINVAL)
	}
	for _, p := range c.Addrs {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("%s: address %s: %w", c.Name, p, abi.EINVAL)
		}
	}
	return nil
}

// Create makes a lo interface and configures it. EEXIST, EINVAL.
func (l *loClass) Create(_ context.Context, c sockops.IfConfig) error {
	if err := checkIf(&c); err != nil {
		return err
	}
	m := l.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ifs[c.Name] != nil {
		return fmt.Errorf("interface %s: %w", c.Name, abi.EEXIST)
	}
	m.nextID++
	i := &iface{id: m.nextID, class: "lo", cfg: sockops.IfConfig{Name: c.Name, Class: "lo"}}
	if err := m.stack.CreateNICWithOptions(i.id, loopback.New(), stack.NICOptions{Name: c.Name, Disabled: true}); err != nil {
		return wrap("create "+c.Name, err)
	}
	m.ifs[c.Name] = i
	if err := m.configureLocked(i, c); err != nil {
		delete(m.ifs, c.Name)
		m.stack.RemoveNIC(i.id)
		m.setRoutesLocked()
		return err
	}
	return nil
}

// Configure brings a lo interface to c. ENXIO if there is none, EINVAL.
func (l *loClass) Configure(_ context.Context, c sockops.IfConfig) error {
	if err := checkIf(&c); err != nil {
		return err
	}
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	i, err := l.m.ifLocked(c.Name, "lo")
	if err != nil {
		return err
	}
	return l.m.configureLocked(i, c)
}

// Destroy takes a lo interface away. ENXIO if there is none.
func (l *loClass) Destroy(_ context.Context, name string) error {
	m := l.m
	m.mu.Lock()
	defer m.mu.Unlock()
	i, err := m.ifLocked(name, "lo")
	if err != nil {
		return err
	}
	delete(m.ifs, name)
	if err := m.stack.RemoveNIC(i.id); err != nil {
		return wrap("destroy "+name, err)
	}
	m.setRoutesLocked()
	return nil
}

// Stats answers the counters of a lo interface. ENXIO if there is none.
func (l *loClass) Stats(_ context.Context, name string) (sockops.IfStats, error) {
	m := l.m
	m.mu.Lock()
	defer m.mu.Unlock()
	i, err := m.ifLocked(name, "lo")
	if err != nil {
		return sockops.IfStats{}, err
	}
	info, ok := m.stack.SingleNICInfo(i.id)
	if !ok {
		return sockops.IfStats{}, fmt.Errorf("interface %s: %w", name, abi.ENXIO)
	}
	return sockops.IfStats{
		MTU:        info.MTU,
		InPackets:  info.Stats.Rx.Packets.Value(),
		InBytes:    info.Stats.Rx.Bytes.Value(),
		OutPackets: info.Stats.Tx.Packets.Value(),
		OutBytes:   info.Stats.Tx.Bytes.Value(),
		InDrops: info.Stats.DisabledRx.Packets.Value() +
			info.Stats.MalformedL4RcvdPackets.Value(),
	}, nil
}

// ifLocked finds an interface of a class. ENXIO.
func (m *Module) ifLocked(name, class string) (*iface, error) {
	i := m.ifs[name]
	if i == nil || i.class != class {
		return nil, fmt.Errorf("interface %s: %w", name, abi.ENXIO)
	}
	return i, nil
}

// configureLocked brings the interface to c: addresses that are to go, go
// first; an address with another prefix length is a new one.
func (m *Module) configureLocked(i *iface, c sockops.IfConfig) error {
	mtu := c.MTU
	if mtu == 0 {
		mtu = loMTU
	}
	if err := m.stack.SetNICMTU(i.id, mtu); err != nil {
		return wrap("mtu of "+c.Name, err)
	}
	have := i.cfg.Addrs
	for _, p := range have {
		if slices.Contains(c.Addrs, p) {
			continue
		}
		if err := m.stack.RemoveAddress(i.id, tcpipAddr(p.Addr())); err != nil {
			return wrap("remove "+p.String()+" from "+c.Name, err)
		}
		i.cfg.Addrs = slices.DeleteFunc(slices.Clone(i.cfg.Addrs), func(q netip.Prefix) bool { return q == p })
	}
	for _, p := range c.Addrs {
		if slices.Contains(i.cfg.Addrs, p) {
			continue
		}
		af := abi.AF_INET
		if p.Addr().Is6() {
			af = abi.AF_INET6
		}
		err := m.stack.AddProtocolAddress(i.id, tcpip.ProtocolAddress{
			Protocol: netProto(af),
			AddressWithPrefix: tcpip.AddressWithPrefix{
				Address: tcpipAddr(p.Addr()), PrefixLen: p.Bits(),
			},
		}, stack.AddressProperties{})
		if err != nil {
			return wrap("add "+p.String()+" to "+c.Name, err)
		}
		i.cfg.Addrs = append(slices.Clone(i.cfg.Addrs), p)
	}
	switch {
	case c.Up && !i.cfg.Up:
		if err := m.stack.EnableNIC(i.id); err != nil {
			return wrap("up "+c.Name, err)
		}
	case !c.Up && i.cfg.Up:
		if err := m.stack.DisableNIC(i.id); err != nil {
			return wrap("down "+c.Name, err)
		}
	}
	i.cfg.Up = c.Up
	i.cfg.MTU = mtu
	m.setRoutesLocked()
	return nil
}

// SetRoutes replaces the routes of the domain's family; those of others in the
// list are ignored. A route through an interface that does not exist (yet)
// waits for it. The networks of the interfaces' own addresses are always
// routed, whether they are in the list or not. EINVAL.
func (d *Domain) SetRoutes(_ context.Context, routes []sockops.Route) error {
	var mine []sockops.Route
	for _, r := range routes {
		if !r.Dst.IsValid() || r.Dst.Addr().Is4In6() {
			return fmt.Errorf("route to %s: %w", r.Dst, abi.EINVAL)
		}
		if r.Dst.Addr().Is4() != (d.af == abi.AF_INET) {
			continue
		}
		if r.Gateway.IsValid() && r.Gateway.Is4() != r.Dst.Addr().Is4() {
			return fmt.Errorf("route to %s by %s: %w", r.Dst, r.Gateway, abi.EINVAL)
		}
		mine = append(mine, r)
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.routes[d.af] = mine
	d.m.setRoutesLocked()
	return nil
}

// setRoutesLocked gives the stack the kernel's routes and those to the
// networks of interfaces that are up.
func (m *Module) setRoutesLocked() {
	var t []tcpip.Route
	for _, rs := range m.routes {
		for _, r := range rs {
			i := m.ifs[r.If]
			if i == nil || !i.cfg.Up {
				continue
			}
			t = append(t, tcpip.Route{
				Destination: subnet(r.Dst),
				Gateway:     tcpipAddr(r.Gateway.WithZone("")),
				NIC:         i.id,
			})
		}
	}
	for _, i := range m.ifs {
		if !i.cfg.Up {
			continue
		}
		for _, p := range i.cfg.Addrs {
			r := tcpip.Route{Destination: subnet(p), NIC: i.id}
			if !slices.ContainsFunc(t, func(o tcpip.Route) bool { return o.NIC == r.NIC && o.Destination == r.Destination }) {
				t = append(t, r)
			}
		}
	}
	m.stack.SetRouteTable(t)
}
