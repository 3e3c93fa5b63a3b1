package vfs

import (
	"context"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// binding is a mounted file system as one process generation serves it: the
// FS, its capabilities, and its optional interfaces, nil where it has none.
type binding struct {
	fs         vfsops.FS
	caps       vfsops.Caps
	creator    vfsops.Creator
	remover    vfsops.Remover
	renamer    vfsops.Renamer
	linker     vfsops.Linker
	symlinker  vfsops.Symlinker
	mknoder    vfsops.Mknoder
	setattrer  vfsops.Setattrer
	writer     vfsops.Writer
	truncater  vfsops.Truncater
	xattrer    vfsops.Xattrer
	fallocater vfsops.Fallocater
	readlinker vfsops.Readlinker
	pager      vfsops.Pager
	pinner     vfsops.Pinner
	reclaimer  vfsops.Reclaimer
	reserver   vfsops.Reserver
	syncer     vfsops.Syncer
	accesser   vfsops.Accesser
	seeker     vfsops.HoleSeeker
	opener     FileOpener // of file systems in the kernel
	personal   bool       // Personal
}

// hasMask are the capabilities that stand for an optional interface.
const hasMask vfsops.Caps = 0xffffffff_00000000

func newBinding(fs vfsops.FS, declared vfsops.Caps) *binding {
	caps := declared&^hasMask | vfsops.CapsOf(fs)
	if caps&vfsops.CapAuthz != 0 {
		caps &^= vfsops.CapSole | vfsops.CapKpages
	}
	if caps&vfsops.CapSole == 0 {
		caps &^= vfsops.CapKpages
	}
	b := &binding{fs: fs, caps: caps}
	opt(b, vfsops.HasCreator, &b.creator)
	opt(b, vfsops.HasRemover, &b.remover)
	opt(b, vfsops.HasRenamer, &b.renamer)
	opt(b, vfsops.HasLinker, &b.linker)
	opt(b, vfsops.HasSymlinker, &b.symlinker)
	opt(b, vfsops.HasMknoder, &b.mknoder)
	opt(b, vfsops.HasSetattrer, &b.setattrer)
	opt(b, vfsops.HasWriter, &b.writer)
	opt(b, vfsops.HasTruncater, &b.truncater)
	opt(b, vfsops.HasXattrer, &b.xattrer)
	opt(b, vfsops.HasFallocater, &b.fallocater)
	opt(b, vfsops.HasReadlinker, &b.readlinker)
	opt(b, vfsops.HasPager, &b.pager)
	opt(b, vfsops.HasPinner, &b.pinner)
	opt(b, vfsops.HasReclaimer, &b.reclaimer)
	opt(b, vfsops.HasReserver, &b.reserver)
	opt(b, vfsops.HasSyncer, &b.syncer)
	opt(b, vfsops.HasAccesser, &b.accesser)
	opt(b, vfsops.HasHoleSeeker, &b.seeker)
	b.opener, _ = fs.(FileOpener)
	_, b.personal = fs.(Personal)
	return b
}

// opt sets *p to the optional interface of b's file system if it has the bit.
func opt[T any](b *binding, bit vfsops.Caps, p *T) {
	if b.caps&bit != 0 {
		if t, ok := b.fs.(T); ok {
			*p = t
		}
	}
}

// uncache makes b the binding of a mount with nocache: that of a file system
// that others change too, unless its contents can only be in pages here.
func (b *binding) uncache() {
	if b.kpages() || b.pager != nil && b.writer == nil {
		return
	}
	b.caps &^= vfsops.CapSole | vfsops.HasPager
	b.pager = nil
}

func (b *binding) sole() bool   { return b.caps&vfsops.CapSole != 0 }
func (b *binding) kpages() bool { return b.caps&vfsops.CapKpages != 0 }

// paged reports whether file contents go through the page cache.
func (b *binding) paged() bool { return b.sole() && (b.kpages() || b.pager != nil) }

// binding answers the mount's file system, waiting for a new process if the
// last one died. EIO when the wait is over; EINTR, ETIMEDOUT if the caller
// gave up.
func (m *Mount) binding(ctx context.Context) (*binding, error) {
	if b := m.b.Load(); b != nil {
		return b, nil
	}
	return m.waitUp(ctx)
}

type noWaitKey struct{}

// noWait makes ctx one with which nobody waits for a dead component: whoever
// holds VFS.mu would wait for himself.
func noWait(ctx context.Context) context.Context {
	return context.WithValue(ctx, noWaitKey{}, true)
}

func (m *Mount) waitUp(ctx context.Context) (*binding, error) {
	for {
		m.stateMu.Lock()
		b, c, until := m.b.Load(), m.changed, m.downUntil
		m.stateMu.Unlock()
		if b != nil {
			return b, nil
		}
		left := time.Until(until)
		if m.gone.Load() || left <= 0 || ctx.Value(noWaitKey{}) != nil {
			return nil, abi.EIO
		}
		t := time.NewTimer(left)
		select {
		case <-c:
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, abi.ErrnoOf(ctx.Err())
		}
		t.Stop()
	}
}

// setBinding publishes b (nil: down until until) and wakes who waits.
func (m *Mount) setBinding(b *binding, until time.Time) {
	m.stateMu.Lock()
	m.b.Store(b)
	if b != nil {
		m.caps.Store(uint64(b.caps))
	}
	m.downUntil = until
	close(m.changed)
	m.changed = make(chan struct{})
	m.stateMu.Unlock()
}

// current reports whether b is the mount's binding, or about to be: what
// another one answered must not get into the caches any more. Who finds it
// true under a lock that Remount takes to clear what the lock protects, is
// overruled by Remount if it comes.
func (m *Mount) current(b *binding) bool { return m.b.Load() == b || m.next.Load() == b }

// bind is binding for a call about v: its errno if v is dead.
func (v *Vnode) bind(ctx context.Context) (*binding, error) {
	b := v.m.b.Load()
	if b == nil {
		var err error
		if b, err = v.m.waitUp(ctx); err != nil {
			return nil, err
		}
	}
	if e := v.dead.Load(); e != 0 {
		return nil, abi.Errno(e)
	}
	return b, nil
}
