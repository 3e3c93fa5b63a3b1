package socket

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/socket/local"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

// of finds the socket of a file. ENOTSOCK.
func of(f *file.File) (*Socket, error) {
	if s, ok := f.Data.(*Socket); ok && f.Type == file.TypeSocket {
		return s, nil
	}
	return nil, abi.ENOTSOCK
}

func fileFlags(flags int) int {
	fl := abi.O_RDWR
	if flags&abi.SOCK_NONBLOCK != 0 {
		fl |= abi.O_NONBLOCK
	}
	if flags&abi.SOCK_NOSIGPIPE != 0 {
		fl |= abi.O_NOSIGPIPE
	}
	return fl
}

func (l *Layer) authorize(c *abi.Caller, act Action, a abi.Sockaddr) error {
	switch {
	case l.opts.Authorize != nil:
		return l.opts.Authorize(c, act, a)
	case c.Cred.Euid == 0:
		return nil
	case act == OpenRaw:
		return abi.EPERM
	}
	return abi.EACCES
}

// Socket is socket(2). typ may carry SOCK_NONBLOCK and SOCK_NOSIGPIPE;
// SOCK_CLOEXEC is for the caller to put into the descriptor table. EAFNOSUPPORT,
// EPROTONOSUPPORT, EPROTOTYPE, ENFILE, EPERM (raw); EOPNOTSUPP without a net
// component; ENETDOWN if one does not come back in time.
func (l *Layer) Socket(ctx context.Context, c *abi.Caller, af, typ, proto int) (*file.File, error) {
	if af == abi.AF_LOCAL && l.opts.Local != nil {
		return l.opts.Local.Socket(c, typ, proto)
	}
	flags := int(uint32(typ) & abi.SOCK_FLAGS_MASK)
	typ &^= flags
	if typ < 0 || proto < 0 || proto > 0xffff {
		return nil, abi.EPROTONOSUPPORT
	}
	dm, err := l.domain(ctx, af)
	if err != nil {
		return nil, err
	}
	defer l.leave(dm)
	if typ == abi.SOCK_RAW {
		if err := l.authorize(c, OpenRaw, abi.Sockaddr{Family: uint8(af)}); err != nil {
			return nil, err
		}
	}
	s, err := l.create(ctx, dm, typ, proto)
	if err != nil {
		return nil, err
	}
	if err := s.reserve(ctx, c); err != nil {
		s.close(context.WithoutCancel(ctx))
		return nil, err
	}
	f, err := l.opts.Files.New(file.TypeSocket, fileOps{}, s, fileFlags(flags), c.Cred)
	if err != nil {
		s.close(context.WithoutCancel(ctx))
		return nil, err
	}
	l.cnt.opened.Inc()
	return f, nil
}

// create makes a socket in the component, trying again once if that dies
// meanwhile.
func (l *Layer) create(ctx context.Context, dm *domain, typ, proto int) (*Socket, error) {
	for try := 0; ; try++ {
		g, err := l.awaitUp(ctx, dm)
		if err != nil {
			return nil, err
		}
		s := l.newSocket(dm, typ, proto)
		s.ctl.Lock() // a restart waits until the outcome is known
		l.socks.Store(s.id, s)
		err = g.d.Socket(ctx, s.id, typ, proto)
		if err == nil {
			s.gen.Store(g.n)
			if now := dm.live.Load(); now == nil || now == g {
				s.ctl.Unlock()
				return s, nil // if it is down now, InstanceUp puts it back
			}
			err = abi.ECONNRESET
		}
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		l.socks.Delete(s.id)
		s.ctl.Unlock()
		if !errors.Is(err, abi.ECONNRESET) || try > 0 {
			return nil, err
		}
		if err := l.awaitChange(ctx, dm, g); err != nil {
			return nil, err
		}
	}
}

// Socketpair is socketpair(2). Only AF_LOCAL has pairs: EOPNOTSUPP.
func (l *Layer) Socketpair(ctx context.Context, c *abi.Caller, af, typ, proto int) (*file.File, *file.File, error) {
	if af == abi.AF_LOCAL && l.opts.Local != nil {
		return l.opts.Local.Socketpair(c, typ, proto)
	}
	dm, err := l.domain(ctx, af)
	if err != nil {
		return nil, nil, err
	}
	l.leave(dm)
	return nil, nil, fmt.Errorf("socketpair: address family %d: %w", af, abi.EOPNOTSUPP)
}

// Bind is bind(2). ENOTSOCK, EINVAL (bound already), EADDRINUSE,
// EADDRNOTAVAIL, EACCES (port below 1024).
func (l *Layer) Bind(ctx context.Context, c *abi.Caller, f *file.File, a abi.Sockaddr) error {
	if u := local.Of(f); u != nil {
		return u.Bind(ctx, c, a)
	}
	s, err := of(f)
	if err != nil {
		return err
	}
	if (a.Family == abi.AF_INET || a.Family == abi.AF_INET6) && a.Port > 0 && a.Port < 1024 {
		if err := l.authorize(c, BindPrivPort, a); err != nil {
			return fmt.Errorf("bind %v: %w", a, err)
		}
	}
	return s.control(ctx, abi.EINVAL, func(d sockops.Domain) error {
		if err := d.Bind(ctx, s.id, a); err != nil {
			return err
		}
		s.mu.Lock()
		s.local = a
		s.mu.Unlock()
		s.learnName(ctx, d)
		return nil
	})
}

// Listen is listen(2). EOPNOTSUPP for sockets without connections, EINVAL for
// connected ones.
func (l *Layer) Listen(ctx context.Context, c *abi.Caller, f *file.File, backlog int) error {
	if u := local.Of(f); u != nil {
		return u.Listen(c, backlog)
	}
	s, err := of(f)
	if err != nil {
		return err
	}
	if !s.oriented() {
		return abi.EOPNOTSUPP
	}
	if backlog < 0 || backlog > abi.SOMAXCONN {
		backlog = abi.SOMAXCONN
	}
	return s.control(ctx, abi.EINVAL, func(d sockops.Domain) error {
		if p := s.getPhase(); p == connected || p == connecting {
			return abi.EINVAL
		}
		if err := d.Listen(ctx, s.id, backlog); err != nil {
			return err
		}
		s.mu.Lock()
		s.phase, s.backlog = listening, backlog
		s.mu.Unlock()
		if !s.named.Load() {
			s.learnName(ctx, d)
		}
		return nil
	})
}

// Connect is connect(2). It waits until the connection stands or fails, or
// answers EINPROGRESS on a non-blocking socket. A connect that is interrupted
// (EINTR) goes on; a later one answers EALREADY or EISCONN. AF_UNSPEC dissolves
// the association of a datagram socket.
func (l *Layer) Connect(ctx context.Context, c *abi.Caller, f *file.File, a abi.Sockaddr) error {
	if u := local.Of(f); u != nil {
		return u.Connect(ctx, c, a, f.Nonblock())
	}
	s, err := of(f)
	if err != nil {
		return err
	}
	if !s.oriented() {
		return s.associate(ctx, a)
	}
	if s.getPhase() == listening {
		return abi.EOPNOTSUPP
	}
	var old phase
	err = s.control(ctx, abi.EINVAL, func(d sockops.Domain) error {
		old = s.getPhase()
		if old == idle {
			s.setPhase(connecting) // before the call: a death resets it
		}
		err := d.Connect(ctx, s.id, a)
		switch {
		case err == nil:
			s.setPhase(connected)
		case errors.Is(err, abi.EINPROGRESS), errors.Is(err, abi.EALREADY):
		case errors.Is(err, abi.EISCONN):
			s.setPhase(connected)
		case old == connecting && gaveUp(err): // nobody knows
		case old == connecting:
			s.setPhase(idle)
		default:
			s.setPhase(old)
		}
		return err
	})
	if !errors.Is(err, abi.EINPROGRESS) || f.Nonblock() {
		return err
	}
	err = s.wait(ctx, waitMode{}, func(g *generation) error {
		ev, err := g.d.Poll(ctx, s.id)
		if err != nil {
			return err
		}
		if ev&(abi.POLLOUT|abi.POLLERR|abi.POLLHUP) == 0 {
			return abi.EAGAIN
		}
		v, err := g.d.Getopt(ctx, s.id, abi.SOL_SOCKET, abi.SO_ERROR)
		if err != nil {
			return err
		}
		if len(v) >= 4 {
			if n := int32(binary.LittleEndian.Uint32(v)); n != 0 {
				s.setPhase(idle)
				return failed{abi.SanitizeErrno(n)}
			}
		}
		s.setPhase(connected)
		return nil
	})
	if err == errDead {
		return abi.ECONNRESET
	}
	var fe failed
	if errors.As(err, &fe) {
		return fe.Errno
	}
	return err
}

// failed carries the outcome of a connect past the loop in wait, for which
// EAGAIN and ECONNRESET mean other things.
type failed struct{ abi.Errno }

func (f failed) Error() string   { return f.Errno.Error() }
func (f failed) Is(error) bool   { return false }
func (f failed) Unwrap() []error { return nil }

// associate connects a datagram socket.
func (s *Socket) associate(ctx context.Context, a abi.Sockaddr) error {
	return s.control(ctx, abi.EINVAL, func(d sockops.Domain) error {
		if err := d.Connect(ctx, s.id, a); err != nil {
			return err
		}
		s.mu.Lock()
		s.peer = a
		if a.Family == abi.AF_UNSPEC {
			s.peer = abi.Sockaddr{}
		}
		s.mu.Unlock()
		s.learnName(ctx, d)
		return nil
	})
}

// Accept is paccept(2) without the signal mask: flags are SOCK_NONBLOCK and
// the other SOCK_* flags. For accept(2), which inherits O_NONBLOCK, the caller
// passes SOCK_NONBLOCK if f has it. EINVAL unless listening, EOPNOTSUPP for
// sockets without connections, EAGAIN, ECONNABORTED, ENFILE.
func (l *Layer) Accept(ctx context.Context, c *abi.Caller, f *file.File, flags int) (*file.File, abi.Sockaddr, error) {
	if u := local.Of(f); u != nil {
		return u.Accept(ctx, c, f.Nonblock(), flags)
	}
	s, err := of(f)
	if err != nil {
		return nil, abi.Sockaddr{}, err
	}
	if !s.oriented() {
		return nil, abi.Sockaddr{}, abi.EOPNOTSUPP
	}
	if s.getPhase() != listening {
		return nil, abi.Sockaddr{}, abi.EINVAL
	}
	var (
		ns   *Socket
		from abi.Sockaddr
	)
	err = s.wait(ctx, waitMode{nonblock: f.Nonblock(), timeo: s.timeo(&s.rcvTimeo)}, func(g *generation) error {
		if ns != nil && ns.dead.Load() {
			l.socks.Delete(ns.id)
			ns = nil
		}
		if ns == nil {
			// In the table before the component knows it: its first edge
			// may come before Accept returns.
			ns = l.newSocket(s.dom, s.typ, s.proto)
			ns.phase = connected
			l.socks.Store(ns.id, ns)
			ns.rcvTimeo.Store(s.rcvTimeo.Load())
			ns.sndTimeo.Store(s.sndTimeo.Load())
		}
		ns.gen.Store(g.n)
		a, err := g.d.Accept(ctx, s.id, ns.id)
		if err != nil {
			return err
		}
		from = a
		if now := s.dom.live.Load(); now != g {
			ns.kill() // it died before anybody knew of the connection
		}
		return nil
	})
	if err != nil {
		if ns != nil {
			l.socks.Delete(ns.id)
		}
		if err == errDead {
			err = abi.ECONNABORTED
		}
		return nil, abi.Sockaddr{}, err
	}
	if info, snd, rcv := s.sbuf.Sizes(); info != nil { // they count for who listens
		_ = ns.sbuf.Reserve(info, snd, rcv, abi.RLIM_INFINITY)
	}
	nf, err := l.opts.Files.New(file.TypeSocket, fileOps{}, ns, fileFlags(flags), c.Cred)
	if err != nil {
		ns.close(context.WithoutCancel(ctx))
		return nil, abi.Sockaddr{}, err
	}
	l.cnt.opened.Inc()
	return nf, from, nil
}

// Shutdown is shutdown(2): how is SHUT_RD, SHUT_WR or SHUT_RDWR. EINVAL,
// ENOTCONN.
func (l *Layer) Shutdown(ctx context.Context, c *abi.Caller, f *file.File, how int) error {
	if u := local.Of(f); u != nil {
		return u.Shutdown(ctx, how)
	}
	s, err := of(f)
	if err != nil {
		return err
	}
	if how < abi.SHUT_RD || how > abi.SHUT_RDWR {
		return abi.EINVAL
	}
	err = s.control(ctx, abi.ENOTCONN, func(d sockops.Domain) error {
		if err := d.Shutdown(ctx, s.id, how); err != nil {
			return err
		}
		s.mu.Lock()
		s.shut |= 1 << how
		s.mu.Unlock()
		return nil
	})
	s.edge()
	return err
}

// Getsockname is getsockname(2).
func (l *Layer) Getsockname(ctx context.Context, c *abi.Caller, f *file.File) (abi.Sockaddr, error) {
	if u := local.Of(f); u != nil {
		return u.Name(false)
	}
	s, err := of(f)
	if err != nil {
		return abi.Sockaddr{}, err
	}
	s.mu.Lock()
	local := s.local
	s.mu.Unlock()
	if g, st := s.at(); st == live {
		a, err := g.d.Name(ctx, s.id, false)
		if err == nil || !errors.Is(err, abi.ECONNRESET) {
			return a, err
		}
	}
	if local.IsZero() {
		local.Family = uint8(s.dom.af)
	}
	return local, nil
}

// Getpeername is getpeername(2). ENOTCONN.
func (l *Layer) Getpeername(ctx context.Context, c *abi.Caller, f *file.File) (abi.Sockaddr, error) {
	if u := local.Of(f); u != nil {
		return u.Name(true)
	}
	s, err := of(f)
	if err != nil {
		return abi.Sockaddr{}, err
	}
	var a abi.Sockaddr
	err = s.wait(ctx, waitMode{once: true}, func(g *generation) (err error) {
		a, err = g.d.Name(ctx, s.id, true)
		return err
	})
	if err == errDead {
		err = abi.ENOTCONN
	}
	return a, err
}

// close ends the socket, in the component too if it is there.
func (s *Socket) close(ctx context.Context) error {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	s.mu.Lock()
	done := s.closed
	s.closed = true
	s.mu.Unlock()
	if done {
		return nil
	}
	s.sbuf.Release()
	var err error
	if g, st := s.at(); st == live {
		err = g.d.Close(ctx, s.id)
		if errors.Is(err, abi.ECONNRESET) {
			err = nil // gone with its component, which is as good
		}
	}
	s.l.socks.Delete(s.id)
	s.edge()
	s.l.cnt.closed.Inc()
	return err
}
