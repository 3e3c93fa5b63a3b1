package kthread

import (
	"context"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Level is the level of a soft interrupt. Those of one level run one after the
// other, in one thread.
type Level int

// The levels (SOFTINT_*).
const (
	SoftClock Level = iota
	SoftBio
	SoftNet
	SoftSerial
	nlevels
)

var levelNames = [nlevels]string{"softclk/0", "softbio/0", "softnet/0", "softser/0"}

type softLevel struct {
	t    *Table
	runs *modapi.Counter // evcnt softint
	work chan struct{}   // one slot: there is something to do

	mu    sync.Mutex
	queue []*Softint // protected by mu
}

// Softint is a soft interrupt.
type Softint struct {
	l  *softLevel
	fn func()

	// protected by l.mu
	pending bool
	running bool
	again   bool // it came while it ran, and is not in the queue any more
	gone    bool
	idle    chan struct{} // closed when it stops running; made when somebody waits
}

// Establish makes a soft interrupt (softint_establish). fn must not sleep for
// long. EINVAL for a level that is none; ESRCH, EAGAIN as Create.
func (t *Table) Establish(level Level, fn func()) (*Softint, error) {
	if level < 0 || level >= nlevels {
		return nil, abi.EINVAL
	}
	t.mu.Lock()
	l := t.soft[level]
	made := l == nil
	if made {
		l = &softLevel{t: t, runs: t.evcnt("softint", levelNames[level]), work: make(chan struct{}, 1)}
		if t.none.Load() {
			l.work = t.soon
		}
		t.soft[level] = l
	}
	t.mu.Unlock()
	if made && !t.none.Load() {
		if _, err := t.Create(levelNames[level], l.run); err != nil {
			return nil, err
		}
	}
	return &Softint{l: l, fn: fn}, nil
}

func (l *softLevel) run(ctx context.Context) {
	for {
		select {
		case <-l.work:
		case <-ctx.Done():
			return
		}
		l.drain()
	}
}

// drain runs what is queued. Without threads several may do so at once; what
// comes again while one of them runs it, is his.
func (l *softLevel) drain() {
	l.mu.Lock()
	for len(l.queue) > 0 {
		s := l.queue[0]
		l.queue = l.queue[1:]
		if s.running {
			s.again = true
		}
		if s.running || !s.pending { // or disestablished
			continue
		}
		s.pending, s.running = false, true
		l.mu.Unlock()
		l.runs.Inc()
		s.fn()
		l.mu.Lock()
		s.running = false
		if s.again {
			s.again = false
			l.queue = append(l.queue, s)
		}
		if s.idle != nil {
			close(s.idle)
			s.idle = nil
		}
	}
	l.mu.Unlock()
}

// Poll runs the soft interrupts that are due, if there are no threads that do:
// who leaves the kernel calls it (softint_run in rump's unschedule). It must
// not be called with a lock held.
func (t *Table) Poll() {
	select {
	case <-t.soon:
	default:
		return
	}
	for i := range t.soft {
		t.mu.Lock()
		l := t.soft[i]
		t.mu.Unlock()
		if l != nil {
			l.drain()
		}
	}
}

// Schedule lets the function run soon (softint_schedule). Any number of
// requests before it begins are one; one while it runs lets it run again. It
// never waits and may be called with any lock held.
func (s *Softint) Schedule() {
	l := s.l
	l.mu.Lock()
	if !s.pending && !s.gone {
		s.pending = true
		l.queue = append(l.queue, s)
		select {
		case l.work <- struct{}{}:
		default:
		}
	}
	l.mu.Unlock()
}

// Disestablish takes the soft interrupt away and waits until its function does
// not run any more (softint_disestablish); the function itself must not call
// it. EINTR, ETIMEDOUT when ctx ends first.
func (s *Softint) Disestablish(ctx context.Context) error {
	l := s.l
	l.mu.Lock()
	s.gone, s.pending = true, false
	if !s.running {
		l.mu.Unlock()
		return nil
	}
	if s.idle == nil {
		s.idle = make(chan struct{})
	}
	idle := s.idle
	l.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return abi.ErrnoOf(ctx.Err())
	}
}
