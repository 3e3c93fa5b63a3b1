package vfs

import (
	"context"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Open opens a path (open(2)): flags are O_*, mode is for a file that O_CREAT
// makes. The file has the flags of the open but for those that matter only
// now (O_CREAT, O_EXCL, O_TRUNC, O_CLOEXEC, ...); closing on exec is the
// descriptor's.
//
// Errors beside those of the walk and of permissions: EEXIST (O_EXCL), EISDIR
// (a directory for writing, or O_CREAT on one), ENOTDIR (O_DIRECTORY), ELOOP
// (O_NOFOLLOW on a symbolic link), EFTYPE (O_REGULAR), EROFS, ENXIO (a device
// that is not there), EOPNOTSUPP (a socket), ENFILE.
func (fs *VFS) Open(ctx context.Context, w Where, path string, flags int, mode uint32) (*file.File, error) {
	fs.cnt.opens.Inc()
	if flags&abi.O_ACCMODE == abi.O_ACCMODE {
		return nil, abi.EINVAL
	}
	if flags&abi.O_CREAT != 0 && flags&abi.O_DIRECTORY != 0 {
		return nil, abi.EINVAL
	}
	for try := 0; ; try++ {
		var v *Vnode
		var err error
		made := false
		var got walked
		if flags&abi.O_CREAT != 0 {
			v, made, err = fs.openCreate(ctx, w, path, flags, mode)
		} else {
			m := followLink
			if flags&abi.O_NOFOLLOW != 0 {
				m = noFollow
			}
			v, err = fs.nameiAttr(ctx, w, path, m, &got)
		}
		if err != nil {
			return nil, err
		}
		f, err := fs.openVnode(ctx, w.Caller, v, flags, made, &got)
		if err == nil {
			return f, nil
		}
		again := fs.again(v, err, try)
		v.put()
		if !again {
			return nil, err
		}
	}
}

// openCreate finds or makes the file for O_CREAT.
func (fs *VFS) openCreate(ctx context.Context, w Where, path string, flags int, mode uint32) (*Vnode, bool, error) {
	mode = mode & abi.ALLPERMS &^ w.Cwd.mask()
	at := w
	defer func() {
		if at.At != w.At {
			at.At.Release(ctx)
		}
	}()
	for links := 0; ; {
		var v *Vnode
		made := false
		var dir *Vnode // of a symbolic link
		err := fs.inParent(ctx, at, path, func(p *parentOp) error {
			if p.dots() {
				if flags&abi.O_EXCL != 0 {
					return abi.EEXIST
				}
				return abi.EISDIR
			}
			if p.v != nil {
				if flags&abi.O_EXCL != 0 {
					return abi.EEXIST
				}
				v, p.v = p.v, nil
				if v.typ == abi.VLNK && (flags&abi.O_NOFOLLOW == 0 || p.slash) {
					dir = p.dir
					dir.hold()
				} else if p.slash && v.typ != abi.VDIR {
					v.put()
					return abi.ENOTDIR
				}
				return nil
			}
			if p.slash {
				return abi.EISDIR
			}
			if err := p.mayCreate(); err != nil {
				return err
			}
			var err error
			v, err = p.create(mode)
			made = err == nil
			return err
		})
		if err != nil {
			return nil, false, err
		}
		if dir == nil {
			// What is mounted on a directory, or a file, is what is opened.
			return crossDownHeld(v), made, nil
		}
		// A symbolic link: go on at its target, from its directory.
		links++
		var target string
		if links > abi.MAXSYMLINKS {
			err = abi.ELOOP
		} else {
			target, err = v.readlink(v.m.asking(ctx, w.Caller))
		}
		v.put()
		if err != nil {
			dir.put()
			return nil, false, err
		}
		if at.At != w.At {
			at.At.Release(ctx)
		}
		at.At, at.Dir = dirFile(dir), nil
		path = target
	}
}

// openVnode makes a file of v and takes over the reference on it if it
// succeeds. made: it is new; got: see nameiAttr.
func (fs *VFS) openVnode(ctx context.Context, c *abi.Caller, v *Vnode, flags int, made bool, got *walked) (*file.File, error) {
	write := flags&abi.O_ACCMODE != abi.O_RDONLY
	switch v.typ {
	case abi.VLNK:
		if flags&abi.O_DIRECTORY != 0 {
			return nil, abi.ENOTDIR
		}
		return nil, abi.ELOOP
	case abi.VSOCK:
		return nil, abi.EOPNOTSUPP
	case abi.VDIR:
		if write || flags&(abi.O_TRUNC|abi.O_CREAT) != 0 {
			return nil, abi.EISDIR
		}
	default:
		if flags&(abi.O_DIRECTORY|abi.O_SEARCH) != 0 {
			return nil, abi.ENOTDIR
		}
	}
	if flags&abi.O_REGULAR != 0 && v.typ != abi.VREG {
		return nil, abi.EFTYPE
	}
	if !made {
		if err := fs.openAccess(ctx, c, v, flags, write, got); err != nil {
			return nil, err
		}
	}
	switch v.typ {
	case abi.VCHR, abi.VBLK:
		return fs.openDevice(ctx, c, v, flags)
	case abi.VFIFO:
		if fs.o.OpenFifo == nil {
			return nil, abi.EOPNOTSUPP
		}
		ops, data, err := fs.o.OpenFifo(ctx, c, &v.base().assoc, flags)
		if err != nil {
			return nil, err
		}
		return fs.wrap(c, v, ops, data, flags)
	}
	if v.typ == abi.VREG && v.m.openers() {
		if f, ok, err := fs.openMadeUp(ctx, c, v, flags); ok {
			return f, err
		}
	}
	if flags&abi.O_TRUNC != 0 && !made && v.typ == abi.VREG {
		if err := v.truncate(ctx, c, 0); err != nil {
			return nil, err
		}
	}
	f, err := fs.o.Files.New(file.TypeVnode, vnodeFile{}, v, flags&keepFlags, c.Cred)
	if err != nil {
		return nil, err
	}
	v.opened(write)
	return f, nil
}

// opened counts an open file in, on the vnodes below too; see closed.
func (v *Vnode) opened(write bool) {
	for ; v != nil; v = v.lower {
		v.opens.Add(1)
		if write {
			v.writers.Add(1)
		}
	}
}

// writers reports whether a file of m is open for writing.
func (m *Mount) writers() bool {
	m.vmu.Lock()
	defer m.vmu.Unlock()
	for _, v := range m.vnodes {
		if v.writers.Load() > 0 {
			return true
		}
	}
	return false
}

// keepFlags are the flags of an open that stay with the file.
const keepFlags = abi.O_ACCMODE | abi.O_NONBLOCK | abi.O_APPEND | abi.O_ASYNC | abi.O_SYNC | abi.O_DSYNC | abi.O_RSYNC |
	abi.O_DIRECT | abi.O_ALT_IO | abi.O_NOSIGPIPE | abi.O_SEARCH | abi.O_EXEC

// openAccess authorises the open of an existing file.
func (fs *VFS) openAccess(ctx context.Context, c *abi.Caller, v *Vnode, flags int, write bool, got *walked) error {
	wk := walkers.Get().(*walker)
	defer walkers.Put(wk)
	va := &wk.va
	if err := v.getattrWalked(ctx, va, got); err != nil {
		return err
	}
	var want abi.AccMode
	switch {
	case flags&(abi.O_SEARCH|abi.O_EXEC) != 0:
		want = abi.VEXEC
		if v.typ != abi.VDIR && v.m.flags.Load()&abi.MNT_NOEXEC != 0 {
			return abi.EACCES
		}
	case flags&abi.O_ACCMODE != abi.O_WRONLY:
		want = abi.VREAD
	}
	if write || flags&abi.O_TRUNC != 0 {
		want |= abi.VWRITE
	}
	if write && va.Flags&(abi.UF_APPEND|abi.SF_APPEND) != 0 && flags&abi.O_APPEND == 0 {
		return abi.EPERM
	}
	return v.access(ctx, c, want, va)
}

// openDevice opens what a device vnode stands for (spec_open).
func (fs *VFS) openDevice(ctx context.Context, c *abi.Caller, v *Vnode, flags int) (*file.File, error) {
	if v.m.flags.Load()&abi.MNT_NODEV != 0 {
		return nil, abi.ENXIO
	}
	if fs.o.OpenDev == nil {
		return nil, abi.ENXIO
	}
	ops, data, err := fs.o.OpenDev(ctx, c, v.rdev, v.typ == abi.VBLK, flags)
	if err != nil {
		return nil, err
	}
	return fs.wrap(c, v, ops, data, flags)
}

// wrap makes a file whose operations are another layer's, but which is v.
func (fs *VFS) wrap(c *abi.Caller, v *Vnode, ops file.Ops, data any, flags int) (*file.File, error) {
	f, err := fs.o.Files.New(file.TypeVnode, &specFile{Ops: ops, v: v}, data, flags&keepFlags, c.Cred)
	if err != nil {
		ops.Close(context.Background(), &file.File{Type: file.TypeVnode, Ops: ops, Data: data, Cred: c.Cred})
		return nil, err
	}
	v.opened(false)
	return f, nil
}

// dirFile makes a file of a directory for a walk relative to it; it takes over
// the reference.
func dirFile(v *Vnode) *file.File {
	t := &file.Table{}
	t.Max.Store(1)
	f, _ := t.New(file.TypeVnode, vnodeFile{}, v, abi.O_RDONLY, nil)
	v.opened(false)
	return f
}
