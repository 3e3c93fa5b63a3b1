package evlog

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func newLog() *Log { return New(func() time.Time { return time.Unix(1, 5) }) }

// TestRing: numbers rise by one, the oldest are dropped, a reader sees the gap.
func TestRing(t *testing.T) {
	l := newLog()
	if l.Last() != 0 || len(l.After(0, 10)) != 0 {
		t.Error("a new log has events")
	}
	for i := range Size + 100 {
		if n := l.Emit(Event{Kind: Died, Pid: i, Text: strings.Repeat("x", 2*maxText)}); n != uint64(i+1) {
			t.Fatalf("event %d has number %d", i, n)
		}
	}
	for _, tc := range []struct {
		after uint64
		max   int
		first uint64
		n     int
	}{
		{0, 1 << 20, 101, Size}, {0, 3, 101, 3}, {100, 3, 101, 3}, {101, 3, 102, 3},
		{Size + 99, 3, Size + 100, 1}, {Size + 100, 3, 0, 0}, {1 << 63, 3, 0, 0}, {0, 0, 0, 0}, {0, -1, 0, 0},
	} {
		evs := l.After(tc.after, tc.max)
		if len(evs) != tc.n || tc.n > 0 && evs[0].Seq != tc.first {
			t.Errorf("after %d: %d events", tc.after, len(evs))
		}
		for i, e := range evs {
			if e.Seq != tc.first+uint64(i) || e.Pid != int(e.Seq)-1 || e.Time != 1e9+5 || len(e.Text) != maxText {
				t.Fatalf("after %d, event %d is %d of %d", tc.after, i, e.Seq, e.Pid)
			}
		}
	}
	var none *Log
	none.Emit(Event{})
}

// TestWait: who waits gets every event, in order, and goes when he must.
func TestWait(t *testing.T) {
	l := newLog()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const each, writers = 200, 4
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				l.Emit(Event{Kind: Started})
			}
		})
	}
	var last uint64
	for last < each*writers {
		if err := l.Wait(ctx, last); err != nil {
			t.Fatal(err)
		}
		for _, e := range l.After(last, 7) {
			if e.Seq != last+1 {
				t.Fatalf("event %d after %d", e.Seq, last)
			}
			last = e.Seq
		}
	}
	wg.Wait()
	gone, end := context.WithCancel(ctx)
	end()
	if err := l.Wait(gone, last); !errors.Is(err, abi.EINTR) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestJSON: the names that programs rely on.
func TestJSON(t *testing.T) {
	b, err := json.Marshal(Event{Seq: 1, Time: 2, Kind: Died, Instance: "vfs", Pid: 3, Epoch: 4, Cause: "exit", Signal: "SIGILL",
		Status: 5, Calls: 6, Op: "lookup", Ns: 7, Replayed: 8, Mount: "/", Text: "x"})
	want := `{"seq":1,"time":2,"kind":"died","instance":"vfs","pid":3,"epoch":4,"cause":"exit","signal":"SIGILL","status":5,"calls":6,"op":"lookup","ns":7,"replayed":8,"mount":"/","text":"x"}`
	if err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
	if b, _ := json.Marshal(Event{Seq: 1, Kind: Halt}); string(b) != `{"seq":1,"time":0,"kind":"halt"}` {
		t.Errorf("%s", b)
	}
}
