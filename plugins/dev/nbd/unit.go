package nbd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	proto "github.com/rumpus-kernel/rumpus/modapi/nbd"
)

const (
	firstPause = 10 * time.Millisecond // after the second vain attempt; then doubled
	maxPause   = time.Second
	maxSpans   = 4096
	maxOpen    = 10 * time.Second // an open, which the kernel gives 30
	maxLies    = 3                // violations in a row, after which what is in flight fails
)

// dialFunc makes a new connection to the server.
type dialFunc func(ctx context.Context) (net.Conn, error)

// unit is one device.
type unit struct {
	name string
	opt  unitOptions
	dial dialFunc
	log  modapi.Logger
	cnt  counters

	ctx    context.Context // ends with the unit
	cancel context.CancelFunc
	wg     sync.WaitGroup
	tried  chan struct{} // closed after the first attempt

	mu      sync.Mutex
	cond    *sync.Cond // on mu: a busy count has gone down
	known   bool       // there was a connection once
	geom    devops.Geom
	flags   proto.TxFlags
	changed func()        // called when the geometry is another one; never changes
	wait    chan struct{} // closed when there is a link; then another one
	link    *link
	lost    time.Time // since when there is none
	why     error     // why there is none
	dead    bool      // a request came to its timeout, and nothing was answered since
	lies    int
	written uint64 // writes that were answered
	flushed uint64 // as many of them a flush has covered
	torn    bool   // strict: a flush must fail

	reqs  sync.Pool
	slots []*req   // by the low half of the cookie
	free  []uint32 // slots without a request
	live  int
	gen   uint32
}

// req is one request, from strategy until its answer.
type req struct {
	cmd    proto.Cmd
	flags  proto.CmdFlags
	off, n int64

	// Guarded by unit.mu; err, got and spans are the reader's while busy.
	data     abi.Iov // nil: the caller has gone
	cookie   uint64
	slot     uint32
	since    time.Time
	link     *link // where it was sent
	busy     int   // somebody reads or fills data
	answered bool  // the server has, completely
	finished bool  // done was told
	err      error
	got      int64
	spans    [][2]int64
	done     chan error
}

// cover notes that bytes of a read have come; each comes once.
func (r *req) cover(at, n int64) error {
	if at < 0 || n <= 0 || at > r.n || n > r.n-at {
		return lie("%d bytes at %d of a read of %d", n, at, r.n)
	}
	for _, s := range r.spans {
		if at < s[1] && s[0] < at+n {
			return lie("bytes at %d of a read come twice", at)
		}
	}
	if k := len(r.spans); k > 0 && r.spans[k-1][1] == at {
		r.spans[k-1][1] += n
	} else if k == maxSpans {
		return lie("a read in more than %d pieces", k)
	} else {
		r.spans = append(r.spans, [2]int64{at, at + n})
	}
	r.got += n
	return nil
}

func newUnit(name string, o unitOptions, dial dialFunc, log modapi.Logger, c counters) *unit {
	u := &unit{name: name, opt: o, dial: dial, log: log, cnt: c, wait: make(chan struct{}), tried: make(chan struct{}), lost: time.Now()}
	u.cond = sync.NewCond(&u.mu)
	u.reqs.New = func() any { return &req{done: make(chan error, 1)} }
	u.ctx, u.cancel = context.WithCancel(context.Background())
	return u
}

func (u *unit) start() {
	u.wg.Add(2)
	go u.manage()
	go u.watch()
}

// stop ends the unit: what is in flight is ENXIO.
func (u *unit) stop() {
	u.cancel()
	u.mu.Lock()
	l := u.link
	u.mu.Unlock()
	if l != nil {
		l.bye()
	}
	u.wg.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.failAll(fmt.Errorf("%s: detached: %w", u.name, abi.ENXIO))
}

// bye leaves in order if nothing is being written, and closes.
func (l *link) bye() {
	l.u.mu.Lock()
	idle := !l.writing && l.u.live == 0
	if idle {
		l.writing = true // nobody writes any more
	}
	l.u.mu.Unlock()
	if idle {
		var b [proto.RequestSize]byte
		q := proto.Request{Cmd: proto.CmdDisc}
		q.Put(b[:])
		l.nc.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		l.nc.Write(b[:])
		l.u.mu.Lock()
		l.writing = false
		l.u.cond.Broadcast()
		l.u.mu.Unlock()
	}
	l.fail(net.ErrClosed)
}

// firstTry waits for the end of the first attempt to connect, and answers what
// it came to.
func (u *unit) firstTry(ctx context.Context) error {
	select {
	case <-u.tried:
	case <-ctx.Done():
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.why
}

// up waits until there is a link or was one once, but half the timeout, or
// maxOpen, from the unit's start on, whoever waits: all requests of a kernel whose driver has
// died come here one after the other.
func (u *unit) up(ctx context.Context) {
	u.mu.Lock()
	known, wait, since := u.known, u.wait, u.lost
	u.mu.Unlock()
	if known {
		return
	}
	ctx, cancel := context.WithDeadline(ctx, since.Add(min(u.opt.timeout/2, maxOpen)))
	defer cancel()
	select {
	case <-wait:
	case <-ctx.Done():
	case <-u.ctx.Done():
	}
}

func (u *unit) geometry() (devops.Geom, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.known {
		return devops.Geom{}, fmt.Errorf("%s: no server yet (%v): %w", u.name, u.why, abi.ENXIO)
	}
	return u.geom, nil
}

// manage keeps a connection until the unit ends.
func (u *unit) manage() {
	defer u.wg.Done()
	first := sync.OnceFunc(func() { close(u.tried) })
	defer first()
	for fails := 0; u.ctx.Err() == nil; {
		l, err := u.connect()
		if err != nil {
			u.down(nil, err)
			first()
			fails++
			if !u.pause(fails) {
				return
			}
			continue
		}
		u.cnt.connects.Inc()
		u.attach(l)
		first()
		before := time.Now()
		err = l.read()
		l.fail(err)
		u.down(l, gone(err))
		if fails++; time.Since(before) > maxPause {
			fails = 0
		}
		if !u.pause(fails) {
			return
		}
	}
}

// pause waits before the next attempt, not at all before the second.
func (u *unit) pause(fails int) bool {
	if fails <= 1 {
		return u.ctx.Err() == nil
	}
	t := time.NewTimer(min(firstPause<<min(fails-2, 10), maxPause))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-u.ctx.Done():
		return false
	}
}

// connect makes a link and looks whether it is the same disk.
func (u *unit) connect() (*link, error) {
	ctx, cancel := context.WithTimeout(u.ctx, u.opt.timeout/4)
	defer cancel()
	nc, err := u.dial(ctx)
	if err != nil {
		return nil, err
	}
	unwatch := context.AfterFunc(u.ctx, func() { nc.Close() })
	x, err := greet(nc, u.opt.export, u.opt.timeout/4)
	if err == nil {
		_, err = u.geomOf(&x)
	}
	if !unwatch() && err == nil {
		err = u.ctx.Err()
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return newLink(u, nc, x), nil
}

// geomOf is the geometry that an export comes to.
func (u *unit) geomOf(x *export) (devops.Geom, error) {
	g := devops.Geom{Sector: max(x.block.Min, devops.DevBsize), Type: "nbd", Label: u.opt.export,
		ReadOnly: u.opt.ro || x.Flags&proto.ReadOnly != 0}
	g.Size = int64(x.Size) - int64(x.Size)%int64(g.Sector)
	g.MaxIO = min(x.block.Max, devops.MaxPhys)
	g.MaxIO -= g.MaxIO % g.Sector
	if g.MaxIO == 0 {
		return g, lie("payloads of at most %d bytes in blocks of %d", x.block.Max, x.block.Min)
	}
	g.Optimal = min(x.block.Preferred, g.MaxIO)
	for f, op := range map[proto.TxFlags]devops.BufFlags{
		proto.SendFlush: devops.BFlush, proto.SendFUA: devops.BFua,
		proto.SendTrim: devops.BDiscard, proto.SendWriteZeroes: devops.BZeroes,
	} {
		if x.Flags&f != 0 {
			g.Ops |= op
		}
	}
	if g.ReadOnly {
		g.Ops &^= devops.BDiscard | devops.BZeroes
	}
	return g, g.Check()
}

// attach puts a link in use and sends on it what is in flight.
func (u *unit) attach(l *link) {
	g, _ := u.geomOf(&l.x)
	u.mu.Lock()
	if u.ctx.Err() != nil {
		u.mu.Unlock()
		l.fail(net.ErrClosed)
		return
	}
	var changed func()
	if !u.known || u.geom != g {
		if u.known {
			u.log.Warn("nbd: the disk has changed", "unit", u.name, "size", g.Size, "was", u.geom.Size)
		}
		changed = u.changed
	}
	if u.opt.strict && u.written != u.flushed {
		u.torn, u.flushed = true, u.written
	}
	u.geom, u.flags, u.known, u.link, u.why = g, l.x.Flags, true, l, nil
	close(u.wait)
	u.wait = make(chan struct{})
	for _, r := range u.slots {
		if r != nil && !r.finished {
			if r.link != nil {
				u.cnt.reissued.Inc()
			}
			r.err, r.got, r.spans = nil, 0, r.spans[:0]
			l.queue = append(l.queue, r)
		}
	}
	l.alive = time.Now()
	start := len(l.queue) > 0
	l.writing = start
	u.mu.Unlock()
	if start {
		u.wg.Add(1)
		go func() { defer u.wg.Done(); l.drain() }()
	}
	if changed != nil {
		go changed() // an upcall; nobody waits for it
	}
}

// down notes that there is no link. Requests wait, unless the server lies again
// and again; those whose caller has gone are over.
func (u *unit) down(l *link, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if l != nil {
		for l.writing {
			u.cond.Wait()
		}
		if l.err != nil && !errors.Is(err, proto.ErrProtocol) {
			err = l.err
		}
		u.link, u.lost = nil, time.Now()
		for _, r := range u.slots {
			if r != nil && r.finished {
				u.put(r)
			}
		}
	}
	if u.ctx.Err() == nil && (u.why == nil || u.why.Error() != err.Error()) {
		u.log.Warn("nbd: no connection", "unit", u.name, "error", err.Error())
	}
	u.why = err
	if errors.Is(err, proto.ErrProtocol) {
		u.cnt.lies.Inc()
		if u.lies++; u.lies >= maxLies {
			u.failAll(fmt.Errorf("%s: the server breaks the protocol (%v): %w", u.name, err, abi.EIO))
		}
	}
}

// failAll ends everything in flight that nobody is busy with. u.mu is held.
func (u *unit) failAll(err error) {
	for _, r := range u.slots {
		if r != nil && r.busy == 0 {
			u.finish(r, err)
			u.put(r)
		}
	}
}

// watch ends links that stall and requests that are too old.
func (u *unit) watch() {
	defer u.wg.Done()
	stall := u.opt.timeout / 4
	t := time.NewTicker(max(stall/8, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-u.ctx.Done():
			return
		case <-t.C:
		}
		u.look(time.Now(), stall)
	}
}

// look is one look of the watch.
func (u *unit) look(now time.Time, stall time.Duration) {
	u.mu.Lock()
	l := u.link
	var end error
	if l != nil {
		if rx := l.rx.Load(); rx != l.seen || u.live == 0 {
			l.seen, l.alive = rx, now
		} else if now.Sub(l.alive) > stall {
			end = fmt.Errorf("the server has not answered for %v: %w", stall, abi.ETIMEDOUT)
		}
	}
	if u.live > 0 {
		for _, r := range u.slots {
			if r == nil || r.finished || now.Sub(r.since) < u.opt.timeout {
				continue
			}
			if r.busy > 0 { // ended when the link has
				end = fmt.Errorf("a request of %v: %w", u.opt.timeout, abi.ETIMEDOUT)
				continue
			}
			why := u.why
			if why == nil {
				why = errors.New("the server does not answer it")
			}
			u.dead = true
			u.cnt.errors.Inc()
			u.finish(r, fmt.Errorf("%s: not done in %v (%v): %w", u.name, u.opt.timeout, why, abi.EIO))
			if r.link != l || l == nil {
				u.put(r)
			}
		}
	}
	u.mu.Unlock()
	if l != nil && end != nil {
		l.fail(end)
	}
}
