package rumpclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// subFS is the tree below dir.
func subFS(t *testing.T, c *rumpclient.Client, dir string) rumpclient.WriteFS {
	t.Helper()
	sub, err := fs.Sub(c.FS(), dir)
	must(t, err)
	w, ok := sub.(rumpclient.WriteFS)
	if !ok {
		t.Fatalf("fs.Sub makes a %T", sub)
	}
	return w
}

// TestWriteFS: everything that WriteFS can do, and a tree made by it passes
// fstest, from above and from below.
func TestWriteFS(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		w := subFS(t, c, "w")
		must(t, w.MkdirAll(".", 0o755))
		must(t, w.MkdirAll("a/b/c", 0o755))
		must(t, w.MkdirAll("a/b/c", 0o755))
		must(t, w.Mkdir("empty", 0o700))
		must(t, w.WriteFile("a/f", []byte("hello"), 0o644))
		must(t, w.WriteFile("a/f", []byte("bye"), 0o600)) // emptied; the mode stays
		f, err := w.Create("a/b/new")
		must(t, err)
		if n, err := f.Write([]byte("0123456789")); n != 10 || err != nil {
			t.Fatal(n, err)
		}
		if n, err := f.WriteAt([]byte("AB"), 2); n != 2 || err != nil {
			t.Fatal(n, err)
		}
		must(t, f.Truncate(8))
		must(t, f.Sync())
		must(t, f.Chmod(0o640|fs.ModeSetgid))
		if _, err := f.Seek(1, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(f); string(b) != "1AB4567" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		fi, err := f.Stat()
		must(t, err)
		if fi.Size() != 8 || fi.Mode() != 0o640|fs.ModeSetgid || fi.Name() != "new" {
			t.Errorf("%v", fi)
		}
		must(t, f.Close())
		app, err := w.OpenFile("a/f", os.O_WRONLY|os.O_APPEND, 0)
		must(t, err)
		if _, err := app.Write([]byte(" bye")); err != nil {
			t.Error(err)
		}
		if _, err := app.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("read of what is open for writing: %v", err)
		}
		must(t, app.Close())
		must(t, w.Symlink("f", "a/link"))
		must(t, w.Symlink("/nowhere", "broken"))
		must(t, w.Link("a/f", "a/hard"))
		must(t, w.Rename("a/hard", "empty/moved"))
		must(t, w.Chmod("empty/moved", 0o600|fs.ModeSticky))
		must(t, w.Chown("empty/moved", 12, -1))
		at, mt := time.Unix(5e9, 123456789), time.Unix(-5, 1)
		must(t, w.Chtimes("a/link", at, mt))
		must(t, w.Chtimes("a/link", time.Time{}, mt.Add(time.Second)))
		must(t, w.Truncate("empty/moved", 3))
		must(t, w.Chtimes("a/link", time.Time{}, mt))

		fi, err = w.Stat("a/f")
		must(t, err)
		st := fi.Sys().(*abi.Stat)
		if st.Uid != 12 || st.Gid != 0 || fi.Mode() != 0o600|fs.ModeSticky || fi.Size() != 3 || st.Nlink != 2 || !fi.ModTime().Equal(mt) || !st.Atime.Time().Equal(at) {
			t.Errorf("%v %+v", fi, st)
		}
		if b, err := w.ReadFile("a/link"); string(b) != "bye" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		if s, err := w.ReadLink("broken"); s != "/nowhere" || err != nil {
			t.Errorf("%q, %v", s, err)
		}
		for i := range 20 {
			must(t, w.WriteFile(fmt.Sprintf("a/b/c/%02d", i), bytes.Repeat([]byte{byte(i)}, i*7), 0o444))
		}
		must(t, w.Remove("broken")) // TestFS opens everything
		must(t, fstest.TestFS(w, "a/f", "a/b/new", "empty/moved", "a/b/c/19", "a/link"))
		below, err := fs.Sub(w, "a/b")
		must(t, err)
		must(t, fstest.TestFS(below, "new", "c/00"))

		must(t, w.Remove("empty/moved"))
		must(t, w.Remove("empty"))
		must(t, w.RemoveAll("a"))
		must(t, w.RemoveAll("a"))
		if ds, err := w.ReadDir("."); len(ds) != 0 || err != nil {
			t.Errorf("%v, %v", ds, err)
		}
	})
}

// TestWriteFSErrors: what is refused is a *fs.PathError with the name that was
// given, and errors.Is knows why.
func TestWriteFSErrors(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		w := subFS(t, c, "w")
		_, err := w.Stat("x")
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("before the directory is there: %v", err)
		}
		must(t, w.MkdirAll("d/e", 0o755))
		must(t, w.WriteFile("f", []byte("f"), 0o644))
		must(t, w.WriteFile("d/e/g", nil, 0o644))
		closed, err := w.Open("f")
		must(t, err)
		must(t, closed.Close())
		read, err := w.Open("f")
		must(t, err)
		defer read.Close()
		dir, err := w.Open("d")
		must(t, err)
		defer dir.Close()
		two := func(_ any, err error) error { return err }
		for _, tc := range []struct {
			what string
			err  error
			is   error
			path string
		}{
			{"open", two(w.Open("none")), fs.ErrNotExist, "none"},
			{"open below", two(w.Open("none/x")), abi.ENOENT, "none/x"},
			{"open below a file", two(w.Open("f/x")), abi.ENOTDIR, "f/x"},
			{"open rooted", two(w.Open("/f")), fs.ErrInvalid, "/f"},
			{"open up", two(w.Open("../f")), fs.ErrInvalid, "../f"},
			{"open nul", two(w.Open("f\x00")), fs.ErrInvalid, "f\x00"},
			{"create directory", two(w.Create("d")), abi.EISDIR, "d"},
			{"create exclusively", two(w.OpenFile("f", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)), fs.ErrExist, "f"},
			{"flag", two(w.OpenFile("f", 1<<30, 0)), fs.ErrInvalid, "f"},
			{"access mode", two(w.OpenFile("f", os.O_WRONLY|os.O_RDWR, 0)), fs.ErrInvalid, "f"},
			{"write file", w.WriteFile("none/f", nil, 0o644), fs.ErrNotExist, "none/f"},
			{"mkdir", w.Mkdir("d", 0o755), fs.ErrExist, "d"},
			{"mkdir root", w.Mkdir(".", 0o755), fs.ErrExist, "."},
			{"mkdir all", w.MkdirAll("f/x", 0o755), abi.ENOTDIR, "f/x"},
			{"remove", w.Remove("none"), fs.ErrNotExist, "none"},
			{"remove full", w.Remove("d"), fs.ErrExist, "d"},
			{"remove full", w.Remove("d"), abi.ENOTEMPTY, "d"},
			{"remove root", w.Remove("."), fs.ErrInvalid, "."},
			{"remove all root", w.RemoveAll("."), fs.ErrInvalid, "."},
			{"remove all up", w.RemoveAll("d/.."), fs.ErrInvalid, "d/.."},
			{"rename", w.Rename("none", "x"), fs.ErrNotExist, "none"},
			{"rename onto", w.Rename("f", "d"), abi.EISDIR, "f"},
			{"rename into itself", w.Rename("d", "d/e/d"), fs.ErrInvalid, "d"},
			{"rename root", w.Rename(".", "x"), fs.ErrInvalid, "."},
			{"rename to root", w.Rename("d", "."), fs.ErrInvalid, "."},
			{"symlink", w.Symlink("x", "f"), fs.ErrExist, "f"},
			{"symlink empty", w.Symlink("", "x"), fs.ErrInvalid, "x"},
			{"symlink root", w.Symlink("x", "."), fs.ErrInvalid, "."},
			{"link", w.Link("none", "x"), fs.ErrNotExist, "x"},
			{"link directory", w.Link("d", "x"), fs.ErrPermission, "x"},
			{"chmod", w.Chmod("none", 0o644), fs.ErrNotExist, "none"},
			{"chown", w.Chown("none", 1, 1), fs.ErrNotExist, "none"},
			{"chtimes", w.Chtimes("none", time.Now(), time.Now()), fs.ErrNotExist, "none"},
			{"truncate", w.Truncate("d", 0), abi.EISDIR, "d"},
			{"truncate below nothing", w.Truncate("f", -1), fs.ErrInvalid, "f"},
			{"readlink", two(w.ReadLink("f")), fs.ErrInvalid, "f"},
			{"readdir", two(w.ReadDir("f")), abi.ENOTDIR, "f"},
			{"readfile", two(w.ReadFile("d")), abi.EISDIR, "d"},
			{"sub", two(w.Sub("../x")), fs.ErrInvalid, "../x"},
			{"closed: read", two(closed.Read(make([]byte, 1))), fs.ErrClosed, "f"},
			{"closed: stat", two(closed.Stat()), fs.ErrClosed, "f"},
			{"closed: close", closed.Close(), fs.ErrClosed, "f"},
			{"closed: readdir", two(closed.(fs.ReadDirFile).ReadDir(0)), fs.ErrClosed, "f"},
			{"closed: write", two(closed.(io.Writer).Write([]byte("x"))), fs.ErrClosed, "f"},
			{"closed: chmod", closed.(rumpclient.WriteFile).Chmod(0), fs.ErrClosed, "f"},
			{"write what is read", two(read.(io.Writer).Write([]byte("x"))), fs.ErrClosed, "f"},
			{"read a directory", two(dir.Read(make([]byte, 1))), abi.EISDIR, "d"},
		} {
			var pe *fs.PathError
			if !errors.As(tc.err, &pe) || !errors.Is(tc.err, tc.is) || pe.Path != tc.path {
				t.Errorf("%s: %v (%T), not %v of %q", tc.what, tc.err, tc.err, tc.is, tc.path)
			}
		}
		if b, err := w.ReadFile("f"); string(b) != "f" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
}

// TestCopyFS: a tree from the host, from Go and from the kernel arrives whole.
func TestCopyFS(t *testing.T) {
	host := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(host, "d", "empty"), 0o755))
	must(t, os.WriteFile(filepath.Join(host, "d", "exe"), bytes.Repeat([]byte("x"), 100), 0o755))
	must(t, os.WriteFile(filepath.Join(host, "big"), bytes.Repeat([]byte("big"), 1e6), 0o644))
	must(t, os.WriteFile(filepath.Join(host, "none"), nil, 0o600))
	must(t, os.Symlink("d/exe", filepath.Join(host, "link")))
	ctx := context.Background()
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		if _, err := c.Umask(ctx, 0o022); err != nil {
			t.Fatal(err)
		}
		one := subFS(t, c, "one/two")
		must(t, rumpclient.CopyFS(one, os.DirFS(host)))
		must(t, rumpclient.CopyFS(subFS(t, c, "second"), one))
		second := subFS(t, c, "second")
		must(t, fstest.TestFS(subFS(t, c, "second/d"), "exe", "empty"))
		if fi, err := second.Stat("d/exe"); err != nil || fi.Mode() != 0o755 || fi.Size() != 100 {
			t.Errorf("%v, %v", fi, err)
		}
		if s, err := second.ReadLink("link"); s != "d/exe" || err != nil {
			t.Errorf("%q, %v", s, err)
		}
		back := t.TempDir()
		must(t, os.CopyFS(back, second))
		if b, err := os.ReadFile(filepath.Join(back, "big")); len(b) != 3e6 || err != nil {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		if err := rumpclient.CopyFS(one, os.DirFS(host)); !errors.Is(err, fs.ErrExist) {
			t.Errorf("over what is there: %v", err)
		}
		must(t, rumpclient.CopyFS(subFS(t, c, "mem"), fstest.MapFS{"a/b": {Data: []byte("b")}, "l": {Data: []byte("a"), Mode: fs.ModeSymlink}}))
		if b, err := fs.ReadFile(c.FS(), "mem/l/b"); string(b) != "b" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		must(t, c.Mkfifo(ctx, "/mem/fifo", 0o600))
		if err := rumpclient.CopyFS(subFS(t, c, "mem2"), subFS(t, c, "mem")); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("a fifo: %v", err)
		}
	})
}
