package syscall

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/kauth"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// maySignal asks whether l may send a signal to a process.
func (k *Kernel) maySignal(l *proc.Lwp, sig int) func(*proc.Proc) error {
	return func(p *proc.Proc) error {
		c := l.Caller().Cred
		arg := kauth.SignalArg{Target: p.Cred(), Sig: sig, SameSession: sig == abi.SIGCONT && l.Proc.SameSession(p)}
		if err := k.Auth.Authorize(kauth.Process, c, kauth.Signal, &arg); err != nil {
			return fmt.Errorf("kill %d: uid %d may not: %w", p.Pid, c.Euid, err)
		}
		return nil
	}
}

// from is a signal that l sends.
func from(l *proc.Lwp, sig, code int) abi.Siginfo {
	return abi.Siginfo{Signo: sig, Code: code, Pid: l.Proc.Pid, Uid: l.Caller().Cred.Ruid}
}

// sysKill is kill(2): A = {pid, signal}.
func sysKill(_ context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return k.Procs.Kill(l.Proc, a.Int(0), from(l, a.Int(1), abi.SI_USER), k.maySignal(l, a.Int(1)))
}

// sysLwpKill is _lwp_kill(2): A = {lid, signal}.
func sysLwpKill(_ context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return l.KillLwp(a.Int(0), from(l, a.Int(1), abi.SI_LWP))
}

// sysSigqueueinfo is sigqueue(2): A = {pid}, In is a siginfo_t, whose signal and
// value count. EINVAL for several processes.
func sysSigqueueinfo(_ context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	in, err := abi.ParseSiginfo(a.In)
	if err != nil || a.Int(0) <= 0 {
		return abi.EINVAL
	}
	si := from(l, in.Signo, abi.SI_QUEUE)
	si.Value = in.Value
	return k.Procs.Kill(l.Proc, a.Int(0), si, k.maySignal(l, in.Signo))
}

// sysSigaction is sigaction(2): A = {signal}, In is the new struct sigaction or
// empty, Out takes the old one if there is room.
func sysSigaction(_ context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	var set *abi.Sigaction
	if len(a.In) > 0 {
		n, err := abi.ParseSigaction(a.In)
		if err != nil {
			return err
		}
		set = &n
	}
	old, err := l.Proc.Sigaction(a.Int(0), set)
	if err == nil && len(a.Out) >= abi.SigactionSize {
		a.NO = len(abi.AppendSigaction(a.Out[:0], old))
	}
	return err
}

// sysSigprocmask is sigprocmask(2): A = {how}, In is the sigset_t or empty, Out
// takes the old one if there is room.
func sysSigprocmask(_ context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	var set *abi.Sigset
	if len(a.In) > 0 {
		n, err := abi.ParseSigset(a.In)
		if err != nil {
			return err
		}
		set = &n
	}
	old, err := l.Sigprocmask(a.Int(0), set)
	if err == nil && len(a.Out) >= abi.SigsetSize {
		a.NO = len(abi.AppendSigset(a.Out[:0], old))
	}
	return err
}

// sysSigpending is sigpending(2): Out takes the sigset_t.
func sysSigpending(_ context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	if err := need(a, abi.SigsetSize); err != nil {
		return err
	}
	a.NO = len(abi.AppendSigset(a.Out[:0], l.Sigpending()))
	return nil
}

// sysSigsuspend is sigsuspend(2): In is the sigset_t. It always fails, with
// EINTR as a rule.
func sysSigsuspend(ctx context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	set, err := abi.ParseSigset(a.In)
	if err != nil {
		return err
	}
	return l.Sigsuspend(ctx, set)
}

// sysSigtimedwait is __sigtimedwait: In is the sigset_t, and behind it, if A[0]
// says so, the time-out as a struct timespec. Out takes the siginfo_t, and R[0]
// is the signal.
func sysSigtimedwait(ctx context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	timeout, err := tailTimespec(a, a.A[0] != 0)
	if err != nil {
		return err
	}
	set, err := abi.ParseSigset(a.In)
	if err != nil {
		return err
	}
	si, err := l.Sigtimedwait(ctx, set, timeout)
	if err != nil {
		return err
	}
	a.R[0] = uint64(si.Signo)
	if len(a.Out) >= abi.SiginfoSize {
		a.NO = len(abi.AppendSiginfo(a.Out[:0], si))
	}
	return nil
}

// tailSigset cuts a sigset_t off the end of In, if has says that there is one,
// and lets the call wait with that mask until the function it answers is called.
func tailSigset(ctx context.Context, l *proc.Lwp, a *abi.Sysargs, has bool) (unmask func(), err error) {
	if !has {
		return func() {}, nil
	}
	n := len(a.In) - abi.SigsetSize
	if n < 0 {
		return nil, abi.EINVAL
	}
	set, err := abi.ParseSigset(a.In[n:])
	if err != nil {
		return nil, err
	}
	a.In = a.In[:n]
	ctx.Done() // from now on signals end the wait
	l.Mask(set)
	return l.Unmask, nil
}

// sysExit is exit(2): A = {status}. The process ends when its calls have
// returned, this one included.
func sysExit(_ context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	l.Proc.Terminate(a.Int(0))
	return nil
}

// sysWait4 is wait4(2): A = {pid, options}; R = {pid or 0, status}.
func sysWait4(ctx context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	pid, status, err := l.Proc.Wait4(ctx, a.Int(0), a.Int(1))
	a.R = [2]uint64{uint64(pid), uint64(status)}
	return err
}

// writeSignal sends the signals that go with failed writes: SIGPIPE with EPIPE,
// unless the file or the call (MSG_NOSIGNAL) does not want it, and SIGXFSZ with
// the EFBIG of RLIMIT_FSIZE.
func writeSignal(l *proc.Lwp, f *file.File, err error, flags int) {
	sig := 0
	switch {
	case errors.Is(err, abi.EPIPE) && f.Flags()&abi.O_NOSIGPIPE == 0 && flags&abi.MSG_NOSIGNAL == 0:
		sig = abi.SIGPIPE
	case l.Caller().Fsize != 0 && errors.Is(err, abi.EFBIG):
		sig = abi.SIGXFSZ
	default:
		return
	}
	l.Proc.Signal(abi.Siginfo{Signo: sig, Code: abi.SI_NOINFO})
}

// setAsync turns SIGIO for a file on or off (O_ASYNC). For files that are always
// ready, such as regular ones, it does nothing (vn_ioctl).
func (k *Kernel) setAsync(f *file.File, on bool) error {
	if on == (f.Flags()&abi.O_ASYNC != 0) || on && f.Ops.Selinfo(f) == nil {
		return nil
	}
	if !on {
		return f.SetAsync(nil)
	}
	return f.SetAsync(k.sigio)
}

// sigio tells the file's owner that it has become ready.
func (k *Kernel) sigio(f *file.File) {
	to := f.Owner()
	if to == 0 {
		return
	}
	si := abi.Siginfo{Signo: abi.SIGIO, Code: abi.POLL_OUT}
	ev := f.Ops.Poll(context.Background(), f, abi.POLLIN|abi.POLLOUT)
	if ev == 0 {
		return
	}
	if ev&(abi.POLLIN|abi.POLLHUP) != 0 {
		si.Code = abi.POLL_IN
	}
	si.Value = int64(ev)
	_ = k.Procs.Kill(k.Procs.Proc0, int(to), si, func(*proc.Proc) error { return nil })
}

// fileOwner is F_GETOWN and F_SETOWN. ESRCH for a process or group that is not
// there; EINVAL for files that send no SIGIO.
func (k *Kernel) fileOwner(ctx context.Context, l *proc.Lwp, a *abi.Sysargs, set bool, to int) error {
	f, err := get(l, a, 0)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	if f.Ops.Selinfo(f) == nil {
		return abi.EINVAL
	}
	if !set {
		a.R[0] = uint64(int64(f.Owner()))
		return nil
	}
	return k.setOwner(l, f, to)
}

func (k *Kernel) setOwner(l *proc.Lwp, f *file.File, to int) error {
	if to == -1 || to != int(int32(to)) {
		return abi.EINVAL
	}
	if to != 0 {
		ask := abi.Siginfo{Code: abi.SI_USER}
		if err := k.Procs.Kill(l.Proc, to, ask, k.maySignal(l, abi.SIGIO)); err != nil {
			return err
		}
	}
	f.SetOwner(int32(to))
	return nil
}

// asyncIoctl is FIOASYNC, FIOSETOWN and FIOGETOWN.
func (k *Kernel) asyncIoctl(ctx context.Context, l *proc.Lwp, f *file.File, cmd uint32, a *abi.Sysargs) error {
	if f.Ops.Selinfo(f) == nil {
		_, err := f.Ops.Ioctl(ctx, l.Caller(), f, cmd, a.In)
		return err
	}
	if cmd == abi.FIOGETOWN {
		if err := need(a, 4); err != nil {
			return err
		}
		a.NO = len(binary.LittleEndian.AppendUint32(a.Out[:0], uint32(f.Owner())))
		return nil
	}
	if len(a.In) < 4 {
		return abi.EINVAL
	}
	v := int(int32(binary.LittleEndian.Uint32(a.In)))
	if cmd == abi.FIOASYNC {
		return k.setAsync(f, v != 0)
	}
	return k.setOwner(l, f, v)
}
