package bio

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// Large writes of whole blocks go to the device at once, in one request, while
// the writer holds the blocks: they need no table of dirty blocks, no write-back,
// and the writer is as fast as the device. The device gets the cache's copy, so
// that both have the same if the writer's memory changes meanwhile.

// throughMin is from how many bytes on.
const throughMin = 64 << 10

// throughMost is the most bytes of one such request; 0: none are made. Who makes
// them holds their blocks, so that they are few if memory is short.
func (d *Disk) throughMost() int64 {
	n := min(d.maxIO, 1<<20, d.s.mem.Share()/16) / d.unit * d.unit
	if n < throughMin {
		return 0
	}
	return n
}

// throughLen is how many of n bytes at off may be written through: 0, or whole
// blocks, throughMin bytes and more.
func (d *Disk) throughLen(off, n int64) int64 {
	if n < throughMin || off%d.unit != 0 {
		return 0
	}
	n = min(n, d.geom.Size-off, d.throughMost()) / d.unit * d.unit
	if n < throughMin {
		return 0
	}
	return n
}

// through writes whole blocks to the device, and has the cache know them. What
// the device refuses, or ctx leaves behind, is dirty, as if it had been written
// into the cache only: the next Flush tries again. The error is that of a
// wait for the blocks; nothing has been written then.
func (d *Disk) through(ctx context.Context, p []byte, off int64) error {
	first := off / d.unit
	held := make([]*Buf, 0, int64(len(p))/d.unit)
	d.mu.Lock()
	for at := int64(0); at < int64(len(p)); at += d.unit {
		b, err := d.getLocked(ctx, first+at/d.unit, false)
		if err != nil {
			for _, b := range held {
				d.releaseLocked(b)
			}
			d.mu.Unlock()
			return err
		}
		held = append(held, b)
	}
	d.mu.Unlock()
	for i, b := range held {
		copy(b.data, p[int64(i)*d.unit:])
	}
	err := d.q.do(ctx, d.bufOf(first, devops.BWrite, d.iovOf(held)))
	d.mu.Lock()
	if err != nil && ctx.Err() == nil {
		d.wbFails++
		d.wbErr = err
	}
	for _, b := range held {
		switch {
		case err != nil:
			d.soilLocked(b)
		case b.dirty:
			b.dirty = false
			delete(d.dirty, b.blk)
		}
		b.valid = true
		d.releaseLocked(b)
	}
	if err == nil {
		d.calmLocked()
	}
	d.mu.Unlock()
	return nil
}
