package kernel

import (
	"context"
	"net"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/kernel/sysproxy"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/ring"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// TestRemoteMakesNoGarbage holds that a call of a remote client that is
// answered from the caches allocates nothing, neither here nor there: both
// sides are in this process.
func TestRemoteMakesNoGarbage(t *testing.T) {
	if testing.CoverMode() != "" || raceEnabled {
		t.Skip("coverage counts, and the race detector makes sync.Pool drop things")
	}
	if !ring.Enabled() {
		t.Skip("no rings")
	}
	ctx, cancel := context.WithCancel(context.Background())
	k := New(Options{Modules: []modapi.Module{tmpfs.New()}})
	if err := k.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	defer k.Reboot(context.Background(), 0)
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		served <- sysproxy.Serve(ctx, l, sysproxy.Options{NewProc: func(_ context.Context, p sysproxy.Peer) (sysproxy.Proc, error) {
			return k.NewProc(p.Name, abi.Root)
		}})
	}()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	c, err := rumpclient.Open(ctx, "unix://"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Exit()
	bg := context.Background()
	buf := make([]byte, 4096)
	if err := c.WriteFile(bg, "/f", buf, 0o644); err != nil {
		t.Fatal(err)
	}
	fd, err := c.Open(bg, "/f", abi.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() error{
		"getpid": func() error { _, err := c.Getpid(bg); return err },
		"stat":   func() error { _, err := c.Stat(bg, "/f"); return err },
		"fstat":  func() error { _, err := c.Fstat(bg, fd); return err },
		"pread":  func() error { _, err := c.Pread(bg, fd, buf, 0); return err },
		"pwrite": func() error { _, err := c.Pwrite(bg, fd, buf, 0); return err },
		"lseek":  func() error { _, err := c.Lseek(bg, fd, 0, 0); return err },
	} {
		const n = 2000
		var before, after runtime.MemStats
		run := func() {
			for range n {
				if err := f(); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
		}
		run()
		// A garbage collection empties the pools, and who parks makes a little:
		// what the call itself makes, it makes every time.
		least := float64(n)
		for i := 0; i < 10 && least > 0.2; i++ {
			runtime.ReadMemStats(&before)
			run()
			runtime.ReadMemStats(&after)
			least = min(least, float64(after.Mallocs-before.Mallocs)/n)
		}
		if least > 0.2 {
			t.Errorf("%s makes %.2f allocations", name, least)
		}
	}
}
