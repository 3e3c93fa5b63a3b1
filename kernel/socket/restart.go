package socket

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

// InstanceDown says that the process of an instance died. Connections are
// reset, everybody who waits is woken; what can come back waits for
// InstanceUp. Called for an instance that is not up it does nothing more.
func (l *Layer) InstanceDown(inst string) {
	l.mu.Lock()
	in := l.insts[inst]
	if in == nil {
		l.mu.Unlock()
		return
	}
	for _, dm := range l.domains {
		if dm.inst == in {
			dm.live.Store(nil)
			dm.pending = nil
		}
	}
	for _, ic := range l.classes {
		if ic.inst == in {
			ic.live, ic.c = false, nil
		}
	}
	l.mu.Unlock()
	l.killAll(in)
	in.sel.Notify()
}

// killAll resets the connections of an instance and wakes all its waiters.
func (l *Layer) killAll(in *instance) {
	l.socks.Range(func(_, v any) bool {
		s := v.(*Socket)
		if s.dom.inst != in {
			return true
		}
		if s.mortal() {
			s.kill()
		}
		s.edge()
		return true
	})
}

// InstanceUp lets callers in to what an instance attached, after its Init
// succeeded, at boot or after a restart: first it configures interfaces,
// addresses and routes from the kernel's tables, then it makes the sockets
// again that outlived the component, under their ids and with their options.
// The error tells what could not be put back (logged too); the instance is up
// all the same, unless the context ended.
func (l *Layer) InstanceUp(ctx context.Context, inst string) error {
	l.cfgMu.Lock()
	defer l.cfgMu.Unlock()

	l.mu.Lock()
	in := l.insts[inst]
	if in == nil {
		l.mu.Unlock()
		return nil
	}
	in.gen++
	gens := make(map[*domain]*generation)
	for af, dm := range l.domains {
		switch {
		case dm.inst != in:
		case dm.pending != nil:
			dm.pending.n = in.gen
			gens[dm] = dm.pending
		case dm.live.Load() == nil:
			// The new process did not attach it again.
			dm.gone.Store(true)
			delete(l.domains, af)
		}
	}
	l.mu.Unlock()

	errs := l.configureLocked(ctx, in)
	var routers []sockops.Router
	for _, dm := range sortedDomains(gens) {
		if r, ok := gens[dm].d.(sockops.Router); ok {
			routers = append(routers, r)
		}
	}
	errs = append(errs, l.tellRoutersLocked(ctx, routers)...)

	var socks []*Socket
	l.socks.Range(func(_, v any) bool {
		if s := v.(*Socket); s.dom.inst == in {
			socks = append(socks, s)
		}
		return true
	})
	sort.Slice(socks, func(i, j int) bool { return socks[i].id < socks[j].id })
	for _, s := range socks {
		if g := gens[s.dom]; g != nil {
			if err := s.restore(ctx, g); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("instance %s: %w", inst, abi.ErrnoOf(err))
	}

	l.mu.Lock()
	for dm, g := range gens {
		// Not if it died or was detached meanwhile.
		if dm.pending == g && !dm.gone.Load() {
			dm.pending, dm.was = nil, true
			dm.live.Store(g)
		}
	}
	l.mu.Unlock()
	errs = append(errs, l.sweep(ctx, in)...)
	in.sel.Notify()
	for _, err := range errs {
		l.log("not put back", "instance", inst, "error", err)
	}
	return errors.Join(errs...)
}

// sweep takes care of sockets that were made in an old generation while the
// new one came up, and wakes all waiters.
func (l *Layer) sweep(ctx context.Context, in *instance) (errs []error) {
	l.socks.Range(func(_, v any) bool {
		s := v.(*Socket)
		if s.dom.inst != in {
			return true
		}
		if g := s.dom.live.Load(); g != nil && s.gen.Load() < g.n {
			if err := s.restore(ctx, g); err != nil {
				errs = append(errs, err)
			}
		}
		s.edge()
		return true
	})
	return errs
}

func sortedDomains(m map[*domain]*generation) []*domain {
	var r []*domain
	for dm := range m {
		r = append(r, dm)
	}
	sort.Slice(r, func(i, j int) bool { return r[i].af < r[j].af })
	return r
}

// restore makes s again in generation g.
func (s *Socket) restore(ctx context.Context, g *generation) error {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	s.mu.Lock()
	ph, closed := s.phase, s.closed
	local, peer, backlog, shut := s.local, s.peer, s.backlog, s.shut
	sopts := append([]option(nil), s.sopts...)
	s.mu.Unlock()
	if closed || s.dead.Load() || s.gen.Load() == 0 || s.gen.Load() == g.n {
		return nil
	}
	if ph == connected || ph == connecting {
		s.kill()
		return nil
	}
	err := func() error {
		if err := g.d.Socket(ctx, s.id, s.typ, s.proto); err != nil {
			return err
		}
		for _, o := range sopts {
			if err := g.d.Setopt(ctx, s.id, o.level, o.name, o.val); err != nil {
				return fmt.Errorf("option %#x/%#x: %w", o.level, o.name, err)
			}
		}
		if !local.IsZero() {
			if err := g.d.Bind(ctx, s.id, local); err != nil {
				return fmt.Errorf("bind %v: %w", local, err)
			}
		}
		if !peer.IsZero() {
			if err := g.d.Connect(ctx, s.id, peer); err != nil {
				return fmt.Errorf("connect %v: %w", peer, err)
			}
		}
		if ph == listening {
			if err := g.d.Listen(ctx, s.id, backlog); err != nil {
				return fmt.Errorf("listen: %w", err)
			}
		}
		for how := 0; how <= abi.SHUT_RDWR; how++ {
			if shut&(1<<how) != 0 {
				if err := g.d.Shutdown(ctx, s.id, how); err != nil {
					return fmt.Errorf("shutdown: %w", err)
				}
			}
		}
		return nil
	}()
	if err != nil {
		if errors.Is(err, abi.ECONNRESET) && ctx.Err() == nil {
			// The new process died as well: the next one may do better.
			return fmt.Errorf("socket %d: %w", s.id, err)
		}
		s.pending.Store(int32(abi.ENETDOWN))
		s.sawReset.Store(true)
		s.kill()
		return fmt.Errorf("socket %d: %w", s.id, err)
	}
	s.gen.Store(g.n)
	s.l.cnt.restored.Inc()
	return nil
}
