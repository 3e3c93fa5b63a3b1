package tmpfs

import (
	"context"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// FS is one mount.
type FS struct {
	fsid abi.Fsid
	opt  options
	mod  *Module      // nil in tests of the FS alone
	root *node        // always there
	st   modapi.Store // nil: nothing is kept for another process
	lazy bool         // what is not here may be in the Store

	ckptMu sync.Mutex // one Checkpoint at a time; before mu
	batch  batch      // protected by ckptMu

	mu       sync.RWMutex
	nodes    map[abi.Fileid]*node
	peak     int        // the most nodes since its room was given back
	next     abi.Fileid // given to the next node
	names    int64      // names in use, the root's included; limit opt.nodes
	reserved int64      // pages granted to the kernel
	xbytes   int64      // bytes of extended attributes
	live     int64      // nodes, those in the Store only included
	ahead    int        // nodes to read at a time
	aheadEnd abi.Fileid // behind those read last

	// What the next checkpoint has to write: nodes that changed, in the order
	// they did, ghosts of them gone since; and those that went and have records.
	dirty  []*node
	ghosts int
	dead   map[abi.Fileid]*node
}

var (
	_ vfsops.FS         = (*FS)(nil)
	_ vfsops.Creator    = (*FS)(nil)
	_ vfsops.Mknoder    = (*FS)(nil)
	_ vfsops.Symlinker  = (*FS)(nil)
	_ vfsops.Linker     = (*FS)(nil)
	_ vfsops.Remover    = (*FS)(nil)
	_ vfsops.Renamer    = (*FS)(nil)
	_ vfsops.Setattrer  = (*FS)(nil)
	_ vfsops.Readlinker = (*FS)(nil)
	_ vfsops.Xattrer    = (*FS)(nil)
	_ vfsops.Pinner     = (*FS)(nil)
	_ vfsops.Reserver   = (*FS)(nil)
)

// newFS makes an empty mount; st, which is empty too, may be nil.
func newFS(id abi.Fsid, o options, now abi.Timespec, st modapi.Store) *FS {
	f := &FS{fsid: id, opt: o, nodes: make(map[abi.Fileid]*node), next: rootID, st: st}
	// Cannot fail: there is nothing yet that an id could collide with.
	f.root, _ = f.newNode(context.Background(), &vfsops.Op{Now: now}, abi.VDIR, o.mode, o.uid, o.gid)
	f.names = 1
	return f
}

// rlock locks for an operation that changes nothing: shared, unless it may have
// to read from the Store.
func (f *FS) rlock() {
	if f.lazy {
		f.mu.Lock()
	} else {
		f.mu.RLock()
	}
}

func (f *FS) runlock() {
	if f.lazy {
		f.mu.Unlock()
	} else {
		f.mu.RUnlock()
	}
}

// Root is the root directory.
func (f *FS) Root(context.Context) (vfsops.Entry, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.entry(f.root), nil
}

// Lookup walks names from a directory. ESTALE and ENOTDIR for the start,
// EINVAL for no or too many names.
func (f *FS) Lookup(ctx context.Context, req vfsops.LookupReq) (vfsops.LookupRes, error) {
	if len(req.Names) == 0 || len(req.Names) > vfsops.MaxNames {
		return vfsops.LookupRes{}, abi.EINVAL
	}
	f.rlock()
	defer f.runlock()
	n, err := f.getDir(ctx, req.Start)
	if err != nil {
		return vfsops.LookupRes{}, err
	}
	res := vfsops.LookupRes{Trace: make([]vfsops.Entry, 0, len(req.Names))}
	for _, name := range req.Names {
		if n.dir == nil {
			break
		}
		if err := f.warm(ctx, n); err != nil {
			return vfsops.LookupRes{}, err
		}
		e := n.dir.find(name)
		if e == nil {
			res.Err = abi.ENOENT
			if len(name) > abi.NAME_MAX {
				res.Err = abi.ENAMETOOLONG
			}
			break
		}
		if n, err = f.nodeOf(ctx, e); err != nil {
			return vfsops.LookupRes{}, err
		}
		res.Trace = append(res.Trace, f.entry(n))
	}
	return res, nil
}

// Getattr answers the attributes of a node.
func (f *FS) Getattr(ctx context.Context, h abi.Handle) (abi.Vattr, error) {
	f.rlock()
	defer f.runlock()
	n, err := f.get(ctx, h)
	if err != nil {
		return abi.Vattr{}, err
	}
	return n.attr(), nil
}

// Readdir lists a directory. EINVAL if not even one entry fits in req.Max.
func (f *FS) Readdir(ctx context.Context, req vfsops.ReaddirReq) (vfsops.ReaddirRes, error) {
	f.rlock()
	defer f.runlock()
	var res vfsops.ReaddirRes
	n, err := f.getDir(ctx, req.Dir)
	if err != nil {
		return res, err
	}
	room := min(req.Max, abi.MaxTransfer)
	after := n.dir.after(req.Cookie)
	res.Entries = make([]abi.Dirent, 0, max(min(len(after), room/24), 0))
	for i, e := range after {
		if i&4095 == 4095 && ctx.Err() != nil {
			return vfsops.ReaddirRes{}, ctx.Err()
		}
		if e.id == 0 {
			continue
		}
		room -= 24 + len(e.name)
		if room < 0 {
			if len(res.Entries) == 0 {
				return res, abi.EINVAL
			}
			return res, nil
		}
		res.Entries = append(res.Entries, abi.Dirent{
			Fileid: e.id, Cookie: e.cookie, Type: e.typ, Name: e.name,
		})
	}
	res.EOF = true
	return res, nil
}

// Read is never asked: contents are the kernel's pages. EIO.
func (f *FS) Read(context.Context, abi.Handle, int64, abi.Iov) (int, error) {
	return 0, abi.EIO
}

// Statvfs describes the file system in pages and names.
func (f *FS) Statvfs(context.Context) (abi.Statvfs, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	free := uint64(max(f.freePages(), 0))
	return abi.Statvfs{
		Bsize: abi.PageSize, Frsize: abi.PageSize,
		Blocks: uint64(f.opt.pages), Bfree: free, Bavail: free,
		Files: uint64(f.opt.nodes), Ffree: uint64(max(f.opt.nodes-f.names, 0)),
		Namemax: abi.NAME_MAX, Fsid: f.fsid, FSType: "tmpfs",
	}, nil
}

// Unmount lets go of everything.
func (f *FS) Unmount(context.Context) error {
	f.mu.Lock()
	f.nodes = map[abi.Fileid]*node{} // handles are ESTALE from here on
	f.reserved, f.xbytes, f.live, f.next = 0, 0, 0, 1
	f.dirty, f.dead = nil, nil
	f.mu.Unlock()
	if f.mod != nil {
		f.mod.unmounted(f)
	}
	return nil
}

// freePages is how many pages are left.
//
// Preconditions: f.mu is held, shared at least.
func (f *FS) freePages() int64 { return f.opt.pages - f.reserved }

// Reserve grants pages to the kernel, possibly fewer than it asks for; ENOSPC
// if none. A negative number gives back, at most what was granted.
func (f *FS) Reserve(_ context.Context, pages int64) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if pages > 0 {
		if pages = min(pages, f.freePages()); pages <= 0 {
			return 0, abi.ENOSPC
		}
	}
	pages = max(pages, -f.reserved)
	f.reserved += pages
	return pages, nil
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
	f.mark(n)
	return nil
}

// Unpin undoes Pin; the node is gone with the last if it has no name. EINVAL
// if there is no pin.
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
	f.mark(n)
	f.gone(n)
	return nil
}
