package dev

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/iostat"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
)

// ErrDied is in the error of a request whose driver's process died under it, or
// is not there now: whether the request has had an effect is not known. Up
// waits for the process to come back; the request may then be issued again. As
// a number it is EIO.
var ErrDied = errors.New("the driver's process died")

// died is that error.
type died struct {
	what  string
	cause error  // nil: there was no process
	gen   uint64 // the generation that it was asked of; 0: there was none
}

func (d *died) Error() string {
	if d.cause == nil {
		return fmt.Sprintf("%s: %v", d.what, ErrDied)
	}
	return fmt.Sprintf("%s: %v: %v", d.what, ErrDied, d.cause)
}

// Unwrap shows ErrDied, the number, and the cause.
func (d *died) Unwrap() []error {
	if d.cause == nil {
		return []error{ErrDied, abi.EIO}
	}
	return []error{ErrDied, abi.EIO, d.cause}
}

// BlkHandle is one open of a block device, for the kernel's own use: bio, the
// device nodes, and what stands on it.
type BlkHandle struct {
	s     *Switch
	u     *blkUnit
	flags int
	stats *iostat.Stats // nil: not counted
	queue chan struct{} // of the instance (depths); nil: not bounded

	openMu  sync.Mutex
	opening *reopening    // protected by openMu; nil: nobody opens
	gen     atomic.Uint64 // generation it is open in; 0 = none
	closed  atomic.Bool
}

// OpenBlk opens a block device. flags are O_RDONLY or O_RDWR, and O_EXCL to
// have it alone: EBUSY if another one has it alone already. ENXIO: no driver,
// no such unit; EROFS: it is to be written and cannot be; EIO: the driver does
// not come back in time.
func (s *Switch) OpenBlk(ctx context.Context, n abi.Dev, flags int) (*BlkHandle, error) {
	d, err := s.findBlk(ctx, n)
	if err != nil {
		return nil, err
	}
	return s.openUnit(ctx, d, n.Minor(), flags, "")
}

// openUnit opens for an owner, who may have a unit for himself several times;
// "" is somebody else each time.
func (s *Switch) openUnit(ctx context.Context, d *blkDriver, unit uint32, flags int, owner string) (*BlkHandle, error) {
	s.mu.Lock()
	if d.hidden { // since it was found
		s.mu.Unlock()
		return nil, fmt.Errorf("disk %s: driver is being detached: %w", d.name, abi.ENXIO)
	}
	u := s.unitLocked(d, unit)
	if flags&abi.O_EXCL != 0 {
		if u.excl > 0 && (owner == "" || u.owner != owner) {
			name := u.name()
			s.mu.Unlock()
			return nil, fmt.Errorf("disk %s is in use: %w", name, abi.EBUSY)
		}
		u.excl++
		u.owner = owner
	}
	u.opens++
	s.mu.Unlock()
	h := &BlkHandle{s: s, u: u, flags: flags, queue: s.depth.of(d.inst)}
	g, err := h.Geometry(ctx)
	if err == nil && g.ReadOnly && flags&abi.O_ACCMODE != abi.O_RDONLY {
		err = abi.EROFS
		h.tellClose(ctx)
	}
	if err != nil {
		h.drop()
		return nil, fmt.Errorf("disk %s, unit %d: %w", d.name, unit, err)
	}
	s.mu.Lock()
	h.stats = d.stats[unit]
	s.mu.Unlock()
	s.cnt.opens.Inc()
	return h, nil
}

// findBlk finds the driver of a block device number.
func (s *Switch) findBlk(ctx context.Context, n abi.Dev) (*blkDriver, error) {
	for tried := false; ; tried = true {
		s.mu.Lock()
		d := s.blks[n.Major()]
		if d != nil && d.hidden {
			d = nil
		}
		s.mu.Unlock()
		switch {
		case n == abi.NoDev:
			return nil, fmt.Errorf("no device: %w", abi.ENXIO)
		case d != nil:
			return d, nil
		case !tried && s.opts.AutoloadBlk != nil:
			err := s.opts.AutoloadBlk(ctx, n.Major())
			if err == nil || !s.avail.Load() {
				continue
			}
			return nil, fmt.Errorf("disk %v: %w (autoload: %v)", n, abi.ENXIO, err)
		case !s.avail.Load():
			return nil, fmt.Errorf("dev component not available: %w", abi.ENXIO)
		}
		return nil, fmt.Errorf("disk %v: no driver: %w", n, abi.ENXIO)
	}
}

// Dev is the number of the device.
func (h *BlkHandle) Dev() abi.Dev { return h.u.dev() }

// Rank is how many devices are below it in the longest chain.
func (h *BlkHandle) Rank() int { return int(h.u.rank.Load()) }

// Up waits until the driver is there: nil at once if it is. EIO if it does not
// come back within Options.RestartWait, ENXIO if it never will.
func (h *BlkHandle) Up(ctx context.Context) error {
	var late <-chan time.Time
	for {
		if h.u.d.gone.Load() {
			return errGone
		}
		h.s.mu.Lock()
		ch, g := h.u.d.changed, h.u.d.live.Load()
		h.s.mu.Unlock()
		if g != nil {
			return nil
		}
		if late == nil {
			t := time.NewTimer(h.s.wait)
			defer t.Stop()
			late = t.C
		}
		select {
		case <-ch:
		case <-late:
			return errNotBack
		case <-ctx.Done():
			return abi.ErrnoOf(ctx.Err())
		}
	}
}

// call calls try with the driver as it is now, after opening the unit in its
// generation. Its error has ErrDied if the process went away under it.
func (h *BlkHandle) call(ctx context.Context, what string, try func(g *blkGen) error) error {
	d := h.u.d
	g := d.live.Load()
	switch {
	case d.gone.Load():
		return errGone
	case g == nil:
		return &died{what: what}
	}
	err := h.reopen(ctx, g)
	if err == nil {
		err = try(g)
	}
	if err == nil {
		return nil
	}
	var dead *stream.Dead
	if errors.As(err, &dead) {
		return &died{what, err, g.n}
	}
	if d.live.Load() != g {
		switch abi.ErrnoOf(err) {
		case abi.EIO, abi.ENODEV: // of the process, most likely
			if d.gone.Load() {
				return errGone
			}
			return &died{what, err, g.n}
		}
	}
	return err
}

// reopening is an open in a generation that is under way. Who comes meanwhile
// shares what it comes to: a driver that takes long to say no is asked once,
// not by each request in turn.
type reopening struct {
	done chan struct{}
	err  error // before done is closed
}

// reopen opens the unit in a generation in which it is not open yet.
func (h *BlkHandle) reopen(ctx context.Context, g *blkGen) error {
	for h.gen.Load() != g.n {
		h.openMu.Lock()
		r := h.opening
		if r == nil && h.gen.Load() != g.n {
			r = &reopening{done: make(chan struct{})}
			h.opening = r
			h.openMu.Unlock()
			r.err = h.openIn(ctx, g)
			h.openMu.Lock()
			h.opening = nil
			h.openMu.Unlock()
			close(r.done)
			return r.err
		}
		h.openMu.Unlock()
		if r == nil {
			continue
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return abi.ErrnoOf(ctx.Err())
		}
		switch abi.ErrnoOf(r.err) {
		case 0, abi.EINTR, abi.ETIMEDOUT: // another's patience is not ours
		default:
			return r.err
		}
	}
	return nil
}

// openIn is reopen's work.
func (h *BlkHandle) openIn(ctx context.Context, g *blkGen) error {
	old := h.gen.Load()
	if err := h.ensure(ctx, g); err != nil {
		return err
	}
	if err := g.b.Open(ctx, h.u.unit, h.flags&abi.O_ACCMODE); err != nil {
		return err
	}
	h.gen.Store(g.n)
	if old != 0 {
		h.s.cnt.reopens.Inc()
	}
	return nil
}

// patiently calls until the process does not die under the call, waiting for
// it to come back: for what may be done twice.
func (h *BlkHandle) patiently(ctx context.Context, f func() error) error {
	for n := 0; ; n++ {
		err := f()
		if err == nil || !errors.Is(err, ErrDied) {
			return err
		}
		if n == maxReissues {
			return fmt.Errorf("%d processes died of it: %w", n+1, abi.EIO)
		}
		if err := h.settle(ctx, err); err != nil {
			return err
		}
	}
}

// settle waits until it makes sense to issue again what ended with ErrDied. The
// kernel may not know yet that the process has died; asking the corpse over
// and over is in vain.
func (h *BlkHandle) settle(ctx context.Context, err error) error {
	var d *died
	if errors.As(err, &d) && d.gen != 0 {
		if err := h.downOr(ctx, d.gen); err != nil {
			return err
		}
	}
	return h.Up(ctx)
}

// downOr waits until generation gen has ended.
func (h *BlkHandle) downOr(ctx context.Context, gen uint64) error {
	var late <-chan time.Time
	for {
		h.s.mu.Lock()
		ch, g := h.u.d.changed, h.u.d.live.Load()
		h.s.mu.Unlock()
		if g == nil || g.n != gen {
			return nil
		}
		if late == nil {
			t := time.NewTimer(h.s.wait)
			defer t.Stop()
			late = t.C
		}
		select {
		case <-ch:
		case <-late:
			return errNotBack
		case <-ctx.Done():
			return abi.ErrnoOf(ctx.Err())
		}
	}
}

// maxReissues bounds how often a request is issued again because the process
// died under it: one that kills it every time is given up.
const maxReissues = 32

// Geometry is what the device is now. While the driver is restarted it waits.
// EIO: what the driver says makes no sense.
func (h *BlkHandle) Geometry(ctx context.Context) (devops.Geom, error) {
	var g devops.Geom
	err := h.patiently(ctx, func() error {
		return h.call(ctx, "geometry", func(gen *blkGen) (err error) {
			g, err = h.geom(ctx, gen)
			return err
		})
	})
	return g, err
}

// geom is the geometry in a generation; the driver is asked once.
func (h *BlkHandle) geom(ctx context.Context, gen *blkGen) (devops.Geom, error) {
	if k := h.u.geom.Load(); k != nil && k.gen == gen.n {
		return k.Geom, nil
	}
	g, err := gen.b.Geometry(ctx, h.u.unit)
	if err != nil {
		return g, err
	}
	if err := g.Check(); err != nil {
		return g, fmt.Errorf("%v: %w", err, errLie)
	}
	h.u.geom.Store(&knownGeom{gen.n, g})
	return g, nil
}

// Strategy does one Buf, whose Dev and, if it is 0, ID it sets. All of the buf
// is done or none of it counts. EINVAL: not whole sectors, behind the end, more
// than Geom.MaxIO, or flags that make no sense; EROFS; EBADF: open for reading
// only; EOPNOTSUPP: discard or zeroes, and Geom.Ops does not have it. A flush of
// a device without BFlush does nothing, BFua of one without it is a write and a
// flush. ErrDied: see there; with it nothing is waited for.
//
// Writes that overlap one in flight wait for it, in no particular order.
func (h *BlkHandle) Strategy(ctx context.Context, b *devops.Buf) error {
	return h.call(ctx, "strategy", func(gen *blkGen) error {
		g, err := h.geom(ctx, gen)
		if err != nil {
			return err
		}
		return h.strategy(ctx, gen.b, &g, b)
	})
}

// Do is Strategy, and issues the buf again when the driver's process has died
// and come back.
func (h *BlkHandle) Do(ctx context.Context, b *devops.Buf) error {
	return h.patiently(ctx, func() error { return h.Strategy(ctx, b) })
}

func (h *BlkHandle) strategy(ctx context.Context, d devops.Blk, g *devops.Geom, b *devops.Buf) error {
	if err := b.Check(g); err != nil {
		return err
	}
	if b.ID == 0 {
		b.ID = h.s.NextBuf()
	}
	b.Dev = h.Dev()
	op := b.Op()
	switch {
	case op == devops.BFlush && g.Ops&devops.BFlush == 0:
		return nil
	case op != devops.BRead && h.flags&abi.O_ACCMODE == abi.O_RDONLY:
		if op == devops.BFlush {
			return nil // nothing of ours to flush
		}
		return abi.EBADF
	}
	if h.s.fail.hit() {
		h.s.cnt.failed.Inc()
		return fmt.Errorf("buf %d fails on purpose: %w", b.ID, abi.EIO)
	}
	if h.queue != nil {
		select {
		case h.queue <- struct{}{}:
		case <-ctx.Done():
			return abi.ErrnoOf(ctx.Err())
		}
		defer func() { <-h.queue }()
	}
	if op == devops.BRead || op == devops.BFlush {
		h.stats.Busy()
		err := d.Strategy(ctx, b)
		if err != nil || op == devops.BFlush {
			h.stats.Unbusy(0, true)
		} else {
			h.stats.Unbusy(int(b.Bytes), true)
		}
		return err
	}
	w := span{lo: b.Off(), hi: b.Off() + b.Bytes}
	if err := h.u.enter(ctx, &w); err != nil {
		return err
	}
	defer h.u.leave(&w)
	fua := b.Flags&devops.BFua != 0 && g.Ops&devops.BFua == 0
	if fua {
		b.Flags &^= devops.BFua
		defer func() { b.Flags |= devops.BFua }()
	}
	h.stats.Busy()
	err := d.Strategy(ctx, b)
	if err == nil && fua && g.Ops&devops.BFlush != 0 {
		err = d.Strategy(ctx, &devops.Buf{ID: h.s.NextBuf(), Dev: b.Dev, Flags: devops.BFlush})
	}
	if err != nil || op == devops.BDiscard {
		h.stats.Unbusy(0, false)
	} else {
		h.stats.Unbusy(int(b.Bytes), false)
	}
	return err
}

// NextBuf issues the identity of a buf.
func (s *Switch) NextBuf() abi.BufID { return abi.BufID(s.lastBuf.Add(1)) }

// Ioctl passes a command to the driver. It waits for one that is being
// restarted; one that dies under it is EIO.
func (h *BlkHandle) Ioctl(ctx context.Context, cmd uint32, arg []byte) ([]byte, error) {
	if cmd == devops.DIOCCONFIGURE || cmd == devops.DIOCUNCONFIGURE || cmd == devops.DIOCPROBE {
		return nil, abi.ENOTTY // the kernel's own
	}
	if err := h.Up(ctx); err != nil {
		return nil, err
	}
	var out []byte
	err := h.call(ctx, "ioctl", func(g *blkGen) (err error) {
		out, err = g.b.Ioctl(ctx, h.u.unit, cmd, arg)
		if err == nil && len(out) > abi.IOCParmLen(cmd) {
			return errLie
		}
		return err
	})
	return out, err
}

// Close ends the open. It waits for nothing but the driver.
func (h *BlkHandle) Close(ctx context.Context) error {
	if h.closed.Swap(true) {
		return nil
	}
	err := h.tellClose(ctx)
	h.drop()
	return err
}

func (h *BlkHandle) tellClose(ctx context.Context) error {
	if g := h.u.d.live.Load(); g != nil && h.gen.Load() == g.n {
		return g.b.Close(ctx, h.u.unit, h.flags&abi.O_ACCMODE)
	}
	return nil
}

// drop gives the reference to the unit back.
func (h *BlkHandle) drop() {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	h.u.opens--
	if h.flags&abi.O_EXCL != 0 {
		h.u.excl--
	}
	h.s.putUnitLocked(h.u)
}
