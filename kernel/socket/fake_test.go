package socket

import (
	"context"
	"encoding/binary"
	"net/netip"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

// fakeNet is one life of a net component: a domain whose sockets reach each
// other, an interface class and a router. Small buffers make waiting common.
type fakeNet struct {
	ready func(sockops.Ready)
	size  int // bytes a stream direction holds

	mu      sync.Mutex
	died    bool
	socks   map[abi.SockID]*fakeSock
	bound   map[uint16]*fakeSock // streams listen, datagrams are bound
	port    uint16
	ifs     map[string]sockops.IfConfig
	routes  []sockops.Route
	history []string
	opts    map[abi.SockID]map[[2]int][]byte
	slow    chan struct{} // Connect stays in progress until closed
}

type fakeSock struct {
	id, peer         abi.SockID
	typ              int
	local            abi.Sockaddr
	to               abi.Sockaddr
	in               []byte
	dgrams           []fakeDgram
	eof, wshut       bool
	err              abi.Errno
	listening        bool
	backlog          []*fakeSock
	connected, going bool
}

type fakeDgram struct {
	b    []byte
	from abi.Sockaddr
}

func newFake(ready func(sockops.Ready), size int) *fakeNet {
	return &fakeNet{
		ready: ready, size: size, port: 40000,
		socks: map[abi.SockID]*fakeSock{}, bound: map[uint16]*fakeSock{},
		ifs: map[string]sockops.IfConfig{}, opts: map[abi.SockID]map[[2]int][]byte{},
	}
}

// die makes every call answer what a broken link does.
func (n *fakeNet) die() {
	n.mu.Lock()
	n.died = true
	n.mu.Unlock()
}

func (n *fakeNet) note(s string) { n.history = append(n.history, s) }

// get locks n; the caller unlocks it if there is no error.
func (n *fakeNet) get(id abi.SockID) (*fakeSock, error) {
	n.mu.Lock()
	if n.died {
		n.mu.Unlock()
		return nil, abi.ECONNRESET
	}
	s := n.socks[id]
	if s == nil {
		n.mu.Unlock()
		return nil, abi.EBADF
	}
	return s, nil
}

func (n *fakeNet) edge(id abi.SockID, ev abi.PollEvents) {
	if id != 0 {
		n.ready(sockops.Ready{Sock: id, Events: ev})
	}
}

func (n *fakeNet) Socket(_ context.Context, id abi.SockID, typ, proto int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.died:
		return abi.ECONNRESET
	case typ != abi.SOCK_STREAM && typ != abi.SOCK_DGRAM:
		return abi.EPROTOTYPE
	case n.socks[id] != nil:
		return abi.EEXIST
	}
	n.socks[id] = &fakeSock{id: id, typ: typ}
	n.note("socket")
	return nil
}

func (n *fakeNet) bindLocked(s *fakeSock, a abi.Sockaddr) error {
	if s.local.Port != 0 {
		return abi.EINVAL
	}
	if a.Port == 0 {
		n.port++
		a.Port = n.port
	}
	if n.bound[a.Port] != nil {
		return abi.EADDRINUSE
	}
	a.Family = abi.AF_INET
	if !a.Addr.IsValid() {
		a.Addr = netip.MustParseAddr("127.0.0.1")
	}
	s.local = a
	n.bound[a.Port] = s
	return nil
}

func (n *fakeNet) Bind(_ context.Context, id abi.SockID, a abi.Sockaddr) error {
	s, err := n.get(id)
	if err != nil {
		return err
	}
	defer n.mu.Unlock()
	n.note("bind")
	return n.bindLocked(s, a)
}

func (n *fakeNet) Connect(_ context.Context, id abi.SockID, a abi.Sockaddr) error {
	s, err := n.get(id)
	if err != nil {
		return err
	}
	if s.typ == abi.SOCK_DGRAM {
		defer n.mu.Unlock()
		if s.local.Port == 0 {
			n.bindLocked(s, abi.Sockaddr{})
		}
		s.to = a
		return nil
	}
	defer n.mu.Unlock()
	if s.connected {
		return abi.EISCONN
	}
	if s.going {
		return abi.EALREADY
	}
	s.going = true
	n.note("connect")
	slow := n.slow
	go func() {
		if slow != nil {
			<-slow
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.died {
			return
		}
		s.going = false
		l := n.bound[a.Port]
		if l == nil || !l.listening {
			s.err = abi.ECONNREFUSED
			n.edge(id, abi.POLLERR)
			return
		}
		n.port++
		s.local = abi.Sockaddr{Family: abi.AF_INET, Addr: netip.MustParseAddr("127.0.0.1"), Port: n.port}
		s.to = l.local
		s.connected = true
		srv := &fakeSock{typ: s.typ, peer: id, connected: true, local: l.local, to: s.local}
		l.backlog = append(l.backlog, srv)
		n.edge(id, abi.POLLOUT)
		n.edge(l.id, abi.POLLIN)
	}()
	return abi.EINPROGRESS
}

func (n *fakeNet) Listen(_ context.Context, id abi.SockID, backlog int) error {
	s, err := n.get(id)
	if err != nil {
		return err
	}
	defer n.mu.Unlock()
	if s.local.Port == 0 {
		n.bindLocked(s, abi.Sockaddr{})
	}
	s.listening = true
	n.note("listen")
	return nil
}

func (n *fakeNet) Accept(_ context.Context, ls, as abi.SockID) (abi.Sockaddr, error) {
	s, err := n.get(ls)
	if err != nil {
		return abi.Sockaddr{}, err
	}
	defer n.mu.Unlock()
	if len(s.backlog) == 0 {
		return abi.Sockaddr{}, abi.EAGAIN
	}
	c := s.backlog[0]
	s.backlog = s.backlog[1:]
	c.id = as
	n.socks[as] = c
	if p := n.socks[c.peer]; p != nil {
		p.peer = as
		n.edge(p.id, abi.POLLOUT)
	}
	return c.to, nil
}

func (n *fakeNet) Send(_ context.Context, id abi.SockID, req sockops.SendReq, src abi.Iov) (int, error) {
	s, err := n.get(id)
	if err != nil {
		return 0, err
	}
	defer n.mu.Unlock()
	if s.typ == abi.SOCK_DGRAM {
		to := s.to
		if req.To.Family != 0 {
			to = req.To
		}
		if to.Port == 0 {
			return 0, abi.EDESTADDRREQ
		}
		if s.local.Port == 0 {
			n.bindLocked(s, abi.Sockaddr{})
		}
		b := make([]byte, src.Len())
		src.CopyOut(b)
		if d := n.bound[to.Port]; d != nil && d.typ == s.typ {
			d.dgrams = append(d.dgrams, fakeDgram{b, s.local})
			n.edge(d.id, abi.POLLIN)
		}
		return len(b), nil
	}
	if !s.connected {
		return 0, abi.ENOTCONN
	}
	p := n.socks[s.peer]
	if s.wshut {
		return 0, abi.EPIPE
	}
	if p == nil {
		if s.peer == 0 {
			return 0, abi.EAGAIN // not accepted yet
		}
		return 0, abi.EPIPE
	}
	room := min(n.size-len(p.in), src.Len())
	if room <= 0 && src.Len() > 0 {
		return 0, abi.EAGAIN
	}
	b := make([]byte, room)
	src.CopyOut(b)
	p.in = append(p.in, b...)
	n.edge(p.id, abi.POLLIN)
	return room, nil
}

func (n *fakeNet) Recv(_ context.Context, id abi.SockID, req sockops.RecvReq, dst abi.Iov) (sockops.RecvRes, error) {
	s, err := n.get(id)
	if err != nil {
		return sockops.RecvRes{}, err
	}
	defer n.mu.Unlock()
	if s.typ == abi.SOCK_DGRAM {
		if len(s.dgrams) == 0 {
			return sockops.RecvRes{}, abi.EAGAIN
		}
		d := s.dgrams[0]
		r := sockops.RecvRes{N: dst.CopyIn(d.b), From: d.from}
		if r.N < len(d.b) {
			r.Flags |= abi.MSG_TRUNC
		}
		if req.Flags&abi.MSG_PEEK == 0 {
			s.dgrams = s.dgrams[1:]
		}
		return r, nil
	}
	switch {
	case !s.connected:
		return sockops.RecvRes{}, abi.ENOTCONN
	case len(s.in) == 0 && s.eof:
		return sockops.RecvRes{}, nil
	case len(s.in) == 0:
		return sockops.RecvRes{}, abi.EAGAIN
	}
	k := dst.CopyIn(s.in)
	if req.Flags&abi.MSG_PEEK == 0 {
		s.in = append([]byte(nil), s.in[k:]...)
		n.edge(s.peer, abi.POLLOUT)
	}
	return sockops.RecvRes{N: k, From: s.to}, nil
}

func (n *fakeNet) Shutdown(_ context.Context, id abi.SockID, how int) error {
	s, err := n.get(id)
	if err != nil {
		return err
	}
	defer n.mu.Unlock()
	if !s.connected {
		return abi.ENOTCONN
	}
	if how != abi.SHUT_RD {
		s.wshut = true
		if p := n.socks[s.peer]; p != nil {
			p.eof = true
			n.edge(p.id, abi.POLLIN)
		}
	}
	if how != abi.SHUT_WR {
		s.eof = true
		n.edge(id, abi.POLLIN)
	}
	return nil
}

func (n *fakeNet) Setopt(_ context.Context, id abi.SockID, level, name int, val []byte) error {
	_, err := n.get(id)
	if err != nil {
		return err
	}
	defer n.mu.Unlock()
	if name == 0x7777 {
		return abi.ENOPROTOOPT
	}
	if n.opts[id] == nil {
		n.opts[id] = map[[2]int][]byte{}
	}
	n.opts[id][[2]int{level, name}] = val
	n.note("setopt")
	return nil
}

func (n *fakeNet) Getopt(_ context.Context, id abi.SockID, level, name int) ([]byte, error) {
	s, err := n.get(id)
	if err != nil {
		return nil, err
	}
	defer n.mu.Unlock()
	if level == abi.SOL_SOCKET && name == abi.SO_ERROR {
		e := s.err
		s.err = 0
		return binary.LittleEndian.AppendUint32(nil, uint32(e)), nil
	}
	if v, ok := n.opts[id][[2]int{level, name}]; ok {
		return v, nil
	}
	return nil, abi.ENOPROTOOPT
}

func (n *fakeNet) Name(_ context.Context, id abi.SockID, peer bool) (abi.Sockaddr, error) {
	s, err := n.get(id)
	if err != nil {
		return abi.Sockaddr{}, err
	}
	defer n.mu.Unlock()
	if peer {
		if s.to.Port == 0 {
			return abi.Sockaddr{}, abi.ENOTCONN
		}
		return s.to, nil
	}
	return s.local, nil
}

func (n *fakeNet) Close(_ context.Context, id abi.SockID) error {
	s, err := n.get(id)
	if err != nil {
		return err
	}
	defer n.mu.Unlock()
	delete(n.socks, id)
	if n.bound[s.local.Port] == s {
		delete(n.bound, s.local.Port)
	}
	if p := n.socks[s.peer]; p != nil {
		p.eof = true
		n.edge(p.id, abi.POLLIN|abi.POLLHUP)
	}
	return nil
}

func (n *fakeNet) Poll(_ context.Context, id abi.SockID) (abi.PollEvents, error) {
	s, err := n.get(id)
	if err != nil {
		return 0, err
	}
	defer n.mu.Unlock()
	var ev abi.PollEvents
	if len(s.in) > 0 || len(s.dgrams) > 0 || s.eof || len(s.backlog) > 0 {
		ev |= abi.POLLIN | abi.POLLRDNORM
	}
	if s.typ == abi.SOCK_DGRAM {
		return ev | abi.POLLOUT, nil
	}
	if s.err != 0 {
		ev |= abi.POLLERR
	}
	if p := n.socks[s.peer]; s.connected && (p == nil || len(p.in) < n.size) {
		ev |= abi.POLLOUT
	}
	return ev, nil
}

func (n *fakeNet) SetRoutes(_ context.Context, r []sockops.Route) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.died {
		return abi.ECONNRESET
	}
	n.routes = r
	n.note("routes")
	return nil
}

// fakeIf is the interface class of a fakeNet.
type fakeIf struct{ n *fakeNet }

func (f fakeIf) Create(_ context.Context, c sockops.IfConfig) error {
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	if _, ok := f.n.ifs[c.Name]; ok {
		return abi.EEXIST
	}
	if c.Props["fail"] != "" {
		return abi.EIO
	}
	f.n.ifs[c.Name] = c
	f.n.note("if " + c.Name)
	return nil
}

func (f fakeIf) Configure(_ context.Context, c sockops.IfConfig) error {
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	if c.MTU > 65536 {
		return abi.EINVAL
	}
	f.n.ifs[c.Name] = c
	return nil
}

func (f fakeIf) Destroy(_ context.Context, name string) error {
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	delete(f.n.ifs, name)
	return nil
}

func (f fakeIf) Stats(_ context.Context, name string) (sockops.IfStats, error) {
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	if _, ok := f.n.ifs[name]; !ok {
		return sockops.IfStats{}, abi.ENXIO
	}
	return sockops.IfStats{MTU: 33184, InPackets: 7}, nil
}

var (
	_ sockops.Domain  = (*fakeNet)(nil)
	_ sockops.Router  = (*fakeNet)(nil)
	_ sockops.IfClass = fakeIf{}
)
