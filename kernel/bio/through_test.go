package bio_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/kernel/bio/wlog"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// TestThrough: a large write of whole blocks is on the device when it answers,
// in one request, with its unaligned ends in the cache; blocks that were dirty
// before are not written again over it.
func TestThrough(t *testing.T) {
	m := wlog.NewMem(4<<20, 512)
	r := newRig(t, m, bio.Options{})
	r.write(pattern(100, 9), 8192) // dirty, within what follows
	before := m.Counts().Writes
	p := pattern(300<<10, 1)
	r.write(p, 4096)
	if n := m.Counts().Writes - before; n != 1 {
		t.Errorf("%d requests", n)
	}
	if !bytes.Equal(m.Image()[4096:4096+300<<10], p) {
		t.Error("not on the device")
	}
	if st := r.s.Stats(); st.Dirty != 0 {
		t.Errorf("%d bytes are dirty", st.Dirty)
	}
	reads := m.Counts().Reads
	if !bytes.Equal(r.read(4096, 300<<10), p) || m.Counts().Reads != reads {
		t.Error("not in memory")
	}
	r.write(p, 1<<20+100)
	if st := r.s.Stats(); st.Dirty == 0 || st.Dirty > 300<<10 {
		t.Errorf("unaligned: %d bytes are dirty", st.Dirty)
	}
	r.flush()
	if !bytes.Equal(m.Image()[1<<20+100:1<<20+100+300<<10], p) {
		t.Error("unaligned: not on the device")
	}
}

// TestThroughErrors: what the device refuses is dirty, and Flush writes it.
func TestThroughErrors(t *testing.T) {
	m := wlog.NewMem(4<<20, 512)
	var bad atomic.Bool
	m.Fault = func(b *devops.Buf) error {
		if bad.Load() && b.Flags&devops.BWrite != 0 {
			return abi.EIO
		}
		return nil
	}
	r := newRig(t, m, bio.Options{})
	r.write(pattern(5000, 3), 0)
	bad.Store(true)
	p := pattern(256<<10, 2)
	r.write(p, 4096)
	if n, err := r.h.WriteAt(r.ctx, p, 1<<20, true); n != len(p) || !errors.Is(err, abi.EIO) {
		t.Errorf("with FUA: %d, %v", n, err)
	}
	if err := r.h.Flush(r.ctx); !errors.Is(err, abi.EIO) {
		t.Errorf("flush: %v", err)
	}
	if !bytes.Equal(r.read(4096, 256<<10), p) {
		t.Error("what was written is not there any more")
	}
	bad.Store(false)
	r.flush()
	img := m.Image()
	if !bytes.Equal(img[4096:4096+256<<10], p) || !bytes.Equal(img[1<<20:1<<20+256<<10], p) || !bytes.Equal(img[:4096], pattern(5000, 3)[:4096]) {
		t.Error("not on the device after the second flush")
	}
}

// TestThroughOverlaps: large and small writes, reads, discards and flushes of
// the same range by many at a time. Each write is of one byte's value over whole
// blocks, one writer a value at a time, so that a block that is read is of one
// value, and of one that somebody has begun to write; what a writer wrote alone
// in its own lane is there, and at the end the cache and the device agree.
func TestThroughOverlaps(t *testing.T) {
	for _, memory := range []int64{2 << 20, 64 << 20} {
		t.Run(fmt.Sprint(memory>>20), func(t *testing.T) {
			const size, shared, workers, lane = 4 << 20, 2 << 20, 6, 256 << 10
			m := wlog.NewMem(size, 512)
			m.SetGeom(func(g *devops.Geom) { g.Ops = devops.BFlush | devops.BDiscard | devops.BZeroes })
			var n atomic.Int64
			m.Fault = func(b *devops.Buf) error {
				if b.Flags&devops.BWrite != 0 && n.Add(1)%50 == 0 {
					return abi.EIO
				}
				return nil
			}
			r := newRig(t, m, bio.Options{Memory: bio.NewMemory(memory)})
			soft := func(err error) error { // the device refuses some
				if errors.Is(err, abi.EIO) {
					return nil
				}
				return err
			}
			var wg sync.WaitGroup
			own := make([][]byte, workers)
			for w := range workers {
				own[w] = make([]byte, lane)
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(w), 5))
					base := int64(shared + w*lane)
					for i := range 200 {
						blk := rnd.Int64N(shared/4096 - 160)
						length := (16 + rnd.Int64N(144)) * 4096
						if rnd.IntN(2) == 0 {
							length = (1 + rnd.Int64N(4)) * 4096
						}
						var err error
						switch k := rnd.IntN(12); {
						case k < 4:
							_, err = r.h.WriteAt(r.ctx, bytes.Repeat([]byte{byte(w*40 + i%40 + 1)}, int(length)), blk*4096, k == 0)
						case k < 7:
							p := r.read(blk*4096, length)
							for o := 0; o < len(p); o += 4096 {
								if bytes.Count(p[o:o+4096], p[o:o+1]) != 4096 {
									t.Errorf("block %d is of two writes", blk+int64(o/4096))
									return
								}
							}
						case k == 7:
							err = r.h.Discard(r.ctx, blk*4096, length)
						case k == 8:
							err = r.h.Flush(r.ctx)
						case k == 9: // the lane: large, then part of it small
							p := bytes.Repeat([]byte{byte(i + 1)}, lane)
							copy(own[w], p)
							_, err = r.h.WriteAt(r.ctx, p, base, false)
						case k == 10:
							o := rnd.Int64N(lane - 5000)
							p := pattern(5000, byte(i))
							copy(own[w][o:], p)
							_, err = r.h.WriteAt(r.ctx, p, base+o, false)
						default:
							if !bytes.Equal(r.read(base, lane), own[w]) {
								t.Errorf("worker %d, step %d: its lane differs", w, i)
								return
							}
						}
						if err := soft(err); err != nil {
							t.Errorf("worker %d, step %d: %v", w, i, err)
							return
						}
					}
				})
			}
			wg.Wait()
			for try := 0; r.h.Flush(r.ctx) != nil; try++ {
				if try == 20 {
					t.Fatal("it cannot be flushed")
				}
			}
			img := m.Image()
			if !bytes.Equal(r.read(0, size), img) {
				t.Error("the cache and the device differ")
			}
			for w, p := range own {
				if !bytes.Equal(img[shared+w*lane:][:lane], p) {
					t.Errorf("the lane of worker %d differs on the device", w)
				}
			}
		})
	}
}
