package nbd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	proto "github.com/rumpus-kernel/rumpus/modapi/nbd"
)

// Options of a server. The zero value is good.
type Options struct {
	MaxConns  int           // connections at a time; 0 = 64
	Memory    int64         // bytes of payload in flight, all connections; 0 = 128 MiB
	Depth     int           // requests that a connection has with a backend at a time; 0 = 16
	Handshake time.Duration // from the connection to the choice of an export; 0 = 30 s
	Stall     time.Duration // half a request, or an answer that is not taken; 0 = 30 s
	Idle      time.Duration // without any request; 0 = for ever

	Log hclog.Logger // nil = none
	// Evcnt makes a counter; nil: nothing is counted.
	Evcnt func(group, name string) *modapi.Counter
}

// Export is a backend under a name.
type Export struct {
	Name        string // at most 4096 bytes of UTF-8
	Description string // for people
	Backend     Backend
	ReadOnly    bool // even if the backend is not
}

// Server serves exports.
type Server struct {
	opt    Options
	memory *budget
	cnt    counters
	ctx    context.Context // of backend calls
	cancel context.CancelFunc
	wg     sync.WaitGroup // connections and listeners

	mu        sync.Mutex
	closed    bool
	exports   map[string]*Export
	first     string // the default export, once there is one
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
}

type counters struct{ conns, refused, broken, requests, errors, read, written *modapi.Counter }

// NewServer makes a server without exports.
func NewServer(o Options) *Server {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	if o.MaxConns <= 0 {
		o.MaxConns = 64
	}
	if o.Memory <= 0 {
		o.Memory = 128 << 20
	}
	if o.Depth <= 0 {
		o.Depth = 16
	}
	def(&o.Handshake, 30*time.Second)
	def(&o.Stall, 30*time.Second)
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	if o.Evcnt == nil {
		o.Evcnt = func(string, string) *modapi.Counter { return new(modapi.Counter) }
	}
	s := &Server{opt: o, memory: newBudget(o.Memory), exports: map[string]*Export{},
		listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	c := func(name string) *modapi.Counter { return o.Evcnt("nbd", name) }
	s.cnt = counters{c("connections"), c("refused"), c("broken"), c("requests"), c("errors"), c("bytes_read"), c("bytes_written")}
	return s
}

// Add adds an export; the first one is the default as well, under the empty
// name. EEXIST if the name is taken; EINVAL for an impossible name or device.
func (s *Server) Add(e Export) error {
	if !proto.ValidString(e.Name) || !proto.ValidString(e.Description) {
		return fmt.Errorf("export name %q: %w", e.Name, abi.EINVAL)
	}
	i := e.Backend.Info()
	if err := i.check(); err != nil {
		return fmt.Errorf("export %q: %w", e.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exports[e.Name] != nil {
		return fmt.Errorf("export %q: %w", e.Name, abi.EEXIST)
	}
	s.exports[e.Name] = &e
	if len(s.exports) == 1 {
		s.first = e.Name
	}
	return nil
}

// Remove takes an export away and ends the connections that use it, after what
// they have in flight is answered or ctx is done. ENOENT if there is none.
func (s *Server) Remove(ctx context.Context, name string) error {
	s.mu.Lock()
	e := s.exports[name]
	delete(s.exports, name)
	var ends []*conn
	for c := range s.conns {
		if c.exp.Load() == e {
			ends = append(ends, c)
		}
	}
	s.mu.Unlock()
	if e == nil {
		return fmt.Errorf("export %q: %w", name, abi.ENOENT)
	}
	endAll(ctx, ends)
	return nil
}

// lookup finds an export; the empty name is the default's as well.
func (s *Server) lookup(name string) *Export {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.exports[name]; e != nil || name != "" {
		return e
	}
	return s.exports[s.first]
}

// list is all exports by name.
func (s *Server) list() []*Export {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := make([]*Export, 0, len(s.exports))
	for _, e := range s.exports {
		l = append(l, e)
	}
	sort.Slice(l, func(i, j int) bool { return l[i].Name < l[j].Name })
	return l
}

// Serve takes connections from l until it or the server is closed, then answers
// nil; or what stopped it. It closes l.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		l.Close()
		return nil
	}
	s.listeners[l] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()
	defer func() {
		l.Close()
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	wait := 5 * time.Millisecond
	for {
		nc, err := l.Accept()
		if err == nil {
			wait = 5 * time.Millisecond
			s.start(nc)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		var ne net.Error
		if !errors.As(err, &ne) || wait > 2*time.Second {
			return fmt.Errorf("nbd: accept: %w", err)
		}
		// No descriptors left, most likely: others may end meanwhile.
		t := time.NewTimer(wait)
		wait *= 2
		select {
		case <-t.C:
		case <-s.ctx.Done():
			t.Stop()
			return nil
		}
	}
}

// start serves one connection in a goroutine of its own, or refuses it.
func (s *Server) start(nc net.Conn) {
	s.mu.Lock()
	if s.closed || len(s.conns) >= s.opt.MaxConns {
		full := !s.closed
		s.mu.Unlock()
		nc.Close()
		s.cnt.refused.Inc()
		if full {
			s.opt.Log.Warn("nbd: too many connections, one refused", "limit", s.opt.MaxConns)
		}
		return
	}
	c := newConn(s, nc)
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	s.cnt.conns.Inc()
	go func() {
		defer s.wg.Done()
		err := c.run()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		close(c.ended)
		if err != nil && !c.closing.Load() {
			s.cnt.broken.Inc()
			s.opt.Log.Info("nbd: connection ended", "peer", nc.RemoteAddr().String(), "error", err)
		}
	}()
}

// ServeConn serves one connection that is there already, in the background.
func (s *Server) ServeConn(nc net.Conn) { s.start(nc) }

// Conns is the number of connections.
func (s *Server) Conns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Close takes no more connections, lets those there are answer what is in
// flight until ctx is done, and ends them. It returns when all is over, soon
// after ctx at the latest if the backends honour their contexts.
func (s *Server) Close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		l.Close()
	}
	var ends []*conn
	for c := range s.conns {
		ends = append(ends, c)
	}
	s.mu.Unlock()
	endAll(ctx, ends)
	s.cancel()
	s.wg.Wait()
}

// endAll ends connections: softly until ctx is done, then hard.
func endAll(ctx context.Context, l []*conn) {
	for _, c := range l {
		c.stop()
	}
	for _, c := range l {
		select {
		case <-c.ended:
			continue
		case <-ctx.Done():
		}
		c.cancel()
		c.nc.Close()
		<-c.ended
	}
}

// conn is one connection.
type conn struct {
	s       *Server
	nc      net.Conn
	exp     atomic.Pointer[Export]
	closing atomic.Bool // stop was called
	ended   chan struct{}
	ctx     context.Context // of its backend calls
	cancel  context.CancelFunc

	// The rest is the reading goroutine's, and read-only once requests are
	// served.
	rb         []byte // bytes read
	r, w       int    // rb[r:w] are there
	deadline   limit  // on reading, as it was set
	fixed      bool
	noZeroes   bool
	structured bool
	metaFor    *Export // base:allocation was chosen for it
	be         Backend
	try        TryReader
	tryWrite   TryWriter
	info       Info
	flags      proto.TxFlags
	meta       bool

	memory *budget
	own    atomic.Int64 // of its own allowance, in use

	work    chan *request
	workers int
	wg      sync.WaitGroup
	out     replies
}

// What a connection may have in flight: of its own in any case, and at all.
const (
	ownMemory  = 256 << 10
	connMemory = 32 << 20
)

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{s: s, nc: nc, ended: make(chan struct{}), rb: make([]byte, 64<<10), memory: newBudget(connMemory)}
	c.ctx, c.cancel = context.WithCancel(s.ctx)
	c.out.c = c
	return c
}

// stop lets the connection end: nothing more is read from it.
func (c *conn) stop() {
	c.closing.Store(true)
	c.nc.SetReadDeadline(time.Unix(1, 0))
}

// run is the connection's life. nil: the client has left in order.
func (c *conn) run() error {
	defer c.nc.Close()
	defer c.cancel()
	tune(c.nc)
	e, err := c.handshake()
	if e == nil || err != nil {
		return err
	}
	return c.transmission()
}
