package stream

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// Handler serves the peer's requests.
type Handler interface {
	// Serve answers req by req.Reply before it returns; else it is answered
	// EIO. ctx ends when the peer gives up or the connection ends. One-way
	// requests are served by the reader itself: no waiting, no reply.
	Serve(ctx context.Context, req *Request)
}

// HandlerFunc is a function that serves.
type HandlerFunc func(ctx context.Context, req *Request)

// Serve calls f.
func (f HandlerFunc) Serve(ctx context.Context, req *Request) { f(ctx, req) }

// Request is a request of the peer, valid until Serve returns. Args belongs to
// the handler for good, unless it returns them; Payload is reused afterwards.
type Request struct {
	Header  wire.Header
	Args    []byte
	Payload []byte
	Slot    int // of a Sink

	sink    Sink // where the reply goes; nil: the stream
	shared  bool // Payload is the peer's as well
	c       *Conn
	ctx     *reqCtx
	own     reqCtx  // what ctx is if there is a sink: one allocation less
	buf     *[]byte // Payload's, from the pool
	replied atomic.Bool
	reply   wire.Header // of Reply: one allocation less

	abuf     []byte // Args', of a request that was taken
	returned bool   // by the handler
}

// ReturnArgs promises that nothing of Args is used after Serve, so that the
// next request can have them.
func (r *Request) ReturnArgs() { r.returned = true }

// Reply answers the request; errno 0 is success, otherwise args may be a text
// (wire.ErrText) and there is no payload. A payload longer than the peer asked
// for is answered E2BIG instead. Only the first Reply counts. It returns when
// the reply is written or the connection has failed.
func (r *Request) Reply(errno abi.Errno, args []byte, payload abi.Iov) {
	if r.Header.Flags&wire.FlagOneway != 0 || !r.replied.CompareAndSwap(false, true) {
		return
	}
	n := payload.Len()
	switch {
	case errno < 0 || errno > 255:
		errno, args, payload, n = abi.EIO, nil, nil, 0
	case errno != 0:
		payload, n = nil, 0
	case n > int(r.Header.ReplyLen) || len(args) > wire.MaxArgs:
		errno, args, payload, n = abi.E2BIG, nil, nil, 0
	}
	r.reply = wire.Header{
		Op: r.Header.Op, Flags: wire.FlagReply, ReqID: r.Header.ReqID, Errno: int32(errno),
		OpSeq: r.Header.OpSeq, Object: r.Header.Object,
		ArgsLen: uint32(len(args)), PayloadLen: uint32(n), Class: r.Header.Class, Rank: r.Header.Rank,
	}
	if r.sink != nil {
		r.sink.Answer(r, &r.reply, args, payload)
		return
	}
	r.c.unserve(r.Header.ReqID)
	r.c.writeReply(&r.reply, args, payload)
}

// Context is the context that Serve gets.
func (r *Request) Context() context.Context { return r.ctx }

// Conn is the connection that the request came by.
func (r *Request) Conn() *Conn { return r.c }

// Drop gives the request up without an answer, for a handler whose process is
// about to end.
func (r *Request) Drop() { r.replied.Store(true) }

// reqCtx is the context of one request. It is cheaper than a derived context,
// which matters because every request has one.
type reqCtx struct {
	parent context.Context

	mu    sync.Mutex
	id    abi.ReqID // of a request that was taken
	done  chan struct{}
	err   error
	after map[*func()]struct{}
	used  bool // somebody has asked for its end, and may still
}

// renew makes x the context of another request.
func (x *reqCtx) renew(parent context.Context, id abi.ReqID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.parent, x.id, x.err = parent, id, nil
}

// isUsed reports whether x may still be somebody's.
func (x *reqCtx) isUsed() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.used
}

// cancelIf cancels x if it is that of request id of a connection; id 0: of any.
func (x *reqCtx) cancelIf(parent context.Context, id abi.ReqID) {
	x.mu.Lock()
	mine := x.parent == parent && (id == 0 || x.id == id)
	var after map[*func()]struct{}
	if mine {
		after = x.cancelLocked()
	}
	x.mu.Unlock()
	for f := range after {
		go (*f)()
	}
}

var closedChan = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

func (x *reqCtx) Deadline() (time.Time, bool) { return time.Time{}, false }
func (x *reqCtx) Value(key any) any           { return x.parent.Value(key) }

func (x *reqCtx) Err() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.err
}

func (x *reqCtx) Done() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.used = true
	if x.done == nil {
		if x.err != nil {
			x.done = closedChan
		} else {
			x.done = make(chan struct{})
		}
	}
	return x.done
}

// AfterFunc lets the context package hang derived contexts on x without a
// goroutine each.
func (x *reqCtx) AfterFunc(f func()) func() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.used = true
	if x.err != nil {
		go f()
		return func() bool { return false }
	}
	if x.after == nil {
		x.after = make(map[*func()]struct{})
	}
	key := &f
	x.after[key] = struct{}{}
	return func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		_, ok := x.after[key]
		delete(x.after, key)
		return ok
	}
}

func (x *reqCtx) cancel() {
	x.mu.Lock()
	after := x.cancelLocked()
	x.mu.Unlock()
	for f := range after {
		go (*f)()
	}
}

// cancelLocked answers what is to be run.
func (x *reqCtx) cancelLocked() map[*func()]struct{} {
	if x.err != nil {
		return nil
	}
	x.err = context.Canceled
	if x.done != nil {
		close(x.done)
	}
	after := x.after
	x.after = nil
	return after
}

// Pools of payload buffers, by size.
var payloadPools [3]sync.Pool

var payloadSizes = [...]int{4 << 10, 64 << 10, wire.MaxPayload}

// GetBuf takes a buffer of n bytes, at most wire.MaxPayload, from a pool.
// PutBuf gives it back. Its contents are arbitrary.
func GetBuf(n int) *[]byte {
	for i, size := range payloadSizes {
		if n <= size {
			if p, ok := payloadPools[i].Get().(*[]byte); ok {
				*p = (*p)[:n]
				return p
			}
			b := make([]byte, n, size)
			return &b
		}
	}
	b := make([]byte, n)
	return &b
}

// PutBuf gives a buffer of GetBuf back.
func PutBuf(p *[]byte) {
	for i, size := range payloadSizes {
		if cap(*p) == size {
			payloadPools[i].Put(p)
			return
		}
	}
}
