// Package clock has the kernel's timeouts: callout(9).
//
// A callout is a function that runs once after a time. It is made for a kernel's
// Callouts, scheduled, and runs in a goroutine of its own unless it is stopped
// before:
//
//	c := callouts.New(func() { ... })
//	c.Schedule(time.Second)
//	c.Stop()             // may come too late: the function may be running
//	c.Halt(ctx)          // waits until it does not run any more
//
// The words are NetBSD's. Pending: scheduled, not yet fired. Expired: fired
// since it was last scheduled or stopped. Invoking: the function runs and has
// not called Ack. One callout never runs twice at a time: if it fires while it
// runs, it runs again afterwards. The function must not sleep for long, because
// whoever halts it waits; what has to sleep goes to a workqueue (package
// kthread). It may schedule or stop its own callout, not halt it.
//
// The timers are Go's, so that there is no wheel and no tick; Hz is what
// programs that count in ticks are told.
//
// Event counters, group callout: fired; late, for those that ran more than one
// tick behind their time; block, for halts that had to wait.
//
// Locks: Callout.mu is a leaf; the function is called without it.
package clock

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Hz is how many ticks a second has (hz).
const Hz = 100

// Tick is the length of a tick.
const Tick = time.Second / Hz

// Ticks converts a duration to ticks, rounding up as mstohz does.
func Ticks(d time.Duration) int64 { return int64((d + Tick - 1) / Tick) }

// Callouts makes the callouts of one kernel and counts what becomes of them.
type Callouts struct {
	none               atomic.Bool // there is no clock thread
	fired, late, block *modapi.Counter
}

// New makes the callouts of a kernel (callout_startup). evcnt makes event
// counters; nil: counters that nobody sees.
func New(evcnt func(group, name string) *modapi.Counter) *Callouts {
	if evcnt == nil {
		evcnt = func(string, string) *modapi.Counter { return new(modapi.Counter) }
	}
	return &Callouts{fired: evcnt("callout", "fired"), late: evcnt("callout", "late"), block: evcnt("callout", "block")}
}

// Disable is RUMP_THREADS=0: as in the seed there is no clock thread, and what
// is scheduled stays pending and never fires.
func (o *Callouts) Disable() { o.none.Store(true) }

// Disabled reports whether callouts never fire.
func (o *Callouts) Disabled() bool { return o.none.Load() }

// Callout is one timeout (callout_t).
type Callout struct {
	of *Callouts

	mu       sync.Mutex
	fn       func()
	timer    *time.Timer
	gen      uint64    // of the last Schedule or Stop: older timers do nothing
	due      time.Time // of the last Schedule
	pending  bool
	expired  bool
	invoking bool
	running  bool
	again    bool          // fired while it was running
	idle     chan struct{} // closed when it stops running; made when somebody waits
}

// New makes a callout for fn (callout_init, callout_setfunc).
func (o *Callouts) New(fn func()) *Callout { return &Callout{of: o, fn: fn} }

// SetFunc changes the function of the runs to come (callout_setfunc).
func (c *Callout) SetFunc(fn func()) {
	c.mu.Lock()
	c.fn = fn
	c.mu.Unlock()
}

// Schedule lets the function run after d, instead of when it was to run before
// (callout_schedule).
func (c *Callout) Schedule(d time.Duration) {
	c.mu.Lock()
	c.scheduleLocked(d)
	c.mu.Unlock()
}

// Reset is SetFunc and Schedule in one (callout_reset).
func (c *Callout) Reset(d time.Duration, fn func()) {
	c.mu.Lock()
	c.fn = fn
	c.scheduleLocked(d)
	c.mu.Unlock()
}

func (c *Callout) scheduleLocked(d time.Duration) {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.gen++
	gen := c.gen
	c.pending, c.expired, c.again = true, false, false
	if c.of.none.Load() {
		return
	}
	c.due = time.Now().Add(d)
	c.timer = time.AfterFunc(d, func() { c.fire(gen) })
}

// fire is called by the timer of generation gen.
func (c *Callout) fire(gen uint64) {
	c.mu.Lock()
	if gen != c.gen || !c.pending {
		c.mu.Unlock()
		return
	}
	c.pending, c.expired = false, true
	c.of.fired.Inc()
	if time.Since(c.due) > Tick {
		c.of.late.Inc()
	}
	if c.running {
		c.again = true
		c.mu.Unlock()
		return
	}
	c.running = true
	for {
		fn := c.fn
		c.again, c.invoking = false, true
		c.mu.Unlock()
		if fn != nil {
			fn()
		}
		c.mu.Lock()
		c.invoking = false
		if !c.again {
			break
		}
	}
	c.running = false
	if c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
	c.mu.Unlock()
}

// Stop takes the callout back and reports whether it had expired already
// (callout_stop). It does not wait for a function that is running.
func (c *Callout) Stop() (expired bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopLocked()
}

func (c *Callout) stopLocked() bool {
	expired := c.expired
	c.gen++
	c.pending, c.expired, c.again = false, false, false
	if c.timer != nil {
		c.timer.Stop()
	}
	return expired
}

// Halt is Stop and waits until the function has returned (callout_halt). A
// function that schedules its callout again while it is being halted is
// stopped again. EINTR or ETIMEDOUT when ctx ends first.
func (c *Callout) Halt(ctx context.Context) (expired bool, err error) {
	c.mu.Lock()
	expired = c.stopLocked()
	for waited := false; c.running; waited = true {
		if !waited {
			c.of.block.Inc()
		}
		if c.idle == nil {
			c.idle = make(chan struct{})
		}
		idle := c.idle
		c.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
			return expired, abi.ErrnoOf(ctx.Err())
		}
		c.mu.Lock()
		c.stopLocked()
	}
	c.mu.Unlock()
	return expired, nil
}

// Pending reports whether it is to fire yet (callout_pending).
func (c *Callout) Pending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending
}

// Expired reports whether it has fired since it was scheduled
// (callout_expired).
func (c *Callout) Expired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.expired
}

// Invoking reports whether the function runs and has not called Ack
// (callout_invoking).
func (c *Callout) Invoking() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.invoking
}

// Ack is called by the function to say that it has begun (callout_ack).
func (c *Callout) Ack() {
	c.mu.Lock()
	c.invoking = false
	c.mu.Unlock()
}
