package supervise

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// A process hangs if calls wait for it and it makes no progress (replies,
// upcalls, ticks), although it could:
//
//   - it uses processor time all the while: an endless loop. The budget is the
//     class's, see hangCPU and SlowCPU. Calls of the class admin have none (a key
//     may be made of a passphrase), and what they and those of the class block
//     use is not held against others that wait for a processor at once;
//   - it is stopped (SIGSTOP, state T of proc(5)): it will never use any. A
//     process that a debugger holds (state t) is not taken for one;
//   - the deadline of the class passes (package stream), and it was not just
//     waiting for a processor: a deadlock.
//
// Wall time alone says nothing on a busy machine. Nor does processor time
// alone: the answer may be there, and nobody has read it yet, so that is looked
// after before a verdict, which takes two looks. Nobody looks while no call
// has waited for a few milliseconds.
//
// A judge looks at one process. It is its watcher's only.
type judge struct {
	c       subject
	p       probe
	cpu     time.Duration // budget of the classes spin and cpu
	slowCPU time.Duration // budget of the class block; 0: none
	last    uint64        // frames at the last look
	quiet   int           // looks without calls, in a row
	fast    since
	slow    since
	starved atomic.Bool // it lately got no processor; asked by anybody
}

// subject is the connection to the process: *stream.Conn.
type subject interface {
	Frames() uint64
	LastID() abi.ReqID
	Inflight(upto abi.ReqID) stream.Inflight
	Serving() bool
	Unread() bool
	Unwatch() bool
}

// probe is what the host's kernel knows of the process. False: it does not.
type probe interface {
	CPU() (time.Duration, bool)     // processor time used so far
	State() (byte, bool)            // of proc(5)
	Delayed() (time.Duration, bool) // time that its threads waited for a processor so far
}

// since is when a group of classes was last seen to get on.
type since struct {
	set      bool
	frames   uint64
	upto     abi.ReqID // the calls that were in flight then
	at       time.Time
	cpu      time.Duration
	cpuOK    bool
	delay    time.Duration // waited for a processor, up to delayAt
	delayAt  time.Time     // zero: not asked
	stopped  time.Time     // when it was first seen stopped; zero: it was not
	suspects int           // looks at which it was over its budget, in a row
}

// SlowCPU is how much processor time without progress a call of the class block
// may use, if a Supervisor is not told otherwise by whoever makes it: a loop over
// a large structure ends or ticks long before.
const SlowCPU = 2 * time.Second

// Budgets and the pace of looking.
const (
	hangCPU     = 100 * time.Millisecond // processor time without progress, of the classes spin and cpu
	besideSlow  = 3                      // times as much if other calls are in flight, which may be what uses it
	hangStopped = 100 * time.Millisecond // stopped, while a call waits
	stoppedSeen = 30 * time.Millisecond  // of these, at how long a distance that was seen
	minLook     = 2 * time.Millisecond
	firstLook   = 5 * time.Millisecond
	maxLook     = 20 * time.Millisecond
	lazyLook    = 250 * time.Millisecond // when calls have waited for longer than lazyAfter
	lazyAfter   = time.Second
	quietLooks  = 4
)

// look judges. hang is the verdict, nil as a rule; next is when to look again,
// 0 if there is nothing to look after until a call tells.
func (j *judge) look(now time.Time) (hang *stream.Hang, next time.Duration) {
	all := j.c.Inflight(^abi.ReqID(0))
	if all.Fast+all.Slow == 0 {
		j.fast.set, j.slow.set = false, false
		j.starved.Store(false)
		if j.quiet++; j.quiet >= quietLooks && j.c.Unwatch() {
			j.quiet = 0
			return nil, 0
		}
		return nil, maxLook
	}
	j.quiet = 0
	frames := j.c.Frames()
	if frames != j.last {
		j.last = frames
		j.starved.Store(false)
	}
	next = lazyLook
	for _, g := range []struct {
		s      *since
		fast   bool
		budget time.Duration
	}{{&j.fast, true, j.cpu}, {&j.slow, false, j.slowCPU}} {
		count := func(in stream.Inflight) (int, wire.Op) {
			if g.fast {
				return in.Fast, in.FastOp
			}
			return in.Slow, in.SlowOp
		}
		n, op := count(j.c.Inflight(g.s.upto))
		if !g.s.set || g.s.frames != frames || n == 0 {
			if n, _ := count(all); n > 0 && !g.s.set {
				next = min(next, firstLook)
			} else if n > 0 {
				next = min(next, maxLook)
			}
			j.begin(g.s, now, frames)
			continue
		}
		budget := g.budget
		switch {
		case g.fast && all.Slow > 0:
			budget *= besideSlow
		case !g.fast && all.Admin > 0:
			budget = 0
		}
		what, d := j.verdict(g.s, budget, now)
		if what == "" {
			next = min(next, d)
			continue
		}
		// What came meanwhile acquits it.
		if m, _ := count(j.c.Inflight(g.s.upto)); m != n || j.c.Frames() != frames || j.c.Unread() {
			next = min(next, maxLook)
			continue
		}
		return &stream.Hang{What: "no answer to " + op.String() + ", " + what}, 0
	}
	return nil, next
}

// begin starts the clock of a group anew.
func (j *judge) begin(s *since, now time.Time, frames uint64) {
	*s = since{set: true, frames: frames, upto: j.c.LastID(), at: now}
	s.cpu, s.cpuOK = j.p.CPU()
}

// verdict judges a group that has not got on since s. what is wrong with it, ""
// as a rule; d is when to look again.
func (j *judge) verdict(s *since, budget time.Duration, now time.Time) (what string, d time.Duration) {
	wall := now.Sub(s.at)
	d = min(max(wall, firstLook), maxLook)
	if wall > lazyAfter {
		d = lazyLook
		j.starving(s, now)
	}
	cpu, ok := j.p.CPU()
	if ok && s.cpuOK && budget > 0 && !j.c.Serving() {
		used := cpu - s.cpu
		switch {
		case used < budget:
			s.suspects = 0
			if used > 0 {
				d = min(d, max(minLook, budget-used))
			}
		case s.suspects == 0:
			s.suspects++
			return "", minLook
		default:
			return fmt.Sprintf("%v of processor time used", used.Round(time.Millisecond)), 0
		}
	}
	if st, ok := j.p.State(); !ok || st != 'T' {
		s.stopped = time.Time{}
		return "", d
	}
	if s.stopped.IsZero() {
		s.stopped = now
	}
	// It was stopped some time after the look before.
	if left := max(hangStopped-wall, stoppedSeen-now.Sub(s.stopped)); left > 0 {
		return "", min(d, max(left, minLook))
	}
	return "it is stopped", 0
}

// starving finds out whether the process just gets no processor: then the
// deadlines of its calls are put off.
func (j *judge) starving(s *since, now time.Time) {
	delay, ok := j.p.Delayed()
	switch {
	case !ok:
	case s.delayAt.IsZero():
		s.delay, s.delayAt = delay, now
	default:
		j.starved.Store(delay-s.delay > now.Sub(s.delayAt)/2)
	}
}
