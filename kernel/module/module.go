// Package module loads, unloads and restarts modules: module(9), and the
// component slots of rump.c.
//
// A module belongs to a plugin instance: a process that carries one or
// several modules, or the kernel's own process for modules bound in it. Each
// of the factions vfs, net and dev is a slot, filled as long as at least one
// module of its class is attached. An empty slot makes the faction answer
// "component not available".
//
// Life of an instance:
//
//	Start --> running --Down--> restarting --Up--> running
//	              \                  \--Degrade--> degraded --Up, Restore--> running
//	              \                  \--Gone--> failed (slot lost)
//	               \--Unload of its last module--> ended
//
// At Init a module attaches what it has through Kernel; everything is recorded
// and undone at Fini. When a process dies nothing is undone: the factions keep
// mounts, interfaces and open devices, callers wait, and the new process's
// attachments take the places of the old ones.
//
// Lock order: Manager.mu (module_lock) is taken for a load, unload or restart
// as a whole and is held over Init and Fini, so these never overlap. It comes
// before all locks of the factions. Upcalls of a module during Init (Attach)
// run with it held by the loader and take only Manager.tab, a leaf, which
// protects the tables.
package module

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/clock"
	"github.com/rumpus-kernel/rumpus/kernel/evcnt"
	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/kernel/kprintf"
	"github.com/rumpus-kernel/rumpus/kernel/kthread"
	"github.com/rumpus-kernel/rumpus/kernel/sysctl"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Faction is one of vfs, net and dev towards the module layer.
type Faction interface {
	// Available tells whether the slot is filled.
	Available(on bool)
	// Down tells that the instance's process died: calls in flight end,
	// callers that come now wait.
	Down(instance string)
	// Up tells that a new process has attached: put back what there was.
	Up(ctx context.Context, instance string) error
	// Gone tells that no new process will come.
	Gone(instance string)
	// Hide lets no new user in to what was attached under the name, unless
	// somebody uses it: false. Show lets them in again.
	Hide(instance, name string) bool
	Show(instance, name string)
	// Detach takes it away.
	Detach(instance, name string)
}

// Deps are the parts of the kernel that modules attach to.
type Deps struct {
	Load   func(ctx context.Context, s hyper.PluginSpec) (hyper.Plugin, error)
	Sysctl *sysctl.Tree
	Evcnt  *evcnt.Set
	Msg    *kprintf.Msgbuf
	Events *evlog.Log // nil: nobody wants to know

	Factions     map[modapi.Class]Faction // of ClassVFS, ClassNet, ClassDriver
	AttachFS     func(instance, name string, t vfsops.FSType, c vfsops.Caps) error
	AttachChr    func(instance, name string, d devops.Chr) (abi.Dev, error)
	AttachBlk    func(instance, name string, d devops.Blk) (abi.Dev, error)
	BlkChanged   func(instance string, dev abi.Dev) error
	Block        func(ctx context.Context, instance, owner string, dev, user abi.Dev) (devops.BlockIO, error)
	Store        func(instance string, mount abi.Fsid) modapi.Store // nil: no mount has one
	DropBlocks   func(owner string)                                 // closes what Block gave; "instance/": to all its modules
	AttachDomain func(instance string, af int, d sockops.Domain) error
	AttachIf     func(instance, class string, c sockops.IfClass) error
	Syscall      func(owner string, num int, fn modapi.SyscallFn) error
	DropSyscalls func(owner string)
	Ready        func(sockops.Ready)
	DevReady     func(devops.Ready)
	Granted      func(name string) (*os.File, error) // for modules bound in-process
	Started      func(i *Instance)                   // an instance is running: watch it

	// Symbols is told what a module has attached, or nil when it goes; nil:
	// nobody wants to know.
	Symbols func(mod string, names []string)

	// For autounload; nil: what was autoloaded stays.
	Callouts *clock.Callouts
	Threads  *kthread.Table
}

// Source is where a module came from, as modstat prints it.
type Source string

// The sources.
const (
	Builtin Source = "builtin" // bound in the kernel's process
	Boot    Source = "boot"    // a component of the configuration
	Filesys Source = "filesys" // loaded by modload
)

// State is what an instance is doing.
type State string

// The states.
const (
	Running    State = "running"
	Restarting State = "restarting"
	Degraded   State = "degraded" // changes are refused; there may be a process
	Failed     State = "failed"
	Disabled   State = "disabled" // a builtin that was unloaded: needs force to come back
)

// Manager is a kernel's modules.
type Manager struct {
	d     Deps
	mu    sync.Mutex // module_lock
	tab   sync.Mutex
	seq   int                  // of the last module attached, protected by tab
	mods  map[string]*Mod      // by shown name, protected by tab
	inst  map[string]*Instance // protected by tab
	off   map[string]*disabled // builtins that were unloaded, protected by tab
	homes map[string]home      // of the modules that were attached at boot, protected by tab
	auto  autoload
}

// Instance is one plugin process, over all its generations.
type Instance struct {
	Name      string
	Plugin    string // name on kern.module.path, or path
	Source    Source
	Essential bool

	// protected by Manager.tab
	state    State
	restarts int
	epoch    abi.Epoch
	proc     hyper.Plugin
	mods     []*Mod
	props    map[string]modapi.Props // by module
	causes   map[string]int          // of deaths
	cause    string                  // of the last one
	downAt   time.Time               // when it was known
	recovery time.Duration           // from there until it ran again
	spare    int                     // the process that stands by; 0: none
	degraded bool                    // it refuses changes
}

// Mod is a loaded module (struct module).
type Mod struct {
	Name string // as shown: the module's, or name@instance if that was taken
	Info modapi.Info
	Inst *Instance

	// protected by Manager.tab
	seq      int  // order of attaching
	auto     bool // by autoload
	forced   bool // of another kernel version, perhaps
	refs     int
	requires []*Mod
	m        modapi.Module
	k        *kernel
	att      []attachment
}

type attachment struct {
	f    Faction
	name string
}

// New makes an empty Manager.
func New(d Deps) *Manager {
	m := &Manager{d: d, mods: make(map[string]*Mod), inst: make(map[string]*Instance), off: make(map[string]*disabled), homes: make(map[string]home)}
	m.auto.init()
	return m
}

// Row is a module as modstat lists it.
type Row struct {
	Name     string    `json:"name"`
	Class    string    `json:"class"`
	Source   Source    `json:"source"`
	Flag     string    `json:"flag"`
	Refs     int       `json:"refs"`
	Size     int64     `json:"size"`
	Requires []string  `json:"requires"`
	Pid      int       `json:"pid"`
	State    State     `json:"state"`
	Restarts int       `json:"restarts"`
	Epoch    abi.Epoch `json:"epoch"`
	Instance string    `json:"instance"`

	Causes     map[string]int `json:"causes"`      // deaths of its processes, see hyper.Death
	Cause      string         `json:"cause"`       // of the last one
	RecoveryNs int64          `json:"recovery_ns"` // how long the last recovery took
	Spare      int            `json:"spare"`       // the process that stands by; 0: none
	HangNs     int64          `json:"hang_ns"`     // processor time without progress for which it is ended; 0: nobody judges
}

// flag is FLAG of modstat: a was autoloaded, f must be forced.
func flag(auto, force bool) string {
	switch {
	case auto && force:
		return "af"
	case auto:
		return "a"
	case force:
		return "f"
	}
	return "-"
}

// Rows lists the modules by name, and the disabled builtins with -1
// references (modctl STAT).
func (m *Manager) Rows() []Row {
	m.tab.Lock()
	defer m.tab.Unlock()
	rows := make([]Row, 0, len(m.mods))
	for _, x := range m.mods {
		r := Row{Name: x.Name, Class: x.Info.Class.String(), Source: x.Inst.Source, Flag: flag(x.auto, false), Refs: x.refs,
			Requires: append([]string{}, x.Info.Requires...), State: x.Inst.state, Restarts: x.Inst.restarts, Epoch: x.Inst.epoch, Instance: x.Inst.Name,
			Causes: make(map[string]int), Cause: x.Inst.cause, RecoveryNs: int64(x.Inst.recovery), Spare: x.Inst.spare}
		maps.Copy(r.Causes, x.Inst.causes)
		if x.Inst.degraded && r.State == Running {
			r.State = Degraded
		}
		if p := x.Inst.proc; p != nil {
			r.Size = p.Size()
			if x.Inst.state == Running {
				r.Pid = p.Pid()
			}
			if h, ok := p.(hyper.Judged); ok {
				r.HangNs = int64(h.Hang())
			}
		}
		rows = append(rows, r)
	}
	for name, o := range m.off {
		rows = append(rows, Row{Name: name, Class: o.info.Class.String(), Source: Builtin, Flag: flag(false, true), Refs: -1,
			Requires: append([]string{}, o.info.Requires...), State: Disabled, Instance: o.spec.Instance, Causes: make(map[string]int)})
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].Name < rows[j].Name })
	return rows
}

// Exists reports whether a module is loaded (modctl EXISTS).
func (m *Manager) Exists(name string) bool {
	m.tab.Lock()
	defer m.tab.Unlock()
	return m.mods[name] != nil
}

// Hold takes a reference to a module. ENOENT.
func (m *Manager) Hold(name string) error {
	m.tab.Lock()
	defer m.tab.Unlock()
	x := m.mods[name]
	if x == nil {
		return abi.ENOENT
	}
	x.refs++
	return nil
}

// Rele gives the reference back. ENOENT, where NetBSD panics.
func (m *Manager) Rele(name string) error {
	m.tab.Lock()
	defer m.tab.Unlock()
	x := m.mods[name]
	if x == nil || x.refs == 0 {
		return abi.ENOENT
	}
	x.refs--
	return nil
}

// slots tells each faction whether its slot is filled.
func (m *Manager) slots() {
	filled := make(map[Faction]bool)
	m.tab.Lock()
	for _, i := range m.inst {
		if i.state != Failed {
			for _, f := range m.factionsLocked(i) {
				filled[f] = true
			}
		}
	}
	m.tab.Unlock()
	for _, f := range m.d.Factions {
		f.Available(filled[f])
	}
}

// StartSpec says how to start an instance.
type StartSpec struct {
	Instance  string
	Plugin    string
	Source    Source
	Essential bool
	Class     modapi.Class // that a module of it must have; ClassAny: none
	Props     modapi.Props // for every module of the instance
	Force     bool         // a module of another kernel version is taken all the same
}

// Start attaches a running plugin process as a new instance: every module is
// checked and initialised, all or none. On an error the process is stopped.
// EEXIST, EPROGMISMATCH, EINVAL, or what Init said.
func (m *Manager) Start(ctx context.Context, s StartSpec, p hyper.Plugin) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.start(ctx, s, p, LoadSpec{Force: s.Force}, nil)
}

func (m *Manager) start(ctx context.Context, s StartSpec, p hyper.Plugin, how LoadSpec, chain []string) error {
	i := &Instance{Name: s.Instance, Plugin: s.Plugin, Source: s.Source, Essential: s.Essential, state: Running, epoch: 1, proc: p, props: make(map[string]modapi.Props)}
	m.tab.Lock()
	taken := m.inst[i.Name] != nil
	if !taken {
		m.inst[i.Name] = i
	}
	m.tab.Unlock()
	if taken {
		p.Stop(ctx)
		return fmt.Errorf("instance %s: %w", i.Name, abi.EEXIST)
	}
	err := checkProps(s.Props)
	if len(p.Modules()) == 0 && err == nil {
		err = fmt.Errorf("%s carries no modules: %w", s.Plugin, abi.ENOEXEC)
	}
	if err == nil && s.Class != modapi.ClassAny && !slices.ContainsFunc(p.Modules(), func(m modapi.Module) bool { return m.Info().Class == s.Class }) {
		err = fmt.Errorf("%s has no module of class %s: %w", s.Plugin, s.Class, abi.EINVAL)
	}
	for _, mod := range p.Modules() {
		if err != nil {
			break
		}
		if how.only && mod.Info().Name != how.Name {
			continue
		}
		err = m.attach(ctx, i, mod, s.Props, how, chain)
	}
	if err != nil {
		err = cause(p, err)
		for _, x := range slices.Backward(slices.Clone(i.mods)) {
			x.m.Fini(ctx)
			m.detach(x)
		}
		m.tab.Lock()
		delete(m.inst, i.Name)
		m.tab.Unlock()
		p.Stop(ctx)
		if s.Source == Builtin && InitFailed(err) && len(p.Modules()) == 1 {
			m.disable(p.Modules()[0].Info(), p, s)
		}
		m.slots()
		return err
	}
	m.slots()
	m.d.Msg.Printf("%s: %sattached: %s", i.Name, process(p), strings.Join(i.names(), ", "))
	m.d.Events.Emit(evlog.Event{Kind: evlog.Started, Instance: i.Name, Pid: p.Pid(), Epoch: i.epoch, Text: strings.Join(i.names(), " ")})
	m.tab.Lock()
	fs := m.factionsLocked(i)
	m.tab.Unlock()
	for _, f := range fs {
		if err := f.Up(ctx, i.Name); err != nil {
			m.d.Msg.Printf("%s: %v", i.Name, err)
		}
	}
	m.tab.Lock()
	ended := m.inst[i.Name] != i // by KillAll, which waits for nobody
	m.tab.Unlock()
	if ended {
		p.Stop(ctx)
		return fmt.Errorf("instance %s: %w", i.Name, ErrEnded)
	}
	if m.d.Started != nil {
		m.d.Started(i)
	}
	return nil
}

// deathWait is how long the death of a process may take to show after its
// connection broke.
const deathWait = 500 * time.Millisecond

// cause makes the error of a call to a process that has died tell how.
func cause(p hyper.Plugin, err error) error {
	var dead *stream.Dead
	if !errors.As(err, &dead) {
		return err
	}
	t := time.NewTimer(deathWait)
	defer t.Stop()
	select {
	case <-p.Done():
		return fmt.Errorf("process %d died: %s: %w", p.Pid(), p.Cause(), abi.EIO)
	case <-t.C:
		return err
	}
}

// process names a plugin's process, nothing if it has none.
func process(p hyper.Plugin) string {
	if pid := p.Pid(); pid != 0 {
		return fmt.Sprintf("process %d ", pid)
	}
	return ""
}

// names are the modules of an instance, for messages. Preconditions: mu is held.
func (i *Instance) names() []string {
	var s []string
	for _, x := range i.mods {
		s = append(s, x.Name)
	}
	return s
}

// attach checks and initialises one module of an instance.
func (m *Manager) attach(ctx context.Context, i *Instance, mod modapi.Module, props modapi.Props, how LoadSpec, chain []string) error {
	info := mod.Info()
	if err := info.Check(); err != nil {
		return err
	}
	if !info.Kern.Compatible(abi.KernVersionCurrent) {
		if !how.Force {
			return fmt.Errorf("module %s: rump version mismatch, %d vs. %d: %w", info.Name, info.Kern, abi.KernVersionCurrent, abi.EPROGMISMATCH)
		}
		m.errorf("module %s: rump version mismatch, %d vs. %d", info.Name, info.Kern, abi.KernVersionCurrent)
		m.errorf("forced load, system may be unstable")
	}
	if bad := info.Caps & modapi.CapsRequired; bad != 0 {
		return fmt.Errorf("module %s requires capabilities %#x that this kernel does not have: %w", info.Name, bad, abi.EPROGMISMATCH)
	}
	x := &Mod{Name: info.Name, Info: info, Inst: i, m: mod, forced: how.Force, auto: how.auto}
	m.tab.Lock()
	if old := m.mods[x.Name]; old != nil {
		if old.Inst == i || i.Source != Boot {
			m.tab.Unlock()
			return fmt.Errorf("module %s: %w", x.Name, abi.EEXIST)
		}
		x.Name += "@" + i.Name
		if m.mods[x.Name] != nil {
			m.tab.Unlock()
			return fmt.Errorf("module %s: %w", x.Name, abi.EEXIST)
		}
	}
	m.tab.Unlock()
	reqs, err := m.require(ctx, info, how, chain)
	if err != nil {
		return err
	}
	x.requires = reqs
	if err := m.init(ctx, x, modapi.Fresh, props); err != nil {
		m.detach(x)
		return err
	}
	m.tab.Lock()
	i.props[info.Name] = props
	i.mods = append(i.mods, x)
	m.seq++
	x.seq = m.seq
	m.mods[x.Name] = x
	if _, ok := m.homes[info.Name]; !ok && i.Source == Boot {
		m.homes[info.Name] = home{i.Name, i.Plugin}
	}
	m.tab.Unlock()
	m.symbols(x)
	return nil
}

// init runs the module's Init with a Kernel that records what it attaches.
func (m *Manager) init(ctx context.Context, x *Mod, r modapi.Reason, props modapi.Props) error {
	x.k = newKernel(m, x)
	err := x.m.Init(ctx, x.k, r, props)
	x.k.close()
	if err != nil {
		return &initError{fmt.Errorf("module %s: %w", x.Name, err)}
	}
	return nil
}

// initError is what a module's Init answered.
type initError struct{ error }

func (e *initError) Unwrap() error { return e.error }

// InitFailed reports whether an error is a module's own: its Init refused. A
// builtin that did is listed as disabled, and can be loaded with force.
func InitFailed(err error) bool {
	var e *initError
	return errors.As(err, &e)
}

// detach undoes everything that a module attached and forgets it.
func (m *Manager) detach(x *Mod) {
	m.tab.Lock()
	att := x.att
	x.att = nil
	reqs := x.requires
	x.requires = nil
	for _, d := range reqs {
		d.refs--
	}
	if m.mods[x.Name] == x {
		delete(m.mods, x.Name)
	}
	x.Inst.mods = slices.DeleteFunc(x.Inst.mods, func(y *Mod) bool { return y == x })
	m.tab.Unlock()
	for _, a := range slices.Backward(att) {
		a.f.Detach(x.Inst.Name, a.name)
	}
	m.d.Sysctl.Destroy(x.owner())
	m.d.DropSyscalls(x.owner())
	m.dropBlocks(x.owner())
	if m.d.Symbols != nil {
		m.d.Symbols(x.Name, nil)
	}
}

// symbols tells the symbol table what a module has attached.
func (m *Manager) symbols(x *Mod) {
	if m.d.Symbols == nil {
		return
	}
	m.tab.Lock()
	names := []string{x.Info.Name + "_modinfo"}
	for _, a := range x.att {
		names = append(names, x.Info.Name+"_"+a.name)
	}
	m.tab.Unlock()
	m.d.Symbols(x.Name, names)
}

// dropBlocks closes the block devices of a module or, with "instance/", of all
// modules of one.
func (m *Manager) dropBlocks(owner string) {
	if m.d.DropBlocks != nil {
		m.d.DropBlocks(owner)
	}
}

func (x *Mod) owner() string { return x.Inst.Name + "/" + x.Info.Name }
