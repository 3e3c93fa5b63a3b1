package dev

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// config is how units of a driver were made (devops.Configurer). It outlives
// the driver's process.
type config struct {
	units devops.Units
	on    abi.Dev
	arg   []byte // may hold keys: never logged or shown

	mu  sync.Mutex // one Configure at a time, held over it
	gen uint64     // generation it was told to, protected by mu
}

// configOfLocked is the configuration that a unit comes from, or nil.
func (d *blkDriver) configOfLocked(unit uint32) *config {
	for _, c := range d.configs {
		if c.units.Has(unit) {
			return c
		}
	}
	return nil
}

// ensure tells a process that is new what a unit is made of, once.
func (h *BlkHandle) ensure(ctx context.Context, g *blkGen) error {
	d := h.u.d
	h.s.mu.Lock()
	c := d.configOfLocked(h.u.unit)
	h.s.mu.Unlock()
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gen == g.n {
		return nil
	}
	u, err := devops.Configure(ctx, g.b, c.units, c.on, c.arg)
	if err != nil {
		return fmt.Errorf("disk %s: configured again: %w", d.name, err)
	}
	if u != c.units {
		return fmt.Errorf("disk %s: units %d and %d more became units %d and %d more: %w", d.name, c.units.First, c.units.Count, u.First, u.Count, errLie)
	}
	c.gen = g.n
	h.s.cnt.reconfigured.Inc()
	return nil
}

// keepLocked is what devfs shows of a driver: the nodes it names, and those of
// units that it was not told of again yet.
func (d *blkDriver) keepLocked(told []devops.Node) []devops.Node {
	r := slices.Clone(told)
	for _, n := range d.nodes {
		if d.configOfLocked(n.Unit) != nil && !slices.ContainsFunc(r, func(o devops.Node) bool { return o.Unit == n.Unit || o.Name == n.Name }) {
			r = append(r, n)
		}
	}
	return r
}

// ErrNotConfigurable says that a driver makes no units while it runs.
var ErrNotConfigurable = errors.New("makes no units while it runs")

// Attach has a driver make units from arg, which is the driver's own, and
// remembers it: a process that is started again is told again, before the units
// are used. on is the block device that it is about, or NoDev. It answers the
// names of the new nodes. ENXIO: no driver of that name; EOPNOTSUPP: it makes
// none; what the driver answers.
func (s *Switch) Attach(ctx context.Context, driver string, on abi.Dev, arg []byte) ([]string, error) {
	if len(arg) > devops.MaxConfigure {
		return nil, fmt.Errorf("attach %s: an argument of %d bytes, at most %d: %w", driver, len(arg), devops.MaxConfigure, abi.E2BIG)
	}
	s.mu.Lock()
	d := s.blkNameLocked(driver)
	var g *blkGen
	if d != nil && !d.hidden {
		g = d.live.Load()
	}
	s.mu.Unlock()
	if g == nil {
		return nil, fmt.Errorf("attach %.40q: no such block device driver: %w", driver, abi.ENXIO)
	}
	u, err := devops.Configure(ctx, g.b, devops.Units{}, on, arg)
	if err != nil {
		if abi.ErrnoOf(err) == abi.ENOTTY {
			err = fmt.Errorf("%w: %w", ErrNotConfigurable, abi.EOPNOTSUPP)
		}
		return nil, fmt.Errorf("attach %s: %w", driver, err)
	}
	c := &config{units: u, on: on, arg: slices.Clone(arg), gen: g.n}
	s.mu.Lock()
	clash := u.Count == 0 || slices.ContainsFunc(d.configs, func(o *config) bool {
		return o.units.First < u.First+u.Count && u.First < o.units.First+o.units.Count
	})
	if !clash {
		d.configs = append(d.configs, c)
	}
	s.mu.Unlock()
	if clash {
		return nil, fmt.Errorf("attach %s: units %d and %d more: %w", driver, u.First, u.Count, errLie)
	}
	if err := s.BlkChanged(d.inst, abi.Makedev(d.major, 0)); err != nil {
		s.forget(d, c)
		return nil, errors.Join(fmt.Errorf("attach %s: %w", driver, err), devops.Unconfigure(ctx, g.b, u, true))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, n := range d.nodes {
		if u.Has(n.Unit) {
			names = append(names, n.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (s *Switch) forget(d *blkDriver, c *config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.configs = slices.DeleteFunc(d.configs, func(o *config) bool { return o == c })
	clear(c.arg)
}

// Detach takes the units away that came with a node. EBUSY: one of them is
// open, or something stands on it, unless force: then who has them open gets
// ENXIO. ENXIO: no such node; EOPNOTSUPP: it was not made by Attach.
func (s *Switch) Detach(ctx context.Context, node string, force bool) error {
	s.mu.Lock()
	var d *blkDriver
	var c *config
	found := false
	for _, o := range s.blks {
		for _, n := range o.nodes {
			if n.Name == node {
				d, c, found = o, o.configOfLocked(n.Unit), true
			}
		}
	}
	if c == nil {
		s.mu.Unlock()
		if found {
			return fmt.Errorf("detach %s: it was not attached while the kernel ran: %w", node, abi.EOPNOTSUPP)
		}
		return fmt.Errorf("detach %.40q: no such disk: %w", node, abi.ENXIO)
	}
	for _, u := range d.units {
		if !force && u.opens > 0 && c.units.Has(u.unit) {
			name := u.name()
			s.mu.Unlock()
			return fmt.Errorf("detach %s: %s is open: %w", node, name, abi.EBUSY)
		}
	}
	g := d.live.Load()
	s.mu.Unlock()
	c.mu.Lock()
	told := g != nil && c.gen == g.n
	c.mu.Unlock()
	if told {
		if err := devops.Unconfigure(ctx, g.b, c.units, force); err != nil && abi.ErrnoOf(err) != abi.ENXIO {
			return fmt.Errorf("detach %s: %w", node, err)
		}
	}
	s.forget(d, c)
	s.mu.Lock()
	d.nodes = slices.DeleteFunc(slices.Clone(d.nodes), func(n devops.Node) bool { return c.units.Has(n.Unit) })
	s.mu.Unlock()
	if err := s.BlkChanged(d.inst, abi.Makedev(d.major, 0)); err != nil && g != nil {
		return fmt.Errorf("detach %s: %w", node, err)
	}
	return nil
}

// Probe has the first driver that can say what a block device holds (a JSON
// object). EOPNOTSUPP: there is none.
func (s *Switch) Probe(ctx context.Context, on abi.Dev) ([]byte, error) {
	s.mu.Lock()
	majors := slices.Sorted(maps.Keys(s.blks))
	var blks []devops.Blk
	for _, m := range majors {
		if g := s.blks[m].live.Load(); g != nil && !s.blks[m].hidden {
			blks = append(blks, g.b)
		}
	}
	s.mu.Unlock()
	for _, b := range blks {
		out, err := devops.Probe(ctx, b, on)
		if err == nil || abi.ErrnoOf(err) != abi.ENOTTY {
			return out, err
		}
	}
	return nil, fmt.Errorf("no component says what disks hold: %w", abi.EOPNOTSUPP)
}
