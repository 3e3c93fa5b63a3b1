package nbd

import (
	"context"
	"math/bits"
	"sync"
)

// budget is memory that may be in use: a counting semaphore, first come first
// served, so that a large demand is not starved by small ones.
type budget struct {
	total int64
	mu    sync.Mutex
	free  int64
	queue []*claim
}

type claim struct {
	n    int64
	done chan struct{}
}

func newBudget(n int64) *budget { return &budget{total: n, free: n} }

// take waits until n bytes are free; more than there are at all count as all.
func (b *budget) take(ctx context.Context, n int64) error {
	n = min(n, b.total)
	b.mu.Lock()
	if len(b.queue) == 0 && b.free >= n {
		b.free -= n
		b.mu.Unlock()
		return nil
	}
	c := &claim{n, make(chan struct{})}
	b.queue = append(b.queue, c)
	b.mu.Unlock()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-c.done: // just so
		b.free += n
	default:
		for i, d := range b.queue {
			if d == c {
				b.queue = append(b.queue[:i], b.queue[i+1:]...)
				break
			}
		}
	}
	b.serve()
	return context.Cause(ctx)
}

// tryTake is take that does not wait.
func (b *budget) tryTake(n int64) bool {
	n = min(n, b.total)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) > 0 || b.free < n {
		return false
	}
	b.free -= n
	return true
}

// give gives back what was taken with the same n.
func (b *budget) give(n int64) {
	b.mu.Lock()
	b.free += min(n, b.total)
	b.serve()
	b.mu.Unlock()
}

// serve lets claims through in order. b.mu is held.
func (b *budget) serve() {
	for len(b.queue) > 0 && b.free >= b.queue[0].n {
		c := b.queue[0]
		b.queue[0] = nil
		b.queue = b.queue[1:]
		b.free -= c.n
		close(c.done)
	}
}

// Buffers of powers of two from 4 KiB to 32 MiB. What is in one is whatever it
// was used for before: a backend's ReadAt fills all of it or fails.
const (
	minBufBits = 12
	maxBufBits = 25
)

type buffer struct {
	b     []byte
	class int
}

var buffers [maxBufBits - minBufBits + 1]sync.Pool

func getBuffer(n int) *buffer {
	class := max(bits.Len(uint(max(n, 1)-1))-minBufBits, 0)
	if v, _ := buffers[class].Get().(*buffer); v != nil {
		return v
	}
	return &buffer{make([]byte, 1<<(minBufBits+class)), class}
}

func (b *buffer) put() { buffers[b.class].Put(b) }
