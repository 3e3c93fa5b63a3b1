package local

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// names is a file system with one directory.
type names struct {
	mu sync.Mutex
	m  map[string]*name
}

type name struct {
	mu sync.Mutex
	v  any
}

func (n *name) Set(v any) { n.mu.Lock(); n.v = v; n.mu.Unlock() }
func (n *name) Get() any  { n.mu.Lock(); defer n.mu.Unlock(); return n.v }
func (n *name) Release()  {}

func (ns *names) bind(_ context.Context, c *abi.Caller, path string) (Node, error) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if ns.m[path] != nil {
		return nil, abi.EADDRINUSE
	}
	ns.m[path] = &name{}
	return ns.m[path], nil
}

func (ns *names) find(_ context.Context, c *abi.Caller, path string) (Node, error) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if ns.m[path] == nil {
		return nil, abi.ENOENT
	}
	return ns.m[path], nil
}

type kit struct {
	*testing.T
	d   *Domain
	ctx context.Context
}

func newKit(t *testing.T) *kit {
	tab := &file.Table{}
	tab.Max.Store(1000)
	ns := &names{m: map[string]*name{}}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	k := &kit{t, New(Options{Files: tab, Bind: ns.bind, Find: ns.find}), ctx}
	t.Cleanup(func() {
		cancel()
		if n := tab.Count(); n != 0 {
			t.Errorf("%d files are left", n)
		}
		if n := k.d.rights.Load(); n != 0 || len(k.d.inflight) != 0 || len(k.d.holders) != 0 {
			t.Errorf("%d files in flight, %d sockets, %d holders", n, len(k.d.inflight), len(k.d.holders))
		}
	})
	return k
}

var caller = &abi.Caller{Cred: abi.NewCred(5, 6, 7), Pid: 42}

func (k *kit) ok(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

func (k *kit) want(err, want error) {
	k.Helper()
	if !errors.Is(err, want) || err == nil {
		k.Errorf("%v, want %v", err, want)
	}
}

func (k *kit) socket(typ int) *file.File {
	k.Helper()
	f, err := k.d.Socket(caller, typ, 0)
	k.ok(err)
	return f
}

func (k *kit) pair(typ int) (a, b *file.File) {
	k.Helper()
	a, b, err := k.d.Socketpair(caller, typ, 0)
	k.ok(err)
	return a, b
}

func (k *kit) bound(typ int, path string) *file.File {
	k.Helper()
	f := k.socket(typ)
	k.ok(Of(f).Bind(k.ctx, caller, abi.SockaddrUnix(path)))
	return f
}

func (k *kit) close(fs ...*file.File) {
	for _, f := range fs {
		f.Release(k.ctx)
	}
}

func (k *kit) send(f *file.File, p string, files ...*file.File) error {
	n, err := Of(f).Send(k.ctx, caller, abi.IovOf([]byte(p)), abi.Sockaddr{}, 0, true, files)
	if err == nil && n != len(p) {
		k.Errorf("sent %d of %d", n, len(p))
	}
	return err
}

func (k *kit) recv(f *file.File, n, flags int) (string, Received, error) {
	buf := make([]byte, n)
	r, err := Of(f).Recv(k.ctx, abi.IovOf(buf), flags, true)
	return string(buf[:min(n, r.N)]), r, err
}

func (k *kit) gets(f *file.File, want string) {
	k.Helper()
	if s, _, err := k.recv(f, 1000, 0); err != nil || s != want {
		k.Errorf("received %q %v, want %q", s, err, want)
	}
}

func poll(f *file.File) abi.PollEvents {
	return f.Ops.Poll(context.Background(), f, abi.POLLIN|abi.POLLOUT)
}

func (k *kit) polls(f *file.File, want abi.PollEvents) {
	k.Helper()
	if ev := poll(f); ev != want {
		k.Errorf("poll: %v, want %v", ev, want)
	}
}

func (k *kit) asleep(f *file.File) {
	k.Helper()
	for Of(f).sel.Waiters() == 0 {
		if k.ctx.Err() != nil {
			k.Fatal("nobody waits")
		}
		runtime.Gosched()
	}
}

func TestStream(t *testing.T) {
	k := newKit(t)
	a, b := k.pair(abi.SOCK_STREAM)
	k.polls(a, abi.POLLOUT)
	k.ok(k.send(a, "hello "))
	k.ok(k.send(a, "world"))
	k.polls(b, abi.POLLIN|abi.POLLOUT)
	if s, _, err := k.recv(b, 8, abi.MSG_PEEK); err != nil || s != "hello wo" {
		t.Errorf("peek: %q %v", s, err)
	}
	k.gets(b, "hello world")
	_, _, err := k.recv(b, 1, 0)
	k.want(err, abi.EAGAIN)
	k.ok(k.send(b, "last"))
	k.ok(Of(b).Shutdown(k.ctx, abi.SHUT_WR))
	k.want(k.send(b, "x"), abi.EPIPE)
	k.gets(a, "last")
	k.gets(a, "")
	k.polls(a, abi.POLLIN|abi.POLLOUT)
	k.ok(k.send(a, "still"))
	k.close(b)
	k.polls(a, abi.POLLIN|abi.POLLOUT|abi.POLLHUP)
	k.want(k.send(a, "x"), abi.EPIPE)
	_, err = Of(a).Name(true)
	k.want(err, abi.ENOTCONN)
	k.close(a)

	a, b = k.pair(abi.SOCK_STREAM)
	k.ok(k.send(a, "dropped"))
	k.ok(Of(b).Shutdown(k.ctx, abi.SHUT_RD))
	k.gets(b, "")
	k.want(k.send(a, "x"), abi.EPIPE)
	k.want(Of(a).Shutdown(k.ctx, 3), abi.EINVAL)
	k.close(a)
	k.gets(b, "")
	k.want(Of(b).Shutdown(k.ctx, abi.SHUT_RD), abi.ENOTCONN)
	k.close(b)

	f := k.socket(abi.SOCK_STREAM)
	k.want(k.send(f, "x"), abi.ENOTCONN)
	_, _, err = k.recv(f, 1, 0)
	k.want(err, abi.ENOTCONN)
	k.polls(f, 0)
	k.close(f)
	for typ, want := range map[int]error{abi.SOCK_RAW: abi.EPROTOTYPE, abi.SOCK_STREAM: abi.EPROTONOSUPPORT} {
		_, err := k.d.Socket(caller, typ, 1)
		k.want(err, want)
		_, _, err = k.d.Socketpair(caller, typ, 1)
		k.want(err, want)
	}
}

// TestStreamBytes sends bytes in pieces of all sizes.
func TestStreamBytes(t *testing.T) {
	k := newKit(t)
	a, b := k.pair(abi.SOCK_STREAM)
	data := make([]byte, 3<<20)
	for i := range data {
		data[i] = byte(i ^ i>>8 ^ i>>16)
	}
	go func() {
		r := rand.New(rand.NewPCG(1, 2))
		for p := data; len(p) > 0; {
			n := min(len(p), 1+r.IntN(150<<10))
			cut := r.IntN(n + 1)
			sent, err := Of(a).Send(k.ctx, caller, abi.Iov{p[:cut], p[cut:n]}, abi.Sockaddr{}, 0, false, nil)
			if err != nil || sent != n {
				t.Error(sent, err)
				break
			}
			p = p[n:]
		}
		k.close(a)
	}()
	r := rand.New(rand.NewPCG(3, 4))
	var got []byte
	buf := make([]byte, 100<<10)
	for {
		n := 2 + r.IntN(len(buf)-2)
		cut := r.IntN(n)
		flags := 0
		if r.IntN(2) == 0 {
			flags = abi.MSG_WAITALL
		}
		res, err := Of(b).Recv(k.ctx, abi.Iov{buf[:cut], buf[cut:n]}, flags, false)
		if err != nil {
			t.Fatal(err)
		}
		if res.N == 0 {
			break
		}
		got = append(got, buf[:res.N]...)
		if flags != 0 && res.N != n && len(got) != len(data) {
			t.Fatalf("MSG_WAITALL: %d of %d", res.N, n)
		}
	}
	if !bytes.Equal(got, data) {
		t.Errorf("%d of %d bytes, not the same", len(got), len(data))
	}
	k.close(b)
}

func TestRecords(t *testing.T) {
	k := newKit(t)
	for _, typ := range []int{abi.SOCK_SEQPACKET, abi.SOCK_DGRAM} {
		a, b := k.pair(typ)
		k.ok(k.send(a, "first"))
		k.ok(k.send(a, ""))
		k.ok(k.send(a, "third"))
		s, r, err := k.recv(b, 3, abi.MSG_PEEK)
		if err != nil || s != "fir" || r.N != 3 || r.Flags&abi.MSG_TRUNC == 0 {
			t.Errorf("%q %+v %v", s, r, err)
		}
		if _, r, _ = k.recv(b, 3, abi.MSG_TRUNC); r.N != 5 {
			t.Errorf("the whole length: %+v", r)
		}
		if _, r, err = k.recv(b, 3, 0); r.N != 0 || r.Flags&abi.MSG_TRUNC != 0 || err != nil {
			t.Errorf("an empty record: %+v %v", r, err)
		}
		k.gets(b, "third")
		_, _, err = k.recv(b, 3, 0)
		k.want(err, abi.EAGAIN)
		k.ok(Of(a).Setopt(abi.KernelCaller, abi.SOL_SOCKET, abi.SO_SNDBUF, int32Opt(10)))
		k.want(k.send(a, "01234567890"), abi.EMSGSIZE)
		k.ok(Of(b).Setopt(abi.KernelCaller, abi.SOL_SOCKET, abi.SO_RCVBUF, int32Opt(15)))
		k.ok(k.send(a, "0123456789"))
		if typ == abi.SOCK_DGRAM {
			k.want(k.send(a, "0123456789"), abi.ENOBUFS)
		} else {
			k.want(k.send(a, "0123456789"), abi.EAGAIN)
			done := make(chan error)
			go func() {
				_, err := Of(a).Send(k.ctx, caller, abi.IovOf(make([]byte, 10)), abi.Sockaddr{}, 0, false, nil)
				done <- err
			}()
			k.asleep(a)
			k.gets(b, "0123456789")
			k.ok(<-done)
		}
		// Not even empty ones without end.
		for i := 0; ; i++ {
			if err = k.send(a, ""); err != nil {
				break
			}
			if i > 10000 {
				t.Fatal("empty records are free")
			}
		}
		k.close(a, b)
	}
}

func TestDgram(t *testing.T) {
	k := newKit(t)
	srv := k.bound(abi.SOCK_DGRAM, "/srv")
	c := k.bound(abi.SOCK_DGRAM, "/client")
	to := abi.SockaddrUnix("/srv")
	k.want(k.send(c, "x"), abi.EDESTADDRREQ)
	_, err := Of(c).Send(k.ctx, caller, abi.IovOf([]byte("to")), to, 0, true, nil)
	k.ok(err)
	if s, r, err := k.recv(srv, 10, 0); err != nil || s != "to" || r.From != abi.SockaddrUnix("/client") {
		t.Errorf("%q %+v %v", s, r, err)
	}
	k.ok(Of(c).Connect(k.ctx, caller, to, false))
	if a, err := Of(c).Name(true); err != nil || a.Path != "/srv" {
		t.Errorf("%v %v", a, err)
	}
	_, err = Of(c).Send(k.ctx, caller, abi.IovOf([]byte("to")), to, 0, true, nil)
	k.want(err, abi.EISCONN)
	k.ok(k.send(c, "connected"))
	k.gets(srv, "connected")
	k.ok(Of(c).Connect(k.ctx, caller, abi.Sockaddr{}, false))
	k.want(k.send(c, "x"), abi.EDESTADDRREQ)
	k.ok(Of(c).Connect(k.ctx, caller, to, false))
	k.close(srv)
	k.polls(c, abi.POLLIN|abi.POLLOUT|abi.POLLERR)
	k.want(k.send(c, "x"), abi.ECONNRESET)
	k.want(k.send(c, "x"), abi.EDESTADDRREQ)
	k.want(Of(c).Connect(k.ctx, caller, to, false), abi.ECONNREFUSED)
	_, err = Of(c).Send(k.ctx, caller, abi.IovOf([]byte("to")), to, 0, true, nil)
	k.want(err, abi.ECONNREFUSED)
	k.want(Of(c).Listen(caller, 1), abi.EOPNOTSUPP)
	_, _, err = Of(c).Accept(k.ctx, caller, true, 0)
	k.want(err, abi.EOPNOTSUPP)
	k.close(c)
}

func TestConnect(t *testing.T) {
	k := newKit(t)
	l := k.bound(abi.SOCK_STREAM, "/l")
	at := abi.SockaddrUnix("/l")
	k.want(Of(l).Bind(k.ctx, caller, abi.SockaddrUnix("/m")), abi.EINVAL)
	c := k.socket(abi.SOCK_STREAM)
	k.want(Of(c).Bind(k.ctx, caller, at), abi.EADDRINUSE)
	k.want(Of(c).Bind(k.ctx, caller, abi.Sockaddr{Family: abi.AF_INET}), abi.EAFNOSUPPORT)
	k.want(Of(c).Listen(caller, 1), abi.EINVAL)
	k.want(Of(c).Connect(k.ctx, caller, at, true), abi.ECONNREFUSED)
	k.want(Of(c).Connect(k.ctx, caller, abi.SockaddrUnix("/none"), true), abi.ENOENT)
	d := k.socket(abi.SOCK_SEQPACKET)
	k.want(Of(d).Connect(k.ctx, caller, at, true), abi.EPROTOTYPE)
	k.close(d)
	_, _, err := Of(l).Accept(k.ctx, caller, true, 0)
	k.want(err, abi.EINVAL)
	k.ok(Of(l).Listen(caller, 1))
	_, _, err = Of(l).Accept(k.ctx, caller, true, 0)
	k.want(err, abi.EAGAIN)
	k.polls(l, 0)
	k.ok(Of(c).Connect(k.ctx, caller, at, true))
	k.want(Of(c).Connect(k.ctx, caller, at, true), abi.EISCONN)
	k.want(Of(l).Connect(k.ctx, caller, at, true), abi.EOPNOTSUPP)
	k.polls(l, abi.POLLIN)
	k.ok(k.send(c, "before accept"))
	c2 := k.socket(abi.SOCK_STREAM)
	k.ok(Of(c2).Connect(k.ctx, caller, at, true))
	c3 := k.socket(abi.SOCK_STREAM)
	k.want(Of(c3).Connect(k.ctx, caller, at, true), abi.ECONNREFUSED) // 3*1/2 + 1
	k.close(c3)
	s, from, err := Of(l).Accept(k.ctx, caller, true, abi.SOCK_NONBLOCK)
	k.ok(err)
	if from != abi.SockaddrUnix("") || !s.Nonblock() {
		t.Errorf("from %v, %#x", from, s.Flags())
	}
	if a, err := Of(c).Name(true); err != nil || a != at {
		t.Errorf("peer: %v %v", a, err)
	}
	if a, err := Of(s).Name(false); err != nil || a != at {
		t.Errorf("own: %v %v", a, err)
	}
	for _, f := range []*file.File{c, s} {
		if b, err := Of(f).Getopt(abi.SOL_LOCAL, abi.LOCAL_PEEREID); err != nil || !bytes.Equal(b, abi.AppendUnpcbid(nil, abi.Unpcbid{Pid: 42, Euid: 5, Egid: 6})) {
			t.Errorf("peer id: %x %v", b, err)
		}
	}
	k.gets(s, "before accept")
	k.close(l) // with c2 in its queue
	k.gets(c2, "")
	k.want(k.send(c2, "x"), abi.EPIPE)
	k.ok(k.send(s, "after close"))
	k.gets(c, "after close")
	k.close(c, c2, s)
}

// TestConnwait: connect waits for accept, and for the listener's close.
func TestConnwait(t *testing.T) {
	k := newKit(t)
	l := k.bound(abi.SOCK_STREAM, "/l")
	k.ok(Of(l).Listen(caller, 5))
	k.ok(Of(l).Setopt(abi.KernelCaller, abi.SOL_LOCAL, abi.LOCAL_CONNWAIT, int32Opt(1)))
	done := make(chan error)
	c := k.socket(abi.SOCK_STREAM)
	go func() { done <- Of(c).Connect(k.ctx, caller, abi.SockaddrUnix("/l"), false) }()
	k.asleep(c)
	k.want(Of(c).Connect(k.ctx, caller, abi.SockaddrUnix("/l"), false), abi.EALREADY)
	s, _, err := Of(l).Accept(k.ctx, caller, false, 0)
	k.ok(err)
	k.ok(<-done)
	c2 := k.socket(abi.SOCK_STREAM)
	k.want(Of(c2).Connect(k.ctx, caller, abi.SockaddrUnix("/l"), true), abi.EINPROGRESS)
	k.close(l)
	if b, err := Of(c2).Getopt(abi.SOL_SOCKET, abi.SO_ERROR); err != nil || !bytes.Equal(b, int32Opt(int(abi.ECONNREFUSED))) {
		t.Errorf("%x %v", b, err)
	}
	k.close(c, c2, s)
}

func TestCreds(t *testing.T) {
	k := newKit(t)
	for typ, times := range map[int]int{abi.SOCK_STREAM: 1, abi.SOCK_SEQPACKET: 1, abi.SOCK_DGRAM: 3} {
		a, b := k.pair(typ)
		k.ok(Of(b).Setopt(abi.KernelCaller, abi.SOL_LOCAL, abi.LOCAL_CREDS, int32Opt(1)))
		got := 0
		for range 3 {
			k.ok(k.send(a, "x"))
			_, r, err := k.recv(b, 1, 0)
			k.ok(err)
			if r.Cred != nil {
				got++
				if r.Cred.Pid != 42 || r.Cred.Euid != 5 || r.Cred.Egid != 6 || len(r.Cred.Groups) != 1 {
					t.Errorf("%+v", r.Cred)
				}
			}
		}
		if got != times {
			t.Errorf("type %d: credentials %d times", typ, got)
		}
		k.close(a, b)
	}
}

func TestTimeout(t *testing.T) {
	k := newKit(t)
	a, b := k.pair(abi.SOCK_STREAM)
	Of(a).SetTimeo(true, time.Millisecond)
	_, err := Of(a).Recv(k.ctx, abi.IovOf(make([]byte, 1)), 0, false)
	k.want(err, abi.EAGAIN)
	Of(a).SetTimeo(false, time.Millisecond)
	n, err := Of(a).Send(k.ctx, caller, abi.IovOf(make([]byte, StreamSpace+1)), abi.Sockaddr{}, 0, false, nil)
	if n != StreamSpace || err != nil {
		t.Errorf("%d %v", n, err)
	}
	ctx, cancel := context.WithCancel(k.ctx)
	done := make(chan error)
	go func() {
		_, err := Of(b).Recv(ctx, abi.IovOf(make([]byte, StreamSpace+1)), abi.MSG_WAITALL, false)
		if err == nil {
			_, err = Of(b).Recv(ctx, abi.IovOf(make([]byte, 1)), 0, false)
		}
		done <- err
	}()
	k.asleep(b)
	cancel()
	k.want(<-done, abi.EINTR)
	k.close(a, b)
}

func BenchmarkStream(b *testing.B) {
	tab := &file.Table{}
	tab.Max.Store(10)
	d := New(Options{Files: tab})
	f, g, _ := d.Socketpair(caller, abi.SOCK_STREAM, 0)
	ctx := context.Background()
	buf := make([]byte, 32<<10)
	b.SetBytes(int64(len(buf)))
	go func() {
		for range b.N {
			f.Ops.Write(ctx, caller, f, buf, file.Cur)
		}
		f.Release(ctx)
	}()
	dst := make([]byte, 32<<10)
	for {
		if n, _ := g.Ops.Read(ctx, caller, g, dst, file.Cur); n == 0 {
			break
		}
	}
	g.Release(ctx)
}
