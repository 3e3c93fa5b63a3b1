package hostfs

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

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
			runtime.Gosched()
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
	deadline := time.Now().Add(60 * time.Second) // on one busy processor it takes a while to meet
	for i := 0; i < 4000 || (found == 0 || links == 0) && time.Now().Before(deadline); i++ {
		if i%8 == 0 {
			runtime.Gosched()
		}
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
	if s := r.read(f); s != "one" { // found under its new name
		t.Fatal(s)
	}
	if h := r.handleOf("moved"); h != f {
		t.Fatal(h, f)
	}
	r.ok(os.Mkdir(r.path("d"), 0o755))
	r.ok(os.Rename(r.path("moved"), r.path("d/moved")))
	r.evictAll()
	_, err = r.Getattr(ctx, f) // in another directory it is not
	r.is(err, abi.ESTALE)
	if h := r.handleOf("d", "moved"); h != f {
		t.Fatal(h, f)
	}
	r.ok(os.Rename(r.path("d/moved"), r.path("moved")))
	if h := r.handleOf("moved"); h != f {
		t.Fatal(h, f)
	}
	// A name that came to be behind our back is no target.
	r.ok(os.WriteFile(r.path("new"), nil, 0o644))
	_, err = r.Rename(ctx, vfsops.RenameReq{FDir: root, FName: []byte("moved"), From: f, TDir: root, TName: []byte("new")})
	r.is(err, abi.ESTALE)
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
