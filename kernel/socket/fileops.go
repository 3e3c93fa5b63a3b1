package socket

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// fileOps are the operations of socket files (struct fileops socketops). Data
// of the file is its *Socket.
type fileOps struct{ file.NoOps }

var _ file.Ops = fileOps{}

// Read receives; there is no offset.
func (fileOps) Read(ctx context.Context, c *abi.Caller, f *file.File, dst []byte, off int64) (int, error) {
	if off != file.Cur {
		return 0, abi.ESPIPE
	}
	return f.Data.(*Socket).l.Recv(ctx, c, f, dst, 0)
}

// Write sends; there is no offset.
func (fileOps) Write(ctx context.Context, c *abi.Caller, f *file.File, src []byte, off int64) (int, error) {
	if off != file.Cur {
		return 0, abi.ESPIPE
	}
	return f.Data.(*Socket).l.Send(ctx, c, f, src, 0)
}

// Stat is fstat(2): a socket, open to all, with its id as file number.
func (fileOps) Stat(_ context.Context, _ *abi.Caller, f *file.File) (abi.Stat, error) {
	s := f.Data.(*Socket)
	st := abi.Stat{Vattr: abi.Vattr{Type: abi.VSOCK, Mode: 0o666, Nlink: 1, Blksize: 65536, Fileid: abi.Fileid(s.id)}}
	if f.Cred != nil {
		st.Uid, st.Gid = f.Cred.Euid, f.Cred.Egid
	}
	return st, nil
}

// peekBufs are for FIONREAD.
var peekBufs = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// Ioctl knows FIONBIO, FIOASYNC off, FIONREAD and SIOCATMARK. FIONREAD counts
// up to 64 KiB: what one read of that size would get.
func (fileOps) Ioctl(ctx context.Context, c *abi.Caller, f *file.File, cmd uint32, arg []byte) ([]byte, error) {
	s := f.Data.(*Socket)
	flag := func() (uint32, error) {
		if len(arg) < 4 {
			return 0, abi.EINVAL
		}
		return binary.LittleEndian.Uint32(arg), nil
	}
	switch cmd {
	case abi.FIONBIO:
		v, err := flag()
		if err != nil {
			return nil, err
		}
		fl := f.Flags() &^ abi.O_NONBLOCK
		if v != 0 {
			fl |= abi.O_NONBLOCK
		}
		f.SetFlags(fl)
		return nil, nil
	case abi.FIOASYNC:
		if v, err := flag(); err != nil || v == 0 {
			return nil, err
		}
		return nil, abi.EOPNOTSUPP
	case abi.SIOCATMARK:
		return int32Opt(0), nil
	case abi.FIONREAD:
		b := peekBufs.Get().(*[]byte)
		defer peekBufs.Put(b)
		r, err := s.l.Recvmsg(ctx, c, f, abi.IovOf(*b), abi.MSG_PEEK|abi.MSG_DONTWAIT, 0)
		if errors.Is(err, abi.EAGAIN) || errors.Is(err, abi.ENOTCONN) || errors.Is(err, abi.EINVAL) {
			return int32Opt(0), nil
		}
		if err != nil {
			return nil, err
		}
		return int32Opt(uint32(r.N)), nil
	}
	return nil, abi.ENOTTY
}

// Poll is sopoll. Without a net component it is POLLNVAL, never an error
// number: the seed's stub answered 45, which reads as ready for everything.
func (fileOps) Poll(ctx context.Context, f *file.File, want abi.PollEvents) abi.PollEvents {
	s := f.Data.(*Socket)
	g, st := s.at()
	if (st == gone || st == dead && s.dom.gone.Load()) && !s.l.avail.Load() {
		return abi.POLLNVAL
	}
	want |= abi.POLLANSWER
	const lost = abi.POLLIN | abi.POLLRDNORM | abi.POLLHUP | abi.POLLERR
	switch st {
	case dead, gone:
		return lost & want
	case restarting:
		return 0
	}
	if s.pending.Load() != 0 {
		want &= abi.POLLIN | abi.POLLRDNORM | abi.POLLERR // without asking
		return want
	}
	seq := s.seq.Load()
	if p := s.polled.Load(); p>>16 == seq && abi.PollEvents(p)&want == 0 && seq != 0 {
		return 0 // nothing was ready, and no edge has come since
	}
	ev, err := g.d.Poll(ctx, s.id)
	switch {
	case err == nil:
		s.polled.Store(seq<<16 | uint64(uint16(ev)))
	case errors.Is(err, abi.ECONNRESET) && !s.mortal(), errors.Is(err, abi.EINTR), errors.Is(err, abi.ETIMEDOUT):
		return 0 // the restart notifies; a caller that gave up looks no more
	default:
		ev = lost
	}
	return ev & want &^ abi.POLLNVAL
}

// Selinfo is notified by the component's edges and when it dies or comes back.
func (fileOps) Selinfo(f *file.File) *event.Selinfo { return &f.Data.(*Socket).sel }

// Fsync refuses with EINVAL.
func (fileOps) Fsync(context.Context, *abi.Caller, *file.File, bool) error { return abi.EINVAL }

// Close ends the socket.
func (fileOps) Close(ctx context.Context, f *file.File) error {
	return f.Data.(*Socket).close(ctx)
}
