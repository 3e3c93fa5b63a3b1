package proc

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Lwp is one thread of execution in the kernel (struct lwp).
//
// There are two kinds. Enter gives one for a single system call, and Leave
// takes it back. NewLwp makes one that stays until Release, which is what a
// program has that holds an lwp as rump's clients do (rump_lwproc_newlwp): it
// keeps its number, and Begin and End bracket each call. Switching from one to
// another is passing another one; With and Current carry it in a context, and a
// context without one is the implicit lwp of the seed (curlwp is NULL).
type Lwp struct {
	Lid    int32
	Proc   *Proc
	caller abi.Caller

	// Protected by Proc.sigMu, but sigseq, which belongs to who makes the call.
	waitNum     int         // the call that it waits in
	waiter      Interrupter // which a signal ends
	interrupted bool        // by one already
	mask        abi.Sigset  // an lwp of NewLwp has its own
	masked      bool        // the mask is tmpmask for this call
	tmpmask     abi.Sigset
	pend        sigpend // for it alone; only an lwp of NewLwp has any
	sigseq      uint64  // Proc.sigseq when the call began

	owned    bool        // made by NewLwp
	busy     atomic.Bool // in a call
	released atomic.Bool
}

// lid gives the next number, never 0 (rump_nextlid).
func (p *Proc) lid() int32 { return int32((p.lastID.Add(1)-1)%math.MaxInt32) + 1 }

// NewLwp makes an lwp in process pid. ESRCH if there is no such process, EBUSY
// if it is exiting.
func (t *Table) NewLwp(pid int32) (*Lwp, error) {
	p, err := t.Find(pid)
	if err != nil {
		return nil, fmt.Errorf("newlwp %d: %w", pid, err)
	}
	return p.NewLwp()
}

// NewLwp makes an lwp of p. EBUSY if p is exiting; EAGAIN above RLIMIT_NTHR.
func (p *Proc) NewLwp() (*Lwp, error) {
	if p.begin() != nil {
		return nil, fmt.Errorf("newlwp: process %d is exiting: %w", p.Pid, abi.EBUSY)
	}
	defer p.leave()
	if err := p.lwpBorn(); err != nil {
		return nil, err
	}
	lid := p.lid()
	p.owned.Add(1)
	l := &Lwp{Lid: lid, Proc: p, owned: true, caller: abi.Caller{Pid: p.Pid, Lid: lid}}
	p.sigMu.Lock()
	l.mask = p.sig.mask
	if p.sig.owned == nil {
		p.sig.owned = make(map[int32]*Lwp)
	}
	p.sig.owned[lid] = l
	p.sigMu.Unlock()
	return l, nil
}

// Begin begins a system call of an lwp that NewLwp made. ESRCH if its process
// is exiting, EBUSY if it is in a call already or was released: an lwp does one
// thing at a time.
func (l *Lwp) Begin() error {
	if l.released.Load() || !l.busy.CompareAndSwap(false, true) {
		return abi.EBUSY
	}
	if err := l.Proc.begin(); err != nil {
		l.busy.Store(false)
		return err
	}
	l.refresh()
	return nil
}

// End ends it.
func (l *Lwp) End() {
	l.busy.Store(false)
	l.Proc.leave()
}

// Release ends an lwp that NewLwp made (rump_lwproc_releaselwp). With its last
// one a process that Rfork made ends. EBUSY if it is in a call or was released
// before.
func (l *Lwp) Release(ctx context.Context) error {
	if !l.owned || !l.busy.CompareAndSwap(false, true) {
		return abi.EBUSY
	}
	l.released.Store(true) // and busy for ever
	l.Proc.sigMu.Lock()
	delete(l.Proc.sig.owned, l.Lid)
	l.Proc.sigMu.Unlock()
	l.Proc.lwpDied()
	if l.Proc.owned.Add(-1) == 0 && l.Proc.lastLwp.Load() {
		l.Proc.Exit(ctx)
	}
	return nil
}

// ExitWithLastLwp makes the process end when its last lwp is released.
func (p *Proc) ExitWithLastLwp() { p.lastLwp.Store(true) }

// refresh takes over what the process has changed since the last call.
func (l *Lwp) refresh() {
	p := l.Proc
	if c := p.cred.Load(); l.caller.Cred != c {
		l.caller.Cred = c
	}
	if n := p.fsize.Load(); l.caller.Fsize != n {
		l.caller.Fsize = n
	}
	if n := p.sigseq.Load(); l.sigseq != n {
		l.sigseq = n
	}
}

// Caller is who the lwp acts for.
func (l *Lwp) Caller() *abi.Caller { return &l.caller }

type lwpKey struct{}

// With puts l into a context for code that gets nothing else
// (rump_lwproc_switch); nil takes out what is in it.
func With(ctx context.Context, l *Lwp) context.Context {
	return context.WithValue(ctx, lwpKey{}, l)
}

// Current is the lwp that With put in, or nil: curlwp.
func Current(ctx context.Context) *Lwp {
	l, _ := ctx.Value(lwpKey{}).(*Lwp)
	return l
}
