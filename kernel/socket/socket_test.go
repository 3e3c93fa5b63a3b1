package socket

import (
	"bytes"
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var root = abi.KernelCaller

// kit is a layer with one net instance, "net".
type kit struct {
	t *testing.T
	*Layer
	n *fakeNet
}

func newKit(t *testing.T, size int) *kit {
	t.Helper()
	k := &kit{t: t, Layer: New(Options{RestartWait: 3 * time.Second})}
	k.SetAvailable(true)
	k.boot(size)
	return k
}

// boot attaches a new life of the instance and lets callers in.
func (k *kit) boot(size int) {
	k.t.Helper()
	k.attach(size)
	if err := k.InstanceUp(context.Background(), "net"); err != nil {
		k.t.Fatalf("InstanceUp: %v", err)
	}
}

func (k *kit) attach(size int) {
	k.t.Helper()
	k.n = newFake(k.Ready, size)
	if err := k.AttachDomain("net", abi.AF_INET, k.n); err != nil {
		k.t.Fatalf("AttachDomain: %v", err)
	}
	if err := k.AttachIf("net", "lo", fakeIf{k.n}); err != nil {
		k.t.Fatalf("AttachIf: %v", err)
	}
}

func (k *kit) crash() {
	k.n.die()
	k.InstanceDown("net")
}

func ctxT(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func want(t *testing.T, what string, err error, e abi.Errno) {
	t.Helper()
	if abi.ErrnoOf(err) != e {
		t.Errorf("%s: %v, want %v", what, err, e.Name())
	}
}

func (k *kit) sock(typ int) *file.File {
	k.t.Helper()
	f, err := k.Socket(context.Background(), root, abi.AF_INET, typ, 0)
	if err != nil {
		k.t.Fatalf("socket: %v", err)
	}
	k.t.Cleanup(func() { f.Release(context.Background()) })
	return f
}

func addr(port uint16) abi.Sockaddr {
	return abi.SockaddrFrom(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
}

func (k *kit) listener(port uint16) *file.File {
	k.t.Helper()
	f := k.sock(abi.SOCK_STREAM)
	if err := k.Bind(context.Background(), root, f, addr(port)); err != nil {
		k.t.Fatalf("bind: %v", err)
	}
	if err := k.Listen(context.Background(), root, f, 5); err != nil {
		k.t.Fatalf("listen: %v", err)
	}
	return f
}

// pair makes a connection over a listener.
func (k *kit) pair(l *file.File) (cl, srv *file.File) {
	k.t.Helper()
	ctx := ctxT(k.t)
	a, err := k.Getsockname(ctx, root, l)
	if err != nil {
		k.t.Fatal(err)
	}
	cl = k.sock(abi.SOCK_STREAM)
	if err := k.Connect(ctx, root, cl, a); err != nil {
		k.t.Fatalf("connect: %v", err)
	}
	srv, _, err = k.Accept(ctx, root, l, 0)
	if err != nil {
		k.t.Fatalf("accept: %v", err)
	}
	k.t.Cleanup(func() { srv.Release(context.Background()) })
	return cl, srv
}

func TestStream(t *testing.T) {
	k := newKit(t, 1000)
	ctx := ctxT(t)
	cl, srv := k.pair(k.listener(80))
	data := bytes.Repeat([]byte("0123456789abcdef"), 3<<12) // more than a buffer
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		n, err := cl.Ops.Write(ctx, root, cl, data, file.Cur)
		if err != nil || n != len(data) {
			t.Errorf("write: %d, %v", n, err)
		}
		if err := k.Shutdown(ctx, root, cl, abi.SHUT_WR); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	}()
	var got []byte
	buf := make([]byte, 777)
	for {
		n, err := srv.Ops.Read(ctx, root, srv, buf, file.Cur)
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		if n == 0 {
			break
		}
		got = append(got, buf[:n]...)
	}
	wg.Wait()
	if !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, want %d, or they differ", len(got), len(data))
	}
	if a, err := k.Getpeername(ctx, root, srv); err != nil || a.Port == 0 {
		t.Errorf("getpeername: %v %v", a, err)
	}
}

func TestLargeTransferIsSplit(t *testing.T) {
	k := newKit(t, 8<<20)
	ctx := ctxT(t)
	cl, srv := k.pair(k.listener(80))
	data := bytes.Repeat([]byte("rump"), 5<<18) // 5 MiB
	if n, err := k.Send(ctx, root, cl, data, 0); n != len(data) || err != nil {
		t.Fatalf("send: %d %v", n, err)
	}
	got := make([]byte, len(data))
	n, err := k.Recv(ctx, root, srv, got, abi.MSG_WAITALL)
	if n != len(data) || err != nil || !bytes.Equal(got, data) {
		t.Errorf("recv: %d %v", n, err)
	}
	d := k.sock(abi.SOCK_DGRAM)
	_, err = k.Sendto(ctx, root, d, data, addr(9), 0)
	want(t, "huge datagram", err, abi.EMSGSIZE)
}

func TestNonblocking(t *testing.T) {
	k := newKit(t, 100)
	ctx := ctxT(t)
	l := k.listener(80)
	cl, srv := k.pair(l)
	buf := make([]byte, 300)
	if _, err := l.Ops.Ioctl(ctx, root, l, abi.FIONBIO, []byte{1, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	_, _, err := k.Accept(ctx, root, l, 0)
	want(t, "accept", err, abi.EAGAIN)
	_, err = k.Recv(ctx, root, srv, buf, abi.MSG_DONTWAIT)
	want(t, "recv", err, abi.EAGAIN)
	if n, err := k.Send(ctx, root, cl, buf, abi.MSG_DONTWAIT); n != 100 || err != nil {
		t.Errorf("send: %d %v, want 100", n, err)
	}
	_, err = k.Send(ctx, root, cl, buf, abi.MSG_DONTWAIT)
	want(t, "send when full", err, abi.EAGAIN)
	out, err := srv.Ops.Ioctl(ctx, root, srv, abi.FIONREAD, nil)
	if err != nil || !bytes.Equal(out, []byte{100, 0, 0, 0}) {
		t.Errorf("FIONREAD: %v %v", out, err)
	}

	k.n.slow = make(chan struct{})
	nb, err := k.Socket(ctx, root, abi.AF_INET, abi.SOCK_STREAM|abi.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer nb.Release(ctx)
	want(t, "connect", k.Connect(ctx, root, nb, addr(80)), abi.EINPROGRESS)
	want(t, "connect again", k.Connect(ctx, root, nb, addr(80)), abi.EALREADY)
	close(k.n.slow)
	if ev := pollWait(ctx, nb, abi.POLLOUT); ev != abi.POLLOUT {
		t.Errorf("poll after connect: %v", ev)
	}
	want(t, "connect when connected", k.Connect(ctx, root, nb, addr(80)), abi.EISCONN)
}

// pollWait is poll(2) on one file.
func pollWait(ctx context.Context, f *file.File, ev abi.PollEvents) abi.PollEvents {
	var r abi.PollEvents
	f.Ops.Selinfo(f).Wait(ctx, func() error {
		if r = f.Ops.Poll(ctx, f, ev); r == 0 {
			return abi.EAGAIN
		}
		return nil
	})
	return r
}

func TestTimeouts(t *testing.T) {
	k := newKit(t, 10)
	ctx := ctxT(t)
	l := k.listener(80)
	cl, srv := k.pair(l)
	tv := appendTimeval(30 * time.Millisecond)
	for _, f := range []*file.File{cl, srv, l} {
		for _, o := range []int{abi.SO_RCVTIMEO, abi.SO_SNDTIMEO} {
			if err := k.Setsockopt(ctx, root, f, abi.SOL_SOCKET, o, tv); err != nil {
				t.Fatal(err)
			}
		}
	}
	if v, err := k.Getsockopt(ctx, root, cl, abi.SOL_SOCKET, abi.SO_RCVTIMEO); err != nil || !bytes.Equal(v, tv) {
		t.Errorf("SO_RCVTIMEO: %v %v", v, err)
	}
	start := time.Now()
	_, err := k.Recv(ctx, root, srv, make([]byte, 1), 0)
	want(t, "recv", err, abi.EAGAIN)
	if d := time.Since(start); d < 30*time.Millisecond {
		t.Errorf("recv answered after %v", d)
	}
	_, _, err = k.Accept(ctx, root, l, 0)
	want(t, "accept", err, abi.EAGAIN)
	if n, err := k.Send(ctx, root, cl, make([]byte, 25), 0); n != 10 || err != nil {
		t.Errorf("send: %d %v, want 10", n, err)
	}
	_, err = k.Send(ctx, root, cl, make([]byte, 25), 0)
	want(t, "send", err, abi.EAGAIN)
	if n, err := k.Recv(ctx, root, srv, make([]byte, 25), abi.MSG_WAITALL); n != 10 || err != nil {
		t.Errorf("waitall: %d %v, want 10", n, err)
	}
	for _, bad := range []struct {
		v []byte
		e abi.Errno
	}{{tv[:8], abi.EINVAL}, {bytes.Repeat([]byte{0xff}, 16), abi.EDOM}} {
		want(t, "bad timeval", k.Setsockopt(ctx, root, cl, abi.SOL_SOCKET, abi.SO_RCVTIMEO, bad.v), bad.e)
	}
}

func TestInterrupted(t *testing.T) {
	k := newKit(t, 10)
	l := k.listener(80)
	cl, srv := k.pair(l)
	k.n.slow = make(chan struct{})
	defer close(k.n.slow)
	nb := k.sock(abi.SOCK_STREAM)
	for _, c := range []struct {
		name string
		call func(ctx context.Context) error
	}{
		{"accept", func(ctx context.Context) error { _, _, err := k.Accept(ctx, root, l, 0); return err }},
		{"recv", func(ctx context.Context) error { _, err := k.Recv(ctx, root, srv, make([]byte, 1), 0); return err }},
		{"connect", func(ctx context.Context) error { return k.Connect(ctx, root, nb, addr(80)) }},
		{"send", func(ctx context.Context) error {
			n, err := k.Send(ctx, root, cl, make([]byte, 20), 0)
			if n == 10 && err == nil {
				_, err = k.Send(ctx, root, cl, make([]byte, 20), 0)
			}
			return err
		}},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- c.call(ctx) }()
		cancel()
		want(t, c.name, <-done, abi.EINTR)
	}
}

func TestDatagram(t *testing.T) {
	k := newKit(t, 10)
	ctx := ctxT(t)
	a, b := k.sock(abi.SOCK_DGRAM), k.sock(abi.SOCK_DGRAM)
	if err := k.Bind(ctx, root, a, addr(5000)); err != nil {
		t.Fatal(err)
	}
	_, err := k.Send(ctx, root, b, []byte("x"), 0)
	want(t, "send without address", err, abi.EDESTADDRREQ)
	for _, m := range []string{"hello", "", "world"} {
		if n, err := k.Sendto(ctx, root, b, []byte(m), addr(5000), 0); n != len(m) || err != nil {
			t.Fatalf("sendto: %d %v", n, err)
		}
	}
	buf := make([]byte, 3)
	r, err := k.Recvmsg(ctx, root, a, abi.IovOf(buf), 0, 0)
	if err != nil || string(buf[:r.N]) != "hel" || r.Flags&abi.MSG_TRUNC == 0 {
		t.Errorf("recvmsg: %q %#x %v", buf[:r.N], r.Flags, err)
	}
	if n, err := k.Recv(ctx, root, a, buf, 0); n != 0 || err != nil {
		t.Errorf("empty datagram: %d %v", n, err)
	}
	if err := k.Connect(ctx, root, a, r.From); err != nil {
		t.Fatalf("connect: %v", err)
	}
	if n, from, err := k.Recvfrom(ctx, root, a, make([]byte, 9), abi.MSG_PEEK); n != 5 || err != nil || from != r.From {
		t.Errorf("peek: %d %v %v", n, from, err)
	}
	want(t, "listen", k.Listen(ctx, root, a, 1), abi.EOPNOTSUPP)
	_, _, err = k.Accept(ctx, root, a, 0)
	want(t, "accept", err, abi.EOPNOTSUPP)
}

func TestErrors(t *testing.T) {
	k := newKit(t, 10)
	ctx := ctxT(t)
	user := &abi.Caller{Cred: abi.NewCred(1000, 100), Pid: 2, Lid: 1}
	sock := func(c *abi.Caller, af, typ int) error {
		f, err := k.Socket(ctx, c, af, typ, 0)
		if f != nil {
			f.Release(ctx)
		}
		return err
	}
	want(t, "unknown family", sock(root, abi.AF_NS, abi.SOCK_STREAM), abi.EAFNOSUPPORT)
	want(t, "negative family", sock(root, -1, abi.SOCK_STREAM), abi.EAFNOSUPPORT)
	want(t, "huge family", sock(root, 1<<30, abi.SOCK_STREAM), abi.EAFNOSUPPORT)
	want(t, "type", sock(root, abi.AF_INET, abi.SOCK_RDM), abi.EPROTOTYPE)
	want(t, "raw", sock(user, abi.AF_INET, abi.SOCK_RAW), abi.EPERM)
	_, _, err := k.Socketpair(ctx, root, abi.AF_INET, abi.SOCK_STREAM, 0)
	want(t, "socketpair", err, abi.EOPNOTSUPP)

	s := k.sock(abi.SOCK_STREAM)
	want(t, "low port", k.Bind(ctx, user, s, addr(80)), abi.EACCES)
	_, _, err = k.Accept(ctx, root, s, 0)
	want(t, "accept without listen", err, abi.EINVAL)
	_, err = k.Recv(ctx, root, s, make([]byte, 1), 0)
	want(t, "recv unconnected", err, abi.ENOTCONN)
	want(t, "refused", k.Connect(ctx, root, s, addr(1)), abi.ECONNREFUSED)
	want(t, "shutdown", k.Shutdown(ctx, root, s, 3), abi.EINVAL)
	want(t, "unknown option", k.Setsockopt(ctx, root, s, 0, 0x7777, []byte{0, 0, 0, 0}), abi.ENOPROTOOPT)
	want(t, "set SO_ERROR", k.Setsockopt(ctx, root, s, abi.SOL_SOCKET, abi.SO_ERROR, make([]byte, 4)), abi.ENOPROTOOPT)
	want(t, "long option", k.Setsockopt(ctx, root, s, 0, 1, make([]byte, MaxOpt+1)), abi.EINVAL)
	_, err = s.Ops.Ioctl(ctx, root, s, abi.TIOCGWINSZ, nil)
	want(t, "ioctl", err, abi.ENOTTY)
	_, err = s.Ops.Ioctl(ctx, root, s, abi.FIONBIO, nil)
	want(t, "short ioctl", err, abi.EINVAL)
	_, err = s.Ops.Read(ctx, root, s, nil, 0)
	want(t, "pread", err, abi.ESPIPE)
	_, err = s.Ops.Seek(ctx, root, s, 0, 0)
	want(t, "lseek", err, abi.ESPIPE)
	if st, err := s.Ops.Stat(ctx, root, s); err != nil || st.Type != abi.VSOCK || st.Mode != 0o666 {
		t.Errorf("stat: %+v %v", st, err)
	}
	l := k.listener(81)
	want(t, "connect of a listener", k.Connect(ctx, root, l, addr(1)), abi.EOPNOTSUPP)
	if v, err := k.Getsockopt(ctx, root, l, abi.SOL_SOCKET, abi.SO_ACCEPTCONN); err != nil || v[0] == 0 {
		t.Errorf("SO_ACCEPTCONN: %v %v", v, err)
	}
	var tab file.Table
	tab.Max.Store(10)
	other, err := tab.New(file.TypeMisc, file.NoOps{}, nil, abi.O_RDWR, abi.Root)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "not a socket", k.Listen(ctx, root, other, 1), abi.ENOTSOCK)
}

// TestFileLimit: a socket that gets no file leaves nothing behind.
func TestFileLimit(t *testing.T) {
	var tab file.Table
	k := &kit{t: t, Layer: New(Options{Files: &tab})}
	k.SetAvailable(true)
	k.boot(10)
	_, err := k.Socket(ctxT(t), root, abi.AF_INET, abi.SOCK_STREAM, 0)
	want(t, "socket", err, abi.ENFILE)
	if len(k.n.socks) != 0 {
		t.Errorf("%d sockets left in the component", len(k.n.socks))
	}
}

// TestSlotEmpty: what the socket layer answers without a net component, and
// the seed's defect E, sopoll answering 45.
func TestSlotEmpty(t *testing.T) {
	l := New(Options{})
	ctx := ctxT(t)
	_, err := l.Socket(ctx, root, abi.AF_INET, abi.SOCK_STREAM, 0)
	want(t, "socket", err, abi.EOPNOTSUPP)
	if err == nil || !strings.Contains(err.Error(), "net component not available") {
		t.Errorf("text: %v", err)
	}
	_, _, err = l.Socketpair(ctx, root, abi.AF_INET, abi.SOCK_STREAM, 0)
	want(t, "socketpair", err, abi.EOPNOTSUPP)
	err = l.IfCreate(ctx, DefaultIfs()[0])
	want(t, "create of what is there", err, abi.EEXIST)

	k := newKit(t, 10)
	s := k.listener(80)
	conn, _ := k.pair(s)
	w := event.NewWaiter()
	s.Ops.Selinfo(s).Record(w)
	k.DetachInstance("net")
	k.SetAvailable(false)
	select {
	case <-w.C():
	default:
		t.Error("detach woke no poller")
	}
	for _, f := range []*file.File{s, conn} {
		if ev := f.Ops.Poll(ctx, f, abi.POLLIN|abi.POLLOUT); ev != abi.POLLNVAL {
			t.Errorf("sopoll without a component: %v, want NVAL", ev)
		}
	}
	_, _, err = k.Accept(ctx, root, s, 0)
	want(t, "accept", err, abi.ENETDOWN)
}

func TestAttach(t *testing.T) {
	k := newKit(t, 10)
	want(t, "domain twice", k.AttachDomain("net", abi.AF_INET, k.n), abi.EEXIST)
	want(t, "domain of another", k.AttachDomain("net2", abi.AF_INET, k.n), abi.EEXIST)
	want(t, "class twice", k.AttachIf("net2", "lo", fakeIf{k.n}), abi.EEXIST)
	want(t, "no family", k.AttachDomain("net", 0, k.n), abi.EAFNOSUPPORT)
	k.crash()
	k.attach(10) // its Init fails after this
	k.boot(10)
	k.sock(abi.SOCK_STREAM)
	calls := 0
	k.opts.Autoload = func(ctx context.Context, af int) error {
		calls++
		if af != abi.AF_CAN {
			return abi.ENOENT
		}
		if err := k.AttachDomain("can", af, newFake(k.Ready, 10)); err != nil {
			return err
		}
		return k.InstanceUp(ctx, "can")
	}
	f, err := k.Socket(ctxT(t), root, abi.AF_CAN, abi.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatalf("autoload: %v", err)
	}
	f.Release(context.Background())
	_, err = k.Socket(ctxT(t), root, abi.AF_NS, abi.SOCK_DGRAM, 0)
	want(t, "autoload fails", err, abi.EAFNOSUPPORT)
	if calls != 2 {
		t.Errorf("%d autoloads, want 2", calls)
	}
}

// TestEdges moves bytes both ways through one-byte buffers, where each lost
// edge would be a hang.
func TestEdges(t *testing.T) {
	k := newKit(t, 1)
	ctx := ctxT(t)
	l := k.listener(80)
	const conns, bytesEach = 4, 400
	var wg sync.WaitGroup
	for i := 0; i < conns; i++ {
		cl, srv := k.pair(l)
		for _, f := range [][2]*file.File{{cl, srv}, {srv, cl}} {
			wg.Add(2)
			go func() {
				defer wg.Done()
				if n, err := k.Send(ctx, root, f[0], make([]byte, bytesEach), 0); n != bytesEach || err != nil {
					t.Errorf("send: %d %v", n, err)
				}
			}()
			go func() {
				defer wg.Done()
				b := make([]byte, 1)
				for got := 0; got < bytesEach; got++ {
					if pollWait(ctx, f[1], abi.POLLIN) == 0 {
						t.Error("poll gave up")
						return
					}
					if _, err := k.Recv(ctx, root, f[1], b, 0); err != nil {
						t.Errorf("recv: %v", err)
						return
					}
				}
			}()
		}
	}
	wg.Wait()
}

// TestDetach: one module of an instance is unloaded.
func TestDetach(t *testing.T) {
	k := newKit(t, 10)
	ctx := ctxT(t)
	if k.InUse("net", abi.AF_INET) {
		t.Error("in use without a socket")
	}
	l := k.listener(80)
	cl, _ := k.pair(l)
	if !k.InUse("net", abi.AF_INET) || k.InUse("net", abi.AF_INET6) || k.InUse("other", abi.AF_INET) {
		t.Error("InUse is wrong")
	}
	k.DetachDomain("other", abi.AF_INET)
	k.DetachIf("other", "lo")
	if k.Ifs(ctx)[0].Flags&abi.IFF_RUNNING == 0 {
		t.Error("a stranger detached lo")
	}
	got := make(chan error, 1)
	go func() { _, _, err := k.Accept(ctx, root, l, 0); got <- err }()
	k.DetachDomain("net", abi.AF_INET)
	want(t, "accept", <-got, abi.ENETDOWN)
	_, err := k.Recv(ctx, root, cl, make([]byte, 1), 0)
	want(t, "recv", err, abi.ECONNRESET)
	_, err = k.Socket(ctx, root, abi.AF_INET, abi.SOCK_STREAM, 0)
	want(t, "socket", err, abi.EAFNOSUPPORT)
	// The slot is filled: not POLLNVAL, but an end.
	if ev := l.Ops.Poll(ctx, l, abi.POLLIN); ev != abi.POLLIN|abi.POLLHUP|abi.POLLERR {
		t.Errorf("poll: %v", ev)
	}
	k.DetachIf("net", "lo")
	if i := k.Ifs(ctx)[0]; i.Name != "lo0" || i.Flags&abi.IFF_RUNNING != 0 {
		t.Errorf("lo0: %+v", i)
	}
	want(t, "create", k.IfCreate(ctx, DefaultIfs()[0]), abi.EEXIST)
	k.boot(10) // loaded again
	k.pair(k.listener(80))
}
