package dispatch

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

func (s *Server) serveDev(ctx context.Context, req *stream.Request, a *answer) error {
	q := ask{ctx, req, a}
	dev := abi.Dev(req.Header.Object)
	s.mu.RLock()
	k, ok := s.chrs[dev.Major()]
	s.mu.RUnlock()
	if !ok {
		return abi.ENODEV
	}
	unit := dev.Minor()
	switch req.Header.Op {
	case wire.OpDevPoll:
		ev, err := k.d.Poll(ctx, unit)
		a.args = (&wire.NumRes{N: int64(ev)}).Append(nil)
		return err
	case wire.OpDevIoctl:
		var r wire.NumReq
		if err := r.Parse(req.Args); err != nil {
			return bad(req, err)
		}
		p, err := k.d.Ioctl(ctx, unit, uint32(r.N), append([]byte(nil), req.Payload...))
		return q.bytes(p, err)
	}
	var r wire.DevReq
	if err := r.Parse(req.Args); err != nil {
		return bad(req, err)
	}
	switch req.Header.Op {
	case wire.OpDevOpen:
		return k.d.Open(ctx, unit, int(r.Flags))
	case wire.OpDevClose:
		return k.d.Close(ctx, unit, int(r.Flags))
	case wire.OpDevRead:
		n, err := k.d.Read(ctx, unit, r.Off, a.room(int(req.Header.ReplyLen)), int(r.Flags))
		a.n = n
		return q.checkN(n, err)
	case wire.OpDevWrite:
		n, err := k.d.Write(ctx, unit, r.Off, abi.IovOf(req.Payload), int(r.Flags))
		a.args = (&wire.NumRes{N: int64(n)}).Append(nil)
		return err
	}
	return abi.ENOSYS
}

func (s *Server) serveSys(ctx context.Context, req *stream.Request, a *answer) error {
	q := ask{ctx, req, a}
	switch req.Header.Op {
	case wire.OpSysctlGet, wire.OpSysctlSet:
		s.mu.RLock()
		k, ok := s.sysctls[req.Header.Object]
		s.mu.RUnlock()
		switch {
		case !ok:
			return abi.ENODEV
		case req.Header.Op == wire.OpSysctlGet:
			if k.n.Get == nil {
				return nil
			}
			return q.bytes([]byte(k.n.Get()), nil)
		case k.n.Set == nil:
			return abi.EPERM
		}
		return k.n.Set(string(req.Payload))
	case wire.OpModSyscall:
		s.mu.RLock()
		k, ok := s.syscalls[int(req.Header.Object)]
		s.mu.RUnlock()
		if !ok {
			return abi.ENOSYS
		}
		var r wire.ModSyscallReq
		if err := r.Parse(req.Args); err != nil {
			return bad(req, err)
		}
		in := append([]byte(nil), req.Payload...)
		n, out, err := k.fn(ctx, r.Caller, r.A, in, int(req.Header.ReplyLen))
		if err != nil {
			return err
		}
		a.args = (&wire.NumRes{N: int64(n)}).Append(nil)
		return q.bytes(out, nil)
	}
	return abi.ENOSYS
}
