package hostfs

import (
	"context"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// maxIov is how many areas Linux takes in one call (UIO_MAXIOV).
const maxIov = 1024

// errRO refuses a mutator on a mount with the option ro.
func (f *FS) errRO() error {
	if f.opt.ro {
		return abi.EROFS
	}
	return nil
}

// chunk is the part of v behind the first off bytes, as much as Linux takes
// at once, without empty areas.
func chunk(v abi.Iov, off int) [][]byte {
	var r [][]byte
	for _, p := range v {
		if off >= len(p) {
			off -= len(p)
			continue
		}
		r = append(r, p[off:])
		off = 0
		if len(r) == maxIov {
			break
		}
	}
	return r
}

// Read fills dst, short only at the end of the file.
func (f *FS) Read(_ context.Context, h abi.Handle, off int64, dst abi.Iov) (int, error) {
	if off < 0 {
		return 0, abi.EINVAL
	}
	n, err := f.hold(h)
	if err != nil {
		return 0, err
	}
	defer f.release(n)
	fd, err := f.ioFd(n, false)
	if err != nil {
		return 0, err
	}
	for done := 0; ; {
		iov := chunk(dst, done)
		if len(iov) == 0 {
			return done, nil
		}
		var got int
		err := retry(func() (err error) { got, err = unix.Preadv(fd, iov, off+int64(done)); return err })
		if err != nil {
			return done, translate(err)
		}
		if got <= 0 {
			return done, nil
		}
		done += got
	}
}

// Write stores src. What a full disk or a limit cuts off is no error if
// anything was written.
func (f *FS) Write(_ context.Context, req vfsops.WriteReq, src abi.Iov) (vfsops.WriteRes, error) {
	res := vfsops.WriteRes{Off: req.Off}
	if err := f.errRO(); err != nil {
		return res, err
	}
	if req.Off < 0 && !req.Append {
		return res, abi.EINVAL
	}
	n, err := f.hold(req.Node)
	if err != nil {
		return res, err
	}
	defer f.release(n)
	fd, err := f.ioFd(n, true)
	if err != nil {
		return res, err
	}
	if req.Append {
		n.appendMu.Lock()
		defer n.appendMu.Unlock()
	}
	for {
		iov := chunk(src, res.N)
		if len(iov) == 0 {
			break
		}
		var put int
		err := retry(func() (err error) {
			if req.Append {
				// -1: behind the end, and the descriptor's offset tells where.
				put, err = unix.Pwritev2(fd, iov, -1, unix.RWF_APPEND)
			} else {
				put, err = unix.Pwritev(fd, iov, req.Off+int64(res.N))
			}
			return err
		})
		if err != nil {
			if res.N == 0 {
				return res, translate(err)
			}
			break
		}
		if req.Append && res.N == 0 {
			end, err := unix.Seek(fd, 0, unix.SEEK_CUR)
			if err != nil {
				return res, translate(err)
			}
			res.Off = end - int64(put)
		}
		res.N += put
		if put <= 0 || req.Append && src.Len() > res.N {
			break // the rest of an append might not follow at once
		}
	}
	res.Vattr, err = f.stat(n)
	return res, err
}

// Truncate changes the size of a regular file.
func (f *FS) Truncate(_ context.Context, _ vfsops.Op, h abi.Handle, size int64) (abi.Vattr, error) {
	if err := f.errRO(); err != nil {
		return abi.Vattr{}, err
	}
	n, err := f.hold(h)
	if err != nil {
		return abi.Vattr{}, err
	}
	defer f.release(n)
	if err := f.truncate(n, size); err != nil {
		return abi.Vattr{}, err
	}
	return f.stat(n)
}

func (f *FS) truncate(n *node, size int64) error {
	fd, err := f.ioFd(n, true)
	if err != nil {
		return err
	}
	return translate(retry(func() error { return unix.Ftruncate(fd, size) }))
}

// Fallocate allocates a range, making the file longer if need be, or frees it.
func (f *FS) Fallocate(_ context.Context, _ vfsops.Op, h abi.Handle, off, size int64, punch bool) (abi.Vattr, error) {
	if err := f.errRO(); err != nil {
		return abi.Vattr{}, err
	}
	n, err := f.hold(h)
	if err != nil {
		return abi.Vattr{}, err
	}
	defer f.release(n)
	fd, err := f.ioFd(n, true)
	if err != nil {
		return abi.Vattr{}, err
	}
	var mode uint32
	if punch {
		mode = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	}
	if err := retry(func() error { return unix.Fallocate(fd, mode, off, size) }); err != nil {
		return abi.Vattr{}, translate(err)
	}
	return f.stat(n)
}

// Seek asks the host, which knows its holes; a file system of the host that
// does not, calls all of a file data.
func (f *FS) Seek(_ context.Context, h abi.Handle, off int64, whence int) (int64, error) {
	linux := unix.SEEK_DATA
	switch whence {
	case abi.SEEK_DATA:
	case abi.SEEK_HOLE:
		linux = unix.SEEK_HOLE
	default:
		return 0, abi.EINVAL
	}
	n, err := f.hold(h)
	if err != nil {
		return 0, err
	}
	defer f.release(n)
	switch n.typ {
	case abi.VREG:
	case abi.VDIR:
		return 0, abi.EISDIR
	default:
		return 0, abi.EINVAL
	}
	fd, done, err := f.contentFd(n)
	if err != nil {
		return 0, err
	}
	defer done()
	// The descriptor's own offset moves, which Write asks behind an append.
	n.appendMu.Lock()
	defer n.appendMu.Unlock()
	var to int64
	err = retry(func() (err error) { to, err = unix.Seek(fd, off, linux); return err })
	return to, translate(err)
}

// Sync writes a file, or with a zero handle the whole file system of the
// host, to its storage. Fifos and the like have nothing to write.
func (f *FS) Sync(_ context.Context, h abi.Handle, dataOnly bool) error {
	all := h.IsZero()
	if all {
		h = f.handle(f.root)
	}
	n, err := f.hold(h)
	if err != nil {
		return err
	}
	defer f.release(n)
	if n.typ != abi.VDIR && n.typ != abi.VREG {
		return nil
	}
	fd, done, err := f.contentFd(n)
	if err != nil {
		return err
	}
	defer done()
	return translate(retry(func() error {
		switch {
		case all:
			return unix.Syncfs(fd)
		case dataOnly:
			return unix.Fdatasync(fd)
		}
		return unix.Fsync(fd)
	}))
}

// contentFd is a descriptor of a held file or directory that is not O_PATH;
// done closes it if it is not the node's.
func (f *FS) contentFd(n *node) (fd int, done func(), err error) {
	if n.typ != abi.VDIR {
		fd, err = f.ioFd(n, false)
		if abi.ErrnoOf(err) == abi.EACCES && !f.opt.ro {
			fd, err = f.ioFd(n, true)
		}
		return fd, func() {}, err
	}
	path, err := f.pathFd(n)
	if err != nil {
		return -1, nil, err
	}
	fd, err = openBeneath(path, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, nil, translate(err)
	}
	return fd, func() { unix.Close(fd) }, nil
}

// xattrPrefix is the part of Linux's extended attributes that is shown.
const xattrPrefix = "user."

// maxXattr bounds values and lists on Linux, in bytes.
const maxXattr = 64 << 10

// checkXattr says whether a name can exist here.
func checkXattr(name []byte) bool {
	s := string(name)
	return len(s) > len(xattrPrefix) && len(s) <= abi.NAME_MAX &&
		strings.HasPrefix(s, xattrPrefix) && strings.IndexByte(s, 0) < 0
}

// xattrFd is a descriptor to reach extended attributes through. bad is the
// answer for files that Linux gives no user attributes.
func (f *FS) xattrFd(h abi.Handle, bad error) (fd int, done func(), err error) {
	n, err := f.hold(h)
	if err != nil {
		return -1, nil, err
	}
	if n.typ != abi.VREG && n.typ != abi.VDIR {
		f.release(n)
		return -1, nil, bad
	}
	fd, closeIt, err := f.contentFd(n)
	if err != nil {
		f.release(n)
		return -1, nil, err
	}
	return fd, func() { closeIt(); f.release(n) }, nil
}

// Getxattr is the value of an attribute whose name begins with "user.";
// ENOATTR for all others.
func (f *FS) Getxattr(_ context.Context, h abi.Handle, name []byte) ([]byte, error) {
	if !checkXattr(name) {
		return nil, abi.ENOATTR
	}
	fd, done, err := f.xattrFd(h, abi.ENOATTR)
	if err != nil {
		return nil, err
	}
	defer done()
	buf := make([]byte, maxXattr)
	size, err := unix.Fgetxattr(fd, string(name), buf)
	if err != nil {
		return nil, translate(err)
	}
	return buf[:size:size], nil
}

// Listxattr is the names that begin with "user.".
func (f *FS) Listxattr(_ context.Context, h abi.Handle) ([]byte, error) {
	fd, done, err := f.xattrFd(h, nil)
	if err != nil || done == nil {
		return nil, err
	}
	defer done()
	buf := make([]byte, maxXattr)
	size, err := unix.Flistxattr(fd, buf)
	if err == unix.EOPNOTSUPP {
		return nil, nil
	}
	if err != nil {
		return nil, translate(err)
	}
	var names []byte
	for _, s := range strings.SplitAfter(string(buf[:size]), "\x00") {
		if strings.HasPrefix(s, xattrPrefix) {
			names = append(names, s...)
		}
	}
	return names, nil
}

// Setxattr sets an attribute; EOPNOTSUPP for a name that does not begin with
// "user.", EPERM for files that can have none.
func (f *FS) Setxattr(_ context.Context, req vfsops.SetxattrReq) error {
	if err := f.errRO(); err != nil {
		return err
	}
	switch {
	case req.Flags&^(abi.XATTR_CREATE|abi.XATTR_REPLACE) != 0:
		return abi.EINVAL
	case !checkXattr(req.Name):
		return abi.EOPNOTSUPP
	}
	fd, done, err := f.xattrFd(req.Node, abi.EPERM)
	if err != nil {
		return err
	}
	defer done()
	var flags int
	if req.Flags&abi.XATTR_CREATE != 0 {
		flags |= unix.XATTR_CREATE
	}
	if req.Flags&abi.XATTR_REPLACE != 0 {
		flags |= unix.XATTR_REPLACE
	}
	return translate(unix.Fsetxattr(fd, string(req.Name), req.Value, flags))
}

// Removexattr removes an attribute; ENOATTR.
func (f *FS) Removexattr(_ context.Context, _ vfsops.Op, h abi.Handle, name []byte) error {
	if err := f.errRO(); err != nil {
		return err
	}
	if !checkXattr(name) {
		return abi.ENOATTR
	}
	fd, done, err := f.xattrFd(h, abi.ENOATTR)
	if err != nil {
		return err
	}
	defer done()
	return translate(unix.Fremovexattr(fd, string(name)))
}
