package vfs

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// nullfs shows a directory at a second place (mount_null(8)). Each of its vnodes
// stands for one below, the lower vnode, on which every operation is done; there
// is nothing else, and nothing is cached, so that a change through one is seen
// through the other at once. Locks, knotes, fifos and sockets are the lower
// vnode's, see base: it does not matter through which they are used. What is
// mounted below the directory is not shown. File numbers are those below.
//
// Locks: those of the upper mount come before those of the lower one, which was
// there before it, so that there are no circles. nullFS.mu is a leaf.

// NullCaps are the declared capabilities: permission is asked below.
const NullCaps = vfsops.CapAuthz

// maxLayers is how many nullfs may lie on one another; ELOOP above.
const maxLayers = 8

// NullType is the file-system type "nullfs".
type NullType struct{}

var (
	_ vfsops.FSType     = NullType{}
	_ vfsops.FSType     = (*nullMount)(nil)
	_ vfsops.FS         = (*nullFS)(nil)
	_ vfsops.Creator    = (*nullFS)(nil)
	_ vfsops.Mknoder    = (*nullFS)(nil)
	_ vfsops.Symlinker  = (*nullFS)(nil)
	_ vfsops.Linker     = (*nullFS)(nil)
	_ vfsops.Remover    = (*nullFS)(nil)
	_ vfsops.Renamer    = (*nullFS)(nil)
	_ vfsops.Setattrer  = (*nullFS)(nil)
	_ vfsops.Writer     = (*nullFS)(nil)
	_ vfsops.Truncater  = (*nullFS)(nil)
	_ vfsops.Readlinker = (*nullFS)(nil)
	_ vfsops.Xattrer    = (*nullFS)(nil)
	_ vfsops.Pinner     = (*nullFS)(nil)
	_ vfsops.Reclaimer  = (*nullFS)(nil)
	_ vfsops.Syncer     = (*nullFS)(nil)
	_ vfsops.Accesser   = (*nullFS)(nil)
	_ Personal          = (*nullFS)(nil)
)

// Mount is never called: VFS.Mount finds the directory and uses nullMount.
func (NullType) Mount(context.Context, *vfsops.MountReq) (vfsops.FS, error) {
	return nil, abi.EOPNOTSUPP
}

// nullMount mounts one directory, on which the caller has a reference.
type nullMount struct{ lower *Vnode }

// layer is the type that a mount uses: t itself, or for nullfs one of the
// directory source, which is in use until put.
func (fs *VFS) layer(ctx context.Context, w Where, t *fsType, source string) (mt *fsType, put func(), err error) {
	if _, null := t.t.(NullType); !null {
		return t, func() {}, nil
	}
	v, err := fs.nullSource(ctx, w, source)
	if err != nil {
		return nil, nil, err
	}
	return &fsType{instance: t.instance, name: t.name, t: &nullMount{v}, caps: t.caps}, v.put, nil
}

// nullSource finds the directory to show at on. ENOENT, ENOTDIR; EINVAL if one
// of the two lies in the other; ELOOP. The vnode is held.
func (fs *VFS) nullSource(ctx context.Context, w Where, source string) (*Vnode, error) {
	v, err := fs.namei(ctx, w, source, followLink)
	if err != nil {
		return nil, fmt.Errorf("mount of %q: %w", source, err)
	}
	layers := 1
	for m := v.m; m.null != nil; m = m.null.m {
		layers++
	}
	switch {
	case v.typ != abi.VDIR:
		err = abi.ENOTDIR
	case layers > maxLayers:
		err = abi.ELOOP
	}
	if err != nil {
		v.put()
		return nil, fmt.Errorf("mount of %q: %w", source, err)
	}
	return v, nil
}

// distinct refuses a nullfs and a mount point of which one lies in the other.
// EINVAL.
func (fs *VFS) distinct(t vfsops.FSType, on *Vnode) error {
	n, null := t.(*nullMount)
	if !null {
		return nil
	}
	lower := n.lower
	if on == nil || fs.inside(lower, on) || fs.inside(on, lower) {
		return fmt.Errorf("the directory and its mount point are not distinct: %w", abi.EINVAL)
	}
	return nil
}

// Mount makes the file system. It takes no options (EINVAL).
func (t *nullMount) Mount(_ context.Context, req *vfsops.MountReq) (vfsops.FS, error) {
	if len(req.Options) > 0 {
		return nil, abi.EINVAL
	}
	t.lower.hold()
	n := &nullFS{vfs: t.lower.m.vfs, m: t.lower.m, fsid: req.Fsid, root: t.lower, nodes: make(map[vkey]*Vnode)}
	n.nodes[t.lower.key()] = t.lower
	return n, nil
}

// nullFS is a mounted nullfs.
type nullFS struct {
	vfs  *VFS
	m    *Mount // the lower mount
	fsid abi.Fsid
	root *Vnode

	mu    sync.Mutex
	nodes map[vkey]*Vnode // protected by mu; lower vnodes, each with a reference
}

// base is the vnode that v stands for, through all layers; v itself if it is no
// nullfs's.
func (v *Vnode) base() *Vnode {
	for v.lower != nil {
		v = v.lower
	}
	return v
}

// Personal passes on who asks.
func (n *nullFS) Personal() {}

func (n *nullFS) find(h abi.Handle) (*Vnode, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if v := n.nodes[vkey{h.File, h.Gen}]; v != nil && h.FS == n.fsid {
		return v, nil
	}
	return nil, abi.ESTALE
}

// keep takes over a reference on a lower vnode and answers its entry.
func (n *nullFS) keep(ctx context.Context, v *Vnode) (vfsops.Entry, error) {
	va, err := n.attr(ctx, v)
	if err != nil {
		v.put()
		return vfsops.Entry{}, err
	}
	k := vkey{va.Fileid, va.Gen}
	n.mu.Lock()
	old := n.nodes[k]
	n.nodes[k] = v
	n.mu.Unlock()
	if old != nil {
		old.put() // the same, or one of a process that died
	}
	return vfsops.Entry{Handle: va.Handle(n.fsid), Vattr: va}, nil
}

// attr are the attributes of a lower vnode.
func (n *nullFS) attr(ctx context.Context, v *Vnode) (va abi.Vattr, err error) {
	err = v.getattr(ctx, &va)
	k := v.key()
	va.Fileid, va.Gen = k.file, k.gen
	return va, err
}

// now is attr for an answer that may leave it out.
func (n *nullFS) now(ctx context.Context, v *Vnode) abi.Vattr {
	va, err := n.attr(ctx, v)
	if err != nil {
		return abi.Vattr{}
	}
	return va
}

// Root is the directory that is shown.
func (n *nullFS) Root(ctx context.Context) (vfsops.Entry, error) {
	n.root.hold()
	return n.keep(ctx, n.root)
}

// Lookup looks names up below, without crossing what is mounted there.
func (n *nullFS) Lookup(ctx context.Context, req vfsops.LookupReq) (res vfsops.LookupRes, err error) {
	dir, err := n.find(req.Start)
	if err != nil {
		return res, err
	}
	for i, name := range req.Names {
		if dir.typ != abi.VDIR {
			return res, nil
		}
		v, err := n.child(ctx, dir, string(name))
		var e vfsops.Entry
		if err == nil {
			dir = v
			e, err = n.keep(ctx, v)
		}
		if err != nil {
			if i == 0 && !errors.Is(err, abi.ENOENT) {
				return res, err
			}
			res.Err = abi.ErrnoOf(err)
			return res, nil
		}
		res.Trace = append(res.Trace, e)
	}
	return res, nil
}

// child is a name in a lower directory, held. ENOENT.
func (n *nullFS) child(ctx context.Context, dir *Vnode, name string) (*Vnode, error) {
	b, err := dir.bind(ctx)
	if err != nil {
		return nil, err
	}
	dir.mu.RLock()
	defer dir.mu.RUnlock()
	if dir.unlinked.Load() {
		return nil, abi.ENOENT
	}
	v, err := dir.lookupLocked(ctx, b, name)
	if err == nil && v == nil {
		err = abi.ENOENT
	}
	return v, err
}

// Getattr answers the attributes below.
func (n *nullFS) Getattr(ctx context.Context, h abi.Handle) (abi.Vattr, error) {
	v, err := n.find(h)
	if err != nil {
		return abi.Vattr{}, err
	}
	return n.attr(ctx, v)
}

// Access authorises below.
func (n *nullFS) Access(ctx context.Context, h abi.Handle, c *abi.Caller, want abi.AccMode) error {
	v, err := n.find(h)
	if err != nil {
		return err
	}
	var va abi.Vattr
	if err := v.getattr(ctx, &va); err != nil {
		return err
	}
	return v.access(ctx, c, want, &va)
}

// Readdir lists the directory below; cookies are its.
func (n *nullFS) Readdir(ctx context.Context, req vfsops.ReaddirReq) (res vfsops.ReaddirRes, err error) {
	v, err := n.find(req.Dir)
	if err != nil {
		return res, err
	}
	off := int64(dirFirst)
	if req.Cookie > maxCookie {
		return vfsops.ReaddirRes{EOF: true}, nil
	}
	off += int64(req.Cookie)
	room, full := req.Max, false
	err = v.readDir(ctx, off, func(d *abi.Dirent, next int64) bool {
		if room -= 24 + len(d.Name); room < 0 {
			full = true
			return false
		}
		e := *d
		e.Cookie = uint64(next - dirFirst)
		res.Entries = append(res.Entries, e)
		return true
	})
	switch {
	case err != nil:
		return vfsops.ReaddirRes{}, err
	case full && len(res.Entries) == 0:
		return res, abi.EINVAL
	}
	res.EOF = !full
	return res, nil
}

// Read reads below.
func (n *nullFS) Read(ctx context.Context, h abi.Handle, off int64, dst abi.Iov) (done int, err error) {
	v, err := n.find(h)
	if err != nil {
		return 0, err
	}
	if v.typ != abi.VREG {
		return 0, abi.EISDIR
	}
	for _, p := range dst {
		for len(p) > 0 {
			k, err := v.read(ctx, p, off+int64(done))
			done += k
			if err != nil && done == 0 {
				return 0, err
			}
			if err != nil || k == 0 {
				return done, nil
			}
			p = p[k:]
		}
	}
	return done, nil
}

// Readlink reads the link below.
func (n *nullFS) Readlink(ctx context.Context, h abi.Handle) ([]byte, error) {
	v, err := n.find(h)
	if err != nil {
		return nil, err
	}
	t, err := v.readlink(ctx)
	return []byte(t), err
}

// Statvfs describes the file system below.
func (n *nullFS) Statvfs(ctx context.Context) (st abi.Statvfs, err error) {
	err = n.m.statvfs(ctx, &st)
	return st, err
}

// Unmount lets the lower vnodes go.
func (n *nullFS) Unmount(context.Context) error {
	n.mu.Lock()
	nodes := n.nodes
	n.nodes = make(map[vkey]*Vnode)
	n.mu.Unlock()
	for _, v := range nodes {
		v.put()
	}
	return nil
}

// Reclaim lets the lower vnodes of forgotten ones go; the root's stays.
func (n *nullFS) Reclaim(_ context.Context, hs []abi.Handle) error {
	var drop []*Vnode
	n.mu.Lock()
	for _, h := range hs {
		k := vkey{h.File, h.Gen}
		if v := n.nodes[k]; v != nil && v != n.root {
			delete(n.nodes, k)
			drop = append(drop, v)
		}
	}
	n.mu.Unlock()
	for _, v := range drop {
		v.put()
	}
	return nil
}

// Pin has nothing to do: the lower vnode is in use, and so lives on.
func (n *nullFS) Pin(context.Context, abi.Handle) error { return nil }

// Unpin ends that, as Reclaim does: nobody has the upper vnode any more.
func (n *nullFS) Unpin(ctx context.Context, h abi.Handle) error {
	return n.Reclaim(ctx, []abi.Handle{h})
}

// Sync makes a file durable, or everything below.
func (n *nullFS) Sync(ctx context.Context, h abi.Handle, dataOnly bool) error {
	if h == (abi.Handle{}) {
		return n.m.sync(ctx)
	}
	v, err := n.find(h)
	if err != nil {
		return err
	}
	return v.fsync(ctx, abi.KernelCaller, dataOnly)
}
