package linuxabi

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// FmodeExec is the flag that Linux's kernel adds to an open for execve(2)
// (__FMODE_EXEC); no program can set it.
const FmodeExec = 0x20

// openFlags are the flags of open(2) that are more than a mask of the access
// mode. Those of Linux that are missing mean nothing to a file system.
var openFlags = []struct{ linux, bsd int }{
	{unix.O_SYNC, abi.O_SYNC | abi.O_DSYNC}, // before O_DSYNC, which it contains
	{unix.O_DSYNC, abi.O_DSYNC},
	{unix.O_APPEND, abi.O_APPEND}, {unix.O_NONBLOCK, abi.O_NONBLOCK}, {unix.O_CREAT, abi.O_CREAT}, {unix.O_EXCL, abi.O_EXCL},
	{unix.O_TRUNC, abi.O_TRUNC}, {unix.O_NOFOLLOW, abi.O_NOFOLLOW}, {unix.O_DIRECTORY, abi.O_DIRECTORY},
	{unix.O_DIRECT, abi.O_DIRECT}, {unix.O_NOCTTY, abi.O_NOCTTY}, {unix.O_CLOEXEC, abi.O_CLOEXEC},
}

// OpenFlags turns Linux's flags of open(2) into NetBSD's.
func OpenFlags(fl int) int {
	r := fl & unix.O_ACCMODE // the same three
	for _, f := range openFlags {
		if fl&f.linux == f.linux {
			r |= f.bsd
		}
	}
	return r
}

// FromOpenFlags turns NetBSD's flags of open(2) into Linux's.
func FromOpenFlags(fl int) int {
	r := fl & abi.O_ACCMODE
	for _, f := range openFlags {
		if fl&f.bsd == f.bsd {
			r |= f.linux
		}
	}
	return r
}

// Dev turns a device number as Linux passes it in 32 bits (new_encode_dev) into
// NetBSD's.
func Dev(d uint32) abi.Dev { return abi.Makedev(d>>8&0xfff, d&0xff|d>>12&0xfff00) }

// FromDev is Dev the other way; NoDev is 0.
func FromDev(d abi.Dev) uint32 {
	if d == abi.NoDev {
		return 0
	}
	return d.Minor()&0xff | d.Major()<<8 | d.Minor()&^0xff<<12
}

// LockType turns F_RDLCK, F_WRLCK or F_UNLCK of Linux into NetBSD's. EINVAL.
func LockType(t uint32) (int16, error) {
	switch t {
	case unix.F_RDLCK:
		return abi.F_RDLCK, nil
	case unix.F_WRLCK:
		return abi.F_WRLCK, nil
	case unix.F_UNLCK:
		return abi.F_UNLCK, nil
	}
	return 0, abi.EINVAL
}

// FromLockType is LockType the other way; what is none is F_UNLCK.
func FromLockType(t int16) uint32 {
	switch t {
	case abi.F_RDLCK:
		return unix.F_RDLCK
	case abi.F_WRLCK:
		return unix.F_WRLCK
	}
	return unix.F_UNLCK
}

// RenameFlags turns the flags of renameat2(2) into NetBSD's. EINVAL for
// RENAME_WHITEOUT and what is unknown.
func RenameFlags(fl uint32) (uint32, error) {
	var r uint32
	if fl&unix.RENAME_NOREPLACE != 0 {
		r |= abi.RENAME_NOREPLACE
	}
	if fl&unix.RENAME_EXCHANGE != 0 {
		r |= abi.RENAME_EXCHANGE
	}
	if fl&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return 0, abi.EINVAL
	}
	return r, nil
}

// Xattr is the name of an extended attribute of Linux in the kernel: "user." is
// the same, "trusted." is the super-user's "system.". EOPNOTSUPP for other name
// spaces, which Linux keeps for itself (security, POSIX ACLs).
func Xattr(name string) (string, error) {
	if rest, ok := strings.CutPrefix(name, "trusted."); ok && rest != "" {
		return "system." + rest, nil
	}
	if rest, ok := strings.CutPrefix(name, "user."); ok && rest != "" {
		return name, nil
	}
	return "", abi.EOPNOTSUPP
}

// FromXattr is Xattr the other way, "" for a name that Linux cannot have.
func FromXattr(name string) string {
	if rest, ok := strings.CutPrefix(name, "system."); ok {
		return "trusted." + rest
	}
	if strings.HasPrefix(name, "user.") {
		return name
	}
	return ""
}
