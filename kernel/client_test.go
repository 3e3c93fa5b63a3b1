package kernel

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// TestEmbeddedMakesNoGarbage holds that a call of an embedded client, answered
// from the caches, allocates nothing.
func TestEmbeddedMakesNoGarbage(t *testing.T) {
	if testing.CoverMode() != "" {
		t.Skip("coverage counts")
	}
	ctx := context.Background()
	k := New(Options{Modules: []modapi.Module{tmpfs.New()}})
	if err := k.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	defer k.Reboot(ctx, 0)
	c, err := k.Client("test")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Exit()
	buf := make([]byte, 4096)
	if err := c.WriteFile(ctx, "/f", buf, 0o644); err != nil {
		t.Fatal(err)
	}
	fd, err := c.Open(ctx, "/f", abi.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() error{
		"getpid": func() error { _, err := c.Getpid(ctx); return err },
		"stat":   func() error { _, err := c.Stat(ctx, "/f"); return err },
		"pread":  func() error { _, err := c.Pread(ctx, fd, buf, 0); return err },
		"pwrite": func() error { _, err := c.Pwrite(ctx, fd, buf, 0); return err },
	} {
		if err := f(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// Under the race detector sync.Pool drops things at random.
		if n := testing.AllocsPerRun(200, func() { f() }); n != 0 && !raceEnabled {
			t.Errorf("%s makes %v allocations", name, n)
		}
	}
}

// TestCallCtx holds what the context of a call with a context of its own does.
func TestCallCtx(t *testing.T) {
	type key struct{}
	base := context.WithValue(context.Background(), key{}, "v")
	ended := func(ctx context.Context) {
		t.Helper()
		select {
		case <-ctx.Done():
		case <-time.After(60 * time.Second):
			t.Error("the context does not end")
		}
		if ctx.Err() == nil {
			t.Error("ended without an error")
		}
	}
	for _, early := range []bool{true, false} { // is anybody waiting when it ends?
		for _, who := range []string{"caller", "exit", "call", "deadline"} {
			caller, cancel := context.WithCancel(base)
			exit, leave := context.WithCancel(context.Background())
			if who == "deadline" {
				caller, cancel = context.WithDeadline(base, time.Now().Add(-time.Second))
			}
			x := &callCtx{Context: caller, exit: exit}
			if x.Value(key{}) != "v" || who != "deadline" && x.Err() != nil {
				t.Errorf("at the start: value %v, error %v", x.Value(key{}), x.Err())
			}
			parent := base
			if early {
				parent = x
			}
			sub, stop := context.WithCancel(parent) // asks a callCtx for Done
			defer stop()
			switch who {
			case "caller":
				cancel()
			case "exit":
				leave()
			case "call":
				x.end()
			}
			ended(x)
			want := context.Canceled
			if who == "deadline" {
				want = context.DeadlineExceeded
			}
			if !errors.Is(x.Err(), want) {
				t.Errorf("%s, early %v: %v, want %v", who, early, x.Err(), want)
			}
			if x.Value(key{}) != "v" {
				t.Errorf("%s: the value is lost", who)
			}
			if early {
				ended(sub)
			}
			x.end()
			cancel()
			leave()
		}
	}
}
