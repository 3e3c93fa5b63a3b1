package bio_test

import (
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/kernel/bio/wlog"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

func benchRig(b *testing.B, size int64) *rig {
	return newRig(b, wlog.NewMem(size, 512), bio.Options{Memory: bio.NewMemory(256 << 20)})
}

// BenchmarkCachedRead4K reads blocks that are in memory.
func BenchmarkCachedRead4K(b *testing.B) {
	r := benchRig(b, 16<<20)
	r.read(0, 16<<20)
	p := make([]byte, 4096)
	b.SetBytes(4096)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := r.h.ReadAt(r.ctx, p, int64(i*7919%4096)*4096); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCachedRead1M reads 1 MiB that is in memory.
func BenchmarkCachedRead1M(b *testing.B) {
	r := benchRig(b, 16<<20)
	r.read(0, 16<<20)
	p := make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := r.h.ReadAt(r.ctx, p, int64(i%16)<<20); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSequential1M reads a device in memory that is larger than the cache.
func BenchmarkSequential1M(b *testing.B) {
	r := newRig(b, wlog.NewMem(64<<20, 512), bio.Options{Memory: bio.NewMemory(16 << 20)})
	p := make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := r.h.ReadAt(r.ctx, p, int64(i%64)<<20); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWrite4K writes blocks in order, and they are written behind.
func BenchmarkWrite4K(b *testing.B) {
	r := benchRig(b, 64<<20)
	p := make([]byte, 4096)
	b.SetBytes(4096)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := r.h.WriteAt(r.ctx, p, int64(i%16384)*4096, false); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLayerWrite4K writes metadata blocks, with a checkpoint every 64 and a
// sync every 1024.
func BenchmarkLayerWrite4K(b *testing.B) {
	r := benchRig(b, 64<<20)
	l := r.layered(bio.LayerOptions{})
	io := l.IO()
	p := make([]byte, 4096)
	b.SetBytes(4096)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		err := io.Strategy(r.ctx, &devops.Buf{Flags: devops.BWrite, Blkno: int64(i*7919%16384) * 8, Bytes: 4096, Data: abi.Iov{p}})
		if err != nil {
			b.Fatal(err)
		}
		if i%64 == 63 {
			l.Checkpoint(abi.Ckpt(i), 0)
		}
		if i%1024 == 1023 {
			if err := l.WriteOut(r.ctx); err != nil {
				b.Fatal(err)
			}
		}
	}
}
