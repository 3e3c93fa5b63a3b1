// Package event is how things that can become ready tell those who wait:
// struct selinfo with selrecord and selnotify, and the one sleeping idiom of
// the kernel built on it.
//
// The idiom: record first, then look again, then sleep. Whoever makes a thing
// ready changes its state first and notifies after. So no edge is lost;
// spurious wake-ups are allowed, and every sleeper looks again.
//
// A kqueue (Kqueue) is the other way to wait: it remembers what it is asked to
// watch (knotes), and collects what has happened until somebody fetches it. It
// hangs on the same Selinfos, and on Klists where the thing says what happened
// (Note) and not only that something did.
//
// Lock order: Kqueue.scan, Kqueue.reg, then the lock of a Selinfo or Klist,
// then Kqueue.mu, then the kqueue's own Selinfo (on which an outer kqueue may
// hang; kqueues in kqueues have no cycles). Notify and Note never wait and may
// be called with any lock held.
package event

import (
	"context"
	"errors"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Waiter is one sleeper. The same Waiter can be recorded with any number of
// things; the first to notify wakes it.
type Waiter struct {
	c    chan struct{}
	hook func() // instead of c: knotes
}

// NewWaiter makes a Waiter that nothing has notified yet.
func NewWaiter() *Waiter { return &Waiter{c: make(chan struct{}, 1)} }

// NewHook makes a Waiter that runs fn instead of waking a sleeper. fn must not
// wait, and may be called with any lock held.
func NewHook(fn func()) *Waiter { return &Waiter{hook: fn} }

// C is readable once the Waiter was notified since it was last read.
func (w *Waiter) C() <-chan struct{} { return w.c }

// Wake wakes the sleeper; it never waits.
func (w *Waiter) Wake() {
	if w.hook != nil {
		w.hook()
		return
	}
	select {
	case w.c <- struct{}{}:
	default:
	}
}

// Selinfo is the list of those who wait for one thing (struct selinfo). The
// zero value is ready.
type Selinfo struct {
	mu      sync.Mutex
	waiters map[*Waiter]int
}

// Record adds w (selrecord). Recording twice wants removing twice.
func (s *Selinfo) Record(w *Waiter) {
	s.mu.Lock()
	if s.waiters == nil {
		s.waiters = make(map[*Waiter]int)
	}
	s.waiters[w]++
	s.mu.Unlock()
}

// Remove takes w away again.
func (s *Selinfo) Remove(w *Waiter) {
	s.mu.Lock()
	if n := s.waiters[w]; n > 1 {
		s.waiters[w] = n - 1
	} else {
		delete(s.waiters, w)
	}
	s.mu.Unlock()
}

// Notify wakes everybody (selnotify).
func (s *Selinfo) Notify() {
	s.mu.Lock()
	for w := range s.waiters {
		w.Wake()
	}
	s.mu.Unlock()
}

// Wait calls try until it answers something other than EAGAIN, and sleeps on s
// in between. It ends with EINTR when ctx is cancelled and ETIMEDOUT when its
// deadline passes.
func (s *Selinfo) Wait(ctx context.Context, try func() error) error {
	err := try()
	if !errors.Is(err, abi.EAGAIN) {
		return err
	}
	w := NewWaiter()
	s.Record(w)
	defer s.Remove(w)
	for {
		if err := try(); !errors.Is(err, abi.EAGAIN) {
			return err
		}
		if err := w.Sleep(ctx); err != nil {
			return err
		}
	}
}

// Sleep waits until w is notified: nil, EINTR or ETIMEDOUT.
func (w *Waiter) Sleep(ctx context.Context) error {
	select {
	case <-w.c:
		return nil
	case <-ctx.Done():
		return abi.ErrnoOf(ctx.Err())
	}
}

// Waiters is how many wait now.
func (s *Selinfo) Waiters() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiters)
}
