package dev

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/iostat"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// DefaultRestartWait is how long callers wait for a driver that is being
// restarted, unless Options says otherwise.
const DefaultRestartWait = 5 * time.Second

// MaxNodes bounds the nodes of one driver.
const MaxNodes = 4096

// Options configure a Switch. The zero value will do.
type Options struct {
	RestartWait time.Duration // 0 = DefaultRestartWait
	// Autoload is asked once to load a module for an unknown major. Nil:
	// there is no autoload.
	Autoload func(ctx context.Context, major uint32) error
	// AutoloadBlk is the same for majors of block devices.
	AutoloadBlk func(ctx context.Context, major uint32) error
	// Fail makes requests to block devices fail on purpose.
	Fail Fail
	// Evcnt makes event counters, group "dev". Nil: counters nobody sees.
	Evcnt func(group, name string) *modapi.Counter
	// Log gets what has no caller to tell. Nil: nothing is logged.
	Log modapi.Logger
	// Iostat counts the transfers of each driver. Nil: they are not counted.
	Iostat *iostat.Set
}

// Switch is the device switch of one kernel.
type Switch struct {
	opts  Options
	wait  time.Duration
	avail atomic.Bool

	mu      sync.Mutex
	numbers map[string]uint32  // name -> major, for ever; protected by mu
	byMajor map[uint32]*driver // protected by mu
	next    uint32             // next dynamic major, protected by mu

	bnumbers map[string]uint32     // as numbers, of block devices; protected by mu
	blks     map[uint32]*blkDriver // by major; protected by mu
	raws     map[uint32]*blkDriver // by major as a character device; protected by mu
	bnext    uint32                // protected by mu
	stackeds map[*stacked]struct{} // open by components, protected by mu
	cached   func(ctx context.Context, h *BlkHandle) (Blocks, error)

	lastBuf atomic.Uint64
	depth   depths
	fail    failer

	cnt struct{ opens, reopens, reconfigured, edges, failed *modapi.Counter }
}

// driver is an attached character device driver (struct cdevsw).
type driver struct {
	name   string
	major  uint32
	inst   string
	live   atomic.Pointer[generation]
	gone   atomic.Bool
	hidden bool          // from HideChr to ShowChr or for good, protected by Switch.mu
	stats  *iostat.Stats // nil: not counted

	pending devops.Chr       // attached, not yet up; protected by Switch.mu
	was     bool             // has been up; protected by Switch.mu
	gen     uint64           // generations so far, protected by Switch.mu
	nodes   []devops.Node    // protected by Switch.mu
	units   map[uint32]*unit // open units, protected by Switch.mu
}

// generation is one life of a driver.
type generation struct {
	n uint64
	c devops.Chr
}

// unit is a minor that is open.
type unit struct {
	sel   event.Selinfo
	seq   atomic.Uint64 // edges so far
	opens int           // protected by Switch.mu
}

// edge says that something about the unit may have changed.
func (u *unit) edge() {
	u.seq.Add(1) // first: who has recorded its waiter looks at seq after it
	u.sel.Notify()
}

// Node is a device node for devfs: who owns it is always root.
type Node struct {
	Name string
	Dev  abi.Dev
	Mode uint32 // permission bits
	Blk  bool   // a block device
	File bool   // which shows as a regular file, of Size bytes
	Size int64
}

// New makes a Switch without drivers.
func New(o Options) *Switch {
	s := &Switch{
		opts: o, wait: o.RestartWait, next: firstDynamic,
		numbers: make(map[string]uint32), byMajor: make(map[uint32]*driver),
		bnext: firstDynamic, bnumbers: make(map[string]uint32), blks: make(map[uint32]*blkDriver),
		raws: make(map[uint32]*blkDriver), stackeds: make(map[*stacked]struct{}),
	}
	s.fail.set(o.Fail)
	if s.wait <= 0 {
		s.wait = DefaultRestartWait
	}
	evcnt := o.Evcnt
	if evcnt == nil {
		evcnt = func(string, string) *modapi.Counter { return new(modapi.Counter) }
	}
	s.cnt.opens = evcnt("dev", "opens")
	s.cnt.reopens = evcnt("dev", "reopens")
	s.cnt.reconfigured = evcnt("dev", "reconfigured")
	s.cnt.edges = evcnt("dev", "edges")
	s.cnt.failed = evcnt("dev", "blkfail")
	return s
}

// SetAvailable says whether the dev slot is filled: at least one instance of
// class driver is attached or being restarted.
func (s *Switch) SetAvailable(on bool) { s.avail.Store(on) }

func validName(n string) bool {
	return n != "" && len(n) <= 255 && n != "." && n != ".." && !strings.ContainsAny(n, "/\x00")
}

// nodesOf asks a driver for its nodes, in its own words.
func nodesOf(name string, c devops.Chr) ([]devops.Node, error) {
	nr, ok := c.(devops.Noder)
	if !ok {
		return []devops.Node{{Name: name, Mode: 0o600}}, nil
	}
	return checkNodes(name, nr.Nodes())
}

// checkNodes checks what a driver says of its nodes, and copies it.
func checkNodes(name string, nodes []devops.Node) ([]devops.Node, error) {
	nodes = slices.Clone(nodes)
	if len(nodes) > MaxNodes {
		return nil, fmt.Errorf("device %s has %d nodes: %w", name, len(nodes), abi.EINVAL)
	}
	for _, n := range nodes {
		if !validName(n.Name) || n.Unit > maxUnit || n.Mode&^0o777 != 0 {
			return nil, fmt.Errorf("device %s: node %.40q, unit %d, mode %#o: %w", name, n.Name, n.Unit, n.Mode, abi.EINVAL)
		}
	}
	return nodes, nil
}

// AttachChr registers a character device driver for a plugin instance
// (devsw_attach) and answers its first device number. It can be opened once
// InstanceUp was called. An instance that is down may attach again what it
// had, under the same number. The instance "" is the kernel itself: its
// drivers are up at once. EEXIST; EINVAL for names that are none; ENOMEM when
// the majors are used up.
func (s *Switch) AttachChr(inst, name string, c devops.Chr) (abi.Dev, error) {
	if !validName(name) {
		return abi.NoDev, fmt.Errorf("attach device %.40q: %w", name, abi.EINVAL)
	}
	nodes, err := nodesOf(name, c)
	if err != nil {
		return abi.NoDev, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.byNameLocked(name)
	if s.blkNameLocked(name) != nil || d != nil && (d.inst != inst || d.live.Load() != nil || d.pending != nil && !d.was) {
		return abi.NoDev, fmt.Errorf("attach device %s: %w", name, abi.EEXIST)
	}
	for _, n := range nodes {
		if s.nodeTakenLocked(n.Name, d, nil) {
			return abi.NoDev, fmt.Errorf("attach device %s: node %s: %w", name, n.Name, abi.EEXIST)
		}
	}
	major, err := s.majorLocked(s.numbers, majors, &s.next, name)
	if err != nil {
		return abi.NoDev, err
	}
	if d == nil {
		d = &driver{name: name, major: major, inst: inst, units: make(map[uint32]*unit)}
		if s.opts.Iostat != nil {
			d.stats, _ = s.opts.Iostat.Alloc(iostat.Chr, name)
		}
		s.byMajor[major] = d
	}
	d.nodes, d.pending = nodes, c
	if inst == "" {
		s.upLocked(d)
	}
	return abi.Makedev(major, 0), nil
}

func (s *Switch) nodeOwnerLocked(name string) *driver {
	for _, d := range s.byMajor {
		for _, n := range d.nodes {
			if n.Name == name {
				return d
			}
		}
	}
	return nil
}

func (s *Switch) upLocked(d *driver) {
	d.gen++
	d.live.Store(&generation{n: d.gen, c: d.pending})
	d.pending, d.was = nil, true
}

// wakeLocked wakes all who wait for anything of d.
func (d *driver) wakeLocked() {
	for _, u := range d.units {
		u.edge()
	}
}

// InstanceUp lets callers in to what an instance attached, after its Init
// succeeded. Devices that are open are opened again when they are next used.
// Drivers that the new process did not attach again are detached.
func (s *Switch) InstanceUp(inst string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.byMajor {
		switch {
		case d.inst != inst:
		case d.pending != nil:
			s.upLocked(d)
			d.wakeLocked()
		case d.live.Load() == nil:
			s.detachLocked(d)
		}
	}
	s.blkInstanceUpLocked(inst)
}

// InstanceDown says that the process of an instance died.
func (s *Switch) InstanceDown(inst string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.byMajor {
		if d.inst == inst {
			d.live.Store(nil)
			d.pending = nil
			d.wakeLocked()
		}
	}
	s.blkInstanceDownLocked(inst)
}

// DetachInstance takes away all drivers of an instance for good: it was
// unloaded, or will not be restarted.
func (s *Switch) DetachInstance(inst string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.byMajor {
		if d.inst == inst {
			s.detachLocked(d)
		}
	}
	for _, d := range s.blks {
		if d.inst == inst {
			s.blkDetachLocked(d)
		}
	}
}

// DetachChr takes one driver away (devsw_detach), also one of block devices,
// as do the following.
func (s *Switch) DetachChr(inst, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.byNameLocked(name); d != nil && d.inst == inst {
		s.detachLocked(d)
	}
	if d := s.blkNameLocked(name); d != nil && d.inst == inst {
		s.blkDetachLocked(d)
	}
}

func (s *Switch) detachLocked(d *driver) {
	d.live.Store(nil)
	d.gone.Store(true)
	delete(s.byMajor, d.major)
	if d.stats != nil {
		s.opts.Iostat.Free(d.stats)
	}
	d.wakeLocked()
}

func (s *Switch) byNameLocked(name string) *driver {
	if m, ok := s.numbers[name]; ok {
		return s.byMajor[m]
	}
	return nil
}

// InUse reports whether a unit of a driver is open.
func (s *Switch) InUse(inst, name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.blkNameLocked(name); d != nil {
		return d.inst == inst && d.openLocked()
	}
	d := s.byNameLocked(name)
	return d != nil && d.inst == inst && len(d.units) > 0
}

// HideChr lets nobody open a driver any more (devsw_detach begins), unless a unit
// of it is open: false. ShowChr is the way back, DetachChr the way on.
func (s *Switch) HideChr(inst, name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.blkNameLocked(name); d != nil && d.inst == inst {
		d.hidden = !d.openLocked()
		return d.hidden
	}
	d := s.byNameLocked(name)
	if d == nil || d.inst != inst {
		return true
	}
	d.hidden = len(d.units) == 0
	return d.hidden
}

// ShowChr undoes HideChr.
func (s *Switch) ShowChr(inst, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.byNameLocked(name); d != nil && d.inst == inst {
		d.hidden = false
	}
	if d := s.blkNameLocked(name); d != nil && d.inst == inst {
		d.hidden = false
	}
}

// DevReady is the drivers' upcall: a unit may have become ready. It never
// waits on a driver. A device that is not open is ignored.
func (s *Switch) DevReady(r devops.Ready) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.byMajor[r.Dev.Major()]; d != nil {
		if u := d.units[r.Dev.Minor()]; u != nil {
			s.cnt.edges.Inc()
			u.edge()
		}
	}
}

// Lookup finds the number of a node by its name.
func (s *Switch) Lookup(name string) (Node, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.nodeOwnerLocked(name); d != nil {
		for _, n := range d.nodes {
			if n.Name == name {
				return node(d, n), true
			}
		}
	}
	for _, d := range s.blks {
		for _, n := range d.nodes {
			for _, shown := range d.shown(n) {
				if shown.Name == name {
					return shown, true
				}
			}
		}
	}
	return Node{}, false
}

// DriverName is the name of the driver with a major number, "" if it never had
// one.
func (s *Switch) DriverName(major uint32) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, m := range s.numbers {
		if m == major {
			return name
		}
	}
	return ""
}

// BlkModuleName is ModuleName for majors of block devices.
func (s *Switch) BlkModuleName(major uint32) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range [...]map[string]uint32{s.bnumbers, bmajors} {
		for name, m := range t {
			if m == major {
				return name
			}
		}
	}
	return ""
}

// ModuleName is the name of the module that may have a driver for a major
// number: that of the driver that had it before, or of NetBSD's table; "" if
// nothing is known of it.
func (s *Switch) ModuleName(major uint32) string {
	if name := s.DriverName(major); name != "" {
		return name
	}
	for name, m := range majors {
		if m == major {
			return name
		}
	}
	return ""
}

// Nodes lists the nodes of all drivers by name, also of those that are being
// restarted.
func (s *Switch) Nodes() []Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	var r []Node
	for _, d := range s.byMajor {
		for _, n := range d.nodes {
			r = append(r, node(d, n))
		}
	}
	for _, d := range s.blks {
		for _, n := range d.nodes {
			r = append(r, d.shown(n)...)
		}
	}
	slices.SortFunc(r, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	return r
}

func node(d *driver, n devops.Node) Node {
	return Node{Name: n.Name, Dev: abi.Makedev(d.major, n.Unit), Mode: n.Mode}
}

// Open opens a character device and answers the operations and data of its
// file; the caller makes the file. flags are O_*. ENXIO if there is no driver
// or no such unit; EIO if a driver does not come back in time; what the driver
// answers.
//
// The character device of a block device driver is its raw side: whole sectors
// at a time, past the cache.
func (s *Switch) Open(ctx context.Context, c *abi.Caller, n abi.Dev, flags int) (file.Ops, any, error) {
	if raw := s.rawOf(n); raw != nil {
		return s.openRaw(ctx, raw, n.Minor(), flags)
	}
	d, err := s.find(ctx, n)
	if err != nil {
		if raw := s.rawOf(n); raw != nil { // autoloaded
			return s.openRaw(ctx, raw, n.Minor(), flags)
		}
		return nil, nil, err
	}
	h := &Handle{s: s, d: d, unit: n.Minor(), flags: flags}
	s.mu.Lock()
	if d.hidden { // since find
		s.mu.Unlock()
		return nil, nil, fmt.Errorf("device %s: driver is being detached: %w", d.name, abi.ENXIO)
	}
	h.u = d.units[h.unit]
	if h.u == nil {
		h.u = new(unit)
		d.units[h.unit] = h.u
	}
	h.u.opens++
	s.mu.Unlock()
	if err := h.wait(ctx, waitMode{once: true}, func(devops.Chr) error { return nil }); err != nil {
		h.drop()
		return nil, nil, fmt.Errorf("device %s, unit %d: %w", d.name, h.unit, err)
	}
	s.cnt.opens.Inc()
	return h, h, nil
}

func (s *Switch) find(ctx context.Context, n abi.Dev) (*driver, error) {
	for tried := false; ; tried = true {
		s.mu.Lock()
		d := s.byMajor[n.Major()]
		if d != nil && d.hidden {
			d = nil
		}
		s.mu.Unlock()
		switch {
		case n == abi.NoDev:
			return nil, fmt.Errorf("no device: %w", abi.ENXIO)
		case d != nil:
			return d, nil
		case !tried && s.opts.Autoload != nil:
			err := s.opts.Autoload(ctx, n.Major())
			if err == nil || !s.avail.Load() {
				continue
			}
			return nil, fmt.Errorf("device %v: %w (autoload: %v)", n, abi.ENXIO, err)
		case !s.avail.Load():
			return nil, fmt.Errorf("dev component not available: %w", abi.ENXIO)
		}
		return nil, fmt.Errorf("device %v: no driver: %w", n, abi.ENXIO)
	}
}
