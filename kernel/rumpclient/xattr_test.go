package rumpclient_test

import (
	"bytes"
	"errors"
	"strconv"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestXattr uses extended attributes as an embedded client and as a remote one.
func TestXattr(t *testing.T) {
	k := boot(t)
	ctx := soon(t)
	a, err := k.Client("a")
	must(t, err)
	defer a.Exit()
	b, err := rumpclient.Open(ctx, "unix://"+proxy(t, k))
	must(t, err)
	defer b.Exit()
	must(t, a.WriteFile(ctx, "/f", nil, 0o644))
	must(t, a.Symlink(ctx, "f", "/l"))
	for _, c := range []*rumpclient.Client{a, b} {
		is := func(err error, want abi.Errno) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("%v, want %s", err, want.Name())
			}
		}
		has := func(got []byte, err error, want string) {
			t.Helper()
			if err != nil || string(got) != want {
				t.Errorf("%q, %v, want %q", got, err, want)
			}
		}
		big := bytes.Repeat([]byte("v"), 64<<10)
		must(t, c.Setxattr(ctx, "/l", "user.a", []byte("1"), abi.XATTR_CREATE))
		is(c.Setxattr(ctx, "/f", "user.a", nil, abi.XATTR_CREATE), abi.EEXIST)
		is(c.Setxattr(ctx, "/f", "user.b", nil, abi.XATTR_REPLACE), abi.ENOATTR)
		is(c.Setxattr(ctx, "/f", "user.b", append(big, 0), 0), abi.ERANGE)
		is(c.Setxattr(ctx, "/f", "", nil, 0), abi.EINVAL)
		is(c.Setxattr(ctx, "/none", "user.a", nil, 0), abi.ENOENT)
		fd, err := c.Open(ctx, "/f", abi.O_RDWR, 0)
		must(t, err)
		must(t, c.Fsetxattr(ctx, fd, "user.b", big, abi.XATTR_CREATE))
		is(c.Fsetxattr(ctx, fd, "user.b", big, abi.XATTR_CREATE), abi.EEXIST)
		got, err := c.Getxattr(ctx, "/f", "user.b")
		has(got, err, string(big))
		got, err = c.Fgetxattr(ctx, fd, "user.a")
		has(got, err, "1")
		got, err = c.Flistxattr(ctx, fd)
		has(got, err, "user.a\x00user.b\x00")
		got, err = c.Listxattr(ctx, "/l")
		has(got, err, "user.a\x00user.b\x00")
		got, err = c.Llistxattr(ctx, "/l")
		has(got, err, "")
		_, err = c.Lgetxattr(ctx, "/l", "user.a")
		is(err, abi.ENOATTR)
		must(t, c.Lsetxattr(ctx, "/l", "user.l", []byte("x"), 0))
		got, err = c.Lgetxattr(ctx, "/l", "user.l")
		has(got, err, "x")
		must(t, c.Lremovexattr(ctx, "/l", "user.l"))
		must(t, c.Fremovexattr(ctx, fd, "user.b"))
		must(t, c.Removexattr(ctx, "/f", "user.a"))
		is(c.Removexattr(ctx, "/f", "user.a"), abi.ENOATTR)
		_, err = c.Fgetxattr(ctx, 99, "user.a")
		is(err, abi.EBADF)
		must(t, c.Close(ctx, fd))
	}
}

// TestProcSelf reads /proc through system calls: curproc is who asks.
func TestProcSelf(t *testing.T) {
	k := boot(t)
	ctx := soon(t)
	c, err := k.Client("me")
	must(t, err)
	defer c.Exit()
	must(t, c.Mkdir(ctx, "/proc", 0o755))
	must(t, c.Mount(ctx, "procfs", "/proc", 0, "", nil))
	pid, err := c.Getpid(ctx)
	must(t, err)
	if l, err := c.Readlink(ctx, "/proc/curproc"); err != nil || l != strconv.Itoa(int(pid)) {
		t.Errorf("curproc %q, %v, pid %d", l, err, pid)
	}
	if p, err := c.ReadFile(ctx, "/proc/self/cmdline"); err != nil || string(p) != "me\x00" {
		t.Errorf("cmdline %q, %v", p, err)
	}
}
