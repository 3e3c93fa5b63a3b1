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
// pollfds, if A[0] says so; an absent one is for ever. Behind it is the sigset_t
// to wait with, if A[1] says so.
func sysPollts(ctx context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	unmask, err := tailSigset(ctx, l, a, a.A[1] != 0)
	if err != nil {
		return err
	}
	defer unmask()
	timeout, err := tailTimespec(a, a.A[0] != 0)
	if err != nil {
		return err
	}
	return poll(ctx, l, a, timeout)
}

func poll(ctx context.Context, l *proc.Lwp, a *abi.Sysargs, timeout time.Duration) error {
	if len(a.In)%abi.PollfdSize != 0 || len(a.In)/abi.PollfdSize > max(proc.DefaultNofile, l.Proc.Fd.Max())+1000 {
		return abi.EINVAL
	}
	if err := need(a, len(a.In)); err != nil {
		return err
	}
	fds, err := abi.ParsePollfds(a.In)
	if err != nil {
		return err
	}
	files, _ := pollFiles(ctx, l, fds)
	defer files.release(ctx)
	n, err := files.wait(ctx, fds, timeout)
	if err != nil {
		return err
	}
	a.R[0] = uint64(n)
	a.NO = len(abi.AppendPollfds(a.Out[:0], fds))
	return nil
}

// pollSet are the files of the descriptors that are polled, each with a
// reference; nil for one that is not open.
type pollSet []*file.File

// pollFiles finds the files. EBADF if one is not open, but the others are found
// nevertheless.
func pollFiles(ctx context.Context, l *proc.Lwp, fds []abi.Pollfd) (files pollSet, err error) {
	files = make(pollSet, len(fds))
	for i := range fds {
		if fds[i].Fd >= 0 {
			if files[i], _ = l.Proc.Fd.Get(int(fds[i].Fd)); files[i] == nil {
				err = abi.EBADF
			}
		}
	}
	return files, err
}

func (files pollSet) release(ctx context.Context) {
	for _, f := range files {
		if f != nil {
			f.Release(ctx)
		}
	}
}

// scan asks every file and counts those that answer something.
func (files pollSet) scan(ctx context.Context, fds []abi.Pollfd) int {
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

// wait fills in Revents, waiting until one is not 0: up to timeout, for ever if
// it is negative, not at all if it is 0.
func (files pollSet) wait(ctx context.Context, fds []abi.Pollfd, timeout time.Duration) (int, error) {
	n := files.scan(ctx, fds)
	if n != 0 || timeout == 0 {
		return n, nil
	}
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
	for {
		if n = files.scan(ctx, fds); n != 0 {
			return n, nil
		}
		select {
		case <-w.C():
		case <-expired:
			return 0, nil
		case <-ctx.Done():
			return 0, abi.ErrnoOf(ctx.Err())
		}
	}
}
