package ring

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// States of a server, in offState for callers and in server.lead for ourselves.
const (
	awake  = 0 // looks at the ring
	asleep = 1 // sleeps on offState itself, in a thread of its own
	away   = 2 // is parked; the watcher knows where
	lent   = 3 // serves a request that may take its time; see server
)

// server takes requests out of the ring. One goroutine at a time leads: it
// looks at the ring, and serves what it finds itself, so that a request needs
// no handing over. Before a request that may take its time it lends the lead;
// whoever then finds that a request waits, be it the leader looking once more,
// another caller ringing late, or a goroutine that has done, takes it over, and
// a leader that comes back to find it taken ends.
type server struct {
	e     *End
	h     half
	lead  atomic.Uint32
	wake  chan struct{} // from the watcher to a leader that is away
	busy  atomic.Int32  // requests being served
	vain  atomic.Uint32 // times that somebody woke us for nothing, in a row
	reqs  [slots]atomic.Pointer[stream.Request]
	count atomic.Int32 // goroutines
	rings atomic.Int32 // bells for requests that had found the lead lent, for tests
	wg    sync.WaitGroup

	mu    sync.Mutex
	ended bool // protected by mu: no goroutine is started any more

	// The leader's.
	head  uint32
	areas [slots][]byte // of the requests in service; the request's own
	gens  [slots]uint32
}

// maxVain bounds the wake-ups for nothing.
const maxVain = 1 << 14

func (s *server) start(e *End) {
	s.e, s.wake = e, make(chan struct{}, 1)
	s.count.Store(1)
	s.wg.Add(1)
	go s.run()
}

// run is the leader.
func (s *server) run() {
	defer s.wg.Done()
	for !s.e.conn.Ended() {
		if i, ok := s.next(); ok {
			if !s.serve(i) {
				return
			}
			continue
		}
		if !s.spin() && !s.sleep() {
			return
		}
	}
}

// next takes a slot out of the ring.
func (s *server) next() (int, bool) {
	w := s.h.entry(s.head)
	v := w.Load()
	if v == 0 {
		return 0, false
	}
	w.Store(0)
	s.head++
	s.vain.Store(0)
	if v > slots {
		s.e.lie("slot %d in the ring", v)
		return 0, false
	}
	return int(v - 1), true
}

// request takes the request in a slot over; nil: it is a lie.
func (s *server) request(i int) *stream.Request {
	e := s.e
	w := s.h.slot(i)
	var gen uint32
	for {
		v := w.Load()
		if v&stateMask != submitted {
			e.lie("slot %d is in the ring in state %d", i, v&stateMask)
			return nil
		}
		gen = v >> genShift
		if w.CompareAndSwap(v, v&^stateMask|taken) {
			break
		}
	}
	acquired()
	if s.reqs[i].Load() != nil {
		e.lie("slot %d used twice", i)
		return nil
	}
	var b [wire.HeaderSize]byte
	copy(b[:], s.h.header(i))
	h, _, off, err := parse(&b)
	if err != nil {
		e.lie("%v", err)
		return nil
	}
	area := s.h.area(i, off)
	oneway := h.Flags&wire.FlagOneway != 0
	switch {
	case h.Flags&wire.FlagReply != 0 || oneway != h.Op.Oneway() || h.Op == wire.OpCancel:
		e.lie("%s with flags %#x", h.Op, uint16(h.Flags))
		return nil
	case h.Epoch != e.conn.Epoch():
		e.lie("%s of epoch %d, not %d", h.Op, h.Epoch, e.conn.Epoch())
		return nil
	case int(h.PayloadLen) > len(area) || int(h.ReplyLen) > len(area) || area == nil:
		e.lie("%s with %d and %d bytes of payload at %d", h.Op, h.PayloadLen, h.ReplyLen, off)
		return nil
	}
	var payload []byte
	if h.PayloadLen > 0 {
		payload = area[:h.PayloadLen:h.PayloadLen]
	}
	r := e.conn.Take(&h, s.h.args(i)[:h.ArgsLen], payload, s, i)
	if e.opt.Own {
		r.Own()
	}
	s.areas[i], s.gens[i] = area, gen
	s.reqs[i].Store(r)
	if !oneway && s.h.cancel(i).Load() == uint32(h.ReqID) || e.closed.Load() {
		r.Cancel(e.conn, h.ReqID)
	}
	e.conn.Progress()
	return r
}

// serve serves the request in a slot. It reports whether we still lead.
func (s *server) serve(i int) bool {
	r := s.request(i)
	if r == nil {
		return true // the connection has ended
	}
	if r.Header.Flags&wire.FlagOneway != 0 { // served in order, and nobody waits
		gen := s.gens[i]
		r.Run()
		s.e.cnt.Notes.Add(1)
		s.reqs[i].Store(nil)
		s.h.slot(i).Store(gen<<genShift | complete)
		return true
	}
	s.busy.Add(1)
	if r.Header.Op.Class() == wire.ClassSpin {
		r.Run()
		s.busy.Add(-1)
		return true
	}
	more := s.h.entry(s.head)
	st := s.h.word(offState)
	s.lead.Store(lent)
	st.Store(lent)
	if more.Load() != 0 {
		s.promote()
	}
	r.Run()
	s.busy.Add(-1)
	if s.lead.CompareAndSwap(lent, awake) {
		st.Store(awake)
		return true
	}
	s.count.Add(-1)
	return false
}

// promote starts another leader if the lead is lent.
func (s *server) promote() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || int(s.count.Load()) >= s.e.opt.Workers || !s.lead.CompareAndSwap(lent, awake) {
		return
	}
	s.h.word(offState).Store(awake)
	s.count.Add(1)
	s.wg.Add(1)
	go s.run()
}

// rung is what the watcher does when the bell has rung.
func (s *server) rung() {
	s.woken()
	if s.lead.CompareAndSwap(away, awake) {
		s.wake <- struct{}{}
		return
	}
	s.rings.Add(1)
	s.promote()
}

// woken counts a wake-up, which a request should follow.
func (s *server) woken() {
	if s.vain.Add(1) == maxVain {
		s.e.lie("it rings and asks nothing")
	}
}

// maxWait is how long a server that nothing is asked of keeps its thread.
const maxWait = 10 * time.Millisecond

// sleep waits for a request; false at the connection's end.
func (s *server) sleep() bool {
	st, more := s.h.word(offState), s.h.entry(s.head)
	if sleepingServers.take() {
		st.Store(asleep)
		if more.Load() == 0 {
			futexWait(st, asleep, maxWait)
		}
		sleepingServers.put()
		was := st.Swap(awake)
		if more.Load() != 0 {
			return true
		}
		if was != asleep {
			s.woken()
			return true
		}
		if s.e.closed.Load() {
			return false
		}
	}
	s.lead.Store(away)
	st.Store(away)
	if more.Load() != 0 && s.lead.CompareAndSwap(away, awake) {
		st.Store(awake)
		return true
	}
	select {
	case <-s.wake:
	case <-s.e.conn.Done():
		return false
	}
	st.Store(awake)
	return true
}

// Cancel ends the context of the peer's request id.
func (e *End) Cancel(id abi.ReqID) {
	if id == 0 {
		return
	}
	for i := range e.srv.reqs {
		if r := e.srv.reqs[i].Load(); r != nil {
			r.Cancel(e.conn, id)
		}
	}
}

// Room is the place of the reply's payload, unless the request's is there.
func (s *server) Room(r *stream.Request, n int) []byte {
	if r.Header.PayloadLen > 0 {
		return nil
	}
	return s.areas[r.Slot][:n:n]
}

// Answer puts the reply into the slot and tells the caller.
func (s *server) Answer(r *stream.Request, h *wire.Header, args []byte, payload abi.Iov) {
	i := r.Slot
	select {
	case <-s.e.conn.Done(): // what the end made of it is nobody's business
		s.reqs[i].Store(nil)
		return
	default:
	}
	area, gen := s.areas[i], s.gens[i]
	h.Epoch = s.e.conn.Epoch()
	copy(s.h.args(i), args)
	if r.Header.PayloadLen > 0 && len(payload) > 1 { // it may be pieces of the request's
		whole := make([]byte, payload.Len())
		payload.CopyOut(whole)
		payload = abi.IovOf(whole)
	}
	n := 0
	for _, p := range payload {
		if len(p) > 0 && &p[0] != &area[n] {
			copy(area[n:], p)
		}
		n += len(p)
	}
	var b [wire.HeaderSize]byte
	h.Put(b[:])
	copy(s.h.header(i)[4:], b[4:])
	s.reqs[i].Store(nil)
	released()
	w := s.h.slot(i)
	old := w.Swap(gen<<genShift | complete)
	if old&waitSlot != 0 {
		s.e.cnt.Wakeups.Add(1)
		futexWake(w, 1)
	}
	if old&waitBell != 0 {
		s.e.cnt.Wakeups.Add(1)
		bell := s.h.word(offCBell)
		bell.Add(1)
		futexWake(bell, 1)
	}
}

// Bounds of this process, for all its rings: who spins takes the processor
// from others, who sleeps on a word takes a thread.
var (
	spinning        = limit{max: int32(min(runtime.NumCPU(), runtime.GOMAXPROCS(0)) / 2)}
	sleepingCalls   = limit{max: int32(max(4, runtime.NumCPU()))}
	sleepingServers = limit{max: int32(max(4, runtime.NumCPU()))}
)

// spare is how many processors (GOMAXPROCS) there are beside those that Go
// takes. A goroutine that sleeps on a word keeps its own until the runtime looks
// after it, which may be in 10 ms: with as many sleepers as processors, the one
// that somebody else has just woken would wait for that. More than one make calls
// inside calls still faster, but TCP slower.
const spare = 1

// spareProcessors makes it, unless the user has said how many there shall be.
var spareProcessors = sync.OnceFunc(func() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + spare)
	}
})

// limit counts what there may be at most max of.
type limit struct {
	n   atomic.Int32
	max int32
}

func (l *limit) take() bool {
	if l.n.Add(1) <= l.max {
		return true
	}
	l.n.Add(-1)
	return false
}

func (l *limit) put() { l.n.Add(-1) }

// maxSpin bounds spinning.
const maxSpin = 20 * time.Microsecond

// spinUntil spins until ok, as long as the peer, whose CPU is in peer, runs on
// another CPU than we do; ours is published in mine. vain says that it has spun
// for nothing.
func spinUntil(ok func() bool, mine, peer *atomic.Uint32, stop *atomic.Bool) (done, vain bool) {
	me := myCPU()
	if me != mine.Load() {
		mine.Store(me)
	}
	if me != noCPU && me == peer.Load() || !spinning.take() {
		return ok(), false
	}
	defer spinning.put()
	var begin time.Time
	for n := 0; ; n++ {
		for range 32 {
			if ok() {
				return true, false
			}
			pause(1)
		}
		if n == 0 { // most waits end before
			begin = time.Now()
			continue
		}
		if time.Since(begin) > maxSpin || stop.Load() {
			return ok(), true
		}
		if n%4 == 0 {
			runtime.Gosched()
			if me = myCPU(); me != noCPU && me == peer.Load() {
				return ok(), false
			}
		}
	}
}

// spin waits for a request for a short time.
func (s *server) spin() bool {
	more := s.h.entry(s.head)
	ok, _ := spinUntil(func() bool { return more.Load() != 0 }, s.h.word(offSCPU), s.h.word(offCCPU), &s.e.closed)
	return ok
}

// lazy is after how many spins in vain in a row a class spins only now and
// then.
const lazy = 8

// spin waits for a reply for a short time.
func (e *End) spin(w *atomic.Uint32, done uint32, class wire.Class) bool {
	missed := &e.missed[class&3]
	if n := missed.Load(); n >= lazy && n%16 != 0 {
		missed.Add(1)
		return w.Load() == done
	}
	ok, vain := spinUntil(func() bool { return w.Load() == done }, e.out.word(offCCPU), e.out.word(offSCPU), &e.closed)
	switch {
	case vain && !ok:
		missed.Add(1)
	case ok && missed.Load() != 0:
		missed.Store(0)
	}
	return ok
}
