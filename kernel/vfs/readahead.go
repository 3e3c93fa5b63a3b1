package vfs

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Read-ahead (uvm_readahead.c) of files whose pages here are a cache. A miss
// reads a window of pages at once. Who reads on in it meets a trigger half way,
// and the next window, twice as large, is read by Options.Async while the
// reader goes on with this one. A seek halves the window; posix_fadvise(2) says
// from the start what is to come. Short memory ends it: what is read ahead
// takes nobody's place.

// Windows, in pages.
const (
	raInit = 32
	raMax  = leafPages
)

// readahead is the state of one file (struct uvm_ractx).
type readahead struct {
	trigger atomic.Int64 // the page whose reading starts the next window; 0 = none

	mu     sync.Mutex
	window int64 // protected by mu; pages
	end    int64 // protected by mu; the page behind the last window
	advice int   // protected by mu; POSIX_FADV_NORMAL, RANDOM, SEQUENTIAL
}

// miss is told of a read of pages first to last that were not all there, and
// answers how many pages to read from the first that is missing.
func (r *readahead) miss(first, last int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.advice == abi.POSIX_FADV_RANDOM:
		r.trigger.Store(0)
		return 1
	case r.advice == abi.POSIX_FADV_SEQUENTIAL:
		r.window = raMax
	case r.window == 0:
		r.window = raInit
	case first == r.end || first+1 == r.end: // all of it was read: it was too small
		r.window = min(max(2*r.window, raInit), raMax)
	case first < r.end && first >= r.end-r.window: // taken away again
	default:
		r.window = max(r.window/2, 1)
	}
	r.end = max(first+r.window, last+1)
	t := r.end - (r.window+1)/2
	if r.window == 1 {
		t = 0
	}
	r.trigger.Store(t)
	return r.window
}

// grow begins the window after the present one, unless somebody has.
func (r *readahead) grow(trigger int64) (from, n int64, ok bool) {
	if !r.trigger.CompareAndSwap(trigger, 0) {
		return 0, 0, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.window = min(2*r.window, raMax)
	from = r.end
	r.end += r.window
	return from, r.window, true
}

// advise changes what is expected.
func (r *readahead) advise(advice int) {
	r.mu.Lock()
	r.advice, r.window = advice, 0
	r.trigger.Store(0)
	r.mu.Unlock()
}

// ahead is told of a read of n bytes that was a hit. Preconditions: the caller
// has a reference and no lock on v.
func (v *Vnode) ahead(off int64, n int) {
	d := v.data.Load()
	if d == nil || n == 0 {
		return
	}
	t := d.ra.trigger.Load()
	if t == 0 || t < off/pageSize || t > (off+int64(n)-1)/pageSize {
		return
	}
	from, n2, ok := d.ra.grow(t)
	if !ok || from*pageSize >= v.size() {
		return
	}
	v.prefetch(d, from, n2, true)
}

// prefetch reads pages without the caller, and then lets the next window begin
// with the first of them.
func (v *Vnode) prefetch(d *fileData, from, n int64, next bool) {
	v.async(func(ctx context.Context) {
		if !v.m.leaving.Load() && v.readAhead(ctx, d, from, n) && next {
			d.ra.trigger.CompareAndSwap(0, from)
		}
	})
}

// async has fn run by Options.Async with a reference on v. A mount on its way
// out waits for it. Preconditions: the caller has a reference and no lock on v.
func (v *Vnode) async(fn func(ctx context.Context)) {
	v.hold()
	v.m.asyncs.Add(1)
	v.m.vfs.o.Async(func(ctx context.Context) {
		fn(noWait(ctx))
		v.put()
		v.m.asyncs.Add(-1)
	})
}

// readAhead reads pages from to from+n-1 as far as they are missing, and
// reports whether it did. What changes meanwhile wins.
func (v *Vnode) readAhead(ctx context.Context, d *fileData, from, n int64) bool {
	fs := v.m.vfs
	if fs.mem.pagesLeft() < 2*n*pageSize {
		return false
	}
	n = min(n, (v.size()+pageSize-1)/pageSize-from)
	for n > 0 {
		run, got, gen, err := v.readRun(ctx, d, from, n)
		if err != nil {
			return false
		}
		if len(got) > 0 {
			v.mu.Lock()
			good := v.data.Load() == d && d.gen == gen && v.dead.Load() == 0
			for i, p := range got {
				if pn := from + run - int64(len(got)) + int64(i); good && d.page(pn) == nil {
					d.put(pn, p)
					fs.cnt.pgAhead.Inc()
				} else {
					fs.pool.release(p)
				}
			}
			if good {
				d.zeroTail(v.size())
			}
			v.mu.Unlock()
			if !good {
				return false
			}
		}
		from, n = from+run, n-run
	}
	return true
}

// readRun passes over pages that are there and reads those after them that are
// not, run pages together. gen is the state of the file that they belong to.
func (v *Vnode) readRun(ctx context.Context, d *fileData, from, n int64) (run int64, got []*page, gen uint64, err error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	b, err := v.bind(ctx)
	if err != nil {
		return 0, nil, 0, err
	}
	if v.data.Load() != d || b.pager == nil || v.dead.Load() != 0 {
		return 0, nil, 0, abi.EIO
	}
	for run < n && d.page(from+run) != nil {
		run++
	}
	var iov abi.Iov
	for run < n && d.page(from+run) == nil && len(got) < maxPagerRun {
		p := v.m.vfs.pool.allocFor(v)
		if p == nil {
			v.m.vfs.pool.release(got...)
			return 0, nil, 0, abi.ENOMEM
		}
		clear(p[:])
		got, iov = append(got, p), append(iov, p[:])
		run++
	}
	if len(got) == 0 {
		return run, nil, d.gen, nil
	}
	if err := b.pager.ReadPages(ctx, v.handle(), (from+run-int64(len(got)))*pageSize, iov); err != nil {
		v.m.vfs.pool.release(got...)
		return 0, nil, 0, err
	}
	if !v.m.current(b) {
		v.m.vfs.pool.release(got...)
		return 0, nil, 0, abi.EIO
	}
	return run, got, d.gen, nil
}

// behind writes dirty pages without the caller when there are many. An error
// leaves them dirty: whoever syncs the file is told. Preconditions: the caller
// has a reference and no lock on v.
func (v *Vnode) behind() {
	d := v.data.Load()
	if d == nil || !d.behind.Load() || !d.writing.CompareAndSwap(false, true) {
		return
	}
	v.async(func(ctx context.Context) {
		v.mu.Lock()
		defer v.mu.Unlock()
		d.writing.Store(false)
		d.behind.Store(false)
		if v.m.leaving.Load() || v.data.Load() != d || v.dead.Load() != 0 || v.unlinked.Load() {
			return
		}
		b, err := v.bind(ctx)
		if err == nil {
			err = v.writePages(ctx, b, abi.KernelCaller, d)
		}
		if err != nil {
			v.m.vfs.o.Log.Warn("writing pages behind", "mount", v.m.dir, "err", err)
		}
	})
}

// Advise is posix_fadvise(2): what will be done with n bytes of a file from off
// on, 0 = to its end. EINVAL for a negative number or unknown advice; EOPNOTSUPP
// for what has no vnode, ESPIPE for a pipe or socket. NORMAL, RANDOM and
// SEQUENTIAL hold for the whole file and all who have it open.
func (fs *VFS) Advise(ctx context.Context, f *file.File, off, n int64, advice int) error {
	if advice < abi.POSIX_FADV_NORMAL || advice > abi.POSIX_FADV_NOREUSE || n < 0 || off < 0 {
		return abi.EINVAL
	}
	v := vnodeOf(f)
	switch {
	case f.Type == file.TypePipe || f.Type == file.TypeSocket || v != nil && v.typ == abi.VFIFO:
		return abi.ESPIPE
	case v == nil:
		return abi.EOPNOTSUPP
	case v.typ != abi.VREG || !v.m.paged() || v.m.kpages() || advice == abi.POSIX_FADV_NOREUSE:
		return nil
	}
	first := off / pageSize
	end := (v.size() + pageSize - 1) / pageSize // behind the last
	if n > 0 && n < v.size()-off {
		end = (off + n + pageSize - 1) / pageSize
	}
	switch advice {
	case abi.POSIX_FADV_WILLNEED:
		v.mu.Lock()
		d := v.pages()
		v.mu.Unlock()
		end = min(end, first+fs.mem.pagesLeft()/(4*pageSize))
		for ; first < end; first += raMax {
			v.prefetch(d, first, min(raMax, end-first), false)
		}
	case abi.POSIX_FADV_DONTNEED:
		b, err := v.bind(ctx)
		if err != nil {
			return err
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		if d := v.data.Load(); d != nil {
			if d.ndirty > 0 {
				if err := v.writePages(ctx, b, abi.KernelCaller, d); err != nil {
					return err
				}
			}
			d.dropCleanIn(first, end)
		}
	default:
		v.mu.Lock()
		d := v.pages()
		v.mu.Unlock()
		d.ra.advise(advice)
	}
	return nil
}

// dropCleanIn frees the clean pages first to end-1.
func (d *fileData) dropCleanIn(first, end int64) {
	var batch []*page
	for k, l := range d.leaves {
		for i, p := range l.pages {
			pn := k<<leafShift + int64(i)
			if p != nil && pn >= first && pn < end && l.dirty[i/64]&(1<<(i%64)) == 0 {
				batch = append(batch, p)
				l.pages[i] = nil
			}
		}
	}
	d.npages.Add(-int64(len(batch)))
	d.m.vfs.cnt.pgEvicted.Add(uint64(len(batch)))
	d.m.vfs.pool.release(batch...)
}
