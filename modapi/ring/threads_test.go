//go:build linux

package ring

import (
	"context"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// TestThreads: many callers that wait for long take no threads, and do not keep
// the garbage collector waiting.
func TestThreads(t *testing.T) {
	leave := make(chan struct{})
	entered := make(chan struct{}, 100)
	a, _ := both(t, stream.HandlerFunc(func(_ context.Context, r *stream.Request) {
		entered <- struct{}{}
		<-leave
		r.Reply(0, nil, nil)
	}), stream.Options{})
	tasks := func() int {
		d, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(d)
	}
	before := tasks()
	const n = 60 // fewer than workers
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			k := newCall(wire.OpCreate)
			if err := a.conn.Call(t.Context(), k); err != nil {
				t.Error(err)
			}
			k.Release()
		})
	}
	for range n {
		<-entered
	}
	begin := time.Now()
	for range 5 {
		runtime.GC()
	}
	if d := time.Since(begin); d > time.Minute {
		t.Errorf("5 collections took %v", d)
	}
	if got := tasks(); got > before+20 {
		t.Errorf("%d threads, %d before", got, before)
	}
	close(leave)
	wg.Wait()
	allFree(t, a)
}

// TestNoGrowth: many calls leave nothing behind.
func TestNoGrowth(t *testing.T) {
	a, b := both(t, echo, stream.Options{})
	run := func(n int) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range n / 4 {
					k := newCall(wire.OpGetattr)
					k.Args = append(k.Args, "abc"...)
					if err := a.conn.Call(t.Context(), k); err != nil {
						t.Error(err)
						return
					}
					k.Release()
				}
			})
		}
		wg.Wait()
		runtime.GC()
	}
	var before, after runtime.MemStats
	fds := func() int { d, _ := os.ReadDir("/proc/self/fd"); return len(d) }
	run(2000)
	runtime.ReadMemStats(&before)
	f, g := fds(), runtime.NumGoroutine()
	run(rounds(40000))
	runtime.ReadMemStats(&after)
	if after.HeapObjects > before.HeapObjects+2000 {
		t.Errorf("%d objects, %d before", after.HeapObjects, before.HeapObjects)
	}
	if n := fds(); n > f {
		t.Errorf("%d descriptors, %d before", n, f)
	}
	if n := runtime.NumGoroutine(); n > g+8 {
		t.Errorf("%d goroutines, %d before", n, g)
	}
	allFree(t, a)
	allFree(t, b)
	if n := a.cnt.Rescued.Load(); n > 0 {
		t.Errorf("%d calls were rescued", n)
	}
}
