package run

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// program runs a program of others that must succeed; without it the test is
// skipped.
func program(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = t.TempDir() // fio leaves its state of verifying there
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// diskServer serves a file by nbdkit on a unix socket. restart kills it, and it
// is started again.
func diskServer(t *testing.T, file, sock string) (restart func()) {
	t.Helper()
	if _, err := exec.LookPath("nbdkit"); err != nil {
		t.Skip("nbdkit is not installed")
	}
	ctx, cancel := context.WithCancel(context.Background())
	running, done := make(chan *os.Process, 1), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // nbdkit gets SIGTERM when the thread that started it ends
		for ctx.Err() == nil {
			os.Remove(sock)
			c := exec.Command("nbdkit", "-f", "-U", sock, "file", file)
			if c.Start() != nil {
				return
			}
			running <- c.Process
			c.Wait()
			select {
			case <-running:
				if ctx.Err() == nil {
					t.Errorf("nbdkit has ended by itself: %v", c.ProcessState)
				}
			default:
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		for {
			select {
			case p := <-running:
				p.Kill()
			case <-done:
				return
			}
		}
	})
	up := func() {
		eventually(t, bootTime, "nbdkit", func() bool { _, err := os.Stat(sock); return err == nil })
	}
	up()
	return func() {
		select {
		case p := <-running:
			p.Kill()
		case <-time.After(bootTime):
			t.Error("nbdkit does not come up")
		}
		up()
	}
}

// TestExports: devices of the kernel are served to the programs of others; one
// of them is itself served to the kernel by another server, beyond the boundary
// of a process that may open nothing. The server is killed, the component is
// killed, while they copy, and nothing of what they copied is lost.
func TestExports(t *testing.T) {
	dir := shortDir(t)
	disk, remote, local := filepath.Join(dir, "disk"), filepath.Join(dir, "r"), filepath.Join(dir, "l")
	const size = 32 << 20
	image := make([]byte, size)
	for i := 0; i < size/2; i += 8 {
		binary.LittleEndian.PutUint64(image[i:], uint64(i)*0x9e3779b97f4a7c15)
	}
	in := filepath.Join(dir, "in")
	if err := os.WriteFile(disk, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in, image, 0o600); err != nil {
		t.Fatal(err)
	}
	restart := diskServer(t, disk, remote)
	h := boot(t, fmt.Sprintf(`
components:
  vfs: {}
  dev: {grant: ["host.connect:unix:%s"], restart: {budget: 50}, props: {md: {md0: 32M}, nbd: {nbd0: {connect: "host.connect:unix:%s"}}}}
mounts: [{dir: /, type: tmpfs}, {dir: /dev, type: devfs}]
exports:
  nbd: [{device: md0, socket: %s}, {device: /dev/nbd0, socket: %s, name: far}, {device: md0, socket: %s, name: ro, ro: true}]
`, remote, remote, local, local, local))
	uri := func(name string) string { return "nbd+unix:///" + name + "?socket=" + local }
	if fi, err := os.Stat(local); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", fi, err)
	}
	if out := program(t, "nbdinfo", "--list", uri("")); strings.Count(out, "export=") != 3 || !strings.Contains(out, `export="far"`) {
		t.Error(out)
	}
	for _, name := range []string{"md0", "far"} {
		program(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", in, uri(name))
		program(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", in, uri(name))
		program(t, "fio", "--name=j", "--ioengine=nbd", "--uri="+uri(name), "--rw=randwrite", "--bsrange=512-64k", "--iodepth=16", "--size=8m", "--verify=crc32c", "--verify_fatal=1")
	}
	program(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", uri("md0"), uri("ro"))
	if out, err := exec.Command("qemu-io", "-f", "raw", "-c", "write 0 512", uri("ro")).CombinedOutput(); err == nil && !bytes.Contains(out, []byte("ermi")) && !bytes.Contains(out, []byte("ead-only")) {
		t.Errorf("writing to what is read-only: %s", out)
	}

	c := h.client()
	copied := make(chan error, 1)
	go func() {
		var err error
		for range 3 {
			var out []byte
			if out, err = exec.Command("nbdcopy", "--flush", in, uri("far")).CombinedOutput(); err != nil {
				err = fmt.Errorf("%v: %s", err, out)
				break
			}
		}
		copied <- err
	}()
	kills := 0
	for end := false; !end; kills++ {
		select {
		case err := <-copied:
			if err != nil {
				t.Fatal(err)
			}
			end = true
		default:
			if kills >= 6 {
				select {
				case err := <-copied:
					if end = true; err != nil {
						t.Fatal(err)
					}
				case <-time.After(bootTime):
					t.Fatal("the copy does not end")
				}
				break
			}
			if kills%2 == 0 {
				restart()
			} else {
				n := c.row("dev").Restarts
				kill(t, c.pids()["dev"], syscall.SIGKILL)
				eventually(t, bootTime, "the return of dev", func() bool { r := c.row("dev"); return r.Restarts > n && r.State == "running" })
			}
		}
	}
	if kills < 3 {
		t.Logf("only %d kills while they copied", kills)
	}
	fd, err := c.Open(limited(t), "/dev/nbd0", abi.O_RDONLY, 0)
	c.must(err)
	p := make([]byte, 4096)
	if n, err := c.Read(limited(t), fd, p); n != len(p) || err != nil || !bytes.Equal(p, image[:4096]) {
		t.Errorf("read of /dev/nbd0: %d, %v", n, err)
	}
	c.must(c.Close(limited(t), fd))
	got, err := os.ReadFile(disk)
	if err != nil || !bytes.Equal(got, image) {
		t.Errorf("the disk far away is another one: %v", err)
	}
	h.end()
	h.wait(ExitOK)
	if _, err := os.Stat(local); err == nil {
		t.Error("the socket is there still")
	}
}

// TestExportRefused: an export that cannot be is a boot that fails, by one line
// that names it.
func TestExportRefused(t *testing.T) {
	dir := shortDir(t)
	for device, says := range map[string]string{"none": "exports/nbd/0: stat /dev/none: no such file", "zero": "exports/nbd/0: /dev/zero: block device required"} {
		want := map[string]int{"none": ExitConfig, "zero": ExitFailed}[device]
		h := start(t, fmt.Sprintf("components: {vfs: {}, dev: {}}\nexports: {nbd: [{device: %s, socket: %s/x}]}\n", device, dir))
		h.wait(want)

		if !strings.Contains(h.err.String(), says) {
			t.Errorf("%s: %s", device, h.err)
		}
	}
}
