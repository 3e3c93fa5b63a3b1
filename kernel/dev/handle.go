package dev

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// Handle is one open of a character device. It does not depend on the Data of
// its file.
type Handle struct {
	s     *Switch
	d     *driver
	u     *unit
	unit  uint32
	flags int // of the open

	openMu sync.Mutex
	gen    atomic.Uint64 // generation it is open in; 0 = none
	closed atomic.Bool
}

var _ file.Ops = (*Handle)(nil)

// Dev is the number of the device that is open.
func (h *Handle) Dev() abi.Dev { return abi.Makedev(h.d.major, h.unit) }

type waitMode struct {
	nonblock bool // EAGAIN instead of waiting
	once     bool // EAGAIN is the answer; wait for the driver only
}

var (
	errGone    = fmt.Errorf("driver is gone: %w", abi.ENXIO)
	errNotBack = fmt.Errorf("dev component did not come back in time: %w", abi.EIO)
	errLie     = fmt.Errorf("driver answered nonsense: %w", abi.EIO)
)

// wait calls try with the driver, opened in its present generation, until it
// answers something other than EAGAIN.
func (h *Handle) wait(ctx context.Context, m waitMode, try func(c devops.Chr) error) error {
	var (
		w       *event.Waiter
		restart <-chan time.Time
	)
	for {
		again := false
		seq := h.u.seq.Load()
		g := h.d.live.Load()
		switch {
		case h.d.gone.Load():
			return errGone
		case g != nil:
			err := h.reopen(ctx, g)
			if err == nil {
				err = try(g.c)
			}
			if err == nil || !errors.Is(err, abi.EAGAIN) || m.nonblock || m.once {
				return err
			}
			again = true
		case m.nonblock && !m.once:
			return abi.EAGAIN
		}
		if w == nil {
			w = event.NewWaiter()
			h.u.sel.Record(w)
			defer h.u.sel.Remove(w)
		}
		if h.u.seq.Load() != seq {
			continue // an edge came before the waiter was recorded
		}
		if again {
			restart = nil
		} else if restart == nil {
			t := time.NewTimer(h.s.wait)
			defer t.Stop()
			restart = t.C
		}
		select {
		case <-w.C():
		case <-restart:
			return errNotBack
		case <-ctx.Done():
			return abi.ErrnoOf(ctx.Err())
		}
	}
}

// reopen opens the unit in a generation in which it is not open yet.
func (h *Handle) reopen(ctx context.Context, g *generation) error {
	if h.gen.Load() == g.n {
		return nil
	}
	h.openMu.Lock()
	defer h.openMu.Unlock()
	old := h.gen.Load()
	if old == g.n {
		return nil
	}
	if err := g.c.Open(ctx, h.unit, h.flags); err != nil {
		return err
	}
	h.gen.Store(g.n)
	if old != 0 {
		h.s.cnt.reopens.Inc()
	}
	return nil
}

// offset is where a transfer begins. The file's own offset is not held over
// the transfer: a reader that waits must not keep others waiting.
func offset(f *file.File, off int64) int64 {
	if off != file.Cur {
		return off
	}
	f.OffMu.Lock()
	defer f.OffMu.Unlock()
	return f.Offset
}

func advance(f *file.File, off int64, n int) {
	if off == file.Cur {
		f.OffMu.Lock()
		f.Offset += int64(n)
		f.OffMu.Unlock()
	}
}

// Read is read(2): what the driver has, at least one byte, waiting for it
// unless O_NONBLOCK is set.
func (h *Handle) Read(ctx context.Context, c *abi.Caller, f *file.File, dst []byte, off int64) (int, error) {
	return h.move(ctx, f, dst, off, true, devops.Chr.Read)
}

// Write is write(2): all of src, waiting for room unless O_NONBLOCK is set; a
// count less than all comes with no error.
func (h *Handle) Write(ctx context.Context, c *abi.Caller, f *file.File, src []byte, off int64) (int, error) {
	return h.move(ctx, f, src, off, false, devops.Chr.Write)
}

func (h *Handle) move(ctx context.Context, f *file.File, b []byte, off int64, read bool,
	call func(devops.Chr, context.Context, uint32, int64, abi.Iov, int) (int, error)) (int, error) {
	at := offset(f, off)
	if at < 0 {
		return 0, abi.EINVAL
	}
	m := waitMode{nonblock: f.Nonblock()}
	fl := f.Flags()
	done := 0
	for {
		part := b[done:min(len(b), done+abi.MaxTransfer)]
		n := 0
		err := h.wait(ctx, m, func(c devops.Chr) (err error) {
			h.d.stats.Busy()
			n, err = call(c, ctx, h.unit, at+int64(done), abi.IovOf(part), fl)
			h.d.stats.Unbusy(min(n, len(part)), read)
			if n < 0 || n > len(part) {
				n = 0
				return errLie
			}
			if n > 0 && errors.Is(err, abi.EAGAIN) {
				err = nil // moved something after all
			}
			return err
		})
		done += n
		switch {
		case err != nil && done == 0:
			return 0, err
		case err != nil, n == 0, done == len(b), read && n < len(part):
			advance(f, off, done)
			return done, nil
		}
	}
}

// Seek is lseek(2): devices have no end to count from.
func (h *Handle) Seek(_ context.Context, _ *abi.Caller, f *file.File, off int64, whence int) (int64, error) {
	f.OffMu.Lock()
	defer f.OffMu.Unlock()
	switch whence {
	case abi.SEEK_SET, abi.SEEK_END:
	case abi.SEEK_CUR:
		off += f.Offset
	default:
		return 0, abi.EINVAL
	}
	if off < 0 {
		return 0, abi.EINVAL
	}
	if off != f.Offset {
		h.d.stats.Seek()
	}
	f.Offset = off
	return off, nil
}

// Stat describes the device as if it had no node: the caller, who knows the
// vnode, says more.
func (h *Handle) Stat(_ context.Context, _ *abi.Caller, f *file.File) (abi.Stat, error) {
	return abi.Stat{Vattr: abi.Vattr{Type: abi.VCHR, Mode: 0o600, Nlink: 1, Rdev: h.Dev(), Blksize: abi.PageSize}}, nil
}

// Ioctl knows FIONBIO and FIOASYNC off; the driver has the others. ENOTTY;
// EINVAL if the argument is shorter than the command says.
func (h *Handle) Ioctl(ctx context.Context, c *abi.Caller, f *file.File, cmd uint32, arg []byte) ([]byte, error) {
	size := abi.IOCParmLen(cmd)
	if abi.IOCDir(cmd)&abi.IOC_IN != 0 && len(arg) < size || size > abi.IOCPARM_MAX {
		return nil, abi.EINVAL
	}
	switch cmd {
	case abi.FIONBIO:
		fl := f.Flags() &^ abi.O_NONBLOCK
		if binary.LittleEndian.Uint32(arg) != 0 {
			fl |= abi.O_NONBLOCK
		}
		f.SetFlags(fl)
		return nil, nil
	case abi.FIOASYNC:
		if binary.LittleEndian.Uint32(arg) == 0 {
			return nil, nil
		}
		return nil, abi.EOPNOTSUPP
	}
	if abi.IOCDir(cmd)&abi.IOC_IN != 0 {
		arg = arg[:size]
	} else {
		arg = nil
	}
	var out []byte
	err := h.wait(ctx, waitMode{once: true}, func(c devops.Chr) (err error) {
		out, err = c.Ioctl(ctx, h.unit, cmd, arg)
		if err == nil && len(out) > size {
			return errLie
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Poll asks the driver. While it is restarted nothing is ready; when it is
// gone, POLLHUP|POLLERR.
func (h *Handle) Poll(ctx context.Context, f *file.File, want abi.PollEvents) abi.PollEvents {
	const lost = abi.POLLIN | abi.POLLRDNORM | abi.POLLHUP | abi.POLLERR
	want |= abi.POLLANSWER
	g := h.d.live.Load()
	switch {
	case h.d.gone.Load():
		return lost & want
	case g == nil:
		return 0
	}
	err := h.reopen(ctx, g)
	var ev abi.PollEvents
	if err == nil {
		ev, err = g.c.Poll(ctx, h.unit)
	}
	if err != nil {
		if h.d.live.Load() != g {
			return 0 // died under the call; the restart notifies
		}
		return lost & want
	}
	return ev & want &^ abi.POLLNVAL
}

// Selinfo is notified by the driver's edges and when it dies or comes back.
func (h *Handle) Selinfo(*file.File) *event.Selinfo { return &h.u.sel }

// Fsync has nothing to do for a character device.
func (h *Handle) Fsync(context.Context, *abi.Caller, *file.File, bool) error { return nil }

// Close ends the open; the driver is told if it knows of it.
func (h *Handle) Close(ctx context.Context, f *file.File) error {
	if h.closed.Swap(true) {
		return nil
	}
	h.drop()
	if g := h.d.live.Load(); g != nil && h.gen.Load() == g.n {
		return g.c.Close(ctx, h.unit, h.flags)
	}
	return nil
}

// drop gives the reference to the unit back.
func (h *Handle) drop() {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if h.u.opens--; h.u.opens == 0 {
		delete(h.d.units, h.unit)
	}
}
