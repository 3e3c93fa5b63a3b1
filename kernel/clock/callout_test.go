package clock

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestCalloutFiresOnce: a scheduled callout runs its function once, at its
// time, and what it says of itself changes as it should.
func TestCalloutFiresOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := New(nil)
		var runs atomic.Int32
		begin := time.Now()
		var at time.Duration
		c := o.New(func() { runs.Add(1); at = time.Since(begin) })
		if c.Pending() || c.Expired() || c.Invoking() {
			t.Error("a new callout is pending, expired or invoking")
		}
		c.Schedule(time.Second)
		if !c.Pending() {
			t.Error("not pending")
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if runs.Load() != 1 || at != time.Second {
			t.Errorf("%d runs, the last after %v", runs.Load(), at)
		}
		if c.Pending() || !c.Expired() || c.Invoking() {
			t.Error("pending, not expired or invoking afterwards")
		}
		if !c.Stop() || c.Stop() {
			t.Error("stop answers that it had expired, once")
		}
		if o.fired.Load() != 1 || o.late.Load() != 0 {
			t.Errorf("fired %d, late %d", o.fired.Load(), o.late.Load())
		}
	})
}

// TestCalloutStopBeforeFire: a stopped callout does not run; a later schedule
// takes the place of an earlier one.
func TestCalloutStopBeforeFire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := New(nil)
		var got []string
		c := o.New(func() { got = append(got, "old") })
		c.Schedule(time.Second)
		if c.Stop() {
			t.Error("had expired")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		c.Schedule(time.Second)
		c.Reset(2*time.Second, func() { got = append(got, "new") })
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if len(got) != 1 || got[0] != "new" {
			t.Errorf("ran %v", got)
		}
		c.SetFunc(func() { got = append(got, "set") })
		c.Schedule(0)
		time.Sleep(time.Second)
		synctest.Wait()
		if len(got) != 2 || got[1] != "set" {
			t.Errorf("ran %v", got)
		}
	})
}

// TestCalloutHaltWaits: halt returns after the function, even if that schedules
// itself again; a halt that gives up says so.
func TestCalloutHaltWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := New(nil)
		var done atomic.Bool
		var c *Callout
		c = o.New(func() {
			c.Ack()
			time.Sleep(time.Minute)
			done.Store(true)
			c.Schedule(time.Second)
		})
		c.Schedule(time.Second)
		time.Sleep(2 * time.Second)
		if c.Invoking() {
			t.Error("invoking after the acknowledgement")
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := c.Halt(ctx); abi.ErrnoOf(err) != abi.ETIMEDOUT {
			t.Errorf("halt that gives up: %v", err)
		}
		if done.Load() {
			t.Error("done too early")
		}
		if _, err := c.Halt(context.Background()); err != nil || !done.Load() {
			t.Errorf("halt: %v, done %v", err, done.Load())
		}
		if c.Pending() {
			t.Error("pending after halt")
		}
		if o.block.Load() != 2 || o.fired.Load() != 1 {
			t.Errorf("block %d, fired %d", o.block.Load(), o.fired.Load())
		}
	})
}

// TestCalloutNotTwiceAtATime: what fires while it runs, runs afterwards.
func TestCalloutNotTwiceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most, runs int32
		var c *Callout
		c = New(nil).New(func() {
			if n := atomic.AddInt32(&now, 1); n > most {
				most = n
			}
			if atomic.AddInt32(&runs, 1) == 1 {
				c.Schedule(time.Second)
			}
			time.Sleep(5 * time.Second)
			atomic.AddInt32(&now, -1)
		})
		c.Schedule(time.Second)
		time.Sleep(time.Minute)
		synctest.Wait()
		if runs != 2 || most != 1 {
			t.Errorf("%d runs, %d at a time", runs, most)
		}
	})
}

func TestTicks(t *testing.T) {
	for d, want := range map[time.Duration]int64{0: 0, 1: 1, Tick: 1, Tick + 1: 2, time.Second: Hz} {
		if got := Ticks(d); got != want {
			t.Errorf("%v is %d ticks, want %d", d, got, want)
		}
	}
}

// TestCalloutDisabled: without a clock thread a callout stays pending.
func TestCalloutDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := New(nil)
		o.Disable()
		c := o.New(func() { t.Error("it fires") })
		c.Schedule(time.Second)
		time.Sleep(time.Minute)
		if !c.Pending() || c.Expired() {
			t.Error("it is not pending")
		}
		if c.Stop() || c.Pending() {
			t.Error("stop")
		}
	})
}
