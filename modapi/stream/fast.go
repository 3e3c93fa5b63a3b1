package stream

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// Fast is a faster way for calls beside the stream: package ring. The stream
// keeps what the fast way does not take, cancellation, the one-way frames of
// Conn.Send, and the news of the peer's death; identifiers of requests,
// deadlines, progress and the end are common to both.
type Fast interface {
	// Call tries to do a call whose header is complete but for ReqID and
	// offsets. False: it must go by the stream. Its errors are those of
	// Conn.Call.
	Call(ctx context.Context, k *Call, limit time.Duration) (bool, error)
	// Start, Bell and Finish are the parts of Call, for several at once: Start
	// publishes a call but tells nobody (false: it has no room), Bell tells
	// the peer of what was started, Finish waits for one.
	Start(k *Call) bool
	Bell()
	Finish(ctx context.Context, k *Call, limit time.Duration) error
	// Batched is told that so many calls went with one Bell.
	Batched(n int)
	// Send tries to do a one-way frame whose header is complete but for
	// offsets, without waiting. False: it has not been sent.
	Send(h *wire.Header, args []byte, payload abi.Iov) bool
	// GivenUp is told that nobody waits for the own call id any more.
	GivenUp(id abi.ReqID)
	// Cancel is told that the peer has given up its request id.
	Cancel(id abi.ReqID)
	// Serving is how many requests of the peer are being served.
	Serving() int
	// Unread reports whether the peer has said something that has not been
	// looked at yet.
	Unread() bool
	// Wait returns after the connection's end, when nothing of it is left.
	Wait()
}

// SetFast puts f into use. It is called once at most, and from then on Wait
// waits for f as well.
func (c *Conn) SetFast(f Fast) { c.fast.Store(&f) }

// Fast is what SetFast was given, or nil.
func (c *Conn) Fast() Fast {
	if f := c.fast.Load(); f != nil {
		return *f
	}
	return nil
}

// Epoch is the epoch of the connection, 0 while it is not known.
func (c *Conn) Epoch() abi.Epoch { return abi.Epoch(c.epoch.Load()) }

// NextID makes the identifier of a request.
func (c *Conn) NextID() abi.ReqID { return abi.ReqID(c.nextID.Add(1)) }

// Progress notes that the peer has done something.
func (c *Conn) Progress() { c.frames.Add(1) }

// TrySend sends a one-way frame by the fast way, if there is one and it has
// room. It never waits. Such frames keep their order among themselves, but not
// with those of Send or with replies.
func (c *Conn) TrySend(op wire.Op, object uint64, args []byte, payload abi.Iov) bool {
	f := c.fast.Load()
	if f == nil {
		return false
	}
	h := wire.Header{Op: op, Flags: wire.FlagOneway, Object: object, Class: op.Class(),
		ArgsLen: uint32(len(args)), PayloadLen: uint32(payload.Len())}
	return h.ArgsLen <= wire.MaxArgs && (*f).Send(&h, args, payload)
}

// Ended reports whether the connection has ended: then nothing is to be sent by
// the fast way any more, as nothing is by the stream. Whoever has a *Dead of the
// connection sees true.
func (c *Conn) Ended() bool { return c.ended.Load() }

// Dead is the error of calls after the connection's end.
func (c *Conn) Dead() error { return &Dead{Cause: c.Err()} }

// Park waits for a call that went by the fast way, until Complete. enter runs
// when Complete can find the call. The errors are those of Conn.Call, but nil
// says only that the call is complete; after EINTR or ETIMEDOUT its completion
// is still to come. Preconditions: ReqID is set.
func (c *Conn) Park(ctx context.Context, k *Call, limit time.Duration, enter func()) error {
	k.fast = true
	k.dstLen = k.Dst.Len()
	seen := c.frames.Load()
	c.mu.Lock()
	if c.err != nil {
		err := c.err
		c.mu.Unlock()
		return &Dead{Cause: err}
	}
	c.pending[k.Header.ReqID] = k
	c.mu.Unlock()
	var expired <-chan time.Time
	if limit > 0 {
		k.timer.Reset(limit)
		defer k.timer.Stop()
		expired = k.timer.C
	}
	enter()
	c.busy()
	return c.await(ctx, k, limit, k.Header.Op.Keeps(), expired, seen)
}

// Complete ends the parked call id. waited is false if its caller has given
// up, ok if there is no such call.
func (c *Conn) Complete(id abi.ReqID) (waited, ok bool) {
	c.mu.Lock()
	k := c.pending[id]
	if k == nil || !k.fast {
		c.mu.Unlock()
		return false, false
	}
	delete(c.pending, id)
	c.mu.Unlock()
	if k.abandoned {
		if k.timer != nil {
			k.timer.Stop()
		}
		return false, true
	}
	k.complete(nil)
	return true, true
}

// Accept takes a reply over that lies in memory of the peer: arguments and
// payload are copied. The error is the reply's, or a *Lie if it does not fit
// the call; h is the caller's own copy.
func (k *Call) Accept(h *wire.Header, args, payload []byte) error {
	if h.Flags&wire.FlagReply == 0 || h.Op != k.Header.Op || h.Object != k.Header.Object ||
		h.ReqID != k.Header.ReqID || uint32(len(payload)) > k.Header.ReplyLen {
		return &Lie{What: fmt.Sprintf("reply to %s %d for %s %d with %d bytes of payload, at most %d asked",
			h.Op, h.ReqID, k.Header.Op, k.Header.ReqID, len(payload), k.Header.ReplyLen)}
	}
	if cap(k.rbuf) < len(args) {
		k.rbuf = make([]byte, len(args), max(256, len(args)))
	}
	k.rbuf = k.rbuf[:len(args)]
	copy(k.rbuf, args)
	k.Reply, k.N = k.rbuf, k.Dst.CopyIn(payload)
	switch {
	case h.Errno == 0:
		return nil
	case len(args) == 0:
		return abi.Errno(h.Errno)
	}
	return &Refusal{Errno: abi.Errno(h.Errno), Text: wire.ParseErrText(k.rbuf)}
}

// Sink takes the reply of a request that did not come by the stream.
type Sink interface {
	// Answer takes the reply; h is complete.
	Answer(r *Request, h *wire.Header, args []byte, payload abi.Iov)
	// Room is memory of the reply's payload, n bytes long, or nil.
	Room(r *Request, n int) []byte
}

// requests are those that were taken and have run.
var requests = sync.Pool{New: func() any { return new(Request) }}

// keepArgs is the largest buffer for arguments that a pooled Request keeps.
const keepArgs = 1 << 10

// Take makes a request that came by another way. args are copied. Payload is
// memory that the peer may change at any time; Own copies it. slot is for the
// sink's use.
func (c *Conn) Take(h *wire.Header, args, payload []byte, sink Sink, slot int) *Request {
	r := requests.Get().(*Request)
	r.Header, r.Payload, r.Slot = *h, payload, slot
	r.Args = nil
	if len(args) > 0 {
		r.abuf = append(r.abuf[:0], args...)
		r.Args = r.abuf
	}
	r.c, r.sink, r.shared = c, sink, len(payload) > 0
	r.own.renew(c.ctx, h.ReqID)
	r.ctx = &r.own
	return r
}

// Run has the request served, and makes sure that it is answered. It is over
// then, and must not be used any more.
func (r *Request) Run() {
	r.c.h.Serve(r.ctx, r)
	if !r.replied.Load() {
		r.Reply(abi.EIO, nil, nil)
	}
	r.ctx.cancel()
	r.free()
	if r.own.isUsed() {
		return // somebody may hold on to the context
	}
	if !r.returned || cap(r.abuf) > keepArgs {
		r.abuf = nil
	}
	r.Args, r.Payload, r.sink, r.c = nil, nil, nil, nil
	r.returned, r.shared = false, false
	r.replied.Store(false)
	requests.Put(r)
}

// Cancel ends the context of the request if it is c's id; it may be over and
// be another one's by now.
func (r *Request) Cancel(c *Conn, id abi.ReqID) { r.own.cancelIf(c.ctx, id) }

// CancelAll is Cancel for whatever request of c it is.
func (r *Request) CancelAll(c *Conn) { r.own.cancelIf(c.ctx, 0) }

// Own makes Payload memory that the peer cannot change, for a handler that
// reads it more than once.
func (r *Request) Own() {
	if !r.shared {
		return
	}
	r.buf = GetBuf(len(r.Payload))
	copy(*r.buf, r.Payload)
	r.Payload, r.shared = *r.buf, false
}

// Room is memory for the payload of the reply, n bytes long, at most what the
// peer asked for: where there is shared memory, its own place, so that Reply
// need not copy. The peer may see and change it at any time. nil: there is
// none, take a buffer.
func (r *Request) Room(n int) []byte {
	if r.sink == nil || n <= 0 || n > int(r.Header.ReplyLen) {
		return nil
	}
	return r.sink.Room(r, n)
}
