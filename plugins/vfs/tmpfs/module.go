// Package tmpfs is a file system in memory: nodes and names live here, file
// contents are pages in the kernel's page cache (vfsops.CapKpages).
//
// The words. A node is a file of any type. An entry (dirent) is a name in a
// directory and the node it leads to. A cookie numbers the entries of one
// directory in the order they were made and is never used twice, so that a
// listing goes on at the right place whatever happened meanwhile. A pin keeps
// a node without a name alive while somebody has it open.
//
// The usual sequence: Mount, Lookup and the mutators, Reserve before a page
// of file data comes to be, Setattr with SetSize when a file grew or shrank,
// Reserve with a negative number when pages went, Unmount.
//
// # Checkpoints
//
// What must not be lost with the process is in records of the mount's
// modapi.Store, in the kernel's memory: the counters of the mount, a record for
// each node, one for up to 64 entries of a directory (a chunk, by cookie), one
// for each extended attribute. Mutators note which nodes and chunks they change;
// Checkpoint writes the records of these, in time in proportion to them, and
// those of the counters. The number of a node's pins is in its record; pages
// granted are the kernel's affair.
//
// A mount that comes back reads the counters and its root. A node is read when
// somebody asks for it, with some behind it, because what was made together is
// used together; the entries of a directory are read all at once (a million
// take a third of a second), extended attributes those of a node. From then on
// they are here. So what there is after a restart is in two states: warm, here
// and nowhere else of importance, or cold, in the Store only. Something is
// changed only when it is warm.
//
// Mount options:
//
//	size=N[k|m|g|t|%]  bytes, or per cent of the machine's memory; default 50%;
//	                   as much again for extended attributes
//	nodes=N[k|m|g|t]   names at most, counting the root; default 3 + size/1024
//	mode=OCTAL         of the root directory; default 0755
//	uid=N, gid=N       owner of the root directory; default 0
//
// The numbers that stat shows for directories are those of NetBSD's tmpfs:
// nlink is 2 and one for each subdirectory, the size is 40 bytes an entry.
//
// What goes wrong: a name too many is ENOSPC, as is a page too many, at
// Reserve; a handle of a node that is gone is ESTALE; a name in a removed
// directory is ENOENT; a record that is missing or damaged is EIO. Nothing waits
// but for records, reads a clock or draws a random number: the same mutators in
// the same order give the same tree, the same ids and the same cookies.
//
// # Locks
//
//	Module.mu          which mounts there are; held over the reading of a root
//	FS.ckptMu          one Checkpoint at a time
//	  FS.mu            everything in one mount, nodes included: shared for
//	                   Lookup, Getattr, Readdir, Readlink, Statvfs, the reading
//	                   of extended attributes, and the writing of a checkpoint;
//	                   exclusive otherwise. In a mount that came back, whose
//	                   reads may have to read records, for all but Checkpoint
//
// It is held while records are read and written: the kernel answers out of its
// memory, and waits for nobody. One lock for a mount is enough because the kernel caches names, attributes
// and pages: what comes here are first lookups and mutators.
package tmpfs

import (
	"context"
	"fmt"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Caps are the capabilities that the type declares.
const Caps = vfsops.CapSole | vfsops.CapKpages | vfsops.CapXattr | vfsops.CapFixedids | vfsops.CapCheckpoint

// Module is the module "tmpfs". It is an FSType as well.
type Module struct {
	mu     sync.Mutex
	mounts map[abi.Fsid]*FS
	k      modapi.Kernel // nil before Init
}

var (
	_ modapi.Module = (*Module)(nil)
	_ modapi.Stater = (*Module)(nil)
	_ vfsops.FSType = (*Module)(nil)
)

// New makes the module.
func New() *Module { return &Module{mounts: make(map[abi.Fsid]*FS)} }

// Info describes the module.
func (m *Module) Info() modapi.Info {
	return modapi.Info{
		Name: "tmpfs", Class: modapi.ClassVFS, Kern: abi.KernVersionCurrent,
		Version: "1.0.0", Caps: modapi.CapRing,
	}
}

// Init attaches the type "tmpfs". The module takes no properties.
func (m *Module) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, _ modapi.Props) error {
	m.mu.Lock()
	m.k = k
	m.mu.Unlock()
	return k.AttachFS("tmpfs", m, Caps)
}

// Fini ends the module; EBUSY while something is mounted.
func (m *Module) Fini(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.mounts); n > 0 {
		return fmt.Errorf("tmpfs: %d mounted: %w", n, abi.EBUSY)
	}
	return nil
}

// Stat says how many mounts and nodes there are.
func (m *Module) Stat(context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var nodes, pages int64
	for _, f := range m.mounts {
		f.mu.RLock()
		nodes += f.live
		pages += f.reserved
		f.mu.RUnlock()
	}
	return fmt.Sprintf("%d mounts, %d nodes, %d pages", len(m.mounts), nodes, pages), nil
}

// Mount makes a file system, empty or as it was at a checkpoint. The source is of no importance. EINVAL
// for an option it does not know or cannot read, EEXIST if req.Fsid is in use.
func (m *Module) Mount(ctx context.Context, req *vfsops.MountReq) (vfsops.FS, error) {
	o, err := parseOptions(req.Options)
	if err != nil {
		return nil, fmt.Errorf("tmpfs: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mounts[req.Fsid] != nil {
		return nil, fmt.Errorf("tmpfs: file system %d is mounted already: %w", req.Fsid, abi.EEXIST)
	}
	var st modapi.Store
	if m.k != nil {
		st = m.k.Store(req.Fsid)
	}
	var f *FS
	switch {
	case req.Seq == 0:
		f = newFS(req.Fsid, o, req.Op.Now, st)
	case st == nil:
		return nil, fmt.Errorf("tmpfs: mount of mutator %d without a store: %w", req.Seq, abi.ENXIO)
	default:
		if f, err = restore(ctx, req.Fsid, o, st, req.Seq); err != nil {
			return nil, err
		}
	}
	f.mod = m
	m.mounts[req.Fsid] = f
	return f, nil
}

func (m *Module) unmounted(f *FS) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mounts[f.fsid] == f {
		delete(m.mounts, f.fsid)
	}
}
