package supervise

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// openGrantDir opens a directory for a component; enforced says that the
// descriptor itself refuses writes if rw is false.
func openGrantDir(p string, rw bool, forUID int) (f *os.File, enforced bool, err error) {
	fd, err := unix.Open(p, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false, err
	}
	if onExport(fd) {
		unix.Close(fd)
		return nil, false, &grantError{abi.ELOOP, "the directory is exported by a rumpus (fuse.rumpus): a call could wait for itself"}
	}
	if os.Geteuid() != 0 {
		return os.NewFile(uintptr(fd), p), false, nil
	}
	defer unix.Close(fd)
	own := forUID == os.Geteuid()
	tree, err := unix.OpenTree(fd, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		if own && (err == unix.EPERM || err == unix.ENOSYS) {
			// Root in a container that may not mount: as for anybody else.
			nfd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
			if err != nil {
				return nil, false, err
			}
			return os.NewFile(uintptr(nfd), p), false, nil
		}
		return nil, false, missing("open_tree", err, "a detached mount needs CAP_SYS_ADMIN and Linux 5.2")
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if !rw {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	what := "setting mount attributes needs CAP_SYS_ADMIN and Linux 5.12"
	if !own {
		ns, err := idmapNS(forUID)
		if err != nil {
			unix.Close(tree)
			return nil, false, err
		}
		defer ns.Close()
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(ns.Fd())
		what = fmt.Sprintf("mapping ids to uid %d needs the initial user namespace and a file system that can, which this one (type %s) perhaps cannot", forUID, fsType(fd))
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(tree)
		return nil, false, missing("mount_setattr", err, what)
	}
	return os.NewFile(uintptr(tree), p), !rw, nil
}

// onExport reports whether a directory is on a file system that a rumpus
// exports by FUSE. Its server is not asked: it may be us.
func onExport(fd int) bool {
	var st unix.Statx_t
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st) != nil {
		return false
	}
	dev := fmt.Sprintf("%d:%d", st.Dev_major, st.Dev_minor)
	for line := range strings.Lines(string(b)) {
		pre, post, ok := strings.Cut(line, " - ")
		w := strings.Fields(pre)
		if ok && len(w) > 2 && w[2] == dev && strings.HasPrefix(post, "fuse.rumpus ") {
			return true
		}
	}
	return false
}

// missing says what a system call of the host needs that is not there.
func missing(call string, err error, need string) error {
	e := abi.EOPNOTSUPP
	if err == unix.EPERM || err == unix.EACCES {
		e = abi.EPERM
	}
	return &grantError{e, fmt.Sprintf("%s: %v: %s", call, err, need)}
}

// fsType names the type of the file system of fd, as a number if it must be.
func fsType(fd int) string {
	var s unix.Statfs_t
	if err := unix.Fstatfs(fd, &s); err != nil {
		return "unknown"
	}
	names := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.TMPFS_MAGIC: "tmpfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.XFS_SUPER_MAGIC: "xfs", unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.NFS_SUPER_MAGIC: "nfs",
		unix.V9FS_MAGIC: "9p", unix.FUSE_SUPER_MAGIC: "fuse", unix.PROC_SUPER_MAGIC: "proc", unix.SYSFS_MAGIC: "sysfs",
	}
	if n := names[s.Type]; n != "" {
		return n
	}
	return fmt.Sprintf("%#x", s.Type)
}

// maxID is the number of user ids there are.
const maxID = 1<<32 - 1

// swapMap maps ids to themselves, except that 0 and id change places.
//
// Preconditions: 0 < id < maxID.
func swapMap(id int) []syscall.SysProcIDMap {
	m := []syscall.SysProcIDMap{
		{ContainerID: 0, HostID: id, Size: 1},
		{ContainerID: id, HostID: 0, Size: 1},
	}
	if id > 1 {
		m = append(m, syscall.SysProcIDMap{ContainerID: 1, HostID: 1, Size: id - 1})
	}
	if n := maxID - (id + 1); n > 0 {
		m = append(m, syscall.SysProcIDMap{ContainerID: id + 1, HostID: id + 1, Size: n})
	}
	return m
}

// idmapNS makes a user namespace in which 0 and id have changed places, for
// mount_setattr. A namespace comes to be only with a process: one is started
// under ptrace, so that it stops before its first instruction, and killed as
// soon as its namespace is open.
func idmapNS(id int) (*os.File, error) {
	if id <= 0 || id >= maxID {
		return nil, &grantError{abi.EINVAL, fmt.Sprintf("no uid to map to: %d", id)}
	}
	for _, file := range []string{"/proc/self/uid_map", "/proc/self/gid_map"} {
		b, err := os.ReadFile(file)
		if err != nil || !mapped(string(b), 0, maxID) {
			return nil, &grantError{abi.EPERM, "mapping ids needs the initial user namespace: " + file + " has not all ids"}
		}
	}
	runtime.LockOSThread() // the tracer is a thread
	defer runtime.UnlockOSThread()
	p, err := os.StartProcess("/proc/self/exe", []string{"rumpus-idmap"}, &os.ProcAttr{
		Dir: "/", Env: []string{},
		Sys: &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER, UidMappings: swapMap(id), GidMappings: swapMap(id),
			Ptrace: true, Pdeathsig: syscall.SIGKILL,
		},
	})
	if err != nil {
		return nil, &grantError{abi.EPERM, "mapping ids needs a user namespace and ptrace: " + strings.TrimPrefix(err.Error(), "fork/exec ")}
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", p.Pid))
	_ = p.Kill()
	if _, werr := p.Wait(); err == nil && werr != nil {
		ns.Close()
		return nil, werr
	}
	return ns, err
}
