package tmpfs

import (
	"context"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

var ctx = context.Background()

// kernel drives an FS the way the kernel does: numbered operations at times
// that only go forward.
type kernel struct {
	testing.TB
	*FS
	seq int64
}

func mount(t testing.TB, kv ...string) *kernel {
	t.Helper()
	opts := map[string]string{"size": "1m", "nodes": "1000"}
	for i := 0; i < len(kv); i += 2 {
		opts[kv[i]] = kv[i+1]
	}
	fs, err := New().Mount(ctx, &vfsops.MountReq{Fsid: 7, Type: "tmpfs", Options: opts, Op: vfsops.Op{Now: abi.Timespec{Sec: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	return &kernel{TB: t, FS: fs.(*FS)}
}

func (k *kernel) op() vfsops.Op {
	k.seq++
	return vfsops.Op{Seq: abi.OpSeq(k.seq), Now: abi.Timespec{Sec: 1000 + k.seq}, Caller: abi.KernelCaller}
}

func (k *kernel) create(d abi.Handle, name string) vfsops.CreateReq {
	return vfsops.CreateReq{Op: k.op(), Dir: d, Name: []byte(name), Mode: 0o640, Uid: 10, Gid: 20}
}

func (k *kernel) ok(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

func (k *kernel) is(err error, want abi.Errno) {
	k.Helper()
	if abi.ErrnoOf(err) != want {
		k.Fatalf("got %v (%s), want %s", err, abi.ErrnoOf(err).Name(), want.Name())
	}
}

func (k *kernel) rootH() abi.Handle {
	e, err := k.Root(ctx)
	k.ok(err)
	return e.Handle
}

func (k *kernel) file(d abi.Handle, name string) abi.Handle {
	k.Helper()
	m, err := k.Create(ctx, k.create(d, name))
	k.ok(err)
	return m.Node.Handle
}

func (k *kernel) mkdir(d abi.Handle, name string) abi.Handle {
	k.Helper()
	m, err := k.Mkdir(ctx, k.create(d, name))
	k.ok(err)
	return m.Node.Handle
}

func (k *kernel) attr(h abi.Handle) abi.Vattr {
	k.Helper()
	v, err := k.Getattr(ctx, h)
	k.ok(err)
	return v
}

func (k *kernel) lookup(d abi.Handle, names ...string) ([]vfsops.Entry, abi.Errno) {
	k.Helper()
	req := vfsops.LookupReq{Start: d}
	for _, n := range names {
		req.Names = append(req.Names, []byte(n))
	}
	res, err := k.Lookup(ctx, req)
	k.ok(err)
	return res.Trace, res.Err
}

func (k *kernel) remove(d abi.Handle, name string, h abi.Handle) (vfsops.Mutated, error) {
	req := vfsops.RemoveReq{Op: k.op(), Dir: d, Name: []byte(name), Victim: h}
	if v, err := k.Getattr(ctx, h); err == nil && v.Type == abi.VDIR {
		return k.Rmdir(ctx, req)
	}
	return k.Remove(ctx, req)
}

func (k *kernel) rename(fd abi.Handle, fn string, f, td abi.Handle, tn string, to abi.Handle, flags uint32) (vfsops.Mutated, error) {
	return k.Rename(ctx, vfsops.RenameReq{
		Op: k.op(), FDir: fd, FName: []byte(fn), From: f, TDir: td, TName: []byte(tn), To: to, Flags: flags,
	})
}

func (k *kernel) list(d abi.Handle, max int) []string {
	k.Helper()
	var names []string
	for cookie := uint64(0); ; {
		res, err := k.Readdir(ctx, vfsops.ReaddirReq{Dir: d, Cookie: cookie, Max: max})
		k.ok(err)
		for _, e := range res.Entries {
			if e.Cookie <= cookie {
				k.Fatalf("cookie %d after %d", e.Cookie, cookie)
			}
			cookie = e.Cookie
			names = append(names, e.Name)
		}
		if res.EOF {
			return names
		}
	}
}
