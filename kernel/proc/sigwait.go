package proc

import (
	"context"
	"slices"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Sigprocmask changes the signal mask of an lwp of NewLwp, or of the process for
// all others (sigprocmask(2)); set nil only asks. What is no longer masked is
// delivered. EINVAL for another how.
func (l *Lwp) Sigprocmask(how int, set *abi.Sigset) (old abi.Sigset, err error) {
	p := l.Proc
	p.sigMu.Lock()
	m := &p.sig.mask
	if l.owned {
		m = &l.mask
	}
	old = *m
	if set != nil {
		switch s := *set &^ sigCantmask; how {
		case abi.SIG_BLOCK:
			*m |= s
		case abi.SIG_UNBLOCK:
			*m &^= s
		case abi.SIG_SETMASK:
			*m = s
		default:
			p.sigMu.Unlock()
			return old, abi.EINVAL
		}
		p.deliverLocked()
	}
	p.sigMu.Unlock()
	p.flush()
	return old, nil
}

// Sigpending are the signals that are pending for the lwp (sigpending(2)).
func (l *Lwp) Sigpending() abi.Sigset {
	l.Proc.sigMu.Lock()
	defer l.Proc.sigMu.Unlock()
	return l.Proc.sig.pend.set | l.pend.set
}

// Mask replaces the lwp's mask during one call (pselect and the like) until
// Unmask. What it lets through is delivered, and interrupts the call if that has
// asked for ctx.Done already, which it should have.
func (l *Lwp) Mask(set abi.Sigset) {
	p := l.Proc
	p.sigMu.Lock()
	l.masked, l.tmpmask = true, set&^sigCantmask
	p.deliverLocked()
	p.sigMu.Unlock()
	p.flush()
}

// Unmask ends what Mask began.
func (l *Lwp) Unmask() {
	p := l.Proc
	p.sigMu.Lock()
	l.masked = false
	p.deliverLocked()
	p.sigMu.Unlock()
	p.flush()
}

// Sigsuspend waits with another mask until a signal is delivered that the
// process handles (sigsuspend(2)): the answer is EINTR, always.
func (l *Lwp) Sigsuspend(ctx context.Context, set abi.Sigset) error {
	done := ctx.Done() // from now on a signal ends it
	l.Mask(set)
	defer l.Unmask()
	<-done
	return abi.ErrnoOf(ctx.Err())
}

// sigwaiter is a Sigtimedwait.
type sigwaiter struct {
	set abi.Sigset
	l   *Lwp
	c   chan abi.Siginfo // has room for one
}

// Sigtimedwait takes one of the signals of set that is pending, or waits for one
// (sigtimedwait(2), sigwaitinfo(2) with a negative timeout). EAGAIN when the
// time is over, EINTR when another signal interrupts it.
func (l *Lwp) Sigtimedwait(ctx context.Context, set abi.Sigset, timeout time.Duration) (abi.Siginfo, error) {
	p := l.Proc
	done := ctx.Done()
	set &^= sigCantmask
	w := &sigwaiter{set: set, l: l, c: make(chan abi.Siginfo, 1)}
	p.sigMu.Lock()
	if si, ok := l.pend.take(set); ok {
		p.sigMu.Unlock()
		return si, nil
	}
	if si, ok := p.sig.pend.take(set); ok {
		p.sigMu.Unlock()
		return si, nil
	}
	p.sig.waiters = append(p.sig.waiters, w)
	p.sigMu.Unlock()
	var expired <-chan time.Time
	if timeout >= 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		expired = t.C
	}
	var err error
	select {
	case si := <-w.c:
		return si, nil
	case <-expired:
		err = abi.EAGAIN
	case <-done:
		err = abi.ErrnoOf(ctx.Err())
	}
	p.sigMu.Lock()
	p.sig.waiters = slices.DeleteFunc(p.sig.waiters, func(x *sigwaiter) bool { return x == w })
	p.sigMu.Unlock()
	select {
	case si := <-w.c: // it came after all, and is not lost
		return si, nil
	default:
		return abi.Siginfo{}, err
	}
}

// handLocked gives a signal to a Sigtimedwait that wants it.
func (p *Proc) handLocked(si abi.Siginfo, only *Lwp) bool {
	if sigCantmask.Has(si.Signo) {
		return false
	}
	for i, w := range p.sig.waiters {
		if w.set.Has(si.Signo) && (only == nil || only == w.l) {
			p.sig.waiters = slices.Delete(p.sig.waiters, i, i+1)
			w.c <- si
			return true
		}
	}
	return false
}

// Sigwaiters is how many Sigtimedwait wait.
func (p *Proc) Sigwaiters() int {
	p.sigMu.Lock()
	defer p.sigMu.Unlock()
	return len(p.sig.waiters)
}
