package kernel

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Proc is a process of the kernel as its client sees it: what an embedded
// program or the sysproxy server makes system calls through.
type Proc struct {
	k *Kernel
	p atomic.Pointer[proc.Proc] // lwproc_attach changes it

	tell atomic.Pointer[func(abi.Siginfo, bool)] // see OnSignal

	given   atomic.Bool // by lwproc_exec, to another client; set under forks.mu
	pending bool        // there is a cookie of lwproc_exec; protected by forks.mu
	closed  bool        // protected by forks.mu
}

// NewProc makes a process. ESRCH when the kernel does not run.
func (k *Kernel) NewProc(name string, cred *abi.Cred) (*Proc, error) {
	if s := k.State(); s != Running {
		return nil, fmt.Errorf("the kernel is %s: %w", s, abi.ESRCH)
	}
	p, err := k.Procs.New(name, cred)
	if err != nil {
		return nil, err
	}
	return k.procOf(p), nil
}

func (k *Kernel) procOf(p *proc.Proc) *Proc {
	q := &Proc{k: k}
	q.p.Store(p)
	return q
}

// Client makes a process of the super-user with its own descriptors and working
// directory, and answers the interface to it.
func (k *Kernel) Client(name string) (*rumpclient.Client, error) {
	p, err := k.NewProc(name, abi.Root)
	if err != nil {
		return nil, err
	}
	return rumpclient.New(p), nil
}

// Pid is the process id in the kernel.
func (p *Proc) Pid() int32 { return p.p.Load().Pid }

// Syscall makes one system call. It ends with EINTR when ctx is cancelled,
// ETIMEDOUT when ctx's deadline passes, and ESRCH when the process exits.
func (p *Proc) Syscall(ctx context.Context, num int, a *abi.Sysargs) error {
	switch num {
	case abi.SYS_lwproc_attach:
		return p.attach(ctx, a)
	case abi.SYS_lwproc_exec:
		return p.exec(a)
	}
	if p.given.Load() {
		return errGiven
	}
	q := p.p.Load()
	l, err := q.Enter()
	if err != nil {
		return gone(q)
	}
	defer l.Leave()
	return p.k.call(ctx, l, num, a)
}

// call makes one system call for an lwp that has begun.
func (k *Kernel) call(ctx context.Context, l *proc.Lwp, num int, a *abi.Sysargs) (err error) {
	exit := l.Proc.Context()
	if l.Proc.Stopped() {
		switch l.Proc.AwaitCont(ctx.Done()) {
		case abi.EINTR:
			return abi.ErrnoOf(ctx.Err())
		case abi.ESRCH:
			return gone(l.Proc)
		}
	}
	// Not Done: a remote caller's context makes a channel for who asks.
	if ctx == background && !l.Proc.Catches() && !sigwaits(num) { // nothing of the caller's to wait for: the process's end does
		err = k.dispatch(exit, l, num, a)
	} else {
		x := callCtxs.Get().(*callCtx)
		x.Context, x.exit, x.l, x.num = ctx, exit, l, num
		x.args = [2]uint64{a.A[0], a.A[1]}
		err = k.dispatch(x, l, num, a)
		x.end()
	}
	k.leave()
	if err != nil && exit.Err() != nil && abi.ErrnoOf(err) == abi.EINTR {
		return gone(l.Proc)
	}
	return err
}

// sigwaits are the calls that signals end also in a process without handlers.
func sigwaits(num int) bool {
	return num == abi.SYS_sigsuspend || num == abi.SYS___sigtimedwait
}

// gone is the error of a call of a process that has ended.
func gone(p *proc.Proc) error {
	if sig := p.EndSignal(); sig != 0 {
		return fmt.Errorf("process %d was ended by %s: %w", p.Pid, abi.SignalName(sig), abi.ESRCH)
	}
	return fmt.Errorf("process %d has exited: %w", p.Pid, abi.ESRCH)
}

// leave runs what waits for somebody to leave the kernel, if the kernel has no
// threads of its own (rump_unschedule runs soft interrupts).
func (k *Kernel) leave() {
	if !k.threads() {
		k.Threads.Poll()
	}
}

// background is the context of most calls of embedded programs.
var background = context.Background()

// dispatch makes the call here, or passes it to whom SysproxySet has put in the
// way.
func (k *Kernel) dispatch(ctx context.Context, l *proc.Lwp, num int, a *abi.Sysargs) error {
	if h := k.sysproxy.Load(); h != nil {
		for i := range a.Path { // sysproxy reuses their memory
			a.Path[i] = strings.Clone(a.Path[i])
		}
		return h.fn(ctx, h.arg, l.Caller(), num, a, func() error { return k.sys.Call(ctx, l, num, a) })
	}
	return k.sys.Call(ctx, l, num, a)
}

// exitTime bounds how long Close waits for calls in progress.
const exitTime = 10 * time.Second

// Close ends the process.
func (p *Proc) Close() error {
	if p.closeForExec() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), exitTime)
	defer cancel()
	p.p.Load().Exit(ctx)
	return nil
}

// callCtx is the context of one call: it ends with the caller's and with the
// process. A call that waits for nothing asks for neither, which is why the two
// are joined only when somebody wants to wait. One that nobody has asked
// anything is used again.
type callCtx struct {
	context.Context // the caller's
	exit            context.Context
	l               *proc.Lwp // ps is told that it waits; nil: nobody is
	num             int
	args            [2]uint64 // the first two, for ps

	mu     sync.Mutex
	joined context.Context // protected by mu; nil until it is wanted
	stop   func()          // protected by mu
	cancel func()          // set once, before a signal can come
	over   bool            // protected by mu: the call has returned
	asked  bool            // protected by mu: somebody may have kept it, or one derived from it
}

var callCtxs = sync.Pool{New: func() any { return new(callCtx) }}

// canceled is what the context of a call that is over belongs to.
var canceled = func() context.Context {
	ctx, cancel := context.WithCancel(background)
	cancel()
	return ctx
}()

// CallArgs are the first two arguments of the call.
func (x *callCtx) CallArgs() [2]uint64 { return x.args }

// join makes the context that both end.
func (x *callCtx) join() context.Context {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.asked = true
	if x.joined == nil {
		ctx, cancel := context.WithCancel(x.Context)
		x.joined = ctx
		if x.over {
			cancel()
		} else {
			stop := context.AfterFunc(x.exit, cancel)
			x.stop = func() { stop(); cancel() }
			if x.l != nil {
				x.cancel = cancel
				x.l.Waits(x.num, x)
			}
		}
	}
	return x.joined
}

// Interrupt ends the wait: a signal was delivered.
func (x *callCtx) Interrupt() { x.cancel() }

// Done is closed when one of the two ends, or the call.
func (x *callCtx) Done() <-chan struct{} { return x.join().Done() }

// Err says which way it ended.
func (x *callCtx) Err() error {
	x.mu.Lock()
	j, over := x.joined, x.over
	x.mu.Unlock()
	switch {
	case j != nil && j.Err() != nil:
		return j.Err()
	case x.Context.Err() != nil:
		return x.Context.Err()
	case over || x.exit.Err() != nil:
		return context.Canceled
	}
	return nil
}

// Value finds the joined context for those that derive from this one, so that
// they need no goroutine.
func (x *callCtx) Value(key any) any {
	x.mu.Lock()
	x.asked = true
	j := x.joined
	x.mu.Unlock()
	if j != nil {
		return j.Value(key)
	}
	return x.Context.Value(key)
}

// end is the end of the call.
func (x *callCtx) end() {
	x.mu.Lock()
	if !x.asked {
		x.Context, x.exit, x.l = canceled, canceled, nil
		x.mu.Unlock()
		callCtxs.Put(x)
		return
	}
	x.over = true
	stop := x.stop
	x.mu.Unlock()
	if stop != nil {
		stop()
		if x.l != nil {
			x.l.Woke()
		}
	}
}
