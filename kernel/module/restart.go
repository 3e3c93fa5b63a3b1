package module

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
	fs := m.factionsLocked(i)
	m.tab.Unlock()
	for _, f := range fs {
		f.Down(i.Name)
	}
	m.dropBlocks(i.Name + "/")
	m.d.Msg.Printf("%s: process %d died: %s", i.Name, p.Pid(), p.Cause())
	return true
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
	if m.inst[i.Name] != i || i.state != Restarting {
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
	ended := m.inst[i.Name] != i || i.state != Restarting // by KillAll, which waits for nobody
	if !ended {
		i.state = Running // who sees this finds everything put back
		i.proc = p
		i.restarts++
	}
	m.tab.Unlock()
	if ended {
		return fmt.Errorf("instance %s: %w", i.Name, ErrEnded)
	}
	m.d.Msg.Printf("%s: restarted as process %d, epoch %d", i.Name, p.Pid(), i.epoch)
	return nil
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
