package module

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// ErrEnded is the answer of Up for an instance that is not waiting for a new
// process: it was unloaded, or given up.
var ErrEnded = errors.New("has ended")

// Proc is the instance's process now, with its generation; nil if the
// instance has ended or is down.
func (m *Manager) Proc(i *Instance) (hyper.Plugin, abi.Epoch) {
	m.tab.Lock()
	defer m.tab.Unlock()
	if m.inst[i.Name] != i || i.state != Running {
		return nil, i.epoch
	}
	return i.proc, i.epoch
}

// Down takes note that the process of an instance has died: the factions end
// the calls in flight, and what comes now waits. It does not wait for a load
// in progress. It answers whether the instance is to be restarted: not if it
// has been unloaded, or was down already.
func (m *Manager) Down(i *Instance, p hyper.Plugin) bool {
	m.tab.Lock()
	if m.inst[i.Name] != i || i.proc != p || i.state != Running {
		m.tab.Unlock()
		return false
	}
	i.state = Restarting
	i.downAt = time.Now()
	epoch := i.epoch
	fs := m.factionsLocked(i)
	m.tab.Unlock()
	for _, f := range fs { // first of all: callers are to wait, not to fail
		f.Down(i.Name)
	}
	m.dropBlocks(i.Name + "/")
	d := deathOf(p)
	for _, f := range fs {
		if j, ok := f.(Judge); ok {
			j.Died(i.Name, d.Own)
		}
	}
	m.tab.Lock()
	i.cause = d.Cause
	if i.causes == nil {
		i.causes = make(map[string]int)
	}
	i.causes[d.Cause]++
	m.tab.Unlock()
	m.Emit(i, evlog.Event{Kind: evlog.Died, Pid: p.Pid(), Epoch: epoch, Cause: d.Cause,
		Signal: d.Signal, Status: d.Status, Calls: d.Calls, Op: d.Op, Text: d.Text})
	m.d.Msg.Printf("%s: process %d died: %s", i.Name, p.Pid(), d.Text)
	return true
}

// deathOf is how a process ended.
func deathOf(p hyper.Plugin) hyper.Death {
	if d, ok := p.(hyper.Mortal); ok {
		return d.Death()
	}
	return hyper.Death{Cause: "exit", Text: p.Cause()}
}

// Wanted reports whether an instance is there, running or not: it has neither
// been unloaded nor given up.
func (m *Manager) Wanted(i *Instance) bool {
	m.tab.Lock()
	defer m.tab.Unlock()
	return m.inst[i.Name] == i && i.state != Failed
}

// Emit adds an event about an instance.
func (m *Manager) Emit(i *Instance, e evlog.Event) {
	e.Instance = i.Name
	m.d.Events.Emit(e)
}

// SetSpare notes which process stands by for an instance; 0: none.
func (m *Manager) SetSpare(i *Instance, pid int) {
	m.tab.Lock()
	i.spare = pid
	m.tab.Unlock()
}

// factionsLocked are the factions that an instance has to do with: those of
// its modules' classes, and those that its modules attached something to, as
// the class of a module does not say what it may attach.
func (m *Manager) factionsLocked(i *Instance) []Faction {
	var fs []Faction
	add := func(f Faction) {
		if f != nil && !slices.Contains(fs, f) {
			fs = append(fs, f)
		}
	}
	for _, x := range i.mods {
		add(m.d.Factions[x.Info.Class])
		for _, a := range x.att {
			add(a.f)
		}
	}
	return fs
}

// Up attaches a new process of an instance that is down: its modules are
// initialised with the reason restart, and mounts, interfaces and whatever
// else there was is put back. On an error the process is to be stopped by the
// caller and the instance stays down.
func (m *Manager) Up(ctx context.Context, i *Instance, p hyper.Plugin) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tab.Lock()
	was := i.state
	if m.inst[i.Name] != i || was != Restarting && was != Degraded {
		m.tab.Unlock()
		return fmt.Errorf("instance %s: %w", i.Name, ErrEnded)
	}
	mods := append([]*Mod(nil), i.mods...)
	i.epoch++
	m.tab.Unlock()
	byName := make(map[string]modapi.Module)
	for _, mod := range p.Modules() {
		byName[mod.Info().Name] = mod
	}
	for _, x := range mods {
		mod := byName[x.Info.Name]
		if mod == nil {
			return fmt.Errorf("instance %s: the new process has no module %s: %w", i.Name, x.Info.Name, abi.ENOENT)
		}
		info := mod.Info()
		if err := info.Check(); err != nil {
			return err
		}
		if info.Class != x.Info.Class || !info.Kern.Compatible(abi.KernVersionCurrent) && !x.forced {
			return fmt.Errorf("instance %s: module %s has changed class or version: %w", i.Name, x.Info.Name, abi.EPROGMISMATCH)
		}
		m.d.Sysctl.Destroy(x.owner())
		m.d.DropSyscalls(x.owner())
		m.tab.Lock()
		x.m = mod
		x.att = nil
		props := i.props[x.Info.Name]
		m.tab.Unlock()
		if err := m.init(ctx, x, modapi.Restart, props); err != nil {
			return cause(p, err)
		}
	}
	m.tab.Lock()
	fs := m.factionsLocked(i)
	m.tab.Unlock()
	for _, f := range fs {
		if err := f.Up(ctx, i.Name); err != nil {
			m.d.Msg.Printf("%s: restart: %v", i.Name, err)
		}
	}
	m.tab.Lock()
	ended := m.inst[i.Name] != i || i.state != was // by KillAll, which waits for nobody
	if !ended {
		i.state = Running // who sees this finds everything put back
		i.proc = p
		i.restarts++
		i.recovery = time.Since(i.downAt)
	}
	took, epoch := i.recovery, i.epoch
	m.tab.Unlock()
	if ended {
		return fmt.Errorf("instance %s: %w", i.Name, ErrEnded)
	}
	m.d.Msg.Printf("%s: restarted as process %d, epoch %d", i.Name, p.Pid(), epoch)
	m.Emit(i, evlog.Event{Kind: evlog.Recovered, Pid: p.Pid(), Epoch: epoch, Ns: int64(took)})
	return nil
}

// Judge is a Faction that wants to know whether a process that died has itself
// to blame (own): it is told between Down and Up.
type Judge interface {
	Died(instance string, own bool)
}

// Degrader is a Faction that can do with less: it answers what it can without
// a change, and EIO at once for the rest. A new process may come up meanwhile,
// for the former.
type Degrader interface {
	Degrade(instance string, on bool)
}

// Degrade has an instance that is down refuse changes, until Restore: its mounts
// are read as far as the kernel has them, or a new process comes up. The slot
// stays filled. It answers false, and does nothing, for an instance of which a
// faction cannot do that.
func (m *Manager) Degrade(i *Instance, why string) bool {
	m.tab.Lock()
	fs := m.factionsLocked(i)
	ok := m.inst[i.Name] == i && (i.state == Restarting || i.state == Degraded) && len(fs) > 0
	for _, f := range fs {
		_, can := f.(Degrader)
		ok = ok && can
	}
	if ok {
		i.state, i.degraded = Degraded, true
	}
	m.tab.Unlock()
	if !ok {
		return false
	}
	for _, f := range fs {
		f.(Degrader).Degrade(i.Name, true)
	}
	m.d.Msg.Printf("%s: degraded: %s", i.Name, why)
	m.Emit(i, evlog.Event{Kind: evlog.Degraded, Text: why})
	return true
}

// Restore ends what Degrade began. It answers false if the instance has ended or
// was not degraded.
func (m *Manager) Restore(i *Instance) bool {
	m.tab.Lock()
	fs := m.factionsLocked(i)
	ok := m.inst[i.Name] == i && i.degraded
	i.degraded = false
	m.tab.Unlock()
	if !ok {
		return false
	}
	for _, f := range fs {
		if d, can := f.(Degrader); can {
			d.Degrade(i.Name, false)
		}
	}
	m.d.Msg.Printf("%s: takes changes again", i.Name)
	m.Emit(i, evlog.Event{Kind: evlog.Restored})
	return true
}

// Seqs is a Faction that counts the operations that were carried out for an
// instance and cannot be lost any more.
type Seqs interface {
	Seq(instance string) uint64
}

// Seq is how many operations have been carried out for an instance by its
// processes so far; false if nobody counts.
func (m *Manager) Seq(i *Instance) (n uint64, ok bool) {
	m.tab.Lock()
	fs := m.factionsLocked(i)
	m.tab.Unlock()
	for _, f := range fs {
		if s, is := f.(Seqs); is {
			n, ok = n+s.Seq(i.Name), true
		}
	}
	return n, ok
}

// Gone gives an instance up: the restart budget is used, nothing will come.
func (m *Manager) Gone(i *Instance, why string) {
	m.tab.Lock()
	if m.inst[i.Name] != i || i.state == Failed {
		m.tab.Unlock()
		return
	}
	i.state = Failed
	fs := m.factionsLocked(i)
	m.tab.Unlock()
	for _, f := range fs {
		f.Gone(i.Name)
	}
	m.slots()
	m.d.Msg.Printf("%s: given up: %s", i.Name, why)
	m.Emit(i, evlog.Event{Kind: evlog.Failed, Text: why})
}

// KillAll ends every process without Fini: the kernel has panicked.
func (m *Manager) KillAll(ctx context.Context) {
	m.endAutounload()
	m.tab.Lock()
	var ps []hyper.Plugin
	for name, i := range m.inst {
		if i.proc != nil && i.state == Running {
			ps = append(ps, i.proc)
		}
		i.state = Failed
		delete(m.inst, name)
	}
	m.mods = make(map[string]*Mod)
	m.tab.Unlock()
	m.slots()
	ctx, cancel := context.WithCancel(ctx)
	cancel() // Stop with an ended context is by force
	for _, p := range ps {
		p.Stop(ctx)
	}
}
