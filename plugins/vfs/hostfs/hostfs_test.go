package hostfs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

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
	r := mount(t, "setid", "")
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

// TestReaddirRemoved: a directory that the host removes under a listing is
// ENOENT or ESTALE from there on, whatever the position.
func TestReaddirRemoved(t *testing.T) {
	r := mount(t)
	r.ok(os.Mkdir(r.path("d"), 0o755))
	for i := range 3 {
		r.ok(os.WriteFile(r.path(fmt.Sprint("d/", i)), nil, 0o644))
	}
	d := r.handleOf("d")
	r.ok(r.Pin(ctx, d))
	res, err := r.Readdir(ctx, vfsops.ReaddirReq{Dir: d, Max: 1000})
	r.ok(err)
	if len(res.Entries) != 3 {
		t.Fatal(res)
	}
	r.ok(os.RemoveAll(r.path("d")))
	for _, cookie := range []uint64{0, res.Entries[0].Cookie, res.Entries[2].Cookie} {
		res, err := r.Readdir(ctx, vfsops.ReaddirReq{Dir: d, Cookie: cookie, Max: 1000})
		if e := abi.ErrnoOf(err); e != abi.ENOENT && e != abi.ESTALE {
			t.Errorf("cookie %#x: %d entries, %v", cookie, len(res.Entries), err)
		}
	}
	r.ok(r.Unpin(ctx, d))
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

func FuzzDirent(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 24))
	good := append(make([]byte, 16), 24, 0, 8, 'a', 0, 0, 0, 0)
	f.Add(append(good, good...))
	f.Add(append(make([]byte, 16), 255, 255, 8, 'a'))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			_, _, _, name, rest := linuxDirent(b)
			if rest == nil {
				return
			}
			if len(rest) >= len(b) || len(name) > len(b) {
				t.Fatal("no progress")
			}
			b = rest
		}
	})
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
