package bio

import "context"

// tryUnits is how many blocks the Try calls look at: what is copied under the
// lock.
const tryUnits = 4

// TryReadAt reads p if all of it is in memory and nobody changes it, and answers
// true; otherwise it does nothing. It never waits: for servers that have other
// things to do.
func (d *Disk) TryReadAt(p []byte, off int64) bool {
	if len(p) == 0 || off < 0 || off > d.geom.Size || int64(len(p)) > d.geom.Size-off {
		return false
	}
	first, last := off/d.unit, (off+int64(len(p))-1)/d.unit
	if last-first >= tryUnits {
		return false
	}
	d.mu.Lock()
	for n := first; n <= last; n++ {
		if b := d.bufs[n]; b == nil || b.busy || !b.valid {
			d.mu.Unlock()
			return false
		}
	}
	done := 0
	for n := first; n <= last; n++ {
		b := d.bufs[n]
		b.touchLocked(b.meta)
		done += copy(p[done:], b.data[off+int64(done)-n*d.unit:])
	}
	d.mu.Unlock()
	d.s.cnt.hits.Add(uint64(last - first + 1))
	d.ahead(context.Background(), off, int64(len(p)), false)
	return true
}

// TryWriteAt writes p into blocks that are in memory and that nobody holds, and
// answers true; otherwise, or if there are too many dirty blocks, or the open is
// not for writing, it does nothing. It never waits.
func (h *Handle) TryWriteAt(p []byte, off int64) bool {
	d := h.Disk
	if !h.write || len(p) == 0 || off < 0 || off > d.geom.Size || int64(len(p)) > d.geom.Size-off {
		return false
	}
	first, last := off/d.unit, (off+int64(len(p))-1)/d.unit
	if last-first >= tryUnits {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || len(d.dirty)+len(d.writing)+tryUnits >= d.dirtyHigh() {
		return false
	}
	for n := first; n <= last; n++ {
		b := d.bufs[n]
		if b == nil || b.busy || !b.valid {
			return false
		}
		if b.readers > 0 {
			// A copy may take the place of another of the blocks, so only of
			// a single one.
			if first != last || !d.splittableLocked(b) {
				return false
			}
			b = d.splitLocked(b)
			copy(b.data[off-n*d.unit:d.length(n)], p)
			d.releaseLocked(b)
			return true
		}
	}
	done := 0
	for n := first; n <= last; n++ {
		b := d.bufs[n]
		b.touchLocked(b.meta)
		o := off + int64(done) - n*d.unit
		done += copy(b.data[o:d.length(n)], p[done:])
		d.soilLocked(b)
	}
	return true
}
