package hyper

import (
	"bytes"
	"context"
	"errors"
	"math/rand"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

func openT(t *testing.T, o FileOpen) File {
	t.Helper()
	f, err := Base{}.OpenFile(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func needLinux(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("files of the host need Linux")
	}
}

// TestFile moves the same bytes through a File and a plain file of Go's.
func TestFile(t *testing.T) {
	needLinux(t)
	path := filepath.Join(t.TempDir(), "disk.img")
	f := openT(t, FileOpen{Path: path, Create: true})
	const size = 1 << 20
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, size)
	r := rand.New(rand.NewSource(1))
	for i := range 300 {
		off := int64(r.Intn(size))
		n := r.Intn(min(size-int(off), 40000) + 1)
		p := make([]byte, n)
		r.Read(p)
		var v abi.Iov // in pieces, empty ones among them
		for q := p; len(q) > 0; {
			k := r.Intn(len(q) + 1)
			v, q = append(v, q[:k]), q[k:]
		}
		switch i % 5 {
		default:
			if got, err := f.WriteAt(v, off, i%7 == 0); got != n || err != nil {
				t.Fatalf("write of %d: %d, %v", n, got, err)
			}
			copy(want[off:], p)
		case 3:
			if n == 0 {
				continue
			}
			if err := f.Zero(off, int64(n)); errors.Is(err, abi.EOPNOTSUPP) {
				continue
			} else if err != nil {
				t.Fatal(err)
			}
			clear(want[off:][:n])
		case 4:
			if got, err := f.ReadAt(v, off); got != n || err != nil {
				t.Fatalf("read of %d: %d, %v", n, got, err)
			}
			if !bytes.Equal(p, want[off:][:n]) {
				t.Fatalf("read %d at %d: other bytes", n, off)
			}
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatal("the file has other bytes", err)
	}
	in, err := f.Info()
	if err != nil || in.Size != size || in.Sector != 512 || in.Block || in.ReadOnly || in.Ino == 0 {
		t.Errorf("%+v, %v", in, err)
	}
	if n, err := f.ReadAt(abi.IovOf(make([]byte, 100)), size-40); n != 40 || err != nil {
		t.Errorf("over the end: %d, %v", n, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"sync": f.Sync(), "close": f.Close()} {
		if what == "sync" && !errors.Is(err, abi.ENXIO) || what == "close" && err != nil {
			t.Errorf("%s after close: %v", what, err)
		}
	}
}

// TestFileMany moves more areas than one call of the host's takes.
func TestFileMany(t *testing.T) {
	needLinux(t)
	f := openT(t, FileOpen{Path: filepath.Join(t.TempDir(), "f"), Create: true})
	var in, out abi.Iov
	for i := range 3000 {
		in, out = append(in, []byte{byte(i), byte(i >> 8)}), append(out, make([]byte, 2))
	}
	if n, err := f.WriteAt(in, 0, false); n != 6000 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := f.ReadAt(out, 0); n != 6000 || err != nil {
		t.Fatal(n, err)
	}
	for i := range in {
		if !bytes.Equal(in[i], out[i]) {
			t.Fatalf("area %d", i)
		}
	}
}

func TestFileErrors(t *testing.T) {
	needLinux(t)
	dir := t.TempDir()
	img := filepath.Join(dir, "img")
	if err := os.WriteFile(img, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		o    FileOpen
		want abi.Errno
	}{
		{"nothing there", FileOpen{Path: filepath.Join(dir, "none")}, abi.ENOENT},
		{"below a file", FileOpen{Path: filepath.Join(img, "x")}, abi.ENOTDIR},
		{"a directory", FileOpen{Path: dir}, abi.EISDIR},
		{"a directory, to read", FileOpen{Path: dir, ReadOnly: true}, abi.EFTYPE},
		{"a fifo", FileOpen{Path: fifo}, abi.EFTYPE},
		{"a character device", FileOpen{Path: "/dev/null"}, abi.EFTYPE},
	} {
		if _, err := (Base{}).OpenFile(context.Background(), c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}

	// One writes, or several read.
	w := openT(t, FileOpen{Path: img})
	for _, ro := range []bool{false, true} {
		if _, err := (Base{}).OpenFile(context.Background(), FileOpen{Path: img, ReadOnly: ro}); !errors.Is(err, abi.EBUSY) {
			t.Errorf("beside a writer, read-only %v: %v", ro, err)
		}
	}
	openT(t, FileOpen{Path: img, NoLock: true})
	w.Close()
	a := openT(t, FileOpen{Path: img, ReadOnly: true})
	openT(t, FileOpen{Path: img, ReadOnly: true})
	if _, err := (Base{}).OpenFile(context.Background(), FileOpen{Path: img}); !errors.Is(err, abi.EBUSY) {
		t.Errorf("a writer beside readers: %v", err)
	}
	if _, err := a.WriteAt(abi.IovOf([]byte("x")), 0, false); !errors.Is(err, abi.EBADF) {
		t.Errorf("write to a read-only one: %v", err)
	}

	if err := (Base{}).RemoveFile(filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	}
	if err := (Base{}).RemoveFile(img); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(img); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
