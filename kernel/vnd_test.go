package kernel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/dev/part/dk"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/hostfs"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// vndKit is a kernel with a tmpfs on /, one on /t, and a program.
type vndKit struct {
	*testing.T
	ctx context.Context
	k   *kernel.Kernel
	c   *rumpclient.Client
}

func newVndKit(t *testing.T, o kernel.Options) *vndKit {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	o.Modules = append(o.Modules, tmpfs.New(), dk.New())
	o.Mounts = []vfs.MountArgs{{Type: "tmpfs", Dir: "/"}, {Type: "devfs", Dir: "/dev"}, {Type: "tmpfs", Dir: "/t"}}
	k := booted(t, o)
	c, err := k.Client("prog")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Exit() })
	return &vndKit{t, ctx, k, c}
}

func (k *vndKit) ok(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

func (k *vndKit) want(what string, err error, e abi.Errno) {
	k.Helper()
	if !errors.Is(err, e) {
		k.Errorf("%s: %v, want %v", what, err, e)
	}
}

func (k *vndKit) open(path string, flags int) int {
	k.Helper()
	fd, err := k.c.Open(k.ctx, path, flags, 0o600)
	k.ok(err)
	return fd
}

func (k *vndKit) write(fd int, p []byte, off int64) {
	k.Helper()
	n, err := k.c.Pwrite(k.ctx, fd, p, off)
	if n != len(p) || err != nil {
		k.Fatalf("write of %d at %d: %d, %v", len(p), off, n, err)
	}
}

func (k *vndKit) read(fd, n int, off int64) []byte {
	k.Helper()
	p := make([]byte, n)
	got, err := k.c.Pread(k.ctx, fd, p, off)
	if err != nil {
		k.Fatalf("read of %d at %d: %v", n, off, err)
	}
	return p[:got]
}

func (k *vndKit) attach(arg string) error {
	_, err := k.c.AttachDisk(k.ctx, "vnd", "", []byte(arg))
	return err
}

// TestVnd: a file of tmpfs is a disk, with a partition on it.
func TestVnd(t *testing.T) {
	k := newVndKit(t, kernel.Options{})
	c, ctx := k.c, k.ctx
	img := k.open("/t/img", abi.O_RDWR|abi.O_CREAT)
	k.ok(c.Ftruncate(ctx, img, 4<<20))
	table := make([]byte, 512)
	e := table[446:] // one partition: Linux, 1024 blocks at block 64
	e[4], e[8], e[13] = 0x83, 64, 4
	table[510], table[511] = 0x55, 0xaa
	k.write(img, table, 0)
	k.ok(k.attach(`{"name": "vnd0", "file": "/t/img"}`))
	k.want("the file again", k.attach(`{"name": "vnd1", "file": "/t/img"}`), abi.EBUSY)
	k.want("the file again, to read", k.attach(`{"name": "vnd1", "file": "/t/img", "ro": true}`), abi.EBUSY)
	k.ok(c.Mkdir(ctx, "/null", 0o755))
	k.ok(c.Mount(ctx, "nullfs", "/null", 0, "/t", nil))
	k.want("the file at a second place", k.attach(`{"name": "vnd1", "file": "/null/img", "ro": true}`), abi.EBUSY)
	k.ok(c.Unmount(ctx, "/null", 0))
	k.want("no file", k.attach(`{"name": "vnd1", "file": "/t"}`), abi.EISDIR)
	if disks, err := c.Disks(ctx); err != nil || len(disks) != 1 || disks[0].File != "/t/img" || disks[0].Size != 4<<20 || disks[0].Driver != "vnd" {
		t.Errorf("%+v %v", disks, err)
	}
	st, err := c.Stat(ctx, "/dev/vnd0")
	if err != nil || st.Type != abi.VBLK || st.Rdev != abi.Makedev(14, 0) {
		t.Errorf("vnd0: %+v %v", st, err)
	}
	if st, err = c.Stat(ctx, "/dev/rvnd0"); err != nil || st.Type != abi.VCHR || st.Rdev != abi.Makedev(41, 0) {
		t.Errorf("rvnd0: %+v %v", st, err)
	}
	nodes, err := c.AttachDisk(ctx, "dk", "vnd0", []byte(`{"name": "vnd0"}`))
	if err != nil || len(nodes) != 1 || nodes[0] != "vnd0p1" {
		t.Fatal(nodes, err)
	}
	p := k.open("/dev/vnd0p1", abi.O_RDWR)
	text := bytes.Repeat([]byte("in a partition of a file\n"), 1000)
	k.write(p, text, 777)
	k.ok(c.Fsync(ctx, p))
	if got := k.read(img, len(text), 64*512+777); !bytes.Equal(got, text) {
		t.Error("the file has other bytes")
	}
	if st, err = c.Fstat(ctx, img); err != nil || st.Size != 4<<20 || st.Bytes > 64<<10 {
		t.Errorf("holes are not kept: %+v %v", st, err)
	}
	k.want("unmount", c.Unmount(ctx, "/t", 0), abi.EBUSY)
	k.ok(c.Close(ctx, img))
	k.want("unmount, the file is the disk's alone", c.Unmount(ctx, "/t", 0), abi.EBUSY)
	k.want("detach", c.DetachDisk(ctx, "vnd0", false), abi.EBUSY)
	k.ok(c.Close(ctx, p))
	k.want("detach of what a partition stands on", c.DetachDisk(ctx, "vnd0", false), abi.EBUSY)
	k.ok(c.DetachDisk(ctx, "vnd0p1", false))
	// By force, under who has it open.
	raw := k.open("/dev/rvnd0", abi.O_RDWR)
	k.want("detach", c.DetachDisk(ctx, "vnd0", false), abi.EBUSY)
	k.ok(c.DetachDisk(ctx, "vnd0", true))
	_, err = c.Pread(ctx, raw, make([]byte, 512), 0)
	k.want("after a forced detach", err, abi.ENXIO)
	k.ok(k.attach(`{"name": "vnd0", "file": "/t/img", "ro": true}`))
	k.ok(k.attach(`{"name": "vnd1", "file": "/t/img", "ro": true}`))
	k.want("a third, to write", k.attach(`{"name": "vnd2", "file": "/t/img"}`), abi.EBUSY)
	_, err = c.Pread(ctx, raw, make([]byte, 512), 0)
	k.want("an old descriptor, a new unit", err, abi.ENXIO)
	_, err = c.Open(ctx, "/dev/vnd0", abi.O_RDWR, 0)
	k.want("open of a read-only one", err, abi.EROFS)
	if fd := k.open("/dev/vnd1", abi.O_RDONLY); !bytes.Equal(k.read(fd, len(text), 64*512+777), text) {
		t.Error("other bytes in a new unit")
	} else {
		k.ok(c.Close(ctx, fd))
	}
	k.ok(c.Close(ctx, raw))
	k.ok(c.DetachDisk(ctx, "vnd0", false))
	k.ok(c.DetachDisk(ctx, "vnd1", false))
	k.ok(c.Unmount(ctx, "/t", 0))
	k.want("no file system", k.attach(`{"name": "vnd0", "file": "/t/img"}`), abi.ENOENT)
}

// TestVndShrinks: a file that is made shorter is EIO behind its end, and stays
// that short.
func TestVndShrinks(t *testing.T) {
	k := newVndKit(t, kernel.Options{})
	c, ctx := k.c, k.ctx
	img := k.open("/t/img", abi.O_RDWR|abi.O_CREAT)
	k.ok(c.Ftruncate(ctx, img, 1<<20))
	k.ok(k.attach(`{"name": "vnd0", "file": "/t/img"}`))
	raw := k.open("/dev/rvnd0", abi.O_RDWR)
	b := make([]byte, 8192)
	k.write(raw, b, 512<<10)
	k.ok(c.Ftruncate(ctx, img, 512<<10+4096))
	_, err := c.Pread(ctx, raw, b, 512<<10)
	if !errors.Is(err, abi.EIO) {
		t.Errorf("read over the end: %v", err)
	}
	_, err = c.Pwrite(ctx, raw, b, 512<<10)
	k.want("write over the end", err, abi.EIO)
	if st, err := c.Fstat(ctx, img); err != nil || st.Size != 512<<10+4096 {
		t.Errorf("the file grew again: %+v %v", st, err)
	}
	k.read(raw, 4096, 512<<10)
	k.ok(c.Ftruncate(ctx, img, 1<<20))
	k.write(raw, b, 512<<10)
	// Space: the disk is larger than what tmpfs may have.
	k.ok(c.Unlink(ctx, "/t/img"))
	k.write(raw, b, 0) // a file without a name goes on
	k.want("unmount", c.Unmount(ctx, "/t", 0), abi.EBUSY)
	k.ok(c.Unmount(ctx, "/t", abi.MNT_FORCE))
	_, err = c.Pwrite(ctx, raw, b, 0)
	k.want("after a forced unmount", err, abi.EIO)
	k.ok(c.Close(ctx, raw))
	k.ok(c.DetachDisk(ctx, "vnd0", false))
}

// TestVndSpace: what tmpfs has no space for is ENOSPC at fsync, stays in memory,
// and is written when there is space.
func TestVndSpace(t *testing.T) {
	k := newVndKit(t, kernel.Options{})
	c, ctx := k.c, k.ctx
	k.ok(c.Mkdir(ctx, "/small", 0o755))
	err := c.Mount(ctx, "tmpfs", "/small", 0, "", map[string]string{"size": "1M"})
	k.ok(err)
	filler := k.open("/small/filler", abi.O_RDWR|abi.O_CREAT)
	k.write(filler, make([]byte, 600<<10), 0)
	img := k.open("/small/img", abi.O_RDWR|abi.O_CREAT)
	k.ok(c.Ftruncate(ctx, img, 8<<20))
	k.ok(k.attach(`{"name": "vnd0", "file": "/small/img"}`))
	d := k.open("/dev/vnd0", abi.O_RDWR)
	first := bytes.Repeat([]byte("a"), 128<<10)
	k.write(d, first, 0)
	k.ok(c.Fsync(ctx, d))
	second := bytes.Repeat([]byte("b"), 512<<10)
	k.write(d, second, 4<<20)
	k.want("fsync", c.Fsync(ctx, d), abi.ENOSPC)
	if !bytes.Equal(k.read(d, len(first), 0), first) || !bytes.Equal(k.read(d, len(second), 4<<20), second) {
		t.Error("something is lost")
	}
	k.ok(c.Ftruncate(ctx, filler, 0))
	k.ok(c.Fsync(ctx, d))
	if !bytes.Equal(k.read(img, len(second), 4<<20), second) {
		t.Error("not in the file after fsync")
	}
	k.ok(c.Close(ctx, d))
}

// grantedHost is hostfs with a grant of the test.
type grantedHost struct {
	*hostfs.Module
	dir string
}

func (g grantedHost) Init(ctx context.Context, k modapi.Kernel, r modapi.Reason, p modapi.Props) error {
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

// TestVndBoot: disks on files are attached at boot once there is the file, what
// stands on them after that; what cannot be is told once. A reboot writes back
// what is in memory of them, and then what is of their files.
func TestVndBoot(t *testing.T) {
	dir := t.TempDir()
	img := make([]byte, 1<<20+5)
	e := img[446:]
	e[4], e[8], e[13] = 0x83, 64, 4
	img[510], img[511] = 0x55, 0xaa
	if err := os.WriteFile(dir+"/img", img, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	k := booted(t, kernel.Options{
		Modules: []modapi.Module{tmpfs.New(), dk.New(), grantedHost{hostfs.New(), dir}},
		Mounts:  []vfs.MountArgs{{Type: "tmpfs", Dir: "/"}, {Type: "devfs", Dir: "/dev"}, {Type: "hostfs", Source: dir, Dir: "/h"}},
		Devices: []kernel.Device{
			{Driver: "dk", On: "vnd0", Arg: []byte(`{"name": "vnd0"}`)},
			{Driver: "vnd", Arg: []byte(`{"name": "vnd0", "file": "/h/img"}`)},
			{Driver: "dk", On: "vnd1", Arg: []byte(`{"name": "vnd1"}`)},
			{Driver: "vnd", Arg: []byte(`{"name": "vnd1", "file": "/h/none"}`)},
		},
	})
	if log := dmesg(k); strings.Count(log, "attach vnd") != 1 || strings.Count(log, "no such disk") != 1 {
		t.Errorf("what cannot be attached is not told once:\n%s", log)
	}
	c, err := k.Client("prog")
	if err != nil {
		t.Fatal(err)
	}
	fd, err := c.Open(ctx, "/dev/vnd0p1", abi.O_RDWR, 0)
	if err != nil {
		t.Fatalf("%v\n%s", err, dmesg(k))
	}
	text := []byte("written back by a reboot")
	if n, err := c.Pwrite(ctx, fd, text, 1000); n != len(text) || err != nil {
		t.Fatal(n, err)
	}
	b, err := k.Bio.Open(ctx, abi.Makedev(14, 0), abi.O_RDWR) // nobody closes it
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.WriteAt(ctx, text, 2000, false); err != nil {
		t.Fatal(err)
	}
	k.Reboot(ctx, 0)
	got, err := os.ReadFile(dir + "/img")
	if err != nil || len(got) != len(img) || !bytes.Contains(got[64*512+1000:], text) || !bytes.HasPrefix(got[2000:], text) {
		t.Errorf("%d bytes, and not what was written: %v\n%s", len(got), err, dmesg(k))
	}
}

// TestVndMemory: a disk whose blocks and whose file want more memory than there
// is ends in ENOSPC, and never in a standstill.
func TestVndMemory(t *testing.T) {
	// Little memory: pages of the file compete with the blocks of the disk.
	k := newVndKit(t, kernel.Options{MemLimit: 8 << 20})
	c, ctx := k.c, k.ctx
	img := k.open("/t/img", abi.O_RDWR|abi.O_CREAT)
	k.ok(c.Ftruncate(ctx, img, 64<<20))
	k.ok(k.attach(`{"name": "vnd0", "file": "/t/img"}`))
	d := k.open("/dev/vnd0", abi.O_RDWR)
	line := bytes.Repeat([]byte("x"), 64<<10)
	full := false
	wrote := 0
	for i := range 256 {
		_, err := c.Pwrite(ctx, d, line, int64(i)*int64(len(line)))
		if err == nil && i%16 == 15 {
			err = c.Fsync(ctx, d)
		}
		if err != nil {
			k.want(fmt.Sprintf("write %d", i), err, abi.ENOSPC)
			full = true
			break
		}
		wrote = i
	}
	if !full || wrote < 8 {
		t.Errorf("%d writes in 8 MiB of memory, full: %v", wrote, full)
	}
	k.ok(c.Ftruncate(ctx, img, 0))
}
