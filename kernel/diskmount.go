package kernel

import (
	"context"
	"sync"

	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// Mounts of block devices. What a file system writes goes to layers in memory
// (bio.Layered): a checkpoint of the mount's journal makes it valid, sync writes
// it out, the death of the process drops what no checkpoint covers.

// diskMounts are the mounts that have layers.
type diskMounts struct {
	mu sync.Mutex
	on map[diskKey]*diskMount
}

// diskKey is a device as an instance sees it.
type diskKey struct {
	instance string
	dev      abi.Dev
}

// diskMount is the device of one mount: a vfs.Disk, journal.Backing and
// journal.Syncer.
type diskMount struct {
	k   *Kernel
	key diskKey
	l   *Layers
}

// plainDisk is the device of a mount without a journal: the file system opens
// it like any other module.
type plainDisk abi.Dev

// Dev is the number of the device.
func (d plainDisk) Dev() abi.Dev { return abi.Dev(d) }

// Close does nothing: what the module has open is closed by it.
func (d plainDisk) Close(context.Context) error { return nil }

// openDisk is vfs.Options.Disk.
func (k *Kernel) openDisk(ctx context.Context, q vfs.DiskReq) (vfs.Disk, error) {
	dev, err := k.block(q.Source)
	if err != nil {
		return nil, err
	}
	if !q.Layers {
		return plainDisk(dev), nil
	}
	l, err := k.OpenLayers(ctx, dev, !q.ReadOnly, bio.LayerOptions{
		// Who syncs has taken a checkpoint.
		Checkpoint: func(context.Context) error { return nil },
		Crowded:    q.Crowded,
		Journalled: q.Journalled,
	})
	if err != nil {
		return nil, err
	}
	m := &diskMount{k: k, key: diskKey{q.Instance, dev}, l: l}
	k.disks.mu.Lock()
	if k.disks.on == nil {
		k.disks.on = map[diskKey]*diskMount{}
	}
	k.disks.on[m.key] = m
	k.disks.mu.Unlock()
	return m, nil
}

// blockFor is modapi.Kernel.Block: layers for the file system that is mounted on
// the device, else the device.
func (k *Kernel) blockFor(ctx context.Context, instance, owner string, dev, user abi.Dev) (devops.BlockIO, error) {
	if user == abi.NoDev {
		k.disks.mu.Lock()
		m := k.disks.on[diskKey{instance, dev}]
		k.disks.mu.Unlock()
		if m != nil {
			return m.l.IO(), nil
		}
	}
	return k.Dev.Block(ctx, instance, owner, dev, user)
}

// Dev is the number of the device.
func (m *diskMount) Dev() abi.Dev { return m.key.dev }

// Commit makes what was written valid.
func (m *diskMount) Commit(_ context.Context, seq abi.OpSeq) error {
	m.l.Checkpoint(abi.Ckpt(seq), seq)
	return nil
}

// Drop throws away what was written since the last Commit.
func (m *diskMount) Drop() {
	if err := m.l.Drop(context.Background()); err != nil {
		m.k.Msg.Logger("bio").Warn("dropping what a dead file system wrote", "device", m.k.Dev.BlkName(m.key.dev), "err", err)
	}
}

// Touched is what a dead file system used of the device, as of the last Commit.
func (m *diskMount) Touched(ctx context.Context, limit int64) (*vfs.DiskState, error) {
	g, err := m.l.IO().Geometry(ctx)
	if err != nil {
		return nil, err
	}
	blocks, err := m.l.Touched(ctx, limit)
	if err != nil {
		return nil, err
	}
	return &vfs.DiskState{Geom: g, Blocks: blocks}, nil
}

// Sync writes out what is valid.
func (m *diskMount) Sync(ctx context.Context) error { return m.l.WriteOut(ctx) }

// Close lets go of the device.
func (m *diskMount) Close(ctx context.Context) error {
	m.k.disks.mu.Lock()
	if m.k.disks.on[m.key] == m {
		delete(m.k.disks.on, m.key)
	}
	m.k.disks.mu.Unlock()
	return m.l.Close(ctx)
}
