package socket

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestDeathOfConnections: ECONNRESET once for each socket and for every call in
// flight, then end of file and EPIPE; pollers wake.
func TestDeathOfConnections(t *testing.T) { synctest.Test(t, testDeathOfConnections) }

func testDeathOfConnections(t *testing.T) {
	k := newKit(t, 10)
	ctx := ctxT(t)
	l := k.listener(80)
	cl, srv := k.pair(l)
	cl2, _ := k.pair(l)
	readErr, pollEv := make(chan error, 1), make(chan abi.PollEvents, 1)
	go func() {
		_, err := k.Recv(ctx, root, srv, make([]byte, 1), 0)
		readErr <- err
	}()
	go func() { pollEv <- pollWait(ctx, cl2, abi.POLLIN) }()
	synctest.Wait() // until they sleep
	k.crash()
	want(t, "read in flight", <-readErr, abi.ECONNRESET)
	if ev := <-pollEv; ev != abi.POLLIN|abi.POLLHUP|abi.POLLERR {
		t.Errorf("poll: %v", ev)
	}
	if n, err := k.Recv(ctx, root, srv, make([]byte, 1), 0); n != 0 || err != nil {
		t.Errorf("second read: %d %v, want end of file", n, err)
	}
	_, err := k.Send(ctx, root, cl, []byte("x"), 0)
	want(t, "first write", err, abi.ECONNRESET)
	_, err = k.Send(ctx, root, cl, []byte("x"), 0)
	want(t, "second write", err, abi.EPIPE)
	if v, err := k.Getsockopt(ctx, root, cl2, abi.SOL_SOCKET, abi.SO_ERROR); err != nil || v[0] != byte(abi.ECONNRESET) {
		t.Errorf("SO_ERROR: %v %v", v, err)
	}
	if v, err := k.Getsockopt(ctx, root, cl2, abi.SOL_SOCKET, abi.SO_ERROR); err != nil || v[0] != 0 {
		t.Errorf("SO_ERROR again: %v %v", v, err)
	}
	_, err = k.Getpeername(ctx, root, cl2)
	want(t, "getpeername", err, abi.ENOTCONN)
	want(t, "shutdown", k.Shutdown(ctx, root, cl2, abi.SHUT_RDWR), abi.ENOTCONN)
	want(t, "connect", k.Connect(ctx, root, cl2, addr(80)), abi.EINVAL)
	k.boot(10)
	if n, err := k.Recv(ctx, root, cl2, make([]byte, 1), 0); n != 0 || err != nil {
		t.Errorf("read after restart: %d %v", n, err)
	}
	if got := k.cnt.reset.Load(); got != 4 {
		t.Errorf("%d resets counted, want 4", got)
	}
}

// TestRestart: listeners, datagram sockets and unconnected streams come back
// under the same ids with address and options, and calls that wait go on.
func TestRestart(t *testing.T) { synctest.Test(t, testRestart) }

func testRestart(t *testing.T) {
	k := newKit(t, 10)
	ctx := ctxT(t)
	l := k.listener(80)
	u := k.sock(abi.SOCK_DGRAM)
	if err := k.Bind(ctx, root, u, abi.Sockaddr{Family: abi.AF_INET}); err != nil {
		t.Fatal(err)
	}
	ua, err := k.Getsockname(ctx, root, u)
	if err != nil || ua.Port == 0 {
		t.Fatalf("getsockname: %v %v", ua, err)
	}
	implicit, plain := k.sock(abi.SOCK_DGRAM), k.sock(abi.SOCK_STREAM)
	if _, err := k.Sendto(ctx, root, implicit, []byte("x"), ua, 0); err != nil {
		t.Fatal(err)
	}
	ia, err := k.Getsockname(ctx, root, implicit)
	if err != nil {
		t.Fatal(err)
	}
	one, two := []byte{1, 0, 0, 0}, []byte{2, 0, 0, 0}
	for _, v := range [][]byte{one, two} {
		if err := k.Setsockopt(ctx, root, l, abi.SOL_SOCKET, abi.SO_KEEPALIVE, v); err != nil {
			t.Fatal(err)
		}
	}
	closedMeanwhile, err := k.Socket(ctx, root, abi.AF_INET, abi.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}

	accepted := make(chan error, 1)
	go func() {
		f, _, err := k.Accept(ctx, root, l, 0)
		if f != nil {
			f.Release(ctx)
		}
		accepted <- err
	}()
	synctest.Wait() // until they sleep
	k.crash()
	if ev := l.Ops.Poll(ctx, l, abi.POLLIN|abi.POLLOUT); ev != 0 {
		t.Errorf("poll of a listener meanwhile: %v", ev)
	}
	_, err = k.Recv(ctx, root, u, make([]byte, 1), abi.MSG_DONTWAIT)
	want(t, "non-blocking recv meanwhile", err, abi.EAGAIN)
	if a, err := k.Getsockname(ctx, root, u); err != nil || a != ua {
		t.Errorf("getsockname meanwhile: %v %v", a, err)
	}
	if err := closedMeanwhile.Release(ctx); err != nil {
		t.Errorf("close meanwhile: %v", err)
	}
	var wg sync.WaitGroup
	wg.Add(2)
	go func() {
		defer wg.Done()
		f, err := k.Socket(ctx, root, abi.AF_INET, abi.SOCK_STREAM, 0)
		if err != nil {
			t.Errorf("socket during the restart: %v", err)
			return
		}
		f.Release(ctx)
	}()
	go func() {
		defer wg.Done()
		if err := k.Setsockopt(ctx, root, plain, 6, 1, one); err != nil {
			t.Errorf("setsockopt during the restart: %v", err)
		}
	}()
	k.boot(10)
	wg.Wait()

	k.n.mu.Lock()
	history := append([]string(nil), k.n.history...)
	opt := k.n.opts[l.Data.(*Socket).id][[2]int{abi.SOL_SOCKET, abi.SO_KEEPALIVE}]
	ids := len(k.n.socks)
	k.n.mu.Unlock()
	if len(history) < 3 || history[0] != "if lo0" || history[1] != "routes" || history[2] != "socket" {
		t.Errorf("order of configuration: %v", history)
	}
	if !bytes.Equal(opt, two) {
		t.Errorf("option of the listener: %v", opt)
	}
	if ids != 4 {
		t.Errorf("%d sockets in the component, want 4", ids)
	}
	for f, a := range map[*file.File]abi.Sockaddr{u: ua, implicit: ia} {
		if got, err := k.Getsockname(ctx, root, f); err != nil || got != a {
			t.Errorf("address after restart: %v %v, want %v", got, err, a)
		}
	}
	c := k.sock(abi.SOCK_STREAM)
	if err := k.Connect(ctx, root, c, addr(80)); err != nil {
		t.Fatalf("connect after restart: %v", err)
	}
	if err := <-accepted; err != nil {
		t.Errorf("accept over the restart: %v", err)
	}
	if err := k.Connect(ctx, root, plain, addr(80)); err != nil {
		t.Errorf("connect of an older socket: %v", err)
	}
}

// TestRestartTooLate: who waits for a component that does not come back gets
// ENETDOWN, and so does everybody once it is given up.
func TestRestartTooLate(t *testing.T) { synctest.Test(t, testRestartTooLate) }

func testRestartTooLate(t *testing.T) {
	k := newKit(t, 10)
	k.wait = 20 * time.Millisecond
	ctx := ctxT(t)
	l := k.listener(80)
	u := k.sock(abi.SOCK_DGRAM)
	k.crash()
	_, err := k.Socket(ctx, root, abi.AF_INET, abi.SOCK_STREAM, 0)
	want(t, "socket", err, abi.ENETDOWN)
	_, _, err = k.Accept(ctx, root, l, 0)
	want(t, "accept", err, abi.ENETDOWN)
	want(t, "bind", k.Bind(ctx, root, u, addr(1)), abi.ENETDOWN)
	cctx, cancel := context.WithCancel(ctx)
	cancel()
	_, err = k.Recv(cctx, root, u, make([]byte, 1), 0)
	want(t, "interrupted", err, abi.EINTR)
	k.wait = time.Minute
	got := make(chan error, 1)
	go func() { got <- k.Bind(ctx, root, u, addr(1)) }()
	synctest.Wait() // until they sleep
	k.DetachInstance("net")
	want(t, "bind when given up", <-got, abi.ENETDOWN)
}

// TestDeathSeenFirstByCaller: the link breaks, and a caller notices before the
// supervisor has told.
func TestDeathSeenFirstByCaller(t *testing.T) { synctest.Test(t, testDeathSeenFirstByCaller) }

func testDeathSeenFirstByCaller(t *testing.T) {
	k := newKit(t, 10)
	ctx := ctxT(t)
	l := k.listener(80)
	cl, _ := k.pair(l)
	k.n.die()
	_, err := k.Recv(ctx, root, cl, make([]byte, 1), 0)
	want(t, "stream", err, abi.ECONNRESET)
	u := k.sockLater(ctx)
	res := make(chan error, 1)
	go func() { res <- k.Listen(ctx, root, l, 7) }()
	synctest.Wait() // until they sleep
	k.InstanceDown("net")
	if n, err := k.Recv(ctx, root, cl, make([]byte, 1), 0); n != 0 || err != nil {
		t.Errorf("stream, told before: %d %v, want end of file", n, err)
	}
	k.boot(10)
	if err := <-res; err != nil {
		t.Errorf("listen over a restart: %v", err)
	}
	if err := <-u; err != nil {
		t.Errorf("socket over a restart: %v", err)
	}
}

func (k *kit) sockLater(ctx context.Context) <-chan error {
	c := make(chan error, 1)
	go func() {
		f, err := k.Socket(ctx, root, abi.AF_INET, abi.SOCK_DGRAM, 0)
		if f != nil {
			f.Release(ctx)
		}
		c <- err
	}()
	return c
}

// TestDeathDuringRestore: the new process dies too while it is being set up;
// the third one gets it all.
func TestDeathDuringRestore(t *testing.T) {
	k := newKit(t, 10)
	ctx := ctxT(t)
	l := k.listener(80)
	k.crash()
	k.attach(10)
	k.n.die()
	if err := k.InstanceUp(ctx, "net"); !errors.Is(err, abi.ECONNRESET) {
		t.Errorf("InstanceUp of a dead process: %v", err)
	}
	k.InstanceDown("net")
	k.boot(10)
	cl, srv := k.pair(l)
	if _, err := k.Send(ctx, root, cl, []byte("x"), 0); err != nil {
		t.Error(err)
	}
	if n, err := k.Recv(ctx, root, srv, make([]byte, 1), 0); n != 1 || err != nil {
		t.Errorf("recv: %d %v", n, err)
	}
}

// TestRestartStress: clients connect and exchange, a server accepts, and the
// component dies again and again. Nobody hangs, the listener never fails.
func TestRestartStress(t *testing.T) {
	k := newKit(t, 64)
	k.t = t
	ctx := ctxT(t)
	l := k.listener(80)
	stop := make(chan struct{})
	sctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			f, _, err := k.Accept(sctx, root, l, 0)
			if abi.ErrnoOf(err) == abi.EINTR {
				return
			}
			if err != nil {
				t.Errorf("accept: %v", err)
				return
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer f.Release(ctx)
				b := make([]byte, 32)
				for {
					n, err := k.Recv(ctx, root, f, b, 0)
					if n == 0 || err != nil {
						return
					}
					if _, err := k.Send(ctx, root, f, b[:n], 0); err != nil {
						return
					}
				}
			}()
		}
	}()
	var done, resets sync.Map
	var clients sync.WaitGroup
	for i := 0; i < 3; i++ {
		clients.Add(1)
		go func() {
			defer clients.Done()
			b := make([]byte, 200)
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				f, err := k.Socket(ctx, root, abi.AF_INET, abi.SOCK_STREAM, 0)
				if err != nil {
					t.Errorf("socket: %v", err)
					return
				}
				err = k.Connect(ctx, root, f, addr(80))
				for j := 0; err == nil && j < 5; j++ {
					if _, err = k.Send(ctx, root, f, b[:150], 0); err == nil {
						_, err = k.Recv(ctx, root, f, b[:150], abi.MSG_WAITALL)
					}
				}
				switch abi.ErrnoOf(err) {
				case 0:
					done.Store([2]int{i, n}, true)
				case abi.ECONNRESET, abi.EPIPE:
					resets.Store([2]int{i, n}, true)
				default:
					t.Errorf("client: %v", err)
				}
				f.Release(ctx)
			}
		}()
	}
	for round := 0; round < 30; round++ {
		for before := k.cnt.opened.Load(); k.cnt.opened.Load() < before+6; {
			if ctx.Err() != nil {
				t.Fatal("nothing happens any more")
			}
			runtime.Gosched()
		}
		if round%2 == 0 {
			k.n.die()
		}
		k.InstanceDown("net")
		k.boot(64)
	}
	close(stop)
	clients.Wait()
	cancel()
	wg.Wait()
	count := func(m *sync.Map) (n int) { m.Range(func(any, any) bool { n++; return true }); return }
	if count(&done) == 0 || count(&resets) == 0 {
		t.Errorf("%d exchanges done, %d reset: the test shows nothing", count(&done), count(&resets))
	}
	t.Logf("%d exchanges done, %d reset", count(&done), count(&resets))
}
