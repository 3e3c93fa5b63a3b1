package kernel_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// TestEvents: events come out of the kernel in order, one object a line, as
// many as have room; who waits gets the next one, or is interrupted.
func TestEvents(t *testing.T) {
	k := booted(t, kernel.Options{Modules: []modapi.Module{tmpfs.New(), misc{name: "extra"}}})
	c, err := k.Client("prog")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Exit()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	evs, last, err := c.Events(ctx, 0, false)
	if err != nil || len(evs) != 2 || last != evs[1].Seq {
		t.Fatalf("%+v, %d, %v", evs, last, err)
	}
	for i, e := range evs {
		if e.Kind != evlog.Started || e.Seq != uint64(i+1) || e.Time == 0 {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	if evs, _, err := c.Events(ctx, last, false); len(evs) != 0 || err != nil {
		t.Errorf("nothing new: %+v, %v", evs, err)
	}
	got := make(chan []evlog.Event, 1)
	go func() {
		evs, _, err := c.Events(ctx, last, true)
		if err != nil {
			t.Error(err)
		}
		got <- evs
	}()
	if err := c.Modunload(ctx, "extra", 0); err != nil {
		t.Fatal(err)
	}
	if evs := <-got; len(evs) != 1 || evs[0].Kind != evlog.Ended || evs[0].Seq != last+1 {
		t.Errorf("who waited has %+v", evs)
	}
	gone, end := context.WithCancel(ctx)
	end()
	if _, _, err := c.Events(gone, last+1, true); abi.ErrnoOf(err) != abi.EINTR {
		t.Errorf("interrupted: %v", err)
	}

	// As many as have room, whole ones only.
	a := &abi.Sysargs{Out: make([]byte, 10)}
	if err := c.Syscall(ctx, abi.SYS_events, a); abi.ErrnoOf(err) != abi.EINVAL {
		t.Errorf("no room: %v", err)
	}
	one, _ := json.Marshal(evs[0])
	a = &abi.Sysargs{Out: make([]byte, len(one)+20)}
	if err := c.Syscall(ctx, abi.SYS_events, a); err != nil || string(a.Out[:a.NO]) != string(one)+"\n" || a.R[1] != last+1 {
		t.Errorf("room for one: %q, %v, %v", a.Out[:a.NO], a.R, err)
	}
}
