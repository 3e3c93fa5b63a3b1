package run

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// withFini is a configuration whose component t_fini writes down that it was
// finished, into the file.
func withFini(t *testing.T) (yaml, file string) {
	file = filepath.Join(shortDir(t), "fini")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return `
kernel: {verbose: true}
components:
  vfs: {}
  net: {}
  dev: {}
  t_fini: {class: dev, plugin: tplug, grant: ["host.file:` + file + `:rw"], props: {path: "` + file + `"}}
`, file
}

// modules are those of withFini.
var modules = []string{"t_fini", "cons", "rnd", "mem", "inet", "hostfs", "tmpfs"}

// finished expects modules to have been finished, and the socket to be gone.
func (h *host0) finished(file string, modules ...string) {
	h.t.Helper()
	if b, err := os.ReadFile(file); err != nil || string(b) != "finished\n" {
		h.t.Errorf("t_fini wrote %q, %v", b, err)
	}
	at := 0
	for _, m := range modules {
		i := strings.Index(h.err.String(), m+": finished")
		if i < at {
			h.t.Errorf("no fini of %s, or before that of a module attached later:\n%s", m, h.err)
		}
		at = i
	}
	if _, err := os.Lstat(h.sock); !os.IsNotExist(err) {
		h.t.Errorf("the socket stays: %v", err)
	}
}

// TestEnd: however the host is asked to end, every module is finished, no
// process is left, and the status is 0.
func TestEnd(t *testing.T) {
	for name, end := range map[string]func(*host0, *client){
		"SIGTERM": func(h *host0, _ *client) { kill(h.t, h.cmd.Process.Pid, syscall.SIGTERM) },
		"SIGINT":  func(h *host0, _ *client) { kill(h.t, h.cmd.Process.Pid, syscall.SIGINT) },
		"halt":    func(_ *host0, c *client) { c.must(c.Reboot(limited(c.t), abi.RB_AUTOBOOT)) },
		"nosync":  func(_ *host0, c *client) { c.must(c.Reboot(limited(c.t), abi.RB_NOSYNC)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			yaml, file := withFini(t)
			h := spawn(t, yaml)
			c := h.client()
			pids := c.pids()
			if len(pids) != 4 {
				t.Fatalf("processes %v", pids)
			}
			w := h.work(1) // it ends under use
			end(h, c)
			h.wait(ExitOK)
			allDead(t, pids, 0)
			if name == "nosync" { // nothing is unmounted, so tmpfs is busy
				h.finished(file, modules[:len(modules)-1]...)
			} else {
				h.finished(file, modules...)
			}
			w.stop()
		})
	}
}

// TestPark: with RB_HALT everything ends but the host, which a signal ends.
func TestPark(t *testing.T) {
	yaml, file := withFini(t)
	h := spawn(t, yaml)
	c := h.client()
	pids := c.pids()
	c.must(c.Reboot(limited(t), abi.RB_HALT))
	eventually(t, 60*time.Second, "the last words", func() bool {
		return strings.Contains(h.err.String(), "halted (with RB_HALT, not exiting)")
	})
	allDead(t, pids, 60*time.Second)
	h.finished(file, modules...)
	select {
	case code := <-h.done:
		t.Fatalf("the host ended with %d", code)
	default:
	}
	kill(t, h.cmd.Process.Pid, syscall.SIGTERM)
	h.wait(ExitOK)
}

// TestHostKilled: no component outlives its host by more than a second, and
// the next host takes the socket that was left.
func TestHostKilled(t *testing.T) {
	tmp := shortDir(t) // a killed host leaves its private directories for the next one's sweep
	h := spawn(t, "", func(c *exec.Cmd) { c.Env = append(c.Env, "TMPDIR="+tmp) })
	c := h.client()
	pids := c.pids()
	h.work(1)
	kill(t, pids["vfs"], syscall.SIGSTOP) // even a hung one
	kill(t, h.cmd.Process.Pid, syscall.SIGKILL)
	allDead(t, pids, 60*time.Second)
	h.wait(-1)
	if _, err := os.Lstat(h.sock); err != nil {
		t.Fatalf("no stale socket to replace: %v", err)
	}
	next := boot(t, "", func(o *Options) { o.Config.Server.Socket = h.sock })
	next.client().write("/x", "new")
}

// TestPanic: a panic of the kernel ends it and its components at once, says
// why, and the process goes on to say 70.
func TestPanic(t *testing.T) {
	for name, howto := range map[string]func(*kernel.Kernel){
		"running": func(k *kernel.Kernel) { k.Panic("test of %s", "panics") },
	} {
		t.Run(name, func(t *testing.T) {
			kern := make(chan *kernel.Kernel, 1)
			h := boot(t, "", func(o *Options) { o.booted = func(k *kernel.Kernel) { kern <- k } })
			k := <-kern
			pids := h.client().pids()
			howto(k)
			h.wait(ExitPanic)
			allDead(t, pids, 60*time.Second)
			if want := "rumpus: kernel panic: test of panics\n"; !strings.Contains(h.err.String(), want) {
				t.Errorf("stderr has no %q:\n%s", want, h.err)
			}
			if b, _ := k.Msg.Read(0); !strings.Contains(string(b), "panic: test of panics") {
				t.Errorf("the message buffer has\n%s", b)
			}
			if k.State() != kernel.Panicked {
				t.Errorf("state %s", k.State())
			}
		})
	}
}

// TestSignalTwice: a signal that comes twice at once, as from timeout(1), is one.
func TestSignalTwice(t *testing.T) {
	h := spawn(t, "")
	c := h.client()
	pids := c.pids()
	for range 3 {
		kill(t, h.cmd.Process.Pid, syscall.SIGTERM)
	}
	h.wait(ExitOK)
	if h.err.String() != "" {
		t.Errorf("stderr: %s", h.err)
	}
	allDead(t, pids, 60*time.Second)
}

// TestSecondSignal: a second signal ends a host that hangs in its shutdown.
func TestSecondSignal(t *testing.T) {
	h := spawn(t, "")
	c := h.client()
	pids := c.pids()
	kill(t, pids["vfs"], syscall.SIGSTOP)
	kill(t, h.cmd.Process.Pid, syscall.SIGTERM)
	eventually(t, 60*time.Second, "the end of serving", func() bool {
		_, err := os.Lstat(h.sock)
		return err != nil
	})
	kill(t, h.cmd.Process.Pid, syscall.SIGINT)
	h.wait(ExitFailed)
	if !strings.Contains(h.err.String(), "second signal") {
		t.Errorf("stderr: %s", h.err)
	}
	allDead(t, pids, 60*time.Second)
}
