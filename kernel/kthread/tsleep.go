package kthread

import (
	"context"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Flags of a sleep, or'ed to a priority that means nothing here.
const (
	PCATCH    = 0x100 // a context that ends interrupts the sleep: EINTR
	PNORELOCK = 0x200 // Mtsleep returns without the mutex
)

// sleeper is somebody on a sleep queue.
type sleeper struct {
	pid, lid int32
	wmesg    string
	woken    chan struct{} // closed by the wakeup, which also takes it off the queue
}

type lwpKey struct{}
type lwpID struct{ pid, lid int32 }

// WithLwp says who it is that sleeps with this context, for ps.
func WithLwp(ctx context.Context, pid, lid int32) context.Context {
	return context.WithValue(ctx, lwpKey{}, lwpID{pid, lid})
}

// Tsleep sleeps until somebody wakes wchan (tsleep): nil. EWOULDBLOCK when
// timo, if not 0, has passed; with PCATCH in prio EINTR when ctx ends, without
// it the end of ctx is not looked at. When the kernel ends so does every
// sleep, with EINTR.
func (t *Table) Tsleep(ctx context.Context, wchan any, prio int, wmesg string, timo time.Duration) error {
	return t.Mtsleep(ctx, wchan, prio|PNORELOCK, wmesg, timo, nil)
}

// Mtsleep is Tsleep that unlocks mtx once the sleeper is on its queue, so that
// a wakeup by whoever takes mtx next is not lost, and locks it again after the
// sleep unless PNORELOCK is in prio (mtsleep).
func (t *Table) Mtsleep(ctx context.Context, wchan any, prio int, wmesg string, timo time.Duration, mtx sync.Locker) error {
	id, _ := ctx.Value(lwpKey{}).(lwpID)
	s := &sleeper{pid: id.pid, lid: id.lid, wmesg: wmesg, woken: make(chan struct{})}
	t.mu.Lock()
	t.queues[wchan] = append(t.queues[wchan], s)
	t.mu.Unlock()
	if mtx != nil {
		mtx.Unlock()
		if prio&PNORELOCK == 0 {
			defer mtx.Lock()
		}
	}
	var timeout <-chan time.Time
	if timo > 0 {
		timer := time.NewTimer(timo)
		defer timer.Stop()
		timeout = timer.C
	}
	var intr <-chan struct{}
	if prio&PCATCH != 0 {
		intr = ctx.Done()
	}
	var err error
	select {
	case <-s.woken:
		return nil
	case <-timeout:
		err = abi.EWOULDBLOCK
	case <-intr:
		err = abi.EINTR
	case <-t.ctx.Done():
		err = abi.EINTR
	}
	if !t.unsleep(wchan, s) {
		return nil // the wakeup came first: it must not be lost
	}
	return err
}

// unsleep takes s off its queue; false: a wakeup has.
func (t *Table) unsleep(wchan any, s *sleeper) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.queues[wchan]
	i := slices.Index(q, s)
	if i < 0 {
		return false
	}
	if q = slices.Delete(q, i, i+1); len(q) == 0 {
		delete(t.queues, wchan)
	} else {
		t.queues[wchan] = q
	}
	return true
}

// Wakeup wakes all who sleep on wchan (wakeup). It never waits.
func (t *Table) Wakeup(wchan any) {
	t.mu.Lock()
	for _, s := range t.queues[wchan] {
		close(s.woken)
	}
	delete(t.queues, wchan)
	t.mu.Unlock()
}

// WakeupOne wakes who has slept longest on wchan (wakeup_one).
func (t *Table) WakeupOne(wchan any) {
	t.mu.Lock()
	if q := t.queues[wchan]; len(q) > 0 {
		close(q[0].woken)
		if q = slices.Delete(q, 0, 1); len(q) == 0 {
			delete(t.queues, wchan)
		} else {
			t.queues[wchan] = q
		}
	}
	t.mu.Unlock()
}

// Sleep is somebody who sleeps, for ps.
type Sleep struct {
	Pid   int32  `json:"pid"`
	Lid   int32  `json:"lid"`
	Wmesg string `json:"wmesg"`
}

// Sleeps lists all who sleep, by pid and lid; those whose context says nothing
// are pid 0, lid 0.
func (t *Table) Sleeps() []Sleep {
	t.mu.Lock()
	rows := []Sleep{}
	for _, q := range t.queues {
		for _, s := range q {
			rows = append(rows, Sleep{s.pid, s.lid, s.wmesg})
		}
	}
	t.mu.Unlock()
	sort.Slice(rows, func(i, j int) bool {
		if rows[i].Pid != rows[j].Pid {
			return rows[i].Pid < rows[j].Pid
		}
		return rows[i].Lid < rows[j].Lid
	})
	return rows
}
