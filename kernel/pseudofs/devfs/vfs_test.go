package devfs

import (
	"context"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/dev"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestUnderVFS mounts devfs as the root and uses a device by its path.
func TestUnderVFS(t *testing.T) {
	s := dev.New(dev.Options{})
	if _, err := s.AttachChr("dev", "mem", mem{}); err != nil {
		t.Fatal(err)
	}
	s.InstanceUp("dev")
	fs := vfs.New(vfs.Options{OpenDev: func(ctx context.Context, c *abi.Caller, d abi.Dev, blk bool, flags int) (file.Ops, any, error) {
		if blk {
			return nil, nil, abi.ENXIO
		}
		return s.Open(ctx, c, d, flags)
	}})
	fs.SetAvailable(true)
	if err := fs.AttachFS("", "devfs", New(s, nil), Caps); err != nil {
		t.Fatal(err)
	}
	w := vfs.Where{Caller: abi.KernelCaller}
	if _, err := fs.Mount(ctx, w, vfs.MountArgs{Type: "devfs", Dir: "/"}); err != nil {
		t.Fatal(err)
	}
	defer fs.UnmountAll(ctx)
	st, err := fs.Stat(ctx, w, "/null", true)
	if err != nil || st.Type != abi.VCHR || st.Rdev != abi.Makedev(2, 2) {
		t.Errorf("stat: %+v %v", st, err)
	}
	f, err := fs.Open(ctx, w, "/null", abi.O_RDWR, 0)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	if n, err := f.Ops.Read(ctx, abi.KernelCaller, f, make([]byte, 10), file.Cur); n != 0 || err != nil {
		t.Errorf("read: %d %v", n, err)
	}
	if st, err := f.Ops.Stat(ctx, abi.KernelCaller, f); err != nil || st.Type != abi.VCHR || st.Mode != 0o666 {
		t.Errorf("fstat: %+v %v", st, err)
	}
	if !s.InUse("dev", "mem") {
		t.Error("not in use while open")
	}
	if err := f.Release(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
	if s.InUse("dev", "mem") {
		t.Error("in use after the close")
	}
	for what, err := range map[string]error{
		"create": func() error { _, err := fs.Open(ctx, w, "/x", abi.O_CREAT|abi.O_RDWR, 0o644); return err }(),
		"mkdir":  fs.Mkdir(ctx, w, "/x", 0o755),
	} {
		if e := abi.ErrnoOf(err); e != abi.EROFS {
			t.Errorf("%s: %v, want EROFS", what, err)
		}
	}
	s.DetachInstance("dev")
	if _, err := fs.Open(ctx, w, "/null", abi.O_RDWR, 0); abi.ErrnoOf(err) != abi.ENOENT {
		t.Errorf("open without driver: %v", err)
	}
}
