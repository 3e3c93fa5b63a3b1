package cgd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/dev"
	"github.com/rumpus-kernel/rumpus/kernel/modproxy"
	"github.com/rumpus-kernel/rumpus/kernel/modproxy/modproxytest"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/devops/cgdio"
	"github.com/rumpus-kernel/rumpus/modapi/dispatch"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/plugins/dev/md"
)

// swKernel binds block device drivers to a real device switch.
type swKernel struct {
	*modtest.Kernel
	s *dev.Switch
}

func (k swKernel) AttachBlk(name string, d devops.Blk) (abi.Dev, error) {
	return k.s.AttachBlk("dev", name, d)
}
func (k swKernel) BlkChanged(d abi.Dev) error { return k.s.BlkChanged("dev", d) }
func (k swKernel) Block(d, user abi.Dev) (devops.BlockIO, error) {
	return k.s.Block(context.Background(), "dev", "dev/mod", d, user)
}

// hostDisk is a memDisk as a driver of the kernel itself: it outlives processes.
type hostDisk struct{ *memDisk }

func (d hostDisk) Geometry(context.Context, uint32) (devops.Geom, error) { return d.g, nil }
func (d hostDisk) Open(context.Context, uint32, int) error               { return nil }
func (d hostDisk) Close(context.Context, uint32, int) error              { return nil }
func (d hostDisk) Ioctl(context.Context, uint32, uint32, []byte) ([]byte, error) {
	return nil, abi.ENOTTY
}

// plant is a device switch with the modules of one process behind a link.
type plant struct {
	s    *dev.Switch
	k    swKernel
	open func(testing.TB, *dispatch.Server, modproxy.Control) *modproxy.Link
	mods func() []modapi.Module
	link *modproxy.Link
}

func newPlant(tb testing.TB, open func(testing.TB, *dispatch.Server, modproxy.Control) *modproxy.Link, mods func() []modapi.Module) *plant {
	s := dev.New(dev.Options{})
	s.SetAvailable(true)
	return &plant{s: s, k: swKernel{modtest.NewKernel(tb, nil), s}, open: open, mods: mods}
}

func (p *plant) start(tb testing.TB, r modapi.Reason, props modapi.Props) {
	tb.Helper()
	p.link = p.open(tb, dispatch.New(p.mods(), dispatch.Options{}), nil)
	for _, m := range p.link.Modules() {
		if err := m.Init(context.Background(), p.k, r, props); err != nil {
			tb.Fatal(err)
		}
	}
	p.s.InstanceUp("dev")
}

func (p *plant) kill() {
	p.link.Close()
	p.s.InstanceDown("dev")
	p.s.DropBlocks("dev/")
}

func lookup(tb testing.TB, s *dev.Switch, name string) abi.Dev {
	tb.Helper()
	n, ok := s.Lookup(name)
	if !ok {
		tb.Fatalf("no node %s", name)
	}
	return n.Dev
}

// TestSurvives: a unit in the kernel's device switch, over a stream and over a
// ring. Its process dies; who has it open goes on, with the same keys.
func TestSurvives(t *testing.T) {
	for name, open := range map[string]func(testing.TB, *dispatch.Server, modproxy.Control) *modproxy.Link{
		"stream": modproxytest.Open, "ring": modproxytest.OpenRing,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			p := newPlant(t, open, func() []modapi.Module { return []modapi.Module{New()} })
			disk := newDisk(4<<20, 512)
			on, err := p.s.AttachBlk("", "host", hostDisk{disk})
			if err != nil {
				t.Fatal(err)
			}
			p.start(t, modapi.Fresh, nil)
			q := req("algorithm aes-xts; keylength 512; verify_method mbr; keygen pkcs5_pbkdf2/sha1 {iterations 50; salt AAAAgMoHiYonye6KogdYJAobCHE=;};", "right")
			arg, err := q.Encode()
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.s.Attach(ctx, "cgd", on, arg)
			wants(t, "an empty disk", err, abi.EACCES, "the key is wrong")
			fresh := req(strings.Replace(string(q.Params), "mbr", "none", 1), "right")
			if arg, err = fresh.Encode(); err != nil {
				t.Fatal(err)
			}
			names, err := p.s.Attach(ctx, "cgd", on, arg)
			if err != nil || fmt.Sprint(names) != "[cgd0]" {
				t.Fatal(names, err)
			}
			h, err := p.s.OpenBlk(ctx, lookup(t, p.s, "cgd0"), abi.O_RDWR)
			if err != nil {
				t.Fatal(err)
			}
			if h.Rank() != 1 {
				t.Errorf("rank %d", h.Rank())
			}
			plain := random(1 << 20)
			for round := range 3 {
				if err := h.Do(ctx, &devops.Buf{Blkno: int64(round), Bytes: 1 << 20, Flags: devops.BWrite, Data: abi.IovOf(plain)}); err != nil {
					t.Fatal(err)
				}
				p.kill()
				p.start(t, modapi.Restart, nil)
				got := make([]byte, len(plain))
				if err := h.Do(ctx, &devops.Buf{Blkno: int64(round), Bytes: 1 << 20, Flags: devops.BRead, Data: abi.IovOf(got)}); err != nil || !bytes.Equal(got, plain) {
					t.Fatalf("after restart %d: %v", round, err)
				}
				if bytes.Contains(disk.p, plain[:64]) {
					t.Fatal("the disk has plain text")
				}
			}
			b, err := h.Ioctl(ctx, cgdio.Get, nil)
			var i cgdio.Info
			if err != nil || i.Parse(b) != nil || i.Dev != on || i.KeyBits != 512 {
				t.Errorf("%+v, %v", i, err)
			}
			if err := p.s.Detach(ctx, "cgd0", false); !errors.Is(err, abi.EBUSY) {
				t.Errorf("detach of an open unit: %v", err)
			}
			h.Close(ctx)
			if err := p.s.Detach(ctx, "cgd0", false); err != nil {
				t.Error(err)
			}
			if h, err = p.s.OpenBlk(ctx, on, abi.O_RDWR|abi.O_EXCL); err != nil {
				t.Errorf("the disk was not given back: %v", err)
			} else {
				h.Close(ctx)
			}
			for _, l := range p.k.Logs() {
				if strings.Contains(l, "right") {
					t.Errorf("a secret is in the log: %s", l)
				}
			}
		})
	}
}

// TestDeath: the process dies again and again under load; nothing that was
// answered is lost.
func TestDeath(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p := newPlant(t, modproxytest.OpenRing, func() []modapi.Module { return []modapi.Module{New()} })
	on, err := p.s.AttachBlk("", "host", hostDisk{newDisk(4<<20, 512)})
	if err != nil {
		t.Fatal(err)
	}
	p.start(t, modapi.Fresh, nil)
	arg, _ := req(stored("aes-xts", testKey(64), "none")).Encode()
	if _, err := p.s.Attach(ctx, "cgd", on, arg); err != nil {
		t.Fatal(err)
	}
	h, err := p.s.OpenBlk(ctx, lookup(t, p.s, "cgd0"), abi.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(ctx)
	const workers, rounds = 4, 150
	done := make(chan error, workers)
	// A request under which too many processes die is given up: none is killed before
	// every worker has got on since the last one.
	var got [workers]atomic.Int64
	var before [workers]int64
	// A link that is cut is no killed process: the module behind it lives on for a
	// moment, and may answer that its disk has failed. Such a call is made again.
	var kills atomic.Int64
	do := func(b *devops.Buf) error {
		for {
			n, buf := kills.Load(), *b
			if err := h.Do(ctx, &buf); err == nil || n == kills.Load() || ctx.Err() != nil {
				return err
			}
		}
	}
	for w := range workers {
		go func() {
			for i := range rounds {
				data := bytes.Repeat([]byte{byte(w), byte(i)}, 2048)
				blk := int64(w*1024 + i%100*8)
				if err := do(&devops.Buf{Blkno: blk, Bytes: 4096, Flags: devops.BWrite, Data: abi.IovOf(data)}); err != nil {
					done <- fmt.Errorf("write %d: %w", i, err)
					return
				}
				back := make([]byte, 4096)
				if err := do(&devops.Buf{Blkno: blk, Bytes: 4096, Flags: devops.BRead, Data: abi.IovOf(back)}); err != nil || !bytes.Equal(back, data) {
					done <- fmt.Errorf("read %d: %v", i, err)
					return
				}
				got[w].Add(1)
			}
			got[w].Store(-1)
			done <- nil
		}()
	}
	for left := workers; left > 0; {
		select {
		case err := <-done:
			left--
			if err != nil {
				t.Error(err)
				logs := p.k.Logs()
				t.Log(strings.Join(logs[max(0, len(logs)-6):], "\n"))
			}
		case <-time.After(10 * time.Millisecond):
			stuck := false
			for w := range workers {
				n := got[w].Load()
				stuck = stuck || n >= 0 && n == before[w]
			}
			if stuck {
				continue
			}
			for w := range workers {
				before[w] = got[w].Load()
			}
			kills.Add(1)
			p.kill()
			p.start(t, modapi.Restart, nil)
		}
	}
}

// BenchmarkOverMD compares a unit of cgd with the memory disk that it stands on,
// as the kernel has both: A/B of one run.
func BenchmarkOverMD(b *testing.B) {
	for name, open := range map[string]func(testing.TB, *dispatch.Server, modproxy.Control) *modproxy.Link{
		"stream": modproxytest.Open, "ring": modproxytest.OpenRing,
	} {
		p := newPlant(b, open, func() []modapi.Module { return []modapi.Module{md.New(), New()} })
		p.start(b, modapi.Fresh, modapi.Props{"md": map[string]any{"md0": "64M", "md1": "64M"}})
		ctx := context.Background()
		arg, _ := req(stored("aes-xts", testKey(64), "none")).Encode()
		if _, err := p.s.Attach(ctx, "cgd", lookup(b, p.s, "md0"), arg); err != nil {
			b.Fatal(err)
		}
		for _, disk := range []string{"md1", "cgd0"} {
			h, err := p.s.OpenBlk(ctx, lookup(b, p.s, disk), abi.O_RDWR)
			if err != nil {
				b.Fatal(err)
			}
			for _, n := range []int{4 << 10, 64 << 10, 1 << 20} {
				for _, op := range []devops.BufFlags{devops.BRead, devops.BWrite} {
					b.Run(fmt.Sprintf("%s/%s/%dK/%s", name, disk, n>>10, map[devops.BufFlags]string{devops.BRead: "read", devops.BWrite: "write"}[op]), func(b *testing.B) {
						buf := make([]byte, n)
						b.SetBytes(int64(n))
						for i := 0; b.Loop(); i++ {
							if err := h.Do(ctx, &devops.Buf{Blkno: int64(i%32) * 2048, Bytes: int64(n), Flags: op, Data: abi.IovOf(buf)}); err != nil {
								b.Fatal(err)
							}
						}
					})
				}
			}
			h.Close(ctx)
		}
	}
	b.Run("direct/cgd0/1024K/read", func(b *testing.B) {
		u := &unit{low: newDisk(1<<20, 512), size: 512, unit: 512}
		benchUnit(b, u, devops.BRead)
	})
	b.Run("direct/cgd0/1024K/write", func(b *testing.B) {
		u := &unit{low: newDisk(1<<20, 512), size: 512, unit: 512}
		benchUnit(b, u, devops.BWrite)
	})
}

func benchUnit(b *testing.B, u *unit, op devops.BufFlags) {
	lg, _ := u.low.Geometry(context.Background())
	lg.Check()
	p, err := cgdio.ParseParams([]byte(stored("aes-xts", testKey(64), "none")))
	if err != nil {
		b.Fatal(err)
	}
	v, err := newCGD(context.Background(), u.low, &lg, onDev, req(stored("aes-xts", testKey(64), p.Verify)))
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if err := v.strategy(context.Background(), &devops.Buf{Bytes: 1 << 20, Flags: op, Data: abi.IovOf(buf)}); err != nil {
			b.Fatal(err)
		}
	}
}
