package fuse

import (
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/rumpus-kernel/rumpus/host/export/linuxabi"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// name checks one name of Linux's, which is never a path.
func name(n string) error {
	if n == "" || n == "." || n == ".." || strings.IndexByte(n, '/') >= 0 {
		return abi.EINVAL
	}
	return nil
}

// lookup finds a name in a directory and answers it to Linux.
func (s *Server) lookup(r *request, dir *vfs.Vnode, n string, out *fuse.EntryOut) error {
	if err := name(n); err != nil {
		return err
	}
	var v *vfs.Vnode
	err := r.as(func(c *abi.Caller) (err error) {
		v, err = s.vfs.Vget(r, vfs.Where{Caller: c, Dir: dir}, n)
		return err
	})
	if err != nil {
		return err
	}
	return s.answer(r, dir, v, n, out)
}

// Lookup is LOOKUP. That a name is missing may be kept as well.
func (s *Server) Lookup(cancel <-chan struct{}, h *fuse.InHeader, n string, out *fuse.EntryOut) fuse.Status {
	return s.on(cancel, h, func(r *request, dir *vfs.Vnode) error {
		err := s.lookup(r, dir, n, out)
		if abi.ErrnoOf(err) == abi.ENOENT && !dir.Caseless() {
			if ttl := s.ttl(dir); ttl > 0 {
				*out = fuse.EntryOut{EntryValid: ttl}
				return nil
			}
		}
		return err
	})
}

// make makes a name by fn and answers it.
func (s *Server) make(cancel <-chan struct{}, h *fuse.InHeader, n string, out *fuse.EntryOut, fn func(r *request, w vfs.Where) error) fuse.Status {
	if err := name(n); err != nil {
		return status(err)
	}
	return s.on(cancel, h, func(r *request, dir *vfs.Vnode) error {
		if err := r.as(func(c *abi.Caller) error { return fn(r, vfs.Where{Caller: c, Dir: dir}) }); err != nil {
			return err
		}
		return s.lookup(r, dir, n, out)
	})
}

// Mkdir is MKDIR; Linux has applied the umask.
func (s *Server) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, n string, out *fuse.EntryOut) fuse.Status {
	return s.make(cancel, &in.InHeader, n, out, func(r *request, w vfs.Where) error {
		return s.vfs.Mkdir(r, w, n, in.Mode)
	})
}

// Mknod is MKNOD.
func (s *Server) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, n string, out *fuse.EntryOut) fuse.Status {
	return s.make(cancel, &in.InHeader, n, out, func(r *request, w vfs.Where) error {
		return s.vfs.Mknod(r, w, n, in.Mode, linuxabi.Dev(in.Rdev))
	})
}

// Symlink is SYMLINK.
func (s *Server) Symlink(cancel <-chan struct{}, h *fuse.InHeader, text, n string, out *fuse.EntryOut) fuse.Status {
	return s.make(cancel, h, n, out, func(r *request, w vfs.Where) error {
		return s.vfs.Symlink(r, w, text, n)
	})
}

// Link is LINK.
func (s *Server) Link(cancel <-chan struct{}, in *fuse.LinkIn, n string, out *fuse.EntryOut) fuse.Status {
	v, err := s.vnode(in.Oldnodeid)
	if err != nil {
		return status(err)
	}
	defer v.Rele()
	return s.make(cancel, &in.InHeader, n, out, func(r *request, w vfs.Where) error {
		return s.vfs.LinkVnode(r, v, w, n)
	})
}

func (s *Server) unlink(cancel <-chan struct{}, h *fuse.InHeader, n string, flags int) fuse.Status {
	if err := name(n); err != nil {
		return status(err)
	}
	return s.on(cancel, h, func(r *request, dir *vfs.Vnode) error {
		return r.as(func(c *abi.Caller) error { return s.vfs.Unlink(r, vfs.Where{Caller: c, Dir: dir}, n, flags) })
	})
}

// Unlink is UNLINK.
func (s *Server) Unlink(cancel <-chan struct{}, h *fuse.InHeader, n string) fuse.Status {
	return s.unlink(cancel, h, n, 0)
}

// Rmdir is RMDIR.
func (s *Server) Rmdir(cancel <-chan struct{}, h *fuse.InHeader, n string) fuse.Status {
	return s.unlink(cancel, h, n, abi.AT_REMOVEDIR)
}

// Rename is RENAME and RENAME2.
func (s *Server) Rename(cancel <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	flags, err := linuxabi.RenameFlags(in.Flags)
	if err == nil {
		err = name(from)
	}
	if err == nil {
		err = name(to)
	}
	if err != nil {
		return status(err)
	}
	tdir, err := s.vnode(in.Newdir)
	if err != nil {
		return status(err)
	}
	defer tdir.Rele()
	return s.on(cancel, &in.InHeader, func(r *request, dir *vfs.Vnode) error {
		return r.as(func(c *abi.Caller) error {
			return s.vfs.Rename(r, vfs.Where{Caller: c, Dir: dir}, from, vfs.Where{Caller: c, Dir: tdir}, to, flags)
		})
	})
}

// OpenDir is OPENDIR. There is nothing to keep: a place in a directory is good
// for every reader.
func (s *Server) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return s.on(cancel, &in.InHeader, func(r *request, v *vfs.Vnode) error {
		if v.Type() != abi.VDIR {
			return abi.ENOTDIR
		}
		return r.as(func(c *abi.Caller) error { return v.Access(r, c, abi.VREAD) })
	})
}

// ReleaseDir is RELEASEDIR.
func (s *Server) ReleaseDir(*fuse.ReleaseIn) {}

// FsyncDir is FSYNCDIR.
func (s *Server) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return s.on(cancel, &in.InHeader, func(r *request, v *vfs.Vnode) error {
		return v.Fsync(r, r.caller(), in.FsyncFlags&1 != 0)
	})
}

// ReadDir is READDIR.
func (s *Server) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return s.on(cancel, &in.InHeader, func(r *request, v *vfs.Vnode) error {
		fsid := v.Handle().FS
		return v.ReadDir(r, r.caller(), int64(in.Offset), func(d *abi.Dirent, next int64) bool {
			return out.AddDirEntry(s.dirent(fsid, d, next))
		})
	})
}

func (s *Server) dirent(fsid abi.Fsid, d *abi.Dirent, next int64) fuse.DirEntry {
	return fuse.DirEntry{Name: d.Name, Mode: abi.TypeMode(d.Type), Ino: s.ino(fsid, d.Fileid), Off: uint64(next)}
}

// ReadDirPlus is READDIRPLUS: with each name what LOOKUP answers. A name that
// cannot be looked up stays a name.
func (s *Server) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return s.on(cancel, &in.InHeader, func(r *request, v *vfs.Vnode) error {
		fsid := v.Handle().FS
		return v.ReadDir(r, r.caller(), int64(in.Offset), func(d *abi.Dirent, next int64) bool {
			e := out.AddDirLookupEntry(s.dirent(fsid, d, next))
			if e == nil {
				return false
			}
			if d.Name != "." && d.Name != ".." {
				if err := s.lookup(r, v, d.Name, e); err != nil {
					*e = fuse.EntryOut{}
				} else {
					out.FixMode(e.Mode)
				}
			}
			return true
		})
	})
}
