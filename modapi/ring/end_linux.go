package ring

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// States of a slot, the low bits of its word. The rest is its generation.
const (
	free      = 0
	submitted = 1
	taken     = 2
	complete  = 3
	stateMask = 3
	waitSlot  = 4 // the caller sleeps on the word
	waitBell  = 8 // the caller is parked: count offCBell up
	waitMask  = waitSlot | waitBell
	genShift  = 8
)

// End is one end of a ring: it calls, serves, or both, beside a stream. It
// implements stream.Fast and is used through its stream.Conn only.
type End struct {
	conn  *stream.Conn
	opt   Options
	m     *Mem
	calls bool
	out   half // own calls
	cnt   *Counters

	// Users of the memory: calls and requests; below 0 when it is being left.
	users   atomic.Int64
	idle    chan struct{} // closed when it is left and nobody uses it
	gone    chan struct{} // closed when nothing is left
	closed  atomic.Bool
	lastOut sync.Once

	// The calling side.
	tail   atomic.Uint32
	frees  [slots / 64]atomic.Uint64 // free slots
	big    atomic.Uint32             // free extents
	parked [slots / 64]atomic.Uint64 // slots whose caller is parked
	mine   [slots]call

	noteMu sync.Mutex
	notes  [maxNotes]note   // one-way frames in the ring; protected by noteMu
	nnotes int              // how many; protected by noteMu
	missed [4]atomic.Uint32 // spins in vain in a row, by class
	nap    time.Duration    // how long a call holds a thread: maxSleep

	srv    server
	wa     *watcher  // protected by watchers.mu
	serves bool      // set by watch
	seen   [2]uint32 // values of the bells; the watcher's
	again  bool      // look after parked callers; the watcher's

	suspect [slots / 64]uint64 // complete without a bell the last time; the watcher's
}

// call is what a caller keeps of its slot.
type call struct {
	gen atomic.Uint32
	big int8 // extent, or -1
	id  atomic.Uint64
}

// Attach puts memory to use beside a connection. m belongs to the End, which
// ends with the connection. Calls of c go by the ring from then on where they
// can.
func Attach(c *stream.Conn, m *Mem, opt Options) (*End, error) {
	spareProcessors()
	if opt.Workers <= 0 {
		opt.Workers = slots + 1 // nothing in the ring waits for those before it
	}
	e := &End{conn: c, opt: opt, m: m, idle: make(chan struct{}), gone: make(chan struct{}), cnt: opt.Counters, nap: maxSleep}
	if opt.nap > 0 {
		e.nap = opt.nap
	}
	if e.cnt == nil {
		e.cnt = discard
	}
	first, second := half{m, page}, half{m, page + halfSize}
	e.out, e.srv.h = first, second
	if opt.Second {
		e.out, e.srv.h = second, first
	}
	e.calls = !opt.Second || m.halves == 2
	serves := opt.Serve && (opt.Second || m.halves == 2)
	if e.calls {
		for i := range e.frees {
			e.frees[i].Store(^uint64(0))
		}
		e.big.Store(1<<extents - 1)
	}
	if !watch(e, serves) {
		m.Unmap()
		return nil, fmt.Errorf("ring: no futex_waitv: %w", abi.EOPNOTSUPP)
	}
	c.SetFast(e)
	if serves {
		e.srv.start(e)
	}
	go e.end()
	return e, nil
}

// end waits for the end of the connection and leaves the memory when nobody
// uses it.
func (e *End) end() {
	<-e.conn.Done()
	e.closed.Store(true)
	for i := range e.srv.reqs {
		if r := e.srv.reqs[i].Load(); r != nil {
			r.CancelAll(e.conn)
		}
	}
	e.srv.mu.Lock()
	e.srv.ended = true
	e.srv.mu.Unlock()
	if e.serves {
		st := e.srv.h.word(offState) // it may sleep, for maxWait at most
		st.Store(awake)
		futexWake(st, 1)
	}
	e.srv.wg.Wait()
	if e.users.Add(-left) == -left {
		e.lastOut.Do(func() { close(e.idle) })
	}
	<-e.idle
	unwatch(e)
	e.m.Unmap()
	close(e.gone)
}

// left in users says that the memory is being left.
const left = 1 << 40

// enter begins a use of the memory, leave ends it.
func (e *End) enter() bool {
	if e.users.Add(1) > 0 {
		return true
	}
	e.leave()
	return false
}

func (e *End) leave() {
	if e.users.Add(-1) == -left {
		e.lastOut.Do(func() { close(e.idle) })
	}
}

// Wait returns when the connection has ended and nothing of the End is left.
func (e *End) Wait() { <-e.gone }

// Serving is how many requests of the peer are being served.
func (e *End) Serving() int { return int(e.srv.busy.Load()) }

// lie ends the connection.
func (e *End) lie(format string, args ...any) {
	e.cnt.Lies.Add(1)
	e.conn.Fail(&stream.Lie{What: "ring: " + fmt.Sprintf(format, args...)})
}

// alloc takes a free slot: any of the general ones, or one of the call's rank.
// Calls that keep leave some to others, however long they are stuck.
func (e *End) alloc(rank uint8, keep bool) int {
	n := general
	if keep {
		n -= spared
	}
	if i := take(e.frees[:], 0, n); i >= 0 {
		return i
	}
	if rank < ranks {
		lo := general + reserved*int(rank)
		return take(e.frees[:], lo, lo+reserved)
	}
	return -1
}

// take takes a bit of [lo, hi), the lowest one that is set; -1: none is.
func take(set []atomic.Uint64, lo, hi int) int {
	for w := lo / 64; w < len(set) && w*64 < hi; w++ {
		mask := ^uint64(0)
		if lo > w*64 {
			mask <<= lo - w*64
		}
		if hi < w*64+64 {
			mask &= 1<<(hi-w*64) - 1
		}
		for {
			v := set[w].Load()
			if v&mask == 0 {
				break
			}
			bit := v & mask & -(v & mask)
			if set[w].CompareAndSwap(v, v&^bit) {
				return w*64 + bits.TrailingZeros64(bit)
			}
		}
	}
	return -1
}

func put(set []atomic.Uint64, i int)  { set[i/64].Or(1 << (i % 64)) }
func drop(set []atomic.Uint64, i int) { set[i/64].And(^(1 << (i % 64))) }

// release gives a slot back.
func (e *End) release(i int) {
	c := &e.mine[i]
	c.id.Store(0)
	if c.big >= 0 {
		e.big.Or(1 << c.big)
	}
	put(e.frees[:], i)
}

// Call does a call by the ring, if it has room for it.
func (e *End) Call(ctx context.Context, k *stream.Call, limit time.Duration) (bool, error) {
	if !e.Start(k) {
		return false, nil
	}
	e.kick(false)
	return true, e.Finish(ctx, k, limit)
}

// Start publishes a call, if there is room for it. Finish is to follow.
func (e *End) Start(k *stream.Call) bool {
	h := &k.Header
	if !e.calls || h.Op.Family() == wire.FamLife || e.conn.Ended() || !e.enter() {
		return false
	}
	i := e.alloc(h.Rank, h.Flags&wire.FlagMutator != 0)
	if i < 0 {
		e.cnt.Full.Add(1)
		e.leave()
		return false
	}
	c := &e.mine[i]
	c.big = -1
	off := offInline + i*inlineSize
	if max(h.PayloadLen, h.ReplyLen) > inlineSize {
		x := e.extent()
		if x < 0 {
			e.release(i)
			e.cnt.Full.Add(1)
			e.leave()
			return false
		}
		c.big = int8(x)
		off = offArena + x*extentSize
	}
	h.ReqID = e.conn.NextID()
	e.fill(i, h, k.Args, k.Payload, off)
	// Only now: the slot still said that the one before was complete.
	c.id.Store(uint64(h.ReqID))
	e.publish(i)
	e.cnt.Calls.Add(1)
	k.Slot = i
	return true
}

// Bell wakes the server, if it sleeps, for what was started.
func (e *End) Bell() { e.kick(false) }

// Batched counts calls that went with one Bell.
func (e *End) Batched(int) { e.cnt.Batches.Add(1) }

// Finish waits for a call that was started.
func (e *End) Finish(ctx context.Context, k *stream.Call, limit time.Duration) error {
	defer e.leave()
	i, h := k.Slot, &k.Header
	c := &e.mine[i]
	w, gen := e.out.slot(i), c.gen.Load()
	off := offInline + i*inlineSize
	if c.big >= 0 {
		off = offArena + int(c.big)*extentSize
	}
	if e.await(ctx, w, gen, h.Class) {
		return e.finish(i, k, off)
	}
	err := e.conn.Park(ctx, k, limit, func() { e.arm(i, gen, w, h.ReqID) })
	var dead *stream.Dead
	switch ready := w.Load()&^waitMask == gen<<genShift|complete; {
	case err == nil && !ready:
		e.lie("slot %d was complete and is not", i)
		return e.conn.Dead()
	case err == nil, ready && errors.As(err, &dead): // what it said before it died counts
		drop(e.parked[:], i)
		return e.finish(i, k, off)
	}
	return err // the slot is freed when it is complete
}

// fill writes a request into its slot. It is not in the ring yet.
func (e *End) fill(i int, h *wire.Header, args []byte, payload abi.Iov, off int) (w *atomic.Uint32, gen uint32) {
	c := &e.mine[i]
	gen = (c.gen.Load() + 1) & 0xffffff
	c.gen.Store(gen)
	h.Epoch = e.conn.Epoch()
	h.ArgsOff, h.PayloadOff = uint32(offArgs+i*wire.MaxArgs), uint32(off)
	copy(e.out.args(i), args)
	if h.PayloadLen > 0 {
		payload.CopyOut(e.out.bytes(off, int(h.PayloadLen)))
	}
	var b [wire.HeaderSize]byte
	h.Put(b[:])
	copy(e.out.header(i)[4:], b[4:])
	e.out.cancel(i).Store(0)
	w = e.out.slot(i)
	w.Store(gen<<genShift | submitted)
	return w, gen
}

// maxNotes is how many one-way frames may be in the ring.
const maxNotes = 8

// Send does a one-way frame by the ring, if it has room for it. Its slot is
// freed by a later one.
func (e *End) Send(h *wire.Header, args []byte, payload abi.Iov) bool {
	if !e.calls || h.PayloadLen > inlineSize || e.conn.Ended() || !e.enter() {
		return false
	}
	defer e.leave()
	if !e.note(h, args, payload) {
		return false
	}
	e.kick(true) // nobody looks after it later
	e.cnt.Notes.Add(1)
	return true
}

// note is a one-way frame in the ring.
type note struct {
	slot int
	gen  uint32
}

// note publishes a one-way frame.
func (e *End) note(h *wire.Header, args []byte, payload abi.Iov) bool {
	e.noteMu.Lock()
	defer e.noteMu.Unlock()
	for j := 0; j < e.nnotes; j++ {
		if n := e.notes[j]; e.out.slot(n.slot).Load() == n.gen<<genShift|complete {
			e.release(n.slot)
			e.nnotes--
			e.notes[j] = e.notes[e.nnotes]
			j--
		}
	}
	if e.nnotes == maxNotes {
		return false
	}
	i := take(e.frees[:], 0, general)
	if i < 0 {
		return false
	}
	e.mine[i].big = -1
	_, gen := e.fill(i, h, args, payload, offInline+i*inlineSize)
	e.notes[e.nnotes] = note{i, gen}
	e.nnotes++
	e.publish(i)
	return true
}

// finish takes the reply over and frees the slot.
func (e *End) finish(i int, k *stream.Call, off int) error {
	acquired()
	var b [wire.HeaderSize]byte
	copy(b[:], e.out.header(i))
	h, _, _, err := parse(&b)
	switch {
	case err != nil:
		err = &stream.Lie{What: err.Error()}
	case h.Epoch != k.Header.Epoch:
		err = &stream.Lie{What: fmt.Sprintf("%s of epoch %d, not %d", h.Op, h.Epoch, k.Header.Epoch)}
	case h.PayloadLen > k.Header.ReplyLen:
		err = &stream.Lie{What: fmt.Sprintf("%d bytes of payload, at most %d asked", h.PayloadLen, k.Header.ReplyLen)}
	default:
		err = k.Accept(&h, e.out.args(i)[:h.ArgsLen], e.out.bytes(off, int(h.PayloadLen)))
	}
	if err != nil {
		if lie, ok := err.(*stream.Lie); ok {
			e.lie("%s", lie.What)
			return e.conn.Dead()
		}
	}
	e.conn.Progress()
	e.release(i)
	return err
}

// parse decodes a header that was copied out of a slot, and its offsets.
func parse(b *[wire.HeaderSize]byte) (h wire.Header, argsOff, payloadOff uint32, err error) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], wire.Magic)
	argsOff, payloadOff = le.Uint32(b[40:]), le.Uint32(b[48:])
	le.PutUint32(b[40:], 0)
	le.PutUint32(b[48:], 0)
	err = h.Parse(b[:])
	return h, argsOff, payloadOff, err
}

// extent takes a free extent, -1 if there is none.
func (e *End) extent() int {
	for {
		v := e.big.Load()
		if v == 0 {
			return -1
		}
		x := bits.TrailingZeros32(v)
		if e.big.CompareAndSwap(v, v&^(1<<x)) {
			return x
		}
	}
}

// publish puts a slot into the ring; kick is to follow.
func (e *End) publish(i int) {
	released()
	t := e.tail.Add(1) - 1
	e.out.entry(t).Store(uint32(i) + 1)
}

// kick wakes the server. late: also if it has been serving another request for
// so long that this one has not been taken.
func (e *End) kick(late bool) {
	st := e.out.word(offState)
	switch v := st.Load(); {
	case v == asleep:
		if st.CompareAndSwap(v, awake) {
			e.cnt.Wakeups.Add(1)
			futexWake(st, 1)
		}
	case v == away, v == lent && late:
		if st.CompareAndSwap(v, awake) {
			e.cnt.Wakeups.Add(1)
			bell := e.out.word(offBell)
			bell.Add(1)
			futexWake(bell, 1)
		}
	}
}

// maxSleep bounds how long a call holds a thread.
const maxSleep = 5 * time.Millisecond

// await waits for a call that will be complete soon: it spins, then sleeps on
// the slot. False: it is not, or this caller had better not wait so.
func (e *End) await(ctx context.Context, w *atomic.Uint32, gen uint32, class wire.Class) bool {
	done := gen<<genShift | complete
	if e.serves && e.srv.lead.Load() == lent {
		e.srv.promote() // the call is made inside a request, and may have others made of us
	}
	if class >= wire.ClassAdmin {
		return w.Load() == done
	}
	if e.spin(w, done, class) {
		return true
	}
	if w.Load() == gen<<genShift|submitted {
		e.kick(true)
	}
	if !sleepingCalls.take() {
		return w.Load() == done
	}
	defer sleepingCalls.put()
	for end := time.Now().Add(e.nap); ; {
		v := w.Load()
		if v == done {
			return true
		}
		if v&waitSlot == 0 {
			if !w.CompareAndSwap(v, v|waitSlot) {
				continue
			}
			v |= waitSlot
		}
		left := time.Until(end)
		if left <= 0 && v&stateMask == submitted {
			e.cnt.Late.Add(1)
		}
		if left <= 0 || e.closed.Load() || ctx.Err() != nil {
			return false
		}
		futexWait(w, v, left)
	}
}

// arm makes the watcher look at the slot. The call is parked already.
func (e *End) arm(i int, gen uint32, w *atomic.Uint32, id abi.ReqID) {
	e.cnt.Parked.Add(1)
	put(e.parked[:], i)
	for {
		v := w.Load()
		if v == gen<<genShift|complete {
			e.completed(i, id)
			return
		}
		if w.CompareAndSwap(v, v|waitBell) {
			break
		}
	}
	e.kick(true)
	e.wa.recheck()
}

// completed ends the parked call id, whose slot is i as long as it has not been
// ended. It reports whether it did that, not somebody else. A caller that waits
// takes its slot out of parked itself: from here on it may be another call's.
func (e *End) completed(i int, id abi.ReqID) bool {
	waited, ok := e.conn.Complete(id)
	if ok && !waited {
		e.conn.Progress()
		drop(e.parked[:], i)
		e.release(i)
	}
	return ok
}

// sweep ends the parked calls that are complete. again: nobody told us to look;
// then it ends only those that were complete the last time as well, because of
// the others we may be told this very moment, and reports whether there are any.
func (e *End) sweep(again bool) (suspects bool) {
	late := false
	old := e.suspect
	e.suspect = [slots / 64]uint64{}
	for j := range e.parked {
		for v := e.parked[j].Load(); v != 0; v &= v - 1 {
			i := j*64 + bits.TrailingZeros64(v)
			// The identifier comes first: if the slot gets another call
			// meanwhile, that one's completion is not taken for this one's.
			id := abi.ReqID(e.mine[i].id.Load())
			switch w := e.out.slot(i).Load(); w &^ waitMask {
			case e.mine[i].gen.Load()<<genShift | complete:
				if again && old[j]&(1<<(i%64)) == 0 {
					e.suspect[j] |= 1 << (i % 64)
					suspects = true
				} else if e.completed(i, id) && again {
					e.cnt.Rescued.Add(1)
				}
			case e.mine[i].gen.Load()<<genShift | submitted:
				late = true
			}
		}
	}
	if again && late {
		e.kick(true)
	}
	return suspects
}

// waiting reports whether calls are parked.
func (e *End) waiting() bool {
	for j := range e.parked {
		if e.parked[j].Load() != 0 {
			return true
		}
	}
	return false
}

// GivenUp tells the server that nobody waits for call id. The word has the
// identifier, so that a call that got the slot meanwhile does not take it for
// its own.
func (e *End) GivenUp(id abi.ReqID) {
	if !e.enter() {
		return
	}
	defer e.leave()
	for i := range e.mine {
		if e.mine[i].id.Load() == uint64(id) {
			e.out.cancel(i).Store(uint32(id))
			return
		}
	}
}
