package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pair(tb testing.TB) (a, b net.Conn) {
	tb.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	conn := func(fd int) net.Conn {
		f := os.NewFile(uintptr(fd), "pair")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			tb.Fatal(err)
		}
		return c
	}
	return conn(fds[0]), conn(fds[1])
}

func start(tb testing.TB, nc net.Conn, h Handler, opt Options) *Conn {
	c := New(nc, h, opt)
	tb.Cleanup(func() {
		c.Close()
		c.Wait()
	})
	return c
}

// both makes two ends of a connection; h serves at the second.
func both(tb testing.TB, h Handler, opt Options) (*Conn, *Conn) {
	a, b := pair(tb)
	opt.Epoch = 7
	return start(tb, a, nil, opt), start(tb, b, h, opt)
}

// echo answers arguments and payload.
var echo = HandlerFunc(func(_ context.Context, r *Request) { r.Reply(0, r.Args, abi.IovOf(r.Payload)) })

func call(op wire.Op) *Call {
	k := GetCall()
	k.Header.Op = op
	return k
}

func TestEcho(t *testing.T) {
	a, _ := both(t, echo, Options{})
	for _, n := range []int{0, 1, 100, 4096, 16 << 10, 16<<10 + 1, 64 << 10, wire.MaxPayload} {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(i * 7 >> 2)
		}
		k := call(wire.OpGetattr)
		k.Args = append(k.Args, "hello"...)
		k.Payload = abi.Iov{data[:n/3], nil, data[n/3:]}
		dst := make([]byte, n+10)
		k.Dst = abi.Iov{dst[:n/2], dst[n/2:]}
		if n == wire.MaxPayload {
			k.Dst = abi.Iov{dst[:n]}
		}
		if err := a.Call(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		if string(k.Reply) != "hello" || k.N != n || !bytes.Equal(dst[:n], data) {
			t.Errorf("%d bytes: %q, %d", n, k.Reply, k.N)
		}
		k.Release()
	}
}

func TestTooLarge(t *testing.T) {
	a, _ := both(t, echo, Options{})
	for what, f := range map[string]func(k *Call){
		"args":    func(k *Call) { k.Args = make([]byte, wire.MaxArgs+1) },
		"payload": func(k *Call) { k.SetPayload(make([]byte, wire.MaxPayload+1)) },
		"dst":     func(k *Call) { k.Dst = abi.IovOf(make([]byte, wire.MaxPayload+1)) },
	} {
		k := call(wire.OpGetattr)
		f(k)
		if err := a.Call(t.Context(), k); !errors.Is(err, abi.E2BIG) {
			t.Errorf("%s: %v", what, err)
		}
	}
	k := call(wire.OpGetattr) // the reply has no room
	k.SetPayload([]byte("hello"))
	if err := a.Call(t.Context(), k); !errors.Is(err, abi.E2BIG) {
		t.Errorf("reply: %v", err)
	}
}

func TestErrors(t *testing.T) {
	a, _ := both(t, HandlerFunc(func(_ context.Context, r *Request) {
		switch string(r.Args) {
		case "errno":
			r.Reply(abi.ENOENT, nil, nil)
		case "text":
			r.Reply(abi.EINVAL, []byte("no such option\n"), nil)
		case "range":
			r.Reply(4000, nil, nil)
		case "twice":
			r.Reply(abi.EPERM, nil, nil)
			r.Reply(0, nil, nil)
		}
	}), Options{})
	for args, want := range map[string]abi.Errno{"errno": abi.ENOENT, "text": abi.EINVAL, "range": abi.EIO, "twice": abi.EPERM, "silence": abi.EIO} {
		k := call(wire.OpGetattr)
		k.Args = append(k.Args, args...)
		err := a.Call(t.Context(), k)
		if abi.ErrnoOf(err) != want {
			t.Errorf("%s: %v", args, err)
		}
		var r *Refusal
		if errors.As(err, &r) != (args == "text") || args == "text" && r.Text != "no such option?" {
			t.Errorf("%s: %v", args, err)
		}
		k.Release()
	}
}

// TestNested: a handler calls back, whose handler calls back, and so on.
func TestNested(t *testing.T) {
	var ends [2]*Conn
	var ready sync.WaitGroup
	ready.Add(1)
	bounce := func(i int) Handler {
		return HandlerFunc(func(ctx context.Context, r *Request) {
			ready.Wait()
			n := r.Args[0]
			if n > 0 {
				k := call(wire.OpCreate)
				k.Args = append(k.Args, n-1)
				if err := ends[i].Call(ctx, k); err != nil {
					r.Reply(abi.ErrnoOf(err), nil, nil)
					return
				}
				n = k.Reply[0] + 1
				k.Release()
			}
			r.Reply(0, []byte{n}, nil)
		})
	}
	x, y := pair(t)
	ends[0] = start(t, x, bounce(0), Options{Epoch: 1})
	ends[1] = start(t, y, bounce(1), Options{})
	ready.Done()
	k := call(wire.OpCreate)
	k.Args = append(k.Args, 20)
	if err := ends[0].Call(t.Context(), k); err != nil || k.Reply[0] != 20 {
		t.Fatal(err, k.Reply)
	}
}

// TestOneway: one-way frames are served in order, with calls among them.
func TestOneway(t *testing.T) {
	var got []byte
	a, _ := both(t, HandlerFunc(func(_ context.Context, r *Request) {
		if r.Header.Op == wire.OpReady {
			got = append(got, r.Payload...)
			return
		}
		r.Reply(0, nil, nil)
	}), Options{})
	for i := range 200 {
		if err := a.Send(wire.OpReady, 0, nil, abi.IovOf([]byte{byte(i)})); err != nil {
			t.Fatal(err)
		}
	}
	k := call(wire.OpGetattr)
	if err := a.Call(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if got[i] != byte(i) {
			t.Fatalf("frame %d came as %d", got[i], i)
		}
	}
}

// blocker serves by waiting until told.
type blocker struct {
	entered chan context.Context
	leave   chan struct{}
}

func newBlocker() *blocker { return &blocker{make(chan context.Context, 100), make(chan struct{})} }

func (b *blocker) Serve(ctx context.Context, r *Request) {
	if len(r.Args) == 0 {
		b.entered <- ctx
		<-b.leave
	}
	r.Reply(0, []byte("done"), abi.IovOf(bytes.Repeat([]byte("x"), int(r.Header.ReplyLen))))
}

// TestCancel: a call that may be given up returns at once, the handler is
// told, and the late reply does not touch the buffers.
func TestCancel(t *testing.T) {
	b := newBlocker()
	a, _ := both(t, b, Options{})
	for _, tc := range []struct {
		want  abi.Errno
		setup func(k *Call, d time.Duration) (context.Context, context.CancelFunc)
	}{
		{abi.EINTR, func(*Call, time.Duration) (context.Context, context.CancelFunc) {
			return context.WithCancel(t.Context())
		}},
		{abi.ETIMEDOUT, func(k *Call, d time.Duration) (context.Context, context.CancelFunc) {
			k.Timeout = d
			return t.Context(), func() {}
		}},
		{abi.ETIMEDOUT, func(_ *Call, d time.Duration) (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), d)
		}},
	} {
		var dst []byte
		var cancel context.CancelFunc
		var served context.Context
		done := make(chan error, 1)
		for d := 10 * time.Millisecond; served == nil; d *= 4 {
			k := call(wire.OpGetattr)
			dst = make([]byte, 1000)
			k.Dst = abi.IovOf(dst)
			var ctx context.Context
			ctx, cancel = tc.setup(k, d)
			go func() { done <- a.Call(ctx, k) }()
			select {
			case served = <-b.entered:
			case <-time.After(d + 10*time.Second): // its time was over before it was sent
				if err := <-done; abi.ErrnoOf(err) != tc.want || d > time.Minute {
					t.Fatalf("never served: %v", err)
				}
				cancel()
			}
		}
		if tc.want == abi.EINTR {
			cancel()
		}
		if err := <-done; abi.ErrnoOf(err) != tc.want {
			t.Errorf("%v, want %v", err, tc.want)
		}
		<-served.Done() // the peer is told
		if served.Err() == nil {
			t.Error("the context ended without an error")
		}
		b.leave <- struct{}{}
		ping(t, a)
		if !bytes.Equal(dst, make([]byte, 1000)) {
			t.Error("the late reply was written")
		}
		cancel()
	}
}

// ping makes sure that all before it has been read.
func ping(t *testing.T, c *Conn) {
	t.Helper()
	k := call(wire.OpGetattr)
	k.Args = append(k.Args, 1)
	if err := c.Call(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	k.Release()
}

// TestKeep: an operation that keeps is not given up.
func TestKeep(t *testing.T) {
	b := newBlocker()
	a, _ := both(t, b, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Call(ctx, call(wire.OpCreate)) }()
	<-b.entered
	cancel()
	ping(t, a)
	select {
	case err := <-done:
		t.Fatalf("given up: %v", err)
	default:
	}
	b.leave <- struct{}{}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := a.Call(ctx, call(wire.OpCreate)); !errors.Is(err, abi.EINTR) {
		t.Errorf("not yet sent: %v", err)
	}
}

// TestHang: one that gets no answer, and nothing else comes either, fences.
func TestHang(t *testing.T) {
	b := newBlocker()
	a, _ := both(t, b, Options{})
	k := call(wire.OpCreate)
	k.Timeout = 20 * time.Millisecond
	err := a.Call(t.Context(), k)
	var dead *Dead
	var hang *Hang
	if !errors.As(err, &dead) || !errors.As(err, &hang) || abi.ErrnoOf(err) != abi.EIO {
		t.Errorf("%v", err)
	}
	<-a.Done()
	close(b.leave)
}

// TestPatience: with progress elsewhere the wait goes on for some deadlines.
func TestPatience(t *testing.T) {
	for d := 50 * time.Millisecond; ; d *= 4 { // on a busy machine there may be no progress for a while
		b := newBlocker()
		a, _ := both(t, b, Options{})
		var wg sync.WaitGroup
		wg.Add(1)
		go func() {
			defer wg.Done()
			for a.Err() == nil {
				k := call(wire.OpGetattr)
				k.Args = append(k.Args, 1)
				a.Call(context.Background(), k)
			}
		}()
		k := call(wire.OpCreate)
		k.Timeout = d
		begin := time.Now()
		err := a.Call(t.Context(), k)
		took := time.Since(begin)
		wg.Wait()
		close(b.leave)
		var hang *Hang
		if !errors.As(err, &hang) {
			t.Fatalf("%v after %v", err, took)
		}
		if took >= 3*d {
			break
		}
		if d > 5*time.Second {
			t.Fatalf("%v after %v", err, took)
		}
	}
}

// TestEOF: when the peer goes, what it said counts, the rest is dead.
func TestEOF(t *testing.T) {
	b := newBlocker()
	a, z := both(t, b, Options{})
	done := make(chan error)
	for range 10 {
		go func() { done <- a.Call(t.Context(), call(wire.OpCreate)) }()
		<-b.entered
	}
	z.Close()
	for range 10 {
		var dead *Dead
		if err := <-done; !errors.As(err, &dead) || !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	}
	if a.Err() != io.EOF || z.Err() != net.ErrClosed {
		t.Errorf("%v, %v", a.Err(), z.Err())
	}
	var dead *Dead
	if err := a.Call(t.Context(), call(wire.OpRead)); !errors.As(err, &dead) {
		t.Error(err)
	}
	if err := a.Send(wire.OpReady, 0, nil, nil); !errors.As(err, &dead) {
		t.Error(err)
	}
	close(b.leave)
}

// TestDeaf: a peer that never reads holds up neither calls nor Close.
func TestDeaf(t *testing.T) {
	x, y := pair(t)
	defer y.Close()
	a := start(t, x, nil, Options{Epoch: 1, WriteTimeout: 50 * time.Millisecond})
	done := make(chan error)
	for range 8 {
		go func() {
			k := call(wire.OpWrite)
			k.SetPayload(make([]byte, wire.MaxPayload))
			k.Timeout = 100 * time.Millisecond
			done <- a.Call(t.Context(), k)
		}()
	}
	for range 8 {
		if err := <-done; err == nil {
			t.Error("a call succeeded")
		}
	}
	<-a.Done()

	x, y2 := pair(t)
	defer y2.Close()
	a = start(t, x, nil, Options{Epoch: 1})
	for range 4 {
		go func() {
			k := call(wire.OpWrite)
			k.SetPayload(make([]byte, wire.MaxPayload))
			done <- a.Call(t.Context(), k)
		}()
	}
	for len(a.wlock) == 0 {
		runtime.Gosched()
	}
	a.Close()
	for range 4 {
		var dead *Dead
		if err := <-done; !errors.As(err, &dead) {
			t.Error(err)
		}
	}
}

// TestHalfWritten: a caller in a hurry leaves a frame half written; the rest
// follows, and the connection goes on.
func TestHalfWritten(t *testing.T) {
	x, y := pair(t)
	a := start(t, x, nil, Options{Epoch: 1})
	data := bytes.Repeat([]byte("abc"), 300000)
	for d := 30 * time.Millisecond; ; d *= 2 { // on a busy machine it may not even have begun
		ctx, cancel := context.WithTimeout(t.Context(), d)
		k := call(wire.OpGetattr)
		k.SetPayload(data)
		err := a.Call(ctx, k)
		cancel()
		if !errors.Is(err, abi.ETIMEDOUT) {
			t.Fatal(err)
		}
		k.Release()
		if len(a.wlock) > 0 {
			break // somebody is still writing
		}
	}
	clear(data) // it is the caller's again
	got := make(chan []byte, 1)
	start(t, y, HandlerFunc(func(_ context.Context, r *Request) {
		if len(r.Payload) > 0 {
			got <- append([]byte(nil), r.Payload...)
		}
		r.Reply(0, nil, nil)
	}), Options{})
	ping(t, a)
	if !bytes.Equal(<-got, bytes.Repeat([]byte("abc"), 300000)) {
		t.Error("the rest of the frame is not what was sent")
	}
}

// TestBackpressure: with it, requests over the limit wait in the socket.
func TestBackpressure(t *testing.T) {
	var now, most atomic.Int32
	x, y := pair(t)
	a := start(t, x, nil, Options{})
	start(t, y, HandlerFunc(func(_ context.Context, r *Request) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		runtime.Gosched()
		now.Add(-1)
		r.Reply(0, nil, nil)
	}), Options{Workers: 8, MaxRequests: 3, Backpressure: true})
	var wg sync.WaitGroup
	for range 100 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := a.Call(t.Context(), call(wire.OpCreate)); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if most.Load() > 4 { // one may be between its reply and its end
		t.Errorf("%d at a time", most.Load())
	}
}

// TestMaxCalls: more calls than may be in flight wait for each other, and give
// up waiting.
func TestMaxCalls(t *testing.T) {
	b := newBlocker()
	a, _ := both(t, b, Options{MaxCalls: 1})
	done := make(chan error)
	go func() { done <- a.Call(t.Context(), call(wire.OpCreate)) }()
	<-b.entered
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := a.Call(ctx, call(wire.OpCreate)); !errors.Is(err, abi.ETIMEDOUT) {
		t.Error(err)
	}
	close(b.leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
	ping(t, a)
}

// TestStress mixes sizes, cancellation and both directions.
func TestStress(t *testing.T) {
	x, y := pair(t)
	ends := []*Conn{start(t, x, echo, Options{Epoch: 3}), start(t, y, echo, Options{Epoch: 3})}
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(uint64(g), 5))
			c := ends[g%2]
			for range 100 {
				n := r.IntN(20000)
				data := bytes.Repeat([]byte{byte(r.Uint32())}, n)
				dst := make([]byte, n)
				k := call([]wire.Op{wire.OpGetattr, wire.OpCreate}[r.IntN(2)])
				k.SetPayload(data)
				k.Dst = abi.IovOf(dst)
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(r.IntN(3000))*time.Microsecond)
				err := c.Call(ctx, k)
				cancel()
				switch e := abi.ErrnoOf(err); {
				case e == 0 && !bytes.Equal(dst, data):
					t.Error("wrong answer")
				case e != 0 && e != abi.ETIMEDOUT:
					t.Error(err)
				}
				k.Release()
			}
		}()
	}
	wg.Wait()
	for _, c := range ends {
		if c.Err() != nil {
			t.Error(c.Err())
		}
	}
}

// TestAllocs: a small call and its service take few allocations.
func TestAllocs(t *testing.T) {
	a, _ := both(t, echo, Options{})
	ctx := t.Context()
	n := testing.AllocsPerRun(1000, func() {
		k := call(wire.OpGetattr)
		k.Args = append(k.Args, "abc"...)
		if err := a.Call(ctx, k); err != nil {
			t.Fatal(err)
		}
		k.Release()
	})
	t.Logf("%v allocations for both sides", n)
	if n > 6 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCall(b *testing.B) {
	a, _ := both(b, echo, Options{})
	for b.Loop() {
		k := call(wire.OpGetattr)
		k.Args = append(k.Args, "abc"...)
		if err := a.Call(context.Background(), k); err != nil {
			b.Fatal(err)
		}
		k.Release()
	}
}
