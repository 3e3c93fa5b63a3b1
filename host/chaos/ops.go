package main

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// The operations of the file systems at which this program can die. All others
// are those of the file system that is embedded, and so are its optional
// interfaces.

// none is the result of a call that has none.
type none struct{}

func (w tmpfsFS) Create(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return around(w.f, func() (vfsops.Mutated, error) { return w.FS.Create(ctx, req) })
}

func (w tmpfsFS) Mkdir(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return around(w.f, func() (vfsops.Mutated, error) { return w.FS.Mkdir(ctx, req) })
}

func (w tmpfsFS) Symlink(ctx context.Context, req vfsops.SymlinkReq) (vfsops.Mutated, error) {
	return around(w.f, func() (vfsops.Mutated, error) { return w.FS.Symlink(ctx, req) })
}

func (w tmpfsFS) Link(ctx context.Context, req vfsops.LinkReq) (vfsops.Mutated, error) {
	return around(w.f, func() (vfsops.Mutated, error) { return w.FS.Link(ctx, req) })
}

func (w tmpfsFS) Remove(ctx context.Context, req vfsops.RemoveReq) (vfsops.Mutated, error) {
	return around(w.f, func() (vfsops.Mutated, error) { return w.FS.Remove(ctx, req) })
}

func (w tmpfsFS) Rmdir(ctx context.Context, req vfsops.RemoveReq) (vfsops.Mutated, error) {
	return around(w.f, func() (vfsops.Mutated, error) { return w.FS.Rmdir(ctx, req) })
}

func (w tmpfsFS) Rename(ctx context.Context, req vfsops.RenameReq) (vfsops.Mutated, error) {
	return around(w.f, func() (vfsops.Mutated, error) { return w.FS.Rename(ctx, req) })
}

func (w tmpfsFS) Setattr(ctx context.Context, req vfsops.SetattrReq) (abi.Vattr, error) {
	return around(w.f, func() (abi.Vattr, error) { return w.FS.Setattr(ctx, req) })
}

func (w tmpfsFS) Checkpoint(ctx context.Context, seq abi.OpSeq) error {
	w.f.at(mCheckpoint)
	err := w.FS.Checkpoint(ctx, seq)
	w.f.at(mCheckpoints)
	return err
}

func (w tmpfsFS) Lookup(ctx context.Context, req vfsops.LookupReq) (vfsops.LookupRes, error) {
	w.f.at(mRead)
	return w.FS.Lookup(ctx, req)
}

func (w tmpfsFS) Pin(ctx context.Context, h abi.Handle) error {
	w.f.at(mQuick)
	_, err := around(w.f, func() (none, error) { return none{}, w.FS.Pin(ctx, h) })
	return err
}

func (w fatFS) Create(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return around(w.f, func() (vfsops.Mutated, error) { return w.FS.Create(ctx, req) })
}

func (w fatFS) Mkdir(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return around(w.f, func() (vfsops.Mutated, error) { return w.FS.Mkdir(ctx, req) })
}

func (w fatFS) Remove(ctx context.Context, req vfsops.RemoveReq) (vfsops.Mutated, error) {
	return around(w.f, func() (vfsops.Mutated, error) { return w.FS.Remove(ctx, req) })
}

func (w fatFS) Rmdir(ctx context.Context, req vfsops.RemoveReq) (vfsops.Mutated, error) {
	return around(w.f, func() (vfsops.Mutated, error) { return w.FS.Rmdir(ctx, req) })
}

func (w fatFS) Rename(ctx context.Context, req vfsops.RenameReq) (vfsops.Mutated, error) {
	return around(w.f, func() (vfsops.Mutated, error) { return w.FS.Rename(ctx, req) })
}

func (w fatFS) Setattr(ctx context.Context, req vfsops.SetattrReq) (abi.Vattr, error) {
	return around(w.f, func() (abi.Vattr, error) { return w.FS.Setattr(ctx, req) })
}

func (w fatFS) Checkpoint(ctx context.Context, seq abi.OpSeq) error {
	w.f.at(mCheckpoint)
	err := w.FS.Checkpoint(ctx, seq)
	w.f.at(mCheckpoints)
	return err
}

func (w fatFS) Lookup(ctx context.Context, req vfsops.LookupReq) (vfsops.LookupRes, error) {
	w.f.at(mRead)
	return w.FS.Lookup(ctx, req)
}

func (w fatFS) Pin(ctx context.Context, h abi.Handle) error {
	w.f.at(mQuick)
	_, err := around(w.f, func() (none, error) { return none{}, w.FS.Pin(ctx, h) })
	return err
}

func (w hostfsFS) Create(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return around(w.f, func() (vfsops.Mutated, error) { return w.FS.Create(ctx, req) })
}

func (w hostfsFS) Mkdir(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return around(w.f, func() (vfsops.Mutated, error) { return w.FS.Mkdir(ctx, req) })
}

func (w hostfsFS) Remove(ctx context.Context, req vfsops.RemoveReq) (vfsops.Mutated, error) {
	return around(w.f, func() (vfsops.Mutated, error) { return w.FS.Remove(ctx, req) })
}

func (w hostfsFS) Rmdir(ctx context.Context, req vfsops.RemoveReq) (vfsops.Mutated, error) {
	return around(w.f, func() (vfsops.Mutated, error) { return w.FS.Rmdir(ctx, req) })
}

func (w hostfsFS) Rename(ctx context.Context, req vfsops.RenameReq) (vfsops.Mutated, error) {
	return around(w.f, func() (vfsops.Mutated, error) { return w.FS.Rename(ctx, req) })
}

func (w tmpfsFS) Setxattr(ctx context.Context, req vfsops.SetxattrReq) error {
	_, err := around(w.f, func() (none, error) { return none{}, w.FS.Setxattr(ctx, req) })
	return err
}

func (w tmpfsFS) Reserve(ctx context.Context, pages int64) (int64, error) {
	w.f.at(mQuick)
	return w.FS.Reserve(ctx, pages)
}

func (w fatFS) Truncate(ctx context.Context, op vfsops.Op, h abi.Handle, size int64) (abi.Vattr, error) {
	return around(w.f, func() (abi.Vattr, error) { return w.FS.Truncate(ctx, op, h, size) })
}

func (w fatFS) WritePages(ctx context.Context, op vfsops.Op, h abi.Handle, off int64, src abi.Iov, size int64) error {
	_, err := around(w.f, func() (none, error) { return none{}, w.FS.WritePages(ctx, op, h, off, src, size) })
	return err
}

func (w hostfsFS) Write(ctx context.Context, req vfsops.WriteReq, src abi.Iov) (vfsops.WriteRes, error) {
	return around(w.f, func() (vfsops.WriteRes, error) { return w.FS.Write(ctx, req, src) })
}
