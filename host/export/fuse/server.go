package fuse

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Options say what to mount where.
type Options struct {
	Dir  string // where in the host, an existing directory
	Path string // what of the kernel; "" is "/"

	RO      bool // nothing can be changed through this mount
	NoCache bool // Linux keeps nothing
	Xattr   bool // extended attributes; each file's first write asks for one then

	// Backing is the host's directory that a mount of the kernel shows, open in
	// any way, if reads and writes of its files may pass by the kernel
	// (passthrough.go); nil without an error: it shows none. nil: nothing passes.
	Backing func(m vfs.MountInfo) (*os.File, error)

	// AllowOther lets other users in: always so if root mounts; for an ordinary
	// user /etc/fuse.conf must have user_allow_other.
	AllowOther bool

	Log   modapi.Logger                            // nil: silent
	Evcnt func(group, name string) *modapi.Counter // nil: not counted
}

// Server is one mount.
type Server struct {
	o   Options
	vfs *vfs.VFS
	dir string // absolute
	srv *fuse.Server
	ids idmap

	rootFsid abi.Fsid
	creds    sync.Map // uid<<32|gid: *abi.Caller

	mu      sync.RWMutex
	nodes   map[uint64]*node
	byVnode map[*vfs.Vnode]*node
	lastID  uint64
	files   map[uint64]*openFile
	lastFh  uint64

	pass   passing
	unable atomic.Bool // Linux refuses what passes by us

	lmu     sync.Mutex
	owners  map[uint64]*lockOwner // by Linux's number
	byPid   map[int32]*lockOwner
	lastPid int32

	qmu    sync.Mutex
	events []event       // protected by qmu
	moved  chan struct{} // protected by qmu; closed when passed has grown
	queued atomic.Uint64
	passed atomic.Uint64
	stuck  atomic.Bool // Linux does not take events: nobody waits
	wake   chan struct{}

	ended  chan struct{} // closed when Linux has ended the mount
	unhook func()
	tasks  sync.WaitGroup
	once   sync.Once
	cnt    struct{ invals, late, passed *modapi.Counter }
}

var _ fuse.RawFileSystem = (*Server)(nil)

// Mount mounts and serves o.Path until Close, or until somebody unmounts it.
// What a killed host has left on the directory is taken away. ENOENT and ENOTDIR
// of either path, EBUSY if another mount of ours is there, EPERM if this user
// cannot mount.
func Mount(ctx context.Context, k *vfs.VFS, o Options) (*Server, error) {
	if o.Path == "" {
		o.Path = "/"
	}
	if o.Log == nil {
		o.Log = silent{}
	}
	if o.Evcnt == nil {
		o.Evcnt = func(string, string) *modapi.Counter { return new(modapi.Counter) }
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("fuse %s: %w", o.Dir, err)
	}
	s := &Server{o: o, vfs: k, dir: dir, ids: hostIDs(), nodes: map[uint64]*node{}, byVnode: map[*vfs.Vnode]*node{}, lastID: rootID,
		files: map[uint64]*openFile{}, owners: map[uint64]*lockOwner{}, byPid: map[int32]*lockOwner{}, lastPid: firstPid,
		moved: make(chan struct{}), wake: make(chan struct{}, 1), ended: make(chan struct{})}
	s.cnt.invals, s.cnt.late, s.cnt.passed = o.Evcnt("fuse", "invalidations"), o.Evcnt("fuse", "late"), o.Evcnt("fuse", "passed")
	s.pass = passing{roots: map[abi.Fsid]*backRoot{}, open: map[uint64]*backing{}, hints: map[uint64]hint{}}
	root, err := k.Vget(ctx, vfs.Where{Caller: superuser}, o.Path)
	if err != nil {
		return nil, fmt.Errorf("fuse %s: %s: %w", o.Dir, o.Path, err)
	}
	if root.Type() != abi.VDIR {
		root.Rele()
		return nil, fmt.Errorf("fuse %s: %s: %w", o.Dir, o.Path, abi.ENOTDIR)
	}
	s.rootFsid = root.Handle().FS
	s.nodes[rootID] = &node{id: rootID, v: root, lookups: 1}
	s.byVnode[root] = s.nodes[rootID]
	root.Watch(1)
	if err := s.mount(); err != nil {
		s.letGo(nil)
		return nil, fmt.Errorf("fuse %s: %w", o.Dir, err)
	}
	s.unhook = k.AddWatcher(s)
	s.tasks.Go(s.invalidate)
	s.tasks.Go(s.serve)
	settlePoll(dir)
	return s, nil
}

// serverOptions are what go-fuse is told.
func (s *Server) serverOptions() *fuse.MountOptions {
	disabled := uint64(fuse.CAP_NO_OPEN_SUPPORT)
	if s.o.Backing == nil {
		disabled |= fuse.CAP_PASSTHROUGH
	}
	return &fuse.MountOptions{
		FsName: "rumpus", Name: "rumpus",
		MaxBackground: 64, MaxWrite: 1 << 20, MaxReadAhead: 1 << 20,
		EnableLocks: true, EnableSymlinkCaching: !s.o.NoCache, ExplicitDataCacheControl: !s.o.NoCache,
		ExtraCapabilities:    fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_READDIRPLUS_AUTO | fuse.CAP_HANDLE_KILLPRIV_V2,
		DisabledCapabilities: disabled,
		Logger:               log.New(io.Discard, "", 0),
		PanicHandler: func(v any) fuse.Status {
			panic(v) // a fault of ours: the host ends, as it does for every other
		},
	}
}

// serve answers Linux until the mount has ended, and lets everything go then.
func (s *Server) serve() {
	s.srv.Serve()
	s.unhook()
	close(s.ended)
	s.mu.Lock()
	files := s.files
	s.files = map[uint64]*openFile{}
	s.mu.Unlock()
	for _, f := range files {
		s.unpass(context.Background(), f)
		f.f.Release(context.Background())
	}
	s.dropRoots(0)
	s.lmu.Lock()
	pids := make([]int32, 0, len(s.byPid))
	for p := range s.byPid {
		pids = append(pids, p)
	}
	s.lmu.Unlock()
	for _, p := range pids {
		s.vfs.UnlockAll(p)
	}
	s.letGo(nil)
}

// Dir is where it is mounted, an absolute path.
func (s *Server) Dir() string { return s.dir }

// Path is what of the kernel is mounted.
func (s *Server) Path() string { return s.o.Path }

// Done is closed when the mount has ended, by whomever.
func (s *Server) Done() <-chan struct{} { return s.ended }

// closeWait is how long Close waits for programs that use the mount to have
// their answers.
const closeWait = 5 * time.Second

// Close unmounts and returns when nothing of the kernel is held any more. A
// mount in use is written back and taken away from its users. The error is that
// it is still there.
func (s *Server) Close() error {
	var err error
	s.once.Do(func() {
		select {
		case <-s.ended:
		default:
			err = s.unmount()
		}
	})
	t := time.NewTimer(closeWait)
	defer t.Stop()
	select {
	case <-s.ended:
		s.tasks.Wait()
		return nil
	case <-t.C:
		if err == nil {
			err = fmt.Errorf("fuse %s: still in use: %w", s.o.Dir, abi.EBUSY)
		}
		return err
	}
}

// Init implements fuse.RawFileSystem.
func (s *Server) Init(*fuse.Server) {}

// OnUnmount implements fuse.RawFileSystem.
func (s *Server) OnUnmount() {}

// SetDebug implements fuse.RawFileSystem.
func (s *Server) SetDebug(bool) {}

func (s *Server) String() string { return "rumpus" }

type silent struct{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}
