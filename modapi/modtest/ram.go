package modtest

import (
	"context"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// RAM is a block device of the kernel for drivers that stand on one: give it to
// BlkUnderTest.Disks or Kernel.SetDisk.
type RAM struct {
	mu   sync.Mutex
	geom devops.Geom
	mem  []byte
	fail error
	bufs int
}

var _ devops.BlockIO = (*RAM)(nil)

// NewRAM makes one that offers everything.
func NewRAM(size int64, sector uint32) *RAM {
	g := devops.Geom{Size: size, Sector: sector, Type: "ram", Ops: devops.BFlush | devops.BFua | devops.BDiscard | devops.BZeroes}
	return NewRAMOf(g)
}

// NewRAMOf makes one of a geometry.
func NewRAMOf(g devops.Geom) *RAM {
	if err := g.Check(); err != nil {
		panic(err)
	}
	return &RAM{geom: g, mem: make([]byte, g.Size)}
}

// Bytes is the memory, for when nothing is under way.
func (r *RAM) Bytes() []byte { return r.mem }

// Bufs is how many bufs it has got so far.
func (r *RAM) Bufs() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bufs
}

// Fail lets all bufs fail from now on; nil: no more.
func (r *RAM) Fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = err
}

// Geometry is what it was made with.
func (r *RAM) Geometry(context.Context) (devops.Geom, error) { return r.geom, nil }

// Strategy does a buf.
func (r *RAM) Strategy(_ context.Context, b *devops.Buf) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bufs++
	if r.fail != nil {
		return r.fail
	}
	if err := b.Check(&r.geom); err != nil {
		return err
	}
	switch b.Op() {
	case devops.BFlush:
		if r.geom.Ops&devops.BFlush == 0 {
			return abi.EOPNOTSUPP
		}
	case devops.BRead:
		b.Data.CopyIn(r.mem[b.Off() : b.Off()+b.Bytes])
	case devops.BWrite:
		b.Data.CopyOut(r.mem[b.Off() : b.Off()+b.Bytes])
	default:
		clear(r.mem[b.Off() : b.Off()+b.Bytes])
	}
	return nil
}

// Close does nothing.
func (r *RAM) Close(context.Context) error { return nil }
