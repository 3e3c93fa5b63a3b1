// Package dk is the block device driver "dk" (dk(4), wedges): for each disk
// that it is told of, a device for each partition. It also says what a disk
// holds.
//
//	rumpus dev attach part disk0     /dev/disk0p1, /dev/disk0p2, ...
//
// The table is read once, when the disk is told (devops.Configurer); a table
// that is changed afterwards counts when the disk is detached and attached
// again. Requests go to the disk as they are, moved by where the partition
// begins.
package dk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/plugins/dev/part"
	"github.com/rumpus-kernel/rumpus/plugins/dev/part/probe"
)

// Driver is the block device driver "dk": for each disk that it is told of, a
// unit for each of its partitions.
//
// Locks: Driver.mu, a leaf; not held over calls to the kernel.
type Driver struct {
	mu    sync.Mutex
	k     modapi.Kernel     // nil: not initialised; protected by mu
	dev   abi.Dev           // unit 0, protected by mu
	disks map[uint32]*disk  // by first unit, protected by mu
	units map[uint32]*slice // protected by mu
}

// disk is one that has its partitions shown.
type disk struct {
	on    abi.Dev
	name  string
	units devops.Units
}

// slice is a partition as a device.
type slice struct {
	node  string
	io    devops.BlockIO
	geom  devops.Geom
	start int64 // bytes
	opens int   // protected by Driver.mu
}

// Config is how a disk is told to the driver (devops.Configurer): its name,
// which begins those of its partitions.
type Config struct {
	Name string `json:"name"`
}

var (
	_ modapi.Module     = (*Driver)(nil)
	_ devops.Blk        = (*Driver)(nil)
	_ devops.Noder      = (*Driver)(nil)
	_ devops.Configurer = (*Driver)(nil)
	_ devops.Prober     = (*Driver)(nil)
)

// New makes the module "part".
func New() *Driver {
	return &Driver{disks: map[uint32]*disk{}, units: map[uint32]*slice{}}
}

// Info says who it is.
func (d *Driver) Info() modapi.Info {
	return modapi.Info{Name: "part", Class: modapi.ClassDriver, Kern: abi.KernVersionCurrent, Version: "1.0.0"}
}

// Init attaches the driver.
func (d *Driver) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, _ modapi.Props) error {
	dev, err := k.AttachBlk("dk", d)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.k, d.dev = k, dev
	d.mu.Unlock()
	return nil
}

// Fini gives the disks back. EBUSY: a partition is open.
func (d *Driver) Fini(ctx context.Context) error {
	d.mu.Lock()
	for _, s := range d.units {
		if s.opens > 0 {
			d.mu.Unlock()
			return fmt.Errorf("%s is open: %w", s.node, abi.EBUSY)
		}
	}
	units := d.units
	d.k, d.disks, d.units = nil, map[uint32]*disk{}, map[uint32]*slice{}
	d.mu.Unlock()
	for _, s := range units {
		s.io.Close(ctx)
	}
	return nil
}

// Nodes are the partitions.
func (d *Driver) Nodes() []devops.Node {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := make([]devops.Node, 0, len(d.units))
	for u, s := range d.units {
		r = append(r, devops.Node{Name: s.node, Unit: u, Mode: 0o640})
	}
	return r
}

// reader reads a BlockIO at any offset.
type reader struct {
	io devops.BlockIO
	g  devops.Geom
}

// NewDisk is a block device of the kernel as part.Disk.
func NewDisk(ctx context.Context, io devops.BlockIO) (part.Disk, devops.Geom, error) {
	g, err := io.Geometry(ctx)
	if err == nil {
		err = g.Check()
	}
	return &reader{io, g}, g, err
}

func (r *reader) Size() int64   { return r.g.Size }
func (r *reader) Sector() int64 { return int64(r.g.Sector) }
func (r *reader) ReadAt(ctx context.Context, p []byte, off int64) error {
	sec := int64(r.g.Sector)
	if off < 0 || off > r.g.Size || int64(len(p)) > r.g.Size-off {
		return fmt.Errorf("read of %d bytes at %d, behind the end at %d: %w", len(p), off, r.g.Size, abi.EINVAL)
	}
	for len(p) > 0 {
		lo := off / sec * sec
		n := min((off+int64(len(p))-lo+sec-1)/sec*sec, int64(r.g.MaxIO), 64<<10)
		b := make([]byte, max(n, sec))
		if err := r.io.Strategy(ctx, &devops.Buf{Blkno: lo / devops.DevBsize, Bytes: int64(len(b)), Flags: devops.BRead, Data: abi.IovOf(b)}); err != nil {
			return err
		}
		k := copy(p, b[off-lo:])
		p, off = p[k:], off+int64(k)
	}
	return nil
}

// Configure reads the table of a disk and makes a unit for each partition that
// can be one. EFTYPE, ESRCH: see part.Read.
func (d *Driver) Configure(ctx context.Context, u devops.Units, on abi.Dev, arg []byte) (_ devops.Units, err error) {
	var c Config
	dec := json.NewDecoder(bytes.NewReader(arg))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil || c.Name == "" || len(c.Name) > 20 {
		return u, fmt.Errorf("partitions: the argument is {\"name\": NAME}, not %.80q: %w", arg, abi.EINVAL)
	}
	if on == abi.NoDev {
		return u, fmt.Errorf("partitions: of which disk: %w", abi.EINVAL)
	}
	d.mu.Lock()
	k, major := d.k, d.dev.Major()
	if k == nil {
		d.mu.Unlock()
		return u, abi.ENXIO
	}
	for _, o := range d.disks {
		if o.on == on {
			d.mu.Unlock()
			return u, fmt.Errorf("partitions of %s: attached already: %w", o.name, abi.EEXIST)
		}
	}
	first := u.First
	if u.Count == 0 {
		for first = 0; d.disks[first] != nil; first += part.MaxParts {
		}
	}
	d.disks[first] = &disk{on: on, name: c.Name} // keeps the place
	d.mu.Unlock()
	var made []*slice
	defer func() {
		if err == nil {
			return
		}
		for _, s := range made {
			s.io.Close(ctx)
		}
		d.mu.Lock()
		delete(d.disks, first)
		d.mu.Unlock()
	}()
	io, err := k.Block(on, abi.Makedev(major, first))
	if err != nil {
		return u, fmt.Errorf("partitions of %s: %w", c.Name, err)
	}
	made = append(made, &slice{io: io})
	r, g, err := NewDisk(ctx, io)
	if err != nil {
		return u, fmt.Errorf("partitions of %s: %w", c.Name, err)
	}
	t, err := part.Read(ctx, r)
	if err != nil {
		return u, fmt.Errorf("partitions of %s: %w", c.Name, err)
	}
	for _, w := range t.Warnings {
		k.Log().Warn("partition table", "disk", c.Name, "warning", w)
	}
	n := 0
	for _, p := range append(t.Parts, t.Inner...) {
		if p.Err == "" && p.Start%int64(g.Sector) != 0 {
			p.Err = fmt.Sprintf("does not begin with a sector of %d bytes", g.Sector)
		}
		if p.Err != "" {
			k.Log().Warn("partition has no device", "disk", c.Name, "partition", p.Suffix, "reason", p.Err)
			continue
		}
		if n > 0 {
			if io, err = k.Block(on, abi.Makedev(major, first+uint32(n))); err != nil {
				return u, fmt.Errorf("partitions of %s: %w", c.Name, err)
			}
			made = append(made, &slice{io: io})
		}
		s := made[n]
		s.node, s.start, s.geom = c.Name+p.Suffix, p.Start, g
		s.geom.Size = p.Size / int64(g.Sector) * int64(g.Sector)
		s.geom.Type, s.geom.Label = t.Kind+" partition", p.Name
		n++
	}
	switch {
	case n == 0:
		return u, fmt.Errorf("partitions of %s: the table has none: %w", c.Name, abi.ESRCH)
	case u.Count != 0 && uint32(n) != u.Count:
		return u, fmt.Errorf("partitions of %s: %d of them, there were %d: %w", c.Name, n, u.Count, abi.EIO)
	}
	u = devops.Units{First: first, Count: uint32(n)}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.disks[first].units = u
	for i, s := range made {
		d.units[first+uint32(i)] = s
	}
	return u, nil
}

// Unconfigure takes the partitions of a disk away. EBUSY.
func (d *Driver) Unconfigure(ctx context.Context, u devops.Units, force bool) error {
	d.mu.Lock()
	if o := d.disks[u.First]; o == nil || o.units != u {
		d.mu.Unlock()
		return abi.ENXIO
	}
	var gone []*slice
	for i := range u.Count {
		s := d.units[u.First+i]
		if s.opens > 0 && !force {
			d.mu.Unlock()
			return fmt.Errorf("%s is open: %w", s.node, abi.EBUSY)
		}
		gone = append(gone, s)
	}
	delete(d.disks, u.First)
	for i := range u.Count {
		delete(d.units, u.First+i)
	}
	d.mu.Unlock()
	var err error
	for _, s := range gone {
		err = errors.Join(err, s.io.Close(ctx))
	}
	return err
}

func (d *Driver) unit(n uint32) (*slice, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.units[n]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("dk: no unit %d: %w", n, abi.ENXIO)
}

// Geometry is the partition's: sectors and operations are the disk's.
func (d *Driver) Geometry(_ context.Context, n uint32) (devops.Geom, error) {
	s, err := d.unit(n)
	if err != nil {
		return devops.Geom{}, err
	}
	return s.geom, nil
}

// Open counts.
func (d *Driver) Open(_ context.Context, n uint32, flags int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.units[n]
	switch {
	case s == nil:
		return fmt.Errorf("dk: no unit %d: %w", n, abi.ENXIO)
	case s.geom.ReadOnly && flags&abi.O_ACCMODE != abi.O_RDONLY:
		return abi.EROFS
	}
	s.opens++
	return nil
}

// Close is the way back.
func (d *Driver) Close(_ context.Context, n uint32, _ int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.units[n]; s != nil && s.opens > 0 {
		s.opens--
	}
	return nil
}

// Strategy passes a buf on to the disk.
func (d *Driver) Strategy(ctx context.Context, b *devops.Buf) error {
	s, err := d.unit(b.Dev.Minor())
	if err != nil {
		return err
	}
	if err := b.Check(&s.geom); err != nil {
		return err
	}
	own := *b
	if b.Op() != devops.BFlush {
		own.Blkno += s.start / devops.DevBsize
	}
	return s.io.Strategy(ctx, &own)
}

// Ioctl knows nothing.
func (d *Driver) Ioctl(context.Context, uint32, uint32, []byte) ([]byte, error) {
	return nil, abi.ENOTTY
}

// Answer is what Probe says of a disk.
type Answer struct {
	Contents probe.Result `json:"contents"`
	Table    *part.Table  `json:"table,omitempty"`
	TableErr string       `json:"table_error,omitempty"` // there is one, and it is damaged
}

// Probe looks at a disk, which others may use meanwhile, and answers an Answer.
func (d *Driver) Probe(ctx context.Context, on abi.Dev) ([]byte, error) {
	d.mu.Lock()
	k, major := d.k, d.dev.Major()
	d.mu.Unlock()
	if k == nil {
		return nil, abi.ENXIO
	}
	io, err := k.Block(on, abi.Makedev(major, devops.ProbeUnit))
	if err != nil {
		return nil, err
	}
	defer io.Close(ctx)
	disk, _, err := NewDisk(ctx, io)
	if err != nil {
		return nil, err
	}
	var a Answer
	if a.Contents, err = probe.Probe(ctx, disk); err != nil {
		return nil, err
	}
	switch a.Table, err = part.Read(ctx, disk); {
	case errors.Is(err, part.ErrNoTable) || a.Contents.Kind != probe.Table && a.Contents.Kind != probe.Unknown:
		a.Table = nil
	case err != nil:
		a.TableErr = err.Error()
	}
	return json.Marshal(a)
}
