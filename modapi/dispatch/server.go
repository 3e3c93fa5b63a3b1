package dispatch

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/ring"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// Options of a Server.
type Options struct {
	// Log is the modules' logger. nil sends the lines to the kernel.
	Log modapi.Logger
	// Granted are the descriptors that the host opened, by name. Each is
	// given out as a duplicate.
	Granted map[string]*os.File
	// Instance is the name of the plugin instance in the configuration.
	Instance string
	// Exit, for tests, is called instead of letting a module's panic end the
	// process. The request stays without an answer.
	Exit func(code int)
	// EvcntPeriod is how often changed counters are sent (1 s).
	EvcntPeriod time.Duration
	// Stream are options of the stream; the epoch is the kernel's.
	Stream stream.Options
}

// Server serves the modules of one process to one kernel.
type Server struct {
	opt   Options
	mods  []*mod
	ready chan struct{} // closed when there is a stream

	mu       sync.RWMutex
	conn     *stream.Conn
	ring     *ring.Mem // to go beside the stream; nil: none
	epoch    abi.Epoch
	fstypes  map[string]fstype
	chrs     map[uint32]chr
	blks     map[uint32]blk // by major of the block device
	domains  map[int]domain
	ifs      map[string]ifclass
	sysctls  map[uint64]sysctl
	syscalls map[int]syscallFn
	mounts   map[abi.Fsid]*mount
	socks    map[abi.SockID]domain
	nextNode uint64

	notes notes
}

// What is attached, each with its module.
type (
	fstype struct {
		m    *mod
		t    vfsops.FSType
		caps vfsops.Caps
	}
	chr struct {
		m *mod
		d devops.Chr
	}
	blk struct {
		m *mod
		d devops.Blk
	}
	domain struct {
		m *mod
		d sockops.Domain
	}
	ifclass struct {
		m *mod
		c sockops.IfClass
	}
	sysctl struct {
		m *mod
		n modapi.SysctlNode
	}
	syscallFn struct {
		m  *mod
		fn modapi.SyscallFn
	}
	mount struct {
		m  *mod
		fs vfsops.FS
	}
)

// mod is one module of the process.
type mod struct {
	s     *Server
	index int
	m     modapi.Module

	life  sync.Mutex // one life operation at a time
	state modState   // under Server.mu
}

type modState uint8

const (
	idle modState = iota
	starting
	running
)

// New makes a server for the modules of a process.
func New(mods []modapi.Module, opt Options) *Server {
	if opt.EvcntPeriod <= 0 {
		opt.EvcntPeriod = time.Second
	}
	s := &Server{
		opt:      opt,
		ready:    make(chan struct{}),
		fstypes:  make(map[string]fstype),
		chrs:     make(map[uint32]chr),
		blks:     make(map[uint32]blk),
		domains:  make(map[int]domain),
		ifs:      make(map[string]ifclass),
		sysctls:  make(map[uint64]sysctl),
		syscalls: make(map[int]syscallFn),
		mounts:   make(map[abi.Fsid]*mount),
		socks:    make(map[abi.SockID]domain),
	}
	s.notes.init()
	for i, m := range mods {
		s.mods = append(s.mods, &mod{s: s, index: i, m: m})
	}
	return s
}

// workers bounds the requests served at a time. It is large because those of a
// disk that stands on another one of the same process wait for requests to
// that: kernel/dev bounds how many come for each disk.
const workers = 1024

// SetGranted replaces Options.Granted, before the first Init.
func (s *Server) SetGranted(files map[string]*os.File) { s.opt.Granted = files }

// SetRing gives the server the shared memory of a ring (package ring), before
// ServeStream and any life frame. The kernel is then told modapi.CapRing.
func (s *Server) SetRing(f *os.File) error {
	if !ring.Enabled() {
		return nil
	}
	m, err := ring.Map(f)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.ring = m
	s.mu.Unlock()
	return nil
}

// ServeStream serves the kernel on nc until the connection ends or ctx does,
// and returns why: io.EOF when the kernel went away. A server has one stream;
// another one is EBUSY.
func (s *Server) ServeStream(ctx context.Context, nc net.Conn) error {
	s.mu.Lock()
	if s.conn != nil {
		s.mu.Unlock()
		nc.Close()
		return fmt.Errorf("a second stream: %w", abi.EBUSY)
	}
	opt := s.opt.Stream
	opt.Epoch = s.epoch
	opt.Base = modapi.WithTicker(context.Background(), s.notes.tick)
	if opt.Workers == 0 {
		opt.Workers = workers
	}
	c := stream.New(nc, s, opt)
	if s.ring != nil {
		if _, err := ring.Attach(c, s.ring, ring.Options{Second: true, Serve: true, Workers: s.opt.Stream.Workers}); err != nil {
			c.Fail(err) // it has been promised, perhaps
		}
	}
	s.conn = c
	s.mu.Unlock()
	close(s.ready)
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	s.notes.run(c, s.opt.EvcntPeriod) // returns when c has ended
	c.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return c.Err()
}

// upcall sends a request to the kernel and waits for the answer. With res, it
// is parsed from the reply.
func (s *Server) upcall(op wire.Op, object uint64, args []byte, res interface{ Parse([]byte) error }) error {
	s.mu.RLock()
	c := s.conn
	s.mu.RUnlock()
	if c == nil {
		return fmt.Errorf("%s: no stream to the kernel: %w", op, abi.ENOTCONN)
	}
	k := stream.GetCall()
	defer k.Release()
	k.Header.Op, k.Header.Object = op, object
	k.Args = append(k.Args, args...)
	if err := c.Call(context.Background(), k); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if res != nil {
		return res.Parse(k.Reply)
	}
	return nil
}

// Serve implements stream.Handler.
func (s *Server) Serve(ctx context.Context, req *stream.Request) {
	if s.opt.Exit != nil {
		defer func() {
			if p := recover(); p != nil {
				req.Drop()
				fmt.Fprintf(os.Stderr, "panic: %v\n\n%s", p, debug.Stack())
				s.opt.Exit(2)
			}
		}()
	}
	if numbers(req.Header.Op) {
		req.ReturnArgs()
	}
	a := answer{req: req}
	err := s.serve(ctx, req, &a)
	if err == nil {
		req.Reply(0, a.args, a.payload())
	} else {
		req.Reply(abi.ErrnoOf(err), errText(req.Header.Op, err), nil)
	}
	a.free()
}

// numbers reports whether the arguments of a frequent operation are numbers
// only, of which no module can keep a part.
func numbers(op wire.Op) bool {
	switch op {
	case wire.OpRoot, wire.OpGetattr, wire.OpRead, wire.OpReadPages, wire.OpStatvfs, wire.OpReaddir,
		wire.OpWrite, wire.OpWritePages, wire.OpTruncate, wire.OpPin, wire.OpUnpin, wire.OpReclaim, wire.OpReserve, wire.OpCheckpoint, wire.OpSeek,
		wire.OpRecv, wire.OpSockPoll, wire.OpSockClose, wire.OpDevRead, wire.OpDevWrite, wire.OpDevPoll:
		return true
	}
	return false
}

// errText is the text that goes with an error: only for rare operations, where
// people read it, and only if it says more than the number.
func errText(op wire.Op, err error) []byte {
	if op.Class() != wire.ClassAdmin && op != wire.OpBlkIoctl { // which carries Configure
		return nil
	}
	if _, plain := err.(abi.Errno); plain {
		return nil
	}
	return wire.ErrText(nil, err.Error())
}

// answer is what a request is answered with.
type answer struct {
	req  *stream.Request
	args []byte
	mem  []byte  // of room: buf's, or shared with the kernel
	buf  *[]byte // from the pool
	data []byte  // or the module's
	n    int     // bytes of mem that count
	one  [1][]byte
}

// room is a buffer for the payload of the reply.
func (a *answer) room(n int) abi.Iov {
	if a.mem = a.req.Room(n); a.mem == nil {
		a.buf = stream.GetBuf(n)
		a.mem = *a.buf
	}
	a.one[0] = a.mem
	return a.one[:]
}

func (a *answer) payload() abi.Iov {
	switch {
	case a.data != nil:
		a.one[0] = a.data
	case a.n > 0:
		a.one[0] = a.mem[:a.n]
	default:
		return nil
	}
	return a.one[:]
}

func (a *answer) free() {
	if a.buf != nil {
		stream.PutBuf(a.buf)
	}
}

func (s *Server) serve(ctx context.Context, req *stream.Request, a *answer) error {
	switch req.Header.Op.Family() {
	case wire.FamVFS:
		return s.serveVFS(ctx, req, a)
	case wire.FamSock:
		return s.serveSock(ctx, req, a)
	case wire.FamDev:
		if req.Header.Op >= wire.OpBlkGeometry {
			return s.serveBlk(ctx, req, a)
		}
		return s.serveDev(ctx, req, a)
	case wire.FamSys:
		return s.serveSys(ctx, req, a)
	case wire.FamLife:
		return s.serveLife(ctx, &req.Header, req.Args, a)
	}
	return abi.ENOSYS
}
