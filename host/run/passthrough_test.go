package run

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPassthroughKilled: what passes by the kernel goes on while vfs is stopped
// and when it is killed, for who has it open, and can be opened again.
func TestPassthroughKilled(t *testing.T) {
	if unix.Access("/dev/fuse", unix.R_OK|unix.W_OK) != nil || os.Geteuid() != 0 {
		t.Skip("no /dev/fuse, or not the super-user")
	}
	real, dir := shortDir(t), shortDir(t)
	// Lying on nothing, whatever the machine's own disk does.
	if err := unix.Mount("tmpfs", real, "tmpfs", 0, "size=64m,mode=755"); err != nil {
		t.Skip("no tmpfs to be had: ", err)
	}
	t.Cleanup(func() { unix.Unmount(real, unix.MNT_DETACH) })
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	if os.WriteFile(filepath.Join(real, "f"), []byte("old"), 0o644) != nil {
		t.Fatal("no file")
	}
	h := spawn(t, fmt.Sprintf(`
components:
  vfs: {restart: {window: 300ms}, grant: ["host.dir:%[1]s:rw"]}
mounts:
  - {dir: /, type: tmpfs}
  - {dir: /h, type: hostfs, source: %[1]s}
exports: {fuse: [{dir: %[2]s, passthrough: true}]}
`, real, dir))
	c := h.client()
	f, err := os.OpenFile(filepath.Join(dir, "h/f"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := c.Sysctl(limited(t), "kern.evcnt")
	if err != nil {
		t.Fatal(err)
	}
	passed := false
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		passed = passed || strings.Contains(line, "fuse") && strings.Contains(line, "passed") && w[len(w)-1] != "0"
	}
	if !passed {
		t.Skip("this Linux does no passthrough:\n" + text)
	}
	use := func(i int) {
		t.Helper()
		want := bytes.Repeat([]byte{byte('a' + i)}, 100000)
		got := make([]byte, len(want))
		if _, err := f.WriteAt(want, int64(i)*50000); err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(got, int64(i)*50000); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("round %d: other bytes, %v", i, err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	pid := c.row("vfs").Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	use(0) // nobody there to answer
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	// A program that copies meanwhile does not notice either.
	dd := exec.Command("dd", "if=/dev/zero", "of="+filepath.Join(dir, "h/dd"), "bs=4k", "count=8000", "conv=notrunc,fsync", "status=none")
	if err := os.WriteFile(filepath.Join(real, "dd"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	dd.Stdin = nil
	opened := make(chan error, 1)
	if err := dd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, bootTime, "the first bytes of dd", func() bool {
		fi, err := os.Stat(filepath.Join(real, "dd"))
		return err != nil || fi.Size() > 0
	})
	go func() { opened <- dd.Wait() }()
	const kills = 2
	for i := range kills {
		was := c.row("vfs")
		kill(t, was.Pid, syscall.SIGKILL)
		use(i + 1)
		eventually(t, bootTime, "the return of vfs", func() bool {
			r := c.row("vfs")
			return r.Restarts > was.Restarts && r.State == "running"
		})
		use(i + 1)
	}
	if err := <-opened; err != nil {
		t.Errorf("dd: %v", err)
	}
	if fi, err := os.Stat(filepath.Join(real, "dd")); err != nil || fi.Size() != 8000*4096 {
		t.Errorf("dd: %v, %v", fi, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, bootTime, "a mount that works", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "h/f"))
		return err == nil && len(b) == kills*50000+100000
	})
	h.end0()
}
