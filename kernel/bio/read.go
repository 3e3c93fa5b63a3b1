package bio

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// ReadAt reads any bytes, through the cache. Less than len(p) without an error
// is the end of the device. ENXIO, EIO: of the device; what could not be read
// is not remembered.
func (d *Disk) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return d.read(ctx, p, off, false)
}

func (d *Disk) read(ctx context.Context, p []byte, off int64, meta bool) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("device %v: offset %d: %w", d.dev, off, abi.EINVAL)
	}
	if off >= d.geom.Size {
		return 0, nil
	}
	p = p[:min(int64(len(p)), d.geom.Size-off)]
	var room [16]*Buf
	held := room[:0]
	for done := 0; done < len(p); {
		at := off + int64(done)
		first := at / d.unit
		last := min((off+int64(len(p))-1)/d.unit, first+d.maxIO/d.unit-1)
		var err error
		held, err = d.hold(ctx, held[:0], first, last, meta)
		for _, b := range held {
			if done < len(p) {
				n := copy(p[done:], b.data[off+int64(done)-b.blk*d.unit:])
				done += n
			}
		}
		d.mu.Lock()
		for _, b := range held {
			d.releaseLocked(b)
		}
		d.mu.Unlock()
		if err != nil {
			if done > 0 {
				return done, nil
			}
			return 0, err
		}
	}
	d.ahead(ctx, off, int64(len(p)), meta)
	return len(p), nil
}

// hold holds blocks from first on, in order and at most to last, for reading;
// what is not in memory is read. It answers at least one block, or an error.
func (d *Disk) hold(ctx context.Context, held []*Buf, first, last int64, meta bool) ([]*Buf, error) {
	missing := 0
	d.mu.Lock()
	for n := first; n <= last; n++ {
		b := d.bufs[n]
		if b != nil && b.busy {
			if len(held) > 0 {
				break // wait with empty hands
			}
			if err := d.waitLocked(ctx, b); err != nil {
				d.mu.Unlock()
				return nil, err
			}
			n--
			continue
		}
		switch {
		case b == nil:
			b = d.makeLocked(n, meta)
			missing++
		case b.valid:
			b.readers++
			b.touchLocked(meta)
		}
		held = append(held, b)
	}
	d.mu.Unlock()
	d.s.cnt.hits.Add(uint64(len(held) - missing))
	if missing == 0 {
		return held, nil
	}
	d.s.cnt.misses.Add(uint64(missing))
	// The missing ones are ours alone: fill them in runs.
	var bad error
	good := len(held)
	for i := 0; i < len(held); i++ {
		if !held[i].busy { // only we change it while it is set
			continue
		}
		j := i
		for j+1 < len(held) && held[j+1].busy {
			j++
		}
		if bad == nil {
			if bad = d.fillRun(ctx, held[i:j+1]); bad != nil && i < j {
				// One bad sector must not take its neighbours with it.
				bad = nil
				for k := i; k <= j && bad == nil; k++ {
					if bad = d.fillRun(ctx, held[k:k+1]); bad != nil {
						good = k
					}
				}
			} else if bad != nil {
				good = i
			}
		}
		i = j
	}
	d.mu.Lock()
	for i, b := range held {
		if i >= good {
			d.releaseLocked(b)
		} else if b.busy {
			b.busy, b.valid = false, true
			b.readers++
			b.wakeLocked()
		}
	}
	d.mu.Unlock()
	if good > 0 {
		return held[:good], nil // the error comes when what is bad is asked for alone
	}
	return nil, bad
}

// fillRun reads adjacent blocks with one request.
func (d *Disk) fillRun(ctx context.Context, run []*Buf) error {
	return d.q.do(ctx, d.bufOf(run[0].blk, devops.BRead, d.iovOf(run)))
}

func (d *Disk) iovOf(run []*Buf) abi.Iov {
	iov := make(abi.Iov, len(run))
	for i, b := range run {
		iov[i] = b.data[:d.length(b.blk)]
	}
	return iov
}

// Read-ahead: who reads on where he stopped has what follows read before he
// asks. The window doubles with each step, from aheadMin to a request's most;
// when memory is short it stays small, and is dropped if only held or dirty
// blocks are left.

const (
	nstreams = 8
	aheadMin = 64 << 10 // bytes
)

// stream is somebody who reads in order.
type stream struct {
	next   int64 // where he goes on, bytes
	asked  int64 // up to here has been read ahead
	window int64 // bytes
	used   uint64
}

// ahead notes a read and reads ahead if it was in order.
func (d *Disk) ahead(ctx context.Context, off, n int64, meta bool) {
	d.mu.Lock()
	d.tick++
	var st, oldest *stream
	for i := range d.streams {
		s := &d.streams[i]
		if s.used > 0 && s.next == off {
			st = s
			break
		}
		if oldest == nil || s.used < oldest.used {
			oldest = s
		}
	}
	if st == nil {
		*oldest = stream{next: off + n, used: d.tick}
		d.mu.Unlock()
		return
	}
	st.next, st.used = off+n, d.tick
	if st.asked > st.next+st.window/2 || d.closed {
		d.mu.Unlock()
		return
	}
	full := !d.s.mem.Try(d.unit)
	if !full {
		d.s.mem.Take(-d.unit)
	}
	st.window = min(max(aheadMin, 2*st.window), d.maxIO)
	if full {
		st.window = aheadMin
	}
	from := max(st.asked, st.next)
	from += (d.unit - from%d.unit) % d.unit
	to := min(st.next+st.window, d.geom.Size)
	st.asked = max(to, st.next)
	var run []*Buf
	for blk := from / d.unit; blk*d.unit < to; blk++ {
		if d.bufs[blk] != nil {
			if len(run) > 0 {
				break
			}
			continue
		}
		if !d.s.mem.Try(d.unit) && (d.evictLocked(d.unit) == 0 || !d.s.mem.Try(d.unit)) {
			d.s.cnt.aheadDropped.Inc()
			break
		}
		b := d.insertLocked(blk, meta)
		b.ahead = true
		run = append(run, b)
	}
	if len(run) == 0 {
		d.mu.Unlock()
		return
	}
	d.flushers.Add(1)
	d.mu.Unlock()
	d.s.cnt.readahead.Add(uint64(len(run)))
	done := func(err error) {
		d.mu.Lock()
		for _, b := range run {
			b.valid = err == nil
			d.releaseLocked(b)
		}
		d.mu.Unlock()
		d.flushers.Done()
	}
	if d.q.busy() {
		done(abi.EAGAIN) // others wait already: nobody asked for this
		return
	}
	if _, err := d.q.start(ctx, d.bufOf(run[0].blk, devops.BRead|devops.BAhead, d.iovOf(run)), done); err != nil {
		done(err)
	}
}

// busy reports whether requests wait in the queue.
func (q *queue) busy() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n >= q.depth
}
