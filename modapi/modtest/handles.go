package modtest

import (
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// handleOps are the calls of a file system that name a node, each with a handle
// that is forged. A call answers whether it found a node by it.
var handleOps = []struct {
	name string
	call func(f *fsT, h, good abi.Handle) error
}{
	{"Getattr", func(f *fsT, h, _ abi.Handle) error { _, err := f.fs.Getattr(f.ctx, h); return err }},
	{"Lookup", func(f *fsT, h, _ abi.Handle) error {
		_, err := f.fs.Lookup(f.ctx, vfsops.LookupReq{Start: h, Names: [][]byte{[]byte("kept")}})
		return err
	}},
	{"Readdir", func(f *fsT, h, _ abi.Handle) error {
		_, err := f.fs.Readdir(f.ctx, vfsops.ReaddirReq{Dir: h, Max: 1000})
		return err
	}},
	{"Read", func(f *fsT, h, _ abi.Handle) error {
		_, err := f.fs.Read(f.ctx, h, 0, abi.IovOf(make([]byte, 10)))
		return err
	}},
	{"Create", optional(func(f *fsT, x vfsops.Creator, h, _ abi.Handle) error {
		_, err := x.Create(f.ctx, f.createReq(h, "forged"))
		return err
	})},
	{"Mkdir", optional(func(f *fsT, x vfsops.Creator, h, _ abi.Handle) error {
		_, err := x.Mkdir(f.ctx, f.createReq(h, "forged"))
		return err
	})},
	{"Mknod", optional(func(f *fsT, x vfsops.Mknoder, h, _ abi.Handle) error {
		_, err := x.Mknod(f.ctx, vfsops.MknodReq{CreateReq: f.createReq(h, "forged"), Type: abi.VFIFO})
		return err
	})},
	{"Symlink", optional(func(f *fsT, x vfsops.Symlinker, h, _ abi.Handle) error {
		_, err := x.Symlink(f.ctx, vfsops.SymlinkReq{CreateReq: f.createReq(h, "forged"), Target: []byte("t")})
		return err
	})},
	{"Link of a forged node", optional(func(f *fsT, x vfsops.Linker, h, _ abi.Handle) error {
		_, err := x.Link(f.ctx, vfsops.LinkReq{Op: f.op(), Node: h, Dir: f.root.Handle, Name: []byte("forged")})
		return err
	})},
	{"Link into a forged directory", optional(func(f *fsT, x vfsops.Linker, h, good abi.Handle) error {
		_, err := x.Link(f.ctx, vfsops.LinkReq{Op: f.op(), Node: good, Dir: h, Name: []byte("forged")})
		return err
	})},
	{"Remove of a forged victim", optional(func(f *fsT, x vfsops.Remover, h, _ abi.Handle) error {
		_, err := x.Remove(f.ctx, vfsops.RemoveReq{Op: f.op(), Dir: f.root.Handle, Name: []byte("kept"), Victim: h})
		return err
	})},
	{"Remove in a forged directory", optional(func(f *fsT, x vfsops.Remover, h, good abi.Handle) error {
		_, err := x.Remove(f.ctx, vfsops.RemoveReq{Op: f.op(), Dir: h, Name: []byte("kept"), Victim: good})
		return err
	})},
	{"Rmdir of a forged victim", optional(func(f *fsT, x vfsops.Remover, h, _ abi.Handle) error {
		_, err := x.Rmdir(f.ctx, vfsops.RemoveReq{Op: f.op(), Dir: f.root.Handle, Name: []byte("dir"), Victim: h})
		return err
	})},
	{"Rename of a forged node", optional(func(f *fsT, x vfsops.Renamer, h, _ abi.Handle) error {
		_, err := x.Rename(f.ctx, vfsops.RenameReq{Op: f.op(), FDir: f.root.Handle, FName: []byte("kept"), From: h, TDir: f.root.Handle, TName: []byte("forged")})
		return err
	})},
	{"Rename to a forged directory", optional(func(f *fsT, x vfsops.Renamer, h, good abi.Handle) error {
		_, err := x.Rename(f.ctx, vfsops.RenameReq{Op: f.op(), FDir: f.root.Handle, FName: []byte("kept"), From: good, TDir: h, TName: []byte("forged")})
		return err
	})},
	{"Rename from a forged directory", optional(func(f *fsT, x vfsops.Renamer, h, good abi.Handle) error {
		_, err := x.Rename(f.ctx, vfsops.RenameReq{Op: f.op(), FDir: h, FName: []byte("kept"), From: good, TDir: f.root.Handle, TName: []byte("forged")})
		return err
	})},
	{"Setattr", optional(func(f *fsT, x vfsops.Setattrer, h, _ abi.Handle) error {
		_, err := x.Setattr(f.ctx, vfsops.SetattrReq{Op: f.op(), Node: h, Mask: abi.SetMode, Attr: abi.Vattr{Mode: 0o123}})
		return err
	})},
	{"Write", optional(func(f *fsT, x vfsops.Writer, h, _ abi.Handle) error {
		_, err := x.Write(f.ctx, vfsops.WriteReq{Op: f.op(), Node: h}, abi.IovOf([]byte("forged")))
		return err
	})},
	{"Truncate", optional(func(f *fsT, x vfsops.Truncater, h, _ abi.Handle) error {
		_, err := x.Truncate(f.ctx, f.op(), h, 7)
		return err
	})},
	{"Fallocate", optional(func(f *fsT, x vfsops.Fallocater, h, _ abi.Handle) error {
		_, err := x.Fallocate(f.ctx, f.op(), h, 0, 4096, false)
		return err
	})},
	{"Seek", optional(func(f *fsT, x vfsops.HoleSeeker, h, _ abi.Handle) error {
		_, err := x.Seek(f.ctx, h, 0, abi.SEEK_DATA)
		return err
	})},
	{"Readlink", optional(func(f *fsT, x vfsops.Readlinker, h, _ abi.Handle) error {
		_, err := x.Readlink(f.ctx, h)
		return err
	})},
	{"Getxattr", optional(func(f *fsT, x vfsops.Xattrer, h, _ abi.Handle) error {
		_, err := x.Getxattr(f.ctx, h, []byte("user.a"))
		return err
	})},
	{"Listxattr", optional(func(f *fsT, x vfsops.Xattrer, h, _ abi.Handle) error {
		_, err := x.Listxattr(f.ctx, h)
		return err
	})},
	{"Setxattr", optional(func(f *fsT, x vfsops.Xattrer, h, _ abi.Handle) error {
		return x.Setxattr(f.ctx, vfsops.SetxattrReq{Op: f.op(), Node: h, Name: []byte("user.a"), Value: []byte("forged")})
	})},
	{"Removexattr", optional(func(f *fsT, x vfsops.Xattrer, h, _ abi.Handle) error {
		return x.Removexattr(f.ctx, f.op(), h, []byte("user.a"))
	})},
	{"ReadPages", optional(func(f *fsT, x vfsops.Pager, h, _ abi.Handle) error {
		return x.ReadPages(f.ctx, h, 0, abi.IovOf(make([]byte, abi.PageSize)))
	})},
	{"WritePages", optional(func(f *fsT, x vfsops.Pager, h, _ abi.Handle) error {
		return x.WritePages(f.ctx, f.op(), h, 0, abi.IovOf(make([]byte, abi.PageSize)), 10)
	})},
	{"Pin", optional(func(f *fsT, x vfsops.Pinner, h, _ abi.Handle) error { return x.Pin(f.ctx, h) })},
	{"Access", optional(func(f *fsT, x vfsops.Accesser, h, _ abi.Handle) error {
		return x.Access(f.ctx, h, abi.KernelCaller, abi.VREAD)
	})},
	// These say nothing of what they do not know.
	{"Unpin", quiet(optional(func(f *fsT, x vfsops.Pinner, h, _ abi.Handle) error { return x.Unpin(f.ctx, h) }))},
	{"Reclaim", quiet(optional(func(f *fsT, x vfsops.Reclaimer, h, _ abi.Handle) error { return x.Reclaim(f.ctx, []abi.Handle{h, h}) }))},
	{"Sync", quiet(optional(func(f *fsT, x vfsops.Syncer, h, _ abi.Handle) error {
		if h.IsZero() {
			return nil // that is everything
		}
		return x.Sync(f.ctx, h, false)
	}))},
}

// optional is a call of an interface that a file system need not have.
func optional[X any](call func(f *fsT, x X, h, good abi.Handle) error) func(f *fsT, h, good abi.Handle) error {
	return func(f *fsT, h, good abi.Handle) error {
		if x, ok := f.fs.(X); ok {
			return call(f, x, h, good)
		}
		return abi.EOPNOTSUPP
	}
}

// quiet is a call that may succeed.
func quiet(call func(f *fsT, h, good abi.Handle) error) func(f *fsT, h, good abi.Handle) error {
	return func(f *fsT, h, good abi.Handle) error {
		call(f, h, good)
		return abi.ESTALE
	}
}

// forged checks that a handle of nobody gets an error from every call, and that
// nothing has changed by it.
func (f *fsT) forged(kept vfsops.Entry, h abi.Handle) {
	f.Helper()
	for _, op := range handleOps {
		if err := op.call(f, h, kept.Handle); err == nil {
			f.Errorf("%s with handle %v, which is nobody's: no error", op.name, h)
		}
	}
	if got := f.lookup(f.root.Handle, "kept"); got.Handle != kept.Handle || got.Vattr.Size != kept.Vattr.Size || got.Vattr.Mode != kept.Vattr.Mode || got.Vattr.Nlink != kept.Vattr.Nlink {
		f.Errorf("after calls with handle %v: %+v, was %+v", h, got, kept)
	}
	f.gone(f.root.Handle, "forged")
}

// forgery makes something to forge handles of.
func (f *fsT) forgery() (kept, dir vfsops.Entry) {
	f.need(vfsops.HasCreator)
	kept, dir = f.create(f.root.Handle, "kept"), f.mkdir(f.root.Handle, "dir")
	return f.lookup(f.root.Handle, "kept"), dir
}

// TestHandles checks in every binding that a file system answers an error to
// every call that names a node by a handle that is nobody's, whatever it looks
// like, that it lives on, and that nothing has changed.
func TestHandles(t *testing.T, newFS func(t *testing.T) FSUnderTest) {
	eachBinding(t, func(t *testing.T, b Binding) {
		f := mountFS(t, b, newFS(t))
		kept, dir := f.forgery()
		for _, h := range []abi.Handle{
			{},
			{FS: f.id},
			{FS: f.id, File: kept.Handle.File, Gen: kept.Handle.Gen + 1},
			{FS: f.id, File: dir.Handle.File, Gen: dir.Handle.Gen + 1},
			{FS: f.id, File: f.root.Handle.File, Gen: f.root.Handle.Gen + 1},
			{FS: f.id, File: ^abi.Fileid(0), Gen: ^abi.Gen(0)},
			{FS: f.id, File: 1 << 63, Gen: kept.Handle.Gen},
			{FS: f.id, File: kept.Handle.File ^ 1<<40, Gen: kept.Handle.Gen},
		} {
			f.forged(kept, h)
		}
	})
}

// FuzzHandles is TestHandles with handles that the fuzzer makes, in this process.
func FuzzHandles(fz *testing.F, newFS func(t *testing.T) FSUnderTest) {
	fz.Add(uint64(0), uint32(0), uint8(0))
	fz.Add(uint64(1), uint32(0), uint8(1))
	fz.Add(uint64(0), uint32(1), uint8(1))
	fz.Add(^uint64(0), ^uint32(0), uint8(2))
	fz.Add(uint64(1)<<63, uint32(1), uint8(3))
	fz.Fuzz(func(t *testing.T, file uint64, gen uint32, of uint8) {
		f := mountFS(t, bindings[0], newFS(t))
		kept, dir := f.forgery()
		real := []abi.Handle{{FS: f.id}, kept.Handle, dir.Handle, f.root.Handle}
		h := real[int(of)%len(real)]
		h.File ^= abi.Fileid(file)
		h.Gen ^= abi.Gen(gen)
		for _, r := range real[1:] {
			if h == r {
				return
			}
		}
		f.forged(kept, h)
	})
}
