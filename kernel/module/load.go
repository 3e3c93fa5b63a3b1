package module

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// LoadSpec says what to load and how (modctl_load_t).
type LoadSpec struct {
	Name    string       // on kern.module.path, or a path with a '/'
	Props   modapi.Props // the user's; they override those of the file
	Force   bool         // MODCTL_LOAD_FORCE: other kernel versions, disabled builtins
	NoProps bool         // MODCTL_NO_PROP: the file of properties is not read

	auto  bool         // by autoload
	exact bool         // the plugin must carry a module of this name
	class modapi.Class // and of this class; ClassAny: any
	only  bool         // of the plugin only the module of this name is attached
}

// Load loads a module by name or path (modctl LOAD). EEXIST if it is loaded.
func (m *Manager) Load(ctx context.Context, name string, props modapi.Props) error {
	return m.LoadWith(ctx, LoadSpec{Name: name, Props: props})
}

// LoadWith is Load with all that can be said. EEXIST; ENOENT not found, or not
// of the class or name asked for; EPROGMISMATCH another kernel version; ENOEXEC
// no plugin; EINVAL bad names or properties; ENOMEM too many of them; EFBIG too
// large a file of them; EPERM a disabled builtin without Force; EMLINK, EDEADLK
// dependencies; or what Init said.
func (m *Manager) LoadWith(ctx context.Context, s LoadSpec) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.load(ctx, s, nil)
	switch e := abi.ErrnoOf(err); {
	case err == nil:
		m.debugf("module `%s' loaded successfully", s.Name)
	case e == abi.EEXIST, s.auto && e == abi.ENOENT:
		m.debugf("%v", err)
	default:
		m.errorf("%v", err)
	}
	return err
}

func (m *Manager) load(ctx context.Context, s LoadSpec, chain []string) error {
	name := s.Name
	if name == "" {
		return fmt.Errorf("modload: no name: %w", abi.EINVAL)
	}
	inst := name
	if strings.Contains(name, "/") {
		inst = strings.NewReplacer("-", "_", ".", "_").Replace(path.Base(name))
	}
	if !modapi.ValidName(inst) {
		return fmt.Errorf("modload %s: %q cannot name a module ([a-z][a-z0-9_]*, at most 31 bytes): %w", name, inst, abi.EINVAL)
	}
	m.tab.Lock()
	exists := m.mods[inst] != nil || m.inst[inst] != nil && m.off[inst] == nil
	off := m.off[name]
	var idle modapi.Module
	var host *Instance
	for _, i := range m.inst {
		if i.state != Running || strings.Contains(name, "/") || exists || i.proc == nil {
			continue
		}
		for _, mod := range i.proc.Modules() {
			if mod.Info().Name == name && !slices.ContainsFunc(i.mods, func(x *Mod) bool { return x.m == mod }) {
				idle, host = mod, i
			}
		}
	}
	m.tab.Unlock()
	if exists {
		return fmt.Errorf("modload %s: %w", name, abi.EEXIST)
	}
	if err := checkProps(s.Props); err != nil {
		return err
	}
	if off != nil && !s.Force {
		m.errorf("use -f to reinstate builtin module `%s'", name)
		return fmt.Errorf("modload %s: is a disabled builtin, use -f to reinstate it: %w", name, abi.EPERM)
	}
	switch {
	case idle != nil: // unloaded before, its process lives
		if err := s.accepts([]modapi.Module{idle}); err != nil {
			return err
		}
		props, err := m.merge(host.proc, s)
		if err != nil {
			return err
		}
		if err := m.attach(ctx, host, idle, props, s, chain); err != nil {
			return err
		}
		m.up(ctx, host)
		m.reinstated(name)
		m.autoloaded(s, name)
		return nil
	case off != nil:
		off.spec.Props = s.Props
		if err := m.start(ctx, off.spec, off.p, s, chain); err != nil {
			return err
		}
		m.reinstated(name)
		return nil
	}
	plugin := name
	p, err := m.d.Load(ctx, hyper.PluginSpec{Instance: inst, Plugin: plugin, Epoch: 1})
	if h, ok := m.homeOf(name); ok && abi.ErrnoOf(err) == abi.ENOENT {
		inst, plugin = h.instance, h.plugin
		s.exact, s.only = true, true
		p, err = m.d.Load(ctx, hyper.PluginSpec{Instance: inst, Plugin: plugin, Epoch: 1})
	}
	if err != nil {
		return fmt.Errorf("modload %s: %w", name, err)
	}
	if err := s.accepts(p.Modules()); err != nil {
		p.Stop(ctx)
		return err
	}
	props, err := m.merge(p, s)
	if err != nil {
		p.Stop(ctx)
		return err
	}
	if err := m.start(ctx, StartSpec{Instance: inst, Plugin: plugin, Source: Filesys, Props: props}, p, s, chain); err != nil {
		return err
	}
	m.autoloaded(s, inst)
	return nil
}

// home is where a module was at boot: a component of the configuration, whose
// plugin may be called otherwise than the module.
type home struct{ instance, plugin string }

// homeOf is where the module called name was at boot, if it was anywhere. It is
// loaded from there again when there is no plugin of its own name.
func (m *Manager) homeOf(name string) (home, bool) {
	m.tab.Lock()
	defer m.tab.Unlock()
	h, ok := m.homes[name]
	return h, ok
}

// accepts reports whether a plugin has what was asked for: ENOENT.
func (s LoadSpec) accepts(mods []modapi.Module) error {
	if !s.exact {
		return nil
	}
	for _, mod := range mods {
		if info := mod.Info(); info.Name == s.Name {
			if s.class != modapi.ClassAny && info.Class != s.class {
				return fmt.Errorf("modload %s: is of class %s, not %s: %w", s.Name, info.Class, s.class, abi.ENOENT)
			}
			return nil
		}
	}
	return fmt.Errorf("modload %s: the plugin of this name has no such module: %w", s.Name, abi.ENOENT)
}

// up lets the factions of an instance have what one more of its modules has
// attached.
func (m *Manager) up(ctx context.Context, i *Instance) {
	m.slots()
	m.tab.Lock()
	fs := m.factionsLocked(i)
	m.tab.Unlock()
	for _, f := range fs {
		if err := f.Up(ctx, i.Name); err != nil {
			m.d.Msg.Printf("%s: %v", i.Name, err)
		}
	}
}

// reinstated takes a builtin off the list of those that are disabled.
func (m *Manager) reinstated(name string) {
	m.tab.Lock()
	delete(m.off, name)
	m.tab.Unlock()
}

// maxDepth bounds chains of dependencies, as MAXMODDEPS does (EMLINK).
const maxDepth = 6

// require loads what info requires and takes references.
func (m *Manager) require(ctx context.Context, info modapi.Info, how LoadSpec, chain []string) ([]*Mod, error) {
	if slices.Contains(chain, info.Name) {
		return nil, fmt.Errorf("module %s requires itself by way of %s: %w", info.Name, strings.Join(chain, ", "), abi.EDEADLK)
	}
	if len(chain) >= maxDepth {
		return nil, fmt.Errorf("module %s: dependencies %d deep: %w", info.Name, len(chain), abi.EMLINK)
	}
	chain = append(slices.Clone(chain), info.Name)
	var held []*Mod
	drop := func() {
		m.tab.Lock()
		for _, d := range held {
			d.refs--
		}
		m.tab.Unlock()
	}
	for _, name := range info.Requires {
		if slices.Contains(chain, name) {
			drop()
			return nil, fmt.Errorf("module %s requires %s, which requires it: %w", info.Name, name, abi.EDEADLK)
		}
		if !m.Exists(name) {
			dep := LoadSpec{Name: name, Force: how.Force, NoProps: how.NoProps, auto: how.auto, exact: true}
			if err := m.load(ctx, dep, chain); err != nil {
				drop()
				return nil, fmt.Errorf("module %s requires %s: %w", info.Name, name, err)
			}
		}
		m.tab.Lock()
		d := m.mods[name]
		if d != nil {
			d.refs++
			held = append(held, d)
		}
		m.tab.Unlock()
		if d == nil {
			drop()
			return nil, fmt.Errorf("module %s requires %s: %w", info.Name, name, abi.ENOENT)
		}
	}
	return held, nil
}
