package bio

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// Dirty blocks: those of one device begin to be written when there are
// dirtyLow of them or the first has waited for Options.WriteBehind; who makes
// more dirty waits at dirtyHigh.

// dirtyLow is a sixteenth of the memory, 256 MiB at most: Linux's
// dirty_background_ratio is a tenth. What is written again meanwhile crosses to
// the driver once, and what is adjacent goes in one request.
func (d *Disk) dirtyLow() int  { return int(max(16, min(d.s.mem.Share()/16, 256<<20)/d.unit)) }
func (d *Disk) dirtyHigh() int { return int(max(32, d.s.mem.Share()/2/d.unit)) }

// behindLocked sees to it that dirty blocks are written some time.
func (d *Disk) behindLocked() {
	if len(d.dirty) >= d.dirtyLow() {
		d.kickLocked()
		return
	}
	d.armLocked()
}

// armLocked has the flusher start after a while.
func (d *Disk) armLocked() {
	if d.timer == nil && d.s.o.Callouts != nil {
		d.timer = d.s.o.Callouts.New(func() {
			d.mu.Lock()
			d.timerOn = false
			if !d.closed && len(d.dirty) > 0 {
				d.kickLocked()
			}
			d.mu.Unlock()
		})
	}
	if !d.timerOn && d.timer != nil {
		d.timerOn = true
		d.timer.Schedule(d.s.o.WriteBehind)
	}
}

// kickLocked starts the flusher.
func (d *Disk) kickLocked() {
	if d.flushing || d.closed || len(d.dirty) == 0 {
		return
	}
	d.flushing = true
	d.flushers.Add(1)
	go func() {
		defer d.flushers.Done()
		err := d.writeback(context.Background())
		d.mu.Lock()
		d.flushing = false
		switch {
		case err != nil && !d.closed:
			d.armLocked() // and tries again
		case len(d.dirty) >= d.dirtyLow():
			d.kickLocked()
		}
		d.calmLocked()
		d.mu.Unlock()
		if err != nil {
			d.s.log.Warn("write-behind", "device", d.dev.String(), "err", err)
		}
	}()
}

func (d *Disk) calmLocked() {
	if d.wbCalm != nil {
		close(d.wbCalm)
		d.wbCalm = nil
	}
}

// throttle waits while there are too many dirty blocks. The error is that of
// the write-back that should have made them fewer.
func (d *Disk) throttle(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	fails := d.wbFails
	for first := true; len(d.dirty)+len(d.writing) >= d.dirtyHigh(); first = false {
		if d.wbFails != fails {
			return d.wbErr
		}
		if first {
			d.s.cnt.dirtyWaits.Inc()
		}
		d.kickLocked()
		if !d.flushing && len(d.writing) == 0 {
			return nil // closing: nobody writes any more
		}
		if d.wbCalm == nil {
			d.wbCalm = make(chan struct{})
		}
		c := d.wbCalm
		d.mu.Unlock()
		var err error
		select {
		case <-c:
		case <-ctx.Done():
			err = abi.ErrnoOf(ctx.Err())
		}
		d.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// writeback writes all blocks that are dirty now, adjacent ones together, and
// waits for them. What could not be written stays dirty.
func (d *Disk) writeback(ctx context.Context) error {
	d.mu.Lock()
	blks := make([]int64, 0, len(d.dirty))
	for n := range d.dirty {
		blks = append(blks, n)
	}
	d.mu.Unlock()
	slices.Sort(blks)
	return d.writeBlocks(ctx, blks)
}

// writeBlocks writes those of blks, sorted, that are dirty.
func (d *Disk) writeBlocks(ctx context.Context, blks []int64) error {
	var mu sync.Mutex
	var first error
	fails := 0
	fail := func(err error) {
		mu.Lock()
		if fails++; first == nil {
			first = err
		}
		mu.Unlock()
	}
	begun := 0
	ended := make(chan struct{}, len(blks)+1)
	most := int(d.maxIO / d.unit)
	for i := 0; i < len(blks); {
		run, n, err := d.takeRun(ctx, blks[i:], most)
		i += n
		if err != nil {
			fail(err)
			break
		}
		if len(run) == 0 {
			continue
		}
		iov := make(abi.Iov, len(run))
		for j, b := range run {
			iov[j] = b.data[:d.length(b.blk)]
		}
		d.s.cnt.writebacks.Add(uint64(len(run)))
		d.s.cnt.coalesced.Add(uint64(len(run) - 1))
		_, err = d.q.start(ctx, d.bufOf(run[0].blk, devops.BWrite, iov), func(err error) {
			d.wrote(run, err)
			if err != nil {
				fail(fmt.Errorf("device %v: %d bytes at %d: %w", d.dev, iov.Len(), run[0].blk*d.unit, err))
			}
			ended <- struct{}{}
		})
		if err != nil {
			d.wrote(run, err)
			fail(err)
			break
		}
		begun++
	}
	for range begun {
		select {
		case <-ended:
		case <-ctx.Done(): // the requests go on
			return abi.ErrnoOf(ctx.Err())
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if fails > 1 {
		return fmt.Errorf("%d writes failed, the first: %w", fails, first)
	}
	return first
}

// takeRun holds the first dirty one of blks and those that follow it without a
// gap, and says how many of blks it has looked at. The blocks can be read
// meanwhile; who writes one gets a copy (splitLocked).
func (d *Disk) takeRun(ctx context.Context, blks []int64, most int) ([]*Buf, int, error) {
	var run []*Buf
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, n := range blks {
		b := d.bufs[n]
		for b != nil && b.busy {
			// Somebody changes it, and it was dirty before. Wait only with
			// empty hands.
			if len(run) > 0 {
				return run, i, nil
			}
			if err := d.waitLocked(ctx, b); err != nil {
				return nil, i, err
			}
			b = d.bufs[n]
		}
		if b == nil || !b.dirty || len(run) > 0 && (n != run[len(run)-1].blk+1 || len(run) == most) {
			if len(run) > 0 {
				return run, i, nil
			}
			continue
		}
		b.readers++
		b.dirty = false
		delete(d.dirty, n)
		d.writing[n] = b
		run = append(run, b)
	}
	return run, len(blks), nil
}

// wrote ends the write-back of a run.
func (d *Disk) wrote(run []*Buf, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.wbFails++
		d.wbErr = err
	}
	for _, b := range run {
		if d.writing[b.blk] == b {
			delete(d.writing, b.blk)
		}
		if err != nil && !b.gone {
			b.dirty = true
			d.dirty[b.blk] = b
		}
		d.releaseLocked(b)
	}
	d.calmLocked()
}

// Flush writes all dirty blocks and has the device make durable what it was
// given. It answers after both. What could not be written stays in memory, and
// the next Flush tries again.
func (d *Disk) Flush(ctx context.Context) error {
	d.mu.Lock()
	fails := d.wbFails
	others := make([]int64, 0, len(d.writing))
	for n := range d.writing {
		others = append(others, n)
	}
	d.mu.Unlock()
	if err := d.writeback(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	for _, n := range others { // somebody else's write-back, perhaps not yet begun
		for b := d.writing[n]; b != nil; b = d.writing[n] {
			if err := d.waitLocked(ctx, b); err != nil {
				d.mu.Unlock()
				return err
			}
		}
	}
	d.mu.Unlock()
	if err := d.flushDevice(ctx); err != nil {
		return err
	}
	// If a write that somebody else had begun failed, what it was to write is
	// dirty again.
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.wbFails != fails {
		return d.wbErr
	}
	return nil
}

// flushDevice is the device's own flush; one that has none is durable at once.
func (d *Disk) flushDevice(ctx context.Context) error {
	if d.geom.Ops&devops.BFlush == 0 {
		return nil
	}
	return d.q.do(ctx, &devops.Buf{Dev: d.dev, Flags: devops.BFlush})
}
