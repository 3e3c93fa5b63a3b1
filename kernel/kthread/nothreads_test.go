package kthread

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestNoThreads: a table without threads refuses to create one, does work where
// it is enqueued, in order and one at a time, and runs soft interrupts when
// somebody polls.
func TestNoThreads(t *testing.T) {
	bubble(t, func(t *testing.T, tb *Table) {
		tb.Disable()
		ctx := context.Background()
		_, err := tb.Create("x", func(context.Context) { t.Error("it runs") })
		if !errors.Is(err, abi.EOPNOTSUPP) || !strings.Contains(err.Error(), "threads not available") {
			t.Errorf("create: %v", err)
		}

		var got []int
		var q *Workqueue
		inner := &Work{Arg: 9}
		hold, begun := make(chan struct{}), make(chan struct{})
		q, err = tb.NewWorkqueue("inline", func(_ context.Context, w *Work) {
			got = append(got, w.Arg.(int))
			switch w.Arg.(int) {
			case 1: // what comes up meanwhile is next
				if err := q.Enqueue(inner); err != nil {
					t.Error(err)
				}
			case 2:
				begun <- struct{}{}
				<-hold
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 1} {
			if err := q.Enqueue(&Work{Arg: n}); err != nil {
				t.Error(err)
			}
		}
		if fmt.Sprint(got) != "[0 1 9]" {
			t.Errorf("done %v", got)
		}
		w, late := &Work{Arg: 2}, &Work{Arg: 3}
		go func() { _ = q.Enqueue(w) }()
		<-begun
		if err := q.Enqueue(late); err != nil { // the one at work will do it
			t.Error(err)
		}
		if err := q.Enqueue(late); abi.ErrnoOf(err) != abi.EBUSY {
			t.Errorf("queued twice: %v", err)
		}
		c, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := q.Destroy(c); abi.ErrnoOf(err) != abi.EINTR {
			t.Errorf("destroy that gives up: %v", err)
		}
		close(hold)
		if err := q.Wait(ctx, late); err != nil {
			t.Error(err)
		}
		if err := q.Destroy(ctx); err != nil || fmt.Sprint(got) != "[0 1 9 2 3]" {
			t.Errorf("%v, done %v", err, got)
		}
		if err := q.Enqueue(w); abi.ErrnoOf(err) != abi.ESRCH {
			t.Errorf("queued after the end: %v", err)
		}

		runs, again := 0, true
		var s *Softint
		s, err = tb.Establish(SoftClock, func() {
			if runs++; again {
				again = false
				s.Schedule()
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		tb.Poll()
		s.Schedule()
		s.Schedule()
		synctest.Wait()
		if runs != 0 {
			t.Error("it runs before somebody polls")
		}
		tb.Poll()
		if runs != 2 {
			t.Errorf("%d runs", runs)
		}
		tb.Poll()
		s.Schedule()
		if err := s.Disestablish(ctx); err != nil {
			t.Error(err)
		}
		tb.Poll()
		if runs != 2 {
			t.Errorf("%d runs", runs)
		}
		if len(tb.Rows()) != 0 {
			t.Errorf("threads %v", tb.Rows())
		}
	})
}

// TestPollTogether: a soft interrupt that comes again while one who polls runs
// it is run again, by him, whoever polls meanwhile.
func TestPollTogether(t *testing.T) {
	bubble(t, func(t *testing.T, tb *Table) {
		tb.Disable()
		runs := 0
		hold, begun := make(chan struct{}), make(chan struct{})
		s, err := tb.Establish(SoftNet, func() {
			runs++
			begun <- struct{}{}
			<-hold
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Schedule()
		done := make(chan struct{})
		go func() { tb.Poll(); close(done) }()
		<-begun
		s.Schedule()
		tb.Poll() // does not run it a second time at once
		hold <- struct{}{}
		<-begun
		hold <- struct{}{}
		<-done
		if runs != 2 {
			t.Errorf("%d runs", runs)
		}
	})
}
