package modtest

import (
	"bytes"
	"context"
	"os"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

// DomainUnderTest is a protocol family for TestDomain.
type DomainUnderTest struct {
	Mods   []modapi.Module
	Grants map[string]*os.File
	Props  map[string]modapi.Props
	AF     int
	// Setup makes Local reachable: interfaces, routes. It may be nil.
	Setup func(t *testing.T, k *Kernel)
	// Local is an address of the family to bind to; the protocol chooses the
	// port (Port 0).
	Local abi.Sockaddr
	// Refused is an address where nobody listens.
	Refused abi.Sockaddr
}

// TestDomain checks the rules of sockops.Domain in every binding, on stream
// and datagram sockets of the family.
func TestDomain(t *testing.T, newDomain func(t *testing.T) DomainUnderTest) {
	for _, r := range []struct {
		name string
		rule func(d *domT)
	}{
		{"types", ruleTypes},
		{"names", ruleNames},
		{"not-connected", ruleNotConnected},
		{"refused", ruleRefused},
		{"stream", ruleStream},
		{"bulk", ruleBulk},
		{"shutdown", ruleShutdown},
		{"dgram", ruleDgram},
		{"options", ruleOptions},
		{"close", ruleClose},
	} {
		t.Run(r.name, func(t *testing.T) {
			eachBinding(t, func(t *testing.T, b Binding) {
				ut := newDomain(t)
				k := load(t, b, ut.Mods, ut.Grants, ut.Props)
				d, ok := k.Domains[ut.AF]
				if !ok {
					t.Fatalf("no protocol family %d was attached", ut.AF)
				}
				if ut.Setup != nil {
					ut.Setup(t, k)
				}
				r.rule(&domT{T: t, Domain: d, ctx: t.Context(), k: k, ut: ut})
			})
		})
	}
}

type domT struct {
	*testing.T
	sockops.Domain
	ctx context.Context
	k   *Kernel
	ut  DomainUnderTest
}

func (d *domT) want(what string, err error, es ...abi.Errno) {
	d.Helper()
	got := abi.ErrnoOf(err)
	for _, e := range es {
		if got == e {
			return
		}
	}
	d.Errorf("%s: %v (%s), want %v", what, err, got.Name(), names(es))
}

func (d *domT) must(what string, err error) {
	d.Helper()
	if err != nil {
		d.Fatalf("%s: %v", what, err)
	}
}

// socket makes one that is closed at the end.
func (d *domT) socket(typ int) abi.SockID {
	d.Helper()
	id := d.k.NewSock()
	d.must("socket", d.Socket(d.ctx, id, typ, 0))
	d.Cleanup(func() { d.Close(context.Background(), id) })
	return id
}

// listener is a bound and listening socket and its address.
func (d *domT) listener() (abi.SockID, abi.Sockaddr) {
	d.Helper()
	ls := d.socket(abi.SOCK_STREAM)
	d.must("bind", d.Bind(d.ctx, ls, d.ut.Local))
	d.must("listen", d.Listen(d.ctx, ls, 5))
	a, err := d.Name(d.ctx, ls, false)
	d.must("name", err)
	return ls, a
}

// retry calls f until it answers something else than EAGAIN, waiting for an
// edge in between: an edge that is lost fails the test.
func (d *domT) retry(what string, id abi.SockID, f func() error) error {
	d.Helper()
	ctx, cancel := context.WithTimeout(d.ctx, patience)
	defer cancel()
	for {
		err := f()
		if abi.ErrnoOf(err) != abi.EAGAIN {
			return err
		}
		select {
		case <-d.k.SockEdges(id):
		case <-ctx.Done():
			ev, _ := d.Poll(d.ctx, id)
			d.Fatalf("%s: no edge came; now ready: %v", what, ev)
		}
	}
}

// await waits until Poll shows one of want.
func (d *domT) await(what string, id abi.SockID, want abi.PollEvents) abi.PollEvents {
	d.Helper()
	var ev abi.PollEvents
	d.must(what, d.retry(what, id, func() error {
		var err error
		if ev, err = d.Poll(d.ctx, id); err == nil && ev&want == 0 {
			return abi.EAGAIN
		}
		return err
	}))
	return ev
}

// connect connects c to a and answers the pending error.
func (d *domT) connect(c abi.SockID, a abi.Sockaddr) error {
	d.Helper()
	err := d.Connect(d.ctx, c, a)
	if abi.ErrnoOf(err) != abi.EINPROGRESS {
		return err
	}
	d.await("connect", c, abi.POLLOUT|abi.POLLERR|abi.POLLHUP)
	v, err := d.Getopt(d.ctx, c, abi.SOL_SOCKET, abi.SO_ERROR)
	d.must("SO_ERROR", err)
	if len(v) != 4 {
		d.Fatalf("SO_ERROR has %d bytes", len(v))
	}
	if v[0] != 0 {
		return abi.Errno(v[0])
	}
	return nil
}

// pair is a connection.
func (d *domT) pair() (c, s abi.SockID) {
	d.Helper()
	ls, a := d.listener()
	c, s = d.socket(abi.SOCK_STREAM), d.k.NewSock()
	d.must("connect", d.connect(c, a))
	d.must("accept", d.retry("accept", ls, func() error {
		_, err := d.Accept(d.ctx, ls, s)
		return err
	}))
	d.Cleanup(func() { d.Close(context.Background(), s) })
	return c, s
}

func (d *domT) send(id abi.SockID, data []byte) {
	d.Helper()
	for len(data) > 0 {
		var n int
		d.must("send", d.retry("send", id, func() (err error) {
			n, err = d.Send(d.ctx, id, sockops.SendReq{}, abi.IovOf(data))
			return err
		}))
		if n <= 0 || n > len(data) {
			d.Fatalf("sent %d of %d bytes", n, len(data))
		}
		data = data[n:]
	}
}

func (d *domT) recv(id abi.SockID, max int, flags int) ([]byte, sockops.RecvRes) {
	d.Helper()
	buf := make([]byte, max)
	var res sockops.RecvRes
	d.must("recv", d.retry("recv", id, func() (err error) {
		res, err = d.Recv(d.ctx, id, sockops.RecvReq{Flags: flags}, abi.Iov{buf[:max/2], buf[max/2:]})
		return err
	}))
	return buf[:min(res.N, max)], res
}

// Unknown types and protocols are refused by number.
func ruleTypes(d *domT) {
	d.want("type 99", d.Socket(d.ctx, d.k.NewSock(), 99, 0), abi.EPROTOTYPE, abi.ESOCKTNOSUPPORT, abi.EPROTONOSUPPORT)
	d.want("protocol 250", d.Socket(d.ctx, d.k.NewSock(), abi.SOCK_STREAM, 250), abi.EPROTONOSUPPORT, abi.EPROTOTYPE)
}

// A name is taken once, by one socket.
func ruleNames(d *domT) {
	ls, a := d.listener()
	if int(a.Family) != d.ut.AF || a.Port == 0 {
		d.Errorf("bound to %v", a)
	}
	d.want("bind again", d.Bind(d.ctx, ls, d.ut.Local), abi.EINVAL)
	other := d.socket(abi.SOCK_STREAM)
	d.want("bind to a taken name", d.Bind(d.ctx, other, a), abi.EADDRINUSE)
	_, err := d.Name(d.ctx, ls, true)
	d.want("peer of a listener", err, abi.ENOTCONN)
	c, s := d.pair()
	cn, err := d.Name(d.ctx, c, false)
	d.must("name", err)
	sp, err := d.Name(d.ctx, s, true)
	d.must("name", err)
	if cn != sp {
		d.Errorf("one end is %v, its peer calls it %v", cn, sp)
	}
	d.want("connect again", d.Connect(d.ctx, c, a), abi.EISCONN)
}

// What needs a peer says that there is none; what would wait says EAGAIN.
func ruleNotConnected(d *domT) {
	id := d.socket(abi.SOCK_STREAM)
	_, err := d.Send(d.ctx, id, sockops.SendReq{}, abi.IovOf([]byte("x")))
	d.want("send", err, abi.ENOTCONN, abi.EPIPE)
	_, err = d.Recv(d.ctx, id, sockops.RecvReq{}, abi.IovOf(make([]byte, 1)))
	d.want("recv", err, abi.ENOTCONN)
	_, err = d.Name(d.ctx, id, true)
	d.want("peer", err, abi.ENOTCONN)
	_, err = d.Accept(d.ctx, id, d.k.NewSock())
	d.want("accept without listen", err, abi.EINVAL)
	ls, _ := d.listener()
	_, err = d.Accept(d.ctx, ls, d.k.NewSock())
	d.want("accept of nobody", err, abi.EAGAIN)
	dg := d.socket(abi.SOCK_DGRAM)
	_, err = d.Send(d.ctx, dg, sockops.SendReq{}, abi.IovOf([]byte("x")))
	d.want("send to nobody", err, abi.EDESTADDRREQ, abi.ENOTCONN)
	d.want("listen on datagrams", d.Listen(d.ctx, dg, 5), abi.EOPNOTSUPP)
}

// Where nobody listens, the connection is refused.
func ruleRefused(d *domT) {
	d.want("connect", d.connect(d.socket(abi.SOCK_STREAM), d.ut.Refused), abi.ECONNREFUSED)
}

// Bytes go both ways; peeking leaves them.
func ruleStream(d *domT) {
	c, s := d.pair()
	_, err := d.Recv(d.ctx, c, sockops.RecvReq{}, abi.IovOf(make([]byte, 1)))
	d.want("recv of nothing", err, abi.EAGAIN)
	d.send(c, []byte("hello"))
	if got, _ := d.recv(s, 100, abi.MSG_PEEK); string(got) != "hello" {
		d.Errorf("peeked %q", got)
	}
	if ev := d.await("poll", s, abi.POLLIN); ev&abi.POLLOUT == 0 {
		d.Errorf("not writable: %v", ev)
	}
	if got, _ := d.recv(s, 2, 0); string(got) != "he" {
		d.Errorf("received %q", got)
	}
	if got, _ := d.recv(s, 100, 0); string(got) != "llo" {
		d.Errorf("received %q", got)
	}
	d.send(s, []byte("back"))
	if got, _ := d.recv(c, 100, 0); string(got) != "back" {
		d.Errorf("received %q", got)
	}
}

// A lot of bytes come through, in order, and no edge is lost on either side.
func ruleBulk(d *domT) {
	c, s := d.pair()
	data := make([]byte, 2<<20)
	for i := range data {
		data[i] = byte(i * 13 >> 5)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		left := data
		ctx, cancel := context.WithTimeout(d.ctx, 4*patience)
		defer cancel()
		for len(left) > 0 {
			n, err := d.Send(ctx, c, sockops.SendReq{}, abi.IovOf(left[:min(len(left), 70000)]))
			if abi.ErrnoOf(err) == abi.EAGAIN {
				select {
				case <-d.k.SockEdges(c):
				case <-ctx.Done():
					d.Error("send: no edge came")
					return
				}
				continue
			}
			if err != nil {
				d.Errorf("send: %v", err)
				return
			}
			left = left[n:]
		}
		if err := d.Shutdown(ctx, c, abi.SHUT_WR); err != nil {
			d.Errorf("shutdown: %v", err)
		}
	}()
	var got []byte
	for {
		p, _ := d.recv(s, 50000, 0)
		if len(p) == 0 {
			break
		}
		got = append(got, p...)
	}
	<-done
	if !bytes.Equal(got, data) {
		d.Errorf("%d bytes received are not the %d sent", len(got), len(data))
	}
}

// A direction that was shut down has an end.
func ruleShutdown(d *domT) {
	c, s := d.pair()
	d.send(c, []byte("last"))
	d.must("shutdown", d.Shutdown(d.ctx, c, abi.SHUT_WR))
	_, err := d.Send(d.ctx, c, sockops.SendReq{}, abi.IovOf([]byte("x")))
	d.want("send after shutdown", err, abi.EPIPE)
	if got, _ := d.recv(s, 100, 0); string(got) != "last" {
		d.Errorf("received %q", got)
	}
	for range 2 {
		if got, _ := d.recv(s, 100, 0); len(got) != 0 {
			d.Errorf("received %q behind the end", got)
		}
	}
	d.await("poll at the end", s, abi.POLLIN)
	d.send(s, []byte("still"))
	if got, _ := d.recv(c, 100, 0); string(got) != "still" {
		d.Errorf("received %q", got)
	}
	d.want("shutdown of a fresh socket", d.Shutdown(d.ctx, d.socket(abi.SOCK_STREAM), abi.SHUT_RDWR), abi.ENOTCONN)
}

// Datagrams keep their limits and their sender.
func ruleDgram(d *domT) {
	a, b := d.socket(abi.SOCK_DGRAM), d.socket(abi.SOCK_DGRAM)
	d.must("bind", d.Bind(d.ctx, a, d.ut.Local))
	d.must("bind", d.Bind(d.ctx, b, d.ut.Local))
	an, err := d.Name(d.ctx, a, false)
	d.must("name", err)
	bn, err := d.Name(d.ctx, b, false)
	d.must("name", err)
	_, err = d.Recv(d.ctx, b, sockops.RecvReq{}, abi.IovOf(make([]byte, 10)))
	d.want("recv of nothing", err, abi.EAGAIN)
	for _, text := range []string{"one", "", "three and more"} {
		n, err := d.Send(d.ctx, a, sockops.SendReq{To: bn}, abi.IovOf([]byte(text)))
		if err != nil || n != len(text) {
			d.Fatalf("send: %d, %v", n, err)
		}
	}
	for _, text := range []string{"one", ""} {
		if got, res := d.recv(b, 100, 0); string(got) != text || res.From != an || res.Flags&abi.MSG_TRUNC != 0 {
			d.Errorf("received %q from %v, flags %#x", got, res.From, res.Flags)
		}
	}
	if got, res := d.recv(b, 5, 0); string(got) != "three" || res.Flags&abi.MSG_TRUNC == 0 {
		d.Errorf("received %q, flags %#x; want \"three\" and MSG_TRUNC", got, res.Flags)
	}
	d.must("connect", d.connect(b, an))
	if _, err := d.Send(d.ctx, b, sockops.SendReq{}, abi.IovOf([]byte("back"))); err != nil {
		d.Fatalf("send when connected: %v", err)
	}
	if got, _ := d.recv(a, 100, 0); string(got) != "back" {
		d.Errorf("received %q", got)
	}
	_, err = d.Send(d.ctx, a, sockops.SendReq{To: bn}, abi.IovOf(make([]byte, 70000)))
	d.want("send of 70000 bytes", err, abi.EMSGSIZE)
}

// Options have NetBSD's numbers and sizes.
func ruleOptions(d *domT) {
	id := d.socket(abi.SOCK_STREAM)
	v, err := d.Getopt(d.ctx, id, abi.SOL_SOCKET, abi.SO_TYPE)
	if err != nil || !bytes.Equal(v, []byte{abi.SOCK_STREAM, 0, 0, 0}) {
		d.Errorf("SO_TYPE: %x, %v", v, err)
	}
	d.must("SO_REUSEADDR", d.Setopt(d.ctx, id, abi.SOL_SOCKET, abi.SO_REUSEADDR, []byte{1, 0, 0, 0}))
	v, err = d.Getopt(d.ctx, id, abi.SOL_SOCKET, abi.SO_REUSEADDR)
	if err != nil || len(v) != 4 || bytes.Equal(v, make([]byte, 4)) {
		d.Errorf("SO_REUSEADDR: %x, %v", v, err)
	}
	_, err = d.Getopt(d.ctx, id, abi.SOL_SOCKET, 0x7abc)
	d.want("unknown option", err, abi.ENOPROTOOPT)
	d.want("set an unknown option", d.Setopt(d.ctx, id, abi.SOL_SOCKET, 0x7abc, []byte{1, 0, 0, 0}), abi.ENOPROTOOPT)
	d.want("set an option to too few bytes", d.Setopt(d.ctx, id, abi.SOL_SOCKET, abi.SO_REUSEADDR, []byte{1}), abi.EINVAL)
}

// When one end is closed the other has an end; the name is free again.
func ruleClose(d *domT) {
	ls, a := d.listener()
	c, s := d.socket(abi.SOCK_STREAM), d.k.NewSock()
	d.must("connect", d.connect(c, a))
	d.must("accept", d.retry("accept", ls, func() error {
		_, err := d.Accept(d.ctx, ls, s)
		return err
	}))
	d.must("close", d.Close(d.ctx, s))
	if got, _ := d.recv(c, 10, 0); len(got) != 0 {
		d.Errorf("received %q from a closed peer", got)
	}
	d.must("close", d.Close(d.ctx, ls))
	d.want("connect to a closed listener", d.connect(d.socket(abi.SOCK_STREAM), a), abi.ECONNREFUSED)
}
