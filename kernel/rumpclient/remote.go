package rumpclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/ring"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// helloTimeout bounds the handshake with a kernel, if ctx does not.
const helloTimeout = 5 * time.Second

// MaxCalls bounds the system calls of a remote client that wait at a time;
// further ones wait for one of them to end.
const MaxCalls = 1024

// ConnectError is that no kernel was reached, or that it did not let us in.
type ConnectError struct {
	URL string // "unix:///path"
	Err error
}

// Error is one line that says what to do about it.
func (e *ConnectError) Error() string {
	var refusal *stream.Refusal
	if errors.As(e.Err, &refusal) {
		return fmt.Sprintf("the kernel at %s refused: %s", e.URL, refusal.Text)
	}
	text, hint := e.Err.Error(), ""
	var no syscall.Errno
	if errors.As(e.Err, &no) {
		text = no.Error()
		if no == syscall.ENOENT || no == syscall.ECONNREFUSED {
			hint = ": is `rumpus run` running?"
		}
	}
	return fmt.Sprintf("no kernel reached at %s: %s%s", e.URL, text, hint)
}

// Unwrap gives the reason.
func (e *ConnectError) Unwrap() error { return e.Err }

// Open connects to the kernel that listens at url: "unix:///path", or the path
// alone. The connection is a new process in the kernel, and lives until Exit.
// ctx counts for connecting only. The error is a *ConnectError.
func Open(ctx context.Context, url string) (*Client, error) {
	path, isURL := strings.CutPrefix(url, "unix://")
	if !isURL && strings.Contains(url, "://") || path == "" {
		return nil, &ConnectError{url, errors.New("not an address of a kernel (unix:///path)")}
	}
	url = "unix://" + path
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, &ConnectError{url, err}
	}
	k, err := NewRemote(ctx, nc)
	if err != nil {
		return nil, &ConnectError{url, err}
	}
	return New(k), nil
}

// remote is a Caller over a framed stream.
type remote struct {
	conn   *stream.Conn
	exited atomic.Bool
	killed atomic.Int32 // the signal that ended the process
	told   atomic.Pointer[func(abi.Siginfo, bool)]

	// Version and Pid are what the kernel said of itself and of us.
	version string
	pid     int32
}

// NewRemote shakes hands with the kernel behind nc, which it owns from now on,
// and answers the Caller.
func NewRemote(ctx context.Context, nc net.Conn) (Caller, error) {
	var pass *ring.Passer
	if ring.Enabled() {
		if pass = ring.NewPasser(nc, true); pass != nil {
			nc = pass
		}
	}
	r := new(remote)
	made := make(chan struct{})
	r.conn = stream.New(nc, stream.HandlerFunc(func(_ context.Context, q *stream.Request) {
		<-made // conn is set
		r.serve(q)
	}), stream.Options{MaxCalls: MaxCalls})
	close(made)
	k := stream.GetCall()
	defer k.Release()
	k.Header.Op = wire.OpHello
	if pass != nil {
		k.Header.Object = wire.HelloRing
	}
	hello := wire.HelloReq{Name: filepath.Base(os.Args[0]), Pid: int32(os.Getpid())}
	hello.Name = hello.Name[:min(len(hello.Name), 255)]
	k.Args = hello.Append(k.Args[:0])
	k.Timeout = helloTimeout
	err := r.conn.Call(ctx, k)
	var res wire.HelloRes
	if err == nil {
		err = res.Parse(k.Reply)
	}
	if err != nil {
		r.conn.Close()
		r.conn.Wait()
		var dead *stream.Dead
		if errors.As(err, &dead) {
			err = fmt.Errorf("it hung up: %w", dead.Cause)
		} else if errors.Is(err, abi.ETIMEDOUT) {
			err = fmt.Errorf("it does not answer: %w", err)
		}
		return nil, err
	}
	r.version, r.pid = res.Version, res.Pid
	if pass != nil {
		r.ring(pass.Received())
	}
	return r, nil
}

// serve takes what the kernel says by itself: a signal.
func (r *remote) serve(q *stream.Request) {
	if q.Header.Op != wire.OpSignal {
		q.Reply(abi.ENOSYS, nil, nil)
		return
	}
	var m wire.SignalMsg
	if err := m.Parse(q.Args); err != nil {
		r.conn.Fail(&stream.Lie{What: err.Error()})
		return
	}
	si, ok := m.Siginfo()
	if !ok {
		r.conn.Fail(&stream.Lie{What: fmt.Sprintf("signal %d", m.Signo)})
		return
	}
	if m.Ended {
		r.killed.Store(m.Signo)
	}
	if fn := r.told.Load(); fn != nil {
		(*fn)(si, m.Ended)
	}
}

// OnSignal says whom to tell of signals of the process. fn must not wait.
func (r *remote) OnSignal(fn func(si abi.Siginfo, ended bool)) { r.told.Store(&fn) }

// ring puts the ring to use whose memory came with the answer to HELLO. If it
// cannot be there is the stream.
func (r *remote) ring(f *os.File) {
	if f == nil {
		return
	}
	defer f.Close()
	if m, err := ring.Map(f); err == nil {
		_, _ = ring.Attach(r.conn, m, ring.Options{})
	}
}

// vecs are the two vectors of a call in one piece of memory.
type vecs struct{ in, out [1][]byte }

var vecsPool = sync.Pool{New: func() any { return new(vecs) }}

// Syscall sends the call and waits for the answer. When ctx ends the kernel is
// told to end the call, and what it then answers counts: bytes that it had
// moved by then are not lost.
func (r *remote) Syscall(ctx context.Context, num int, a *abi.Sysargs) error {
	for _, p := range a.Path {
		if len(p) > abi.PATH_MAX {
			return abi.ENAMETOOLONG
		}
	}
	switch {
	case len(a.Addr) > abi.SockaddrMaxLen:
		return abi.EINVAL
	case int(int32(num)) != num:
		return abi.ENOSYS
	}
	k := stream.GetCall()
	defer k.Release()
	v := vecsPool.Get().(*vecs)
	defer func() {
		*v = vecs{}
		vecsPool.Put(v)
	}()
	k.Header.Op = wire.OpSyscall
	k.Wait, k.Timeout = true, -1
	req := wire.SyscallReq{Num: int32(num), A: a.A, Path: a.Path, Addr: a.Addr}
	k.Args = req.Append(k.Args[:0])
	if len(a.In) > 0 {
		v.in[0] = a.In
		k.Payload = v.in[:]
	}
	if len(a.Out) > 0 {
		v.out[0] = a.Out
		k.Dst = v.out[:]
	}
	if err := r.conn.Call(ctx, k); err != nil {
		return r.fail(ctx, err)
	}
	var res wire.SyscallRes
	if err := res.Parse(k.Reply); err != nil {
		r.conn.Fail(&stream.Lie{What: err.Error()})
		return ErrGone
	}
	a.R, a.NO = res.R, k.N
	a.Addr = append([]byte(nil), res.Addr...)
	return nil
}

// errExited is what calls answer after Close.
var errExited = fmt.Errorf("this client has exited: %w", abi.ESRCH)

func (r *remote) fail(ctx context.Context, err error) error {
	var dead *stream.Dead
	switch {
	case errors.As(err, &dead) && r.killed.Load() != 0:
		return errEnded(r.killed.Load())
	case errors.As(err, &dead) && r.exited.Load():
		return errExited
	case errors.As(err, &dead):
		return ErrGone
	case abi.ErrnoOf(err) == abi.EINTR && ctx.Err() == context.DeadlineExceeded:
		return abi.ETIMEDOUT
	}
	return err
}

// Close ends the connection, and with it the process in the kernel.
func (r *remote) Close() error {
	r.exited.Store(true)
	r.conn.Close()
	r.conn.Wait()
	return nil
}
