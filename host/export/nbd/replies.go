package nbd

import (
	"net"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	proto "github.com/rumpus-kernel/rumpus/modapi/nbd"
)

// request is one request with its payload and its answer.
type request struct {
	proto.Request
	c      *conn
	buf    *buffer
	data   []byte // buf, Length bytes of it
	mem    int64  // bytes that were taken from budgets
	shared bool   // from the connection's and the server's, not its own allowance
	ext    []Extent
	small  [48]byte // heads, if they fit
	heads  []byte
	iov    [][]byte // the answer
	size   int      // bytes of it
}

var requests = sync.Pool{New: func() any { return new(request) }}

// release gives back what r holds, and r.
func (r *request) release() {
	if r.buf != nil {
		r.buf.put()
		r.buf, r.data = nil, nil
	}
	if r.mem > 0 {
		if r.shared {
			r.c.memory.give(r.mem)
			r.c.s.memory.give(r.mem)
		} else {
			r.c.own.Add(-r.mem)
		}
		r.mem = 0
	}
	clear(r.iov)
	r.iov, r.size, r.c, r.ext = r.iov[:0], 0, nil, r.ext[:0]
	if cap(r.ext) > 1024 {
		r.ext = nil
	}
	if cap(r.heads) > 4096 {
		r.heads = nil
	}
	requests.Put(r)
}

// head makes n bytes for heads.
func (r *request) head(n int) []byte {
	if n <= len(r.small) {
		return r.small[:n]
	}
	if cap(r.heads) < n {
		r.heads = make([]byte, n)
	}
	return r.heads[:n]
}

// send adds p to the answer.
func (r *request) send(p []byte) {
	r.iov = append(r.iov, p)
	r.size += len(p)
}

// done makes the answer to a request without payload, or of an error.
func (r *request) done(err error) {
	clear(r.iov)
	r.iov, r.size = r.iov[:0], 0
	if err != nil {
		r.fail(proto.ErrorOf(err), abi.ErrnoOf(err).Error())
		return
	}
	if r.c.structured && r.Cmd == proto.CmdRead {
		h := proto.Chunk{Flags: proto.ChunkDone, Type: proto.ChunkNone, Cookie: r.Cookie}
		p := r.head(proto.ChunkSize)
		h.Put(p)
		r.send(p)
		return
	}
	s := proto.Simple{Cookie: r.Cookie}
	p := r.head(proto.SimpleSize)
	s.Put(p)
	r.send(p)
}

// fail makes the answer an error.
func (r *request) fail(e proto.Error, text string) {
	r.c.s.cnt.errors.Inc()
	if !r.c.structured {
		s := proto.Simple{Err: e, Cookie: r.Cookie}
		p := r.head(proto.SimpleSize)
		s.Put(p)
		r.send(p)
		return
	}
	b := make([]byte, proto.ChunkSize, 128)
	b = proto.AppendError(b, e, text)
	h := proto.Chunk{Flags: proto.ChunkDone, Type: proto.ChunkError, Cookie: r.Cookie, Len: uint32(len(b) - proto.ChunkSize)}
	h.Put(b)
	r.send(b)
}

// flushSize is how many bytes of answers are gathered at most.
const flushSize = 256 << 10

// replies is the queue of answers of a connection.
type replies struct {
	c *conn

	mu    sync.Mutex
	queue []*request
	size  int  // bytes in queue
	busy  bool // somebody writes
	err   error

	// Of whoever writes.
	spare []*request
	iov   [][]byte
	vec   net.Buffers
	limit time.Time // the deadline on writing, as it was set
}

// put queues an answer; with now, or if much has gathered, it is written unless
// somebody is at it already and will.
func (o *replies) put(r *request, now bool) {
	o.mu.Lock()
	if o.err != nil {
		o.mu.Unlock()
		r.release()
		return
	}
	o.queue = append(o.queue, r)
	o.size += r.size
	if o.busy || !now && o.size < flushSize {
		o.mu.Unlock()
		return
	}
	o.busy = true
	o.mu.Unlock()
	o.drain()
}

// flush writes what is queued, unless somebody is at it already and will.
func (o *replies) flush() {
	o.mu.Lock()
	if o.busy || len(o.queue) == 0 {
		o.mu.Unlock()
		return
	}
	o.busy = true
	o.mu.Unlock()
	o.drain()
}

// drain writes until the queue is empty. The caller has set busy.
func (o *replies) drain() {
	var err error
	for {
		o.mu.Lock()
		if err != nil {
			o.err = err
		}
		l := o.queue
		if len(l) == 0 {
			o.busy = false
			o.mu.Unlock()
			return
		}
		size := o.size
		o.queue, o.spare, o.size = o.spare[:0], nil, 0
		o.mu.Unlock()
		if err == nil {
			if err = o.write(l, size); err != nil {
				// The reader finds out, whatever it waits for.
				o.c.cancel()
				o.c.nc.Close()
			}
		}
		for i, r := range l {
			r.release()
			l[i] = nil
		}
		o.spare = l[:0]
	}
}

// write writes the answers of l.
func (o *replies) write(l []*request, size int) error {
	// The bound is set anew when half of it is over: a clock is read per
	// turn, a timer set once in a while.
	stall := o.c.s.opt.Stall
	need := stall/2 + time.Duration(size)*time.Microsecond
	if now := time.Now(); o.limit.Sub(now) < need {
		o.limit = now.Add(need + stall/2)
		if err := o.c.nc.SetWriteDeadline(o.limit); err != nil {
			return err
		}
	}
	if len(l) == 1 && len(l[0].iov) == 1 {
		_, err := o.c.nc.Write(l[0].iov[0])
		return err
	}
	v := o.iov[:0]
	for _, r := range l {
		v = append(v, r.iov...)
	}
	o.iov = v
	o.vec = v
	_, err := o.vec.WriteTo(o.c.nc)
	clear(v)
	return err
}
