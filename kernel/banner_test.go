package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// console is a host whose console is kept.
type console struct {
	hyper.Base
	mu sync.Mutex
	b  strings.Builder
}

func (c *console) Console(p []byte) {
	c.mu.Lock()
	c.b.Write(p)
	c.mu.Unlock()
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.b.String()
}

// TestVerbose: the option (RUMP_VERBOSE) or AB_VERBOSE in boothowto shows the
// boot on the console, a line a virtual CPU (RUMP_NCPU) with it; AB_SILENT and
// the default show nothing.
func TestVerbose(t *testing.T) {
	for _, tc := range []struct {
		name    string
		verbose bool
		howto   int
		shown   bool
	}{
		{"default", false, abi.AB_NORMAL, false},
		{"option", true, 0, true},
		{"boothowto", false, abi.AB_VERBOSE, true},
		{"silent", true, abi.AB_SILENT, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := new(console)
			k := kernel.New(kernel.Options{Hyper: h, Verbose: tc.verbose, NCPU: 3})
			k.SetBoothowto(tc.howto)
			if k.Boothowto() != tc.howto {
				t.Errorf("boothowto %x", k.Boothowto())
			}
			if err := k.Boot(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer k.Reboot(context.Background(), 0)
			got := h.String()
			for _, want := range []string{"rumpus " + kernel.Getversion().String(), "total memory = unlimited (host limit)",
				"cpu0 at thinair0: rump virtual cpu\n", "cpu2 at thinair0: rump virtual cpu\n"} {
				if strings.Contains(got, want) != tc.shown {
					t.Errorf("console has %q: %v\n%s", want, !tc.shown, got)
				}
			}
			if !tc.shown && got != "" {
				t.Errorf("console: %s", got)
			}
			if strings.Contains(got, "cpu3") {
				t.Error("a CPU too many")
			}
			if n, err := k.Sysctl.Get("hw.ncpu"); n != "3" || err != nil {
				t.Errorf("hw.ncpu = %s, %v", n, err)
			}
		})
	}
}

// TestThreads: without threads (RUMP_THREADS=0) the two steps of the boot that
// the seed takes only with them are left out, and the kernel has none: what
// needs one refuses (kthread_create, EVFILT_TIMER) or waits (callouts), and the
// rest is done by who comes along (workqueues, soft interrupts).
func TestThreads(t *testing.T) {
	for _, on := range []bool{true, false} {
		k := booted(t, kernel.Options{Threads: &on, Modules: all(&diary{})})
		names := map[string]bool{}
		for _, r := range k.Threads.Rows() {
			names[r.Name] = true
		}
		if names["aiodoned"] != on || names["vdrain"] != on || !on && len(names) > 0 {
			t.Errorf("threads %v: %v", on, names)
		}
		c, err := k.Client("test")
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		kq, err := c.Kqueue(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Kevent(ctx, kq, []abi.Kevent{{Filter: abi.EVFILT_TIMER, Flags: abi.EV_ADD, Data: 1}}, nil, 0)
		if on && err != nil || !on && !errors.Is(err, abi.EOPNOTSUPP) {
			t.Errorf("threads %v: timer event: %v", on, err)
		}
		// A message wakes who waits for klog, by a soft interrupt.
		fd, err := c.Open(ctx, "/dev/klog", abi.O_RDONLY|abi.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		for b := make([]byte, 4096); ; {
			if _, err := c.Read(ctx, fd, b); err != nil {
				break // nothing left
			}
		}
		other, err := k.Client("other")
		if err != nil {
			t.Fatal(err)
		}
		k.Msg.Printf("hello")
		if _, err := other.Getpid(ctx); err != nil {
			t.Fatal(err)
		}
		fds := []abi.Pollfd{{Fd: int32(fd), Events: abi.POLLIN}}
		if n, err := c.Poll(ctx, fds, 10000); n != 1 || err != nil {
			t.Errorf("threads %v: poll of klog: %d, %v", on, n, err)
		}
		// Vnodes come and go, without the drain's thread.
		for i := range 100 {
			if err := c.WriteFile(ctx, fmt.Sprintf("/f%d", i), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, step := range []string{"aiodoned", "vmem_rehash"} {
			if got := slices.Contains(k.BootTrace(), step); got != on {
				t.Errorf("threads %v: step %s taken: %v", on, step, got)
			}
		}
	}
}

// TestBadOptions: nonsense is an error of Boot, never a panic, and leaves the
// kernel cold.
func TestBadOptions(t *testing.T) {
	for _, o := range []kernel.Options{{NCPU: -1}, {NCPU: kernel.MaxCPU + 1}, {MemLimit: -5}} {
		k := kernel.New(o)
		if err := k.Boot(t.Context()); !errors.Is(err, abi.EINVAL) || k.State() != kernel.Cold {
			t.Errorf("%+v: %v, state %s", o, err, k.State())
		}
	}
}

// TestVersionAfterBoot: the guard against a second init comes before the check
// of the version, as in the seed.
func TestVersionAfterBoot(t *testing.T) {
	k := booted(t, kernel.Options{})
	k.SetVersion(99)
	if err := k.Boot(t.Context()); err != nil {
		t.Errorf("a second boot, of another version: %v", err)
	}
}

// TestGetversion is rump_getversion: __NetBSD_Version__, MMmmrrpp00.
func TestGetversion(t *testing.T) {
	v := kernel.Getversion()
	if v != abi.KernVersionCurrent || v <= 0 || v%100 != 0 {
		t.Errorf("version %d", int(v))
	}
	k := booted(t, kernel.Options{})
	if s, _ := k.Sysctl.Get("kern.osrevision"); s != strconv.Itoa(int(v)) {
		t.Errorf("kern.osrevision = %s", s)
	}
}

// TestShutdownHooks: they run at an orderly reboot, the latest first, and not
// when the kernel dumps.
func TestShutdownHooks(t *testing.T) {
	for _, tc := range []struct {
		howto int
		want  string
	}{{0, "c, a"}, {abi.RB_NOSYNC, "c, a"}, {abi.RB_DUMP, ""}} {
		var d diary
		k := booted(t, kernel.Options{})
		k.ShutdownHook(func() { d.note("a") })
		remove := k.ShutdownHook(func() { d.note("b") })
		k.ShutdownHook(func() { d.note("c") })
		remove()
		k.Reboot(t.Context(), tc.howto)
		if d.String() != tc.want {
			t.Errorf("howto %x: hooks %q, not %q", tc.howto, d.String(), tc.want)
		}
	}
}

// TestDefectC: in the seed a module's fini never took it out of the list, so
// that another init was EEXIST and another fini ran it again.
func TestDefectC(t *testing.T) {
	k := booted(t, kernel.Options{Modules: all(new(diary))})
	ctx := t.Context()
	if err := k.Mod.Unload(ctx, "extra"); err != nil {
		t.Fatal(err)
	}
	if k.Mod.Exists("extra") {
		t.Error("it is still listed")
	}
	if err := k.Mod.Unload(ctx, "extra"); !errors.Is(err, abi.ENOENT) {
		t.Errorf("a second fini: %v", err)
	}
}
