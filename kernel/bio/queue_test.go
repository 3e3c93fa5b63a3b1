package bio_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/kernel/bio/wlog"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

func buf(fl devops.BufFlags, off int64, data []byte) *devops.Buf {
	return &devops.Buf{Blkno: off / devops.DevBsize, Bytes: int64(len(data)), Flags: fl, Data: abi.IovOf(data)}
}

// TestBiodoneOnce kills the driver at random, before and after a buf is done:
// each buf is answered once, under one number, and all are done.
func TestBiodoneOnce(t *testing.T) {
	m := wlog.NewMem(1<<20, 512)
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(1, 2))
	die := func(*devops.Buf) error {
		mu.Lock()
		defer mu.Unlock()
		if rnd.IntN(10) == 0 {
			return fmt.Errorf("killed: %w", bio.ErrDied)
		}
		return nil
	}
	m.Fault, m.After = die, die
	r := newRig(t, m, bio.Options{Depth: 8})
	var answers, wrong atomic.Int64
	ids := map[abi.BufID]int{}
	var wg sync.WaitGroup
	const workers, each = 8, 200
	for w := range workers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 3))
			for range each {
				off := int64(rnd.IntN(2000)) * 512
				p := pattern(512*(1+rnd.IntN(8)), byte(w))
				op := devops.BWrite
				if rnd.IntN(4) == 0 {
					op = devops.BRead
				}
				req, err := r.h.Start(r.ctx, buf(op, off, p), func(err error) {
					answers.Add(1)
					if err != nil {
						wrong.Add(1)
					}
				})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				ids[req.ID()]++
				mu.Unlock()
				if err := req.Biowait(r.ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := answers.Load(); n != workers*each || wrong.Load() != 0 {
		t.Errorf("%d answers, %d of them errors, for %d bufs", n, wrong.Load(), workers*each)
	}
	again := 0
	for id, n := range m.Issued() {
		if ids[id] != 1 {
			t.Errorf("the device saw buf %d, which %d requests have", id, ids[id])
		}
		again += n - 1
	}
	if len(ids) != workers*each || again == 0 || uint64(again) != r.count("reissued") {
		t.Errorf("%d numbers; %d issued again, counted %d", len(ids), again, r.count("reissued"))
	}
	if n := m.Counts().MostFlying; n > 8 {
		t.Errorf("%d requests at a time, depth 8", n)
	}
}

// TestOrder: what overlaps a write goes in the order in which it came; what does
// not goes at the same time; a flush is a barrier for writes and not for reads.
func TestOrder(t *testing.T) {
	m := wlog.NewMem(1<<20, 512)
	g := newGate()
	var mu sync.Mutex
	var began []string
	m.Fault = func(b *devops.Buf) error {
		mu.Lock()
		began = append(began, fmt.Sprintf("%d:%d", b.Flags&devops.BOpMask, b.Blkno))
		mu.Unlock()
		g.wait()
		return nil
	}
	r := newRig(t, m, bio.Options{})
	start := func(fl devops.BufFlags, blk int64) *bio.Request {
		b := buf(fl, blk*512, make([]byte, 512))
		if fl == devops.BFlush {
			b = &devops.Buf{Flags: fl}
		}
		req, err := r.h.Start(r.ctx, b, nil)
		if err != nil {
			t.Fatal(err)
		}
		return req
	}
	reqs := []*bio.Request{
		start(devops.BWrite, 0), // goes
		start(devops.BWrite, 0), // waits for the first
		start(devops.BRead, 0),  // waits for the second
		start(devops.BWrite, 1), // goes
		start(devops.BRead, 9),  // goes
		start(devops.BFlush, 0), // waits for the writes
		start(devops.BWrite, 2), // waits for the flush
		start(devops.BRead, 3),  // goes
		start(devops.BRead, 2),  // waits for the write before it
	}
	for range 4 {
		<-g.seen
	}
	mu.Lock()
	slices.Sort(began)
	if want := []string{"1:3", "1:9", "2:0", "2:1"}; !slices.Equal(began, want) {
		t.Errorf("at first %v, want %v", began, want)
	}
	began = nil
	mu.Unlock()
	g.open()
	for _, req := range reqs {
		if err := req.Biowait(r.ctx); err != nil {
			t.Error(err)
		}
	}
	at := func(s string) int { return slices.Index(began, s) }
	if !(at("2:0") < at("1:0") && at("2:0") < at("4:0") && at("4:0") < at("2:2") && at("2:2") < at("1:2")) {
		t.Errorf("then %v", began)
	}
}

func TestPolicies(t *testing.T) {
	for _, tc := range []struct {
		policy bio.Policy
		back   []error // what Up answers
		want   abi.Errno
		ups    int
	}{
		{bio.Reissue, []error{nil}, 0, 1},
		{bio.Reissue, []error{abi.EIO}, abi.EIO, 1},
		{bio.Reissue, []error{abi.ENXIO}, abi.ENXIO, 1},
		{bio.Fail, nil, abi.EIO, 0},
		{bio.Wait, []error{abi.EIO, abi.EIO, nil}, 0, 3},
		{bio.Wait, []error{abi.EIO, abi.ENXIO}, abi.ENXIO, 2},
	} {
		t.Run(fmt.Sprintf("%v %v", tc.policy, tc.back), func(t *testing.T) {
			m := wlog.NewMem(1<<20, 512)
			died, ups := false, 0
			m.Fault = func(b *devops.Buf) error {
				if !died && b.Flags&devops.BWrite != 0 {
					died = true
					return bio.ErrDied
				}
				return nil
			}
			m.Back = func(context.Context) error { ups++; return tc.back[ups-1] }
			r := newRig(t, m, bio.Options{}, bio.WithPolicy(tc.policy))
			req, err := r.h.Start(r.ctx, buf(devops.BWrite, 0, make([]byte, 512)), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := req.Biowait(r.ctx); abi.ErrnoOf(err) != tc.want || ups != tc.ups {
				t.Errorf("%v after %d waits; want %v after %d", err, ups, tc.want, tc.ups)
			}
		})
	}
	for _, s := range []string{"", "reissue", "fail", "queue"} {
		if p, err := bio.ParsePolicy(s); err != nil || s != "" && p.String() != s {
			t.Errorf("policy %q: %v, %v", s, p, err)
		}
	}
	if _, err := bio.ParsePolicy("pray"); !errors.Is(err, abi.EINVAL) {
		t.Errorf("policy pray: %v", err)
	}
}

// TestPoison: a buf of which the driver dies each time is given up.
func TestPoison(t *testing.T) {
	m := wlog.NewMem(1<<20, 512)
	m.Fault = func(b *devops.Buf) error {
		if b.Blkno == 7 {
			return bio.ErrDied
		}
		return nil
	}
	r := newRig(t, m, bio.Options{})
	req, err := r.h.Start(r.ctx, buf(devops.BRead, 7*512, make([]byte, 512)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := req.Biowait(r.ctx); !errors.Is(err, abi.EIO) {
		t.Errorf("%v, want EIO", err)
	}
	if n := m.Issued()[req.ID()]; n < 2 || n > 20 {
		t.Errorf("issued %d times", n)
	}
}

// TestOtherDevice: a driver that comes back with another size has another
// device.
func TestOtherDevice(t *testing.T) {
	m := wlog.NewMem(1<<20, 512)
	died := false
	m.Fault = func(*devops.Buf) error {
		if died {
			return nil
		}
		died = true
		m.SetGeom(func(g *devops.Geom) { g.Size = 1 << 19 })
		return bio.ErrDied
	}
	r := newRig(t, m, bio.Options{})
	if _, err := r.h.ReadAt(r.ctx, make([]byte, 512), 0); !errors.Is(err, abi.ENXIO) {
		t.Errorf("%v, want ENXIO", err)
	}
}

// TestCancelQueued: who gives up before the device has his buf gets EINTR, and
// the buf never goes.
func TestCancelQueued(t *testing.T) {
	m := wlog.NewMem(1<<20, 512)
	g := newGate()
	m.Fault = func(b *devops.Buf) error {
		if b.Flags&devops.BWrite != 0 {
			g.wait()
		}
		return nil
	}
	r := newRig(t, m, bio.Options{})
	first, err := r.h.Start(r.ctx, buf(devops.BWrite, 0, make([]byte, 4096)), nil)
	if err != nil {
		t.Fatal(err)
	}
	<-g.seen
	ctx, cancel := context.WithCancel(r.ctx)
	answer := make(chan error)
	go func() {
		_, err := r.h.ReadAt(ctx, make([]byte, 4096), 0)
		answer <- err
	}()
	cancel()
	if err := <-answer; !errors.Is(err, abi.EINTR) {
		t.Errorf("%v, want EINTR", err)
	}
	g.open()
	if err := first.Biowait(r.ctx); err != nil {
		t.Error(err)
	}
	if n := m.Counts().Reads; n != 0 {
		t.Errorf("%d reads", n)
	}
}

func TestRefused(t *testing.T) {
	m := wlog.NewMem(1<<20, 4096)
	r := newRig(t, m, bio.Options{})
	for _, b := range []*devops.Buf{
		buf(devops.BRead, 512, make([]byte, 4096)),
		buf(devops.BRead, 0, make([]byte, 512)),
		buf(devops.BWrite, 1<<20, make([]byte, 4096)),
		buf(devops.BWrite, -4096, make([]byte, 4096)),
		buf(devops.BRead|devops.BWrite, 0, make([]byte, 4096)),
		buf(0, 0, make([]byte, 4096)),
		{Flags: devops.BRead, Bytes: 1 << 62, Data: abi.IovOf(make([]byte, 4096))},
		{Flags: devops.BDiscard, Blkno: 1 << 60, Bytes: 4096},
		{Flags: devops.BWrite, Bytes: 8192, Data: abi.IovOf(make([]byte, 4096))},
	} {
		if _, err := r.h.Start(r.ctx, b, nil); !errors.Is(err, abi.EINVAL) {
			t.Errorf("%+v: %v, want EINVAL", b, err)
		}
	}
	for name, f := range map[string]func(*devops.Geom){
		"sector": func(g *devops.Geom) { g.Sector = 100 }, "size": func(g *devops.Geom) { g.Size = 4097 },
		"negative": func(g *devops.Geom) { g.Size = -4096 }, "maxio": func(g *devops.Geom) { g.MaxIO = 5000 },
	} {
		m := wlog.NewMem(1<<20, 4096)
		m.SetGeom(f)
		if _, err := r.s.OpenDevice(r.ctx, 99, m, abi.O_RDWR); !errors.Is(err, abi.EINVAL) || !m.Counts().Closed {
			t.Errorf("geometry with a wrong %s: %v, closed %v", name, err, m.Counts().Closed)
		}
	}
	ro := wlog.NewMem(1<<20, 512)
	ro.SetGeom(func(g *devops.Geom) { g.ReadOnly = true })
	if _, err := r.s.OpenDevice(r.ctx, 98, ro, abi.O_RDWR); !errors.Is(err, abi.EROFS) {
		t.Errorf("read-only: %v", err)
	}
}
