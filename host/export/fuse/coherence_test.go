package fuse

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestCoherent: what a client of the kernel changes is seen through the mount
// when its call returns, though Linux keeps everything.
func TestCoherent(t *testing.T) {
	r := newRig(t, Options{})
	r.ok(r.c.WriteFile(r.ctx, "/f", []byte("one"), 0o644))
	read := func(want string) {
		t.Helper()
		if b, err := os.ReadFile(r.p("f")); err != nil || string(b) != want {
			t.Fatalf("read %q, %v, wanted %q", b, err, want)
		}
	}
	read("one")
	for i := range 200 {
		s := fmt.Sprintf("value %0*d", 1+i%7, i)
		r.ok(r.c.WriteFile(r.ctx, "/f", []byte(s), 0o644))
		read(s)
	}
	mode := func(want fs.FileMode) {
		t.Helper()
		if st, err := os.Stat(r.p("f")); err != nil || st.Mode() != want {
			t.Fatalf("mode %v, %v, wanted %v", st.Mode(), err, want)
		}
	}
	mode(0o644)
	r.ok(r.c.Chmod(r.ctx, "/f", 0o600))
	mode(0o600)
	gone := func(name string) {
		t.Helper()
		if _, err := os.Stat(r.p(name)); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s: %v, wanted none", name, err)
		}
	}
	there := func(name string) {
		t.Helper()
		if _, err := os.Stat(r.p(name)); err != nil {
			t.Fatal(err)
		}
	}
	for range 50 {
		gone("new") // Linux keeps that it is missing
		r.ok(r.c.WriteFile(r.ctx, "/new", nil, 0o644))
		there("new")
		r.ok(r.c.Rename(r.ctx, "/new", "/newer"))
		gone("new")
		there("newer")
		r.ok(r.c.Unlink(r.ctx, "/newer"))
		gone("newer")
		r.ok(r.c.Mkdir(r.ctx, "/dir", 0o755))
		there("dir")
		r.ok(r.c.WriteFile(r.ctx, "/dir/x", nil, 0o644))
		there("dir/x")
		if es, err := os.ReadDir(r.p("dir")); err != nil || len(es) != 1 {
			t.Fatalf("%v, %v", es, err)
		}
		r.ok(r.c.Mount(r.ctx, "tmpfs", "/dir", 0, "", nil))
		gone("dir/x")
		r.ok(r.c.Unmount(r.ctx, "/dir", 0))
		there("dir/x")
		r.ok(r.c.RemoveAll(r.ctx, "/dir"))
		gone("dir")
	}
}

// TestAppend: appends from both sides lose nothing.
func TestAppend(t *testing.T) {
	r := newRig(t, Options{})
	r.ok(os.WriteFile(r.p("log"), nil, 0o644))
	const each = 300
	var wg sync.WaitGroup
	errs := make(chan error, 3)
	for w := range 2 {
		wg.Go(func() {
			f, err := os.OpenFile(r.p("log"), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				errs <- err
				return
			}
			defer f.Close()
			for range each {
				if _, err := fmt.Fprintf(f, "%d aaaaaaaaaa\n", w); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Go(func() {
		fd, err := r.c.Open(r.ctx, "/log", abi.O_WRONLY|abi.O_APPEND, 0)
		for i := 0; i < each && err == nil; i++ {
			_, err = r.c.Write(r.ctx, fd, []byte("2 aaaaaaaaaa\n"))
		}
		if err != nil {
			errs <- err
		}
		r.c.Close(r.ctx, fd)
	})
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Fatal(err)
	}
	b, err := os.ReadFile(r.p("log"))
	r.ok(err)
	var n [3]int
	for len(b) > 0 {
		if len(b) < 13 || b[0] < '0' || b[0] > '2' || string(b[1:13]) != " aaaaaaaaaa\n" {
			t.Fatalf("torn at %q", b[:min(len(b), 40)])
		}
		n[b[0]-'0']++
		b = b[13:]
	}
	if n != [3]int{each, each, each} {
		t.Errorf("lines %v, wanted %d each", n, each)
	}
}

// TestTwoMounts: two mounts of one kernel, one of a part of it.
func TestTwoMounts(t *testing.T) {
	r := newRig(t, Options{})
	r.ok(os.MkdirAll(r.p("a/b"), 0o755))
	s := r.mount(Options{Dir: t.TempDir(), Path: "/a", RO: true})
	r.ok(os.WriteFile(r.p("a/b/f"), []byte("x"), 0o644))
	if b, err := os.ReadFile(filepath.Join(s.Dir(), "b/f")); err != nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir(), "new"), nil, 0o644); !errors.Is(err, syscall.EROFS) {
		t.Errorf("write to a read-only mount: %v", err)
	}
	if _, err := Mount(r.ctx, r.k.VFS, Options{Dir: s.Dir()}); abi.ErrnoOf(err) != abi.EBUSY {
		t.Errorf("mount over a mount: %v", err)
	}
}

// TestUnlinked: a file without a name is there as long as it is open, and the
// kernel has nothing of it afterwards.
func TestUnlinked(t *testing.T) {
	r := newRig(t, Options{})
	f, err := os.Create(r.p("f"))
	r.ok(err)
	r.ok(os.Remove(r.p("f")))
	_, err = f.WriteString("still there")
	r.ok(err)
	g, err := os.Create(r.p("g"))
	r.ok(err)
	r.ok(r.c.Unlink(r.ctx, "/g"))
	_, err = g.WriteString("as well")
	r.ok(err)
	for _, x := range []*os.File{f, g} {
		x.Seek(0, io.SeekStart)
		if b, err := io.ReadAll(x); err != nil || len(b) == 0 {
			t.Errorf("%q, %v", b, err)
		}
		if st, err := x.Stat(); err != nil || st.Sys().(*syscall.Stat_t).Nlink != 0 {
			t.Errorf("%v, %v", st, err)
		}
		r.ok(x.Close())
	}
}

// TestRaces: renames, creations and removals from both sides at once. Nobody
// hangs, and only errors that a race explains come up.
func TestRaces(t *testing.T) {
	r := newRig(t, Options{})
	for _, d := range []string{"d0", "d1"} {
		r.ok(os.Mkdir(r.p(d), 0o755))
	}
	allowed := func(err error) bool {
		for _, e := range []error{fs.ErrNotExist, fs.ErrExist, syscall.ESTALE, syscall.EISDIR, syscall.ENOTDIR, syscall.ENOTEMPTY, syscall.EPERM} {
			if errors.Is(err, e) {
				return true
			}
		}
		return err == nil
	}
	var wg sync.WaitGroup
	fail := make(chan error, 16)
	work := func(seed int, ops ...func(a, b string) error) {
		wg.Go(func() {
			x := uint32(seed*2654435761 + 1)
			for range 400 {
				x ^= x << 13
				x ^= x >> 17
				x ^= x << 5
				a, b := fmt.Sprintf("d%d/f%d", x&1, x>>1&3), fmt.Sprintf("d%d/f%d", x>>3&1, x>>4&3)
				if err := ops[x>>8%uint32(len(ops))](a, b); !allowed(err) {
					select {
					case fail <- err:
					default:
					}
					return
				}
			}
		})
	}
	for i := range 3 {
		work(i,
			func(a, b string) error { return os.Rename(r.p(a), r.p(b)) },
			func(a, b string) error { return os.WriteFile(r.p(a), []byte(b), 0o644) },
			func(a, b string) error { return os.Remove(r.p(a)) },
			func(a, b string) error { return os.Link(r.p(a), r.p(b)) },
			func(a, b string) error { _, err := os.ReadFile(r.p(a)); return err },
			func(a, b string) error {
				return unix.Renameat2(unix.AT_FDCWD, r.p(a), unix.AT_FDCWD, r.p(b), unix.RENAME_EXCHANGE)
			},
			func(a, b string) error { return os.Mkdir(r.p(a), 0o755) })
	}
	for i := range 2 {
		work(i+10,
			func(a, b string) error { return okNet(r.c.Rename(r.ctx, "/"+a, "/"+b)) },
			func(a, b string) error { return okNet(r.c.WriteFile(r.ctx, "/"+a, []byte(b), 0o644)) },
			func(a, b string) error { return okNet(r.c.Unlink(r.ctx, "/"+a)) },
			func(a, b string) error { return okNet(r.c.Rmdir(r.ctx, "/"+a)) })
	}
	wg.Wait()
	select {
	case err := <-fail:
		t.Fatal(err)
	default:
	}
	// Afterwards both sides agree.
	for _, d := range []string{"d0", "d1"} {
		for i := range 4 {
			n := fmt.Sprintf("%s/f%d", d, i)
			st, herr := os.Lstat(r.p(n))
			kst, kerr := r.c.Stat(r.ctx, "/"+n)
			switch {
			case (herr == nil) != (kerr == nil):
				t.Errorf("%s: the host says %v, the kernel %v", n, herr, kerr)
			case herr == nil && (st.IsDir() != (kst.Type == abi.VDIR) || !st.IsDir() && st.Size() != kst.Size):
				t.Errorf("%s: the host has %v, %d bytes, the kernel %v, %d bytes", n, st.Mode(), st.Size(), kst.Type, kst.Size)
			}
		}
	}
}

// okNet makes what a race explains in the kernel what it is in Linux.
func okNet(err error) error {
	switch abi.ErrnoOf(err) {
	case abi.ENOENT, abi.EEXIST, abi.ESTALE, abi.EISDIR, abi.ENOTDIR, abi.ENOTEMPTY, abi.EPERM:
		return nil
	}
	return err
}
