package fuse

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Reads and writes of hostfs's files that pass by us: Linux does them on the
// file of the host that is behind (FUSE_PASSTHROUGH). Options.Backing allows it.
//
// The host opens that file itself, in the directory that it granted, by the names
// by which Linux looked the file up, and takes it only if device, number and time
// of birth are those of the vnode. A component is asked for no descriptor, so
// that it cannot have Linux read or write, with our rights, what it could not
// itself; and when it dies, what is open goes on. When names have changed, or
// anything else does not fit, the open is served as all others are.
//
// Linux has one way for a file at a time: what is open by us stays with us until
// it has been closed everywhere, and likewise what passes by.

// backRoot is the directory of the host that a mount of the kernel shows.
type backRoot struct {
	dir *os.File
	dev uint64
	on  string // where the kernel has it mounted
}

// backing is how a node is open.
type backing struct {
	refs int // protected by passing.mu

	mu    sync.Mutex
	pass  int // opens that pass by us
	plain int // opens that do not
	id    int32
	f     *os.File // of the host's, while pass > 0
}

// hint is under which name Linux looked a node up last.
type hint struct {
	dir  uint64
	name string
}

// passing is what a server knows of files that can pass by it.
type passing struct {
	mu    sync.Mutex
	roots map[abi.Fsid]*backRoot // nil: none
	open  map[uint64]*backing
	hints map[uint64]hint
}

// noted remembers under which name Linux learns of a node.
func (s *Server) noted(dir uint64, v *vfs.Vnode, id uint64, name string) {
	if s.o.Backing == nil || v.Cacheable() {
		return
	}
	s.pass.mu.Lock()
	s.pass.hints[id] = hint{dir, name}
	s.pass.mu.Unlock()
}

// unnoted forgets a node.
func (s *Server) unnoted(id uint64) {
	if s.o.Backing == nil {
		return
	}
	s.pass.mu.Lock()
	delete(s.pass.hints, id)
	s.pass.mu.Unlock()
}

// backRoot is the directory of the host behind a mount, nil if there is none.
func (s *Server) backRoot(fsid abi.Fsid) *backRoot {
	p := &s.pass
	p.mu.Lock()
	b, known := p.roots[fsid]
	p.mu.Unlock()
	if known {
		return b
	}
	b, err := s.openRoot(fsid)
	if err != nil {
		s.o.Log.Warn("fuse: no passthrough", "dir", s.dir, "err", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if old, known := p.roots[fsid]; known {
		b.close()
		return old
	}
	p.roots[fsid] = b
	return b
}

func (s *Server) openRoot(fsid abi.Fsid) (*backRoot, error) {
	for _, m := range s.vfs.Mounts() {
		if m.Fsid != fsid {
			continue
		}
		dir, err := s.o.Backing(m)
		if dir == nil || err != nil {
			return nil, err
		}
		b := &backRoot{dir: dir, on: m.Dir}
		var st unix.Statx_t
		if err = statx(dir, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			err = abi.ENOTDIR
		}
		if err != nil {
			b.close()
			return nil, fmt.Errorf("%s: %w", m.Source, host(err))
		}
		b.dev = unix.Mkdev(st.Dev_major, st.Dev_minor)
		return b, nil
	}
	return nil, nil
}

func (b *backRoot) close() {
	if b != nil {
		b.dir.Close()
	}
}

// dropRoots lets the directories go of a file system that is unmounted, or of
// all if it is 0.
func (s *Server) dropRoots(fsid abi.Fsid) {
	s.pass.mu.Lock()
	defer s.pass.mu.Unlock()
	for id, b := range s.pass.roots {
		if id == fsid || fsid == 0 {
			b.close()
			delete(s.pass.roots, id)
		}
	}
}

// onFd calls fn with the descriptor of f, whatever kind that is.
func onFd(f *os.File, fn func(fd int) error) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := rc.Control(func(fd uintptr) { ferr = fn(int(fd)) }); err != nil {
		return abi.EBADF
	}
	return ferr
}

func statx(f *os.File, st *unix.Statx_t) error {
	const mask = unix.STATX_TYPE | unix.STATX_MODE | unix.STATX_INO | unix.STATX_BTIME
	return onFd(f, func(fd int) error { return unix.Statx(fd, "", unix.AT_EMPTY_PATH, mask, st) })
}

// below is the path of a node from the directory of its mount; false if that is
// not known.
func (s *Server) below(id uint64, fsid abi.Fsid, on string) (string, bool) {
	var names []string
	size := 0
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.pass.mu.Lock()
	defer s.pass.mu.Unlock()
	for {
		if id == rootID {
			top := path.Clean(s.o.Path)
			rest, ok := strings.CutPrefix(top, on)
			if !ok || rest != "" && rest[0] != '/' && on != "/" {
				return "", false
			}
			names = append(names, strings.Trim(rest, "/"))
			break
		}
		h, ok := s.pass.hints[id]
		up := s.nodes[h.dir]
		if size += len(h.name) + 1; !ok || up == nil || up.v == nil || size >= abi.PATH_MAX {
			return "", false
		}
		if names = append(names, h.name); up.v.Handle().FS != fsid {
			names = names[:len(names)-1] // it is the mount's directory
			break
		}
		id = h.dir
	}
	var b strings.Builder
	for i := len(names) - 1; i >= 0; i-- {
		if names[i] != "" && b.Len() > 0 {
			b.WriteByte('/')
		}
		b.WriteString(names[i])
	}
	return b.String(), b.Len() > 0
}

// maxPass bounds the descriptors that are held for files which pass by us.
const maxPass = 4096

// behind opens the file of the host behind a vnode. An error says that this
// open cannot pass by us.
func (s *Server) behind(r *request, id uint64, v *vfs.Vnode, root *backRoot) (*os.File, error) {
	rel, ok := s.below(id, v.Handle().FS, root.on)
	if !ok {
		return nil, abi.ENOENT
	}
	st, err := v.Stat(r)
	if err != nil {
		return nil, err
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV}
	fd := -1
	err = onFd(root.dir, func(dir int) (err error) { fd, err = unix.Openat2(dir, rel, &how); return err })
	if err != nil {
		return nil, err
	}
	at := os.NewFile(uintptr(fd), rel)
	defer at.Close()
	var x unix.Statx_t
	if err := statx(at, &x); err != nil {
		return nil, err
	}
	switch {
	case x.Mode&unix.S_IFMT != unix.S_IFREG, x.Mode&(unix.S_ISUID|unix.S_ISGID) != 0:
		return nil, abi.EFTYPE
	case unix.Mkdev(x.Dev_major, x.Dev_minor) != root.dev, x.Ino != uint64(v.Handle().File):
		return nil, abi.ESTALE
	case x.Mask&unix.STATX_BTIME != 0 && (x.Btime.Sec != st.Btime.Sec || int32(x.Btime.Nsec) != st.Btime.Nsec):
		return nil, abi.ESTALE
	}
	// For reading, whoever asks: what may be done with it is decided by the open
	// that Linux makes of it for each program, with that program's flags.
	nfd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(nfd), rel), nil
}

// passBy decides how an open of a node is served, and notes it in f.
func (s *Server) passBy(r *request, id uint64, f *openFile, out *fuse.OpenOut) {
	if s.o.Backing == nil || f.v.Cacheable() || f.v.Type() != abi.VREG {
		return
	}
	root := s.backRoot(f.v.Handle().FS)
	if root == nil {
		return
	}
	p := &s.pass
	p.mu.Lock()
	b := p.open[id]
	if b == nil {
		b = &backing{}
		p.open[id] = b
	}
	b.refs++
	many := len(p.open) > maxPass
	p.mu.Unlock()
	f.node, f.b = id, b

	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pass == 0 && (b.plain > 0 || many || !s.register(r, id, f.v, root, b)) {
		b.plain++
		return
	}
	b.pass++
	f.pass = true
	out.OpenFlags = out.OpenFlags&^fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_PASSTHROUGH
	out.BackingID = b.id
	s.cnt.passed.Inc()
}

// register gives Linux the file behind a node. Preconditions: b.mu is held.
func (s *Server) register(r *request, id uint64, v *vfs.Vnode, root *backRoot, b *backing) bool {
	if s.unable.Load() {
		return false
	}
	f, err := s.behind(r, id, v, root)
	if err != nil {
		return false
	}
	var bid int32
	err = onFd(f, func(fd int) error {
		n, e := s.srv.RegisterBackingFd(&fuse.BackingMap{Fd: int32(fd)})
		if e != 0 {
			return e
		}
		bid = n
		return nil
	})
	if err != nil {
		f.Close()
		if err == unix.EPERM || err == unix.EOPNOTSUPP || err == unix.ENOTTY {
			s.unable.Store(true)
			s.o.Log.Warn("fuse: this Linux does no passthrough for us", "dir", s.dir, "err", host(err))
		}
		return false
	}
	b.id, b.f = bid, f
	return true
}

// unpass counts an open out.
func (s *Server) unpass(ctx context.Context, f *openFile) {
	b := f.b
	if b == nil {
		return
	}
	b.mu.Lock()
	if !f.pass {
		b.plain--
	} else if b.pass--; b.pass == 0 {
		s.srv.UnregisterBackingFd(b.id)
		b.f.Close()
		b.f = nil
	}
	b.mu.Unlock()
	s.pass.mu.Lock()
	if b.refs--; b.refs == 0 {
		delete(s.pass.open, f.node)
	}
	s.pass.mu.Unlock()
	if f.pass && f.f.Writable() {
		f.v.Touched(ctx) // nobody has told of the writes
	}
}

// fsync makes the file of the host durable.
func (b *backing) fsync(dataOnly bool) error {
	b.mu.Lock()
	f := b.f
	b.mu.Unlock()
	if f == nil {
		return abi.EBADF
	}
	return host(onFd(f, func(fd int) error {
		if dataOnly {
			return unix.Fdatasync(fd)
		}
		return unix.Fsync(fd)
	}))
}
