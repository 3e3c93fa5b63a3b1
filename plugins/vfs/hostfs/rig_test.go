package hostfs

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

var ctx = context.Background()

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeKernel grants directories by name.
type fakeKernel struct {
	modapi.Kernel
	dirs map[string]string
}

func (k fakeKernel) AttachFS(string, vfsops.FSType, vfsops.Caps) error { return nil }

func (k fakeKernel) Granted(name string) (*os.File, error) {
	dir, ok := k.dirs[name]
	if !ok {
		return nil, abi.ENOENT
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// rig is a mount over a temporary directory.
type rig struct {
	testing.TB
	*FS
	host string
}

func mount(t testing.TB, kv ...string) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{TB: t, host: dir}
	opts := map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		opts[kv[i]] = kv[i+1]
	}
	m := New()
	r.ok(m.Init(ctx, fakeKernel{dirs: map[string]string{"host.dir:/data": dir}}, modapi.Fresh, nil))
	fs, err := m.Mount(ctx, &vfsops.MountReq{Fsid: 9, Source: "/data/", Options: opts})
	r.ok(err)
	r.FS = fs.(*FS)
	t.Cleanup(func() {
		r.ok(r.Unmount(ctx))
		if r.fds != 0 || len(r.nodes) != 0 {
			t.Errorf("after unmount: %d descriptors, %d nodes", r.fds, len(r.nodes))
		}
		r.ok(m.Fini(ctx))
	})
	return r
}

func (r *rig) ok(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) is(err error, want abi.Errno) {
	r.Helper()
	if abi.ErrnoOf(err) != want {
		r.Fatalf("got %v (%s), want %s", err, abi.ErrnoOf(err).Name(), want.Name())
	}
}

func (r *rig) rootH() abi.Handle {
	e, err := r.Root(ctx)
	r.ok(err)
	return e.Handle
}

func (r *rig) path(p string) string { return filepath.Join(r.host, p) }

func (r *rig) lookup(d abi.Handle, names ...string) ([]vfsops.Entry, abi.Errno) {
	r.Helper()
	req := vfsops.LookupReq{Start: d}
	for _, n := range names {
		req.Names = append(req.Names, []byte(n))
	}
	res, err := r.Lookup(ctx, req)
	r.ok(err)
	return res.Trace, res.Err
}

func (r *rig) handleOf(names ...string) abi.Handle {
	r.Helper()
	tr, e := r.lookup(r.rootH(), names...)
	if e != 0 || len(tr) != len(names) {
		r.Fatalf("lookup %q: %d found, %v", names, len(tr), e)
	}
	return tr[len(tr)-1].Handle
}

func (r *rig) req(d abi.Handle, name string) vfsops.CreateReq {
	return vfsops.CreateReq{
		Op: vfsops.Op{Caller: abi.KernelCaller}, Dir: d, Name: []byte(name),
		Mode: 0o640, Uid: 0, Gid: 0,
	}
}

func (r *rig) file(d abi.Handle, name, text string) abi.Handle {
	r.Helper()
	m, err := r.Create(ctx, r.req(d, name))
	r.ok(err)
	r.write(m.Node.Handle, 0, text)
	return m.Node.Handle
}

func (r *rig) mkdir(d abi.Handle, name string) abi.Handle {
	r.Helper()
	req := r.req(d, name)
	req.Mode = 0o750
	m, err := r.Mkdir(ctx, req)
	r.ok(err)
	return m.Node.Handle
}

func (r *rig) write(h abi.Handle, off int64, text string) {
	r.Helper()
	res, err := r.FS.Write(ctx, vfsops.WriteReq{Node: h, Off: off}, abi.IovOf([]byte(text)))
	r.ok(err)
	if res.N != len(text) {
		r.Fatal(res.N)
	}
}

func (r *rig) read(h abi.Handle) string {
	r.Helper()
	a, b := make([]byte, 3), make([]byte, 1000)
	n, err := r.Read(ctx, h, 0, abi.Iov{a, nil, b})
	r.ok(err)
	return string(slices.Concat(a, b)[:n])
}

func (r *rig) list(d abi.Handle, max int) []string {
	r.Helper()
	var names []string
	for cookie := uint64(0); ; {
		res, err := r.Readdir(ctx, vfsops.ReaddirReq{Dir: d, Cookie: cookie, Max: max})
		r.ok(err)
		for _, e := range res.Entries {
			names = append(names, e.Name)
			cookie = e.Cookie
		}
		if res.EOF {
			return names
		}
	}
}

// evictAll closes every descriptor that may be closed.
func (r *rig) evictAll() {
	limit := r.opt.fds
	r.mu.Lock()
	r.opt.fds = 0
	doomed := r.settleLocked(nil, nil)
	r.opt.fds = limit
	r.mu.Unlock()
	closeFds(doomed)
}
