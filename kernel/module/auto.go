package module

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/clock"
	"github.com/rumpus-kernel/rumpus/kernel/kthread"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// DefaultAutotime is how long after an autoload the module is tried to be
// unloaded (kern.module.autotime).
const DefaultAutotime = 10 * time.Second

// autoTimeout bounds an autoload and an autounload.
const autoTimeout = 15 * time.Second

// autoload is what belongs to autoload and autounload.
type autoload struct {
	enabled atomic.Bool  // kern.module.autoload
	verbose atomic.Bool  // kern.module.verbose
	seconds atomic.Int64 // kern.module.autotime
	low     atomic.Int64 // when memory was short last, Unix nanoseconds

	// protected by Manager.tab
	queue  *kthread.Workqueue // "modunload"; made when first wanted
	timers []*clock.Callout
	ended  bool
}

func (a *autoload) init() {
	a.enabled.Store(true)
	a.seconds.Store(int64(DefaultAutotime / time.Second))
}

// errorf and debugf are module_error and module_print; the latter says
// something only if kern.module.verbose is set.
func (m *Manager) errorf(format string, args ...any) {
	m.d.Msg.Printf("WARNING: module error: %s", fmt.Sprintf(format, args...))
}

func (m *Manager) debugf(format string, args ...any) {
	if m.auto.verbose.Load() {
		m.d.Msg.Printf("DEBUG: module: %s", fmt.Sprintf(format, args...))
	}
}

// Autoload loads the module called name, of a class or ClassAny, because
// somebody needs it (module_autoload). EPERM when kern.module.autoload is off,
// for a name with '/', '@' or '.', and for a module whose properties say
// noautoload; ENOENT if there is none of the name and class. A module that is
// there already is no error. The load goes on when ctx ends.
func (m *Manager) Autoload(ctx context.Context, name string, class modapi.Class) error {
	if !m.auto.enabled.Load() {
		return fmt.Errorf("autoload %.40s: kern.module.autoload is off: %w", name, abi.EPERM)
	}
	if strings.ContainsAny(name, "/@.") {
		return fmt.Errorf("autoload %.40q: no name for that: %w", name, abi.EPERM)
	}
	if !modapi.ValidName(name) {
		return fmt.Errorf("autoload %.40q: %w", name, abi.ENOENT)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), autoTimeout)
	defer cancel()
	err := m.LoadWith(ctx, LoadSpec{Name: name, auto: true, exact: true, class: class})
	if abi.ErrnoOf(err) == abi.EEXIST {
		return nil
	}
	return err
}

// autoloaded lets what was autoloaded be tried for unloading after a time.
// Preconditions: Manager.mu is held.
func (m *Manager) autoloaded(s LoadSpec, instance string) {
	sec := m.auto.seconds.Load()
	if !s.auto || sec == 0 || m.d.Callouts == nil || m.d.Threads == nil || m.d.Callouts.Disabled() {
		return
	}
	m.tab.Lock()
	defer m.tab.Unlock()
	if m.auto.ended {
		return
	}
	if m.auto.queue == nil {
		q, err := m.d.Threads.NewWorkqueue("modunload", m.autounload)
		if err != nil {
			m.errorf("%v", err)
			return
		}
		m.auto.queue = q
	}
	q := m.auto.queue
	for _, x := range m.mods {
		if !x.auto || x.Inst.Name != instance && x.Name != s.Name {
			continue
		}
		w := &kthread.Work{Arg: x}
		c := m.d.Callouts.New(func() { _ = q.Enqueue(w) })
		m.auto.timers = append(slices.DeleteFunc(m.auto.timers, func(c *clock.Callout) bool { return !c.Pending() }), c)
		c.Schedule(time.Duration(sec) * time.Second)
	}
}

// lowEvery bounds how often short memory makes modules be unloaded.
const lowEvery = time.Second

// LowMemory tries to unload all that were autoloaded, at once, because memory
// is short; at most once a second, and not if kern.module.autotime is 0.
func (m *Manager) LowMemory() {
	now, last := time.Now().UnixNano(), m.auto.low.Load()
	if now-last < int64(lowEvery) || !m.auto.low.CompareAndSwap(last, now) {
		return
	}
	m.tab.Lock()
	defer m.tab.Unlock()
	if m.auto.ended || m.auto.queue == nil || m.auto.seconds.Load() == 0 { // nothing has been autoloaded
		return
	}
	for _, x := range m.mods {
		if x.auto && x.refs == 0 {
			_ = m.auto.queue.Enqueue(&kthread.Work{Arg: x})
		}
	}
}

// autounload tries one module once: it goes if nobody needs it and it does not
// mind (AUTOUNLOAD: nil or ENOTTY).
func (m *Manager) autounload(ctx context.Context, w *kthread.Work) {
	x := w.Arg.(*Mod)
	ctx, cancel := context.WithTimeout(ctx, autoTimeout)
	defer cancel()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tab.Lock()
	there := m.mods[x.Name] == x && x.refs == 0 && x.Inst.state == Running
	m.tab.Unlock()
	if !there {
		return
	}
	if u, ok := x.m.(modapi.AutoUnloader); ok {
		if err := u.AutoUnload(ctx); err != nil && abi.ErrnoOf(err) != abi.ENOTTY {
			m.debugf("module `%s' declines to be auto-unloaded: %v", x.Name, err)
			return
		}
	}
	if err := m.unload(ctx, x.Name); err != nil {
		m.debugf("module `%s' is not auto-unloaded: %v", x.Name, err)
		return
	}
	m.debugf("module `%s' was auto-unloaded", x.Name)
}

// endAutounload lets no more modules be unloaded: all end.
func (m *Manager) endAutounload() {
	m.tab.Lock()
	defer m.tab.Unlock()
	m.auto.ended = true
	for _, c := range m.auto.timers {
		c.Stop()
	}
	m.auto.timers = nil
}

// Autoloads reports whether autoload is on, and SetAutoload sets it
// (kern.module.autoload).
func (m *Manager) Autoloads() bool { return m.auto.enabled.Load() }

// SetAutoload is kern.module.autoload.
func (m *Manager) SetAutoload(on bool) { m.auto.enabled.Store(on) }

// Verbose reports whether debug messages are shown (kern.module.verbose).
func (m *Manager) Verbose() bool { return m.auto.verbose.Load() }

// SetVerbose is kern.module.verbose.
func (m *Manager) SetVerbose(on bool) { m.auto.verbose.Store(on) }

// Autotime is kern.module.autotime in seconds.
func (m *Manager) Autotime() int64 { return m.auto.seconds.Load() }

// SetAutotime changes it: 0 is never; EINVAL for a negative time.
func (m *Manager) SetAutotime(s string) error {
	n, err := strconv.ParseInt(s, 0, 32)
	if err != nil || n < 0 {
		return fmt.Errorf("kern.module.autotime must be 0 or more seconds: %w", abi.EINVAL)
	}
	m.auto.seconds.Store(n)
	return nil
}
