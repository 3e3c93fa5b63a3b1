package bio_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/kernel/bio/wlog"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// defect is something wrong on purpose, which the power cut must find.
type defect struct {
	loseFlushes, loseRedo, ackEarly bool
}

const (
	powerBlock  = 4096
	powerBlocks = 48
)

func block(blk int64, tag uint64) []byte {
	p := make([]byte, powerBlock)
	for i := 0; i < powerBlock; i += 512 { // each sector tells, so that torn ones do
		binary.LittleEndian.PutUint64(p[i:], tag)
		binary.LittleEndian.PutUint64(p[i+8:], uint64(blk))
	}
	return p
}

// powerRun is a small file system without a journal: block 0 has the number of
// the checkpoint, which refers to some of the other blocks.
type powerRun struct {
	t      *testing.T
	rec    *wlog.Recorder
	states map[uint64]map[int64]uint64 // what each checkpoint refers to: block -> tag
}

func (p *powerRun) run(seed uint64, df defect) *wlog.Log {
	m := wlog.NewMem(powerBlocks*powerBlock, 512)
	m.SetGeom(func(g *devops.Geom) { g.MaxIO = 16 << 10 })
	p.rec = wlog.Record(m)
	p.rec.LoseFlushes, p.rec.LoseRedo = df.loseFlushes, df.loseRedo
	r := newRigOn(p.t, m, p.rec, bio.Options{Memory: bio.NewMemory(2 << 20)})
	l := r.layered(bio.LayerOptions{Redo: p.rec.Redo()})
	io := l.IO()
	rnd := rand.New(rand.NewPCG(seed, 77))
	p.states = map[uint64]map[int64]uint64{0: {}}
	ckpt, tag := uint64(0), uint64(0)
	cur := map[int64]uint64{}
	for range 60 {
		for range 1 + rnd.IntN(5) { // a transaction
			blk := 1 + rnd.Int64N(powerBlocks-1)
			tag++
			data := block(blk, tag)
			_, mine := cur[blk]
			_, his := p.states[ckpt][blk]
			switch {
			case mine && rnd.IntN(4) == 0:
				delete(cur, blk)
				r.strategy(io, &devops.Buf{Flags: devops.BDiscard, Blkno: blk * 8, Bytes: powerBlock})
				continue
			case !mine && !his:
				r.strategy(io, buf(devops.BWrite|devops.BFresh, blk*powerBlock, data))
			default: // in two pieces: a crash between them would show
				r.strategy(io, buf(devops.BWrite, blk*powerBlock, data[:1536]))
				r.strategy(io, buf(devops.BWrite, blk*powerBlock+1536, data[1536:]))
			}
			cur[blk] = tag
		}
		switch k := rnd.IntN(10); {
		case k < 3: // the component dies
			if err := l.Drop(r.ctx); err != nil {
				p.t.Fatal(err)
			}
			io = l.IO()
			cur = maps.Clone(p.states[ckpt])
		default:
			ckpt++
			r.strategy(io, buf(devops.BWrite, 0, block(0, ckpt)))
			p.states[ckpt] = maps.Clone(cur)
			l.Checkpoint(abi.Ckpt(ckpt), 0)
			if k < 6 {
				continue
			}
			ack := binary.LittleEndian.AppendUint64(nil, ckpt)
			if df.ackEarly {
				p.rec.Mark(ack)
			}
			if err := l.WriteOut(r.ctx); err != nil {
				p.t.Fatal(err)
			}
			p.rec.Mark(ack)
		}
	}
	return p.rec.Log()
}

// check recovers what a power cut left, and looks whether it is one of the
// checkpoints, whole, and none before the last that was promised.
func (p *powerRun) check(c *wlog.Crash) error {
	ctx := context.Background()
	s := bio.New(bio.Options{})
	m := wlog.NewMemOf(c.Image, 512)
	h, err := s.OpenDevice(ctx, dev0, m, abi.O_RDWR)
	if err != nil {
		return err
	}
	defer h.Close(ctx)
	l, err := bio.NewLayered(ctx, h, bio.LayerOptions{Redo: wlog.NewMemRedo(c.Redo)})
	if err != nil {
		return err
	}
	if err := l.Close(ctx); err != nil {
		return err
	}
	img := m.Image()
	ckpt := binary.LittleEndian.Uint64(img)
	if ckpt > 0 && !bytes.Equal(img[:powerBlock], block(0, ckpt)) {
		return fmt.Errorf("block 0 is torn")
	}
	for _, mk := range c.Marks {
		if n := binary.LittleEndian.Uint64(mk); n > ckpt {
			return fmt.Errorf("checkpoint %d was promised, and %d is there", n, ckpt)
		}
	}
	for blk, tag := range p.states[ckpt] {
		if got := img[blk*powerBlock : (blk+1)*powerBlock]; !bytes.Equal(got, block(blk, tag)) {
			return fmt.Errorf("checkpoint %d: block %d has tag %d instead of %d", ckpt, blk, binary.LittleEndian.Uint64(got), tag)
		}
	}
	return nil
}

// TestPowerCut replays every prefix of what was written, with subsets of what no
// flush had covered: the image is a checkpoint, whole, and what Sync had
// answered for is there.
func TestPowerCut(t *testing.T) {
	for seed := range uint64(2) {
		p := &powerRun{t: t}
		log := p.run(seed, defect{})
		n := 0
		err := log.CutPower(wlog.Cuts{Seed: seed}, func(c *wlog.Crash) error { n++; return p.check(c) })
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		if n < 500 {
			t.Errorf("only %d power cuts", n)
		}
	}
}

// TestPowerCutCatches: a flush that is left out, a redo file that is not there,
// an answer too early are found.
func TestPowerCutCatches(t *testing.T) {
	for name, df := range map[string]defect{"flush": {loseFlushes: true}, "redo": {loseRedo: true}, "early": {ackEarly: true}} {
		p := &powerRun{t: t}
		log := p.run(1, df)
		if err := log.CutPower(wlog.Cuts{Seed: 1}, p.check); err == nil {
			t.Errorf("%s: nobody noticed", name)
		}
	}
}

// journalRun is a file system with a journal: a group of blocks, a barrier, a
// commit record in block 0, a barrier. Blocks are used again, in a circle.
func journalRun(t *testing.T, seed uint64, df defect) *wlog.Log {
	m := wlog.NewMem(powerBlocks*powerBlock, 512)
	rec := wlog.Record(m)
	rec.LoseFlushes = df.loseFlushes
	r := newRigOn(t, m, rec, bio.Options{})
	l := r.layered(bio.LayerOptions{Journalled: true})
	rnd := rand.New(rand.NewPCG(seed, 78))
	flush := func() { r.strategy(l.IO(), &devops.Buf{Flags: devops.BFlush}) }
	for n := uint64(1); n <= 60; n++ {
		for i := range int64(4) {
			blk := 1 + int64(n)%8*4 + i
			r.strategy(l.IO(), buf(devops.BWrite, blk*powerBlock, block(blk, n)))
		}
		flush()
		if rnd.IntN(2) == 0 {
			r.strategy(l.IO(), buf(devops.BWrite|devops.BFua, 0, block(0, n)))
		} else {
			r.strategy(l.IO(), buf(devops.BWrite, 0, block(0, n)))
			flush()
		}
		if rnd.IntN(2) == 0 {
			l.Checkpoint(abi.Ckpt(n), 0)
		}
		if rnd.IntN(4) == 0 {
			ack := binary.LittleEndian.AppendUint64(nil, n)
			if df.ackEarly {
				rec.Mark(ack)
			}
			if err := l.Sync(r.ctx); err != nil {
				t.Fatal(err)
			}
			rec.Mark(ack)
		}
	}
	return rec.Log()
}

func journalCheck(c *wlog.Crash) error {
	n := binary.LittleEndian.Uint64(c.Image)
	for i := range 8 { // a torn commit record is one that is not there, or is: both tags are right
		n = min(n, binary.LittleEndian.Uint64(c.Image[i*512:]))
	}
	for _, mk := range c.Marks {
		if k := binary.LittleEndian.Uint64(mk); k > n {
			return fmt.Errorf("group %d was promised, and %d is there", k, n)
		}
	}
	for k := max(n, 7) - 6; k <= n; k++ { // the group before those may be written over now
		for i := range int64(4) {
			blk := 1 + int64(k)%8*4 + i
			if !bytes.Equal(c.Image[blk*powerBlock:(blk+1)*powerBlock], block(blk, k)) {
				return fmt.Errorf("group %d is committed, and block %d of group %d is not there", n, blk, k)
			}
		}
	}
	return nil
}

// TestPowerCutJournalled: barriers keep their order on the way out.
func TestPowerCutJournalled(t *testing.T) {
	for seed := range uint64(4) {
		if err := journalRun(t, seed, defect{}).CutPower(wlog.Cuts{Seed: seed}, journalCheck); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
	for name, df := range map[string]defect{"flush": {loseFlushes: true}, "early": {ackEarly: true}} {
		if err := journalRun(t, 1, df).CutPower(wlog.Cuts{Seed: 1}, journalCheck); err == nil {
			t.Errorf("%s: nobody noticed", name)
		}
	}
}
