package socket

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/kernel/uidinfo"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

// phase is where in its life a connection-oriented socket is.
type phase uint8

const (
	idle       phase = iota // neither of the following; also every datagram socket
	listening               // listen(2) was called
	connecting              // connect(2) is under way
	connected               // connected or accepted; does not outlive the component
)

// Socket is the kernel's half of a socket (struct socket).
type Socket struct {
	l      *Layer
	dom    *domain
	id     abi.SockID
	typ    int
	proto  int
	sel    event.Selinfo
	seq    atomic.Uint64 // edges so far: what was not ready is not ready while it stays
	polled atomic.Uint64 // the last answer to Poll: seq before it <<16 | events

	gen      atomic.Uint64 // generation in which the component knows it; 0 = never yet
	dead     atomic.Bool   // its connection died with the component
	pending  atomic.Int32  // errno to be told once (so_error)
	sawReset atomic.Bool   // a caller has been told ECONNRESET already
	rcvTimeo atomic.Int64  // nanoseconds, 0 = no limit
	sndTimeo atomic.Int64
	sbuf     uidinfo.Sbuf
	named    atomic.Bool // local is known; nothing more to learn

	// ctl is held over calls that change what has to be put back after a
	// restart, and while it is put back.
	ctl sync.Mutex

	mu      sync.Mutex
	phase   phase          // protected by mu
	closed  bool           // protected by mu
	local   abi.Sockaddr   // own address, protected by mu
	peer    abi.Sockaddr   // datagram: connected to; protected by mu
	backlog int            // protected by mu
	shut    uint8          // bit per abi.SHUT_*, protected by mu
	sopts   []option       // what setsockopt told the component, in order; protected by mu
	flags   map[int]uint32 // SOL_SOCKET options that only the kernel needs; protected by mu
}

// newSocket issues an id. The caller puts the socket into Layer.socks before
// the component gets to know it, so that its first edge finds it.
func (l *Layer) newSocket(dm *domain, typ, proto int) *Socket {
	return &Socket{l: l, dom: dm, id: abi.SockID(l.next.Add(1)), typ: typ, proto: proto}
}

// oriented reports whether the type has connections.
func (s *Socket) oriented() bool {
	return s.typ == abi.SOCK_STREAM || s.typ == abi.SOCK_SEQPACKET || s.typ == abi.SOCK_CONN_DGRAM
}

func (s *Socket) getPhase() phase {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase
}

func (s *Socket) setPhase(p phase) {
	s.mu.Lock()
	s.phase = p
	s.mu.Unlock()
}

// mortal reports whether the socket dies with its component.
func (s *Socket) mortal() bool {
	p := s.getPhase()
	return p == connected || p == connecting
}

// status is what can be done with a socket now.
type status uint8

const (
	live       status = iota // the component knows it
	restarting               // it will, soon
	dead                     // its connection was lost
	gone                     // its component will not come back
)

// at finds the generation to call.
func (s *Socket) at() (*generation, status) {
	if s.dead.Load() {
		return nil, dead
	}
	if g := s.dom.live.Load(); g != nil && g.n == s.gen.Load() {
		return g, live
	}
	if s.dom.gone.Load() {
		return nil, gone
	}
	return nil, restarting
}

// edge says that something about the socket may have changed.
func (s *Socket) edge() {
	s.seq.Add(1) // first: who has recorded its waiter looks at seq after it
	s.sel.Notify()
}

// kill ends a connection whose component died. The caller has seen to it that
// the socket is mortal.
func (s *Socket) kill() {
	if s.dead.Swap(true) {
		return
	}
	if !s.sawReset.Load() {
		s.pending.CompareAndSwap(0, int32(abi.ECONNRESET))
	}
	s.l.cnt.reset.Inc()
	s.edge()
}

// takeError answers and clears the pending error.
func (s *Socket) takeError() abi.Errno { return abi.Errno(s.pending.Swap(0)) }

// errDead says that a socket's connection was lost and that this has been told
// before. Each call turns it into what it answers then.
var errDead = errors.New("connection lost")

// waitMode says how a call waits.
type waitMode struct {
	nonblock bool          // EAGAIN instead of waiting
	once     bool          // EAGAIN is the answer; wait for the component only
	timeo    time.Duration // 0 = no limit; EAGAIN when it is over
}

// wait calls try while the component is there, until it answers something
// other than EAGAIN: the one place where sockets sleep. See the package doc
// for what a death of the component means.
func (s *Socket) wait(ctx context.Context, m waitMode, try func(g *generation) error) error {
	var (
		w         *event.Waiter
		timeo     <-chan time.Time
		restart   <-chan time.Time
		reached   bool        // the component was called: a death now is ECONNRESET
		lost      *generation // died under the call, or so it seems
		lostErr   error
		haveTimer bool
	)
	for {
		seq := s.seq.Load()
		g, st := s.at()
		again := false // EAGAIN: sleep until an edge
		switch {
		case st == dead:
			if reached {
				s.pending.Store(0)
				return abi.ECONNRESET
			}
			if !m.once {
				if e := s.takeError(); e != 0 {
					return e
				}
			}
			return errDead
		case st == gone:
			return errGone
		case st == live && g != lost:
			reached = true
			err := try(g)
			switch {
			case err == nil:
				return nil
			case err == errMoved:
				continue
			case errors.Is(err, abi.EAGAIN):
				if m.nonblock || m.once {
					return err
				}
				again = true
			case !errors.Is(err, abi.ECONNRESET):
				return err
			case s.mortal():
				s.sawReset.Store(true)
				return err
			default:
				// No connection to reset: the link to the component broke.
				lost, lostErr = g, err
			}
		}
		if !again && m.nonblock && !m.once {
			return abi.EAGAIN
		}
		if w == nil {
			w = event.NewWaiter()
			s.sel.Record(w)
			defer s.sel.Remove(w)
			if m.timeo > 0 {
				t := time.NewTimer(m.timeo)
				defer t.Stop()
				timeo = t.C
			}
		}
		if s.seq.Load() != seq {
			continue // an edge came before the waiter was recorded
		}
		if again {
			restart, haveTimer = nil, false
		} else if !haveTimer {
			t := time.NewTimer(s.l.wait)
			defer t.Stop()
			restart, haveTimer = t.C, true
		}
		select {
		case <-w.C():
		case <-timeo:
			return abi.EAGAIN
		case <-restart:
			if st == live {
				return lostErr
			}
			return errNotBack
		case <-ctx.Done():
			return abi.ErrnoOf(ctx.Err())
		}
	}
}

// errMoved makes wait look again at once: the generation changed while the
// call waited for Socket.ctl.
var errMoved = errors.New("generation changed")

// control runs a call that changes what is put back after a restart: with ctl
// held, and once. On errDead the answer is deadErr.
func (s *Socket) control(ctx context.Context, deadErr abi.Errno, fn func(d sockops.Domain) error) error {
	err := s.wait(ctx, waitMode{once: true}, func(g *generation) error {
		s.ctl.Lock()
		defer s.ctl.Unlock()
		if now, st := s.at(); st != live || now != g {
			return errMoved
		}
		defer s.seq.Add(1) // it may be ready for other things now
		return fn(g.d)
	})
	if err == errDead {
		return deadErr
	}
	return err
}

// learnName asks for the own address, which a socket needs again after a
// restart, once it has one.
func (s *Socket) learnName(ctx context.Context, d sockops.Domain) {
	a, err := d.Name(ctx, s.id, false)
	if err == nil && !a.IsZero() {
		s.mu.Lock()
		s.local = a
		s.mu.Unlock()
	}
	s.named.Store(!errors.Is(err, abi.ECONNRESET))
}
