package vfs

import (
	"context"
	"sort"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// What servers need that name files by identity and not by path (FUSE, 9P,
// NFS): vnodes held from one request to the next. Names below a directory are
// meant by Where.Dir, so that the calls by path do the rest.

// Vget answers the vnode of a path, held; a symbolic link itself. Rele lets it
// go.
func (fs *VFS) Vget(ctx context.Context, w Where, path string) (*Vnode, error) {
	return fs.namei(ctx, w, path, noFollow)
}

// Rele lets a vnode go that Vget has answered. It waits for no file system.
func (v *Vnode) Rele() { v.put() }

// Type is what kind of file it is.
func (v *Vnode) Type() abi.VType { return v.typ }

// Handle names the file: its file system, its number there and which use of
// the number it is.
func (v *Vnode) Handle() abi.Handle { return v.handle() }

// Cacheable reports whether nobody changes the file but through this kernel, so
// that a Watcher learns of all changes.
func (v *Vnode) Cacheable() bool { return v.m.sole() && !v.m.nocache }

// Caseless reports whether names in directory v ignore case, so that no answer
// that a name is missing may be kept.
func (v *Vnode) Caseless() bool { return v.m.casefold() }

// Stat answers the attributes.
func (v *Vnode) Stat(ctx context.Context) (st abi.Stat, err error) {
	err = v.stat(ctx, &st)
	return st, err
}

// Chmod is Fchmod.
func (v *Vnode) Chmod(ctx context.Context, c *abi.Caller, mode uint32) error {
	return v.chmod(ctx, c, mode)
}

// Chown is Fchown.
func (v *Vnode) Chown(ctx context.Context, c *abi.Caller, uid, gid uint32) error {
	return v.chown(ctx, c, uid, gid)
}

// Utimens is Futimens.
func (v *Vnode) Utimens(ctx context.Context, c *abi.Caller, times *[2]abi.Timespec) error {
	return v.utimens(ctx, c, times)
}

// Truncate sets the size; with open the caller has it open for writing and is
// not asked for permission.
func (v *Vnode) Truncate(ctx context.Context, c *abi.Caller, size int64, open bool) error {
	if size < 0 {
		return abi.EINVAL
	}
	if !open {
		if err := v.Access(ctx, c, abi.VWRITE); err != nil {
			return err
		}
	}
	return v.truncate(ctx, c, size)
}

// Touched tells who watches the file that its contents have changed by a way
// past this kernel.
func (v *Vnode) Touched(ctx context.Context) {
	v = v.base()
	v.note(ctx, abi.NOTE_WRITE|abi.NOTE_ATTRIB)
}

// Access authorises by c's effective ids.
func (v *Vnode) Access(ctx context.Context, c *abi.Caller, want abi.AccMode) error {
	var va abi.Vattr
	if err := v.getattr(ctx, &va); err != nil {
		return err
	}
	return v.access(ctx, c, want, &va)
}

// Readlink answers the text of a symbolic link, which can depend on who asks.
func (v *Vnode) Readlink(ctx context.Context, c *abi.Caller) (string, error) {
	return v.readlink(v.m.asking(ctx, c))
}

// Statvfs describes the file system that holds the file.
func (v *Vnode) Statvfs(ctx context.Context) (st abi.Statvfs, err error) {
	err = v.m.statvfs(ctx, &st)
	return st, err
}

// Fsync makes the file durable.
func (v *Vnode) Fsync(ctx context.Context, c *abi.Caller, dataOnly bool) error {
	return v.fsync(ctx, c, dataOnly)
}

// OpenVnode opens a vnode that the caller holds, as Open does what a path
// leads to.
func (fs *VFS) OpenVnode(ctx context.Context, c *abi.Caller, v *Vnode, flags int) (*file.File, error) {
	fs.cnt.opens.Inc()
	v.hold()
	f, err := fs.openVnode(ctx, c, v, flags, false, &walked{})
	if err != nil {
		v.put()
	}
	return f, err
}

// VnodeOf is the vnode of an open file, held; nil if it has none.
func VnodeOf(f *file.File) *Vnode {
	v := vnodeOf(f)
	if v != nil {
		v.hold()
	}
	return v
}

// LinkVnode gives a vnode that the caller holds another name.
func (fs *VFS) LinkVnode(ctx context.Context, v *Vnode, wnew Where, path string) error {
	return fs.link(ctx, v, wnew, path)
}

// Pwrite writes an open regular file at off, or with app at its end whatever
// the flags of the open are, and answers where the bytes went.
func (fs *VFS) Pwrite(ctx context.Context, c *abi.Caller, f *file.File, src []byte, off int64, app bool) (n int, at int64, err error) {
	v := vnodeOf(f)
	switch {
	case v == nil || v.typ != abi.VREG:
		return 0, 0, abi.EINVAL
	case !f.Writable():
		return 0, 0, abi.EBADF
	}
	n, at, err = v.write(ctx, c, src, off, app)
	v.behind()
	if fl := f.Flags(); err == nil && (fl&(abi.O_SYNC|abi.O_DSYNC) != 0 || v.m.flags.Load()&abi.MNT_SYNCHRONOUS != 0) {
		err = v.fsync(ctx, c, fl&abi.O_SYNC == 0)
	}
	return n, at, err
}

// ReadDir calls fn for the entries of directory v, as c gets to see them, from
// place off on, each with the place behind it, until fn answers false or there are no more. A place is
// 0 for the beginning, else one that fn was told; it stays good while the
// directory changes. fn is called without locks. ENOTDIR; EINVAL.
func (v *Vnode) ReadDir(ctx context.Context, c *abi.Caller, off int64, fn func(d *abi.Dirent, next int64) bool) error {
	return v.readDir(v.m.asking(ctx, c), off, fn)
}

func (v *Vnode) readDir(ctx context.Context, off int64, fn func(d *abi.Dirent, next int64) bool) error {
	switch {
	case v.typ != abi.VDIR:
		return abi.ENOTDIR
	case off < 0:
		return abi.EINVAL
	}
	if err := v.err(); err != nil {
		return err
	}
	for ; off < dirFirst; off++ {
		d := abi.Dirent{Type: abi.VDIR, Name: ".", Fileid: v.handle().File}
		if off == 1 {
			d.Name = ".."
			if up, _ := v.m.vfs.up(v); up != nil {
				d.Fileid = up.handle().File
			}
		}
		if !fn(&d, off+1) {
			return nil
		}
	}
	if v.unlinked.Load() {
		return nil
	}
	cookie := uint64(off - dirFirst)
	for {
		var l *dirList
		if v.m.names() {
			if l = v.list.Load(); l != nil {
				more, err := l.each(&cookie, fn)
				if !more || err != nil {
					return err
				}
			}
		}
		res, err := v.askDir(ctx, l, cookie)
		if err != nil {
			return err
		}
		for i := range res.Entries {
			e := &res.Entries[i]
			if e.Cookie > maxCookie || e.Cookie == cookie {
				return errCookie
			}
			cookie = e.Cookie
			if !fn(e, int64(cookie)+dirFirst) {
				return nil
			}
		}
		if res.EOF || len(res.Entries) == 0 {
			v.accessed()
			return nil
		}
	}
}

// askDir asks the file system for the entries behind cookie, and keeps the
// answer if it makes v's listing l longer.
func (v *Vnode) askDir(ctx context.Context, l *dirList, cookie uint64) (vfsops.ReaddirRes, error) {
	b, err := v.bind(ctx)
	if err != nil {
		return vfsops.ReaddirRes{}, err
	}
	fs := v.m.vfs
	v.mu.RLock()
	defer v.mu.RUnlock()
	res, err := b.fs.Readdir(ctx, vfsops.ReaddirReq{Dir: v.handle(), Cookie: cookie, Max: max(fs.lists.block(), 24+abi.NAME_MAX)})
	if err == nil && v.m.names() && b.sole() && l.grows(cookie) {
		if blk := encodeBlock(cookie, &res); blk != nil {
			fs.lists.put(v, b, l, blk)
		}
	}
	return res, err
}

// each calls fn for the records behind *cookie, which it moves on. more: there
// may be others in the directory.
func (l *dirList) each(cookie *uint64, fn func(d *abi.Dirent, next int64) bool) (more bool, err error) {
	l.hot.Store(true)
	for _, b := range l.blocks {
		if b.last <= *cookie {
			continue
		}
		i := sort.Search(len(b.cookies), func(j int) bool { return b.cookies[j] > *cookie })
		at := 0
		if i > 0 {
			at = int(b.ends[i-1])
		}
		var d abi.Dirent
		for ; i < len(b.ends); i++ {
			n, err := abi.ParseDirent(b.buf[at:], &d)
			if err != nil {
				return false, err
			}
			at += n
			*cookie = b.cookies[i]
			if !fn(&d, int64(*cookie)+dirFirst) {
				return false, nil
			}
		}
	}
	return !l.last().eof, nil
}

// Hold takes another reference on a vnode that somebody holds.
func (v *Vnode) Hold() { v.hold() }
