package run

import (
	"syscall"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestTwoInstances: two processes of one plugin have mounts of their own, and
// the death of one leaves those of the other alone.
func TestTwoInstances(t *testing.T) {
	h := boot(t, `
components:
  vfs: {}
  untrusted: {class: vfs, plugin: vfs}
  dev: {}
mounts:
  - {dir: /, type: tmpfs}
  - {dir: /dev, type: devfs}
  - {dir: /img, type: tmpfs, instance: untrusted}
`)
	c := h.client()
	ctx := limited(t)
	pids := c.pids()
	if len(pids) != 3 || pids["vfs"] == pids["untrusted"] {
		t.Fatalf("processes %v", pids)
	}
	c.write("/ours", "stays")
	c.write("/img/theirs", "stays as well")
	ours, err := c.Open(ctx, "/ours", abi.O_RDONLY, 0)
	c.must(err)
	theirs, err := c.Open(ctx, "/img/theirs", abi.O_RDONLY, 0)
	c.must(err)

	kill(t, pids["untrusted"], syscall.SIGKILL)
	if got := c.read("/ours"); got != "stays" {
		t.Errorf("read %q", got)
	}
	back := func(name string) {
		eventually(t, bootTime, "the return of "+name, func() bool { r := c.row(name); return r.Restarts == 1 && r.State == "running" })
	}
	back("untrusted")
	if got := c.pids(); got["vfs"] != pids["vfs"] || got["dev"] != pids["dev"] || got["untrusted"] == pids["untrusted"] {
		t.Errorf("processes %v, before %v", got, pids)
	}
	p := make([]byte, 10)
	if n, err := c.Read(ctx, ours, p); string(p[:n]) != "stays" {
		t.Errorf("read %q, %v", p[:n], err)
	}
	if n, err := c.Read(ctx, theirs, p); string(p[:n]) != "stays as w" {
		t.Errorf("read %q, %v", p[:n], err)
	}
	c.write("/img/new", "works")

	// And the other way round.
	kill(t, c.pids()["vfs"], syscall.SIGKILL)
	back("vfs")
	if got := c.read("/img/new"); got != "works" {
		t.Errorf("read %q", got)
	}
	if got := c.read("/ours"); got != "stays" {
		t.Errorf("read %q", got)
	}
}
