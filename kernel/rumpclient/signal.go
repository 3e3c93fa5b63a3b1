package rumpclient

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// handler is the Handler of signals that Notify and RaiseSignals ask for.
const handler = 2

// signaller is the optional part of a Caller that has signals.
type signaller interface {
	OnSignal(fn func(si abi.Siginfo, ended bool))
}

// signalHub passes signals of the client's process on.
type signalHub struct {
	mu    sync.Mutex
	chans map[chan<- abi.Siginfo]abi.Sigset // protected by mu
	raise abi.Sigset                        // protected by mu
	ended int                               // protected by mu; the signal that ended the process
}

// tell is told of signals by the Caller. It does not wait.
func (h *signalHub) tell(si abi.Siginfo, ended bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ch, set := range h.chans {
		if set.Has(si.Signo) && !ended {
			select {
			case ch <- si:
			default:
			}
		}
	}
	if ended {
		h.ended = si.Signo
	}
	if n := HostSignal(si.Signo); n != 0 && (h.raise.Has(si.Signo) || ended && h.raise != 0) {
		_ = syscall.Kill(os.Getpid(), n)
	}
}

// EndSignal is the signal that ended the client's process, 0 as long as none
// did.
func (c *Client) EndSignal() int {
	c.sig.mu.Lock()
	defer c.sig.mu.Unlock()
	return c.sig.ended
}

// HostSignal is a signal's number on the host, 0 if it has none.
func HostSignal(sig int) syscall.Signal {
	if sig >= abi.SIGRTMIN && sig <= abi.SIGRTMAX {
		if n := sig - abi.SIGRTMIN + 34; n <= 64 { // SIGRTMIN of Linux's C libraries
			return syscall.Signal(n)
		}
		return 0
	}
	return signalNum(abi.SignalName(sig))
}

// Notify has signals sent to ch from now on, as os/signal's Notify does: what ch
// has no room for is lost. Calls are not interrupted by these signals where
// NetBSD restarts them (SA_RESTART). EINVAL for SIGKILL and SIGSTOP.
func (c *Client) Notify(ctx context.Context, ch chan<- abi.Siginfo, sigs ...int) error {
	c.sig.mu.Lock()
	if c.sig.chans == nil {
		c.sig.chans = make(map[chan<- abi.Siginfo]abi.Sigset)
	}
	c.sig.chans[ch] |= abi.SigsetOf(sigs...)
	c.sig.mu.Unlock()
	return c.setAll(ctx, sigs, abi.Sigaction{Handler: handler, Flags: abi.SA_RESTART})
}

// StopNotify ends what Notify began for ch. The signals are then nobody's: see
// ResetSignals.
func (c *Client) StopNotify(ch chan<- abi.Siginfo) {
	c.sig.mu.Lock()
	delete(c.sig.chans, ch)
	c.sig.mu.Unlock()
}

// RaiseSignals has signals of the kernel raised as the host's in this program,
// which then does with them what it does with its own; none given are all that
// can be (RUMP_SIGMODEL_RAISE). A signal that ends the client's process in the
// kernel is raised as well, SIGKILL too.
func (c *Client) RaiseSignals(ctx context.Context, sigs ...int) error {
	if len(sigs) == 0 {
		for sig := 1; sig < abi.NSIG; sig++ {
			if sig != abi.SIGKILL && sig != abi.SIGSTOP && HostSignal(sig) != 0 {
				sigs = append(sigs, sig)
			}
		}
	}
	c.sig.mu.Lock()
	c.sig.raise |= abi.SigsetOf(sigs...)
	c.sig.mu.Unlock()
	return c.setAll(ctx, sigs, abi.Sigaction{Handler: handler, Flags: abi.SA_RESTART})
}

// IgnoreSignals has the process ignore signals (SIG_IGN).
func (c *Client) IgnoreSignals(ctx context.Context, sigs ...int) error {
	return c.setAll(ctx, sigs, abi.Sigaction{Handler: abi.SIG_IGN})
}

// ResetSignals gives signals back their default effect (SIG_DFL).
func (c *Client) ResetSignals(ctx context.Context, sigs ...int) error {
	c.sig.mu.Lock()
	c.sig.raise &^= abi.SigsetOf(sigs...)
	c.sig.mu.Unlock()
	return c.setAll(ctx, sigs, abi.Sigaction{})
}

func (c *Client) setAll(ctx context.Context, sigs []int, act abi.Sigaction) error {
	for _, sig := range sigs {
		if _, err := c.Sigaction(ctx, sig, &act); err != nil {
			return err
		}
	}
	return nil
}

// Sigaction is sigaction(2): it answers what the process does with a signal and,
// if act is not nil, changes it. A signal with a Handler other than SIG_DFL and
// SIG_IGN interrupts a waiting call, unless Flags has SA_RESTART; Notify is how
// to learn of it.
func (c *Client) Sigaction(ctx context.Context, sig int, act *abi.Sigaction) (old abi.Sigaction, err error) {
	a := args(sig)
	if act != nil {
		a.In = abi.AppendSigaction(nil, *act)
	}
	var p [abi.SigactionSize]byte
	n, _, err := c.out(ctx, abi.SYS___sigaction_sigtramp, "", a, p[:])
	if err != nil {
		return old, err
	}
	if old, err = abi.ParseSigaction(p[:n]); err != nil {
		err = answer(abi.SYS___sigaction_sigtramp, "", err)
	}
	return old, err
}

// Kill is kill(2): pid is a process, 0 the own group, -1 all processes but this
// one, another negative number a group. Signal 0 asks whether it could be sent.
func (c *Client) Kill(ctx context.Context, pid, sig int) error {
	return c.do(ctx, abi.SYS_kill, strconv.Itoa(pid), args(pid, sig))
}

// LwpKill is _lwp_kill(2).
func (c *Client) LwpKill(ctx context.Context, lid, sig int) error {
	return c.do(ctx, abi.SYS__lwp_kill, "", args(lid, sig))
}

// Sigqueue is sigqueue(2): a signal with a value.
func (c *Client) Sigqueue(ctx context.Context, pid, sig int, value int64) error {
	a := args(pid)
	a.In = abi.AppendSiginfo(nil, abi.Siginfo{Signo: sig, Code: abi.SI_QUEUE, Value: value})
	return c.do(ctx, abi.SYS_sigqueueinfo, "", a)
}

// Sigprocmask is sigprocmask(2) for the process: how is abi.SIG_BLOCK and the
// like; a nil set only asks.
func (c *Client) Sigprocmask(ctx context.Context, how int, set *abi.Sigset) (old abi.Sigset, err error) {
	a := args(how)
	if set != nil {
		a.In = abi.AppendSigset(nil, *set)
	}
	return c.sigset(ctx, abi.SYS_sigprocmask, a)
}

// Sigpending is sigpending(2).
func (c *Client) Sigpending(ctx context.Context) (abi.Sigset, error) {
	return c.sigset(ctx, abi.SYS_sigpending, args())
}

func (c *Client) sigset(ctx context.Context, num int, a *abi.Sysargs) (set abi.Sigset, err error) {
	var p [abi.SigsetSize]byte
	n, _, err := c.out(ctx, num, "", a, p[:])
	if err != nil {
		return 0, err
	}
	if set, err = abi.ParseSigset(p[:n]); err != nil {
		err = answer(num, "", err)
	}
	return set, err
}

// Sigsuspend is sigsuspend(2): it waits, with another mask, until a signal is
// delivered, and answers EINTR then.
func (c *Client) Sigsuspend(ctx context.Context, mask abi.Sigset) error {
	a := args()
	a.In = abi.AppendSigset(nil, mask)
	return c.do(ctx, abi.SYS_sigsuspend, "", a)
}

// Sigtimedwait is sigtimedwait(2): it takes a signal of the set that is pending,
// or waits for one. EAGAIN when the time is over; a negative one is for ever
// (sigwaitinfo).
func (c *Client) Sigtimedwait(ctx context.Context, set abi.Sigset, timeout time.Duration) (si abi.Siginfo, err error) {
	a := args()
	a.In = abi.AppendSigset(nil, set)
	if timeout >= 0 {
		a.SetInt(0, 1)
		a.In = abi.AppendTimespec(a.In, abi.Timespec{Sec: int64(timeout / time.Second), Nsec: int32(timeout % time.Second)})
	}
	var p [abi.SiginfoSize]byte
	n, _, err := c.out(ctx, abi.SYS___sigtimedwait, "", a, p[:])
	if err != nil {
		return si, err
	}
	if si, err = abi.ParseSiginfo(p[:n]); err != nil {
		err = answer(abi.SYS___sigtimedwait, "", err)
	}
	return si, err
}

// Wait4 is wait4(2): it waits for a child of Rfork to end. The status is for
// abi.WExited and its like; pid 0 is that none has ended (WNOHANG). ECHILD.
func (c *Client) Wait4(ctx context.Context, pid, options int) (child, status int, err error) {
	a := args(pid, options)
	err = c.k.Syscall(ctx, abi.SYS_wait4, a)
	child, status = int(int32(a.R[0])), int(int32(a.R[1]))
	free(a)
	if err != nil {
		return 0, 0, fail(abi.SYS_wait4, "", err)
	}
	return child, status, nil
}

// ExitStatus is exit(2): the process ends with a status that its parent gets by
// Wait4.
func (c *Client) ExitStatus(ctx context.Context, status int) error {
	return c.do(ctx, abi.SYS_exit, "", args(status))
}

// Setown is fcntl(F_SETOWN): who gets SIGIO of a descriptor with O_ASYNC; a
// process, or minus a group.
func (c *Client) Setown(ctx context.Context, fd, pid int) error {
	return c.do(ctx, abi.SYS_fcntl, "", args(fd, abi.F_SETOWN, pid))
}

// Getown is fcntl(F_GETOWN).
func (c *Client) Getown(ctx context.Context, fd int) (int, error) {
	return c.run(ctx, abi.SYS_fcntl, "", args(fd, abi.F_GETOWN))
}

// SetAsync is ioctl(FIOASYNC): whether the owner gets SIGIO when the descriptor
// has become ready.
func (c *Client) SetAsync(ctx context.Context, fd int, on bool) error {
	a := args(fd)
	a.A[1] = abi.FIOASYNC
	a.In = make([]byte, 4)
	if on {
		binary.LittleEndian.PutUint32(a.In, 1)
	}
	return c.do(ctx, abi.SYS_ioctl, "", a)
}

// errEnded is what calls answer once a signal has ended the process.
func errEnded(sig int32) error {
	return fmt.Errorf("this client's process was ended by %s: %w", abi.SignalName(int(sig)), abi.ESRCH)
}
