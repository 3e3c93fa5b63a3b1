// Package kthread has the kernel's own threads and what they do when there is
// nothing to do: kthread(9), tsleep(9) and wakeup(9), workqueue(9), softint(9).
//
// The words. A kernel thread is an lwp of proc0 with a name; here it is a
// goroutine whose context ends when the kernel does. Who sleeps does so on a
// wait channel, any value that both sides know, with a wmesg, the word that ps
// shows. A workqueue is one thread that does one thing to each piece of work
// in order, and may sleep. A soft interrupt is a function that runs soon, once
// for any number of requests, and must not sleep: the way out of a place that
// holds locks or must not wait.
//
//	t := kthread.New(evcnt)
//	t.Create("modunload", func(ctx context.Context) { ... })
//	...
//	t.Close(ctx)
//
// Without threads (RUMP_THREADS=0, Table.Disable) Create refuses, work is done
// by whoever enqueues it, and soft interrupts wait until somebody leaves the
// kernel and calls Poll, which is where the seed runs them, too.
//
// What goes wrong: a thread that does not look at its context holds up Close,
// which gives up when its own context ends.
//
// Locks: Table.mu is a leaf, and so are those of workqueues and soft
// interrupts. Functions are called without them.
package kthread

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// FirstLid is the lid of the first kernel thread; proc0's other lwps have lids
// below.
const FirstLid = 1001

// MaxThreads bounds the threads of a kernel.
const MaxThreads = 1024

// Table is the kernel threads and sleepers of one kernel.
type Table struct {
	evcnt  func(group, name string) *modapi.Counter
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	none atomic.Bool   // there are no threads
	soon chan struct{} // without threads: one slot, there are soft interrupts to run

	mu      sync.Mutex
	closed  bool              // protected by mu
	next    int32             // protected by mu
	threads map[int32]*Thread // protected by mu
	queues  map[any][]*sleeper
	soft    [nlevels]*softLevel // protected by mu; made when first wanted
}

// Thread is a kernel thread.
type Thread struct {
	Lid  int32
	Name string
	done chan struct{}
	stop context.CancelFunc
}

// New makes a table without threads. evcnt makes event counters; nil: counters
// that nobody sees.
func New(evcnt func(group, name string) *modapi.Counter) *Table {
	if evcnt == nil {
		evcnt = func(string, string) *modapi.Counter { return new(modapi.Counter) }
	}
	t := &Table{evcnt: evcnt, soon: make(chan struct{}, 1), next: FirstLid, threads: make(map[int32]*Thread), queues: make(map[any][]*sleeper)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// Disable is RUMP_THREADS=0: the kernel gets no threads of its own. It comes
// before anything is created.
func (t *Table) Disable() { t.none.Store(true) }

// Create starts a thread (kthread_create). fn's context ends at Stop or Close.
// EAGAIN when there are MaxThreads; ESRCH after Close; EOPNOTSUPP without
// threads, where the seed panics.
func (t *Table) Create(name string, fn func(ctx context.Context)) (*Thread, error) {
	if t.none.Load() {
		return nil, fmt.Errorf("kernel thread %s: threads not available: %w", name, abi.EOPNOTSUPP)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, fmt.Errorf("kernel thread %s: the kernel ends: %w", name, abi.ESRCH)
	}
	if len(t.threads) >= MaxThreads {
		return nil, fmt.Errorf("kernel thread %s: %d of them: %w", name, MaxThreads, abi.EAGAIN)
	}
	for t.threads[t.next] != nil || t.next < FirstLid {
		if t.next++; t.next < FirstLid {
			t.next = FirstLid
		}
	}
	th := &Thread{Lid: t.next, Name: name, done: make(chan struct{})}
	t.next++
	t.threads[th.Lid] = th
	var ctx context.Context
	ctx, th.stop = context.WithCancel(WithLwp(t.ctx, 0, th.Lid))
	t.wg.Go(func() {
		defer func() {
			th.stop()
			t.mu.Lock()
			delete(t.threads, th.Lid)
			t.mu.Unlock()
			close(th.done)
		}()
		fn(ctx)
	})
	return th, nil
}

// Stop ends the thread's context and waits for the thread (kthread_join), at
// most as long as ctx lasts: EINTR, ETIMEDOUT.
func (th *Thread) Stop(ctx context.Context) error {
	th.stop()
	select {
	case <-th.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("kernel thread %s: %w", th.Name, abi.ErrnoOf(ctx.Err()))
	}
}

// Close ends all threads and wakes all sleepers, and lets no new ones in.
// EINTR, ETIMEDOUT when ctx ends first.
func (t *Table) Close(ctx context.Context) error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	done := make(chan struct{})
	go func() {
		t.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("kernel threads: %w", abi.ErrnoOf(ctx.Err()))
	}
}

// Row is a thread as ps(1) lists it.
type Row struct {
	Lid   int32  `json:"lid"`
	Name  string `json:"name"`
	Wmesg string `json:"wmesg"` // "" while it runs
}

// Rows lists the threads by lid.
func (t *Table) Rows() []Row {
	t.mu.Lock()
	defer t.mu.Unlock()
	rows := make([]Row, 0, len(t.threads))
	for _, th := range t.threads {
		rows = append(rows, Row{Lid: th.Lid, Name: th.Name})
	}
	wmesg := make(map[int32]string)
	for _, q := range t.queues {
		for _, s := range q {
			if s.pid == 0 {
				wmesg[s.lid] = s.wmesg
			}
		}
	}
	for i := range rows {
		rows[i].Wmesg = wmesg[rows[i].Lid]
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].Lid < rows[j].Lid })
	return rows
}
