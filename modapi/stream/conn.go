package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// Conn is one end of a framed stream.
type Conn struct {
	nc     net.Conn
	h      Handler
	opt    Options
	epoch  atomic.Uint32
	frames atomic.Uint64 // received so far: progress
	watch  atomic.Bool   // Options.Busy has been told
	slots  chan struct{} // one element a call in flight
	done   chan struct{} // closed by fail
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup
	fast   atomic.Pointer[Fast]
	nextID atomic.Uint64
	ended  atomic.Bool // err is set

	wlock   chan struct{} // holds an element while somebody writes
	wbuf    []byte        // under wlock, as the rest of this group
	wvecs   [][]byte
	wv      net.Buffers
	wlimit  time.Time   // the write deadline set on nc
	wbroken atomic.Bool // the peer does not take any more

	mu   sync.Mutex
	err  error // set by fail
	lost Inflight

	elsewhere map[abi.ReqID]wire.Op // calls by other ways
	pending   map[abi.ReqID]*Call
	serving   map[abi.ReqID]*reqCtx
	workers   int
	idle      int
	queue     []*Request
	work      chan *Request
	room      *sync.Cond // serving got shorter, or the connection failed
}

// New starts a connection over nc, which it owns from now on. h serves the
// peer's requests; nil refuses them with ENOSYS.
func New(nc net.Conn, h Handler, opt Options) *Conn {
	opt.defaults()
	if h == nil {
		h = HandlerFunc(func(_ context.Context, r *Request) { r.Reply(abi.ENOSYS, nil, nil) })
	}
	c := &Conn{
		nc: nc, h: h, opt: opt,
		slots:   make(chan struct{}, opt.MaxCalls),
		done:    make(chan struct{}),
		wlock:   make(chan struct{}, 1),
		pending: make(map[abi.ReqID]*Call),
		serving: make(map[abi.ReqID]*reqCtx),
		work:    make(chan *Request, opt.Workers),
	}
	c.room = sync.NewCond(&c.mu)
	c.epoch.Store(uint32(opt.Epoch))
	base := opt.Base
	if base == nil {
		base = context.Background()
	}
	c.ctx, c.stop = context.WithCancel(base)
	c.wg.Add(1)
	go c.read()
	return c
}

// SetEpoch tells the epoch to a Conn that was made without one.
func (c *Conn) SetEpoch(e abi.Epoch) { c.epoch.CompareAndSwap(0, uint32(e)) }

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is why the connection ended, nil while it lives: io.EOF if the peer went
// away, net.ErrClosed after Close, *Lie, *Hang, or another error of the socket.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Context ends with the connection.
func (c *Conn) Context() context.Context { return c.ctx }

// Frames is how many frames came in so far but for log lines and counts, which
// say nothing about calls: the peer's progress.
func (c *Conn) Frames() uint64 { return c.frames.Load() }

// Close ends the connection at once. It does not wait; see Wait.
func (c *Conn) Close() error {
	c.fail(net.ErrClosed)
	return nil
}

// Fail ends the connection for a reason that the user of the connection found:
// a *Lie in what a message says.
func (c *Conn) Fail(err error) { c.fail(err) }

// Wait returns when the connection has ended and its goroutines with it, that
// is when no handler runs any more.
func (c *Conn) Wait() {
	<-c.done
	c.wg.Wait()
	if f := c.Fast(); f != nil {
		f.Wait()
	}
}

func (c *Conn) fail(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	c.ended.Store(true)
	pending := c.pending
	c.lost = c.inflightLocked(^abi.ReqID(0))
	c.pending = nil
	serving := c.serving
	c.serving = nil
	c.queue = nil
	c.room.Broadcast()
	c.mu.Unlock()
	close(c.done)
	c.nc.Close()
	c.stop()
	for _, x := range serving {
		x.cancel()
	}
	dead := &Dead{Cause: err}
	for _, k := range pending {
		if !k.abandoned {
			k.complete(dead)
		} else if k.timer != nil {
			k.timer.Stop()
		}
	}
}

// spawn starts a goroutine that Wait waits for. False once c has failed.
func (c *Conn) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false
	}
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		f()
	}()
	return true
}

// Call sends a request and waits for its reply. The error is nil, an abi.Errno
// or *Refusal from the peer, EINTR or ETIMEDOUT if the caller gave up, E2BIG
// for a request that fits no frame, or a *Dead.
func (c *Conn) Call(ctx context.Context, k *Call) error {
	limit, err := c.prepare(ctx, k)
	if err != nil {
		return err
	}
	if f := c.fast.Load(); f != nil {
		if done, err := (*f).Call(ctx, k, limit); done {
			return err
		}
	}
	if sent, err := c.submit(ctx, k, limit, true); !sent {
		return err
	}
	return c.receive(ctx, k)
}

// prepare completes the header of a call but for its identifier, and answers
// its time limit.
func (c *Conn) prepare(ctx context.Context, k *Call) (limit time.Duration, err error) {
	h := &k.Header
	k.dstLen = k.Dst.Len()
	pay := k.Payload.Len()
	if len(k.Args) > wire.MaxArgs || pay > wire.MaxPayload || k.dstLen > wire.MaxPayload {
		return 0, fmt.Errorf("%s: %w", h.Op, abi.E2BIG)
	}
	if ctx.Err() != nil {
		return 0, gaveUp(ctx)
	}
	h.Flags, h.Class = 0, h.Op.Class()
	if h.Op.Keeps() {
		h.Flags = wire.FlagMutator
	}
	h.ArgsLen, h.PayloadLen, h.ReplyLen = uint32(len(k.Args)), uint32(pay), uint32(k.dstLen)
	if limit = k.Timeout; limit == 0 {
		limit = c.opt.Deadline(h.Class)
	}
	return limit, nil
}

// errNoRoom: a call that must not wait for a place among those in flight.
var errNoRoom = errors.New("no room")

// submit sends a prepared call by the stream. If it is sent, receive is to
// follow; else err is its result. Without wait, errNoRoom if as many calls as
// may be are in flight.
func (c *Conn) submit(ctx context.Context, k *Call, limit time.Duration, wait bool) (sent bool, err error) {
	h := &k.Header
	k.limit, k.expired = limit, nil
	if limit > 0 {
		k.timer.Reset(limit)
		k.expired = k.timer.C
		defer func() {
			if !sent {
				k.timer.Stop()
			}
		}()
	}
	k.seen = c.frames.Load()

	select {
	case c.slots <- struct{}{}:
	default:
		if !wait {
			return false, errNoRoom
		}
		select {
		case c.slots <- struct{}{}:
		case <-c.done:
			return false, &Dead{Cause: c.Err()}
		case <-ctx.Done():
			return false, gaveUp(ctx)
		case <-k.expired:
			if c.stuck(k.seen) {
				c.fail(&Hang{What: fmt.Sprintf("%d calls in flight and no answer for %v", c.opt.MaxCalls, limit)})
			}
			return false, abi.ETIMEDOUT
		}
	}

	c.mu.Lock()
	if c.err != nil {
		err := c.err
		c.mu.Unlock()
		<-c.slots
		return false, &Dead{Cause: err}
	}
	h.ReqID = c.NextID()
	c.pending[h.ReqID] = k
	c.mu.Unlock()
	c.busy()

	out, err := c.writeCall(ctx, k, limit, h.Op.Keeps() || k.Wait, k.expired)
	if !out {
		if !c.unpend(h.ReqID) { // the connection failed meanwhile
			<-k.done
			err = k.err
		}
		<-c.slots
		return false, err
	}
	if err != nil { // sent in part; a goroutine finishes
		return false, c.abandon(k, err)
	}
	return true, nil
}

// receive waits for the reply of a call that submit has sent.
func (c *Conn) receive(ctx context.Context, k *Call) error {
	if k.limit > 0 {
		defer k.timer.Stop()
	}
	return c.await(ctx, k, k.limit, k.Header.Op.Keeps(), k.expired, k.seen)
}

// unpend takes a call out of the table before it was sent.
func (c *Conn) unpend(id abi.ReqID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.pending[id]; !ok {
		return false
	}
	delete(c.pending, id)
	return true
}

// patience is how many deadlines a keeping call waits while the peer answers
// others but not this one.
const patience = 4

// await waits for the reply of a call that has been sent.
func (c *Conn) await(ctx context.Context, k *Call, limit time.Duration, keep bool, expired <-chan time.Time, seen uint64) error {
	gone := ctx.Done()
	if keep {
		gone = nil
	}
	for round := 1; ; round++ {
		select {
		case <-k.done:
			c.vacate(k)
			return k.err
		case <-gone:
			if !k.Wait {
				return c.abandon(k, gaveUp(ctx))
			}
			gone = nil
			c.cancelPeer(k.Header.ReqID)
			k.timer.Reset(c.opt.WriteTimeout)
			defer k.timer.Stop()
			expired = k.timer.C
		case <-expired:
			stuck := c.stuck(seen) && !(round < patience && c.excused())
			if !keep && !(stuck && k.Timeout == 0) {
				if ctx.Err() != nil {
					return c.abandon(k, gaveUp(ctx))
				}
				return c.abandon(k, abi.ETIMEDOUT)
			}
			if stuck || round >= patience {
				c.fail(&Hang{What: fmt.Sprintf("no answer to %s for %v", k.Header.Op, limit*time.Duration(round))})
				expired = nil
				continue // fail has completed the call
			}
			seen = c.frames.Load()
			k.timer.Reset(limit)
		}
	}
}

// vacate gives the place of a call among those in flight back.
func (c *Conn) vacate(k *Call) {
	if !k.fast {
		<-c.slots
	}
}

// stuck reports whether the peer has made no progress since it had sent seen
// frames: it said nothing, and it does not wait for us either.
func (c *Conn) stuck(seen uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.Fast(); f != nil && f.Serving() > 0 {
		return false
	}
	return c.frames.Load() == seen && len(c.serving) == 0
}

// abandon leaves a call whose reply nobody waits for. If the reply is being
// read at this moment it counts.
func (c *Conn) abandon(k *Call, err error) error {
	c.mu.Lock()
	id := k.Header.ReqID
	if c.pending[id] != k {
		c.mu.Unlock()
		<-k.done
		c.vacate(k)
		return k.err
	}
	// The tombstone keeps the slot until the late reply.
	tomb := &Call{Header: k.Header, abandoned: true, fast: k.fast, dstLen: k.dstLen}
	c.pending[id] = tomb
	if k.Timeout == 0 {
		// The caller has gone, the peer's time runs on.
		limit, seen := c.opt.Deadline(k.Header.Class), c.frames.Load()
		tomb.timer = time.AfterFunc(limit, func() { c.overdue(id, tomb, limit, seen, 1) })
	}
	c.mu.Unlock()
	c.cancelPeer(id)
	return err
}

// overdue is the end of an abandoned call's time.
func (c *Conn) overdue(id abi.ReqID, tomb *Call, limit time.Duration, seen uint64, round int) {
	c.mu.Lock()
	open := c.pending[id] == tomb
	c.mu.Unlock()
	if !open || !c.stuck(seen) {
		return
	}
	if round < patience && c.excused() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.pending[id] == tomb {
			tomb.timer = time.AfterFunc(limit, func() { c.overdue(id, tomb, limit, seen, round+1) })
		}
		return
	}
	c.fail(&Hang{What: fmt.Sprintf("no answer to %s for %v", tomb.Header.Op, limit)})
}

// cancelPeer tells the peer that nobody waits for its answer to id.
func (c *Conn) cancelPeer(id abi.ReqID) {
	if f := c.Fast(); f != nil {
		f.GivenUp(id)
	}
	c.spawn(func() {
		h := wire.Header{Op: wire.OpCancel, Flags: wire.FlagOneway, Object: uint64(id)}
		c.send(&h, nil, nil)
	})
}

// Send sends a one-way frame and returns when it is written: after
// Options.WriteTimeout at the latest, with a *Dead.
func (c *Conn) Send(op wire.Op, object uint64, args []byte, payload abi.Iov) error {
	n := payload.Len()
	if len(args) > wire.MaxArgs || n > wire.MaxPayload {
		return fmt.Errorf("%s: %w", op, abi.E2BIG)
	}
	h := wire.Header{Op: op, Flags: wire.FlagOneway, Object: object, Class: op.Class(),
		ArgsLen: uint32(len(args)), PayloadLen: uint32(n)}
	return c.send(&h, args, payload)
}

// send writes a frame that waits for nothing but the socket.
func (c *Conn) send(h *wire.Header, args []byte, payload abi.Iov) error {
	select {
	case c.wlock <- struct{}{}:
	case <-c.done:
		return &Dead{Cause: c.Err()}
	}
	n, err := c.writeLocked(h, args, payload, time.Now().Add(c.opt.WriteTimeout))
	<-c.wlock
	if err != nil {
		return c.writeFailed(n, err)
	}
	return nil
}

func (c *Conn) writeReply(h *wire.Header, args []byte, payload abi.Iov) {
	c.send(h, args, payload)
}

// writeFailed says what a failed write means for the connection.
func (c *Conn) writeFailed(n int64, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = &Hang{What: fmt.Sprintf("it does not read (%d bytes of a frame written)", n)}
		c.fail(err)
		return &Dead{Cause: err}
	}
	// The peer takes nothing any more, but what it said before still counts:
	// the reader goes on to the end of it.
	c.wbroken.Store(true)
	c.nc.SetReadDeadline(time.Now().Add(time.Second))
	return &Dead{Cause: io.EOF}
}

// writeCall writes the frame of a call. sent says whether the peer may have
// seen any of it; with an error it will see all of it, but nobody waits.
func (c *Conn) writeCall(ctx context.Context, k *Call, limit time.Duration, keep bool, expired <-chan time.Time) (sent bool, err error) {
	select {
	case c.wlock <- struct{}{}:
	default:
		select {
		case c.wlock <- struct{}{}:
		case <-c.done:
			return false, &Dead{Cause: c.Err()}
		case <-ctx.Done():
			return false, gaveUp(ctx)
		case <-expired:
			return false, abi.ETIMEDOUT
		}
	}
	if limit <= 0 {
		limit = c.opt.WriteTimeout
	}
	deadline := time.Now().Add(limit)
	short := false
	if d, ok := ctx.Deadline(); ok && !keep && d.Before(deadline) {
		deadline, short = d, true
	}
	n, err := c.writeLocked(&k.Header, k.Args, k.Payload, deadline)
	if err == nil {
		<-c.wlock
		return true, nil
	}
	if !short || !errors.Is(err, os.ErrDeadlineExceeded) {
		<-c.wlock
		return false, c.writeFailed(n, err)
	}
	if n == 0 {
		<-c.wlock
		return false, abi.ETIMEDOUT
	}
	// Part of the frame is out. The rest is copied, as the buffers are the
	// caller's, and written by a goroutine that keeps wlock.
	var rest []byte
	for _, p := range c.wv {
		rest = append(rest, p...)
	}
	ok := c.spawn(func() {
		c.limit(time.Now().Add(c.opt.WriteTimeout))
		_, err := c.nc.Write(rest)
		<-c.wlock
		if err != nil {
			c.writeFailed(n, err)
		}
	})
	if !ok {
		<-c.wlock
	}
	return true, abi.ETIMEDOUT
}

// limit sets the write deadline, seldom: an earlier one that is still more
// than half the time away stays. Preconditions: wlock is held.
func (c *Conn) limit(deadline time.Time) {
	now := time.Now()
	if !c.wlimit.IsZero() && !c.wlimit.After(deadline) && c.wlimit.Sub(now) > deadline.Sub(now)/2 {
		return
	}
	c.wlimit = deadline
	c.nc.SetWriteDeadline(deadline)
}

// copyLimit is up to how many bytes a frame is copied into one buffer rather
// than written as a vector.
const copyLimit = 16 << 10

// writeLocked writes a frame; n is how much of it went out. After an error the
// rest is in c.wv. Preconditions: wlock is held.
func (c *Conn) writeLocked(h *wire.Header, args []byte, payload abi.Iov, deadline time.Time) (n int64, err error) {
	h.Epoch = abi.Epoch(c.epoch.Load())
	if cap(c.wbuf) < wire.HeaderSize {
		c.wbuf = make([]byte, wire.HeaderSize, 1024)
	}
	b := c.wbuf[:wire.HeaderSize]
	h.Put(b)
	b = append(b, args...)
	c.limit(deadline)
	if payload == nil || len(b)+int(h.PayloadLen) <= copyLimit {
		for _, p := range payload {
			b = append(b, p...)
		}
		c.wbuf = b
		m, err := c.nc.Write(b)
		if err != nil {
			c.wvecs = append(c.wvecs[:0], b[m:])
			c.wv = c.wvecs
		}
		return int64(m), err
	}
	c.wbuf = b
	c.wvecs = append(append(c.wvecs[:0], b), payload...)
	c.wv = c.wvecs
	n, err = c.wv.WriteTo(c.nc)
	if err == nil {
		clear(c.wvecs[1:]) // hold on to nobody's buffers
	}
	return n, err
}
