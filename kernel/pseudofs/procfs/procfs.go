// Package procfs is the file system of processes, NetBSD's mount_procfs(8):
//
//	PID, self, curproc     a directory for each process; the latter are links to
//	                       that of who asks
//	PID/cmdline            the name of the program, which is all that a client tells
//	PID/cwd, PID/root      links to its current and root directory
//	PID/fd/N               links: the path that descriptor N was opened by, or
//	                       TYPE:[number]
//	PID/limit              its limits, name, soft and hard one a line
//	PID/status             name pid ppid pgid sid flags, times, what it waits for,
//	                       and credentials, on one line
//
// and with the option linux, as there:
//
//	cpuinfo loadavg meminfo mounts uptime version PID/stat PID/statm
//
// A directory belongs to its process's effective user. What links tell, only he
// and the super-user may read (EACCES), and fd only they can search. A process
// that who asks may not know of is not there, as in ps(1). Names come and go
// with processes and descriptors; numbers of files are made of those, and a
// number's generation says which process it was, so that a handle of one that
// is gone stays ESTALE when its pid is another's.
//
// Times are 0,0 and there is no memory of processes to show: the kernel has no
// such accounts. Names of programs are the clients': bytes that would break a
// line are "?". It is built into the kernel; see package pseudofs for how it
// behaves.
//
// Locks: source.mu is a leaf, but for proc.Table's.
package procfs

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/pseudofs"
	"github.com/rumpus-kernel/rumpus/kernel/sysctl"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Deps is where the contents come from.
type Deps struct {
	Procs  *proc.Table
	VFS    *vfs.VFS
	Sysctl *sysctl.Tree // kern.version, hw.ncpu, hw.model, hw.physmem64
	Now    func() time.Time
	Booted time.Time
	Wmesg  func(pid int32) string                  // what it waits for; nil: nothing
	Sees   func(c *abi.Caller, of *proc.Proc) bool // may c know of it; nil: all
}

// Type is the file-system type "procfs".
type Type struct{ d Deps }

// New makes the file-system type.
func New(d Deps) *Type { return &Type{d} }

var _ vfsops.FSType = (*Type)(nil)

// Mount makes a procfs. The only option is linux, a truth value (EINVAL); the
// source means nothing.
func (t *Type) Mount(_ context.Context, req *vfsops.MountReq) (vfsops.FS, error) {
	s := &source{d: t.d, born: make(map[int32]birth)}
	for k, v := range req.Options {
		if k != "linux" {
			return nil, abi.EINVAL
		}
		switch v {
		case "", "true", "yes", "on", "1":
			s.linux = true
		case "false", "no", "off", "0":
		default:
			return nil, abi.EINVAL
		}
	}
	return pseudofs.New(req, s), nil
}

// Numbers of files: the process (0: none) from bit 28 on, then the descriptor
// plus 1 (0: none) from bit 8 on, then which file it is.
const (
	pidShift = 28
	fdShift  = 8
	kindMask = 1<<fdShift - 1
	fdMask   = 1<<(pidShift-fdShift) - 1
)

// rootID is the number of the root directory.
const rootID abi.Fileid = 2

// fdKind is the number of the directory fd among a process's files.
const fdKind = 100

func number(pid int32, fd, kind int) abi.Fileid {
	return abi.Fileid(uint64(pid)+1)<<pidShift | abi.Fileid(fd+1)<<fdShift | abi.Fileid(kind)
}

// birth is which process a pid was, last time that somebody looked.
type birth struct {
	p   *proc.Proc
	gen abi.Gen
}

type source struct {
	d     Deps
	linux bool

	mu      sync.Mutex
	born    map[int32]birth // protected by mu
	lastGen abi.Gen         // protected by mu
}

// genOf is the generation of a process's files.
func (s *source) genOf(p *proc.Proc) abi.Gen {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, ok := s.born[p.Pid]; ok && b.p == p {
		return b.gen
	}
	if len(s.born) >= 2*proc.MaxProcs {
		for pid, b := range s.born {
			if q, err := s.d.Procs.Find(pid); err != nil || q != b.p {
				delete(s.born, pid)
			}
		}
	}
	s.lastGen++
	s.born[p.Pid] = birth{p, s.lastGen}
	return s.lastGen
}

func (s *source) sees(c *abi.Caller, p *proc.Proc) bool {
	return c == nil || s.d.Sees == nil || s.d.Sees(c, p)
}

// procs are the processes that c may know of, by pid.
func (s *source) procs(c *abi.Caller) []*proc.Proc {
	var ps []*proc.Proc
	s.d.Procs.Each(func(p *proc.Proc) {
		if s.sees(c, p) {
			ps = append(ps, p)
		}
	})
	slices.SortFunc(ps, func(a, b *proc.Proc) int { return int(a.Pid) - int(b.Pid) })
	return ps
}

// pidOf reads the name of a process's directory: a number as the kernel writes
// it.
func pidOf(name string) (int32, bool) {
	n, err := strconv.ParseInt(name, 10, 32)
	return int32(n), err == nil && n >= 0 && strconv.FormatInt(n, 10) == name
}

// Root is the root directory.
func (s *source) Root() pseudofs.Node {
	return pseudofs.Node{ID: rootID, Gen: 1, Type: abi.VDIR, Mode: 0o555, List: func(_ context.Context, c *abi.Caller) []pseudofs.Node {
		ns := s.tops()
		for _, p := range s.procs(c) {
			ns = append(ns, s.procDir(p))
		}
		return ns
	}}
}

// tops are the files of the root directory that are no processes'.
func (s *source) tops() []pseudofs.Node {
	var ns []pseudofs.Node
	for i, t := range topFiles {
		if t.linux && !s.linux {
			continue
		}
		n := pseudofs.Node{Name: t.name, ID: rootID + 1 + abi.Fileid(i), Gen: 1, Type: t.typ, Mode: 0o444}
		if t.typ == abi.VLNK {
			n.Mode = 0o777
		}
		n.Read = func(ctx context.Context, c *abi.Caller) ([]byte, error) { return t.read(ctx, s, c) }
		ns = append(ns, n)
	}
	return ns
}

func (s *source) node(p *proc.Proc, name string, id abi.Fileid, typ abi.VType, mode uint32) pseudofs.Node {
	c := p.Cred()
	return pseudofs.Node{Name: name, ID: id, Gen: s.genOf(p), Type: typ, Mode: mode, Uid: c.Euid, Gid: c.Egid}
}

// procDir is the directory of a process.
func (s *source) procDir(p *proc.Proc) pseudofs.Node {
	n := s.node(p, strconv.Itoa(int(p.Pid)), number(p.Pid, -1, 0), abi.VDIR, 0o555)
	n.List = func(context.Context, *abi.Caller) []pseudofs.Node { return s.procFiles(p) }
	return n
}

// procFiles are the files of a process.
func (s *source) procFiles(p *proc.Proc) []pseudofs.Node {
	var ns []pseudofs.Node
	for i, t := range procFiles {
		if t.linux && !s.linux {
			continue
		}
		n := s.node(p, t.name, number(p.Pid, -1, i+1), t.typ, 0o444)
		read := t.read
		if t.typ == abi.VLNK {
			n.Mode = 0o777
			read = owned(p, read)
		}
		n.Read = func(ctx context.Context, c *abi.Caller) ([]byte, error) { return read(ctx, s, c, p) }
		ns = append(ns, n)
	}
	n := s.node(p, "fd", number(p.Pid, -1, fdKind), abi.VDIR, 0o500)
	n.List = func(context.Context, *abi.Caller) []pseudofs.Node { return s.fds(p) }
	return append(ns, n)
}

// owned lets only the process's user and the super-user read. EACCES.
func owned(p *proc.Proc, read readProc) readProc {
	return func(ctx context.Context, s *source, c *abi.Caller, q *proc.Proc) ([]byte, error) {
		if c == nil || c.Cred.Euid != 0 && c.Cred.Euid != p.Cred().Euid {
			return nil, abi.EACCES
		}
		return read(ctx, s, c, q)
	}
}

// fds are the descriptors of a process.
func (s *source) fds(p *proc.Proc) []pseudofs.Node {
	var ns []pseudofs.Node
	p.Fd.Each(func(fd int, f *file.File) {
		if fd < fdMask {
			ns = append(ns, s.fdNode(p, fd))
		}
	})
	slices.SortFunc(ns, func(a, b pseudofs.Node) int { return int(a.ID>>fdShift&fdMask) - int(b.ID>>fdShift&fdMask) })
	return ns
}

func (s *source) fdNode(p *proc.Proc, fd int) pseudofs.Node {
	n := s.node(p, strconv.Itoa(fd), number(p.Pid, fd, fdKind), abi.VLNK, 0o777)
	read := owned(p, func(ctx context.Context, s *source, c *abi.Caller, p *proc.Proc) ([]byte, error) {
		return s.fdText(ctx, p, fd)
	})
	n.Read = func(ctx context.Context, c *abi.Caller) ([]byte, error) { return read(ctx, s, c, p) }
	return n
}

// fdNow finds a descriptor that is open now.
func (s *source) fdNow(p *proc.Proc, fd int) (pseudofs.Node, bool) {
	f, err := p.Fd.Get(fd)
	if err != nil {
		return pseudofs.Node{}, false
	}
	f.Release(context.Background())
	return s.fdNode(p, fd), true
}

// Find finds a file by its number.
func (s *source) Find(_ context.Context, id abi.Fileid, gen abi.Gen) (pseudofs.Node, bool) {
	none := pseudofs.Node{}
	if id>>pidShift == 0 {
		if gen != 1 {
			return none, false
		}
		if id == rootID {
			return s.Root(), true
		}
		return pick(s.tops(), func(n *pseudofs.Node) bool { return n.ID == id })
	}
	pid := uint64(id>>pidShift) - 1
	if pid > 1<<31-1 {
		return none, false
	}
	p, err := s.d.Procs.Find(int32(pid))
	if err != nil || s.genOf(p) != gen {
		return none, false
	}
	fd, kind := int(id>>fdShift&fdMask)-1, id&kindMask
	switch {
	case fd >= 0 && kind == fdKind:
		return s.fdNow(p, fd)
	case fd >= 0:
		return none, false
	case kind == 0:
		return s.procDir(p), true
	}
	return pick(s.procFiles(p), func(n *pseudofs.Node) bool { return n.ID == id })
}

func pick(ns []pseudofs.Node, fn func(n *pseudofs.Node) bool) (pseudofs.Node, bool) {
	for i := range ns {
		if fn(&ns[i]) {
			return ns[i], true
		}
	}
	return pseudofs.Node{}, false
}

// Child finds an entry of a directory.
func (s *source) Child(_ context.Context, c *abi.Caller, dir *pseudofs.Node, name string) (pseudofs.Node, bool) {
	none := pseudofs.Node{}
	if dir.ID == rootID {
		if pid, ok := pidOf(name); ok {
			p, err := s.d.Procs.Find(pid)
			if err != nil || !s.sees(c, p) {
				return none, false
			}
			return s.procDir(p), true
		}
		return pick(s.tops(), func(n *pseudofs.Node) bool { return n.Name == name })
	}
	p, err := s.d.Procs.Find(int32(uint64(dir.ID>>pidShift) - 1))
	if err != nil || s.genOf(p) != dir.Gen {
		return none, false
	}
	if dir.ID&kindMask == fdKind {
		fd, ok := pidOf(name)
		if !ok || fd >= fdMask {
			return none, false
		}
		return s.fdNow(p, int(fd))
	}
	return pick(s.procFiles(p), func(n *pseudofs.Node) bool { return n.Name == name })
}
