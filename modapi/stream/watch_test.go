package stream

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// TestWatch: Busy is told once until Unwatch agrees, and Inflight counts what
// was begun before a moment, by kind.
func TestWatch(t *testing.T) {
	b := newBlocker()
	x, y := pair(t)
	busy := make(chan struct{}, 10)
	a := start(t, x, nil, Options{Epoch: 1, Busy: func() { busy <- struct{}{} }})
	start(t, y, b, Options{})
	done := make(chan error, 3)
	for i, op := range []wire.Op{wire.OpGetattr, wire.OpSockPoll, wire.OpCreate} {
		go func() { done <- a.Call(context.Background(), call(op)) }()
		<-b.entered
		if i == 0 {
			<-busy
		}
	}
	if a.Unwatch() || len(busy) != 0 {
		t.Errorf("unwatched while calls are in flight, or told again: %d", len(busy))
	}
	all := a.Inflight(a.LastID())
	if want := (Inflight{Fast: 1, Slow: 2, FastOp: wire.OpSockPoll, SlowOp: wire.OpGetattr}); all != want {
		t.Errorf("in flight %+v, not %+v", all, want)
	}
	if in := a.Inflight(a.LastID() - 1); in.Slow != 1 || in.Fast != 1 {
		t.Errorf("before the last: %+v", in)
	}
	if in := a.Inflight(0); in != (Inflight{}) {
		t.Errorf("before all: %+v", in)
	}
	close(b.leave)
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if !a.Unwatch() {
		t.Error("nothing is in flight, and it is watched")
	}
	ping(t, a)
	select {
	case <-busy:
	case <-time.After(30 * time.Second):
		t.Error("the next call is not told")
	}
}

// TestElsewhere: calls by another way count, and are told.
func TestElsewhere(t *testing.T) {
	x, _ := pair(t)
	busy := make(chan struct{}, 2)
	a := start(t, x, nil, Options{Epoch: 1, Busy: func() { busy <- struct{}{} }})
	frames := a.Frames()
	done := a.Elsewhere(wire.OpInit)
	<-busy
	if in := a.Inflight(a.LastID()); in.Slow != 1 || in.SlowOp != wire.OpInit || a.Unwatch() {
		t.Errorf("%+v", in)
	}
	done()
	if in := a.Inflight(a.LastID()); in != (Inflight{}) || !a.Unwatch() || a.Frames() == frames {
		t.Errorf("done: %+v", in)
	}
}

// TestLost: what was in flight at the end is remembered.
func TestLost(t *testing.T) {
	b := newBlocker()
	x, y := pair(t)
	a := start(t, x, nil, Options{Epoch: 1})
	start(t, y, b, Options{})
	done := make(chan error, 1)
	go func() { done <- a.Call(context.Background(), call(wire.OpCreate)) }()
	<-b.entered
	a.Fail(&Lie{What: "nothing"})
	if err := <-done; !errors.Is(err, abi.EIO) {
		t.Error(err)
	}
	if l := a.Lost(); l.Slow != 1 || l.SlowOp != wire.OpCreate {
		t.Errorf("lost %+v", l)
	}
	close(b.leave)
}

// TestUnread: an answer that nobody has read is seen.
func TestUnread(t *testing.T) {
	x, y := pair(t)
	if readable(x) {
		t.Error("nothing was written")
	}
	if _, err := y.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if !readable(x) {
		t.Error("what was written is not there")
	}
	x.Close()
	y.Close()
}

// TestExcuse: a peer that could not help it gets more time, but not for ever.
func TestExcuse(t *testing.T) {
	for _, op := range []wire.Op{wire.OpCreate, wire.OpGetattr} {
		x, _ := pair(t) // nobody at the other end
		var asked atomic.Int32
		a := start(t, x, nil, Options{Epoch: 1,
			Deadline: func(wire.Class) time.Duration { return 20 * time.Millisecond },
			Excuse:   func() bool { asked.Add(1); return true }})
		err := a.Call(t.Context(), call(op))
		if op.Keeps() && !errors.Is(err, abi.EIO) || !op.Keeps() && !errors.Is(err, abi.ETIMEDOUT) {
			t.Errorf("%s: %v", op, err)
		}
		select {
		case <-a.Done():
		case <-time.After(30 * time.Second):
			t.Fatal("it is excused for ever")
		}
		var h *Hang
		if n := asked.Load(); !errors.As(a.Err(), &h) || n < patience-1 {
			t.Errorf("%s: asked %d times, ended by %v", op, n, a.Err())
		}
	}
}

// TestTicker: a handler's context has what Options.Base has.
func TestTicker(t *testing.T) {
	x, y := pair(t)
	var ticks atomic.Int32
	base := modapi.WithTicker(context.Background(), func() { ticks.Add(1) })
	a := start(t, x, nil, Options{Epoch: 1})
	start(t, y, HandlerFunc(func(ctx context.Context, r *Request) {
		modapi.Tick(ctx)
		r.Reply(0, nil, nil)
	}), Options{Base: base})
	if err := a.Call(t.Context(), call(wire.OpGetattr)); err != nil {
		t.Fatal(err)
	}
	if n := ticks.Load(); n != 1 {
		t.Errorf("%d ticks", n)
	}
	modapi.Tick(t.Context()) // nobody listens
}
