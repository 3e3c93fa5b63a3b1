package dev

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// maxRank is how many devices may stand on one another.
const maxRank = 8

// stacked is a block device as a component has it (devops.BlockIO).
type stacked struct {
	h     *BlkHandle
	owner string
	user  *blkUnit // what stands on it; nil: nothing of ours
	once  sync.Once
}

var _ devops.BlockIO = (*stacked)(nil)

// Block opens a block device for a module alone (modapi.Kernel.Block): owner
// says whose it is, "instance/module".
func (s *Switch) Block(ctx context.Context, inst, owner string, n, user abi.Dev) (devops.BlockIO, error) {
	d, err := s.findBlk(ctx, n)
	if err != nil {
		return nil, err
	}
	k := &stacked{owner: owner}
	s.mu.Lock()
	base := s.unitLocked(d, n.Minor())
	base.opens++ // for as long as we are here
	err = s.standLocked(inst, k, base, user)
	s.mu.Unlock()
	alone := "" // units of one driver share: partitions a disk
	if k.user != nil {
		alone = fmt.Sprintf("%s/%s", owner, k.user.d.name)
	}
	switch {
	case err != nil:
	case user != abi.NoDev && user.Minor() == devops.ProbeUnit:
		k.h, err = s.openUnit(ctx, d, n.Minor(), abi.O_RDONLY, "")
	default:
		k.h, err = s.openUnit(ctx, d, n.Minor(), abi.O_RDWR|abi.O_EXCL, alone)
		if abi.ErrnoOf(err) == abi.EROFS {
			k.h, err = s.openUnit(ctx, d, n.Minor(), abi.O_RDONLY|abi.O_EXCL, alone)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	base.opens--
	if err != nil {
		s.unstandLocked(k, base)
		s.putUnitLocked(base)
		return nil, fmt.Errorf("disk %v: %w", n, err)
	}
	s.stackeds[k] = struct{}{}
	return k, nil
}

// standLocked lets a unit stand on a device, if it may.
func (s *Switch) standLocked(inst string, k *stacked, base *blkUnit, user abi.Dev) error {
	if user == abi.NoDev {
		if s.hasBlksLocked(inst) && base.standsOn(func(u *blkUnit) bool { return u.d.inst == inst }) {
			return abi.EDEADLK
		}
		if base.rank.Load() >= maxRank {
			return abi.ELOOP
		}
		return nil
	}
	d := s.blks[user.Major()]
	if d == nil || d.inst != inst {
		return fmt.Errorf("%v is no disk of %q: %w", user, inst, abi.EINVAL)
	}
	u := s.unitLocked(d, user.Minor())
	if base.standsOn(func(o *blkUnit) bool { return o == u }) {
		s.putUnitLocked(u)
		return fmt.Errorf("it stands on %v: %w", user, abi.EDEADLK)
	}
	k.user = u
	u.on = append(u.on, base)
	if s.rankLocked() > maxRank {
		return fmt.Errorf("more than %d disks on one another: %w", maxRank, abi.ELOOP)
	}
	return nil
}

func (s *Switch) hasBlksLocked(inst string) bool {
	for _, d := range s.blks {
		if d.inst == inst {
			return true
		}
	}
	return false
}

// unstandLocked undoes standLocked.
func (s *Switch) unstandLocked(k *stacked, base *blkUnit) {
	if k.user == nil {
		return
	}
	if i := slices.Index(k.user.on, base); i >= 0 {
		k.user.on = slices.Delete(k.user.on, i, i+1)
	}
	s.putUnitLocked(k.user)
	k.user = nil
	s.rankLocked()
}

// standsOn reports whether u or something below it is what is asked for.
func (u *blkUnit) standsOn(is func(*blkUnit) bool) bool {
	if is(u) {
		return true
	}
	return slices.ContainsFunc(u.on, func(o *blkUnit) bool { return o.standsOn(is) })
}

// rankLocked works out all ranks, and answers the highest. There are no
// circles: standLocked does not let them come up.
func (s *Switch) rankLocked() int {
	top := 0
	var rank func(u *blkUnit) int
	rank = func(u *blkUnit) int {
		r := 0
		for _, o := range u.on {
			r = max(r, 1+rank(o))
		}
		return r
	}
	for _, d := range s.blks {
		for _, u := range d.units {
			r := rank(u)
			top = max(top, r)
			u.rank.Store(int32(r))
		}
	}
	return top
}

// DropBlocks closes what a module has open, or with owner "instance/" what
// all modules of an instance have: the module has ended, or its process died.
func (s *Switch) DropBlocks(owner string) {
	s.mu.Lock()
	var all []*stacked
	for k := range s.stackeds {
		if k.owner == owner || strings.HasSuffix(owner, "/") && strings.HasPrefix(k.owner, owner) {
			all = append(all, k)
		}
	}
	s.mu.Unlock()
	for _, k := range all {
		k.Close(context.Background())
	}
}

// Geometry of the device.
func (k *stacked) Geometry(ctx context.Context) (devops.Geom, error) { return k.h.Geometry(ctx) }

// Strategy does a buf; it becomes one of its own, with its own identity.
func (k *stacked) Strategy(ctx context.Context, b *devops.Buf) error {
	if k.h.closed.Load() {
		return abi.EBADF
	}
	own := *b
	own.ID = 0
	return k.h.Do(ctx, &own)
}

// Close gives the device back.
func (k *stacked) Close(ctx context.Context) (err error) {
	k.once.Do(func() {
		err = k.h.Close(ctx)
		s := k.h.s
		s.mu.Lock()
		delete(s.stackeds, k)
		s.unstandLocked(k, k.h.u)
		s.mu.Unlock()
	})
	return err
}

// depths bounds how many requests to devices that stand on others are under
// way in one instance. Such a request keeps a worker of the instance's process
// while another request, to what it stands on, may want one of the same
// process: those of higher ranks must leave some for those of lower ones.
type depths struct {
	mu   sync.Mutex
	inst map[string]*depth
}

type depth struct {
	n    [maxRank + 1]int // under way of a rank or a higher one; n[0] is not counted
	wake chan struct{}    // closed and replaced when one has ended and somebody waits
}

// A process serves at least 64 requests at a time (stream.Options.Workers).
// Those of rank 1 and up have 32 of them, those of rank 2 and up 28, ...
func maxDepth(rank int) int { return 36 - 4*rank }

// enter waits for a place.
func (q *depths) enter(ctx context.Context, u *blkUnit) (release func(), err error) {
	rank := int(u.rank.Load())
	if rank == 0 {
		return func() {}, nil
	}
	rank = min(rank, maxRank)
	q.mu.Lock()
	if q.inst == nil {
		q.inst = make(map[string]*depth)
	}
	d := q.inst[u.d.inst]
	if d == nil {
		d = &depth{wake: make(chan struct{})}
		q.inst[u.d.inst] = d
	}
	for {
		full := false
		for r := 1; r <= rank; r++ {
			full = full || d.n[r] >= maxDepth(r)
		}
		if !full {
			break
		}
		ch := d.wake
		q.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return nil, abi.ErrnoOf(ctx.Err())
		}
		q.mu.Lock()
	}
	for r := 1; r <= rank; r++ {
		d.n[r]++
	}
	q.mu.Unlock()
	return func() {
		q.mu.Lock()
		for r := 1; r <= rank; r++ {
			d.n[r]--
		}
		close(d.wake)
		d.wake = make(chan struct{})
		q.mu.Unlock()
	}, nil
}
