package file

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Noter is an Ops that says what happens to its file: EVFILT_VNODE needs it.
type Noter interface {
	Klist(f *File) *event.Klist
}

// KnotePoller is an Ops that knows more for EVFILT_READ and EVFILT_WRITE than
// Poll and FIONREAD say: bytes to read or room to write, EV_EOF, and whether
// the event is there. Where Klist is not nil and Selinfo is, its notes are the
// edges.
type KnotePoller interface {
	PollKnote(ctx context.Context, f *File, filter uint32) (data int64, flags uint32, ready bool)
}

// Kqueue is the Data of a kqueue's file.
type Kqueue struct {
	*event.Kqueue
}

// FdClosed removes the knotes on a descriptor.
func (kq *Kqueue) FdClosed(d *Filedesc, fd int) { kq.Drop(d, uint64(fd), false) }

// maxNest bounds kqueues in kqueues.
const maxNest = 4

// nestMu is held while a kqueue is put into another one, so that the check for
// cycles holds.
var nestMu sync.Mutex

// NewKqueue makes the file of a new kqueue. ENFILE.
func (t *Table) NewKqueue(cred *abi.Cred) (*File, error) {
	return t.New(TypeKqueue, kqueueOps{}, &Kqueue{event.NewKqueue()}, abi.O_RDWR, cred)
}

// KqueueOf is the kqueue of an open file. EBADF if it is none.
func KqueueOf(f *File) (*Kqueue, error) {
	if kq, ok := f.Data.(*Kqueue); ok {
		return kq, nil
	}
	return nil, abi.EBADF
}

// RegisterFile makes a change about a descriptor of table d: EVFILT_READ,
// EVFILT_WRITE and EVFILT_VNODE. EBADF; EOPNOTSUPP for EVFILT_VNODE on what is
// no vnode; ELOOP for kqueues in a circle.
func (kq *Kqueue) RegisterFile(ctx context.Context, d *Filedesc, ev *abi.Kevent) error {
	if ev.Ident > 1<<30 {
		return abi.EBADF
	}
	f, err := d.Get(int(ev.Ident))
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	if f.Type == TypeKqueue && ev.Filter != abi.EVFILT_READ {
		return abi.EINVAL
	}
	if inner, ok := f.Data.(*Kqueue); ok && ev.Flags&abi.EV_ADD != 0 {
		nestMu.Lock()
		defer nestMu.Unlock()
		if inner.reaches(kq, maxNest) {
			return abi.ELOOP
		}
	}
	return kq.Register(d, ev, func() (event.Source, error) {
		s := fileSource{kq: kq, d: d, fd: int(ev.Ident), f: f}
		if ev.Filter == abi.EVFILT_VNODE {
			return &s, nil
		}
		return &pollSource{s}, nil
	})
}

// reaches reports whether to is kq or in a kqueue below it, or the nesting is
// deeper than depth.
func (kq *Kqueue) reaches(to *Kqueue, depth int) bool {
	if kq == to || depth == 0 {
		return true
	}
	found := false
	kq.Each(func(s event.Source) {
		if ps, ok := s.(*pollSource); ok && !found {
			if in, ok := ps.f.Data.(*Kqueue); ok {
				found = in.reaches(to, depth-1)
			}
		}
	})
	return found
}

// fileSource is the Source of knotes on descriptors. It holds a reference to
// the file, which Detach gives back: closing the descriptor removes the knote.
type fileSource struct {
	kq   *Kqueue
	d    *Filedesc
	fd   int
	f    *File
	hook *event.Waiter
	sel  *event.Selinfo
	list *event.Klist
}

var _ event.Poller = (*pollSource)(nil)

// Attach checks what the file can, and hangs the knote on it.
func (s *fileSource) Attach(k *event.Knote) error {
	n, ok := s.f.Ops.(Noter)
	if k.Filter == abi.EVFILT_VNODE && !ok {
		return abi.EOPNOTSUPP
	}
	if err := s.d.Watch(s.kq, s.fd, s.f); err != nil {
		return err
	}
	s.f.Hold()
	if k.Filter != abi.EVFILT_VNODE {
		if s.sel = s.f.Ops.Selinfo(s.f); s.sel != nil {
			s.hook = event.NewHook(k.Wake)
			s.sel.Record(s.hook)
			return nil
		}
	}
	if ok {
		s.list = n.Klist(s.f)
		s.list.Insert(k)
	}
	return nil
}

// Detach takes the knote off the file.
func (s *fileSource) Detach(k *event.Knote) {
	if s.sel != nil {
		s.sel.Remove(s.hook)
	}
	if s.list != nil {
		s.list.Remove(k)
	}
	s.d.Unwatch(s.kq)
	s.f.Release(context.Background())
}

// pollSource is a fileSource that is asked: READ and WRITE.
type pollSource struct{ fileSource }

// PollKnote asks the file.
func (s *pollSource) PollKnote(ctx context.Context, k *event.Knote, lowat int64) (data int64, flags uint32, ready bool) {
	if p, ok := s.f.Ops.(KnotePoller); ok {
		data, flags, ready = p.PollKnote(ctx, s.f, k.Filter)
	} else {
		data, flags, ready = PollKnote(ctx, s.f, k.Filter)
	}
	if lowat > 0 && data < lowat && flags&abi.EV_EOF == 0 {
		ready = false
	}
	return data, flags, ready
}

// PollKnote is PollKnote for an Ops that has none: Poll, and FIONREAD or FIONSPACE.
func PollKnote(ctx context.Context, f *File, filter uint32) (data int64, flags uint32, ready bool) {
	want, count := abi.POLLIN|abi.POLLRDNORM, uint32(abi.FIONREAD)
	if filter == abi.EVFILT_WRITE {
		want, count = abi.POLLOUT, abi.FIONSPACE
	}
	ev := f.Ops.Poll(ctx, f, want)
	if ev&(abi.POLLHUP|abi.POLLERR|abi.POLLNVAL) != 0 {
		flags |= abi.EV_EOF
	}
	if ev == 0 {
		return 0, 0, false
	}
	if b, err := f.Ops.Ioctl(ctx, abi.KernelCaller, f, count, nil); err == nil && len(b) >= 4 {
		data = int64(binary.LittleEndian.Uint32(b))
	}
	return data, flags, true
}

// kqueueOps are the operations of a kqueue's file (kqueueops).
type kqueueOps struct{ NoOps }

var _ Ops = kqueueOps{}

// Stat is fstat(2): the number of knotes as size, as NetBSD answers it.
func (kqueueOps) Stat(_ context.Context, _ *abi.Caller, f *File) (abi.Stat, error) {
	st := abi.Stat{Vattr: abi.Vattr{Type: abi.VFIFO, Mode: 0o600, Nlink: 1, Size: int64(f.Data.(*Kqueue).Len()), Blksize: abi.KeventSize}}
	if f.Cred != nil {
		st.Uid, st.Gid = f.Cred.Euid, f.Cred.Egid
	}
	return st, nil
}

// Read refuses with ENXIO, as kqueue_read does.
func (kqueueOps) Read(context.Context, *abi.Caller, *File, []byte, int64) (int, error) {
	return 0, abi.ENXIO
}

// Write refuses with ENXIO.
func (kqueueOps) Write(context.Context, *abi.Caller, *File, []byte, int64) (int, error) {
	return 0, abi.ENXIO
}

// Poll answers POLLIN when there is an event to fetch.
func (kqueueOps) Poll(ctx context.Context, f *File, want abi.PollEvents) abi.PollEvents {
	want &= abi.POLLIN | abi.POLLRDNORM
	if want == 0 || f.Data.(*Kqueue).Ready(ctx) == 0 {
		return 0
	}
	return want
}

// PollKnote is READ on a kqueue: the number of events to fetch.
func (kqueueOps) PollKnote(ctx context.Context, f *File, filter uint32) (int64, uint32, bool) {
	if filter != abi.EVFILT_READ {
		return 0, 0, false
	}
	n := f.Data.(*Kqueue).Ready(ctx)
	return int64(n), 0, n > 0
}

// Ioctl knows FIONBIO and FIOASYNC.
func (kqueueOps) Ioctl(_ context.Context, _ *abi.Caller, _ *File, cmd uint32, _ []byte) ([]byte, error) {
	if cmd == abi.FIONBIO || cmd == abi.FIOASYNC {
		return nil, nil
	}
	return nil, abi.ENOTTY
}

// Selinfo is notified when an event may be there.
func (kqueueOps) Selinfo(f *File) *event.Selinfo { return &f.Data.(*Kqueue).Sel }

// Close removes every knote.
func (kqueueOps) Close(_ context.Context, f *File) error {
	f.Data.(*Kqueue).Close()
	return nil
}
