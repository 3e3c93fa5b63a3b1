package syscall

import (
	"context"
	"fmt"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/kauth"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// sysKqueue is kqueue(2); sysKqueue1 is kqueue1(2), A = {flags}.
func sysKqueue(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	a.A[0] = 0
	return sysKqueue1(ctx, k, l, a)
}

func sysKqueue1(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	flags := a.Int(0)
	if flags&^(abi.O_CLOEXEC|abi.O_NONBLOCK|abi.O_NOSIGPIPE) != 0 {
		return abi.EINVAL
	}
	f, err := k.Files.NewKqueue(l.Caller().Cred)
	if err != nil {
		return err
	}
	f.SetFlags(flags)
	return install(ctx, l, a, f, flags&abi.O_CLOEXEC != 0)
}

// maxWait is the longest time-out; longer ones are cut to it.
const maxWait = 365 * 24 * time.Hour

// tailTimespec cuts the struct timespec off the end of In, if has says that
// there is one: the time-out of pollts, kevent and pselect. Without one it is
// for ever, -1.
func tailTimespec(a *abi.Sysargs, has bool) (time.Duration, error) {
	if !has {
		return -1, nil
	}
	n := len(a.In) - 16
	if n < 0 {
		return 0, abi.EINVAL
	}
	ts, err := abi.ParseTimespec(a.In[n:])
	if err != nil || ts.Sec < 0 || ts.Nsec < 0 || ts.Nsec > 999999999 {
		return 0, abi.EINVAL
	}
	a.In = a.In[:n]
	if ts.Sec >= int64(maxWait/time.Second) {
		return maxWait, nil
	}
	return time.Duration(ts.Sec)*time.Second + time.Duration(ts.Nsec), nil
}

// sysKevent is kevent(2): A = {kqueue, 1 if there is a time-out}. In has the
// changes, and behind them the time-out as a struct timespec; Out takes the
// events. R[0] is how many.
func sysKevent(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	timeout, err := tailTimespec(a, a.A[1] != 0)
	if err != nil {
		return err
	}
	changes, err := abi.ParseKevents(a.In)
	if err != nil || len(a.Out)%abi.KeventSize != 0 {
		return abi.EINVAL
	}
	f, err := get(l, a, 0)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	kq, err := file.KqueueOf(f)
	if err != nil {
		return err
	}
	room := len(a.Out) / abi.KeventSize
	evs := make([]abi.Kevent, 0, min(room, max(len(changes), 16)))
	for i := range changes {
		ev := &changes[i]
		ev.Flags &^= abi.EV_ERROR | abi.EV_EOF
		err := k.kregister(ctx, l, kq, ev)
		if err == nil && ev.Flags&abi.EV_RECEIPT == 0 {
			continue
		}
		if len(evs) == room {
			if err != nil {
				return err
			}
			continue
		}
		ev.Flags, ev.Data = abi.EV_ERROR, 0
		if err != nil {
			ev.Data = int64(abi.ErrnoOf(err))
		}
		evs = append(evs, *ev)
	}
	n := len(evs)
	if n == 0 && room > 0 {
		evs = make([]abi.Kevent, min(room, 1024))
		if n, err = kq.Wait(ctx, evs, timeout); err != nil {
			return err
		}
	}
	a.R[0] = uint64(n)
	a.NO = len(abi.AppendKevents(a.Out[:0], evs[:n]))
	return nil
}

// kregister makes one change.
func (k *Kernel) kregister(ctx context.Context, l *proc.Lwp, kq *file.Kqueue, ev *abi.Kevent) error {
	switch ev.Filter {
	case abi.EVFILT_READ, abi.EVFILT_WRITE, abi.EVFILT_VNODE:
		return kq.RegisterFile(ctx, l.Proc.Fd, ev)
	case abi.EVFILT_TIMER:
		return kq.Register(nil, ev, func() (event.Source, error) { return k.newTimer(ev) })
	case abi.EVFILT_USER:
		return kq.Register(nil, ev, func() (event.Source, error) { return userEvent{}, nil })
	case abi.EVFILT_PROC:
		return kq.Register(nil, ev, func() (event.Source, error) { return k.newProcEvent(l, ev) })
	case abi.EVFILT_SIGNAL:
		return kq.Register(l.Proc, ev, func() (event.Source, error) { return newSigEvent(l, ev) })
	}
	return fmt.Errorf("event filter %d: %w", ev.Filter, abi.EINVAL)
}

// userEvent is EVFILT_USER: what happens, the program itself says.
type userEvent struct{}

var _ event.Toucher = userEvent{}

// Attach does nothing.
func (userEvent) Attach(*event.Knote) error { return nil }

// Detach does nothing.
func (userEvent) Detach(*event.Knote) {}

// Touch changes the flags kept, as NOTE_FF* say, and triggers.
func (userEvent) Touch(k *event.Knote, ev *abi.Kevent) error {
	k.Update(func(n *event.Happened) {
		fl := ev.Fflags & abi.NOTE_FFLAGSMASK
		switch ev.Fflags & abi.NOTE_FFCTRLMASK {
		case abi.NOTE_FFAND:
			n.Asked &= fl
		case abi.NOTE_FFOR:
			n.Asked |= fl
		case abi.NOTE_FFCOPY:
			n.Asked = fl
		}
		n.Sdata = ev.Data
		if ev.Fflags&abi.NOTE_TRIGGER != 0 {
			n.Active = true
		}
	})
	return nil
}

// procEvent is EVFILT_PROC.
type procEvent struct{ p *proc.Proc }

// newProcEvent finds the process. ESRCH; EPERM for somebody else's.
func (k *Kernel) newProcEvent(l *proc.Lwp, ev *abi.Kevent) (event.Source, error) {
	if ev.Ident > 1<<31-1 {
		return nil, abi.ESRCH
	}
	p, err := k.Procs.Find(int32(ev.Ident))
	if err != nil {
		return nil, err
	}
	if p.Cred().Ruid != l.Caller().Cred.Euid {
		if err := k.authorize(l, kauth.Process, kauth.KeventFilter); err != nil {
			return nil, err
		}
	}
	return procEvent{p}, nil
}

// Attach hangs the knote on the process. ESRCH if it is ending.
func (s procEvent) Attach(k *event.Knote) error { return s.p.Watch(k) }

// Detach takes it off.
func (s procEvent) Detach(k *event.Knote) { s.p.Notes.Remove(k) }

// sigEvent is EVFILT_SIGNAL: signals sent to the process that registers it,
// whatever it does with them. Data is how many since it was answered last.
type sigEvent struct{ p *proc.Proc }

// newSigEvent checks the number. EINVAL.
func newSigEvent(l *proc.Lwp, ev *abi.Kevent) (event.Source, error) {
	if ev.Ident == 0 || ev.Ident >= abi.NSIG {
		return nil, fmt.Errorf("signal %d: %w", ev.Ident, abi.EINVAL)
	}
	return sigEvent{l.Proc}, nil
}

// Attach hangs the knote on the process.
func (s sigEvent) Attach(k *event.Knote) error {
	s.p.SigNote(k)
	return nil
}

// Detach takes it off.
func (s sigEvent) Detach(k *event.Knote) { s.p.SigUnnote(k) }
