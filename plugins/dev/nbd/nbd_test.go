package nbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// TestNbdkit: reading, writing, everything else, on servers of another making.
func TestNbdkit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, make([]byte, 16<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		size int64
		ops  devops.BufFlags
	}{
		{"memory", []string{"memory", "16M"}, 16 << 20, devops.BFlush | devops.BFua | devops.BDiscard | devops.BZeroes},
		{"file", []string{"file", file}, 16 << 20, devops.BFlush | devops.BFua | devops.BDiscard | devops.BZeroes},
		{"4k blocks", []string{"--filter=blocksize-policy", "memory", "16777217", "blocksize-minimum=4096", "blocksize-error-policy=error"}, 16 << 20, devops.BFlush | devops.BFua | devops.BDiscard | devops.BZeroes},
		{"old", []string{"--mask-handshake=0", "memory", "16M"}, 16 << 20, devops.BFlush | devops.BFua | devops.BDiscard | devops.BZeroes},
		{"no structured replies", []string{"--no-sr", "memory", "16M"}, 16 << 20, devops.BFlush | devops.BFua | devops.BDiscard | devops.BZeroes},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := startNbdkit(t, c.args...)
			u := open(t, unitOptions{}, dialUnix(k.sock))
			g := u.ready(t)
			if g.Size != c.size || g.Ops != c.ops || g.ReadOnly || g.MaxIO != devops.MaxPhys {
				t.Errorf("geometry %+v", g)
			}
			exercise(t, u, g)
		})
	}
	t.Run("read-only", func(t *testing.T) {
		k := startNbdkit(t, "-r", "memory", "1M")
		u := open(t, unitOptions{}, dialUnix(k.sock))
		if g := u.ready(t); !g.ReadOnly || g.Ops&(devops.BDiscard|devops.BZeroes) != 0 {
			t.Errorf("%+v", g)
		}
		if err := u.rw(t.Context(), devops.BWrite, 0, make([]byte, 512)); !errors.Is(err, abi.EROFS) {
			t.Errorf("write: %v", err)
		}
	})
	t.Run("no such export", func(t *testing.T) {
		k := startNbdkit(t, "file", "dir="+t.TempDir())
		u := open(t, unitOptions{export: "none"}, dialUnix(k.sock))
		wait(t, func() bool { return u.logged("export \"none\"") })
		if _, err := u.geometry(); !errors.Is(err, abi.ENXIO) {
			t.Error(err)
		}
	})
	t.Run("errors", func(t *testing.T) {
		k := startNbdkit(t, "--filter=error", "memory", "1M", "error-pread=ENOSPC", "error-pread-rate=100%")
		u := open(t, unitOptions{}, dialUnix(k.sock))
		u.ready(t)
		err := u.rw(t.Context(), devops.BRead, 4096, make([]byte, 512))
		if !errors.Is(err, abi.ENOSPC) || !strings.Contains(err.Error(), "read of 512 bytes at 4096") {
			t.Error(err)
		}
		if err := u.op(t.Context(), devops.BFlush, 0, 0); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// exercise reads and writes from many sides and compares.
func exercise(t *testing.T, u *unit, g devops.Geom) {
	ctx := t.Context()
	sec := int64(g.Sector)
	var wg sync.WaitGroup
	const workers = 8
	part := g.Size / workers
	for w := range int64(workers) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			model := make([]byte, part)
			base := w * part
			if err := u.op(ctx, devops.BZeroes, base, part); err != nil {
				t.Error(err)
				return
			}
			for i := range int64(30) {
				n := (1 + r.Int64N(min(part, int64(g.MaxIO))/sec)) * sec
				if i%4 != 0 {
					n = sec * (1 + r.Int64N(8))
				}
				off := r.Int64N((part-n)/sec+1) * sec
				var err error
				switch k := r.IntN(10); {
				case k < 5:
					fl := devops.BWrite
					if k == 0 {
						fl |= devops.BFua
					}
					pattern(model[off:off+n], off, i)
					err = u.rw(ctx, fl, base+off, bytes.Clone(model[off:off+n]))
				case k < 8:
					p := make([]byte, n)
					if err = u.rw(ctx, devops.BRead, base+off, p); err == nil && !bytes.Equal(p, model[off:off+n]) {
						t.Errorf("other bytes at %d", base+off)
						return
					}
				case k == 8:
					clear(model[off : off+n])
					err = u.op(ctx, devops.BZeroes|devops.BFua, base+off, n)
				default:
					err = u.op(ctx, devops.BFlush, 0, 0)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
			p := make([]byte, part)
			for o := int64(0); o < part; o += int64(g.MaxIO) {
				if err := u.rw(ctx, devops.BRead, base+o, p[o:min(part, o+int64(g.MaxIO))]); err != nil {
					t.Error(err)
				}
			}
			if !bytes.Equal(p, model) {
				t.Error("other bytes at the end")
			}
		})
	}
	wg.Wait()
	if err := u.op(ctx, devops.BDiscard, 0, sec*8); err != nil {
		t.Errorf("discard: %v", err)
	}
	for name, b := range map[string]devops.Buf{
		"behind the end": {Flags: devops.BRead, Blkno: g.Size / 512, Bytes: sec, Data: abi.IovOf(make([]byte, sec))},
		"odd length":     {Flags: devops.BRead, Bytes: 100, Data: abi.IovOf(make([]byte, 100))},
		"two operations": {Flags: devops.BRead | devops.BWrite, Bytes: sec, Data: abi.IovOf(make([]byte, sec))},
		"too long":       {Flags: devops.BRead, Bytes: devops.MaxPhys + sec, Data: abi.IovOf(make([]byte, devops.MaxPhys+sec))},
	} {
		if err := u.strategy(ctx, &b); !errors.Is(err, abi.EINVAL) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKilled kills the server under load, again and again: everything that was
// acknowledged is there, and no caller sees an error.
func TestKilled(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	const size = 16 << 20
	if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	k := startNbdkit(t, "file", file)
	u := open(t, unitOptions{}, dialUnix(k.sock))
	u.ready(t)
	const workers = 8
	var stop atomic.Bool
	var ops atomic.Int64
	var wg sync.WaitGroup
	model := make([]byte, size)
	for w := range int64(workers) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(w)))
			base := w * (size / workers)
			p := make([]byte, 64<<10)
			for i := int64(0); !stop.Load(); i++ {
				n := 512 * (1 + r.Int64N(128))
				off := base + r.Int64N((size/workers-n)/512)*512
				q := p[:n]
				var err error
				if r.IntN(2) == 0 {
					pattern(q, off, i)
					copy(model[off:], q)
					err = u.rw(t.Context(), devops.BWrite, off, q)
				} else if err = u.rw(t.Context(), devops.BRead, off, q); err == nil && !bytes.Equal(q, model[off:off+n]) {
					err = fmt.Errorf("other bytes at %d", off)
				}
				if err != nil {
					t.Error(err)
					return
				}
				ops.Add(1)
			}
		})
	}
	for range 8 {
		before := ops.Load()
		wait(t, func() bool { return ops.Load() > before+200 || t.Failed() })
		k.kill()
		k.start()
	}
	before := ops.Load()
	wait(t, func() bool { return ops.Load() > before+200 || t.Failed() })
	stop.Store(true)
	wg.Wait()
	if err := u.op(t.Context(), devops.BFlush, 0, 0); err != nil {
		t.Error(err)
	}
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, model) {
		t.Errorf("the file is not what was written (%v)", err)
	}
	if u.cnt.reissued.Load() == 0 || u.cnt.connects.Load() < 9 {
		t.Errorf("%d requests sent again, %d connections", u.cnt.reissued.Load(), u.cnt.connects.Load())
	}
	t.Logf("%d operations, %d sent again", ops.Load(), u.cnt.reissued.Load())
}

// TestGone: a server that stays away is EIO after the timeout, then at once; when
// it is back everything works.
func TestGone(t *testing.T) {
	k := startNbdkit(t, "memory", "1M")
	u := open(t, unitOptions{timeout: 500 * time.Millisecond}, dialUnix(k.sock))
	u.ready(t)
	begin := time.Now()
	k.kill()
	p := make([]byte, 512)
	err := u.rw(t.Context(), devops.BRead, 0, p)
	if d := time.Since(begin); !errors.Is(err, abi.EIO) || d < 500*time.Millisecond || d > time.Minute {
		t.Errorf("after %v: %v", d, err)
	}
	wait(t, func() bool { u.mu.Lock(); defer u.mu.Unlock(); return time.Since(u.lost) > u.opt.timeout })
	least := time.Hour // a busy machine may take its time once, and who waits does so each time
	for i := 0; i < 20 && least > 200*time.Millisecond; i++ {
		begin = time.Now()
		if err = u.rw(t.Context(), devops.BRead, 0, p); !errors.Is(err, abi.EIO) {
			t.Error(err)
		}
		least = min(least, time.Since(begin))
	}
	if least > 200*time.Millisecond {
		t.Errorf("EIO after %v at least", least)
	}
	k.start()
	wait(t, func() bool { return u.rw(t.Context(), devops.BRead, 0, p) == nil })
}

// TestStrict: a flush tells that writes may have been lost, once.
func TestStrict(t *testing.T) {
	for _, strict := range []bool{true, false} {
		k := startNbdkit(t, "memory", "1M")
		u := open(t, unitOptions{strict: strict}, dialUnix(k.sock))
		u.ready(t)
		p := make([]byte, 512)
		restart := func() {
			n := u.cnt.connects.Load()
			k.kill()
			k.start()
			wait(t, func() bool { return u.cnt.connects.Load() > n })
		}
		flush := func() error { return u.op(t.Context(), devops.BFlush, 0, 0) }
		if err := u.rw(t.Context(), devops.BWrite, 0, p); err != nil {
			t.Fatal(err)
		}
		if err := flush(); err != nil {
			t.Fatal(err)
		}
		restart()
		if err := flush(); err != nil {
			t.Errorf("everything was flushed: %v", err)
		}
		if err := u.rw(t.Context(), devops.BWrite, 0, p); err != nil {
			t.Fatal(err)
		}
		restart()
		if err := flush(); strict != errors.Is(err, abi.EIO) {
			t.Errorf("strict %v: %v", strict, err)
		}
		if err := flush(); err != nil {
			t.Errorf("again: %v", err)
		}
		u.stop()
	}
}

// TestCancel: a caller that gives up is answered at once, and nobody writes into
// its memory any more; others go on.
func TestCancel(t *testing.T) {
	k := startNbdkit(t, "--filter=delay", "memory", "1M", "delay-read=300ms")
	u := open(t, unitOptions{}, dialUnix(k.sock))
	u.ready(t)
	ctx, cancel := context.WithCancel(t.Context())
	p := bytes.Repeat([]byte{0xaa}, 4096)
	done := make(chan error, 1)
	go func() { done <- u.rw(ctx, devops.BRead, 0, p) }()
	other := make(chan error, 1)
	go func() { other <- u.rw(t.Context(), devops.BRead, 0, make([]byte, 4096)) }()
	wait(t, func() bool { u.mu.Lock(); defer u.mu.Unlock(); return u.live == 2 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := <-other; err != nil {
		t.Error(err)
	}
	wait(t, func() bool { u.mu.Lock(); defer u.mu.Unlock(); return u.live == 0 })
	if !bytes.Equal(p, bytes.Repeat([]byte{0xaa}, 4096)) {
		t.Error("the memory of a caller that has gone was written to")
	}
	if n := u.cnt.connects.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestStop(t *testing.T) {
	k := startNbdkit(t, "--filter=delay", "memory", "1M", "delay-read=5")
	u := open(t, unitOptions{}, dialUnix(k.sock))
	u.ready(t)
	done := make(chan error, 1)
	go func() { done <- u.rw(t.Context(), devops.BRead, 0, make([]byte, 512)) }()
	wait(t, func() bool { u.mu.Lock(); defer u.mu.Unlock(); return u.live == 1 })
	u.stop()
	if err := <-done; !errors.Is(err, abi.ENXIO) {
		t.Error(err)
	}
	if err := u.rw(t.Context(), devops.BRead, 0, make([]byte, 512)); !errors.Is(err, abi.ENXIO) {
		t.Error(err)
	}
	v := open(t, unitOptions{}, func(context.Context) (net.Conn, error) { return nil, abi.ECONNREFUSED })
	v.stop()
}

func TestProps(t *testing.T) {
	of := func(name string, v any) modapi.Props {
		return modapi.Props{"md": "another's", "nbd": map[string]any{name: v}}
	}
	o, err := parse(of("nbd3", map[string]any{"connect": "c", "export": "e", "timeout": int64(3), "ro": true, "strict": true}))
	if err != nil || len(o) != 1 || o[3] != (unitOptions{"c", "e", 3 * time.Second, true, true}) {
		t.Errorf("%+v %v", o, err)
	}
	c := map[string]any{"connect": "c"}
	for name, p := range map[string]modapi.Props{
		"no map": {"nbd": 5}, "no number": of("nbd", c), "negative": of("nbd-1", c), "zeros": of("nbd01", c), "many": of("nbd256", c), "other": of("disk", c),
		"no unit": of("nbd0", 5), "empty": of("nbd0", map[string]any{}), "unknown": of("nbd0", map[string]any{"connect": "c", "x": 1}),
		"connect": of("nbd0", map[string]any{"connect": 1}), "timeout": of("nbd0", map[string]any{"connect": "c", "timeout": int64(0)}),
		"export": of("nbd0", map[string]any{"connect": "c", "export": "\xff"}),
	} {
		if _, err := parse(p); !errors.Is(err, abi.EINVAL) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
