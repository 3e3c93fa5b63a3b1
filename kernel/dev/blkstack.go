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
	if k.user != nil {
		k.h.queue = nil // its requests are parts of others
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

// Rest lets a unit of the kernel's own stand on whatever disks the modules of an
// instance have as no disk of theirs: file systems, on one of which the unit's
// file lies (vnd). release undoes it. EDEADLK: one of those stands on the unit;
// ELOOP: more than 8 on one another.
func (s *Switch) Rest(user abi.Dev, inst string) (release func(), err error) {
	if inst == "" {
		return func() {}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.blks[user.Major()]
	if d == nil {
		return nil, fmt.Errorf("%v is no disk: %w", user, abi.EINVAL)
	}
	u := s.unitLocked(d, user.Minor())
	release = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		u.on = nil
		s.putUnitLocked(u)
		s.rankLocked()
	}
	for k := range s.stackeds {
		if k.user != nil || !strings.HasPrefix(k.owner, inst+"/") {
			continue
		}
		if k.h.u.standsOn(func(o *blkUnit) bool { return o == u }) {
			err = fmt.Errorf("%v stands on %v: %w", k.h.u.dev(), user, abi.EDEADLK)
			break
		}
		u.on = append(u.on, k.h.u)
	}
	if err == nil && s.rankLocked() > maxRank {
		err = fmt.Errorf("more than %d disks on one another: %w", maxRank, abi.ELOOP)
	}
	if err != nil {
		u.on = nil
		s.putUnitLocked(u)
		s.rankLocked()
		return nil, err
	}
	return release, nil
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

// depths bounds how many requests are under way in the disks of one instance. A
// request to a disk that stands on others of the same process keeps a worker of
// it while the requests that it makes itself want more: those are let in
// always, so that nothing waits in a circle, whatever ranks there are and
// however they change. As at most maxRank are below one, 96 become at most 864,
// and a process serves 1024 (see packages dispatch and modproxy).
type depths struct {
	mu   sync.Mutex
	inst map[string]chan struct{} // an element for each request under way; protected by mu
}

const maxDepth = 96

// of is the queue of an instance.
func (q *depths) of(inst string) chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.inst[inst]
	if c == nil {
		if q.inst == nil {
			q.inst = make(map[string]chan struct{})
		}
		c = make(chan struct{}, maxDepth)
		q.inst[inst] = c
	}
	return c
}
