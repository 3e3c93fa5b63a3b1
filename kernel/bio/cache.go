package bio

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/kernel/clock"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// minUnit is the size of a cached block, unless the device's sectors are larger.
const minUnit = 4096

// minUnits is how many blocks a device may have in memory whatever the limit.
const minUnits = 64

// Disk is a block device with its requests and its cached blocks. There is one
// for each device that somebody has open here.
type Disk struct {
	s        *System
	dev      abi.Dev
	q        queue
	geom     devops.Geom
	unit     int64 // bytes of a cached block
	maxIO    int64 // bytes of one request, a multiple of unit
	writable atomic.Bool
	opens    int      // under lockOpen
	devs     []Device // all opens of the device, under lockOpen

	mu       sync.Mutex
	bufs     map[int64]*Buf   // by number
	lru      [2]list          // clean and dirty ones, data and metadata
	dirty    map[int64]*Buf   //
	writing  map[int64]*Buf   // being written back
	metaN    int              // blocks of metadata
	wbFails  uint64           // write-backs that failed so far
	wbErr    error            // the last one's
	wbCalm   chan struct{}    // closed when write-backs end; made when somebody waits
	flushing bool             // a flusher runs
	flushers sync.WaitGroup   // flushers and read-aheads
	streams  [nstreams]stream // for read-ahead
	tick     uint64           // age of streams
	closed   bool
	timer    *clock.Callout // write-behind's, made when first wanted
	timerOn  bool
}

// Buf is a cached block (struct buf): data of one block of a device, held by
// one writer or several readers.
type Buf struct {
	d    *Disk
	blk  int64
	data []byte

	// Protected by Disk.mu.
	readers int
	busy    bool          // B_BUSY: one holder, who may write and fill
	valid   bool          // B_DONE: data is the device's or newer
	dirty   bool          // B_DELWRI: newer
	meta    bool          // of a file system's metadata
	ahead   bool          // read ahead and not yet wanted
	gone    bool          // out of the table
	wait    chan struct{} // closed when it is let go; made when somebody waits
	prev    *Buf
	next    *Buf
	in      *list
}

// list is a list of Bufs, the most recently used first.
type list struct{ head, tail *Buf }

func (l *list) push(b *Buf) {
	b.in, b.prev, b.next = l, nil, l.head
	if l.head != nil {
		l.head.prev = b
	} else {
		l.tail = b
	}
	l.head = b
}

func (b *Buf) unlink() {
	l := b.in
	if l == nil {
		return
	}
	if b.prev != nil {
		b.prev.next = b.next
	} else {
		l.head = b.next
	}
	if b.next != nil {
		b.next.prev = b.prev
	} else {
		l.tail = b.prev
	}
	b.in, b.prev, b.next = nil, nil, nil
}

// touchLocked notes a use.
func (b *Buf) touchLocked(meta bool) {
	if meta && !b.meta {
		b.meta = true
		b.d.metaN++
	}
	if b.ahead {
		b.ahead = false
		b.d.s.cnt.aheadUsed.Inc()
	}
	l := &b.d.lru[0]
	if b.meta {
		l = &b.d.lru[1]
	}
	if b.in == l && l.head == b {
		return
	}
	b.unlink()
	l.push(b)
}

// length is how many bytes of the device the block has: less than a unit at its
// end.
func (d *Disk) length(blk int64) int64 { return min(d.unit, d.geom.Size-blk*d.unit) }

// waitLocked waits until b is let go by somebody; the lock is given up
// meanwhile.
func (d *Disk) waitLocked(ctx context.Context, b *Buf) error {
	if b.wait == nil {
		b.wait = make(chan struct{})
	}
	c := b.wait
	d.mu.Unlock()
	defer d.mu.Lock()
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return abi.ErrnoOf(ctx.Err())
	}
}

func (b *Buf) wakeLocked() {
	if b.wait != nil {
		close(b.wait)
		b.wait = nil
	}
}

// getLocked finds or makes a block and holds it alone. EINTR, ETIMEDOUT.
func (d *Disk) getLocked(ctx context.Context, blk int64, meta bool) (*Buf, error) {
	for {
		b := d.bufs[blk]
		if b == nil {
			b = d.makeLocked(blk, meta)
			return b, nil
		}
		if !b.busy && b.readers == 0 {
			b.busy = true
			b.touchLocked(meta)
			return b, nil
		}
		if d.splittableLocked(b) {
			return d.splitLocked(b), nil
		}
		if err := d.waitLocked(ctx, b); err != nil {
			return nil, err
		}
	}
}

// splittableLocked reports whether b is held by a write-back only, so that a
// writer can have a copy of it instead of waiting for the device.
func (d *Disk) splittableLocked(b *Buf) bool {
	return !b.busy && b.readers == 1 && b.valid && d.writing[b.blk] == b
}

// splitLocked puts a copy of b, held alone, into b's place; b is freed at the
// end of its write-back. The copy is dirty from the start, as the write-back may
// fail; its own write goes behind that one, because the two overlap.
// Preconditions: splittableLocked.
func (d *Disk) splitLocked(b *Buf) *Buf {
	b.unlink()
	b.gone = true
	if b.meta {
		d.metaN--
	}
	n := d.makeLocked(b.blk, b.meta)
	copy(n.data, b.data)
	d.soilLocked(n)
	b.wakeLocked()
	d.s.cnt.splits.Inc()
	return n
}

// makeLocked makes a block that is not in the table, and holds it alone. Memory
// is had from older blocks; if all of them are dirty or held, beyond the limit.
func (d *Disk) makeLocked(blk int64, meta bool) *Buf {
	if !d.s.mem.Try(d.unit) {
		switch {
		case d.evictLocked(d.unit) > 0 && d.s.mem.Try(d.unit):
		case d.s.shrink(d.unit, d) > 0 && d.s.mem.Try(d.unit):
		default:
			if len(d.bufs) >= minUnits {
				d.s.cnt.overcommit.Inc()
				d.kickLocked()
			}
			d.s.mem.Take(d.unit)
		}
	}
	return d.insertLocked(blk, meta)
}

// insertLocked makes a block for which memory has been counted.
func (d *Disk) insertLocked(blk int64, meta bool) *Buf {
	d.s.cached.Add(d.unit)
	b := &Buf{d: d, blk: blk, data: d.s.slab.get(d.unit), busy: true}
	d.bufs[blk] = b
	b.touchLocked(meta)
	return b
}

// forgetLocked takes a block out of the table and frees it. Preconditions: the
// caller holds it alone, or nobody holds it.
func (d *Disk) forgetLocked(b *Buf) {
	if b.gone {
		return
	}
	b.gone = true
	b.unlink()
	delete(d.bufs, b.blk)
	if b.dirty {
		b.dirty = false
		delete(d.dirty, b.blk)
	}
	if b.meta {
		d.metaN--
	}
	if b.ahead {
		d.s.cnt.aheadDropped.Inc()
	}
	d.freeLocked(b)
	b.wakeLocked()
}

// freeLocked gives back the memory of a block that is out of the table.
func (d *Disk) freeLocked(b *Buf) {
	d.s.slab.put(b.data)
	b.data = nil
	d.s.cached.Add(-d.unit)
	d.s.mem.Take(-d.unit)
}

// evictLocked frees clean blocks that nobody holds until want bytes are free,
// and answers how many are. Metadata stays while there is data, unless it has
// three quarters of the memory.
func (d *Disk) evictLocked(want int64) int64 {
	var freed int64
	order := [2]int{0, 1}
	if int64(d.metaN)*d.unit > d.s.mem.Share()/4*3 {
		order = [2]int{1, 0}
	}
	for _, i := range order {
		looked := 0
		for b := d.lru[i].tail; b != nil && freed < want && looked < 1024; looked++ {
			prev := b.prev
			if !b.busy && b.readers == 0 && !b.dirty {
				d.forgetLocked(b)
				d.s.cnt.evicted.Inc()
				freed += d.unit
			}
			b = prev
		}
	}
	return freed
}

// shrink frees blocks of all devices but one, passing over those in use at the
// moment.
func (s *System) shrink(want int64, but *Disk) int64 {
	var freed int64
	for _, d := range s.all() {
		if freed >= want {
			break
		}
		if d == but || !d.mu.TryLock() {
			continue
		}
		freed += d.evictLocked(want - freed)
		d.mu.Unlock()
	}
	return freed
}

// Shrink frees up to want bytes of cached blocks, for others under the same
// memory limit, and answers how many it freed. It never waits.
func (s *System) Shrink(want int64) int64 { return s.shrink(want, nil) }

// releaseLocked lets a block go. One that is not valid is forgotten.
func (d *Disk) releaseLocked(b *Buf) {
	if b.busy {
		b.busy = false
	} else {
		b.readers--
	}
	if b.gone { // its place was taken by a copy
		if b.readers == 0 && !b.busy && b.data != nil {
			d.freeLocked(b)
		}
		b.wakeLocked()
		return
	}
	if !b.valid && b.readers == 0 {
		d.forgetLocked(b)
		return
	}
	b.wakeLocked()
	if b.readers == 0 && !b.dirty && d.s.over() && len(d.bufs) > minUnits {
		d.forgetLocked(b)
	}
}

// over reports whether the account is beyond its limit.
func (s *System) over() bool {
	return !s.mem.Try(0)
}

// fill reads a block that is held alone and not valid.
func (d *Disk) fill(ctx context.Context, b *Buf) error {
	n := d.length(b.blk)
	err := d.q.do(ctx, &devops.Buf{Dev: d.dev, Blkno: b.blk * d.unit / devops.DevBsize, Bytes: n, Flags: devops.BRead, Data: abi.IovOf(b.data[:n])})
	if err != nil {
		return err
	}
	clear(b.data[n:])
	d.mu.Lock()
	b.valid = true
	d.mu.Unlock()
	return nil
}

func (d *Disk) checkBlk(blk int64) error {
	if blk < 0 || d.length(blk) <= 0 {
		return fmt.Errorf("device %v has no block %d: %w", d.dev, blk, abi.EINVAL)
	}
	return nil
}

// Unit is the size of a cached block, in bytes: 4 KiB, or a sector if that is
// larger.
func (d *Disk) Unit() int64 { return d.unit }

// Getblk holds the block number blk, in Units, alone (getblk). Its contents may
// be undefined. EINVAL outside of the device; EINTR, ETIMEDOUT when ctx ends.
func (d *Disk) Getblk(ctx context.Context, blk int64) (*Buf, error) {
	if err := d.checkBlk(blk); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.getLocked(ctx, blk, false)
}

// Bread is Getblk, with the contents of the device (bread).
func (d *Disk) Bread(ctx context.Context, blk int64) (*Buf, error) { return d.bread(ctx, blk, false) }

func (d *Disk) bread(ctx context.Context, blk int64, meta bool) (*Buf, error) {
	if err := d.checkBlk(blk); err != nil {
		return nil, err
	}
	d.mu.Lock()
	b, err := d.getLocked(ctx, blk, meta)
	valid := err == nil && b.valid
	d.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case valid:
		d.s.cnt.hits.Inc()
		return b, nil
	}
	d.s.cnt.misses.Inc()
	if err := d.fill(ctx, b); err != nil {
		d.Brelse(b)
		return nil, err
	}
	return b, nil
}

// Data is the block's contents. Preconditions: the caller holds it.
func (b *Buf) Data() []byte { return b.data[:b.d.length(b.blk)] }

// Brelse lets a block go (brelse). One that never got contents is forgotten.
func (d *Disk) Brelse(b *Buf) {
	d.mu.Lock()
	d.releaseLocked(b)
	d.mu.Unlock()
}

// Bdwrite lets a block go whose contents the caller has changed; they are
// written some time, together with others (bdwrite).
func (d *Disk) Bdwrite(b *Buf) {
	d.mu.Lock()
	d.soilLocked(b)
	d.releaseLocked(b)
	d.mu.Unlock()
}

func (d *Disk) soilLocked(b *Buf) {
	b.valid = true
	if !b.dirty {
		b.dirty = true
		d.dirty[b.blk] = b
	}
	d.behindLocked()
}

// Bwrite writes a block that the caller has changed, and lets it go (bwrite).
// When the device refuses, the block stays, to be written again.
func (d *Disk) Bwrite(ctx context.Context, b *Buf) error {
	d.mu.Lock()
	d.soilLocked(b)
	d.mu.Unlock()
	n := d.length(b.blk)
	err := d.q.do(ctx, d.bufOf(b.blk, devops.BWrite, abi.IovOf(b.data[:n])))
	d.mu.Lock()
	if err == nil {
		b.dirty = false
		delete(d.dirty, b.blk)
	}
	d.releaseLocked(b)
	d.mu.Unlock()
	return err
}

// Bawrite begins to write a block that the caller has changed, and lets it go
// when it is written (bawrite). An error is told by the next Flush, which tries
// again.
func (d *Disk) Bawrite(ctx context.Context, b *Buf) error {
	d.mu.Lock()
	d.soilLocked(b)
	d.mu.Unlock()
	n := d.length(b.blk)
	_, err := d.q.start(ctx, d.bufOf(b.blk, devops.BWrite, abi.IovOf(b.data[:n])), func(err error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if err == nil {
			b.dirty = false
			delete(d.dirty, b.blk)
		} else {
			d.wbFails++
			d.wbErr = err
		}
		d.releaseLocked(b)
	})
	if err != nil {
		d.Brelse(b) // dirty: it is written some time
	}
	return err
}

// bufOf is a request for the blocks from blk on.
func (d *Disk) bufOf(blk int64, fl devops.BufFlags, data abi.Iov) *devops.Buf {
	return &devops.Buf{Dev: d.dev, Blkno: blk * d.unit / devops.DevBsize, Bytes: int64(data.Len()), Flags: fl, Data: data}
}

// Start begins any request of whole sectors behind the cache's back: for who
// has made sure that the cache has nothing of it. iodone is called once, by
// aiodoned; Biowait waits for it as well.
func (d *Disk) Start(ctx context.Context, b *devops.Buf, iodone func(error)) (*Request, error) {
	if err := d.check(b); err != nil {
		return nil, err
	}
	b.Dev = d.dev
	if iodone != nil && d.s.o.Aiodone != nil {
		fn := iodone
		iodone = func(err error) { d.s.o.Aiodone(func(context.Context) { fn(err) }) }
	}
	return d.q.start(ctx, b, iodone)
}

// check refuses requests that make no sense.
func (d *Disk) check(b *devops.Buf) error {
	op := b.Flags & devops.BOpMask
	sec := int64(d.geom.Sector)
	switch {
	case op == devops.BFlush:
		return nil
	case op == 0 || op&(op-1) != 0, b.Blkno < 0, b.Bytes <= 0, b.Bytes > d.geom.Size, b.Blkno > d.geom.Size/devops.DevBsize,
		b.Blkno*devops.DevBsize%sec != 0, b.Bytes%sec != 0, b.Blkno*devops.DevBsize > d.geom.Size-b.Bytes,
		op&(devops.BRead|devops.BWrite) != 0 && int64(b.Data.Len()) != b.Bytes:
		return fmt.Errorf("device %v of %d bytes: request %#x for %d bytes from block %d: %w", d.dev, d.geom.Size, b.Flags, b.Bytes, b.Blkno, abi.EINVAL)
	case op != devops.BRead && !d.writable.Load():
		return fmt.Errorf("device %v: %w", d.dev, abi.EROFS)
	}
	return nil
}
