package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
)

// fault is one fault of the plan of a round.
type fault struct {
	victim string
	order  order         // without the pid
	again  []order       // to the processes that take over, one after the other
	pause  time.Duration // before it
	calls  int64         // system calls to be answered before it, besides
}

func (f fault) kindName() string {
	s := f.order.kind.String()
	for _, a := range f.again {
		s += "+" + a.kind.String()
	}
	return s
}

func (f fault) momentName() string {
	s := f.order.moment.String()
	for _, a := range f.again {
		s += "+" + a.moment.String()
	}
	return s
}

// slow reports whether a fault takes seconds to be found out: no processor time
// is used in a deadlock, and memory takes time to fill.
func (k kind) slow() bool { return k == kDeadlock || k == kLoop || k == kBomb }

// plan makes the faults of a round. slow is how many of them may take long.
func plan(rng *rand.Rand, n, slow int, rig rigKind) []fault {
	var fs []fault
	for range n {
		f := fault{victim: "vfs"}
		switch k := rng.IntN(10); {
		case k == 0:
			f.victim = "net"
		case k <= 2 && rig != rigMd:
			f.victim = "dev"
		}
		f.order = inside(rng, f.victim)
		if f.order.kind.slow() {
			if slow == 0 {
				f.order = order{kind: kSIGKILL}
			} else {
				slow--
			}
		}
		if f.victim == "vfs" && rng.IntN(4) == 0 {
			// Only kills: another death during the same request that can be blamed on
			// it would make it a poison, and EIO its right answer.
			for range 1 + rng.IntN(2) {
				o := order{kind: kKill, moment: []moment{mInit, mMount, mMounted, mReplay, mReplay}[rng.IntN(5)], nth: uint16(1 + rng.IntN(2))}
				if o.moment == mReplay {
					o.nth = uint16(1 + rng.IntN(12))
				}
				f.again = append(f.again, o)
			}
		}
		switch rng.IntN(4) {
		case 0:
			f.pause = time.Duration(rng.Int64N(int64(5 * time.Millisecond)))
		case 1, 2:
			f.calls = rng.Int64N(2000)
		case 3:
			f.calls = rng.Int64N(100)
		}
		fs = append(fs, f)
	}
	return fs
}

// inside is a fault without what comes after it.
func inside(rng *rand.Rand, victim string) order {
	switch k := rng.IntN(20); {
	case k < 6:
		return order{kind: kSIGKILL}
	case k < 8:
		return order{kind: kSIGSTOP}
	}
	o := order{nth: uint16(1 + rng.IntN(8))}
	ks := []kind{kKill, kKill, kPanic, kPanic, kExit, kAbort, kStop, kBomb}
	o.kind = ks[rng.IntN(len(ks))]
	switch victim {
	case "net":
		o.moment = []moment{mBefore, mAfter, mRead}[rng.IntN(3)]
	case "dev":
		o.moment = mRead
	default:
		o.moment = []moment{mBefore, mBefore, mBefore, mAfter, mAfter, mAfter, mRead, mCheckpoint, mCheckpoints}[rng.IntN(9)]
		if o.moment >= mCheckpoint {
			o.nth = 1
		}
	}
	if victim != "dev" && rng.IntN(12) == 0 { // what is judged by 100 ms of processor time, or by 5 s
		o.moment = mQuick
		if o.kind = kLoop; rng.IntN(4) == 0 {
			o.kind = kDeadlock
		}
	}
	return o
}

// watcher follows the events of a kernel.
type watcher struct {
	c    *rumpclient.Client
	last uint64
	evs  []rumpclient.Event // not yet looked at
}

func newWatcher(ctx context.Context, c *rumpclient.Client) (*watcher, error) {
	_, last, err := c.Events(ctx, 0, false)
	return &watcher{c: c, last: last}, err
}

// next waits for an event for which f holds; those before it are forgotten.
func (w *watcher) next(ctx context.Context, f func(rumpclient.Event) bool) (rumpclient.Event, error) {
	for {
		for i, e := range w.evs {
			if f(e) {
				w.evs = w.evs[i+1:]
				return e, nil
			}
		}
		w.evs = nil
		more, _, err := w.c.Events(ctx, w.last, true)
		if err != nil {
			return rumpclient.Event{}, err
		}
		for _, e := range more {
			w.last = e.Seq
		}
		w.evs = more
	}
}

// struck is what came of a fault.
type struck struct {
	skipped  bool          // nobody came by the moment
	deaths   int           // processes that ended
	recovery time.Duration // from the fault until the component had recovered
	own      time.Duration // from its being known
}

// reach is how long a moment may stay away before the fault is left out.
const reach = 2 * time.Second

// strike does a fault and waits until its victim has recovered.
func (r *round) strike(ctx context.Context, f fault) (s struck, err error) {
	pg, h := r.rig.pages[f.victim], r.hurts[f.victim]
	pid := uint32(pg.newest.Load())
	if pid <= 1 {
		return s, fmt.Errorf("%s has no process", f.victim)
	}
	h.begin()
	defer h.end()
	var began time.Time
	given := false // an order to a process that takes over
	chain := func(not uint32, rest []order) {
		if given = len(rest) > 0; given {
			o := rest[0]
			o.not = not
			pg.give(o)
		}
	}
	if f.order.moment == mAny {
		chain(pid, f.again)
		began = time.Now()
		sig := syscall.SIGKILL
		if f.order.kind == kSIGSTOP {
			sig = syscall.SIGSTOP
		}
		if err := syscall.Kill(int(pid), sig); err != nil {
			return s, fmt.Errorf("%v of %s, process %d: %w", sig, f.victim, pid, err)
		}
	} else {
		pg.give(f.order)
		for end := time.Now().Add(reach); pg.fired.Load() == 0; time.Sleep(50 * time.Microsecond) {
			if time.Now().After(end) && pg.take() {
				return struck{skipped: true}, nil
			}
		}
		began = time.Now()
		pid = uint32(pg.fired.Load())
		chain(pid, f.again)
	}
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	died := map[int]bool{}
	rest := f.again
	for {
		e, err := r.watch.next(limit, func(e rumpclient.Event) bool {
			return e.Instance == f.victim && (e.Kind == evlog.Died || e.Kind == evlog.Recovered || e.Kind == evlog.Degraded || e.Kind == evlog.Failed || e.Kind == evlog.Poison || e.Kind == evlog.Divergence) ||
				e.Kind == evlog.Poison || e.Kind == evlog.Divergence
		})
		if err != nil {
			return s, fmt.Errorf("%s does not recover: %w", f.victim, err)
		}
		switch e.Kind {
		case evlog.Died:
			died[e.Pid] = true
			if s.deaths++; given && uint32(pg.fired.Load()) == uint32(e.Pid) {
				rest = rest[1:]
				chain(uint32(e.Pid), rest)
			}
			continue
		case evlog.Recovered:
			if died[e.Pid] || len(died) == 0 {
				continue
			}
			s.recovery, s.own = time.Since(began), time.Duration(e.Ns)
			if given && !pg.take() { // otherwise nobody came by the moment
				for pg.fired.Load() == 0 {
					time.Sleep(10 * time.Microsecond)
				}
				if uint32(pg.fired.Load()) == uint32(e.Pid) {
					continue // it dies now; another is one that stood by
				}
			}
			return s, nil
		}
		return s, fmt.Errorf("%s: %s: %s %s", f.victim, e.Kind, e.Op, e.Text)
	}
}
