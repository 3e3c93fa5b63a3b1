package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// result is what a mutator answered: of Setattr, Truncate, Fallocate and Write
// the attributes are Node.Vattr.
type result struct {
	vfsops.Mutated
	n   int   // Write: bytes
	off int64 // Write: where they are
}

// Died reports whether an error says that the process ended before it answered.
func Died(err error) bool { return died(err) }

// died reports whether a call failed because the process ended, or is about to
// for what it has done.
func died(err error) bool {
	if err == nil {
		return false
	}
	if _, ok := err.(abi.Errno); ok {
		return false
	}
	var dead *stream.Dead
	var lie *stream.Lie
	var hang *stream.Hang
	return errors.As(err, &dead) || errors.As(err, &lie) || errors.As(err, &hang)
}

func (e *Entry) contents() abi.Iov {
	if e.iov != nil {
		return e.iov
	}
	return abi.IovOf(e.Data)
}

func (e *Entry) createReq() vfsops.CreateReq {
	return vfsops.CreateReq{Op: e.Op, Dir: e.Dir, Name: e.Name, Mode: e.Mode, Uid: e.Uid, Gid: e.Gid}
}

func (e *Entry) removeReq() vfsops.RemoveReq {
	return vfsops.RemoveReq{Op: e.Op, Dir: e.Dir, Name: e.Name, Victim: e.Victim}
}

// lacks is the answer when fs has not got what it said it had: the errno of the
// interface that is missing.
func lacks(e *Entry, errno abi.Errno) error { return fmt.Errorf("%s: %w", e.Kind, errno) }

// Apply has fs execute the entry, and answers the hash of what it answered,
// which is to be e.Hash if the entry was answered before. After an error that
// Died reports fs's process is gone.
func (e *Entry) Apply(ctx context.Context, fs vfsops.FS) (hash uint64, err error) {
	var r result
	if err := e.apply(ctx, fs, &r); err != nil {
		return 0, err
	}
	return r.hash(e.Kind), nil
}

// apply has fs execute an entry into r.
func (e *Entry) apply(ctx context.Context, fs vfsops.FS, r *result) (err error) {
	switch e.Kind {
	case Create, Mkdir:
		c, ok := fs.(vfsops.Creator)
		if !ok {
			return lacks(e, abi.EROFS)
		}
		if e.Kind == Create {
			r.Mutated, err = c.Create(ctx, e.createReq())
		} else {
			r.Mutated, err = c.Mkdir(ctx, e.createReq())
		}
	case Mknod:
		c, ok := fs.(vfsops.Mknoder)
		if !ok {
			return lacks(e, abi.EROFS)
		}
		r.Mutated, err = c.Mknod(ctx, vfsops.MknodReq{CreateReq: e.createReq(), Type: e.Type, Rdev: e.Rdev})
	case Symlink:
		c, ok := fs.(vfsops.Symlinker)
		if !ok {
			return lacks(e, abi.EROFS)
		}
		r.Mutated, err = c.Symlink(ctx, vfsops.SymlinkReq{CreateReq: e.createReq(), Target: e.Data})
	case Link:
		c, ok := fs.(vfsops.Linker)
		if !ok {
			return lacks(e, abi.EROFS)
		}
		r.Mutated, err = c.Link(ctx, vfsops.LinkReq{Op: e.Op, Node: e.Node, Dir: e.Dir, Name: e.Name})
	case Remove, Rmdir:
		c, ok := fs.(vfsops.Remover)
		if !ok {
			return lacks(e, abi.EROFS)
		}
		if e.Kind == Remove {
			r.Mutated, err = c.Remove(ctx, e.removeReq())
		} else {
			r.Mutated, err = c.Rmdir(ctx, e.removeReq())
		}
	case Rename:
		c, ok := fs.(vfsops.Renamer)
		if !ok {
			return lacks(e, abi.EROFS)
		}
		r.Mutated, err = c.Rename(ctx, vfsops.RenameReq{Op: e.Op, FDir: e.Dir, FName: e.Name, From: e.Node,
			TDir: e.Dir2, TName: e.Name2, To: e.Victim, Flags: e.Flags})
	default:
		return e.applyFile(ctx, fs, r)
	}
	return err
}

// applyFile is apply for what concerns one file.
func (e *Entry) applyFile(ctx context.Context, fs vfsops.FS, r *result) (err error) {
	switch e.Kind {
	case Setattr:
		c, ok := fs.(vfsops.Setattrer)
		if !ok {
			return lacks(e, abi.EROFS)
		}
		r.Node.Vattr, err = c.Setattr(ctx, vfsops.SetattrReq{Op: e.Op, Node: e.Node, Mask: e.Mask, Attr: *e.Attr})
	case Write:
		c, ok := fs.(vfsops.Writer)
		if !ok {
			return lacks(e, abi.EROFS)
		}
		var w vfsops.WriteRes
		w, err = c.Write(ctx, vfsops.WriteReq{Op: e.Op, Node: e.Node, Off: e.Off, Append: e.Append}, e.contents())
		r.n, r.off, r.Node.Vattr = w.N, w.Off, w.Vattr
	case Truncate:
		c, ok := fs.(vfsops.Truncater)
		if !ok {
			return lacks(e, abi.EROFS)
		}
		r.Node.Vattr, err = c.Truncate(ctx, e.Op, e.Node, e.Size)
	case Fallocate:
		c, ok := fs.(vfsops.Fallocater)
		if !ok {
			return lacks(e, abi.EOPNOTSUPP)
		}
		r.Node.Vattr, err = c.Fallocate(ctx, e.Op, e.Node, e.Off, e.Size, e.Punch)
	case Setxattr, Removexattr:
		c, ok := fs.(vfsops.Xattrer)
		if !ok {
			return lacks(e, abi.EOPNOTSUPP)
		}
		if e.Kind == Removexattr {
			return c.Removexattr(ctx, e.Op, e.Node, e.Name)
		}
		return c.Setxattr(ctx, vfsops.SetxattrReq{Op: e.Op, Node: e.Node, Name: e.Name, Value: e.Data, Flags: e.Flags})
	case WritePages:
		c, ok := fs.(vfsops.Pager)
		if !ok {
			return lacks(e, abi.EROFS)
		}
		return c.WritePages(ctx, e.Op, e.Node, e.Off, e.contents(), e.Size)
	case Pin, Unpin:
		c, ok := fs.(vfsops.Pinner)
		if !ok {
			return lacks(e, abi.EBUSY)
		}
		if e.Kind == Pin {
			return c.Pin(ctx, e.Node)
		}
		return c.Unpin(ctx, e.Node)
	default:
		return fmt.Errorf("%s: %w", e.Kind, abi.EINVAL)
	}
	return err
}

// hash folds what was answered: all that a client can see and that does not
// depend on where the file system keeps it (Bytes, Blksize).
func (r *result) hash(k Kind) uint64 {
	h := uint64(k) + 1
	mix := func(x uint64) {
		h = (h ^ x) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	attr := func(v *abi.Vattr) {
		if v.Type == abi.VNON {
			mix(1)
			return
		}
		mix(uint64(v.Type)<<32 | uint64(v.Mode))
		mix(uint64(v.Nlink)<<32 | uint64(v.Flags))
		mix(uint64(v.Uid)<<32 | uint64(v.Gid))
		mix(uint64(v.Rdev))
		mix(uint64(v.Size))
		mix(uint64(v.Fileid))
		mix(uint64(v.Gen))
		for _, t := range [...]*abi.Timespec{&v.Atime, &v.Mtime, &v.Ctime, &v.Btime} {
			mix(uint64(t.Sec))
			mix(uint64(t.Nsec))
		}
	}
	attr(&r.Node.Vattr)
	if k <= Rename {
		mix(uint64(r.Node.Handle.File))
		attr(&r.Dir)
		attr(&r.Dir2)
		attr(&r.Victim)
	}
	if k == Write {
		mix(uint64(r.n))
		mix(uint64(r.off))
	}
	return h
}
