package hostfs

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// soon fails the test if fn hangs. What hangs then stays.
func soon(t *testing.T, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); fn() }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal(what, "hangs")
	}
}

// TestLinksOfTheHost has links of all kinds that lead outside: each is a node
// with a text, and nothing is behind it.
func TestLinksOfTheHost(t *testing.T) {
	r := mount(t)
	outside := t.TempDir()
	r.ok(os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o644))
	fd, err := unix.Open(outside, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	r.ok(err)
	defer unix.Close(fd)
	links := map[string]string{
		"absolute": outside,
		"relative": "../" + filepath.Base(outside),
		"up":       "..",
		"root":     "/",
		"chain":    "absolute",
		"chain2":   "chain",
		"loop":     "loop",
		"procroot": "/proc/self/root",
		"proccwd":  "/proc/self/cwd",
		"procfd":   fmt.Sprintf("/proc/self/fd/%d", fd),
		"device":   "/dev/tty",
		"none":     "/does/not/exist",
	}
	root := r.rootH()
	for name, to := range links {
		r.ok(os.Symlink(to, r.path(name)))
		tr, e := r.lookup(root, name, "secret")
		if e != 0 || len(tr) != 1 || tr[0].Vattr.Type != abi.VLNK {
			t.Fatal(name, tr, e)
		}
		h := tr[0].Handle
		if b, err := r.Readlink(ctx, h); err != nil || string(b) != to {
			t.Fatal(name, string(b), err)
		}
		_, err := r.Read(ctx, h, 0, abi.IovOf(make([]byte, 9)))
		r.is(err, abi.EINVAL)
		_, err = r.FS.Write(ctx, vfsops.WriteReq{Node: h}, abi.IovOf([]byte("x")))
		r.is(err, abi.EINVAL)
		_, err = r.Truncate(ctx, vfsops.Op{}, h, 0)
		r.is(err, abi.EINVAL)
		_, err = r.Readdir(ctx, vfsops.ReaddirReq{Dir: h, Max: 4096})
		r.is(err, abi.ENOTDIR)
		_, err = r.Create(ctx, r.req(h, "made"))
		r.is(err, abi.ENOTDIR)
		// To change the link's own attributes does not change what it leads to.
		_, err = r.Setattr(ctx, vfsops.SetattrReq{Node: h, Mask: abi.SetMtime, Attr: abi.Vattr{Mtime: abi.Timespec{Sec: 1}}})
		r.ok(err)
	}
	if st, err := os.Stat(outside); err != nil || st.ModTime().Unix() == 1 {
		t.Fatal("the target's time was set", err)
	}
	if ents, err := os.ReadDir(outside); err != nil || len(ents) != 1 {
		t.Fatal(ents, err)
	}
}

// TestSpecialFilesOfTheHost: what would hang or act when opened is not opened.
func TestSpecialFilesOfTheHost(t *testing.T) {
	r := mount(t)
	root := r.rootH()
	r.ok(unix.Mkfifo(r.path("fifo"), 0o600))
	types := map[string]abi.VType{"fifo": abi.VFIFO}
	if len(r.path("sock")) < 100 {
		l, err := net.Listen("unix", r.path("sock"))
		r.ok(err)
		defer l.Close()
		types["sock"] = abi.VSOCK
	}
	if unix.Mknod(r.path("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) == nil {
		types["null"] = abi.VCHR
	}
	soon(t, "a special file", func() {
		for name, typ := range types {
			tr, e := r.lookup(root, name)
			if e != 0 || tr[0].Vattr.Type != typ {
				t.Error(name, tr, e)
				continue
			}
			if typ == abi.VCHR && tr[0].Vattr.Rdev != abi.Makedev(1, 3) {
				t.Error(tr[0].Vattr.Rdev)
			}
			h := tr[0].Handle
			for range 2 {
				for what, err := range map[string]error{
					"read":     second(r.Read(ctx, h, 0, abi.IovOf(make([]byte, 1)))),
					"write":    second(r.FS.Write(ctx, vfsops.WriteReq{Node: h}, abi.IovOf([]byte("x")))),
					"append":   second(r.FS.Write(ctx, vfsops.WriteReq{Node: h, Append: true}, abi.IovOf([]byte("x")))),
					"truncate": second(r.Truncate(ctx, vfsops.Op{}, h, 5)),
					"punch":    second(r.Fallocate(ctx, vfsops.Op{}, h, 0, 5, true)),
				} {
					if abi.ErrnoOf(err) != abi.EINVAL {
						t.Errorf("%s of %s: %v", what, name, err)
					}
				}
				if err := r.Setxattr(ctx, vfsops.SetxattrReq{Node: h, Name: []byte("user.a")}); abi.ErrnoOf(err) != abi.EPERM {
					t.Errorf("setxattr of %s: %v", name, err)
				}
				if err := r.Sync(ctx, h, false); err != nil {
					t.Errorf("sync of %s: %v", name, err)
				}
				if v, err := r.Setattr(ctx, vfsops.SetattrReq{Node: h, Mask: abi.SetMode, Attr: abi.Vattr{Mode: 0o611}}); err != nil || v.Mode != 0o611 {
					t.Errorf("chmod of %s: %o %v", name, v.Mode, err)
				}
				r.evictAll()
			}
		}
	})
}

func second[T any](_ T, err error) error { return err }

// TestReplacedBeforeOpen: between Lookup and the first read the name comes to
// be something else. It is ESTALE, and no fifo makes us wait.
func TestReplacedBeforeOpen(t *testing.T) {
	r := mount(t)
	outside := t.TempDir()
	r.ok(os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o644))
	root := r.rootH()
	for what, put := range map[string]func(p string) error{
		"link":      func(p string) error { return os.Symlink(filepath.Join(outside, "secret"), p) },
		"fifo":      func(p string) error { return unix.Mkfifo(p, 0o600) },
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"file":      func(p string) error { return os.WriteFile(p, []byte("other"), 0o600) },
		"nothing":   func(string) error { return nil },
	} {
		for _, evict := range []bool{false, true} {
			r.ok(os.WriteFile(r.path("f"), []byte("first"), 0o600))
			r.ok(os.Link(r.path("f"), r.path("keep"))) // the inode is not used again
			h := r.handleOf("f")
			r.ok(os.Remove(r.path("f")))
			r.ok(put(r.path("f")))
			if evict {
				r.evictAll()
			}
			soon(t, what, func() {
				buf := make([]byte, 9)
				n, err := r.Read(ctx, h, 0, abi.IovOf(buf))
				if e := abi.ErrnoOf(err); e != abi.ESTALE && string(buf[:n]) != "first" {
					t.Errorf("%s: read %q, %v", what, buf[:n], err)
				}
				_, err = r.FS.Write(ctx, vfsops.WriteReq{Node: h}, abi.IovOf([]byte("first")))
				if e := abi.ErrnoOf(err); e != abi.ESTALE && e != 0 {
					t.Errorf("%s: write: %v", what, err)
				}
				// By the old handle, the new file under the name is out of reach.
				_, err = r.Remove(ctx, vfsops.RemoveReq{Dir: root, Name: []byte("f"), Victim: h})
				if abi.ErrnoOf(err) != abi.ESTALE {
					t.Errorf("%s: remove: %v", what, err)
				}
			})
			r.ok(os.RemoveAll(r.path("f")))
			r.ok(os.Remove(r.path("keep")))
		}
	}
	if b, err := os.ReadFile(filepath.Join(outside, "secret")); err != nil || string(b) != "secret" {
		t.Fatal(string(b), err)
	}
}

// TestMovedOut moves a directory out of the granted one while it is open. Who
// has it still sees what is in it; there is no way from there to anything else,
// and nobody gets there anew.
func TestMovedOut(t *testing.T) {
	r := mount(t)
	outside := t.TempDir()
	r.ok(os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o644))
	root := r.rootH()
	d := r.mkdir(root, "d")
	sub := r.mkdir(d, "sub")
	r.file(sub, "f", "mine")
	r.ok(os.Rename(r.path("d"), filepath.Join(outside, "d")))
	if _, e := r.lookup(root, "d"); e != abi.ENOENT {
		t.Fatal("the name is still there:", e)
	}
	tr, e := r.lookup(d, "sub", "f")
	if e != 0 || len(tr) != 2 || r.read(tr[1].Handle) != "mine" {
		t.Fatal(tr, e)
	}
	for _, name := range []string{"..", "../secret", "/etc"} {
		_, err := r.Lookup(ctx, vfsops.LookupReq{Start: d, Names: [][]byte{[]byte(name)}})
		r.is(err, abi.EINVAL)
	}
	if _, e := r.lookup(d, "secret"); e != abi.ENOENT {
		t.Fatal(e)
	}
	r.evictAll()
	for _, h := range []abi.Handle{d, sub, tr[1].Handle} {
		_, err := r.Getattr(ctx, h)
		r.is(err, abi.ESTALE)
	}
	// Moved back it is what it was.
	r.ok(os.Rename(filepath.Join(outside, "d"), r.path("d")))
	if h := r.handleOf("d", "sub"); h != sub {
		t.Fatal(h, sub)
	}
}

// TestMovedOutRace has a stranger move a directory out and in, with a trap in
// its place, while others walk through it.
func TestMovedOutRace(t *testing.T) {
	r := mount(t)
	outside := t.TempDir()
	r.ok(os.Mkdir(filepath.Join(outside, "sub"), 0o755))
	r.ok(os.WriteFile(filepath.Join(outside, "sub", "f"), []byte("secret"), 0o644))
	root := r.rootH()
	d := r.mkdir(root, "d")
	sub := r.mkdir(d, "sub")
	r.file(sub, "f", "mine")
	r.ok(os.Symlink(outside, r.path("trap")))
	stop, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.Rename(r.path("d"), filepath.Join(outside, "d"))
			_ = os.Rename(r.path("trap"), r.path("d"))
			_ = os.Rename(r.path("d"), r.path("trap"))
			_ = os.Rename(filepath.Join(outside, "d"), r.path("d"))
		}
	}()
	for i := range 2000 {
		start, names := root, []string{"d", "sub", "f"}
		if i%2 == 1 {
			start, names = d, names[1:]
		}
		res, err := r.Lookup(ctx, vfsops.LookupReq{Start: start, Names: byteNames(names)})
		// EXDEV: Linux saw that the way led out (RESOLVE_BENEATH).
		if e := abi.ErrnoOf(err); e != 0 && e != abi.ESTALE && e != abi.EXDEV {
			t.Fatal(err)
		}
		for _, e := range res.Trace {
			if e.Vattr.Type != abi.VREG {
				continue
			}
			buf := make([]byte, 9)
			if n, err := r.Read(ctx, e.Handle, 0, abi.IovOf(buf)); err == nil && string(buf[:n]) != "mine" {
				t.Fatalf("read %q", buf[:n])
			}
		}
		if i%64 == 0 {
			r.evictAll()
		}
	}
	close(stop)
	<-gone
}

func byteNames(names []string) (bs [][]byte) {
	for _, n := range names {
		bs = append(bs, []byte(n))
	}
	return bs
}

// TestNamesThatAreNoText takes every byte that a name can have.
func TestNamesThatAreNoText(t *testing.T) {
	r := mount(t)
	root := r.rootH()
	var names []string
	for b := 1; b < 256; b++ {
		if b != '/' {
			names = append(names, "x"+string([]byte{byte(b)}))
		}
	}
	names = append(names, "\xff\xfe\xfd", strings.Repeat("\x80", abi.NAME_MAX), "...", " ", "\n")
	for _, n := range names {
		r.file(root, n, n)
	}
	got := r.list(root, 4096)
	slices.Sort(got)
	slices.Sort(names)
	if !slices.Equal(got, names) {
		t.Fatalf("%q", got)
	}
	for _, n := range names {
		if s := r.read(r.handleOf(n)); s != n {
			t.Fatalf("%q holds %q", n, s)
		}
		if b, err := os.ReadFile(r.path(n)); err != nil || string(b) != n {
			t.Fatal(n, err)
		}
	}
}

// TestSameInodeAtOnce makes and removes files faster than the host's clock
// ticks: the inode numbers come again, the handles never.
func TestSameInodeAtOnce(t *testing.T) {
	r := mount(t)
	root := r.rootH()
	seen := map[abi.Handle]bool{}
	for range 300 {
		h := r.file(root, "f", "")
		if seen[h] {
			t.Fatal("handle twice:", h)
		}
		seen[h] = true
		_, err := r.Remove(ctx, vfsops.RemoveReq{Dir: root, Name: []byte("f"), Victim: h})
		r.ok(err)
		_, err = r.Getattr(ctx, h)
		r.is(err, abi.ESTALE)
	}
}

// TestSparse: a hole stays one on the host.
func TestSparse(t *testing.T) {
	r := mount(t)
	const far = 1 << 34
	f := r.file(r.rootH(), "f", "")
	if _, err := r.FS.Write(ctx, vfsops.WriteReq{Node: f, Off: far}, abi.IovOf([]byte("end"))); abi.ErrnoOf(err) == abi.EFBIG {
		t.Skip("the host has no files of 16 GiB")
	} else if err != nil {
		t.Fatal(err)
	}
	v, err := r.Getattr(ctx, f)
	r.ok(err)
	if v.Size != far+3 || v.Bytes > 1<<20 {
		t.Fatalf("%d bytes long, %d held", v.Size, v.Bytes)
	}
	buf := make([]byte, 4)
	if n, err := r.Read(ctx, f, far-1, abi.IovOf(buf)); err != nil || string(buf[:n]) != "\x00end" {
		t.Fatalf("%q %v", buf[:n], err)
	}
	r.write(f, 0, strings.Repeat("x", 1<<16))
	full, err := r.Getattr(ctx, f)
	r.ok(err)
	less, err := r.Fallocate(ctx, vfsops.Op{}, f, 0, 1<<16, true)
	if abi.ErrnoOf(err) == abi.EOPNOTSUPP {
		t.Skip("the host punches no holes")
	}
	r.ok(err)
	if less.Size != full.Size || less.Bytes >= full.Bytes {
		t.Fatalf("punched: %d of %d bytes held, %d long", less.Bytes, full.Bytes, less.Size)
	}
}
