package vfs

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/journal"
	"github.com/rumpus-kernel/rumpus/kernel/store"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// AuthFn is the second half of an authorisation, the vnode scope of kauth: it
// is told what is wanted of a file with attributes va, and what the file
// system's own rules say (fsErr, nil = allowed), and has the last word. va is
// valid during the call only.
type AuthFn func(c *abi.Caller, want abi.AccMode, va *abi.Vattr, fsErr error) error

// Options configure a VFS. Everything may be left zero.
type Options struct {
	Now         func() abi.Timespec // time for files; the host's clock
	Rand        func() uint64       // seeds for file systems
	MemLimit    int64               // bytes for all caches together, see Memory; 0 = a quarter of RAM
	MaxVnodes   int                 // vnodes kept without users, if MemLimit has room; 0 = 65536
	MaxNames    int                 // names in the name cache, if MemLimit has room; 0 = 131072
	Log         modapi.Logger       //
	Authorize   AuthFn              // nil: effective uid 0 may do everything
	Files       *file.Table         // nil: a table of its own, 65536 files
	RestartWait time.Duration       // how long callers wait for a dead component; 0 = 5 s
	Evcnt       func(group, name string) *modapi.Counter

	// Shrink frees cached blocks of devices (BlockMemory) and answers how
	// many bytes. It must not wait. nil: there are none.
	Shrink func(want int64) int64

	// Privileged says whether c may do what only the super-user may: action is
	// "mount", "unmount", "mknod", "chroot" or "chsysflags". nil: effective uid 0, else EPERM.
	Privileged func(c *abi.Caller, action string) error

	// OpenDev opens the device that a device vnode stands for. The Ops get
	// data as File.Data. nil: ENXIO.
	OpenDev func(ctx context.Context, c *abi.Caller, dev abi.Dev, blk bool, flags int) (ops file.Ops, data any, err error)

	// OpenFifo opens a fifo; a is where the fifo's state is kept as long as
	// the vnode is in use. nil: EOPNOTSUPP.
	OpenFifo func(ctx context.Context, c *abi.Caller, a *Assoc, flags int) (ops file.Ops, data any, err error)

	// Lockcnt is told when a user has d more record locks (chglockcnt). It must
	// not wait.
	Lockcnt func(uid uint32, d int)

	// Drain runs fn, which reclaims vnodes and may wait, soon and not under the
	// caller's locks; at most one is under way. nil: in a goroutine.
	Drain func(fn func())

	// Async runs fn, which reads pages ahead or writes them behind, without
	// the caller; it may do so at once, and so is called without locks. nil:
	// at once.
	Async func(fn func(ctx context.Context))

	// LowMemory is told that pages of files have reached MemLimit. It must not
	// wait.
	LowMemory func()

	// Backing is what is below a mount with a journal and has to be committed
	// with its checkpoints: the layers over its device. If it is a
	// journal.Syncer, fsync and sync take a checkpoint and call that. nil, or
	// nil answered: there is nothing.
	Backing func(instance string, id abi.Fsid) journal.Backing

	// Disk opens the block device of a mount for a file system with
	// vfsops.CapBlock, which finds it by modapi.Kernel.Block. ENXIO, ENOTBLK,
	// EBUSY, EROFS. nil: there are none.
	Disk func(ctx context.Context, req DiskReq) (Disk, error)

	// Events has replays, divergences and poison. nil: nobody wants to know.
	Events *evlog.Log

	// Poison is told of a request that killed the process of a file system
	// twice, and answers for Events where that can be found. Recovery waits for
	// it; it must not call the VFS.
	Poison func(p *Poison) string

	Journal      journal.Limits                          // of every mount's journal
	JournalFault func(p journal.Fault, e *journal.Entry) // for tests, see journal.Options

	// Autoload is asked once for an unknown file-system type at mount.
	Autoload func(ctx context.Context, fstype string) error
}

// Assoc is what another layer keeps with a vnode in use: the pipe of a fifo,
// the socket bound to a name. Its owner uses the lock.
type Assoc struct {
	sync.Mutex
	V any
}

// VFS is one kernel's virtual file system.
type VFS struct {
	o         Options
	available atomic.Bool
	nc        *nameCache
	pool      *pagePool
	lists     *dirLists
	mem       *memory
	maxVnodes int64
	cnt       counters
	lk        lockTable

	opMu     sync.Mutex     // one mount, unmount or remount at a time
	mu       sync.RWMutex   // mount table
	mounts   []*Mount       // changed with opMu and mu held; in order of mounting
	deaths   map[string]int // protected by mu; how often an instance died
	types    []*fsType      // protected by mu; by rank of the instance, then in order of attaching
	ranks    map[string]int // of instances, in the order of their first attaching; protected by mu
	lastFsid abi.Fsid       // protected by opMu
	root     atomic.Pointer[Mount]

	storeMu   sync.Mutex               // leaf
	stores    map[abi.Fsid]*mountStore // protected by storeMu; of mounts that are or are being made
	storeCnt  *store.Counters
	instances chan struct{}       // closed when an instance goes or comes; protected by mu
	down      map[string]bool     // instances without a process; protected by mu
	gone      map[string][]string // the types that such ones had; protected by mu

	watchMu  sync.Mutex                // protects changes of watchers
	watchers atomic.Pointer[[]Watcher] // nil: none

	nvnodes  atomic.Int64
	nextID   atomic.Uint64 // identities for the name cache
	draining atomic.Bool
	clockMu  sync.Mutex
	clock    []*Vnode // protected by clockMu; vnodes in the table
	hand     int      // protected by clockMu
	pageHand int      // protected by clockMu; of the eviction of pages
}

type fsType struct {
	instance, name string
	t              vfsops.FSType
	caps           vfsops.Caps
	users          int  // mounts in progress, protected by VFS.mu
	hidden         bool // from HideFS to ShowFS or for good, protected by VFS.mu
}

// counters are the event counters of this package.
type counters struct {
	lookups, opens, mutations, stale, reclaims, restarts       *modapi.Counter
	ncHits, ncMisses, ncNegHits, ncEvicted                     *modapi.Counter
	pgReads, pgWrites, pgMisses, pgWritten, pgEvicted, pgAhead *modapi.Counter
	dirHits, dirMisses                                         *modapi.Counter
}

// New makes a VFS without mounts and types. The component slot starts empty,
// see SetAvailable.
func New(o Options) *VFS {
	if o.Now == nil {
		o.Now = func() abi.Timespec { return abi.TimespecOf(time.Now()) }
	}
	if o.Rand == nil {
		o.Rand = rand.Uint64
	}
	if o.Log == nil {
		o.Log = nopLog{}
	}
	if o.Authorize == nil {
		o.Authorize = DefaultAuthorize
	}
	if o.Privileged == nil {
		o.Privileged = defaultPrivileged
	}
	if o.Files == nil {
		o.Files = &file.Table{}
		o.Files.Max.Store(65536)
	}
	if o.RestartWait == 0 {
		o.RestartWait = 5 * time.Second
	}
	if o.MaxVnodes <= 0 {
		o.MaxVnodes = 65536
	}
	if o.MaxNames <= 0 {
		o.MaxNames = 131072
	}
	if o.MemLimit <= 0 {
		o.MemLimit = defaultMemLimit()
	}
	if o.Drain == nil {
		o.Drain = func(fn func()) { go fn() }
	}
	if o.Async == nil {
		o.Async = func(fn func(context.Context)) { fn(context.Background()) }
	}
	if o.LowMemory == nil {
		o.LowMemory = func() {}
	}
	if o.Evcnt == nil {
		o.Evcnt = func(string, string) *modapi.Counter { return new(modapi.Counter) }
	}
	fs := &VFS{o: o, deaths: map[string]int{}, ranks: map[string]int{}, down: map[string]bool{}, gone: map[string][]string{}, instances: make(chan struct{}),
		stores: map[abi.Fsid]*mountStore{}, storeCnt: store.NewCounters(o.Evcnt)}
	e := o.Evcnt
	fs.cnt = counters{
		lookups: e("vfs", "lookups"), opens: e("vfs", "opens"), mutations: e("vfs", "mutations"),
		stale: e("vfs", "stale_retries"), reclaims: e("vfs", "reclaims"), restarts: e("vfs", "remounts"),
		ncHits: e("namecache", "hits"), ncMisses: e("namecache", "misses"),
		ncNegHits: e("namecache", "neg_hits"), ncEvicted: e("namecache", "evictions"),
		pgReads: e("pagecache", "reads"), pgWrites: e("pagecache", "writes"), pgMisses: e("pagecache", "misses"),
		pgWritten: e("pagecache", "pages_written"), pgEvicted: e("pagecache", "evictions"), pgAhead: e("pagecache", "readahead"),
		dirHits: e("vfs", "dir_hits"), dirMisses: e("vfs", "dir_misses"),
	}
	fs.mem = &memory{limit: max(o.MemLimit, pageSize)}
	fs.maxVnodes = max(min(int64(o.MaxVnodes), fs.mem.share()/vnodeBytes), 1)
	fs.nc = newNameCache(o.MaxNames, fs.mem, &fs.cnt)
	fs.lists = &dirLists{mem: fs.mem}
	fs.lk.count = o.Lockcnt
	fs.pool = newPagePool(fs.mem)
	fs.pool.evict = fs.makeRoom
	return fs
}

// SetAvailable fills or empties the component slot. While it is empty every
// path operation answers EOPNOTSUPP.
func (fs *VFS) SetAvailable(on bool) { fs.available.Store(on) }

// Available reports whether the component slot is filled.
func (fs *VFS) Available() bool { return fs.available.Load() }

var errUnavailable = fmt.Errorf("vfs component not available: %w", abi.EOPNOTSUPP)

// PageBytes is the memory that file pages take, in bytes (the gauge
// pagecache_bytes).
func (fs *VFS) PageBytes() int64 { return fs.mem.by[memPages].Load() }

// Vnodes is how many vnodes there are, in use or cached.
func (fs *VFS) Vnodes() int64 { return fs.nvnodes.Load() }

// AttachFS adds a file-system type under a name (vfs_attach). Types of
// different instances may have the same name; a mount says which it means, or
// gets the first. instance "" is the kernel itself. EEXIST if the instance has
// one of that name; EINVAL for an empty name or one over 31 bytes, and for
// CapKpages without CapSole.
func (fs *VFS) AttachFS(instance, name string, t vfsops.FSType, caps vfsops.Caps) error {
	if name == "" || len(name) >= abi.MFSNAMELEN || t == nil {
		return fmt.Errorf("file-system type %q: %w", name, abi.EINVAL)
	}
	if caps&vfsops.CapKpages != 0 && caps&vfsops.CapSole == 0 {
		return fmt.Errorf("file-system type %s: kpages without sole: %w", name, abi.EINVAL)
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if old := fs.typeLocked(instance, name, true); old != nil && fs.down[instance] {
		// Of a process that ended before all its modules were there.
		fs.types = slices.DeleteFunc(fs.types, func(t *fsType) bool { return t == old })
	} else if old != nil {
		return fmt.Errorf("file-system type %s: %w", name, abi.EEXIST)
	}
	// A restarted instance gets its place back, so that a mount that names
	// none always finds the same one.
	rank, known := fs.ranks[instance]
	if !known {
		rank = len(fs.ranks)
		fs.ranks[instance] = rank
	}
	at := slices.IndexFunc(fs.types, func(o *fsType) bool { return fs.ranks[o.instance] > rank })
	if at < 0 {
		at = len(fs.types)
	}
	fs.types = slices.Insert(fs.types, at, &fsType{instance: instance, name: name, t: t, caps: caps})
	return nil
}

// typeLocked finds a type; exact: of that instance, else "" means any that is
// not hidden.
func (fs *VFS) typeLocked(instance, name string, exact bool) *fsType {
	for _, t := range fs.types {
		if t.name == name && (t.instance == instance || !exact && instance == "") && (exact || !t.hidden) {
			return t
		}
	}
	return nil
}

// DetachInstance takes away all types of an instance (vfs_detach). EBUSY while
// something of it is mounted and the instance is not down.
func (fs *VFS) DetachInstance(instance string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, m := range fs.mounts {
		if m.instance == instance && m.up() {
			return fmt.Errorf("%s is mounted on %s: %w", m.typ, m.dir, abi.EBUSY)
		}
	}
	fs.dropTypesLocked(instance)
	if fs.gone[instance] != nil { // nobody is to come
		delete(fs.gone, instance)
		close(fs.instances)
		fs.instances = make(chan struct{})
	}
	return nil
}

func (fs *VFS) dropTypesLocked(instance string) {
	fs.types = slices.DeleteFunc(fs.types, func(t *fsType) bool { return t.instance == instance })
}

// TypeInfo describes an attached file-system type.
type TypeInfo struct {
	Name, Instance string
	Caps           vfsops.Caps
}

// Types lists the attached file-system types in order.
func (fs *VFS) Types() []TypeInfo {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	r := make([]TypeInfo, 0, len(fs.types))
	for _, t := range fs.types {
		r = append(r, TypeInfo{t.name, t.instance, t.caps})
	}
	return r
}

// op makes what every mutator carries. Preconditions: the locks that order the
// mutator are held.
func (m *Mount) op(c *abi.Caller) vfsops.Op {
	m.vfs.cnt.mutations.Inc()
	return vfsops.Op{Seq: abi.OpSeq(m.opseq.Add(1)), Now: m.vfs.o.Now(), Seed: m.vfs.o.Rand(), Caller: c}
}

type nopLog struct{}

func (nopLog) Debug(string, ...any) {}
func (nopLog) Info(string, ...any)  {}
func (nopLog) Warn(string, ...any)  {}
func (nopLog) Error(string, ...any) {}
