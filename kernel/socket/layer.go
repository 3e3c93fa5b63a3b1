package socket

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/socket/local"
	"github.com/rumpus-kernel/rumpus/kernel/uidinfo"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

// DefaultRestartWait is how long callers wait for a component that is being
// restarted, unless Options says otherwise.
const DefaultRestartWait = 5 * time.Second

// Action is something that needs privilege (kauth's network scope).
type Action uint8

// The actions that are asked about.
const (
	BindPrivPort Action = iota // bind(2) to a port below 1024
	OpenRaw                    // socket(2) of type SOCK_RAW
)

// Options configure a Layer. Only Files is needed.
type Options struct {
	Files       *file.Table        // where open files are counted
	RestartWait time.Duration      // 0 = DefaultRestartWait
	Ifs         []sockops.IfConfig // interfaces at boot; nil = DefaultIfs()
	Routes      []sockops.Route    // routes at boot, besides those that addresses imply

	// Local has the sockets of AF_LOCAL, which are the kernel's own. Nil:
	// there are none.
	Local *local.Domain

	// Autoload is asked once to load a module for an unknown family. Nil:
	// there is no autoload.
	Autoload func(ctx context.Context, af int) error
	// Authorize decides on privileged actions. Nil: the super-user may, for
	// others it is EACCES (BindPrivPort) or EPERM (OpenRaw).
	Authorize func(c *abi.Caller, act Action, a abi.Sockaddr) error
	// Sbsize answers whom the buffers of a socket of c's count for, and how
	// many bytes of them he may have (RLIMIT_SBSIZE). Nil: nobody counts.
	Sbsize func(c *abi.Caller) (*uidinfo.Info, int64)
	// Evcnt makes event counters, group "socket". Nil: counters nobody sees.
	Evcnt func(group, name string) *modapi.Counter
	// Log gets what has no caller to tell. Nil: nothing is logged.
	Log modapi.Logger
}

// Layer is the socket layer of one kernel.
type Layer struct {
	opts  Options
	wait  time.Duration
	next  atomic.Uint64 // last SockID issued
	avail atomic.Bool   // the net slot is filled
	socks sync.Map      // abi.SockID -> *Socket

	mu      sync.Mutex
	domains map[int]*domain     // protected by mu
	classes map[string]*ifclass // protected by mu
	insts   map[string]*instance

	cfgMu  sync.Mutex
	ifs    []*netif        // protected by cfgMu, in order of creation
	routes []sockops.Route // protected by cfgMu, without those that addresses imply
	ifNext int             // last interface index, protected by cfgMu

	cnt struct{ opened, closed, reset, restored, edges *modapi.Counter }
}

// instance is a plugin instance that attached something.
type instance struct {
	name string
	sel  event.Selinfo // notified at every change of state
	gen  uint64        // generations so far, protected by Layer.mu
}

// domain is an attached protocol family.
type domain struct {
	af      int
	inst    *instance
	pending *generation // attached, not yet up; protected by Layer.mu
	was     bool        // has been up; protected by Layer.mu
	live    atomic.Pointer[generation]
	gone    atomic.Bool // detached for good
	sizes   sync.Map    // of a type's buffers as it makes them: int -> bufSizes
	users   int         // sockets being made, protected by Layer.mu
	hidden  bool        // from HideDomain to ShowDomain or for good, protected by Layer.mu
}

// generation is one life of a domain.
type generation struct {
	n uint64
	d sockops.Domain
}

// New makes a socket layer without any domain.
func New(o Options) *Layer {
	l := &Layer{
		opts:    o,
		wait:    o.RestartWait,
		domains: make(map[int]*domain),
		classes: make(map[string]*ifclass),
		insts:   make(map[string]*instance),
	}
	if l.wait <= 0 {
		l.wait = DefaultRestartWait
	}
	if l.opts.Files == nil {
		l.opts.Files = &file.Table{}
		l.opts.Files.Max.Store(1 << 20)
	}
	evcnt := o.Evcnt
	if evcnt == nil {
		evcnt = func(string, string) *modapi.Counter { return new(modapi.Counter) }
	}
	l.cnt.opened = evcnt("socket", "opened")
	l.cnt.closed = evcnt("socket", "closed")
	l.cnt.reset = evcnt("socket", "reset")
	l.cnt.restored = evcnt("socket", "restored")
	l.cnt.edges = evcnt("socket", "edges")
	ifs := o.Ifs
	if ifs == nil {
		ifs = DefaultIfs()
	}
	for _, c := range ifs {
		if err := l.addIfLocked(c); err != nil {
			l.log("interface not configured", "name", c.Name, "error", err)
		}
	}
	for _, r := range o.Routes {
		r, err := l.checkRouteLocked(r)
		if err != nil {
			l.log("route not configured", "dst", r.Dst, "error", err)
			continue
		}
		l.routes = append(l.routes, r)
	}
	return l
}

func (l *Layer) log(msg string, kv ...any) {
	if l.opts.Log != nil {
		l.opts.Log.Warn(msg, kv...)
	}
}

// LocalInFlight is how many files are in messages between AF_LOCAL sockets.
func (l *Layer) LocalInFlight() int64 {
	if l.opts.Local == nil {
		return 0
	}
	return l.opts.Local.InFlight()
}

// SetAvailable says whether the net slot is filled: at least one instance of
// class net is attached or being restarted.
func (l *Layer) SetAvailable(on bool) {
	if l.avail.Swap(on) != on {
		l.notifyAll(nil)
	}
}

// notifyAll wakes those who wait on sockets of inst, or on all if it is nil.
func (l *Layer) notifyAll(inst *instance) {
	l.socks.Range(func(_, v any) bool {
		if s := v.(*Socket); inst == nil || s.dom.inst == inst {
			s.edge()
		}
		return true
	})
}

func (l *Layer) instanceLocked(name string) *instance {
	in := l.insts[name]
	if in == nil {
		in = &instance{name: name}
		l.insts[name] = in
	}
	return in
}

// AttachDomain registers a protocol family for a plugin instance
// (domain_attach). Sockets can be made once InstanceUp was called. An instance
// that is down may attach again what it had, also more than once, if an attempt to
// restart it failed. The instance "" is the kernel
// itself: its domains are up at once and do not fill the net slot. EEXIST if
// somebody else has the family; EAFNOSUPPORT for a number that is none.
func (l *Layer) AttachDomain(inst string, af int, d sockops.Domain) error {
	if af <= abi.AF_UNSPEC || af >= abi.AF_MAX {
		return fmt.Errorf("attach domain %d: %w", af, abi.EAFNOSUPPORT)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	in := l.instanceLocked(inst)
	dm := l.domains[af]
	if af == abi.AF_LOCAL && l.opts.Local != nil {
		return fmt.Errorf("attach domain %d: it is the kernel's own: %w", af, abi.EEXIST)
	}
	if dm != nil && (dm.inst != in || dm.live.Load() != nil || dm.pending != nil && !dm.was) {
		return fmt.Errorf("attach domain %d: %w", af, abi.EEXIST)
	}
	if dm == nil {
		dm = &domain{af: af, inst: in}
		l.domains[af] = dm
	}
	if inst == "" {
		in.gen++
		dm.live.Store(&generation{n: in.gen, d: d})
		return nil
	}
	dm.pending = &generation{d: d}
	return nil
}

// AttachIf registers an interface class for a plugin instance
// (if_clone_attach). Its interfaces are made by InstanceUp. EEXIST.
func (l *Layer) AttachIf(inst, class string, c sockops.IfClass) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	in := l.instanceLocked(inst)
	ic := l.classes[class]
	if ic != nil && (ic.inst != in || ic.live || ic.c != nil && !ic.was) {
		return fmt.Errorf("attach interface class %q: %w", class, abi.EEXIST)
	}
	l.classes[class] = &ifclass{inst: in, c: c, was: ic != nil && ic.was}
	return nil
}

// DetachInstance takes away all that an instance attached, for good: it was
// unloaded, or will not be restarted. Its sockets answer ENETDOWN.
func (l *Layer) DetachInstance(inst string) {
	l.mu.Lock()
	in := l.insts[inst]
	if in == nil {
		l.mu.Unlock()
		return
	}
	delete(l.insts, inst)
	for af, dm := range l.domains {
		if dm.inst == in {
			dm.live.Store(nil)
			dm.gone.Store(true)
			delete(l.domains, af)
		}
	}
	for name, ic := range l.classes {
		if ic.inst == in {
			delete(l.classes, name)
		}
	}
	l.mu.Unlock()
	l.killAll(in)
	in.sel.Notify()
}

// DetachDomain takes one family of an instance away for good, as
// DetachInstance does with all (domain_detach).
func (l *Layer) DetachDomain(inst string, af int) {
	l.mu.Lock()
	dm := l.domains[af]
	if dm == nil || dm.inst.name != inst {
		l.mu.Unlock()
		return
	}
	dm.live.Store(nil)
	dm.gone.Store(true)
	delete(l.domains, af)
	l.mu.Unlock()
	l.socks.Range(func(_, v any) bool {
		if s := v.(*Socket); s.dom == dm {
			if s.mortal() {
				s.kill()
			}
			s.edge()
		}
		return true
	})
	dm.inst.sel.Notify()
}

// DetachIf takes one interface class of an instance away. Its interfaces stay
// in the table, for a class that attaches later.
func (l *Layer) DetachIf(inst, class string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ic := l.classes[class]; ic != nil && ic.inst.name == inst {
		delete(l.classes, class)
	}
}

// InUse reports whether there are sockets of a family of an instance.
func (l *Layer) InUse(inst string, af int) bool {
	l.mu.Lock()
	dm := l.domains[af]
	l.mu.Unlock()
	used := false
	if dm != nil && dm.inst.name == inst {
		l.socks.Range(func(_, v any) bool {
			used = v.(*Socket).dom == dm
			return !used
		})
	}
	return used
}

// HideDomain lets nobody make a socket of a family any more (domain_detach
// begins), unless there are sockets of it: false. ShowDomain is the way back,
// DetachDomain the way on.
func (l *Layer) HideDomain(inst string, af int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	dm := l.domains[af]
	if dm == nil || dm.inst.name != inst {
		return true
	}
	used := dm.users > 0
	l.socks.Range(func(_, v any) bool {
		used = used || v.(*Socket).dom == dm
		return !used
	})
	dm.hidden = !used
	return !used
}

// ShowDomain undoes HideDomain.
func (l *Layer) ShowDomain(inst string, af int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if dm := l.domains[af]; dm != nil && dm.inst.name == inst {
		dm.hidden = false
	}
}

// leave ends what domain began: there is a socket now, or none.
func (l *Layer) leave(dm *domain) {
	l.mu.Lock()
	dm.users--
	l.mu.Unlock()
}

// Ready is the domains' upcall: a socket may have become ready. It never
// waits. An id that is not known, because the socket was just closed, is
// ignored.
func (l *Layer) Ready(r sockops.Ready) {
	if v, ok := l.socks.Load(r.Sock); ok {
		l.cnt.edges.Inc()
		v.(*Socket).edge()
	}
}

// domain finds the domain of a family, autoloading it if need be. It is in use
// until leave.
func (l *Layer) domain(ctx context.Context, af int) (*domain, error) {
	for tried := false; ; tried = true {
		l.mu.Lock()
		dm := l.domains[af]
		if dm != nil && dm.hidden {
			dm = nil
		}
		if dm != nil {
			dm.users++
		}
		l.mu.Unlock()
		switch {
		case dm != nil:
			return dm, nil
		case !tried && l.opts.Autoload != nil && af > abi.AF_UNSPEC && af < abi.AF_MAX:
			err := l.opts.Autoload(ctx, af)
			if err == nil || !l.avail.Load() {
				continue
			}
			return nil, fmt.Errorf("address family %d: %w (autoload: %v)", af, abi.EAFNOSUPPORT, err)
		case !l.avail.Load():
			return nil, fmt.Errorf("net component not available: %w", abi.EOPNOTSUPP)
		}
		return nil, fmt.Errorf("address family %d: %w", af, abi.EAFNOSUPPORT)
	}
}

// awaitUp waits until dm can be called: at most RestartWait, then ENETDOWN.
func (l *Layer) awaitUp(ctx context.Context, dm *domain) (*generation, error) {
	if g := dm.live.Load(); g != nil {
		return g, nil
	}
	w := event.NewWaiter()
	dm.inst.sel.Record(w)
	defer dm.inst.sel.Remove(w)
	t := time.NewTimer(l.wait)
	defer t.Stop()
	for {
		if g := dm.live.Load(); g != nil {
			return g, nil
		}
		if dm.gone.Load() {
			return nil, errGone
		}
		select {
		case <-w.C():
		case <-t.C:
			return nil, errNotBack
		case <-ctx.Done():
			return nil, abi.ErrnoOf(ctx.Err())
		}
	}
}

// awaitChange waits until dm is no longer in generation g, which a call says
// is dead: at most RestartWait, then ENETDOWN.
func (l *Layer) awaitChange(ctx context.Context, dm *domain, g *generation) error {
	w := event.NewWaiter()
	dm.inst.sel.Record(w)
	defer dm.inst.sel.Remove(w)
	t := time.NewTimer(l.wait)
	defer t.Stop()
	for dm.live.Load() == g {
		select {
		case <-w.C():
		case <-t.C:
			return errNotBack
		case <-ctx.Done():
			return abi.ErrnoOf(ctx.Err())
		}
	}
	return nil
}

var (
	errGone    = fmt.Errorf("net component is gone: %w", abi.ENETDOWN)
	errNotBack = fmt.Errorf("net component did not come back in time: %w", abi.ENETDOWN)
)
