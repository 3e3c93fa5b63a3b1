package modproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/ring"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// Control carries life frames to the component by another way than the stream:
// go-plugin's gRPC.
type Control interface {
	// Life sends a coded request frame and answers the coded reply.
	Life(ctx context.Context, frame []byte) ([]byte, error)
}

// Options of a Link.
type Options struct {
	Instance string        // the plugin instance's name in the configuration
	Epoch    abi.Epoch     // this generation of its process, from 1
	Log      modapi.Logger // the component's log lines; nil: the kernel's of each module
	Stream   stream.Options
	// Ring is the shared memory that the component was given as well; it is
	// the Link's. nil: there is the stream only. A component whose modules do
	// not say modapi.CapRing does not use it.
	Ring     *ring.Mem
	Counters *ring.Counters // of the ring; nil: nowhere
}

// Link is the connection to one component process.
type Link struct {
	opt  Options
	ctl  Control
	conn *stream.Conn
	mods []*module

	mu        sync.Mutex
	reqid     abi.ReqID
	chrs      map[uint32]*chr
	blks      map[uint32]*blk  // by major of the block device
	blocks    map[uint64]block // that the component has open, by handle
	lastBlock uint64
	stores    map[abi.Fsid]modapi.Store // of what is mounted
	socks     map[abi.SockID]*domain
	maxSock   abi.SockID
}

// workers bounds the upcalls served at a time: those to a disk wait for other
// disks, of the same component perhaps, whose requests need upcalls again.
const workers = 1024

// Open greets the component at the other end of nc, which the Link owns from
// now on, and asks what modules it has. Life requests go by ctl, or over the
// stream if that is nil.
func Open(ctx context.Context, nc net.Conn, ctl Control, opt Options) (*Link, error) {
	if opt.Epoch == 0 {
		opt.Epoch = 1
	}
	opt.Stream.Epoch = opt.Epoch
	ringWorkers := opt.Stream.Workers
	if opt.Stream.Workers == 0 {
		opt.Stream.Workers = workers
	}
	l := &Link{opt: opt, ctl: ctl, chrs: make(map[uint32]*chr), blks: make(map[uint32]*blk), blocks: make(map[uint64]block), stores: make(map[abi.Fsid]modapi.Store), socks: make(map[abi.SockID]*domain)}
	l.mu.Lock() // upcalls wait until the modules are known
	l.conn = stream.New(nc, (*upcalls)(l), opt.Stream)
	l.mu.Unlock()
	err := l.info(ctx)
	if opt.Ring != nil && (err != nil || !l.hasRing()) {
		opt.Ring.Unmap()
	} else if opt.Ring != nil {
		_, err = ring.Attach(l.conn, opt.Ring, ring.Options{Serve: true, Own: true, Workers: ringWorkers, Counters: opt.Counters})
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("ask the component for its modules: %w", err)
	}
	return l, nil
}

// hasRing reports whether the component can use the ring.
func (l *Link) hasRing() bool {
	for _, m := range l.mods {
		if m.info.Caps&modapi.CapRing == 0 {
			return false
		}
	}
	return true
}

// Ring reports whether calls go by a ring, and not by the stream alone.
func (l *Link) Ring() bool { return l.conn.Fast() != nil }

// Modules are the modules of the process.
func (l *Link) Modules() []modapi.Module {
	r := make([]modapi.Module, len(l.mods))
	for i, m := range l.mods {
		r[i] = m
	}
	return r
}

// Conn is the connection, for who judges whether the component hangs.
func (l *Link) Conn() *stream.Conn { return l.conn }

// Done is closed when the link has ended.
func (l *Link) Done() <-chan struct{} { return l.conn.Done() }

// Err is why: *stream.Lie, *stream.Hang, io.EOF when the process ended,
// net.ErrClosed after Close; nil while the link lives.
func (l *Link) Err() error { return l.conn.Err() }

// Close ends the link and returns when its goroutines have ended.
func (l *Link) Close() {
	l.conn.Close()
	l.conn.Wait()
	l.dropBlocks(nil)
}

// lie ends the link because of what the component said.
func (l *Link) lie(format string, args ...any) error {
	e := &stream.Lie{What: fmt.Sprintf(format, args...)}
	l.conn.Fail(e)
	return fmt.Errorf("%w: %w", e, abi.EIO)
}

// call sends a call and waits for it.
func (l *Link) call(ctx context.Context, k *stream.Call) error {
	err := l.conn.Call(ctx, k)
	if err == nil {
		return nil
	}
	switch err.(type) {
	case abi.Errno, *stream.Refusal: // which is the component's own words
		return err
	}
	return fmt.Errorf("%s: %w", k.Header.Op, err)
}

// batch sends calls that do not depend on each other, waits for all of them and
// releases them. The error is the first.
func (l *Link) batch(ctx context.Context, ks []*stream.Call) error {
	if len(ks) == 0 {
		return nil
	}
	err := l.conn.Batch(ctx, ks)
	op := ks[0].Header.Op
	for _, k := range ks {
		k.Release()
	}
	if _, ok := err.(abi.Errno); err == nil || ok {
		return err
	}
	return fmt.Errorf("%s: %w", op, err)
}

// parse decodes a reply, or finds it a lie.
func (l *Link) parse(k *stream.Call, m interface{ Parse([]byte) error }) error {
	if err := m.Parse(k.Reply); err != nil {
		return l.lie("reply to %s: %v", k.Header.Op, err)
	}
	return nil
}

// life sends a life request and answers the payload of its reply.
func (l *Link) life(ctx context.Context, op wire.Op, index int, args []byte, room int) ([]byte, error) {
	if l.ctl == nil {
		k := stream.GetCall()
		defer k.Release()
		k.Header.Op, k.Header.Object = op, uint64(index)
		k.Args = append(k.Args, args...)
		k.Scratch(room)
		if err := l.call(ctx, k); err != nil {
			return nil, err
		}
		return append([]byte(nil), k.Got()...), nil
	}
	deadline := l.opt.Stream.Deadline
	if deadline == nil {
		deadline = wire.Class.Deadline
	}
	ctx, cancel := context.WithTimeout(ctx, deadline(op.Class()))
	defer cancel()
	defer context.AfterFunc(l.conn.Context(), cancel)()
	l.mu.Lock()
	l.reqid++
	h := wire.Header{Op: op, ReqID: l.reqid, Epoch: l.opt.Epoch, Object: uint64(index), ReplyLen: uint32(room), Class: op.Class()}
	l.mu.Unlock()
	if op.Keeps() {
		h.Flags = wire.FlagMutator
	}
	defer l.conn.Elsewhere(op)()
	b, err := l.ctl.Life(ctx, wire.AppendFrame(nil, &h, args, nil))
	if err != nil {
		if e := l.Err(); e != nil {
			return nil, fmt.Errorf("%s: %w", op, &stream.Dead{Cause: e})
		}
		if ctx.Err() != nil {
			if op.Keeps() {
				l.conn.Fail(&stream.Hang{What: "no answer to " + op.String()})
			}
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, fmt.Errorf("%s: %w", op, abi.ETIMEDOUT)
			}
			return nil, fmt.Errorf("%s: %w", op, abi.EINTR)
		}
		if errors.Is(err, abi.EIO) { // the process ended, or its control plane did
			return nil, fmt.Errorf("%s: %w", op, &stream.Dead{Cause: err})
		}
		return nil, fmt.Errorf("%s: %v: %w", op, err, abi.EIO)
	}
	r, rargs, payload, err := wire.ParseFrame(b)
	switch {
	case err != nil:
		return nil, l.lie("reply to %s: %v", op, err)
	case r.Op != op || r.ReqID != h.ReqID || r.Flags&wire.FlagReply == 0 || r.Object != h.Object:
		return nil, l.lie("reply to %s is for %s", op, r.Op)
	case r.Epoch != h.Epoch:
		return nil, l.lie("reply to %s of epoch %d, not %d", op, r.Epoch, h.Epoch)
	case len(payload) > room:
		return nil, l.lie("reply to %s with %d bytes", op, len(payload))
	case r.Errno != 0 && len(rargs) > 0:
		return nil, fmt.Errorf("%s: %w", op, &stream.Refusal{Errno: abi.Errno(r.Errno), Text: wire.ParseErrText(rargs)})
	case r.Errno != 0:
		return nil, abi.Errno(r.Errno)
	}
	return payload, nil
}
