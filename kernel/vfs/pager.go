package vfs

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// The page cache of a sole file system with a Pager: pages here are copies of
// the file system's, or newer (dirty). Clean ones can be dropped at any time.

const (
	writeBehind = 1024            // dirty pages of one file that are written behind
	writeNow    = 4 * writeBehind // and which their writer has to write himself
	maxPagerRun = leafPages
)

// errMiss says that pages are missing: read again with the lock held
// exclusively.
var errMiss = errors.New("pages missing")

// readMiss reads pages that are missing, then dst.
func (v *Vnode) readMiss(ctx context.Context, dst []byte, off int64) (int, error) {
	b, err := v.bind(ctx)
	if err != nil {
		return 0, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	var va abi.Vattr
	if err := v.getattrLocked(ctx, &va); err != nil {
		return 0, err
	}
	if off >= va.Size {
		return 0, nil
	}
	dst = dst[:min(int64(len(dst)), va.Size-off)]
	v.m.vfs.cnt.pgMisses.Inc()
	ahead := v.pages().ra.miss(off/pageSize, (off+int64(len(dst))-1)/pageSize)
	done := 0
	for done < len(dst) {
		at := off + int64(done)
		// No more at a time than may be in memory at once.
		n := int(min(int64(len(dst)-done), maxXfer-at%maxXfer))
		err := v.fill(ctx, b, at/pageSize, (at+int64(n)-1)/pageSize, va.Size, ahead)
		if err == nil && !v.pages().has(at, n) {
			// Memory is so short that one page took the place of another.
			n = min(n, pageSize-int(at&(pageSize-1)))
			err = v.fill(ctx, b, at/pageSize, at/pageSize, va.Size, 1)
		}
		if err != nil {
			return done, short(done, err)
		}
		v.pages().read(dst[done:done+n], at)
		done += n
	}
	return done, nil
}

// fill brings the missing ones of pages first to last into memory, and ahead
// pages from the first of them. Preconditions: v is locked exclusively, first
// lies in the file.
func (v *Vnode) fill(ctx context.Context, b *binding, first, last, size, ahead int64) error {
	d := v.pages()
	end := (size - 1) / pageSize // the last page that has contents
	for n := first; n <= min(last, end); n++ {
		if d.page(n) != nil {
			continue
		}
		run := n
		stop := min(end, max(last, n+ahead-1), n+maxPagerRun-1)
		for run < stop && d.page(run+1) == nil {
			run++
		}
		var iov abi.Iov
		var got []*page
		for i := n; i <= run; i++ {
			p := v.pagerAlloc(ctx, b, d, i <= last)
			if p == nil {
				break
			}
			clear(p[:])
			got = append(got, p)
			iov = append(iov, p[:])
		}
		if len(got) == 0 {
			return abi.ENOMEM
		}
		if err := b.pager.ReadPages(ctx, v.handle(), n*pageSize, iov); err != nil {
			v.m.vfs.pool.release(got...)
			return err
		}
		for i, p := range got {
			if d.page(n+int64(i)) != nil {
				v.m.vfs.pool.release(p)
				continue
			}
			d.put(n+int64(i), p)
		}
		d.zeroTail(size)
		n += int64(len(got)) - 1
	}
	return nil
}

// pagerAlloc takes a page; if there is none and it must be, clean pages of the
// file itself have to go.
func (v *Vnode) pagerAlloc(ctx context.Context, b *binding, d *fileData, must bool) *page {
	p := v.m.vfs.pool.allocFor(v)
	if p == nil && must {
		if d.ndirty > 0 && v.writePages(ctx, b, abi.KernelCaller, d) != nil {
			return nil
		}
		if d.dropClean() > 0 {
			p = v.m.vfs.pool.allocFor(v)
		}
	}
	return p
}

// pagerWrite writes into the cache what the file system has space for.
// Preconditions: v is locked exclusively.
func (v *Vnode) pagerWrite(ctx context.Context, b *binding, c *abi.Caller, src []byte, off, size int64) (int, error) {
	end := off + int64(len(src))
	if end <= size || !b.grows() {
		return v.pagerFill(ctx, b, c, src, off, size)
	}
	end, told, err := v.grow(ctx, b, c, off, size, end)
	if err != nil {
		return 0, err
	}
	n, err := v.pagerFill(ctx, b, c, src[:end-off], off, size)
	if at := max(size, off+int64(n)); told && at < end {
		// There was no memory for all of it.
		v.m.begin()
		defer v.m.end()
		if _, terr := b.truncater.Truncate(ctx, v.m.op(c), v.handle(), at); terr != nil {
			v.m.vfs.o.Log.Warn("taking back space", "mount", v.m.dir, "err", terr)
		} else {
			v.resized(ctx, b, v.pages(), at)
		}
	}
	return n, err
}

// pagerFill writes into the cache; what is only partly overwritten is read
// first. Preconditions: v is locked exclusively.
func (v *Vnode) pagerFill(ctx context.Context, b *binding, c *abi.Caller, src []byte, off, size int64) (int, error) {
	d := v.pages()
	done := 0
	for done < len(src) {
		pn, o := off/pageSize, int(off&(pageSize-1))
		n := min(len(src)-done, pageSize-o)
		p := d.page(pn)
		if p == nil && (o > 0 || n < pageSize) && pn*pageSize < size {
			if err := v.fill(ctx, b, pn, pn, size, raInit); err != nil {
				return done, short(done, err)
			}
			p = d.page(pn)
		}
		if p == nil {
			if p = v.pagerAlloc(ctx, b, d, true); p == nil {
				return done, short(done, abi.ENOMEM)
			}
			if n < pageSize {
				clear(p[:])
			}
			d.put(pn, p)
		}
		copy(p[o:o+n], src[done:])
		d.soil(pn)
		done += n
		off += int64(n)
		if off > size {
			size = off
			v.touch(size, abi.SetMtime, v.m.vfs.o.Now())
		}
		if d.ndirty >= writeBehind {
			d.behind.Store(true)
		}
		if d.ndirty >= writeNow {
			if err := v.writePages(ctx, b, c, d); err != nil {
				return done, short(done, err)
			}
		}
	}
	return done, nil
}

// short is the error of a transfer of which done bytes went well.
func short(done int, err error) error {
	if done > 0 {
		return nil
	}
	return err
}

// writePages writes the dirty pages of v in runs. Preconditions: v is locked
// exclusively.
func (v *Vnode) writePages(ctx context.Context, b *binding, c *abi.Caller, d *fileData) error {
	if b.pager == nil {
		return nil
	}
	size := v.size()
	if d.promised > 0 {
		defer v.m.giveBack(ctx, b, false)
	}
	v.m.begin()
	defer v.m.end()
	for _, l := range d.sorted() {
		for i := 0; i < len(l.pages); i++ {
			var iov abi.Iov
			from := i
			for ; i < len(l.pages) && l.dirty[i/64]&(1<<(i%64)) != 0; i++ {
				iov = append(iov, l.pages[i][:])
			}
			if len(iov) == 0 {
				continue
			}
			off := (l.idx<<leafShift + int64(from)) * pageSize
			if err := b.pager.WritePages(ctx, v.m.op(c), v.handle(), off, iov, size); err != nil {
				return err
			}
			d.grew(true) // with the first of them the file has all of its size
			v.m.vfs.cnt.pgWritten.Add(uint64(len(iov)))
			for j := from; j < i; j++ {
				d.clean(l, j)
			}
		}
	}
	return nil
}

// sorted are the leaves in the order of the file.
func (d *fileData) sorted() []*leaf {
	ls := slices.Collect(maps.Values(d.leaves))
	slices.SortFunc(ls, func(a, b *leaf) int { return cmp.Compare(a.idx, b.idx) })
	return ls
}

// dropClean frees the pages that are the file system's own.
func (d *fileData) dropClean() int {
	var batch []*page
	for k, l := range d.leaves {
		keep := false
		for i, p := range l.pages {
			switch {
			case p == nil:
			case l.dirty[i/64]&(1<<(i%64)) != 0:
				keep = true
			default:
				batch = append(batch, p)
				l.pages[i] = nil
			}
		}
		if !keep {
			delete(d.leaves, k)
		}
	}
	d.last.Store(nil)
	d.npages.Add(-int64(len(batch)))
	d.m.vfs.cnt.pgEvicted.Add(uint64(len(batch)))
	d.m.vfs.pool.release(batch...)
	return len(batch)
}

// makeRoom is the page pool's way out when the limit is reached: clean pages
// go, else listings of directories, else blocks of devices, else dirty pages,
// which are written first. With clean nothing is written or told a file system.
func (fs *VFS) makeRoom(want int, clean bool) int {
	fs.o.LowMemory()
	if n := fs.evictPages(want, false, clean); n > 0 {
		return n
	}
	if n := fs.lists.shrink() / pageSize; n > 0 {
		return int(n)
	}
	if fs.o.Shrink != nil {
		if n := fs.o.Shrink(int64(want)*pageSize) / pageSize; n > 0 {
			return int(n)
		}
	}
	if clean {
		return 0
	}
	return fs.evictPages(want, true, false)
}

// evictPages frees pages of files with a Pager, a whole file at a time, passing
// over those in use at the moment, and answers how many. With dirty it writes
// pages back to free them. Unlinked files, whose last reference would tell the
// file system, can be left out. The caller may hold a vnode lock: others are only
// tried.
func (fs *VFS) evictPages(want int, dirty, linked bool) int {
	ctx := noWait(context.Background())
	freed := 0
	fs.clockMu.Lock()
	n := len(fs.clock)
	fs.clockMu.Unlock()
	for ; n > 0 && freed < want; n-- {
		fs.clockMu.Lock()
		if len(fs.clock) == 0 {
			fs.clockMu.Unlock()
			break
		}
		fs.pageHand = (fs.pageHand + 1) % len(fs.clock)
		v := fs.clock[fs.pageHand]
		fs.clockMu.Unlock()
		if v.m.kpages() || v.data.Load() == nil || linked && v.unlinked.Load() || !v.tryHold() {
			continue
		}
		if v.mu.TryLock() {
			if d := v.data.Load(); d != nil {
				if dirty && d.ndirty > 0 {
					if err := v.writebackLocked(ctx, abi.KernelCaller); err != nil {
						fs.o.Log.Warn("writing back pages", "mount", v.m.dir, "err", err)
					}
				}
				freed += d.dropClean()
			}
			v.mu.Unlock()
		}
		v.put()
	}
	return freed
}
