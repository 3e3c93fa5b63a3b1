package bio_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/kernel/bio/wlog"
	"github.com/rumpus-kernel/rumpus/kernel/clock"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// TestModel does random things to ranges of bytes, by several at a time, each in
// a part of the device that is his, in little memory; what is read and what is
// on the device at the end are what a []byte would have.
func TestModel(t *testing.T) {
	for _, tc := range []struct {
		sector uint32
		size   int64
		maxIO  uint32
		memory int64
		ops    devops.BufFlags
	}{
		{512, 1<<20 + 512*3, 0, 300 << 10, devops.BFlush | devops.BDiscard | devops.BZeroes},
		{512, 1 << 20, 8192, 1 << 20, devops.BFlush},
		{4096, 1 << 20, 0, 64 << 20, devops.BFlush | devops.BZeroes},
		{16384, 1 << 20, 0, 200 << 10, 0},
	} {
		t.Run(fmt.Sprintf("%d/%d", tc.sector, tc.size), func(t *testing.T) {
			m := wlog.NewMem(tc.size, tc.sector)
			m.SetGeom(func(g *devops.Geom) { g.MaxIO, g.Ops = tc.maxIO, tc.ops })
			r := newRig(t, m, bio.Options{Memory: bio.NewMemory(tc.memory)})
			model := make([]byte, tc.size)
			var wg sync.WaitGroup
			const workers = 4
			for w := range workers {
				// The borders are not those of blocks: neighbours share some.
				from := tc.size/workers*int64(w) + int64(w)*100
				to := tc.size/workers*int64(w+1) + int64(w+1)*100
				if w == workers-1 {
					to = tc.size
				}
				wg.Go(func() { modelWorker(t, r, model[from:to], from, uint64(w)) })
			}
			wg.Wait()
			if t.Failed() {
				return
			}
			r.flush()
			if img := m.Image(); !bytes.Equal(img, model) {
				t.Error("the device differs from the model")
			}
			if got := r.read(0, tc.size+100); !bytes.Equal(got, model) {
				t.Errorf("read of all: %d bytes, not the model's", len(got))
			}
		})
	}
}

func modelWorker(t *testing.T, r *rig, model []byte, base int64, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 11))
	for i := range 300 {
		off := rnd.Int64N(int64(len(model)))
		n := rnd.Int64N(min(int64(len(model))-off, 40000)) + 1
		var err error
		switch k := rnd.IntN(10); {
		case k < 4:
			p := pattern(int(n), byte(rnd.Uint32()))
			_, err = r.h.WriteAt(r.ctx, p, base+off, k == 0)
			copy(model[off:], p)
		case k < 8:
			p := make([]byte, n)
			_, err = r.h.ReadAt(r.ctx, p, base+off)
			if !bytes.Equal(p, model[off:off+n]) {
				t.Errorf("step %d: read of %d at %d differs", i, n, base+off)
				return
			}
		case k == 8:
			// Whole blocks: behind them the device's own zeroes work, which may
			// meet a neighbour's writes, but not in these blocks.
			err = r.h.Zeroes(r.ctx, base+off, n, false)
			clear(model[off : off+n])
		default:
			err = r.h.Flush(r.ctx)
		}
		if err != nil {
			t.Errorf("step %d: %v", i, err)
			return
		}
	}
}

func TestEnds(t *testing.T) {
	r := newRig(t, wlog.NewMem(10<<10, 512), bio.Options{})
	if n, err := r.h.ReadAt(r.ctx, make([]byte, 4096), 9<<10); n != 1024 || err != nil {
		t.Errorf("read over the end: %d, %v", n, err)
	}
	if n, err := r.h.ReadAt(r.ctx, make([]byte, 10), 10<<10); n != 0 || err != nil {
		t.Errorf("read at the end: %d, %v", n, err)
	}
	if n, err := r.h.WriteAt(r.ctx, make([]byte, 4096), 9<<10, false); n != 1024 || !errors.Is(err, abi.ENOSPC) {
		t.Errorf("write over the end: %d, %v", n, err)
	}
	for _, off := range []int64{-1, 10<<10 + 1} {
		if err := r.h.Discard(r.ctx, off, 512); !errors.Is(err, abi.EINVAL) {
			t.Errorf("discard at %d: %v", off, err)
		}
	}
	if _, err := r.h.ReadAt(r.ctx, make([]byte, 1), -1); !errors.Is(err, abi.EINVAL) {
		t.Errorf("read at -1: %v", err)
	}
}

func TestHitsAndReadahead(t *testing.T) {
	img := pattern(8<<20, 1)
	m := wlog.NewMemOf(bytes.Clone(img), 512)
	r := newRig(t, m, bio.Options{})
	p := make([]byte, 64<<10)
	for off := int64(0); off < 8<<20; off += int64(len(p)) {
		if _, err := r.h.ReadAt(r.ctx, p, off); err != nil || !bytes.Equal(p, img[off:off+int64(len(p))]) {
			t.Fatalf("read at %d: %v", off, err)
		}
	}
	reads := m.Counts().Reads
	if reads > 64 || r.count("readahead") < 1500 || r.count("readahead_used") < 1500 {
		t.Errorf("%d reads, %d blocks ahead, %d of them used", reads, r.count("readahead"), r.count("readahead_used"))
	}
	hits := r.count("hits")
	r.read(0, 1<<20)
	if m.Counts().Reads != reads || r.count("hits") != hits+256 {
		t.Errorf("%d reads more and %d hits for what is in memory", m.Counts().Reads-reads, r.count("hits")-hits)
	}
	// Random reads read nothing ahead.
	r2 := newRig(t, wlog.NewMem(8<<20, 512), bio.Options{})
	for _, off := range []int64{5 << 20, 1 << 20, 3 << 20, 2 << 20} {
		r2.read(off, 4096)
	}
	if n := r2.count("readahead"); n != 0 {
		t.Errorf("%d blocks read ahead of random reads", n)
	}
}

func TestCoalesce(t *testing.T) {
	m := wlog.NewMem(4<<20, 512)
	r := newRig(t, m, bio.Options{})
	for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(512) {
		r.write(pattern(4096, byte(i)), int64(i)*4096)
	}
	r.flush()
	if c := m.Counts(); c.Writes > 4 || c.WriteBytes != 2<<20 || r.count("coalesced") < 500 {
		t.Errorf("%d writes of %d bytes, %d coalesced", c.Writes, c.WriteBytes, r.count("coalesced"))
	}
}

// TestMemory: the cache keeps to its limit, and metadata stay longer than data.
func TestMemory(t *testing.T) {
	mem := bio.NewMemory(1 << 20)
	m := wlog.NewMem(16<<20, 512)
	r := newRig(t, m, bio.Options{Memory: mem})
	l, err := bio.NewLayered(r.ctx, r.h, bio.LayerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	io := l.IO()
	meta := make([]byte, 4096)
	for i := range int64(32) {
		if err := io.Strategy(r.ctx, buf(devops.BRead|devops.BMeta, i*8192, meta)); err != nil {
			t.Fatal(err)
		}
	}
	for off := int64(1 << 20); off < 16<<20; off += 256 << 10 {
		r.read(off, 256<<10)
		if st := r.s.Stats(); st.Cached > 1<<20 {
			t.Fatalf("%d bytes in memory", st.Cached)
		}
	}
	reads := m.Counts().Reads
	for i := range int64(32) {
		if err := io.Strategy(r.ctx, buf(devops.BRead|devops.BMeta, i*8192, meta)); err != nil {
			t.Fatal(err)
		}
	}
	if n := m.Counts().Reads - reads; n != 0 {
		t.Errorf("%d of 32 blocks of metadata are gone", n)
	}
	before := r.s.Stats().Cached
	if n := r.s.Shrink(256 << 10); n != 256<<10 || r.s.Stats().Cached != before-n {
		t.Errorf("shrunk by %d", n)
	}
	l.Close(r.ctx)
}

// TestDirtyLimit: who writes faster than the device waits for it.
func TestDirtyLimit(t *testing.T) {
	m := wlog.NewMem(16<<20, 512)
	r := newRig(t, m, bio.Options{Memory: bio.NewMemory(2 << 20)})
	for off := int64(0); off < 16<<20; off += 128 << 10 {
		r.write(pattern(128<<10, byte(off>>17)), off)
		if st := r.s.Stats(); st.Dirty > 3<<20 || st.Cached > 4<<20 {
			t.Fatalf("%d bytes dirty, %d in memory", st.Dirty, st.Cached)
		}
	}
	r.flush()
	img := m.Image()
	for off := int64(0); off < 16<<20; off += 128 << 10 {
		if !bytes.Equal(img[off:off+128<<10], pattern(128<<10, byte(off>>17))) {
			t.Fatalf("at %d", off)
		}
	}
}

// TestWriteBehind: what is dirty is written some time without anybody asking,
// and tried again when the device refuses.
func TestWriteBehind(t *testing.T) {
	m := wlog.NewMem(1<<20, 512)
	var tries atomic.Int64
	m.Fault = func(b *devops.Buf) error {
		if b.Flags&devops.BWrite != 0 && tries.Add(1) < 3 {
			return abi.EIO
		}
		return nil
	}
	wrote := make(chan struct{}, 16)
	m.After = func(b *devops.Buf) error {
		if b.Flags&devops.BWrite != 0 {
			wrote <- struct{}{}
		}
		return nil
	}
	r := newRig(t, m, bio.Options{Callouts: clock.New(nil), WriteBehind: time.Millisecond})
	r.write([]byte("x"), 5000)
	select {
	case <-wrote:
	case <-r.ctx.Done():
		t.Fatal("never written")
	}
}

// TestReadErrors: an error is not remembered, and does not hide what can be
// read.
func TestReadErrors(t *testing.T) {
	m := wlog.NewMem(1<<20, 512)
	var bad atomic.Bool
	bad.Store(true)
	m.Fault = func(b *devops.Buf) error {
		if bad.Load() && b.Flags&devops.BRead != 0 && b.Blkno <= 24 && b.Blkno+b.Bytes/512 > 24 {
			return abi.EIO
		}
		return nil
	}
	r := newRig(t, m, bio.Options{})
	if n, err := r.h.ReadAt(r.ctx, make([]byte, 64<<10), 0); n != 3*4096 || err != nil {
		t.Errorf("read of good and bad: %d, %v", n, err)
	}
	if n, err := r.h.ReadAt(r.ctx, make([]byte, 100), 3*4096+50); n != 0 || !errors.Is(err, abi.EIO) {
		t.Errorf("read of a bad block: %d, %v", n, err)
	}
	if _, err := r.h.WriteAt(r.ctx, []byte("x"), 3*4096+50, false); !errors.Is(err, abi.EIO) {
		t.Errorf("write into a bad block: %v", err)
	}
	bad.Store(false)
	if n, err := r.h.ReadAt(r.ctx, make([]byte, 64<<10), 0); n != 64<<10 || err != nil {
		t.Errorf("read when it is good again: %d, %v", n, err)
	}
}

// TestReadaheadErrors: what could not be read ahead is read again when it is
// asked for, and then the error is told.
func TestReadaheadErrors(t *testing.T) {
	m := wlog.NewMemOf(pattern(1<<20, 3), 512)
	var ahead atomic.Int64
	m.Fault = func(b *devops.Buf) error {
		if b.Flags&devops.BAhead != 0 {
			ahead.Add(1)
			return abi.EIO
		}
		return nil
	}
	r := newRig(t, m, bio.Options{})
	for off := int64(0); off < 1<<20; off += 16 << 10 {
		if !bytes.Equal(r.read(off, 16<<10), pattern(1<<20, 3)[off:off+16<<10]) {
			t.Fatalf("at %d", off)
		}
	}
	if ahead.Load() == 0 {
		t.Error("nothing was read ahead")
	}
}

// TestWriteErrors: Flush tells, nothing is lost, and the next Flush writes it.
func TestWriteErrors(t *testing.T) {
	m := wlog.NewMem(1<<20, 512)
	var errno atomic.Uint32
	m.Fault = func(b *devops.Buf) error {
		if e := abi.Errno(errno.Load()); e != 0 && b.Flags&devops.BWrite != 0 {
			return e
		}
		return nil
	}
	r := newRig(t, m, bio.Options{})
	for _, e := range []abi.Errno{abi.ENOSPC, abi.EIO} {
		errno.Store(uint32(e))
		r.write(pattern(100000, byte(e)), 1000)
		if err := r.h.Flush(r.ctx); !errors.Is(err, e) {
			t.Errorf("flush: %v, want %v", err, e)
		}
		if err := r.s.Sync(r.ctx); !errors.Is(err, e) {
			t.Errorf("sync: %v, want %v", err, e)
		}
		if _, err := r.h.WriteAt(r.ctx, pattern(100, 3), 0, true); !errors.Is(err, e) {
			t.Errorf("write with FUA: %v, want %v", err, e)
		}
		if !bytes.Equal(r.read(1000, 100000), pattern(100000, byte(e))) {
			t.Error("what was written is not there any more")
		}
		errno.Store(0)
		r.flush()
		if !bytes.Equal(m.Image()[1000:101000], pattern(100000, byte(e))) {
			t.Error("not on the device after the second flush")
		}
	}
	// The driver is gone for good: the last close says so.
	errno.Store(uint32(abi.ENXIO))
	r.write([]byte("lost"), 0)
	if err := r.h.Close(r.ctx); !errors.Is(err, abi.ENXIO) {
		t.Errorf("close: %v, want ENXIO", err)
	}
}

// TestFlushCoversOthers: a flush answers after the writes that others began
// before it, and tells their errors.
func TestFlushCoversOthers(t *testing.T) {
	m := wlog.NewMem(1<<20, 512)
	g := newGate()
	m.Fault = func(b *devops.Buf) error {
		if b.Flags&devops.BWrite != 0 {
			g.wait()
		}
		return nil
	}
	r := newRig(t, m, bio.Options{})
	r.write(pattern(4096, 1), 0)
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- r.h.Flush(r.ctx) }()
	<-g.seen
	go func() { second <- r.h.Flush(r.ctx) }()
	select {
	case err := <-second:
		t.Fatalf("a flush answered %v while a write was under way", err)
	case <-time.After(20 * time.Millisecond):
	}
	g.open()
	if e1, e2 := <-first, <-second; e1 != nil || e2 != nil {
		t.Error(e1, e2)
	}
	if !bytes.Equal(m.Image()[:4096], pattern(4096, 1)) {
		t.Error("not there")
	}
}

// TestFlushCoversTaken: nor does a flush overtake a write that another flush has
// in its hands and cannot issue yet, because the queue is full.
func TestFlushCoversTaken(t *testing.T) {
	for i := range 20 {
		m := wlog.NewMem(1<<20, 512)
		g := newGate()
		m.Fault = func(b *devops.Buf) error {
			if b.Flags&devops.BWrite != 0 && b.Blkno >= 1024 {
				g.wait()
			}
			return nil
		}
		r := newRig(t, m, bio.Options{Depth: 1})
		for j := range int64(4) {
			if _, err := r.h.Start(r.ctx, buf(devops.BWrite, (1024+j)*512, make([]byte, 512)), nil); err != nil {
				t.Fatal(err)
			}
		}
		<-g.seen
		r.write(pattern(4096, byte(i)), 0)
		var wg sync.WaitGroup
		flush := func() {
			if err := r.h.Flush(r.ctx); err != nil {
				t.Error(err)
			}
			if !bytes.Equal(m.Image()[:4096], pattern(4096, byte(i))) {
				t.Error("flushed, and not there")
			}
		}
		wg.Go(flush)
		for r.s.Stats().Dirty != 0 {
			time.Sleep(10 * time.Microsecond)
		}
		wg.Go(flush)
		wg.Go(flush)
		wg.Go(flush)
		g.open()
		wg.Wait()
	}
}

// TestBufs is bread, bwrite, bdwrite, bawrite, getblk, brelse.
func TestBufs(t *testing.T) {
	m := wlog.NewMemOf(pattern(1<<20, 9), 512)
	r := newRig(t, m, bio.Options{})
	b, err := r.h.Bread(r.ctx, 2)
	if err != nil || !bytes.Equal(b.Data(), pattern(1<<20, 9)[8192:12288]) {
		t.Fatalf("bread: %v", err)
	}
	copy(b.Data(), "now")
	if err := r.h.Bwrite(r.ctx, b); err != nil || string(m.Image()[8192:8195]) != "now" {
		t.Fatalf("bwrite: %v", err)
	}
	if b, err = r.h.Bread(r.ctx, 2); err != nil || m.Counts().Reads != 1 {
		t.Fatalf("bread: %v, %d reads", err, m.Counts().Reads)
	}
	copy(b.Data(), "later")
	r.h.Bdwrite(b)
	if string(m.Image()[8192:8195]) != "now" || r.s.Stats().Dirty != 4096 {
		t.Error("bdwrite wrote at once")
	}
	if b, err = r.h.Getblk(r.ctx, 5); err != nil {
		t.Fatal(err)
	}
	copy(b.Data(), pattern(4096, 1))
	if err := r.h.Bawrite(r.ctx, b); err != nil {
		t.Fatal(err)
	}
	if b, err = r.h.Getblk(r.ctx, 6); err != nil { // looked at, not filled
		t.Fatal(err)
	}
	clear(b.Data())
	r.h.Brelse(b)
	r.flush()
	img := m.Image()
	if string(img[8192:8197]) != "later" || !bytes.Equal(img[5*4096:6*4096], pattern(4096, 1)) || !bytes.Equal(img[6*4096:7*4096], pattern(1<<20, 9)[6*4096:7*4096]) {
		t.Error("not what was written")
	}
	for _, blk := range []int64{-1, 256} {
		if _, err := r.h.Bread(r.ctx, blk); !errors.Is(err, abi.EINVAL) {
			t.Errorf("bread of %d: %v", blk, err)
		}
	}
}

// TestOpens: all opens of a device share its blocks; one for reading cannot
// write, and one for writing that comes later can.
func TestOpens(t *testing.T) {
	m, m2 := wlog.NewMem(1<<20, 512), wlog.NewMem(1<<20, 512)
	s := bio.New(bio.Options{})
	ctx := t.Context()
	ro, err := s.OpenDevice(ctx, dev0, m, abi.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ro.WriteAt(ctx, []byte("x"), 0, false); !errors.Is(err, abi.EBADF) {
		t.Errorf("write: %v", err)
	}
	if err := ro.Discard(ctx, 0, 4096); !errors.Is(err, abi.EBADF) {
		t.Errorf("discard: %v", err)
	}
	rw, err := s.OpenDevice(ctx, dev0, m2, abi.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rw.WriteAt(ctx, []byte("x"), 0, false); err != nil {
		t.Error(err)
	}
	p := make([]byte, 1)
	if _, err := ro.ReadAt(ctx, p, 0); err != nil || p[0] != 'x' {
		t.Errorf("%q, %v", p, err)
	}
	if _, err := s.OpenDevice(ctx, dev0, wlog.NewMem(2<<20, 512), abi.O_RDONLY); !errors.Is(err, abi.EBUSY) {
		t.Errorf("another size: %v", err)
	}
	if err := rw.Close(ctx); err != nil || m2.Counts().Closed {
		t.Error(err)
	}
	if err := ro.Close(ctx); err != nil || !m.Counts().Closed || !m2.Counts().Closed || m2.Image()[0] != 'x' {
		t.Error("the last close", err)
	}
	if _, err := s.Open(ctx, dev0, abi.O_RDONLY); !errors.Is(err, abi.ENXIO) {
		t.Error(err)
	}
}
