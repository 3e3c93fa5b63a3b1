package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// fatInUse reports whether fsck.vfat has nothing to say of an image but that
// somebody has it mounted (the dirty flag).
func fatInUse(out []byte) bool {
	dirty := false
	for line := range strings.Lines(string(out)) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "Dirty bit is set."):
			dirty = true
		case line == "", strings.HasPrefix(line, "fsck.fat "), strings.HasPrefix(line, "Starting "), strings.HasSuffix(line, " clusters") && strings.Contains(line, " files, "),
			line == "Automatically removing dirty bit.", line == "Leaving filesystem unchanged.":
		default:
			return false
		}
	}
	return dirty
}

// TestFatKill kills the processes of the file system and of the disk under it in
// turn, while clients create, write, rename and remove files on FAT on an image of
// the host. No call fails, what is there is what the clients' models say, and
// fsck finds the image whole after every sync and in the end.
func TestFatKill(t *testing.T) {
	for _, tool := range []string{"mkfs.vfat", "fsck.vfat"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s (Debian package dosfstools)", tool)
		}
	}
	const kills, workers = 12, 3
	img := filepath.Join(shortDir(t), "disk.img")
	if err := os.WriteFile(img, make([]byte, 48<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.vfat", "-F", "16", "-s", "4", img).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.vfat: %v\n%s", err, out)
	}
	fsck := func(path string) {
		t.Helper()
		if out, err := exec.Command("fsck.vfat", "-n", "-V", path).CombinedOutput(); err != nil && !fatInUse(out) {
			t.Fatalf("fsck.vfat: %v\n%s", err, out)
		}
	}
	h := boot(t, `
components:
  vfs: {restart: {window: 300ms}}
  dev: {restart: {window: 300ms}}
devices:
  disk0: {etfs: "`+img+`"}
mounts:
  - {dir: /, type: tmpfs}
  - {dir: /dev, type: devfs}
  - {dir: /fat, type: msdos, source: disk0}
`)
	c := h.client()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var ops atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	models := make([]map[string][]byte, workers)
	for w := range workers {
		u, err := rumpclient.Open(ctx, h.url)
		if err != nil {
			t.Fatal(err)
		}
		model := map[string][]byte{}
		models[w] = model
		wg.Go(func() {
			defer u.Exit()
			dir := fmt.Sprintf("/fat/worker %d", w)
			r := rand.New(rand.NewPCG(uint64(w), 3))
			if err := u.Mkdir(ctx, dir, 0o755); err != nil {
				t.Error(err)
				return
			}
			name := func() string { return fmt.Sprintf("%s/A file number %d", dir, r.IntN(25)) }
			for {
				select {
				case <-stop:
					return
				default:
				}
				n := name()
				old, there := model[n]
				var err error
				switch r.IntN(5) {
				case 0, 1:
					p := bytes.Repeat([]byte{byte(r.Uint32())}, r.IntN(30000))
					if err = u.WriteFile(ctx, n, p, 0o644); err == nil {
						model[n] = p
					}
				case 2:
					var got []byte
					got, err = u.ReadFile(ctx, n)
					if there && !bytes.Equal(got, old) {
						err = fmt.Errorf("%d bytes are not the %d written: %w", len(got), len(old), errors.Join(err, abi.EIO))
					}
					if !there && errors.Is(err, abi.ENOENT) {
						err = nil
					}
				case 3:
					err = u.Unlink(ctx, n)
					if !there && errors.Is(err, abi.ENOENT) {
						err = nil
					}
					if err == nil {
						delete(model, n)
					}
				case 4:
					to := name()
					err = u.Rename(ctx, n, to)
					if !there && errors.Is(err, abi.ENOENT) {
						err = nil
					} else if err == nil && to != n {
						model[to] = old
						delete(model, n)
					}
				}
				if err != nil {
					t.Errorf("%s: %v", n, err)
					return
				}
				ops.Add(1)
			}
		})
	}
	for i := range kills {
		at := ops.Load()
		eventually(t, 60*time.Second, "work going on", func() bool { return ops.Load() > at+20 || t.Failed() })
		who := "vfs"
		if i%3 == 2 {
			who = "dev"
		}
		before := c.row(who)
		kill(t, before.Pid, syscall.SIGKILL)
		eventually(t, 60*time.Second, "the return of "+who, func() bool { r := c.row(who); return r.Pid != before.Pid && r.State == "running" || t.Failed() })
		if t.Failed() {
			break
		}
	}
	close(stop)
	wg.Wait()
	check := func(w int) {
		t.Helper()
		got, err := c.ReadDir(ctx, fmt.Sprintf("/fat/worker %d", w))
		c.must(err)
		if len(got) != len(models[w]) {
			t.Errorf("worker %d has %d files, its model %d", w, len(got), len(models[w]))
		}
		for n, want := range models[w] {
			if p, err := c.ReadFile(ctx, n); err != nil || !bytes.Equal(p, want) {
				t.Errorf("%s: %d bytes are not the %d written: %v", n, len(p), len(want), err)
			}
		}
	}
	for w := range workers {
		check(w)
	}
	c.must(c.Sync(ctx))
	fsck(img)
	c.must(c.Unmount(ctx, "/fat", 0))
	fsck(img)
	c.must(c.Mount(ctx, "msdos", "/fat", 0, "disk0", nil))
	for w := range workers {
		check(w)
	}
	t.Logf("%d operations, %d kills", ops.Load(), kills)
}
