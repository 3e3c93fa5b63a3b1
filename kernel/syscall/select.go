package syscall

import (
	"context"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// maxSelect bounds the descriptors of one select: FD_SETSIZE is the program's
// affair, this is the kernel's.
const maxSelect = 16384

// sysSelect is select(2): A = {nd, 1 if there is a time-out}. In has three sets
// of abi.FdSetSize(nd) bytes, for reading, writing and exceptions, one that is
// not wanted being all 0, and behind them the time-out as a struct timeval. Out
// takes the three sets. R[0] is how many bits are set.
func sysSelect(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	timeout := time.Duration(-1)
	if a.A[1] != 0 {
		n := len(a.In) - 16
		if n < 0 {
			return abi.EINVAL
		}
		tv, err := abi.ParseTimespec(a.In[n:]) // the same layout, with microseconds
		if err != nil || tv.Sec < 0 || tv.Nsec < 0 || tv.Nsec > 999999 {
			return abi.EINVAL
		}
		a.In = a.In[:n]
		timeout = time.Duration(min(tv.Sec, int64(maxWait/time.Second)))*time.Second + time.Duration(tv.Nsec)*time.Microsecond
	}
	return selectFds(ctx, k, l, a, timeout)
}

// sysPselect is pselect(2): select with a struct timespec, and behind it the
// sigset_t to wait with, if A[2] says so.
func sysPselect(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	unmask, err := tailSigset(ctx, l, a, a.A[2] != 0)
	if err != nil {
		return err
	}
	defer unmask()
	timeout, err := tailTimespec(a, a.A[1] != 0)
	if err != nil {
		return err
	}
	return selectFds(ctx, k, l, a, timeout)
}

// selectWants are the conditions of the three sets (selop_select).
var selectWants = [3]struct{ want, hit abi.PollEvents }{
	{abi.POLLIN | abi.POLLRDNORM, abi.POLLIN | abi.POLLRDNORM | abi.POLLHUP | abi.POLLERR},
	{abi.POLLOUT, abi.POLLOUT | abi.POLLHUP | abi.POLLERR},
	{abi.POLLPRI | abi.POLLRDBAND, abi.POLLPRI | abi.POLLRDBAND},
}

func selectFds(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs, timeout time.Duration) error {
	nd := a.Int(0)
	if nd < 0 || nd > maxSelect {
		return abi.EINVAL
	}
	size := abi.FdSetSize(nd)
	if len(a.In) != 3*size {
		return abi.EINVAL
	}
	if err := need(a, 3*size); err != nil {
		return err
	}
	bit := func(set, fd int) bool { return a.In[set*size+fd/8]&(1<<(fd%8)) != 0 }
	var fds []abi.Pollfd
	for fd := range nd {
		p := abi.Pollfd{Fd: int32(fd)}
		asked := false
		for set, w := range selectWants {
			if bit(set, fd) {
				p.Events |= w.want
				asked = true
			}
		}
		if asked {
			fds = append(fds, p)
		}
	}
	files, err := pollFiles(ctx, l, fds)
	defer files.release(ctx)
	if err != nil {
		return err
	}
	if _, err := files.wait(ctx, fds, timeout); err != nil {
		return err
	}
	out := a.Out[:3*size]
	clear(out)
	n := 0
	for _, p := range fds {
		for set, w := range selectWants {
			if bit(set, int(p.Fd)) && p.Revents&w.hit != 0 {
				out[set*size+int(p.Fd)/8] |= 1 << (p.Fd % 8)
				n++
			}
		}
	}
	a.R[0] = uint64(n)
	a.NO = len(out)
	return nil
}
