package local

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var noNames = fmt.Errorf("AF_LOCAL names need a file system: %w", abi.EOPNOTSUPP)

// Bind is bind(2): it makes a name of type VSOCK. EAFNOSUPPORT, EINVAL (bound
// already), EADDRINUSE, ENOENT, EACCES, EROFS.
func (s *Socket) Bind(ctx context.Context, c *abi.Caller, a abi.Sockaddr) error {
	if a.Family != abi.AF_LOCAL {
		return abi.EAFNOSUPPORT
	}
	if a.Path == "" {
		return abi.ENOENT
	}
	d := s.d
	if d.o.Bind == nil {
		return noNames
	}
	d.mu.Lock()
	if s.name != "" || s.closed {
		d.mu.Unlock()
		return abi.EINVAL
	}
	s.name = a.Path // a second bind at the same time fails
	d.mu.Unlock()
	n, err := d.o.Bind(ctx, c, a.Path)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		s.name = ""
		return fmt.Errorf("bind %s: %w", a.Path, err)
	}
	s.node = n
	if s.self == nil {
		s.self = idOf(c)
	}
	n.Set(s)
	return nil
}

// find is the socket that a path names. ENOENT, ENOTDIR, EACCES, ENOTSOCK,
// ECONNREFUSED, EPROTOTYPE.
func (s *Socket) find(ctx context.Context, c *abi.Caller, a abi.Sockaddr) (*Socket, error) {
	if a.Family != abi.AF_LOCAL {
		return nil, abi.EAFNOSUPPORT
	}
	if a.Path == "" {
		return nil, abi.ENOENT
	}
	if s.d.o.Find == nil {
		return nil, noNames
	}
	n, err := s.d.o.Find(ctx, c, a.Path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Path, err)
	}
	defer n.Release()
	to, _ := n.Get().(*Socket)
	switch {
	case to == nil:
		return nil, fmt.Errorf("%s: nobody has it open: %w", a.Path, abi.ECONNREFUSED)
	case to.typ != s.typ:
		return nil, fmt.Errorf("%s: %w", a.Path, abi.EPROTOTYPE)
	}
	return to, nil
}

// Connect is connect(2). Streams and packets connect at once, unless one side
// wants to wait for accept(2) (LOCAL_CONNWAIT). Datagram sockets may connect
// again; AF_UNSPEC dissolves it. EISCONN, EALREADY, EOPNOTSUPP (listening),
// ECONNREFUSED (nobody listens, or the queue is full), EPROTOTYPE, and those
// of find.
func (s *Socket) Connect(ctx context.Context, c *abi.Caller, a abi.Sockaddr, nonblock bool) error {
	d := s.d
	if !s.oriented() {
		var to *Socket
		if a.Family != abi.AF_UNSPEC {
			var err error
			if to, err = s.find(ctx, c, a); err != nil {
				return err
			}
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if to != nil && to.closed {
			return abi.ECONNREFUSED
		}
		s.partLocked()
		if to != nil {
			s.joinLocked(to)
		}
		s.sel.Notify()
		return nil
	}
	switch s.state() {
	case connected, disconnected:
		return abi.EISCONN
	case connecting:
		return abi.EALREADY
	case listening:
		return abi.EOPNOTSUPP
	}
	to, err := s.find(ctx, c, a)
	if err != nil {
		return err
	}
	wait, err := s.enqueue(c, to)
	if err != nil {
		return fmt.Errorf("%s: %w", a.Path, err)
	}
	to.sel.Notify()
	if !wait {
		return nil
	}
	if nonblock {
		return abi.EINPROGRESS
	}
	err = s.wait(ctx, false, 0, func() error {
		if s.state() == connecting {
			return abi.EAGAIN
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.takeError()
}

// enqueue makes the other end of a connection and puts it into the queue of a
// listener (sonewconn). It reports whether the connection waits for accept.
func (s *Socket) enqueue(c *abi.Caller, to *Socket) (bool, error) {
	d := s.d
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case s.closed:
		return false, abi.EBADF
	case s.state() == connected, s.state() == disconnected:
		return false, abi.EISCONN
	case s.state() != idle:
		return false, abi.EINVAL
	case to.state() != listening:
		return false, fmt.Errorf("nobody listens: %w", abi.ECONNREFUSED)
	case len(to.queue) > 3*to.backlog/2:
		return false, fmt.Errorf("the queue is full: %w", abi.ECONNREFUSED)
	}
	n := d.newSocket(s.typ)
	if info, snd, rcv := to.sbuf.Sizes(); info != nil { // they count for who listens
		_, max := d.sbsize(c)
		if err := n.sbuf.Reserve(info, snd, rcv, max); err != nil {
			d.closed.Inc()
			return false, fmt.Errorf("no room for a connection: %w", abi.ECONNREFUSED)
		}
	}
	n.name = to.name
	n.owner.Store(to.owner.Load())
	to.rcv.mu.Lock()
	n.rcv.space, n.rcv.creds = to.rcv.space, to.rcv.creds
	to.rcv.mu.Unlock()
	n.sndSpace.Store(to.sndSpace.Load())
	n.rcvTimeo.Store(to.rcvTimeo.Load())
	n.sndTimeo.Store(to.sndTimeo.Load())
	n.peerID = idOf(c)
	if to.self != nil {
		id := *to.self
		s.peerID = &id
	}
	s.joinLocked(n)
	n.joinLocked(s)
	wait := s.connwait || to.connwait
	if wait {
		s.setState(connecting)
	}
	to.queue = append(to.queue, n)
	return wait, nil
}

// Listen is listen(2). EOPNOTSUPP for datagram sockets; EINVAL for connected
// ones and such without a name.
func (s *Socket) Listen(c *abi.Caller, backlog int) error {
	if !s.oriented() {
		return abi.EOPNOTSUPP
	}
	if backlog < 0 || backlog > abi.SOMAXCONN {
		backlog = abi.SOMAXCONN
	}
	d := s.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if st := s.state(); st != idle && st != listening || s.node == nil || s.closed {
		return abi.EINVAL
	}
	s.setState(listening)
	s.backlog = backlog
	s.self = idOf(c)
	return nil
}

// Accept is paccept(2): the next connection and the name of the other end.
// EOPNOTSUPP, EINVAL unless listening, EAGAIN, ENFILE.
func (s *Socket) Accept(ctx context.Context, c *abi.Caller, nonblock bool, flags int) (*file.File, abi.Sockaddr, error) {
	if !s.oriented() {
		return nil, abi.Sockaddr{}, abi.EOPNOTSUPP
	}
	if s.state() != listening {
		return nil, abi.Sockaddr{}, abi.EINVAL
	}
	d := s.d
	var n *Socket
	from := abi.SockaddrUnix("")
	err := s.wait(ctx, nonblock, s.timeo(&s.rcvTimeo), func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if len(s.queue) == 0 {
			return abi.EAGAIN
		}
		n = s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		p := n.peer.Load()
		if p.state() == connecting {
			p.setState(connected)
		}
		from.Path = p.name
		return nil
	})
	if err != nil {
		return nil, abi.Sockaddr{}, err
	}
	n.peer.Load().sel.Notify()
	f, err := n.file(c, flags)
	return f, from, err
}

// Shutdown is shutdown(2). With SHUT_RD what has come is dropped, and whoever
// sends gets EPIPE. EINVAL, ENOTCONN.
func (s *Socket) Shutdown(ctx context.Context, how int) error {
	if how < abi.SHUT_RD || how > abi.SHUT_RDWR {
		return abi.EINVAL
	}
	s.d.mu.Lock()
	st := s.state()
	s.d.mu.Unlock()
	if st != connected {
		return abi.ENOTCONN
	}
	p := s.peer.Load()
	if how != abi.SHUT_WR {
		s.rcv.mu.Lock()
		s.rcv.shut = true
		s.rcv.mu.Unlock()
		release(ctx, s.strip(true))
	}
	if how != abi.SHUT_RD {
		s.wshut.Store(true)
		if s.oriented() {
			p.rcv.end()
		}
	}
	s.sel.Notify()
	if p != nil {
		p.sel.Notify()
	}
	return nil
}

// end says that nothing comes any more.
func (b *buffer) end() {
	b.mu.Lock()
	b.eof = true
	b.mu.Unlock()
}

// close ends the socket: a connection's other end finds the end of the file,
// datagram sockets connected here ECONNRESET, those in the queue of a listener
// are closed as well.
func (s *Socket) close(ctx context.Context) {
	d := s.d
	d.mu.Lock()
	if s.closed {
		d.mu.Unlock()
		return
	}
	s.closed = true
	d.closed.Inc()
	node, queue := s.node, s.queue
	s.node, s.queue = nil, nil
	if node != nil {
		node.Set(nil)
	}
	wake := []*Socket{s}
	p := s.peer.Load()
	if s.oriented() {
		if p != nil && p.peer.Load() == s {
			if p.state() == connecting {
				p.err.Store(int32(abi.ECONNREFUSED))
			}
			p.setState(disconnected)
			p.rcv.end()
			wake = append(wake, p)
		}
		s.setState(disconnected)
	} else {
		s.partLocked()
		for r := range s.refs {
			r.peer.Store(nil)
			r.setState(idle)
			r.err.Store(int32(abi.ECONNRESET))
			wake = append(wake, r)
		}
		s.refs = nil
	}
	d.mu.Unlock()
	if node != nil {
		node.Release()
	}
	s.rcv.mu.Lock()
	s.rcv.shut = true // nobody puts anything in any more
	s.rcv.mu.Unlock()
	s.sbuf.Release()
	release(ctx, s.strip(true))
	for _, q := range queue {
		q.close(ctx)
	}
	for _, w := range wake {
		w.sel.Notify()
	}
}

// Name is getsockname(2), or with peer set getpeername(2): an empty path for a
// socket without a name. ENOTCONN.
func (s *Socket) Name(peer bool) (abi.Sockaddr, error) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if !peer {
		return abi.SockaddrUnix(s.name), nil
	}
	p := s.peer.Load()
	if s.state() != connected || p == nil {
		return abi.Sockaddr{}, abi.ENOTCONN
	}
	return abi.SockaddrUnix(p.name), nil
}
