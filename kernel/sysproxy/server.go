package sysproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/ring"
)

// Limits.
const (
	// DefaultClients bounds the clients at a time.
	DefaultClients = 256
	// MaxCalls bounds the system calls of one client at a time; a client
	// that sends more is ended.
	MaxCalls = 1024
	// CallMemory bounds what In and Out of one client's calls hold at a
	// time, in bytes.
	CallMemory = 128 << 20
	// HelloTimeout bounds the time from connecting to HELLO.
	HelloTimeout = 5 * time.Second

	// maxStrangers bounds the connections that have not been greeted yet,
	// besides Options.Clients: all clients may come at the same time.
	maxStrangers = 64
	// maxOutsiders bounds the connections of those that Allow refuses; they
	// take no place of the others.
	maxOutsiders = 16
)

// Peer is who is at the other end of a connection: numbers of the host, from
// the host.
type Peer struct {
	Uid, Gid uint32
	Pid      int32
	Name     string // of its program, as it says itself: at most 31 printable bytes
}

func (p Peer) String() string {
	return fmt.Sprintf("%s (pid %d, uid %d)", p.Name, p.Pid, p.Uid)
}

// Proc is a process of the kernel. Syscall is called by many goroutines at
// once; Close, which is called once, ends the calls that wait and returns when
// everything is released. A Proc that has Pid() int32 tells its client who it is.
type Proc interface {
	Syscall(ctx context.Context, num int, a *abi.Sysargs) error
	Close() error
}

// Options say how to serve. NewProc is mandatory.
type Options struct {
	// Clients bounds the clients at a time; 0 is DefaultClients.
	Clients int
	// NewProc makes the process of a client that was let in. ctx ends with
	// the connection.
	NewProc func(ctx context.Context, p Peer) (Proc, error)
	// Allow says who is let in: nil, or the error that the client is told.
	// The default lets in the uid of this process and root. The peer's name
	// is not known yet.
	Allow func(p Peer) error
	// Creds finds out who is at the other end. The default asks the host
	// (SO_PEERCRED) and refuses what is no unix socket.
	Creds func(nc net.Conn) (Peer, error)
	// Version is what clients are told in HELLO.
	Version string
	// HelloTimeout replaces the constant in tests.
	HelloTimeout time.Duration
	// IOTimeout bounds the rest of a frame that has begun and an answer
	// that is not read; 0 is 5 s.
	IOTimeout time.Duration
	// CallMemory replaces the constant in tests.
	CallMemory int64

	Log   modapi.Logger                            // nil: silent
	Evcnt func(group, name string) *modapi.Counter // makes a counter; nil: counted nowhere
}

// OwnerOnly is the default policy: the uid of this process, and root.
func OwnerOnly(p Peer) error {
	if uid := uint32(os.Getuid()); p.Uid != uid && p.Uid != 0 {
		return fmt.Errorf("uid %d is not the owner of this kernel: %w", p.Uid, abi.EACCES)
	}
	return nil
}

// PeerCred asks the host who is at the other end of a unix socket.
func PeerCred(nc net.Conn) (Peer, error) {
	uc, ok := nc.(*net.UnixConn)
	if !ok {
		return Peer{}, fmt.Errorf("not a unix socket: %w", abi.EACCES)
	}
	rc, err := uc.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var p Peer
	var gerr error
	err = rc.Control(func(fd uintptr) { p, gerr = peerOf(int(fd)) })
	if err = errors.Join(err, gerr); err != nil {
		return Peer{}, err
	}
	return p, nil
}

type counters struct {
	calls, clients, refused, lies, nobufs *modapi.Counter
	ring                                  *ring.Counters
}

type server struct {
	opt       Options
	cnt       counters
	strangers atomic.Int32
	outsiders atomic.Int32
	clients   atomic.Int32
	wg        sync.WaitGroup

	mu    sync.Mutex
	conns map[*client]struct{} // protected by mu
}

// Serve takes clients on l until ctx ends or l fails, ends them all, and
// returns when nothing of them is left. It closes l. The error is nil when ctx
// ended.
func Serve(ctx context.Context, l net.Listener, opt Options) error {
	if opt.Clients <= 0 {
		opt.Clients = DefaultClients
	}
	if opt.Allow == nil {
		opt.Allow = OwnerOnly
	}
	if opt.Creds == nil {
		opt.Creds = PeerCred
	}
	if opt.HelloTimeout <= 0 {
		opt.HelloTimeout = HelloTimeout
	}
	if opt.CallMemory <= 0 {
		opt.CallMemory = CallMemory
	}
	if opt.Log == nil {
		opt.Log = silent{}
	}
	count := opt.Evcnt
	if count == nil {
		count = func(string, string) *modapi.Counter { return new(modapi.Counter) }
	}
	s := &server{opt: opt, conns: make(map[*client]struct{}), cnt: counters{
		calls: count("sysproxy", "calls"), clients: count("sysproxy", "clients"),
		refused: count("sysproxy", "refused"), lies: count("sysproxy", "lies"),
		nobufs: count("sysproxy", "nobufs"), ring: ring.NewCounters(count),
	}}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	err := s.accept(ctx, l)
	s.mu.Lock()
	for c := range s.conns {
		c.conn.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// accept takes connections until the listener fails for good.
func (s *server) accept(ctx context.Context, l net.Listener) error {
	wait := time.Duration(0)
	for {
		nc, err := l.Accept()
		if err == nil {
			wait = 0
			s.take(ctx, nc)
			continue
		}
		var no syscall.Errno
		if ctx.Err() != nil || !errors.As(err, &no) || !no.Temporary() && no != syscall.ENOBUFS && no != syscall.ENOMEM && no != syscall.ECONNABORTED {
			return err
		}
		// Out of descriptors or the like: give others time to end.
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		s.opt.Log.Warn("cannot accept a client", "error", err, "retry", wait)
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}

// take begins a connection.
func (s *server) take(ctx context.Context, nc net.Conn) {
	peer, err := s.opt.Creds(nc)
	if err != nil {
		s.turnAway(nc, err)
		return
	}
	// The place at the door, which the connection has until it is let in or
	// ends.
	refusal := s.opt.Allow(peer)
	door, limit := &s.strangers, int32(maxStrangers+s.opt.Clients)
	if refusal != nil {
		door, limit = &s.outsiders, maxOutsiders
	}
	if door.Add(1) > limit {
		door.Add(-1)
		s.turnAway(nc, fmt.Errorf("%d others wait at the door: %w", limit, abi.EAGAIN))
		return
	}
	c := newClient(s, nc, peer, door, refusal)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	if ctx.Err() != nil { // Serve may have closed the others already
		c.conn.Close()
	}
	s.wg.Go(func() {
		c.run()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	})
}

// turnAway ends a connection without a word.
func (s *server) turnAway(nc net.Conn, err error) {
	s.cnt.refused.Inc()
	s.opt.Log.Warn("client turned away", "error", err)
	nc.Close()
}

type silent struct{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}
