package local

import (
	"context"
	"encoding/binary"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// fileOps are the operations of the sockets' files.
type fileOps struct{ file.NoOps }

var (
	_ file.Ops      = fileOps{}
	_ file.Orphaner = fileOps{}

	_ file.KnotePoller = fileOps{}
)

// Read receives; files that come along are closed.
func (fileOps) Read(ctx context.Context, _ *abi.Caller, f *file.File, dst []byte, off int64) (int, error) {
	if off != file.Cur {
		return 0, abi.ESPIPE
	}
	r, err := f.Data.(*Socket).Recv(ctx, abi.IovOf(dst), 0, f.Nonblock())
	release(ctx, r.Files)
	return r.N, err
}

// Write sends.
func (fileOps) Write(ctx context.Context, c *abi.Caller, f *file.File, src []byte, off int64) (int, error) {
	if off != file.Cur {
		return 0, abi.ESPIPE
	}
	return f.Data.(*Socket).Send(ctx, c, abi.IovOf(src), abi.Sockaddr{}, 0, f.Nonblock(), nil)
}

// Stat is fstat(2): a socket, open to all.
func (fileOps) Stat(_ context.Context, _ *abi.Caller, f *file.File) (abi.Stat, error) {
	s := f.Data.(*Socket)
	st := abi.Stat{Vattr: abi.Vattr{Type: abi.VSOCK, Mode: 0o666, Nlink: 1, Fileid: abi.Fileid(s.id)}}
	s.rcv.mu.Lock()
	st.Blksize = uint32(s.rcv.space)
	s.rcv.mu.Unlock()
	if f.Cred != nil {
		st.Uid, st.Gid = f.Cred.Euid, f.Cred.Egid
	}
	return st, nil
}

// Ioctl knows FIONREAD (all that waits, in bytes), FIONWRITE and FIONSPACE (of
// the other end's buffer), FIONBIO, FIOASYNC off and SIOCATMARK.
func (fileOps) Ioctl(_ context.Context, _ *abi.Caller, f *file.File, cmd uint32, arg []byte) ([]byte, error) {
	s := f.Data.(*Socket)
	switch cmd {
	case abi.FIONREAD:
		s.rcv.mu.Lock()
		defer s.rcv.mu.Unlock()
		return int32Opt(s.rcv.used), nil
	case abi.FIONWRITE, abi.FIONSPACE:
		used, free := s.peerSpace()
		if cmd == abi.FIONWRITE {
			return int32Opt(used), nil
		}
		return int32Opt(free), nil
	case abi.SIOCATMARK:
		return int32Opt(0), nil
	case abi.FIONBIO, abi.FIOASYNC:
		if len(arg) < 4 {
			return nil, abi.EINVAL
		}
		on := binary.LittleEndian.Uint32(arg) != 0
		if cmd == abi.FIOASYNC {
			if on {
				return nil, abi.EOPNOTSUPP // SIGIO is the system call's affair
			}
			return nil, nil
		}
		fl := f.Flags() &^ abi.O_NONBLOCK
		if on {
			fl |= abi.O_NONBLOCK
		}
		f.SetFlags(fl)
		return nil, nil
	}
	return nil, abi.ENOTTY
}

// Poll says POLLIN for data, the end of it, an error or a connection to
// accept; POLLOUT if a send would not wait; POLLHUP when both directions of a
// connection have ended.
func (fileOps) Poll(_ context.Context, f *file.File, want abi.PollEvents) abi.PollEvents {
	s := f.Data.(*Socket)
	const in = abi.POLLIN | abi.POLLRDNORM
	var ev abi.PollEvents
	st := s.state()
	if st == listening {
		s.d.mu.Lock()
		if len(s.queue) > 0 {
			ev |= in
		}
		s.d.mu.Unlock()
		return ev & want
	}
	if s.err.Load() != 0 {
		ev |= abi.POLLERR | abi.POLLOUT | in
	}
	s.rcv.mu.Lock()
	end := s.rcv.eof || s.rcv.shut
	if end || !s.rcv.emptyLocked() {
		ev |= in
	}
	s.rcv.mu.Unlock()
	p := s.peer.Load()
	switch {
	case !s.oriented():
		ev |= abi.POLLOUT
	case st == disconnected || p != nil && s.wshut.Load():
		ev |= abi.POLLOUT
		if end {
			ev |= abi.POLLHUP
		}
	case st == connected && p != nil:
		p.rcv.mu.Lock()
		if p.rcv.shut || p.rcv.freeLocked() >= p.rcv.lowatLocked() && (s.stream() || p.rcv.roomLocked(0)) {
			ev |= abi.POLLOUT
		}
		p.rcv.mu.Unlock()
	}
	return ev & (want | abi.POLLANSWER)
}

// peerSpace is how many bytes wait in the other end's buffer, and how many more
// there is room for. A datagram socket without a peer has room for what it may
// send.
func (s *Socket) peerSpace() (used, free int) {
	p := s.peer.Load()
	if p == nil {
		if s.oriented() {
			return 0, 0
		}
		return 0, int(s.sndSpace.Load())
	}
	p.rcv.mu.Lock()
	defer p.rcv.mu.Unlock()
	if p.rcv.shut {
		return 0, 0
	}
	return p.rcv.used, max(p.rcv.freeLocked(), 0)
}

// PollKnote is EVFILT_READ: bytes that wait, or connections to accept, and
// EV_EOF when no more come; and EVFILT_WRITE: room, and EV_EOF when a send
// would be EPIPE.
func (o fileOps) PollKnote(ctx context.Context, f *file.File, filter uint32) (data int64, flags uint32, ready bool) {
	s := f.Data.(*Socket)
	if filter == abi.EVFILT_WRITE {
		_, free := s.peerSpace()
		ready = o.Poll(ctx, f, abi.POLLOUT)&abi.POLLOUT != 0
		if st := s.state(); st == disconnected || s.wshut.Load() {
			flags = abi.EV_EOF
		}
		return int64(free), flags, ready
	}
	ready = o.Poll(ctx, f, abi.POLLIN)&abi.POLLIN != 0
	if s.state() == listening {
		s.d.mu.Lock()
		defer s.d.mu.Unlock()
		return int64(len(s.queue)), 0, ready
	}
	s.rcv.mu.Lock()
	defer s.rcv.mu.Unlock()
	if s.rcv.eof || s.rcv.shut {
		flags = abi.EV_EOF
	}
	return int64(s.rcv.used), flags, ready
}

// Selinfo is notified of everything that Poll looks at.
func (fileOps) Selinfo(f *file.File) *event.Selinfo { return &f.Data.(*Socket).sel }

// Orphaned looks for sockets that only messages out of reach refer to.
func (fileOps) Orphaned(f *file.File) { f.Data.(*Socket).d.collect() }

// Close ends the socket.
func (fileOps) Close(ctx context.Context, f *file.File) error {
	f.Data.(*Socket).close(ctx)
	return nil
}
