package dispatch_test

import (
	"context"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/dispatch"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// TestTick: a handler that says that it gets on is heard before it answers, but
// however often it says so, not with a frame each time.
func TestTick(t *testing.T) {
	heard := make(chan struct{})
	const ticks = 10000
	m := &mod{init: func(k modapi.Kernel) error {
		return k.Syscall(700, func(ctx context.Context, _ *abi.Caller, _ [6]uint64, _ []byte, _ int) (uint64, []byte, error) {
			for range ticks {
				modapi.Tick(ctx)
			}
			select {
			case <-heard:
			case <-ctx.Done():
			}
			return 0, nil, nil
		})
	}}
	s := dispatch.New([]modapi.Module{m}, dispatch.Options{})
	h := serve(t, s)
	if e := errno(t, s, life(wire.OpInit, 0, initArgs)); e != 0 {
		t.Fatal(e)
	}
	frames := h.Frames()
	done := make(chan error, 1)
	go func() {
		k := stream.GetCall()
		defer k.Release()
		k.Header.Op, k.Header.Object = wire.OpModSyscall, 700
		k.Args = (&wire.ModSyscallReq{Caller: &abi.Caller{Cred: abi.Root}}).Append(k.Args)
		done <- h.Call(context.Background(), k)
	}()
	limit := time.After(30 * time.Second)
	for n := 0; n == 0; {
		select {
		case <-h.came:
			h.mu.Lock()
			n = len(h.frames[wire.OpTick])
			h.mu.Unlock()
		case <-limit:
			t.Fatal("no tick came")
		}
	}
	if h.Frames() == frames {
		t.Error("a tick is no progress")
	}
	close(heard)
	if err := <-done; err != nil {
		t.Error(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.frames[wire.OpTick]); n > ticks/10 {
		t.Errorf("%d frames for %d ticks", n, ticks)
	}
}
