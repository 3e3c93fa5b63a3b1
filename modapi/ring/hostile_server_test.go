//go:build linux

package ring

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// outcome is what a call of a hostile server may come to.
type outcome uint8

const (
	answered outcome = 1 << iota // as an honest server answers
	refused                      // an errno of its choice
	gaveUp                       // EINTR, ETIMEDOUT
	ended                        // the connection is dead

	anything = answered | refused | gaveUp | ended
)

// attack is one thing that a hostile server does to a request of which the
// honest answer, but for its word, is in the slot already.
type attack struct {
	name   string
	weight int
	may    outcome
	do     func(x *exchange)
}

// exchange is a request that a hostile server has found.
type exchange struct {
	*liar
	i    int            // slot
	b    []byte         // header in place
	w    *atomic.Uint32 // its word
	old  uint32         // the word as it was
	last []byte         // header of the request before in this slot
}

func (x *exchange) u32(off int, v uint32) { binary.LittleEndian.PutUint32(x.b[off:], v) }

// done completes the request.
func (x *exchange) done() {
	old := x.w.Swap(x.old&^0xff | complete)
	x.bells(old)
}

// bells tells the caller, as the waiting bits of the word before say.
func (x *exchange) bells(old uint32) {
	if old&waitSlot != 0 {
		futexWake(x.w, 1)
	}
	if old&waitBell != 0 {
		b := x.h.word(offCBell)
		b.Add(1)
		futexWake(b, 1)
	}
}

// mute has the caller give up instead of waiting for its deadline, or kills the
// peer if it must not.
func (x *exchange) mute() { x.giveUp() }

// beyond is a number above n that is likely to hurt.
func (x *exchange) beyond(n uint32) uint32 {
	for {
		if v := x.odd(); v > n {
			return v
		}
	}
}

var attacks = []attack{
	{"honest", 20, answered, (*exchange).done},
	{"header", 20, anything, func(x *exchange) { x.spoil(x.b); x.done() }},
	{"errno", 10, refused | gaveUp | ended, func(x *exchange) { x.u32(20, 1+x.r.Uint32()%300); x.done() }},
	{"index", 20, anything, func(x *exchange) { // other slots than asked for
		for range 3 {
			x.h.entry(x.r.Uint32()).Store(x.odd())
		}
		j := x.r.IntN(slots)
		x.h.slot(j).Store(x.h.slot(j).Load()&^0xff | complete)
		x.done()
	}},
	{"args length", 5, ended, func(x *exchange) { x.u32(44, x.beyond(wire.MaxArgs)); x.done() }},
	{"payload length", 5, ended, func(x *exchange) { x.u32(52, x.beyond(100)); x.done() }},
	{"offset", 20, answered, func(x *exchange) { // the caller knows where its areas are
		x.u32(40, x.odd())
		x.u32(48, x.odd())
		x.done()
	}},
	{"epoch", 5, ended, func(x *exchange) { x.u32(16, 7+1+x.r.Uint32()%1000); x.done() }},
	{"object", 5, ended, func(x *exchange) { x.b[32+x.r.IntN(8)] ^= 1 << x.r.IntN(8); x.done() }},
	{"stale id", 5, ended, func(x *exchange) {
		copy(x.b[8:16], x.last[8:16])
		x.done()
	}},
	{"stale header", 5, ended, func(x *exchange) {
		copy(x.b[4:], x.last[4:])
		x.b[6] = byte(wire.FlagReply)
		x.done()
	}},
	{"generation", 5, gaveUp | ended, func(x *exchange) {
		old := x.w.Swap((x.old>>genShift+1+x.r.Uint32()%0xffffff)<<genShift | complete)
		x.bells(old)
		x.mute()
	}},
	{"state", 10, anything, func(x *exchange) {
		x.w.Store(x.old&^stateMask | uint32(x.r.IntN(4)))
		futexWake(x.w, 1)
		x.mute()
	}},
	{"word", 5, anything, func(x *exchange) {
		x.w.Store(x.r.Uint32())
		wake(x.h)
		x.mute()
	}},
	{"twice", 20, answered, func(x *exchange) {
		x.done()
		x.u32(44, 3)
		x.bells(x.w.Swap(x.old&^0xff | complete))
	}},
	{"twice, two answers", 10, anything, func(x *exchange) {
		x.done()
		x.spoil(x.b)
		x.done()
	}},
	{"scribble", 30, anything, func(x *exchange) {
		for range 1 + x.r.IntN(8) {
			o := []int{offState, offBell, offCBell, offSCPU, offCCPU, offRing + 4*x.r.IntN(slots),
				offSlots + 4*x.r.IntN(8*slotSize/4)}[x.r.IntN(7)]
			v := x.r.Uint32()
			if x.r.IntN(2) == 0 {
				v %= 8
			}
			x.h.word(o).Store(v)
		}
		x.done()
		wake(x.h)
		x.mute() // the word may have been hit
	}},
	{"bells", 20, answered | ended, func(x *exchange) { // without being asked
		x.dirty = true
		for range x.r.IntN(5) {
			wake(x.h)
			wake(x.up)
		}
		x.done()
	}},
	{"sleeps", 10, answered, func(x *exchange) { // it says what it does not
		x.h.word(offState).Store(x.odd() % 6)
		x.done()
	}},
	{"never", 5, gaveUp | ended, func(x *exchange) { x.mute() }},
	{"late", 10, gaveUp | ended, func(x *exchange) {
		x.mute()
		x.owed = append(x.owed, owed{x.i, x.old})
	}},
	{"without a bell", 10, answered | gaveUp | ended, func(x *exchange) {
		x.w.Store(x.old&^0xff | complete)
		x.mute()
	}},
}

// liar is the hostile server of one connection after another. It works while
// the caller makes one call, and is waited for before the next.
type liar struct {
	*evil
	giveUp func()
	order  []*attack // by weight
	owed   []owed
	what   *attack // done to the last request
	dirty  bool    // an attack may have its effect on a later call
	last   [slots][wire.HeaderSize]byte
}

// owed is an answer that comes late.
type owed struct {
	slot int
	word uint32
}

// answer finds the request that is on its way and attacks it. It looks for it
// in the slots, because what is in the ring may be its own scribbling.
func (s *liar) answer(returned *atomic.Bool) {
	s.what = nil
	for {
		for i := range slots {
			if w := s.h.slot(i); w.Load()&stateMask == submitted {
				s.attack(i)
				return
			}
		}
		if returned.Load() {
			return
		}
		runtime.Gosched()
	}
}

func (s *liar) attack(i int) {
	for len(s.owed) > 0 && s.r.IntN(2) == 0 { // what had been given up is complete after all
		o := s.owed[0]
		s.owed = s.owed[1:]
		s.h.slot(o.slot).Store(o.word&^0xff | complete)
		s.h.word(offCBell).Add(1)
		futexWake(s.h.word(offCBell), 1)
	}
	x := exchange{liar: s, i: i, b: s.h.header(i), w: s.h.slot(i), last: make([]byte, wire.HeaderSize)}
	x.old = x.w.Load()
	copy(x.last, s.last[i][:])
	copy(s.last[i][:], x.b)
	honest(x.b)
	s.what = s.order[s.r.IntN(len(s.order))]
	s.what.do(&x)
}

// honest makes a request's header that of an empty answer.
func honest(b []byte) {
	b[6] = byte(wire.FlagReply)
	for _, o := range []int{20, 44, 52} {
		binary.LittleEndian.PutUint32(b[o:], 0)
	}
}

// TestHostileServer: whatever the peer answers, a call ends, and only an honest
// answer passes for one. Memory is used by one connection after another; a
// caller of which the server knows that it waits in vain gives up at once, one
// in some hundreds waits for its deadline.
func TestHostileServer(t *testing.T) {
	if !Supported() {
		t.Skip("no futex_waitv")
	}
	want := int64(rounds(20000))
	var total, mutated, conns atomic.Int64
	var mu sync.Mutex
	seen := map[string]map[outcome]int{}
	var wg sync.WaitGroup
	begin := time.Now()
	for g := range uint64(8) {
		wg.Go(func() {
			own := map[*attack]map[outcome]int{}
			f, err := Create(true)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			m := mapped(t, f)
			defer m.Unmap()
			s := &liar{evil: newEvil(m, g)}
			for i := range attacks {
				for range attacks[i].weight {
					s.order = append(s.order, &attacks[i])
				}
			}
			for mutated.Load() < want && !t.Failed() {
				conns.Add(1)
				s.connection(t, f, func(a *attack, o outcome) {
					total.Add(1)
					if a.name != "honest" {
						mutated.Add(1)
					}
					if own[a] == nil {
						own[a] = map[outcome]int{}
					}
					own[a][o]++
				})
			}
			mu.Lock()
			defer mu.Unlock()
			for a, m := range own {
				if seen[a.name] == nil {
					seen[a.name] = map[outcome]int{}
				}
				for o, n := range m {
					seen[a.name][o] += n
				}
			}
		})
	}
	wg.Wait()
	d := time.Since(begin)
	t.Logf("%d exchanges, %d of them attacks, %d connections, %.0f attacks/s", total.Load(), mutated.Load(), conns.Load(),
		float64(mutated.Load())/d.Seconds())
	for _, a := range attacks {
		m := seen[a.name]
		t.Logf("%-20s answered %7d  refused %6d  given up %6d  ended %6d", a.name, m[answered], m[refused], m[gaveUp], m[ended])
		n := 0
		for _, k := range m {
			n += k
		}
		if n == 0 {
			t.Errorf("%s: never done", a.name)
		}
		if a.may == answered && m[answered] == 0 {
			t.Errorf("%s: never answered", a.name)
		}
	}
}

// connection makes up to 100 exchanges over a new connection and old memory.
func (s *liar) connection(t *testing.T, f *os.File, count func(*attack, outcome)) {
	for _, h := range []half{s.h, s.up} {
		clear(h.bytes(0, offArgs))
	}
	s.owed, s.dirty = nil, false
	clear(s.last[:])
	x, y := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(io.Discard, y) })
	c := stream.New(x, nil, stream.Options{Epoch: 7, Deadline: quick})
	e, err := Attach(c, mapped(t, f), Options{Serve: true, Own: true, nap: 300 * time.Microsecond})
	if err != nil {
		t.Error(err)
		return
	}
	asked, done := make(chan *atomic.Bool), make(chan struct{})
	wg.Go(func() {
		for returned := range asked {
			s.answer(returned)
			done <- struct{}{}
		}
	})
	defer func() {
		close(asked)
		c.Close()
		c.Wait()
		y.Close()
		wg.Wait()
	}()
	dst := make([]byte, 100)
	for n := range 100 {
		op := []wire.Op{wire.OpGetattr, wire.OpCreate, wire.OpRoot, wire.OpRead}[n%4]
		k := newCall(op)
		k.Header.Object = 1
		k.Args = append(k.Args, "abc"...)
		k.Dst = abi.IovOf(dst)
		k.Timeout = 10 * time.Second
		ctx, cancel := context.WithCancel(t.Context())
		s.giveUp = cancel
		if op.Keeps() {
			s.giveUp = func() { s.dirty = true; y.Close() }
		}
		late := s.r.IntN(400) == 0
		if late {
			s.giveUp, k.Timeout = func() {}, 10*time.Millisecond
		}
		for i := range slots {
			s.h.slot(i).Store(0) // those that nobody answers are not this one
		}
		returned := new(atomic.Bool)
		asked <- returned
		err := e.conn.Call(ctx, k)
		returned.Store(true)
		<-done
		cancel()
		o := classify(err)
		switch a := s.what; {
		case a == nil: // it has not come that far
			if o != ended && !late {
				t.Errorf("%s, not sent: %v", op, err)
			}
		case o&a.may != 0:
			count(a, o)
		case o == ended && s.dirty, late && o&(gaveUp|ended) != 0:
		default:
			t.Errorf("%s of %s: %v", a.name, op, err)
		}
		if e.conn.Err() != nil {
			return
		}
		k.Release()
	}
}

func classify(err error) outcome {
	var dead *stream.Dead
	switch no := abi.ErrnoOf(err); {
	case err == nil:
		return answered
	case errors.As(err, &dead):
		return ended
	case no == abi.EINTR, no == abi.ETIMEDOUT:
		return gaveUp
	}
	return refused
}
