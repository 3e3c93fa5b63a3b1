//go:build linux

package ring

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// twoWays runs a test over the ring, and over a stream without one.
func twoWays(t *testing.T, h stream.Handler, opt stream.Options, f func(t *testing.T, c *stream.Conn, e *End)) {
	t.Run("ring", func(t *testing.T) {
		a, _ := both(t, h, opt)
		f(t, a.conn, a)
		allFree(t, a)
	})
	t.Run("stream", func(t *testing.T) {
		x, y := pair(t)
		a, b := stream.New(x, nil, opt), stream.New(y, h, opt)
		defer func() { a.Close(); a.Wait(); b.Wait() }()
		f(t, a, nil)
	})
}

// TestBatch: every call of a batch gets its own answer, whatever its size, and
// those that cannot be sent their own error.
func TestBatch(t *testing.T) {
	h := stream.HandlerFunc(func(_ context.Context, r *stream.Request) {
		if r.Header.Object == 13 {
			r.Reply(abi.ENOENT, nil, nil)
			return
		}
		r.Reply(0, r.Args, abi.IovOf(r.Payload))
	})
	for _, calls := range []int{1000, 3} { // at a time on a stream
		twoWays(t, h, stream.Options{MaxCalls: calls}, func(t *testing.T, c *stream.Conn, _ *End) {
			var ks []*stream.Call
			var data, got [][]byte
			for i := range 120 {
				k := newCall([]wire.Op{wire.OpRoot, wire.OpGetattr, wire.OpUnpin, wire.OpMount}[i%4])
				k.Args = append(k.Args, byte(i))
				n := i * 50
				switch {
				case i%20 == 7:
					n = wire.MaxPayload
				case i == 50:
					n = wire.MaxPayload + 1
				case i == 70:
					k.Header.Object = 13
				}
				data, got = append(data, bytes.Repeat([]byte{byte(i)}, n)), append(got, make([]byte, n))
				k.SetPayload(data[i])
				k.Dst = abi.IovOf(got[i])
				ks = append(ks, k)
			}
			if err := c.Batch(t.Context(), ks); !errors.Is(err, abi.E2BIG) {
				t.Errorf("the first error is %v", err)
			}
			for i, k := range ks {
				want := abi.Errno(0)
				switch i {
				case 50:
					want = abi.E2BIG
				case 70:
					want = abi.ENOENT
				}
				if e := abi.ErrnoOf(k.Err()); e != want || e == 0 && (!bytes.Equal(data[i], got[i]) || string(k.Reply) != string(rune(i))) {
					t.Errorf("call %d: %v, %q", i, k.Err(), k.Reply)
				}
				k.Release()
			}
		})
	}
}

// TestBatchBells: a batch rings once at most, where calls ring each.
func TestBatchBells(t *testing.T) {
	const n = 30
	a, _ := both(t, echo, stream.Options{})
	asleep := func() { // the server has to be woken
		for v := a.out.word(offState).Load(); v != away; v = a.out.word(offState).Load() {
			time.Sleep(time.Millisecond)
		}
	}
	for range 20 {
		asleep()
		var ks []*stream.Call
		for range n {
			ks = append(ks, newCall(wire.OpRoot))
		}
		bells, calls, batches := a.cnt.Wakeups.Load(), a.cnt.Calls.Load(), a.cnt.Batches.Load()
		if err := a.conn.Batch(t.Context(), ks); err != nil {
			t.Fatal(err)
		}
		if b := a.cnt.Wakeups.Load() - bells; b != 1 {
			t.Errorf("%d bells", b)
		}
		if c := a.cnt.Calls.Load() - calls; c != n {
			t.Errorf("%d calls by the ring", c)
		}
		if c := a.cnt.Batches.Load() - batches; c != 1 {
			t.Errorf("%d batches", c)
		}
		for _, k := range ks {
			k.Release()
		}
	}
}

// TestBatchGivenUp: the calls of a batch whose caller gives up end, those that
// may be; those that are kept are answered. Together they take no longer than
// one of them may.
func TestBatchGivenUp(t *testing.T) {
	leave := make(chan struct{})
	var entered atomic.Int32
	h := stream.HandlerFunc(func(ctx context.Context, r *stream.Request) {
		entered.Add(1)
		if r.Header.Op.Keeps() {
			<-leave
		} else {
			<-ctx.Done()
		}
		r.Reply(0, nil, nil)
	})
	twoWays(t, h, stream.Options{}, func(t *testing.T, c *stream.Conn, _ *End) {
		leave = make(chan struct{})
		entered.Store(0)
		ctx, cancel := context.WithCancel(t.Context())
		var ks []*stream.Call
		for i := range 20 {
			ks = append(ks, newCall([]wire.Op{wire.OpGetattr, wire.OpUnpin}[i%2]))
		}
		go func() {
			for entered.Load() < 20 {
				time.Sleep(time.Millisecond)
			}
			cancel()
			close(leave)
		}()
		c.Batch(ctx, ks)
		for i, k := range ks {
			want := abi.EINTR
			if i%2 == 1 {
				want = 0
			}
			if e := abi.ErrnoOf(k.Err()); e != want {
				t.Errorf("call %d: %v", i, k.Err())
			}
		}

		leave = make(chan struct{})
		close(leave)
		ks = ks[:0]
		for range 20 {
			k := newCall(wire.OpGetattr)
			k.Timeout = 500 * time.Millisecond
			ks = append(ks, k)
		}
		begin := time.Now()
		if err := c.Batch(t.Context(), ks); abi.ErrnoOf(err) != abi.ETIMEDOUT {
			t.Error(err)
		}
		if d := time.Since(begin); d > 8*time.Second {
			t.Errorf("20 calls of at most 500 ms took %v", d)
		}
	})
}

// TestBatchDeath: when the peer dies every call of a batch ends.
func TestBatchDeath(t *testing.T) {
	var entered atomic.Int32
	h := stream.HandlerFunc(func(ctx context.Context, r *stream.Request) {
		if entered.Add(1) == 10 {
			r.Conn().Close()
		}
		<-ctx.Done()
		r.Drop()
	})
	twoWays(t, h, stream.Options{}, func(t *testing.T, c *stream.Conn, e *End) {
		entered.Store(0)
		var ks []*stream.Call
		for i := range 50 {
			ks = append(ks, newCall([]wire.Op{wire.OpGetattr, wire.OpUnpin}[i%2]))
		}
		c.Batch(t.Context(), ks)
		for i, k := range ks {
			var dead *stream.Dead
			if !errors.As(k.Err(), &dead) {
				t.Errorf("call %d: %v", i, k.Err())
			}
		}
		if e != nil { // nobody frees slots of a connection that has ended
			for j := range e.frees {
				e.frees[j].Store(^uint64(0))
			}
			e.parked[0].Store(0)
			e.parked[1].Store(0)
		}
	})
}
