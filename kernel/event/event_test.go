package event

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestNoLostEdge has a producer make a thing ready right between a waiter's
// looks, many times.
func TestNoLostEdge(t *testing.T) {
	var sel Selinfo
	var ready atomic.Int64
	const n = 20000
	go func() {
		for range n {
			ready.Add(1)
			sel.Notify()
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for got := int64(0); got < n; {
		err := sel.Wait(ctx, func() error {
			if r := ready.Load(); r > got {
				got = r
				return nil
			}
			return abi.EAGAIN
		})
		if err != nil {
			t.Fatalf("after %d of %d: %v", got, n, err)
		}
	}
	if len(sel.waiters) != 0 {
		t.Errorf("%d waiters left", len(sel.waiters))
	}
}

func TestWaitEnds(t *testing.T) {
	var sel Selinfo
	again := func() error { return abi.EAGAIN }
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := sel.Wait(ctx, again); err != abi.EINTR {
		t.Errorf("cancelled: %v", err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	if err := sel.Wait(ctx, again); err != abi.ETIMEDOUT {
		t.Errorf("deadline: %v", err)
	}
	if err := sel.Wait(ctx, func() error { return abi.EPIPE }); err != abi.EPIPE {
		t.Errorf("other errors pass: %v", err)
	}
}

func TestRecordTwice(t *testing.T) {
	var sel Selinfo
	w := NewWaiter()
	sel.Record(w)
	sel.Record(w)
	sel.Remove(w)
	sel.Notify()
	select {
	case <-w.C():
	default:
		t.Error("removed once, recorded twice, not woken")
	}
}
