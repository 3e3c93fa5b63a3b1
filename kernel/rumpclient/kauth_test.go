package rumpclient_test

import (
	"context"
	"errors"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/net/inet"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// privileged are the calls that NetBSD keeps to the super-user, with the errno
// that others get.
var privileged = []struct {
	name string
	call func(ctx context.Context, c *rumpclient.Client) error
	want abi.Errno
}{
	{"mount", func(ctx context.Context, c *rumpclient.Client) error {
		return c.Mount(ctx, "tmpfs", "/mnt", 0, "", nil)
	}, abi.EPERM},
	{"unmount", func(ctx context.Context, c *rumpclient.Client) error { return c.Unmount(ctx, "/mnt", 0) }, abi.EPERM},
	{"modload", func(ctx context.Context, c *rumpclient.Client) error { return c.Modload(ctx, "nosuch", 0, nil) }, abi.EPERM},
	{"modunload", func(ctx context.Context, c *rumpclient.Client) error { return c.Modunload(ctx, "tmpfs", 0) }, abi.EPERM},
	{"sysctl -w", func(ctx context.Context, c *rumpclient.Client) error {
		return c.SysctlSet(ctx, "kern.hostname", "mine")
	}, abi.EPERM},
	{"mknod", func(ctx context.Context, c *rumpclient.Client) error {
		return c.Syscall(ctx, abi.SYS_mknod, &abi.Sysargs{Path: [2]string{"/tmp/dev"}, A: [6]uint64{abi.S_IFCHR | 0o600, 1}})
	}, abi.EPERM},
	{"chown", func(ctx context.Context, c *rumpclient.Client) error { return c.Chown(ctx, "/tmp/mine", 5, -1) }, abi.EPERM},
	{"chmod", func(ctx context.Context, c *rumpclient.Client) error { return c.Chmod(ctx, "/etc", 0o777) }, abi.EPERM},
	{"write", func(ctx context.Context, c *rumpclient.Client) error { return c.WriteFile(ctx, "/etc/x", nil, 0o644) }, abi.EACCES},
	{"low port", func(ctx context.Context, c *rumpclient.Client) error {
		sa, err := abi.ParseSockaddr([]byte{16, abi.AF_INET, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
		if err != nil {
			return err
		}
		s, err := c.Socket(ctx, abi.AF_INET, abi.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		defer c.Close(ctx, s)
		return c.Bind(ctx, s, sa)
	}, abi.EACCES},
	{"raw socket", func(ctx context.Context, c *rumpclient.Client) error {
		s, err := c.Socket(ctx, abi.AF_INET, abi.SOCK_RAW, abi.IPPROTO_ICMP)
		if err == nil {
			c.Close(ctx, s)
		}
		return err
	}, abi.EPERM},
	{"system flags", func(ctx context.Context, c *rumpclient.Client) error {
		return c.Syscall(ctx, abi.SYS_chflags, &abi.Sysargs{Path: [2]string{"/tmp/mine"}, A: [6]uint64{abi.SF_APPEND}})
	}, abi.EPERM},
	{"rlimit", func(ctx context.Context, c *rumpclient.Client) error {
		r, err := c.Getrlimit(ctx, abi.RLIMIT_CORE)
		if err == nil {
			err = c.Setrlimit(ctx, abi.RLIMIT_CORE, rumpclient.Rlimit{Cur: 0, Max: 0})
		}
		if err != nil {
			return err
		}
		return c.Setrlimit(ctx, abi.RLIMIT_CORE, r)
	}, abi.EPERM},
	{"setlogin", func(ctx context.Context, c *rumpclient.Client) error { return c.Setlogin(ctx, "root") }, abi.EPERM},
	{"setgroups", func(ctx context.Context, c *rumpclient.Client) error {
		return c.Syscall(ctx, abi.SYS_setgroups, &abi.Sysargs{In: []byte{0, 0, 0, 0}})
	}, abi.EPERM},
	{"setgid", func(ctx context.Context, c *rumpclient.Client) error { return c.Setgid(ctx, 0) }, abi.EPERM},
	{"watch proc0", func(ctx context.Context, c *rumpclient.Client) error {
		kq, err := c.Kqueue(ctx)
		if err != nil {
			return err
		}
		defer c.Close(ctx, kq)
		_, err = c.Kevent(ctx, kq, []abi.Kevent{{Ident: 0, Filter: abi.EVFILT_PROC, Flags: abi.EV_ADD, Fflags: abi.NOTE_EXIT}}, nil, 0)
		return err
	}, abi.EPERM},
	{"chroot", func(ctx context.Context, c *rumpclient.Client) error {
		return c.Syscall(ctx, abi.SYS_chroot, &abi.Sysargs{Path: [2]string{"/"}})
	}, abi.EPERM},
	{"setuid", func(ctx context.Context, c *rumpclient.Client) error { return c.Setuid(ctx, 0) }, abi.EPERM},
	{"reboot", func(ctx context.Context, c *rumpclient.Client) error { return c.Reboot(ctx, abi.RB_NOSYNC) }, abi.EPERM},
}

// everybody are calls that need no privilege.
var everybody = []struct {
	name string
	call func(ctx context.Context, c *rumpclient.Client) error
}{
	{"sysctl", func(ctx context.Context, c *rumpclient.Client) error {
		_, err := c.Sysctl(ctx, "kern.ostype")
		return err
	}},
	{"dmesg", func(ctx context.Context, c *rumpclient.Client) error {
		_, _, err := c.Msgbuf(ctx, 0, false, make([]byte, 100))
		return err
	}},
	{"modstat", func(ctx context.Context, c *rumpclient.Client) error { _, err := c.Modstat(ctx); return err }},
	{"file", func(ctx context.Context, c *rumpclient.Client) error {
		return c.WriteFile(ctx, "/tmp/mine", []byte("x"), 0o644)
	}},
	{"setuid to oneself", func(ctx context.Context, c *rumpclient.Client) error { return c.Setuid(ctx, 1000) }},
	{"socket", func(ctx context.Context, c *rumpclient.Client) error {
		s, err := c.Socket(ctx, abi.AF_INET, abi.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		return c.Close(ctx, s)
	}},
}

// TestUnprivileged makes the calls as uid 1000: of an embedder's process, and
// of a remote client that gave up being root. Each is refused with NetBSD's
// errno, and the same kernel lets the super-user do it.
func TestUnprivileged(t *testing.T) {
	bothKinds(t, func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client) {
		ctx := soon(t)
		root, user := dial(), dial()
		for _, d := range []string{"/mnt", "/etc"} {
			must(t, root.MkdirAll(ctx, d, 0o755))
		}
		must(t, root.MkdirAll(ctx, "/tmp", 0o755))
		must(t, root.Chmod(ctx, "/tmp", 0o1777))
		must(t, user.Setgid(ctx, 1000))
		must(t, user.Setuid(ctx, 1000))
		for _, tc := range everybody {
			if err := tc.call(ctx, user); err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
		}
		for _, tc := range privileged {
			if err := tc.call(ctx, user); !errors.Is(err, tc.want) {
				t.Errorf("%s: %v, not %v", tc.name, err, tc.want)
			}
		}
		for _, tc := range privileged[:len(privileged)-1] { // not the reboot
			if err := tc.call(ctx, root); errors.Is(err, abi.EPERM) || errors.Is(err, abi.EACCES) {
				t.Errorf("%s as root: %v", tc.name, err)
			}
		}
	})
}

// TestNoSecmodel: without any security model everybody may do everything.
func TestNoSecmodel(t *testing.T) {
	ctx := soon(t)
	k := kernel.New(kernel.Options{Secmodels: []string{}, Modules: []modapi.Module{tmpfs.New(), inet.New()}})
	must(t, k.Boot(ctx))
	defer k.Reboot(context.Background(), 0)
	p, err := k.NewProc("user", abi.NewCred(1000, 1000))
	must(t, err)
	c := rumpclient.New(p)
	defer c.Exit()
	must(t, c.SysctlSet(ctx, "kern.hostname", "ours"))
	must(t, c.Setuid(ctx, 0))
}

// TestSecurelevel raises kern.securelevel and finds what nobody may then.
func TestSecurelevel(t *testing.T) {
	ctx := soon(t)
	k := kernel.New(kernel.Options{Secmodels: []string{"suser", "securelevel"}, Modules: []modapi.Module{tmpfs.New(), inet.New()}})
	must(t, k.Boot(ctx))
	defer k.Reboot(context.Background(), 0)
	c, err := k.Client("root")
	must(t, err)
	defer c.Exit()
	must(t, c.MkdirAll(ctx, "/mnt", 0o755))
	must(t, c.WriteFile(ctx, "/f", nil, 0o644))
	must(t, c.Syscall(ctx, abi.SYS_mknod, &abi.Sysargs{Path: [2]string{"/disk"}, A: [6]uint64{abi.S_IFBLK | 0o600, 1}}))
	flags := func(f uint64) error {
		return c.Syscall(ctx, abi.SYS_chflags, &abi.Sysargs{Path: [2]string{"/f"}, A: [6]uint64{f}})
	}
	disk := func() error { _, err := c.Open(ctx, "/disk", abi.O_RDWR, 0); return err }
	must(t, flags(abi.SF_IMMUTABLE))
	must(t, flags(0))
	must(t, c.Mount(ctx, "tmpfs", "/mnt", 0, "", nil))
	must(t, c.Unmount(ctx, "/mnt", 0))
	if err := disk(); !errors.Is(err, abi.ENXIO) {
		t.Errorf("a disk without a driver: %v", err)
	}

	must(t, c.SysctlSet(ctx, "kern.securelevel", "1"))
	if v, err := c.Sysctl(ctx, "security.models.securelevel.securelevel"); v != "1" || err != nil {
		t.Errorf("level %s, %v", v, err)
	}
	if err := flags(abi.SF_IMMUTABLE); !errors.Is(err, abi.EPERM) {
		t.Errorf("chflags at level 1: %v", err)
	}
	if err := c.Modunload(ctx, "inet", 0); !errors.Is(err, abi.EPERM) {
		t.Errorf("modunload at level 1: %v", err)
	}
	if err := c.Modload(ctx, "x", 0, nil); !errors.Is(err, abi.EPERM) {
		t.Errorf("modload at level 1: %v", err)
	}
	must(t, c.Mount(ctx, "tmpfs", "/mnt", 0, "", nil))
	must(t, c.Unmount(ctx, "/mnt", 0))

	must(t, c.SysctlSet(ctx, "kern.securelevel", "2"))
	if err := c.Mount(ctx, "tmpfs", "/mnt", 0, "", nil); !errors.Is(err, abi.EPERM) {
		t.Errorf("mount at level 2: %v", err)
	}
	if err := disk(); !errors.Is(err, abi.EPERM) {
		t.Errorf("a raw disk at level 2: %v", err)
	}
	for _, v := range []string{"1", "0", "-1"} {
		if err := c.SysctlSet(ctx, "kern.securelevel", v); !errors.Is(err, abi.EPERM) {
			t.Errorf("lowered to %s: %v", v, err)
		}
	}

	plain := boot(t)
	d, err := plain.Client("root")
	must(t, err)
	defer d.Exit()
	if _, err := d.Sysctl(ctx, "kern.securelevel"); !errors.Is(err, abi.ENOENT) {
		t.Errorf("without the model: %v", err)
	}
	if err := kernel.New(kernel.Options{Secmodels: []string{"bsd44"}}).Boot(ctx); !errors.Is(err, abi.EINVAL) {
		t.Errorf("an unknown model: %v", err)
	}
}
