// Package cgd is the module of encrypted disks, cgd(4): block devices that keep
// what is written to them encrypted on another block device of the kernel.
//
// The words. A unit, cgd0, stands on a device and is attached by a
// cgdio.Request: either as NetBSD's cgd lays a disk out, encrypted from its
// first sector on, with a parameters file of cgdconfig(8) that says how the key
// is made; or as a LUKS volume of cryptsetup, whose header says so (package
// luks).
//
//	request -> key derived, checked -> unit attached -> bufs -> unit detached
//
// The key is checked before anything is attached: LUKS has a digest of it; for
// cgd it is the verify_method of the parameters file that looks whether what is
// deciphered makes sense. A wrong key is EACCES, and there is no unit.
//
// Keys are in requests only: never in properties, in the configuration, in logs
// or in texts of errors. This process keeps the expanded key of an attached unit
// and wipes what it was made of. After a restart the kernel, which has kept the
// request, attaches the unit again before anybody uses it; the derivation takes
// its time again then.
//
// A buf goes straight through: a read is deciphered where the device below has
// put it, a write is enciphered into a buffer of its own, as the data is the
// caller's. Flushes and, if asked for, discards go on to the device below; there
// are no zeroes, as they would have to be enciphered as well.
//
// What goes wrong: EACCES a wrong key; EINVAL parameters, ciphers or features
// that are not supported, by name; EFTYPE no LUKS header; EIO a damaged one, or
// what the device below says; EBUSY the unit or the device is in use.
//
// # Locks
//
//	driver.kdf     one derivation at a time: they take memory
//	  driver.mu    which units there are
//	    unit.flight  held shared over a buf, exclusively to end the unit
package cgd

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/devops/cgdio"
)

// kdfTime is how long the derivation of a key may wait for others, and begin to
// try key slots: with the last slot it is less than the kernel waits for an
// answer.
const kdfTime = 15 * time.Second

// sign is how often a derivation gives a sign of life: a process that says
// nothing for 30 s is taken for dead, and a slow machine may need longer.
const sign = 5 * time.Second

// New makes the module "cgd" (class driver).
func New() modapi.Module { return &module{} }

type module struct{ d *driver }

var (
	_ modapi.Module     = (*module)(nil)
	_ devops.Blk        = (*driver)(nil)
	_ devops.Noder      = (*driver)(nil)
	_ devops.Configurer = (*driver)(nil)
)

func (*module) Info() modapi.Info {
	return modapi.Info{
		Name: "cgd", Class: modapi.ClassDriver,
		Kern: abi.KernVersionCurrent, Version: "0.1.0",
	}
}

// Init attaches the driver, which has no units yet. The properties are those of
// all modules of the plugin, each by its name. EINVAL: there are some for cgd,
// which has none, least of all keys.
func (m *module) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, p modapi.Props) error {
	if p["cgd"] != nil {
		return fmt.Errorf("cgd has no properties: units are attached with their keys while the kernel runs: %w", abi.EINVAL)
	}
	d := &driver{k: k, kdf: make(chan struct{}, 1), sign: sign}
	dev, err := k.AttachBlk("cgd", d)
	if err != nil {
		return fmt.Errorf("attach cgd: %w", err)
	}
	d.dev, m.d = dev, d
	return nil
}

// Fini ends all units. EBUSY: one is open, or being attached.
func (m *module) Fini(ctx context.Context) error {
	if m.d == nil {
		return nil
	}
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	for i := range m.d.units {
		if u := m.d.units[i].Load(); u != nil && (u.opens > 0 || u.claim) {
			return fmt.Errorf("cgd%d is open or being attached: %w", i, abi.EBUSY)
		}
	}
	for i := range m.d.units {
		if u := m.d.units[i].Swap(nil); u != nil {
			u.end(ctx)
		}
	}
	return nil
}

// driver is the block device driver.
type driver struct {
	k   modapi.Kernel
	dev abi.Dev // unit 0

	sign  time.Duration
	kdf   chan struct{} // holds one token while a key is derived
	mu    sync.Mutex
	units [cgdio.MaxUnits]atomic.Pointer[unit] // changed under mu
}

// unit is the attached unit of that number. ENXIO.
func (d *driver) unit(n uint32) (*unit, error) {
	if n < cgdio.MaxUnits {
		if u := d.units[n].Load(); u != nil && !u.claim {
			return u, nil
		}
	}
	return nil, fmt.Errorf("cgd%d is not attached: %w", n, abi.ENXIO)
}

// Nodes are the attached units, with the mode of NetBSD's MAKEDEV.
func (d *driver) Nodes() []devops.Node {
	nodes := []devops.Node{}
	for i := range d.units {
		if _, err := d.unit(uint32(i)); err == nil {
			nodes = append(nodes, devops.Node{Name: fmt.Sprintf("cgd%d", i), Unit: uint32(i), Mode: 0o640})
		}
	}
	return nodes
}

// Geometry of a unit.
func (d *driver) Geometry(_ context.Context, n uint32) (devops.Geom, error) {
	u, err := d.unit(n)
	if err != nil {
		return devops.Geom{}, err
	}
	return u.geom, nil
}

// Open counts. EROFS.
func (d *driver) Open(_ context.Context, n uint32, flags int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	u, err := d.unit(n)
	if err != nil {
		return err
	}
	if u.geom.ReadOnly && flags&abi.O_ACCMODE != abi.O_RDONLY {
		return fmt.Errorf("cgd%d is read-only: %w", n, abi.EROFS)
	}
	u.opens++
	return nil
}

// Close counts.
func (d *driver) Close(_ context.Context, n uint32, _ int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	u, err := d.unit(n)
	if err == nil && u.opens > 0 {
		u.opens--
	}
	return err
}

// Strategy does a buf.
func (d *driver) Strategy(ctx context.Context, b *devops.Buf) error {
	u, err := d.unit(b.Dev.Minor())
	if err != nil {
		return err
	}
	return u.strategy(ctx, b)
}

// Ioctl knows cgdio.Get. ENOTTY.
func (d *driver) Ioctl(_ context.Context, n uint32, cmd uint32, _ []byte) ([]byte, error) {
	if cmd != cgdio.Get {
		return nil, abi.ENOTTY
	}
	u, err := d.unit(n)
	if err != nil {
		return nil, err
	}
	return u.info.Encode(), nil
}

// Configure attaches a unit: arg is a cgdio.Request, on the device below. It
// leaves arg as it is, since the kernel keeps it.
func (d *driver) Configure(ctx context.Context, had devops.Units, on abi.Dev, arg []byte) (devops.Units, error) {
	var r cgdio.Request
	if err := r.Parse(arg); err != nil {
		return had, err
	}
	if on == abi.NoDev {
		return had, fmt.Errorf("attach cgd: no device to stand on: %w", abi.EINVAL)
	}
	n, again, err := d.claim(ctx, &r, on, had)
	if err != nil || again {
		return had, err
	}
	u, err := d.attach(ctx, n, on, &r)
	d.mu.Lock()
	if err != nil {
		u = nil
	}
	close(d.units[n].Swap(u).claimed)
	d.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("cgd%d on %v: %w", n, on, err)
		d.k.Log().Warn("cgd: not attached", "unit", n, "error", err.Error())
		return had, err
	}
	d.k.Log().Info("cgd: attached", "unit", n, "on", on.String(), "kind", u.info.Kind.String(), "cipher", u.info.Cipher,
		"bits", u.info.KeyBits, "by", u.info.Impl, "size", u.info.Size)
	if u.info.Note != "" {
		d.k.Log().Warn("cgd: "+u.info.Note, "unit", n)
	}
	return devops.Units{First: n, Count: 1}, nil
}

// claim finds the unit for a request, and keeps others from it. again: the
// kernel tells once more of a unit that it has, and that is here.
func (d *driver) claim(ctx context.Context, r *cgdio.Request, on abi.Dev, had devops.Units) (n uint32, again bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if had.Count == 1 && had.First < cgdio.MaxUnits {
		for {
			u := d.units[had.First].Load()
			if u == nil || u.info.Dev != on {
				break
			}
			if !u.claim {
				return had.First, true, nil
			}
			d.mu.Unlock() // another call does it
			select {
			case <-u.claimed:
			case <-ctx.Done():
			}
			d.mu.Lock()
			if ctx.Err() != nil {
				return 0, false, abi.ErrnoOf(ctx.Err())
			}
		}
	}
	for i := range d.units {
		// The kernel lets units of a driver share a device: partitions do.
		if u := d.units[i].Load(); u != nil && u.info.Dev == on {
			return 0, false, fmt.Errorf("attach cgd: cgd%d stands on %v: %w", i, on, abi.EBUSY)
		}
	}
	first, last := uint32(0), uint32(cgdio.MaxUnits-1)
	switch {
	case had.Count > 1 || had.Count == 1 && had.First >= cgdio.MaxUnits:
		return 0, false, fmt.Errorf("attach cgd: units %d and %d more: %w", had.First, had.Count, abi.EINVAL)
	case had.Count == 1:
		first, last = had.First, had.First
	case r.Unit != cgdio.AnyUnit:
		first, last = uint32(r.Unit), uint32(r.Unit)
	}
	for n := first; n <= last; n++ {
		if d.units[n].CompareAndSwap(nil, &unit{claim: true, claimed: make(chan struct{}), gone: true, info: cgdio.Info{Dev: on}}) {
			return n, false, nil
		}
	}
	return 0, false, fmt.Errorf("cgd%d to cgd%d are attached: %w", first, last, abi.EBUSY)
}

// attach makes the unit. What it has opened is closed again if it fails.
func (d *driver) attach(ctx context.Context, n uint32, on abi.Dev, r *cgdio.Request) (u *unit, err error) {
	low, err := d.k.Block(on, d.dev|abi.Makedev(0, n))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			low.Close(context.WithoutCancel(ctx))
		}
	}()
	lg, err := low.Geometry(ctx)
	if err != nil {
		return nil, err
	}
	if err := lg.Check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, kdfTime)
	defer cancel()
	select {
	case d.kdf <- struct{}{}:
		defer func() { <-d.kdf }()
	case <-ctx.Done():
		return nil, fmt.Errorf("another unit is being attached: %w", abi.ErrnoOf(ctx.Err()))
	}
	defer d.signs(n)()
	if r.Kind == cgdio.LUKS {
		return newLUKS(ctx, low, &lg, on, r)
	}
	return newCGD(ctx, low, &lg, on, r)
}

// signs gives signs of life until the function that it answers is called.
func (d *driver) signs(n uint32) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(d.sign)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				d.k.Log().Info("cgd: deriving a key", "unit", n)
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// Unconfigure detaches a unit. EBUSY: it is open, and force is not said; ENXIO.
func (d *driver) Unconfigure(ctx context.Context, us devops.Units, force bool) error {
	if us.Count != 1 {
		return fmt.Errorf("detach %d units of cgd: %w", us.Count, abi.ENXIO)
	}
	d.mu.Lock()
	u, err := d.unit(us.First)
	if err == nil && u.opens > 0 && !force {
		err = fmt.Errorf("cgd%d is open: %w", us.First, abi.EBUSY)
	}
	if err == nil {
		d.units[us.First].Store(nil)
	}
	d.mu.Unlock()
	if err != nil {
		return err
	}
	err = u.end(ctx)
	d.k.Log().Info("cgd: detached", "unit", us.First)
	return err
}
