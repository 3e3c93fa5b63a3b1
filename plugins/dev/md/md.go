// Package md is the module of memory disks, md(4): block devices whose blocks
// are memory of this process.
//
// The units are md0, md1, ... A unit gets its memory by the property md of the
// plugin, a size for each unit,
//
//	props: {md: {md0: 64M, md1: 1048576, units: 4}}
//
// or while the kernel runs: by devops.Configurer with {"size": "64M"}, and the
// number of a unit if it is to be that one. With the property units there are
// so many at least, of size 0 at first: those can be opened, and the ioctl
// mdio.SetConf gives them memory.
//
// The memory is sparse: what was never written, discarded or zeroed takes
// none. It is this process's, so that the contents end with it: after a
// restart all units read as zeroes, and those of the ioctl have no memory. Who
// needs more has vnd on a tmpfs file, whose pages are the kernel's.
//
// # Locks
//
//	unit.mu      the memory is there; held shared over transfers
//	  unit.part  64 KiB each, in rising order: a reader sees no half of a sector
package md

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/devops/mdio"
)

// Sector is the size of a sector, in bytes.
const Sector = devops.DevBsize

// MaxUnits is how many units there are at most.
const MaxUnits = 256

// New makes the module "md" (class driver).
func New() modapi.Module { return &module{} }

type module struct {
	k     modapi.Kernel
	dev   abi.Dev
	shown int // units that are there with no memory, too; set by Init
	units [MaxUnits]unit
}

var (
	_ modapi.Module = (*module)(nil)
	_ devops.Blk    = (*driver)(nil)
	_ devops.Noder  = (*driver)(nil)

	_ devops.Configurer = (*driver)(nil)
)

func (*module) Info() modapi.Info {
	return modapi.Info{
		Name: "md", Class: modapi.ClassDriver,
		Kern: abi.KernVersionCurrent, Version: "0.1.0",
	}
}

// Init makes the units. EINVAL: a property that is none; ENOMEM.
func (m *module) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, p modapi.Props) error {
	sizes, n, err := parse(p)
	if err != nil {
		return err
	}
	m.k, m.shown = k, n
	for i, size := range sizes {
		if err := m.units[i].set(mdio.Conf{Size: size, Type: mdio.KmemAllocated}); err != nil {
			m.free()
			return fmt.Errorf("md%d: %w", i, err)
		}
	}
	if m.dev, err = k.AttachBlk("md", &driver{m: m}); err != nil {
		m.free()
		return fmt.Errorf("attach md: %w", err)
	}
	return nil
}

// Fini gives the memory back.
func (m *module) Fini(context.Context) error {
	m.free()
	return nil
}

func (m *module) free() {
	for i := range m.units {
		m.units[i].set(mdio.Conf{})
	}
}

// parse reads the properties: the sizes of units, and how many there are with
// no memory, too.
func parse(p modapi.Props) (map[int]int64, int, error) {
	sizes, n := make(map[int]int64), 0
	own, ok := p["md"].(map[string]any)
	if !ok && p["md"] != nil {
		return nil, 0, fmt.Errorf("md: the property is no map of units and sizes: %w", abi.EINVAL)
	}
	for key, v := range own {
		size, err := bytesOf(v)
		if err != nil {
			return nil, 0, fmt.Errorf("md: %s: %w", key, err)
		}
		if key == "units" {
			if size < 1 || size > MaxUnits {
				return nil, 0, fmt.Errorf("md: units: %d, not 1 to %d: %w", size, MaxUnits, abi.EINVAL)
			}
			n = int(size)
			continue
		}
		num, ok := strings.CutPrefix(key, "md")
		i, err := strconv.Atoi(num)
		if !ok || err != nil || i < 0 || i >= MaxUnits || strconv.Itoa(i) != num {
			return nil, 0, fmt.Errorf("md: property %q: wanted md0 to md%d, or units: %w", key, MaxUnits-1, abi.EINVAL)
		}
		size = (size + Sector - 1) / Sector * Sector
		sizes[i] = size
	}
	return sizes, n, nil
}

// bytesOf reads a size: a number of bytes, or one with a suffix K, M, G or T.
func bytesOf(v any) (int64, error) {
	switch v := v.(type) {
	case int64:
		return v, nil
	case int:
		return int64(v), nil
	case float64:
		if v == math.Trunc(v) && v >= 0 && v <= mdio.MaxSize {
			return int64(v), nil
		}
	case string:
		s, shift := strings.TrimSuffix(strings.ToUpper(v), "B"), 0
		if i := strings.IndexByte("KMGT", lastByte(s)); i >= 0 {
			s, shift = strings.TrimSpace(s[:len(s)-1]), 10*(i+1)
		}
		n, err := strconv.ParseInt(s, 10, 64)
		if err == nil && n >= 0 && n <= mdio.MaxSize>>shift {
			return n << shift, nil
		}
	}
	return 0, fmt.Errorf("%v is no size: %w", v, abi.EINVAL)
}

func lastByte(s string) byte {
	if s == "" {
		return '?'
	}
	return s[len(s)-1]
}

// driver is the block device driver.
type driver struct{ m *module }

// Nodes are the units, with the mode of NetBSD's MAKEDEV.
func (d *driver) Nodes() []devops.Node {
	var nodes []devops.Node
	for i := range uint32(MaxUnits) {
		if _, err := d.unit(i); err == nil {
			nodes = append(nodes, devops.Node{Name: "md" + strconv.Itoa(int(i)), Unit: i, Mode: 0o640})
		}
	}
	return nodes
}

// unit finds a unit. ENXIO.
func (d *driver) unit(n uint32) (*unit, error) {
	if n < MaxUnits && (int(n) < d.m.shown || d.m.units[n].geom().Size > 0) {
		return &d.m.units[n], nil
	}
	return nil, fmt.Errorf("md%d: %w", n, abi.ENXIO)
}

// Geometry of a unit; size 0 if it has no memory.
func (d *driver) Geometry(_ context.Context, n uint32) (devops.Geom, error) {
	u, err := d.unit(n)
	if err != nil {
		return devops.Geom{}, err
	}
	return u.geom(), nil
}

// Open lets everybody in.
func (d *driver) Open(_ context.Context, n uint32, _ int) error {
	_, err := d.unit(n)
	return err
}

// Close does nothing.
func (d *driver) Close(_ context.Context, n uint32, _ int) error {
	_, err := d.unit(n)
	return err
}

// Strategy moves a buf.
func (d *driver) Strategy(_ context.Context, b *devops.Buf) error {
	u, err := d.unit(b.Dev.Minor())
	if err != nil {
		return err
	}
	return u.strategy(b)
}

// Ioctl knows mdio.GetConf and SetConf. ENOTTY.
func (d *driver) Ioctl(_ context.Context, n uint32, cmd uint32, arg []byte) ([]byte, error) {
	u, err := d.unit(n)
	if err != nil {
		return nil, err
	}
	switch cmd {
	case mdio.GetConf:
		c := mdio.Conf{Size: u.geom().Size}
		if c.Size > 0 {
			c.Type = mdio.KmemAllocated
		}
		return c.Append(nil), nil
	case mdio.SetConf:
		var c mdio.Conf
		if err := c.Parse(arg); err != nil {
			return nil, err
		}
		if err := u.set(c); err != nil {
			return nil, fmt.Errorf("md%d: %w", n, err)
		}
		return nil, d.m.k.BlkChanged(d.m.dev)
	}
	return nil, abi.ENOTTY
}

// conf is the argument of Configure.
type conf struct {
	Size any  `json:"size"` // a number of bytes, or a text as in a property
	Unit *int `json:"unit"` // nil: the first without memory
}

// Configure gives a unit memory, from {"size": "64M", "unit": 1}. EINVAL;
// EBUSY: that unit has memory, or all have; ENOMEM.
func (d *driver) Configure(_ context.Context, again devops.Units, on abi.Dev, arg []byte) (devops.Units, error) {
	var c conf
	dec := json.NewDecoder(bytes.NewReader(arg))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil || dec.More() {
		return again, fmt.Errorf("md: wanted {\"size\": SIZE, \"unit\": NUMBER}: %w", abi.EINVAL)
	}
	size, err := bytesOf(c.Size)
	if err != nil {
		return again, fmt.Errorf("md: size: %w", err)
	}
	switch {
	case on != abi.NoDev:
		return again, fmt.Errorf("md stands on no device: %w", abi.EINVAL)
	case again.Count > 1:
		return again, abi.EINVAL
	case again.Count == 1:
		n := int(again.First)
		c.Unit = &n
	}
	set := mdio.Conf{Size: (size + Sector - 1) / Sector * Sector, Type: mdio.KmemAllocated}
	for i := range d.m.units {
		u := &d.m.units[i]
		if c.Unit != nil && *c.Unit != i {
			continue
		}
		err := u.set(set)
		if err == nil {
			return devops.Units{First: uint32(i), Count: 1}, nil
		}
		if c.Unit != nil || abi.ErrnoOf(err) != abi.EBUSY {
			return again, fmt.Errorf("md%d: %w", i, err)
		}
	}
	if c.Unit != nil {
		return again, fmt.Errorf("md%d: there are at most %d units: %w", *c.Unit, MaxUnits, abi.EINVAL)
	}
	return again, fmt.Errorf("all %d units are in use: %w", MaxUnits, abi.EBUSY)
}

// Unconfigure takes the memory away.
func (d *driver) Unconfigure(_ context.Context, units devops.Units, _ bool) error {
	u, err := d.unit(units.First)
	if err != nil || units.Count != 1 || u.geom().Size == 0 {
		return abi.ENXIO
	}
	return u.set(mdio.Conf{})
}

// partSize is what one lock of a unit covers, in bytes; there are so many.
const (
	partSize = 64 << 10
	parts    = 256
)

// unit is one memory disk.
type unit struct {
	mu   sync.RWMutex
	mem  []byte // nil: no memory; protected by mu
	part []sync.RWMutex
}

func (u *unit) geom() devops.Geom {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return u.geomLocked()
}

func (u *unit) geomLocked() devops.Geom {
	return devops.Geom{Size: int64(len(u.mem)), Sector: Sector, MaxIO: devops.MaxPhys, Ops: devops.BDiscard | devops.BZeroes, Type: "md"}
}

// set gives a unit memory or takes it away. EBUSY: it has some.
func (u *unit) set(c mdio.Conf) error {
	if err := c.Check(); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if c.Type == mdio.Unconfigured {
		if u.mem != nil {
			syscall.Munmap(u.mem)
			u.mem, u.part = nil, nil
		}
		return nil
	}
	if u.mem != nil {
		return abi.EBUSY
	}
	mem, err := syscall.Mmap(-1, 0, int(c.Size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("%d bytes (%v): %w", c.Size, err, abi.ENOMEM)
	}
	u.mem, u.part = mem, make([]sync.RWMutex, parts)
	return nil
}

// strategy moves a buf.
func (u *unit) strategy(b *devops.Buf) error {
	u.mu.RLock()
	defer u.mu.RUnlock()
	g := u.geomLocked()
	if b.Op() == devops.BFlush {
		return abi.EOPNOTSUPP
	}
	if err := b.Check(&g); err != nil {
		return err
	}
	lo, hi := b.Off(), b.Off()+b.Bytes
	mem := u.mem[lo:hi]
	if b.Op() == devops.BRead {
		unlock := u.lock(lo, hi, (*sync.RWMutex).RLock, (*sync.RWMutex).RUnlock)
		b.Data.CopyIn(mem)
		unlock()
		return nil
	}
	unlock := u.lock(lo, hi, (*sync.RWMutex).Lock, (*sync.RWMutex).Unlock)
	defer unlock()
	if b.Op() == devops.BWrite {
		b.Data.CopyOut(mem)
		return nil
	}
	return u.zero(lo, hi)
}

// lock takes the locks of the parts that a range touches: as there are only so
// many, parts share them.
func (u *unit) lock(lo, hi int64, lock, unlock func(*sync.RWMutex)) func() {
	first, last := lo/partSize, (hi-1)/partSize
	const n = parts
	if first == last {
		p := &u.part[first%n]
		lock(p)
		return func() { unlock(p) }
	}
	var set [parts]bool
	for i := first; i <= last && i < first+n; i++ {
		set[i%n] = true
	}
	for i := range set {
		if set[i] {
			lock(&u.part[i])
		}
	}
	return func() {
		for i := range set {
			if set[i] {
				unlock(&u.part[i])
			}
		}
	}
}

// zero zeroes a range; whole pages are given back.
func (u *unit) zero(lo, hi int64) error {
	const page = abi.PageSize
	plo, phi := min((lo+page-1)&^(page-1), hi), hi&^(page-1)
	if plo >= phi {
		clear(u.mem[lo:hi])
		return nil
	}
	clear(u.mem[lo:plo])
	clear(u.mem[phi:hi])
	if err := syscall.Madvise(u.mem[plo:phi], syscall.MADV_DONTNEED); err != nil {
		clear(u.mem[plo:phi])
	}
	return nil
}
