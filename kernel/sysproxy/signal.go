package sysproxy

import (
	"fmt"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// Attender is the optional part of a Proc that has signals: fn is told of those
// that its client is to know of, and of its end by one (ended), after which the
// connection ends. fn never waits.
type Attender interface {
	Attend(fn func(si abi.Siginfo, ended bool))
}

// signals are those that the client is still to be told of: each at most once,
// with what came last, so that a client that does not read costs nothing.
type signals struct {
	mu      sync.Mutex
	set     abi.Sigset // protected by mu, as the rest
	info    [abi.NSIG]abi.Siginfo
	queue   []abi.Siginfo // realtime signals, at most maxQueued
	ended   int           // the signal that ended the process
	sending bool
}

// maxQueued bounds the realtime signals that wait to be sent: the oldest are
// lost.
const maxQueued = 64

// attend lets the client know of its process's signals.
func (c *client) attend(p Proc) {
	a, ok := p.(Attender)
	if !ok {
		return
	}
	s := new(signals)
	a.Attend(func(si abi.Siginfo, ended bool) {
		if si.Signo <= 0 || si.Signo >= abi.NSIG {
			return
		}
		s.mu.Lock()
		switch {
		case ended:
			s.ended = si.Signo
		case si.Signo >= abi.SIGRTMIN:
			if len(s.queue) == maxQueued {
				s.queue = s.queue[1:]
			}
			s.queue = append(s.queue, si)
		default:
			s.set.Add(si.Signo)
		}
		s.info[si.Signo] = si
		begin := !s.sending
		s.sending = true
		s.mu.Unlock()
		if begin {
			go c.sendSignals(s) // ends at the latest with the connection
		}
	})
}

// sendSignals sends what there is, the end last.
func (c *client) sendSignals(s *signals) {
	for {
		s.mu.Lock()
		var si abi.Siginfo
		ended := false
		switch sigs := s.set.Signals(); {
		case len(sigs) > 0:
			si = s.info[sigs[0]]
			s.set.Del(sigs[0])
		case len(s.queue) > 0:
			si = s.queue[0]
			s.queue = s.queue[1:]
		case s.ended != 0:
			si, ended = s.info[s.ended], true
		default:
			s.sending = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		m := wire.SignalMsgOf(si, ended)
		err := c.conn.Send(wire.OpSignal, 0, m.Append(nil), nil)
		if ended {
			c.conn.Fail(fmt.Errorf("its process was ended by %s", abi.SignalName(si.Signo)))
			return // and nothing is sent any more
		}
		if err != nil {
			return
		}
	}
}
