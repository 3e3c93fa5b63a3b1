package bio

import (
	"context"
	"fmt"
	"slices"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// round is a write-out that is to begin: all who want one before it begins
// share it.
type round struct {
	done chan struct{}
	err  error
}

// Sync takes a checkpoint and makes it durable: fsync(2), sync(2) and unmount
// of what is mounted here. Concurrent ones share write-outs. When it fails,
// what was to be written stays in L1, and the next Sync tries again; nothing
// that an earlier one has answered for is touched by that. EINTR, ETIMEDOUT when
// ctx ends first: the write-out goes on.
func (l *Layered) Sync(ctx context.Context) error {
	l.base.s.cnt.syncs.Inc()
	if l.o.Checkpoint != nil {
		if err := l.o.Checkpoint(ctx); err != nil {
			return err
		}
	} else {
		l.mu.RLock()
		ckpt, opseq := l.ckpt, l.opseq
		l.mu.RUnlock()
		l.Checkpoint(ckpt+1, opseq)
	}
	return l.WriteOut(ctx)
}

// WriteOut is Sync of the last checkpoint: it takes none.
func (l *Layered) WriteOut(ctx context.Context) error {
	r, err := l.join(ctx)
	if err != nil {
		return err
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return abi.ErrnoOf(ctx.Err())
	}
}

// join answers a write-out that has not begun yet.
func (l *Layered) join(ctx context.Context) (*round, error) {
	l.roundMu.Lock()
	defer l.roundMu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("layers of device %v are closed: %w", l.base.dev, abi.ENXIO)
	}
	if l.next == nil {
		l.next = &round{done: make(chan struct{})}
	}
	if !l.syncing {
		l.syncing = true
		ctx := context.WithoutCancel(ctx)
		l.wg.Go(func() { l.rounds(ctx) })
	}
	return l.next, nil
}

// rounds writes out as long as somebody wants it.
func (l *Layered) rounds(ctx context.Context) {
	for {
		l.roundMu.Lock()
		r := l.next
		l.next = nil
		if r == nil {
			l.syncing = false
			l.roundMu.Unlock()
			return
		}
		l.roundMu.Unlock()
		r.err = l.writeOut(ctx)
		if r.err != nil {
			r.err = fmt.Errorf("write-out to device %v: %w", l.base.dev, r.err)
			l.base.s.log.Warn("layers", "err", r.err)
		}
		close(r.done)
	}
}

// Close waits for write-outs under way and frees the layers, written out or
// not: who wants them durable has called Sync. The device stays open.
func (l *Layered) Close(ctx context.Context) error {
	l.roundMu.Lock()
	l.closed = true
	l.roundMu.Unlock()
	err := l.Drop(ctx)
	l.wg.Wait() // each request of theirs ends: the device's deadlines bound it
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range l.l1 {
		for _, v := range g.m {
			l.freeLocked(v)
		}
	}
	l.l1, l.l1n = nil, 0
	return err
}

// writeOut makes L1, as it is now, durable on the device.
func (l *Layered) writeOut(ctx context.Context) error {
	l.base.s.cnt.writeouts.Inc()
	l.mu.Lock()
	if !l.o.Journalled {
		for len(l.l1) > 1 { // the older one could not be written out
			l.mergeLocked(l.l1[0], l.l1[1])
			l.l1 = slices.Delete(l.l1, 1, 2)
		}
	}
	l.frozen = len(l.l1)
	groups := l.l1[:l.frozen:l.frozen]
	ckpt := l.ckpt
	direct := l.direct
	l.direct = false
	l.trimming, l.trim1 = l.trim1, nil
	l.mu.Unlock()

	err := l.writeGroups(ctx, groups, direct)

	l.mu.Lock()
	l.frozen = 0
	trims := l.trimming
	if err != nil {
		l.direct = l.direct || direct
		for _, r := range l.trim1 {
			l.trimming.add(r.from, r.to)
		}
		l.trim1, l.trimming = l.trimming, nil
		l.mu.Unlock()
		return err
	}
	l.synced = ckpt
	l.mu.Unlock()
	for _, r := range trims {
		from, to := r.from*l.unit, min(r.to*l.unit, l.base.geom.Size)
		if err := l.base.Discard(ctx, from, to-from); err != nil {
			l.base.s.log.Debug("discard", "device", l.base.dev.String(), "err", err)
			break
		}
	}
	l.mu.Lock()
	l.trimming = nil
	l.mu.Unlock()
	return nil
}

// writeGroups writes the groups, each of which it takes out of L1 as soon as it
// is durable.
func (l *Layered) writeGroups(ctx context.Context, groups []*group, direct bool) error {
	if direct { // before anything refers to it
		if err := l.base.Flush(ctx); err != nil {
			return err
		}
	}
	for _, g := range groups {
		vers := sorted(g)
		if l.o.Redo != nil && !l.o.Journalled {
			l.mu.Lock()
			l.seq++
			seq := l.seq
			l.mu.Unlock()
			if err := l.writeRedo(ctx, seq, vers); err != nil {
				return fmt.Errorf("redo file: %w", err)
			}
		}
		if err := l.base.writeThrough(ctx, l.segments(vers), devops.BMeta); err != nil {
			return err
		}
		if err := l.base.flushDevice(ctx); err != nil {
			return err
		}
		if l.o.Redo != nil && !l.o.Journalled {
			if err := l.o.Redo.Remove(ctx); err != nil {
				return fmt.Errorf("redo file: %w", err)
			}
		}
		l.mu.Lock()
		l.gen++
		for _, v := range vers {
			l.freeLocked(v)
		}
		l.l1n -= len(vers)
		l.l1 = l.l1[1:]
		l.frozen--
		l.mu.Unlock()
	}
	return nil
}

func sorted(g *group) []*version {
	vers := make([]*version, 0, len(g.m))
	for _, v := range g.m {
		vers = append(vers, v)
	}
	slices.SortFunc(vers, func(a, b *version) int { return int(min(max(a.blk-b.blk, -1), 1)) })
	return vers
}

// segments puts adjacent blocks together, as far as one request goes.
func (l *Layered) segments(vers []*version) []segment {
	var segs []segment
	most := int(l.base.maxIO / l.unit)
	for i, v := range vers {
		data := v.data[:l.base.length(v.blk)]
		if i > 0 && vers[i-1].blk+1 == v.blk && len(segs[len(segs)-1].data) < most {
			sg := &segs[len(segs)-1]
			sg.data = append(sg.data, data)
			l.base.s.cnt.coalesced.Inc()
			continue
		}
		segs = append(segs, segment{v.blk * l.unit, abi.Iov{data}})
	}
	return segs
}

// room waits while the layers take too much. L1 can always be written out; L0
// alone must be left by a checkpoint, and may take as much again until there is
// one: ENOSPC then.
func (l *Layered) room(ctx context.Context) error {
	n := l.bytes.Load()
	if n < l.limit/2 {
		return nil
	}
	l.mu.RLock()
	has1 := len(l.l1) > 0
	l.mu.RUnlock()
	switch {
	case n < l.limit:
		if has1 {
			_, _ = l.join(ctx)
		}
		return nil
	case has1:
		l.base.s.cnt.layerWaits.Inc()
		return l.WriteOut(ctx)
	}
	if l.o.Crowded != nil {
		l.o.Crowded()
	}
	if n >= 2*l.limit {
		return fmt.Errorf("%d bytes written to device %v since the last checkpoint: %w", n, l.base.dev, abi.ENOSPC)
	}
	return nil
}
