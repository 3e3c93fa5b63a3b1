//go:build linux

package ring

import (
	"bytes"
	"context"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// TestMain also plays the peer of tests with two processes.
func TestMain(m *testing.M) {
	if os.Getenv("RING_TEST_CHILD") != "" {
		child()
	}
	goleak.VerifyTestMain(m)
}

func conn(tb testing.TB, fd int) net.Conn {
	f := os.NewFile(uintptr(fd), "pair")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func pair(tb testing.TB) (a, b net.Conn) {
	tb.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	return conn(tb, fds[0]), conn(tb, fds[1])
}

func mapped(tb testing.TB, f *os.File) *Mem {
	tb.Helper()
	m, err := Map(f)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func attach(tb testing.TB, c *stream.Conn, m *Mem, opt Options) *End {
	tb.Helper()
	e, err := Attach(c, m, opt)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close(); c.Wait() })
	return e
}

// both makes two ends in this process, each serving the other by h.
func both(tb testing.TB, h stream.Handler, opt stream.Options) (a, b *End) {
	tb.Helper()
	if !Supported() {
		tb.Skip("no futex_waitv")
	}
	f, err := Create(true)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	x, y := pair(tb)
	opt.Epoch = 7
	ma, mb := mapped(tb, f), mapped(tb, f)
	a = attach(tb, stream.New(x, h, opt), ma, Options{Serve: true, Counters: NewCounters(nil)})
	b = attach(tb, stream.New(y, h, opt), mb, Options{Second: true, Serve: true, Counters: NewCounters(nil)})
	return a, b
}

// echo answers arguments and payload.
var echo = stream.HandlerFunc(func(_ context.Context, r *stream.Request) { r.Reply(0, r.Args, abi.IovOf(r.Payload)) })

func newCall(op wire.Op) *stream.Call {
	k := stream.GetCall()
	k.Header.Op = op
	return k
}

func TestEcho(t *testing.T) {
	a, b := both(t, echo, stream.Options{})
	for _, op := range []wire.Op{wire.OpRoot, wire.OpSockPoll, wire.OpSend, wire.OpGetattr, wire.OpCreate, wire.OpMount} {
		for _, n := range []int{0, 1, 100, 4096, inlineSize, inlineSize + 1, 64 << 10, wire.MaxPayload} {
			for _, e := range []*End{a, b} {
				data := make([]byte, n)
				for i := range data {
					data[i] = byte(i * 7 >> 2)
				}
				k := newCall(op)
				k.Args = append(k.Args, "hello"...)
				k.Payload = abi.Iov{data[:n/3], nil, data[n/3:]}
				dst := make([]byte, n)
				k.Dst = abi.Iov{dst[:n/2], dst[n/2:]}
				if err := e.conn.Call(t.Context(), k); err != nil {
					t.Fatal(err)
				}
				if string(k.Reply) != "hello" || k.N != n || !bytes.Equal(dst, data) {
					t.Errorf("%s, %d bytes: %q, %d", op, n, k.Reply, k.N)
				}
				k.Release()
			}
		}
	}
	if n := a.cnt.Calls.Load(); n != 6*8 {
		t.Errorf("%d calls by the ring", n)
	}
}

// TestStress: many callers, both ways, with cancellation.
func TestStress(t *testing.T) {
	a, b := both(t, echo, stream.Options{})
	var wg sync.WaitGroup
	for g := range 200 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c := []*End{a, b}[g%2].conn
			for j := range 200 {
				n := (g*131 + j*977) % 40000
				data := bytes.Repeat([]byte{byte(g)}, n)
				dst := make([]byte, n)
				k := newCall([]wire.Op{wire.OpRoot, wire.OpGetattr, wire.OpCreate, wire.OpSend, wire.OpMount}[(g+j)%5])
				k.SetPayload(data)
				k.Dst = abi.IovOf(dst)
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if j%3 == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(j*17)*time.Microsecond)
				}
				err := c.Call(ctx, k)
				cancel()
				switch e := abi.ErrnoOf(err); {
				case e == 0 && !bytes.Equal(dst, data):
					t.Error("wrong answer")
				case e != 0 && (e != abi.ETIMEDOUT || j%3 != 0):
					t.Error(err)
				}
				k.Release()
			}
		}()
	}
	wg.Wait()
	for _, e := range []*End{a, b} {
		if e.conn.Err() != nil {
			t.Error(e.conn.Err())
		}
		if n := e.cnt.Rescued.Load(); n > 0 {
			t.Errorf("%d calls were rescued", n)
		}
		allFree(t, e)
		c := e.cnt
		t.Logf("calls %d full %d parked %d wakeups %d", c.Calls.Load(), c.Full.Load(), c.Parked.Load(), c.Wakeups.Load())
	}
}

// allFree waits until every slot and extent is free: those of calls that were
// given up are when the reply has come.
func allFree(t *testing.T, e *End) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); ; runtime.Gosched() {
		if e.frees[0].Load() == ^uint64(0) && e.frees[1].Load() == ^uint64(0) && e.big.Load() == 1<<extents-1 && !e.waiting() {
			return
		}
		if time.Now().After(end) {
			t.Errorf("lost: %x %x %x, parked %v", e.frees[0].Load(), e.frees[1].Load(), e.big.Load(), e.waiting())
			return
		}
	}
}

// TestNoAllocation: a request is called and served without any, if the handler
// returns the arguments.
func TestNoAllocation(t *testing.T) {
	if raceEnabled {
		t.Skip("pools lose things under the race detector")
	}
	a, _ := both(t, stream.HandlerFunc(func(_ context.Context, r *stream.Request) {
		r.ReturnArgs()
		r.Reply(0, r.Args, nil)
	}), stream.Options{})
	for _, op := range []wire.Op{wire.OpRoot, wire.OpGetattr, wire.OpRead} {
		n := testing.AllocsPerRun(2000, func() {
			k := newCall(op)
			k.Args = append(k.Args, "arguments"...)
			if err := a.conn.Call(context.Background(), k); err != nil {
				t.Error(err)
			}
			k.Release()
		})
		if n >= 1 {
			t.Errorf("%s: %v allocations", op, n)
		}
	}
}

// TestCancelOther: cancelling a request that is over does nothing to the one
// that has its memory now.
func TestCancelOther(t *testing.T) {
	a, _ := both(t, nil, stream.Options{})
	h := wire.Header{Op: wire.OpGetattr, ReqID: 7}
	r := a.conn.Take(&h, []byte("abc"), nil, nil, 0)
	ctx := r.Context()
	r.Cancel(a.conn, 8)
	if ctx.Err() != nil {
		t.Error("cancelled by another's identifier")
	}
	r.Cancel(a.conn, 7)
	if ctx.Err() == nil {
		t.Error("not cancelled")
	}
}
