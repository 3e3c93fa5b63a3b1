package hostfs

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Create makes a regular file.
func (f *FS) Create(_ context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return f.makeNode(&req, abi.VREG, func(dirfd int, name string) (int, error) {
		return openBeneath(dirfd, name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_NONBLOCK, req.Mode&abi.ALLPERMS)
	})
}

// Mkdir makes a directory.
func (f *FS) Mkdir(_ context.Context, req vfsops.CreateReq) (vfsops.Mutated, error) {
	return f.makeNode(&req, abi.VDIR, func(dirfd int, name string) (int, error) {
		return -1, unix.Mkdirat(dirfd, name, req.Mode&abi.ALLPERMS)
	})
}

// Mknod makes a fifo or a socket; a device node only with the mount option
// devices, EPERM without it.
func (f *FS) Mknod(_ context.Context, req vfsops.MknodReq) (vfsops.Mutated, error) {
	dev := 0
	switch req.Type {
	case abi.VFIFO, abi.VSOCK:
	case abi.VBLK, abi.VCHR:
		if !f.opt.devices {
			return vfsops.Mutated{}, fmt.Errorf("hostfs: device nodes need the mount option devices: %w", abi.EPERM)
		}
		dev = int(unix.Mkdev(req.Rdev.Major(), req.Rdev.Minor()))
	default:
		return vfsops.Mutated{}, abi.EINVAL
	}
	mode := req.Mode&abi.ALLPERMS | abi.TypeMode(req.Type)
	return f.makeNode(&req.CreateReq, req.Type, func(dirfd int, name string) (int, error) {
		return -1, unix.Mknodat(dirfd, name, mode, dev)
	})
}

// Symlink makes a symbolic link.
func (f *FS) Symlink(_ context.Context, req vfsops.SymlinkReq) (vfsops.Mutated, error) {
	if len(req.Target) == 0 {
		return vfsops.Mutated{}, abi.EINVAL
	}
	return f.makeNode(&req.CreateReq, abi.VLNK, func(dirfd int, name string) (int, error) {
		return -1, unix.Symlinkat(string(req.Target), dirfd, name)
	})
}

// makeNode makes a node by mk, which may answer a descriptor of it, and gives
// it owner and mode. If that fails the name is taken away again.
func (f *FS) makeNode(req *vfsops.CreateReq, t abi.VType, mk func(dirfd int, name string) (int, error)) (m vfsops.Mutated, err error) {
	if err := f.errRO(); err != nil {
		return m, err
	}
	if err := checkName(req.Name); err != nil {
		return m, err
	}
	if err := f.checkSetid(t, req.Mode, 0); err != nil {
		return m, err
	}
	d, dirfd, err := f.holdDir(req.Dir)
	if err != nil {
		return m, err
	}
	defer f.release(d)
	name := string(req.Name)
	fd := -1
	if err := retry(func() (err error) { fd, err = mk(dirfd, name); return err }); err != nil {
		return m, translate(err)
	}
	n, err := f.finish(d, dirfd, name, t, fd, req)
	if err != nil {
		flags := 0
		if t == abi.VDIR {
			flags = unix.AT_REMOVEDIR
		}
		_ = unix.Unlinkat(dirfd, name, flags)
		return m, err
	}
	defer f.release(n)
	return f.mutated(n, d, nil)
}

// mutated collects the attributes after a mutator.
func (f *FS) mutated(n, d, d2 *node) (m vfsops.Mutated, err error) {
	if n != nil {
		m.Node.Handle = f.handle(n)
		if m.Node.Vattr, err = f.stat(n); err != nil {
			return m, err
		}
	}
	if m.Dir, err = f.stat(d); err != nil {
		return m, err
	}
	if d2 != nil && d2 != d {
		m.Dir2, err = f.stat(d2)
	}
	return m, err
}

// finish gives a new file owner and mode, and holds its node. io is a
// descriptor that is open for reading and writing, or -1.
func (f *FS) finish(d *node, dirfd int, name string, t abi.VType, io int, req *vfsops.CreateReq) (*node, error) {
	var fd int
	var err error
	if io >= 0 {
		fd, err = unix.FcntlInt(uintptr(io), unix.F_DUPFD_CLOEXEC, 3)
	} else {
		fd, err = openBeneath(dirfd, name, unix.O_PATH, 0)
	}
	if err != nil {
		closeFd(io)
		return nil, translate(err)
	}
	var st unix.Statx_t
	if err = statFd(fd, &st); err == nil && abi.ModeType(uint32(st.Mode)) != t {
		err = abi.ESTALE // a stranger was faster
	}
	if err == nil {
		err = f.setOwner(fd, t, &st, req)
	}
	if err == nil {
		err = statFd(fd, &st)
	}
	if err != nil {
		unix.Close(fd)
		closeFd(io)
		return nil, translate(err)
	}
	n, err := f.intern(&st, fd, d, name)
	if err != nil {
		closeFd(io)
		return nil, err
	}
	if io >= 0 {
		n.openMu.Lock()
		f.adopt(n, &n.rw, io)
		n.openMu.Unlock()
	}
	return n, nil
}

// checkSetid refuses set-id bits that a file does not have already: EPERM
// without the mount option setid. On directories they are harmless.
func (f *FS) checkSetid(t abi.VType, mode, has uint32) error {
	if f.opt.setid || t == abi.VDIR || mode&^has&(abi.S_ISUID|abi.S_ISGID) == 0 {
		return nil
	}
	return fmt.Errorf("hostfs: set-id bits need the mount option setid: %w", abi.EPERM)
}

// setOwner makes owner and mode of a new file what the request says. A group
// that the host does not allow stays what the host made it, and the set-group
// -id bit goes; another user must be allowed. With the option owner both are as
// the host made them.
func (f *FS) setOwner(fd int, t abi.VType, st *unix.Statx_t, req *vfsops.CreateReq) error {
	mode := req.Mode & abi.ALLPERMS
	uid, gid := -1, -1
	if !f.opt.owner {
		var err error
		if uid, err = f.uids.out(req.Uid); err != nil {
			return err
		}
		if gid, err = f.gids.out(req.Gid); err != nil {
			mode &^= abi.S_ISGID
		}
	}
	if uid != -1 && uint32(uid) != st.Uid {
		if err := chown(fd, uid, -1); err != nil {
			return fmt.Errorf("hostfs: the host does not let us give a file to uid %d: %w", req.Uid, abi.EPERM)
		}
		st.Mode &^= abi.S_ISUID | abi.S_ISGID
	}
	if gid != -1 && uint32(gid) != st.Gid {
		if chown(fd, -1, gid) != nil {
			mode &^= abi.S_ISGID
		}
		st.Mode &^= abi.S_ISUID | abi.S_ISGID
	}
	if t != abi.VLNK && uint32(st.Mode)&abi.ALLPERMS != mode {
		return chmod(fd, mode)
	}
	return nil
}

// chown changes owner and group, -1 for neither, through any descriptor.
func chown(fd, uid, gid int) error {
	return retry(func() error { return unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH) })
}

// chmod changes the mode through any descriptor. EOPNOTSUPP through an O_PATH
// one on a Linux before 6.6, and for symbolic links.
func chmod(fd int, mode uint32) error {
	err := retry(func() error { return unix.Fchmodat(fd, "", mode, unix.AT_EMPTY_PATH) })
	if err == unix.ENOSYS || err == unix.EOPNOTSUPP || err == unix.EINVAL {
		if e := retry(func() error { return unix.Fchmod(fd, mode) }); e != unix.EBADF {
			return e
		}
		return unix.EOPNOTSUPP
	}
	return err
}

// victim walks to a name and holds what it leads to, if that is the node the
// kernel has locked; ESTALE if not.
func (f *FS) victim(d *node, dirfd int, name []byte, want abi.Handle) (*node, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	n, _, err := f.walk(d, dirfd, string(name))
	switch abi.ErrnoOf(err) {
	case 0:
	case abi.ENOENT:
		return nil, abi.ESTALE
	default:
		return nil, err
	}
	if f.handle(n) != want {
		f.release(n)
		return nil, abi.ESTALE
	}
	return n, nil
}

// losesName is called before a name of n is taken away. A file with other
// names may be open in the kernel, which pins only before the last one goes:
// keep what is needed to use it.
func (f *FS) losesName(n *node) {
	if n.typ != abi.VREG {
		return
	}
	if v, err := f.stat(n); err != nil || v.Nlink < 2 {
		return
	}
	if f.openForGood(n) == nil {
		f.mu.Lock()
		n.keep = true
		f.mu.Unlock()
	}
}

// lostName answers the attributes of n after a name of it went, and forgets
// the node if that was the last.
func (f *FS) lostName(n *node) (abi.Vattr, error) {
	v, err := f.stat(n)
	if err != nil {
		return v, err
	}
	if n.typ == abi.VDIR {
		v.Nlink = 0 // some file systems leave a count
	}
	if v.Nlink == 0 {
		f.mu.Lock()
		n.forgot, n.keep = true, false
		f.removed.add(n)
		f.mu.Unlock()
	}
	return v, nil
}

// Remove takes away the name of a file that is no directory; EPERM for one.
func (f *FS) Remove(_ context.Context, req vfsops.RemoveReq) (vfsops.Mutated, error) {
	return f.remove(&req, false)
}

// Rmdir removes an empty directory.
func (f *FS) Rmdir(_ context.Context, req vfsops.RemoveReq) (vfsops.Mutated, error) {
	return f.remove(&req, true)
}

func (f *FS) remove(req *vfsops.RemoveReq, isDir bool) (m vfsops.Mutated, err error) {
	if err := f.errRO(); err != nil {
		return m, err
	}
	d, dirfd, err := f.holdDir(req.Dir)
	if err != nil {
		return m, err
	}
	defer f.release(d)
	n, err := f.victim(d, dirfd, req.Name, req.Victim)
	if err != nil {
		return m, err
	}
	defer f.release(n)
	flags := 0
	switch {
	case isDir && n.typ != abi.VDIR:
		return m, abi.ENOTDIR
	case !isDir && n.typ == abi.VDIR:
		return m, abi.EPERM
	case isDir:
		flags = unix.AT_REMOVEDIR
	}
	f.losesName(n)
	err = retry(func() error { return unix.Unlinkat(dirfd, string(req.Name), flags) })
	if err == unix.ENOENT {
		return m, abi.ESTALE
	}
	if err != nil {
		return m, translate(err)
	}
	if m, err = f.mutated(nil, d, nil); err != nil {
		return m, err
	}
	m.Victim, err = f.lostName(n)
	return m, err
}

// Link gives a file another name. EPERM for directories.
func (f *FS) Link(_ context.Context, req vfsops.LinkReq) (m vfsops.Mutated, err error) {
	if err := f.errRO(); err != nil {
		return m, err
	}
	if err := checkName(req.Name); err != nil {
		return m, err
	}
	n, err := f.hold(req.Node)
	if err != nil {
		return m, err
	}
	defer f.release(n)
	if n.typ == abi.VDIR {
		return m, abi.EPERM
	}
	d, dirfd, err := f.holdDir(req.Dir)
	if err != nil {
		return m, err
	}
	defer f.release(d)
	if err := f.link(n, dirfd, string(req.Name)); err != nil {
		return m, err
	}
	return f.mutated(n, d, nil)
}

func (f *FS) link(n *node, dirfd int, name string) error {
	fd, err := f.pathFd(n)
	if err != nil {
		return err
	}
	// Linux 6.10 lets whoever opened the descriptor do this, before that it
	// takes CAP_DAC_READ_SEARCH; ENOENT says no.
	err = retry(func() error { return unix.Linkat(fd, "", dirfd, name, unix.AT_EMPTY_PATH) })
	if err != unix.ENOENT && err != unix.EPERM {
		return translate(err)
	}
	f.mu.Lock()
	p, old := n.parent, n.name
	if p != nil {
		f.useLocked(p)
	}
	f.mu.Unlock()
	if p == nil {
		return abi.ENOENT
	}
	defer f.release(p)
	pfd, err := f.pathFd(p)
	if err != nil {
		return err
	}
	if err := retry(func() error { return unix.Linkat(pfd, old, dirfd, name, 0) }); err != nil {
		return translate(err)
	}
	var st unix.Statx_t
	if err := statName(dirfd, name, &st); err != nil {
		return translate(err)
	}
	if keyOf(&st) != n.key {
		_ = unix.Unlinkat(dirfd, name, 0)
		return abi.ESTALE
	}
	return nil
}

// Rename moves, replaces or, with abi.RENAME_EXCHANGE, swaps.
func (f *FS) Rename(_ context.Context, req vfsops.RenameReq) (m vfsops.Mutated, err error) {
	if err := f.errRO(); err != nil {
		return m, err
	}
	if err := checkName(req.TName); err != nil {
		return m, err
	}
	if req.Flags&^(abi.RENAME_EXCHANGE|abi.RENAME_NOREPLACE) != 0 {
		return m, abi.EINVAL
	}
	fd, ffd, err := f.holdDir(req.FDir)
	if err != nil {
		return m, err
	}
	defer f.release(fd)
	td, tfd, err := f.holdDir(req.TDir)
	if err != nil {
		return m, err
	}
	defer f.release(td)
	from, err := f.victim(fd, ffd, req.FName, req.From)
	if err != nil {
		return m, err
	}
	defer f.release(from)
	var to *node
	flags, exchange := uint(unix.RENAME_NOREPLACE), req.Flags&abi.RENAME_EXCHANGE != 0
	if !req.To.IsZero() {
		if to, err = f.victim(td, tfd, req.TName, req.To); err != nil {
			return m, err
		}
		defer f.release(to)
		if flags = 0; exchange {
			flags = unix.RENAME_EXCHANGE
		} else if to != from {
			f.losesName(to)
		}
	} else if exchange {
		return m, abi.ENOENT
	}
	if err := rename(ffd, string(req.FName), tfd, string(req.TName), flags); err != nil {
		return m, err
	}
	if to != from {
		f.mu.Lock()
		f.setParentLocked(from, td, string(req.TName))
		if exchange {
			f.setParentLocked(to, fd, string(req.FName))
		}
		f.mu.Unlock()
	}
	if m, err = f.mutated(from, fd, td); err != nil || to == nil || to == from {
		return m, err
	}
	if exchange {
		m.Victim, err = f.stat(to)
	} else {
		m.Victim, err = f.lostName(to)
	}
	return m, err
}

// rename is renameat2. A target that has come to be meanwhile is ESTALE.
func rename(ffd int, fname string, tfd int, tname string, flags uint) error {
	err := retry(func() error { return unix.Renameat2(ffd, fname, tfd, tname, flags) })
	if flags == unix.RENAME_NOREPLACE && (err == unix.EINVAL || err == unix.ENOSYS) {
		// The host's file system cannot tell: look, then rename.
		var st unix.Statx_t
		if statName(tfd, tname, &st) == nil {
			return abi.ESTALE
		}
		err = retry(func() error { return unix.Renameat(ffd, fname, tfd, tname) })
	}
	if err == unix.EEXIST && flags == unix.RENAME_NOREPLACE || err == unix.ENOENT {
		return abi.ESTALE
	}
	return translate(err)
}

// Setattr changes attributes one after the other: size, owner, mode, flags,
// times. The change time is the host's and is not set; nor is the time of
// birth. Flags cannot be changed: EOPNOTSUPP.
func (f *FS) Setattr(_ context.Context, req vfsops.SetattrReq) (abi.Vattr, error) {
	if err := f.errRO(); err != nil {
		return abi.Vattr{}, err
	}
	n, err := f.hold(req.Node)
	if err != nil {
		return abi.Vattr{}, err
	}
	defer f.release(n)
	if err := f.setattr(n, req.Mask, &req.Attr); err != nil {
		return abi.Vattr{}, err
	}
	return f.stat(n)
}

func (f *FS) setattr(n *node, mask abi.SetMask, a *abi.Vattr) error {
	fd, err := f.pathFd(n)
	if err != nil {
		return err
	}
	if mask&abi.SetMode != 0 && a.Mode&(abi.S_ISUID|abi.S_ISGID) != 0 {
		v, err := f.stat(n)
		if err == nil {
			err = f.checkSetid(n.typ, a.Mode, v.Mode)
		}
		if err != nil {
			return err
		}
	}
	if mask&abi.SetSize != 0 {
		if err := f.truncate(n, a.Size); err != nil {
			return err
		}
	}
	uid, gid := -1, -1
	if mask&abi.SetUid != 0 {
		if uid, err = f.uids.out(a.Uid); err != nil {
			return err
		}
	}
	if mask&abi.SetGid != 0 {
		if gid, err = f.gids.out(a.Gid); err != nil {
			return err
		}
	}
	if uid != -1 || gid != -1 {
		if err := chown(fd, uid, gid); err != nil {
			return translate(err)
		}
	}
	if mask&abi.SetMode != 0 {
		if err := f.chmodNode(n, fd, a.Mode&abi.ALLPERMS); err != nil {
			return err
		}
	}
	if mask&abi.SetFlags != 0 {
		if v, err := f.stat(n); err != nil {
			return err
		} else if v.Flags != a.Flags {
			return abi.EOPNOTSUPP
		}
	}
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
	for i, t := range []struct {
		bit  abi.SetMask
		time abi.Timespec
	}{{abi.SetAtime, a.Atime}, {abi.SetMtime, a.Mtime}} {
		if mask&t.bit == 0 {
			continue
		}
		if t.time.Nsec < 0 || t.time.Nsec > 999999999 {
			return abi.EINVAL
		}
		ts[i] = unix.Timespec{Sec: t.time.Sec, Nsec: int64(t.time.Nsec)}
	}
	if mask&(abi.SetAtime|abi.SetMtime) != 0 {
		return translate(retry(func() error { return unix.UtimesNanoAt(fd, "", ts, unix.AT_EMPTY_PATH) }))
	}
	return nil
}

// chmodNode is chmod, through a descriptor with access if an O_PATH one will
// not do.
func (f *FS) chmodNode(n *node, fd int, mode uint32) error {
	err := chmod(fd, mode)
	if err != unix.EOPNOTSUPP || n.typ != abi.VREG && n.typ != abi.VDIR {
		return translate(err)
	}
	fd, done, err := f.contentFd(n)
	if err != nil {
		return err
	}
	defer done()
	return translate(unix.Fchmod(fd, mode))
}
