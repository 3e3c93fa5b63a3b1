package vfs

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/journal"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Mount is a mounted file system (struct mount).
type Mount struct {
	vfs      *VFS
	fsid     abi.Fsid
	typ      string
	source   string
	dir      string // where, as an absolute path at the time of mounting
	instance string
	options  map[string]string // as given, without flags; never changed
	nocache  bool              // the option; never changed
	norec    bool              // the option norecover; never changed
	robelow  bool              // its file system was told ro, of which it has no second thoughts; never changed
	j        *journal.FS       // nil: it has none; never changed once it is mounted
	jnow     atomic.Pointer[journal.FS]
	disk     Disk            // nil: it has none; never changed once it is mounted
	mreq     vfsops.MountReq // with which it was mounted, if it has a journal; the same
	null     *nullFS         // of nullfs; never changed once it is mounted
	flags    atomic.Uint64   // MNT_*
	root     *Vnode
	on       atomic.Pointer[Vnode] // the directory covered; nil: the root of all

	b        atomic.Pointer[binding] // nil while down
	next     atomic.Pointer[binding] // during a remount: the one to come
	caps     atomic.Uint64           // of the last binding
	gone     atomic.Bool             // unmounted
	leaving  atomic.Bool             // being unmounted: nothing is read ahead or written behind
	asyncs   atomic.Int32            // reads ahead and writes behind under way
	opseq    atomic.Uint64
	started  atomic.Uint64 // mutators begun
	finished atomic.Uint64 // mutators whose results are in the caches

	stateMu   sync.Mutex
	changed   chan struct{} // protected by stateMu; closed at the next change of b
	downUntil time.Time     // protected by stateMu

	renameMu  sync.Mutex
	reclaimMu sync.RWMutex

	vmu    sync.Mutex
	vnodes map[vkey]*Vnode    // protected by vmu
	kdata  map[vkey]*fileData // protected by vmu; contents of kpages files
	treeMu sync.RWMutex

	forgetMu sync.Mutex
	forget   []abi.Handle // protected by forgetMu
	unpins   []unpin      // protected by forgetMu
	unpinMu  sync.Mutex   // held while unpins are sent; see unpinNow

	resMu sync.Mutex
	res   reservation // protected by resMu
}

func (m *Mount) has(c vfsops.Caps) bool { return vfsops.Caps(m.caps.Load())&c != 0 }
func (m *Mount) sole() bool             { return m.has(vfsops.CapSole) }
func (m *Mount) kpages() bool           { return m.has(vfsops.CapKpages) }
func (m *Mount) casefold() bool         { return m.has(vfsops.CapCasefold) }

// names reports whether names, attributes, texts of symbolic links and listings
// may be answered from the caches.
func (m *Mount) names() bool { return m.sole() && !m.nocache }

func (m *Mount) paged() bool {
	return m.sole() && m.has(vfsops.CapKpages|vfsops.HasPager)
}
func (m *Mount) authz() bool    { return m.has(vfsops.CapAuthz) }
func (m *Mount) readonly() bool { return m.flags.Load()&abi.MNT_RDONLY != 0 }

// MountArgs say what to mount where.
type MountArgs struct {
	Type     string
	Source   string
	Dir      string
	Options  map[string]string // words from -o; a flag has the value "", "true" or "false"
	Flags    uint64            // MNT_*
	Instance string            // whose type, if several have it; "" = any
}

// MountInfo describes a mount.
type MountInfo struct {
	Fsid              abi.Fsid
	Type, Source, Dir string
	Instance          string
	Flags             uint64
	Options           map[string]string
	Caps              vfsops.Caps
	Up                bool // false while its component is dead
	Recovers          bool // nothing is lost when its component dies
}

// flagOptions are the options that the kernel understands itself.
var flagOptions = map[string]uint64{
	"ro": abi.MNT_RDONLY, "rdonly": abi.MNT_RDONLY, "noexec": abi.MNT_NOEXEC, "nosuid": abi.MNT_NOSUID,
	"nodev": abi.MNT_NODEV, "noatime": abi.MNT_NOATIME, "sync": abi.MNT_SYNCHRONOUS, "async": abi.MNT_ASYNC,
	"nocoredump": abi.MNT_NOCOREDUMP, "relatime": abi.MNT_RELATIME, "update": abi.MNT_UPDATE, "force": abi.MNT_FORCE,
}

// inverse are options that take a flag away.
var inverseOptions = map[string]uint64{
	"rw": abi.MNT_RDONLY, "exec": abi.MNT_NOEXEC, "suid": abi.MNT_NOSUID, "dev": abi.MNT_NODEV, "atime": abi.MNT_NOATIME,
}

// splitOptions takes the kernel's own options out of opts. EINVAL for a flag
// with a value that is no truth value.
func splitOptions(opts map[string]string, flags uint64) (map[string]string, uint64, error) {
	rest := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(opts)) {
		set, clear := flagOptions[k], inverseOptions[k]
		if set|clear == 0 {
			rest[k] = opts[k]
			continue
		}
		on, err := truth(k, opts[k])
		if err != nil {
			return nil, 0, err
		}
		if !on {
			set, clear = clear, set
		}
		flags = flags&^clear | set
	}
	return rest, flags, nil
}

// truth is the value of an option that is a truth value. EINVAL.
func truth(name, value string) (bool, error) {
	switch value {
	case "", "true", "yes", "on", "1":
		return true, nil
	case "false", "no", "off", "0":
		return false, nil
	}
	return false, fmt.Errorf("mount option %s=%s: %w", name, value, abi.EINVAL)
}

// optNocache is the option with which the kernel answers nothing about a mount
// from its caches: every name, attribute and listing is asked for each time,
// and contents are read and written where they are. Contents that have no other
// place than the kernel's pages (CapKpages, or a Pager without a Writer) stay in
// them. It is the kernel's own: file systems do not see it.
const optNocache = "nocache"

// takeOption takes an option of the kernel's own out of opts and answers it.
// EINVAL.
func takeOption(opts map[string]string, name string) (bool, error) {
	value, given := opts[name]
	if !given {
		return false, nil
	}
	delete(opts, name)
	return truth(name, value)
}

// Mount mounts a file system and answers its id; with MNT_UPDATE it changes
// the flags of the mount at args.Dir. EPERM; ENODEV for an unknown type, after
// one try to autoload it; EINVAL for a bad option; ENOTDIR, ENOENT for the
// directory; and what the file system answers. The first mount must be at "/".
func (fs *VFS) Mount(ctx context.Context, w Where, args MountArgs) (abi.Fsid, error) {
	if err := fs.o.Privileged(w.Caller, "mount"); err != nil {
		return 0, fmt.Errorf("mount %s: %w", args.Dir, err)
	}
	opts, flags, err := splitOptions(args.Options, args.Flags)
	if err != nil {
		return 0, err
	}
	nocache, err := takeOption(opts, optNocache)
	if err != nil {
		return 0, err
	}
	norec, err := takeOption(opts, optNorecover)
	if err != nil {
		return 0, err
	}
	if flags&abi.MNT_UPDATE != 0 {
		if nocache || norec {
			return 0, fmt.Errorf("mount update %s: nocache and norecover cannot change: %w", args.Dir, abi.EINVAL)
		}
		for _, o := range slices.Sorted(maps.Keys(opts)) {
			return 0, fmt.Errorf("mount update %s: the option %s cannot change: %w", args.Dir, o, abi.EOPNOTSUPP)
		}
		return fs.mountUpdate(ctx, w, args.Dir, flags)
	}
	if flags&abi.MNT_UNION != 0 {
		return 0, fmt.Errorf("mount %s: no mount shows what is below it, so that there is no option union: %w", args.Dir, abi.EOPNOTSUPP)
	}
	if flags&(abi.MNT_GETARGS|abi.MNT_RELOAD) != 0 {
		return 0, fmt.Errorf("mount %s: %w", args.Dir, abi.EOPNOTSUPP)
	}
	flags &= abi.MNT_BASIC_FLAGS | abi.MNT_IGNORE
	for {
		id, instance, deaths, err := fs.mountNew(ctx, w, args, &Mount{vfs: fs, options: opts, nocache: nocache, norec: norec, robelow: flags&abi.MNT_RDONLY != 0}, flags)
		if err == nil || !fs.mountAgain(ctx, instance, deaths, err) {
			return id, err
		}
	}
}

// mountNew mounts m, of which the options are set. If it fails, it says which
// instance it was about, and how often that had died.
func (fs *VFS) mountNew(ctx context.Context, w Where, args MountArgs, m *Mount, flags uint64) (_ abi.Fsid, instance string, deaths int, err error) {
	id, err := fs.mountOnce(ctx, w, args, m, flags, &deaths)
	return id, m.instance, deaths, err
}

func (fs *VFS) mountOnce(ctx context.Context, w Where, args MountArgs, m *Mount, flags uint64, deaths *int) (abi.Fsid, error) {
	t, err := fs.findType(ctx, args.Instance, args.Type)
	if err != nil {
		return 0, err
	}
	defer fs.leaveType(t)
	m.instance, *deaths = t.instance, fs.deathsOf(t.instance)
	mt, put, err := fs.layer(ctx, w, t, args.Source)
	if err != nil {
		return 0, err
	}
	defer put()
	var on *Vnode
	dir := "/"
	if fs.root.Load() != nil {
		if on, err = fs.namei(ctx, w, args.Dir, followLink); err != nil {
			return 0, err
		}
	}
	fs.opMu.Lock()
	defer fs.opMu.Unlock()
	ctx = noWait(ctx)
	if on != nil {
		on = crossDownHeld(on)
		defer on.put() // the mount takes a reference of its own
		if on.typ != abi.VDIR {
			return 0, abi.ENOTDIR
		}
		if dir, err = fs.pathOf(on, nil); err != nil {
			return 0, err
		}
	} else if fs.root.Load() != nil {
		return 0, fmt.Errorf("a file system is mounted there: %w", abi.EBUSY)
	} else if args.Dir != "/" {
		return 0, fmt.Errorf("there is no root file system: %w", abi.ENOENT)
	}
	m.typ, m.source, m.dir = args.Type, args.Source, dir
	m.changed, m.vnodes, m.kdata = make(chan struct{}), map[vkey]*Vnode{}, map[vkey]*fileData{}
	m.fsid = fs.lastFsid + 1
	if t.instance == "" || t.caps&vfsops.CapSole != 0 {
		flags |= abi.MNT_LOCAL
	}
	if on == nil {
		flags |= abi.MNT_ROOTFS
	}
	m.flags.Store(flags)
	if err := fs.distinct(mt.t, on); err != nil {
		return 0, fmt.Errorf("%s: %w", args.Source, err)
	}
	b, root, err := m.start(ctx, mt, w.Caller)
	if err != nil {
		return 0, err
	}
	fs.lastFsid++
	if on != nil {
		on.mu.Lock() // nobody removes or renames it
		defer on.mu.Unlock()
		if err := on.err(); err != nil || on.unlinked.Load() {
			b.fs.Unmount(ctx)
			m.ended()
			return 0, fmt.Errorf("%s is gone: %w", dir, abi.ENOENT)
		}
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.deaths[t.instance] != *deaths {
		m.ended()
		return 0, fmt.Errorf("%w: %w", errMountDied, abi.EIO)
	}
	m.setBinding(b, time.Time{})
	m.null, _ = b.fs.(*nullFS)
	m.root = m.newVnode(&root)
	m.root.valid = m.sole()
	m.vnodes[m.root.key()] = m.root
	fs.clockAdd(m.root)
	fs.mounts = append(fs.mounts, m)
	if on == nil {
		fs.root.Store(m)
	} else {
		on.hold()
		m.on.Store(on)
		on.mounted.Store(m)
		on.placeChanged(ctx)
	}
	return m.fsid, nil
}

// start mounts the file system itself and asks for its root.
func (m *Mount) start(ctx context.Context, t *fsType, c *abi.Caller) (*binding, vfsops.Entry, error) {
	none := vfsops.Entry{}
	req := &vfsops.MountReq{Fsid: m.fsid, Type: m.typ, Source: m.source, Options: maps.Clone(m.options), ReadOnly: m.robelow, Op: m.op(c)}
	if t.caps&vfsops.CapCheckpoint != 0 {
		m.vfs.openStore(m, false)
	}
	if err := m.openDisk(ctx, t, req); err != nil {
		m.vfs.closeStore(m)
		return nil, none, err
	}
	f, err := t.t.Mount(ctx, req)
	if err == nil && f == nil {
		err = abi.EIO
	}
	if err != nil {
		m.closeDisk()
		m.vfs.closeStore(m)
		return nil, none, err
	}
	b := newBinding(f, t.caps)
	if m.nocache {
		b.uncache()
	}
	root, err := f.Root(ctx)
	if err == nil && (root.Vattr.Type != abi.VDIR || root.Handle.FS != m.fsid || root.Handle.File == 0 ||
		root.Handle != root.Vattr.Handle(m.fsid)) {
		err = fmt.Errorf("impossible root %v: %w", root.Handle, abi.EIO)
	}
	if err != nil {
		f.Unmount(ctx)
		m.closeDisk()
		m.vfs.closeStore(m)
		return nil, none, err
	}
	if b.caps&vfsops.CapRecoverable == vfsops.CapRecoverable && !m.norec && m.root == nil {
		m.j = m.journaled(f, root.Handle, req)
		m.jnow.Store(m.j)
		b = newBinding(m.j, t.caps)
		if m.nocache {
			b.uncache()
		}
		if m.j.Syncs() {
			b.syncer = m.j
		}
	}
	return b, root, nil
}

// ended frees what a mount has beside its vnodes. The file system has been
// unmounted, or its process is dead.
func (m *Mount) ended() {
	if m.j != nil {
		m.j.Close()
	}
	m.closeDisk()
	m.vfs.closeStore(m)
}

// findType finds a type, trying to autoload an unknown one once. It is in use
// until leaveType.
func (fs *VFS) findType(ctx context.Context, instance, name string) (*fsType, error) {
	for try := 0; ; try++ {
		fs.mu.Lock()
		t := fs.typeLocked(instance, name, false)
		if t != nil {
			t.users++
		}
		fs.mu.Unlock()
		if t != nil {
			return t, nil
		}
		if back, err := fs.awaitType(ctx, instance, name); err != nil {
			return nil, err
		} else if back {
			try--
			continue
		}
		if try > 0 || fs.o.Autoload == nil {
			break
		}
		if err := fs.o.Autoload(ctx, name); err != nil {
			fs.o.Log.Debug("autoload", "fstype", name, "err", err)
			break
		}
	}
	if !fs.Available() {
		return nil, errUnavailable
	}
	if instance != "" {
		return nil, fmt.Errorf("file-system type %q of component %q: %w", name, instance, abi.ENODEV)
	}
	return nil, fmt.Errorf("file-system type %q: %w", name, abi.ENODEV)
}

// awaitType waits for the instance that had a type when its process died, until
// the type is there again or the instance is done with that; false: there is no
// such one, or it took too long.
func (fs *VFS) awaitType(ctx context.Context, instance, name string) (bool, error) {
	t := time.NewTimer(fs.o.RestartWait)
	defer t.Stop()
	for waited := false; ; waited = true {
		fs.mu.RLock()
		c, had := fs.instances, false
		for in, types := range fs.gone {
			had = had || (in == instance || instance == "") && slices.Contains(types, name)
		}
		there := fs.typeLocked(instance, name, false) != nil
		fs.mu.RUnlock()
		if there || !had {
			return waited || there, nil
		}
		select {
		case <-c:
		case <-t.C:
			return false, nil
		case <-ctx.Done():
			return false, abi.ErrnoOf(ctx.Err())
		}
	}
}

// mountUpdate changes the flags of a mount.
func (fs *VFS) mountUpdate(ctx context.Context, w Where, dir string, flags uint64) (abi.Fsid, error) {
	v, err := fs.namei(ctx, w, dir, followLink)
	if err != nil {
		return 0, fmt.Errorf("mount update %s: %w", dir, err)
	}
	defer v.put()
	fs.opMu.Lock()
	defer fs.opMu.Unlock()
	ctx = noWait(ctx)
	m := v.m
	if !v.isRoot() {
		return 0, fmt.Errorf("mount update %s: no mount point: %w", dir, abi.EINVAL)
	}
	const may = abi.MNT_BASIC_FLAGS &^ (abi.MNT_UNION | abi.MNT_LOG)
	nf := flags & may
	if flags&abi.MNT_RDONLY != 0 && !m.readonly() {
		if flags&abi.MNT_FORCE == 0 && m.writers() {
			return 0, fmt.Errorf("%s has files open for writing: %w", m.dir, abi.EBUSY)
		}
		if err := m.sync(ctx); err != nil {
			return 0, fmt.Errorf("mount update %s: %w", dir, err)
		}
	}
	if flags&abi.MNT_RDONLY == 0 && m.robelow && m.source != "" && m.null == nil {
		return 0, fmt.Errorf("mount update %s: it was mounted read-only, and %s was opened so: unmount it and mount it again: %w", dir, m.source, abi.EOPNOTSUPP)
	}
	m.flags.Store(m.flags.Load()&^may | nf)
	return m.fsid, nil
}

// Unmount takes the mount at dir away. EPERM; EINVAL if dir is no mount point;
// EBUSY while something of it is in use, unless flags has MNT_FORCE: then what
// is in use becomes dead.
func (fs *VFS) Unmount(ctx context.Context, w Where, dir string, flags uint64) error {
	if err := fs.o.Privileged(w.Caller, "unmount"); err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	v, err := fs.namei(ctx, w, dir, followLink)
	if err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	m := v.m
	isRoot := v.isRoot()
	v.put()
	if !isRoot {
		return fmt.Errorf("unmount %s: no mount point: %w", dir, abi.EINVAL)
	}
	fs.opMu.Lock()
	defer fs.opMu.Unlock()
	if m.gone.Load() {
		return fmt.Errorf("unmount %s: no mount point: %w", dir, abi.EINVAL)
	}
	return fs.unmountLocked(noWait(ctx), m, flags&abi.MNT_FORCE != 0)
}

// busyTries is how often an unmount looks again before it says EBUSY.
const busyTries = 3

// unmountLocked unmounts m. Preconditions: fs.opMu is held.
func (fs *VFS) unmountLocked(ctx context.Context, m *Mount, force bool) error {
	for _, o := range fs.mounts {
		if on := o.on.Load(); on != nil && on.m == m {
			return fmt.Errorf("%s is mounted below %s: %w", o.dir, m.dir, abi.EBUSY)
		}
	}
	if m.b.Load() != nil && !force {
		if err := m.sync(ctx); err != nil {
			return fmt.Errorf("unmount %s: %w", m.dir, err)
		}
	}
	m.leaving.Store(true)
	defer m.leaving.Store(false)
	for _, w := range fs.watching() {
		w.Unmounting(m.fsid)
	}
	var drop []*Vnode
	for try := 0; ; try++ {
		fs.mu.Lock() // a walk that meets vnodes half gone waits for it
		var ok bool
		if drop, ok = m.claim(force); ok {
			break
		}
		fs.mu.Unlock()
		if try >= busyTries && (m.asyncs.Load() == 0 || ctx.Err() != nil) {
			return fmt.Errorf("%s is in use: %w", m.dir, abi.EBUSY)
		}
		time.Sleep(time.Millisecond) // a stat in progress is no reason to refuse
	}
	on := m.on.Load()
	if on != nil {
		on.mounted.Store(nil)
		on.placeChanged(ctx)
	}
	b := m.b.Load()
	m.setBinding(nil, time.Time{})
	fs.mounts = slices.DeleteFunc(fs.mounts, func(o *Mount) bool { return o == m })
	if fs.root.Load() == m {
		fs.root.Store(nil)
	}
	fs.mu.Unlock()
	m.freeAll()
	if m.up() || m.j == nil {
		m.unpinNow() // what is on its way has arrived
	}
	if b != nil {
		if err := b.fs.Unmount(ctx); err != nil {
			fs.o.Log.Warn("file system did not unmount cleanly", "mount", m.dir, "err", err)
		}
	}
	m.ended()
	for _, v := range drop {
		v.put()
	}
	if on != nil {
		on.put()
	}
	fs.pool.trim()
	return nil
}

// claim makes every vnode of m dead: those without users are reclaimed. With
// users it does nothing and answers false, unless forced. drop are references
// that the caller lets go once all is done.
func (m *Mount) claim(force bool) (drop []*Vnode, ok bool) {
	m.vmu.Lock()
	defer m.vmu.Unlock()
	m.treeMu.RLock()
	own := make(map[*Vnode]int32, len(m.vnodes))
	own[m.root]++
	for _, v := range m.vnodes {
		if v.link != nil {
			own[v.link.dir]++
		}
	}
	m.treeMu.RUnlock()
	var done []*Vnode
	for _, v := range m.vnodes {
		if v.refs.CompareAndSwap(own[v], reclaimed) {
			done = append(done, v)
			continue
		}
		if force {
			v.kill(abi.EIO)
			continue
		}
		for _, d := range done {
			d.refs.Store(own[d])
		}
		return nil, false
	}
	m.gone.Store(true)
	drop = []*Vnode{m.root} // references inside the mount; harmless on what is reclaimed
	m.treeMu.Lock()
	for _, v := range done {
		v.kill(abi.EIO)
		delete(m.vnodes, v.key())
		m.vfs.vnodeGone(v)
		if v.link != nil {
			drop = append(drop, v.link.dir)
			v.link = nil
		}
		if d := v.data.Load(); d != nil {
			m.kdata[v.key()] = d // freeAll frees it
		}
	}
	m.treeMu.Unlock()
	return drop, true
}

// freeAll frees the contents of files that nobody has open; those of open ones
// go with the last close.
func (m *Mount) freeAll() {
	m.vmu.Lock()
	used := make(map[*fileData]bool)
	for _, v := range m.vnodes {
		if d := v.data.Load(); d != nil {
			used[d] = true
		}
	}
	var free []*fileData
	for k, d := range m.kdata {
		delete(m.kdata, k)
		if !used[d] {
			free = append(free, d)
		}
	}
	m.vmu.Unlock()
	m.resMu.Lock()
	m.res = reservation{epoch: m.res.epoch + 1}
	m.resMu.Unlock()
	for _, d := range free {
		d.free()
	}
}
