package bio_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/kernel/bio/wlog"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// layered lays layers over a rig's device.
func (r *rig) layered(o bio.LayerOptions) *bio.Layered {
	r.t.Helper()
	l, err := bio.NewLayered(r.ctx, r.h, o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := l.Close(context.Background()); err != nil {
			r.t.Error(err)
		}
		if st := l.Stats(); st.Bytes != 0 || r.s.Stats().Layers != 0 || st.L0 != 0 || st.L1 != 0 {
			r.t.Errorf("after Close: %+v, %d bytes", st, r.s.Stats().Layers)
		}
	})
	return l
}

func (r *rig) strategy(io devops.BlockIO, b *devops.Buf) {
	r.t.Helper()
	if err := io.Strategy(r.ctx, b); err != nil {
		r.t.Fatalf("strategy %#x, %d bytes at block %d: %v", b.Flags, b.Bytes, b.Blkno, err)
	}
}

// TestLayersModel does random things and compares with three []byte: L0 over L1
// over the device.
func TestLayersModel(t *testing.T) {
	for name, o := range map[string]bio.LayerOptions{
		"plain": {}, "redo": {Redo: wlog.NewMemRedo(nil)}, "journalled": {Journalled: true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, sector := range []uint32{512, 8192} {
				layersModel(t, o, sector)
			}
		})
	}
}

func layersModel(t *testing.T, o bio.LayerOptions, sector uint32) {
	const size = 256 << 10
	m := wlog.NewMemOf(pattern(size, 1), sector)
	m.SetGeom(func(g *devops.Geom) { g.Ops = devops.BFlush }) // no discard: what is read stays known
	r := newRig(t, m, bio.Options{Memory: bio.NewMemory(8 << 20)})
	l := r.layered(o)
	io := l.IO()
	cur := m.Image()
	ck := bytes.Clone(cur)
	rnd := rand.New(rand.NewPCG(7, uint64(sector)))
	ckpts := abi.Ckpt(0)
	for i := range 800 {
		off := rnd.Int64N(size/int64(sector)) * int64(sector)
		n := min((1+rnd.Int64N(24))*int64(sector), size-off)
		switch k := rnd.IntN(40); {
		case k < 16:
			p := pattern(int(n), byte(i))
			fl := devops.BWrite
			if k < 2 {
				fl |= devops.BFua
			}
			r.strategy(io, buf(fl, off, p))
			copy(cur[off:], p)
		case k < 30:
			p := make([]byte, n)
			b := buf(devops.BRead, off, nil)
			b.Bytes, b.Data = n, abi.Iov{p[:n/3], p[n/3:]}
			r.strategy(io, b)
			if !bytes.Equal(p, cur[off:off+n]) {
				t.Fatalf("step %d: read of %d at %d differs", i, n, off)
			}
		case k == 30:
			r.strategy(io, &devops.Buf{Flags: devops.BFlush})
		case k == 31:
			r.strategy(io, &devops.Buf{Flags: devops.BZeroes, Blkno: off / 512, Bytes: n})
			clear(cur[off : off+n])
		case k == 32:
			r.strategy(io, &devops.Buf{Flags: devops.BDiscard, Blkno: off / 512, Bytes: n})
		case k < 36:
			ckpts++
			l.Checkpoint(ckpts, abi.OpSeq(i))
			copy(ck, cur)
		case k == 36:
			if err := l.WriteOut(r.ctx); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(m.Image(), ck) || l.Stats().L1 != 0 {
				t.Fatalf("step %d: after a write-out the device differs from the checkpoint, %+v", i, l.Stats())
			}
		case k == 37:
			if err := l.Sync(r.ctx); err != nil {
				t.Fatal(err)
			}
			ckpts = l.Stats().Ckpt
			copy(ck, cur)
			if !bytes.Equal(m.Image(), ck) {
				t.Fatalf("step %d: after a sync the device differs", i)
			}
		default:
			old := io
			if err := l.Drop(r.ctx); err != nil {
				t.Fatal(err)
			}
			copy(cur, ck)
			if err := old.Strategy(r.ctx, buf(devops.BWrite, 0, make([]byte, sector))); !errors.Is(err, abi.ENXIO) {
				t.Fatalf("write of the dead: %v", err)
			}
			io = l.IO()
		}
	}
	if n := m.Counts().Writes; n == 0 {
		t.Error("nothing was ever written")
	}
}

// TestCheckpointWritesNothing: only a write-out goes to the device.
func TestCheckpointWritesNothing(t *testing.T) {
	m := wlog.NewMem(1<<20, 512)
	r := newRig(t, m, bio.Options{})
	l := r.layered(bio.LayerOptions{})
	for i := range 20 {
		r.strategy(l.IO(), buf(devops.BWrite, int64(i)*8192, pattern(4096, 1)))
		r.strategy(l.IO(), &devops.Buf{Flags: devops.BFlush})
		l.Checkpoint(abi.Ckpt(i+1), abi.OpSeq(i*10))
	}
	if c := m.Counts(); c.Writes+c.Flushes != 0 {
		t.Errorf("%+v", c)
	}
	if st := l.Stats(); st.L0 != 0 || st.L1 != 20 || st.Ckpt != 20 || st.Opseq != 190 || st.Synced != 0 {
		t.Errorf("%+v", st)
	}
	if err := l.WriteOut(r.ctx); err != nil {
		t.Fatal(err)
	}
	if c := m.Counts(); c.Writes != 20 || c.Flushes == 0 || l.Stats().Synced != 20 {
		t.Errorf("%+v, %+v", c, l.Stats())
	}
}

// TestGroupCommit: syncs that come while one is written out share the next.
func TestGroupCommit(t *testing.T) {
	m := wlog.NewMem(1<<20, 512)
	g := newGate()
	m.Fault = func(b *devops.Buf) error {
		if b.Flags&devops.BFlush != 0 {
			g.wait()
		}
		return nil
	}
	r := newRig(t, m, bio.Options{})
	l := r.layered(bio.LayerOptions{})
	r.strategy(l.IO(), buf(devops.BWrite, 0, pattern(4096, 1)))
	first := make(chan error, 1)
	go func() { first <- l.Sync(r.ctx) }()
	<-g.seen // it is at the flush
	r.strategy(l.IO(), buf(devops.BWrite, 8192, pattern(4096, 2)))
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := l.Sync(r.ctx); err != nil {
				t.Error(err)
			}
		})
	}
	for r.count("syncs") < 11 || l.Stats().L0 != 0 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithCancel(r.ctx)
	cancel()
	if err := l.Sync(ctx); !errors.Is(err, abi.EINTR) {
		t.Errorf("a sync whose caller gave up: %v", err)
	}
	g.open()
	wg.Wait()
	if err := <-first; err != nil {
		t.Error(err)
	}
	if n := r.count("writeouts"); n > 3 {
		t.Errorf("%d write-outs for 12 syncs", n)
	}
	if !bytes.Equal(m.Image()[8192:12288], pattern(4096, 2)) {
		t.Error("not there")
	}
}

// TestWriteOutErrors: Sync tells, L1 stays, the next Sync writes it; what an
// earlier one has answered for stays.
func TestWriteOutErrors(t *testing.T) {
	for _, o := range []bio.LayerOptions{{}, {Journalled: true}, {Redo: wlog.NewMemRedo(nil)}} {
		m := wlog.NewMem(1<<20, 512)
		var errno, after atomic.Int64
		m.Fault = func(b *devops.Buf) error {
			if e := abi.Errno(errno.Load()); e != 0 && b.Flags&(devops.BWrite|devops.BFlush) != 0 && after.Add(-1) < 0 {
				return e
			}
			return nil
		}
		r := newRig(t, m, bio.Options{})
		l := r.layered(o)
		write := func(seed byte) {
			for i := range 8 {
				r.strategy(l.IO(), buf(devops.BWrite, int64(i)*64<<10, pattern(12<<10, seed+byte(i))))
				r.strategy(l.IO(), &devops.Buf{Flags: devops.BFlush})
			}
		}
		there := func(seed byte, where func(off, n int64) []byte) {
			t.Helper()
			for i := range 8 {
				if !bytes.Equal(where(int64(i)*64<<10, 12<<10), pattern(12<<10, seed+byte(i))) {
					t.Errorf("piece %d of %d is not there", i, seed)
				}
			}
		}
		read := func(off, n int64) []byte {
			p := make([]byte, n)
			r.strategy(l.IO(), buf(devops.BRead, off, p))
			return p
		}
		write(10)
		if err := l.Sync(r.ctx); err != nil {
			t.Fatal(err)
		}
		for i, e := range []abi.Errno{abi.ENOSPC, abi.EIO, abi.EROFS} {
			errno.Store(int64(e))
			after.Store(int64(i * 3))
			write(byte(50 + i))
			if err := l.Sync(r.ctx); !errors.Is(err, e) {
				t.Errorf("sync: %v, want %v", err, e)
			}
			if st := l.Stats(); st.L1 == 0 || st.Synced == st.Ckpt {
				t.Errorf("after the error: %+v", st)
			}
			there(byte(50+i), read)
		}
		errno.Store(0)
		if err := l.Drop(r.ctx); err != nil {
			t.Fatal(err)
		}
		there(52, read)
		if err := l.Sync(r.ctx); err != nil {
			t.Fatal(err)
		}
		img := m.Image()
		there(52, func(off, n int64) []byte { return img[off : off+n] })
	}
}

// TestRedoErrors: a redo file that cannot be written, or not removed, fails the
// sync before or behind the image, and is made good by the next.
func TestRedoErrors(t *testing.T) {
	m := wlog.NewMem(1<<20, 512)
	r := newRig(t, m, bio.Options{})
	store := wlog.NewMemRedo(nil)
	fail := "commit"
	store.Fault = func(what string) error {
		if what == fail {
			return abi.ENOSPC
		}
		return nil
	}
	l := r.layered(bio.LayerOptions{Redo: store})
	r.strategy(l.IO(), buf(devops.BWrite, 0, pattern(4096, 1)))
	if err := l.Sync(r.ctx); !errors.Is(err, abi.ENOSPC) || m.Counts().Writes != 0 {
		t.Errorf("no redo file: %v, %d writes", err, m.Counts().Writes)
	}
	fail = "remove"
	if err := l.Sync(r.ctx); !errors.Is(err, abi.ENOSPC) || store.Data() == nil {
		t.Errorf("not removed: %v", err)
	}
	fail = ""
	if err := l.Sync(r.ctx); err != nil || store.Data() != nil || l.Stats().L1 != 0 {
		t.Errorf("at last: %v, %+v", err, l.Stats())
	}
}

// TestLayerLimit: L1 that is too large is written out; L0 that is, asks for a
// checkpoint and ends in ENOSPC.
func TestLayerLimit(t *testing.T) {
	m := wlog.NewMem(16<<20, 512)
	r := newRig(t, m, bio.Options{Memory: bio.NewMemory(4 << 20)})
	var crowded atomic.Int64
	l := r.layered(bio.LayerOptions{Limit: 1 << 20, Crowded: func() { crowded.Add(1) }})
	io := l.IO()
	for i := range 512 {
		r.strategy(io, buf(devops.BWrite, int64(i)*32<<10, pattern(8192, byte(i))))
		if i%8 == 7 {
			l.Checkpoint(abi.Ckpt(i), 0)
		}
		if n := l.Stats().Bytes; n > 1<<20+128<<10 {
			t.Fatalf("%d bytes in layers", n)
		}
	}
	if r.count("writeouts") == 0 || crowded.Load() != 0 {
		t.Errorf("%d write-outs, crowded %d times", r.count("writeouts"), crowded.Load())
	}
	var err error
	for i := 0; i < 1024 && err == nil; i++ {
		err = io.Strategy(r.ctx, buf(devops.BWrite, int64(i)*8192, pattern(8192, byte(i))))
	}
	if !errors.Is(err, abi.ENOSPC) || crowded.Load() == 0 || l.Stats().Bytes > 3<<20 {
		t.Errorf("%v; crowded %d times, %+v", err, crowded.Load(), l.Stats())
	}
	l.Checkpoint(1000, 0)
	r.strategy(io, buf(devops.BWrite, 0, pattern(8192, 1)))
}

// TestFresh: fresh blocks go to the device at once, but only while the last
// checkpoint is there, and are durable before what refers to them.
func TestFresh(t *testing.T) {
	m := wlog.NewMem(1<<20, 512)
	r := newRig(t, m, bio.Options{})
	l := r.layered(bio.LayerOptions{})
	io := l.IO()
	const fresh = devops.BWrite | devops.BFresh
	r.strategy(io, buf(fresh, 0, pattern(8192, 1)))
	if st := l.Stats(); st.L0 != 0 || r.count("fresh") != 1 || r.s.Stats().Dirty != 8192 {
		t.Errorf("fresh: %+v", st)
	}
	r.strategy(io, buf(devops.BWrite, 4096, pattern(512, 2))) // a part of it
	p := make([]byte, 8192)
	r.strategy(io, buf(devops.BRead, 0, p))
	want := pattern(8192, 1)
	copy(want[4096:], pattern(512, 2))
	if !bytes.Equal(p, want) {
		t.Error("a part written over a fresh block")
	}
	r.strategy(io, buf(fresh, 4096, pattern(4096, 3))) // has a version: into the layer
	r.strategy(io, buf(fresh, 512, pattern(512, 3)))   // not a whole block
	l.Checkpoint(1, 0)
	r.strategy(io, buf(fresh, 65536, pattern(4096, 4))) // the checkpoint is not on the device
	if r.count("fresh") != 1 || l.Stats().L0 != 1 {
		t.Errorf("%d went to the device; %+v", r.count("fresh"), l.Stats())
	}
	if err := l.Sync(r.ctx); err != nil {
		t.Fatal(err)
	}
	r.strategy(io, &devops.Buf{Flags: devops.BDiscard, Blkno: 256, Bytes: 8192}) // its last use
	r.strategy(io, buf(fresh, 128<<10, pattern(4096, 5)))
	if err := l.Sync(r.ctx); err != nil || r.count("fresh") != 2 {
		t.Error(err, r.count("fresh"))
	}
	img := m.Image()
	if !bytes.Equal(img[4096:8192], pattern(4096, 3)) || !bytes.Equal(img[65536:65536+4096], pattern(4096, 4)) || !bytes.Equal(img[128<<10:132<<10], pattern(4096, 5)) {
		t.Error("not on the device")
	}
}

// TestLayerDiscard: the device is told of a discard when the checkpoint that has
// it is there, and not of blocks that have been written since.
func TestLayerDiscard(t *testing.T) {
	m := wlog.NewMemOf(pattern(1<<20, 1), 512)
	r := newRig(t, m, bio.Options{})
	l := r.layered(bio.LayerOptions{})
	io := l.IO()
	r.strategy(io, &devops.Buf{Flags: devops.BDiscard, Blkno: 0, Bytes: 64 << 10})
	r.strategy(io, buf(devops.BWrite, 8192, pattern(4096, 9)))
	l.Checkpoint(1, 0)
	r.strategy(io, buf(devops.BWrite, 16384, pattern(4096, 8)))
	l.Checkpoint(2, 0)
	if m.Counts().Discards != 0 {
		t.Error("discarded before it is certain")
	}
	if err := l.WriteOut(r.ctx); err != nil {
		t.Fatal(err)
	}
	img := m.Image()
	if img[0] != 0xdd || img[60<<10] != 0xdd || img[64<<10] == 0xdd || !bytes.Equal(img[8192:12288], pattern(4096, 9)) || !bytes.Equal(img[16384:20480], pattern(4096, 8)) {
		t.Error("not discarded, or too much")
	}
	// Dropped with the rest.
	r.strategy(io, &devops.Buf{Flags: devops.BDiscard, Blkno: 256, Bytes: 4096})
	if err := l.Drop(r.ctx); err != nil {
		t.Fatal(err)
	}
	n := m.Counts().Discards
	if err := l.Sync(r.ctx); err != nil || m.Counts().Discards != n {
		t.Error("a dropped discard", err)
	}
}

// TestLayersWhileTheDriverDies: a sync is done although the driver dies in it.
func TestLayersWhileTheDriverDies(t *testing.T) {
	m := wlog.NewMem(1<<20, 512)
	var n atomic.Int64
	m.After = func(b *devops.Buf) error {
		if n.Add(1)%5 == 0 {
			return bio.ErrDied
		}
		return nil
	}
	r := newRig(t, m, bio.Options{})
	l := r.layered(bio.LayerOptions{Journalled: true})
	want := make([]byte, 1<<20)
	rnd := rand.New(rand.NewPCG(1, 5))
	for i := range 200 {
		off := rnd.Int64N(256) * 4096
		p := pattern(4096, byte(i))
		r.strategy(l.IO(), buf(devops.BWrite, off, p))
		copy(want[off:], p)
		if i%20 == 19 {
			if err := l.Sync(r.ctx); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(m.Image(), want) {
				t.Fatal("not there")
			}
		}
	}
	if r.count("reissued") == 0 {
		t.Error("it never died")
	}
}
