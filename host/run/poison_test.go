package run

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rumpus-kernel/rumpus/host/repro"
	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

const poisonous = `
kernel: {repro: REPRO}
components:
  vfs: {}
  t_poison: {class: vfs, plugin: tplug, restart: {wait: 60s, spare: true}}
mounts:
  - {dir: /, type: tmpfs}
  - {dir: /p, type: tmpfs, instance: t_poison}
  - {dir: /f, type: msdos, source: disk0, instance: t_poison}
devices: {disk0: {etfs: IMAGE}}
`

// fatImage makes a FAT, or skips.
func fatImage(t *testing.T, path string, size int64) {
	t.Helper()
	if _, err := exec.LookPath("mkfs.vfat"); err != nil {
		t.Skip("no mkfs.vfat (Debian: dosfstools)")
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if out, err := exec.Command("mkfs.vfat", path).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.vfat: %v\n%s", err, out)
	}
}

// TestPoison: a request that kills a file system's process gets EIO after two
// deaths, again and again, with others at work on the same mounts, of which none
// notices; and each can be done again from its reproducer, and ends as it did.
func TestPoison(t *testing.T) {
	dir := shortDir(t)
	image, keep := filepath.Join(dir, "img"), filepath.Join(dir, "repro")
	fatImage(t, image, 32<<20)
	h := boot(t, strings.NewReplacer("REPRO", keep, "IMAGE", image).Replace(poisonous))
	c := h.client()
	next := c.watchEvents()

	var stop atomic.Bool
	var done sync.WaitGroup
	for n := range 3 {
		in := h.client()
		done.Go(func() { innocent(in, n, &stop) })
	}
	var files []string
	for i, how := range []string{"panic", "exit", "loop", "abort", "nil", "panic", "exit", "nil"} {
		mount := []string{"/p", "/f"}[i%2]
		before := c.row("t_poison")
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		_, err := c.Open(ctx, fmt.Sprintf("%s/die-of-%s.%d", mount, how, i), abi.O_CREAT|abi.O_WRONLY, 0o644)
		cancel()
		if abi.ErrnoOf(err) != abi.EIO {
			t.Errorf("%s on %s: %v, wanted EIO", how, mount, err)
		}
		e := next("t_poison", evlog.Poison)
		if e.Mount != mount || !strings.HasPrefix(e.Text, keep) || !strings.HasPrefix(e.Op, "create") {
			t.Errorf("%s on %s: event %+v", how, mount, e)
		}
		files = append(files, e.Text)
		next("t_poison", evlog.Recovered)
		row := c.row("t_poison")
		if n := row.Restarts - before.Restarts; n != 2 || row.State != "running" {
			t.Errorf("%s on %s: %d restarts, now %s", how, mount, n, row.State)
		}
		if _, err := c.Stat(limited(t), fmt.Sprintf("%s/die-of-%s.%d", mount, how, i)); abi.ErrnoOf(err) != abi.ENOENT {
			t.Errorf("%s on %s: the file: %v", how, mount, err)
		}
	}
	stop.Store(true)
	done.Wait()
	text, err := c.Sysctl(limited(t), "kern.evcnt")
	c.must(err)
	if strings.Contains(text, "diverged 1") {
		t.Errorf("a replay diverged:\n%s", text)
	}

	for i, path := range files {
		if i >= 4 && i < 7 && testing.Short() {
			continue
		}
		path := path
		eventually(t, patience, "reproducer", func() bool { _, err := os.Stat(path); return err == nil })
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, st, err)
		}
		f, err := repro.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		var said [2]string
		for n := range said {
			r, err := repro.Run(limited(t), f, repro.Options{Program: f.Path})
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			if !r.Died || !r.Poison || r.Differs != 0 {
				t.Errorf("%s: %v", path, r)
			}
			said[n] = r.At + r.Death.Cause
		}
		if said[0] != said[1] {
			t.Errorf("%s: once %s, then %s", path, said[0], said[1])
		}
	}

	// Without what clients wrote it is as deadly: but for the name, of which
	// it dies here.
	f, err := repro.Read(files[1])
	if err != nil {
		t.Fatal(err)
	}
	f.Redact(nil, false)
	if r, err := repro.Run(limited(t), f, repro.Options{Program: f.Path}); err != nil || !r.Died || !r.Poison {
		t.Errorf("redacted: %v, %v", r, err)
	}
}

// innocent works on both mounts until stop, and notices nothing.
func innocent(c *client, n int, stop *atomic.Bool) {
	for i := 0; !stop.Load(); i++ {
		for _, mount := range []string{"/p", "/f"} {
			name := fmt.Sprintf("%s/in%d-%d", mount, n, i%5)
			want := fmt.Sprintf("%d wrote %d", n, i)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			err := c.WriteFile(ctx, name, []byte(want), 0o644)
			if err == nil {
				var got []byte
				if got, err = c.ReadFile(ctx, name); err == nil && string(got) != want {
					err = fmt.Errorf("has %q instead of %q", got, want)
				}
			}
			if err == nil && i%3 == 0 {
				err = c.Rename(ctx, name, name+"r")
			}
			if err == nil && i%3 == 0 {
				err = c.Unlink(ctx, name+"r")
			}
			cancel()
			if err != nil {
				c.t.Errorf("client %d, %s: %v", n, name, err)
				return
			}
		}
	}
}
