package sysproxy

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/kernel/evcnt"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit bounds every wait of a test. Only a failure takes so long.
const limit = time.Minute

// fakeProc is a process whose system calls do the least that tells what came.
type fakeProc struct {
	k      *fakeKernel
	pid    int32
	closed chan struct{}

	mu    sync.Mutex
	calls int        // in flight
	idle  *sync.Cond // calls is 0
}

func (p *fakeProc) Syscall(ctx context.Context, num int, a *abi.Sysargs) error {
	p.count(1)
	defer p.count(-1)
	switch num {
	case abi.SYS_getpid:
		a.R[0] = uint64(p.pid)
	case abi.SYS_write:
		a.R[0] = uint64(len(a.In))
	case abi.SYS_read: // A[1] bytes of A[2]
		n := min(int(a.A[1]), len(a.Out))
		for i := range n {
			a.Out[i] = byte(a.A[2])
		}
		a.NO, a.R[0] = n, uint64(n)
	case abi.SYS_sendto: // everything comes back
		a.NO = copy(a.Out, a.In)
		a.R = [2]uint64{a.A[0] + a.A[5], uint64(len(a.Path[0]) + len(a.Path[1]))}
		a.Addr = append([]byte(nil), a.Addr...)
	case abi.SYS_paccept: // waits until it is cancelled
		p.k.waiting <- struct{}{}
		<-ctx.Done()
		p.k.woken.Add(1)
		return fmt.Errorf("accept: %w", abi.ErrnoOf(ctx.Err()))
	case abi.SYS_recvfrom: // waits, and has got something when it is cancelled
		p.k.waiting <- struct{}{}
		<-ctx.Done()
		a.NO = copy(a.Out, "late")
	case abi.SYS_open:
		return fmt.Errorf("vfs component not available: %w", abi.EOPNOTSUPP)
	case abi.SYS_unlink:
		return abi.ENOENT
	case abi.SYS_fsync: // a handler that lies to the proxy
		a.NO = 1 << 30
		a.Addr = make([]byte, 4096)
	default:
		return abi.ENOSYS
	}
	return nil
}

func (p *fakeProc) count(d int) {
	p.mu.Lock()
	p.calls += d
	if p.calls == 0 {
		p.idle.Broadcast()
	}
	p.mu.Unlock()
}

func (p *fakeProc) Pid() int32 { return p.pid }

func (p *fakeProc) Close() error {
	p.mu.Lock()
	for p.calls > 0 {
		p.idle.Wait()
	}
	p.mu.Unlock()
	close(p.closed) // twice would panic: once is the contract
	p.k.live.Add(-1)
	p.k.ended <- p
	return nil
}

type fakeKernel struct {
	t       *testing.T
	path    string
	live    atomic.Int32
	next    atomic.Int32
	woken   atomic.Int32
	waiting chan struct{}
	ended   chan *fakeProc
	evcnt   *evcnt.Set

	mu    sync.Mutex
	peers []Peer
	stop  context.CancelFunc
	done  chan error
}

// start serves a fake kernel until the test ends.
func start(t *testing.T, mod func(*Options)) *fakeKernel {
	t.Helper()
	k := &fakeKernel{t: t, path: filepath.Join(t.TempDir(), "s"), waiting: make(chan struct{}, 4096),
		ended: make(chan *fakeProc, 4096), evcnt: evcnt.New(), done: make(chan error, 1)}
	opt := Options{Version: "test", Evcnt: k.evcnt.Attach, NewProc: func(_ context.Context, p Peer) (Proc, error) {
		k.mu.Lock()
		k.peers = append(k.peers, p)
		k.mu.Unlock()
		k.live.Add(1)
		f := &fakeProc{k: k, pid: 2 + k.next.Add(1), closed: make(chan struct{})}
		f.idle = sync.NewCond(&f.mu)
		return f, nil
	}}
	if mod != nil {
		mod(&opt)
	}
	l, err := net.Listen("unix", k.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	k.stop = stop
	go func() { k.done <- Serve(ctx, l, opt) }()
	t.Cleanup(func() {
		stop()
		if err := within(t, k.done); err != nil {
			t.Errorf("Serve: %v", err)
		}
		if n := k.live.Load(); n != 0 {
			t.Errorf("%d processes left", n)
		}
	})
	return k
}

// within takes from c before the limit.
func within[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(limit):
		t.Fatal("nothing happened in time")
	}
	return v
}

// raw is a client that does as the test says.
type raw struct {
	t *testing.T
	net.Conn
	id uint64
}

func (k *fakeKernel) dial() *raw {
	k.t.Helper()
	nc, err := net.Dial("unix", k.path)
	if err != nil {
		k.t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(limit))
	k.t.Cleanup(func() { nc.Close() })
	return &raw{t: k.t, Conn: nc}
}

// frame codes a request.
func (r *raw) frame(op wire.Op, args, payload []byte, replyLen int) []byte {
	r.id++
	h := wire.Header{Op: op, ReqID: abi.ReqID(r.id), ReplyLen: uint32(replyLen), Class: op.Class()}
	return wire.AppendFrame(nil, &h, args, payload)
}

func (r *raw) send(b []byte) {
	r.t.Helper()
	if _, err := r.Write(b); err != nil {
		r.t.Logf("write: %v", err) // the kernel may have hung up already
	}
}

// reply reads one reply.
func (r *raw) reply() (h wire.Header, args, payload []byte, err error) {
	b := make([]byte, wire.HeaderSize)
	if err = readFull(r, b); err != nil {
		return
	}
	if err = h.Parse(b); err != nil {
		return
	}
	args, payload = make([]byte, h.ArgsLen), make([]byte, h.PayloadLen)
	if err = readFull(r, args); err == nil {
		err = readFull(r, payload)
	}
	return
}

func readFull(c net.Conn, b []byte) error {
	for n := 0; n < len(b); {
		m, err := c.Read(b[n:])
		if err != nil {
			return err
		}
		n += m
	}
	return nil
}

func (r *raw) hello() *raw {
	r.t.Helper()
	r.send(r.frame(wire.OpHello, (&wire.HelloReq{Name: "raw", Pid: 1}).Append(nil), nil, 0))
	h, args, _, err := r.reply()
	var res wire.HelloRes
	if err != nil || h.Errno != 0 || res.Parse(args) != nil || res.Version != "test" || res.Pid < 2 {
		r.t.Fatalf("hello: %v, errno %d", err, h.Errno)
	}
	return r
}

func (r *raw) syscall(num int32, a [6]uint64, in []byte, out int) {
	r.send(r.frame(wire.OpSyscall, (&wire.SyscallReq{Num: num, A: a}).Append(nil), in, out))
}

// works checks that the kernel serves a client that behaves.
func (k *fakeKernel) works() {
	k.t.Helper()
	r := k.dial().hello()
	defer r.Close()
	r.syscall(abi.SYS_write, [6]uint64{}, make([]byte, 300000), 0)
	h, args, _, err := r.reply()
	var res wire.SyscallRes
	if err != nil || h.Errno != 0 || res.Parse(args) != nil || res.R[0] != 300000 {
		k.t.Fatalf("the kernel does not work for others: %v, errno %d, %+v", err, h.Errno, res)
	}
}
