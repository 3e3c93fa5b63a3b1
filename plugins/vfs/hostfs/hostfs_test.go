package hostfs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
		Mode: 0o640, Uid: swap(r.ids.uid, r.ids.uid), Gid: swap(r.ids.gid, r.ids.gid),
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

func TestFilesBothWays(t *testing.T) {
	r := mount(t)
	root := r.rootH()
	d := r.mkdir(root, "d")
	f := r.file(d, "f", "hello, host")
	if b, err := os.ReadFile(r.path("d/f")); err != nil || string(b) != "hello, host" {
		t.Fatal(string(b), err)
	}
	if st, err := os.Stat(r.path("d/f")); err != nil || st.Mode() != 0o640 {
		t.Fatal(st.Mode(), err)
	}
	r.ok(os.WriteFile(r.path("d/g"), []byte("from the host"), 0o600))
	g := r.handleOf("d", "g")
	if s := r.read(g); s != "from the host" {
		t.Fatal(s)
	}
	v, err := r.Truncate(ctx, vfsops.Op{}, g, 4)
	r.ok(err)
	if v.Size != 4 || r.read(g) != "from" {
		t.Fatal(v.Size)
	}
	tr, e := r.lookup(root, "d", "f", "x")
	if e != 0 || len(tr) != 2 || tr[1].Handle != f || tr[1].Vattr.Size != 11 || tr[1].Vattr.Type != abi.VREG {
		t.Fatalf("%v %+v", e, tr)
	}
	if tr, e = r.lookup(root, "d", "none"); e != abi.ENOENT || len(tr) != 1 {
		t.Fatal(tr, e)
	}
	if _, e = r.lookup(root, strings.Repeat("n", 256)); e != abi.ENAMETOOLONG {
		t.Fatal(e)
	}
	_, err = r.Create(ctx, r.req(d, "f"))
	r.is(err, abi.EEXIST)
	_, err = r.Read(ctx, d, 0, abi.IovOf(make([]byte, 1)))
	r.is(err, abi.EISDIR)
	_, err = r.Lookup(ctx, vfsops.LookupReq{Start: f, Names: [][]byte{[]byte("x")}})
	r.is(err, abi.ENOTDIR)
	s, err := r.Statvfs(ctx)
	r.ok(err)
	if s.Blocks == 0 || s.Namemax == 0 {
		t.Fatalf("%+v", s)
	}
	for _, h := range []abi.Handle{f, d, {}} {
		r.ok(r.Sync(ctx, h, false))
		r.ok(r.Sync(ctx, h, true))
	}
}

func TestNamesThatLeaveTheDirectory(t *testing.T) {
	r := mount(t)
	root := r.rootH()
	d := r.mkdir(root, "d")
	f := r.file(root, "f", "x")
	for _, name := range []string{"..", ".", "", "/etc", "d/..", "../x", "a\x00b"} {
		n := []byte(name)
		_, err := r.Lookup(ctx, vfsops.LookupReq{Start: d, Names: [][]byte{n}})
		r.is(err, abi.EINVAL)
		_, err = r.Create(ctx, r.req(d, name))
		r.is(err, abi.EINVAL)
		_, err = r.Mkdir(ctx, r.req(d, name))
		r.is(err, abi.EINVAL)
		_, err = r.Symlink(ctx, vfsops.SymlinkReq{CreateReq: r.req(d, name), Target: []byte("x")})
		r.is(err, abi.EINVAL)
		_, err = r.Link(ctx, vfsops.LinkReq{Node: f, Dir: d, Name: n})
		r.is(err, abi.EINVAL)
		_, err = r.Remove(ctx, vfsops.RemoveReq{Dir: d, Name: n, Victim: f})
		r.is(err, abi.EINVAL)
		_, err = r.Rmdir(ctx, vfsops.RemoveReq{Dir: d, Name: n, Victim: root})
		r.is(err, abi.EINVAL)
		_, err = r.Rename(ctx, vfsops.RenameReq{FDir: d, FName: n, From: root, TDir: d, TName: []byte("x")})
		r.is(err, abi.EINVAL)
		_, err = r.Rename(ctx, vfsops.RenameReq{FDir: root, FName: []byte("f"), From: f, TDir: d, TName: n})
		r.is(err, abi.EINVAL)
	}
}

// TestEscape races a stranger who swaps a directory for symbolic links to a
// directory outside, and moves directories about, against lookups and reads.
func TestEscape(t *testing.T) {
	r := mount(t)
	outside := t.TempDir()
	r.ok(os.WriteFile(filepath.Join(outside, "file"), []byte("secret"), 0o644))
	var secret unix.Stat_t
	r.ok(unix.Stat(filepath.Join(outside, "file"), &secret))
	for _, d := range []string{"a", "a/b", "other"} {
		r.ok(os.Mkdir(r.path(d), 0o755))
		r.ok(os.WriteFile(r.path(d+"/file"), []byte("inside"), 0o644))
	}
	r.ok(os.Symlink(outside, r.path("link")))
	r.ok(os.Symlink("../"+filepath.Base(outside), r.path("uplink")))
	// Links as they stand: a node with a text, and the walk ends there.
	for _, l := range []string{"link", "uplink"} {
		tr, e := r.lookup(r.rootH(), l, "file")
		if e != 0 || len(tr) != 1 || tr[0].Vattr.Type != abi.VLNK {
			t.Fatal(tr, e)
		}
		_, err := r.Read(ctx, tr[0].Handle, 0, abi.IovOf(make([]byte, 9)))
		r.is(err, abi.EINVAL)
		_, err = r.Create(ctx, r.req(tr[0].Handle, "new"))
		r.is(err, abi.ENOTDIR)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		fd, _ := unix.Open(r.host, unix.O_PATH|unix.O_DIRECTORY, 0)
		defer unix.Close(fd)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			a, b := "a", [...]string{"link", "uplink", "other"}[i%3]
			_ = unix.Renameat2(fd, a, fd, b, unix.RENAME_EXCHANGE)
			if i%5 == 0 {
				_ = unix.Renameat2(fd, "a/b", fd, "link/b", unix.RENAME_NOREPLACE)
				_ = unix.Renameat2(fd, "other/b", fd, "a/b", unix.RENAME_NOREPLACE)
			}
		}
	})
	root := r.rootH()
	var found, links int
	for range 4000 {
		tr, _ := r.lookup(root, "a", "b", "file")
		for _, e := range tr {
			if uint64(e.Handle.File) == secret.Ino {
				t.Fatal("looked up a file outside")
			}
			switch e.Vattr.Type {
			case abi.VLNK:
				links++
			case abi.VREG:
				buf := make([]byte, 9)
				if n, err := r.Read(ctx, e.Handle, 0, abi.IovOf(buf)); err == nil {
					found++
					if string(buf[:n]) == "secret" {
						t.Fatal("read a file outside")
					}
				}
			case abi.VDIR:
				_, _ = r.Create(ctx, r.req(e.Handle, "made"))
				_, _ = r.Readdir(ctx, vfsops.ReaddirReq{Dir: e.Handle, Max: 4096})
			}
		}
	}
	close(stop)
	wg.Wait()
	if _, err := os.Stat(filepath.Join(outside, "made")); err == nil {
		t.Fatal("created a file outside")
	}
	t.Logf("%d reads inside, %d links seen", found, links)
	if found == 0 || links == 0 {
		t.Fatal("the race did not happen")
	}
}

func TestUnlinkedFilesLiveOn(t *testing.T) {
	r := mount(t, "fds", "16")
	root := r.rootH()
	f := r.file(root, "f", "still here")
	r.ok(r.Pin(ctx, f))
	m, err := r.Remove(ctx, vfsops.RemoveReq{Dir: root, Name: []byte("f"), Victim: f})
	r.ok(err)
	if m.Victim.Nlink != 0 {
		t.Fatalf("%+v", m.Victim)
	}
	for i := range 100 { // enough to evict whatever can be
		r.file(root, fmt.Sprint("x", i), "x")
	}
	if r.fds > 16+2 {
		t.Fatal(r.fds, "descriptors")
	}
	r.write(f, 6, "HERE")
	if s := r.read(f); s != "still HERE" {
		t.Fatal(s)
	}
	r.ok(r.Unpin(ctx, f))
	_, err = r.Getattr(ctx, f)
	r.is(err, abi.ESTALE)

	// Two names: the kernel pins only before the last one goes.
	g := r.file(root, "g", "two names")
	_, err = r.Link(ctx, vfsops.LinkReq{Node: g, Dir: root, Name: []byte("g2")})
	r.ok(err)
	_, err = r.Remove(ctx, vfsops.RemoveReq{Dir: root, Name: []byte("g"), Victim: g})
	r.ok(err)
	for i := range 100 {
		r.read(r.handleOf(fmt.Sprint("x", i)))
	}
	if s := r.read(g); s != "two names" {
		t.Fatal(s)
	}
	if h := r.handleOf("g2"); h != g {
		t.Fatal(h, g)
	}
	_, err = r.Remove(ctx, vfsops.RemoveReq{Dir: root, Name: []byte("g2"), Victim: g})
	r.ok(err)
	_, err = r.Getattr(ctx, g) // nobody pinned it
	r.is(err, abi.ESTALE)
	r.is(r.Unpin(ctx, root), abi.EINVAL)
}

func TestStrangers(t *testing.T) {
	r := mount(t, "fds", "16")
	root := r.rootH()
	f := r.file(root, "f", "one")
	r.ok(os.Rename(r.path("f"), r.path("moved")))
	r.ok(os.WriteFile(r.path("f"), []byte("two"), 0o644))
	_, err := r.Remove(ctx, vfsops.RemoveReq{Dir: root, Name: []byte("f"), Victim: f})
	r.is(err, abi.ESTALE)
	_, err = r.Rename(ctx, vfsops.RenameReq{FDir: root, FName: []byte("f"), From: f, TDir: root, TName: []byte("h")})
	r.is(err, abi.ESTALE)
	if s := r.read(f); s != "one" { // the descriptor is at the file still
		t.Fatal(s)
	}
	if h := r.handleOf("f"); h == f {
		t.Fatal("another file, the same handle")
	}
	r.evictAll()
	_, err = r.Getattr(ctx, f) // reopened by name: another file now
	r.is(err, abi.ESTALE)
	if h := r.handleOf("moved"); h != f {
		t.Fatal(h, f)
	}
	if s := r.read(f); s != "one" {
		t.Fatal(s)
	}
	// A name that came to be behind our back is no target.
	r.ok(os.WriteFile(r.path("new"), nil, 0o644))
	_, err = r.Rename(ctx, vfsops.RenameReq{FDir: root, FName: []byte("moved"), From: f, TDir: root, TName: []byte("new")})
	r.is(err, abi.ESTALE)
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

func TestReopenDeep(t *testing.T) {
	r := mount(t)
	d := r.rootH()
	for i := range 50 {
		d = r.mkdir(d, fmt.Sprint("d", i))
	}
	f := r.file(d, "f", "deep")
	r.evictAll()
	if r.fds != 1 {
		t.Fatal(r.fds, "descriptors")
	}
	if s := r.read(f); s != "deep" {
		t.Fatal(s)
	}
	r.ok(r.Reclaim(ctx, []abi.Handle{f, d, r.rootH(), {FS: 1}}))
	_, err := r.Getattr(ctx, f)
	r.is(err, abi.ESTALE)
	if len(r.nodes) != 50 {
		t.Fatal(len(r.nodes), "nodes")
	}
}

// TestParentCycle moves directories so that two notes of parents contradict
// each other.
func TestParentCycle(t *testing.T) {
	r := mount(t)
	root := r.rootH()
	b := r.mkdir(root, "b")
	a := r.mkdir(b, "a")
	r.ok(os.Rename(r.path("b/a"), r.path("a")))
	r.ok(os.Rename(r.path("b"), r.path("a/b")))
	if tr, e := r.lookup(a, "b"); e != 0 || tr[0].Handle != b {
		t.Fatal(tr, e)
	}
	r.evictAll()
	_, err := r.Getattr(ctx, b)
	r.is(err, abi.ESTALE)
	if h := r.handleOf("a", "b"); h != b {
		t.Fatal(h, b)
	}
	r.evictAll()
	_, err = r.Getattr(ctx, b)
	r.ok(err)
}

func TestInodeReuse(t *testing.T) {
	r := mount(t)
	r.ok(os.WriteFile(r.path("f"), nil, 0o644))
	seen := map[abi.Handle]bool{}
	for range 50 { // ext4 hands the same inode number out again
		h := r.handleOf("f")
		r.ok(os.Remove(r.path("f")))
		r.ok(os.WriteFile(r.path("f"), nil, 0o644))
		// The descriptor keeps the old inode from being used again.
		if seen[h] {
			t.Fatal("handle twice:", h)
		}
		seen[h] = true
	}
}

func TestTableBound(t *testing.T) {
	r := mount(t, "fds", "16")
	r.maxNodes = 40
	root := r.rootH()
	for i := range 200 {
		r.file(root, fmt.Sprint("f", i), "x")
	}
	if len(r.nodes) > 41 {
		t.Fatal(len(r.nodes), "nodes")
	}
	if s := r.read(r.handleOf("f0")); s != "x" {
		t.Fatal(s)
	}
}

func TestRename(t *testing.T) {
	r := mount(t)
	root := r.rootH()
	d, e := r.mkdir(root, "d"), r.mkdir(root, "e")
	f, g := r.file(d, "f", "f"), r.file(e, "g", "g")
	mv := func(fd abi.Handle, fn string, from, td abi.Handle, tn string, to abi.Handle, flags uint32) (vfsops.Mutated, error) {
		return r.Rename(ctx, vfsops.RenameReq{FDir: fd, FName: []byte(fn), From: from, TDir: td, TName: []byte(tn), To: to, Flags: flags})
	}
	_, err := mv(root, "d", d, root, "e", e, 0)
	r.is(err, abi.ENOTEMPTY)
	m, err := mv(d, "f", f, e, "g", g, abi.RENAME_EXCHANGE)
	r.ok(err)
	if m.Victim.Nlink != 1 || m.Dir2.Fileid != e.File || m.Node.Handle != f {
		t.Fatalf("%+v", m)
	}
	r.evictAll()
	if r.read(f) != "f" || r.read(g) != "g" || r.handleOf("d", "f") != g {
		t.Fatal("exchange")
	}
	m, err = mv(e, "g", f, d, "f", g, 0)
	r.ok(err)
	if m.Victim.Nlink != 0 {
		t.Fatalf("%+v", m.Victim)
	}
	_, err = r.Getattr(ctx, g)
	r.is(err, abi.ESTALE)
	_, err = mv(d, "f", f, root, "ff", abi.Handle{}, 0)
	r.ok(err)
	_, err = mv(root, "e", e, d, "e2", abi.Handle{}, 0)
	r.ok(err)
	_, err = mv(root, "ff", f, root, "q", abi.Handle{}, abi.RENAME_EXCHANGE)
	r.is(err, abi.ENOENT)
	if got := r.list(root, 4096); len(got) != 2 || r.handleOf("d", "e2") != e {
		t.Fatal(got)
	}
	_, err = r.Rmdir(ctx, vfsops.RemoveReq{Dir: root, Name: []byte("d"), Victim: d})
	r.is(err, abi.ENOTEMPTY)
	_, err = r.Remove(ctx, vfsops.RemoveReq{Dir: root, Name: []byte("d"), Victim: d})
	r.is(err, abi.EPERM)
	_, err = r.Rmdir(ctx, vfsops.RemoveReq{Dir: root, Name: []byte("ff"), Victim: f})
	r.is(err, abi.ENOTDIR)
	m, err = r.Rmdir(ctx, vfsops.RemoveReq{Dir: d, Name: []byte("e2"), Victim: e})
	r.ok(err)
	if m.Victim.Nlink != 0 {
		t.Fatalf("%+v", m.Victim)
	}
}

func TestSpecialFiles(t *testing.T) {
	r := mount(t)
	root := r.rootH()
	m, err := r.Symlink(ctx, vfsops.SymlinkReq{CreateReq: r.req(root, "l"), Target: []byte("to/somewhere")})
	r.ok(err)
	b, err := r.Readlink(ctx, m.Node.Handle)
	r.ok(err)
	if string(b) != "to/somewhere" || m.Node.Vattr.Type != abi.VLNK {
		t.Fatal(string(b))
	}
	_, err = r.Readlink(ctx, root)
	r.is(err, abi.EINVAL)
	for name, typ := range map[string]abi.VType{"p": abi.VFIFO, "s": abi.VSOCK} {
		m, err := r.Mknod(ctx, vfsops.MknodReq{CreateReq: r.req(root, name), Type: typ})
		r.ok(err)
		if m.Node.Vattr.Type != typ || m.Node.Vattr.Mode != 0o640 {
			t.Fatalf("%+v", m.Node.Vattr)
		}
		_, err = r.Read(ctx, m.Node.Handle, 0, abi.IovOf(make([]byte, 1)))
		r.is(err, abi.EINVAL)
		_, err = r.Link(ctx, vfsops.LinkReq{Node: m.Node.Handle, Dir: root, Name: []byte(name + "2")})
		r.ok(err)
		r.ok(r.Sync(ctx, m.Node.Handle, false))
	}
	_, err = r.Mknod(ctx, vfsops.MknodReq{CreateReq: r.req(root, "dev"), Type: abi.VCHR, Rdev: abi.Makedev(1, 3)})
	r.is(err, abi.EPERM)
	_, err = r.Mknod(ctx, vfsops.MknodReq{CreateReq: r.req(root, "dir"), Type: abi.VDIR})
	r.is(err, abi.EINVAL)
}

func TestSetattr(t *testing.T) {
	r := mount(t)
	root := r.rootH()
	f := r.file(root, "f", "12345")
	l, err := r.Symlink(ctx, vfsops.SymlinkReq{CreateReq: r.req(root, "l"), Target: []byte("f")})
	r.ok(err)
	when := abi.Timespec{Sec: 12345, Nsec: 678}
	set := func(h abi.Handle, mask abi.SetMask, a abi.Vattr) (abi.Vattr, error) {
		return r.Setattr(ctx, vfsops.SetattrReq{Node: h, Mask: mask, Attr: a})
	}
	v, err := set(f, abi.SetMode|abi.SetAtime|abi.SetMtime|abi.SetSize|abi.SetCtime|abi.SetFlags, abi.Vattr{Mode: 0o4711, Atime: when, Mtime: when, Size: 2})
	r.ok(err)
	if v.Mode != 0o4711 || v.Atime != when || v.Mtime != when || v.Size != 2 {
		t.Fatalf("%+v", v)
	}
	v, err = set(l.Node.Handle, abi.SetMtime, abi.Vattr{Mtime: when})
	r.ok(err)
	if v.Mtime != when {
		t.Fatalf("%+v", v)
	}
	_, err = set(f, abi.SetFlags, abi.Vattr{Flags: abi.UF_NODUMP})
	r.is(err, abi.EOPNOTSUPP)
	_, err = set(f, abi.SetAtime, abi.Vattr{Atime: abi.Timespec{Nsec: 1e9}})
	r.is(err, abi.EINVAL)
	if os.Getuid() == 0 {
		v, err = set(f, abi.SetUid|abi.SetGid, abi.Vattr{Uid: 12, Gid: 34})
		r.ok(err)
		if v.Uid != 12 || v.Gid != 34 || v.Mode != 0o711 {
			t.Fatalf("%+v", v)
		}
		req := r.req(root, "owned")
		req.Uid, req.Gid, req.Mode = 5, 6, 0o6755
		m, err := r.Mkdir(ctx, req)
		r.ok(err)
		if v := m.Node.Vattr; v.Uid != 5 || v.Gid != 6 || v.Mode != 0o6755 {
			t.Fatalf("%+v", v)
		}
	}
	r.evictAll()
	if v, err = r.Fallocate(ctx, vfsops.Op{}, f, 0, 10000, false); err != nil || v.Size != 10000 {
		t.Fatal(v.Size, err)
	}
	r.write(f, 0, strings.Repeat("x", 8192))
	if v, err = r.Fallocate(ctx, vfsops.Op{}, f, 0, 4096, true); err != nil || v.Size != 10000 {
		t.Fatal(v.Size, err)
	}
	b, err := os.ReadFile(r.path("f"))
	r.ok(err)
	if !bytes.Equal(b[:4096], make([]byte, 4096)) || b[4096] != 'x' {
		t.Fatal("punched wrongly")
	}
}

func TestAppendTellsWhere(t *testing.T) {
	r := mount(t)
	f := r.file(r.rootH(), "f", "")
	var mu sync.Mutex
	places := map[int64]byte{}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for range 100 {
				res, err := r.FS.Write(ctx, vfsops.WriteReq{Node: f, Append: true}, abi.Iov{{byte('a' + w)}, {'.'}})
				if err != nil || res.N != 2 {
					t.Error(res.N, err)
					return
				}
				mu.Lock()
				places[res.Off] = byte('a' + w)
				mu.Unlock()
			}
		})
	}
	h, err := os.OpenFile(r.path("f"), os.O_WRONLY|os.O_APPEND, 0)
	r.ok(err)
	for range 100 {
		_, _ = h.Write([]byte("zz"))
	}
	wg.Wait()
	r.ok(h.Close())
	b, err := os.ReadFile(r.path("f"))
	r.ok(err)
	if len(b) != 1000 || len(places) != 400 {
		t.Fatal(len(b), len(places))
	}
	for off, c := range places {
		if b[off] != c || b[off+1] != '.' {
			t.Fatalf("at %d %q, want %c", off, b[off:off+2], c)
		}
	}
}

func TestXattr(t *testing.T) {
	r := mount(t)
	root := r.rootH()
	f := r.file(root, "f", "")
	set := func(h abi.Handle, name, val string, flags uint32) error {
		return r.Setxattr(ctx, vfsops.SetxattrReq{Node: h, Name: []byte(name), Value: []byte(val), Flags: flags})
	}
	if err := set(f, "user.probe", "1", 0); abi.ErrnoOf(err) == abi.EOPNOTSUPP {
		t.Skip("no user attributes on this file system")
	}
	r.ok(r.Removexattr(ctx, vfsops.Op{}, f, []byte("user.probe")))
	for _, h := range []abi.Handle{f, root} {
		_, err := r.Getxattr(ctx, h, []byte("user.a"))
		r.is(err, abi.ENOATTR)
		r.is(set(h, "user.a", "1", abi.XATTR_REPLACE), abi.ENOATTR)
		r.ok(set(h, "user.a", "1", abi.XATTR_CREATE))
		r.is(set(h, "user.a", "1", abi.XATTR_CREATE), abi.EEXIST)
		v, err := r.Getxattr(ctx, h, []byte("user.a"))
		r.ok(err)
		l, err := r.Listxattr(ctx, h)
		r.ok(err)
		if string(v) != "1" || string(l) != "user.a\x00" {
			t.Fatalf("%q %q", v, l)
		}
		r.ok(r.Removexattr(ctx, vfsops.Op{}, h, []byte("user.a")))
	}
	r.is(set(f, "trusted.x", "1", 0), abi.EOPNOTSUPP)
	_, err := r.Getxattr(ctx, f, []byte("security.capability"))
	r.is(err, abi.ENOATTR)
	l, err := r.Symlink(ctx, vfsops.SymlinkReq{CreateReq: r.req(root, "l"), Target: []byte("f")})
	r.ok(err)
	r.is(set(l.Node.Handle, "user.a", "1", 0), abi.EPERM)
	names, err := r.Listxattr(ctx, l.Node.Handle)
	r.ok(err)
	if names != nil {
		t.Fatal(names)
	}
}

func TestReaddir(t *testing.T) {
	r := mount(t)
	root := r.rootH()
	var want []string
	for i := range 500 {
		name := fmt.Sprintf("n%03d", i)
		r.ok(os.WriteFile(r.path(name), nil, 0o644))
		if i%2 == 0 {
			want = append(want, name)
		}
	}
	count := map[string]int{}
	var cookie uint64
	for step := 0; ; step++ {
		res, err := r.Readdir(ctx, vfsops.ReaddirReq{Dir: root, Cookie: cookie, Max: 200})
		r.ok(err)
		for _, e := range res.Entries {
			if e.Type != abi.VREG || e.Fileid == 0 {
				t.Fatalf("%+v", e)
			}
			count[e.Name]++
			cookie = e.Cookie
		}
		if res.EOF {
			break
		}
		_ = os.Remove(r.path(fmt.Sprintf("n%03d", step*2+1)))
		r.ok(os.WriteFile(r.path(fmt.Sprint("new", step)), nil, 0o644))
	}
	for _, name := range want {
		if count[name] != 1 {
			t.Errorf("%s listed %d times", name, count[name])
		}
	}
	if res, err := r.Readdir(ctx, vfsops.ReaddirReq{Dir: root, Max: 10}); abi.ErrnoOf(err) != abi.EINVAL {
		t.Fatal(res, err)
	}
	h := r.handleOf("n000")
	_, err := r.Readdir(ctx, vfsops.ReaddirReq{Dir: h, Max: 1000})
	r.is(err, abi.ENOTDIR)
}

func TestReadOnly(t *testing.T) {
	r := mount(t, "ro", "")
	root := r.rootH()
	r.ok(os.WriteFile(r.path("f"), []byte("x"), 0o644))
	f := r.handleOf("f")
	if r.read(f) != "x" {
		t.Fatal("read")
	}
	var errs []error
	add := func(err error) { errs = append(errs, err) }
	_, err := r.Create(ctx, r.req(root, "n"))
	add(err)
	_, err = r.Mkdir(ctx, r.req(root, "n"))
	add(err)
	_, err = r.Symlink(ctx, vfsops.SymlinkReq{CreateReq: r.req(root, "n"), Target: []byte("x")})
	add(err)
	_, err = r.Mknod(ctx, vfsops.MknodReq{CreateReq: r.req(root, "n"), Type: abi.VFIFO})
	add(err)
	_, err = r.Link(ctx, vfsops.LinkReq{Node: f, Dir: root, Name: []byte("n")})
	add(err)
	_, err = r.Remove(ctx, vfsops.RemoveReq{Dir: root, Name: []byte("f"), Victim: f})
	add(err)
	_, err = r.Rmdir(ctx, vfsops.RemoveReq{Dir: root, Name: []byte("f"), Victim: f})
	add(err)
	_, err = r.Rename(ctx, vfsops.RenameReq{FDir: root, FName: []byte("f"), From: f, TDir: root, TName: []byte("n")})
	add(err)
	_, err = r.Setattr(ctx, vfsops.SetattrReq{Node: f, Mask: abi.SetMode})
	add(err)
	_, err = r.FS.Write(ctx, vfsops.WriteReq{Node: f}, abi.IovOf([]byte("y")))
	add(err)
	_, err = r.Truncate(ctx, vfsops.Op{}, f, 0)
	add(err)
	_, err = r.Fallocate(ctx, vfsops.Op{}, f, 0, 1, true)
	add(err)
	add(r.Setxattr(ctx, vfsops.SetxattrReq{Node: f, Name: []byte("user.a")}))
	add(r.Removexattr(ctx, vfsops.Op{}, f, []byte("user.a")))
	for i, err := range errs {
		if abi.ErrnoOf(err) != abi.EROFS {
			t.Errorf("call %d: %v", i, err)
		}
	}
	r.ok(r.Pin(ctx, f))
	r.ok(r.Unpin(ctx, f))
}

func TestMountRefusals(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m := New()
	if _, err := m.Mount(ctx, &vfsops.MountReq{Fsid: 1, Source: "/data"}); abi.ErrnoOf(err) != abi.ENXIO {
		t.Fatal(err)
	}
	k := fakeKernel{dirs: map[string]string{"host.dir:/data:ro": dir, "host.dir:/file": file}}
	if err := m.Init(ctx, k, modapi.Fresh, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		source, option string
		want           abi.Errno
		text           string
	}{
		{"/none", "", abi.EPERM, "hostfs: /none is not granted to this instance: add `grant: [\"host.dir:/none:ro\"]` to its component"},
		{"data", "", abi.EINVAL, "absolute"},
		{"/data", "", abi.EROFS, "host.dir:/data:rw"},
		{"/data", "colour", abi.EINVAL, `"colour"`},
		{"/data", "fds", abi.EINVAL, "fds"},
		{"/file", "", abi.ENOTDIR, "/file"},
		{"/data", "ro", 0, ""},
	} {
		opts := map[string]string{}
		if c.option != "" {
			opts[c.option] = ""
		}
		fs, err := m.Mount(ctx, &vfsops.MountReq{Fsid: 1, Source: c.source, Options: opts})
		if abi.ErrnoOf(err) != c.want || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: %v", c, err)
		}
		if err == nil {
			if err := m.Fini(ctx); abi.ErrnoOf(err) != abi.EBUSY {
				t.Error(err)
			}
			_ = fs.Unmount(ctx)
		}
	}
	info := m.Info()
	if err := info.Check(); err != nil {
		t.Fatal(err)
	}
}

// TestOldLinux opens as on a Linux without openat2.
func TestOldLinux(t *testing.T) {
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	if _, err := openOld(root, "proc", unix.O_PATH|unix.O_NOFOLLOW, 0); err != unix.EXDEV {
		t.Fatal("another mount:", err)
	}
	fd, err := openOld(root, "etc", unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	if _, err := openBeneath(root, "proc", unix.O_PATH, 0); err != unix.EXDEV {
		t.Fatal("another mount:", err)
	}
}

func TestTables(t *testing.T) {
	for _, c := range [][3]uint32{{0, 7, 7}, {7, 7, 0}, {5, 7, 5}, {0, 0, 0}, {9, 0, 9}} {
		if got := swap(c[0], c[1]); got != c[2] {
			t.Errorf("swap(%d, %d) = %d", c[0], c[1], got)
		}
	}
	if translate(nil) != nil || translate(unix.EAGAIN) != error(abi.EAGAIN) || abi.ErrnoOf(translate(unix.EUCLEAN)) != abi.EIO {
		t.Error("translate")
	}
	if id := fileidOf(key{1, 5}, 1); id != 5 {
		t.Error(id)
	}
	if a, b := fileidOf(key{2, 5}, 1), fileidOf(key{3, 5}, 1); a == b || a>>63 != 1 {
		t.Error(a, b)
	}
}
