package vfs

import (
	"context"
	"slices"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Watcher is a cache outside of the kernel that has to learn of changes: a FUSE
// mount in the host's own kernel. Its methods but Settle are called with vnode
// locks held, so they note what they are told and return at once.
//
// ctx is that of the operation: who made it himself finds what he gave to
// WithOrigin, and needs not be told.
type Watcher interface {
	// Changed says that contents or attributes of a vnode changed, which the
	// watcher has asked for by Watch. hint is NOTE_*, as kqueue has it.
	Changed(ctx context.Context, v *Vnode, hint uint32)

	// EntryChanged says that a name in a directory, which the watcher has asked
	// for by Watch, came, went or means something else.
	EntryChanged(ctx context.Context, dir *Vnode, name string)

	// Unmounting asks the watcher to let go what it holds of a file system and
	// does not need, before an unmount that finds it busy.
	Unmounting(fsid abi.Fsid)

	// Settle returns when what was told before has had its effect. It is called
	// without locks before a system call is answered.
	Settle()
}

// Holder is a Watcher that can keep a file system from being unmounted.
type Holder interface {
	// Holding says in a few words who it is and what it has open of a file
	// system, "" if nothing.
	Holding(fsid abi.Fsid) string
}

// Holding are the words of those Watchers that have something open of a file
// system.
func (fs *VFS) Holding(fsid abi.Fsid) (words []string) {
	for _, w := range fs.watching() {
		if h, ok := w.(Holder); ok {
			if s := h.Holding(fsid); s != "" {
				words = append(words, s)
			}
		}
	}
	return words
}

type originKey struct{}

// WithOrigin marks what is done with the context as done by w.
func WithOrigin(ctx context.Context, w Watcher) context.Context {
	return context.WithValue(ctx, originKey{}, w)
}

// OriginKey is the key under which a context of a Watcher's own making answers
// the Watcher from Value.
func OriginKey() any { return originKey{} }

// Origin is who does what is done with ctx, nil if no Watcher.
func Origin(ctx context.Context) Watcher {
	w, _ := ctx.Value(originKey{}).(Watcher)
	return w
}

// AddWatcher has w told from now on; remove ends that, after which no method of
// w is called but by who calls it already.
func (fs *VFS) AddWatcher(w Watcher) (remove func()) {
	fs.watchMu.Lock()
	defer fs.watchMu.Unlock()
	fs.setWatchersLocked(append(slices.Clone(fs.watching()), w))
	return func() {
		fs.watchMu.Lock()
		defer fs.watchMu.Unlock()
		fs.setWatchersLocked(slices.DeleteFunc(slices.Clone(fs.watching()), func(o Watcher) bool { return o == w }))
	}
}

func (fs *VFS) setWatchersLocked(ws []Watcher) {
	if len(ws) == 0 {
		fs.watchers.Store(nil)
		return
	}
	fs.watchers.Store(&ws)
}

func (fs *VFS) watching() []Watcher {
	if p := fs.watchers.Load(); p != nil {
		return *p
	}
	return nil
}

// Watch says that one more Watcher has v in its cache, or with n = -1 one less.
// It is told of changes from then on.
func (v *Vnode) Watch(n int32) { v.watched.Add(n) }

// Settle returns when the Watchers have done what they were told to.
func (fs *VFS) Settle() {
	for _, w := range fs.watching() {
		w.Settle()
	}
}

// changed tells Watchers of v. It costs one load while there are none.
func (v *Vnode) changed(ctx context.Context, hint uint32) {
	if v.watched.Load() == 0 {
		return
	}
	for _, w := range v.m.vfs.watching() {
		w.Changed(ctx, v, hint)
	}
}

// entryChanged tells Watchers of a name in directory v.
func (v *Vnode) entryChanged(ctx context.Context, name string) {
	if v.watched.Load() == 0 {
		return
	}
	for _, w := range v.m.vfs.watching() {
		w.EntryChanged(ctx, v, name)
	}
}

// placeChanged tells Watchers that something was mounted on directory v, or is
// no longer.
func (v *Vnode) placeChanged(ctx context.Context) {
	if len(v.m.vfs.watching()) == 0 {
		return
	}
	v.m.treeMu.RLock()
	var dir *Vnode
	var name string
	if v.link != nil {
		dir, name = v.link.dir, v.link.name
	}
	v.m.treeMu.RUnlock()
	if dir != nil {
		dir.entryChanged(ctx, name)
	}
}
