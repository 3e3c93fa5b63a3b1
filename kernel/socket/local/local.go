// Package local has the sockets of AF_LOCAL, alias AF_UNIX: within one kernel,
// named by paths, and all of it in the kernel, so that they need no component
// and outlive every one (uipc_usrreq.c).
//
// # The words
//
// What a socket receives lies in its own buffer; to send is to append to the
// buffer of the other end. A stream's buffer is a ring of bytes with marks
// where control information belongs; those of datagrams and of sequenced
// packets are queues of records. A name is a Node, a VSOCK vnode with the socket
// in it: the assembly gives the functions that make and find one (Options).
//
// Control information is credentials (LOCAL_CREDS) and files (SCM_RIGHTS). A
// file in a message is in flight: the message holds a reference. Sockets in
// flight can hold each other's last reference, in messages that nobody can
// receive any more; when a socket's last reference from outside goes,
// Domain.collect finds what cannot be reached and throws its messages away.
//
// # NetBSD's ways
//
// A full queue of a listener is ECONNREFUSED, a full datagram socket ENOBUFS:
// neither waits. A connection's end is end of file here and EPIPE there, never
// ECONNRESET, which only a datagram socket gets whose peer was closed. Names
// belong to the socket that bound them, and stay in the file system until
// somebody unlinks them. Buffers begin larger than NetBSD's (StreamSpace,
// DgramSpace). SIGPIPE is the system call's affair.
//
// # Locks
//
//	Domain.mu             who is connected to whom, queues, names; never held over calls
//	Domain.flightMu       which messages with files there are
//	  buffer.mu           what a socket received; may also be taken under Domain.mu
//	    event.Selinfo     leaf
//
// Domain.mu and flightMu are never held together. No file is released under
// any of them. Sends and receives take the buffer's lock only.
package local

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/uidinfo"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Sizes of buffers until SO_RCVBUF and SO_SNDBUF say otherwise, and their
// bound, in bytes. SO_SNDBUF is the largest datagram or packet.
const (
	StreamSpace = 64 << 10
	DgramSpace  = 64 << 10 // to receive four times that
	MaxSpace    = 4 << 20
)

// Node is a name in the file system that stands for a socket. Its owner keeps
// it until Release.
type Node interface {
	Set(v any)
	Get() any
	Release()
}

// Options are what sockets need from others.
type Options struct {
	Files *file.Table

	// Bind makes a name: EADDRINUSE if it exists, and the errors of mknod(2).
	// Find looks one up for somebody who wants to send there: the errors of
	// a walk, EACCES, ENOTSOCK. Nil: EOPNOTSUPP.
	Bind, Find func(ctx context.Context, c *abi.Caller, path string) (Node, error)

	// Sbsize answers whom the buffers of a socket of c's count for, and how
	// many bytes of them he may have (RLIMIT_SBSIZE). Nil: nobody counts.
	Sbsize func(c *abi.Caller) (*uidinfo.Info, int64)

	// Evcnt makes event counters, group "socket". Nil: counters nobody sees.
	Evcnt func(group, name string) *modapi.Counter
}

// Domain is the sockets of one kernel.
type Domain struct {
	o   Options
	ids atomic.Uint64

	mu sync.Mutex

	flightMu sync.Mutex
	inflight map[*file.File]struct{} // sockets of ours in flight, protected by flightMu
	holders  map[*Socket]int         // how many messages with files a socket has; protected by flightMu
	rights   atomic.Int64            // files in flight

	opened, closed, collected *modapi.Counter
}

// New makes a domain without sockets.
func New(o Options) *Domain {
	if o.Evcnt == nil {
		o.Evcnt = func(string, string) *modapi.Counter { return new(modapi.Counter) }
	}
	return &Domain{o: o, inflight: map[*file.File]struct{}{}, holders: map[*Socket]int{},
		opened: o.Evcnt("socket", "local_opened"), closed: o.Evcnt("socket", "local_closed"), collected: o.Evcnt("socket", "local_collected")}
}

// InFlight is how many files are in messages that nobody has received
// (net.local.inflight).
func (d *Domain) InFlight() int64 { return d.rights.Load() }

type state uint8

const (
	idle state = iota
	listening
	connecting   // LOCAL_CONNWAIT: in a queue
	connected    // of datagram sockets: has a peer
	disconnected // was connected
)

// Socket is an AF_LOCAL socket (struct socket with its unpcb).
type Socket struct {
	d     *Domain
	typ   int
	id    uint64
	sel   event.Selinfo
	rcv   buffer
	sbuf  uidinfo.Sbuf
	owner atomic.Pointer[file.File] // its file; a listener's while in its queue

	peer     atomic.Pointer[Socket] // other end; of a stream it stays after its close
	err      atomic.Int32           // so_error
	wshut    atomic.Bool            // SHUT_WR
	sndSpace atomic.Int64           // SO_SNDBUF
	rcvTimeo atomic.Int64           // nanoseconds, 0 = none
	sndTimeo atomic.Int64
	conn     atomic.Int32 // state, changed with Domain.mu held

	// protected by Domain.mu
	refs     map[*Socket]struct{} // datagram sockets connected to this one
	name     string
	node     Node
	queue    []*Socket // of a listener: not yet accepted
	backlog  int
	connwait bool         // LOCAL_CONNWAIT
	closed   bool         //
	self     *abi.Unpcbid // who bound or listened
	peerID   *abi.Unpcbid // who is at the other end
	opts     map[int]uint32
	linger   [8]byte // SO_LINGER
}

func (s *Socket) state() state      { return state(s.conn.Load()) }
func (s *Socket) setState(st state) { s.conn.Store(int32(st)) }

// stream reports whether the type has no records, oriented whether it has
// connections.
func (s *Socket) stream() bool   { return s.typ == abi.SOCK_STREAM }
func (s *Socket) oriented() bool { return s.typ != abi.SOCK_DGRAM }

func (d *Domain) newSocket(typ int) *Socket {
	d.opened.Inc()
	s := &Socket{d: d, typ: typ, id: d.ids.Add(1)}
	s.rcv.stream = typ == abi.SOCK_STREAM
	if s.oriented() {
		s.sndSpace.Store(StreamSpace)
		s.rcv.space = StreamSpace
	} else {
		s.sndSpace.Store(DgramSpace)
		s.rcv.space = 4 * DgramSpace
	}
	return s
}

// sbsize is Options.Sbsize.
func (d *Domain) sbsize(c *abi.Caller) (*uidinfo.Info, int64) {
	if d.o.Sbsize == nil {
		return nil, abi.RLIM_INFINITY
	}
	return d.o.Sbsize(c)
}

// reserve counts the buffers of a new socket for its maker. ENOBUFS.
func (s *Socket) reserve(c *abi.Caller) error {
	info, max := s.d.sbsize(c)
	return s.sbuf.Reserve(info, s.sndSpace.Load(), int64(s.rcv.space), max)
}

// file makes the file of a socket; on an error the socket is closed.
func (s *Socket) file(c *abi.Caller, flags int) (*file.File, error) {
	if info, _, _ := s.sbuf.Sizes(); info == nil { // an accepted one has them
		if err := s.reserve(c); err != nil {
			s.close(context.Background())
			return nil, err
		}
	}
	fl := abi.O_RDWR
	if flags&abi.SOCK_NONBLOCK != 0 {
		fl |= abi.O_NONBLOCK
	}
	if flags&abi.SOCK_NOSIGPIPE != 0 {
		fl |= abi.O_NOSIGPIPE
	}
	f, err := s.d.o.Files.New(file.TypeSocket, fileOps{}, s, fl, c.Cred)
	if err != nil {
		s.close(context.Background())
		return nil, err
	}
	s.owner.Store(f)
	return f, nil
}

// Of is the socket of a file, nil if it is none of this family.
func Of(f *file.File) *Socket {
	s, _ := f.Data.(*Socket)
	return s
}

func check(typ, proto int) error {
	switch typ {
	case abi.SOCK_STREAM, abi.SOCK_DGRAM, abi.SOCK_SEQPACKET:
	default:
		return abi.EPROTOTYPE
	}
	if proto != 0 {
		return abi.EPROTONOSUPPORT
	}
	return nil
}

// Socket is socket(2); typ may carry SOCK_NONBLOCK and SOCK_NOSIGPIPE.
// EPROTOTYPE, EPROTONOSUPPORT, ENFILE, ENOBUFS (RLIMIT_SBSIZE).
func (d *Domain) Socket(c *abi.Caller, typ, proto int) (*file.File, error) {
	flags := int(uint32(typ) & abi.SOCK_FLAGS_MASK)
	typ &^= flags
	if err := check(typ, proto); err != nil {
		return nil, err
	}
	return d.newSocket(typ).file(c, flags)
}

// Socketpair is socketpair(2): two sockets connected to each other.
func (d *Domain) Socketpair(c *abi.Caller, typ, proto int) (*file.File, *file.File, error) {
	flags := int(uint32(typ) & abi.SOCK_FLAGS_MASK)
	typ &^= flags
	if err := check(typ, proto); err != nil {
		return nil, nil, err
	}
	a, b := d.newSocket(typ), d.newSocket(typ)
	d.mu.Lock()
	a.joinLocked(b)
	b.joinLocked(a)
	a.peerID, b.peerID = idOf(c), idOf(c)
	d.mu.Unlock()
	f, err := a.file(c, flags)
	if err != nil {
		b.close(context.Background())
		return nil, nil, err
	}
	g, err := b.file(c, flags)
	if err != nil {
		f.Release(context.Background())
		return nil, nil, err
	}
	return f, g, nil
}

func idOf(c *abi.Caller) *abi.Unpcbid {
	return &abi.Unpcbid{Pid: c.Pid, Euid: c.Cred.Euid, Egid: c.Cred.Egid}
}

// joinLocked makes p the peer of s.
func (s *Socket) joinLocked(p *Socket) {
	s.peer.Store(p)
	s.setState(connected)
	if !s.oriented() {
		if p.refs == nil {
			p.refs = map[*Socket]struct{}{}
		}
		p.refs[s] = struct{}{}
	}
}

// partLocked takes a datagram socket's peer away.
func (s *Socket) partLocked() {
	if p := s.peer.Load(); p != nil {
		delete(p.refs, s)
		s.peer.Store(nil)
	}
	s.setState(idle)
}

// takeError answers and clears the pending error.
func (s *Socket) takeError() error {
	if s.err.Load() == 0 {
		return nil
	}
	if e := abi.Errno(s.err.Swap(0)); e != 0 {
		return e
	}
	return nil
}

// wait calls try until it answers something other than EAGAIN, at most for
// timeo: then EAGAIN stays.
func (s *Socket) wait(ctx context.Context, nonblock bool, timeo time.Duration, try func() error) error {
	if nonblock {
		return try()
	}
	if timeo <= 0 {
		return s.sel.Wait(ctx, try)
	}
	t, cancel := context.WithTimeout(ctx, timeo)
	defer cancel()
	err := s.sel.Wait(t, try)
	if err == abi.ETIMEDOUT && ctx.Err() == nil {
		return abi.EAGAIN
	}
	return err
}
