package bio

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// A queue is the requests of one device: those it has now, and those that must
// not go to it yet. It is the in-flight table that survives the driver's
// process. Rules:
//
//   - requests that overlap, one of which writes, go one after the other, in the
//     order in which they came;
//   - a flush goes when all writes before it are answered, and writes behind it
//     go when it is answered; reads pass it;
//   - the device has at most depth requests, and the queue at most
//     depth*queueFactor: who brings more waits.
type queue struct {
	s      *System
	policy Policy
	depth  int

	up     context.Context // ends when the requests are given up, with the reason
	giveUp context.CancelCauseFunc

	mu      sync.Mutex
	dev     Device
	size    int64 // of the device: it must come back with the same
	head    *Request
	tail    *Request
	n       int           // requests in the list, protected by mu
	flying  int           // of them, issued, protected by mu
	changed chan struct{} // closed when n falls; made when somebody waits
}

const (
	queueFactor = 4
	// maxReissue bounds how often one buf goes to a driver that dies of it.
	maxReissue = 8
)

// Request is a buf on its way through a device (what struct buf is between
// strategy and biodone).
type Request struct {
	buf      devops.Buf
	off, end int64 // bytes
	writes   bool
	flush    bool
	iodone   func(error)     // must not wait: others may wait for what it does
	ctx      context.Context // the caller's values; it ends with queue.up only

	issued     bool // protected by queue.mu
	prev, next *Request
	may        chan struct{} // closed when it may go; nil: whoever lets it go starts it
	finished   atomic.Bool
	done       chan struct{}
	err        error // before done is closed
}

// ID is the buf's number, the same each time it is issued.
func (r *Request) ID() abi.BufID { return r.buf.ID }

// Biowait waits for an asynchronous request and answers its error (biowait).
// EINTR, ETIMEDOUT when ctx ends first; the request goes on.
func (r *Request) Biowait(ctx context.Context) error {
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return abi.ErrnoOf(ctx.Err())
	}
}

// requestCtx is the context of a request: who waits may leave, the request goes
// on until it is done or all of its device are given up.
type requestCtx struct {
	context.Context // queue.up
	values          context.Context
}

func (c requestCtx) Value(k any) any {
	if v := c.Context.Value(k); v != nil {
		return v
	}
	return c.values.Value(k)
}

// init makes the queue of a device.
func (q *queue) init(s *System, o Device, size int64) {
	q.s, q.dev, q.depth, q.size = s, o, s.o.Depth, size
	q.up, q.giveUp = context.WithCancelCause(context.Background())
	select {
	case <-s.ending:
		q.giveUp(errEnd)
	default:
	}
}

func overlap(a, b *Request) bool { return a.off < b.end && b.off < a.end }

// mustWait reports whether r has to wait for o, which came before it.
func (r *Request) mustWait(o *Request) bool {
	switch {
	case r.flush:
		return o.writes
	case o.flush:
		return r.writes
	}
	return (r.writes || o.writes) && overlap(r, o)
}

// eligibleLocked reports whether r may go to the device now.
func (q *queue) eligibleLocked(r *Request) bool {
	if q.flying >= q.depth {
		return false
	}
	for o := q.head; o != r; o = o.next {
		if r.mustWait(o) {
			return false
		}
	}
	return true
}

// enter puts a buf into the table, waiting for room.
func (q *queue) enter(ctx context.Context, b *devops.Buf, iodone func(error), inline bool) (*Request, error) {
	r := &Request{buf: *b, off: b.Blkno * devops.DevBsize, iodone: iodone, ctx: requestCtx{q.up, ctx}}
	r.end = r.off + b.Bytes
	r.flush = b.Flags&devops.BFlush != 0
	r.writes = b.Flags&(devops.BWrite|devops.BDiscard|devops.BZeroes) != 0
	if inline {
		r.may = make(chan struct{})
	} else {
		r.done = make(chan struct{})
	}
	q.mu.Lock()
	for q.n >= q.depth*queueFactor {
		if q.changed == nil {
			q.changed = make(chan struct{})
		}
		c := q.changed
		q.mu.Unlock()
		select {
		case <-c:
		case <-ctx.Done():
			return nil, abi.ErrnoOf(ctx.Err())
		}
		q.mu.Lock()
	}
	r.buf.ID = abi.BufID(q.s.nextID.Add(1))
	if r.prev = q.tail; r.prev != nil {
		r.prev.next = r
	} else {
		q.head = r
	}
	q.tail = r
	q.n++
	if q.eligibleLocked(r) {
		q.issueLocked(r)
	}
	q.mu.Unlock()
	return r, nil
}

// issueLocked lets r go. An inline one is run by its own caller.
func (q *queue) issueLocked(r *Request) {
	r.issued = true
	q.flying++
	q.s.flying.Add(1)
	q.s.cnt.issued.Inc()
	if r.may != nil {
		close(r.may)
		return
	}
	go func() { q.biodone(r, q.attempt(r)) }()
}

// leaveLocked takes r out of the table and lets others go.
func (q *queue) leaveLocked(r *Request) {
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		q.head = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else {
		q.tail = r.prev
	}
	q.n--
	if r.issued {
		q.flying--
		q.s.flying.Add(-1)
	}
	if q.changed != nil {
		close(q.changed)
		q.changed = nil
	}
	if q.n == q.flying {
		return
	}
	for o := q.head; o != nil && q.flying < q.depth; o = o.next {
		if !o.issued && q.eligibleLocked(o) {
			q.issueLocked(o)
		}
	}
}

// do moves a buf and answers when it is done (VOP_STRATEGY and biowait). A
// caller whose ctx ends while the buf waits its turn gets EINTR or ETIMEDOUT;
// one that the device has is waited for.
func (q *queue) do(ctx context.Context, b *devops.Buf) error {
	r, err := q.enter(ctx, b, nil, true)
	if err != nil {
		return err
	}
	select {
	case <-r.may:
	default:
		select {
		case <-r.may:
		case <-ctx.Done():
			q.mu.Lock()
			if !r.issued {
				q.leaveLocked(r)
				q.mu.Unlock()
				return abi.ErrnoOf(ctx.Err())
			}
			q.mu.Unlock()
		}
	}
	err = q.attempt(r)
	q.biodone(r, err)
	return err
}

// start begins to move a buf; iodone (may be nil) is called once when it is
// done. EINTR, ETIMEDOUT when ctx ends before there is room.
func (q *queue) start(ctx context.Context, b *devops.Buf, iodone func(error)) (*Request, error) {
	return q.enter(ctx, b, iodone, false)
}

// attempt gives a buf to the device, again if its driver dies.
func (q *queue) attempt(r *Request) error {
	for try := 0; ; try++ {
		if q.up.Err() != nil {
			return q.givenUp(r)
		}
		q.mu.Lock()
		dev := q.dev
		q.mu.Unlock()
		b := r.buf // the driver's own: what it does to it concerns nobody
		err := dev.Strategy(r.ctx, &b)
		if err != nil && q.up.Err() != nil {
			return q.givenUp(r)
		}
		if err == nil || !errors.Is(err, ErrDied) {
			return err
		}
		if q.policy == Fail {
			q.s.cnt.abandoned.Inc()
			return fmt.Errorf("device %v: buf %d: %w: %w", r.buf.Dev, r.buf.ID, err, abi.EIO)
		}
		if try >= maxReissue {
			q.s.cnt.abandoned.Inc()
			return fmt.Errorf("device %v: the driver died %d times of buf %d: %w", r.buf.Dev, try+1, r.buf.ID, abi.EIO)
		}
		if err := q.back(r.ctx, dev, err); err != nil {
			q.s.cnt.abandoned.Inc()
			return fmt.Errorf("device %v: buf %d: %w", r.buf.Dev, r.buf.ID, err)
		}
		q.s.cnt.reissued.Inc()
	}
}

// givenUp is the error of requests that are not waited for any more.
func (q *queue) givenUp(r *Request) error {
	q.s.cnt.abandoned.Inc()
	return fmt.Errorf("device %v: buf %d: %w: %w", r.buf.Dev, r.buf.ID, context.Cause(q.up), abi.EIO)
}

// back waits for the driver of dev, and sees to it that the device is still the
// one it was.
func (q *queue) back(ctx context.Context, dev Device, died error) error {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := dev.Up(ctx, died)
		if err == nil {
			g, err := dev.Geometry(ctx)
			if errors.Is(err, ErrDied) {
				died = err
				continue
			}
			if err != nil {
				return err
			}
			if q.size != 0 && g.Size != q.size {
				return fmt.Errorf("it came back with %d bytes instead of %d: %w", g.Size, q.size, abi.ENXIO)
			}
			return nil
		}
		if q.policy != Wait || errors.Is(err, abi.ENXIO) || ctx.Err() != nil {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-q.s.ending:
			t.Stop()
			return err
		case <-ctx.Done():
			t.Stop()
			return abi.ErrnoOf(ctx.Err())
		}
	}
}

// biodone ends a request: once, whoever calls it.
func (q *queue) biodone(r *Request, err error) {
	if r.finished.Swap(true) {
		q.s.cnt.twice.Inc()
		return
	}
	q.s.cnt.done.Inc()
	if err != nil {
		q.s.cnt.errors.Inc()
	}
	q.mu.Lock()
	q.leaveLocked(r)
	q.mu.Unlock()
	r.err = err
	if r.iodone != nil {
		r.iodone(err)
	}
	if r.done != nil {
		close(r.done)
	}
}
