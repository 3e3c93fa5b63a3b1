package vfs

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/kernel/journal"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// DiskReq asks for the block device of a mount (Options.Disk).
type DiskReq struct {
	Instance string
	Fsid     abi.Fsid
	Source   string // as the mount was asked for: a node, with or without /dev/
	ReadOnly bool
	// Layers: what the file system writes stays in layers above the device
	// until a checkpoint covers it, as the mount has a journal.
	Layers bool
	// Journalled: the file system keeps barriers of its own between what it
	// writes (vfsops.CapJournalled).
	Journalled bool
	// Crowded says that the layers are full of what no checkpoint covers. It
	// does not wait.
	Crowded func()
}

// Disk is the block device of a mount. With layers it is a journal.Backing and
// a journal.Syncer as well.
type Disk interface {
	Dev() abi.Dev
	Close(ctx context.Context) error
}

// openDisk gets the device of a mount whose file system wants one. ENOTBLK: the
// source is none.
func (m *Mount) openDisk(ctx context.Context, t *fsType, req *vfsops.MountReq) error {
	req.Dev = abi.NoDev
	if t.caps&vfsops.CapBlock == 0 {
		return nil
	}
	if m.vfs.o.Disk == nil {
		return fmt.Errorf("%q: %w", m.source, abi.ENOTBLK)
	}
	d, err := m.vfs.o.Disk(ctx, DiskReq{Instance: m.instance, Fsid: m.fsid, Source: m.source, ReadOnly: m.robelow,
		Layers:     t.caps&(vfsops.CapCheckpoint|vfsops.CapFixedids) == vfsops.CapCheckpoint|vfsops.CapFixedids && !m.norec,
		Journalled: t.caps&vfsops.CapJournalled != 0,
		Crowded: func() {
			if j := m.jnow.Load(); j != nil {
				go j.Checkpoint(context.Background())
			}
		}})
	if err != nil {
		return err
	}
	m.disk, req.Dev = d, d.Dev()
	return nil
}

// closeDisk lets go of the device of a mount that has ended.
func (m *Mount) closeDisk() {
	if m.disk == nil {
		return
	}
	if err := m.disk.Close(context.Background()); err != nil {
		m.vfs.o.Log.Warn("closing the disk of a mount", "mount", m.dir, "err", err)
	}
	m.disk = nil
}

// lower is what is below a mount's journal beside its Store.
func (m *Mount) lower() journal.Backing {
	if b, ok := m.disk.(journal.Backing); ok {
		return b
	}
	if m.vfs.o.Backing != nil {
		return m.vfs.o.Backing(m.instance, m.fsid)
	}
	return nil
}
