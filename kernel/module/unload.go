package module

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// disabled is a builtin module that was unloaded (module_builtins with
// MODFLG_MUST_FORCE): it can be loaded again, with force.
type disabled struct {
	info modapi.Info
	p    hyper.Plugin
	spec StartSpec
}

// disable lists a builtin as disabled.
func (m *Manager) disable(info modapi.Info, p hyper.Plugin, s StartSpec) {
	m.tab.Lock()
	m.off[info.Name] = &disabled{info: info, p: p, spec: s}
	m.tab.Unlock()
}

// Unload unloads a module (modctl UNLOAD): ENOENT; EBUSY while somebody uses
// it or another module requires it; EPERM for a builtin security model; what
// Fini answers leaves it loaded. A builtin is disabled and stays listed. One
// that was given up can always be unloaded; if its instance is then loaded
// again, mounts are put back as after a restart.
func (m *Manager) Unload(ctx context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.unload(ctx, name)
}

// unload is Unload. Preconditions: mu is held.
func (m *Manager) unload(ctx context.Context, name string) error {
	m.tab.Lock()
	x := m.mods[name]
	var refs int
	var state State
	var att []attachment
	if x != nil {
		refs, state, att = x.refs, x.Inst.state, slices.Clone(x.att)
	}
	m.tab.Unlock()
	if x == nil {
		return fmt.Errorf("modunload %s: %w", name, abi.ENOENT)
	}
	if refs > 0 {
		return fmt.Errorf("modunload %s: required by %d modules: %w", name, refs, abi.EBUSY)
	}
	if x.Inst.Source == Builtin && x.Info.Class == modapi.ClassSecmodel {
		m.errorf("cannot unload built-in secmodel module %s", name)
		return fmt.Errorf("modunload %s: is a builtin security model: %w", name, abi.EPERM)
	}
	if state == Restarting {
		return fmt.Errorf("modunload %s: is being restarted: %w", name, abi.EBUSY)
	}
	if state == Failed || state == Degraded { // nobody can use it any more
		att = nil
	}
	show := func(att []attachment) {
		for _, a := range att {
			a.f.Show(x.Inst.Name, a.name)
		}
	}
	for n, a := range att {
		if !a.f.Hide(x.Inst.Name, a.name) {
			show(att[:n])
			return fmt.Errorf("modunload %s: %s is in use: %w", name, a.name, abi.EBUSY)
		}
	}
	if state == Running {
		if err := x.m.Fini(ctx); err != nil {
			show(att)
			return fmt.Errorf("modunload %s: %w", name, err)
		}
	}
	m.detach(x)
	if x.Inst.Source == Builtin {
		m.disable(x.Info, x.Inst.proc, StartSpec{Instance: x.Inst.Name, Plugin: x.Inst.Plugin, Source: Builtin, Essential: x.Inst.Essential})
	}
	m.endIfEmpty(ctx, x.Inst)
	m.slots()
	m.debugf("unloaded module `%s'", name)
	return nil
}

// endIfEmpty stops an instance that has no modules left.
func (m *Manager) endIfEmpty(ctx context.Context, i *Instance) {
	m.tab.Lock()
	empty := len(i.mods) == 0
	if empty {
		delete(m.inst, i.Name)
	}
	p, epoch := i.proc, i.epoch
	m.tab.Unlock()
	if empty && p != nil {
		p.Stop(ctx)
		m.Emit(i, evlog.Event{Kind: evlog.Ended, Pid: p.Pid(), Epoch: epoch})
	}
}

// finiTime bounds the Fini of one module when all end, so that a hung one does
// not use up the time of the others.
const finiTime = 5 * time.Second

// FiniAll ends every module, those loaded last first, and stops the processes.
func (m *Manager) FiniAll(ctx context.Context) {
	m.endAutounload()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tab.Lock()
	var mods []*Mod
	for _, x := range m.mods {
		mods = append(mods, x)
	}
	m.tab.Unlock()
	sort.Slice(mods, func(i, j int) bool { return mods[i].seq > mods[j].seq })
	for len(mods) > 0 { // dependents first
		n := 0
		for _, x := range mods {
			m.tab.Lock()
			busy, running := x.refs > 0, x.Inst.state == Running
			m.tab.Unlock()
			if busy && n < len(mods) && slices.ContainsFunc(mods, func(y *Mod) bool { return slices.Contains(y.requires, x) }) {
				mods[n] = x
				n++
				continue
			}
			if running {
				ctx, cancel := context.WithTimeout(ctx, finiTime)
				if err := x.m.Fini(ctx); err != nil {
					m.d.Msg.Printf("%s: fini: %v", x.Name, err)
				} else {
					m.d.Msg.Printf("%s: finished", x.Name)
				}
				cancel()
			}
			m.detach(x)
			m.endIfEmpty(ctx, x.Inst)
		}
		if n == len(mods) {
			break
		}
		mods = mods[:n]
	}
	m.slots()
}
