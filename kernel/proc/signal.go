package proc

import (
	"maps"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Signals. A program's handlers are in the program, which is elsewhere: the
// kernel knows of a handler only that there is one, and tells the client of the
// signal (SetTell). Everything else is here: dispositions, masks, what is
// pending, who is interrupted, what happens by default.
//
// # A signal's way
//
// Signal posts it. Who watches with EVFILT_SIGNAL is told in any case. One that
// is ignored goes no further. One that a Sigtimedwait waits for goes there. One
// without a handler is the business of the process's Sigmodel. The others are
// pending until some lwp does not mask them, and are then delivered: the client
// is told, and one call of the process that waits, of an lwp that does not mask
// the signal, is interrupted (EINTR), unless the handler has SA_RESTART and the
// call is one that NetBSD restarts. As nothing runs on top of a call, restarting
// it is not interrupting it. A call that was under way and waits only later is
// interrupted as well, as on NetBSD, where the signal would be pending by then.
//
// # Masks
//
// A process has a mask, that of all lwps which exist for one call only. An lwp
// of NewLwp has a mask of its own, and signals sent to it alone.
//
// # Stopping
//
// The threads of a client are its own, and run on. A process that is stopped
// makes no more system calls: those that it begins wait for SIGCONT, those that
// it has begun go on.

// Sigmodel says what becomes of a signal for which the process has set nothing
// (SIG_DFL), as rump_boot_setsigmodel does. The values are NetBSD's.
type Sigmodel int32

// The models.
const (
	// SigPanic: the kernel panics at any signal but SIGSYS and SIGPIPE.
	SigPanic Sigmodel = 0
	// SigIgnore: nothing happens, but for SIGKILL, which ends the process.
	SigIgnore Sigmodel = 1
	// SigRaise: the signal has its default effect: it ends the process, stops
	// it, continues it or does nothing. The client is told of the end.
	SigRaise Sigmodel = 3
	// SigRecord: it is pending until somebody asks for it (sigpending,
	// sigtimedwait); SIGKILL ends the process.
	SigRecord Sigmodel = 4

	sigUnset Sigmodel = -1
)

// props are the default actions (sigprop).
type prop uint8

const (
	propKill prop = 1 << iota
	propStop
	propCont
	propIgnore
	propCantmask
)

// propOf is the default action of a signal.
func propOf(sig int) prop {
	switch sig {
	case abi.SIGKILL:
		return propKill | propCantmask
	case abi.SIGSTOP:
		return propStop | propCantmask
	case abi.SIGTSTP, abi.SIGTTIN, abi.SIGTTOU:
		return propStop
	case abi.SIGCONT:
		return propCont | propIgnore
	case abi.SIGURG, abi.SIGCHLD, abi.SIGIO, abi.SIGWINCH, abi.SIGINFO, abi.SIGPWR:
		return propIgnore
	}
	return propKill
}

var (
	sigCantmask = abi.SigsetOf(abi.SIGKILL, abi.SIGSTOP)
	sigStops    = abi.SigsetOf(abi.SIGSTOP, abi.SIGTSTP, abi.SIGTTIN, abi.SIGTTOU)
	sigClient   = []int{abi.SIGPIPE, abi.SIGXFSZ} // ignored by a remote client from the beginning
)

// MaxSigqueue bounds how often one realtime signal is pending (SIGQUEUE_MAX).
const MaxSigqueue = 32

// sigpend are pending signals (struct sigpend). A realtime signal can be
// pending several times, others once: with what came first.
type sigpend struct {
	set  abi.Sigset
	info map[int][]abi.Siginfo
}

func (s *sigpend) add(si abi.Siginfo) {
	if s.info == nil {
		s.info = make(map[int][]abi.Siginfo)
	}
	n := len(s.info[si.Signo])
	if n == 0 || si.Signo >= abi.SIGRTMIN && n < MaxSigqueue {
		s.info[si.Signo] = append(s.info[si.Signo], si)
	}
	s.set.Add(si.Signo)
}

// take takes the lowest signal of a set.
func (s *sigpend) take(of abi.Sigset) (si abi.Siginfo, ok bool) {
	for _, sig := range (s.set & of).Signals() {
		q := s.info[sig]
		if si = q[0]; len(q) > 1 {
			s.info[sig] = q[1:]
		} else {
			s.del(abi.SigsetOf(sig))
		}
		return si, true
	}
	return si, false
}

func (s *sigpend) del(of abi.Sigset) {
	for _, sig := range (s.set & of).Signals() {
		delete(s.info, sig)
	}
	s.set &^= of
}

// sigctx is what a process has of signals (struct sigctx, sigacts and sigpend).
// All of it is protected by Proc.sigMu.
type sigctx struct {
	model    Sigmodel // sigUnset: the table's
	remote   bool     // of a client in another process
	acts     map[int]abi.Sigaction
	mask     abi.Sigset
	pend     sigpend
	owned    map[int32]*Lwp // lwps of NewLwp, by lid
	waits    map[int32]*Lwp // those that wait in a call, by lid
	waiters  []*sigwaiter
	hung     hung
	tell     func(si abi.Siginfo, ended bool)
	notices  []notice
	telling  bool
	wakes    []Interrupter
	xsig     int // the signal that ended the process
	xcode    int // what it said to exit(2)
	stopsig  int // it is stopped by this
	unwaited bool
	cont     chan struct{} // closed by SIGCONT
	zombies  []zombie
}

// hung is a signal that was delivered while no call waited that it could
// interrupt: a call that had begun by then is interrupted when it waits.
type hung struct {
	seq     uint64
	sig     int
	restart bool
	l       *Lwp
}

// notice is what the client or the parent is to be told, once sigMu is free.
type notice struct {
	si   abi.Siginfo
	kind noticeKind
}

type noticeKind uint8

const (
	noticeSignal noticeKind = iota
	noticeEnd
	noticeStop
	noticeCont
)

// Interrupter is a wait that a signal can end.
type Interrupter interface{ Interrupt() }

// SetSigmodel sets the model of all processes that have none of their own
// (rump_boot_setsigmodel). Before it is called embedded clients have SigIgnore,
// remote ones SigRaise.
func (t *Table) SetSigmodel(m Sigmodel) { t.sigmodel.Store(int32(m)) }

// SetSigmodel gives the process a model of its own.
func (p *Proc) SetSigmodel(m Sigmodel) {
	p.sigMu.Lock()
	p.sig.model = m
	p.sigMu.Unlock()
}

// Sigmodel is the model that counts for the process.
func (p *Proc) Sigmodel() Sigmodel {
	p.sigMu.Lock()
	defer p.sigMu.Unlock()
	return p.modelLocked()
}

func (p *Proc) modelLocked() Sigmodel {
	switch m := Sigmodel(p.table.sigmodel.Load()); {
	case p.sig.model != sigUnset:
		return p.sig.model
	case m != sigUnset:
		return m
	case p.sig.remote:
		return SigRaise
	}
	return SigIgnore
}

// SetTell says whom to tell of signals that the process has a handler for, and
// of its end by a signal (ended), after which nothing is told. fn must not wait,
// and is called with no lock held.
func (p *Proc) SetTell(fn func(si abi.Siginfo, ended bool)) {
	p.sigMu.Lock()
	p.sig.tell = fn
	p.sigMu.Unlock()
}

// SetRemote makes it the process of a client elsewhere, which knows nothing of
// signals until it says so: SIGPIPE and SIGXFSZ are ignored, as their errno is
// told anyway, and the model is SigRaise.
func (p *Proc) SetRemote() {
	p.sigMu.Lock()
	defer p.sigMu.Unlock()
	if p.sig.remote {
		return
	}
	p.sig.remote = true
	for _, sig := range sigClient {
		if _, set := p.sig.acts[sig]; !set {
			p.setActLocked(sig, abi.Sigaction{Handler: abi.SIG_IGN})
		}
	}
}

// inheritSignals gives a child what fork(2) gives it.
func (p *Proc) inheritSignals(c *Proc) {
	p.sigMu.Lock()
	defer p.sigMu.Unlock()
	c.sigMu.Lock()
	defer c.sigMu.Unlock()
	c.sig.model, c.sig.remote, c.sig.mask = p.sig.model, p.sig.remote, p.sig.mask
	c.sig.acts = maps.Clone(p.sig.acts)
	c.catches.Store(p.catches.Load())
}

// Catches reports whether the process has handlers, so that signals may
// interrupt its calls.
func (p *Proc) Catches() bool { return p.catches.Load() }

// setActLocked sets a disposition, SIG_DFL being none.
func (p *Proc) setActLocked(sig int, a abi.Sigaction) {
	if a == (abi.Sigaction{}) {
		delete(p.sig.acts, sig)
	} else {
		if p.sig.acts == nil {
			p.sig.acts = make(map[int]abi.Sigaction)
		}
		p.sig.acts[sig] = a
	}
	if a.Handler > abi.SIG_IGN {
		p.catches.Store(true)
	}
}

// Sigaction answers the disposition of a signal and, if set is not nil, replaces
// it (sigaction(2)). EINVAL for what is no signal, for unknown flags, and for
// SIGKILL and SIGSTOP, which cannot be caught or ignored.
func (p *Proc) Sigaction(sig int, set *abi.Sigaction) (old abi.Sigaction, err error) {
	if sig <= 0 || sig >= abi.NSIG {
		return old, abi.EINVAL
	}
	if set != nil && (sigCantmask.Has(sig) || set.Flags&^abi.SA_ALLFLAGS != 0) {
		return old, abi.EINVAL
	}
	p.sigMu.Lock()
	old = p.sig.acts[sig]
	if set != nil {
		a := *set
		a.Mask &^= sigCantmask
		p.setActLocked(sig, a)
		if a.Handler == abi.SIG_IGN || a.Handler == abi.SIG_DFL && propOf(sig)&propIgnore != 0 {
			p.sig.pend.del(abi.SigsetOf(sig))
			for _, l := range p.sig.owned {
				l.pend.del(abi.SigsetOf(sig))
			}
		}
		p.deliverLocked() // SigRecord may have kept one
	}
	p.sigMu.Unlock()
	p.flush()
	return old, nil
}

// SigNote hangs an EVFILT_SIGNAL knote on the process.
func (p *Proc) SigNote(k *event.Knote) { p.sigNotes.Insert(k) }

// SigUnnote takes it off.
func (p *Proc) SigUnnote(k *event.Knote) { p.sigNotes.Remove(k) }

// Signal sends a signal to the process (psignal). It does not wait.
func (p *Proc) Signal(si abi.Siginfo) { p.post(si, nil) }

// Signal sends a signal to this lwp alone, which NewLwp made.
func (l *Lwp) Signal(si abi.Siginfo) { l.Proc.post(si, l) }

func (p *Proc) post(si abi.Siginfo, l *Lwp) {
	sig := si.Signo
	if sig <= 0 || sig >= abi.NSIG {
		return
	}
	p.sigNotes.Each(func(k *event.Knote) {
		if k.Ident == uint64(sig) {
			k.Update(func(n *event.Happened) {
				n.Data++
				n.Active = true
			})
		}
	})
	p.sigMu.Lock()
	panics := p.modelLocked() == SigPanic && sig != abi.SIGSYS && sig != abi.SIGPIPE
	if !panics {
		p.postLocked(si, l)
	}
	p.sigMu.Unlock()
	if panics {
		p.table.mu.Lock()
		fn := p.table.hooks.Panic
		p.table.mu.Unlock()
		if fn != nil {
			fn("unhandled signal " + abi.SignalName(sig))
		}
		return
	}
	p.flush()
}

func (p *Proc) postLocked(si abi.Siginfo, l *Lwp) {
	if p.sig.xsig != 0 || p.state.Load()&exiting != 0 {
		return
	}
	sig, prop := si.Signo, propOf(si.Signo)
	each := func(set abi.Sigset) {
		p.sig.pend.del(set)
		for _, l := range p.sig.owned {
			l.pend.del(set)
		}
	}
	switch {
	case prop&propCont != 0:
		each(sigStops)
		p.contLocked()
	case prop&propStop != 0:
		each(abi.SigsetOf(abi.SIGCONT))
	}
	h := p.sig.acts[sig].Handler
	switch {
	case h == abi.SIG_IGN:
		return
	case p.handLocked(si, l):
		return
	case h == abi.SIG_DFL && sig != abi.SIGKILL && p.modelLocked() <= SigIgnore:
		return // SigPanic has panicked, if it wanted to
	case h == abi.SIG_DFL && prop&propIgnore != 0 && p.modelLocked() != SigRecord:
		return
	}
	if l != nil {
		l.pend.add(si)
	} else {
		p.sig.pend.add(si)
	}
	p.deliverLocked()
}
