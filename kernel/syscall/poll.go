package syscall

import (
	"context"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// sysPoll is poll(2): In and Out are struct pollfd, A[0] the time-out in
// milliseconds (INFTIM: none).
func sysPoll(ctx context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	timeout := time.Duration(-1)
	if ms := a.Int(0); ms >= 0 {
		timeout = time.Duration(ms) * time.Millisecond
	} else if ms != abi.INFTIM {
		return abi.EINVAL
	}
	return poll(ctx, l, a, timeout)
}

// sysPollts is pollts(2), where the time-out is a struct timespec after the
// pollfds; an absent one is for ever.
func sysPollts(ctx context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	if a.A[0] == 0 {
		return poll(ctx, l, a, -1)
	}
	n := len(a.In) - 16
	if n < 0 {
		return abi.EINVAL
	}
	ts, err := abi.ParseTimespec(a.In[n:])
	if err != nil || ts.Sec < 0 || ts.Nsec < 0 || ts.Nsec > 999999999 {
		return abi.EINVAL
	}
	a.In = a.In[:n]
	d := time.Duration(ts.Nsec)
	if ts.Sec > int64(365*24*time.Hour/time.Second) {
		d = 365 * 24 * time.Hour
	} else {
		d += time.Duration(ts.Sec) * time.Second
	}
	return poll(ctx, l, a, d)
}

func poll(ctx context.Context, l *proc.Lwp, a *abi.Sysargs, timeout time.Duration) error {
	if len(a.In)%abi.PollfdSize != 0 || len(a.In)/abi.PollfdSize > proc.DefaultNofile+1000 {
		return abi.EINVAL
	}
	if err := need(a, len(a.In)); err != nil {
		return err
	}
	fds, err := abi.ParsePollfds(a.In)
	if err != nil {
		return err
	}
	files := make([]*file.File, len(fds))
	defer func() {
		for _, f := range files {
			if f != nil {
				f.Release(ctx)
			}
		}
	}()
	for i := range fds {
		if fds[i].Fd >= 0 {
			files[i], _ = l.Proc.Fd.Get(int(fds[i].Fd))
		}
	}
	scan := func() int {
		n := 0
		for i := range fds {
			p := &fds[i]
			switch {
			case p.Fd < 0:
				p.Revents = 0
			case files[i] == nil:
				p.Revents = abi.POLLNVAL
			default:
				p.Revents = files[i].Ops.Poll(ctx, files[i], p.Events)
			}
			if p.Revents != 0 {
				n++
			}
		}
		return n
	}
	n := scan()
	if n == 0 && timeout != 0 {
		w := event.NewWaiter()
		for _, f := range files {
			if f != nil {
				if s := f.Ops.Selinfo(f); s != nil {
					s.Record(w)
					defer s.Remove(w)
				}
			}
		}
		var expired <-chan time.Time
		if timeout > 0 {
			t := time.NewTimer(timeout)
			defer t.Stop()
			expired = t.C
		}
	loop:
		for {
			if n = scan(); n != 0 {
				break
			}
			select {
			case <-w.C():
			case <-expired:
				break loop
			case <-ctx.Done():
				return abi.ErrnoOf(ctx.Err())
			}
		}
	}
	a.R[0] = uint64(n)
	a.NO = len(abi.AppendPollfds(a.Out[:0], fds))
	return nil
}
