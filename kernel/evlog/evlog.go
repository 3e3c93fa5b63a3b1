// Package evlog keeps the events of a kernel: what happened to its components,
// mounts and journals, for `rumpus events` and for who watches over a kernel.
// The message buffer says the same to humans; events are for programs.
//
// The words. An Event has a number, one more than the one before, from 1 for
// each boot. A Log is a ring of the last events. Who reads tells the number of
// the last event that he has, gets those after it, and finds out by the gap in
// the numbers if some are lost because he came too late.
//
//	log.Emit(evlog.Event{Kind: evlog.Died, Instance: "vfs", Pid: 4711, Cause: "exit"})
//	evs := log.After(last, 100)
//	err := log.Wait(ctx, last)          // until there is one after it
//
// Emit never waits, whatever readers do; it may be called with any lock held.
//
// Locks: Log.mu, a leaf.
package evlog

import (
	"context"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Kind is what happened.
type Kind string

// The kinds. Fields beside Instance are said with each.
const (
	Started    Kind = "started"    // a component is attached: Pid, Text are its modules
	Died       Kind = "died"       // its process has ended or was ended: Pid, Epoch, Cause, Signal or Status, Calls, Op, Text
	Recovered  Kind = "recovered"  // a new process took over: Pid, Epoch, Ns since the death was known, Replayed, Text "spare" if one stood by
	Retry      Kind = "retry"      // a new process did not come up: Text
	Failed     Kind = "failed"     // it is given up: Text
	Degraded   Kind = "degraded"   // its mounts take no changes for now (EIO): Text
	Restored   Kind = "restored"   // they take changes again
	Ended      Kind = "ended"      // it was unloaded: Pid
	Spare      Kind = "spare"      // a process stands by: Pid
	SpareDied  Kind = "spare_died" // it has ended and will be replaced: Pid, Text
	Poison     Kind = "poison"     // an operation that kills is refused: Mount, Op, Text is the reproducer
	Divergence Kind = "divergence" // a replayed operation had another result: Mount, Op, Text
	Replayed   Kind = "replayed"   // a mount's journal was replayed: Mount, Replayed, Ns
	Mounted    Kind = "mount"      // by a process: Mount as it named it, Text is the type
	Unmounted  Kind = "unmount"    // by a process: Mount as it named it
	Halt       Kind = "halt"       // the kernel ends
)

// Event is something that happened. As JSON it is one object; fields that do not
// apply are absent.
type Event struct {
	Seq      uint64    `json:"seq"`  // set by Emit
	Time     int64     `json:"time"` // ns since 1970; set by Emit
	Kind     Kind      `json:"kind"`
	Instance string    `json:"instance,omitempty"` // of the component
	Pid      int       `json:"pid,omitempty"`
	Epoch    abi.Epoch `json:"epoch,omitempty"`
	Cause    string    `json:"cause,omitempty"`  // of a death: exit, panic, signal, killed, oom, hang, lie, closed
	Signal   string    `json:"signal,omitempty"` // that ended the process: "SIGKILL"
	Status   int       `json:"status,omitempty"` // exit status
	Calls    int       `json:"calls,omitempty"`  // in flight
	Op       string    `json:"op,omitempty"`     // the oldest of them
	Ns       int64     `json:"ns,omitempty"`     // how long it took
	Replayed int       `json:"replayed,omitempty"`
	Mount    string    `json:"mount,omitempty"`
	Text     string    `json:"text,omitempty"`
}

// Size is how many events are kept.
const Size = 4096

// maxText bounds the text of an event, in bytes.
const maxText = 512

// Log is the events of one kernel.
type Log struct {
	now func() time.Time
	sel event.Selinfo

	mu   sync.Mutex
	ring []Event // protected by mu; event n is at (n-1) % Size
	last uint64  // protected by mu
}

// New makes an empty log. now is the kernel's clock.
func New(now func() time.Time) *Log { return &Log{now: now} }

// Emit adds an event and answers its number. A nil Log drops it.
func (l *Log) Emit(e Event) uint64 {
	if l == nil {
		return 0
	}
	if len(e.Text) > maxText {
		e.Text = e.Text[:maxText]
	}
	e.Time = l.now().UnixNano()
	l.mu.Lock()
	l.last++
	e.Seq = l.last
	if len(l.ring) < Size {
		l.ring = append(l.ring, e)
	} else {
		l.ring[(e.Seq-1)%Size] = e
	}
	l.mu.Unlock()
	l.sel.Notify()
	return e.Seq
}

// Last is the number of the newest event, 0 if there was none.
func (l *Log) Last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// After answers at most max events with numbers above seq, the oldest first.
func (l *Log) After(seq uint64, max int) []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	if first := l.last - uint64(len(l.ring)); seq < first {
		seq = first
	}
	if seq >= l.last || max <= 0 {
		return nil
	}
	r := make([]Event, 0, min(l.last-seq, uint64(max)))
	for n := seq + 1; n <= l.last && len(r) < max; n++ {
		r = append(r, l.ring[(n-1)%Size])
	}
	return r
}

// Wait returns when there is an event above seq: EINTR or ETIMEDOUT if ctx ends
// before.
func (l *Log) Wait(ctx context.Context, seq uint64) error {
	return l.sel.Wait(ctx, func() error {
		if l.Last() <= seq {
			return abi.EAGAIN
		}
		return nil
	})
}
