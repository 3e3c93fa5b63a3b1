package kernel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// newEtfsKit is a kernel with an image of the host as /dev/disk0.
func newEtfsKit(t *testing.T, img string) *vndKit {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	k := booted(t, kernel.Options{Modules: []modapi.Module{tmpfs.New()}})
	c, err := k.Client("prog")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Exit() })
	if _, err := c.AttachDisk(ctx, "etfs", "", fmt.Appendf(nil, `{"name": "disk0", "host": %q}`, img)); err != nil {
		t.Fatal(err)
	}
	return &vndKit{t, ctx, k, c}
}

// TestEtfsTruncated: somebody on the host makes an image shorter while it is in
// use. Reading what is gone is EIO, and says why; what is there works.
func TestEtfsTruncated(t *testing.T) {
	img := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(img, bytes.Repeat([]byte("0123456789abcdef"), 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	k := newEtfsKit(t, img)
	raw, d := k.open("/dev/rdisk0", abi.O_RDWR), k.open("/dev/disk0", abi.O_RDWR)
	if err := os.Truncate(img, 512<<10); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 4096)
	for name, fd := range map[string]int{"raw": raw, "block": d} {
		_, err := k.c.Pread(k.ctx, fd, p, 768<<10)
		if !errors.Is(err, abi.EIO) || !strings.Contains(err.Error(), img) || !strings.Contains(err.Error(), "made shorter") {
			t.Errorf("%s: %v", name, err)
		}
		if got := k.read(fd, len(p), 4096); !bytes.HasPrefix(got, []byte("0123456789abcdef")) {
			t.Errorf("%s: what is still there: %q...", name, got[:16])
		}
	}
	// Writing makes a file of the host longer again, as on a real disk that
	// is back: the rest reads as zeroes, not as an error.
	k.write(d, bytes.Repeat([]byte("back"), 1024), 1<<20-4096)
	k.ok(k.c.Fsync(k.ctx, d))
	if got := k.read(raw, 4096, 768<<10); !bytes.Equal(got, make([]byte, 4096)) {
		t.Error("a hole does not read as zeroes")
	}
}

// TestEtfsFull: the host's file system has no space for a sparse image. fsync
// says ENOSPC; what was durable stays, what was not waits in memory, and the
// first fsync after there is space makes it durable.
func TestEtfsFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may mount a small tmpfs on the host")
	}
	dir := t.TempDir()
	if err := unix.Mount("rumpus-test", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("mount of a small tmpfs on the host: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
			unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	img, filler := filepath.Join(dir, "disk.img"), filepath.Join(dir, "filler")
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, 8<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	k := newEtfsKit(t, img)
	t.Cleanup(func() { k.k.Reboot(context.Background(), 0) }) // before the unmount
	d := k.open("/dev/disk0", abi.O_RDWR)
	durable := bytes.Repeat([]byte("durable "), 32<<10)
	k.write(d, durable, 0)
	k.ok(k.c.Fsync(k.ctx, d))
	over := bytes.Repeat([]byte("too much"), 192<<10) // 1.5 MiB
	k.write(d, over, 4<<20)
	for range 2 {
		err := k.c.Fsync(k.ctx, d)
		if !errors.Is(err, abi.ENOSPC) || !strings.Contains(err.Error(), img) {
			t.Errorf("fsync: %v", err)
		}
	}
	if !bytes.Equal(k.read(d, len(over), 4<<20), over) {
		t.Error("what waits for space is not read")
	}
	host := func(off, n int64) []byte {
		b, err := os.ReadFile(img)
		if err != nil {
			t.Fatal(err)
		}
		return b[off : off+n]
	}
	if !bytes.Equal(host(0, int64(len(durable))), durable) {
		t.Error("what was durable is lost")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	k.ok(k.c.Fsync(k.ctx, d))
	if !bytes.Equal(host(4<<20, int64(len(over))), over) || !bytes.Equal(host(0, int64(len(durable))), durable) {
		t.Error("not in the image after fsync")
	}
	k.ok(k.c.Close(k.ctx, d))
}
