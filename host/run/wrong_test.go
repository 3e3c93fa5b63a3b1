package run

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// wrongPlugins are components that cannot start, by name: what plugin they
// have, and what is said of them.
func wrongPlugins(t *testing.T) map[string]struct{ plugin, says string } {
	t.Helper()
	dir := shortDir(t)
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("hello, world\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("hello, world\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return map[string]struct{ plugin, says string }{
		"w_true":  {"/bin/true", "component w_true: /bin/true: "},
		"w_cat":   {"/bin/cat", "component w_cat: /bin/cat: "},
		"w_text":  {text, "component w_text: " + text + ": "},
		"w_plain": {plain, "not executable"},
		"w_gone":  {dir + "/missing", "component w_gone: plugin " + dir + "/missing: no such file"},
		"w_dir":   {dir, "is a directory"},
		"t_exit":  {"tplug", "no such disk"},
		"t_hang":  {"tplug", "1s"},
		"t_wire":  {"tplug", "7"},
		"t_kern":  {"tplug", "rump version mismatch, 200000000 vs. 100000000"},
		"t_caps":  {"tplug", "requires capabilities 0x1"},
		"t_init":  {"tplug", "the disk has no label"},
		"t_die":   {"tplug", "no disk at all"},
		"t_class": {"tplug", "component t_class: tplug has no module of class driver"},
	}
}

// lines are the lines of s that are about a component.
func lines(s, name string) []string {
	var l []string
	for line := range strings.Lines(s) {
		if strings.Contains(line, name) {
			l = append(l, strings.TrimSuffix(line, "\n"))
		}
	}
	return l
}

// TestWrongPlugins: what cannot start is told in one clear line each, and the
// boot goes on without it.
func TestWrongPlugins(t *testing.T) {
	wrong := wrongPlugins(t)
	yaml := "components:\n  vfs: {}\n  net: {}\n  dev: {}\n"
	for name, w := range wrong {
		timeout := "10s"
		if name == "t_hang" {
			timeout = "1s"
		}
		yaml += "  " + name + ": {class: dev, plugin: " + w.plugin + ", start-timeout: " + timeout + "}\n"
	}
	began := time.Now()
	h := boot(t, yaml)
	t.Logf("the boot took %v", time.Since(began))
	for name, w := range wrong {
		l := lines(h.err.String(), name)
		if name == "t_die" { // its panic comes first
			l = l[len(l)-1:]
		}
		if len(l) != 1 || !strings.Contains(l[0], w.says) || strings.Count(l[0], name) > strings.Count(w.plugin, name)+2 {
			t.Errorf("%s (wanted %q):\n%s", name, w.says, strings.Join(l, "\n"))
		}
		t.Log(strings.Join(l, "\n"))
	}
	c := h.client()
	c.write("/x", "well")
	rows, err := c.Modstat(limited(t))
	c.must(err)
	for _, r := range rows {
		if _, is := wrong[r.Instance]; is {
			t.Errorf("modstat lists %+v", r)
		}
	}
	if n := len(c.pids()); n != 3 {
		t.Errorf("%d processes", n)
	}
}

// TestEssential: without an essential component there is no boot, and one line
// says why.
func TestEssential(t *testing.T) {
	wrong := wrongPlugins(t)
	for _, name := range []string{"w_true", "w_gone", "t_kern", "t_init", "t_exit"} {
		t.Run(name, func(t *testing.T) {
			h := start(t, "components:\n  vfs: {}\n  net: {}\n  "+name+": {class: dev, plugin: "+wrong[name].plugin+", essential: true}\n")
			var code int
			select {
			case code = <-h.done:
				h.done = nil
			case <-time.After(bootTime):
				t.Fatal("the boot hangs")
			}
			if code != ExitFailed && code != ExitConfig {
				t.Errorf("exit code %d", code)
			}
			out := h.err.String()
			if strings.Count(out, "\n") != 1 || !strings.Contains(out, wrong[name].says) || !strings.Contains(out, "essential") {
				t.Errorf("it says\n%s", out)
			}
			t.Log(out)
			if h.out.String() != "" {
				t.Errorf("stdout %q", h.out)
			}
			if _, err := os.Lstat(h.sock); !os.IsNotExist(err) {
				t.Errorf("the socket stays: %v", err)
			}
		})
	}
}

// TestBudget: a component that cannot be restarted is given up, its slot is
// empty, and the rest goes on. It can be unloaded and loaded again.
func TestBudget(t *testing.T) {
	h := boot(t, `
components:
  vfs: {}
  net: {}
  t_flaky: {class: dev, plugin: tplug, restart: {budget: 3, window: 10s}}
`)
	c := h.client()
	ctx := limited(t)
	if _, err := c.Stat(ctx, "/dev/flaky"); err != nil {
		t.Fatal(err)
	}
	pid := c.row("t_flaky").Pid
	kill(t, pid, 9)
	eventually(t, 60*time.Second, "the end of patience", func() bool { return c.row("t_flaky").State == "failed" })
	if r := c.row("t_flaky"); r.Pid != 0 || r.Restarts != 0 {
		t.Errorf("%+v", r)
	}
	if want := "more than the restart budget of 3"; !strings.Contains(c.dmesg(), want) {
		t.Errorf("dmesg has no %q:\n%s", want, c.dmesg())
	}
	began := time.Now()
	_, err := c.Open(ctx, "/dev/flaky", abi.O_RDONLY, 0)
	c.refused(err, abi.ErrnoOf(err), "")
	if err == nil || time.Since(began) > 20*time.Second {
		t.Errorf("open: %v after %v", err, time.Since(began))
	}
	c.write("/x", "fine")
	fd, err := c.Socket(ctx, abi.AF_INET, abi.SOCK_STREAM, 0)
	c.must(err)
	c.must(c.Close(ctx, fd))
	c.must(c.Modunload(ctx, "t_flaky", 0))
	if r := c.row("t_flaky"); r.Name != "" {
		t.Errorf("unloaded, and still there: %+v", r)
	}
	bin, _ := plugins()
	link := filepath.Join(shortDir(t), "t_flaky")
	if err := os.Symlink(filepath.Join(bin, "tplug"), link); err != nil {
		t.Fatal(err)
	}
	c.must(c.Modload(ctx, link, 0, nil))
	if r := c.row("t_flaky"); r.State != "running" || !alive(r.Pid) {
		t.Errorf("loaded again: %+v", r)
	}
	if _, err := c.Stat(ctx, "/dev/flaky"); err != nil {
		t.Error(err)
	}
}

// TestBudgetOfSlot: a class whose only component was given up is an empty
// slot.
func TestBudgetOfSlot(t *testing.T) {
	h := boot(t, `
components:
  vfs: {restart: {budget: 0}}
  net: {restart: {budget: 0}}
  dev: {restart: {budget: 0}}
`)
	c := h.client()
	ctx := limited(t)
	for _, tc := range []struct {
		name string
		call func() error
	}{
		{"net", func() error {
			_, err := c.Socket(ctx, abi.AF_INET, abi.SOCK_STREAM, 0)
			return err
		}},
		{"vfs", func() error {
			_, err := c.Open(ctx, "/x", abi.O_RDONLY, 0)
			return err
		}},
	} {
		kill(t, c.pids()[tc.name], 9)
		eventually(t, 60*time.Second, "the end of "+tc.name, func() bool { return c.row(tc.name).State == "failed" })
		c.refused(tc.call(), abi.EOPNOTSUPP, tc.name+" component not available")
	}
	// Unloaded and loaded again they are back, with the mounts.
	for _, m := range []string{"tmpfs", "hostfs", "msdos", "ext4", "inet"} {
		c.must(c.Modunload(ctx, m, 0))
	}
	for _, name := range []string{"vfs", "net"} {
		c.must(c.Modload(ctx, name, 0, nil))
	}
	fd, err := c.Socket(ctx, abi.AF_INET, abi.SOCK_STREAM, 0)
	c.must(err)
	c.must(c.Close(ctx, fd))
	c.write("/x", "again")
	c.read("/dev/null")
	l, err := c.Listen(ctx, "tcp", "127.0.0.1:0")
	c.must(err)
	nc, err := c.Dial(ctx, "tcp", l.Addr().String())
	c.must(err)
	c.must(nc.Close())
	c.must(l.Close())
}

// TestBlame: a component that somebody kills is restarted as often as that
// happens; one that dies of itself is given up when its budget is used.
func TestBlame(t *testing.T) {
	h := boot(t, `
components:
  vfs: {}
  dev: {restart: {budget: 2, window: 1m}}
`)
	c := h.client()
	restarts := 0
	strike := func(sig syscall.Signal) {
		kill(t, c.pids()["dev"], sig)
		restarts++
		eventually(t, 60*time.Second, "an end of it", func() bool {
			r := c.row("dev")
			return r.Restarts == restarts && r.State == "running" || r.State == "failed"
		})
	}
	for range 4 {
		strike(syscall.SIGKILL)
	}
	for range 2 {
		strike(syscall.SIGABRT)
	}
	if r := c.row("dev"); r.State != "running" || r.Epoch != 7 {
		t.Fatalf("after 4 kills and 2 deaths: %+v", r)
	}
	strike(syscall.SIGSEGV)
	if r := c.row("dev"); r.State != "failed" {
		t.Errorf("after the third death: %+v", r)
	}
	if want := "dev: given up: 3 deaths in 1m0s, more than the restart budget of 2"; !strings.Contains(c.dmesg(), want) {
		t.Errorf("dmesg has no %q:\n%s", want, c.dmesg())
	}
	c.write("/x", "fine")
}
