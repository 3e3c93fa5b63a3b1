package vfs

import (
	"context"
	"math"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// evilFS answers what no file system should; what, is a test's to choose.
type evilFS struct {
	memData
	lookup  func(req vfsops.LookupReq, res *vfsops.LookupRes)
	getattr func(va *abi.Vattr)
	readdir func(res *vfsops.ReaddirRes)
	mutated func(m *vfsops.Mutated)
	n       func(n int) int
	target  []byte
}

func (f *evilFS) Lookup(ctx context.Context, req vfsops.LookupReq) (vfsops.LookupRes, error) {
	res, err := f.memData.Lookup(ctx, req)
	if f.lookup != nil {
		f.lookup(req, &res)
	}
	return res, err
}

func (f *evilFS) Getattr(ctx context.Context, h abi.Handle) (abi.Vattr, error) {
	va, err := f.memData.Getattr(ctx, h)
	if f.getattr != nil {
		f.getattr(&va)
	}
	return va, err
}

func (f *evilFS) Readdir(ctx context.Context, req vfsops.ReaddirReq) (vfsops.ReaddirRes, error) {
	res, err := f.memData.Readdir(ctx, req)
	if f.readdir != nil {
		f.readdir(&res)
	}
	return res, err
}

func (f *evilFS) Create(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	m, err := f.memData.Create(ctx, req)
	if f.mutated != nil {
		f.mutated(&m)
	}
	return m, err
}

func (f *evilFS) Mkdir(ctx context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	m, err := f.memData.Mkdir(ctx, req)
	if f.mutated != nil {
		f.mutated(&m)
	}
	return m, err
}

func (f *evilFS) Read(ctx context.Context, h abi.Handle, off int64, dst abi.Iov) (int, error) {
	n, err := f.memData.Read(ctx, h, off, dst)
	if f.n != nil {
		n = f.n(n)
	}
	return n, err
}

func (f *evilFS) Write(ctx context.Context, req vfsops.WriteReq, src abi.Iov) (vfsops.WriteRes, error) {
	res, err := f.memData.Write(ctx, req, src)
	if f.n != nil {
		res.N = f.n(res.N)
	}
	return res, err
}

func (f *evilFS) Readlink(ctx context.Context, h abi.Handle) ([]byte, error) {
	if f.target != nil {
		return f.target, nil
	}
	return f.memData.Readlink(ctx, h)
}

func TestHostile(t *testing.T) {
	dir := func(fsid abi.Fsid, id abi.Fileid) vfsops.Entry {
		va := abi.Vattr{Type: abi.VDIR, Mode: 0o755, Nlink: 2, Fileid: id, Gen: 1}
		return vfsops.Entry{Handle: va.Handle(fsid), Vattr: va}
	}
	stat := func(p string) func(k *kern) error {
		return func(k *kern) error { _, err := k.Stat(ctx, su(), p, true); return err }
	}
	io := func(fn func(f *kern) (int, error)) func(k *kern) error {
		return func(k *kern) error { _, err := fn(k); return err }
	}
	for _, tc := range []struct {
		name string
		set  func(f *evilFS)
		op   func(k *kern) error
		want abi.Errno
	}{
		{"root as a child", func(f *evilFS) {
			f.lookup = func(_ vfsops.LookupReq, r *vfsops.LookupRes) {
				*r = vfsops.LookupRes{Trace: []vfsops.Entry{f.entry(f.root)}}
			}
		}, stat("/x"), abi.EIO},
		{"a directory inside itself", func(f *evilFS) {
			f.lookup = func(_ vfsops.LookupReq, r *vfsops.LookupRes) {
				*r = vfsops.LookupRes{Trace: []vfsops.Entry{dir(f.fsid, 77), dir(f.fsid, 78), dir(f.fsid, 77)}}
			}
		}, stat("/a/b/c"), abi.EIO},
		{"another file system", func(f *evilFS) {
			f.lookup = func(_ vfsops.LookupReq, r *vfsops.LookupRes) {
				*r = vfsops.LookupRes{Trace: []vfsops.Entry{dir(f.fsid+1, 77)}}
			}
		}, stat("/a"), abi.EIO},
		{"too long a trace", func(f *evilFS) {
			f.lookup = func(_ vfsops.LookupReq, r *vfsops.LookupRes) {
				*r = vfsops.LookupRes{Trace: []vfsops.Entry{dir(f.fsid, 77), dir(f.fsid, 78)}}
			}
		}, stat("/a"), abi.EIO},
		{"neither entry nor error", func(f *evilFS) {
			f.lookup = func(_ vfsops.LookupReq, r *vfsops.LookupRes) { *r = vfsops.LookupRes{} }
		}, stat("/a"), abi.EIO},
		{"a trace that ends without a reason", func(f *evilFS) {
			f.lookup = func(_ vfsops.LookupReq, r *vfsops.LookupRes) {
				*r = vfsops.LookupRes{Trace: []vfsops.Entry{dir(f.fsid, 77)}}
			}
		}, stat("/a/b"), abi.EIO},
		{"no type", func(f *evilFS) {
			f.lookup = func(_ vfsops.LookupReq, r *vfsops.LookupRes) {
				e := dir(f.fsid, 77)
				e.Vattr.Type = 99
				*r = vfsops.LookupRes{Trace: []vfsops.Entry{e}}
			}
		}, stat("/a"), abi.EIO},
		{"a negative size", func(f *evilFS) {
			f.lookup = func(_ vfsops.LookupReq, r *vfsops.LookupRes) {
				e := dir(f.fsid, 77)
				e.Vattr.Size = -1
				*r = vfsops.LookupRes{Trace: []vfsops.Entry{e}}
			}
		}, stat("/a"), abi.EIO},
		{"a handle of another file", func(f *evilFS) {
			f.lookup = func(_ vfsops.LookupReq, r *vfsops.LookupRes) {
				e := dir(f.fsid, 77)
				e.Handle.File = 78
				*r = vfsops.LookupRes{Trace: []vfsops.Entry{e}}
			}
		}, stat("/a"), abi.EIO},
		{"an entry that follows a file", func(f *evilFS) {
			f.lookup = func(_ vfsops.LookupReq, r *vfsops.LookupRes) {
				if len(r.Trace) == 1 {
					r.Trace = append(r.Trace, dir(f.fsid, 77))
				}
			}
		}, stat("/f/x"), abi.ENOTDIR},
		{"attributes of another type", func(f *evilFS) {
			f.getattr = func(va *abi.Vattr) { va.Type = abi.VBLK }
		}, stat("/"), abi.ESTALE},
		{"attributes of another file", func(f *evilFS) {
			f.getattr = func(va *abi.Vattr) { va.Fileid += 100 }
		}, stat("/"), abi.ESTALE},
		{"a link of a link of a link", func(f *evilFS) { f.target = []byte("l/l/l/l/l") }, stat("/l"), abi.ELOOP},
		{"an empty link", func(f *evilFS) { f.target = []byte{} }, stat("/l"), abi.ENOENT},
		{"an endless link", func(f *evilFS) { f.target = make([]byte, 5000) }, stat("/l"), abi.EIO},
		{"created the root", func(f *evilFS) {
			f.mutated = func(m *vfsops.Mutated) { m.Node = f.entry(f.root) }
		}, func(k *kern) error { return k.Mkdir(ctx, su(), "/new", 0o755) }, abi.EIO},
		{"created nothing", func(f *evilFS) {
			f.mutated = func(m *vfsops.Mutated) { *m = vfsops.Mutated{} }
		}, func(k *kern) error { return k.Mkdir(ctx, su(), "/new", 0o755) }, abi.EIO},
		{"read more than there is room", func(f *evilFS) { f.n = func(n int) int { return n + 100 } }, io(func(k *kern) (int, error) {
			f := k.open("/f", abi.O_RDONLY)
			defer f.Release(ctx)
			return f.Ops.Read(ctx, abi.KernelCaller, f, make([]byte, 4), 0)
		}), abi.EIO},
		{"read less than nothing", func(f *evilFS) { f.n = func(n int) int { return -1 } }, io(func(k *kern) (int, error) {
			f := k.open("/f", abi.O_RDONLY)
			defer f.Release(ctx)
			return f.Ops.Read(ctx, abi.KernelCaller, f, make([]byte, 4), 0)
		}), abi.EIO},
		{"wrote more than was sent", func(f *evilFS) { f.n = func(n int) int { return n + 100 } }, io(func(k *kern) (int, error) {
			f := k.open("/f", abi.O_WRONLY)
			defer f.Release(ctx)
			return f.Ops.Write(ctx, abi.KernelCaller, f, make([]byte, 4), 0)
		}), abi.EIO},
		{"a cookie beyond all", func(f *evilFS) {
			f.readdir = func(r *vfsops.ReaddirRes) { r.Entries[0].Cookie = math.MaxUint64 }
		}, io(func(k *kern) (int, error) {
			f := k.open("/", abi.O_RDONLY)
			defer f.Release(ctx)
			return k.Getdents(ctx, abi.KernelCaller, f, make([]byte, 4000))
		}), abi.EIO},
		{"a cookie that goes nowhere", func(f *evilFS) {
			f.readdir = func(r *vfsops.ReaddirRes) { r.Entries[0].Cookie, r.EOF = 0, false }
		}, io(func(k *kern) (int, error) {
			f := k.open("/", abi.O_RDONLY)
			defer f.Release(ctx)
			return k.Getdents(ctx, abi.KernelCaller, f, make([]byte, 4000))
		}), abi.EIO},
	} {
		for _, caps := range []vfsops.Caps{0, vfsops.CapSole} {
			t.Run(tc.name, func(t *testing.T) {
				evil := &evilFS{}
				k := newKern(t, variant{"evil", caps, func(f *memFS) vfsops.FS {
					evil.memData = memData{f}
					return evil
				}}, Options{})
				k.write("/f", "data")
				k.ok(k.Symlink(ctx, su(), "f", "/l"))
				k.nc.purge()
				for _, v := range k.root.Load().vnodes {
					v.invalidate()
				}
				tc.set(evil)
				if got := abi.ErrnoOf(tc.op(k)); got != tc.want {
					t.Errorf("got %s, want %s", got.Name(), tc.want.Name())
				}
				*evil = evilFS{memData: evil.memData}
				k.nc.purge()
				if k.read("/f") == "" {
					t.Error("the file is empty")
				}
				k.settled()
			})
		}
	}
}

func TestTypeChange(t *testing.T) {
	evil := &evilFS{}
	k := newKern(t, variant{"evil", 0, func(f *memFS) vfsops.FS {
		evil.memData = memData{f}
		return evil
	}}, Options{})
	k.write("/f", "data")
	f := k.open("/f", abi.O_RDONLY)
	evil.lookup = func(_ vfsops.LookupReq, r *vfsops.LookupRes) { r.Trace[0].Vattr.Type = abi.VDIR }
	_, err := k.Stat(ctx, su(), "/f", true)
	k.is(err, abi.EIO)
	k.ok(f.Release(ctx))
	evil.lookup = nil
	k.settled()
}

// bareFS has nothing but what every file system has.
type bareFS struct{ m *memFS }

func (f bareFS) Root(ctx context.Context) (vfsops.Entry, error) { return f.m.Root(ctx) }
func (f bareFS) Lookup(ctx context.Context, r vfsops.LookupReq) (vfsops.LookupRes, error) {
	return f.m.Lookup(ctx, r)
}
func (f bareFS) Getattr(ctx context.Context, h abi.Handle) (abi.Vattr, error) {
	return f.m.Getattr(ctx, h)
}
func (f bareFS) Readdir(ctx context.Context, r vfsops.ReaddirReq) (vfsops.ReaddirRes, error) {
	return f.m.Readdir(ctx, r)
}
func (f bareFS) Read(ctx context.Context, h abi.Handle, off int64, dst abi.Iov) (int, error) {
	return f.m.Read(ctx, h, off, dst)
}
func (f bareFS) Statvfs(ctx context.Context) (abi.Statvfs, error) { return f.m.Statvfs(ctx) }
func (f bareFS) Unmount(ctx context.Context) error                { return f.m.Unmount(ctx) }

// TestDefaults holds the errno that vfsops promises for every optional
// interface that a file system lacks.
func TestDefaults(t *testing.T) {
	k := newKern(t, variant{"bare", 0, func(f *memFS) vfsops.FS {
		now := abi.Timespec{}
		op := vfsops.Op{Now: now}
		reg := f.node(abi.VREG, 0o644, 0, 0, now)
		reg.data = []byte("data")
		reg.va.Size = 4
		f.add(op, f.root, []byte("f"), reg)
		d := f.node(abi.VDIR, 0o755, 0, 0, now)
		d.va.Nlink = 2
		f.add(op, f.root, []byte("d"), d)
		f.add(op, f.root, []byte("l"), f.node(abi.VLNK, 0o755, 0, 0, now))
		return bareFS{f}
	}}, Options{})
	if got := k.read("/f"); got != "data" {
		t.Errorf("read %q", got)
	}
	if len(k.ls("/")) != 5 {
		t.Error("ls")
	}
	tg := Target{W: su(), Path: "/f"}
	for name, tc := range map[string]struct {
		err  error
		want abi.Errno
	}{
		"create":  {func() error { _, err := k.Open(ctx, su(), "/n", abi.O_CREAT, 0); return err }(), abi.EROFS},
		"mkdir":   {k.Mkdir(ctx, su(), "/n", 0), abi.EROFS},
		"mknod":   {k.Mkfifo(ctx, su(), "/n", 0), abi.EROFS},
		"symlink": {k.Symlink(ctx, su(), "x", "/n"), abi.EROFS},
		"link":    {k.Link(ctx, su(), "/f", su(), "/n", false), abi.EROFS},
		"remove":  {k.Unlink(ctx, su(), "/f", 0), abi.EROFS},
		"rmdir":   {k.Rmdir(ctx, su(), "/d"), abi.EROFS},
		"rename":  {k.Rename(ctx, su(), "/f", su(), "/n", 0), abi.EROFS},
		"setattr": {k.Chmod(ctx, su(), "/f", 0, true), abi.EROFS},
		"trunc":   {k.Truncate(ctx, su(), "/f", 0), abi.EROFS},
		"write": {func() error {
			f := k.open("/f", abi.O_RDWR)
			defer f.Release(ctx)
			_, err := f.Ops.Write(ctx, abi.KernelCaller, f, []byte("x"), 0)
			return err
		}(), abi.EROFS},
		"readlink": {func() error { _, err := k.Readlink(ctx, su(), "/l"); return err }(), abi.EINVAL},
		"getxattr": {func() error { _, err := k.Getxattr(ctx, tg, "user.a"); return err }(), abi.EOPNOTSUPP},
		"setxattr": {k.Setxattr(ctx, tg, "user.a", nil, 0), abi.EOPNOTSUPP},
		"sync":     {k.SyncAll(ctx), 0},
	} {
		if got := abi.ErrnoOf(tc.err); got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got.Name(), tc.want.Name())
		}
	}
	k.settled()
}

func TestAuthz(t *testing.T) {
	var fs *authzFS
	k := newKern(t, variant{"authz", vfsops.CapAuthz | vfsops.CapSole, func(f *memFS) vfsops.FS {
		fs = &authzFS{memData: memData{f}}
		return fs
	}}, Options{})
	k.write("/f", "x")
	k.ok(k.Chmod(ctx, su(), "/f", 0, true))
	fs.asked = 0
	// The module says yes where the mode says no, and the other way round.
	f, err := k.Open(ctx, user(8), "/f", abi.O_RDWR, 0)
	k.ok(err)
	k.ok(f.Release(ctx))
	k.is(k.Unlink(ctx, user(7), "/f", 0), abi.EACCES)
	if fs.asked < 3 {
		t.Errorf("asked %d times", fs.asked)
	}
	// A listener has the last word.
	k.o.Authorize = func(_ *abi.Caller, want abi.AccMode, _ *abi.Vattr, err error) error {
		if want&abi.VWRITE != 0 {
			return abi.EPERM
		}
		return err
	}
	k.is(k.Unlink(ctx, su(), "/f", 0), abi.EPERM)
}
