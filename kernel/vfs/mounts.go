package vfs

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Mounts lists the mounts in order.
func (fs *VFS) Mounts() []MountInfo {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	r := make([]MountInfo, 0, len(fs.mounts))
	for _, m := range fs.mounts {
		r = append(r, m.info())
	}
	return r
}

func (m *Mount) info() MountInfo {
	opts := maps.Clone(m.options)
	if opts == nil {
		opts = map[string]string{}
	}
	if m.nocache {
		opts[optNocache] = ""
	}
	if m.norec {
		opts[optNorecover] = ""
	}
	return MountInfo{Fsid: m.fsid, Type: m.typ, Source: m.source, Dir: m.dir, Instance: m.instance,
		Flags: m.flags.Load(), Options: opts, Caps: vfsops.Caps(m.caps.Load()), Up: m.up(), Recovers: m.j != nil}
}

// SyncAll makes everything durable, as far as file systems can (sync(2)); it
// answers the first error after having tried all.
func (fs *VFS) SyncAll(ctx context.Context) error {
	fs.mu.RLock()
	ms := slices.Clone(fs.mounts)
	fs.mu.RUnlock()
	var first error
	for _, m := range ms {
		if m.b.Load() == nil { // one with a journal is waited for
			continue
		}
		if err := m.sync(ctx); err != nil && first == nil {
			first = fmt.Errorf("sync %s: %w", m.dir, err)
		}
	}
	return first
}

// sync writes back what is cached of m and tells the file system (VFS_SYNC).
func (m *Mount) sync(ctx context.Context) error {
	m.vmu.Lock()
	var vs []*Vnode
	for _, v := range m.vnodes {
		if v.needsFlush() && v.tryHold() {
			vs = append(vs, v)
		}
	}
	m.vmu.Unlock()
	var first error
	for _, v := range vs {
		v.mu.Lock()
		err := v.writebackLocked(ctx, abi.KernelCaller)
		v.mu.Unlock()
		v.put()
		if err != nil && first == nil {
			first = err
		}
	}
	m.unpinNow()
	m.forgetNow(ctx)
	b, err := m.binding(ctx)
	if err == nil && b.syncer != nil && !m.readonly() {
		err = b.syncer.Sync(ctx, abi.Handle{}, false)
	}
	if first == nil {
		first = err
	}
	return first
}

// UnmountAll syncs and unmounts everything, the deepest first, by force: for
// reboot (vfs_unmountall).
func (fs *VFS) UnmountAll(ctx context.Context) error {
	first := fs.SyncAll(ctx)
	fs.opMu.Lock()
	defer fs.opMu.Unlock()
	for _, m := range slices.Backward(slices.Clone(fs.mounts)) {
		if err := fs.unmountLocked(noWait(ctx), m, true); err != nil && first == nil {
			first = err
		}
	}
	return first
}
