package kernel

import (
	"context"
	"fmt"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Proc is a process of the kernel as its client sees it: what an embedded
// program or the sysproxy server makes system calls through.
type Proc struct {
	k *Kernel
	p *proc.Proc
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
	return &Proc{k, p}, nil
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
func (p *Proc) Pid() int32 { return p.p.Pid }

// Syscall makes one system call. It ends with EINTR when ctx is cancelled,
// ETIMEDOUT when ctx's deadline passes, and ESRCH when the process exits.
func (p *Proc) Syscall(ctx context.Context, num int, a *abi.Sysargs) error {
	l, err := p.p.Enter()
	if err != nil {
		return err
	}
	defer l.Leave()
	if ctx.Done() == nil { // nothing of the caller's to wait for: the process's end does
		err = p.k.sys.Call(p.p.Context(), l, num, a)
	} else {
		ctx, cancel := context.WithCancel(ctx)
		stop := context.AfterFunc(p.p.Context(), cancel)
		err = p.k.sys.Call(ctx, l, num, a)
		stop()
		cancel()
	}
	if err != nil && p.p.Context().Err() != nil && abi.ErrnoOf(err) == abi.EINTR {
		return fmt.Errorf("process %d has exited: %w", p.p.Pid, abi.ESRCH)
	}
	return err
}

// exitTime bounds how long Close waits for calls in progress.
const exitTime = 10 * time.Second

// Close ends the process.
func (p *Proc) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), exitTime)
	defer cancel()
	p.p.Exit(ctx)
	return nil
}
