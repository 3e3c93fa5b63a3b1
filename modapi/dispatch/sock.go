package dispatch

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

func (s *Server) serveSock(ctx context.Context, req *stream.Request, a *answer) error {
	q := ask{ctx, req, a}
	id := abi.SockID(req.Header.Object)
	switch req.Header.Op {
	case wire.OpSocket:
		var r wire.SocketReq
		if err := r.Parse(req.Args); err != nil {
			return bad(req, err)
		}
		s.mu.RLock()
		d, ok := s.domains[int(r.AF)]
		s.mu.RUnlock()
		if !ok {
			return abi.EAFNOSUPPORT
		}
		if err := d.d.Socket(ctx, id, int(r.Type), int(r.Proto)); err != nil {
			return err
		}
		s.addSock(id, d)
		return nil
	case wire.OpSetRoutes:
		return s.setRoutes(q)
	case wire.OpIfCreate, wire.OpIfConfigure, wire.OpIfDestroy, wire.OpIfStats:
		return s.serveIf(q)
	}
	s.mu.RLock()
	d, ok := s.socks[id]
	s.mu.RUnlock()
	if !ok {
		return abi.ENODEV
	}
	switch req.Header.Op {
	case wire.OpBind, wire.OpConnect:
		var r wire.AddrMsg
		if err := r.Parse(req.Args); err != nil {
			return bad(req, err)
		}
		if req.Header.Op == wire.OpBind {
			return d.d.Bind(ctx, id, r.Addr)
		}
		return d.d.Connect(ctx, id, r.Addr)
	case wire.OpListen, wire.OpShutdown, wire.OpName:
		return q.sockNum(d.d, id)
	case wire.OpAccept:
		var r wire.AcceptReq
		if err := r.Parse(req.Args); err != nil {
			return bad(req, err)
		}
		from, err := d.d.Accept(ctx, id, r.As)
		if err != nil {
			return err
		}
		s.addSock(r.As, d)
		a.args = (&wire.AddrMsg{Addr: from}).Append(nil)
		return nil
	case wire.OpSend:
		var r wire.SendReq
		if err := r.Parse(req.Args); err != nil {
			return bad(req, err)
		}
		n, err := d.d.Send(ctx, id, sockops.SendReq(r), abi.IovOf(req.Payload))
		a.args = (&wire.NumRes{N: int64(n)}).Append(nil)
		return err
	case wire.OpRecv:
		return q.recv(d.d, id)
	case wire.OpSetopt, wire.OpGetopt:
		var r wire.OptReq
		if err := r.Parse(req.Args); err != nil {
			return bad(req, err)
		}
		if req.Header.Op == wire.OpSetopt {
			return d.d.Setopt(ctx, id, int(r.Level), int(r.Name), append([]byte(nil), req.Payload...))
		}
		p, err := d.d.Getopt(ctx, id, int(r.Level), int(r.Name))
		return q.bytes(p, err)
	case wire.OpSockClose:
		s.mu.Lock()
		delete(s.socks, id)
		s.mu.Unlock()
		return d.d.Close(ctx, id)
	case wire.OpSockPoll:
		ev, err := d.d.Poll(ctx, id)
		a.args = (&wire.NumRes{N: int64(ev)}).Append(nil)
		return err
	}
	return abi.ENOSYS
}

func (s *Server) addSock(id abi.SockID, d domain) {
	s.mu.Lock()
	s.socks[id] = d
	s.mu.Unlock()
}

// sockNum serves what has one number for its argument.
func (q ask) sockNum(d sockops.Domain, id abi.SockID) error {
	var r wire.NumReq
	if err := r.Parse(q.req.Args); err != nil {
		return bad(q.req, err)
	}
	switch q.req.Header.Op {
	case wire.OpListen:
		return d.Listen(q.ctx, id, int(r.N))
	case wire.OpShutdown:
		return d.Shutdown(q.ctx, id, int(r.N))
	}
	addr, err := d.Name(q.ctx, id, r.N == 1)
	q.a.args = (&wire.AddrMsg{Addr: addr}).Append(nil)
	return err
}

func (q ask) recv(d sockops.Domain, id abi.SockID) error {
	var r wire.RecvReq
	if err := r.Parse(q.req.Args); err != nil {
		return bad(q.req, err)
	}
	r.MaxControl = max(0, min(r.MaxControl, wire.MaxControl))
	n := int(q.req.Header.ReplyLen)
	res, err := d.Recv(q.ctx, id, sockops.RecvReq(r), q.a.room(n))
	if err == nil && (res.N < 0 || len(res.Control) > r.MaxControl) {
		err = abi.EIO
	}
	if err != nil {
		return err
	}
	// With MSG_TRUNC a datagram may have been longer than the room for it.
	q.a.n = min(res.N, n)
	q.a.args = (*wire.RecvRes)(&res).Append(nil)
	return nil
}

func (s *Server) setRoutes(q ask) error {
	var af wire.NumReq
	var r wire.RoutesMsg
	if err := af.Parse(q.req.Args); err != nil {
		return bad(q.req, err)
	}
	if err := r.Parse(q.req.Payload); err != nil {
		return bad(q.req, err)
	}
	s.mu.RLock()
	d, ok := s.domains[int(af.N)]
	s.mu.RUnlock()
	if !ok {
		return abi.EAFNOSUPPORT
	}
	if rt, ok := d.d.(sockops.Router); ok {
		return rt.SetRoutes(q.ctx, r.Routes)
	}
	return abi.EOPNOTSUPP
}

func (s *Server) serveIf(q ask) error {
	var c wire.IfConfig
	var n wire.IfName
	var err error
	create := q.req.Header.Op == wire.OpIfCreate || q.req.Header.Op == wire.OpIfConfigure
	if create {
		err = c.Parse(q.req.Args)
		n.Class = c.Class
	} else {
		err = n.Parse(q.req.Args)
	}
	if err != nil {
		return bad(q.req, err)
	}
	s.mu.RLock()
	k, ok := s.ifs[n.Class]
	s.mu.RUnlock()
	if !ok {
		return abi.ENODEV
	}
	switch q.req.Header.Op {
	case wire.OpIfCreate:
		return k.c.Create(q.ctx, sockops.IfConfig(c))
	case wire.OpIfConfigure:
		return k.c.Configure(q.ctx, sockops.IfConfig(c))
	case wire.OpIfDestroy:
		return k.c.Destroy(q.ctx, n.Name)
	}
	st, err := k.c.Stats(q.ctx, n.Name)
	q.a.args = (*wire.IfStats)(&st).Append(nil)
	return err
}
