//go:build linux

package ring

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// TestFairClients: one client that floods its ring with 64 callers does not
// keep eight polite ones, each with one call at a time on a ring of its own,
// from being served. What is bounded are counts, not times: how many calls the
// flooder gets while a polite client waits for one.
func TestFairClients(t *testing.T) {
	const polite, flooders = 8, 64
	work := stream.HandlerFunc(func(_ context.Context, r *stream.Request) {
		for range 2000 { // some microseconds
			pause(1)
		}
		r.Reply(0, nil, nil)
	})
	call := func(e *End, op wire.Op) bool {
		k := newCall(op)
		defer k.Release()
		if err := e.conn.Call(t.Context(), k); err != nil {
			t.Error(err)
			return false
		}
		return true
	}
	flooder, _ := both(t, work, stream.Options{})
	var flood atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range flooders {
		wg.Go(func() {
			for !stop.Load() && call(flooder, wire.OpGetattr) {
				flood.Add(1)
			}
		})
	}
	var all sync.Mutex
	var waited []int64
	var done atomic.Int32
	counts := make([]int64, polite)
	for i := range polite {
		e, _ := both(t, work, stream.Options{})
		wg.Go(func() {
			var own []int64
			for n := 0; n < 200; n++ {
				before := flood.Load()
				if !call(e, wire.OpGetattr) {
					break
				}
				own = append(own, flood.Load()-before)
				counts[i]++
			}
			all.Lock()
			waited = append(waited, own...)
			all.Unlock()
			if done.Add(1) == polite {
				stop.Store(true)
			}
		})
	}
	begin := time.Now()
	wg.Wait()
	slices.Sort(waited)
	n := len(waited)
	t.Logf("flooder: %d calls, polite ones: %v; calls of the flooder during one: median %d, 99%% %d, most %d; %v",
		flood.Load(), counts, waited[n/2], waited[n*99/100], waited[n-1], time.Since(begin))
	// A turn each would be 64 calls of the flooder to one of a polite client.
	for i, c := range counts {
		if c*4*flooders < flood.Load() {
			t.Errorf("client %d: %d calls, the flooder %d", i, c, flood.Load())
		}
	}
	if waited[n*99/100] > 30*flooders {
		t.Errorf("1 call in 100 waited for more than %d of the flooder", waited[n*99/100])
	}
}

// TestFairClasses: however many mutators are stuck, reads of the same mount go
// by the ring and are answered, and so are calls of every rank.
func TestFairClasses(t *testing.T) {
	leave := make(chan struct{})
	var entered atomic.Int32
	a, b := both(t, stream.HandlerFunc(func(_ context.Context, r *stream.Request) {
		if r.Header.Op == wire.OpCreate {
			entered.Add(1)
			<-leave
		}
		r.Reply(0, nil, nil)
	}), stream.Options{})
	for _, e := range []*End{a, b} { // the second one through an upcall's half
		entered.Store(0)
		leave = make(chan struct{})
		var wg sync.WaitGroup
		calls, full := e.cnt.Calls.Load(), e.cnt.Full.Load()
		const stuck = 300
		for i := range stuck {
			wg.Go(func() {
				k := newCall(wire.OpCreate)
				k.Header.Rank = uint8(i % 2)
				if err := e.conn.Call(context.Background(), k); err != nil {
					t.Error(err)
				}
				k.Release()
			})
		}
		const ring = general - spared + 2*reserved
		for entered.Load() < ring+64 || e.cnt.Calls.Load()-calls+e.cnt.Full.Load()-full < stuck { // 64: the stream's
			time.Sleep(time.Millisecond)
		}
		if n := e.cnt.Calls.Load() - calls; n != ring {
			t.Errorf("%d of the mutators went by the ring, not %d", n, ring)
		}
		before := e.cnt.Full.Load()
		for i := range 4 * ranks {
			k := newCall([]wire.Op{wire.OpGetattr, wire.OpRead, wire.OpRoot}[i%3])
			k.Header.Rank = uint8(i % ranks)
			k.Timeout = 20 * time.Second
			if err := e.conn.Call(t.Context(), k); err != nil {
				t.Errorf("%s of rank %d: %v", k.Header.Op, k.Header.Rank, err)
			}
			k.Release()
		}
		if n := e.cnt.Full.Load() - before; n != 0 {
			t.Errorf("%d calls found no room", n)
		}
		k := newCall(wire.OpCreate) // a mutator of another rank
		k.Header.Rank = 2
		go close(leave)
		if err := e.conn.Call(t.Context(), k); err != nil {
			t.Error(err)
		}
		k.Release()
		wg.Wait()
		allFree(t, e)
	}
}
