package rumpclient

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// closeWait bounds how long Close waits for calls on the socket that it has
// cancelled.
const closeWait = 5 * time.Second

// sock is a socket in the kernel behind a net.Conn, Listener or PacketConn.
type sock struct {
	c      *Client
	fd     int
	af     int
	net    string // "tcp"
	stream bool
	local  net.Addr
	remote net.Addr

	rd, wr *deadline
	end    context.CancelCauseFunc // of the deadlines' parent

	mu     sync.Mutex
	users  int           // protected by mu: calls in flight, 1 more while open
	closed bool          // protected by mu
	gone   chan struct{} // closed when the descriptor is
	cerr   error         // of closing the descriptor; before gone

	wmu sync.Mutex // one Write at a time on a stream, so that they do not mix
}

func newSock(c *Client, fd, af int, name string, stream bool, local, remote abi.Sockaddr) *sock {
	s := &sock{c: c, fd: fd, af: af, net: name, stream: stream, users: 1, gone: make(chan struct{})}
	s.local, s.remote = netAddr(name, local), netAddr(name, remote)
	ctx, end := context.WithCancelCause(context.Background())
	s.end = end
	s.rd, s.wr = newDeadline(ctx), newDeadline(ctx)
	return s
}

// enter begins a call on the descriptor; leave ends it. While somebody is in,
// the number cannot come to mean another file.
func (s *sock) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.users++
	return true
}

func (s *sock) leave() {
	s.mu.Lock()
	s.users--
	last := s.users == 0
	s.mu.Unlock()
	if last {
		s.cerr = s.c.Close(context.Background(), s.fd)
		close(s.gone)
	}
}

// Close ends the calls that wait on the socket, and closes it.
func (s *sock) Close() error {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	if was {
		return s.opErr("close", net.ErrClosed)
	}
	s.end(net.ErrClosed)
	s.rd.stop()
	s.wr.stop()
	s.leave()
	t := time.NewTimer(closeWait)
	defer t.Stop()
	select {
	case <-s.gone:
		if s.cerr != nil {
			return s.opErr("close", s.cerr)
		}
		return nil
	case <-t.C:
		return nil // the last call that uses it closes it
	}
}

// opErr is an error as package net words them.
func (s *sock) opErr(op string, err error) error {
	return &net.OpError{Op: op, Net: s.net, Source: s.local, Addr: s.remote, Err: netErr(err)}
}

// netErr leaves out the system call's name when there is nothing else to say.
func netErr(err error) error {
	var e *Error
	if errors.As(err, &e) && e.Text == "" {
		return e.Errno
	}
	return err
}

// call makes a call on the socket under a deadline.
func (s *sock) call(d *deadline, f func(ctx context.Context) error) error {
	if !s.enter() {
		return net.ErrClosed
	}
	defer s.leave()
	ctx := d.get()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err := f(ctx)
	if err != nil && ctx.Err() != nil {
		if no := abi.ErrnoOf(err); no == abi.EINTR || no == abi.ETIMEDOUT {
			return context.Cause(ctx)
		}
	}
	return err
}

func (s *sock) recv(p []byte) (n int, from abi.Sockaddr, err error) {
	err = s.call(s.rd, func(ctx context.Context) error {
		n, from, err = s.c.Recvfrom(ctx, s.fd, p, 0)
		return err
	})
	return n, from, err
}

// Read reads what is there, at least one byte (net.Conn).
func (s *sock) Read(p []byte) (int, error) {
	if len(p) == 0 && s.stream {
		return 0, nil
	}
	n, _, err := s.recv(p)
	if err != nil {
		return 0, s.opErr("read", err)
	}
	if n == 0 && s.stream {
		return 0, io.EOF
	}
	return n, nil
}

// send sends one piece.
func (s *sock) send(p []byte, to abi.Sockaddr) (n int, err error) {
	err = s.call(s.wr, func(ctx context.Context) error {
		n, err = s.c.Sendto(ctx, s.fd, p, abi.MSG_NOSIGNAL, to)
		return err
	})
	return n, err
}

// Write writes all of p (net.Conn).
func (s *sock) Write(p []byte) (int, error) {
	if !s.stream {
		n, err := s.send(p, abi.Sockaddr{})
		if err != nil {
			return 0, s.opErr("write", err)
		}
		return n, nil
	}
	s.wmu.Lock()
	defer s.wmu.Unlock()
	done := 0
	for {
		n, err := s.send(p[done:min(len(p), done+abi.MaxTransfer)], abi.Sockaddr{})
		done += n
		if err != nil {
			return done, s.opErr("write", err)
		}
		if done == len(p) {
			return done, nil
		}
		if n == 0 {
			return done, s.opErr("write", io.ErrUnexpectedEOF)
		}
	}
}

// LocalAddr is the socket's own address.
func (s *sock) LocalAddr() net.Addr { return s.local }

// RemoteAddr is the address of the other end.
func (s *sock) RemoteAddr() net.Addr { return s.remote }

// SetDeadline limits reads and writes, those that wait included.
func (s *sock) SetDeadline(t time.Time) error {
	return s.setDeadline(func() { s.rd.set(t); s.wr.set(t) })
}

// SetReadDeadline limits reads.
func (s *sock) SetReadDeadline(t time.Time) error { return s.setDeadline(func() { s.rd.set(t) }) }

// SetWriteDeadline limits writes.
func (s *sock) SetWriteDeadline(t time.Time) error { return s.setDeadline(func() { s.wr.set(t) }) }

func (s *sock) setDeadline(f func()) error {
	if !s.enter() {
		return s.opErr("set", net.ErrClosed)
	}
	f()
	s.leave()
	return nil
}

// Fd is the descriptor in the kernel, for options and the like. It must not be
// closed, nor used after Close.
func (s *sock) Fd() int { return s.fd }

// Conn is a connection of the kernel's network: a net.Conn with the two half
// closes and the descriptor.
type Conn struct{ *sock }

// Listener accepts connections of the kernel's network; it is a net.Listener.
type Listener struct{ s *sock }

// PacketConn is a datagram socket of the kernel's network; it is a
// net.PacketConn.
type PacketConn struct{ *sock }

var (
	_ net.Conn       = Conn{}
	_ net.Listener   = (*Listener)(nil)
	_ net.PacketConn = PacketConn{}
)

func (s *sock) shutdown(how int) error {
	if !s.enter() {
		return s.opErr("close", net.ErrClosed)
	}
	defer s.leave()
	if err := s.c.Shutdown(context.Background(), s.fd, how); err != nil {
		return s.opErr("close", err)
	}
	return nil
}

// CloseWrite tells the other end that nothing more will come.
func (c Conn) CloseWrite() error { return c.shutdown(abi.SHUT_WR) }

// CloseRead gives up what may still come.
func (c Conn) CloseRead() error { return c.shutdown(abi.SHUT_RD) }

// ReadFrom is net.PacketConn's: the next datagram and who sent it.
func (c PacketConn) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := c.recv(p)
	if err != nil {
		return 0, nil, c.opErr("read", err)
	}
	return n, netAddr(c.net, from), nil
}

// WriteTo is net.PacketConn's.
func (c PacketConn) WriteTo(p []byte, to net.Addr) (int, error) {
	sa, err := sockaddr(to, c.af)
	if err != nil {
		return 0, &net.OpError{Op: "write", Net: c.net, Source: c.local, Addr: to, Err: err}
	}
	n, err := c.send(p, sa)
	if err != nil {
		return 0, &net.OpError{Op: "write", Net: c.net, Source: c.local, Addr: to, Err: netErr(err)}
	}
	return n, nil
}
