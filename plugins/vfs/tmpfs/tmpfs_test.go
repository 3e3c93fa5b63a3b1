package tmpfs

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

func TestDirectoryNumbers(t *testing.T) {
	k := mount(t, "mode", "1777", "uid", "3", "gid", "4")
	root := k.rootH()
	v := k.attr(root)
	if v.Type != abi.VDIR || v.Mode != 0o1777 || v.Uid != 3 || v.Gid != 4 || v.Nlink != 2 || v.Size != 0 {
		t.Fatalf("root %+v", v)
	}
	m, err := k.Mkdir(ctx, k.create(root, "d"))
	k.ok(err)
	if m.Dir.Nlink != 3 || m.Dir.Size != direntSize || m.Dir.Bytes != abi.PageSize || m.Dir.Mtime.Sec != 1001 || m.Dir.Ctime.Sec != 1001 {
		t.Fatalf("parent after mkdir %+v", m.Dir)
	}
	n := m.Node.Vattr
	if n.Nlink != 2 || n.Mode != 0o640 || n.Uid != 10 || n.Gid != 20 || n.Btime.Sec != 1001 || n.Fileid != m.Node.Handle.File {
		t.Fatalf("new directory %+v", n)
	}
	d := m.Node.Handle
	k.file(d, "f")
	_, err = k.remove(root, "d", d)
	k.is(err, abi.ENOTEMPTY)
	tr, _ := k.lookup(d, "f")
	m, err = k.remove(d, "f", tr[0].Handle)
	k.ok(err)
	if m.Victim.Nlink != 0 || m.Dir.Size != 0 {
		t.Fatalf("after remove %+v", m)
	}
	k.ok(k.Pin(ctx, d))
	m, err = k.remove(root, "d", d)
	k.ok(err)
	if m.Dir.Nlink != 2 || m.Victim.Nlink != 0 {
		t.Fatalf("after rmdir %+v", m)
	}
	_, err = k.Create(ctx, k.create(d, "x"))
	k.is(err, abi.ENOENT)
	k.ok(k.Unpin(ctx, d))
	_, err = k.Create(ctx, k.create(d, "x"))
	k.is(err, abi.ESTALE)
}

func TestLookupRun(t *testing.T) {
	k := mount(t)
	root := k.rootH()
	a := k.mkdir(root, "a")
	b := k.mkdir(a, "b")
	f := k.file(b, "f")
	tr, e := k.lookup(root, "a", "b", "f")
	if e != 0 || len(tr) != 3 || tr[0].Handle != a || tr[1].Handle != b || tr[2].Handle != f {
		t.Fatalf("%v %v", tr, e)
	}
	if tr, e = k.lookup(root, "a", "b", "f", "g"); e != 0 || len(tr) != 3 {
		t.Fatalf("behind a file: %v %v", tr, e)
	}
	if tr, e = k.lookup(root, "a", "x", "f"); e != abi.ENOENT || len(tr) != 1 {
		t.Fatalf("missing: %v %v", tr, e)
	}
	if _, e = k.lookup(root, strings.Repeat("n", 256)); e != abi.ENAMETOOLONG {
		t.Fatal(e)
	}
	_, err := k.Lookup(ctx, vfsops.LookupReq{Start: f, Names: [][]byte{[]byte("x")}})
	k.is(err, abi.ENOTDIR)
	_, err = k.Lookup(ctx, vfsops.LookupReq{Start: root})
	k.is(err, abi.EINVAL)
	_, err = k.Lookup(ctx, vfsops.LookupReq{Start: abi.Handle{FS: 8, File: root.File, Gen: root.Gen}, Names: [][]byte{[]byte("a")}})
	k.is(err, abi.ESTALE)
}

func TestNamesAndLimits(t *testing.T) {
	k := mount(t, "nodes", "3")
	root := k.rootH()
	for _, name := range []string{"", ".", "..", "a/b", "a\x00"} {
		_, err := k.Create(ctx, k.create(root, name))
		k.is(err, abi.EINVAL)
	}
	_, err := k.Create(ctx, k.create(root, strings.Repeat("n", 256)))
	k.is(err, abi.ENAMETOOLONG)
	long := k.file(root, strings.Repeat("n", 255))
	_, err = k.Create(ctx, k.create(root, strings.Repeat("n", 255)))
	k.is(err, abi.EEXIST)
	_, err = k.Link(ctx, vfsops.LinkReq{Op: k.op(), Node: long, Dir: root, Name: []byte("l")})
	k.ok(err)
	_, err = k.Create(ctx, k.create(root, "full"))
	k.is(err, abi.ENOSPC)
	s, err := k.Statvfs(ctx)
	k.ok(err)
	if s.Files != 3 || s.Ffree != 0 || s.Blocks != 256 || s.Bfree != 256 {
		t.Fatalf("%+v", s)
	}
	_, err = k.remove(root, "l", long)
	k.ok(err)
	k.mkdir(root, "fits")
	_, err = k.Link(ctx, vfsops.LinkReq{Op: k.op(), Node: root, Dir: root, Name: []byte("l")})
	k.is(err, abi.EPERM)
}

func TestLinkMax(t *testing.T) {
	k := mount(t, "nodes", "100k")
	root := k.rootH()
	f, d := k.file(root, "f"), k.mkdir(root, "d")
	for i := 1; i < abi.LINK_MAX; i++ {
		_, err := k.Link(ctx, vfsops.LinkReq{Op: k.op(), Node: f, Dir: d, Name: fmt.Appendf(nil, "l%d", i)})
		k.ok(err)
	}
	_, err := k.Link(ctx, vfsops.LinkReq{Op: k.op(), Node: f, Dir: d, Name: []byte("more")})
	k.is(err, abi.EMLINK)
	for i := 3; i < abi.LINK_MAX; i++ { // root has "d" already
		k.mkdir(root, fmt.Sprint("d", i))
	}
	_, err = k.Mkdir(ctx, k.create(root, "more"))
	k.is(err, abi.EMLINK)
	e := k.mkdir(d, "e")
	_, err = k.rename(d, "e", e, root, "e", abi.Handle{}, 0)
	k.is(err, abi.EMLINK)
	_, err = k.rename(d, "e", e, root, "f", f, abi.RENAME_EXCHANGE)
	k.is(err, abi.EMLINK)
}

func TestPinsAndGenerations(t *testing.T) {
	k := mount(t)
	root := k.rootH()
	f := k.file(root, "f")
	k.ok(k.Pin(ctx, f))
	k.ok(k.Pin(ctx, f))
	_, err := k.remove(root, "f", f)
	k.ok(err)
	if v := k.attr(f); v.Nlink != 0 {
		t.Fatal(v.Nlink)
	}
	_, err = k.Link(ctx, vfsops.LinkReq{Op: k.op(), Node: f, Dir: root, Name: []byte("back")})
	k.is(err, abi.ENOENT)
	k.ok(k.Unpin(ctx, f))
	k.attr(f)
	k.ok(k.Unpin(ctx, f))
	_, err = k.Getattr(ctx, f)
	k.is(err, abi.ESTALE)
	k.is(k.Unpin(ctx, f), abi.ESTALE)

	// A replay may use an id again, with the generation it had.
	req := k.create(root, "g")
	req.Op.Fileid, req.Op.Gen = f.File, f.Gen+1
	m, err := k.Create(ctx, req)
	k.ok(err)
	if m.Node.Handle.File != f.File || m.Node.Handle.Gen != f.Gen+1 {
		t.Fatal(m.Node.Handle)
	}
	_, err = k.Getattr(ctx, f)
	k.is(err, abi.ESTALE)
	k.is(k.Unpin(ctx, m.Node.Handle), abi.EINVAL)
	req = k.create(root, "h")
	req.Op.Fileid = f.File
	_, err = k.Create(ctx, req)
	k.is(err, abi.EINVAL)
	req = k.create(root, "i")
	req.Op.Fileid = 900
	_, err = k.Create(ctx, req)
	k.ok(err)
	if h := k.file(root, "j"); h.File != 901 {
		t.Fatal("ids go on behind a replayed one:", h)
	}
}

func TestStaleVictims(t *testing.T) {
	k := mount(t)
	root := k.rootH()
	a, b := k.file(root, "a"), k.file(root, "b")
	_, err := k.remove(root, "a", b)
	k.is(err, abi.ESTALE)
	_, err = k.remove(root, "none", a)
	k.is(err, abi.ESTALE)
	_, err = k.rename(root, "a", b, root, "c", abi.Handle{}, 0)
	k.is(err, abi.ESTALE)
	_, err = k.rename(root, "a", a, root, "b", abi.Handle{}, 0)
	k.is(err, abi.ESTALE)
	_, err = k.rename(root, "a", a, root, "c", b, 0)
	k.is(err, abi.ESTALE)
}

func TestRename(t *testing.T) {
	k := mount(t)
	root := k.rootH()
	d1, d2 := k.mkdir(root, "d1"), k.mkdir(root, "d2")
	sub := k.mkdir(d1, "sub")
	f := k.file(d2, "f")

	m, err := k.rename(d1, "sub", sub, d2, "sub2", abi.Handle{}, 0)
	k.ok(err)
	if m.Dir.Nlink != 2 || m.Dir2.Nlink != 3 || m.Node.Handle != sub || m.Victim.Type != abi.VNON || m.Node.Vattr.Ctime != m.Dir2.Mtime {
		t.Fatalf("%+v", m)
	}
	_, err = k.rename(d2, "sub2", sub, d2, "f", f, 0)
	k.is(err, abi.ENOTDIR)
	_, err = k.rename(d2, "f", f, d2, "sub2", sub, 0)
	k.is(err, abi.EISDIR)
	_, err = k.rename(root, "d1", d1, root, "d2", d2, 0)
	k.is(err, abi.ENOTEMPTY)
	_, err = k.rename(root, "d1", d1, d1, "self", abi.Handle{}, 0)
	k.is(err, abi.EINVAL)
	_, err = k.rename(root, "d1", d1, root, "x", abi.Handle{}, abi.RENAME_EXCHANGE)
	k.is(err, abi.ENOENT)
	_, err = k.rename(root, "d1", d1, root, "x", abi.Handle{}, 64)
	k.is(err, abi.EINVAL)

	// A directory over an empty one of another parent.
	m, err = k.rename(d2, "sub2", sub, root, "d1", d1, 0)
	k.ok(err)
	if m.Dir2.Nlink != 4 || m.Dir.Nlink != 2 || m.Victim.Nlink != 0 {
		t.Fatalf("%+v", m)
	}
	_, err = k.Getattr(ctx, d1)
	k.is(err, abi.ESTALE)

	// Exchange of a file and a directory.
	m, err = k.rename(root, "d1", sub, d2, "f", f, abi.RENAME_EXCHANGE)
	k.ok(err)
	if m.Dir.Nlink != 3 || m.Dir2.Nlink != 3 || m.Victim.Nlink != 1 || m.Victim.Fileid != f.File {
		t.Fatalf("%+v", m)
	}
	if tr, _ := k.lookup(root, "d2", "f"); tr[1].Handle != sub {
		t.Fatal(tr)
	}

	// Two names of one file: nothing happens.
	_, err = k.Link(ctx, vfsops.LinkReq{Op: k.op(), Node: f, Dir: root, Name: []byte("l")})
	k.ok(err)
	before := k.attr(f)
	_, err = k.rename(root, "d1", f, root, "l", f, 0)
	k.ok(err)
	if k.attr(f) != before {
		t.Fatal("changed")
	}
	// Over another file, which loses its only name.
	g := k.file(root, "g")
	m, err = k.rename(root, "l", f, root, "g", g, 0)
	k.ok(err)
	if m.Victim.Nlink != 0 || m.Node.Vattr.Nlink != 2 {
		t.Fatalf("%+v", m)
	}
}

func TestReaddirWhileChanging(t *testing.T) {
	k := mount(t, "nodes", "100000")
	root := k.rootH()
	keep := map[string]int{}
	gone := map[string]abi.Handle{}
	for i := range 1000 {
		name := fmt.Sprintf("n%04d", i)
		h := k.file(root, name)
		if i%3 == 0 {
			keep[name] = 0
		} else {
			gone[name] = h
		}
	}
	if got := k.list(root, 1<<20); len(got) != 1000 || got[0] != "n0000" || got[999] != "n0999" {
		t.Fatal(len(got))
	}
	var cookie uint64
	for step := 0; ; step++ {
		res, err := k.Readdir(ctx, vfsops.ReaddirReq{Dir: root, Cookie: cookie, Max: 300})
		k.ok(err)
		for _, e := range res.Entries {
			if _, ok := keep[e.Name]; ok {
				keep[e.Name]++
			}
			cookie = e.Cookie
		}
		if res.EOF {
			break
		}
		for name, h := range gone { // any ten
			_, err := k.remove(root, name, h)
			k.ok(err)
			delete(gone, name)
			if len(gone)%10 == 0 {
				break
			}
		}
		if step < 50 {
			k.file(root, fmt.Sprint("new", step))
		}
	}
	for name, n := range keep {
		if n != 1 {
			t.Errorf("%s listed %d times", name, n)
		}
	}
	_, err := k.Readdir(ctx, vfsops.ReaddirReq{Dir: root, Max: 10})
	k.is(err, abi.EINVAL)
}

func TestSpecialNodes(t *testing.T) {
	k := mount(t)
	root := k.rootH()
	dev := abi.Makedev(300, 70000)
	for typ, want := range map[abi.VType]abi.Dev{abi.VBLK: dev, abi.VCHR: dev, abi.VFIFO: abi.NoDev, abi.VSOCK: abi.NoDev} {
		m, err := k.Mknod(ctx, vfsops.MknodReq{CreateReq: k.create(root, fmt.Sprint("n", typ)), Type: typ, Rdev: dev})
		k.ok(err)
		if v := m.Node.Vattr; v.Type != typ || v.Rdev != want {
			t.Fatalf("%+v", v)
		}
	}
	_, err := k.Mknod(ctx, vfsops.MknodReq{CreateReq: k.create(root, "bad"), Type: abi.VDIR})
	k.is(err, abi.EINVAL)
	m, err := k.Symlink(ctx, vfsops.SymlinkReq{CreateReq: k.create(root, "l"), Target: []byte("a/../b")})
	k.ok(err)
	if m.Node.Vattr.Size != 6 || m.Node.Vattr.Type != abi.VLNK {
		t.Fatalf("%+v", m.Node.Vattr)
	}
	b, err := k.Readlink(ctx, m.Node.Handle)
	k.ok(err)
	if string(b) != "a/../b" {
		t.Fatalf("%q", b)
	}
	_, err = k.Readlink(ctx, root)
	k.is(err, abi.EINVAL)
	_, err = k.Symlink(ctx, vfsops.SymlinkReq{CreateReq: k.create(root, "l2"), Target: make([]byte, 1024)})
	k.is(err, abi.ENAMETOOLONG)
	_, err = k.FS.Read(ctx, root, 0, abi.IovOf(make([]byte, 1)))
	k.is(err, abi.EIO)
}

func TestSetattr(t *testing.T) {
	k := mount(t)
	root := k.rootH()
	f := k.file(root, "f")
	set := func(h abi.Handle, mask abi.SetMask, a abi.Vattr) (abi.Vattr, error) {
		return k.Setattr(ctx, vfsops.SetattrReq{Op: k.op(), Node: h, Mask: mask, Attr: a})
	}
	v, err := set(f, abi.SetMode|abi.SetUid|abi.SetGid|abi.SetFlags, abi.Vattr{Mode: 0o104755, Uid: 1, Gid: 2, Flags: 3})
	k.ok(err)
	if v.Mode != 0o4755 || v.Uid != 1 || v.Gid != 2 || v.Flags != 3 || v.Ctime.Sec != 1000+k.seq || v.Mtime.Sec == v.Ctime.Sec {
		t.Fatalf("%+v", v)
	}
	v, err = set(f, abi.SetSize, abi.Vattr{Size: 5000})
	k.ok(err)
	if v.Size != 5000 || v.Bytes != 8192 || v.Mtime.Sec != 1000+k.seq || v.Ctime != v.Mtime {
		t.Fatalf("%+v", v)
	}
	when := abi.Timespec{Sec: -5, Nsec: 7}
	v, err = set(f, abi.SetAtime|abi.SetMtime|abi.SetCtime|abi.SetBtime, abi.Vattr{Atime: when, Mtime: when, Ctime: when, Btime: when})
	k.ok(err)
	if v.Atime != when || v.Mtime != when || v.Ctime != when || v.Btime != when {
		t.Fatalf("%+v", v)
	}
	_, err = set(f, abi.SetMode|abi.SetAtime, abi.Vattr{Mode: 1, Atime: abi.Timespec{Nsec: 1e9}})
	k.is(err, abi.EINVAL)
	if w := k.attr(f); w != v {
		t.Fatalf("a refused setattr changed %+v to %+v", v, w)
	}
	v, err = set(f, abi.SetSize, abi.Vattr{Size: 1<<63 - 1})
	k.ok(err)
	if v.Bytes < 0 {
		t.Fatal(v.Bytes)
	}
	_, err = set(f, abi.SetSize, abi.Vattr{Size: -1})
	k.is(err, abi.EINVAL)
	_, err = set(root, abi.SetSize, abi.Vattr{})
	k.is(err, abi.EISDIR)
}

func TestXattr(t *testing.T) {
	k := mount(t, "size", "100k")
	f := k.file(k.rootH(), "f")
	set := func(name string, n int, flags uint32) error {
		return k.Setxattr(ctx, vfsops.SetxattrReq{Op: k.op(), Node: f, Name: []byte(name), Value: make([]byte, n), Flags: flags})
	}
	_, err := k.Getxattr(ctx, f, []byte("user.a"))
	k.is(err, abi.ENOATTR)
	k.is(set("user.a", 1, abi.XATTR_REPLACE), abi.ENOATTR)
	k.ok(set("user.b", 5, abi.XATTR_CREATE))
	k.ok(set("user.a", 0, 0))
	k.is(set("user.a", 1, abi.XATTR_CREATE), abi.EEXIST)
	k.is(set("user.a", 1, 3), abi.EINVAL)
	k.is(set("user.a", 65537, 0), abi.E2BIG)
	k.is(set(strings.Repeat("x", 256), 1, 0), abi.ENAMETOOLONG)
	l, err := k.Listxattr(ctx, f)
	k.ok(err)
	if string(l) != "user.a\x00user.b\x00" {
		t.Fatalf("%q", l)
	}
	k.ok(set("user.b", 60000, abi.XATTR_REPLACE))
	k.is(set("user.c", 60000, 0), abi.ENOSPC)
	if n, err := k.Reserve(ctx, 100); err != nil || n != 25 { // another budget
		t.Fatal(n, err)
	}
	k.ok(k.Removexattr(ctx, k.op(), f, []byte("user.b")))
	k.is(k.Removexattr(ctx, k.op(), f, []byte("user.b")), abi.ENOATTR)
	k.ok(set("user.c", 4096, 0))
	_, err = k.remove(k.rootH(), "f", f)
	k.ok(err)
	if k.xbytes != 0 {
		t.Fatal("bytes left:", k.xbytes)
	}
}

func TestReserve(t *testing.T) {
	k := mount(t, "size", "10k")
	if n, err := k.Reserve(ctx, 2); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := k.Reserve(ctx, 2); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	_, err := k.Reserve(ctx, 1)
	k.is(err, abi.ENOSPC)
	if n, err := k.Reserve(ctx, -10); n != -3 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := k.Reserve(ctx, 1<<63-1); n != 3 || err != nil {
		t.Fatal(n, err)
	}
}

func TestOptions(t *testing.T) {
	defer func(f func() (uint64, error)) { machineMemory = f }(machineMemory)
	machineMemory = func() (uint64, error) { return 8 << 30, nil }
	for _, c := range []struct {
		opts  map[string]string
		pages int64
		nodes int64
		bad   string
	}{
		{nil, 1 << 20, 3 + 4<<20, ""},
		{map[string]string{"size": "25%"}, 1 << 19, 3 + 4<<19, ""},
		{map[string]string{"size": "1", "nodes": "2k"}, 1, 2048, ""},
		{map[string]string{"size": "3G", "nodes": "1"}, 3 << 18, 1, ""},
		{map[string]string{"size": "18446744073709551615"}, 1<<51 - 1, 3 + 4*(1<<51-1), ""},
		{map[string]string{"size": "99999999t"}, 0, 0, "size"},
		{map[string]string{"size": "101%"}, 0, 0, "size"},
		{map[string]string{"size": "0"}, 0, 0, "size"},
		{map[string]string{"size": ""}, 0, 0, "size"},
		{map[string]string{"nodes": "0"}, 0, 0, "nodes"},
		{map[string]string{"nodes": "-1"}, 0, 0, "nodes"},
		{map[string]string{"mode": "10000"}, 0, 0, "mode"},
		{map[string]string{"uid": "root"}, 0, 0, "uid"},
		{map[string]string{"colour": "red"}, 0, 0, `"colour"`},
	} {
		o, err := parseOptions(c.opts)
		if c.bad != "" {
			if !errors.Is(err, abi.EINVAL) || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%v: %v", c.opts, err)
			}
			continue
		}
		if err != nil || o.pages != c.pages || o.nodes != c.nodes {
			t.Errorf("%v: %+v %v, want %d pages, %d nodes", c.opts, o, err, c.pages, c.nodes)
		}
	}
}

func TestModule(t *testing.T) {
	m := New()
	info := m.Info()
	if err := info.Check(); err != nil {
		t.Fatal(err)
	}
	req := &vfsops.MountReq{Fsid: 1, Options: map[string]string{"size": "4k"}}
	fs, err := m.Mount(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Mount(ctx, req); abi.ErrnoOf(err) != abi.EEXIST {
		t.Fatal(err)
	}
	if err := m.Fini(ctx); abi.ErrnoOf(err) != abi.EBUSY {
		t.Fatal(err)
	}
	if s, err := m.Stat(ctx); err != nil || s != "1 mounts, 1 nodes, 0 pages" {
		t.Fatal(s, err)
	}
	if c := vfsops.InterfaceCaps(fs); c&(vfsops.HasWriter|vfsops.HasPager|vfsops.HasTruncater) != 0 || c&vfsops.HasReserver == 0 {
		t.Fatalf("%x", c)
	}
	if err := fs.Unmount(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.Fini(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestMillion checks that a directory of a million files works and what a
// file costs.
func TestMillion(t *testing.T) {
	n := 1_000_000
	if testing.Short() || raceEnabled {
		n = 100_000
	}
	k := mount(t, "nodes", "2m", "size", "1g")
	root := k.rootH()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range n {
		k.file(root, fmt.Sprintf("file%07d", i))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapAlloc - before.HeapAlloc) / uint64(n)
	t.Logf("%d bytes a file", each)
	if each > 400 {
		t.Errorf("%d bytes a file", each)
	}
	if got := k.list(root, 64<<10); len(got) != n || got[n-1] != fmt.Sprintf("file%07d", n-1) {
		t.Fatal(len(got))
	}
	start := time.Now()
	req := vfsops.LookupReq{Start: root, Names: [][]byte{nil}}
	const looks = 100_000
	for i := range looks {
		req.Names[0] = fmt.Appendf(req.Names[0][:0], "file%07d", i*7919%n)
		if res, err := k.Lookup(ctx, req); err != nil || res.Err != 0 {
			t.Fatal(res.Err, err)
		}
	}
	t.Logf("%v a lookup", time.Since(start)/looks)
	for i := range n {
		name := fmt.Sprintf("file%07d", i)
		h := k.nodes[k.root.dir.names[name].node.fileid]
		if _, err := k.remove(root, name, k.handle(h)); err != nil {
			t.Fatal(err)
		}
	}
	if len(k.nodes) != 1 || k.names != 1 || k.root.dir.order != nil {
		t.Fatal(len(k.nodes), k.names)
	}
}

func BenchmarkLookup(b *testing.B) {
	k := mount(b)
	root := k.rootH()
	k.file(root, "some-file")
	req := vfsops.LookupReq{Start: root, Names: [][]byte{[]byte("some-file")}}
	for b.Loop() {
		if _, err := k.Lookup(ctx, req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCreateRemove(b *testing.B) {
	k := mount(b)
	root := k.rootH()
	for b.Loop() {
		h := k.file(root, "f")
		if _, err := k.remove(root, "f", h); err != nil {
			b.Fatal(err)
		}
	}
}
