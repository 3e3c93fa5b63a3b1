package vfs

import (
	"context"
	"errors"
	"math"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Space for files that grow in the page cache, on a file system that keeps
// their contents, has no holes and can say no in advance (a Pager and
// Reserver): a write answers ENOSPC, not the writing back.
//
// While there is plenty, the kernel has pages granted in steps and promises
// parts of them to files that become longer. WritePages takes what it needs for
// a longer file from what is granted; the kernel then gives that back (spent).
// When space is short, or a file becomes very long, the file is made longer at
// once, by Truncate, whose error is exact. What is granted belongs to the mount
// and its journal: it survives a death of the component.

const (
	growStep  = 256     // pages that are granted ahead
	growLeast = 4 << 10 // pages that must be left besides
	growAgain = 64      // growths after which it is looked again whether there is plenty
	growGiant = 30      // files that grow over a multiple of 1<<growGiant bytes ask at once
	growMost  = 1 << 50 // bytes
)

// growth is what a mount has promised to files. Protected by Mount.resMu.
type growth struct {
	unit    int64 // bytes in which files take space; 0: not known yet
	granted int64 // pages
	spent   int64 // bytes of them that files have taken for good
	used    int64 // bytes of them promised to files
	tight   int   // so many growths are not asked in advance
}

// spare is what can be promised, in bytes.
func (g *growth) spare() int64 { return g.granted*pageSize - g.spent - g.used }

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// grows reports whether files of a file system are promised space.
func (b *binding) grows() bool {
	return b.reserver != nil && b.truncater != nil && b.seeker == nil && !b.kpages() && b.paged()
}

// growUnit is in which units files take space.
func (m *Mount) growUnit(ctx context.Context, b *binding) (int64, error) {
	m.resMu.Lock()
	unit := m.res.grown.unit
	m.resMu.Unlock()
	if unit > 0 {
		return unit, nil
	}
	st, err := b.fs.Statvfs(ctx)
	if err != nil {
		return 0, err
	}
	unit = pageSize
	if st.Frsize > 0 && st.Frsize <= 1<<24 {
		unit = int64(st.Frsize)
	}
	m.resMu.Lock()
	m.res.grown.unit = unit
	m.resMu.Unlock()
	return unit, nil
}

// grow makes sure that a file of size bytes can become end bytes long by a write
// at off. It answers how long it can become if that is less (short writes), and
// whether the file system was told already. ENOSPC, EFBIG. Preconditions: v is
// locked exclusively.
func (v *Vnode) grow(ctx context.Context, b *binding, c *abi.Caller, off, size, end int64) (int64, bool, error) {
	unit, err := v.m.growUnit(ctx, b)
	if err != nil {
		return 0, false, err
	}
	d := v.pages()
	d.covered = max(d.covered, roundUp(size, unit))
	if end>>growGiant == size>>growGiant && end < growMost {
		need := roundUp(end, unit) - d.covered
		if need <= 0 {
			return end, false, nil
		}
		ok, err := v.m.promise(ctx, b, need, d.epoch)
		if err != nil {
			return 0, false, err
		}
		if ok {
			d.covered += need
			d.promised += need
			return end, false, nil
		}
	}
	end, err = v.growNow(ctx, b, c, unit, off, size, end)
	return end, err == nil, err
}

// promise promises n bytes, if there is plenty of space.
func (m *Mount) promise(ctx context.Context, b *binding, n int64, epoch uint64) (bool, error) {
	m.resMu.Lock()
	g := &m.res.grown
	switch {
	case m.res.epoch != epoch:
		m.resMu.Unlock()
		return false, nil
	case g.spare() >= n:
		g.used += n
		m.resMu.Unlock()
		return true, nil
	case g.tight > 0:
		g.tight--
		m.resMu.Unlock()
		return false, nil
	}
	m.resMu.Unlock()
	st, err := b.fs.Statvfs(ctx)
	if err != nil {
		return false, err
	}
	want := (n+pageSize-1)/pageSize + growStep
	var got int64
	if free := freePages(&st); free/2 >= want+growLeast {
		got, err = b.reserver.Reserve(ctx, want)
		if err != nil && abi.ErrnoOf(err) != abi.ENOSPC {
			return false, err
		}
		if err != nil || got < 0 || got > want {
			got = 0
		}
	}
	m.resMu.Lock()
	if m.res.epoch != epoch {
		m.resMu.Unlock()
		return false, nil
	}
	g.granted += got
	if g.spare() >= n {
		g.used += n
		m.resMu.Unlock()
		return true, nil
	}
	g.tight = growAgain
	m.resMu.Unlock()
	m.giveBack(ctx, b, true)
	return false, nil
}

// freePages is the free space of a file system.
func freePages(st *abi.Statvfs) int64 {
	if st.Frsize == 0 || st.Bavail > math.MaxInt64/st.Frsize {
		return 0
	}
	return int64(st.Bavail*st.Frsize) / pageSize
}

// growNow has the file system make a file longer at once, if not to end then as
// far as there is space. ENOSPC, EFBIG if that is not behind off.
func (v *Vnode) growNow(ctx context.Context, b *binding, c *abi.Caller, unit, off, size, end int64) (int64, error) {
	d := v.pages()
	if d.promised > 0 {
		if err := v.writePages(ctx, b, c, d); err != nil {
			return 0, err
		}
	}
	try := func(to int64) error {
		v.m.begin()
		defer v.m.end()
		if _, err := b.truncater.Truncate(ctx, v.m.op(c), v.handle(), to); err != nil {
			return err
		}
		d.covered = roundUp(to, unit)
		end = to
		return nil
	}
	err := try(end)
	if errors.Is(err, abi.ENOSPC) && v.m.squeeze(ctx, b, v) {
		err = try(end)
	}
	switch {
	case errors.Is(err, abi.EFBIG):
		if to := end>>growGiant<<growGiant - 1; to > off && to > size {
			err = try(to)
		}
	case errors.Is(err, abi.ENOSPC):
		st, serr := b.fs.Statvfs(ctx)
		if serr != nil {
			return 0, serr
		}
		to := d.covered
		if free := freePages(&st); free < 1<<40 {
			to += int64(st.Bavail * st.Frsize)
		}
		if to > off && to < end {
			err = try(to)
		}
	}
	if err != nil {
		return 0, err
	}
	return end, nil
}

// grew notes that a file's promised space is its own now: the file system has
// made it longer. spent: out of what it had granted.
func (d *fileData) grew(spent bool) {
	if d.promised == 0 {
		return
	}
	m := d.m
	m.resMu.Lock()
	if g := &m.res.grown; m.res.epoch == d.epoch {
		g.used -= d.promised
		if spent {
			g.spent += d.promised
		}
	}
	m.resMu.Unlock()
	d.promised = 0
}

// giveBack gives the file system back what is spent, and what is spare: all of
// it, or if it is much.
func (m *Mount) giveBack(ctx context.Context, b *binding, all bool) {
	m.resMu.Lock()
	g := &m.res.grown
	n := g.spent / pageSize
	if spare := g.spare() / pageSize; g.used == 0 && (all || spare > 2*growStep) {
		n = g.granted
		if !all {
			n -= growStep
		}
	} else if all {
		n += spare
	} else if spare > 2*growStep {
		n += spare - growStep
	}
	n = min(n, g.granted)
	g.granted -= n
	g.spent = max(0, g.spent-n*pageSize)
	m.resMu.Unlock()
	if n <= 0 {
		return
	}
	if _, err := b.reserver.Reserve(ctx, -n); err != nil {
		m.vfs.o.Log.Debug("giving back space", "mount", m.dir, "err", err)
	}
}

// squeeze writes back the files that have promised space, but for one that the
// caller has locked and those that others have, and gives back what is granted.
// It reports whether there was any. Preconditions: the caller may hold vnode
// locks.
func (m *Mount) squeeze(ctx context.Context, b *binding, but *Vnode) bool {
	if !b.grows() {
		return false
	}
	m.resMu.Lock()
	any := m.res.grown.granted > 0
	m.resMu.Unlock()
	if !any {
		return false
	}
	m.vmu.Lock()
	var vs []*Vnode
	for _, v := range m.vnodes {
		if v != but && v.data.Load() != nil && v.tryHold() {
			vs = append(vs, v)
		}
	}
	m.vmu.Unlock()
	for _, v := range vs {
		if v.mu.TryLock() {
			if d := v.data.Load(); d != nil && d.promised > 0 && v.dead.Load() == 0 {
				if err := v.writePages(ctx, b, abi.KernelCaller, d); err != nil {
					m.vfs.o.Log.Warn("writing back pages", "mount", m.dir, "err", err)
				}
			}
			v.mu.Unlock()
		}
		v.put()
	}
	m.giveBack(ctx, b, true)
	return true
}

// resized notes that the file system has given a file a size. Preconditions: v
// is locked exclusively.
func (v *Vnode) resized(ctx context.Context, b *binding, d *fileData, size int64) {
	if !b.grows() {
		return
	}
	had := d.promised > 0
	d.grew(false)
	if unit, err := v.m.growUnit(ctx, b); err == nil {
		d.covered = roundUp(size, unit)
	}
	if had {
		v.m.giveBack(ctx, b, false)
	}
}

// spareSpace corrects what a file system says of its space: what was granted and
// is promised to nobody is free.
func (m *Mount) spareSpace(st *abi.Statvfs) {
	if st.Frsize == 0 {
		return
	}
	m.resMu.Lock()
	spare := uint64(max(m.res.grown.spare(), 0)) / st.Frsize
	m.resMu.Unlock()
	st.Bfree, st.Bavail = min(st.Bfree+spare, st.Blocks), min(st.Bavail+spare, st.Blocks)
}
