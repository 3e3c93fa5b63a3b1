package kthread

import (
	"context"
	"fmt"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Workqueue does one thing to each piece of work, in order, in a thread of its
// own that bears the queue's name (workqueue(9)). It may sleep. Without threads
// (Table.Disable) whoever enqueues does it, and what others enqueue meanwhile.
type Workqueue struct {
	t      *Table
	name   string
	fn     func(ctx context.Context, w *Work)
	thread *Thread // nil without threads

	mu     sync.Mutex
	queue  []*Work // protected by mu
	doing  *Work   // protected by mu
	ending bool    // protected by mu
	busy   bool    // protected by mu: without threads, somebody does what is queued
}

// Work is a piece of work (struct work), on one queue at most once at a time.
type Work struct {
	Arg any // the owner's

	queued bool // protected by the queue's mu
}

// NewWorkqueue makes a queue (workqueue_create). EAGAIN, ESRCH as Create.
func (t *Table) NewWorkqueue(name string, fn func(ctx context.Context, w *Work)) (*Workqueue, error) {
	q := &Workqueue{t: t, name: name, fn: fn}
	if t.none.Load() {
		return q, nil
	}
	th, err := t.Create(name, q.run)
	if err != nil {
		return nil, err
	}
	q.thread = th
	return q, nil
}

func (q *Workqueue) run(ctx context.Context) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		switch {
		case len(q.queue) > 0:
			q.nextLocked(ctx)
		case q.ending || ctx.Err() != nil:
			q.ending = true
			q.t.Wakeup(q)
			return
		default:
			_ = q.t.Mtsleep(ctx, q, PCATCH, q.name, 0, &q.mu)
		}
	}
}

// nextLocked does the first piece of work, without the lock.
func (q *Workqueue) nextLocked(ctx context.Context) {
	w := q.queue[0]
	q.queue = q.queue[1:]
	w.queued = false
	q.doing = w
	q.mu.Unlock()
	q.fn(ctx, w)
	q.mu.Lock()
	q.doing = nil
	q.t.Wakeup(w)
}

// Enqueue puts work on the queue (workqueue_enqueue); it never waits, but
// without threads, where it does the work. The work may be put there again as
// soon as its function has begun. EBUSY for work
// that waits on it already; ESRCH after Destroy.
func (q *Workqueue) Enqueue(w *Work) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.ending:
		return fmt.Errorf("workqueue %s has ended: %w", q.name, abi.ESRCH)
	case w.queued:
		return fmt.Errorf("workqueue %s: the work is queued already: %w", q.name, abi.EBUSY)
	}
	w.queued = true
	q.queue = append(q.queue, w)
	if q.thread != nil {
		q.t.Wakeup(q)
		return nil
	}
	if q.busy {
		return nil
	}
	q.busy = true
	for len(q.queue) > 0 {
		q.nextLocked(q.t.ctx)
	}
	q.busy = false
	q.t.Wakeup(q)
	return nil
}

// Wait waits until work is neither queued nor being done (workqueue_wait).
// The queue's own function must not call it. EINTR when ctx ends.
func (q *Workqueue) Wait(ctx context.Context, w *Work) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for w.queued || q.doing == w {
		if err := q.t.Mtsleep(ctx, w, PCATCH, "workwait", 0, &q.mu); err != nil {
			return err
		}
	}
	return nil
}

// Destroy does what is queued and ends the queue (workqueue_destroy). EINTR,
// ETIMEDOUT when ctx ends first; the queue then ends without its creator.
func (q *Workqueue) Destroy(ctx context.Context) error {
	q.mu.Lock()
	q.ending = true
	q.t.Wakeup(q)
	if q.thread == nil {
		defer q.mu.Unlock()
		for q.busy {
			if err := q.t.Mtsleep(ctx, q, PCATCH, q.name, 0, &q.mu); err != nil {
				return fmt.Errorf("workqueue %s: %w", q.name, abi.ErrnoOf(err))
			}
		}
		return nil
	}
	q.mu.Unlock()
	select {
	case <-q.thread.done:
		return nil
	case <-ctx.Done():
		q.thread.stop()
		return fmt.Errorf("workqueue %s: %w", q.name, abi.ErrnoOf(ctx.Err()))
	}
}
