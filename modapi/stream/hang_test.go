package stream

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// TestNoProgress: a peer that lets the deadline of a call's class pass without
// a word has failed, whether the call could be given up or not, and also if its
// caller has gone. A peer that speaks, or waits for us, has not.
func TestNoProgress(t *testing.T) {
	quick := func(wire.Class) time.Duration { return 250 * time.Millisecond }
	for _, tc := range []struct {
		name string
		op   wire.Op
		ctx  time.Duration // 0: none
	}{
		{"read", wire.OpGetattr, 0},
		{"mutator", wire.OpCreate, 0},
		{"caller gone", wire.OpGetattr, 10 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x, _ := pair(t) // nobody at the other end
			a := start(t, x, nil, Options{Epoch: 1, Deadline: quick})
			ctx := t.Context()
			if tc.ctx > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, tc.ctx)
				defer cancel()
			}
			err := a.Call(ctx, call(tc.op))
			if want := abi.EIO; tc.ctx == 0 && !errors.Is(err, want) || tc.ctx > 0 && !errors.Is(err, abi.ETIMEDOUT) {
				t.Errorf("call: %v", err)
			}
			select {
			case <-a.Done():
			case <-time.After(60 * time.Second):
				t.Fatal("the peer is still trusted")
			}
			var h *Hang
			if !errors.As(a.Err(), &h) {
				t.Errorf("ended by %v", a.Err())
			}
		})
	}
	t.Run("speaks", func(t *testing.T) {
		b := newBlocker()
		x, y := pair(t)
		a := start(t, x, nil, Options{Deadline: quick})
		start(t, y, b, Options{})
		done := make(chan error, 1)
		go func() { done <- a.Call(t.Context(), call(wire.OpGetattr)) }()
		<-b.entered
		ping(t, a) // progress
		if err := <-done; !errors.Is(err, abi.ETIMEDOUT) {
			t.Error(err)
		}
		close(b.leave)
		ping(t, a)
	})
	t.Run("waits for us", func(t *testing.T) {
		b, up := newBlocker(), newBlocker()
		x, y := pair(t)
		a := start(t, x, up, Options{Epoch: 1, Deadline: quick})
		c := start(t, y, b, Options{Epoch: 1})
		upcall := make(chan error, 1)
		go func() { upcall <- c.Call(t.Context(), call(wire.OpCreate)) }()
		<-up.entered
		if err := a.Call(t.Context(), call(wire.OpGetattr)); !errors.Is(err, abi.ETIMEDOUT) {
			t.Error(err)
		}
		close(up.leave)
		if err := <-upcall; err != nil {
			t.Error(err)
		}
		close(b.leave)
		ping(t, a)
	})
}
