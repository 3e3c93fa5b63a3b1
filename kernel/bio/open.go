package bio

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// Handle is one open of a block device: a file-like view of it, through the
// cache that all its opens share.
type Handle struct {
	*Disk
	write  bool
	closed atomic.Bool
}

// OpenOption says something about a device when it is opened first.
type OpenOption func(*Disk)

// WithPolicy sets what becomes of requests in flight when the driver dies.
func WithPolicy(p Policy) OpenOption { return func(d *Disk) { d.q.policy = p } }

// Open opens a device: flags are abi.O_RDONLY, O_RDWR or O_WRONLY, and go to
// Options.Open. ENXIO, EROFS, EBUSY: the device's; EINVAL: its geometry makes no
// sense.
func (s *System) Open(ctx context.Context, dev abi.Dev, flags int, opts ...OpenOption) (*Handle, error) {
	if s.o.Open == nil {
		return nil, fmt.Errorf("device %v: %w", dev, abi.ENXIO)
	}
	o, err := s.o.Open(ctx, dev, flags)
	if err != nil {
		return nil, err
	}
	return s.OpenDevice(ctx, dev, o, flags, opts...)
}

// OpenDevice is Open of a device that is open: it takes it over, and closes it
// when it fails. dev is the number by which its blocks are known.
func (s *System) OpenDevice(ctx context.Context, dev abi.Dev, o Device, flags int, opts ...OpenOption) (*Handle, error) {
	g, err := o.Geometry(ctx)
	if err == nil {
		err = checkGeom(&g)
	}
	if err != nil {
		o.Close(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("open of device %v: %w", dev, err)
	}
	write := flags&abi.O_ACCMODE != abi.O_RDONLY
	if write && g.ReadOnly {
		o.Close(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("open of device %v for writing: %w", dev, abi.EROFS)
	}
	unlock, err := s.lockOpen(ctx, dev)
	if err != nil {
		o.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	defer unlock()
	s.mu.Lock()
	d := s.disks[dev]
	s.mu.Unlock()
	switch {
	case d == nil:
		d = newDisk(s, dev, o, g)
		for _, f := range opts {
			f(d)
		}
		s.mu.Lock()
		s.disks[dev] = d
		s.mu.Unlock()
	case d.geom.Size != g.Size || d.geom.Sector != g.Sector:
		o.Close(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("device %v has %d bytes and had %d: %w", dev, g.Size, d.geom.Size, abi.EBUSY)
	case write && !d.writable.Load():
		d.q.mu.Lock()
		d.q.dev = o // one that may write
		d.q.mu.Unlock()
	}
	d.opens++
	d.devs = append(d.devs, o)
	if write {
		d.writable.Store(true)
	}
	return &Handle{Disk: d, write: write}, nil
}

func newDisk(s *System, dev abi.Dev, o Device, g devops.Geom) *Disk {
	d := &Disk{s: s, dev: dev, geom: g, unit: max(minUnit, int64(g.Sector)),
		bufs: make(map[int64]*Buf), dirty: make(map[int64]*Buf), writing: make(map[int64]*Buf)}
	d.q.init(s, o, g.Size)
	d.maxIO = max(int64(g.MaxIO)/d.unit*d.unit, d.unit)
	return d
}

// checkGeom refuses what a device may not say of itself. A device whose
// requests are smaller than a cached block is refused as well.
func checkGeom(g *devops.Geom) error {
	if err := g.Check(); err != nil {
		return err
	}
	if g.MaxIO < minUnit || g.MaxIO < g.Sector {
		return fmt.Errorf("requests of at most %d bytes: %w", g.MaxIO, abi.EINVAL)
	}
	return nil
}

// Dev is the number of the device.
func (d *Disk) Dev() abi.Dev { return d.dev }

// Geometry is what the device said of itself when it was opened.
func (d *Disk) Geometry(context.Context) (devops.Geom, error) { return d.geom, nil }

// Size is the device's, in bytes.
func (d *Disk) Size() int64 { return d.geom.Size }

// WriteAt is Disk.WriteAt for an open for writing: EBADF otherwise.
func (h *Handle) WriteAt(ctx context.Context, p []byte, off int64, fua bool) (int, error) {
	if !h.write {
		return 0, abi.EBADF
	}
	return h.Disk.WriteAt(ctx, p, off, fua)
}

// Discard is Disk.Discard for an open for writing: EBADF otherwise.
func (h *Handle) Discard(ctx context.Context, off, n int64) error {
	if !h.write {
		return abi.EBADF
	}
	return h.Disk.Discard(ctx, off, n)
}

// Zeroes is Disk.Zeroes for an open for writing: EBADF otherwise.
func (h *Handle) Zeroes(ctx context.Context, off, n int64, fua bool) error {
	if !h.write {
		return abi.EBADF
	}
	return h.Disk.Zeroes(ctx, off, n, fua)
}

// Close ends the open. The last one writes what is dirty and forgets all
// blocks: the device may change behind our back now. Its error says that some
// of it could not be written, and is lost. When ctx ends before that, requests
// are given up; a write that the driver has already is waited for until it
// answers. A second call does nothing.
func (h *Handle) Close(ctx context.Context) error {
	if h.closed.Swap(true) {
		return nil
	}
	d, s := h.Disk, h.s
	unlock, _ := s.lockOpen(context.WithoutCancel(ctx), d.dev)
	defer unlock()
	if d.opens--; d.opens > 0 {
		return nil
	}
	defer d.q.giveUp(errClosed)
	defer context.AfterFunc(ctx, func() { d.q.giveUp(errLate) })()
	var first error
	if d.writable.Load() {
		first = d.Flush(ctx)
	}
	d.mu.Lock()
	d.closed = true
	timer := d.timer
	d.mu.Unlock()
	if timer != nil {
		timer.Stop()
	}
	d.flushers.Wait() // each of their requests ends: the device's deadlines bound it, and ctx
	d.mu.Lock()
	lost := len(d.dirty)
	d.mu.Unlock()
	if lost > 0 {
		s.log.Error("blocks that could not be written are lost", "device", d.dev.String(), "blocks", lost, "err", first)
	}
	if err := d.drop(context.WithoutCancel(ctx), 0, d.geom.Size); err != nil && first == nil {
		first = err
	}
	s.mu.Lock()
	delete(s.disks, d.dev)
	s.mu.Unlock()
	for _, o := range d.devs {
		if err := o.Close(ctx); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Why requests are given up.
var (
	errClosed = errors.New("the device was closed")
	errLate   = errors.New("the close does not wait for the device any longer")
	errEnd    = errors.New("the kernel ends")
)

// openLock lets one device be opened or closed at a time: others do not wait
// for its driver.
type openLock struct {
	sem   chan struct{} // one slot
	users int           // protected by System.mu
}

// lockOpen waits for it. EINTR, ETIMEDOUT.
func (s *System) lockOpen(ctx context.Context, dev abi.Dev) (unlock func(), err error) {
	s.mu.Lock()
	l := s.locks[dev]
	if l == nil {
		l = &openLock{sem: make(chan struct{}, 1)}
		s.locks[dev] = l
	}
	l.users++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		if l.users--; l.users == 0 {
			delete(s.locks, dev)
		}
		s.mu.Unlock()
	}
	select {
	case l.sem <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, abi.ErrnoOf(ctx.Err())
	}
	return func() { <-l.sem; leave() }, nil
}
