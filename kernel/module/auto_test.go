package module

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/clock"
	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/kernel/kthread"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// filed is a plugin with a file of properties.
type filed struct {
	*plugin
	text string
	err  error
}

func (f *filed) PropsFile(max int) ([]byte, error) {
	if f.err != nil {
		return nil, f.err
	}
	return []byte(f.text)[:min(len(f.text), max)], nil
}

var _ hyper.PropsFiler = (*filed)(nil)

func (w *world) messages() string {
	b, _ := w.msg.Read(0)
	return string(b)
}

// TestPropsFile: the file's properties first, the user's over them; a file
// that is too large or makes no sense; none read with NoProps.
func TestPropsFile(t *testing.T) {
	ctx := context.Background()
	w := newWorld()
	m := w.mod("foo", modapi.ClassMisc)
	f := &filed{plugin: &plugin{mods: []modapi.Module{m}}}
	w.m.d.Load = func(context.Context, hyper.PluginSpec) (hyper.Plugin, error) { return f, nil }
	for _, tc := range []struct {
		text  string
		err   error
		props modapi.Props
		no    bool
		want  abi.Errno
		n     string
	}{
		{text: `{"n": 5}`, n: "5"},
		{text: `{"n": 5}`, props: modapi.Props{"n": int64(6)}, n: "6"},
		{text: `{"m": 5}`, props: modapi.Props{"n": int64(7)}, n: "7"},
		{text: ``, n: "<nil>"},
		{err: abi.ENOENT, n: "<nil>"},
		{text: `{"n": 5}`, no: true, n: "<nil>"},
		{text: `[1`, no: true, n: "<nil>"},
		{text: `{"n": 9007199254740993}`, n: "9007199254740993"},
		{text: `[1]`, want: abi.EINVAL},
		{text: `{"n": }`, want: abi.EINVAL},
		{text: `{} {}`, want: abi.EINVAL},
		{text: `{"n": 1e999}`, want: abi.EINVAL},
		{err: abi.EACCES, want: abi.EACCES},
		{text: "{" + strings.Repeat(" ", MaxPropsFile-1) + "}", want: abi.EFBIG},
		{text: "{" + strings.Repeat(" ", MaxPropsFile-2) + "}", n: "<nil>"},
		{text: `{"x": "` + strings.Repeat("y", MaxProps) + `"}`, want: abi.ENOMEM},
	} {
		f.text, f.err, f.stopped = tc.text, tc.err, false
		err := w.m.LoadWith(ctx, LoadSpec{Name: "foo", Props: tc.props, NoProps: tc.no})
		if errno(err) != tc.want {
			t.Errorf("%.40q: %v, want %v", tc.text, err, tc.want)
		}
		if err != nil {
			if !f.stopped {
				t.Errorf("%.40q: the process goes on", tc.text)
			}
			continue
		}
		if v, _ := w.tree.Get("test.foo"); v != tc.n {
			t.Errorf("%.40q: n is %s, want %s", tc.text, v, tc.n)
		}
		if err := w.m.Unload(ctx, "foo"); err != nil {
			t.Error(err)
		}
	}
}

// TestForce: a module of another kernel version loads by force, with a warning,
// and so do the modules it requires.
func TestForce(t *testing.T) {
	ctx := context.Background()
	w := newWorld()
	for _, m := range []*mod{w.offer(w.mod("old", modapi.ClassMisc, "older")), w.offer(w.mod("older", modapi.ClassMisc))} {
		m.info.Kern += 10000
	}
	if err := w.m.Load(ctx, "old", nil); errno(err) != abi.EPROGMISMATCH {
		t.Fatal(err)
	}
	if strings.Contains(w.messages(), "forced") || !strings.Contains(w.messages(), "WARNING: module error: module old: rump version mismatch") {
		t.Errorf("messages %s", w.messages())
	}
	if err := w.m.LoadWith(ctx, LoadSpec{Name: "old", Force: true}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(w.messages(), "WARNING: module error: forced load, system may be unstable"); n != 2 {
		t.Errorf("%d warnings: %s", n, w.messages())
	}
	if rows := w.m.Rows(); len(rows) != 2 || rows[0].Flag != "-" {
		t.Errorf("rows %+v", rows)
	}
}

// TestBuiltin: a builtin that is unloaded is disabled, with -1 references and
// flag f, and comes back with force only; a builtin security model stays.
func TestBuiltin(t *testing.T) {
	ctx := context.Background()
	w := newWorld()
	for _, m := range []*mod{w.mod("bi", modapi.ClassVFS), w.mod("sec", modapi.ClassSecmodel)} {
		if err := w.m.Start(ctx, StartSpec{Instance: m.info.Name, Plugin: m.info.Name, Source: Builtin}, &plugin{mods: []modapi.Module{m}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.m.Unload(ctx, "sec"); errno(err) != abi.EPERM {
		t.Errorf("unload of a builtin security model: %v", err)
	}
	for range 2 {
		if err := w.m.Unload(ctx, "bi"); err != nil {
			t.Fatal(err)
		}
		if r := w.m.Rows()[0]; r.Name != "bi" || r.Refs != -1 || r.Flag != "f" || r.State != Disabled || r.Source != Builtin || w.m.Exists("bi") || w.vfs.avail {
			t.Errorf("row %+v", r)
		}
		if err := w.m.Unload(ctx, "bi"); errno(err) != abi.ENOENT {
			t.Errorf("second unload: %v", err)
		}
		if err := w.m.Load(ctx, "bi", nil); errno(err) != abi.EPERM || !strings.Contains(w.messages(), "use -f to reinstate builtin module `bi'") {
			t.Errorf("load without force: %v", err)
		}
		if err := w.m.Autoload(ctx, "bi", modapi.ClassVFS); errno(err) != abi.EPERM {
			t.Errorf("autoload of a disabled builtin: %v", err)
		}
		if err := w.m.LoadWith(ctx, LoadSpec{Name: "bi", Force: true, Props: modapi.Props{"n": 3}}); err != nil {
			t.Fatal(err)
		}
		if r := w.m.Rows()[0]; r.Refs != 0 || r.Flag != "-" || r.State != Running || r.Source != Builtin || !w.vfs.avail {
			t.Errorf("row %+v", r)
		}
		if v, _ := w.tree.Get("test.bi"); v != "3" {
			t.Errorf("properties: n is %s", v)
		}
	}
}

// TestBuiltinInitFails: a builtin whose Init fails at boot is listed as disabled,
// and comes with force once it can.
func TestBuiltinInitFails(t *testing.T) {
	ctx := context.Background()
	w := newWorld()
	m := w.mod("bi", modapi.ClassMisc)
	m.initErr = abi.ENXIO
	err := w.m.Start(ctx, StartSpec{Instance: "bi", Plugin: "bi", Source: Builtin, Props: modapi.Props{"n": 4}}, &plugin{mods: []modapi.Module{m}})
	if errno(err) != abi.ENXIO || !InitFailed(err) {
		t.Fatal(err)
	}
	if r := w.m.Rows(); len(r) != 1 || r[0].Refs != -1 || r[0].State != Disabled {
		t.Errorf("rows %+v", r)
	}
	m.initErr = nil
	if err := w.m.LoadWith(ctx, LoadSpec{Name: "bi", Force: true}); err != nil {
		t.Error(err)
	}
	if r := w.m.Rows(); len(r) != 1 || r[0].Refs != 0 || r[0].State != Running {
		t.Errorf("rows %+v", r)
	}
}

// TestHome: a module that was attached at boot by a component of another name is
// found there again once the component's process has ended; by whom it is
// wanted makes no difference. Only the module that is wanted is attached.
func TestHome(t *testing.T) {
	ctx := context.Background()
	w := newWorld()
	carry := func() *plugin {
		return &plugin{mods: []modapi.Module{w.mod("foofs", modapi.ClassVFS), w.mod("barfs", modapi.ClassVFS)}, done: make(chan struct{})}
	}
	w.plugins["many"] = carry
	if err := w.m.Load(ctx, "foofs", nil); errno(err) != abi.ENOENT {
		t.Errorf("before it was anywhere: %v", err)
	}
	if err := w.m.Start(ctx, StartSpec{Instance: "vfs", Plugin: "many", Source: Boot}, carry()); err != nil {
		t.Fatal(err)
	}
	end := func(names ...string) {
		t.Helper()
		for _, n := range names {
			if err := w.m.Unload(ctx, n); err != nil {
				t.Error(err)
			}
		}
		if len(w.m.Rows()) != 0 {
			t.Errorf("left: %v", w.m.Rows())
		}
	}
	end("foofs", "barfs")
	if err := w.m.Autoload(ctx, "barfs", modapi.ClassNet); errno(err) != abi.ENOENT {
		t.Errorf("of another class: %v", err)
	}
	for _, load := range []func() error{
		func() error { return w.m.Load(ctx, "barfs", nil) },
		func() error { return w.m.Autoload(ctx, "barfs", modapi.ClassVFS) },
	} {
		if err := load(); err != nil {
			t.Fatal(err)
		}
		rows := w.m.Rows()
		if len(rows) != 1 || rows[0].Name != "barfs" || rows[0].Source != Filesys || rows[0].Instance != "vfs" {
			t.Errorf("%+v", rows)
		}
		end("barfs")
	}
	if err := w.m.Load(ctx, "foofs", nil); err != nil {
		t.Fatal(err)
	}
	if err := w.m.Load(ctx, "barfs", nil); err != nil { // of the process that is there
		t.Error(err)
	}
	end("foofs", "barfs")
}

// TestAutoload: what may be autoloaded, and what the row says then.
func TestAutoload(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // of the caller, who is not waited for
	w := newWorld()
	w.offer(w.mod("foo", modapi.ClassVFS, "base"))
	w.offer(w.mod("base", modapi.ClassMisc))
	shy := &filed{plugin: &plugin{mods: []modapi.Module{w.mod("shy", modapi.ClassVFS)}}, text: `{"noautoload": true}`}
	other := &plugin{mods: []modapi.Module{w.mod("another", modapi.ClassVFS)}}
	load := w.m.d.Load
	w.m.d.Load = func(ctx context.Context, s hyper.PluginSpec) (hyper.Plugin, error) {
		if ctx.Err() != nil {
			t.Error("the load's context is the caller's")
		}
		switch s.Plugin {
		case "shy":
			return shy, nil
		case "other":
			return other, nil
		}
		return load(ctx, s)
	}
	w.m.SetAutoload(false)
	if err := w.m.Autoload(ctx, "foo", modapi.ClassVFS); errno(err) != abi.EPERM {
		t.Errorf("switched off: %v", err)
	}
	w.m.SetAutoload(true)
	for name, want := range map[string]abi.Errno{"../x": abi.EPERM, "a@b": abi.EPERM, "a.b": abi.EPERM, "": abi.ENOENT, "X": abi.ENOENT, "none": abi.ENOENT,
		"base": abi.ENOENT, "shy": abi.EPERM, "other": abi.ENOENT} {
		if err := w.m.Autoload(ctx, name, modapi.ClassVFS); errno(err) != want {
			t.Errorf("autoload %q: %v, want %v", name, err, want)
		}
	}
	if !shy.stopped || !other.stopped || len(w.m.Rows()) != 0 {
		t.Errorf("left behind: %v %v %+v", shy.stopped, other.stopped, w.m.Rows())
	}
	for range 2 {
		if err := w.m.Autoload(ctx, "foo", modapi.ClassVFS); err != nil {
			t.Fatal(err)
		}
	}
	rows := w.m.Rows()
	if len(rows) != 2 || rows[0].Flag != "a" || rows[0].Refs != 1 || rows[1].Flag != "a" || rows[1].Source != Filesys {
		t.Errorf("rows %+v", rows)
	}
	if err := w.m.LoadWith(context.Background(), LoadSpec{Name: "shy"}); err != nil {
		t.Errorf("noautoload forbids modload: %v", err)
	}
}

// unloader is a module that answers AUTOUNLOAD.
type unloader struct {
	*mod
	err error
}

func (u *unloader) AutoUnload(context.Context) error {
	*u.log = append(*u.log, "autounload "+u.info.Name)
	return u.err
}

// TestAutounload: an autoloaded module goes after kern.module.autotime unless
// it says no, is in use or the time is 0; one that stays is not tried again;
// one that was loaded by hand stays.
func TestAutounload(t *testing.T) {
	for _, tc := range []struct {
		name string
		time string
		hand bool
		err  error
		used bool
		gone bool
	}{
		{name: "silent", time: "10", err: abi.ENOTTY, gone: true},
		{name: "agrees", time: "1", gone: true},
		{name: "declines", time: "10", err: abi.EBUSY},
		{name: "used", time: "10", used: true},
		{name: "never", time: "0"},
		{name: "hand", time: "10", hand: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := context.Background()
			w := newWorld()
			w.m.d.Callouts, w.m.d.Threads = clock.New(nil), kthread.New(nil)
			if err := w.m.SetAutotime(tc.time); err != nil {
				t.Fatal(err)
			}
			w.m.SetVerbose(true)
			u := &unloader{w.mod(tc.name, modapi.ClassVFS), tc.err}
			w.plugins[tc.name] = func() *plugin { return &plugin{mods: []modapi.Module{u}} }
			w.vfs.used[tc.name] = tc.used
			var err error
			if tc.hand {
				err = w.m.Load(ctx, tc.name, nil)
			} else {
				err = w.m.Autoload(ctx, tc.name, modapi.ClassVFS)
			}
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if rows := w.m.d.Threads.Rows(); (len(rows) == 1 && rows[0].Name == "modunload") == (tc.hand || tc.time == "0") {
				t.Errorf("%s: threads %v", tc.name, rows)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if w.m.Exists(tc.name) == tc.gone {
				t.Errorf("%s: there: %v; %s", tc.name, !tc.gone, w.messages())
			}
			if n := strings.Count(strings.Join(w.log, ","), "autounload"); n > 1 {
				t.Errorf("%s: tried %d times", tc.name, n)
			}
			w.m.FiniAll(ctx)
			if err := w.m.d.Threads.Close(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// reluctant counts how often it is asked.
type reluctant struct {
	*mod
	tries atomic.Int32
	no    atomic.Bool
}

func (u *reluctant) AutoUnload(context.Context) error {
	u.tries.Add(1)
	if u.no.Load() {
		return abi.EBUSY
	}
	return nil
}

// TestAutounloadLowMemory: when memory is short what was autoloaded is tried
// before its time and again after it, but not more than once a second.
func TestAutounloadLowMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		w := newWorld()
		w.m.d.Callouts, w.m.d.Threads = clock.New(nil), kthread.New(nil)
		w.m.LowMemory() // with nothing loaded
		time.Sleep(2 * time.Second)
		u := &reluctant{mod: w.mod("auto", modapi.ClassVFS)}
		u.no.Store(true)
		tries := func() int { return int(u.tries.Load()) }
		short := func(want int, what string) {
			t.Helper()
			w.m.LowMemory()
			synctest.Wait()
			if tries() != want {
				t.Errorf("%s: tried %d times, want %d", what, tries(), want)
			}
		}
		w.plugins["auto"] = func() *plugin { return &plugin{mods: []modapi.Module{u}} }
		if err := w.m.Autoload(ctx, "auto", modapi.ClassVFS); err != nil {
			t.Fatal(err)
		}
		short(1, "before its time")
		short(1, "at once again")
		time.Sleep(time.Minute)
		synctest.Wait()
		short(3, "after its time") // which came meanwhile
		if err := w.m.SetAutotime("0"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		short(3, "never")
		_ = w.m.SetAutotime("10")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		u.no.Store(false)
		short(4, "when it does not mind")
		if w.m.Exists("auto") {
			t.Error("it is still there")
		}
		w.m.FiniAll(ctx)
		if err := w.m.d.Threads.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestAutotime: kern.module.autotime takes no negative time.
func TestAutotime(t *testing.T) {
	w := newWorld()
	if w.m.Autotime() != 10 {
		t.Errorf("default %d", w.m.Autotime())
	}
	for s, want := range map[string]abi.Errno{"-1": abi.EINVAL, "x": abi.EINVAL, "99999999999": abi.EINVAL, "0": 0, "7": 0} {
		if err := w.m.SetAutotime(s); errno(err) != want {
			t.Errorf("autotime %s: %v", s, err)
		}
	}
}

// TestVerbose: kern.module.verbose shows what is no error.
func TestVerbose(t *testing.T) {
	ctx := context.Background()
	w := newWorld()
	w.offer(w.mod("foo", modapi.ClassMisc))
	for _, on := range []bool{false, true} {
		w.m.SetVerbose(on)
		if err := w.m.Load(ctx, "foo", nil); err != nil {
			t.Fatal(err)
		}
		if err := w.m.Unload(ctx, "foo"); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(w.messages(), "DEBUG: module: "); got != on || w.m.Verbose() != on {
			t.Errorf("verbose %v: %s", on, w.messages())
		}
	}
}

// TestHoldRele: who holds a module keeps it from being unloaded.
func TestHoldRele(t *testing.T) {
	ctx := context.Background()
	w := newWorld()
	w.offer(w.mod("foo", modapi.ClassMisc))
	if err := w.m.Hold("foo"); errno(err) != abi.ENOENT {
		t.Errorf("hold of an unknown module: %v", err)
	}
	if err := w.m.Load(ctx, "foo", nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.m.Hold("foo"); err != nil {
			t.Error(err)
		}
	}
	for i := range 2 {
		if err := w.m.Unload(ctx, "foo"); errno(err) != abi.EBUSY {
			t.Errorf("%d released: %v", i, err)
		}
		if err := w.m.Rele("foo"); err != nil {
			t.Error(err)
		}
	}
	if err := w.m.Rele("foo"); errno(err) != abi.ENOENT {
		t.Errorf("one too many: %v", err)
	}
	if err := w.m.Unload(ctx, "foo"); err != nil {
		t.Error(err)
	}
}

// TestUnloadHides: an unload that is refused leaves what the module attached as
// it was; one that is done lets nobody in before Fini.
func TestUnloadHides(t *testing.T) {
	ctx := context.Background()
	w := newWorld()
	m := w.offer(w.mod("foo", modapi.ClassVFS))
	if err := w.m.Load(ctx, "foo", nil); err != nil {
		t.Fatal(err)
	}
	m.finiErr = abi.EBUSY
	if err := w.m.Unload(ctx, "foo"); errno(err) != abi.EBUSY || w.vfs.hidden["foo"] {
		t.Errorf("%v, hidden %v", err, w.vfs.hidden["foo"])
	}
	m.finiErr = nil
	if err := w.m.Unload(ctx, "foo"); err != nil || !w.vfs.hidden["foo"] {
		t.Errorf("%v, hidden %v", err, w.vfs.hidden["foo"])
	}
}

// TestDependencyName: a plugin found by the name of a dependency must carry a
// module of that name; what was loaded for it goes again when it fails.
func TestDependencyName(t *testing.T) {
	ctx := context.Background()
	w := newWorld()
	w.offer(w.mod("top", modapi.ClassMisc, "base"))
	wrong := &plugin{mods: []modapi.Module{w.mod("wrong", modapi.ClassMisc)}}
	w.plugins["base"] = func() *plugin { return wrong }
	if err := w.m.Load(ctx, "top", nil); errno(err) != abi.ENOENT {
		t.Error(err)
	}
	if !wrong.stopped || len(w.m.Rows()) != 0 {
		t.Errorf("left behind: %+v", w.m.Rows())
	}
	requires := []string{}
	for i := range 10 {
		requires = append(requires, fmt.Sprintf("m%d", i))
	}
	w.offer(w.mod("many", modapi.ClassMisc, requires...))
	if err := w.m.Load(ctx, "many", nil); errno(err) != abi.EINVAL {
		t.Errorf("ten dependencies: %v", err)
	}
}
