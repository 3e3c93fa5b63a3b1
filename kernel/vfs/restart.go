package vfs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// InstanceDown says that the process of an instance died. Its types are gone
// until it attaches them again; calls of its mounts wait for Remount, for
// Options.RestartWait from now on, and then answer EIO.
//
// The sequence after a death: InstanceDown, AttachFS by the new process,
// Remount, InstanceUp.
func (fs *VFS) InstanceDown(instance string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, t := range fs.types {
		if t.instance == instance && !slices.Contains(fs.gone[instance], t.name) {
			fs.gone[instance] = append(fs.gone[instance], t.name)
		}
	}
	fs.dropTypesLocked(instance)
	fs.deaths[instance]++
	fs.instanceLocked(instance, true)
	until := time.Now().Add(fs.o.RestartWait)
	for _, m := range fs.mounts {
		switch {
		case m.instance != instance:
		case m.j != nil:
			m.j.Down()
		default:
			m.setBinding(nil, until)
		}
	}
}

// deathsOf tells the process generations of an instance apart.
func (fs *VFS) deathsOf(instance string) int {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	return fs.deaths[instance]
}

// InstanceUp says that Remount has done what can be done: mounts that are not
// back answer EIO from now on without waiting, until another Remount.
func (fs *VFS) InstanceUp(instance string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	delete(fs.gone, instance)
	fs.instanceLocked(instance, false)
	for _, m := range fs.mounts {
		switch {
		case m.instance != instance:
		case m.j != nil:
			m.j.Fail() // unless it is back, or died again
		case m.b.Load() == nil:
			m.setBinding(nil, time.Time{})
		}
	}
}

// Remount mounts every mount of an instance again, in order, with the same
// ids, options and places. Those with a journal first: they are as they were,
// and nobody notices. What other file systems held in memory is gone: vnodes
// other than the roots answer ESTALE. Directories that mounts are on are made
// again. It tries all and answers the errors joined.
func (fs *VFS) Remount(ctx context.Context, instance string) error {
	var errs []error
	if err := fs.recoverAll(ctx, instance); err != nil {
		errs = append(errs, err)
	}
	// Who has the lock may have waited for what is back now.
	fs.opMu.Lock()
	defer fs.opMu.Unlock()
	ctx = noWait(ctx)
	for _, m := range fs.mounts {
		if m.instance != instance || m.b.Load() != nil {
			continue
		}
		fs.mu.RLock()
		t := fs.typeLocked(instance, m.typ, true)
		fs.mu.RUnlock()
		if t == nil {
			errs = append(errs, fmt.Errorf("remount %s: file-system type %q: %w", m.dir, m.typ, abi.ENODEV))
			continue
		}
		if err := fs.remountLocked(ctx, m, t); err != nil {
			errs = append(errs, fmt.Errorf("remount %s on %s: %w", m.typ, m.dir, err))
		}
	}
	return errors.Join(errs...)
}

// covered is a mount whose place has to be found again.
type covered struct {
	m     *Mount
	old   *Vnode
	names []string
	attrs []abi.Vattr // of the directories on the way
}

func (fs *VFS) remountLocked(ctx context.Context, m *Mount, t *fsType) error {
	fs.cnt.restarts.Inc()
	var cov []covered
	for _, c := range fs.mounts {
		if on := c.on.Load(); on != nil && on.m == m && on != m.root {
			cov = append(cov, m.place(c, on))
		}
	}
	deaths := fs.deathsOf(m.instance)
	b, root, err := m.start(ctx, t, abi.KernelCaller)
	if err != nil {
		return err
	}
	fs.mu.Lock()
	if fs.deaths[m.instance] != deaths {
		fs.mu.Unlock()
		return fmt.Errorf("it died again: %w", abi.EIO)
	}
	free := m.forgetAll(b, &root)
	fs.mu.Unlock()
	for _, d := range free {
		d.free()
	}
	// Nobody else reaches the new file system yet, so no locks are needed,
	// and those who wait for it may hold some.
	for _, c := range cov {
		if err := fs.replace(ctx, m, b, c); err != nil {
			fs.o.Log.Error("mount point is lost", "mount", c.m.dir, "err", err)
		}
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	m.next.Store(nil)
	if fs.deaths[m.instance] != deaths {
		return fmt.Errorf("it died again: %w", abi.EIO)
	}
	m.setBinding(b, time.Time{})
	return nil
}

// place notes the way from m's root to a covered directory.
func (m *Mount) place(c *Mount, on *Vnode) covered {
	r := covered{m: c, old: on}
	m.treeMu.RLock()
	defer m.treeMu.RUnlock()
	for v := on; v != m.root && v.link != nil; v = v.link.dir {
		r.names = append([]string{v.link.name}, r.names...)
		v.amu.Lock()
		r.attrs = append([]abi.Vattr{v.va}, r.attrs...)
		v.amu.Unlock()
	}
	return r
}

// forgetAll makes every vnode of m but the root stale, gives the root its new
// handle, and answers the contents that nobody has open, to be freed.
func (m *Mount) forgetAll(b *binding, root *vfsops.Entry) (free []*fileData) {
	m.vmu.Lock()
	m.next.Store(b)
	m.caps.Store(uint64(b.caps))
	used := map[*fileData]bool{}
	var idle []*Vnode
	for k, v := range m.vnodes {
		if v == m.root {
			continue
		}
		v.kill(abi.ESTALE)
		delete(m.vnodes, k)
		if d := v.data.Load(); d != nil {
			used[d] = true
		}
		idle = append(idle, v)
	}
	for k, d := range m.kdata {
		delete(m.kdata, k)
		if !used[d] {
			free = append(free, d)
		}
	}
	delete(m.vnodes, m.root.key())
	h := root.Handle
	m.root.h.Store(&h)
	m.root.id.Store(m.vfs.nextID.Add(1))
	m.root.amu.Lock()
	m.root.va, m.root.dirty = root.Vattr, 0
	m.root.setValidLocked(m.sole())
	m.vfs.lists.drop(m.root)
	m.root.amu.Unlock()
	m.vnodes[m.root.key()] = m.root
	m.vmu.Unlock()
	m.resMu.Lock()
	m.res = reservation{epoch: m.res.epoch + 1}
	m.resMu.Unlock()
	m.forgetMu.Lock()
	m.forget, m.unpins = nil, nil
	m.forgetMu.Unlock()
	for _, v := range idle {
		m.reclaim(v) // does nothing if it is in use: its last put will
	}
	return free
}

// replace finds or makes the directory of a covered mount in the new file
// system, and puts the mount there.
func (fs *VFS) replace(ctx context.Context, m *Mount, b *binding, c covered) error {
	if len(c.names) == 0 {
		return abi.ENOENT
	}
	v := m.root
	v.hold()
	for i, name := range c.names {
		next, err := m.mkdirAt(ctx, b, v, name, &c.attrs[i])
		v.put()
		if err != nil {
			return err
		}
		v = next
	}
	if v.mounted.Load() != nil {
		v.put()
		return abi.EBUSY
	}
	c.old.mounted.Store(nil)
	c.m.on.Store(v)
	v.mounted.Store(c.m)
	c.old.put()
	return nil
}

// mkdirAt answers directory name in dir, made with the attributes old if it is
// not there.
func (m *Mount) mkdirAt(ctx context.Context, b *binding, dir *Vnode, name string, old *abi.Vattr) (*Vnode, error) {
	v, err := dir.lookupLocked(ctx, b, name)
	if err != nil || v != nil {
		if v != nil && v.typ != abi.VDIR {
			v.put()
			return nil, abi.ENOTDIR
		}
		return v, err
	}
	if b.creator == nil {
		return nil, abi.EROFS
	}
	p := &parentOp{fs: m.vfs, ctx: ctx, c: abi.KernelCaller, dir: dir, name: name, b: b}
	req := p.request(old.Mode)
	req.Uid, req.Gid = old.Uid, old.Gid
	return p.creation(func() (vfsops.Mutated, error) { return b.creator.Mkdir(ctx, req) })
}
