package run

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops/cgdio"
)

// cgdArg attaches a cgd with a passphrase.
func cgdArg(t *testing.T) []byte {
	t.Helper()
	r := cgdio.Request{Kind: cgdio.CGD, Unit: cgdio.AnyUnit, Slot: cgdio.AnySlot,
		Params:  []byte("algorithm aes-xts; keylength 512; verify_method none; keygen pkcs5_pbkdf2/sha1 {iterations 50; salt AAAAgMoHiYonye6KogdYJAobCHE=;};"),
		Secrets: [][]byte{[]byte("a passphrase")}}
	arg, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return arg
}

// TestDiskKill kills the process of the drivers 50 times while clients write,
// read and sync an encrypted disk on an image of the host. No call fails,
// descriptors stay good, every buf is done once, and in the end the disk has what
// was written, also after it was detached. RUMPUS_KILLS is how often.
func TestDiskKill(t *testing.T) {
	kills := 50
	if s := os.Getenv("RUMPUS_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		kills = n
	}
	const size, workers = 8 << 20, 4
	const share = size / workers
	img := filepath.Join(shortDir(t), "disk.img")
	if err := os.WriteFile(img, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	h := boot(t, `
components:
  vfs: {}
  dev: {restart: {window: 300ms}}
devices:
  disk0: {etfs: "`+img+`"}
`)
	c := h.client()
	arg := cgdArg(t)
	names, err := c.AttachDisk(limited(t), "cgd", "disk0", bytes.Clone(arg))
	c.must(err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute+time.Duration(kills)*2*time.Second)
	defer cancel()
	model := make([]byte, size)
	// What the disk has now is what zeroes decrypt to.
	fd, err := c.Open(ctx, "/dev/"+names[0], abi.O_RDWR, 0)
	c.must(err)
	for off := 0; off < size; off += 1 << 20 {
		_, err := c.Pwrite(ctx, fd, model[:1<<20], int64(off))
		c.must(err)
	}
	c.must(c.Fsync(ctx, fd))
	var ops atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range int64(workers) {
		u, err := rumpclient.Open(ctx, h.url)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer u.Exit()
			name := names[0]
			if w%2 == 1 {
				name = "r" + name // past the cache
			}
			fd, err := u.Open(ctx, "/dev/"+name, abi.O_RDWR, 0)
			if err != nil {
				t.Error(err)
				return
			}
			r := rand.New(rand.NewPCG(uint64(w), 9))
			mine := model[w*share:][:share]
			for {
				select {
				case <-stop:
					if err := u.Fsync(ctx, fd); err != nil {
						t.Error(err)
					}
					return
				default:
				}
				n := 512 * (1 + r.Int64N(64))
				off := r.Int64N((share-n)/512+1) * 512
				p := bytes.Repeat([]byte{byte(r.Uint32())}, int(n))
				if k, err := u.Pwrite(ctx, fd, p, w*share+off); err != nil || k != len(p) {
					t.Errorf("write by %s: %d, %v", name, k, err)
					return
				}
				copy(mine[off:], p)
				off = r.Int64N((share-n)/512+1) * 512
				if k, err := u.Pread(ctx, fd, p, w*share+off); err != nil || !bytes.Equal(p[:k], mine[off:off+n]) {
					t.Errorf("read by %s: %d bytes, not what was written: %v", name, k, err)
					return
				}
				if r.IntN(8) == 0 {
					if err := u.Fsync(ctx, fd); err != nil {
						t.Errorf("fsync by %s: %v", name, err)
						return
					}
				}
				ops.Add(1)
			}
		})
	}
	for range kills {
		at := ops.Load()
		eventually(t, 60*time.Second, "work going on", func() bool { return ops.Load() > at+4 || t.Failed() })
		before := c.row("dev")
		kill(t, before.Pid, syscall.SIGKILL)
		eventually(t, 60*time.Second, "the return of dev", func() bool { r := c.row("dev"); return r.Pid != before.Pid && r.State == "running" || t.Failed() })
		if t.Failed() {
			break
		}
	}
	close(stop)
	wg.Wait()
	same := func(fd int, what string) {
		t.Helper()
		got := make([]byte, 1<<20)
		for off := 0; off < size; off += len(got) {
			n, err := c.Pread(ctx, fd, got, int64(off))
			if err != nil || !bytes.Equal(got[:n], model[off:off+len(got)]) {
				t.Fatalf("%s: at %d other bytes, %v", what, off, err)
			}
		}
	}
	raw, err := c.Open(ctx, "/dev/r"+names[0], abi.O_RDONLY, 0)
	c.must(err)
	same(raw, "raw")
	c.must(c.Close(ctx, raw))
	_, err = c.Pread(ctx, fd, make([]byte, 512), 0)
	c.must(err)
	c.must(c.Close(ctx, fd))
	c.must(c.DetachDisk(ctx, names[0], false))
	if names, err = c.AttachDisk(ctx, "cgd", "disk0", arg); err != nil {
		t.Fatal(err)
	}
	fd, err = c.Open(ctx, "/dev/"+names[0], abi.O_RDONLY, 0)
	c.must(err)
	same(fd, "attached again")
	c.must(c.Close(ctx, fd))
	text, err := c.Sysctl(ctx, "kern.evcnt")
	c.must(err)
	var rows []struct {
		Group, Name string
		Count       uint64
	}
	if err := json.Unmarshal([]byte(text), &rows); err != nil {
		t.Fatal(err)
	}
	n := map[string]uint64{}
	for _, r := range rows {
		n[r.Group+" "+r.Name] = r.Count
	}
	if n["bio issued"] == 0 || n["bio issued"] != n["bio done"] || n["bio done_twice"] != 0 || n["bio reissued"] == 0 || n["bio abandoned"] != 0 {
		t.Errorf("%d bufs issued, %d done, %d twice, %d abandoned; %d issued again", n["bio issued"], n["bio done"], n["bio done_twice"], n["bio abandoned"], n["bio reissued"])
	}
	t.Logf("%d kills, %d operations, %d bufs, %d issued again", kills, ops.Load(), n["bio issued"], n["bio reissued"])
}
