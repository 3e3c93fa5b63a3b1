package dev

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// layer attaches a driver of one unit, which passes bufs on to what it stands
// on.
type layer struct {
	devops.Blk
	io   devops.BlockIO
	name string
	gate chan struct{} // bufs wait for it
}

func (l *layer) Nodes() []devops.Node { return []devops.Node{{Name: l.name}} }
func (l *layer) Geometry(context.Context, uint32) (devops.Geom, error) {
	return devops.Geom{Size: ramSize, Sector: 4096}, nil
}
func (l *layer) Open(context.Context, uint32, int) error  { return nil }
func (l *layer) Close(context.Context, uint32, int) error { return nil }
func (l *layer) Strategy(ctx context.Context, b *devops.Buf) error {
	if l.gate != nil {
		<-l.gate
	}
	if l.io == nil {
		return nil
	}
	return l.io.Strategy(ctx, b)
}

func (k *blkKit) layer(inst, name string) (*layer, abi.Dev) {
	k.t.Helper()
	l := &layer{name: name}
	dev, err := k.AttachBlk(inst, name, l)
	if err != nil {
		k.t.Fatal(err)
	}
	k.InstanceUp(inst)
	return l, dev
}

func TestBlkStack(t *testing.T) {
	k := newBlkKit(t, Options{})
	ctx := ctxT(t)
	below := k.dev
	var top *layer
	var devs []abi.Dev
	for i := range 8 {
		l, dev := k.layer("dev", fmt.Sprint("layer", i))
		io, err := k.Block(ctx, "dev", "dev/layers", below, dev)
		if err != nil {
			t.Fatal(err)
		}
		l.io, below, top = io, dev, l
		devs = append(devs, dev)
	}
	h, err := k.OpenBlk(ctx, below, abi.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	if h.Rank() != 8 {
		t.Errorf("rank %d, want 8", h.Rank())
	}
	p := bytes.Repeat([]byte("z"), 4096)
	if err := h.Strategy(ctx, buf(devops.BWrite, 8192, p)); err != nil || !bytes.Equal(k.r.mem[0][8192:12288], p) {
		t.Errorf("write through all: %v", err)
	}
	_, ninth := k.layer("dev", "ninth")
	_, err = k.Block(ctx, "dev", "dev/layers", below, ninth)
	want(t, "one too many", err, abi.ELOOP)
	_, err = k.Block(ctx, "vfs", "vfs/fs", below, abi.NoDev)
	want(t, "a mount on all of them", err, abi.ELOOP)
	_, err = k.Block(ctx, "dev", "dev/layers", below, devs[2])
	want(t, "a circle", err, abi.EDEADLK)
	_, err = k.Block(ctx, "dev", "dev/layers", ninth, ninth)
	want(t, "on itself", err, abi.EDEADLK)
	_, err = k.Block(ctx, "dev", "dev/layers", devs[1], abi.NoDev)
	want(t, "on its own without a unit", err, abi.EDEADLK)
	_, err = k.Block(ctx, "dev", "dev/other", k.dev, ninth)
	want(t, "in use", err, abi.EBUSY)
	_, err = k.Block(ctx, "other", "other/x", k.dev|1, ninth)
	want(t, "unit of another", err, abi.EINVAL)
	_, err = k.Block(ctx, "dev", "dev/layers", abi.Makedev(99, 0), ninth)
	want(t, "no device", err, abi.ENXIO)
	// The chain is cut: what stood higher sinks.
	h.Close(ctx)
	top.io.Close(ctx)
	top.io.Close(ctx)
	want(t, "closed", top.io.Strategy(ctx, buf(devops.BRead, 0, p)), abi.EBADF)
	if i := k.Blks(); i[7].Name != "layer7" || i[7].Rank != 0 || i[6].Rank != 7 || i[6].On[0] != devs[5] {
		t.Errorf("list: %+v", i)
	}
	fs, err := k.Block(ctx, "vfs", "vfs/fs", devs[6], abi.NoDev)
	if err != nil {
		t.Fatal(err)
	}
	k.DropBlocks("vfs/")
	want(t, "of a dead process", fs.Strategy(ctx, buf(devops.BRead, 0, p)), abi.EBADF)
	k.DropBlocks("dev/layers")
	for _, i := range k.Blks() {
		if i.Opens != 0 || i.Rank != 0 || i.Busy {
			t.Errorf("left over: %+v", i)
		}
	}
	// Read-only devices are opened for reading.
	k.r.mu.Lock()
	k.r.geom.ReadOnly = true
	k.r.mu.Unlock()
	ro, err := k.Block(ctx, "vfs", "vfs/fs", k.dev, abi.NoDev)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "write", ro.Strategy(ctx, buf(devops.BWrite, 0, p)), abi.EROFS)
	if g, err := ro.Geometry(ctx); err != nil || !g.ReadOnly {
		t.Errorf("geometry: %+v %v", g, err)
	}
	ro.Close(ctx)
}

// TestBlkDepth: only so many requests are under way; those that they make
// themselves do not count.
func TestBlkDepth(t *testing.T) { synctest.Test(t, testBlkDepth) }

func testBlkDepth(t *testing.T) {
	k := newBlkKit(t, Options{})
	ctx := ctxT(t)
	gate := make(chan struct{})
	l, dev := k.layer("dev", "lay")
	io, err := k.Block(ctx, "dev", "dev/lay", k.dev, dev)
	if err != nil {
		t.Fatal(err)
	}
	l.io, l.gate = io, gate
	h, err := k.OpenBlk(ctx, dev, abi.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for i := range 100 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := h.Strategy(ctx, buf(devops.BRead, int64(i)*4096, make([]byte, 4096))); err != nil {
				t.Error(err)
			}
			mu.Lock()
			done++
			mu.Unlock()
		}()
	}
	synctest.Wait()
	if n := len(k.depth.of("dev")); n != maxDepth {
		t.Errorf("%d under way, want %d", n, maxDepth)
	}
	cctx, cancel := context.WithCancel(ctx)
	cancel()
	want(t, "given up", h.Strategy(cctx, buf(devops.BRead, 0, make([]byte, 4096))), abi.EINTR)
	close(gate)
	wg.Wait()
	if done != 100 || len(k.depth.of("dev")) != 0 {
		t.Errorf("%d done, %d under way", done, len(k.depth.of("dev")))
	}
	h.Close(ctx)
	k.DropBlocks("dev/")
}
