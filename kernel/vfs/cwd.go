package vfs

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Cwdinfo is a process's current directory, root directory and umask (struct
// cwdinfo). Processes made by rfork may share one.
type Cwdinfo struct {
	mu    sync.RWMutex
	cdir  *Vnode // protected by mu; nil: the root of the tree
	rdir  *Vnode // protected by mu; nil: the root of the tree
	cmask uint32 // protected by mu
	refs  atomic.Int32
}

// NewCwdinfo makes one at the root of the tree, with umask 022.
func NewCwdinfo() *Cwdinfo {
	c := &Cwdinfo{cmask: 0o022}
	c.refs.Store(1)
	return c
}

// Copy makes a Cwdinfo of its own with the same contents (cwdinit).
func (c *Cwdinfo) Copy() *Cwdinfo {
	n := NewCwdinfo()
	c.mu.RLock()
	defer c.mu.RUnlock()
	n.cdir, n.rdir, n.cmask = c.cdir, c.rdir, c.cmask
	for _, v := range []*Vnode{n.cdir, n.rdir} {
		if v != nil {
			v.hold()
		}
	}
	return n
}

// Share takes another reference (cwdshare).
func (c *Cwdinfo) Share() *Cwdinfo { c.refs.Add(1); return c }

// Release drops a reference; the last one lets the directories go (cwdfree).
func (c *Cwdinfo) Release() {
	if c.refs.Add(-1) != 0 {
		return
	}
	c.mu.Lock()
	vs := []*Vnode{c.cdir, c.rdir}
	c.cdir, c.rdir = nil, nil
	c.mu.Unlock()
	for _, v := range vs {
		if v != nil {
			v.put()
		}
	}
}

// Umask sets the umask and answers the old one.
func (c *Cwdinfo) Umask(mask uint32) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.cmask
	c.cmask = mask & 0o777
	return old
}

func (c *Cwdinfo) mask() uint32 {
	if c == nil {
		return 0
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.cmask
}

func (c *Cwdinfo) dirs() (cdir, rdir *Vnode) {
	if c == nil {
		return nil, nil
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.cdir, c.rdir
}

// setCdir takes over the caller's reference.
func (c *Cwdinfo) setCdir(v *Vnode) {
	c.mu.Lock()
	old := c.cdir
	c.cdir = v
	c.mu.Unlock()
	if old != nil {
		old.put()
	}
}

// Where says on whose behalf a path is meant, and what it is relative to.
type Where struct {
	Caller *abi.Caller
	Cwd    *Cwdinfo   // nil: the root of the tree, umask 0
	At     *file.File // a directory for the *at calls; nil: the current directory
	Dir    *Vnode     // the same as a vnode that the caller holds; it goes before At
}

// Chdir makes path the current directory. ENOTDIR, EACCES.
func (fs *VFS) Chdir(ctx context.Context, w Where, path string) error {
	return fs.withPath(ctx, w, path, true, func(v *Vnode) error {
		v.hold()
		return fs.chdir(ctx, w, v)
	})
}

// Fchdir makes an open directory the current one. ENOTDIR, EACCES.
func (fs *VFS) Fchdir(ctx context.Context, w Where, f *file.File) error {
	v := vnodeOf(f)
	if v == nil {
		return abi.ENOTDIR
	}
	v.hold()
	return fs.chdir(ctx, w, crossDownHeld(v))
}

// chdir takes over the reference on v.
func (fs *VFS) chdir(ctx context.Context, w Where, v *Vnode) error {
	if w.Cwd == nil {
		v.put()
		return abi.EINVAL
	}
	if err := fs.maySearch(ctx, w.Caller, v); err != nil {
		v.put()
		return err
	}
	w.Cwd.setCdir(v)
	return nil
}

func (fs *VFS) maySearch(ctx context.Context, c *abi.Caller, v *Vnode) error {
	if v.typ != abi.VDIR {
		return abi.ENOTDIR
	}
	var va abi.Vattr
	if err := v.getattr(ctx, &va); err != nil {
		return err
	}
	return v.access(ctx, c, abi.VEXEC, &va)
}

// Chroot makes path the root directory. EPERM, ENOTDIR, EACCES. As in NetBSD
// a current directory outside stays where it is for absolute paths, but `..`
// cannot leave: the current directory becomes the new root.
func (fs *VFS) Chroot(ctx context.Context, w Where, path string) error {
	if err := fs.o.Privileged(w.Caller, "chroot"); err != nil {
		return err
	}
	if w.Cwd == nil {
		return abi.EINVAL
	}
	v, err := fs.namei(ctx, w, path, followLink)
	if err != nil {
		return err
	}
	if err := fs.maySearch(ctx, w.Caller, v); err != nil {
		v.put()
		return err
	}
	inside := false
	if cdir, _ := w.Cwd.dirs(); cdir != nil && cdir.tryHold() {
		inside = fs.inside(cdir, v)
		cdir.put()
	}
	w.Cwd.mu.Lock()
	old, oldc := w.Cwd.rdir, (*Vnode)(nil)
	w.Cwd.rdir = v
	if !inside {
		oldc = w.Cwd.cdir
		v.hold()
		w.Cwd.cdir = v
	}
	w.Cwd.mu.Unlock()
	for _, o := range []*Vnode{old, oldc} {
		if o != nil {
			o.put()
		}
	}
	return nil
}

// inside reports whether directory v is root or below it, over mounts.
func (fs *VFS) inside(v, root *Vnode) bool {
	for v != nil {
		if v == root {
			return true
		}
		up, _ := fs.up(v)
		v = up
	}
	return false
}

// up is the directory that holds v, and v's name there, over mount points,
// without a reference; nil at the root of all or where it is not known.
func (fs *VFS) up(v *Vnode) (*Vnode, string) {
	for v.isRoot() {
		if v = v.m.on.Load(); v == nil {
			return nil, ""
		}
	}
	v.m.treeMu.RLock()
	defer v.m.treeMu.RUnlock()
	if v.link == nil {
		return nil, ""
	}
	return v.link.dir, v.link.name
}

// pathOf is the absolute path of directory v below root (nil: the root of the
// tree). ENOENT if it has been removed or lies outside.
func (fs *VFS) pathOf(v, root *Vnode) (string, error) {
	var names []string
	n := 1
	for v != root {
		if v.unlinked.Load() {
			return "", abi.ENOENT
		}
		if err := v.err(); err != nil {
			return "", err
		}
		up, name := fs.up(v)
		if up == nil {
			if root != nil || !fs.atRoot(v) {
				return "", abi.ENOENT
			}
			break
		}
		names = append(names, name)
		if n += len(name) + 1; n > abi.PATH_MAX*4 {
			return "", abi.ENAMETOOLONG
		}
		v = up
	}
	if len(names) == 0 {
		return "/", nil
	}
	var b strings.Builder
	for i := len(names) - 1; i >= 0; i-- {
		b.WriteByte('/')
		b.WriteString(names[i])
	}
	return b.String(), nil
}

// atRoot reports whether v is the root of the tree, or of a mount that covers
// it.
func (fs *VFS) atRoot(v *Vnode) bool {
	for v.isRoot() {
		on := v.m.on.Load()
		if on == nil {
			return true
		}
		v = on
	}
	return false
}

// Getcwd answers the absolute path of the current directory. ENOENT if it has
// been removed.
func (fs *VFS) Getcwd(ctx context.Context, w Where) (string, error) {
	if !fs.Available() {
		return "", errUnavailable
	}
	cdir, rdir := w.Cwd.dirs()
	if rdir != nil {
		rdir = crossDown(rdir)
	}
	if cdir == nil {
		return "/", nil
	}
	return fs.pathOf(crossDown(cdir), rdir)
}

// Getroot answers the absolute path of the root directory, as seen from the root
// of the tree. ENOENT if it has been removed.
func (fs *VFS) Getroot(ctx context.Context, w Where) (string, error) {
	if !fs.Available() {
		return "", errUnavailable
	}
	_, rdir := w.Cwd.dirs()
	if rdir == nil {
		return "/", nil
	}
	return fs.pathOf(crossDown(rdir), nil)
}

// Path answers the absolute path of an open directory (F_GETPATH). EBADF for
// a file that is no vnode; ENOENT for one whose path is not known, which is so
// for everything but directories.
func (fs *VFS) Path(w Where, f *file.File) (string, error) {
	v := vnodeOf(f)
	if v == nil {
		return "", abi.EBADF
	}
	if v.typ != abi.VDIR {
		return "", abi.ENOENT
	}
	_, rdir := w.Cwd.dirs()
	return fs.pathOf(v, rdir)
}
