package run

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestServerGone: the server of a disk goes away for good while much is to be
// written to it, with the driver's process or without. Everybody is told EIO or
// ENXIO in the time of the driver's timeout, other disks go on, and the host
// ends in that time as well: a write that a driver has is waited for.
func TestServerGone(t *testing.T) {
	for _, how := range []string{"fsync", "driver", "halt", "stopped"} {
		t.Run(how, func(t *testing.T) { serverGone(t, how) })
	}
}

func serverGone(t *testing.T, how string) {
	if _, err := exec.LookPath("nbdkit"); err != nil {
		t.Skip("nbdkit is not installed")
	}
	if _, err := exec.LookPath("nbdcopy"); err != nil {
		t.Skip("nbdcopy is not installed")
	}
	dir := shortDir(t)
	disk, remote, local, in := filepath.Join(dir, "disk"), filepath.Join(dir, "r"), filepath.Join(dir, "l"), filepath.Join(dir, "in")
	const size = 32 << 20
	if err := os.WriteFile(disk, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	image := make([]byte, size)
	for i := 0; i < size; i += 512 { // gaps: many requests
		if i/4096%2 == 0 {
			image[i] = byte(i/512) | 1
		}
	}
	if err := os.WriteFile(in, image, 0o600); err != nil {
		t.Fatal(err)
	}
	kit := exec.Command("nbdkit", "-f", "-U", remote, "file", disk)
	started, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // it gets SIGTERM when the thread that started it ends
		err := kit.Start()
		started <- err
		if err == nil {
			kit.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	defer func() { kit.Process.Kill(); <-ended }()
	eventually(t, bootTime, "nbdkit", func() bool { return exec.Command("nbdinfo", "--size", "nbd+unix:///?socket="+remote).Run() == nil })
	timeout, most := 4, 20*time.Second
	h := boot(t, fmt.Sprintf(`
components:
  vfs: {}
  dev: {grant: ["host.connect:unix:%s"], restart: {budget: 50}, props: {md: {md0: 4M}, nbd: {nbd0: {connect: "host.connect:unix:%s", timeout: %d}}}}
mounts: [{dir: /, type: tmpfs}, {dir: /dev, type: devfs}]
exports:
  nbd: [{device: /dev/nbd0, socket: %s, name: far}]
`, remote, remote, timeout, local))
	c := h.client()
	fd, err := c.Open(limited(t), "/dev/nbd0", abi.O_RDWR, 0)
	c.must(err)
	other, err := c.Open(limited(t), "/dev/md0", abi.O_RDWR, 0)
	c.must(err)
	p := bytes.Repeat([]byte("dirty"), 4096)
	for i := range 128 { // far from one another: many requests
		_, err := c.Pwrite(limited(t), fd, p, int64(i)*(256<<10))
		c.must(err)
	}
	var out bytes.Buffer
	nbdcopy := exec.Command("nbdcopy", "--flush", in, "nbd+unix:///far?socket="+local)
	nbdcopy.Stderr = &out
	if err := nbdcopy.Start(); err != nil {
		t.Fatal(err)
	}
	sig := syscall.SIGKILL
	if how == "stopped" {
		sig = syscall.SIGSTOP
	}
	kit.Process.Signal(sig)
	if how == "driver" {
		kill(t, c.pids()["dev"], syscall.SIGKILL)
	}
	begin := time.Now()
	if how == "fsync" || how == "driver" {
		synced := make(chan error, 1)
		go func() { synced <- c.Fsync(limited(t), fd) }()
		if _, err := c.Pwrite(limited(t), other, p[:4096], 0); err != nil {
			t.Errorf("another disk: %v", err)
		}
		if err := c.Fsync(limited(t), other); err != nil || time.Since(begin) > 2*time.Second {
			t.Errorf("another disk, after %v: %v", time.Since(begin), err)
		}
		switch err := <-synced; abi.ErrnoOf(err) {
		case abi.EIO, abi.ENXIO:
		default:
			t.Errorf("fsync: %v", err)
		}
		if err := nbdcopy.Wait(); err == nil {
			t.Error("nbdcopy could copy")
		}
		if d := time.Since(begin); d > most {
			t.Errorf("all were told after %v: %s", d, &out)
		}
		begin = time.Now()
	}
	h.end()
	h.wait(ExitOK)
	if d := time.Since(begin); d > most {
		t.Errorf("the host took %v to end", d)
	}
	if how == "halt" || how == "stopped" {
		nbdcopy.Wait() // may have been done before
	}
}
