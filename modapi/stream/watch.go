package stream

import (
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// Inflight are calls that wait for the peer, those whose callers have given up
// among them. Calls by the fast way count when they have waited for some
// milliseconds.
type Inflight struct {
	Fast, Slow     int     // how many, of the classes spin and cpu, and of the others
	FastOp, SlowOp wire.Op // the oldest of each
	Admin          int     // those of Slow that are of the class admin
}

// Inflight counts the calls in flight that were begun before a moment: upto is
// what LastID answered then.
func (c *Conn) Inflight(upto abi.ReqID) Inflight {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inflightLocked(upto)
}

// Elsewhere notes a call that is made of the peer by another way than this
// connection, so that whoever watches knows of it. done is to be called when it
// has been answered, or will not be.
func (c *Conn) Elsewhere(op wire.Op) (done func()) {
	id := c.NextID()
	c.mu.Lock()
	if c.elsewhere == nil {
		c.elsewhere = make(map[abi.ReqID]wire.Op)
	}
	c.elsewhere[id] = op
	c.mu.Unlock()
	c.busy()
	return func() {
		c.Progress()
		c.mu.Lock()
		delete(c.elsewhere, id)
		c.mu.Unlock()
	}
}

// Lost are the calls that were in flight when the connection ended.
func (c *Conn) Lost() Inflight {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

func (c *Conn) inflightLocked(upto abi.ReqID) (in Inflight) {
	var fast, slow abi.ReqID
	count := func(id abi.ReqID, op wire.Op) {
		switch {
		case id > upto:
		case op.Class() <= wire.ClassCPU:
			if in.Fast++; fast == 0 || id < fast {
				fast, in.FastOp = id, op
			}
		default:
			if in.Slow++; slow == 0 || id < slow {
				slow, in.SlowOp = id, op
			}
			if op.Class() == wire.ClassAdmin {
				in.Admin++
			}
		}
	}
	for id, k := range c.pending {
		count(id, k.Header.Op)
	}
	for id, op := range c.elsewhere {
		count(id, op)
	}
	return in
}

// LastID is the newest identifier of a call. Those of later calls are greater.
func (c *Conn) LastID() abi.ReqID { return abi.ReqID(c.nextID.Load()) }

// Unwatch ends the watching of the peer if no call is in flight; then
// Options.Busy tells of the next one.
func (c *Conn) Unwatch() bool {
	c.watch.Store(false)
	c.mu.Lock()
	n := len(c.pending) + len(c.elsewhere)
	c.mu.Unlock()
	// A call that came in between has told Busy, or is seen here.
	return n == 0 || !c.watch.CompareAndSwap(false, true)
}

// busy has the peer watched. The call is in the table already.
func (c *Conn) busy() {
	if c.opt.Busy != nil && !c.watch.Load() && c.watch.CompareAndSwap(false, true) {
		c.opt.Busy()
	}
}

// excused reports whether a peer without progress could not help it.
func (c *Conn) excused() bool { return c.opt.Excuse != nil && c.opt.Excuse() }

// Serving reports whether requests of the peer are being served: it may wait
// for us.
func (c *Conn) Serving() bool {
	if f := c.Fast(); f != nil && f.Serving() > 0 {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.serving) > 0
}

// Unread reports whether the peer has said something that nobody has looked at
// yet: on a busy machine its answer may be there and the reader not.
func (c *Conn) Unread() bool {
	if f := c.Fast(); f != nil && f.Unread() {
		return true
	}
	return readable(c.nc)
}
