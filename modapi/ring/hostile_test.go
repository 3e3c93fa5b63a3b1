//go:build linux

package ring

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// rounds is how many mutated exchanges a test makes: RING_FUZZ, or few.
func rounds(n int) int {
	if v, err := strconv.Atoi(os.Getenv("RING_FUZZ")); err == nil {
		return v
	}
	return n
}

// quick are deadlines that a test can wait for.
func quick(wire.Class) time.Duration { return 40 * time.Millisecond }

// lone makes one end in the host's manner, and answers what its peer has: the
// memory, and a socket that is read and thrown away.
func lone(tb testing.TB, h stream.Handler, opt Options) (*End, *Mem, net.Conn) {
	tb.Helper()
	f, err := Create(true)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	x, y := pair(tb)
	go io.Copy(io.Discard, y)
	opt.Serve, opt.Own = true, true
	c := stream.New(x, h, stream.Options{Epoch: 7, Deadline: quick})
	e, err := Attach(c, mapped(tb, f), opt)
	if err != nil {
		tb.Fatal(err)
	}
	return e, mapped(tb, f), y
}

// over ends an end and waits for it, for some seconds.
func over(tb testing.TB, e *End, m *Mem, nc net.Conn) {
	tb.Helper()
	e.conn.Close()
	done := make(chan struct{})
	go func() { e.conn.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		panic("an end does not end")
	}
	nc.Close()
	m.Unmap()
}

// evil is a peer that plays with memory.
type evil struct {
	r    *rand.Rand
	h    half // the calls that it serves
	up   half // the calls that it makes
	tail uint32
	gen  uint32
	id   uint64
}

// odd is a number that is likely to hurt.
func (v *evil) odd() uint32 {
	switch v.r.IntN(6) {
	case 0:
		return uint32(v.r.IntN(256))
	case 1:
		return 1 << v.r.IntN(32)
	case 2:
		return ^uint32(0) - uint32(v.r.IntN(4))
	case 3:
		return uint32(offInline + v.r.IntN(slots)*inlineSize)
	case 4:
		return uint32(offArena + v.r.IntN(extents+1)*extentSize)
	}
	return v.r.Uint32()
}

// spoil changes some of a header.
func (v *evil) spoil(b []byte) {
	for range v.r.IntN(4) {
		switch v.r.IntN(3) {
		case 0:
			b[4+v.r.IntN(len(b)-4)] = byte(v.r.Uint32())
		case 1:
			b[4+v.r.IntN(len(b)-4)] ^= 1 << v.r.IntN(8)
		case 2:
			o := 4 * (1 + v.r.IntN(len(b)/4-1))
			n := v.odd()
			b[o], b[o+1], b[o+2], b[o+3] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
		}
	}
}

// wake rings everything of a half.
func wake(h half) {
	for _, o := range []int{offState, offBell, offCBell} {
		h.word(o).Add(1)
		futexWake(h.word(o), 100)
	}
}

// ask makes a request, more or less.
func (v *evil) ask() {
	i := v.r.IntN(8)
	for n := 0; n < 1000 && v.r.IntN(300) > 0; n++ { // one that may be used, as a rule
		if st := v.up.slot(i).Load() & stateMask; st == free || st == complete {
			break
		}
		i = v.r.IntN(8)
		runtime.Gosched()
	}
	v.id++
	v.gen++
	ops := wire.Ops()
	op := ops[v.r.IntN(len(ops))]
	for op == wire.OpCancel && v.r.IntN(50) > 0 {
		op = ops[v.r.IntN(len(ops))]
	}
	h := wire.Header{Op: op, ReqID: abi.ReqID(v.id), Epoch: 7,
		ArgsLen: uint32(v.r.IntN(20)), PayloadLen: uint32(v.r.IntN(3000)), ReplyLen: uint32(v.r.IntN(3000)),
		ArgsOff: uint32(offArgs + i*wire.MaxArgs), PayloadOff: uint32(offInline + i*inlineSize)}
	if op.Oneway() && op != wire.OpCancel {
		h.Flags, h.ReqID = wire.FlagOneway, 0
	}
	var b [wire.HeaderSize]byte
	h.Put(b[:])
	if v.r.IntN(6) == 0 {
		v.spoil(b[:])
	}
	copy(v.up.header(i)[4:], b[4:])
	st := uint32(submitted)
	if v.r.IntN(200) == 0 {
		st = v.r.Uint32()
	}
	v.up.slot(i).Store(v.gen<<genShift | st)
	n := uint32(i + 1)
	if v.r.IntN(200) == 0 {
		n = v.odd()
	}
	v.up.entry(v.tail).Store(n)
	if v.r.IntN(200) > 0 {
		v.tail++
	}
	if v.r.IntN(5) == 0 {
		v.up.word(offState).Store(v.r.Uint32() % 6)
	}
	wake(v.up)
}

func newEvil(m *Mem, seed uint64) *evil {
	return &evil{r: rand.New(rand.NewPCG(seed, 1)), h: half{m, page}, up: half{m, page + halfSize}}
}

// checked is what a call of a hostile peer may come to.
func checked(t testing.TB, err error) {
	switch no := abi.ErrnoOf(err); {
	case err == nil, no > 0 && no < 256:
	default:
		t.Errorf("a call answered %v", err)
	}
}

// TestHostileCaller: whatever the peer asks, serving goes on or ends.
func TestHostileCaller(t *testing.T) {
	if !Supported() {
		t.Skip("no futex_waitv")
	}
	var served atomic.Int64
	h := stream.HandlerFunc(func(_ context.Context, r *stream.Request) {
		served.Add(1)
		n := int(r.Header.ReplyLen)
		if b := r.Room(n); b != nil {
			r.Reply(0, nil, abi.IovOf(b))
			return
		}
		r.Reply(0, r.Args, abi.IovOf(r.Payload[:min(n, len(r.Payload))]))
	})
	total := 0
	for seed := uint64(0); total < rounds(10000); seed++ {
		e, m, nc := lone(t, h, Options{})
		v := newEvil(m, seed)
		for range 100 {
			total++
			v.ask()
			if e.conn.Err() != nil {
				break
			}
		}
		if err := e.conn.Err(); err != nil {
			var lie *stream.Lie
			if !errors.As(err, &lie) {
				t.Error(err)
			}
		}
		over(t, e, m, nc)
	}
	t.Logf("%d exchanges, %d served", total, served.Load())
	if served.Load() == 0 {
		t.Error("nothing was served")
	}
}

// TestScribble: all over the memory random words are written while two ends
// work. Nothing faults, every call ends, and the ends end.
func TestScribble(t *testing.T) {
	for seed := range uint64(rounds(2000) / 100) {
		f, err := Create(true)
		if err != nil {
			t.Fatal(err)
		}
		x, y := pair(t)
		opt := stream.Options{Epoch: 7, Deadline: quick}
		cx, cy := stream.New(x, echo, opt), stream.New(y, echo, opt)
		ex, err := Attach(cx, mapped(t, f), Options{Serve: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = Attach(cy, mapped(t, f), Options{Second: true, Serve: true}); err != nil {
			t.Fatal(err)
		}
		m := mapped(t, f)
		f.Close()
		r := rand.New(rand.NewPCG(seed, 2))
		var wg sync.WaitGroup
		stop := make(chan struct{})
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				base := page + halfSize*r.IntN(2)
				o := r.IntN(page)
				switch r.IntN(4) {
				case 0:
					o = page + r.IntN(slots*slotSize)
				case 1:
					o = []int{offState, offBell, offCBell}[r.IntN(3)]
				case 2:
					o = page + r.IntN(8*slotSize)
				}
				w := m.word(base + o&^3)
				if r.IntN(2) == 0 {
					w.Store(r.Uint32() % 8)
				} else {
					w.Store(r.Uint32())
				}
			}
		})
		for g := range 6 {
			wg.Go(func() {
				c := []*stream.Conn{cx, cy}[g%2]
				for range 50 {
					k := newCall([]wire.Op{wire.OpGetattr, wire.OpCreate, wire.OpRoot}[g%3])
					k.SetPayload(make([]byte, 100))
					k.Dst = abi.IovOf(make([]byte, 100))
					checked(t, c.Call(context.Background(), k))
					if c.Err() != nil {
						return
					}
				}
			})
		}
		go func() { // a scribbled word may keep calls, but not longer than their deadline
			<-cx.Done()
			cy.Close()
		}()
		go func() { <-cy.Done(); cx.Close() }()
		time.AfterFunc(500*time.Millisecond, func() { cx.Close() })
		<-cx.Done()
		close(stop)
		wg.Wait()
		over(t, ex, m, nil2{})
		cy.Wait()
	}
}

type nil2 struct{ net.Conn }

func (nil2) Close() error { return nil }

// TestMute: a peer that does nothing at all fails by the deadline of the call.
func TestMute(t *testing.T) {
	for _, op := range []wire.Op{wire.OpGetattr, wire.OpCreate, wire.OpMount} {
		e, m, nc := lone(t, nil, Options{})
		begin := time.Now()
		err := e.conn.Call(t.Context(), newCall(op))
		var hang *stream.Hang
		if !errors.As(err, &hang) || !errors.Is(err, abi.EIO) {
			t.Errorf("%s: %v", op, err)
		}
		if d := time.Since(begin); d < 35*time.Millisecond || d > time.Minute {
			t.Errorf("%s: after %v", op, d)
		}
		over(t, e, m, nc)
	}
}

// TestNoBell: a peer that completes calls but rings no bell is found out by
// looking.
func TestNoBell(t *testing.T) {
	cnt := NewCounters(nil)
	e, m, nc := lone(t, nil, Options{Counters: cnt})
	defer over(t, e, m, nc)
	done := make(chan error, 1)
	go func() {
		k := newCall(wire.OpMount) // parks at once
		k.Timeout = time.Minute
		done <- e.conn.Call(t.Context(), k)
	}()
	h := half{m, page}
	for h.slot(0).Load()&waitBell == 0 {
		time.Sleep(time.Millisecond)
	}
	h.header(0)[6] = byte(wire.FlagReply)
	h.slot(0).Store(h.slot(0).Load()&^0xff | complete)
	if err := <-done; err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(60 * time.Second); cnt.Rescued.Load() == 0 && time.Now().Before(end); { // it is counted afterwards
		runtime.Gosched()
	}
	if cnt.Rescued.Load() != 1 {
		t.Errorf("%d rescued", cnt.Rescued.Load())
	}
}

// TestDeath: when the peer dies every waiting call ends.
func TestDeath(t *testing.T) {
	e, m, nc := lone(t, nil, Options{})
	errs := make(chan error, 100)
	for i := range 100 {
		go func() {
			k := newCall([]wire.Op{wire.OpCreate, wire.OpGetattr, wire.OpMount}[i%3])
			k.Timeout = 2 * time.Minute
			errs <- e.conn.Call(context.Background(), k)
		}()
	}
	for e.cnt.Calls.Load() < 100 {
		time.Sleep(time.Millisecond)
	}
	begin := time.Now()
	nc.Close()
	for range 100 {
		var dead *stream.Dead
		if err := <-errs; !errors.As(err, &dead) {
			t.Error(err)
		}
	}
	if d := time.Since(begin); d > time.Minute {
		t.Errorf("it took %v", d)
	}
	over(t, e, m, nc)
}
