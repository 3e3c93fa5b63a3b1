package bio

import (
	"context"
	"math/bits"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// touched are the blocks of a device that the component above has read or
// written since the last Drop: what it takes to have it do the same again. A
// block costs a bit, and only where there are any.
type touched struct {
	chunks []atomic.Pointer[touchChunk]
	n      atomic.Int64 // bits that are set, about
}

// touchChunk has a bit for each of touchBits blocks.
type touchChunk [touchBits / 64]atomic.Uint64

const touchBits = 1 << 15

func newTouched(size, unit int64) *touched {
	return &touched{chunks: make([]atomic.Pointer[touchChunk], (size/unit+touchBits)/touchBits)}
}

// add notes the blocks of n bytes from off on, which are on the device.
func (t *touched) add(off, n, unit int64) {
	if n <= 0 {
		return
	}
	for blk := off / unit; blk <= (off+n-1)/unit; blk++ {
		p := &t.chunks[blk/touchBits]
		c := p.Load()
		if c == nil {
			p.CompareAndSwap(nil, new(touchChunk))
			c = p.Load()
			if c == nil {
				return // cleared at the same time
			}
		}
		w, bit := &c[blk%touchBits/64], uint64(1)<<(blk%64)
		if w.Load()&bit == 0 && w.Or(bit)&bit == 0 {
			t.n.Add(1)
		}
	}
}

func (t *touched) clear() {
	for i := range t.chunks {
		t.chunks[i].Store(nil)
	}
	t.n.Store(0)
}

// each calls f with the blocks, in order, until it answers false.
func (t *touched) each(f func(blk int64) bool) {
	for i := range t.chunks {
		c := t.chunks[i].Load()
		if c == nil {
			continue
		}
		for j := range c {
			for w := c[j].Load(); w != 0; w &= w - 1 {
				if !f(int64(i)*touchBits + int64(j)*64 + int64(bits.TrailingZeros64(w))) {
					return
				}
			}
		}
	}
}

// TouchedBlock is a block of a device.
type TouchedBlock struct {
	Off  int64 // bytes
	Meta bool  // the component called it metadata
	Data []byte
}

// Touched throws L0 away, as Drop does, and answers the blocks that the
// component read or wrote since the Drop before, as they were at the last
// checkpoint: with them another process can do what it did. E2BIG if they are
// more than limit bytes; EIO and what ctx says if they cannot be read.
func (l *Layered) Touched(ctx context.Context, limit int64) ([]TouchedBlock, error) {
	if l.seen.n.Load()*l.unit > limit {
		return nil, abi.E2BIG
	}
	var blks []int64
	l.seen.each(func(blk int64) bool {
		blks = append(blks, blk)
		return int64(len(blks))*l.unit <= limit
	})
	if int64(len(blks))*l.unit > limit {
		return nil, abi.E2BIG
	}
	meta := make(map[int64]bool)
	l.meta.each(func(blk int64) bool { meta[blk] = true; return true })
	if err := l.Drop(ctx); err != nil {
		return nil, err
	}
	r := make([]TouchedBlock, 0, len(blks))
	for _, blk := range blks {
		n := l.base.length(blk)
		if n <= 0 {
			continue
		}
		b := TouchedBlock{blk * l.unit, meta[blk], make([]byte, n)}
		if err := l.readAt(ctx, b.Data, b.Off, false); err != nil {
			return nil, err
		}
		r = append(r, b)
	}
	return r, nil
}
