package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/dev/mem"
	"github.com/rumpus-kernel/rumpus/plugins/net/inet"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// diary is what happened, in order.
type diary struct {
	mu sync.Mutex
	l  []string
}

func (d *diary) note(format string, a ...any) {
	d.mu.Lock()
	d.l = append(d.l, fmt.Sprintf(format, a...))
	d.mu.Unlock()
}

func (d *diary) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.l, ", ")
}

// noted is a module whose life is written down.
type noted struct {
	modapi.Module
	d *diary
}

func (n noted) Init(ctx context.Context, k modapi.Kernel, r modapi.Reason, p modapi.Props) error {
	n.d.note("init %s", n.Info().Name)
	return n.Module.Init(ctx, k, r, p)
}

func (n noted) Fini(ctx context.Context) error {
	err := n.Module.Fini(ctx)
	if err != nil {
		n.d.note("fini %s: %v", n.Info().Name, abi.ErrnoOf(err))
		return err
	}
	n.d.note("fini %s", n.Info().Name)
	return nil
}

// misc is a module of class misc that does nothing, or what it is told.
type misc struct {
	name string
	init func(modapi.Kernel) error
}

func (m misc) Info() modapi.Info {
	return modapi.Info{Name: m.name, Class: modapi.ClassMisc, Kern: abi.KernVersionCurrent}
}

func (m misc) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, _ modapi.Props) error {
	if m.init != nil {
		return m.init(k)
	}
	return nil
}

func (misc) Fini(context.Context) error { return nil }

// all are modules of every class, in no good order.
func all(d *diary) []modapi.Module {
	return []modapi.Module{noted{misc{name: "extra"}, d}, noted{mem.New(), d}, noted{inet.New(), d}, noted{tmpfs.New(), d}}
}

// booted makes a kernel that runs until the test ends.
func booted(t *testing.T, o kernel.Options) *kernel.Kernel {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	k := kernel.New(o)
	if err := k.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		k.Reboot(context.Background(), 0)
		goleak.VerifyNone(t, leaks)
	})
	return k
}

func dmesg(k *kernel.Kernel) string {
	b, _ := k.Msg.Read(0)
	return string(b)
}

// TestBootOrder: the steps are those of the seed's rump__init in its order
// (testdata/boottrace.golden: the seed's number, the step), whether there are
// components or not, and modules attach in the order of the factions, not of
// the options.
func TestBootOrder(t *testing.T) {
	golden, err := os.ReadFile("testdata/boottrace.golden")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	last := 0
	for line := range strings.Lines(string(golden)) {
		var n int
		var step string
		if _, err := fmt.Sscan(line, &n, &step); err != nil || n != last && n != last+1 {
			t.Fatalf("golden file: %q after step %d: %v", line, last, err)
		}
		last, want = n, append(want, step)
	}
	if last != 32 {
		t.Fatalf("the golden file has %d steps of 32", last)
	}
	for name, mods := range map[string]func(*diary) []modapi.Module{"all": all, "none": func(*diary) []modapi.Module { return nil }} {
		t.Run(name, func(t *testing.T) {
			var d diary
			k := booted(t, kernel.Options{Modules: mods(&d)})
			if got := k.BootTrace(); !slices.Equal(got, want) {
				t.Errorf("boot trace\n%v, wanted\n%v", got, want)
			}
			if name == "all" && d.String() != "init tmpfs, init inet, init mem, init extra" {
				t.Error(&d)
			}
			if err := k.Boot(t.Context()); err != nil {
				t.Errorf("second boot: %v", err)
			}
			if got := k.BootTrace(); !slices.Equal(got, want) {
				t.Errorf("the second boot did something: %v", got)
			}
		})
	}
}

// TestDefectA: the seed answered 0 to an init after a reboot and did nothing;
// what it meant to say is that the host process must be started again.
func TestDefectA(t *testing.T) {
	k := booted(t, kernel.Options{})
	k.Reboot(t.Context(), 0)
	err := k.Boot(t.Context())
	if !kernel.ErrRestartRequired(err) || !strings.Contains(err.Error(), "host process restart required") {
		t.Errorf("boot after reboot: %v", err)
	}
	if k.State() != kernel.Done {
		t.Errorf("state %s", k.State())
	}
}

// TestDefectB: after a wrong version the seed took itself for initialised, and
// the next init, with the right version, did nothing.
func TestDefectB(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	k := kernel.New(kernel.Options{Version: 2})
	err := k.Boot(t.Context())
	if !errors.Is(err, abi.EPROGMISMATCH) || int(abi.ErrnoOf(err)) != 75 || !strings.HasPrefix(err.Error(), "rump version mismatch, 2 vs. 1") {
		t.Errorf("boot: %v", err)
	}
	if !strings.Contains(dmesg(k), "rump version mismatch, 2 vs. 1") {
		t.Errorf("dmesg:\n%s", dmesg(k))
	}
	if len(k.BootTrace()) != 0 || k.State() != kernel.Cold {
		t.Errorf("it is %s after %v", k.State(), k.BootTrace())
	}
	k.SetVersion(kernel.Version)
	if err := k.Boot(t.Context()); err != nil || k.State() != kernel.Running {
		t.Errorf("boot with the right version: %v, %s", err, k.State())
	}
	k.Reboot(t.Context(), 0)
	goleak.VerifyNone(t, leaks)
}

// TestDefectD: the seed did not check for negative system-call numbers.
func TestDefectD(t *testing.T) {
	k := booted(t, kernel.Options{})
	c, err := k.Client("test")
	if err != nil {
		t.Fatal(err)
	}
	for _, num := range []int{-1, -640, -1 << 63, abi.SYS_NSYSENT, abi.SYS_NSYSENT + 1, 1<<63 - 1, 1 << 32, abi.SYS_MAXMODULE, 0} {
		err := c.Syscall(t.Context(), num, &abi.Sysargs{})
		if !errors.Is(err, abi.ENOSYS) {
			t.Errorf("system call %d: %v", num, err)
		}
	}
}

// TestAbsent: without components, calls that need one say which, a poll of
// what cannot be there is POLLNVAL alone, and the rest works.
func TestAbsent(t *testing.T) {
	k := booted(t, kernel.Options{})
	c, err := k.Client("test")
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	_, open := c.Open(ctx, "/x", abi.O_RDONLY, 0)
	_, stat := c.Stat(ctx, "/")
	_, sock := c.Socket(ctx, abi.AF_INET, abi.SOCK_STREAM, 0)
	for what, tc := range map[string]struct {
		err  error
		text string
	}{
		"open": {open, "vfs component not available"}, "stat": {stat, "vfs component not available"},
		"chdir": {c.Chdir(ctx, "/"), "vfs component not available"}, "rename": {c.Rename(ctx, "/a", "/b"), "vfs component not available"},
		"mount":  {c.Mount(ctx, "tmpfs", "/", 0, "", nil), "vfs component not available"},
		"socket": {sock, "net component not available"},
	} {
		if !errors.Is(tc.err, abi.EOPNOTSUPP) || !strings.Contains(fmt.Sprint(tc.err), tc.text) {
			t.Errorf("%s: %v", what, tc.err)
		}
	}
	fds := []abi.Pollfd{{Fd: 3, Events: abi.POLLIN | abi.POLLOUT}}
	if n, err := c.Poll(ctx, fds, 0); n != 1 || err != nil || fds[0].Revents != abi.POLLNVAL {
		t.Errorf("poll: %d, %v, %#x", n, err, fds[0].Revents)
	}
	if err := c.Sync(ctx); err != nil {
		t.Errorf("sync: %v", err)
	}
	if s, err := c.Sysctl(ctx, "kern.state"); s != "running" || err != nil {
		t.Errorf("sysctl: %q, %v", s, err)
	}
}

// loader is a host whose plugins are modules of this process, or fail.
type loader struct {
	hyper.Base
	d    *diary
	mods map[string]modapi.Module // by plugin
}

type loaded struct {
	name string
	m    modapi.Module
	d    *diary
	done chan struct{}
	once sync.Once
}

func (l *loader) Load(_ context.Context, s hyper.PluginSpec) (hyper.Plugin, error) {
	m := l.mods[s.Plugin]
	if m == nil {
		return nil, fmt.Errorf("component %s: %s: no such plugin: %w", s.Instance, s.Plugin, abi.ENOENT)
	}
	return &loaded{name: s.Instance, m: m, d: l.d, done: make(chan struct{})}, nil
}

func (p *loaded) Modules() []modapi.Module { return []modapi.Module{p.m} }
func (p *loaded) Pid() int                 { return 4711 }
func (p *loaded) Size() int64              { return 1 }
func (p *loaded) Done() <-chan struct{}    { return p.done }
func (p *loaded) Cause() string            { return "stopped" }
func (p *loaded) Stop(context.Context) {
	p.once.Do(func() {
		p.d.note("stop %s", p.name)
		close(p.done)
	})
}

// TestComponents: an absent component is told in one line, an essential one
// ends the boot, and then none of the others is left behind.
func TestComponents(t *testing.T) {
	var d diary
	h := &loader{d: &d, mods: map[string]modapi.Module{"vfs": noted{tmpfs.New(), &d}, "net": noted{inet.New(), &d}}}
	comps := []kernel.Component{
		{Name: "dev", Plugin: "gone", Class: modapi.ClassDriver},
		{Name: "net", Plugin: "net", Class: modapi.ClassNet},
		{Name: "vfs", Plugin: "vfs", Class: modapi.ClassVFS},
	}
	k := booted(t, kernel.Options{Hyper: h, Components: comps})
	for _, want := range []string{
		"vfs: process 4711 attached: tmpfs\n", "net: process 4711 attached: inet\n",
		"boot: ERROR: absent: component dev: gone: no such plugin: no such file or directory\n",
	} {
		if !strings.Contains(dmesg(k), want) {
			t.Errorf("dmesg has no %q:\n%s", want, dmesg(k))
		}
	}
	k.Reboot(t.Context(), 0)
	if want := "init tmpfs, init inet, fini inet, stop net, fini tmpfs, stop vfs"; d.String() != want {
		t.Errorf("%v, wanted %s", &d, want)
	}

	for _, essential := range []string{"vfs", "dev"} {
		t.Run(essential, func(t *testing.T) {
			leaks := goleak.IgnoreCurrent()
			var d diary
			h := &loader{d: &d, mods: map[string]modapi.Module{
				"vfs": noted{tmpfs.New(), &d}, "net": noted{inet.New(), &d}, "dev": noted{mem.New(), &d}, "misc": misc{name: "late"}}}
			delete(h.mods, essential)
			k := kernel.New(kernel.Options{Hyper: h, Components: []kernel.Component{
				{Name: "late", Plugin: "misc", Class: modapi.ClassMisc},
				{Name: "dev", Plugin: "dev", Class: modapi.ClassDriver, Essential: true},
				{Name: "net", Plugin: "net", Class: modapi.ClassNet},
				{Name: "vfs", Plugin: "vfs", Class: modapi.ClassVFS, Essential: true},
			}})
			err := k.Boot(t.Context())
			if !errors.Is(err, abi.ENOENT) || !strings.Contains(err.Error(), "essential component is absent: component "+essential+": ") {
				t.Errorf("boot: %v", err)
			}
			if k.State() != kernel.Done {
				t.Errorf("state %s", k.State())
			}
			for _, name := range []string{"vfs", "net", "dev", "late"} {
				if n := strings.Count(d.String(), "stop "+name); name != essential && n != 1 {
					t.Errorf("%s was stopped %d times: %v", name, n, &d)
				}
			}
			if strings.Count(d.String(), "init ") != strings.Count(d.String(), "fini ") {
				t.Error(&d)
			}
			goleak.VerifyNone(t, leaks)
		})
	}
}

// TestPanicInBoot: a kernel that panics while it boots does not run.
func TestPanicInBoot(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	var k *kernel.Kernel
	k = kernel.New(kernel.Options{Modules: []modapi.Module{misc{name: "bad", init: func(modapi.Kernel) error {
		k.Panic("cannot go on: %d", 1)
		select {
		case <-k.Done():
		case <-time.After(60 * time.Second):
			return abi.ETIMEDOUT
		}
		return nil
	}}}})
	if err := k.Boot(t.Context()); err == nil {
		t.Error("the boot succeeds")
	}
	if k.State() != kernel.Panicked || k.PanicString() != "cannot go on: 1" {
		t.Errorf("%s, %q", k.State(), k.PanicString())
	}
	goleak.VerifyNone(t, leaks)
}

// TestRebootInBoot: a kernel can be ended at any moment of its boot, and leaves
// nothing behind.
func TestRebootInBoot(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	for i := range 40 {
		var d diary
		h := &loader{d: &d, mods: map[string]modapi.Module{
			"vfs": noted{tmpfs.New(), &d}, "net": noted{inet.New(), &d}, "dev": noted{mem.New(), &d}, "misc": noted{misc{name: "late"}, &d}}}
		k := kernel.New(kernel.Options{Hyper: h, Components: []kernel.Component{
			{Name: "vfs", Plugin: "vfs", Class: modapi.ClassVFS}, {Name: "net", Plugin: "net", Class: modapi.ClassNet},
			{Name: "dev", Plugin: "dev", Class: modapi.ClassDriver}, {Name: "late", Plugin: "misc", Class: modapi.ClassMisc},
		}})
		booted := make(chan error, 1)
		go func() { booted <- k.Boot(t.Context()) }()
		for len(k.BootTrace()) <= i*24/40 && k.State() != kernel.Running {
			runtime.Gosched()
		}
		k.Reboot(t.Context(), 0)
		<-booted
		for _, name := range []string{"tmpfs", "inet", "mem", "late"} {
			if strings.Count(d.String(), "init "+name) != strings.Count(d.String(), "fini "+name) || strings.Contains(d.String(), abi.EBUSY.Error()) {
				t.Errorf("%d: %s: %v", i, name, &d)
			}
		}
		if n := strings.Count(d.String(), "stop "); n != 4 {
			t.Errorf("%d: %d processes stopped: %v", i, n, &d)
		}
	}
	goleak.VerifyNone(t, leaks)
}
