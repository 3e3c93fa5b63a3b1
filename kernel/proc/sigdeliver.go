package proc

import (
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// neverRestarts are the calls that end with EINTR also with SA_RESTART.
func neverRestarts(num int) bool {
	switch num {
	case abi.SYS_poll, abi.SYS_pollts, abi.SYS_select, abi.SYS_pselect, abi.SYS_kevent, abi.SYS_sigsuspend, abi.SYS___sigtimedwait:
		return true
	}
	return false
}

// maskLocked is the mask of an lwp.
func (l *Lwp) maskLocked() abi.Sigset {
	switch {
	case l.masked:
		return l.tmpmask
	case l.owned:
		return l.mask
	}
	return l.Proc.sig.mask
}

// openLocked are the signals that some lwp of the process does not mask.
func (p *Proc) openLocked() abi.Sigset {
	open := ^p.sig.mask
	for _, l := range p.sig.owned {
		open |= ^l.maskLocked()
	}
	for _, l := range p.sig.waits {
		open |= ^l.maskLocked()
	}
	return open | sigCantmask
}

// deliverLocked delivers what is pending and not masked. Preconditions: sigMu is
// held; who releases it then calls flush.
func (p *Proc) deliverLocked() {
	for p.sig.xsig == 0 {
		if si, ok := p.sig.pend.take(p.openLocked() &^ p.recordedLocked()); ok {
			p.actLocked(si, nil)
			continue
		}
		again := false
		for _, l := range p.sig.owned {
			if si, ok := l.pend.take((^l.maskLocked() | sigCantmask) &^ p.recordedLocked()); ok {
				p.actLocked(si, l)
				again = true
				break
			}
		}
		if !again {
			return
		}
	}
}

// recordedLocked are the signals that stay pending because the model is
// SigRecord and nothing is set for them.
func (p *Proc) recordedLocked() abi.Sigset {
	if p.modelLocked() != SigRecord {
		return 0
	}
	set := ^abi.Sigset(0)
	for sig := range p.sig.acts {
		set.Del(sig)
	}
	set.Del(abi.SIGKILL)
	return set
}

// actLocked does what the process wants done with a signal that is delivered.
func (p *Proc) actLocked(si abi.Siginfo, l *Lwp) {
	sig := si.Signo
	a := p.sig.acts[sig]
	switch {
	case a.Handler == abi.SIG_IGN:
	case a.Handler != abi.SIG_DFL:
		if a.Flags&abi.SA_RESETHAND != 0 && sig != abi.SIGILL && sig != abi.SIGTRAP && sig != abi.SIGPWR {
			p.setActLocked(sig, abi.Sigaction{})
		}
		p.sig.notices = append(p.sig.notices, notice{si, noticeSignal})
		p.interruptLocked(sig, a.Flags&abi.SA_RESTART != 0, l)
	case sig != abi.SIGKILL && p.modelLocked() <= SigIgnore:
	default:
		switch prop := propOf(sig); {
		case prop&propStop != 0:
			if p.sig.stopsig == 0 {
				p.sig.stopsig, p.sig.unwaited, p.sig.cont = sig, true, make(chan struct{})
				p.stopped.Store(true)
				p.sig.notices = append(p.sig.notices, notice{si, noticeStop})
			}
		case prop&propKill != 0:
			p.sig.xsig = sig
			p.sig.notices = append(p.sig.notices, notice{si, noticeEnd})
		}
	}
}

// interruptLocked ends the wait of one call, or remembers to.
func (p *Proc) interruptLocked(sig int, restart bool, only *Lwp) {
	var best *Lwp
	taken := false // by an lwp whose call is restarted
	for _, l := range p.sig.waits {
		if l.interrupted || only != nil && only != l || l.maskLocked().Has(sig) {
			continue
		}
		if restart && !neverRestarts(l.waitNum) {
			taken = true
			continue
		}
		if best == nil || l.masked && !best.masked || l.masked == best.masked && l.Lid < best.Lid {
			best = l
		}
	}
	switch {
	case best != nil:
		best.interrupted = true
		p.sig.wakes = append(p.sig.wakes, best.waiter)
	case !taken:
		p.sig.hung = hung{p.sigseq.Add(1), sig, restart, only}
	}
}

// contLocked continues a process that is stopped.
func (p *Proc) contLocked() {
	if p.sig.stopsig == 0 {
		return
	}
	p.sig.stopsig, p.sig.unwaited = 0, false
	p.stopped.Store(false)
	close(p.sig.cont)
	p.sig.notices = append(p.sig.notices, notice{abi.Siginfo{Signo: abi.SIGCONT}, noticeCont})
}

// flush does what must not be done with sigMu held: the client is told, in the
// order of delivery, and then waits are ended.
func (p *Proc) flush() {
	p.sigMu.Lock()
	if p.sig.telling || len(p.sig.notices) == 0 && len(p.sig.wakes) == 0 {
		p.sigMu.Unlock()
		return
	}
	p.sig.telling = true
	for len(p.sig.notices) > 0 || len(p.sig.wakes) > 0 {
		ns, wakes, tell := p.sig.notices, p.sig.wakes, p.sig.tell
		p.sig.notices, p.sig.wakes = nil, nil
		p.sigMu.Unlock()
		for _, n := range ns {
			switch n.kind {
			case noticeStop:
				p.tellParent(abi.CLD_STOPPED, int64(n.si.Signo))
				continue
			case noticeCont:
				p.tellParent(abi.CLD_CONTINUED, int64(n.si.Signo))
				continue
			}
			if tell != nil {
				tell(n.si, n.kind == noticeEnd)
			}
			if n.kind == noticeEnd {
				p.end()
			}
		}
		for _, w := range wakes {
			w.Interrupt()
		}
		p.sigMu.Lock()
	}
	p.sig.telling = false
	p.sigMu.Unlock()
}

// Stopped reports whether the process is stopped by a signal.
func (p *Proc) Stopped() bool { return p.stopped.Load() }

// AwaitCont waits until the process is not stopped: ESRCH if it ends, EINTR when
// done is closed, which may be nil.
func (p *Proc) AwaitCont(done <-chan struct{}) error {
	for {
		p.sigMu.Lock()
		cont, stopped := p.sig.cont, p.sig.stopsig != 0
		p.sigMu.Unlock()
		if !stopped {
			return nil
		}
		select {
		case <-cont:
		case <-p.ctx.Done():
			return abi.ESRCH
		case <-done:
			return abi.EINTR
		}
	}
}

// EndSignal is the signal that ended the process, 0 if none did.
func (p *Proc) EndSignal() int {
	p.sigMu.Lock()
	defer p.sigMu.Unlock()
	return p.sig.xsig
}

// State is the process's state as ps(1) has it: T stopped, R in a system call, S
// in one that waits, I in none.
func (p *Proc) State() string {
	n := p.NLwps()
	p.sigMu.Lock()
	defer p.sigMu.Unlock()
	switch {
	case p.sig.stopsig != 0:
		return "T"
	case n > len(p.sig.waits):
		return "R"
	case n > 0:
		return "S"
	}
	return "I"
}
