// Package nbd is the module of the network block device: a block device that
// somebody else serves by the NBD protocol (modapi/nbd), over a unix socket or
// TCP.
//
//	components:
//	  dev:
//	    grant: ["host.connect:unix:/run/disk.sock"]
//	    props: {nbd: {nbd0: {connect: "host.connect:unix:/run/disk.sock", export: disk}}}
//
// A unit is a property nbdN with these in it. While the kernel runs, one is made
// by devops.Configurer (drvctl) with the same as JSON, and the number as unit if
// it is to be that one; its server must answer then:
//
//	connect   the grant that answers a new connection each time it is asked
//	export    the export's name; the default is the server's default export
//	timeout   seconds that a request may take, everything included, before it
//	          is EIO; 20, less than the 30 after which the kernel gives a
//	          driver up
//	ro        true: read-only, whatever the server allows
//	strict    true: the server's memory dies with it. After a reconnection the
//	          next flush is EIO if writes were answered that no flush covered
//
// A connection that breaks, stalls or lies is given up, and a new one is made,
// at once and then with growing pauses. What was in flight is sent again on it:
// a block that is written twice is the block all the same. The caller sees
// nothing but time, until timeout is over: then EIO. From then on requests are
// EIO at once until there is a connection, and have a quarter of the timeout
// until something is answered: many requests take no longer than one. A server
// that breaks the protocol three times in a row without having done anything
// good meanwhile makes everything in flight EIO as well.
//
// What a reconnection cannot see: writes that the server answered and then lost
// with its memory, when nobody had flushed. That is a power failure of the disk;
// strict tells it at the next flush.
//
// Goroutines: each unit has a manager, which connects and then reads, and a
// watch, which looks at ages. A request is written by the goroutine that brings
// it, together with what others left in the queue meanwhile.
//
// Locks: unit.mu is a leaf, held over no I/O.
package nbd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	proto "github.com/rumpus-kernel/rumpus/modapi/nbd"
)

const (
	maxUnits       = 256
	defaultTimeout = 20 * time.Second
	maxTimeout     = 10 * time.Minute
	firstWait      = 2 * time.Second // Init, for servers that are there
)

// New makes the module "nbd" (class driver).
func New() modapi.Module { return &module{} }

type module struct {
	d *driver
}

func (*module) Info() modapi.Info {
	return modapi.Info{
		Name: "nbd", Class: modapi.ClassDriver,
		Kern: abi.KernVersionCurrent, Version: "0.1.0",
		Wants: []modapi.Want{{Grant: "host.connect", Why: "the server of each unit"}},
	}
}

// Init attaches the driver and begins to connect the units. A server that does
// not answer is no error: it may come later. EINVAL: a property that is none;
// ENOENT: a grant that is not there.
func (m *module) Init(ctx context.Context, k modapi.Kernel, _ modapi.Reason, p modapi.Props) error {
	opts, err := parse(p)
	if err != nil {
		return err
	}
	d := &driver{k: k, cnt: newCounters(k), units: map[uint32]*unit{}}
	for n, o := range opts {
		d.units[n] = d.newUnit(n, o)
	}
	wait, cancel := context.WithTimeout(ctx, firstWait)
	defer cancel()
	for _, u := range d.units {
		if err := u.firstTry(wait); errors.Is(err, errNoGrant) {
			d.stop()
			return fmt.Errorf("%s: %w: grant it to the component (%w)", u.name, err, abi.ENOENT)
		}
	}
	dev, err := k.AttachBlk("nbd", d)
	if err != nil {
		d.stop()
		return fmt.Errorf("attach nbd: %w", err)
	}
	d.attached(dev)
	m.d = d
	return nil
}

// Fini ends the connections.
func (m *module) Fini(context.Context) error {
	if m.d != nil {
		m.d.stop()
	}
	return nil
}

// parse reads the properties: the units.
func parse(p modapi.Props) (map[uint32]unitOptions, error) {
	own, ok := p["nbd"].(map[string]any)
	if !ok && p["nbd"] != nil {
		return nil, fmt.Errorf("nbd: the property is no map of units: %w", abi.EINVAL)
	}
	if len(own) > maxUnits {
		return nil, fmt.Errorf("nbd: %d units, more than %d: %w", len(own), maxUnits, abi.EINVAL)
	}
	opts := map[uint32]unitOptions{}
	for name, v := range own {
		num, ok := strings.CutPrefix(name, "nbd")
		n, err := strconv.ParseUint(num, 10, 32)
		if !ok || err != nil || n >= maxUnits || strconv.FormatUint(n, 10) != num {
			return nil, fmt.Errorf("nbd: property %q: wanted nbd0 to nbd%d: %w", name, maxUnits-1, abi.EINVAL)
		}
		m, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("nbd: property %s is no map: %w", name, abi.EINVAL)
		}
		if opts[uint32(n)], err = parseUnit(m); err != nil {
			return nil, fmt.Errorf("nbd: property %s: %w", name, err)
		}
	}
	return opts, nil
}

// unitOptions are the properties of one unit.
type unitOptions struct {
	connect, export string
	timeout         time.Duration
	ro, strict      bool
}

// parseUnit reads the properties of one unit. EINVAL names what is wrong.
func parseUnit(m map[string]any) (o unitOptions, err error) {
	bad := func(format string, a ...any) (unitOptions, error) {
		return unitOptions{}, fmt.Errorf("%s: %w", fmt.Sprintf(format, a...), abi.EINVAL)
	}
	o.timeout = defaultTimeout
	for k, v := range m {
		ok := true
		switch k {
		case "connect":
			o.connect, ok = v.(string)
		case "export":
			o.export, ok = v.(string)
			ok = ok && proto.ValidString(o.export)
		case "ro":
			o.ro, ok = v.(bool)
		case "strict":
			o.strict, ok = v.(bool)
		case "timeout":
			var s float64
			switch v := v.(type) {
			case int64:
				s = float64(v)
			case int:
				s = float64(v)
			case float64:
				s = v
			default:
				ok = false
			}
			o.timeout = time.Duration(s * float64(time.Second))
			ok = ok && o.timeout > 0 && o.timeout <= maxTimeout
		default:
			return bad("unknown key %q", k)
		}
		if !ok {
			return bad("%s: %v is not possible", k, v)
		}
	}
	if o.connect == "" {
		return bad("connect is missing")
	}
	return o, nil
}

// driver is the driver with its units.
type driver struct {
	k   modapi.Kernel
	cnt counters

	mu    sync.Mutex
	dev   abi.Dev
	known bool // dev is
	units map[uint32]*unit
}

var (
	_ devops.Blk        = (*driver)(nil)
	_ devops.Noder      = (*driver)(nil)
	_ devops.Configurer = (*driver)(nil)
)

// newUnit makes a unit that begins to connect.
func (d *driver) newUnit(n uint32, o unitOptions) *unit {
	u := newUnit(fmt.Sprintf("nbd%d", n), o, d.dialer(o.connect), d.k.Log(), d.cnt)
	u.changed = d.changed
	u.start()
	return u
}

// attached notes the number of the driver, and that the kernel may not know
// what units became meanwhile.
func (d *driver) attached(dev abi.Dev) {
	d.mu.Lock()
	d.dev, d.known = dev, true
	some := len(d.units) > 0
	d.mu.Unlock()
	if some {
		d.changed()
	}
}

// changed tells the kernel that a unit has become another one.
func (d *driver) changed() {
	d.mu.Lock()
	dev, known := d.dev, d.known
	d.mu.Unlock()
	if !known {
		return
	}
	if err := d.k.BlkChanged(dev); err != nil {
		d.k.Log().Warn("nbd: the kernel does not take a changed unit", "error", err.Error())
	}
}

// Configure makes a unit of what parseUnit takes, as JSON, and the number of the
// unit if it is to be that one. A unit that was there before the process died is
// made even if its server does not answer now.
func (d *driver) Configure(ctx context.Context, was devops.Units, on abi.Dev, arg []byte) (devops.Units, error) {
	fail := func(err error) (devops.Units, error) { return was, fmt.Errorf("nbd: %w", err) }
	if on != abi.NoDev {
		return fail(fmt.Errorf("it stands on no device: %w", abi.EINVAL))
	}
	var m map[string]any
	if err := json.Unmarshal(arg, &m); err != nil {
		return fail(fmt.Errorf("%v: %w", err, abi.EINVAL))
	}
	unit, fixed := -1, false
	if v, ok := m["unit"]; ok {
		f, ok := v.(float64)
		if unit = int(f); !ok || f != float64(unit) || unit < 0 || unit >= maxUnits {
			return fail(fmt.Errorf("unit: %v is not 0 to %d: %w", v, maxUnits-1, abi.EINVAL))
		}
		fixed = true
		delete(m, "unit")
	}
	if was.Count > 0 {
		unit, fixed = int(was.First), true
	}
	o, err := parseUnit(m)
	if err != nil {
		return fail(err)
	}
	d.mu.Lock()
	if !fixed {
		for unit = 0; d.units[uint32(unit)] != nil; unit++ {
		}
	}
	n := uint32(unit)
	switch {
	case unit >= maxUnits:
		d.mu.Unlock()
		return fail(fmt.Errorf("%d units are there: %w", maxUnits, abi.EBUSY))
	case d.units[n] != nil:
		d.mu.Unlock()
		return fail(fmt.Errorf("nbd%d: %w", n, abi.EEXIST))
	}
	u := d.newUnit(n, o)
	d.units[n] = u
	d.mu.Unlock()
	wait, cancel := context.WithTimeout(ctx, o.timeout/2)
	defer cancel()
	err = u.firstTry(wait)
	if _, gerr := u.geometry(); gerr != nil && err == nil {
		err = gerr
	}
	if errors.Is(err, errNoGrant) {
		err = fmt.Errorf("%w: grant it to the component: %w", err, abi.ENOENT)
	}
	if err != nil && was.Count == 0 {
		d.drop(n)
		return fail(fmt.Errorf("%s: %w", o.connect, err))
	}
	return devops.Units{First: n, Count: 1}, nil
}

// Unconfigure takes a unit away; what is in flight is ENXIO.
func (d *driver) Unconfigure(_ context.Context, u devops.Units, _ bool) error {
	if u.Count != 1 || !d.drop(u.First) {
		return fmt.Errorf("nbd%d: %w", u.First, abi.ENXIO)
	}
	return nil
}

func (d *driver) drop(n uint32) bool {
	d.mu.Lock()
	u := d.units[n]
	delete(d.units, n)
	d.mu.Unlock()
	if u != nil {
		u.stop()
	}
	return u != nil
}

// errNoGrant is the error of a unit that names what was not granted.
var errNoGrant = errors.New("no grant")

// dialer makes new connections of a grant.
func (d *driver) dialer(grant string) dialFunc {
	return func(context.Context) (net.Conn, error) {
		f, err := d.k.Granted(grant)
		if abi.ErrnoOf(err) == abi.ENOENT {
			return nil, fmt.Errorf("%w %q", errNoGrant, grant)
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		nc, err := net.FileConn(f)
		if err != nil {
			return nil, fmt.Errorf("grant %s is no connection: %v: %w", grant, err, abi.EINVAL)
		}
		return nc, nil
	}
}

func (d *driver) stop() {
	d.mu.Lock()
	units := d.units
	d.units = map[uint32]*unit{}
	d.mu.Unlock()
	for _, u := range units {
		u.stop()
	}
}

// Nodes are nbd0 and so on, of mode 0640 as NetBSD's MAKEDEV makes disks.
func (d *driver) Nodes() []devops.Node {
	d.mu.Lock()
	defer d.mu.Unlock()
	var l []devops.Node
	for n, u := range d.units {
		l = append(l, devops.Node{Name: u.name, Unit: n, Mode: 0o640})
	}
	slices.SortFunc(l, func(a, b devops.Node) int { return int(a.Unit) - int(b.Unit) })
	return l
}

func (d *driver) unit(n uint32) (*unit, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if u := d.units[n]; u != nil {
		return u, nil
	}
	return nil, fmt.Errorf("nbd%d: %w", n, abi.ENXIO)
}

// Geometry is that of the export; ENXIO as long as no server has told it.
func (d *driver) Geometry(_ context.Context, n uint32) (devops.Geom, error) {
	u, err := d.unit(n)
	if err != nil {
		return devops.Geom{}, err
	}
	return u.geometry()
}

// Open waits for the server a while if it was never there.
func (d *driver) Open(ctx context.Context, n uint32, flags int) error {
	u, err := d.unit(n)
	if err != nil {
		return err
	}
	u.up(ctx)
	g, err := u.geometry()
	if err != nil {
		return err
	}
	if g.ReadOnly && flags&abi.O_ACCMODE != abi.O_RDONLY {
		return fmt.Errorf("%s: %w", u.name, abi.EROFS)
	}
	return nil
}

func (d *driver) Close(_ context.Context, n uint32, _ int) error {
	if _, err := d.unit(n); err != nil {
		return err
	}
	return nil
}

// Ioctl knows what drvctl sends, and nothing else.
func (d *driver) Ioctl(ctx context.Context, n uint32, cmd uint32, arg []byte) ([]byte, error) {
	if out, ok, err := devops.ServeControl(ctx, d, cmd, arg); ok {
		return out, err
	}
	if _, err := d.unit(n); err != nil {
		return nil, err
	}
	return nil, abi.ENOTTY
}

// Strategy has a buf done by the server.
func (d *driver) Strategy(ctx context.Context, b *devops.Buf) error {
	u, err := d.unit(b.Dev.Minor())
	if err != nil {
		return err
	}
	return u.strategy(ctx, b)
}

type counters struct{ requests, reissued, connects, errors, lies *modapi.Counter }

func newCounters(k modapi.Kernel) counters {
	c := func(n string) *modapi.Counter { return k.Evcnt("nbd", n) }
	return counters{c("requests"), c("reissued"), c("connects"), c("errors"), c("lies")}
}
