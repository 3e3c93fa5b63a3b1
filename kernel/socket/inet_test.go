package socket

import (
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/modproxy"
	"github.com/rumpus-kernel/rumpus/kernel/modproxy/modproxytest"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/dispatch"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/plugins/net/inet"
)

// inetKernel binds the real module in-process to a layer.
type inetKernel struct {
	l *Layer
}

func (k inetKernel) AttachFS(string, vfsops.FSType, vfsops.Caps) error { return abi.EPERM }
func (k inetKernel) AttachChr(string, devops.Chr) (abi.Dev, error)     { return 0, abi.EPERM }
func (k inetKernel) AttachBlk(string, devops.Blk) (abi.Dev, error)     { return 0, abi.EPERM }
func (k inetKernel) BlkChanged(abi.Dev) error                          { return abi.EPERM }
func (k inetKernel) Block(abi.Dev, abi.Dev) (devops.BlockIO, error)    { return nil, abi.EPERM }
func (k inetKernel) Store(abi.Fsid) modapi.Store                       { return modapi.NoStore{} }
func (k inetKernel) AttachDomain(af int, d sockops.Domain) error {
	return k.l.AttachDomain("net", af, d)
}
func (k inetKernel) AttachIf(class string, c sockops.IfClass) error {
	return k.l.AttachIf("net", class, c)
}
func (k inetKernel) Sysctl(modapi.SysctlNode) error       { return nil }
func (k inetKernel) Evcnt(string, string) *modapi.Counter { return new(modapi.Counter) }
func (k inetKernel) Syscall(int, modapi.SyscallFn) error  { return abi.EPERM }
func (k inetKernel) Ready(r sockops.Ready)                { k.l.Ready(r) }
func (k inetKernel) DevReady(devops.Ready)                {}
func (k inetKernel) Granted(string) (*os.File, error)     { return nil, abi.ENOENT }
func (k inetKernel) Log() modapi.Logger                   { return quiet{} }

type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

// inetKit is a layer over the real Internet protocols, bound in-process or
// behind a stream as in a process of its own.
type inetKit struct {
	kit
	stream bool
	m      modapi.Module // as the kernel sees it
	real   modapi.Module
	link   *modproxy.Link
}

// eachInet runs a test over both bindings.
func eachInet(t *testing.T, f func(t *testing.T, k *inetKit)) {
	for _, stream := range []bool{false, true} {
		name := "direct"
		if stream {
			name = "stream"
		}
		t.Run(name, func(t *testing.T) {
			k := &inetKit{stream: stream, kit: kit{t: t, Layer: New(Options{RestartWait: 5 * time.Second})}}
			k.SetAvailable(true)
			k.start(modapi.Fresh)
			t.Cleanup(func() {
				k.kill()
				k.InstanceDown("net")
				k.DetachInstance("net")
			})
			f(t, k)
		})
	}
}

func (k *inetKit) start(r modapi.Reason) {
	k.t.Helper()
	k.real = inet.New()
	k.m = k.real
	if k.stream {
		k.link = modproxytest.Open(k.t, dispatch.New([]modapi.Module{k.real}, dispatch.Options{}), nil)
		k.m = k.link.Modules()[0]
	}
	if err := k.m.Init(context.Background(), inetKernel{k.Layer}, r, nil); err != nil {
		k.t.Fatalf("init: %v", err)
	}
	if err := k.InstanceUp(context.Background(), "net"); err != nil {
		k.t.Fatalf("up: %v", err)
	}
}

// kill ends the component without a word; the layer has yet to be told.
func (k *inetKit) kill() {
	if k.stream {
		k.link.Close()
	} else {
		k.InstanceDown("net") // in-process nothing breaks that could be noticed
	}
	if err := k.real.Fini(context.Background()); err != nil {
		k.t.Errorf("fini: %v", err)
	}
}

func v6(port uint16) abi.Sockaddr {
	return abi.SockaddrFrom(netip.AddrPortFrom(netip.IPv6Loopback(), port))
}

func (k *inetKit) sockAF(af int, typ int) *file.File {
	k.t.Helper()
	f, err := k.Socket(context.Background(), root, af, typ, 0)
	if err != nil {
		k.t.Fatalf("socket: %v", err)
	}
	return f
}

func TestInetTCP(t *testing.T) {
	for _, a := range []abi.Sockaddr{addr(8080), v6(8080)} {
		eachInet(t, func(t *testing.T, k *inetKit) {
			ctx := ctxT(t)
			l := k.sockAF(int(a.Family), abi.SOCK_STREAM)
			defer l.Release(ctx)
			if err := k.Bind(ctx, root, l, a); err != nil {
				t.Fatal(err)
			}
			if err := k.Listen(ctx, root, l, 5); err != nil {
				t.Fatal(err)
			}
			const size = 4 << 20
			data := make([]byte, size)
			for i := range data {
				data[i] = byte(rand.Uint32())
			}
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Add(1)
			go func() {
				defer wg.Done()
				s, from, err := k.Accept(ctx, root, l, 0)
				if err != nil {
					t.Errorf("accept: %v", err)
					return
				}
				defer s.Release(ctx)
				if !from.AddrPort().Addr().IsLoopback() {
					t.Errorf("from %v", from)
				}
				b := make([]byte, 100_000)
				for {
					n, err := s.Ops.Read(ctx, root, s, b, file.Cur)
					if err != nil {
						t.Errorf("server read: %v", err)
					}
					if n == 0 {
						return
					}
					if _, err := s.Ops.Write(ctx, root, s, b[:n], file.Cur); err != nil {
						t.Errorf("server write: %v", err)
						return
					}
				}
			}()
			c := k.sockAF(int(a.Family), abi.SOCK_STREAM)
			defer c.Release(ctx)
			if err := k.Connect(ctx, root, c, a); err != nil {
				t.Fatalf("connect: %v", err)
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				for off := 0; off < size; off += 1 << 20 {
					if n, err := c.Ops.Write(ctx, root, c, data[off:off+1<<20], file.Cur); n != 1<<20 || err != nil {
						t.Errorf("write: %d %v", n, err)
						return
					}
				}
				if err := k.Shutdown(ctx, root, c, abi.SHUT_WR); err != nil {
					t.Errorf("shutdown: %v", err)
				}
			}()
			got := make([]byte, size)
			n, err := k.Recv(ctx, root, c, got, abi.MSG_WAITALL)
			if n != size || err != nil || sha256.Sum256(got) != sha256.Sum256(data) {
				t.Errorf("echo: %d %v", n, err)
			}
			if n, err := k.Recv(ctx, root, c, got, 0); n != 0 || err != nil {
				t.Errorf("end: %d %v", n, err)
			}
		})
	}
}

func TestInetErrors(t *testing.T) { eachInet(t, testInetErrors) }

func testInetErrors(t *testing.T, k *inetKit) {
	ctx := ctxT(t)
	s := k.sockAF(abi.AF_INET, abi.SOCK_STREAM)
	defer s.Release(ctx)
	want(t, "refused", k.Connect(ctx, root, s, addr(1)), abi.ECONNREFUSED)
	if v, err := k.Getsockopt(ctx, root, s, abi.SOL_SOCKET, abi.SO_ERROR); err != nil || v[0] != 0 {
		t.Errorf("SO_ERROR after it was told: %v %v", v, err)
	}
	nb, err := k.Socket(ctx, root, abi.AF_INET, abi.SOCK_STREAM|abi.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer nb.Release(ctx)
	if err := k.Connect(ctx, root, nb, addr(1)); abi.ErrnoOf(err) == abi.EINPROGRESS {
		if ev := pollWait(ctx, nb, abi.POLLOUT); ev&(abi.POLLOUT|abi.POLLERR) == 0 {
			t.Errorf("poll: %v", ev)
		}
		if v, err := k.Getsockopt(ctx, root, nb, abi.SOL_SOCKET, abi.SO_ERROR); err != nil || v[0] != byte(abi.ECONNREFUSED) {
			t.Errorf("SO_ERROR: %v %v", v, err)
		}
	}
	d := k.sockAF(abi.AF_INET, abi.SOCK_DGRAM)
	defer d.Release(ctx)
	_, err = k.Recv(ctx, root, d, make([]byte, 1), abi.MSG_DONTWAIT)
	want(t, "recv", err, abi.EAGAIN)
	_, err = k.Socket(ctx, root, abi.AF_INET, abi.SOCK_STREAM, abi.IPPROTO_UDP)
	if err == nil {
		t.Error("a stream of UDP")
	}
}

// TestInetRestart: with the real protocols, a listener accepts and a datagram
// socket receives in the next process what comes to the same address.
func TestInetRestart(t *testing.T) { eachInet(t, testInetRestart) }

func testInetRestart(t *testing.T, k *inetKit) {
	ctx := ctxT(t)
	l := k.sockAF(abi.AF_INET, abi.SOCK_STREAM)
	defer l.Release(ctx)
	u := k.sockAF(abi.AF_INET6, abi.SOCK_DGRAM)
	defer u.Release(ctx)
	one := []byte{1, 0, 0, 0}
	if err := k.Setsockopt(ctx, root, l, abi.SOL_SOCKET, abi.SO_REUSEADDR, one); err != nil {
		t.Fatal(err)
	}
	for f, a := range map[*file.File]abi.Sockaddr{l: {Family: abi.AF_INET}, u: {Family: abi.AF_INET6}} {
		if err := k.Bind(ctx, root, f, a); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Listen(ctx, root, l, 5); err != nil {
		t.Fatal(err)
	}
	la, err := k.Getsockname(ctx, root, l)
	if err != nil || la.Port == 0 {
		t.Fatalf("name: %v %v", la, err)
	}
	ua, err := k.Getsockname(ctx, root, u)
	if err != nil || ua.Port == 0 {
		t.Fatalf("name: %v %v", ua, err)
	}
	for round := 0; round < 5; round++ {
		var wg sync.WaitGroup
		wg.Add(2)
		accepted := make(chan *file.File, 1)
		go func() {
			defer wg.Done()
			s, _, err := k.Accept(ctx, root, l, 0)
			if err != nil {
				t.Errorf("accept: %v", err)
			}
			accepted <- s
		}()
		go func() {
			defer wg.Done()
			b := make([]byte, 10)
			if n, err := k.Recv(ctx, root, u, b, 0); err != nil || string(b[:n]) != "hello" {
				t.Errorf("recv: %q %v", b[:n], err)
			}
		}()
		k.kill()
		k.InstanceDown("net")
		k.start(modapi.Restart)
		c := k.sockAF(abi.AF_INET, abi.SOCK_STREAM)
		if err := k.Connect(ctx, root, c, addr(la.Port)); err != nil {
			t.Fatalf("connect: %v", err)
		}
		d := k.sockAF(abi.AF_INET6, abi.SOCK_DGRAM)
		if _, err := k.Sendto(ctx, root, d, []byte("hello"), v6(ua.Port), 0); err != nil {
			t.Fatalf("sendto: %v", err)
		}
		wg.Wait()
		for _, f := range []*file.File{c, d, <-accepted} {
			if f != nil {
				f.Release(ctx)
			}
		}
	}
	if v, err := k.Getsockopt(ctx, root, l, abi.SOL_SOCKET, abi.SO_REUSEADDR); err != nil || v[0] == 0 {
		t.Errorf("option after restarts: %v %v", v, err)
	}
}

func TestInetInterfaces(t *testing.T) { eachInet(t, testInetInterfaces) }

func testInetInterfaces(t *testing.T, k *inetKit) {
	ctx := ctxT(t)
	ifs := k.Ifs(ctx)
	if len(ifs) != 1 || ifs[0].Flags&abi.IFF_RUNNING == 0 || ifs[0].Stats.MTU == 0 {
		t.Errorf("lo0: %+v", ifs)
	}
	err := k.IfCreate(ctx, sockops.IfConfig{Name: "lo1", Class: "lo", Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/24")}})
	if err != nil {
		t.Fatal(err)
	}
	a := abi.SockaddrFrom(netip.MustParseAddrPort("10.1.2.3:99"))
	d := k.sockAF(abi.AF_INET, abi.SOCK_DGRAM)
	defer d.Release(ctx)
	if err := k.Bind(ctx, root, d, a); err != nil {
		t.Errorf("bind to the new address: %v", err)
	}
	if _, err := k.Sendto(ctx, root, d, []byte("x"), a, 0); err != nil {
		t.Errorf("send to it: %v", err)
	}
	if n, err := k.Recv(ctx, root, d, make([]byte, 2), 0); n != 1 || err != nil {
		t.Errorf("recv: %d %v", n, err)
	}
	if err := k.IfDestroy(ctx, "lo1"); err != nil {
		t.Fatal(err)
	}
	e := k.sockAF(abi.AF_INET, abi.SOCK_DGRAM)
	defer e.Release(ctx)
	want(t, "bind to an address that is gone", k.Bind(ctx, root, e, a), abi.EADDRNOTAVAIL)
}

// BenchmarkInet measures a stream over lo0: 64 KiB writes, and the round trip
// of one byte.
func BenchmarkInet(b *testing.B) {
	for _, stream := range []bool{false, true} {
		name := "direct"
		if stream {
			name = "stream"
		}
		b.Run(name, func(b *testing.B) {
			l := New(Options{})
			l.SetAvailable(true)
			real := inet.New()
			var m modapi.Module = real
			if stream {
				m = modproxytest.Open(b, dispatch.New([]modapi.Module{real}, dispatch.Options{}), nil).Modules()[0]
			}
			ctx := context.Background()
			if err := m.Init(ctx, inetKernel{l}, modapi.Fresh, nil); err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { real.Fini(ctx) })
			if err := l.InstanceUp(ctx, "net"); err != nil {
				b.Fatal(err)
			}
			ls, err := l.Socket(ctx, root, abi.AF_INET, abi.SOCK_STREAM, 0)
			if err != nil {
				b.Fatal(err)
			}
			l.Bind(ctx, root, ls, addr(80))
			l.Listen(ctx, root, ls, 1)
			pair := func() (c, s *file.File) {
				c, err := l.Socket(ctx, root, abi.AF_INET, abi.SOCK_STREAM, 0)
				if err == nil {
					err = l.Connect(ctx, root, c, addr(80))
				}
				if err == nil {
					s, _, err = l.Accept(ctx, root, ls, 0)
				}
				if err != nil {
					b.Fatal(err)
				}
				return c, s
			}
			b.Run("bulk", func(b *testing.B) {
				c, s := pair()
				done := make(chan struct{})
				go func() {
					defer close(done)
					buf := make([]byte, 256<<10)
					for {
						if n, err := l.Recv(ctx, root, s, buf, 0); n == 0 || err != nil {
							return
						}
					}
				}()
				buf := make([]byte, 64<<10)
				b.SetBytes(int64(len(buf)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := l.Send(ctx, root, c, buf, 0); err != nil {
						b.Fatal(err)
					}
				}
				c.Release(ctx)
				<-done
				s.Release(ctx)
			})
			b.Run("rtt", func(b *testing.B) {
				c, s := pair()
				done := make(chan struct{})
				go func() {
					defer close(done)
					buf := make([]byte, 1)
					for {
						if n, err := l.Recv(ctx, root, s, buf, 0); n == 0 || err != nil {
							return
						}
						l.Send(ctx, root, s, buf, 0)
					}
				}()
				l.Setsockopt(ctx, root, c, abi.IPPROTO_TCP, abi.TCP_NODELAY, []byte{1, 0, 0, 0})
				buf := make([]byte, 1)
				b.ReportAllocs()
				for b.Loop() {
					l.Send(ctx, root, c, buf, 0)
					if _, err := l.Recv(ctx, root, c, buf, 0); err != nil {
						b.Fatal(err)
					}
				}
				c.Release(ctx)
				<-done
				s.Release(ctx)
			})
		})
	}
}
