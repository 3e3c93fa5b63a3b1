package dispatch

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// Life serves one coded frame of the life family and answers the coded reply.
// The error is for a frame that is none. The kernel's epoch is taken from it.
func (s *Server) Life(ctx context.Context, frame []byte) ([]byte, error) {
	h, args, _, err := wire.ParseFrame(frame)
	if err != nil {
		return nil, err
	}
	if h.Op.Family() != wire.FamLife || h.Op.Oneway() || h.Flags&(wire.FlagReply|wire.FlagOneway) != 0 {
		return nil, fmt.Errorf("%s is no life request: %w", h.Op, wire.ErrMalformed)
	}
	s.mu.Lock()
	if s.epoch == 0 {
		s.epoch = h.Epoch
		if s.conn != nil {
			s.conn.SetEpoch(h.Epoch)
		}
	}
	epoch := s.epoch
	s.mu.Unlock()
	r := wire.Header{Op: h.Op, Flags: wire.FlagReply, ReqID: h.ReqID, Epoch: epoch, Object: h.Object, Class: h.Class}
	if h.Epoch != epoch {
		return nil, fmt.Errorf("%s of epoch %d, not %d: %w", h.Op, h.Epoch, epoch, wire.ErrMalformed)
	}
	a := answer{}
	err = s.serveLife(modapi.WithTicker(ctx, s.notes.tick), &h, args, &a)
	if err == nil && len(a.data) > int(h.ReplyLen) {
		err = abi.E2BIG
	}
	if err != nil {
		r.Errno = int32(abi.ErrnoOf(err))
		return wire.AppendFrame(nil, &r, errText(h.Op, err), nil), nil
	}
	return wire.AppendFrame(nil, &r, a.args, a.data), nil
}

func (s *Server) serveLife(ctx context.Context, h *wire.Header, args []byte, a *answer) error {
	if h.Op == wire.OpInfo {
		s.mu.RLock()
		ring := s.ring != nil
		s.mu.RUnlock()
		var r wire.InfoRes
		for _, m := range s.mods {
			info := m.m.Info()
			info.Caps &^= modapi.CapRing // the process's, whatever the module says
			if ring {
				info.Caps |= modapi.CapRing
			}
			r.Mods = append(r.Mods, info)
		}
		a.data = r.Append(nil)
		return nil
	}
	if h.Object >= uint64(len(s.mods)) {
		return fmt.Errorf("module %d of %d: %w", h.Object, len(s.mods), abi.ENOENT)
	}
	m := s.mods[h.Object]
	m.life.Lock()
	defer m.life.Unlock()
	if h.Op == wire.OpInit {
		var req wire.InitReq
		if err := req.Parse(args); err != nil {
			return abi.EINVAL
		}
		return m.init(ctx, &req)
	}
	if m.getState() != running {
		return abi.ENODEV
	}
	switch h.Op {
	case wire.OpFini:
		if err := m.m.Fini(ctx); err != nil {
			return err
		}
		s.mu.RLock()
		c := s.conn
		s.mu.RUnlock()
		s.notes.flush(c) // the last counts and lines go before the answer
		m.undo()
		return nil
	case wire.OpStat:
		st, ok := m.m.(modapi.Stater)
		if !ok {
			return abi.ENOTTY
		}
		text, err := st.Stat(ctx)
		a.data = []byte(text)
		return err
	case wire.OpAutoUnload:
		au, ok := m.m.(modapi.AutoUnloader)
		if !ok {
			return abi.ENOTTY
		}
		return au.AutoUnload(ctx)
	}
	return abi.ENOSYS
}

// init runs the module's Init, once there is a stream for its upcalls.
func (m *mod) init(ctx context.Context, req *wire.InitReq) error {
	if m.getState() != idle {
		return fmt.Errorf("module %s is initialised: %w", m.m.Info().Name, abi.EEXIST)
	}
	select {
	case <-m.s.ready:
	case <-ctx.Done():
		return fmt.Errorf("no stream from the kernel: %w", ctx.Err())
	}
	m.setState(starting)
	if err := m.m.Init(ctx, &kernel{m: m}, req.Reason, req.Props); err != nil {
		m.undo()
		return err
	}
	m.setState(running)
	return nil
}

func (m *mod) getState() modState {
	m.s.mu.RLock()
	defer m.s.mu.RUnlock()
	return m.state
}

func (m *mod) setState(st modState) {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	m.state = st
}

// undo forgets everything that the module attached, and its objects.
func (m *mod) undo() {
	s := m.s
	s.mu.Lock()
	defer s.mu.Unlock()
	m.state = idle
	drop(s.fstypes, func(v fstype) bool { return v.m == m })
	drop(s.chrs, func(v chr) bool { return v.m == m })
	drop(s.blks, func(v blk) bool { return v.m == m })
	drop(s.domains, func(v domain) bool { return v.m == m })
	drop(s.ifs, func(v ifclass) bool { return v.m == m })
	drop(s.sysctls, func(v sysctl) bool { return v.m == m })
	drop(s.syscalls, func(v syscallFn) bool { return v.m == m })
	drop(s.mounts, func(v *mount) bool { return v.m == m })
	drop(s.socks, func(v domain) bool { return v.m == m })
}

func drop[K comparable, V any](t map[K]V, gone func(V) bool) {
	for k, v := range t {
		if gone(v) {
			delete(t, k)
		}
	}
}
