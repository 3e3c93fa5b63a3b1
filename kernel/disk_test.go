package kernel_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/dev"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/dev/md"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// mdProps are the properties of the memory disk of these tests.
var mdProps = map[string]modapi.Props{"md": {"md": map[string]any{"md0": "1M"}}}

// TestDisk uses a disk as a program does: by the nodes of devfs and one made
// by mknod, in parts and raw.
func TestDisk(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	k := booted(t, kernel.Options{Modules: []modapi.Module{tmpfs.New(), md.New()}, Props: mdProps})
	c, err := k.Client("prog")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Exit()
	blk, err := c.Stat(ctx, "/dev/md0")
	if err != nil || blk.Type != abi.VBLK || blk.Rdev != abi.Makedev(17, 0) || blk.Mode&0o777 != 0o640 {
		t.Errorf("md0: %+v %v", blk, err)
	}
	raw, err := c.Stat(ctx, "/dev/rmd0")
	if err != nil || raw.Type != abi.VCHR || raw.Rdev != abi.Makedev(24, 0) {
		t.Errorf("rmd0: %+v %v", raw, err)
	}
	for path, n := range map[string]abi.Stat{"/disk": blk, "/rdisk": raw} {
		if err := c.Mknod(ctx, path, abi.TypeMode(n.Type)|0o600, n.Rdev); err != nil {
			t.Fatal(err)
		}
	}
	open := func(path string, flags int) int {
		t.Helper()
		fd, err := c.Open(ctx, path, flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	d, r := open("/disk", abi.O_RDWR), open("/dev/rmd0", abi.O_RDWR)
	text := []byte(strings.Repeat("abc", 1000))
	if n, err := c.Pwrite(ctx, d, text, 1000); n != 3000 || err != nil {
		t.Errorf("write: %d %v", n, err)
	}
	if err := c.Fsync(ctx, d); err != nil {
		t.Errorf("fsync: %v", err)
	}
	b := make([]byte, 4096)
	if n, err := c.Pread(ctx, r, b, 512); n != 4096 || err != nil || !bytes.Equal(b[488:3488], text) {
		t.Errorf("raw read: %d %v", n, err)
	}
	if _, err := c.Pread(ctx, r, b[:100], 0); abi.ErrnoOf(err) != abi.EINVAL {
		t.Errorf("raw read of a part: %v", err)
	}
	if n, err := c.Lseek(ctx, d, 0, abi.SEEK_END); n != 1<<20 || err != nil {
		t.Errorf("seek: %d %v", n, err)
	}
	size := make([]byte, 8)
	if _, err := c.Ioctl(ctx, d, abi.DIOCGMEDIASIZE, size); err != nil || binary.LittleEndian.Uint64(size) != 1<<20 {
		t.Errorf("media size: %v %v", size, err)
	}
	if _, err := c.Pwrite(ctx, d, text, 1<<20); abi.ErrnoOf(err) != abi.ENOSPC {
		t.Errorf("write at the end: %v", err)
	}
	if err := c.Modunload(ctx, "md", 0); abi.ErrnoOf(err) != abi.EBUSY {
		t.Errorf("unload while open: %v", err)
	}
	if row := k.Iostat.Find("md0").Row(); row.WBytes == 0 || row.Reads == 0 {
		t.Errorf("iostat: %+v", row)
	}
	if _, err := c.Open(ctx, "/dev/md1", abi.O_RDONLY, 0); abi.ErrnoOf(err) != abi.ENOENT {
		t.Errorf("md1: %v", err)
	}
	if err := c.Mknod(ctx, "/none", abi.S_IFBLK|0o600, abi.Makedev(17, 9)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Open(ctx, "/none", abi.O_RDONLY, 0); abi.ErrnoOf(err) != abi.ENXIO {
		t.Errorf("no unit: %v", err)
	}
	c.Close(ctx, d)
	c.Close(ctx, r)
	if err := c.Modunload(ctx, "md", 0); err != nil {
		t.Errorf("unload: %v", err)
	}
	if _, err := c.Open(ctx, "/disk", abi.O_RDONLY, 0); abi.ErrnoOf(err) != abi.ENXIO {
		t.Errorf("without its driver: %v", err)
	}
}

// TestBlkfail: RUMP_BLKFAIL makes all raw transfers fail, and says so at boot.
func TestBlkfail(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	f, err := dev.ParseFail("10000", "7")
	if err != nil {
		t.Fatal(err)
	}
	k := booted(t, kernel.Options{Modules: []modapi.Module{tmpfs.New(), md.New()}, Props: mdProps, BlkFail: f})
	if s := dmesg(k); !strings.Contains(s, "FAULT INJECTION ACTIVE! fail 10000/10000. seed 7") {
		t.Errorf("dmesg: %s", s)
	}
	c, err := k.Client("prog")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Exit()
	fd, err := c.Open(ctx, "/dev/rmd0", abi.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := c.Pread(ctx, fd, make([]byte, 512), 0); abi.ErrnoOf(err) != abi.EIO {
			t.Errorf("read: %v", err)
		}
	}
	if v := k.Evcnt.Attach("dev", "blkfail").Load(); v != 10 {
		t.Errorf("%d counted, want 10", v)
	}
}
