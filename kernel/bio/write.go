package bio

import (
	"context"
	"errors"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// WriteAt writes any bytes into the cache; blocks that are changed in part are
// read first, and nobody gets in between. They are written some time, or by
// Flush; many whole blocks at once, now. With fua they are durable when it
// answers. Less than len(p) comes with
// an error: ENOSPC at the end of the device, EROFS, or that of the device.
func (d *Disk) WriteAt(ctx context.Context, p []byte, off int64, fua bool) (int, error) {
	switch {
	case off < 0:
		return 0, fmt.Errorf("device %v: offset %d: %w", d.dev, off, abi.EINVAL)
	case !d.writable.Load():
		return 0, fmt.Errorf("device %v: %w", d.dev, abi.EROFS)
	case len(p) == 0:
		return 0, nil
	}
	done, calm := 0, 0
	for done < len(p) {
		at := off + int64(done)
		if at >= d.geom.Size {
			return done, fmt.Errorf("device %v ends at %d: %w", d.dev, d.geom.Size, abi.ENOSPC)
		}
		if done >= calm {
			if err := d.throttle(ctx); err != nil {
				return done, err
			}
			calm += 1 << 20
		}
		if n := d.throughLen(at, int64(len(p)-done)); n > 0 {
			if err := d.through(ctx, p[done:done+int(n)], at); err != nil {
				return done, err
			}
			done += int(n)
			continue
		}
		n, err := d.writeBlock(ctx, p[done:], at)
		if err != nil {
			return done, err
		}
		done += n
	}
	if fua {
		return done, d.force(ctx, off, int64(done))
	}
	return done, nil
}

// writeBlock changes one block.
func (d *Disk) writeBlock(ctx context.Context, p []byte, at int64) (int, error) {
	blk, o := at/d.unit, at%d.unit
	n := min(int64(len(p)), d.length(blk)-o)
	d.mu.Lock()
	b, err := d.getLocked(ctx, blk, false)
	if err != nil {
		d.mu.Unlock()
		return 0, err
	}
	fill := !b.valid && n < d.length(blk)
	d.mu.Unlock()
	if fill {
		d.s.cnt.misses.Inc()
		if err := d.fill(ctx, b); err != nil {
			d.Brelse(b)
			return 0, err
		}
	}
	copy(b.data[o:o+n], p)
	d.Bdwrite(b)
	return int(n), nil
}

// force writes the dirty blocks of a range and makes them durable.
func (d *Disk) force(ctx context.Context, off, n int64) error {
	var blks []int64
	d.mu.Lock()
	others := false
	for blk := off / d.unit; blk*d.unit < off+n; blk++ {
		if b := d.bufs[blk]; b != nil && (b.dirty || b.busy) {
			blks = append(blks, blk)
		}
		others = others || d.writing[blk] != nil
	}
	d.mu.Unlock()
	if others {
		return d.Flush(ctx) // a write-back has some of it
	}
	if err := d.writeBlocks(ctx, blks); err != nil {
		return err
	}
	return d.flushDevice(ctx)
}

// segment is data for a place on the device.
type segment struct {
	off  int64 // bytes, a multiple of the unit
	data abi.Iov
}

// throughWindow bounds the requests of one writeThrough that are under way: it
// holds their blocks.
const throughWindow = 8

// writeThrough writes whole blocks to the device now, and has the cache know
// them. Segments, sorted by offset, go at the same time; the error says that some may not be
// there. Blocks that could not be written leave the cache.
func (d *Disk) writeThrough(ctx context.Context, segs []segment, fl devops.BufFlags) error {
	var fs []*Request
	var errs []error
	wait := func(most int) { // each request ends: the device's deadlines bound it
		for ; len(fs) > most; fs = fs[1:] {
			if err := fs[0].Biowait(context.WithoutCancel(ctx)); err != nil && len(errs) < 4 {
				errs = append(errs, err)
			}
		}
	}
	for _, sg := range segs {
		n := int64(sg.data.Len())
		var held []*Buf
		var err error
		d.mu.Lock()
		for blk := sg.off / d.unit; blk*d.unit < sg.off+n; blk++ {
			var b *Buf
			if b, err = d.getLocked(ctx, blk, fl&devops.BMeta != 0); err != nil {
				break
			}
			held = append(held, b)
		}
		d.mu.Unlock()
		var r *Request
		if err == nil {
			rest := sg.data
			for _, b := range held {
				l := d.length(b.blk)
				rest.CopyOut(b.data[:l])
				rest = rest.Slice(int(l), rest.Len())
			}
			r, err = d.q.start(ctx, d.bufOf(sg.off/d.unit, devops.BWrite|fl&devops.BFua, d.iovOf(held)), func(err error) {
				d.mu.Lock()
				for _, b := range held {
					if b.valid = err == nil; b.dirty {
						b.dirty = false
						delete(d.dirty, b.blk)
					}
					d.releaseLocked(b)
				}
				d.mu.Unlock()
			})
		}
		if err != nil {
			d.mu.Lock()
			for _, b := range held {
				b.valid = false
				d.releaseLocked(b)
			}
			d.mu.Unlock()
			errs = append(errs, err)
			break
		}
		fs = append(fs, r)
		wait(throughWindow)
	}
	wait(0)
	return errors.Join(errs...)
}

// Discard says that the contents of a range are of no use any more: what is
// read there afterwards is anything. A device that knows no discard keeps them.
// Parts of sectors at the ends are left alone.
func (d *Disk) Discard(ctx context.Context, off, n int64) error {
	if err := d.checkRange(off, n); err != nil {
		return err
	}
	if d.geom.Ops&devops.BDiscard == 0 {
		return nil
	}
	from, to := d.inner(off, n)
	if from >= to {
		return nil
	}
	return d.behind(ctx, from, to, devops.BDiscard)
}

// Zeroes makes a range read as zeroes, by the device's own means if it has
// them. With fua that is durable when it answers.
func (d *Disk) Zeroes(ctx context.Context, off, n int64, fua bool) error {
	if err := d.checkRange(off, n); err != nil {
		return err
	}
	if !d.writable.Load() {
		return fmt.Errorf("device %v: %w", d.dev, abi.EROFS)
	}
	from, to := d.inner(off, n)
	if d.geom.Ops&devops.BZeroes == 0 || from >= to {
		from, to = off+n, off+n
	}
	zero := make([]byte, min(n, 1<<20))
	write := func(at, end int64) error {
		for at < end {
			m, err := d.WriteAt(ctx, zero[:min(int64(len(zero)), end-at)], at, false)
			if err != nil {
				return err
			}
			at += int64(m)
		}
		return nil
	}
	if err := write(off, from); err != nil {
		return err
	}
	if from < to {
		if err := d.behind(ctx, from, to, devops.BZeroes); err != nil {
			return err
		}
	}
	if err := write(to, off+n); err != nil {
		return err
	}
	if fua {
		return d.Flush(ctx)
	}
	return nil
}

func (d *Disk) checkRange(off, n int64) error {
	if off < 0 || n < 0 || off > d.geom.Size || n > d.geom.Size-off {
		return fmt.Errorf("device %v of %d bytes: range of %d at %d: %w", d.dev, d.geom.Size, n, off, abi.EINVAL)
	}
	return nil
}

// inner is the whole blocks of a range.
func (d *Disk) inner(off, n int64) (from, to int64) {
	from = (off + d.unit - 1) / d.unit * d.unit
	to = (off + n) / d.unit * d.unit
	if off+n == d.geom.Size {
		to = off + n
	}
	return from, to
}

// behind does something to whole blocks on the device that the cache does not
// see, and forgets them before and after: a read that came in between may have
// brought back what was there before. Writes that come at the same time may be
// lost to it, as they might on the device.
func (d *Disk) behind(ctx context.Context, from, to int64, op devops.BufFlags) error {
	if err := d.drop(ctx, from, to); err != nil {
		return err
	}
	const most = 1 << 30 // bytes a request, so that others get a turn
	for at := from; at < to; at += most {
		n := min(most, to-at)
		if err := d.q.do(ctx, &devops.Buf{Dev: d.dev, Blkno: at / devops.DevBsize, Bytes: n, Flags: op}); err != nil {
			return err
		}
	}
	return d.drop(context.WithoutCancel(ctx), from, to)
}

// drop forgets the blocks of a range, dirty or not.
func (d *Disk) drop(ctx context.Context, from, to int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	kill := func(blk int64) error {
		for b := d.bufs[blk]; b != nil; b = d.bufs[blk] {
			if !b.busy && b.readers == 0 {
				d.forgetLocked(b)
				break
			}
			if err := d.waitLocked(ctx, b); err != nil {
				return err
			}
		}
		return nil
	}
	first, end := from/d.unit, (to+d.unit-1)/d.unit
	if end-first <= int64(len(d.bufs)) {
		for blk := first; blk < end; blk++ {
			if err := kill(blk); err != nil {
				return err
			}
		}
		return nil
	}
	var blks []int64
	for blk := range d.bufs {
		if blk >= first && blk < end {
			blks = append(blks, blk)
		}
	}
	for _, blk := range blks {
		if err := kill(blk); err != nil {
			return err
		}
	}
	return nil
}
