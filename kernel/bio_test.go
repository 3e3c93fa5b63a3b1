package kernel_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/bio/wlog"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// diskModule is a driver with one disk.
type diskModule struct{ m *wlog.Mem }

func (d diskModule) Info() modapi.Info {
	return modapi.Info{Name: "disk", Class: modapi.ClassDriver, Kern: abi.KernVersionCurrent, Version: "1.0.0"}
}

func (d diskModule) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, _ modapi.Props) error {
	_, err := k.AttachBlk("disk", d)
	return err
}

func (d diskModule) Fini(context.Context) error { return nil }

func (d diskModule) Geometry(ctx context.Context, unit uint32) (devops.Geom, error) {
	if unit != 0 {
		return devops.Geom{}, abi.ENXIO
	}
	return d.m.Geometry(ctx)
}
func (diskModule) Open(context.Context, uint32, int) error  { return nil }
func (diskModule) Close(context.Context, uint32, int) error { return nil }
func (diskModule) Ioctl(context.Context, uint32, uint32, []byte) ([]byte, error) {
	return nil, abi.ENOTTY
}
func (d diskModule) Strategy(ctx context.Context, b *devops.Buf) error { return d.m.Strategy(ctx, b) }

// TestBlockNode writes any bytes through a block device node: they stay in the
// cache until fsync, sync, the last close or a reboot.
func TestBlockNode(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	m := wlog.NewMem(1<<20, 512)
	k := booted(t, kernel.Options{Modules: []modapi.Module{tmpfs.New(), diskModule{m}}})
	c, err := k.Client("prog")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Exit()
	open := func(name string, flags int) int {
		t.Helper()
		fd, err := c.Open(ctx, "/dev/"+name, flags, 0)
		if err != nil {
			t.Fatalf("open %s: %v", name, err)
		}
		return fd
	}
	fd, raw := open("disk", abi.O_RDWR), open("rdisk", abi.O_RDONLY)
	there := func(what, want string) {
		t.Helper()
		b := make([]byte, 512)
		if _, err := c.Pread(ctx, raw, b, 1024); err != nil || !bytes.Contains(b, []byte(want)) {
			t.Errorf("after %s: %q is not on the device, %v", what, want, err)
		}
	}
	write := func(what string) {
		t.Helper()
		if n, err := c.Pwrite(ctx, fd, []byte(what), 1100); err != nil || n != len(what) {
			t.Fatalf("write: %d, %v", n, err)
		}
		if bytes.Contains(m.Image(), []byte(what)) {
			t.Errorf("%q is on the device at once", what)
		}
		b := make([]byte, len(what))
		if _, err := c.Pread(ctx, fd, b, 1100); err != nil || string(b) != what {
			t.Errorf("read back %q, %v", b, err)
		}
	}
	write("by fsync")
	if v, _ := c.Sysctl(ctx, "vfs.bio.dirty"); v != "4096" {
		t.Errorf("vfs.bio.dirty %q", v)
	}
	if err := c.Fsync(ctx, fd); err != nil {
		t.Error(err)
	}
	there("fsync", "by fsync")
	if m.Counts().Flushes == 0 {
		t.Error("fsync did not flush the device")
	}
	write("by sync")
	if err := c.Sync(ctx); err != nil {
		t.Error(err)
	}
	there("sync", "by sync")
	write("by close")
	if err := c.Close(ctx, fd); err != nil {
		t.Error(err)
	}
	there("the last close", "by close")
	if v, _ := c.Sysctl(ctx, "vfs.bio.cached"); v != "0" {
		t.Errorf("vfs.bio.cached %q after the last close", v)
	}
	fd = open("disk", abi.O_RDWR)
	write("by reboot")
	if v, _ := c.Sysctl(ctx, "vfs.memory.blocks"); v != "4096" {
		t.Errorf("vfs.memory.blocks %q with one block in memory", v)
	}
	k.Reboot(ctx, 0)
	if !bytes.Contains(m.Image(), []byte("by reboot")) {
		t.Error("not on the device after a reboot")
	}
	if b := m.Broken(); len(b) > 0 {
		t.Error(b)
	}
}
