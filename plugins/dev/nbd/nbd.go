// Package nbd is the module of the network block device: a block device that
// somebody else serves by the NBD protocol (modapi/nbd), over a unix socket or
// TCP.
//
//	components:
//	  dev:
//	    grant: ["host.connect:unix:/run/disk.sock"]
//	    props: {nbd: {nbd0: {connect: "host.connect:unix:/run/disk.sock", export: disk}}}
//
// A unit is a property nbdN with these in it:
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
// nothing but time, until timeout is over: then EIO. If there has been no
// connection for that long, requests are EIO at once until there is one. A server
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
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	proto "github.com/rumpus-kernel/rumpus/modapi/nbd"
)

const (
	maxUnits       = 16
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
// not answer is no error: it may come later.
func (m *module) Init(ctx context.Context, k modapi.Kernel, _ modapi.Reason, p modapi.Props) error {
	d := &driver{k: k, units: map[uint32]*unit{}}
	for name, v := range p {
		o, num, err := parseUnit(name, v)
		if err != nil {
			return err
		}
		d.units[num] = newUnit(name, o, d.dialer(o.connect), k.Log(), newCounters(k))
	}
	if len(d.units) > maxUnits {
		return fmt.Errorf("nbd: %d units, more than %d: %w", len(d.units), maxUnits, abi.EINVAL)
	}
	m.d = d
	for _, u := range d.units {
		u.start()
	}
	wait, cancel := context.WithTimeout(ctx, firstWait)
	defer cancel()
	for _, u := range d.units {
		if err := u.firstTry(wait); errors.Is(err, errNoGrant) {
			d.stop()
			return fmt.Errorf("%s: %w: grant it to the component (%w)", u.name, err, abi.ENOENT)
		}
	}
	seen := map[*unit]int{}
	for _, u := range d.units {
		seen[u] = u.onChange(nil)
	}
	dev, err := k.AttachBlk("nbd", d)
	if err != nil {
		d.stop()
		return fmt.Errorf("attach nbd: %w", err)
	}
	changed := func() {
		if err := k.BlkChanged(dev); err != nil {
			k.Log().Warn("nbd: the kernel does not take a changed unit", "error", err.Error())
		}
	}
	for _, u := range d.units {
		if u.onChange(changed) != seen[u] {
			changed()
		}
	}
	return nil
}

// Fini ends the connections.
func (m *module) Fini(context.Context) error {
	if m.d == nil {
		return nil
	}
	m.d.mu.Lock()
	opens := m.d.opens
	m.d.mu.Unlock()
	if opens > 0 {
		return fmt.Errorf("nbd: %d opens: %w", opens, abi.EBUSY)
	}
	m.d.stop()
	return nil
}

// unitOptions are the properties of one unit.
type unitOptions struct {
	connect, export string
	timeout         time.Duration
	ro, strict      bool
}

// parseUnit reads the property of one unit. EINVAL names what is wrong.
func parseUnit(name string, v any) (o unitOptions, num uint32, err error) {
	bad := func(format string, a ...any) (unitOptions, uint32, error) {
		return unitOptions{}, 0, fmt.Errorf("nbd: property %s: %s: %w", name, fmt.Sprintf(format, a...), abi.EINVAL)
	}
	if n, err := fmt.Sscanf(name, "nbd%d", &num); n != 1 || err != nil || fmt.Sprintf("nbd%d", num) != name || num > 255 {
		return bad("not a unit, nbd0 to nbd255")
	}
	m, ok := v.(map[string]any)
	if !ok {
		return bad("not a mapping")
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
	return o, num, nil
}

// driver is the driver with its units.
type driver struct {
	k     modapi.Kernel
	units map[uint32]*unit // never changes

	mu    sync.Mutex
	opens int
}

var (
	_ devops.Blk   = (*driver)(nil)
	_ devops.Noder = (*driver)(nil)
)

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
	for _, u := range d.units {
		u.stop()
	}
}

// Nodes are nbd0 and so on, of mode 0640 as NetBSD's MAKEDEV makes disks.
func (d *driver) Nodes() []devops.Node {
	var l []devops.Node
	for n, u := range d.units {
		l = append(l, devops.Node{Name: u.name, Unit: n, Mode: 0o640})
	}
	slices.SortFunc(l, func(a, b devops.Node) int { return strings.Compare(a.Name, b.Name) })
	return l
}

func (d *driver) unit(n uint32) (*unit, error) {
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
	ctx, cancel := context.WithTimeout(ctx, u.opt.timeout/2)
	defer cancel()
	u.up(ctx)
	g, err := u.geometry()
	if err != nil {
		return err
	}
	if g.ReadOnly && flags&abi.O_ACCMODE != abi.O_RDONLY {
		return fmt.Errorf("%s: %w", u.name, abi.EROFS)
	}
	d.mu.Lock()
	d.opens++
	d.mu.Unlock()
	return nil
}

func (d *driver) Close(_ context.Context, n uint32, _ int) error {
	if _, err := d.unit(n); err != nil {
		return err
	}
	d.mu.Lock()
	d.opens--
	d.mu.Unlock()
	return nil
}

// Ioctl knows none.
func (d *driver) Ioctl(_ context.Context, n uint32, _ uint32, _ []byte) ([]byte, error) {
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
