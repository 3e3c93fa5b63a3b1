package kernel

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// claimTime is how long a child of lwproc_rfork waits for somebody to become it.
const claimTime = 30 * time.Second

// forks are the children of lwproc_rfork that nobody has become yet.
type forks struct {
	mu      sync.Mutex
	m       map[[abi.CookieSize]byte]*forked // protected by mu
	orphans int                              // processes between two programs, protected by mu
}

type forked struct {
	p    *proc.Proc
	uid  uint32 // real uid of who forked
	stop func() // the end of waiting

	from *Proc  // lwproc_exec: whose process it is; nil for a child
	name string // lwproc_exec: of the program
}

// rfork makes a child that another client of the same user can become. It ends
// if nobody does in time, or when its parent ends.
func (k *Kernel) rfork(l *proc.Lwp, flags int) (pid int32, cookie [abi.CookieSize]byte, err error) {
	c, err := l.Proc.Rfork(flags)
	if err != nil {
		return 0, cookie, err
	}
	k.hyp.Entropy(cookie[:])
	give := func() {
		if f := k.claim(cookie); f != nil {
			f.p.Exit(context.Background())
		}
	}
	t := time.AfterFunc(claimTime, give)
	stop := context.AfterFunc(l.Proc.Context(), give)
	f := &forked{p: c, uid: l.Caller().Cred.Ruid, stop: func() { t.Stop(); stop() }}
	k.forks.mu.Lock()
	if k.forks.m == nil {
		k.forks.m = make(map[[abi.CookieSize]byte]*forked)
	}
	k.forks.m[cookie] = f
	k.forks.mu.Unlock()
	if l.Proc.Context().Err() != nil { // it ended before the child was entered
		give()
	}
	return c.Pid, cookie, nil
}

// claim takes a child out of the list; nil if there is none.
func (k *Kernel) claim(cookie [abi.CookieSize]byte) *forked {
	k.forks.mu.Lock()
	f := k.forks.m[cookie]
	delete(k.forks.m, cookie)
	if f != nil && f.from != nil {
		f.from.given.Store(true)
		f.from.pending = false
		if f.from.closed {
			k.forks.orphans--
		}
	}
	k.forks.mu.Unlock()
	if f != nil {
		f.stop()
	}
	return f
}

// attach is lwproc_attach: the client becomes the process whose cookie In is,
// and the one that it was ends. EPERM for a wrong cookie or another user's.
func (p *Proc) attach(ctx context.Context, a *abi.Sysargs) error {
	a.R, a.NO = [2]uint64{}, 0
	p.k.sys.Calls.Inc()
	if len(a.In) != abi.CookieSize {
		return abi.EINVAL
	}
	old := p.p.Load()
	k := p.k
	cookie := [abi.CookieSize]byte(a.In)
	k.forks.mu.Lock()
	f := k.forks.m[cookie]
	if f != nil && (old.Cred().Euid != 0 && old.Cred().Ruid != f.uid || f.from == p || p.pending || p.given.Load()) {
		f = nil
	}
	k.forks.mu.Unlock()
	if f != nil {
		f = k.claim(cookie)
	}
	if f == nil {
		return fmt.Errorf("lwproc_attach: no such process: %w", abi.EPERM)
	}
	if !p.p.CompareAndSwap(old, f.p) { // another attach of this client won
		f.p.Exit(ctx)
		return abi.EBUSY
	}
	if fn := p.tell.Load(); fn != nil {
		old.SetTell(nil)
		f.p.SetTell(*fn)
	}
	if old.Context().Err() != nil { // the client has ended meanwhile
		f.p.Exit(ctx)
		return abi.ESRCH
	}
	old.Exit(ctx)
	if f.from != nil {
		k.execed(ctx, f.p, f.name)
	}
	a.R[0] = uint64(f.p.Pid)
	return nil
}

// Rfork makes a child process, as rump_lwproc_rfork does; flags are RUMP_RF*.
// EINVAL for both.
func (p *Proc) Rfork(flags int) (*Proc, error) {
	c, err := p.p.Load().Rfork(flags)
	if err != nil {
		return nil, err
	}
	return p.k.procOf(c), nil
}

// Lwp is an explicit lwp: it keeps its number from call to call, and makes one
// call at a time.
type Lwp struct {
	k *Kernel
	l *proc.Lwp
}

// NewLwp makes an lwp in process pid (rump_lwproc_newlwp). ESRCH, EBUSY.
func (k *Kernel) NewLwp(pid int32) (*Lwp, error) {
	l, err := k.Procs.NewLwp(pid)
	if err != nil {
		return nil, err
	}
	return &Lwp{k, l}, nil
}

// RforkLwp makes a child of process pid with one lwp, whose release ends it.
func (k *Kernel) RforkLwp(pid int32, flags int) (*Lwp, error) {
	p, err := k.Procs.Find(pid)
	if err != nil {
		return nil, err
	}
	c, err := p.Rfork(flags)
	if err != nil {
		return nil, err
	}
	c.ExitWithLastLwp()
	l, err := c.NewLwp()
	if err != nil {
		return nil, err
	}
	return &Lwp{k, l}, nil
}

// Lid is the lwp's number, Pid that of its process.
func (l *Lwp) Lid() int32 { return l.l.Lid }

// Pid is the number of the lwp's process.
func (l *Lwp) Pid() int32 { return l.l.Proc.Pid }

// Syscall makes one system call. EBUSY while another one is in progress.
func (l *Lwp) Syscall(ctx context.Context, num int, a *abi.Sysargs) error {
	if err := l.l.Begin(); err != nil {
		return err
	}
	defer l.l.End()
	return l.k.call(ctx, l.l, num, a)
}

// Close releases the lwp (rump_lwproc_releaselwp). EBUSY if it is in a call or
// was released before, which the seed takes for a panic.
func (l *Lwp) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), exitTime)
	defer cancel()
	return l.l.Release(ctx)
}
