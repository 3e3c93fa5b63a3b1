package inet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kern is a kernel that keeps what a net module attaches and turns edges into
// waits. A wait that sees no edge within patience is a lost edge.
type kern struct {
	t      testing.TB
	mod    modapi.Module
	dom    map[int]sockops.Domain
	ifc    map[string]sockops.IfClass
	sysctl map[string]modapi.SysctlNode
	next   atomic.Uint64
	edges  atomic.Uint64

	mu      sync.Mutex
	waiters map[abi.SockID]map[chan struct{}]bool
}

const patience = 60 * time.Second

func (k *kern) AttachFS(string, vfsops.FSType, vfsops.Caps) error { return abi.EOPNOTSUPP }
func (k *kern) AttachChr(string, devops.Chr) (abi.Dev, error)     { return 0, abi.EOPNOTSUPP }
func (k *kern) Evcnt(string, string) *modapi.Counter              { return new(modapi.Counter) }
func (k *kern) Syscall(int, modapi.SyscallFn) error               { return abi.EPERM }
func (k *kern) DevReady(devops.Ready)                             {}
func (k *kern) Granted(string) (*os.File, error)                  { return nil, abi.ENOENT }
func (k *kern) Log() modapi.Logger                                { return nil }
func (k *kern) AttachBlk(string, devops.Blk) (abi.Dev, error)     { return 0, abi.EPERM }
func (k *kern) BlkChanged(abi.Dev) error                          { return abi.EPERM }
func (k *kern) Block(abi.Dev, abi.Dev) (devops.BlockIO, error)    { return nil, abi.EPERM }
func (k *kern) Store(abi.Fsid) modapi.Store                       { return modapi.NoStore{} }
func (k *kern) AttachDomain(af int, d sockops.Domain) error       { k.dom[af] = d; return nil }
func (k *kern) AttachIf(class string, c sockops.IfClass) error    { k.ifc[class] = c; return nil }
func (k *kern) Sysctl(n modapi.SysctlNode) error {
	if _, dup := k.sysctl[n.Name]; dup {
		return abi.EEXIST
	}
	k.sysctl[n.Name] = n
	return nil
}

// Ready wakes who waits for the socket. It never waits.
func (k *kern) Ready(r sockops.Ready) {
	k.edges.Add(1)
	k.mu.Lock()
	defer k.mu.Unlock()
	for c := range k.waiters[r.Sock] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// boot makes a module with lo0 up.
func boot(t testing.TB) *kern {
	t.Helper()
	return bootMod(t, New())
}

// bootMod does so with a module that may be bound in any way.
func bootMod(t testing.TB, m modapi.Module) *kern {
	t.Helper()
	k := &kern{
		t: t, mod: m, dom: map[int]sockops.Domain{}, ifc: map[string]sockops.IfClass{},
		sysctl: map[string]modapi.SysctlNode{}, waiters: map[abi.SockID]map[chan struct{}]bool{},
	}
	ctx := context.Background()
	if err := k.mod.Init(ctx, k, modapi.Fresh, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := k.mod.Fini(ctx); err != nil {
			t.Errorf("fini: %v", err)
		}
	})
	if err := k.ifc["lo"].Create(ctx, lo0()); err != nil {
		t.Fatal(err)
	}
	return k
}

func lo0() sockops.IfConfig {
	return sockops.IfConfig{Name: "lo0", Class: "lo", Up: true, Addrs: []netip.Prefix{
		netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128"),
	}}
}

// so is a socket as a process would see it: calls that wait.
type so struct {
	k  *kern
	d  sockops.Domain
	af int
	id abi.SockID
}

func (k *kern) id() abi.SockID { return abi.SockID(k.next.Add(1)) }

func (k *kern) socket(af, typ int) *so {
	k.t.Helper()
	s := &so{k, k.dom[af], af, k.id()}
	if err := s.d.Socket(context.Background(), s.id, typ, 0); err != nil {
		k.t.Fatal(err)
	}
	return s
}

// wait calls try until it answers something other than EAGAIN; between two
// calls it waits for an edge, registered before the call.
func (s *so) wait(try func() error) error {
	c := make(chan struct{}, 1)
	s.k.mu.Lock()
	if s.k.waiters[s.id] == nil {
		s.k.waiters[s.id] = map[chan struct{}]bool{}
	}
	s.k.waiters[s.id][c] = true
	s.k.mu.Unlock()
	defer func() {
		s.k.mu.Lock()
		delete(s.k.waiters[s.id], c)
		s.k.mu.Unlock()
	}()
	t := time.NewTimer(patience)
	defer t.Stop()
	for {
		if err := try(); !errors.Is(err, abi.EAGAIN) {
			return err
		}
		select {
		case <-c:
		case <-t.C:
			ev, err := s.d.Poll(context.Background(), s.id)
			return fmt.Errorf("no edge on socket %d within %v; poll says %v, %v", s.id, patience, ev, err)
		}
	}
}

// waitFor waits until Poll answers one of ev.
func (s *so) waitFor(ev abi.PollEvents) (got abi.PollEvents, err error) {
	err = s.wait(func() error {
		var err error
		got, err = s.d.Poll(context.Background(), s.id)
		if err == nil && got&ev == 0 {
			return abi.EAGAIN
		}
		return err
	})
	return got, err
}

func (s *so) poll() abi.PollEvents {
	s.k.t.Helper()
	ev, err := s.d.Poll(context.Background(), s.id)
	if err != nil {
		s.k.t.Fatal(err)
	}
	return ev
}

func (s *so) bind(a abi.Sockaddr) error { return s.d.Bind(context.Background(), s.id, a) }
func (s *so) listen(n int) error        { return s.d.Listen(context.Background(), s.id, n) }
func (s *so) close() error              { return s.d.Close(context.Background(), s.id) }
func (s *so) shutdown(how int) error    { return s.d.Shutdown(context.Background(), s.id, how) }
func (s *so) start(a abi.Sockaddr) error {
	return s.d.Connect(context.Background(), s.id, a)
}

func (s *so) connect(a abi.Sockaddr) error {
	err := s.start(a)
	if !errors.Is(err, abi.EINPROGRESS) {
		return err
	}
	if _, err := s.waitFor(abi.POLLOUT); err != nil {
		return err
	}
	if e := s.soError(); e != 0 {
		return e
	}
	return nil
}

func (s *so) soError() abi.Errno {
	return abi.Errno(s.opt(abi.SOL_SOCKET, abi.SO_ERROR))
}

func (s *so) opt(level, name int) int {
	s.k.t.Helper()
	b, err := s.d.Getopt(context.Background(), s.id, level, name)
	if err != nil {
		s.k.t.Fatal(err)
	}
	v, err := getInt(b)
	if err != nil {
		s.k.t.Fatal(err)
	}
	return v
}

func (s *so) setopt(level, name, v int) error {
	return s.d.Setopt(context.Background(), s.id, level, name, int32Val(v))
}

func (s *so) accept() (*so, abi.Sockaddr, error) {
	n := &so{s.k, s.d, s.af, s.k.id()}
	var a abi.Sockaddr
	err := s.wait(func() (err error) {
		a, err = s.d.Accept(context.Background(), s.id, n.id)
		return err
	})
	return n, a, err
}

// name is an own or peer address.
func (s *so) name(peer bool) abi.Sockaddr {
	s.k.t.Helper()
	a, err := s.d.Name(context.Background(), s.id, peer)
	if err != nil {
		s.k.t.Fatal(err)
	}
	return a
}

// Write sends all of p, waiting.
func (s *so) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		err := s.wait(func() error {
			n, err := s.d.Send(context.Background(), s.id, sockops.SendReq{}, abi.IovOf(p[done:]))
			done += n
			return err
		})
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// recv receives with flags, waiting.
func (s *so) recv(p []byte, flags int) (res sockops.RecvRes, err error) {
	err = s.wait(func() (err error) {
		res, err = s.d.Recv(context.Background(), s.id, sockops.RecvReq{Flags: flags}, abi.IovOf(p))
		return err
	})
	return res, err
}

// Read is io.Reader's.
func (s *so) Read(p []byte) (int, error) {
	r, err := s.recv(p, 0)
	if err == nil && r.N == 0 && len(p) > 0 {
		return 0, errEOF
	}
	return r.N, err
}

var (
	any4  = abi.SockaddrFrom(netip.MustParseAddrPort("0.0.0.0:0"))
	lo4   = abi.SockaddrFrom(netip.MustParseAddrPort("127.0.0.1:0"))
	lo6   = abi.SockaddrFrom(netip.MustParseAddrPort("[::1]:0"))
	loOf  = map[int]abi.Sockaddr{abi.AF_INET: lo4, abi.AF_INET6: lo6}
	names = map[int]string{abi.AF_INET: "inet", abi.AF_INET6: "inet6"}
)

func port(a abi.Sockaddr, p uint16) abi.Sockaddr { a.Port = p; return a }

// listener listens on the loopback address of a family.
func (k *kern) listener(af int) (*so, abi.Sockaddr) {
	k.t.Helper()
	l := k.socket(af, abi.SOCK_STREAM)
	if err := l.bind(loOf[af]); err != nil {
		k.t.Fatal(err)
	}
	if err := l.listen(8); err != nil {
		k.t.Fatal(err)
	}
	return l, l.name(false)
}

// pair is a connected pair of streams: client and accepted server.
func (k *kern) pair(af int) (c, s *so) {
	k.t.Helper()
	return k.pairBuf(af, 0)
}

// pairBuf is a pair with buffers of a size, set before the connection is made:
// a receive buffer that shrinks later takes back a window that was offered.
func (k *kern) pairBuf(af, size int) (c, s *so) {
	k.t.Helper()
	l := k.socket(af, abi.SOCK_STREAM)
	c = k.socket(af, abi.SOCK_STREAM)
	for _, e := range []*so{l, c} {
		for _, o := range []int{abi.SO_SNDBUF, abi.SO_RCVBUF} {
			if size == 0 {
				continue
			}
			if err := e.setopt(abi.SOL_SOCKET, o, size); err != nil {
				k.t.Fatal(err)
			}
		}
	}
	if err := l.bind(loOf[af]); err != nil {
		k.t.Fatal(err)
	}
	if err := l.listen(8); err != nil {
		k.t.Fatal(err)
	}
	a := l.name(false)
	if err := c.connect(a); err != nil {
		k.t.Fatal(err)
	}
	s, _, err := l.accept()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := l.close(); err != nil {
		k.t.Fatal(err)
	}
	return c, s
}

// wantErr fails unless err is the errno want (0: nil).
func wantErr(t testing.TB, what string, err error, want abi.Errno) {
	t.Helper()
	if abi.ErrnoOf(err) != want {
		t.Errorf("%s: %v, want %s", what, err, want.Name())
	}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

var errEOF = errors.New("end of stream")
