package fuse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/hostfs"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// granting is hostfs with a grant of the test.
type granting struct {
	*hostfs.Module
	dir string
}

func (g granting) Init(ctx context.Context, k modapi.Kernel, r modapi.Reason, p modapi.Props) error {
	return g.Module.Init(ctx, grantKernel{k, g.dir}, r, p)
}

type grantKernel struct {
	modapi.Kernel
	dir string
}

func (k grantKernel) Granted(name string) (*os.File, error) {
	if name != "host.dir:"+k.dir {
		return nil, abi.ENOENT
	}
	return os.Open(k.dir)
}

// passRig is a rig with a hostfs on /h, whose files may pass by.
type passRig struct {
	*rig
	host   string // the directory of the host
	passed func() uint64
}

// newPassRig mounts path. The host's directory is a tmpfs: what is behind a file
// that passes must lie on nothing.
func newPassRig(t *testing.T, path string) *passRig {
	t.Helper()
	canMount(t)
	if os.Geteuid() != 0 {
		t.Skip("passthrough needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64m,mode=755"); err != nil {
		t.Skip("no tmpfs to be had: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	k := kernel.New(kernel.Options{Modules: []modapi.Module{tmpfs.New(), granting{hostfs.New(), dir}}})
	if err := k.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Reboot(context.Background(), 0) })
	c, err := k.Client("test")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(dir+"/sub/deep", 0o755), c.Mkdir(ctx, "/h", 0o755), c.Mount(ctx, "hostfs", "/h", 0, dir, nil)); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	counters := map[string]*modapi.Counter{}
	r := &rig{t: t, ctx: ctx, k: k, c: c}
	r.s = r.mount(Options{Dir: t.TempDir(), Path: path,
		Backing: func(m vfs.MountInfo) (*os.File, error) {
			if m.Type != "hostfs" {
				return nil, nil
			}
			return os.Open(m.Source)
		},
		Evcnt: func(_, name string) *modapi.Counter {
			mu.Lock()
			defer mu.Unlock()
			if counters[name] == nil {
				counters[name] = new(modapi.Counter)
			}
			return counters[name]
		}})
	r.dir = r.s.Dir()
	p := &passRig{r, dir, func() uint64 { return counters["passed"].Load() }}
	probe := p.create(p.top("probe"))
	if p.passed() == 0 {
		t.Skip("this Linux does no passthrough")
	}
	probe.Close()
	return p
}

// top is a path below the hostfs, in the mount.
func (r *passRig) top(name string) string {
	if r.s.o.Path == "/" {
		name = filepath.Join("h", name)
	}
	return r.p(name)
}

func (r *passRig) create(name string) *os.File {
	r.t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	r.ok(err)
	return f
}

// passes reports whether fn opens something that passes by.
func (r *passRig) passes(fn func()) bool {
	before := r.passed()
	fn()
	return r.passed() > before
}

// left is how many files are open that could pass.
func (r *passRig) left() int {
	r.s.pass.mu.Lock()
	defer r.s.pass.mu.Unlock()
	return len(r.s.pass.open)
}

func (r *passRig) same(name, want string) {
	r.t.Helper()
	got, err := os.ReadFile(name)
	if err != nil || string(got) != want {
		r.t.Errorf("%s: %q, %v, want %q", name, got, err, want)
	}
}

func TestPassthrough(t *testing.T) {
	for _, path := range []string{"/", "/h"} {
		t.Run(path, func(t *testing.T) {
			r := newPassRig(t, path)
			var f *os.File
			if !r.passes(func() { f = r.create(r.top("sub/deep/f")) }) {
				t.Error("a new file does not pass")
			}
			defer f.Close()
			there := filepath.Join(r.host, "sub/deep/f")
			_, err := f.WriteString("hello")
			r.ok(err)
			r.same(there, "hello")
			r.ok(os.WriteFile(there, []byte("from the host"), 0o644))
			got := make([]byte, 100)
			n, err := f.ReadAt(got, 0)
			if err != io.EOF || string(got[:n]) != "from the host" {
				t.Errorf("%q %v", got[:n], err)
			}
			// Sizes and times are those of the host at once, also for clients.
			_, err = f.WriteAt([]byte("!"), 99)
			r.ok(err)
			if fi, err := f.Stat(); err != nil || fi.Size() != 100 {
				t.Errorf("%v %v", fi, err)
			}
			if st, err := r.c.Stat(r.ctx, "/h/sub/deep/f"); err != nil || st.Size != 100 {
				t.Errorf("%+v %v", st, err)
			}
			r.ok(f.Truncate(3))
			r.same(there, "fro")
			r.ok(f.Sync())
			// Who opens it once more, to read, to append, to cut it, has the same.
			if !r.passes(func() { r.same(r.top("sub/deep/f"), "fro") }) {
				t.Error("a second open does not pass")
			}
			a, err := os.OpenFile(r.top("sub/deep/f"), os.O_WRONLY|os.O_APPEND, 0)
			r.ok(err)
			_, err = a.WriteString("m")
			r.ok(errors.Join(err, a.Close()))
			r.same(there, "from")
			m, err := unix.Mmap(int(f.Fd()), 0, 4, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			r.ok(err)
			m[0] = 'F'
			r.ok(unix.Munmap(m))
			r.same(there, "From")
			r.ok(os.WriteFile(r.top("sub/deep/f"), []byte("cut"), 0o644))
			r.same(there, "cut")
			r.same(r.top("sub/deep/f"), "cut")
			// Renamed and removed while it is open.
			r.ok(os.Rename(r.top("sub/deep/f"), r.top("g")))
			if !r.passes(func() { r.same(r.top("g"), "cut") }) {
				t.Error("a renamed file does not pass")
			}
			r.ok(os.Remove(r.top("g")))
			n, err = f.ReadAt(got, 0)
			if err != io.EOF || string(got[:n]) != "cut" {
				t.Errorf("%q %v", got[:n], err)
			}
			r.ok(f.Close())
			if path == "/" {
				if r.passes(func() { r.ok(os.WriteFile(r.p("own"), []byte("x"), 0o644)) }) {
					t.Error("a file of a tmpfs passes")
				}
			}
			// The last close is told some time after it.
			for end := time.Now().Add(time.Minute); r.left() > 0; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d files are open for ever", r.left())
				}
			}
		})
	}
}

// TestPassthroughNot: what must not pass, and is served all the same.
func TestPassthroughNot(t *testing.T) {
	r := newPassRig(t, "/")
	r.ok(os.WriteFile(filepath.Join(r.host, "setid"), []byte("s"), 0o755))
	r.ok(os.Chmod(filepath.Join(r.host, "setid"), 0o755|os.ModeSetuid))
	if r.passes(func() { r.same(r.top("setid"), "s") }) {
		t.Error("a set-id program passes")
	}
	// One that is open by us stays so.
	r.ok(os.WriteFile(filepath.Join(r.host, "f"), []byte("f"), 0o644))
	r.ok(os.Chmod(filepath.Join(r.host, "f"), 0o644|os.ModeSetuid))
	f, err := os.Open(r.top("f"))
	r.ok(err)
	r.ok(os.Chmod(filepath.Join(r.host, "f"), 0o644))
	if r.passes(func() { r.same(r.top("f"), "f") }) {
		t.Error("it passes while another open does not")
	}
	r.ok(f.Close())
	// On a mount for reading only nothing is written.
	r.ok(r.c.Mkdir(r.ctx, "/ro", 0o755))
	r.ok(r.c.Mount(r.ctx, "hostfs", "/ro", abi.MNT_RDONLY, r.host, nil))
	if _, err := os.OpenFile(r.p("ro/f"), os.O_WRONLY, 0); !errors.Is(err, syscall.EROFS) {
		t.Error(err)
	}
	if !r.passes(func() { r.same(r.p("ro/f"), "f") }) {
		t.Error("nothing passes of a mount for reading only")
	}
	// A stranger may not open what is not his, whatever passes.
	r.ok(os.WriteFile(filepath.Join(r.host, "secret"), []byte("s"), 0o600))
	cmd := exec.Command("cat", r.top("secret"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
	r.ok(os.Chmod(filepath.Dir(r.dir), 0o755))
	if out, err := cmd.CombinedOutput(); err == nil || !bytes.Contains(out, []byte("ermission denied")) {
		t.Errorf("%s %v", out, err)
	}
}

// TestPassthroughExchanged: a stranger exchanges files and links under the names
// that are opened. What is read is one of the files of the directory, never what
// a link leads to.
func TestPassthroughExchanged(t *testing.T) {
	r := newPassRig(t, "/")
	outside := filepath.Join(t.TempDir(), "outside")
	r.ok(os.WriteFile(outside, []byte("outside"), 0o644))
	in := func(n string) string { return filepath.Join(r.host, n) }
	r.ok(errors.Join(os.WriteFile(in("a"), []byte("aaaa"), 0o644), os.WriteFile(in("b"), []byte("bbbb"), 0o644),
		os.Symlink(outside, in("l")), os.Symlink(filepath.Dir(outside), in("d")), os.Mkdir(in("e"), 0o755),
		os.WriteFile(in("e/outside"), []byte("inside"), 0o644)))
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			for _, p := range [][2]string{{"a", "b"}, {"a", "l"}, {"d", "e"}} {
				unix.Renameat2(unix.AT_FDCWD, in(p[0]), unix.AT_FDCWD, in(p[1]), unix.RENAME_EXCHANGE)
			}
		}
	}()
	for range 300 {
		for _, n := range []string{"a", "b"} {
			f, err := os.OpenFile(r.top(n), os.O_RDONLY|unix.O_NOFOLLOW, 0)
			if err != nil {
				continue
			}
			var got []byte
			got, err = io.ReadAll(f)
			f.Close()
			if s := string(got); err == nil && s != "aaaa" && s != "bbbb" {
				t.Fatalf("%s: %q", n, s)
			}
		}
		// By way of a directory: Linux itself follows the link when it is one.
		if fd, err := unix.Open(r.top("d"), unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY, 0); err == nil {
			if ffd, err := unix.Openat(fd, "outside", unix.O_RDONLY|unix.O_NOFOLLOW, 0); err == nil {
				b := make([]byte, 20)
				if n, err := unix.Read(ffd, b); err == nil && string(b[:n]) != "inside" {
					t.Fatalf("d/outside: %q", b[:n])
				}
				unix.Close(ffd)
			}
			unix.Close(fd)
		}
	}
	close(stop)
	<-done
}

// TestPassthroughMany: many open and close the same and different files at a
// time, some of which pass and some not, and everybody reads what was written.
func TestPassthroughMany(t *testing.T) {
	r := newPassRig(t, "/")
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			for i := range 60 {
				n := r.top(fmt.Sprint("f", i%3))
				f, err := os.OpenFile(n, os.O_RDWR|os.O_CREATE, 0o644)
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				b := []byte{byte('a' + w)}
				if _, err := f.WriteAt(b, int64(w)); err != nil {
					t.Errorf("write: %v", err)
				}
				if _, err := f.ReadAt(b, int64(w)); err != nil || b[0] != byte('a'+w) {
					t.Errorf("read: %q %v", b, err)
				}
				f.Close()
				if i%10 == w {
					os.Chmod(n, 0o644|os.ModeSticky)
				}
			}
		})
	}
	wg.Wait()
	for i := range 3 {
		r.same(filepath.Join(r.host, fmt.Sprint("f", i)), "abcdef")
	}
}
