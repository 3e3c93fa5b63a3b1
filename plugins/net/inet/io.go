package inet

import (
	"context"
	"fmt"
	"io"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

// source reads an Iov once, in order. It is a tcpip.Payloader: netstack copies
// from it straight into its own buffers, so that the areas may change or go
// away when Send has returned.
type source struct {
	v    abi.Iov
	left int
}

// Len is the number of bytes not yet read.
func (s *source) Len() int { return s.left }

// Read reads on.
func (s *source) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) && s.left > 0 {
		c := copy(p[n:], s.v[0])
		s.v[0] = s.v[0][c:]
		if len(s.v[0]) == 0 {
			s.v = s.v[1:]
		}
		n += c
		s.left -= c
	}
	return n, nil
}

// newSource reads from a copy of v's list, not of its bytes.
func newSource(v abi.Iov) *source {
	s := &source{v: make(abi.Iov, 0, len(v))}
	for _, p := range v {
		if len(p) > 0 {
			s.v = append(s.v, p)
			s.left += len(p)
		}
	}
	return s
}

// sink writes into an Iov. What does not fit is io.ErrShortWrite, or dropped
// if drop is set, as the rest of a datagram is.
type sink struct {
	v    abi.Iov
	cur  int // area
	off  int // in it
	n    int // bytes taken
	drop bool
}

// full reports whether a stream may have more than fitted. A datagram is
// always all there was.
func (s *sink) full() bool { return !s.drop && s.cur == len(s.v) }

// Write takes what fits.
func (s *sink) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) && s.cur < len(s.v) {
		c := copy(s.v[s.cur][s.off:], p[n:])
		n += c
		s.off += c
		if s.off == len(s.v[s.cur]) {
			s.cur++
			s.off = 0
		}
	}
	s.n += n
	if n < len(p) && !s.drop {
		return n, io.ErrShortWrite
	}
	return len(p), nil
}

// Send queues bytes of a stream, perhaps not all, or one datagram. EAGAIN;
// stream: ENOTCONN, EPIPE, ECONNRESET and other errors of the connection;
// datagrams: EDESTADDRREQ, EISCONN (To on a connected socket), EMSGSIZE,
// EACCES (broadcast), EADDRNOTAVAIL (port 0), EHOSTUNREACH, ENETUNREACH,
// ENETDOWN, ECONNREFUSED (of an earlier one). MSG_OOB is EOPNOTSUPP, control messages
// EINVAL.
func (d *Domain) Send(_ context.Context, id abi.SockID, req sockops.SendReq, src abi.Iov) (int, error) {
	s, err := d.sock(id)
	if err != nil {
		return 0, err
	}
	switch {
	case req.Flags&abi.MSG_OOB != 0:
		return 0, fmt.Errorf("send out of band: %w", abi.EOPNOTSUPP)
	case len(req.Control) != 0:
		return 0, fmt.Errorf("send with control messages: %w", abi.EINVAL)
	}
	if s.typ == abi.SOCK_STREAM {
		return s.sendStream(newSource(src))
	}
	var opts tcpip.WriteOptions
	if req.To.Family != abi.AF_UNSPEC {
		to, err := fullAddr(d.af, req.To)
		switch {
		case err != nil:
			return 0, fmt.Errorf("send: %w", err)
		case s.connected.Load():
			return 0, fmt.Errorf("send to %s: %w", req.To, abi.EISCONN)
		case s.mapped(req.To.Addr):
			return 0, fmt.Errorf("send to %s: %w", req.To, abi.EINVAL)
		case to.Port == 0:
			return 0, fmt.Errorf("send to %s: %w", req.To, abi.EADDRNOTAVAIL)
		}
		opts.To = &to
	}
	opts.Atomic = true
	n, terr := s.write(newSource(src), opts)
	switch terr.(type) {
	case nil:
		return int(n), nil
	case *tcpip.ErrInvalidEndpointState:
		// The route is to an interface that is down.
		return 0, fmt.Errorf("send: %w", abi.ENETDOWN)
	}
	return 0, wrap("send", terr)
}

// write writes to the endpoint. A write that would block asks for the edge and
// tries again, for the case that it came in between.
func (s *sock) write(p *source, opts tcpip.WriteOptions) (int64, tcpip.Error) {
	n, err := s.ep.Write(p, opts)
	if wouldBlock(err) {
		s.arm(evOut)
		n, err = s.ep.Write(p, opts)
	}
	if err == nil && p.Len() > 0 {
		s.drained(evOut)
	}
	return n, err
}

// read reads from the endpoint, as write writes. A sink that was not filled
// leaves nothing behind.
func (s *sock) read(w *sink, opts tcpip.ReadOptions) (tcpip.ReadResult, tcpip.Error) {
	r, err := s.ep.Read(w, opts)
	if wouldBlock(err) {
		s.arm(evIn)
		r, err = s.ep.Read(w, opts)
	}
	switch {
	case err != nil || w.full():
	case opts.Peek:
		s.arm(evIn) // what was peeked at would count as new
	default:
		s.drained(evIn)
	}
	return r, err
}

func (s *sock) sendStream(p *source) (int, error) {
	// NetBSD's order: shut down, pending error, not connected. netstack
	// has one error for the first and the last.
	if unconnected(s.state()) {
		return 0, fmt.Errorf("send: %w", abi.ENOTCONN)
	}
	if p.Len() == 0 {
		return 0, nil
	}
	n, err := s.write(p, tcpip.WriteOptions{Atomic: true})
	if err != nil {
		s.told(err)
		return 0, wrap("send", err)
	}
	return int(n), nil
}

// Recv takes bytes of a stream, 0 at its end, or one datagram; what does not
// fit of that is lost and Flags says MSG_TRUNC. EAGAIN, ENOTCONN (stream),
// and errors of the connection or an earlier datagram. MSG_PEEK leaves the
// data; MSG_OOB is EOPNOTSUPP.
func (d *Domain) Recv(_ context.Context, id abi.SockID, req sockops.RecvReq, dst abi.Iov) (sockops.RecvRes, error) {
	s, err := d.sock(id)
	if err != nil {
		return sockops.RecvRes{}, err
	}
	if req.Flags&abi.MSG_OOB != 0 {
		return sockops.RecvRes{}, fmt.Errorf("receive out of band: %w", abi.EOPNOTSUPP)
	}
	opts := tcpip.ReadOptions{Peek: req.Flags&abi.MSG_PEEK != 0}
	if s.typ == abi.SOCK_STREAM {
		return s.recvStream(opts, dst)
	}
	opts.NeedRemoteAddr = true
	w := &sink{v: dst, drop: true}
	r, terr := s.read(w, opts)
	switch terr.(type) {
	case nil:
	case *tcpip.ErrClosedForReceive:
		return sockops.RecvRes{}, nil
	default:
		return sockops.RecvRes{}, wrap("receive", terr)
	}
	res := sockops.RecvRes{N: w.n, From: sockaddr(s.af, r.RemoteAddr)}
	if r.Total > w.n {
		res.Flags |= abi.MSG_TRUNC
	}
	return res, nil
}

func (s *sock) recvStream(opts tcpip.ReadOptions, dst abi.Iov) (sockops.RecvRes, error) {
	st := s.state()
	if connecting(st) {
		s.arm(evIn)
		if st = s.state(); connecting(st) {
			return sockops.RecvRes{}, abi.EAGAIN
		}
	}
	switch {
	case unconnected(st):
		return sockops.RecvRes{}, fmt.Errorf("receive: %w", abi.ENOTCONN)
	case s.rdShut.Load() || dst.Len() == 0:
		return sockops.RecvRes{}, nil
	}
	w := &sink{v: dst}
	r, err := s.read(w, opts)
	switch err.(type) {
	case nil:
	case *tcpip.ErrClosedForReceive:
		return sockops.RecvRes{}, nil
	case *tcpip.ErrNotConnected:
		if s.state() == tcp.StateClose {
			return sockops.RecvRes{}, nil
		}
		return sockops.RecvRes{}, wrap("receive", err)
	default:
		s.told(err)
		return sockops.RecvRes{}, wrap("receive", err)
	}
	if !opts.Peek {
		s.ep.ModerateRecvBuf(r.Count)
	}
	return sockops.RecvRes{N: r.Count}, nil
}
