package bio

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// Layered is a device as one mount sees it: L0, what has been written since the
// last checkpoint, over L1, what was checkpointed and is not yet on the device,
// over the device. See the package doc.
type Layered struct {
	base  *Disk
	o     LayerOptions
	unit  int64
	limit int64 // bytes of both layers

	bytes atomic.Int64 // of both layers
	seen  *touched     // by the component
	meta  *touched     // those of them that were metadata

	mu       sync.RWMutex
	top      map[int64]*version // the newest version of each block that has one
	l0       []*group           // the last one is written to
	l1       []*group           // the first frozen of them are being written out
	frozen   int                //
	l0n, l1n int                // versions in them
	trim0    ranges             // discarded since the last checkpoint
	trim1    ranges             // before it; not yet told the device
	trimming ranges             // being told
	epoch    uint64             // of the component: raised by Drop
	gen      uint64             // raised when versions go to the device below
	direct   bool               // FRESH blocks went to the device and are not flushed
	directN  int                // such writes under way
	idle     chan struct{}      // closed when directN is 0; made when somebody waits
	ckpt     abi.Ckpt           // the last checkpoint
	opseq    abi.OpSeq          // complete to here
	synced   abi.Ckpt           // the last checkpoint on the device
	seq      uint64             // of redo files

	roundMu sync.Mutex
	next    *round // protected by roundMu
	syncing bool   // protected by roundMu
	closed  bool   // protected by roundMu
	wg      sync.WaitGroup
}

// version is the contents of a block at some time. They do not change once
// there is a checkpoint or a barrier behind them.
type version struct {
	blk        int64
	data       []byte
	below, top *version
}

// group is what was written between two barriers.
type group struct{ m map[int64]*version }

// LayerOptions configure a Layered.
type LayerOptions struct {
	// Journalled: the file system has a journal of its own, so what is written
	// out keeps the order of its barriers, and no redo file is needed.
	Journalled bool
	// Redo makes writing out atomic when Journalled is false. Nil: it is not.
	Redo RedoStore
	// ID is the image, as the redo file has it.
	ID ImageID
	// Limit bounds both layers, in bytes. 0: a quarter of the memory's share.
	Limit int64
	// Checkpoint asks the file system for a checkpoint, which ends in a call of
	// Layered.Checkpoint. Nil: what was written is taken as it is.
	Checkpoint func(ctx context.Context) error
	// Crowded says that L0 alone takes too much: a checkpoint is wanted. It
	// must not wait. Nil: nobody is told.
	Crowded func()
}

// verBytes is what a version takes besides its data.
const verBytes = 160

// NewLayered lays empty layers over an open device. A complete redo file is
// replayed first, an incomplete one removed; that of another image is EINVAL.
// On a device that is open for reading only, a complete redo file becomes L1.
func NewLayered(ctx context.Context, h *Handle, o LayerOptions) (*Layered, error) {
	l := &Layered{base: h.Disk, o: o, unit: h.unit, limit: o.Limit, top: make(map[int64]*version), l0: []*group{newGroup()},
		seen: newTouched(h.geom.Size, h.unit), meta: newTouched(h.geom.Size, h.unit)}
	if l.limit <= 0 {
		l.limit = h.s.mem.Share() / 4
	}
	l.limit = max(l.limit, 64*l.unit)
	if o.Redo != nil {
		if err := l.recover(ctx, h.write); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func newGroup() *group { return &group{m: make(map[int64]*version)} }

// IO is what a component does its I/O with: a devops.BlockIO over the layers,
// until the next Drop, after which it answers ENXIO.
func (l *Layered) IO() devops.BlockIO {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return &layerIO{l: l, epoch: l.epoch}
}

type layerIO struct {
	l     *Layered
	epoch uint64
}

var _ devops.BlockIO = (*layerIO)(nil)

// errDropped is the answer to a component that is dead already.
var errDropped = fmt.Errorf("the component's layer was dropped: %w", abi.ENXIO)

// Geometry is the device's, with what the layers add.
func (o *layerIO) Geometry(context.Context) (devops.Geom, error) {
	g := o.l.base.geom
	g.Ops = devops.BFlush | devops.BFua | devops.BDiscard | devops.BZeroes
	g.MaxIO = 0
	return g, nil
}

// Close does nothing: the mount has the device.
func (o *layerIO) Close(context.Context) error { return nil }

// Strategy moves a buf to or from the layers. A flush is a mark in the order of
// writes: what it promises is kept by Checkpoint and Sync.
func (o *layerIO) Strategy(ctx context.Context, b *devops.Buf) error {
	l := o.l
	if err := l.base.check(b); err != nil {
		return err
	}
	off := b.Blkno * devops.DevBsize
	if op := b.Flags & devops.BOpMask; op == devops.BRead || op == devops.BWrite || op == devops.BZeroes {
		l.seen.add(off, b.Bytes, l.unit)
		if b.Flags&devops.BMeta != 0 {
			l.meta.add(off, b.Bytes, l.unit)
		}
	}
	switch b.Flags & devops.BOpMask {
	case devops.BRead:
		for _, p := range b.Data {
			if err := l.readAt(ctx, p, off, b.Flags&devops.BMeta != 0); err != nil {
				return err
			}
			off += int64(len(p))
		}
	case devops.BWrite:
		for _, p := range b.Data {
			if err := l.writeAt(ctx, o.epoch, p, off, b.Flags); err != nil {
				return err
			}
			off += int64(len(p))
		}
	case devops.BZeroes:
		if err := l.zeroes(ctx, o.epoch, off, b.Bytes); err != nil {
			return err
		}
	case devops.BDiscard:
		return l.discard(o.epoch, off, b.Bytes)
	}
	if l.o.Journalled && b.Flags&(devops.BFlush|devops.BFua) != 0 {
		return l.barrier(o.epoch)
	}
	return nil
}

func (l *Layered) barrier(epoch uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if epoch != l.epoch {
		return errDropped
	}
	if g := l.l0[len(l.l0)-1]; len(g.m) > 0 {
		l.l0 = append(l.l0, newGroup())
	}
	return nil
}

// readAt fills p.
func (l *Layered) readAt(ctx context.Context, p []byte, off int64, meta bool) error {
	for len(p) > 0 {
		// The part that has versions.
		l.mu.RLock()
		n := l.copyLocked(p, off)
		p, off = p[n:], off+int64(n)
		// The part behind it that has none.
		m := 0
		for m < len(p) && l.top[(off+int64(m))/l.unit] == nil {
			m += int(l.unit - (off+int64(m))%l.unit)
		}
		l.mu.RUnlock()
		if m = min(m, len(p)); m > 0 {
			// A block that is written out now is on the device before its
			// version goes.
			if k, err := l.base.read(ctx, p[:m], off, meta); err != nil || k < m {
				if err == nil {
					err = abi.EIO
				}
				return err
			}
			p, off = p[m:], off+int64(m)
		}
	}
	return nil
}

// copyLocked copies from versions as long as there are any.
func (l *Layered) copyLocked(p []byte, off int64) int {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		v := l.top[at/l.unit]
		if v == nil {
			break
		}
		o := at % l.unit
		n := min(int64(len(p)-done), l.unit-o)
		copy(p[done:done+int(n)], v.data[o:])
		done += int(n)
	}
	return done
}

// writeAt writes p into L0, or FRESH blocks to the device.
func (l *Layered) writeAt(ctx context.Context, epoch uint64, p []byte, off int64, fl devops.BufFlags) error {
	if fl&devops.BFresh != 0 {
		if ok, err := l.writeFresh(ctx, epoch, p, off); ok || err != nil {
			return err
		}
	}
	for len(p) > 0 {
		blk, o := off/l.unit, off%l.unit
		n := min(int64(len(p)), l.unit-o)
		if err := l.room(ctx); err != nil {
			return err
		}
		if err := l.put(ctx, epoch, blk, o, p[:n]); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// put writes a part of a block into the current group.
func (l *Layered) put(ctx context.Context, epoch uint64, blk, o int64, p []byte) error {
	whole := int64(len(p)) >= l.base.length(blk)
	var below []byte // of the device, read as of gen
	var gen uint64
	for {
		l.mu.Lock()
		if epoch != l.epoch {
			l.mu.Unlock()
			return errDropped
		}
		g := l.l0[len(l.l0)-1]
		v := g.m[blk]
		old := l.top[blk]
		if v == nil && !whole && old == nil && (below == nil || gen != l.gen) {
			gen = l.gen
			l.mu.Unlock()
			if below == nil {
				below = make([]byte, l.unit)
			}
			if _, err := l.base.read(ctx, below, blk*l.unit, true); err != nil {
				return err
			}
			continue
		}
		if v == nil {
			v = l.newVersionLocked(g, blk)
			switch {
			case whole:
				clear(v.data[len(p):])
			case old != nil:
				copy(v.data, old.data)
			default:
				copy(v.data, below)
			}
		}
		copy(v.data[o:], p)
		l.trim0.remove(blk, blk+1)
		l.mu.Unlock()
		return nil
	}
}

// newVersionLocked makes the newest version of a block in a group.
func (l *Layered) newVersionLocked(g *group, blk int64) *version {
	v := &version{blk: blk, data: l.base.s.slab.get(l.unit), below: l.top[blk]}
	if v.below != nil {
		v.below.top = v
	}
	l.top[blk] = v
	g.m[blk] = v
	l.l0n++
	l.count(l.unit + verBytes)
	return v
}

func (l *Layered) count(n int64) {
	l.bytes.Add(n)
	l.base.s.layer.Add(n)
	l.base.s.mem.Take(n)
}

// freeLocked takes a version out of its chain. Its group forgets it itself.
func (l *Layered) freeLocked(v *version) {
	if v.below != nil {
		v.below.top = v.top
	}
	if v.top != nil {
		v.top.below = v.below
	} else if v.below != nil {
		l.top[v.blk] = v.below
	} else {
		delete(l.top, v.blk)
	}
	l.base.s.slab.put(v.data)
	v.data = nil
	l.count(-l.unit - verBytes)
}

// zeroes makes a range read as zeroes.
func (l *Layered) zeroes(ctx context.Context, epoch uint64, off, n int64) error {
	zero := make([]byte, l.unit)
	for n > 0 {
		blk, o := off/l.unit, off%l.unit
		m := min(n, l.unit-o)
		if err := l.room(ctx); err != nil {
			return err
		}
		if err := l.put(ctx, epoch, blk, o, zero[:m]); err != nil {
			return err
		}
		off, n = off+m, n-m
	}
	return nil
}

// discard notes that whole blocks are of no use any more. The device is told
// when that is in a checkpoint that has been written out.
func (l *Layered) discard(epoch uint64, off, n int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if epoch != l.epoch {
		return errDropped
	}
	if from, to := l.base.inner(off, n); from < to {
		l.trim0.add(from/l.unit, (to+l.unit-1)/l.unit)
	}
	return nil
}

// writeFresh gives blocks that no checkpoint refers to to the device, through
// its cache. It does nothing and answers false unless the last checkpoint is on
// the device: a block that is unreferenced in it may be in use there otherwise.
// Parts of blocks are not for it either: who changes the rest of one reads it
// from the device.
func (l *Layered) writeFresh(ctx context.Context, epoch uint64, p []byte, off int64) (bool, error) {
	if end := off + int64(len(p)); off%l.unit != 0 || end%l.unit != 0 && end != l.base.geom.Size {
		return false, nil
	}
	l.mu.Lock()
	if epoch != l.epoch {
		l.mu.Unlock()
		return false, errDropped
	}
	if len(l.l1) > 0 || len(l.trim1) > 0 || len(l.trimming) > 0 {
		l.mu.Unlock()
		return false, nil
	}
	first, end := off/l.unit, (off+int64(len(p))+l.unit-1)/l.unit
	for blk := first; blk < end; blk++ {
		if l.top[blk] != nil {
			l.mu.Unlock()
			return false, nil
		}
	}
	l.trim0.remove(first, end)
	l.direct = true
	l.directN++
	l.mu.Unlock()
	_, err := l.base.WriteAt(ctx, p, off, false)
	l.mu.Lock()
	if l.directN--; l.directN == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
	l.mu.Unlock()
	l.base.s.cnt.fresh.Inc()
	return true, err
}

// Checkpoint makes L0 a part of L1, atomically and without a disk write: the
// file system is whole as of now, and complete to opseq.
func (l *Layered) Checkpoint(ckpt abi.Ckpt, opseq abi.OpSeq) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.base.s.cnt.checkpoints.Inc()
	l.ckpt, l.opseq = ckpt, opseq
	for _, g := range l.l0 {
		if len(g.m) == 0 {
			continue
		}
		if l.o.Journalled || len(l.l1) == l.frozen {
			l.l1 = append(l.l1, g)
			continue
		}
		l.mergeLocked(l.l1[len(l.l1)-1], g)
	}
	for _, g := range l.l0 { // what has been written since is of use
		if len(l.trim1) == 0 {
			break
		}
		for blk := range g.m {
			l.trim1.remove(blk, blk+1)
		}
	}
	for _, r := range l.trim1 {
		l.trim0.add(r.from, r.to)
	}
	l.trim1, l.trim0 = l.trim0, nil
	l.l1n += l.l0n
	l.l0n = 0
	l.l0 = []*group{newGroup()}
}

// mergeLocked puts the versions of a newer group into an older one, in which
// nothing is being written out.
func (l *Layered) mergeLocked(into, g *group) {
	for blk, v := range g.m {
		if old := into.m[blk]; old != nil {
			l.freeLocked(old)
			l.l1n--
		}
		into.m[blk] = v
	}
}

// Drop throws L0 away: the component that wrote it has died. Its IO answers
// ENXIO from now on, and writes of its that are under way are waited for. EINTR,
// ETIMEDOUT when ctx ends first; L0 is gone all the same.
func (l *Layered) Drop(ctx context.Context) error {
	l.mu.Lock()
	l.epoch++
	l.base.s.cnt.dropped.Inc()
	for i := len(l.l0) - 1; i >= 0; i-- {
		for _, v := range l.l0[i].m {
			l.freeLocked(v)
		}
	}
	l.l0, l.l0n, l.trim0 = []*group{newGroup()}, 0, nil
	l.seen.clear()
	l.meta.clear()
	var idle chan struct{}
	if l.directN > 0 {
		if l.idle == nil {
			l.idle = make(chan struct{})
		}
		idle = l.idle
	}
	l.mu.Unlock()
	if idle != nil {
		select {
		case <-idle:
		case <-ctx.Done():
			return abi.ErrnoOf(ctx.Err())
		}
	}
	return nil
}

// LayerStats are the gauges of a Layered.
type LayerStats struct {
	L0, L1 int       // blocks in the layers
	Groups int       // of L1, between barriers
	Bytes  int64     // of both, with what keeping them takes
	Ckpt   abi.Ckpt  // the last checkpoint
	Opseq  abi.OpSeq // complete to here
	Synced abi.Ckpt  // the last checkpoint that is on the device
}

// Stats answers the gauges.
func (l *Layered) Stats() LayerStats {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return LayerStats{l.l0n, l.l1n, len(l.l1), l.bytes.Load(), l.ckpt, l.opseq, l.synced}
}
