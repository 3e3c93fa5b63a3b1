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

// called is a module with system calls.
type called struct {
	misc
	nums []int
}

func (m called) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, _ modapi.Props) error {
	for _, num := range m.nums {
		err := k.Syscall(num, func(_ context.Context, _ *abi.Caller, a [6]uint64, _ []byte, _ int) (uint64, []byte, error) {
			return a[0] + 1, nil, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// TestAutoloadSyscall: a missing call has the module loaded that NetBSD has it
// in, or that had it before; else it is ENOSYS.
func TestAutoloadSyscall(t *testing.T) {
	ctx := t.Context()
	var d diary
	h := &loader{d: &d, mods: map[string]modapi.Module{
		"ksem":   called{misc: misc{name: "ksem"}, nums: []int{abi.SYS__ksem_init, abi.SYS__ksem_post}},
		"mine":   called{misc: misc{name: "mine"}, nums: []int{700}},
		"thief":  called{misc: misc{name: "thief"}, nums: []int{abi.SYS_getpid}},
		"aio":    called{misc: misc{name: "aio"}}, // without any of the calls
		"mqueue": autofs{misc{name: "mqueue"}},    // of another class
	}}
	k := booted(t, kernel.Options{Hyper: h})
	c, err := k.Client("prog")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Exit()
	call := func(num int, want abi.Errno) {
		t.Helper()
		a := &abi.Sysargs{A: [6]uint64{41}}
		err := c.Syscall(ctx, num, a)
		if abi.ErrnoOf(err) != want || err == nil && a.R[0] != 42 {
			t.Errorf("%s: %v, %d", abi.SyscallName(num), err, a.R[0])
		}
	}
	set := func(v string) {
		t.Helper()
		if err := c.SysctlSet(ctx, "kern.module.autoload", v); err != nil {
			t.Fatal(err)
		}
	}
	set("0")
	call(abi.SYS__ksem_post, abi.ENOSYS)
	set("1")
	call(abi.SYS__ksem_post, 0)
	call(abi.SYS__ksem_init, 0)
	call(abi.SYS__ksem_wait, abi.ENOSYS) // the module does not have it
	call(abi.SYS_aio_read, abi.ENOSYS)
	call(abi.SYS_mq_open, abi.ENOSYS)
	call(abi.SYS_shmget, abi.ENOSYS) // there is no such module
	call(700, abi.ENOSYS)            // nobody has had it yet
	if err := k.Mod.Load(ctx, "mine", nil); err != nil {
		t.Fatal(err)
	}
	call(700, 0)
	if err := k.Mod.Unload(ctx, "mine"); err != nil {
		t.Fatal(err)
	}
	call(700, 0) // it comes back
	set("0")
	if err := k.Mod.Unload(ctx, "mine"); err != nil {
		t.Fatal(err)
	}
	call(700, abi.ENOSYS)
	if err := k.Mod.Load(ctx, "thief", nil); abi.ErrnoOf(err) != abi.EINVAL {
		t.Errorf("a module takes a call of the kernel's: %v", err)
	}
}
