package rumpclient

import (
	"context"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Kqueue is kqueue(2).
func (c *Client) Kqueue(ctx context.Context) (int, error) { return c.Kqueue1(ctx, 0) }

// Kqueue1 is kqueue1(2), with O_CLOEXEC, O_NONBLOCK and O_NOSIGPIPE as flags.
func (c *Client) Kqueue1(ctx context.Context, flags int) (int, error) {
	return c.run(ctx, abi.SYS_kqueue1, "", args(flags))
}

// Kevent is kevent(2): it makes changes, and fetches at most len(events)
// events, waiting for the first up to timeout; a negative timeout waits until
// ctx ends, 0 does not wait. A change that fails is answered as an event with
// EV_ERROR, or as the error if there is no room for one.
func (c *Client) Kevent(ctx context.Context, kq int, changes, events []abi.Kevent, timeout time.Duration) (int, error) {
	if len(events) > abi.MaxTransfer/abi.KeventSize {
		events = events[:abi.MaxTransfer/abi.KeventSize]
	}
	a := args(kq)
	a.In = abi.AppendKevents(make([]byte, 0, len(changes)*abi.KeventSize+16), changes)
	if timeout >= 0 {
		a.A[1] = 1
		a.In = abi.AppendTimespec(a.In, timespec(timeout))
	}
	p := make([]byte, len(events)*abi.KeventSize)
	n, _, err := c.out(ctx, abi.SYS_kevent, "", a, p)
	if err != nil {
		return 0, err
	}
	got, err := abi.ParseKevents(p[:n])
	if err != nil {
		return 0, answer(abi.SYS_kevent, "", err)
	}
	return copy(events, got), nil
}

func timespec(d time.Duration) abi.Timespec {
	return abi.Timespec{Sec: int64(d / time.Second), Nsec: int32(d % time.Second)}
}

// FdSet is an fd_set of select(2).
type FdSet []byte

// NewFdSet makes a set of the descriptors fds, all below nd.
func NewFdSet(nd int, fds ...int) FdSet {
	s := make(FdSet, abi.FdSetSize(nd))
	for _, fd := range fds {
		s[fd/8] |= 1 << (fd % 8)
	}
	return s
}

// Has reports whether fd is in the set.
func (s FdSet) Has(fd int) bool { return fd >= 0 && fd/8 < len(s) && s[fd/8]&(1<<(fd%8)) != 0 }

// Select is select(2) on descriptors below nd: which of r can be read, of w
// written, of e have something exceptional; nil is the empty set. The sets are
// changed to what is ready, and counted. A negative timeout waits until ctx
// ends.
func (c *Client) Select(ctx context.Context, nd int, r, w, e FdSet, timeout time.Duration) (int, error) {
	size := abi.FdSetSize(max(nd, 0))
	a := args(nd)
	a.In = make([]byte, 3*size, 3*size+16)
	for i, s := range []FdSet{r, w, e} {
		copy(a.In[i*size:(i+1)*size], s)
	}
	if timeout >= 0 {
		a.A[1] = 1
		a.In = abi.AppendTimespec(a.In, timespec(timeout))
	}
	p := make([]byte, 3*size)
	n, got, err := c.out(ctx, abi.SYS_pselect, "", a, p)
	if err != nil {
		return 0, err
	}
	if n != len(p) {
		return 0, answer(abi.SYS_pselect, "", abi.EINVAL)
	}
	for i, s := range []FdSet{r, w, e} {
		copy(s, p[i*size:(i+1)*size])
	}
	return int(got), nil
}
