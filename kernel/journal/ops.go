package journal

import (
	"context"
	"slices"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

var (
	_ vfsops.FS         = (*FS)(nil)
	_ vfsops.Creator    = (*FS)(nil)
	_ vfsops.Remover    = (*FS)(nil)
	_ vfsops.Renamer    = (*FS)(nil)
	_ vfsops.Linker     = (*FS)(nil)
	_ vfsops.Symlinker  = (*FS)(nil)
	_ vfsops.Mknoder    = (*FS)(nil)
	_ vfsops.Setattrer  = (*FS)(nil)
	_ vfsops.Writer     = (*FS)(nil)
	_ vfsops.Truncater  = (*FS)(nil)
	_ vfsops.Xattrer    = (*FS)(nil)
	_ vfsops.Fallocater = (*FS)(nil)
	_ vfsops.Readlinker = (*FS)(nil)
	_ vfsops.Pager      = (*FS)(nil)
	_ vfsops.Pinner     = (*FS)(nil)
	_ vfsops.Reclaimer  = (*FS)(nil)
	_ vfsops.Reserver   = (*FS)(nil)
	_ vfsops.Syncer     = (*FS)(nil)
	_ vfsops.Accesser   = (*FS)(nil)
	_ vfsops.HoleSeeker = (*FS)(nil)
)

func (f *FS) make(ctx context.Context, k Kind, req *vfsops.CreateReq, e *Entry) (vfsops.Mutated, error) {
	e.Kind, e.Op, e.Dir, e.Name, e.Mode, e.Uid, e.Gid = k, req.Op, req.Dir, req.Name, req.Mode, req.Uid, req.Gid
	var r result
	err := f.mutate(ctx, e, &r)
	return r.Mutated, err
}

// Create makes a regular file. Beside the errors of the file system, here as in
// all operations: EIO when there is no process in time; of mutators also when
// the mount is degraded, and for poison.
func (f *FS) Create(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return f.make(ctx, Create, &req, &Entry{})
}

// Mkdir makes a directory.
func (f *FS) Mkdir(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return f.make(ctx, Mkdir, &req, &Entry{})
}

// Mknod makes a special file.
func (f *FS) Mknod(ctx context.Context, req vfsops.MknodReq) (vfsops.Mutated, error) {
	return f.make(ctx, Mknod, &req.CreateReq, &Entry{Type: req.Type, Rdev: req.Rdev})
}

// Symlink makes a symbolic link.
func (f *FS) Symlink(ctx context.Context, req vfsops.SymlinkReq) (vfsops.Mutated, error) {
	return f.make(ctx, Symlink, &req.CreateReq, &Entry{Data: req.Target})
}

// Link gives a file another name.
func (f *FS) Link(ctx context.Context, req vfsops.LinkReq) (vfsops.Mutated, error) {
	var r result
	err := f.mutate(ctx, &Entry{Kind: Link, Op: req.Op, Node: req.Node, Dir: req.Dir, Name: req.Name}, &r)
	return r.Mutated, err
}

// Remove removes a name of a file.
func (f *FS) Remove(ctx context.Context, req vfsops.RemoveReq) (vfsops.Mutated, error) {
	return f.remove(ctx, Remove, &req)
}

// Rmdir removes a directory.
func (f *FS) Rmdir(ctx context.Context, req vfsops.RemoveReq) (vfsops.Mutated, error) {
	return f.remove(ctx, Rmdir, &req)
}

func (f *FS) remove(ctx context.Context, k Kind, req *vfsops.RemoveReq) (vfsops.Mutated, error) {
	var r result
	err := f.mutate(ctx, &Entry{Kind: k, Op: req.Op, Dir: req.Dir, Name: req.Name, Victim: req.Victim}, &r)
	return r.Mutated, err
}

// Rename renames.
func (f *FS) Rename(ctx context.Context, req vfsops.RenameReq) (vfsops.Mutated, error) {
	var r result
	err := f.mutate(ctx, &Entry{Kind: Rename, Op: req.Op, Dir: req.FDir, Name: req.FName, Node: req.From,
		Dir2: req.TDir, Name2: req.TName, Victim: req.To, Flags: req.Flags}, &r)
	return r.Mutated, err
}

// Setattr changes attributes.
func (f *FS) Setattr(ctx context.Context, req vfsops.SetattrReq) (abi.Vattr, error) {
	var r result
	va := req.Attr
	err := f.mutate(ctx, &Entry{Kind: Setattr, Op: req.Op, Node: req.Node, Mask: req.Mask, Attr: &va}, &r)
	return r.Node.Vattr, err
}

// Write writes to a file.
func (f *FS) Write(ctx context.Context, req vfsops.WriteReq, src abi.Iov) (vfsops.WriteRes, error) {
	var r result
	err := f.mutate(ctx, &Entry{Kind: Write, Op: req.Op, Node: req.Node, Off: req.Off, Append: req.Append, iov: src}, &r)
	return vfsops.WriteRes{N: r.n, Off: r.off, Vattr: r.Node.Vattr}, err
}

// Truncate changes the size of a file.
func (f *FS) Truncate(ctx context.Context, op vfsops.Op, h abi.Handle, size int64) (abi.Vattr, error) {
	var r result
	err := f.mutate(ctx, &Entry{Kind: Truncate, Op: op, Node: h, Size: size}, &r)
	return r.Node.Vattr, err
}

// Fallocate allocates or frees space of a file.
func (f *FS) Fallocate(ctx context.Context, op vfsops.Op, h abi.Handle, off, n int64, punch bool) (abi.Vattr, error) {
	var r result
	err := f.mutate(ctx, &Entry{Kind: Fallocate, Op: op, Node: h, Off: off, Size: n, Punch: punch}, &r)
	return r.Node.Vattr, err
}

// Setxattr sets an extended attribute.
func (f *FS) Setxattr(ctx context.Context, req vfsops.SetxattrReq) error {
	var r result
	return f.mutate(ctx, &Entry{Kind: Setxattr, Op: req.Op, Node: req.Node, Name: req.Name, Data: slices.Clone(req.Value), Flags: req.Flags}, &r)
}

// Removexattr removes an extended attribute.
func (f *FS) Removexattr(ctx context.Context, op vfsops.Op, h abi.Handle, name []byte) error {
	var r result
	return f.mutate(ctx, &Entry{Kind: Removexattr, Op: op, Node: h, Name: name}, &r)
}

// WritePages writes whole pages.
func (f *FS) WritePages(ctx context.Context, op vfsops.Op, h abi.Handle, off int64, src abi.Iov, size int64) error {
	var r result
	return f.mutate(ctx, &Entry{Kind: WritePages, Op: op, Node: h, Off: off, Size: size, iov: src}, &r)
}

// Pin keeps a node alive without a name.
func (f *FS) Pin(ctx context.Context, h abi.Handle) error { return f.pin(ctx, Pin, h) }

// Unpin lets it go.
func (f *FS) Unpin(ctx context.Context, h abi.Handle) error { return f.pin(ctx, Unpin, h) }

func (f *FS) pin(ctx context.Context, k Kind, h abi.Handle) error {
	var r result
	return f.mutate(ctx, &Entry{Kind: k, Op: vfsops.Op{Caller: abi.KernelCaller}, Node: h}, &r)
}

// Reserve takes or gives back pages.
func (f *FS) Reserve(ctx context.Context, pages int64) (int64, error) { return f.reserve(ctx, pages) }

// ask asks the process that is there, or that comes, until one lives long
// enough to answer.
func ask[T any](ctx context.Context, f *FS, fn func(fs vfsops.FS) (T, error)) (T, error) {
	for {
		g, err := f.current(ctx)
		if err != nil {
			var none T
			return none, err
		}
		t, err := fn(g.fs)
		if err == nil || !died(err) {
			return t, err
		}
		f.lost(g)
	}
}

// Root answers the root directory.
func (f *FS) Root(ctx context.Context) (vfsops.Entry, error) {
	return ask(ctx, f, func(fs vfsops.FS) (vfsops.Entry, error) { return fs.Root(ctx) })
}

// Lookup walks names.
func (f *FS) Lookup(ctx context.Context, req vfsops.LookupReq) (vfsops.LookupRes, error) {
	return ask(ctx, f, func(fs vfsops.FS) (vfsops.LookupRes, error) { return fs.Lookup(ctx, req) })
}

// Getattr answers attributes.
func (f *FS) Getattr(ctx context.Context, h abi.Handle) (abi.Vattr, error) {
	return ask(ctx, f, func(fs vfsops.FS) (abi.Vattr, error) { return fs.Getattr(ctx, h) })
}

// Readdir lists a directory.
func (f *FS) Readdir(ctx context.Context, req vfsops.ReaddirReq) (vfsops.ReaddirRes, error) {
	return ask(ctx, f, func(fs vfsops.FS) (vfsops.ReaddirRes, error) { return fs.Readdir(ctx, req) })
}

// Read reads from a file.
func (f *FS) Read(ctx context.Context, h abi.Handle, off int64, dst abi.Iov) (int, error) {
	return ask(ctx, f, func(fs vfsops.FS) (int, error) { return fs.Read(ctx, h, off, dst) })
}

// Seek finds data and holes.
func (f *FS) Seek(ctx context.Context, h abi.Handle, off int64, whence int) (int64, error) {
	return ask(ctx, f, func(fs vfsops.FS) (int64, error) {
		if s, ok := fs.(vfsops.HoleSeeker); ok {
			return s.Seek(ctx, h, off, whence)
		}
		return 0, abi.EOPNOTSUPP
	})
}

// Statvfs describes the file system.
func (f *FS) Statvfs(ctx context.Context) (abi.Statvfs, error) {
	return ask(ctx, f, func(fs vfsops.FS) (abi.Statvfs, error) { return fs.Statvfs(ctx) })
}

// Readlink reads a symbolic link.
func (f *FS) Readlink(ctx context.Context, h abi.Handle) ([]byte, error) {
	return ask(ctx, f, func(fs vfsops.FS) ([]byte, error) {
		if c, ok := fs.(vfsops.Readlinker); ok {
			return c.Readlink(ctx, h)
		}
		return nil, abi.EINVAL
	})
}

// Getxattr reads an extended attribute.
func (f *FS) Getxattr(ctx context.Context, h abi.Handle, name []byte) ([]byte, error) {
	return ask(ctx, f, func(fs vfsops.FS) ([]byte, error) {
		if c, ok := fs.(vfsops.Xattrer); ok {
			return c.Getxattr(ctx, h, name)
		}
		return nil, abi.EOPNOTSUPP
	})
}

// Listxattr lists the names of extended attributes.
func (f *FS) Listxattr(ctx context.Context, h abi.Handle) ([]byte, error) {
	return ask(ctx, f, func(fs vfsops.FS) ([]byte, error) {
		if c, ok := fs.(vfsops.Xattrer); ok {
			return c.Listxattr(ctx, h)
		}
		return nil, abi.EOPNOTSUPP
	})
}

// ReadPages reads whole pages.
func (f *FS) ReadPages(ctx context.Context, h abi.Handle, off int64, dst abi.Iov) error {
	_, err := ask(ctx, f, func(fs vfsops.FS) (struct{}, error) {
		if c, ok := fs.(vfsops.Pager); ok {
			return struct{}{}, c.ReadPages(ctx, h, off, dst)
		}
		return struct{}{}, abi.EOPNOTSUPP
	})
	return err
}

// Access asks for a decision.
func (f *FS) Access(ctx context.Context, h abi.Handle, c *abi.Caller, want abi.AccMode) error {
	_, err := ask(ctx, f, func(fs vfsops.FS) (struct{}, error) {
		if a, ok := fs.(vfsops.Accesser); ok {
			return struct{}{}, a.Access(ctx, h, c, want)
		}
		return struct{}{}, abi.EACCES
	})
	return err
}

// Sync makes things durable: by a checkpoint, if the Backing is what has to be.
func (f *FS) Sync(ctx context.Context, h abi.Handle, dataOnly bool) error {
	if s, ok := f.o.Backing.(Syncer); ok {
		if err := f.Checkpoint(ctx); err != nil {
			return err
		}
		return s.Sync(ctx)
	}
	_, err := ask(ctx, f, func(fs vfsops.FS) (struct{}, error) {
		if s, ok := fs.(vfsops.Syncer); ok && f.caps&vfsops.HasSyncer != 0 {
			return struct{}{}, s.Sync(ctx, h, dataOnly)
		}
		return struct{}{}, nil
	})
	return err
}

// Syncs reports whether Sync has something to do whatever the file system says.
func (f *FS) Syncs() bool {
	_, ok := f.o.Backing.(Syncer)
	return ok
}

// Reclaim tells which nodes the kernel has forgotten. A process that has died
// knows none.
func (f *FS) Reclaim(ctx context.Context, hs []abi.Handle) error {
	g := f.cur.Load()
	if g == nil {
		return nil
	}
	c, ok := g.fs.(vfsops.Reclaimer)
	if !ok {
		return nil
	}
	err := c.Reclaim(ctx, hs)
	if died(err) {
		f.lost(g)
		return nil
	}
	return err
}

// Unmount ends the file system; what it has written is committed. What a process
// that is not there any more held ends with it.
func (f *FS) Unmount(ctx context.Context) error {
	g := f.cur.Load()
	if g == nil {
		return nil
	}
	err := g.fs.Unmount(ctx)
	if died(err) {
		f.lost(g)
		return nil
	}
	if err != nil {
		return err
	}
	f.mu.Lock()
	seq := f.seq
	f.mu.Unlock()
	if err := f.o.Backing.Commit(ctx, seq); err != nil {
		return err
	}
	if s, ok := f.o.Backing.(Syncer); ok {
		return s.Sync(ctx)
	}
	return nil
}
