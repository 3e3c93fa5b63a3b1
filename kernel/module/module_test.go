package module

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/evcnt"
	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/kernel/kprintf"
	"github.com/rumpus-kernel/rumpus/kernel/sysctl"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// mod is a module of these tests: it attaches one file system of its name if
// it is of class vfs, and a sysctl node.
type mod struct {
	info    modapi.Info
	initErr error
	finiErr error
	log     *[]string
	k       modapi.Kernel
}

func (m *mod) Info() modapi.Info { return m.info }

func (m *mod) Init(_ context.Context, k modapi.Kernel, r modapi.Reason, p modapi.Props) error {
	*m.log = append(*m.log, "init "+m.info.Name+" "+r.String())
	m.k = k
	if m.info.Class == modapi.ClassVFS {
		if err := k.AttachFS(m.info.Name, nil, 0); err != nil {
			return err
		}
	}
	if err := k.Sysctl(modapi.SysctlNode{Name: "test." + m.info.Name, Get: func() string { return fmt.Sprint(p["n"]) }}); err != nil {
		return err
	}
	return m.initErr
}

func (m *mod) Fini(context.Context) error {
	*m.log = append(*m.log, "fini "+m.info.Name)
	return m.finiErr
}

// plugin is a stand-in of a process.
type plugin struct {
	mods    []modapi.Module
	done    chan struct{}
	stopped bool
}

func (p *plugin) Modules() []modapi.Module { return p.mods }
func (p *plugin) Pid() int                 { return 42 }
func (p *plugin) Size() int64              { return 1000 }
func (p *plugin) Done() <-chan struct{}    { return p.done }
func (p *plugin) Cause() string            { return "killed by SIGKILL" }
func (p *plugin) Stop(context.Context)     { p.stopped = true }

// faction records what it is told.
type faction struct {
	log    *[]string
	used   map[string]bool
	hidden map[string]bool
	avail  bool
}

func (f *faction) Available(on bool)                    { f.avail = on }
func (f *faction) Down(i string)                        { *f.log = append(*f.log, "down "+i) }
func (f *faction) Up(_ context.Context, i string) error { *f.log = append(*f.log, "up "+i); return nil }
func (f *faction) Gone(i string)                        { *f.log = append(*f.log, "gone "+i) }
func (f *faction) Hide(_, name string) bool             { f.hidden[name] = !f.used[name]; return !f.used[name] }
func (f *faction) Show(_, name string)                  { f.hidden[name] = false }
func (f *faction) Detach(i, name string)                { *f.log = append(*f.log, "detach "+name) }

type world struct {
	m       *Manager
	log     []string
	vfs     *faction
	plugins map[string]func() *plugin
	tree    *sysctl.Tree
	msg     *kprintf.Msgbuf
}

func newWorld() *world {
	w := &world{plugins: map[string]func() *plugin{}, tree: sysctl.New(), msg: kprintf.New(time.Now, nil, nil)}
	w.vfs = &faction{log: &w.log, used: map[string]bool{}, hidden: map[string]bool{}}
	w.m = New(Deps{
		Load: func(_ context.Context, s hyper.PluginSpec) (hyper.Plugin, error) {
			if f := w.plugins[s.Plugin]; f != nil {
				return f(), nil
			}
			return nil, abi.ENOENT
		},
		Sysctl: w.tree, Evcnt: evcnt.New(), Msg: w.msg,
		Factions: map[modapi.Class]Faction{modapi.ClassVFS: w.vfs},
		AttachFS: func(_, name string, _ vfsops.FSType, _ vfsops.Caps) error {
			w.log = append(w.log, "attach "+name)
			return nil
		},
		Syscall:      func(string, int, modapi.SyscallFn) error { return nil },
		DropSyscalls: func(string) {},
	})
	return w
}

func (w *world) mod(name string, class modapi.Class, requires ...string) *mod {
	return &mod{info: modapi.Info{Name: name, Class: class, Kern: abi.KernVersionCurrent, Requires: requires}, log: &w.log}
}

// offer makes a plugin of the module's name that modload can find.
func (w *world) offer(m *mod) *mod {
	w.plugins[m.info.Name] = func() *plugin { return &plugin{mods: []modapi.Module{m}, done: make(chan struct{})} }
	return m
}

func errno(err error) abi.Errno {
	if err == nil {
		return 0
	}
	return abi.ErrnoOf(err)
}

// TestCycle is the module cycle of NetBSD's own tests: load, double load,
// unload, double unload, twice over (defect C of the seed: after a fini the
// module could not be loaded again).
func TestCycle(t *testing.T) {
	ctx := context.Background()
	w := newWorld()
	w.offer(w.mod("foo", modapi.ClassVFS))
	for range 2 {
		if w.m.Exists("foo") || w.vfs.avail {
			t.Error("loaded before it is")
		}
		if err := w.m.Load(ctx, "foo", modapi.Props{"n": 7}); err != nil {
			t.Fatal(err)
		}
		if v, err := w.tree.Get("test.foo"); err != nil || v != "7" {
			t.Errorf("sysctl %q %v", v, err)
		}
		if !w.m.Exists("foo") || !w.vfs.avail {
			t.Error("not there after the load")
		}
		if err := w.m.Load(ctx, "foo", nil); errno(err) != abi.EEXIST {
			t.Errorf("double load: %v", err)
		}
		if err := w.m.Unload(ctx, "foo"); err != nil {
			t.Error(err)
		}
		if err := w.m.Unload(ctx, "foo"); errno(err) != abi.ENOENT {
			t.Errorf("double unload: %v", err)
		}
		if _, err := w.tree.Get("test.foo"); errno(err) != abi.ENOENT {
			t.Errorf("the sysctl node stayed: %v", err)
		}
	}
	want := "init foo fresh,attach foo,up foo,fini foo,detach foo"
	if got := strings.Join(w.log, ","); got != want+","+want {
		t.Errorf("log %s", got)
	}
}

func TestRefusals(t *testing.T) {
	ctx := context.Background()
	w := newWorld()
	bad := w.offer(w.mod("bad", modapi.ClassVFS))
	bad.initErr = abi.ENXIO
	old := w.offer(w.mod("old", modapi.ClassMisc))
	old.info.Kern += 10000
	need := w.offer(w.mod("need", modapi.ClassMisc))
	need.info.Caps = 1 << 3
	sticky := w.offer(w.mod("sticky", modapi.ClassMisc))
	sticky.finiErr = abi.EBUSY
	w.offer(w.mod("used", modapi.ClassVFS))
	w.vfs.used["used"] = true
	w.offer(w.mod("self", modapi.ClassMisc, "self"))
	w.offer(w.mod("a", modapi.ClassMisc, "b"))
	w.offer(w.mod("b", modapi.ClassMisc, "a"))
	w.offer(w.mod("lacks", modapi.ClassMisc, "absent"))
	for i := range 8 {
		w.offer(w.mod(fmt.Sprintf("deep%d", i), modapi.ClassMisc, fmt.Sprintf("deep%d", i+1)))
	}
	w.plugins["empty"] = func() *plugin { return &plugin{} }
	big := modapi.Props{"x": strings.Repeat("y", MaxProps)}
	for _, tc := range []struct {
		name  string
		props modapi.Props
		want  abi.Errno
	}{
		{"", nil, abi.EINVAL},
		{"No", nil, abi.EINVAL},
		{strings.Repeat("x", 32), nil, abi.EINVAL},
		{"absent", nil, abi.ENOENT},
		{"bad", nil, abi.ENXIO},
		{"old", nil, abi.EPROGMISMATCH},
		{"need", nil, abi.EPROGMISMATCH},
		{"empty", nil, abi.ENOEXEC},
		{"sticky", big, abi.ENOMEM},
		{"self", nil, abi.EDEADLK},
		{"a", nil, abi.EDEADLK},
		{"lacks", nil, abi.ENOENT},
		{"deep0", nil, abi.EMLINK},
		{"sticky", nil, 0},
		{"used", nil, 0},
	} {
		if err := w.m.Load(ctx, tc.name, tc.props); errno(err) != tc.want {
			t.Errorf("load %.40q: %v, want %v", tc.name, err, tc.want)
		}
	}
	for name, want := range map[string]abi.Errno{"sticky": abi.EBUSY, "used": abi.EBUSY, "bad": abi.ENOENT} {
		if err := w.m.Unload(ctx, name); errno(err) != want {
			t.Errorf("unload %s: %v, want %v", name, err, want)
		}
	}
	if rows := w.m.Rows(); len(rows) != 2 || rows[0].Name != "sticky" || rows[1].Name != "used" {
		t.Errorf("left loaded: %+v", rows)
	}
}

func TestDependencies(t *testing.T) {
	ctx := context.Background()
	w := newWorld()
	w.offer(w.mod("top", modapi.ClassMisc, "base"))
	w.offer(w.mod("base", modapi.ClassMisc))
	if err := w.m.Load(ctx, "top", nil); err != nil {
		t.Fatal(err)
	}
	if err := w.m.Unload(ctx, "base"); errno(err) != abi.EBUSY {
		t.Errorf("unload of a required module: %v", err)
	}
	if rows := w.m.Rows(); len(rows) != 2 || rows[0].Refs != 1 || !slices.Equal(rows[1].Requires, []string{"base"}) {
		t.Errorf("rows %+v", rows)
	}
	w.log = nil
	w.m.FiniAll(ctx)
	if got := strings.Join(w.log, ","); got != "fini top,fini base" {
		t.Errorf("fini order %s", got)
	}
}

// TestRestart takes an instance down and up again; the new module is told why
// it is initialised and nothing is detached in between.
func TestRestart(t *testing.T) {
	ctx := context.Background()
	w := newWorld()
	var inst *Instance
	w.m.d.Started = func(i *Instance) { inst = i }
	p1 := &plugin{mods: []modapi.Module{w.mod("foo", modapi.ClassVFS)}}
	if err := w.m.Start(ctx, StartSpec{Instance: "vfs", Plugin: "vfs", Source: Boot, Props: modapi.Props{"n": 1}}, p1); err != nil {
		t.Fatal(err)
	}
	w.log = nil
	if !w.m.Down(inst, p1) || w.m.Down(inst, p1) {
		t.Error("down is once")
	}
	if r := w.m.Rows()[0]; r.State != Restarting || r.Pid != 0 {
		t.Errorf("row %+v", r)
	}
	if err := w.m.Unload(ctx, "foo"); errno(err) != abi.EBUSY {
		t.Errorf("unload while restarting: %v", err)
	}
	p2 := &plugin{mods: []modapi.Module{w.mod("foo", modapi.ClassVFS)}}
	if err := w.m.Up(ctx, inst, p2); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(w.log, ","); got != "down vfs,init foo restart,attach foo,up vfs" {
		t.Errorf("log %s", got)
	}
	if r := w.m.Rows()[0]; r.State != Running || r.Pid != 42 || r.Restarts != 1 || r.Epoch != 2 {
		t.Errorf("row %+v", r)
	}
	if v, _ := w.tree.Get("test.foo"); v != "1" {
		t.Errorf("the properties were lost: %q", v)
	}
	b, _ := w.msg.Read(0)
	if !strings.Contains(string(b), "vfs: process 42 died: killed by SIGKILL") || !strings.Contains(string(b), "vfs: restarted as process 42, epoch 2") {
		t.Errorf("messages %s", b)
	}
	w.m.Down(inst, p2)
	w.m.Gone(inst, "tired")
	if w.vfs.avail || w.m.Rows()[0].State != Failed {
		t.Error("the slot is still filled")
	}
	if err := w.m.Unload(ctx, "foo"); err != nil {
		t.Errorf("a failed module cannot be unloaded: %v", err)
	}
}

func TestAttachOutsideInit(t *testing.T) {
	ctx := context.Background()
	w := newWorld()
	m := w.offer(w.mod("foo", modapi.ClassVFS))
	if err := w.m.Load(ctx, "foo", nil); err != nil {
		t.Fatal(err)
	}
	if err := m.k.AttachFS("late", nil, 0); errno(err) != abi.EPERM {
		t.Errorf("attach after init: %v", err)
	}
	if err := (&kernel{m: w.m, x: &Mod{Name: "x", Info: m.info}}).Syscall(640, nil); errno(err) != abi.EPERM {
		t.Errorf("a file system attaching a system call: %v", err)
	}
}

// TestTwoInstances loads one plugin twice by configuration.
func TestTwoInstances(t *testing.T) {
	ctx := context.Background()
	w := newWorld()
	for _, inst := range []string{"vfs", "untrusted"} {
		m := w.mod("foo", modapi.ClassMisc)
		m.info.Class = modapi.ClassMisc
		p := &plugin{mods: []modapi.Module{&noSysctl{m}}}
		if err := w.m.Start(ctx, StartSpec{Instance: inst, Plugin: "vfs", Source: Boot}, p); err != nil {
			t.Fatal(err)
		}
	}
	rows := w.m.Rows()
	if len(rows) != 2 || rows[0].Name != "foo" || rows[1].Name != "foo@untrusted" {
		t.Errorf("rows %+v", rows)
	}
}

// noSysctl is a module without the node, which is one for the whole tree.
type noSysctl struct{ *mod }

func (*noSysctl) Init(context.Context, modapi.Kernel, modapi.Reason, modapi.Props) error { return nil }
