package file

import (
	"context"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Filedesc is a descriptor table (struct filedesc). The lowest free
// descriptor is always the next. Reading takes no lock but a shared one for
// the slice; writers are serialised.
type Filedesc struct {
	mu    sync.RWMutex
	files []*File  // protected by mu
	cloex []uint64 // bitmap of FD_CLOEXEC, protected by mu
	used  []uint64 // bitmap of descriptors taken, protected by mu
	max   int      // protected by mu; RLIMIT_NOFILE
	refs  atomic.Int32

	watchers map[Watcher]int // protected by mu; how many of its knotes are on this table
}

// Watcher is told when a descriptor is closed: a kqueue with knotes on it.
type Watcher interface {
	FdClosed(d *Filedesc, fd int)
}

// Watch counts w among those who are told of closes, if fd is still f: EBADF.
func (d *Filedesc) Watch(w Watcher, fd int, f *File) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if fd < 0 || fd >= len(d.files) || d.files[fd] != f {
		return abi.EBADF
	}
	if d.watchers == nil {
		d.watchers = make(map[Watcher]int)
	}
	d.watchers[w]++
	return nil
}

// Unwatch counts it out again.
func (d *Filedesc) Unwatch(w Watcher) {
	d.mu.Lock()
	if d.watchers[w]--; d.watchers[w] <= 0 {
		delete(d.watchers, w)
	}
	d.mu.Unlock()
}

// watchersLocked are those to tell of a close.
func (d *Filedesc) watchersLocked() []Watcher {
	if len(d.watchers) == 0 {
		return nil
	}
	ws := make([]Watcher, 0, len(d.watchers))
	for w := range d.watchers {
		ws = append(ws, w)
	}
	return ws
}

// NewFiledesc makes an empty table for at most max descriptors.
func NewFiledesc(max int) *Filedesc {
	fd := &Filedesc{max: max}
	fd.refs.Store(1)
	return fd
}

// SetMax changes the limit; descriptors above it stay open.
func (d *Filedesc) SetMax(max int) {
	d.mu.Lock()
	d.max = max
	d.mu.Unlock()
}

// Max is the limit on descriptors.
func (d *Filedesc) Max() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.max
}

// Get finds the file of a descriptor and takes a reference. EBADF.
func (d *Filedesc) Get(fd int) (*File, error) {
	d.mu.RLock()
	if fd < 0 || fd >= len(d.files) || d.files[fd] == nil {
		d.mu.RUnlock()
		return nil, abi.EBADF
	}
	f := d.files[fd]
	f.Hold()
	d.mu.RUnlock()
	return f, nil
}

// Alloc puts f into the lowest free descriptor not below min, which takes over
// the caller's reference. EMFILE; EINVAL for a min out of range.
func (d *Filedesc) Alloc(f *File, min int, cloexec bool) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if min < 0 || min >= d.max {
		return -1, abi.EINVAL
	}
	fd := d.lowestLocked(min)
	if fd >= d.max {
		return -1, abi.EMFILE
	}
	d.setLocked(fd, f, cloexec)
	return fd, nil
}

func (d *Filedesc) lowestLocked(min int) int {
	w := min / 64
	for ; w < len(d.used); w++ {
		free := ^d.used[w]
		if w == min/64 {
			free &= ^uint64(0) << (min % 64)
		}
		if free != 0 {
			return w*64 + bits.TrailingZeros64(free)
		}
	}
	if w*64 < min {
		return min
	}
	return w * 64
}

func (d *Filedesc) setLocked(fd int, f *File, cloexec bool) {
	for fd >= len(d.used)*64 {
		d.used = append(d.used, 0)
		d.cloex = append(d.cloex, 0)
	}
	for fd >= len(d.files) {
		d.files = append(d.files, make([]*File, max(16, len(d.files)))...)
	}
	d.files[fd] = f
	d.used[fd/64] |= 1 << (fd % 64)
	if cloexec {
		d.cloex[fd/64] |= 1 << (fd % 64)
	} else {
		d.cloex[fd/64] &^= 1 << (fd % 64)
	}
}

func (d *Filedesc) clearLocked(fd int) *File {
	f := d.files[fd]
	d.files[fd] = nil
	d.used[fd/64] &^= 1 << (fd % 64)
	d.cloex[fd/64] &^= 1 << (fd % 64)
	return f
}

// Close frees a descriptor. EBADF; else what closing the file answers.
func (d *Filedesc) Close(ctx context.Context, fd int) error {
	d.mu.Lock()
	if fd < 0 || fd >= len(d.files) || d.files[fd] == nil {
		d.mu.Unlock()
		return abi.EBADF
	}
	f := d.clearLocked(fd)
	ws := d.watchersLocked()
	d.mu.Unlock()
	for _, w := range ws {
		w.FdClosed(d, fd)
	}
	return f.Release(ctx)
}

// Dup2 makes to refer to the file of from, closing what to was. EBADF, also
// for a to beyond the limit. dup2(2), dup3(2).
func (d *Filedesc) Dup2(ctx context.Context, from, to int, cloexec bool) error {
	d.mu.Lock()
	if from < 0 || from >= len(d.files) || d.files[from] == nil || to < 0 || to >= d.max {
		d.mu.Unlock()
		return abi.EBADF
	}
	if from == to {
		d.mu.Unlock()
		return nil
	}
	f := d.files[from]
	f.Hold()
	var old *File
	if to < len(d.files) {
		old = d.files[to]
	}
	d.setLocked(to, f, cloexec)
	ws := d.watchersLocked()
	d.mu.Unlock()
	if old != nil {
		for _, w := range ws {
			w.FdClosed(d, to)
		}
		old.Release(ctx)
	}
	return nil
}

// Cloexec reads FD_CLOEXEC; SetCloexec changes it. EBADF.
func (d *Filedesc) Cloexec(fd int) (bool, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if fd < 0 || fd >= len(d.files) || d.files[fd] == nil {
		return false, abi.EBADF
	}
	return d.cloex[fd/64]&(1<<(fd%64)) != 0, nil
}

// SetCloexec sets or clears FD_CLOEXEC. EBADF.
func (d *Filedesc) SetCloexec(fd int, on bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if fd < 0 || fd >= len(d.files) || d.files[fd] == nil {
		return abi.EBADF
	}
	d.setLocked(fd, d.files[fd], on)
	return nil
}

// Copy makes a table with the same files (fd_copy), but for kqueues, which are
// not inherited.
func (d *Filedesc) Copy() *Filedesc {
	d.mu.RLock()
	defer d.mu.RUnlock()
	n := NewFiledesc(d.max)
	n.files = append([]*File(nil), d.files...)
	n.used = append([]uint64(nil), d.used...)
	n.cloex = append([]uint64(nil), d.cloex...)
	for fd, f := range n.files {
		switch {
		case f == nil:
		case f.Type == TypeKqueue:
			n.clearLocked(fd)
		default:
			f.Hold()
		}
	}
	return n
}

// Share takes another reference to the table (fd_share).
func (d *Filedesc) Share() *Filedesc { d.refs.Add(1); return d }

// Shared reports whether several processes have the table.
func (d *Filedesc) Shared() bool { return d.refs.Load() > 1 }

// CloexecFds lists the descriptors with FD_CLOEXEC.
func (d *Filedesc) CloexecFds() (fds []int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for fd, f := range d.files {
		if f != nil && d.cloex[fd/64]&(1<<(fd%64)) != 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}

// Release drops a reference; the last one closes every descriptor (fd_free).
func (d *Filedesc) Release(ctx context.Context) {
	if d.refs.Add(-1) != 0 {
		return
	}
	d.mu.Lock()
	files := d.files
	d.files, d.used, d.cloex = nil, nil, nil
	ws := d.watchersLocked()
	d.mu.Unlock()
	for fd, f := range files {
		if f != nil {
			for _, w := range ws {
				w.FdClosed(d, fd)
			}
		}
	}
	for _, f := range files {
		if f != nil {
			f.Release(ctx)
		}
	}
}

// Each calls fn for every open descriptor.
func (d *Filedesc) Each(fn func(fd int, f *File)) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for i, f := range d.files {
		if f != nil {
			fn(i, f)
		}
	}
}
