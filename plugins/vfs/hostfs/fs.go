package hostfs

import (
	"container/list"
	"context"
	"fmt"
	"math"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// FS is one mount.
type FS struct {
	fsid       abi.Fsid
	opt        options
	uids, gids idmap
	mod        *Module // nil in tests of the FS alone
	root       *node   // held for good
	rootDev    uint64
	serverless bool // see there
	lock       int  // descriptor with the lock of the option exclusive, or -1
	maxNodes   int

	mu      sync.Mutex
	nodes   map[abi.Fileid]*node
	open    *list.List
	idle    *list.List
	fds     int
	removed removed
}

var (
	_ vfsops.FS         = (*FS)(nil)
	_ vfsops.Creator    = (*FS)(nil)
	_ vfsops.Mknoder    = (*FS)(nil)
	_ vfsops.Symlinker  = (*FS)(nil)
	_ vfsops.Linker     = (*FS)(nil)
	_ vfsops.Remover    = (*FS)(nil)
	_ vfsops.Renamer    = (*FS)(nil)
	_ vfsops.Setattrer  = (*FS)(nil)
	_ vfsops.Writer     = (*FS)(nil)
	_ vfsops.Truncater  = (*FS)(nil)
	_ vfsops.Readlinker = (*FS)(nil)
	_ vfsops.Xattrer    = (*FS)(nil)
	_ vfsops.Fallocater = (*FS)(nil)
	_ vfsops.Pinner     = (*FS)(nil)
	_ vfsops.Reclaimer  = (*FS)(nil)
	_ vfsops.Syncer     = (*FS)(nil)
	_ vfsops.HoleSeeker = (*FS)(nil)
)

// newFS makes a mount of an open directory, whose descriptor it duplicates.
// ENOTDIR for anything else, ELOOP for one that a rumpus exports by FUSE, EBUSY
// if another mount has it exclusively.
func newFS(id abi.Fsid, dir *os.File, o options) (*FS, error) {
	rc, err := dir.SyscallConn()
	if err != nil {
		return nil, abi.EBADF
	}
	fd, derr := -1, error(nil)
	if err := rc.Control(func(dfd uintptr) { fd, derr = unix.FcntlInt(dfd, unix.F_DUPFD_CLOEXEC, 3) }); err != nil {
		return nil, abi.EBADF
	}
	if derr != nil {
		return nil, translate(derr)
	}
	if ownExport(fd) {
		unix.Close(fd)
		return nil, fmt.Errorf("the directory is exported by a rumpus: a call could wait for itself: %w", abi.ELOOP)
	}
	var st unix.Statx_t
	if err := statFd(fd, &st); err != nil {
		unix.Close(fd)
		return nil, translate(err)
	}
	if abi.ModeType(uint32(st.Mode)) != abi.VDIR {
		unix.Close(fd)
		return nil, abi.ENOTDIR
	}
	f := &FS{
		fsid: id, opt: o, maxNodes: maxNodes,
		uids:  idmap{uint32(os.Getuid()), o.uids, o.owner, o.uid},
		gids:  idmap{uint32(os.Getgid()), o.gids, o.owner, o.gid},
		nodes: make(map[abi.Fileid]*node), open: list.New(), idle: list.New(),
		rootDev: keyOf(&st).dev, serverless: serverless(fd), lock: -1,
	}
	if f.root, err = f.intern(&st, fd, nil, ""); err != nil {
		return nil, err
	}
	if o.exclusive {
		if err := f.lockRoot(); err != nil {
			f.closeAll()
			return nil, err
		}
	}
	return f, nil
}

// hostReadOnly reports whether the host's mount is read-only.
func (f *FS) hostReadOnly() bool {
	var s unix.Statfs_t
	err := retry(func() error { return unix.Fstatfs(f.root.path, &s) })
	return err == nil && s.Flags&unix.ST_RDONLY != 0
}

// Root is the granted directory.
func (f *FS) Root(context.Context) (vfsops.Entry, error) {
	v, err := f.stat(f.root)
	return vfsops.Entry{Handle: f.handle(f.root), Vattr: v}, err
}

// walk looks up one name in a held directory and holds what it leads to.
func (f *FS) walk(d *node, dirfd int, name string) (*node, abi.Vattr, error) {
	var st unix.Statx_t
	var n *node
	var err error
	// A file that we have open needs no opening again.
	if f.serverless {
		if err := statName(dirfd, name, &st); err != nil {
			return nil, abi.Vattr{}, translate(err)
		}
		n, err = f.intern(&st, -1, d, name)
	}
	if n == nil && err == nil {
		var fd int
		fd, err = openBeneath(dirfd, name, unix.O_PATH, 0)
		if err != nil {
			return nil, abi.Vattr{}, translate(err)
		}
		if err := statFd(fd, &st); err != nil {
			unix.Close(fd)
			return nil, abi.Vattr{}, translate(err)
		}
		n, err = f.intern(&st, fd, d, name)
	}
	if err != nil {
		return nil, abi.Vattr{}, err
	}
	return n, f.attrOf(n, &st), nil
}

// Lookup walks names from a directory. A name on another mount is EXDEV.
func (f *FS) Lookup(ctx context.Context, req vfsops.LookupReq) (vfsops.LookupRes, error) {
	var res vfsops.LookupRes
	if len(req.Names) == 0 || len(req.Names) > vfsops.MaxNames {
		return res, abi.EINVAL
	}
	for _, name := range req.Names {
		if err := checkName(name); err == abi.EINVAL {
			return res, err
		}
	}
	d, _, err := f.holdDir(req.Start)
	if err != nil {
		return res, err
	}
	res.Trace = make([]vfsops.Entry, 0, len(req.Names))
	for _, name := range req.Names {
		if d.typ != abi.VDIR {
			break
		}
		var n *node
		var v abi.Vattr
		err := ctx.Err()
		if err == nil {
			err = checkName(name)
		}
		var dirfd int
		if err == nil {
			dirfd, err = f.pathFd(d)
		}
		if err == nil {
			n, v, err = f.walk(d, dirfd, string(name))
		}
		if err != nil {
			res.Err = abi.ErrnoOf(err)
			break
		}
		f.release(d)
		d = n
		res.Trace = append(res.Trace, vfsops.Entry{Handle: f.handle(n), Vattr: v})
	}
	f.release(d)
	return res, nil
}

// Getattr answers the attributes of a node.
func (f *FS) Getattr(_ context.Context, h abi.Handle) (abi.Vattr, error) {
	n, err := f.hold(h)
	if err != nil {
		return abi.Vattr{}, err
	}
	defer f.release(n)
	return f.stat(n)
}

// Readdir lists a directory; cookies are the host's (d_off). EINVAL if not
// even one entry fits in req.Max.
func (f *FS) Readdir(ctx context.Context, req vfsops.ReaddirReq) (vfsops.ReaddirRes, error) {
	var res vfsops.ReaddirRes
	d, path, err := f.holdDir(req.Dir)
	if err != nil {
		return res, err
	}
	defer f.release(d)
	fd, err := openBeneath(path, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return res, translate(err)
	}
	defer unix.Close(fd)
	if req.Cookie != 0 {
		if _, err := unix.Seek(fd, hostCookie(req.Cookie), unix.SEEK_SET); err != nil {
			return res, seekError(fd, err)
		}
	}
	room := min(req.Max, abi.MaxTransfer)
	buf := make([]byte, max(min(req.Max, 64<<10), 4<<10))
	for {
		var n int
		err := retry(func() (err error) { n, err = unix.Getdents(fd, buf); return err })
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return vfsops.ReaddirRes{}, translate(err)
		}
		if n == 0 {
			res.EOF = true
			return res, nil
		}
		for b := buf[:n]; len(b) > 0; {
			e, rest, ok := f.dirent(d, path, b)
			if rest == nil {
				return vfsops.ReaddirRes{}, abi.EIO
			}
			b = rest
			if !ok {
				continue
			}
			if e.Cookie > math.MaxInt64 {
				return vfsops.ReaddirRes{}, abi.EOVERFLOW
			}
			if room -= 24 + len(e.Name); room < 0 {
				if len(res.Entries) == 0 {
					return res, abi.EINVAL
				}
				return res, nil
			}
			res.Entries = append(res.Entries, e)
		}
	}
}

// seekError is the answer to a position that a directory does not take. One that
// was removed takes none on ext4 (EINVAL); reading it would say ENOENT.
func seekError(fd int, err error) error {
	var st unix.Stat_t
	if err == unix.EINVAL && unix.Fstat(fd, &st) == nil && st.Nlink == 0 {
		return abi.ENOENT
	}
	return translate(err)
}

// endCookie stands for Linux's largest positions. ext4 gives the last entry of
// a directory the largest int64, to which the kernel could add nothing.
const endCookie = math.MaxInt64 - 16

// hostCookie is the position on the host that a cookie stands for.
func hostCookie(c uint64) int64 {
	if c >= endCookie {
		return math.MaxInt64
	}
	return int64(c)
}

// dirent translates the struct linux_dirent64 at the start of b and answers
// what is behind it, nil if b makes no sense. ok is false for "." and "..".
func (f *FS) dirent(d *node, dirfd int, b []byte) (e abi.Dirent, rest []byte, ok bool) {
	ino, off, typ, name, rest := linuxDirent(b)
	if rest == nil || name == "." || name == ".." || name == "" {
		return e, rest, false
	}
	e = abi.Dirent{
		Fileid: fileidOf(key{d.key.dev, ino}, f.rootDev), Cookie: off, Name: name,
		Type: abi.ModeType(uint32(typ) << 12), // DT_* are the type bits of the mode
	}
	if off >= endCookie && off <= math.MaxInt64 {
		e.Cookie = endCookie
	}
	if typ == unix.DT_UNKNOWN {
		var st unix.Statx_t
		if statName(dirfd, name, &st) == nil {
			e.Type = abi.ModeType(uint32(st.Mode))
		}
	}
	return e, rest, true
}

// Readlink is the text of a symbolic link; EINVAL for anything else.
func (f *FS) Readlink(_ context.Context, h abi.Handle) ([]byte, error) {
	n, err := f.hold(h)
	if err != nil {
		return nil, err
	}
	defer f.release(n)
	if n.typ != abi.VLNK {
		return nil, abi.EINVAL
	}
	fd, err := f.pathFd(n)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, abi.PATH_MAX)
	size, err := unix.Readlinkat(fd, "", buf)
	switch {
	case err != nil:
		return nil, translate(err)
	case size == len(buf):
		return nil, abi.ENAMETOOLONG // Linux has links of up to 4095 bytes
	}
	return buf[:size], nil
}

// Statvfs describes the host's file system.
func (f *FS) Statvfs(context.Context) (abi.Statvfs, error) {
	var s unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(f.root.path, &s) }); err != nil {
		return abi.Statvfs{}, translate(err)
	}
	return abi.Statvfs{
		Bsize: uint64(s.Bsize), Frsize: uint64(s.Frsize), Blocks: s.Blocks, Bfree: s.Bfree, Bavail: s.Bavail,
		Files: s.Files, Ffree: s.Ffree, Namemax: uint64(s.Namelen), Fsid: f.fsid, FSType: "hostfs",
	}, nil
}

// Unmount closes everything.
func (f *FS) Unmount(context.Context) error {
	f.closeAll()
	if f.mod != nil {
		f.mod.unmounted(f)
	}
	return nil
}

// closeAll closes every descriptor.
//
// Preconditions: no call is under way.
func (f *FS) closeAll() {
	f.mu.Lock()
	var doomed []int
	for _, n := range f.nodes {
		doomed = f.closeLocked(n, doomed)
	}
	if f.lock >= 0 {
		doomed = append(doomed, f.lock)
		f.lock = -1
	}
	f.nodes = map[abi.Fileid]*node{}
	f.open.Init()
	f.idle.Init()
	f.mu.Unlock()
	closeFds(doomed)
}

// Pin keeps a node's descriptors open, so that it can be read and written
// when it has no name any more.
func (f *FS) Pin(_ context.Context, h abi.Handle) error {
	n, err := f.hold(h)
	if err != nil {
		return err
	}
	defer f.release(n)
	if err := f.openForGood(n); err != nil {
		return err
	}
	f.mu.Lock()
	n.pins++
	f.mu.Unlock()
	return nil
}

// openForGood opens what a held node needs to do without a name. What the
// host does not allow is no error: it would not be allowed later either.
func (f *FS) openForGood(n *node) error {
	if _, err := f.pathFd(n); err != nil {
		return err
	}
	if n.typ != abi.VREG {
		return nil
	}
	if !f.opt.ro {
		if _, err := f.ioFd(n, true); err == nil {
			return nil
		}
	}
	_, err := f.ioFd(n, false)
	switch abi.ErrnoOf(err) {
	case abi.EACCES, abi.EPERM, abi.ETXTBSY:
		return nil
	}
	return err
}

// Unpin undoes Pin. EINVAL if there is no pin.
func (f *FS) Unpin(_ context.Context, h abi.Handle) error {
	n, err := f.hold(h)
	if err != nil {
		return err
	}
	defer f.release(n)
	f.mu.Lock()
	defer f.mu.Unlock()
	if n.pins == 0 {
		return abi.EINVAL
	}
	n.pins--
	return nil
}

// Reclaim forgets nodes and closes their descriptors.
func (f *FS) Reclaim(_ context.Context, hs []abi.Handle) error {
	f.mu.Lock()
	var doomed []int
	for _, h := range hs {
		n := f.nodes[h.File]
		if n == nil || n.gen != h.Gen || h.FS != f.fsid || n == f.root {
			continue
		}
		n.forgot, n.keep = true, false
		doomed = f.settleLocked(n, doomed)
	}
	f.mu.Unlock()
	closeFds(doomed)
	return nil
}
