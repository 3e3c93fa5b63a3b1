package fuse

import (
	"context"
	"math"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/host/export/linuxabi"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// openFile is a file that is open in Linux.
type openFile struct {
	f *file.File
	v *vfs.Vnode // f keeps it
	c *abi.Caller

	// Of one whose reads and writes could pass by us, and whether they do.
	node uint64
	b    *backing
	pass bool
}

// file is the open file of a number, nil for one that is none.
func (s *Server) file(fh uint64) *openFile {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.files[fh]
}

// addFile gives an open file a number.
func (s *Server) addFile(f *openFile) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastFh++
	s.files[s.lastFh] = f
	return s.lastFh
}

// opening are the flags of an open that concern the kernel. Appending is left
// out: Linux writes pages of a mapping through any open file, so that each
// write says itself whether it appends.
func opening(fl int) int {
	return linuxabi.OpenFlags(fl) & (abi.O_ACCMODE | abi.O_TRUNC | abi.O_SYNC | abi.O_DSYNC)
}

// opened answers an open of a node.
func (s *Server) opened(r *request, id uint64, v *vfs.Vnode, f *file.File, c *abi.Caller, out *fuse.OpenOut) {
	if s.ttl(v) > 0 {
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	}
	o := &openFile{f: f, v: v, c: c}
	s.passBy(r, id, o, out)
	out.Fh = s.addFile(o)
}

// Open is OPEN. Only regular files come here: fifos, sockets and devices are
// Linux's own.
func (s *Server) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return s.on(cancel, &in.InHeader, func(r *request, v *vfs.Vnode) error {
		if v.Type() != abi.VREG {
			return abi.EOPNOTSUPP
		}
		fl := int(in.Flags)
		setid := fl&unix.O_TRUNC != 0 && in.Mode&fuse.OPEN_KILL_SUIDGID != 0 && hasSetid(r, v)
		var f *file.File
		var who *abi.Caller
		err := r.as(func(c *abi.Caller) (err error) {
			who = c
			if fl&linuxabi.FmodeExec != 0 {
				// A program is read to be run, which takes no right to read it.
				if err := v.Access(r, c, abi.VEXEC); err != nil {
					return err
				}
				f, err = s.vfs.OpenVnode(r, superuser, v, abi.O_RDONLY)
				return err
			}
			f, err = s.vfs.OpenVnode(r, c, v, opening(fl))
			return err
		})
		if err != nil {
			return err
		}
		if setid {
			s.lostSetid(r, v)
		}
		s.opened(r, in.NodeId, v, f, who, out)
		return nil
	})
}

// Create is CREATE: open with O_CREAT of a name that Linux takes for missing.
func (s *Server) Create(cancel <-chan struct{}, in *fuse.CreateIn, n string, out *fuse.CreateOut) fuse.Status {
	if err := name(n); err != nil {
		return status(err)
	}
	return s.on(cancel, &in.InHeader, func(r *request, dir *vfs.Vnode) error {
		fl := opening(int(in.Flags)) | abi.O_CREAT | abi.O_NOFOLLOW | abi.O_REGULAR
		if in.Flags&unix.O_EXCL != 0 {
			fl |= abi.O_EXCL
		}
		var f *file.File
		var who *abi.Caller
		open := func(c *abi.Caller) (err error) {
			who = c
			f, err = s.vfs.Open(r, vfs.Where{Caller: c, Dir: dir}, n, fl, in.Mode&abi.ALLPERMS)
			return err
		}
		var err error
		if c := r.callerFor(in.Mode); c != nil {
			err = open(c)
		} else {
			err = r.as(open)
		}
		switch abi.ErrnoOf(err) {
		case 0:
		case abi.ELOOP, abi.EFTYPE:
			return abi.ESTALE // it is something else by now: Linux looks again
		default:
			return err
		}
		v := vfs.VnodeOf(f)
		v.Hold()
		defer v.Rele()
		if err := s.answer(r, dir, v, n, &out.EntryOut); err != nil {
			f.Release(context.Background())
			return err
		}
		s.opened(r, out.NodeId, v, f, who, &out.OpenOut)
		return nil
	})
}

// callerFor is the program with its groups if they matter to the mode of a file
// it makes, else nil.
func (r *request) callerFor(mode uint32) *abi.Caller {
	if mode&abi.S_ISGID != 0 {
		return r.withGroups()
	}
	return nil
}

// Tmpfile is TMPFILE: NetBSD has none, and programs do without.
func (s *Server) Tmpfile(<-chan struct{}, *fuse.CreateIn, *fuse.CreateOut) fuse.Status {
	return fuse.ENOSYS
}

// Release is RELEASE: the last close of an open file.
func (s *Server) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	s.mu.Lock()
	f := s.files[in.Fh]
	delete(s.files, in.Fh)
	s.mu.Unlock()
	if f != nil {
		ctx := vfs.WithOrigin(context.Background(), s)
		s.released(f, in.Fh, in.NodeId)
		s.unpass(ctx, f)
		f.f.Release(ctx)
	}
}

// Read is READ.
func (s *Server) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	f := s.file(in.Fh)
	if f == nil {
		return nil, fuse.EBADF
	}
	if in.Offset > math.MaxInt64 {
		return nil, fuse.EINVAL
	}
	r := &request{s: s, cancel: cancel, h: &in.InHeader}
	done := 0
	for done < len(buf) { // less than wanted is the end of the file to Linux
		n, err := f.f.Ops.Read(r, f.c, f.f, buf[done:], int64(in.Offset)+int64(done))
		if err != nil && done == 0 {
			return nil, status(err)
		}
		if err != nil || n <= 0 {
			break
		}
		done += n
	}
	return fuse.ReadResultData(buf[:done]), fuse.OK
}

// Writev is WRITE in pieces, which is answered by Write.
func (s *Server) Writev(<-chan struct{}, *fuse.WriteIn, [][]byte) (uint32, fuse.Status) {
	return 0, fuse.ENOSYS
}

// Write is WRITE.
func (s *Server) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	f := s.file(in.Fh)
	if f == nil {
		return 0, fuse.EBADF
	}
	if in.Offset > math.MaxInt64 {
		return 0, fuse.EINVAL
	}
	r := &request{s: s, cancel: cancel, h: &in.InHeader}
	app := in.Flags&unix.O_APPEND != 0 && in.WriteFlags&fuse.WRITE_CACHE == 0
	c := f.c
	if in.WriteFlags&fuse.WRITE_CACHE != 0 {
		c = superuser // pages of a mapping: nobody's in particular
	}
	setid := in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 && hasSetid(r, f.v)
	done := 0
	for {
		n, at, err := s.vfs.Pwrite(r, c, f.f, data[done:], int64(in.Offset)+int64(done), app)
		if app && n > 0 && at != int64(in.Offset)+int64(done) {
			// The end was elsewhere: Linux has the bytes at the wrong place.
			s.queue(event{id: in.NodeId, off: 0})
		}
		done += n
		if err != nil && done == 0 {
			return 0, status(err)
		}
		if err != nil || n == 0 || done == len(data) {
			break
		}
	}
	if setid {
		s.lostSetid(r, f.v)
	}
	return uint32(done), fuse.OK
}

// Fsync is FSYNC.
func (s *Server) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if f := s.file(in.Fh); f != nil && f.pass {
		return status(f.b.fsync(in.FsyncFlags&1 != 0))
	}
	return s.on(cancel, &in.InHeader, func(r *request, v *vfs.Vnode) error {
		return v.Fsync(r, superuser, in.FsyncFlags&1 != 0)
	})
}

// Lseek is LSEEK, for data and holes.
func (s *Server) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	f := s.file(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	whence := abi.SEEK_DATA
	switch in.Whence {
	case unix.SEEK_DATA:
	case unix.SEEK_HOLE:
		whence = abi.SEEK_HOLE
	default:
		return fuse.EINVAL
	}
	r := &request{s: s, cancel: cancel, h: &in.InHeader}
	to, err := f.f.Ops.Seek(r, f.c, f.f, int64(in.Offset), whence)
	out.Offset = uint64(to)
	return status(err)
}

// Fallocate is FALLOCATE: space for a range, or a hole in its place. EOPNOTSUPP
// for space behind an end that is to stay, and for what else Linux has; the C
// library writes zeroes in the place of the first.
func (s *Server) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	f := s.file(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	if in.Offset > math.MaxInt64 || in.Length > math.MaxInt64-in.Offset {
		return fuse.Status(unix.EFBIG)
	}
	r := &request{s: s, cancel: cancel, h: &in.InHeader}
	punch := false
	switch in.Mode {
	case 0:
	case unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE:
		punch = true
	case unix.FALLOC_FL_KEEP_SIZE:
		if st, err := f.v.Stat(r); err != nil || in.Offset+in.Length > uint64(st.Size) {
			return fuse.ENOTSUP
		}
	default:
		return fuse.ENOTSUP
	}
	return status(s.vfs.Fallocate(r, f.c, f.f, int64(in.Offset), int64(in.Length), punch))
}

// maxCopy bounds one COPY_FILE_RANGE, so that a copy can be interrupted: Linux
// asks again for the rest.
const (
	maxCopy   = 8 << 20
	copyChunk = 256 << 10
)

// copyBufs are buffers of copyChunk bytes.
var copyBufs = sync.Pool{New: func() any { return new([copyChunk]byte) }}

// CopyFileRange is COPY_FILE_RANGE: the bytes do not come to Linux and back.
func (s *Server) CopyFileRange(cancel <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	from, to := s.file(in.FhIn), s.file(in.FhOut)
	switch {
	case from == nil || to == nil:
		return 0, fuse.EBADF
	case in.Flags != 0 || in.OffIn > math.MaxInt64-maxCopy || in.OffOut > math.MaxInt64-maxCopy:
		return 0, fuse.EINVAL
	}
	r := &request{s: s, cancel: cancel, h: &in.InHeader}
	buf := copyBufs.Get().(*[copyChunk]byte)
	defer copyBufs.Put(buf)
	size, done := int64(min(in.Len, maxCopy)), int64(0)
	for done < size {
		n, err := from.f.Ops.Read(r, from.c, from.f, buf[:min(size-done, copyChunk)], int64(in.OffIn)+done)
		for put := 0; err == nil && put < n; {
			var m int
			m, _, err = s.vfs.Pwrite(r, to.c, to.f, buf[put:n], int64(in.OffOut)+done, false)
			put, done = put+m, done+int64(m)
			if m == 0 && err == nil {
				err = abi.EIO
			}
		}
		if err != nil && done == 0 {
			return 0, status(err)
		}
		if err != nil || n == 0 {
			break
		}
	}
	return uint32(done), fuse.OK
}

// Ioctl is IOCTL: no ioctl of Linux's means a file of ours.
func (s *Server) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return fuse.Status(unix.ENOTTY)
}
