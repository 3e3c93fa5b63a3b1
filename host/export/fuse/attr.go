package fuse

import (
	"bytes"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/host/export/linuxabi"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// on runs fn with the vnode that a request is about.
func (s *Server) on(cancel <-chan struct{}, h *fuse.InHeader, fn func(r *request, v *vfs.Vnode) error) fuse.Status {
	v, err := s.vnode(h.NodeId)
	if err != nil {
		return status(err)
	}
	defer v.Rele()
	return status(fn(&request{s: s, cancel: cancel, h: h}, v))
}

// GetAttr is GETATTR.
func (s *Server) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	return s.on(cancel, &in.InHeader, func(r *request, v *vfs.Vnode) error { return s.stat(r, v, out) })
}

func (s *Server) stat(r *request, v *vfs.Vnode, out *fuse.AttrOut) error {
	st, err := v.Stat(r)
	if err != nil {
		return err
	}
	out.AttrValid = s.ttl(v)
	s.attr(&st, &out.Attr)
	return nil
}

// Statx is STATX, which Linux does without where it is refused.
func (s *Server) Statx(<-chan struct{}, *fuse.StatxIn, *fuse.StatxOut) fuse.Status {
	return fuse.ENOSYS
}

// SetAttr is SETATTR: truncate, chmod, chown and utimensat, any of them.
func (s *Server) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	return s.on(cancel, &in.InHeader, func(r *request, v *vfs.Vnode) error {
		if err := s.setattr(r, v, &in.SetAttrInCommon); err != nil {
			return err
		}
		return s.stat(r, v, out)
	})
}

func (s *Server) setattr(r *request, v *vfs.Vnode, in *fuse.SetAttrInCommon) error {
	if in.Valid&fuse.FATTR_SIZE != 0 {
		open := false
		if in.Valid&fuse.FATTR_FH != 0 {
			if f := s.file(in.Fh); f != nil {
				open = f.f.Writable()
			}
		}
		if err := r.as(func(c *abi.Caller) error { return v.Truncate(r, c, int64(in.Size), open) }); err != nil {
			return err
		}
	}
	if in.Valid&(fuse.FATTR_UID|fuse.FATTR_GID) != 0 {
		if err := s.chown(r, v, in); err != nil {
			return err
		}
	} else if in.Valid&fuse.FATTR_KILL_SUIDGID != 0 && in.Valid&fuse.FATTR_MODE == 0 {
		if err := dropSetid(r, v); err != nil {
			return err
		}
	}
	if in.Valid&fuse.FATTR_MODE != 0 {
		mode := in.Mode & abi.ALLPERMS
		err := r.as(func(c *abi.Caller) error { return v.Chmod(r, c, mode) })
		if abi.ErrnoOf(err) == abi.EFTYPE { // Linux lets anybody make a file sticky, to no effect
			err = r.as(func(c *abi.Caller) error { return v.Chmod(r, c, mode&^abi.S_ISVTX) })
		}
		if err != nil {
			return err
		}
	}
	if in.Valid&(fuse.FATTR_ATIME|fuse.FATTR_MTIME) != 0 {
		t := [2]abi.Timespec{
			timeOf(in.Valid, fuse.FATTR_ATIME, fuse.FATTR_ATIME_NOW, in.Atime, in.Atimensec),
			timeOf(in.Valid, fuse.FATTR_MTIME, fuse.FATTR_MTIME_NOW, in.Mtime, in.Mtimensec),
		}
		return r.as(func(c *abi.Caller) error { return v.Utimens(r, c, &t) })
	}
	return nil
}

// chown changes the owner. Linux has a file lose its set-id bits by that,
// whoever does it.
func (s *Server) chown(r *request, v *vfs.Vnode, in *fuse.SetAttrInCommon) error {
	uid, gid := vfs.NoID, vfs.NoID
	if in.Valid&fuse.FATTR_UID != 0 {
		uid = s.ids.in(in.Uid, s.ids.uid)
	}
	if in.Valid&fuse.FATTR_GID != 0 {
		gid = s.ids.in(in.Gid, s.ids.gid)
	}
	if err := r.as(func(c *abi.Caller) error { return v.Chown(r, c, uid, gid) }); err != nil {
		return err
	}
	if v.Type() == abi.VREG && in.Valid&fuse.FATTR_MODE == 0 {
		return dropSetid(r, v)
	}
	return nil
}

// hasSetid reports whether a file runs as somebody else.
func hasSetid(r *request, v *vfs.Vnode) bool {
	st, err := v.Stat(r)
	return err == nil && st.Mode&(abi.S_ISUID|abi.S_ISGID) != 0
}

// lostSetid is for a write or an open that takes these bits away, whose answer
// has no place for the mode: Linux has to ask for it. (It does so without any
// lock, so that it can be told while it waits for us.)
func (s *Server) lostSetid(r *request, v *vfs.Vnode) {
	dropSetid(r, v) // the data is there, whatever becomes of that
	s.srv.InodeNotify(r.h.NodeId, -1, 0)
}

// dropSetid takes the bits away that run a file as somebody else.
func dropSetid(r *request, v *vfs.Vnode) error {
	st, err := v.Stat(r)
	if err != nil {
		return err
	}
	mode := st.Mode &^ abi.S_ISUID
	if mode&0o010 != 0 { // else it meant mandatory locking
		mode &^= abi.S_ISGID
	}
	if mode == st.Mode {
		return nil
	}
	return v.Chmod(r, superuser, mode)
}

func timeOf(valid, bit, now uint32, sec uint64, nsec uint32) abi.Timespec {
	switch {
	case valid&bit == 0:
		return abi.Timespec{Nsec: abi.UTIME_OMIT}
	case valid&now != 0:
		return abi.Timespec{Nsec: abi.UTIME_NOW}
	}
	return abi.Timespec{Sec: int64(sec), Nsec: int32(nsec)}
}

// Access is ACCESS, which Linux decides for itself (default_permissions).
func (s *Server) Access(cancel <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	return s.on(cancel, &in.InHeader, func(r *request, v *vfs.Vnode) error {
		return r.as(func(c *abi.Caller) error { return v.Access(r, c, abi.AccMode(in.Mask&7)) })
	})
}

// Readlink is READLINK.
func (s *Server) Readlink(cancel <-chan struct{}, h *fuse.InHeader) (text []byte, code fuse.Status) {
	code = s.on(cancel, h, func(r *request, v *vfs.Vnode) error {
		t, err := v.Readlink(r, r.caller())
		text = []byte(t)
		return err
	})
	return text, code
}

// StatFs is STATFS.
func (s *Server) StatFs(cancel <-chan struct{}, h *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	return s.on(cancel, h, func(r *request, v *vfs.Vnode) error {
		st, err := v.Statvfs(r)
		if err != nil {
			return err
		}
		*out = fuse.StatfsOut{Blocks: st.Blocks, Bfree: st.Bfree, Bavail: st.Bavail, Files: st.Files, Ffree: st.Ffree,
			Bsize: uint32(st.Bsize), Frsize: uint32(st.Frsize), NameLen: uint32(st.Namemax)}
		return nil
	})
}

// GetXAttr is GETXATTR. Without Options.Xattr the answer is ENOSYS, after which
// Linux asks for none again, also not for security.capability at each file's
// first write.
func (s *Server) GetXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string, dst []byte) (size uint32, code fuse.Status) {
	if !s.o.Xattr {
		return 0, fuse.ENOSYS
	}
	n, err := linuxabi.Xattr(name)
	if err != nil {
		return 0, fuse.ENODATA
	}
	code = s.on(cancel, h, func(r *request, v *vfs.Vnode) error {
		var val []byte
		err := r.as(func(c *abi.Caller) (err error) {
			val, err = s.vfs.Getxattr(r, vfs.Target{W: vfs.Where{Caller: c}, V: v}, n)
			return err
		})
		if err != nil {
			return err
		}
		size, err = fits(val, dst)
		return err
	})
	return size, code
}

// fits copies what is asked for; with no room only its size is wanted.
func fits(val, dst []byte) (uint32, error) {
	if len(dst) > 0 && len(val) > len(dst) {
		return uint32(len(val)), abi.ERANGE
	}
	copy(dst, val)
	return uint32(len(val)), nil
}

// ListXAttr is LISTXATTR.
func (s *Server) ListXAttr(cancel <-chan struct{}, h *fuse.InHeader, dst []byte) (size uint32, code fuse.Status) {
	if !s.o.Xattr {
		return 0, fuse.ENOSYS
	}
	code = s.on(cancel, h, func(r *request, v *vfs.Vnode) error {
		var names []byte
		err := r.as(func(c *abi.Caller) (err error) {
			names, err = s.vfs.Listxattr(r, vfs.Target{W: vfs.Where{Caller: c}, V: v})
			return err
		})
		if abi.ErrnoOf(err) == abi.EOPNOTSUPP {
			return nil // a file system without has none
		}
		if err != nil {
			return err
		}
		var out []byte
		for n := range bytes.SplitSeq(names, []byte{0}) {
			if l := linuxabi.FromXattr(string(n)); l != "" {
				out = append(append(out, l...), 0)
			}
		}
		size, err = fits(out, dst)
		return err
	})
	return size, code
}

// SetXAttr is SETXATTR.
func (s *Server) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, name string, val []byte) fuse.Status {
	if !s.o.Xattr {
		return fuse.ENOSYS
	}
	n, err := linuxabi.Xattr(name)
	if err != nil {
		return status(err)
	}
	var flags uint32
	if in.Flags&unix.XATTR_CREATE != 0 {
		flags |= abi.XATTR_CREATE
	}
	if in.Flags&unix.XATTR_REPLACE != 0 {
		flags |= abi.XATTR_REPLACE
	}
	return s.on(cancel, &in.InHeader, func(r *request, v *vfs.Vnode) error {
		return r.as(func(c *abi.Caller) error {
			return s.vfs.Setxattr(r, vfs.Target{W: vfs.Where{Caller: c}, V: v}, n, val, flags)
		})
	})
}

// RemoveXAttr is REMOVEXATTR.
func (s *Server) RemoveXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	if !s.o.Xattr {
		return fuse.ENOSYS
	}
	n, err := linuxabi.Xattr(name)
	if err != nil {
		return fuse.ENODATA
	}
	return s.on(cancel, h, func(r *request, v *vfs.Vnode) error {
		return r.as(func(c *abi.Caller) error {
			return s.vfs.Removexattr(r, vfs.Target{W: vfs.Where{Caller: c}, V: v}, n)
		})
	})
}
