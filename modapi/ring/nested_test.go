//go:build linux

package ring

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// nestedHandler calls back as often as the object says before it answers, as a
// disk does that stands on another disk of the same process.
var nestedHandler = stream.HandlerFunc(func(ctx context.Context, r *stream.Request) {
	r.ReturnArgs()
	r.Reply(abi.ErrnoOf(nest(ctx, r.Conn(), r.Header.Object)), nil, nil)
})

// nest makes a call in which depth others are made, this way and that; 0: none.
func nest(ctx context.Context, c *stream.Conn, depth uint64) error {
	if depth == 0 {
		return nil
	}
	k := newCall(wire.OpBlkRead)
	defer k.Release()
	k.Header.Object = depth - 1
	k.Timeout = -1
	return c.Call(ctx, k)
}

// flood does n nested calls by each of some callers, and answers how long each
// took, in order.
func flood(tb testing.TB, c *stream.Conn, depth uint64, callers, n int) []time.Duration {
	all := make([][]time.Duration, callers)
	var wg sync.WaitGroup
	for g := range callers {
		wg.Go(func() {
			for range n {
				t := time.Now()
				if err := nest(context.Background(), c, depth); err != nil {
					tb.Error(err)
					return
				}
				all[g] = append(all[g], time.Since(t))
			}
		})
	}
	wg.Wait()
	d := slices.Concat(all...)
	slices.Sort(d)
	return d
}

// TestNested: calls made inside calls, both ways, are found by somebody at
// once and not when a time is over.
func TestNested(t *testing.T) {
	spareProcessors() // not while procs holds
	for _, procs := range []int{1, 2, 8} {
		t.Run(fmt.Sprint("procs", procs), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			a, b := both(t, nestedHandler, stream.Options{})
			ends := []*End{a, b}
			t.Run("here", func(t *testing.T) { nested(t, a.conn, ends) })
			c := otherServed(t, "ring", nestedHandler)
			e := c.Fast().(*End)
			t.Run("there", func(t *testing.T) { nested(t, c, []*End{e}) })
		})
	}
}

func nested(t *testing.T, c *stream.Conn, ends []*End) {
	for depth := uint64(1); depth <= 4; depth++ {
		for _, callers := range []int{1, 4, 16, 64} {
			var rings, late uint64
			for _, e := range ends {
				rings -= uint64(e.srv.rings.Load())
				late -= e.cnt.Late.Load()
			}
			n := max(4, rounds(400)/callers)
			d := flood(t, c, depth, callers, n)
			for _, e := range ends {
				rings += uint64(e.srv.rings.Load())
				late += e.cnt.Late.Load()
			}
			t.Logf("depth %d, %2d callers: half in %v, 99 %% in %v; late %d, rings %d", depth, callers, d[len(d)/2], d[len(d)*99/100], late, rings)
			calls := depth * uint64(callers*n)
			// With fewer processors than sleepers a call may wait for sysmon.
			if runtime.GOMAXPROCS(0) > 4 && late > 8+calls/50 {
				t.Errorf("%d of %d calls were taken late", late, calls)
			}
			if depth == 4 && rings > 8+calls/4 { // two of the four found the lead lent, before
				t.Errorf("%d of %d calls had to ring for somebody to serve them", rings, calls)
			}
		}
	}
}

// TestNothingAfterTheEnd: what is called when the connection has ended does not
// reach the peer any more, though the memory is still there: the caller has
// been told that the peer is dead, and asks another one.
func TestNothingAfterTheEnd(t *testing.T) {
	var served atomic.Int32
	h := stream.HandlerFunc(func(_ context.Context, r *stream.Request) {
		served.Add(1)
		r.Reply(0, nil, nil)
	})
	for range 50 {
		a, b := both(t, h, stream.Options{})
		a.conn.Close()
		k := newCall(wire.OpBlkIoctl)
		if err := a.conn.Call(t.Context(), k); !errors.As(err, new(*stream.Dead)) {
			t.Fatal(err)
		}
		k.Release()
		if a.conn.TrySend(wire.OpReady, 0, nil, nil) {
			t.Fatal("an edge was sent")
		}
		b.conn.Wait()
	}
	if n := served.Load(); n > 0 {
		t.Errorf("%d requests were served", n)
	}
}
