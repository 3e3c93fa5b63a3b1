package hostfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// This file is the edge to the host's Linux: its error numbers and attributes
// end here.

// errnos translates Linux error numbers. What is missing is EIO.
var errnos = map[syscall.Errno]abi.Errno{
	unix.EPERM: abi.EPERM, unix.ENOENT: abi.ENOENT, unix.EINTR: abi.EINTR, unix.EIO: abi.EIO,
	unix.ENXIO: abi.ENXIO, unix.E2BIG: abi.E2BIG, unix.EBADF: abi.EBADF, unix.EAGAIN: abi.EAGAIN,
	unix.ENOMEM: abi.ENOMEM, unix.EACCES: abi.EACCES, unix.EBUSY: abi.EBUSY, unix.EEXIST: abi.EEXIST,
	unix.EXDEV: abi.EXDEV, unix.ENODEV: abi.ENODEV, unix.ENOTDIR: abi.ENOTDIR, unix.EISDIR: abi.EISDIR,
	unix.EINVAL: abi.EINVAL, unix.ENFILE: abi.ENFILE, unix.EMFILE: abi.ENFILE, unix.ENOTTY: abi.ENOTTY,
	unix.ETXTBSY: abi.ETXTBSY, unix.EFBIG: abi.EFBIG, unix.ENOSPC: abi.ENOSPC, unix.ESPIPE: abi.ESPIPE,
	unix.EROFS: abi.EROFS, unix.EMLINK: abi.EMLINK, unix.ERANGE: abi.ERANGE, unix.EDEADLK: abi.EDEADLK,
	unix.ENAMETOOLONG: abi.ENAMETOOLONG, unix.ENOLCK: abi.ENOLCK, unix.ENOSYS: abi.EOPNOTSUPP,
	unix.ENOTEMPTY: abi.ENOTEMPTY, unix.ELOOP: abi.ELOOP, unix.ENODATA: abi.ENOATTR,
	unix.EOVERFLOW: abi.EOVERFLOW, unix.EILSEQ: abi.EILSEQ, unix.EOPNOTSUPP: abi.EOPNOTSUPP,
	unix.ESTALE: abi.ESTALE, unix.EDQUOT: abi.EDQUOT, unix.ETIMEDOUT: abi.ETIMEDOUT,
	unix.EUSERS: abi.EUSERS, unix.EREMOTE: abi.EREMOTE, unix.ECANCELED: abi.ECANCELED,
}

// translate turns an error of the host into one of ours; other errors stay.
func translate(err error) error {
	var e syscall.Errno
	if err == nil || !errors.As(err, &e) {
		return err
	}
	if n, ok := errnos[e]; ok {
		return n
	}
	return fmt.Errorf("host says %q: %w", e.Error(), abi.EIO)
}

// retry calls fn until it is not interrupted.
func retry(fn func() error) error {
	for {
		if err := fn(); err != unix.EINTR {
			return err
		}
	}
}

// resolve is how every name is looked up.
const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV

// openBeneath opens one name in dirfd, or "." for dirfd itself. The name is
// no path; a symbolic link is opened as such with O_PATH and ELOOP otherwise.
//
// Preconditions: checkName accepted name, or it is ".".
func openBeneath(dirfd int, name string, flags int, mode uint32) (fd int, err error) {
	flags |= unix.O_NOFOLLOW | unix.O_CLOEXEC
	how := unix.OpenHow{Flags: uint64(flags), Mode: uint64(mode), Resolve: resolve}
	for range 64 { // EAGAIN: a rename somewhere made the answer uncertain
		fd, err = unix.Openat2(dirfd, name, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			break
		}
	}
	if err == unix.ENOSYS {
		fd, err = openOld(dirfd, name, flags, mode)
	}
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// openOld is openBeneath for a Linux before 5.6: with one name that is not
// "..", and O_NOFOLLOW, only another mount can lead out.
func openOld(dirfd int, name string, flags int, mode uint32) (int, error) {
	fd, err := unix.Openat(dirfd, name, flags, mode)
	if err != nil {
		return -1, err
	}
	var a, b unix.Statx_t
	if err = statFd(dirfd, &a); err == nil {
		err = statFd(fd, &b)
	}
	if err == nil && keyOf(&a).dev != keyOf(&b).dev {
		err = unix.EXDEV
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

const (
	statMask  = unix.STATX_BASIC_STATS | unix.STATX_BTIME
	statFlags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
)

// statFd reads the attributes of an open file, O_PATH or not.
func statFd(fd int, st *unix.Statx_t) error {
	return retry(func() error { return unix.Statx(fd, "", statFlags|unix.AT_EMPTY_PATH, statMask, st) })
}

// statName reads the attributes of what a name leads to, symbolic links not
// followed. EXDEV for a directory on which something is mounted. Nobody is
// asked for them: whoever serves the mount may be waiting for us. So they can
// be old where the host's file system has a server, but not which file it is.
func statName(dirfd int, name string, st *unix.Statx_t) error {
	err := retry(func() error { return unix.Statx(dirfd, name, statFlags|unix.AT_STATX_DONT_SYNC, statMask, st) })
	if err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return unix.EXDEV
	}
	return err
}

// linuxDirent decodes the struct linux_dirent64 at the start of b and answers
// what is behind it, nil if b makes no sense.
func linuxDirent(b []byte) (ino, off uint64, typ byte, name string, rest []byte) {
	const head = 19
	if len(b) < head {
		return 0, 0, 0, "", nil
	}
	size := int(binary.LittleEndian.Uint16(b[16:]))
	if size < head || size > len(b) {
		return 0, 0, 0, "", nil
	}
	text, _, _ := bytes.Cut(b[head:size], []byte{0})
	return binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), b[18], string(text), b[size:]
}

// nameOf looks for an inode number in a directory, and gives up after 64 Ki
// bytes times 64. "" if it is not there.
func nameOf(dirfd int, ino uint64) string {
	fd, err := openBeneath(dirfd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	buf := make([]byte, 64<<10)
	for range 64 {
		n, err := unix.Getdents(fd, buf)
		if err != nil || n <= 0 {
			return ""
		}
		for b := buf[:n]; len(b) > 0; {
			i, _, _, name, rest := linuxDirent(b)
			if i == ino && name != "." && name != ".." && name != "" {
				return name
			}
			b = rest
		}
	}
	return ""
}

// key is what makes a file one: device and inode number.
type key struct {
	dev, ino uint64
}

func keyOf(st *unix.Statx_t) key {
	return key{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}
}

// fileidOf makes a fileid of a key: the inode number on the root's device,
// otherwise a hash with the highest bit set. It is the same after a restart.
func fileidOf(k key, rootDev uint64) abi.Fileid {
	const high = 1 << 63
	if k.dev == rootDev && k.ino != 0 && k.ino < high {
		return abi.Fileid(k.ino)
	}
	x := k.ino ^ k.dev*0x9e3779b97f4a7c15 // splitmix64
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return abi.Fileid(x ^ x>>31 | high)
}

// genOf makes a generation of the time of birth, which a later file with the
// same inode number has later. In units of 1/3815 s it wraps in 13 days; 1 on
// a file system that keeps no such time.
func genOf(st *unix.Statx_t) abi.Gen {
	if st.Mask&unix.STATX_BTIME == 0 {
		return 1
	}
	return abi.Gen(max(uint32(st.Btime.Sec)<<12|st.Btime.Nsec>>18, 1))
}

func timespec(t unix.StatxTimestamp) abi.Timespec {
	return abi.Timespec{Sec: t.Sec, Nsec: int32(t.Nsec)}
}

// attrFlags are the file flags that have a counterpart.
var attrFlags = []struct {
	linux uint64
	ours  uint32
}{
	{unix.STATX_ATTR_IMMUTABLE, abi.SF_IMMUTABLE},
	{unix.STATX_ATTR_APPEND, abi.SF_APPEND},
	{unix.STATX_ATTR_NODUMP, abi.UF_NODUMP},
}

// vattr translates attributes.
func (f *FS) vattr(st *unix.Statx_t) abi.Vattr {
	v := abi.Vattr{
		Type: abi.ModeType(uint32(st.Mode)), Mode: uint32(st.Mode) & abi.ALLPERMS,
		Nlink: st.Nlink, Uid: f.uids.in(st.Uid), Gid: f.gids.in(st.Gid),
		Rdev: abi.NoDev, Size: int64(st.Size), Bytes: int64(st.Blocks) * 512, Blksize: st.Blksize,
		Fileid: fileidOf(keyOf(st), f.rootDev), Gen: genOf(st),
		Atime: timespec(st.Atime), Mtime: timespec(st.Mtime), Ctime: timespec(st.Ctime), Btime: timespec(st.Btime),
	}
	if v.Type == abi.VBLK || v.Type == abi.VCHR {
		v.Rdev = abi.Makedev(st.Rdev_major, st.Rdev_minor)
	}
	for _, a := range attrFlags {
		if st.Attributes&a.linux != 0 {
			v.Flags |= a.ours
		}
	}
	return v
}

// checkName says what is wrong with a name. It is what keeps ".." and paths
// away from the host.
func checkName(name []byte) error {
	s := string(name)
	switch {
	case len(s) > abi.NAME_MAX:
		return abi.ENAMETOOLONG
	case s == "", s == ".", s == "..", strings.ContainsAny(s, "/\x00"):
		return abi.EINVAL
	}
	return nil
}
