package bio_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/kernel/bio/wlog"
	"github.com/rumpus-kernel/rumpus/kernel/evcnt"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const dev0 = abi.Dev(0x1800)

// rig is a block layer over a memory device.
type rig struct {
	t   testing.TB
	ctx context.Context
	s   *bio.System
	m   *wlog.Mem
	h   *bio.Handle
	ev  *evcnt.Set
}

func newRig(t testing.TB, m *wlog.Mem, o bio.Options, opts ...bio.OpenOption) *rig {
	t.Helper()
	return newRigOn(t, m, m, o, opts...)
}

// newRigOn opens d, which leads to m.
func newRigOn(t testing.TB, m *wlog.Mem, d bio.Device, o bio.Options, opts ...bio.OpenOption) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	r := &rig{t: t, ctx: ctx, m: m, ev: evcnt.New()}
	o.Evcnt = r.ev.Attach
	r.s = bio.New(o)
	var err error
	if r.h, err = r.s.OpenDevice(ctx, dev0, d, abi.O_RDWR, opts...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.h.Close(context.Background())
		if b := m.Broken(); len(b) > 0 {
			t.Errorf("rules of drivers were broken: %v", b)
		}
		if n, d := r.count("issued"), r.count("done"); n != d+0 || r.count("done_twice") != 0 {
			t.Errorf("%d bufs issued, %d done, %d twice", n, d, r.count("done_twice"))
		}
		if st := r.s.Stats(); st.Inflight != 0 || st.Cached != 0 || st.Dirty != 0 {
			t.Errorf("after the last close: %+v", st)
		}
	})
	return r
}

func (r *rig) count(name string) uint64 { return r.ev.Attach("bio", name).Load() }

func (r *rig) read(off, n int64) []byte {
	r.t.Helper()
	p := make([]byte, n)
	k, err := r.h.ReadAt(r.ctx, p, off)
	if err != nil {
		r.t.Fatalf("read of %d at %d: %v", n, off, err)
	}
	return p[:k]
}

func (r *rig) write(p []byte, off int64) {
	r.t.Helper()
	if n, err := r.h.WriteAt(r.ctx, p, off, false); err != nil || n != len(p) {
		r.t.Fatalf("write of %d at %d: %d, %v", len(p), off, n, err)
	}
}

func (r *rig) flush() {
	r.t.Helper()
	if err := r.h.Flush(r.ctx); err != nil {
		r.t.Fatal(err)
	}
}

func pattern(n int, seed byte) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i)*7 + byte(i>>8)*13 + seed
	}
	return p
}

// gate lets a test hold requests up.
type gate struct {
	mu   sync.Mutex
	c    chan struct{}
	seen chan struct{} // one token a request that came
}

func newGate() *gate { return &gate{c: make(chan struct{}), seen: make(chan struct{}, 1024)} }

func (g *gate) wait() {
	g.seen <- struct{}{}
	g.mu.Lock()
	c := g.c
	g.mu.Unlock()
	<-c
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.c:
	default:
		close(g.c)
	}
}
