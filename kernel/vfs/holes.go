package vfs

import (
	"context"
	"math"
	"math/bits"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// seekData finds the next data or hole at or after off in a file of size bytes
// (SEEK_DATA, SEEK_HOLE). Of a kpages file the pages tell, of others the file
// system (vfsops.HoleSeeker) and the pages that were not written back yet,
// which are data. Where nobody knows, the whole file is data.
func (v *Vnode) seekData(ctx context.Context, off, size int64, whence int) (int64, error) {
	v = v.base()
	if off < 0 || off >= size {
		return 0, abi.ENXIO
	}
	b, err := v.bind(ctx)
	if err != nil {
		return 0, err
	}
	data := whence == abi.SEEK_DATA
	if v.typ == abi.VREG && b.kpages() {
		v.mu.RLock()
		defer v.mu.RUnlock()
		return v.kseek(off, size, data)
	}
	if v.typ == abi.VREG && b.seeker != nil {
		v.mu.RLock()
		defer v.mu.RUnlock()
		to, err := v.seekBelow(ctx, b, off, size, data)
		if abi.ErrnoOf(err) != abi.EOPNOTSUPP {
			return to, err
		}
	}
	if data {
		return off, nil
	}
	return size, nil
}

// seekBelow is seekData of a file whose holes the file system knows.
// Preconditions: v is locked, off is inside the file.
func (v *Vnode) seekBelow(ctx context.Context, b *binding, off, size int64, data bool) (int64, error) {
	d := v.data.Load()
	if data {
		own := int64(math.MaxInt64) // the next page that was not written back
		if d != nil && d.ndirty > 0 {
			if own = d.nextDirty(off / pageSize); own < math.MaxInt64 {
				own = max(off, own*pageSize)
			}
		}
		if own == off {
			return off, nil
		}
		to, err := b.seeker.Seek(ctx, v.handle(), off, abi.SEEK_DATA)
		switch {
		case err != nil && abi.ErrnoOf(err) != abi.ENXIO:
			return 0, err
		case err != nil:
			to = own
		case to < off:
			return 0, abi.EIO
		}
		if to = min(to, own); to == math.MaxInt64 || b.sole() && to >= size {
			return 0, abi.ENXIO
		}
		return to, nil
	}
	for {
		if d != nil && d.ndirty > 0 {
			for n := off / pageSize; off < size && d.dirty(n); n++ {
				off = (n + 1) * pageSize
			}
		}
		if off >= size {
			return size, nil
		}
		to, err := b.seeker.Seek(ctx, v.handle(), off, abi.SEEK_HOLE)
		switch {
		case err != nil && abi.ErrnoOf(err) == abi.ENXIO && b.sole():
			return off, nil // the file ends here for the file system, which has not seen what follows
		case err != nil:
			return 0, err
		case to < off:
			return 0, abi.EIO
		}
		if d == nil || d.ndirty == 0 || to >= size || !d.dirty(to/pageSize) {
			if b.sole() {
				to = min(to, size)
			}
			return to, nil
		}
		off = to
	}
}

// dirty reports whether page n was not written back yet.
func (d *fileData) dirty(n int64) bool {
	l := d.leaf(n >> leafShift)
	i := int(n & (leafPages - 1))
	return l != nil && l.dirty[i/64]&(1<<(i%64)) != 0
}

// nextDirty is the first page from n on that was not written back yet,
// math.MaxInt64 if there is none.
func (d *fileData) nextDirty(n int64) int64 {
	next := int64(math.MaxInt64)
	for k, l := range d.leaves {
		if k < n>>leafShift || k<<leafShift >= next {
			continue
		}
		for w, word := range l.dirty {
			if k == n>>leafShift {
				if i := int(n & (leafPages - 1)); w < i/64 {
					word = 0
				} else if w == i/64 {
					word &= ^uint64(0) << (i % 64)
				}
			}
			if word != 0 {
				next = min(next, k<<leafShift+int64(w*64+bits.TrailingZeros64(word)))
				break
			}
		}
	}
	return next
}

// kseek is seekData of a kpages file: a page that is missing is a hole.
// Preconditions: v is locked, off is inside the file.
func (v *Vnode) kseek(off, size int64, data bool) (int64, error) {
	d := v.data.Load()
	for n := off / pageSize; n*pageSize < size; n++ {
		var l *leaf
		if d != nil {
			l = d.leaf(n >> leafShift)
		}
		if l == nil && data { // skip a missing leaf at once
			if d == nil || d.npages.Load() == 0 {
				return 0, abi.ENXIO
			}
			next := d.nextLeaf(n >> leafShift)
			if next < 0 {
				return 0, abi.ENXIO
			}
			n = next<<leafShift - 1
			continue
		}
		if (l != nil && d.page(n) != nil) == data {
			return max(off, n*pageSize), nil
		}
	}
	if data {
		return 0, abi.ENXIO
	}
	return size, nil
}

// nextLeaf is the index of the first leaf after idx, -1 if there is none.
func (d *fileData) nextLeaf(idx int64) int64 {
	next := int64(-1)
	for k := range d.leaves {
		if k > idx && (next < 0 || k < next) {
			next = k
		}
	}
	return next
}
