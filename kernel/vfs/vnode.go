package vfs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Vnode is a file that the kernel knows (struct vnode).
type Vnode struct {
	m    *Mount
	typ  abi.VType
	rdev abi.Dev

	lower *Vnode // of nullfs: what it stands for, held by nullFS; see base

	h    atomic.Pointer[abi.Handle] // changes only for a root, at a remount
	id   atomic.Uint64              // identity in the name cache
	refs atomic.Int32               // users; negative: reclaimed
	hot  atomic.Bool                // used since the clock hand passed
	dead atomic.Int32               // errno that every operation answers
	name atomic.Pointer[nameEntry]  // in the name cache, the last that was entered

	unlinked atomic.Bool  // the last name is gone
	pinned   atomic.Bool  // Pin was called
	opens    atomic.Int32 // open files
	writers  atomic.Int32 // of them, open for writing
	watched  atomic.Int32 // how many Watchers have it
	backing  atomic.Int32 // devices whose contents it is: so many that read, or -1 for one that writes

	mu      sync.RWMutex          // the vnode lock, see the package doc
	mounted atomic.Pointer[Mount] // what is mounted here
	data    atomic.Pointer[fileData]
	assoc   Assoc
	locks   atomic.Pointer[lockHead] // advisory ones
	notes   event.Klist              // knotes: who wants to know what happens to the file

	link *dirLink // of directories: where they are; protected by m.treeMu

	list    atomic.Pointer[dirList] // of directories: what is in them, if known
	listPos int                     // protected by dirLists.mu; the place in its ring

	clockPos int // protected by VFS.clockMu; the place before the hand

	amu    sync.Mutex
	va     abi.Vattr                 // protected by amu; last known
	valid  bool                      // protected by amu; va is the truth (sole mounts)
	search atomic.Pointer[abi.Vattr] // a copy of va whose times and size may be old; changed with amu held, nil if unknown
	dirty  abi.SetMask               // protected by amu; fields of va newer than the file system's
	target string                    // protected by amu; of a symbolic link, if known
}

// dirLink is a directory's place in the tree: the parent, on which it holds a
// reference, and the name there.
type dirLink struct {
	dir  *Vnode
	name string
}

type vkey struct {
	file abi.Fileid
	gen  abi.Gen
}

const reclaimed = -1 << 30

func (v *Vnode) handle() abi.Handle { return *v.h.Load() }

func (v *Vnode) key() vkey { h := v.h.Load(); return vkey{h.File, h.Gen} }

func (v *Vnode) isRoot() bool { return v.m.root == v }

// tryHold takes a reference unless v has been reclaimed.
func (v *Vnode) tryHold() bool {
	for {
		n := v.refs.Load()
		if n < 0 {
			return false
		}
		if v.refs.CompareAndSwap(n, n+1) {
			if !v.hot.Load() {
				v.hot.Store(true)
			}
			return true
		}
	}
}

// hold takes a reference. Preconditions: the caller has one, or holds what
// keeps v from being reclaimed.
func (v *Vnode) hold() { v.refs.Add(1) }

// put drops a reference (vrele).
func (v *Vnode) put() {
	if v.refs.Add(-1) == 0 && (v.unlinked.Load() || v.dead.Load() != 0 || v.lower != nil) {
		v.m.reclaim(v)
	}
}

// err is the errno of a dead vnode, or nil.
func (v *Vnode) err() error {
	if e := v.dead.Load(); e != 0 {
		return abi.Errno(e)
	}
	return nil
}

// kill makes v dead. It does not wait for operations in progress.
func (v *Vnode) kill(e abi.Errno) {
	if v.dead.CompareAndSwap(0, int32(e)) {
		v.note(context.Background(), abi.NOTE_REVOKE)
	}
}

// goodType reports whether a component may say that a file is of type t.
func goodType(t abi.VType) bool { return t >= abi.VREG && t <= abi.VFIFO }

// vget finds or makes the vnode of an entry that b answered, and takes a
// reference. Its attributes may be cached if no mutator has begun since b was
// asked. EIO for an entry that cannot be.
func (m *Mount) vget(b *binding, e *vfsops.Entry, asked nameStamp) (*Vnode, error) {
	va := &e.Vattr
	if e.Handle.FS != m.fsid || e.Handle.File == 0 || e.Handle.File != va.Fileid || e.Handle.Gen != va.Gen || !goodType(va.Type) || va.Size < 0 {
		m.vfs.o.Log.Error("file system answered an impossible entry", "mount", m.dir, "handle", e.Handle.String(), "type", va.Type.String())
		return nil, fmt.Errorf("impossible entry %v: %w", e.Handle, abi.EIO)
	}
	k := vkey{va.Fileid, va.Gen}
	m.vmu.Lock()
	if m.gone.Load() || !m.current(b) {
		m.vmu.Unlock()
		return nil, abi.EIO
	}
	v := m.vnodes[k]
	if v != nil && v.tryHold() {
		m.vmu.Unlock()
		if v.typ != va.Type {
			v.put()
			m.vfs.o.Log.Error("file changed its type", "mount", m.dir, "handle", e.Handle.String())
			return nil, fmt.Errorf("handle %v changed its type: %w", e.Handle, abi.EIO)
		}
		v.refresh(b, va, asked)
		return v, nil
	}
	v = m.newVnode(e)
	v.valid = m.sole() && m.fresh(asked)
	m.vnodes[k] = v
	if d := m.kdata[k]; d != nil {
		v.data.Store(d)
	}
	m.vmu.Unlock()
	m.vfs.clockAdd(v)
	return v, nil
}

// newVnode makes a vnode with one reference that is in no table.
func (m *Mount) newVnode(e *vfsops.Entry) *Vnode {
	v := &Vnode{m: m, typ: e.Vattr.Type, rdev: e.Vattr.Rdev, va: e.Vattr}
	h := e.Handle
	v.h.Store(&h)
	v.id.Store(m.vfs.nextID.Add(1))
	v.refs.Store(1)
	v.hot.Store(true)
	if m.null != nil {
		v.lower, _ = m.null.find(h)
	}
	return v
}

// errOvertaken says that a mutator may have changed what an answer is about.
var errOvertaken = errors.New("overtaken")

// setLink records that directory v is name in dir. EIO if that would put a
// directory inside itself.
//
// still, unless nil, says whether dir still has the name: errOvertaken if not. It
// is asked where a rename would set links, so that what an overtaken answer says
// never replaces what a rename has said.
func (v *Vnode) setLink(dir *Vnode, name string, still func() bool) error {
	m := v.m
	m.treeMu.RLock()
	same := v.link != nil && v.link.dir == dir && v.link.name == name
	m.treeMu.RUnlock()
	if same {
		return nil
	}
	m.treeMu.Lock()
	if still != nil && !still() {
		m.treeMu.Unlock()
		return errOvertaken
	}
	for d := dir; d != nil; {
		if d == v {
			m.treeMu.Unlock()
			m.vfs.o.Log.Error("directory inside itself", "mount", m.dir, "handle", v.handle().String())
			return fmt.Errorf("directory %v inside itself: %w", v.handle(), abi.EIO)
		}
		if d.link == nil {
			break
		}
		d = d.link.dir
	}
	old := v.link
	dir.hold()
	v.link = &dirLink{dir, string([]byte(name))}
	m.treeMu.Unlock()
	if old != nil {
		old.dir.put()
	}
	return nil
}

// parent answers the parent of directory v with a reference, nil if unknown.
func (v *Vnode) parent() *Vnode {
	v.m.treeMu.RLock()
	defer v.m.treeMu.RUnlock()
	if v.link == nil {
		return nil
	}
	v.link.dir.hold()
	return v.link.dir
}

// below reports whether directory v is anc or below it, on one mount.
func (v *Vnode) below(anc *Vnode) bool {
	v.m.treeMu.RLock()
	defer v.m.treeMu.RUnlock()
	for v != anc {
		if v.link == nil {
			return false
		}
		v = v.link.dir
	}
	return true
}

// reclaim takes a vnode without users out of the table and frees what it has.
// It does nothing if somebody holds v, or if attributes are still to be
// written back (unless nobody could ever read them).
func (m *Mount) reclaim(v *Vnode) bool {
	m.vmu.Lock()
	if !v.refs.CompareAndSwap(0, reclaimed) {
		m.vmu.Unlock()
		return false
	}
	doomed := v.unlinked.Load() || v.dead.Load() != 0
	if !doomed && v.isDirty() {
		v.refs.Store(0)
		m.vmu.Unlock()
		return false
	}
	k := v.key()
	if m.vnodes[k] == v {
		delete(m.vnodes, k)
	}
	d := v.data.Load()
	if d != nil && doomed && m.kdata[k] == d {
		delete(m.kdata, k)
	}
	keep := d != nil && !doomed && m.kdata[k] == d
	m.vmu.Unlock()
	m.vfs.vnodeGone(v)
	m.vfs.cnt.reclaims.Inc()
	if d != nil && !keep {
		d.free()
	}
	b := m.b.Load()
	if b != nil && v.dead.Load() == 0 {
		if v.pinned.Load() && b.pinner != nil {
			m.unpinLater(b, v.handle())
		} else if b.reclaimer != nil {
			m.forgetLater(v.handle())
		}
	}
	m.treeMu.Lock()
	l := v.link
	v.link = nil
	m.treeMu.Unlock()
	if l != nil {
		l.dir.put()
	}
	return true
}

// unpin is a pin to be taken back from the file system that has it.
type unpin struct {
	b *binding
	h abi.Handle
}

// unpinLater takes a pin back. Nobody waits for the file system: the last close
// of a file without a name does not.
func (m *Mount) unpinLater(b *binding, h abi.Handle) {
	m.forgetMu.Lock()
	m.unpins = append(m.unpins, unpin{b, h})
	first := len(m.unpins) == 1
	m.forgetMu.Unlock()
	if first {
		m.vfs.o.Drain(m.unpinNow)
	}
}

// unpinNow sends what unpinLater has queued, and returns when nothing is on its
// way any more.
func (m *Mount) unpinNow() {
	m.unpinMu.Lock()
	defer m.unpinMu.Unlock()
	for {
		m.forgetMu.Lock()
		us := m.unpins
		m.unpins = nil
		m.forgetMu.Unlock()
		if len(us) == 0 {
			return
		}
		for len(us) > 0 {
			b := us[0].b
			var hs []abi.Handle
			for len(us) > 0 && us[0].b == b {
				hs = append(hs, us[0].h)
				us = us[1:]
			}
			if now := m.b.Load(); now != nil && now != b {
				continue // another process has no pins
			}
			if err := b.unpin(context.Background(), hs); err != nil && m.b.Load() == b {
				m.vfs.o.Log.Warn("unpin", "mount", m.dir, "handle", hs[0].String(), "of", len(hs), "err", err)
			}
		}
	}
}

// unpin takes pins back, with one message to the other process if the file
// system can; the error is the first.
func (b *binding) unpin(ctx context.Context, hs []abi.Handle) (first error) {
	if all, ok := b.pinner.(interface {
		UnpinAll(ctx context.Context, hs []abi.Handle) error
	}); ok {
		return all.UnpinAll(ctx, hs)
	}
	for _, h := range hs {
		if err := b.pinner.Unpin(ctx, h); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// forgetLater queues a handle for Reclaim; the drain sends them in batches.
func (m *Mount) forgetLater(h abi.Handle) {
	m.forgetMu.Lock()
	m.forget = append(m.forget, h)
	n := len(m.forget)
	m.forgetMu.Unlock()
	if n >= 64 || m.null != nil { // a lower vnode is not kept in use for nothing
		m.vfs.startDrain()
	}
}

// forgetNow tells the file system which nodes the kernel has forgotten, but
// for those that it knows again.
func (m *Mount) forgetNow(ctx context.Context) {
	b := m.b.Load()
	if b == nil || b.reclaimer == nil {
		return
	}
	m.reclaimMu.Lock()
	defer m.reclaimMu.Unlock()
	m.forgetMu.Lock()
	hs := m.forget
	m.forget = nil
	m.forgetMu.Unlock()
	send := hs[:0]
	m.vmu.Lock()
	for _, h := range hs {
		if m.vnodes[vkey{h.File, h.Gen}] == nil {
			send = append(send, h)
		}
	}
	m.vmu.Unlock()
	if len(send) > 0 {
		if err := b.reclaimer.Reclaim(ctx, send); err != nil {
			m.vfs.o.Log.Debug("reclaim", "mount", m.dir, "err", err)
		}
	}
}

// clockAdd puts a new vnode before the clock hand and starts the drain when
// there are too many.
func (fs *VFS) clockAdd(v *Vnode) {
	n := fs.nvnodes.Add(1)
	fs.mem.take(memVnodes, vnodeBytes)
	fs.clockMu.Lock()
	v.clockPos = len(fs.clock)
	fs.clock = append(fs.clock, v)
	fs.clockMu.Unlock()
	if n > fs.maxVnodes {
		fs.startDrain()
		if n > fs.maxVnodes+fs.maxVnodes/8 {
			fs.shed()
		}
	}
}

// vnodeGone counts a reclaimed vnode out, and takes it out of what would keep
// its memory.
func (fs *VFS) vnodeGone(v *Vnode) {
	fs.nc.forget(v)
	fs.clockMu.Lock()
	last := len(fs.clock) - 1
	fs.clock[v.clockPos] = fs.clock[last]
	fs.clock[v.clockPos].clockPos = v.clockPos
	fs.clock[last] = nil
	fs.clock = fs.clock[:last]
	fs.clockMu.Unlock()
	fs.nvnodes.Add(-1)
	fs.mem.take(memVnodes, -vnodeBytes)
	fs.lists.drop(v)
}

// shed makes who brings vnodes faster than the drain takes them reclaim some:
// those for which nothing has to be written. It takes no locks above
// Mount.vmu.
func (fs *VFS) shed() {
	for steps, done := 16, 0; steps > 0 && done < 2; steps-- {
		v := fs.clockNext()
		if v == nil {
			return
		}
		if v.refs.Load() == 0 && !v.hot.Swap(false) && !v.needsFlush() && v.m.reclaim(v) {
			done++
		}
	}
}

func (fs *VFS) startDrain() {
	if fs.draining.CompareAndSwap(false, true) {
		fs.o.Drain(fs.drain)
	}
}

// drain reclaims vnodes without users until there are a tenth fewer than may
// be, or the hand went round twice, and passes on what was forgotten (the
// vdrain thread). At most one runs.
func (fs *VFS) drain() {
	defer fs.draining.Store(false)
	ctx := context.Background()
	want := fs.maxVnodes * 9 / 10
	fs.clockMu.Lock()
	steps := 2 * len(fs.clock)
	fs.clockMu.Unlock()
	for ; steps > 0 && fs.nvnodes.Load() > want; steps-- {
		v := fs.clockNext()
		if v == nil {
			break
		}
		if v.refs.Load() != 0 || v.hot.Swap(false) {
			continue
		}
		if v.isDirty() && v.m.up() && v.tryHold() {
			v.mu.Lock()
			v.writebackLocked(ctx, abi.KernelCaller)
			v.mu.Unlock()
			v.put()
		}
		v.m.reclaim(v)
	}
	fs.mu.RLock()
	ms := append([]*Mount(nil), fs.mounts...)
	fs.mu.RUnlock()
	for _, m := range ms {
		m.forgetNow(ctx)
	}
}

// clockNext moves the hand; nil if there are no vnodes.
func (fs *VFS) clockNext() *Vnode {
	fs.clockMu.Lock()
	defer fs.clockMu.Unlock()
	if len(fs.clock) == 0 {
		return nil
	}
	if fs.hand >= len(fs.clock) {
		fs.hand = 0
	}
	v := fs.clock[fs.hand]
	fs.hand++
	return v
}
