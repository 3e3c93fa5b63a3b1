package dev

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/kernel/iostat"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// blkDriver is an attached block device driver (struct bdevsw). Its major as a
// character device, the raw side, is cmajor.
type blkDriver struct {
	name   string
	major  uint32
	cmajor uint32
	inst   string
	live   atomic.Pointer[blkGen]
	gone   atomic.Bool
	hidden bool // as of driver, protected by Switch.mu

	pending devops.Blk               // attached, not yet up; protected by Switch.mu
	was     bool                     // has been up; protected by Switch.mu
	gen     uint64                   // generations so far, protected by Switch.mu
	nodes   []devops.Node            // protected by Switch.mu
	units   map[uint32]*blkUnit      // open units, protected by Switch.mu
	configs []*config                // units made by Attach, in this order; protected by Switch.mu
	stats   map[uint32]*iostat.Stats // of the units that have nodes; protected by Switch.mu
	changed chan struct{}            // closed and replaced when live or gone changes; protected by Switch.mu
}

// blkGen is one life of a block device driver.
type blkGen struct {
	n uint64
	b devops.Blk
}

// blkUnit is a minor of a block device driver that is open or stands on
// something.
type blkUnit struct {
	d    *blkDriver
	unit uint32
	geom atomic.Pointer[knownGeom]

	// Protected by Switch.mu.
	opens int        // of OpenBlk
	excl  int        // those of them that have it for themselves: several of one owner
	owner string     // theirs
	on    []*blkUnit // what it stands on, one entry an open

	// rank is one more than the highest of on, 0 if there is none. Changed
	// under Switch.mu.
	rank atomic.Int32

	mu     sync.Mutex
	writes []*span // in flight, protected by mu; no two of them overlap
}

// knownGeom is what a driver said of a unit in a generation.
type knownGeom struct {
	gen uint64
	devops.Geom
}

// span is what a write in flight covers, in bytes.
type span struct {
	lo, hi int64
	done   chan struct{} // made by who waits for it, protected by blkUnit.mu
}

// dev is the unit's number.
func (u *blkUnit) dev() abi.Dev { return abi.Makedev(u.d.major, u.unit) }

func (u *blkUnit) name() string {
	for _, n := range u.d.nodes {
		if n.Unit == u.unit {
			return n.Name
		}
	}
	return fmt.Sprintf("%s%d", u.d.name, u.unit)
}

// enter waits until nothing in flight overlaps a write, and notes it.
func (u *blkUnit) enter(ctx context.Context, w *span) error {
	for {
		u.mu.Lock()
		i := slices.IndexFunc(u.writes, func(o *span) bool { return o.lo < w.hi && w.lo < o.hi })
		if i < 0 {
			u.writes = append(u.writes, w)
			u.mu.Unlock()
			return nil
		}
		o := u.writes[i]
		if o.done == nil {
			o.done = make(chan struct{})
		}
		ch := o.done
		u.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return abi.ErrnoOf(ctx.Err())
		}
	}
}

// leave ends it.
func (u *blkUnit) leave(w *span) {
	u.mu.Lock()
	i := slices.Index(u.writes, w)
	last := len(u.writes) - 1
	u.writes[i], u.writes[last] = u.writes[last], nil
	u.writes = u.writes[:last]
	if w.done != nil {
		close(w.done)
	}
	u.mu.Unlock()
}

// countLocked counts the transfers of the units that have nodes.
func (s *Switch) countLocked(d *blkDriver) {
	if s.opts.Iostat == nil {
		return
	}
	was := d.stats
	d.stats = make(map[uint32]*iostat.Stats, len(d.nodes))
	for _, n := range d.nodes {
		if st := was[n.Unit]; st != nil {
			d.stats[n.Unit] = st
			delete(was, n.Unit)
		}
	}
	for _, st := range was {
		s.opts.Iostat.Free(st)
	}
	for _, n := range d.nodes {
		if d.stats[n.Unit] == nil {
			d.stats[n.Unit], _ = s.opts.Iostat.Alloc(iostat.Disk, n.Name) // not counted if it cannot be
		}
	}
}

// openLocked reports whether a unit is open.
func (d *blkDriver) openLocked() bool {
	for _, u := range d.units {
		if u.opens > 0 {
			return true
		}
	}
	return false
}

// Shower is a driver of the kernel's own whose units need not show as a block
// device with its raw side: a unit may be the raw side alone, under its plain
// name, or a regular file of that many bytes (etfs). It is asked with the
// switch's lock held, and takes none that is held over a call to the switch.
type Shower interface {
	Shows(unit uint32) (raw, file bool, size int64)
}

// shown are the nodes of a unit: the block device and its raw side, as a rule.
func (d *blkDriver) shown(n devops.Node) []Node {
	blk := Node{Name: n.Name, Dev: abi.Makedev(d.major, n.Unit), Mode: n.Mode, Blk: true}
	raw := Node{Name: "r" + n.Name, Dev: abi.Makedev(d.cmajor, n.Unit), Mode: n.Mode}
	if g := d.live.Load(); g != nil && d.inst == "" {
		if s, ok := g.b.(Shower); ok {
			switch onlyRaw, file, size := s.Shows(n.Unit); {
			case onlyRaw:
				raw.Name = n.Name
				return []Node{raw}
			case file:
				blk.File, blk.Size = true, size
				return []Node{blk}
			}
		}
	}
	return []Node{blk, raw}
}

// blkNodes asks a driver for its nodes. Their raw sides have names, too.
func blkNodes(name string, b devops.Blk) ([]devops.Node, error) {
	nr, ok := b.(devops.Noder)
	if !ok {
		return []devops.Node{{Name: name, Mode: 0o600}}, nil
	}
	return checkNodes(name, nr.Nodes())
}

// AttachBlk registers a block device driver for a plugin instance
// (devsw_attach) and answers the number of its unit 0. The rules are those of
// AttachChr; the name is taken for character devices, too.
func (s *Switch) AttachBlk(inst, name string, b devops.Blk) (abi.Dev, error) {
	if !validName(name) || len(name) > 254 {
		return abi.NoDev, fmt.Errorf("attach disk %.40q: %w", name, abi.EINVAL)
	}
	nodes, err := blkNodes(name, b)
	if err != nil {
		return abi.NoDev, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.blkNameLocked(name)
	if d != nil && (d.inst != inst || d.live.Load() != nil || d.pending != nil && !d.was) {
		return abi.NoDev, fmt.Errorf("attach disk %s: %w", name, abi.EEXIST)
	}
	if s.byNameLocked(name) != nil {
		return abi.NoDev, fmt.Errorf("attach disk %s: there is a character device of that name: %w", name, abi.EEXIST)
	}
	if err := s.blkNodesFreeLocked(d, name, nodes); err != nil {
		return abi.NoDev, err
	}
	cmajor, err := s.majorLocked(s.numbers, majors, &s.next, name)
	if err != nil {
		return abi.NoDev, err
	}
	major, err := s.majorLocked(s.bnumbers, bmajors, &s.bnext, name)
	if err != nil {
		return abi.NoDev, err
	}
	if d == nil {
		d = &blkDriver{name: name, major: major, cmajor: cmajor, inst: inst, units: make(map[uint32]*blkUnit), changed: make(chan struct{})}
		s.blks[major] = d
		s.raws[cmajor] = d
	}
	d.nodes, d.pending = d.keepLocked(nodes), b
	s.countLocked(d)
	if inst == "" {
		s.blkUpLocked(d)
	}
	return abi.Makedev(major, 0), nil
}

// majorLocked is the number that goes with a name, for ever.
func (s *Switch) majorLocked(known, table map[string]uint32, next *uint32, name string) (uint32, error) {
	if m, ok := known[name]; ok {
		return m, nil
	}
	m, ok := table[name]
	if !ok {
		if *next > lastMajor {
			return 0, fmt.Errorf("attach device %s: no major number left: %w", name, abi.ENOMEM)
		}
		m = *next
		*next++
	}
	known[name] = m
	return m, nil
}

// blkNodesFreeLocked reports nodes that d may not have, as another driver has
// a node of that name.
func (s *Switch) blkNodesFreeLocked(d *blkDriver, name string, nodes []devops.Node) error {
	seen := make(map[string]bool, 2*len(nodes))
	for _, n := range nodes {
		for _, nn := range [...]string{n.Name, "r" + n.Name} {
			if seen[nn] || s.nodeTakenLocked(nn, nil, d) {
				return fmt.Errorf("attach disk %s: node %s: %w", name, nn, abi.EEXIST)
			}
			seen[nn] = true
		}
	}
	return nil
}

// nodeTakenLocked reports whether a driver other than c and b has a node.
func (s *Switch) nodeTakenLocked(name string, c *driver, b *blkDriver) bool {
	if o := s.nodeOwnerLocked(name); o != nil && o != c {
		return true
	}
	for _, d := range s.blks {
		if d == b {
			continue
		}
		for _, n := range d.nodes {
			if n.Name == name || "r"+n.Name == name {
				return true
			}
		}
	}
	return false
}

// BlkChanged asks a driver of an instance for its nodes again, and forgets
// what was known of its units. ENXIO: dev is none of the instance's.
func (s *Switch) BlkChanged(inst string, dev abi.Dev) error {
	s.mu.Lock()
	d := s.blks[dev.Major()]
	var b devops.Blk
	if d != nil && d.inst == inst {
		if b = d.pending; b == nil {
			if g := d.live.Load(); g != nil {
				b = g.b
			}
		}
	}
	s.mu.Unlock()
	if b == nil {
		return fmt.Errorf("disk %v: not attached by %s: %w", dev, inst, abi.ENXIO)
	}
	nodes, err := blkNodes(d.name, b)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blks[dev.Major()] != d {
		return abi.ENXIO
	}
	if err := s.blkNodesFreeLocked(d, d.name, nodes); err != nil {
		return err
	}
	d.nodes = d.keepLocked(nodes)
	s.countLocked(d)
	for _, u := range d.units {
		u.geom.Store(nil)
	}
	return nil
}

func (s *Switch) blkNameLocked(name string) *blkDriver {
	if m, ok := s.bnumbers[name]; ok {
		return s.blks[m]
	}
	return nil
}

func (s *Switch) blkUpLocked(d *blkDriver) {
	d.gen++
	d.live.Store(&blkGen{n: d.gen, b: d.pending})
	d.pending, d.was = nil, true
	d.wakeLocked()
}

// wakeLocked wakes all who wait for the driver.
func (d *blkDriver) wakeLocked() {
	close(d.changed)
	d.changed = make(chan struct{})
}

func (s *Switch) blkInstanceUpLocked(inst string) {
	for _, d := range s.blks {
		switch {
		case d.inst != inst:
		case d.pending != nil:
			s.blkUpLocked(d)
		case d.live.Load() == nil:
			s.blkDetachLocked(d)
		}
	}
}

func (s *Switch) blkInstanceDownLocked(inst string) {
	for _, d := range s.blks {
		if d.inst == inst {
			d.live.Store(nil)
			d.pending = nil
			d.wakeLocked()
		}
	}
}

func (s *Switch) blkDetachLocked(d *blkDriver) {
	d.live.Store(nil)
	d.gone.Store(true)
	delete(s.blks, d.major)
	delete(s.raws, d.cmajor)
	for _, st := range d.stats {
		s.opts.Iostat.Free(st)
	}
	d.wakeLocked()
}

// unitLocked is a unit of a driver, a new one if need be; putUnitLocked
// forgets it when nobody needs it any more.
func (s *Switch) unitLocked(d *blkDriver, unit uint32) *blkUnit {
	u := d.units[unit]
	if u == nil {
		u = &blkUnit{d: d, unit: unit}
		d.units[unit] = u
	}
	return u
}

func (s *Switch) putUnitLocked(u *blkUnit) {
	if u.opens > 0 || len(u.on) > 0 {
		return
	}
	if u.d.units[u.unit] == u {
		delete(u.d.units, u.unit)
	}
}

// BlkName is the node's name of a block device, or its driver's name and unit;
// "" if there is no driver.
func (s *Switch) BlkName(n abi.Dev) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.blks[n.Major()]
	if d == nil {
		return ""
	}
	return (&blkUnit{d: d, unit: n.Minor()}).name()
}

// BlkInfo is a block device as it is listed.
type BlkInfo struct {
	Name     string
	Dev      abi.Dev // as a block device; Raw as a character device
	Raw      abi.Dev
	Driver   string
	Instance string // "" is the kernel
	Opens    int    // how many have it open
	Busy     bool   // one of them for itself
	Rank     int
	On       []abi.Dev // what it stands on
}

// Blks lists the nodes of all block device drivers, by name.
func (s *Switch) Blks() []BlkInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	var r []BlkInfo
	for _, d := range s.blks {
		for _, n := range d.nodes {
			i := BlkInfo{Name: n.Name, Dev: abi.Makedev(d.major, n.Unit), Raw: abi.Makedev(d.cmajor, n.Unit), Driver: d.name, Instance: d.inst}
			if u := d.units[n.Unit]; u != nil {
				i.Opens, i.Busy, i.Rank = u.opens, u.excl > 0, int(u.rank.Load())
				for _, o := range u.on {
					i.On = append(i.On, o.dev())
				}
			}
			r = append(r, i)
		}
	}
	slices.SortFunc(r, func(a, b BlkInfo) int { return strings.Compare(a.Name, b.Name) })
	return r
}
