package fat

import (
	"context"
	"fmt"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// FS is a mounted file system.
type FS struct {
	fsid   abi.Fsid
	dev    devops.BlockIO
	geom   devops.Geom
	opt    options
	st     modapi.Store
	logger modapi.Logger
	mod    *Module // nil in tests

	mu      sync.Mutex
	c       *cache
	t       table
	nodes   map[abi.Fileid]*node
	lazy    map[*node]bool        // files with init < size
	owners  map[uint32]abi.Fileid // directories that were read, by their first cluster
	ids     ids
	space   space
	ro      bool  // mounted read-only: nothing is ever written
	dirty   bool  // the dirty flag is set
	damaged bool  // and stays: fsck should look at it
	closed  bool  // unmounted
	broken  error // a change was left half done
	logged  int   // damage that was told
}

var (
	_ vfsops.FS           = (*FS)(nil)
	_ vfsops.Creator      = (*FS)(nil)
	_ vfsops.Remover      = (*FS)(nil)
	_ vfsops.Renamer      = (*FS)(nil)
	_ vfsops.Linker       = (*FS)(nil)
	_ vfsops.Symlinker    = (*FS)(nil)
	_ vfsops.Mknoder      = (*FS)(nil)
	_ vfsops.Setattrer    = (*FS)(nil)
	_ vfsops.Truncater    = (*FS)(nil)
	_ vfsops.Pager        = (*FS)(nil)
	_ vfsops.Pinner       = (*FS)(nil)
	_ vfsops.Reclaimer    = (*FS)(nil)
	_ vfsops.Syncer       = (*FS)(nil)
	_ vfsops.Checkpointer = (*FS)(nil)
	_ vfsops.Reserver     = (*FS)(nil)
)

// log tells of damage, but not of all of it.
func (f *FS) log(what string, kv ...any) {
	const most = 100
	if f.logged++; f.logger != nil && f.logged <= most {
		f.logger.Warn(what, append(kv, "mount", f.fsid)...)
	}
}

// Root is the root directory.
func (f *FS) Root(ctx context.Context) (vfsops.Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[rootID]
	if n == nil {
		return vfsops.Entry{}, abi.ESTALE
	}
	return f.entry(n), f.readDir(ctx, n)
}

// nodeOf is the node of an entry, with what its attributes need.
func (f *FS) nodeOf(ctx context.Context, e *dent) (*node, error) {
	n, err := f.nodeAt(ctx, e.at)
	if err != nil {
		return nil, err
	}
	if n.dir {
		if err := f.readDir(ctx, n); err != nil {
			f.log("a damaged directory", "name", e.name, "err", err)
			return nil, err
		}
	}
	return n, nil
}

// Lookup walks names.
func (f *FS) Lookup(ctx context.Context, req vfsops.LookupReq) (vfsops.LookupRes, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.get(ctx, req.Start)
	if err == nil && n.dir {
		err = f.readDir(ctx, n)
	}
	if err != nil {
		return vfsops.LookupRes{}, err
	}
	if !n.dir {
		return vfsops.LookupRes{}, abi.ENOTDIR
	}
	res := vfsops.LookupRes{Trace: make([]vfsops.Entry, 0, len(req.Names))}
	for _, name := range req.Names {
		if !n.dir {
			break
		}
		if n.gone {
			res.Err = abi.ENOENT
			break
		}
		e := n.d.find(name)
		if e == nil {
			res.Err = abi.ENOENT
			if len(name) > abi.NAME_MAX {
				res.Err = abi.ENAMETOOLONG
			}
			break
		}
		if n, err = f.nodeOf(ctx, e); err != nil {
			res.Err = abi.ErrnoOf(err)
			if res.Err == abi.ESTALE {
				res.Err = abi.EIO
			}
			break
		}
		res.Trace = append(res.Trace, f.entry(n))
	}
	return res, nil
}

// Getattr answers the attributes of a node.
func (f *FS) Getattr(ctx context.Context, h abi.Handle) (abi.Vattr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.get(ctx, h)
	if err == nil && n.dir {
		err = f.readDir(ctx, n)
	}
	if err != nil {
		return abi.Vattr{}, err
	}
	return f.attr(n), nil
}

// Readdir lists a directory in the order of its slots. EINVAL if not even one
// entry fits in req.Max.
func (f *FS) Readdir(ctx context.Context, req vfsops.ReaddirReq) (vfsops.ReaddirRes, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var res vfsops.ReaddirRes
	n, err := f.getDir(ctx, req.Dir)
	if err != nil {
		return res, err
	}
	room := min(req.Max, abi.MaxTransfer)
	for i := min(req.Cookie, uint64(n.d.slots)); i < uint64(n.d.slots); i++ {
		e := n.d.ents[i]
		if e == nil {
			continue
		}
		if room -= 24 + len(e.name); room < 0 {
			if len(res.Entries) == 0 {
				return res, abi.EINVAL
			}
			return res, nil
		}
		typ := abi.VREG
		if e.isDir {
			typ = abi.VDIR
		}
		res.Entries = append(res.Entries, abi.Dirent{Fileid: f.idOf(e.at), Cookie: i + 1, Type: typ, Name: e.name})
	}
	res.EOF = true
	return res, nil
}

// Statvfs describes the file system in clusters.
func (f *FS) Statvfs(ctx context.Context) (abi.Statvfs, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.t.load(ctx); err != nil {
		return abi.Statvfs{}, err
	}
	free := uint64(f.avail())
	return abi.Statvfs{Bsize: uint64(max(f.t.cluster, abi.PageSize)), Frsize: uint64(f.t.cluster), Blocks: uint64(f.t.clusters),
		Bfree: free, Bavail: free, Namemax: maxUnits, Fsid: f.fsid, FSType: "msdos"}, nil
}

// Unmount gives the device what it does not have yet, and lets go of it.
func (f *FS) Unmount(ctx context.Context) error {
	f.mu.Lock()
	err := f.finish(ctx)
	f.nodes = map[abi.Fileid]*node{} // handles are ESTALE from here on
	f.lazy, f.ids, f.closed = nil, ids{}, true
	f.mu.Unlock()
	if f.mod != nil {
		f.mod.unmounted(f)
	}
	if cerr := f.dev.Close(ctx); err == nil {
		err = cerr
	}
	return err
}

// finish leaves the device as one that nobody has mounted.
func (f *FS) finish(ctx context.Context) error {
	if f.broken != nil || f.closed {
		return f.flush(ctx)
	}
	for _, n := range f.nodes { // open files without a name, of a mount that ends by force
		if n.gone {
			if err := f.end(ctx, n); err != nil {
				return err
			}
		}
	}
	if f.dirty && !f.damaged {
		if err := f.setDirty(ctx, false); err != nil {
			return err
		}
	}
	return f.flush(ctx)
}

// Sync gives the device everything and has it make that durable. A mount with a
// journal is not asked: the kernel takes a checkpoint and writes that out.
func (f *FS) Sync(ctx context.Context, _ abi.Handle, _ bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.flush(ctx); err != nil || f.geom.Ops&devops.BFlush == 0 {
		return err
	}
	return f.dev.Strategy(ctx, &devops.Buf{Flags: devops.BFlush})
}

// flush writes what is here only to the device.
func (f *FS) flush(ctx context.Context) error {
	for n := range f.lazy {
		if err := f.fill(ctx, n, n.size()); err != nil {
			return err
		}
	}
	if err := f.writeFSInfo(ctx); err != nil {
		return err
	}
	return f.c.flush(ctx)
}

// Pin keeps a node alive without a name.
func (f *FS) Pin(ctx context.Context, h abi.Handle) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.get(ctx, h)
	if err != nil {
		return err
	}
	n.pins++
	f.ids.changed[n.id] = true
	return nil
}

// Unpin undoes Pin; with the last the clusters of a node without a name are
// free. EINVAL if there is no pin.
func (f *FS) Unpin(ctx context.Context, h abi.Handle) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.get(ctx, h)
	if err != nil {
		return err
	}
	if n.pins == 0 {
		return abi.EINVAL
	}
	n.pins--
	f.ids.changed[n.id] = true
	if n.gone && n.pins == 0 {
		return f.changing(ctx, func() error { return f.end(ctx, n) })
	}
	return nil
}

// Reclaim forgets nodes that the kernel has forgotten. What they are is on the
// device.
func (f *FS) Reclaim(_ context.Context, hs []abi.Handle) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range hs {
		if n := f.nodes[h.File]; n != nil && n.gen == h.Gen && n.id != rootID && n.pins == 0 && !n.gone && !f.lazy[n] {
			f.disown(n)
			delete(f.nodes, n.id)
		}
	}
	return nil
}

// changing runs the part of a mutator that changes something: if it fails, what
// is here and what is on the device may not fit, and there are no more changes.
// ENOSPC must be found out before.
func (f *FS) changing(ctx context.Context, change func() error) error {
	if f.broken != nil {
		return f.broken
	}
	if err := change(); err != nil {
		f.broken = fmt.Errorf("an earlier change was left half done: %w", abi.EIO)
		f.log("no changes from now on", "err", err)
		return fmt.Errorf("%w: %w", err, abi.EIO)
	}
	return nil
}
