package md

import (
	"bytes"
	"context"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/modproxy/modproxytest"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/devops/mdio"
	"github.com/rumpus-kernel/rumpus/modapi/dispatch"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
)

func mods() []modapi.Module { return []modapi.Module{New()} }

func of(m map[string]any) modapi.Props { return modapi.Props{"md": m, "cgd": "another's"} }

var props = map[string]modapi.Props{"md": of(map[string]any{"md0": "4M", "md2": int64(1 << 20)})}

func TestConformance(t *testing.T) {
	modtest.TestModule(t, mods, modtest.Options{Props: props})
	modtest.TestBlk(t, func(t *testing.T) modtest.BlkUnderTest {
		return modtest.BlkUnderTest{Mods: mods(), Props: props, Driver: "md", Units: []uint32{0, 2}, BadUnit: 4}
	})
}

func TestProps(t *testing.T) {
	if err := New().Init(t.Context(), modtest.NewKernel(t, nil), modapi.Fresh, modapi.Props{"md": "64M"}); abi.ErrnoOf(err) != abi.EINVAL {
		t.Errorf("a property that is no map: %v", err)
	}
	for _, c := range []struct {
		p     map[string]any
		units int
		size  int64 // of md0
		e     abi.Errno
	}{
		{nil, 0, 0, 0},
		{map[string]any{"md0": "64M"}, 1, 64 << 20, 0},
		{map[string]any{"md0": "1 KB", "units": int64(9)}, 9, 1024, 0},
		{map[string]any{"md0": float64(513)}, 1, 1024, 0},
		{map[string]any{"md7": 512}, 1, 0, 0},
		{map[string]any{"md0": "x"}, 0, 0, abi.EINVAL},
		{map[string]any{"md0": ""}, 0, 0, abi.EINVAL},
		{map[string]any{"md0": "-1"}, 0, 0, abi.EINVAL},
		{map[string]any{"md0": "2T"}, 0, 0, abi.EINVAL},
		{map[string]any{"md0": "9999999999T"}, 0, 0, abi.EINVAL},
		{map[string]any{"md0": 0}, 0, 0, abi.EINVAL},
		{map[string]any{"md01": 512}, 0, 0, abi.EINVAL},
		{map[string]any{"md999": 512}, 0, 0, abi.EINVAL},
		{map[string]any{"disk": 512}, 0, 0, abi.EINVAL},
		{map[string]any{"units": 0}, 0, 0, abi.EINVAL},
		{map[string]any{"md0": true}, 0, 0, abi.EINVAL},
	} {
		m := New().(*module)
		k := modtest.NewKernel(t, nil)
		err := k.Init(m, modapi.Fresh, of(c.p))
		if abi.ErrnoOf(err) != c.e {
			t.Errorf("%v: %v, want %v", c.p, err, c.e)
		}
		if err != nil {
			continue
		}
		g, err := k.Blks["md"].Ops.Geometry(t.Context(), 0)
		if c.size == 0 && c.units < 2 {
			if abi.ErrnoOf(err) != abi.ENXIO {
				t.Errorf("%v: md0: %v", c.p, err)
			}
			err = nil
		}
		if err != nil || g.Size != c.size || len(k.Blks["md"].Nodes) != c.units {
			t.Errorf("%v: %+v, %v, %d nodes", c.p, g, err, len(k.Blks["md"].Nodes))
		}
		m.Fini(t.Context())
	}
}

// TestConfigure gives a unit memory, and takes it away, in every binding.
func TestConfigure(t *testing.T) {
	modtest.Bindings(t, mods, modtest.Options{Props: map[string]modapi.Props{"md": of(map[string]any{"units": 2})}}, func(t *testing.T, k *modtest.Kernel) {
		ctx := t.Context()
		at := k.Blks["md"]
		set := func(c mdio.Conf) error {
			_, err := at.Ops.Ioctl(ctx, 1, mdio.SetConf, c.Append(nil))
			return err
		}
		get := func() (c mdio.Conf) {
			p, err := at.Ops.Ioctl(ctx, 1, mdio.GetConf, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Parse(p); err != nil {
				t.Fatal(err)
			}
			return c
		}
		if c := get(); c != (mdio.Conf{}) {
			t.Errorf("at first: %+v", c)
		}
		b := &devops.Buf{ID: 1, Dev: at.Dev | 1, Bytes: 512, Flags: devops.BRead, Data: abi.IovOf(make([]byte, 512))}
		if err := at.Ops.Strategy(ctx, b); abi.ErrnoOf(err) != abi.EINVAL {
			t.Errorf("read: %v", err)
		}
		want := mdio.Conf{Size: 1 << 20, Type: mdio.KmemAllocated}
		if err := set(want); err != nil {
			t.Fatal(err)
		}
		if c := get(); c != want {
			t.Errorf("then: %+v", c)
		}
		if err := at.Ops.Strategy(ctx, b); err != nil {
			t.Errorf("read: %v", err)
		}
		if err := set(want); abi.ErrnoOf(err) != abi.EBUSY {
			t.Errorf("twice: %v", err)
		}
		if _, err := at.Ops.Ioctl(ctx, 1, mdio.SetConf, make([]byte, 5)); abi.ErrnoOf(err) != abi.EINVAL {
			t.Errorf("garbage: %v", err)
		}
		if err := set(mdio.Conf{}); err != nil {
			t.Fatal(err)
		}
		if err := at.Ops.Strategy(ctx, b); abi.ErrnoOf(err) != abi.EINVAL {
			t.Errorf("read: %v", err)
		}
	})
}

// TestConfigurer is the same by way of drvctl.
func TestConfigurer(t *testing.T) {
	d := &driver{m: &module{}}
	t.Cleanup(d.m.free)
	for _, c := range []struct {
		again devops.Units
		arg   string
		unit  uint32
		e     abi.Errno
	}{
		{arg: `{"size": "1M"}`, unit: 0},
		{arg: `{"size": 1000, "unit": 2}`, unit: 2},
		{arg: `{"size": 1000, "unit": 2}`, e: abi.EBUSY},
		{arg: `{"size": 1000, "unit": 256}`, e: abi.EINVAL},
		{again: devops.Units{First: 1, Count: 1}, arg: `{"size": 1000}`, unit: 1},
		{arg: `{"size": 1000}`, unit: 3},
		{arg: `{"size": "much"}`, e: abi.EINVAL},
		{arg: `{"sizes": 1}`, e: abi.EINVAL},
		{arg: `{}`, e: abi.EINVAL},
		{arg: `garbage`, e: abi.EINVAL},
		{arg: ``, e: abi.EINVAL},
	} {
		u, err := d.Configure(t.Context(), c.again, abi.NoDev, []byte(c.arg))
		if abi.ErrnoOf(err) != c.e || err == nil && u != (devops.Units{First: c.unit, Count: 1}) {
			t.Errorf("%s: %+v, %v", c.arg, u, err)
		}
	}
	if err := d.Unconfigure(t.Context(), devops.Units{First: 1, Count: 1}, false); err != nil {
		t.Error(err)
	}
	if err := d.Unconfigure(t.Context(), devops.Units{First: 1, Count: 1}, false); abi.ErrnoOf(err) != abi.ENXIO {
		t.Errorf("twice: %v", err)
	}
}

// bench is md0 of 64 MiB in a binding.
func bench(b *testing.B, binding string) (devops.Blk, abi.Dev) {
	k := modtest.NewKernel(b, nil)
	ms := mods()
	switch binding {
	case "stream":
		ms = modproxytest.Open(b, dispatch.New(ms, dispatch.Options{}), nil).Modules()
	case "ring":
		ms = modproxytest.OpenRing(b, dispatch.New(ms, dispatch.Options{}), nil).Modules()
	}
	if err := k.Init(ms[0], modapi.Fresh, of(map[string]any{"md0": "64M"})); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ms[0].Fini(context.Background()) })
	d := k.Blks["md"]
	p := bytes.Repeat([]byte{1}, 1<<20)
	for off := int64(0); off < 64<<20; off += 1 << 20 {
		if err := d.Ops.Strategy(b.Context(), &devops.Buf{Dev: d.Dev, Blkno: off / 512, Bytes: 1 << 20, Flags: devops.BWrite, Data: abi.IovOf(p)}); err != nil {
			b.Fatal(err)
		}
	}
	return d.Ops, d.Dev
}

func BenchmarkRead(b *testing.B) {
	for _, binding := range []string{"direct", "ring", "stream"} {
		for _, c := range []struct {
			name string
			n    int64
			seq  bool
		}{{"4k-random", 4096, false}, {"1m-sequential", 1 << 20, true}} {
			b.Run(binding+"/"+c.name, func(b *testing.B) {
				d, dev := bench(b, binding)
				p := make([]byte, c.n)
				buf := devops.Buf{Dev: dev, Bytes: c.n, Flags: devops.BRead, Data: abi.IovOf(p)}
				b.SetBytes(c.n)
				off, rnd := int64(0), uint64(1)
				for b.Loop() {
					buf.ID++
					buf.Blkno = off / 512
					if err := d.Strategy(b.Context(), &buf); err != nil {
						b.Fatal(err)
					}
					if c.seq {
						off = (off + c.n) % (64 << 20)
					} else {
						rnd = rnd*6364136223846793005 + 1442695040888963407
						off = int64(rnd>>40) % (64 << 20 / 4096) * 4096
					}
				}
			})
		}
	}
}
