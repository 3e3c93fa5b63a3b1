package sysproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/ring"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// maxText bounds the kernel's words in an error reply, in bytes.
const maxText = 256

// maxName bounds the program's name, in bytes (NetBSD's MAXCOMLEN is 16).
const maxName = 31

// client is one connection and its process.
type client struct {
	s       *server
	peer    Peer
	door    *atomic.Int32 // counts this connection while it is no client
	refusal error         // of Allow
	conn    *stream.Conn
	pass    *ring.Passer // conn's socket, nil if it is no unix socket
	mem     atomic.Int64 // bytes that calls in flight hold

	// proc is the process, once the client is let in: what every call begins
	// with, without a lock.
	proc atomic.Pointer[Proc]

	mu    sync.Mutex
	hello bool // protected by mu: HELLO came
	in    bool // protected by mu: let in, counted as a client
	ended bool // protected by mu: the connection is over
}

func newClient(s *server, nc net.Conn, p Peer, door *atomic.Int32, refusal error) *client {
	c := &client{s: s, peer: p, door: door, refusal: refusal}
	ready := make(chan struct{})
	if c.pass = ring.NewPasser(nc, false); c.pass != nil {
		nc = c.pass
	}
	c.conn = stream.New(nc, stream.HandlerFunc(func(ctx context.Context, r *stream.Request) {
		if p := c.proc.Load(); p != nil && r.Header.Op == wire.OpSyscall {
			c.syscall(ctx, *p, r)
			return
		}
		<-ready // conn is set
		c.serve(ctx, r)
	}), stream.Options{Workers: MaxCalls, MaxRequests: MaxCalls, MaxCalls: 1,
		WriteTimeout: s.opt.IOTimeout, FrameTimeout: s.opt.IOTimeout})
	close(ready)
	return c
}

// run lasts as long as the connection, and until nothing of it is left.
func (c *client) run() {
	t := time.AfterFunc(c.s.opt.HelloTimeout, func() {
		c.mu.Lock()
		late := !c.hello
		c.mu.Unlock()
		if late {
			c.conn.Fail(&stream.Hang{What: "no HELLO"})
		}
	})
	<-c.conn.Done()
	t.Stop()
	c.mu.Lock()
	c.ended = true
	in := c.in
	c.mu.Unlock()
	if p := c.proc.Load(); p != nil {
		if err := (*p).Close(); err != nil {
			c.s.opt.Log.Warn("a client's process did not end well", "client", c.peer, "error", err)
		}
	}
	c.conn.Wait()
	if in {
		c.s.clients.Add(-1)
	} else {
		c.door.Add(-1)
	}
	err := c.conn.Err()
	var lie *stream.Lie
	switch {
	case errors.As(err, &lie):
		c.s.cnt.lies.Inc()
		c.s.opt.Log.Warn("client ended: it broke the rules", "client", c.peer, "error", err)
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		c.s.opt.Log.Debug("client ended", "client", c.peer)
	default:
		c.s.opt.Log.Warn("client ended", "client", c.peer, "error", err)
	}
}

// serve is one request that is not a call of a client that has been let in.
func (c *client) serve(ctx context.Context, r *stream.Request) {
	switch r.Header.Op {
	case wire.OpSyscall:
		c.lie(r, "a system call before HELLO")
	case wire.OpHello:
		c.greet(ctx, r)
	default:
		c.lie(r, r.Header.Op.String()+" is not for clients")
	}
}

func (c *client) lie(r *stream.Request, what string) {
	r.Drop()
	c.conn.Fail(&stream.Lie{What: what})
}

// greet answers HELLO. A client that is not let in is told why, and the
// connection ends.
func (c *client) greet(ctx context.Context, r *stream.Request) {
	var req wire.HelloReq
	if err := req.Parse(r.Args); err != nil || len(r.Payload) > 0 {
		c.lie(r, "a HELLO that makes no sense")
		return
	}
	c.mu.Lock()
	again := c.hello
	if !again {
		c.hello = true
		c.peer.Name = printable(req.Name)
	}
	c.mu.Unlock()
	if again {
		c.lie(r, "a second HELLO")
		return
	}
	pid, err := c.admit(ctx)
	if err != nil {
		c.s.cnt.refused.Inc()
		c.s.opt.Log.Warn("client refused", "client", c.peer, "error", err)
		r.Reply(errorReply(err))
		c.conn.Close()
		return
	}
	if r.Header.Object&wire.HelloRing != 0 {
		c.ring()
	}
	res := wire.HelloRes{Version: c.s.opt.Version, Pid: pid}
	r.Reply(0, res.Append(nil), nil)
}

// ring makes a ring for the client, whose memory goes along with the answer to
// HELLO. If it cannot be there is the stream.
func (c *client) ring() {
	if c.pass == nil || !ring.Enabled() {
		return
	}
	f, err := ring.Create(false)
	if err != nil {
		c.s.opt.Log.Warn("no ring for a client", "client", c.peer, "error", err)
		return
	}
	m, err := ring.Map(f)
	if err == nil {
		_, err = ring.Attach(c.conn, m, ring.Options{Second: true, Serve: true, Workers: MaxCalls, Counters: c.s.cnt.ring})
	}
	if err != nil {
		f.Close()
		c.s.opt.Log.Warn("no ring for a client", "client", c.peer, "error", err)
		return
	}
	c.pass.Send(f)
}

// admit makes the client's process, if it is let in.
func (c *client) admit(ctx context.Context) (pid int32, err error) {
	if c.refusal != nil {
		return 0, c.refusal
	}
	if c.s.clients.Add(1) > int32(c.s.opt.Clients) {
		c.s.clients.Add(-1)
		return 0, fmt.Errorf("%d clients are here already: %w", c.s.opt.Clients, abi.EAGAIN)
	}
	p, err := c.s.opt.NewProc(ctx, c.peer)
	if err == nil {
		c.mu.Lock()
		if !c.ended {
			c.in = true
			c.proc.Store(&p)
			c.mu.Unlock()
			c.door.Add(-1)
			c.s.cnt.clients.Inc()
			c.attend(p)
			if p, ok := p.(interface{ Pid() int32 }); ok {
				pid = p.Pid()
			}
			return pid, nil
		}
		c.mu.Unlock()
		p.Close()
		err = abi.EINTR
	}
	c.s.clients.Add(-1)
	return 0, err
}

// call is the memory of one system call, reused.
type call struct {
	a   abi.Sysargs
	req wire.SyscallReq
	res []byte
	iov [1][]byte
}

var callPool = sync.Pool{New: func() any { return new(call) }}

func (c *client) syscall(ctx context.Context, p Proc, r *stream.Request) {
	c.s.cnt.calls.Inc()
	k := callPool.Get().(*call)
	defer func() {
		*k = call{res: k.res[:0]}
		callPool.Put(k)
	}()
	if err := k.req.ParseInPlace(r.Args); err != nil {
		c.lie(r, err.Error())
		return
	}
	h := handling(k.req.Num)
	if h&keepsPath != 0 {
		for i := range k.req.Path {
			k.req.Path[i] = strings.Clone(k.req.Path[i])
		}
	}
	k.req.Addr = bytes.Clone(k.req.Addr)
	r.ReturnArgs() // the paths of other calls point into them until we return
	need := int64(len(r.Payload)) + int64(r.Header.ReplyLen)
	if need > 4096 {
		defer c.mem.Add(-need)
		if c.mem.Add(need) > c.s.opt.CallMemory {
			c.s.cnt.nobufs.Inc()
			r.Reply(errorReply(fmt.Errorf("calls in flight hold %d bytes: %w", c.s.opt.CallMemory, abi.ENOBUFS)))
			return
		}
	}
	var out []byte
	if h&inPlace != 0 {
		out = r.Room(int(r.Header.ReplyLen))
	} else {
		r.Own()
	}
	k.a = abi.Sysargs{A: k.req.A, Path: k.req.Path, Addr: k.req.Addr, In: r.Payload}
	if n := int(r.Header.ReplyLen); out != nil {
		k.a.Out = out
	} else if n > 0 {
		buf := stream.GetBuf(n)
		defer stream.PutBuf(buf)
		k.a.Out = *buf
	}
	out = k.a.Out
	if err := p.Syscall(ctx, int(k.req.Num), &k.a); err != nil {
		r.Reply(errorReply(err))
		return
	}
	res := wire.SyscallRes{R: k.a.R}
	if len(k.a.Addr) <= abi.SockaddrMaxLen {
		res.Addr = k.a.Addr
	}
	k.res = res.Append(k.res[:0])
	var payload abi.Iov
	if n := min(max(k.a.NO, 0), len(out)); n > 0 {
		k.iov[0] = out[:n]
		payload = k.iov[:]
	}
	r.Reply(0, k.res, payload)
}

// How the memory of a system call is handled.
const (
	// inPlace: In and Out are shared memory if there is any, which the client
	// can change at any time. For calls that move bytes once, and never look
	// at them or at what they have written.
	inPlace = 1 << iota
	// keepsPath: paths are copied, for who may hold on to them or to a part.
	keepsPath
)

// handling is how the memory of call num is handled.
func handling(num int32) int {
	switch num {
	case abi.SYS_read, abi.SYS_pread, abi.SYS_write, abi.SYS_pwrite, abi.SYS_fstat, abi.SYS_getdents,
		abi.SYS_readv, abi.SYS_preadv, abi.SYS_writev, abi.SYS_pwritev,
		abi.SYS_stat, abi.SYS_lstat, abi.SYS_fstatat:
		return inPlace
	case abi.SYS_access, abi.SYS_faccessat:
		return 0
	}
	return keepsPath
}

// errorReply is an error as Reply takes it: the number and, if there is more to
// say, the text.
func errorReply(err error) (abi.Errno, []byte, abi.Iov) {
	no := abi.ErrnoOf(err)
	if _, plain := err.(abi.Errno); plain {
		return no, nil, nil
	}
	text := err.Error()
	if text == no.Error() {
		return no, nil, nil
	}
	return no, wire.ErrText(nil, clip(text, maxText)), nil
}

// clip cuts s to at most n bytes, at a rune.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// printable makes a program's name harmless for logs.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if s == "" {
		return "?"
	}
	return s[:min(len(s), maxName)]
}
