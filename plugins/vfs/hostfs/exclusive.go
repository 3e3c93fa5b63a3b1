package hostfs

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// lockRoot takes the lock of the option exclusive: flock(2) on the directory,
// exclusively, until the mount or this process ends. EBUSY if another mount
// with the option has it, of whatever kernel.
func (f *FS) lockRoot() error {
	fd, err := openBeneath(f.root.path, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return translate(err)
	}
	if err := retry(func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) }); err != nil {
		unix.Close(fd)
		if err == unix.EWOULDBLOCK {
			return fmt.Errorf("another mount has the directory exclusively: %w", abi.EBUSY)
		}
		return translate(err)
	}
	f.lock = fd
	return nil
}

// mountinfo tells which file systems are mounted where. It is a variable for
// tests.
var mountinfo = "/proc/self/mountinfo"

// ownExport reports whether a directory is on a file system that a rumpus
// exports by FUSE. Nobody is asked who might have to ask us. Without
// /proc it is not known, and false; the host refuses such a grant before.
func ownExport(fd int) bool {
	var st unix.Statx_t
	err := retry(func() error {
		return unix.Statx(fd, "", statFlags|unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st)
	})
	if err != nil {
		return false
	}
	b, err := os.ReadFile(mountinfo)
	if err != nil {
		return false
	}
	dev := fmt.Appendf(nil, "%d:%d", st.Dev_major, st.Dev_minor)
	for line := range bytes.SplitSeq(b, []byte("\n")) {
		pre, post, ok := bytes.Cut(line, []byte(" - "))
		w := bytes.Fields(pre)
		if ok && len(w) > 2 && bytes.Equal(w[2], dev) && bytes.HasPrefix(post, []byte("fuse.rumpus ")) {
			return true
		}
	}
	return false
}

// serverless reports whether a file system of the host has no server that could
// change a file without the host's knowledge: what the host knows of it is
// never old.
func serverless(fd int) bool {
	var s unix.Statfs_t
	if retry(func() error { return unix.Fstatfs(fd, &s) }) != nil {
		return false
	}
	switch int64(s.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC:
		return true
	}
	return false
}
