package socket

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

// netif is an interface of the kernel's table (struct ifnet). Protected by
// Layer.cfgMu.
type netif struct {
	cfg     sockops.IfConfig
	index   int
	running bool // made in the component that is up now
}

// ifclass is an attached interface class. Protected by Layer.mu.
type ifclass struct {
	inst *instance
	c    sockops.IfClass // nil: its process died
	live bool            // its interfaces have been made
	was  bool            // it has been live
}

// IfInfo describes an interface: its configuration, and what it does.
type IfInfo struct {
	sockops.IfConfig
	Index int             // from 1, as the scope ids of addresses count
	Flags uint32          // abi.IFF_*
	Stats sockops.IfStats // zero unless IFF_RUNNING
}

// IfNameMax bounds the name of an interface, in bytes (IFNAMSIZ - 1).
const IfNameMax = 15

// ifAddrsMax bounds the addresses of one interface.
const ifAddrsMax = 256

// DefaultIfs is the configuration without one: lo0 with 127.0.0.1/8 and ::1/128.
func DefaultIfs() []sockops.IfConfig {
	return []sockops.IfConfig{{
		Name: "lo0", Class: "lo", Up: true,
		Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128")},
	}}
}

// checkIf checks what somebody wants to configure. EINVAL.
func checkIf(c sockops.IfConfig) error {
	bad := func(what string) error { return fmt.Errorf("interface %.20q: %s: %w", c.Name, what, abi.EINVAL) }
	n := len(c.Name)
	digits := 0
	for i := n - 1; i >= 0 && c.Name[i] >= '0' && c.Name[i] <= '9'; i-- {
		digits++
	}
	switch {
	case n == 0 || n > IfNameMax:
		return bad("name must have 1 to 15 bytes")
	case digits == 0 || digits == n:
		return bad("name must be a class and a number")
	case c.Class == "":
		return bad("no class")
	case len(c.Addrs) > ifAddrsMax:
		return bad("too many addresses")
	}
	for i := 0; i < n-digits; i++ {
		if b := c.Name[i]; b < 'a' || b > 'z' {
			return bad("name must be a class and a number")
		}
	}
	for _, a := range c.Addrs {
		if !a.IsValid() || a.Addr().IsUnspecified() {
			return bad("address is not valid")
		}
	}
	return nil
}

func cloneIf(c sockops.IfConfig) sockops.IfConfig {
	c.Addrs = slices.Clone(c.Addrs)
	if c.Props != nil {
		p := make(map[string]string, len(c.Props))
		for k, v := range c.Props {
			p[k] = v
		}
		c.Props = p
	}
	return c
}

func (l *Layer) addIfLocked(c sockops.IfConfig) error {
	if err := checkIf(c); err != nil {
		return err
	}
	if l.ifLocked(c.Name) != nil {
		return fmt.Errorf("interface %s: %w", c.Name, abi.EEXIST)
	}
	l.ifNext++
	l.ifs = append(l.ifs, &netif{cfg: cloneIf(c), index: l.ifNext})
	return nil
}

func (l *Layer) ifLocked(name string) *netif {
	for _, i := range l.ifs {
		if i.cfg.Name == name {
			return i
		}
	}
	return nil
}

// classOf finds the class to call; nil and no error while it is not up.
func (l *Layer) classOf(name string) (sockops.IfClass, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ic := l.classes[name]
	switch {
	case ic != nil && ic.live:
		return ic.c, nil
	case ic != nil:
		return nil, nil
	case !l.avail.Load():
		return nil, fmt.Errorf("net component not available: %w", abi.EOPNOTSUPP)
	}
	return nil, fmt.Errorf("interface class %.20q: %w", name, abi.EINVAL)
}

// IfCreate makes an interface (ifconfig create). EEXIST; EINVAL for a name
// that is none or a class that nobody attached; EOPNOTSUPP without a net
// component; what the class answers. While the component is being restarted
// the interface goes into the table and is made with the others.
func (l *Layer) IfCreate(ctx context.Context, c sockops.IfConfig) error {
	l.cfgMu.Lock()
	defer l.cfgMu.Unlock()
	if err := checkIf(c); err != nil {
		return err
	}
	if l.ifLocked(c.Name) != nil {
		return fmt.Errorf("interface %s: %w", c.Name, abi.EEXIST)
	}
	cl, err := l.classOf(c.Class)
	if err != nil {
		return err
	}
	if cl != nil {
		if err := cl.Create(ctx, cloneIf(c)); err != nil {
			return fmt.Errorf("interface %s: %w", c.Name, err)
		}
	}
	if err := l.addIfLocked(c); err != nil {
		return err
	}
	l.ifLocked(c.Name).running = cl != nil
	return l.pushRoutesLocked(ctx)
}

// IfConfigure brings an interface to another configuration; name and class
// stay. ENXIO; as IfCreate. A configuration that the class refuses changes
// nothing in the table.
func (l *Layer) IfConfigure(ctx context.Context, c sockops.IfConfig) error {
	l.cfgMu.Lock()
	defer l.cfgMu.Unlock()
	i := l.ifLocked(c.Name)
	if i == nil {
		return fmt.Errorf("interface %.20q: %w", c.Name, abi.ENXIO)
	}
	c.Class = i.cfg.Class
	if err := checkIf(c); err != nil {
		return err
	}
	cl, err := l.classOf(c.Class)
	if err != nil {
		return err
	}
	if cl != nil {
		if err := cl.Configure(ctx, cloneIf(c)); err != nil {
			return fmt.Errorf("interface %s: %w", c.Name, err)
		}
	}
	i.cfg = cloneIf(c)
	return l.pushRoutesLocked(ctx)
}

// IfDestroy takes an interface away (ifconfig destroy), and the routes through
// it. ENXIO.
func (l *Layer) IfDestroy(ctx context.Context, name string) error {
	l.cfgMu.Lock()
	defer l.cfgMu.Unlock()
	i := l.ifLocked(name)
	if i == nil {
		return fmt.Errorf("interface %.20q: %w", name, abi.ENXIO)
	}
	cl, err := l.classOf(i.cfg.Class)
	if err == nil && cl != nil && i.running {
		if err := cl.Destroy(ctx, name); err != nil && !errors.Is(err, abi.ENXIO) {
			return fmt.Errorf("interface %s: %w", name, err)
		}
	}
	l.ifs = slices.DeleteFunc(l.ifs, func(x *netif) bool { return x == i })
	l.routes = slices.DeleteFunc(l.routes, func(r sockops.Route) bool { return r.If == name })
	return l.pushRoutesLocked(ctx)
}

// Ifs lists the interfaces in the order in which they were made.
func (l *Layer) Ifs(ctx context.Context) []IfInfo {
	l.cfgMu.Lock()
	defer l.cfgMu.Unlock()
	r := make([]IfInfo, 0, len(l.ifs))
	for _, i := range l.ifs {
		x := IfInfo{IfConfig: cloneIf(i.cfg), Index: i.index, Flags: abi.IFF_MULTICAST}
		if i.cfg.Class == "lo" {
			x.Flags |= abi.IFF_LOOPBACK
		} else {
			x.Flags |= abi.IFF_BROADCAST | abi.IFF_SIMPLEX
		}
		if i.cfg.Up {
			x.Flags |= abi.IFF_UP
		}
		if cl, err := l.classOf(i.cfg.Class); err == nil && cl != nil && i.running {
			if st, err := cl.Stats(ctx, i.cfg.Name); err == nil {
				x.Flags |= abi.IFF_RUNNING
				x.Stats = st
			}
		}
		r = append(r, x)
	}
	return r
}

// configureLocked makes the interfaces of the classes of an instance that are
// not live yet.
//
// Preconditions: cfgMu is held.
func (l *Layer) configureLocked(ctx context.Context, in *instance) (errs []error) {
	todo := make(map[string]*ifclass)
	impl := make(map[string]sockops.IfClass)
	l.mu.Lock()
	for name, ic := range l.classes {
		switch {
		case ic.inst != in || ic.live:
		case ic.c == nil:
			delete(l.classes, name) // the new process did not attach it again
		default:
			todo[name], impl[name] = ic, ic.c
		}
	}
	l.mu.Unlock()
	for _, i := range l.ifs {
		c := impl[i.cfg.Class]
		if c == nil {
			continue
		}
		i.running = false
		if err := c.Create(ctx, cloneIf(i.cfg)); err != nil {
			errs = append(errs, fmt.Errorf("interface %s: %w", i.cfg.Name, err))
			continue
		}
		i.running = true
	}
	l.mu.Lock()
	for _, ic := range todo {
		ic.live = ic.c != nil // nil: it died meanwhile
		ic.was = true
	}
	l.mu.Unlock()
	return errs
}

// checkRouteLocked checks a route and finds the interface of its gateway if
// that is not named. EINVAL, ENXIO (no such interface), ENETUNREACH (no
// interface reaches the gateway).
func (l *Layer) checkRouteLocked(r sockops.Route) (sockops.Route, error) {
	if !r.Dst.IsValid() || r.Gateway.IsValid() && r.Gateway.Is4() != r.Dst.Addr().Is4() {
		return r, fmt.Errorf("route %v via %v: %w", r.Dst, r.Gateway, abi.EINVAL)
	}
	r.Dst = r.Dst.Masked()
	if r.If != "" {
		if l.ifLocked(r.If) == nil {
			return r, fmt.Errorf("route %v: interface %.20q: %w", r.Dst, r.If, abi.ENXIO)
		}
		return r, nil
	}
	if !r.Gateway.IsValid() {
		return r, fmt.Errorf("route %v: neither gateway nor interface: %w", r.Dst, abi.EINVAL)
	}
	for _, i := range l.ifs {
		for _, a := range i.cfg.Addrs {
			if a.Contains(r.Gateway.WithZone("")) {
				r.If = i.cfg.Name
				return r, nil
			}
		}
	}
	return r, fmt.Errorf("route %v via %v: %w", r.Dst, r.Gateway, abi.ENETUNREACH)
}

// effectiveLocked is the whole table: the routes that addresses of interfaces
// that are up imply, then the others.
func (l *Layer) effectiveLocked() []sockops.Route {
	var r []sockops.Route
	for _, i := range l.ifs {
		if !i.cfg.Up {
			continue
		}
		for _, a := range i.cfg.Addrs {
			c := sockops.Route{Dst: a.Masked(), If: i.cfg.Name}
			if !slices.Contains(r, c) {
				r = append(r, c)
			}
		}
	}
	return append(r, l.routes...)
}

// SetRoutes replaces the routes, but those that the addresses of interfaces
// imply. EINVAL, ENXIO, ENETUNREACH; then nothing is changed.
func (l *Layer) SetRoutes(ctx context.Context, routes []sockops.Route) error {
	l.cfgMu.Lock()
	defer l.cfgMu.Unlock()
	n := make([]sockops.Route, 0, len(routes))
	for _, r := range routes {
		r, err := l.checkRouteLocked(r)
		if err != nil {
			return err
		}
		n = append(n, r)
	}
	old := l.routes
	l.routes = n
	if err := l.pushRoutesLocked(ctx); err != nil {
		l.routes = old
		return errors.Join(err, l.pushRoutesLocked(ctx))
	}
	return nil
}

// Routes is the routing table in effect, with the routes that addresses imply.
func (l *Layer) Routes() []sockops.Route {
	l.cfgMu.Lock()
	defer l.cfgMu.Unlock()
	return l.effectiveLocked()
}

// StaticRoutes is what SetRoutes set: Routes without the implied ones.
func (l *Layer) StaticRoutes() []sockops.Route {
	l.cfgMu.Lock()
	defer l.cfgMu.Unlock()
	return slices.Clone(l.routes)
}

// pushRoutesLocked tells the table to every domain that is up and has routes.
func (l *Layer) pushRoutesLocked(ctx context.Context) error {
	gens := make(map[*domain]*generation)
	l.mu.Lock()
	for _, dm := range l.domains {
		if g := dm.live.Load(); g != nil {
			gens[dm] = g
		}
	}
	l.mu.Unlock()
	var routers []sockops.Router
	for _, dm := range sortedDomains(gens) {
		if r, ok := gens[dm].d.(sockops.Router); ok {
			routers = append(routers, r)
		}
	}
	return errors.Join(l.tellRoutersLocked(ctx, routers)...)
}

func (l *Layer) tellRoutersLocked(ctx context.Context, rs []sockops.Router) (errs []error) {
	for _, r := range rs {
		if err := r.SetRoutes(ctx, l.effectiveLocked()); err != nil && !errors.Is(err, abi.EOPNOTSUPP) {
			errs = append(errs, fmt.Errorf("routes: %w", err))
		}
	}
	return errs
}
