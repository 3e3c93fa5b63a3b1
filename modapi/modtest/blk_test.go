package modtest_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
)

// thin is a module with one disk that stands on a disk of the kernel's and
// changes nothing, but for its fault.
type thin struct {
	on    abi.Dev
	fault string
	io    devops.BlockIO

	mu   sync.Mutex
	late []byte // of a write
	off  int64
}

func (*thin) Info() modapi.Info {
	return modapi.Info{Name: "thin", Class: modapi.ClassDriver, Kern: abi.KernVersionCurrent, Version: "1"}
}

func (d *thin) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, _ modapi.Props) error {
	dev, err := k.AttachBlk("thin", d)
	if err != nil {
		return err
	}
	d.io, err = k.Block(d.on, dev)
	return err
}

func (d *thin) Fini(ctx context.Context) error { return d.io.Close(ctx) }

func (d *thin) Nodes() []devops.Node {
	if d.fault == "nodes" {
		return []devops.Node{{Name: "thin0"}, {Name: "rthin0"}}
	}
	return []devops.Node{{Name: "thin0"}}
}

func (d *thin) unit(n uint32) error {
	if n != 0 && d.fault != "units" {
		return abi.ENXIO
	}
	return nil
}

func (d *thin) Geometry(ctx context.Context, n uint32) (devops.Geom, error) {
	if err := d.unit(n); err != nil {
		return devops.Geom{}, err
	}
	return d.io.Geometry(ctx)
}

func (d *thin) Open(_ context.Context, n uint32, _ int) error  { return d.unit(n) }
func (d *thin) Close(_ context.Context, n uint32, _ int) error { return d.unit(n) }

func (d *thin) Ioctl(context.Context, uint32, uint32, []byte) ([]byte, error) {
	if d.fault == "ioctl" {
		return nil, nil
	}
	return nil, abi.ENOTTY
}

func (d *thin) Strategy(ctx context.Context, b *devops.Buf) error {
	c := *b
	g, _ := d.io.Geometry(ctx)
	inside := c.Blkno >= 0 && c.Off()+c.Bytes <= g.Size && c.Bytes > 0 && c.Bytes%int64(g.Sector) == 0
	switch {
	case d.fault == "bounds" && !inside:
		return nil
	case d.fault == "order" && c.Op() == devops.BWrite && inside && len(c.Data) == 1:
		c.Blkno = (g.Size - c.Off() - c.Bytes) / devops.DevBsize // it lands elsewhere
	case d.fault == "pieces" && len(c.Data) > 1:
		c.Data = abi.IovOf(make([]byte, c.Bytes))
	case d.fault == "scribble" && c.Op() == devops.BWrite && c.Bytes == int64(g.Sector):
		defer func() { c.Data[0][0]++ }()
	case d.fault == "late" && c.Op() == devops.BWrite && inside && c.Bytes == int64(g.Sector):
		d.mu.Lock()
		d.late, d.off = c.Data[0], c.Off()
		d.mu.Unlock()
	case d.fault == "late" && c.Op() == devops.BRead:
		d.mu.Lock()
		if d.late != nil {
			d.io.Strategy(ctx, &devops.Buf{Blkno: d.off / devops.DevBsize, Bytes: int64(len(d.late)), Flags: devops.BWrite, Data: abi.IovOf(d.late)})
			d.late = nil
		}
		d.mu.Unlock()
	case d.fault == "zeroes" && c.Op() == devops.BZeroes && inside:
		return nil
	case d.fault == "discard" && c.Op() == devops.BDiscard && c.Blkno > 0 && inside:
		c.Blkno -= int64(g.Sector) / devops.DevBsize
	case d.fault == "flush" && c.Op() == devops.BFlush:
		return abi.EOPNOTSUPP
	case d.fault == "operations" && c.Op() == devops.BRead|devops.BWrite:
		return nil
	}
	return d.io.Strategy(ctx, &c)
}

func thinUnderTest(fault string) func(t *testing.T) modtest.BlkUnderTest {
	return func(t *testing.T) modtest.BlkUnderTest {
		on := abi.Makedev(50, 3)
		return modtest.BlkUnderTest{
			Mods: []modapi.Module{&thin{on: on, fault: fault}}, Driver: "thin", Units: []uint32{0}, BadUnit: 1,
			Disks: map[abi.Dev]devops.BlockIO{on: modtest.NewRAM(2<<20, 1024)},
		}
	}
}

// TestBlkStacked runs the rules on a driver that stands on a disk of the
// kernel's, by upcalls, in every binding.
func TestBlkStacked(t *testing.T) { modtest.TestBlk(t, thinUnderTest("")) }

// TestBrokenBlk is what the child runs.
func TestBrokenBlk(t *testing.T) {
	fault, ok := os.LookupEnv(brokenEnv)
	if !ok {
		t.Skip("run by TestKitNoticesBlk")
	}
	modtest.TestBlk(t, thinUnderTest(fault))
}

// TestKitNoticesBlk: the kit finds each fault by the rule it is meant for.
func TestKitNoticesBlk(t *testing.T) {
	for fault, rule := range map[string]string{
		"none": "", "nodes": "nodes", "units": "bad-unit", "bounds": "whole-sectors", "operations": "operations", "order": "read-write",
		"pieces": "pieces", "scribble": "caller's", "late": "caller's", "zeroes": "zeroes", "discard": "discard", "flush": "flush", "ioctl": "ioctl",
	} {
		t.Run(fault, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBrokenBlk$/^direct$", "-test.v")
			cmd.Env = append(os.Environ(), brokenEnv+"="+fault)
			out, err := cmd.CombinedOutput()
			if rule == "" {
				if err != nil {
					t.Errorf("without a fault: %v\n%s", err, out)
				}
				return
			}
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestBrokenBlk/direct/"+rule+" ") {
				t.Errorf("rule %s did not notice (%v)\n%s", rule, err, out)
			}
		})
	}
}
