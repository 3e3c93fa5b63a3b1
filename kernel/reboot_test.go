package kernel_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// unfinished are the goroutines of modules that a panicked kernel does not
// finish, bound in this process as they are.
var unfinished = goleak.IgnoreAnyFunction("gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*processor).start")

// TestReboot: what each howto does, as the seed's rump_reboot.
func TestReboot(t *testing.T) {
	const inits = "init tmpfs, init inet, init mem, init extra"
	const orderly = inits + ", fini extra, fini mem, fini inet, fini tmpfs"
	const unsynced = inits + ", fini extra, fini mem, fini inet, fini tmpfs: " // EBUSY: it is still mounted
	for _, tc := range []struct {
		name  string
		howto int
		diary string
		state kernel.State
		says  string
		parks bool
	}{
		{"autoboot", abi.RB_AUTOBOOT, orderly, kernel.Done, "rump kernel halting...", false},
		{"nosync", abi.RB_NOSYNC, unsynced, kernel.Done, "rump kernel halting...", false},
		{"halt", abi.RB_HALT, orderly, kernel.Done, "rump kernel halted (with RB_HALT, not exiting)", true},
		{"halt nosync", abi.RB_HALT | abi.RB_NOSYNC, unsynced, kernel.Done, "rump kernel halted (with RB_HALT, not exiting)", true},
		{"dump", abi.RB_DUMP, inits, kernel.Panicked, "nothing is synced", false},
		{"dump wins", abi.RB_DUMP | abi.RB_HALT, inits, kernel.Panicked, "nothing is synced", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			leaks := goleak.IgnoreCurrent()
			var d diary
			k := kernel.New(kernel.Options{Modules: all(&d)})
			if err := k.Boot(t.Context()); err != nil {
				t.Fatal(err)
			}
			c, err := k.Client("test")
			if err != nil {
				t.Fatal(err)
			}
			if err := c.WriteFile(t.Context(), "/x", []byte("text"), 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var wg sync.WaitGroup
			for range 3 { // who comes second waits for the same end
				wg.Go(func() { k.Reboot(ctx, tc.howto) })
			}
			if tc.parks {
				for end := time.Now().Add(60 * time.Second); k.State() != kernel.Halted; time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("not halted: %s", k.State())
					}
				}
				select {
				case <-k.Done():
					t.Error("it went on by itself")
				case <-time.After(20 * time.Millisecond):
				}
				cancel()
			}
			wg.Wait()
			<-k.Done()
			if s := d.String(); s != tc.diary && !(tc.diary == unsynced && strings.HasPrefix(s, unsynced)) {
				t.Errorf("%s, wanted %s", s, tc.diary)
			}
			if k.State() != tc.state || !strings.Contains(dmesg(k), tc.says) {
				t.Errorf("%s, dmesg:\n%s", k.State(), dmesg(k))
			}
			if err := c.Chdir(t.Context(), "/"); !errors.Is(err, abi.ESRCH) {
				t.Errorf("a call after the end: %v", err)
			}
			if _, err := k.Client("late"); !errors.Is(err, abi.ESRCH) {
				t.Errorf("a client after the end: %v", err)
			}
			c.Exit()
			opts := []goleak.Option{leaks}
			if tc.state == kernel.Panicked {
				opts = append(opts, unfinished)
			}
			goleak.VerifyNone(t, opts...)
		})
	}
}

// TestRebootCall: reboot(2) answers first, and is the superuser's.
func TestRebootCall(t *testing.T) {
	asked := make(chan int, 1)
	k := booted(t, kernel.Options{OnReboot: func(howto int) { asked <- howto }})
	p, err := k.NewProc("stranger", abi.NewCred(1000, 1000))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Syscall(t.Context(), abi.SYS_reboot, &abi.Sysargs{}); !errors.Is(err, abi.EPERM) {
		t.Errorf("reboot by uid 1000: %v", err)
	}
	c, err := k.Client("root")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Reboot(t.Context(), abi.RB_NOSYNC); err != nil {
		t.Error(err)
	}
	if howto := <-asked; howto != abi.RB_NOSYNC {
		t.Errorf("howto %#x", howto)
	}
	if k.State() != kernel.Running {
		t.Errorf("state %s", k.State())
	}
}

// TestRebootCold: a kernel that never ran ends at once.
func TestRebootCold(t *testing.T) {
	k := kernel.New(kernel.Options{})
	k.Reboot(t.Context(), abi.RB_HALT)
	<-k.Done()
	if err := k.Boot(t.Context()); !kernel.ErrRestartRequired(err) {
		t.Errorf("boot: %v", err)
	}
}

// TestPanic: a panic ends the kernel and not the program; calls that wait end,
// and the first panic is the one that counts.
func TestPanic(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	var d diary
	k := kernel.New(kernel.Options{Modules: all(&d)})
	if err := k.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := k.Client("waits")
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.Listen(t.Context(), "tcp", "127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		waits <- err
	}()
	k.Panic("first %d", 1)
	k.Panic("second")
	<-k.Done()
	if err := <-waits; err == nil {
		t.Error("accept succeeds")
	}
	if k.PanicString() != "first 1" || k.State() != kernel.Panicked || strings.Contains(d.String(), "fini") {
		t.Errorf("%q, %s, %v", k.PanicString(), k.State(), &d)
	}
	if !strings.Contains(dmesg(k), "panic: first 1") || strings.Contains(dmesg(k), "second") {
		t.Errorf("dmesg:\n%s", dmesg(k))
	}
	c.Exit()
	goleak.VerifyNone(t, leaks, unfinished)
}
