package dk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ram is a disk of the kernel's in memory.
type ram struct {
	b []byte
}

func (r *ram) Geometry(context.Context) (devops.Geom, error) {
	return devops.Geom{Size: int64(len(r.b)), Sector: 512, Ops: devops.BFlush | devops.BZeroes | devops.BDiscard | devops.BFua}, nil
}
func (r *ram) Close(context.Context) error { return nil }
func (r *ram) Strategy(_ context.Context, b *devops.Buf) error {
	g, _ := r.Geometry(context.Background())
	if err := g.Check(); err != nil {
		return err
	}
	if err := b.Check(&g); err != nil {
		return err
	}
	switch b.Op() {
	case devops.BRead:
		b.Data.CopyIn(r.b[b.Off():][:b.Bytes])
	case devops.BWrite:
		at := r.b[b.Off():]
		for _, p := range b.Data {
			at = at[copy(at, p):]
		}
	case devops.BZeroes:
		clear(r.b[b.Off():][:b.Bytes])
	}
	return nil
}

var on = abi.Makedev(7, 0)

// partitioned has an MBR with two partitions, and one that is none.
func partitioned() *ram {
	b := make([]byte, 4<<20)
	entry := func(i int, typ byte, start, size uint32) {
		e := b[446+16*i:]
		e[4] = typ
		for j := range 4 {
			e[8+j], e[12+j] = byte(start>>(8*j)), byte(size>>(8*j))
		}
	}
	entry(0, 0x83, 64, 2048)
	entry(1, 0x82, 4096, 2048)
	entry(2, 0x83, 5000, 100)
	b[510], b[511] = 0x55, 0xaa
	return &ram{b: b}
}

// TestBlk: a partition is a block device like any other.
func TestBlk(t *testing.T) {
	modtest.TestBlk(t, func(t *testing.T) modtest.BlkUnderTest {
		return modtest.BlkUnderTest{
			Mods: []modapi.Module{New()}, Driver: "dk", Units: []uint32{0, 1}, BadUnit: 2,
			Disks: map[abi.Dev]devops.BlockIO{on: partitioned()},
			Setup: func(t *testing.T, k *modtest.Kernel, d devops.Blk) {
				u, err := devops.Configure(t.Context(), d, devops.Units{}, on, []byte(`{"name": "disk0"}`))
				if err != nil || u != (devops.Units{First: 0, Count: 2}) {
					t.Fatal(u, err)
				}
			},
		}
	})
}

// TestConfigure: what is shown, where it lies, what is refused, and how it ends.
func TestConfigure(t *testing.T) {
	ctx := t.Context()
	k := modtest.NewKernel(t, nil)
	base := partitioned()
	k.SetDisk(on, base)
	k.SetDisk(on+1, &ram{b: make([]byte, 1<<20)})
	d := New()
	if err := k.Init(d, modapi.Fresh, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		on  abi.Dev
		arg string
		e   abi.Errno
	}{
		{on, `{"name": ""}`, abi.EINVAL}, {on, `{"name": "x", "key": 1}`, abi.EINVAL}, {on, `x`, abi.EINVAL},
		{abi.NoDev, `{"name": "x"}`, abi.EINVAL}, {on + 2, `{"name": "x"}`, abi.ENXIO}, {on + 1, `{"name": "x"}`, abi.ESRCH},
	} {
		if _, err := d.Configure(ctx, devops.Units{}, c.on, []byte(c.arg)); !errors.Is(err, c.e) {
			t.Errorf("%s: %v, want %v", c.arg, err, c.e)
		}
	}
	u, err := d.Configure(ctx, devops.Units{}, on, []byte(`{"name": "disk0"}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Configure(ctx, devops.Units{}, on, []byte(`{"name": "again"}`)); !errors.Is(err, abi.EEXIST) {
		t.Error(err)
	}
	var names []string
	for _, n := range d.Nodes() {
		names = append(names, n.Name)
	}
	if slices.Sort(names); !slices.Equal(names, []string{"disk0p1", "disk0p2"}) {
		t.Error(names)
	}
	dev := k.Blks["dk"].Dev
	p := bytes.Repeat([]byte("p2"), 256)
	if err := d.Strategy(ctx, &devops.Buf{Dev: dev + 1, Blkno: 3, Bytes: 512, Flags: devops.BWrite, Data: abi.IovOf(p)}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(base.b[(4096+3)*512:][:512], p) {
		t.Error("the write went elsewhere")
	}
	for _, blk := range []int64{2048, 2047, -1, 1 << 52} {
		if err := d.Strategy(ctx, &devops.Buf{Dev: dev, Blkno: blk, Bytes: 1024, Flags: devops.BWrite, Data: abi.IovOf(make([]byte, 1024))}); !errors.Is(err, abi.EINVAL) {
			t.Errorf("block %d: %v", blk, err)
		}
	}
	if err := d.Open(ctx, 1, abi.O_RDWR); err != nil {
		t.Fatal(err)
	}
	if err := d.Fini(ctx); !errors.Is(err, abi.EBUSY) {
		t.Error(err)
	}
	if err := d.Unconfigure(ctx, u, false); !errors.Is(err, abi.EBUSY) {
		t.Error(err)
	}
	d.Close(ctx, 1, abi.O_RDWR)
	if err := d.Unconfigure(ctx, u, false); err != nil {
		t.Error(err)
	}
	if err := d.Unconfigure(ctx, u, false); !errors.Is(err, abi.ENXIO) {
		t.Error(err)
	}
	if io, err := k.Block(on, abi.NoDev); err != nil {
		t.Errorf("the disk was not given back: %v", err)
	} else {
		io.Close(ctx)
	}
	// A new process is told with the units of before.
	if again, err := d.Configure(ctx, devops.Units{First: 512, Count: 2}, on, []byte(`{"name": "disk0"}`)); err != nil || again.First != 512 {
		t.Error(again, err)
	}
	if err := d.Unconfigure(ctx, devops.Units{First: 512, Count: 2}, false); err != nil {
		t.Error(err)
	}
	if _, err := d.Configure(ctx, devops.Units{First: 512, Count: 7}, on, []byte(`{"name": "disk0"}`)); !errors.Is(err, abi.EIO) {
		t.Errorf("another table: %v", err)
	}
	if err := d.Fini(ctx); err != nil {
		t.Error(err)
	}
}

// TestProbe: contents and table, also of a disk that is in use.
func TestProbe(t *testing.T) {
	ctx := t.Context()
	k := modtest.NewKernel(t, nil)
	base := partitioned()
	k.SetDisk(on, base)
	d := New()
	if err := k.Init(d, modapi.Fresh, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Block(on, abi.NoDev); err != nil { // somebody has it
		t.Fatal(err)
	}
	b, err := d.Probe(ctx, on)
	var a Answer
	if err != nil || json.Unmarshal(b, &a) != nil || a.Contents.Type != "dos" || a.Table == nil || len(a.Table.Parts) != 3 || a.Table.Parts[2].Err == "" {
		t.Errorf("%s, %v", b, err)
	}

	clear(base.b[:512])
	b, err = d.Probe(ctx, on)
	a = Answer{}
	if err != nil || json.Unmarshal(b, &a) != nil || a.Contents.Kind != "blank" || a.Table != nil {
		t.Errorf("%s, %v", b, err)
	}
	if _, err := d.Probe(ctx, on+9); !errors.Is(err, abi.ENXIO) {
		t.Error(err)
	}
}
