package kthread

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// bubble runs f with a table in a bubble of fake time; every goroutine must
// have ended when f returns and the table is closed.
func bubble(t *testing.T, f func(t *testing.T, tb *Table)) {
	synctest.Test(t, func(t *testing.T) {
		tb := New(nil)
		f(t, tb)
		if err := tb.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestTsleep is NetBSD's t_tsleep in short: a wakeup, a timeout, an
// interrupted sleep, one that is not interrupted, and sleeps by a mutex.
func TestTsleep(t *testing.T) {
	bubble(t, func(t *testing.T, tb *Table) {
		bg := context.Background()
		wchan := new(int)
		begin := time.Now()
		if err := tb.Tsleep(bg, wchan, 0, "timo", time.Second); err != abi.EWOULDBLOCK || time.Since(begin) != time.Second {
			t.Errorf("timeout: %v after %v", err, time.Since(begin))
		}
		errs := make(chan error, 10)
		go func() { errs <- tb.Tsleep(WithLwp(bg, 7, 3), wchan, 0, "wmesg", time.Minute) }()
		synctest.Wait()
		if s := tb.Sleeps(); len(s) != 1 || s[0] != (Sleep{7, 3, "wmesg"}) {
			t.Errorf("sleeps %v", s)
		}
		tb.Wakeup(new(string)) // another channel
		synctest.Wait()
		if len(errs) != 0 {
			t.Error("woken by another channel")
		}
		tb.Wakeup(wchan)
		if err := <-errs; err != nil {
			t.Errorf("woken: %v", err)
		}
		ctx, cancel := context.WithCancel(bg)
		go func() { errs <- tb.Tsleep(ctx, wchan, PCATCH, "catch", 0) }()
		synctest.Wait()
		cancel()
		if err := <-errs; err != abi.EINTR {
			t.Errorf("interrupted: %v", err)
		}
		go func() { errs <- tb.Tsleep(ctx, wchan, 0, "nocatch", 0) }()
		synctest.Wait()
		if len(errs) != 0 {
			t.Error("interrupted without PCATCH")
		}
		tb.Wakeup(wchan)
		if err := <-errs; err != nil {
			t.Errorf("not interrupted: %v", err)
		}
		if s := tb.Sleeps(); len(s) != 0 {
			t.Errorf("sleeps afterwards %v", s)
		}
	})
}

// TestWakeupOne wakes sleepers one by one, the one who has slept longest first.
func TestWakeupOne(t *testing.T) {
	bubble(t, func(t *testing.T, tb *Table) {
		order := make(chan int, 3)
		for i := range 3 {
			go func() {
				_ = tb.Tsleep(context.Background(), "w", 0, "one", 0)
				order <- i
			}()
			synctest.Wait()
		}
		for i := range 3 {
			tb.WakeupOne("w")
			if got := <-order; got != i {
				t.Errorf("woken %d, want %d", got, i)
			}
			synctest.Wait()
			if n := len(tb.Sleeps()); n != 2-i {
				t.Errorf("%d sleep, want %d", n, 2-i)
			}
		}
		tb.WakeupOne("w")
	})
}

// TestMtsleep: the mutex is free during the sleep and held after it, unless
// PNORELOCK; no wakeup by who takes it next is lost.
func TestMtsleep(t *testing.T) {
	bubble(t, func(t *testing.T, tb *Table) {
		var mu sync.Mutex
		n := 0
		done := make(chan bool)
		go func() {
			mu.Lock()
			for n < 100 {
				if err := tb.Mtsleep(context.Background(), &n, 0, "count", 0, &mu); err != nil {
					t.Error(err)
				}
			}
			done <- mu.TryLock()
			mu.Unlock()
		}()
		go func() {
			for range 100 {
				mu.Lock()
				n++
				tb.Wakeup(&n)
				mu.Unlock()
			}
		}()
		if <-done {
			t.Error("the mutex is free after the sleep")
		}
		synctest.Wait()
		mu.Lock()
		if err := tb.Mtsleep(context.Background(), &n, PNORELOCK, "drop", time.Second, &mu); err != abi.EWOULDBLOCK {
			t.Error(err)
		}
		if !mu.TryLock() {
			t.Error("the mutex is held in spite of PNORELOCK")
		}
	})
}

// TestThreads: names and wmesgs as ps shows them, lids, and the end.
func TestThreads(t *testing.T) {
	bubble(t, func(t *testing.T, tb *Table) {
		a, err := tb.Create("idler", func(ctx context.Context) { _ = tb.Tsleep(ctx, "i", PCATCH, "idle", 0) })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tb.Create("waiter", func(ctx context.Context) { <-ctx.Done() }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := fmt.Sprint(tb.Rows()); got != "[{1001 idler idle} {1002 waiter }]" {
			t.Errorf("rows %s", got)
		}
		if err := a.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if rows := tb.Rows(); len(rows) != 1 {
			t.Errorf("rows %v", rows)
		}
		if err := tb.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if _, err := tb.Create("late", nil); abi.ErrnoOf(err) != abi.ESRCH {
			t.Errorf("thread after the end: %v", err)
		}
		if err := tb.Tsleep(context.Background(), "w", 0, "late", 0); err != abi.EINTR {
			t.Errorf("sleep after the end: %v", err)
		}
	})
}

// TestWorkqueue is NetBSD's t_workqueue: work is done in order, waiting for
// work returns after it was done, work can be queued again, and destroying the
// queue does what is left.
func TestWorkqueue(t *testing.T) {
	bubble(t, func(t *testing.T, tb *Table) {
		ctx := context.Background()
		var mu sync.Mutex
		var got []int
		done := func() string { mu.Lock(); defer mu.Unlock(); return fmt.Sprint(got) }
		q, err := tb.NewWorkqueue("testwork", func(_ context.Context, w *Work) {
			time.Sleep(time.Second)
			mu.Lock()
			got = append(got, w.Arg.(int))
			mu.Unlock()
		})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if rows := tb.Rows(); len(rows) != 1 || rows[0].Name != "testwork" || rows[0].Wmesg != "testwork" {
			t.Errorf("rows %v", rows)
		}
		w := make([]Work, 5)
		for i := range w {
			w[i].Arg = i
			if err := q.Enqueue(&w[i]); err != nil {
				t.Error(err)
			}
		}
		if err := q.Enqueue(&w[4]); abi.ErrnoOf(err) != abi.EBUSY {
			t.Errorf("queued twice: %v", err)
		}
		if err := q.Wait(ctx, &w[2]); err != nil || done() != "[0 1 2]" {
			t.Errorf("waited: %v, done %v", err, done())
		}
		if err := q.Enqueue(&w[0]); err != nil {
			t.Error(err)
		}
		c, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		if err := q.Wait(c, &w[0]); abi.ErrnoOf(err) != abi.EINTR {
			t.Errorf("wait that gives up: %v", err)
		}
		if err := q.Destroy(ctx); err != nil {
			t.Error(err)
		}
		if done() != "[0 1 2 3 4 0]" {
			t.Errorf("done %v", done())
		}
		if err := q.Enqueue(&w[0]); abi.ErrnoOf(err) != abi.ESRCH {
			t.Errorf("queued after the end: %v", err)
		}
		if err := q.Wait(ctx, &w[0]); err != nil {
			t.Error(err)
		}
	})
}

// TestSoftint: two schedules before the run are one run, one during the run is
// another, disestablishing waits and leaves nothing.
func TestSoftint(t *testing.T) {
	bubble(t, func(t *testing.T, tb *Table) {
		ctx := context.Background()
		var runs atomic.Int32
		hold := make(chan struct{})
		begun := make(chan struct{})
		first, err := tb.Establish(SoftNet, func() { begun <- struct{}{}; <-hold })
		if err != nil {
			t.Fatal(err)
		}
		s, err := tb.Establish(SoftNet, func() { runs.Add(1) })
		if err != nil {
			t.Fatal(err)
		}
		first.Schedule()
		<-begun
		s.Schedule()
		s.Schedule() // coalesced: the level is busy
		first.Schedule()
		hold <- struct{}{}
		<-begun
		hold <- struct{}{}
		synctest.Wait()
		if runs.Load() != 1 {
			t.Errorf("%d runs, want 1", runs.Load())
		}
		if rows := tb.Rows(); len(rows) != 1 || rows[0].Name != "softnet/0" {
			t.Errorf("rows %v", rows)
		}
		first.Schedule()
		<-begun
		s.Schedule()
		go func() {
			time.Sleep(time.Second)
			hold <- struct{}{}
		}()
		c, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		if err := first.Disestablish(c); abi.ErrnoOf(err) != abi.ETIMEDOUT {
			t.Errorf("disestablish that gives up: %v", err)
		}
		if err := s.Disestablish(ctx); err != nil {
			t.Error(err)
		}
		if err := first.Disestablish(ctx); err != nil {
			t.Error(err)
		}
		s.Schedule()
		synctest.Wait()
		if runs.Load() != 1 {
			t.Error("it ran after it was taken away")
		}
		if _, err := tb.Establish(nlevels, nil); err != abi.EINVAL {
			t.Errorf("no level: %v", err)
		}
	})
}

// TestRunOnce: RUN_ONCE is sync.OnceValue: 100 goroutines, one run, the same
// answer for all, and none goes on before the run has ended.
func TestRunOnce(t *testing.T) {
	var runs atomic.Int32
	var ended atomic.Bool
	once := sync.OnceValue(func() error {
		runs.Add(1)
		defer ended.Store(true)
		return abi.ENXIO
	})
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if err := once(); err != abi.ENXIO || !ended.Load() {
				t.Errorf("%v, ended %v", err, ended.Load())
			}
		})
	}
	wg.Wait()
	if runs.Load() != 1 {
		t.Errorf("%d runs", runs.Load())
	}
}
