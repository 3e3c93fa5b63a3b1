package kernel_test

import (
	"context"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/plugins/dev/mem"
	"github.com/rumpus-kernel/rumpus/plugins/net/inet"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// autofs is a module with a file-system type of its name, which cannot be
// mounted.
type autofs struct{ misc }

func (a autofs) Info() modapi.Info {
	i := a.misc.Info()
	i.Class = modapi.ClassVFS
	return i
}

func (a autofs) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, _ modapi.Props) error {
	return k.AttachFS(a.name, a, 0)
}

func (autofs) Mount(context.Context, *vfsops.MountReq) (vfsops.FS, error) { return nil, abi.ENXIO }

// TestAutoloadHooks: a mount of an unknown type, a socket of an unknown family
// and the open of an unknown major load the module that has it, for anybody,
// even into an empty slot; not if kern.module.autoload is off.
func TestAutoloadHooks(t *testing.T) {
	ctx := t.Context()
	var d diary
	h := &loader{d: &d, mods: map[string]modapi.Module{"autofs": autofs{misc{name: "autofs"}}, "inet": inet.New(), "mem": mem.New()}}
	k := booted(t, kernel.Options{Hyper: h, Modules: []modapi.Module{tmpfs.New()}})
	c, err := k.Client("prog")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Exit()
	if err := c.Mknod(ctx, "/zero", abi.S_IFCHR|0o666, abi.Makedev(2, 12)); err != nil {
		t.Fatal(err)
	}
	mount := func() error { return c.Mount(ctx, "autofs", "/dev", 0, "", nil) }
	socket := func() error {
		_, err := c.Socket(ctx, abi.AF_INET, abi.SOCK_DGRAM, 0)
		return err
	}
	open := func() error {
		_, err := c.Open(ctx, "/zero", abi.O_RDONLY, 0)
		return err
	}
	flags := func() string {
		var s []string
		rows, err := c.Modstat(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			s = append(s, r.Name+":"+r.Flag)
		}
		return strings.Join(s, " ")
	}
	if err := c.SysctlSet(ctx, "kern.module.autoload", "0"); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]struct {
		f    func() error
		want abi.Errno
	}{"mount": {mount, abi.ENODEV}, "socket": {socket, abi.EOPNOTSUPP}, "open": {open, abi.ENXIO}} {
		if err := call.f(); abi.ErrnoOf(err) != call.want {
			t.Errorf("%s without autoload: %v, want %v", name, err, call.want)
		}
	}
	if got := flags(); got != "tmpfs:-" {
		t.Errorf("modules %s", got)
	}
	if err := c.SysctlSet(ctx, "kern.module.autoload", "1"); err != nil {
		t.Fatal(err)
	}
	if err := mount(); abi.ErrnoOf(err) != abi.ENXIO {
		t.Errorf("mount: %v, want the file system's own answer", err)
	}
	if err := socket(); err != nil {
		t.Errorf("socket: %v", err)
	}
	if err := open(); err != nil {
		t.Errorf("open: %v", err)
	}
	if got := flags(); got != "autofs:a inet:a mem:a tmpfs:-" {
		t.Errorf("modules %s", got)
	}
	if _, err := c.Socket(ctx, abi.AF_INET+50, abi.SOCK_DGRAM, 0); err == nil {
		t.Error("a socket of a family that nobody has")
	}
}
