package nbd

import (
	"context"
	"fmt"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	proto "github.com/rumpus-kernel/rumpus/modapi/nbd"
)

// longStep is the most that one trim or write of zeroes covers.
const longStep = 1 << 30

// strategy does one buf.
func (u *unit) strategy(ctx context.Context, b *devops.Buf) error {
	g, err := u.geometry()
	if err != nil {
		return err
	}
	if err := b.Check(&g); err != nil {
		return fmt.Errorf("%s: %w", u.name, err)
	}
	u.cnt.requests.Inc()
	flags := proto.CmdFlags(0)
	if b.Flags&devops.BFua != 0 && g.Ops&devops.BFua != 0 {
		flags = proto.FlagFUA
	}
	flushAfter := b.Flags&devops.BFua != 0 && flags == 0 && g.Ops&devops.BFlush != 0
	switch b.Op() {
	case devops.BRead:
		return u.do(ctx, proto.CmdRead, 0, b.Off(), b.Bytes, b.Data)
	case devops.BWrite:
		err = u.do(ctx, proto.CmdWrite, flags, b.Off(), b.Bytes, b.Data)
	case devops.BFlush:
		return u.flush(ctx, g.Ops)
	case devops.BDiscard, devops.BZeroes:
		cmd := proto.CmdTrim
		if b.Op() == devops.BZeroes {
			cmd = proto.CmdWriteZeroes
		}
		for off, n := b.Off(), b.Bytes; n > 0 && err == nil; off, n = off+longStep, n-longStep {
			err = u.do(ctx, cmd, flags, off, min(n, longStep), nil)
		}
	}
	if err == nil && flushAfter {
		err = u.flush(ctx, g.Ops)
	}
	return err
}

// flush flushes, if the server knows how; one that does not has nothing to
// flush. After a strict reconnection over writes that may be lost it is EIO.
func (u *unit) flush(ctx context.Context, ops devops.BufFlags) error {
	u.mu.Lock()
	covers := u.written // a write that is answered from now on may not be
	u.mu.Unlock()
	var err error
	if ops&devops.BFlush != 0 {
		err = u.do(ctx, proto.CmdFlush, 0, 0, 0, nil)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil {
		return err
	}
	u.flushed = max(u.flushed, covers)
	if u.torn {
		u.torn = false
		return fmt.Errorf("%s: the server came back, writes before that may be lost: %w", u.name, abi.EIO)
	}
	return nil
}

// do has one request done.
func (u *unit) do(ctx context.Context, cmd proto.Cmd, flags proto.CmdFlags, off, n int64, data abi.Iov) error {
	r := u.reqs.Get().(*req)
	r.cmd, r.flags, r.off, r.n, r.data = cmd, flags, off, n, data
	r.since = time.Now()
	u.mu.Lock()
	l := u.link
	switch {
	case u.ctx.Err() != nil:
		u.mu.Unlock()
		u.reqs.Put(r)
		return fmt.Errorf("%s: detached: %w", u.name, abi.ENXIO)
	case l == nil && (u.dead || r.since.Sub(u.lost) > u.opt.timeout):
		err := u.why
		u.mu.Unlock()
		u.reqs.Put(r)
		u.cnt.errors.Inc()
		return fmt.Errorf("%s: no connection for %v (%v): %w", u.name, r.since.Sub(u.lost).Round(time.Second), err, abi.EIO)
	}
	if u.dead {
		r.since = r.since.Add(-u.opt.timeout / 4 * 3)
	}
	u.add(r)
	write := false
	if l != nil {
		l.queue = append(l.queue, r)
		if !l.writing {
			l.writing, write = true, true
		}
	}
	u.mu.Unlock()
	if write {
		l.drain()
	}
	select {
	case err := <-r.done:
		if err == nil { // else a queue may remember it
			u.reqs.Put(r)
		}
		return err
	case <-ctx.Done():
	}
	return u.abandon(r, ctx)
}

// abandon gives a request up for a caller that waits no longer: when it answers
// nobody touches the data any more. What came first counts.
func (u *unit) abandon(r *req, ctx context.Context) error {
	u.mu.Lock()
	for r.busy > 0 && !r.finished {
		u.cond.Wait()
	}
	if !r.finished {
		u.finish(r, context.Cause(ctx))
		if r.link == nil {
			u.put(r) // the server has not heard of it
		}
	}
	u.mu.Unlock()
	return <-r.done // r is not used again: slot and queue may remember it
}

// add gives a request a slot and a cookie. u.mu is held.
func (u *unit) add(r *req) {
	if u.live == 0 && u.link != nil {
		u.link.alive = time.Now()
	}
	if k := len(u.free); k > 0 {
		r.slot = u.free[k-1]
		u.free = u.free[:k-1]
		u.slots[r.slot] = r
	} else {
		r.slot = uint32(len(u.slots))
		u.slots = append(u.slots, r)
	}
	u.gen++
	u.live++
	r.cookie = uint64(u.gen)<<32 | uint64(r.slot)
	r.link, r.busy, r.answered, r.finished, r.err, r.got, r.spans = nil, 0, false, false, nil, 0, r.spans[:0]
}

// find is the request of a cookie, nil if there is none. u.mu is held.
func (u *unit) find(cookie uint64) *req {
	if slot := uint32(cookie); int64(slot) < int64(len(u.slots)) {
		if r := u.slots[slot]; r != nil && r.cookie == cookie {
			return r
		}
	}
	return nil
}

// put frees a request's slot. u.mu is held.
func (u *unit) put(r *req) {
	if u.slots[r.slot] == r {
		u.slots[r.slot] = nil
		u.free = append(u.free, r.slot)
		u.live--
	}
}

// release ends that somebody is busy with a request; the last one tells the
// caller if the answer is there. u.mu is held.
func (u *unit) release(r *req) {
	if r.busy--; r.busy > 0 {
		return
	}
	if r.answered {
		u.finish(r, r.err)
		u.put(r)
	}
	u.cond.Broadcast()
}

// finish tells the caller how it went, once. u.mu is held, and nobody is busy
// with r.
func (u *unit) finish(r *req, err error) {
	if r.finished {
		return
	}
	r.finished = true
	r.data = nil
	if err == nil {
		switch r.cmd {
		case proto.CmdWrite, proto.CmdTrim, proto.CmdWriteZeroes:
			if r.flags&proto.FlagFUA == 0 {
				u.written++
			}
		}
	}
	r.done <- err
}
