package linuxabi

import (
	"fmt"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestErrnos: every number of NetBSD's has one of Linux's, and those that have
// one of their own come back.
func TestErrnos(t *testing.T) {
	if Errno(nil) != 0 || FromErrno(0) != 0 {
		t.Error("no error is one")
	}
	if got := Errno(fmt.Errorf("open x: %w", abi.ENOENT)); got != unix.ENOENT {
		t.Errorf("wrapped: %v", got)
	}
	first := map[syscall.Errno]abi.Errno{}
	for _, e := range errnos {
		if got := Errno(e.bsd); got != e.linux {
			t.Errorf("%v is %v, not %v", e.bsd, got, e.linux)
		}
		if _, ok := first[e.linux]; !ok {
			first[e.linux] = e.bsd
		}
	}
	for l, b := range first {
		if got := FromErrno(l); got != b {
			t.Errorf("%v is %v, not %v", l, got, b)
		}
	}
	for e := abi.Errno(1); e <= abi.ELAST; e++ {
		if Errno(e) == 0 {
			t.Errorf("%v is no error", e)
		}
	}
	if Errno(abi.Errno(100000)) != unix.EIO || FromErrno(unix.EUCLEAN) != abi.EIO || FromErrno(5000) != abi.EIO {
		t.Error("what has no number is not EIO")
	}
}

// TestOpenFlags: each flag there and back, alone and with an access mode.
func TestOpenFlags(t *testing.T) {
	for _, c := range []struct{ linux, bsd int }{
		{unix.O_RDONLY, abi.O_RDONLY}, {unix.O_RDWR, abi.O_RDWR},
		{unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL, abi.O_WRONLY | abi.O_CREAT | abi.O_EXCL},
		{unix.O_WRONLY | unix.O_APPEND | unix.O_TRUNC, abi.O_WRONLY | abi.O_APPEND | abi.O_TRUNC},
		{unix.O_SYNC, abi.O_SYNC | abi.O_DSYNC}, {unix.O_DSYNC, abi.O_DSYNC},
		{unix.O_NONBLOCK | unix.O_NOFOLLOW | unix.O_DIRECTORY | unix.O_CLOEXEC, abi.O_NONBLOCK | abi.O_NOFOLLOW | abi.O_DIRECTORY | abi.O_CLOEXEC},
	} {
		if got := OpenFlags(c.linux); got != c.bsd {
			t.Errorf("%#x is %#x, not %#x", c.linux, got, c.bsd)
		}
		if got := FromOpenFlags(c.bsd); got != c.linux {
			t.Errorf("%#x was %#x, not %#x", c.bsd, got, c.linux)
		}
	}
	if got := OpenFlags(unix.O_LARGEFILE | unix.O_NOATIME | FmodeExec | unix.O_RDWR); got != abi.O_RDWR {
		t.Errorf("flags that mean nothing: %#x", got)
	}
}

// TestSmall: devices, locks, renames and attributes' names.
func TestSmall(t *testing.T) {
	for _, d := range [][2]uint32{{0, 0}, {1, 3}, {8, 255}, {259, 70000}, {4095, 1<<20 - 1}} {
		dev := abi.Makedev(d[0], d[1])
		enc := FromDev(dev)
		if got := Dev(enc); got != dev {
			t.Errorf("%v: %#x comes back as %#x", d, dev, got)
		}
		if enc != d[1]&0xff|d[0]<<8|d[1]&^0xff<<12 {
			t.Errorf("%v is %#x", d, enc)
		}
	}
	if FromDev(abi.NoDev) != 0 {
		t.Error("no device is one")
	}
	for l, b := range map[uint32]int16{unix.F_RDLCK: abi.F_RDLCK, unix.F_WRLCK: abi.F_WRLCK, unix.F_UNLCK: abi.F_UNLCK} {
		if got, err := LockType(l); got != b || err != nil || FromLockType(b) != l {
			t.Errorf("lock %d: %d, %v, back %d", l, got, err, FromLockType(b))
		}
	}
	if _, err := LockType(77); abi.ErrnoOf(err) != abi.EINVAL {
		t.Errorf("lock 77: %v", err)
	}
	for l, b := range map[uint32]uint32{0: 0, unix.RENAME_NOREPLACE: abi.RENAME_NOREPLACE, unix.RENAME_EXCHANGE: abi.RENAME_EXCHANGE} {
		if got, err := RenameFlags(l); got != b || err != nil {
			t.Errorf("rename %#x: %#x, %v", l, got, err)
		}
	}
	if _, err := RenameFlags(unix.RENAME_WHITEOUT); abi.ErrnoOf(err) != abi.EINVAL {
		t.Errorf("whiteout: %v", err)
	}
	for l, b := range map[string]string{"user.a": "user.a", "trusted.b": "system.b"} {
		if got, err := Xattr(l); got != b || err != nil || FromXattr(b) != l {
			t.Errorf("%s: %q, %v, back %q", l, got, err, FromXattr(b))
		}
	}
	for _, l := range []string{"", "user.", "trusted.", "security.capability", "system.posix_acl_access", "other.x"} {
		if got, err := Xattr(l); err == nil {
			t.Errorf("%q is %q", l, got)
		}
	}
	if FromXattr("unknown") != "" {
		t.Error("a name that Linux cannot have")
	}
}
