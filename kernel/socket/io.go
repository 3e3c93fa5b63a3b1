package socket

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/socket/local"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

// MaxMessage bounds what one call to a component carries, in bytes: longer
// stream transfers are split, longer datagrams are EMSGSIZE.
const MaxMessage = abi.MaxTransfer

// MaxControl bounds control messages, in bytes.
const MaxControl = 4096

func (s *Socket) timeo(v *atomic.Int64) time.Duration { return time.Duration(v.Load()) }

// errLie says that a component answered what cannot be.
var errLie = fmt.Errorf("net component answered nonsense: %w", abi.EIO)

// Send is send(2) on the first of src's bytes; see Sendmsg.
func (l *Layer) Send(ctx context.Context, c *abi.Caller, f *file.File, src []byte, flags int) (int, error) {
	return l.Sendmsg(ctx, c, f, abi.IovOf(src), abi.Sockaddr{}, flags, nil)
}

// Sendto is sendto(2); see Sendmsg.
func (l *Layer) Sendto(ctx context.Context, c *abi.Caller, f *file.File, src []byte, to abi.Sockaddr, flags int) (int, error) {
	return l.Sendmsg(ctx, c, f, abi.IovOf(src), to, flags, nil)
}

// Sendmsg is sendmsg(2). to is used if its family is not AF_UNSPEC. On a
// stream it waits until all is sent, unless the socket or the call
// (MSG_DONTWAIT) is non-blocking; a count less than all comes with no error if
// time, patience (EINTR) or room ran out. EAGAIN, EPIPE, ENOTCONN,
// EDESTADDRREQ, EMSGSIZE, EISCONN, ECONNRESET. SIGPIPE, and with it
// MSG_NOSIGNAL, is the system call's affair. Control messages of AF_LOCAL are for
// local.Socket's Send: EINVAL.
func (l *Layer) Sendmsg(ctx context.Context, c *abi.Caller, f *file.File, src abi.Iov, to abi.Sockaddr, flags int, control []byte) (int, error) {
	if u := local.Of(f); u != nil {
		if len(control) > 0 {
			return 0, abi.EINVAL // the caller makes files of it
		}
		return u.Send(ctx, c, src, to, flags, f.Nonblock(), nil)
	}
	s, err := of(f)
	if err != nil {
		return 0, err
	}
	total := src.Len()
	stream := s.typ == abi.SOCK_STREAM
	if len(control) > MaxControl || !stream && total > MaxMessage {
		return 0, abi.EMSGSIZE
	}
	const kernels = abi.MSG_DONTWAIT | abi.MSG_NBIO | abi.MSG_NOSIGNAL | abi.MSG_WAITALL | abi.MSG_CMSG_CLOEXEC
	req := sockops.SendReq{To: to, Flags: flags & abi.MSG_USERFLAGS &^ kernels, Control: control}
	m := waitMode{
		nonblock: f.Nonblock() || flags&(abi.MSG_DONTWAIT|abi.MSG_NBIO) != 0,
		timeo:    s.timeo(&s.sndTimeo),
	}
	sent := 0
	for {
		part := src
		if sent > 0 || total > MaxMessage {
			part = src.Slice(sent, MaxMessage)
		}
		err := s.wait(ctx, m, func(g *generation) error {
			n, err := g.d.Send(ctx, s.id, req, part)
			if err != nil {
				return err
			}
			if n < 0 || n > MaxMessage || n > total-sent || n == 0 && stream && total > 0 {
				return errLie
			}
			if !stream && !s.named.Load() {
				s.learnName(ctx, g.d)
			}
			sent += n
			return nil
		})
		switch {
		case err == nil:
			if !stream || sent == total {
				return sent, nil
			}
			req.Control = nil // goes with the first part
		case err == errDead:
			return 0, abi.EPIPE
		case sent > 0 && gaveUp(err):
			return sent, nil
		default:
			return 0, err
		}
	}
}

// gaveUp reports whether an error says that the call stopped, not that the
// connection failed.
func gaveUp(err error) bool {
	return errors.Is(err, abi.EAGAIN) || errors.Is(err, abi.EINTR) || errors.Is(err, abi.ETIMEDOUT)
}

// Recv is recv(2); see Recvmsg.
func (l *Layer) Recv(ctx context.Context, c *abi.Caller, f *file.File, dst []byte, flags int) (int, error) {
	r, err := l.Recvmsg(ctx, c, f, abi.IovOf(dst), flags, 0)
	return r.N, err
}

// Recvfrom is recvfrom(2); see Recvmsg.
func (l *Layer) Recvfrom(ctx context.Context, c *abi.Caller, f *file.File, dst []byte, flags int) (int, abi.Sockaddr, error) {
	r, err := l.Recvmsg(ctx, c, f, abi.IovOf(dst), flags, 0)
	return r.N, r.From, err
}

// Recvmsg is recvmsg(2): it waits for at least one byte of a stream, or for
// all of dst with MSG_WAITALL, or for one datagram. 0 bytes of a stream are
// its end. With MSG_TRUNC N is the length of the datagram, also if that is
// more than fits. Files that an AF_LOCAL socket gets are closed: local.Socket's
// Recv gives them. EAGAIN, ENOTCONN, ECONNRESET.
func (l *Layer) Recvmsg(ctx context.Context, c *abi.Caller, f *file.File, dst abi.Iov, flags, maxControl int) (sockops.RecvRes, error) {
	if u := local.Of(f); u != nil {
		r, err := u.Recv(ctx, dst, flags, f.Nonblock())
		for _, g := range r.Files {
			g.Release(ctx)
		}
		return sockops.RecvRes{N: r.N, From: r.From, Flags: r.Flags}, err
	}
	s, err := of(f)
	if err != nil {
		return sockops.RecvRes{}, err
	}
	total := dst.Len()
	stream := s.typ == abi.SOCK_STREAM
	if stream && total == 0 {
		return sockops.RecvRes{}, nil
	}
	if !stream && total > MaxMessage {
		dst, total = dst.Slice(0, MaxMessage), MaxMessage
	}
	const kernels = abi.MSG_DONTWAIT | abi.MSG_NBIO | abi.MSG_NOSIGNAL | abi.MSG_WAITALL |
		abi.MSG_CMSG_CLOEXEC | abi.MSG_WAITFORONE
	req := sockops.RecvReq{Flags: flags & abi.MSG_USERFLAGS &^ kernels, MaxControl: min(max(maxControl, 0), MaxControl)}
	if stream {
		req.Flags &^= abi.MSG_TRUNC
	}
	m := waitMode{
		nonblock: f.Nonblock() || flags&(abi.MSG_DONTWAIT|abi.MSG_NBIO) != 0,
		timeo:    s.timeo(&s.rcvTimeo),
	}
	all := stream && flags&abi.MSG_WAITALL != 0 && flags&abi.MSG_PEEK == 0
	var res sockops.RecvRes
	for {
		part := dst
		if res.N > 0 || total > MaxMessage {
			part = dst.Slice(res.N, MaxMessage)
		}
		want := part.Len()
		var r sockops.RecvRes
		err := s.wait(ctx, m, func(g *generation) (err error) {
			r, err = g.d.Recv(ctx, s.id, req, part)
			long := r.N > want && req.Flags&abi.MSG_TRUNC == 0 // with it: the whole length
			if err == nil && (r.N < 0 || long || len(r.Control) > req.MaxControl) {
				return errLie
			}
			return err
		})
		switch {
		case err == nil:
			n := res.N + r.N
			if res.N == 0 {
				res = r
			}
			res.N = n
			if r.N == 0 || n == total || !all {
				return res, nil
			}
		case err == errDead:
			return res, nil // end of file
		case res.N > 0:
			if !gaveUp(err) {
				s.pending.Store(int32(abi.ErrnoOf(err))) // the next call tells
			}
			return res, nil
		default:
			return sockops.RecvRes{}, err
		}
	}
}
