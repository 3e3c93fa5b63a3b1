package dev

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/modproxy"
	"github.com/rumpus-kernel/rumpus/kernel/modproxy/modproxytest"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/dispatch"
	"github.com/rumpus-kernel/rumpus/plugins/dev/md"
)

// ramModule is ram as a module; its memory is that of the test, so that it
// outlives the process that the test plays.
type ramModule struct{ r *ram }

func (ramModule) Info() modapi.Info {
	return modapi.Info{Name: "ram", Class: modapi.ClassDriver, Kern: abi.KernVersionCurrent, Version: "1"}
}

func (m ramModule) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, _ modapi.Props) error {
	_, err := k.AttachBlk("ram", m.r)
	return err
}

func (ramModule) Fini(context.Context) error { return nil }

// TestBlkKillLoop: the component of a disk is killed over and over while
// clients write and read: every operation that was answered has been done, and
// none fails.
func TestBlkKillLoop(t *testing.T) {
	for name, open := range map[string]func(testing.TB, *dispatch.Server, modproxy.Control) *modproxy.Link{
		"stream": modproxytest.Open, "ring": modproxytest.OpenRing,
	} {
		t.Run(name, func(t *testing.T) {
			ctx := ctxT(t)
			s := New(Options{})
			s.SetAvailable(true)
			mem := &[2][]byte{make([]byte, ramSize), make([]byte, ramSize)}
			var link *modproxy.Link
			var proc *ram
			start := func(r modapi.Reason) {
				proc = newRAM(mem)
				link = open(t, dispatch.New([]modapi.Module{ramModule{proc}}, dispatch.Options{}), nil)
				if err := link.Modules()[0].Init(ctx, devKernel{s}, r, nil); err != nil {
					t.Errorf("init: %v", err)
				}
				s.InstanceUp("dev")
			}
			start(modapi.Fresh)
			n, _ := s.Lookup("ram0")
			h, err := s.OpenBlk(ctx, n.Dev, abi.O_RDWR)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close(ctx)
			const workers, sector = 4, 4096
			const share = ramSize / workers
			model := make([]byte, ramSize)
			var stop atomic.Bool
			var ops atomic.Int64
			var wg sync.WaitGroup
			for w := range workers {
				wg.Add(1)
				go func() {
					defer wg.Done()
					r := rand.New(rand.NewPCG(uint64(w), 5))
					for !stop.Load() {
						n := sector * (1 + r.Int64N(4))
						off := int64(w)*share + r.Int64N((share-n)/sector+1)*sector
						p := bytes.Repeat([]byte{byte(r.Uint32())}, int(n))
						if err := h.Do(ctx, buf(devops.BWrite, off, p)); err != nil {
							t.Errorf("write: %v", err)
							return
						}
						copy(model[off:], p)
						off = int64(w)*share + r.Int64N(share/sector)*sector
						q := make([]byte, sector)
						if err := h.Do(ctx, buf(devops.BRead, off, q)); err != nil || !bytes.Equal(q, model[off:off+sector]) {
							t.Errorf("read at %d: %v", off, err)
							return
						}
						ops.Add(2)
					}
				}()
			}
			for range 10 {
				at := ops.Load() + 50
				for ops.Load() < at && ctx.Err() == nil && !t.Failed() {
					time.Sleep(time.Millisecond)
				}
				proc.kill()
				link.Close()
				s.InstanceDown("dev")
				start(modapi.Restart)
			}
			stop.Store(true)
			wg.Wait()
			if !bytes.Equal(mem[0], model) {
				t.Error("the disk is not what was written")
			}
		})
	}
}

// TestBlkPlugin: md of the dev component, by its nodes, over a stream that is
// cut: the nodes go on.
func TestBlkPlugin(t *testing.T) {
	ctx := ctxT(t)
	k := &blkKit{t: t, Switch: New(Options{})}
	k.SetAvailable(true)
	var link *modproxy.Link
	start := func(r modapi.Reason) {
		t.Helper()
		link = modproxytest.OpenRing(t, dispatch.New([]modapi.Module{md.New()}, dispatch.Options{}), nil)
		if err := link.Modules()[0].Init(ctx, devKernel{k.Switch}, r, modapi.Props{"md": map[string]any{"md0": "1M"}}); err != nil {
			t.Fatalf("init: %v", err)
		}
		k.InstanceUp("dev")
	}
	start(modapi.Fresh)
	if n, _ := k.Lookup("md0"); n.Dev != abi.Makedev(17, 0) || !n.Blk {
		t.Errorf("md0: %+v", n)
	}
	if n, _ := k.Lookup("rmd0"); n.Dev != abi.Makedev(24, 0) || n.Blk {
		t.Errorf("rmd0: %+v", n)
	}
	f, raw := k.node("md0", abi.O_RDWR), k.node("rmd0", abi.O_RDONLY)
	names, err := k.Attach(ctx, "md", abi.NoDev, []byte(`{"size": "64K", "unit": 5}`))
	if err != nil || len(names) != 1 || names[0] != "md5" {
		t.Fatalf("attach: %v %v", names, err)
	}
	g := k.node("md5", abi.O_RDWR)
	for round := range 3 {
		if n, err := f.Ops.Write(ctx, abi.KernelCaller, f, []byte("hello"), 1000); n != 5 || err != nil {
			t.Errorf("write: %d %v", n, err)
		}
		b := make([]byte, 1024)
		if n, err := raw.Ops.Read(ctx, abi.KernelCaller, raw, b, 512); n != 1024 || err != nil || string(b[488:493]) != "hello" {
			t.Errorf("raw read: %d %v %q", n, err, b[488:493])
		}
		if n, err := g.Ops.Write(ctx, abi.KernelCaller, g, b, 63<<10); n != 1024 || err != nil {
			t.Errorf("write in round %d: %d %v", round, n, err)
		}
		link.Close()
		k.InstanceDown("dev")
		start(modapi.Restart)
	}
	if err := k.Detach(ctx, "md5", false); abi.ErrnoOf(err) != abi.EBUSY {
		t.Errorf("detach while open: %v", err)
	}
}

// layerModule is a layer as a module; it opens what it stands on at its first
// buf, as that is attached by then.
type layerModule struct {
	*layer
	on   abi.Dev
	k    modapi.Kernel
	dev  abi.Dev
	once sync.Once
	err  error
}

func (m *layerModule) Info() modapi.Info {
	return modapi.Info{Name: m.name, Class: modapi.ClassDriver, Kern: abi.KernVersionCurrent, Version: "1"}
}

func (m *layerModule) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, _ modapi.Props) (err error) {
	m.k = k
	m.dev, err = k.AttachBlk(m.name, m)
	return err
}

func (m *layerModule) Fini(context.Context) error { return nil }

func (m *layerModule) Strategy(ctx context.Context, b *devops.Buf) error {
	m.once.Do(func() { m.io, m.err = m.k.Block(m.on, m.dev) })
	if m.err != nil {
		return m.err
	}
	return m.layer.Strategy(ctx, b)
}

// TestBlkStackOneProcess: a stack of disks in one process does not run out of
// workers for its lower ones, however much is asked of the top.
func TestBlkStackOneProcess(t *testing.T) {
	for name, open := range map[string]func(testing.TB, *dispatch.Server, modproxy.Control) *modproxy.Link{
		"stream": modproxytest.Open, "ring": modproxytest.OpenRing,
	} {
		t.Run(name, func(t *testing.T) {
			ctx := ctxT(t)
			s := New(Options{})
			s.SetAvailable(true)
			r := newRAM(nil)
			mods := []modapi.Module{ramModule{r}}
			below := abi.Makedev(firstDynamic, 0)
			for _, n := range []string{"low", "mid", "top"} {
				m := &layerModule{layer: &layer{name: n}, on: below}
				mods = append(mods, m)
				below = abi.Makedev(below.Major()+1, 0)
			}
			link := open(t, dispatch.New(mods, dispatch.Options{}), nil)
			for _, m := range link.Modules() {
				if err := m.Init(ctx, devKernel{s}, modapi.Fresh, nil); err != nil {
					t.Fatal(err)
				}
				s.InstanceUp("dev")
			}
			h, err := s.OpenBlk(ctx, below, abi.O_RDWR)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close(ctx)
			var wg sync.WaitGroup
			for i := range int64(256) {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for range 4 {
						p, q := bytes.Repeat([]byte{byte(i)}, 4096), make([]byte, 4096)
						err := h.Do(ctx, buf(devops.BWrite, i*4096, p))
						if err == nil {
							err = h.Do(ctx, buf(devops.BRead, i*4096, q))
						}
						if err != nil || !bytes.Equal(p, q) {
							t.Errorf("block %d: %v", i, err)
							return
						}
					}
				}()
			}
			wg.Wait()
			if h.Rank() != 3 {
				t.Errorf("rank %d", h.Rank())
			}
		})
	}
}
