package vfs

import (
	"context"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// fileData are the pages of one file: leaves of up to 256 pages, found by
// offset >> 20. A page that is missing is a hole (kpages) or not cached.
//
// It is protected by the lock of the vnode it belongs to: shared to read
// pages, exclusive to change which pages there are and what is in them.
type fileData struct {
	m      *Mount
	leaves map[int64]*leaf
	last   atomic.Pointer[leaf] // the leaf used last
	npages atomic.Int64
	ndirty int         // pages that differ from the file system's (Pager)
	soiled atomic.Bool // ndirty > 0, for who has no lock
	epoch  uint64      // of the mount's reservation
	gen    uint64      // counts changes of contents, for who reads without the lock

	covered  int64 // bytes that the file system has space for, or has promised (growth)
	promised int64 // of them promised

	ra      readahead
	behind  atomic.Bool // so many pages are dirty that they should be written
	writing atomic.Bool // and they are about to be
}

// leaf holds the pages of 1 MiB of a file.
type leaf struct {
	idx   int64
	pages []*page // shorter than 256 when the rest is missing
	dirty [leafPages / 64]uint64
}

func newFileData(m *Mount) *fileData {
	m.resMu.Lock()
	defer m.resMu.Unlock()
	return &fileData{m: m, leaves: map[int64]*leaf{}, epoch: m.res.epoch}
}

// pages answers v's pages, making an empty set for the first. Preconditions:
// v.mu is held exclusively.
func (v *Vnode) pages() *fileData {
	if d := v.data.Load(); d != nil {
		return d
	}
	d := newFileData(v.m)
	v.data.Store(d)
	if v.m.kpages() {
		v.m.vmu.Lock()
		if v.dead.Load() == 0 {
			v.m.kdata[v.key()] = d
		}
		v.m.vmu.Unlock()
	}
	return d
}

func (d *fileData) leaf(idx int64) *leaf {
	if l := d.last.Load(); l != nil && l.idx == idx {
		return l
	}
	l := d.leaves[idx]
	if l != nil {
		d.last.Store(l)
	}
	return l
}

// has reports whether all pages of a range are there.
func (d *fileData) has(off int64, n int) bool {
	for p := off / pageSize; p <= (off+int64(n)-1)/pageSize; p++ {
		if d.page(p) == nil {
			return false
		}
	}
	return true
}

// soil marks a page that is there as different from the file system's.
func (d *fileData) soil(n int64) {
	d.gen++
	l, i := d.leaf(n>>leafShift), int(n&(leafPages-1))
	if l.dirty[i/64]&(1<<(i%64)) == 0 {
		l.dirty[i/64] |= 1 << (i % 64)
		d.ndirty++
		d.soiled.Store(true)
	}
}

func (d *fileData) clean(l *leaf, i int) {
	if l.dirty[i/64]&(1<<(i%64)) != 0 {
		l.dirty[i/64] &^= 1 << (i % 64)
		d.ndirty--
		d.soiled.Store(d.ndirty > 0)
	}
}

// page answers page n, nil if it is missing.
func (d *fileData) page(n int64) *page {
	l := d.leaf(n >> leafShift)
	if l == nil {
		return nil
	}
	if i := int(n & (leafPages - 1)); i < len(l.pages) {
		return l.pages[i]
	}
	return nil
}

// put stores a page that was missing.
func (d *fileData) put(n int64, p *page) {
	idx, i := n>>leafShift, int(n&(leafPages-1))
	l := d.leaf(idx)
	if l == nil {
		l = &leaf{idx: idx}
		d.leaves[idx] = l
	}
	for i >= len(l.pages) {
		if i < cap(l.pages) {
			l.pages = l.pages[:i+1]
			break
		}
		grown := make([]*page, i+1, min(leafPages, max(2*cap(l.pages), i+1)))
		copy(grown, l.pages)
		l.pages = grown
	}
	l.pages[i] = p
	d.npages.Add(1)
}

// drop frees the pages from page n on and answers how many.
func (d *fileData) drop(n int64) int64 {
	d.gen++
	var freed int64
	var batch []*page
	one := func(l *leaf, from int) {
		batch = batch[:0]
		for i := from; i < len(l.pages); i++ {
			if p := l.pages[i]; p != nil {
				batch = append(batch, p)
				l.pages[i] = nil
			}
			d.clean(l, i)
		}
		if len(batch) > 0 {
			d.m.vfs.pool.release(batch...)
			freed += int64(len(batch))
		}
		l.pages = l.pages[:min(from, len(l.pages))]
	}
	idx, i := n>>leafShift, int(n&(leafPages-1))
	for k, l := range d.leaves {
		switch {
		case k > idx || k == idx && i == 0:
			one(l, 0)
			delete(d.leaves, k)
		case k == idx:
			one(l, i)
		}
	}
	d.last.Store(nil)
	d.npages.Add(-freed)
	return freed
}

// free gives everything back. Preconditions: nobody uses d any more.
func (d *fileData) free() {
	n := d.drop(0)
	if d.m.kpages() {
		d.m.unreserve(context.Background(), n, d.epoch)
	} else if d.promised > 0 {
		d.grew(false)
		if b := d.m.b.Load(); b != nil && b.grows() {
			d.m.giveBack(context.Background(), b, false)
		}
	}
}

// read copies from the pages, holes as zeros.
func (d *fileData) read(dst []byte, off int64) {
	for len(dst) > 0 {
		o := int(off & (pageSize - 1))
		n := min(len(dst), pageSize-o)
		if p := d.page(off / pageSize); p != nil {
			copy(dst[:n], p[o:])
		} else {
			clear(dst[:n])
		}
		dst = dst[n:]
		off += int64(n)
	}
}

// zeroTail clears [off, end of its page): behind the end of a file there are
// only zeros, so that it can grow again.
func (d *fileData) zeroTail(off int64) {
	if o := int(off & (pageSize - 1)); o != 0 {
		if p := d.page(off / pageSize); p != nil {
			clear(p[o:])
		}
	}
}

// reservation is the space that a file system granted for pages.
type reservation struct {
	granted, used int64 // pages
	epoch         uint64
	grown         growth // of a file system that keeps contents itself
}

const reserveStep = 256

// reserve takes n pages of the mount's space, possibly fewer; ENOSPC if there
// are none, and what the file system answers if it fails or dies.
func (m *Mount) reserve(ctx context.Context, b *binding, n int64) (int64, error) {
	if b.reserver == nil {
		return n, nil
	}
	for asked := false; ; asked = true {
		m.resMu.Lock()
		got := min(n, m.res.granted-m.res.used)
		if got > 0 && (got == n || asked) {
			m.res.used += got
			m.resMu.Unlock()
			return got, nil
		}
		need := n - got
		epoch := m.res.epoch
		m.resMu.Unlock()
		if asked {
			return 0, abi.ENOSPC
		}
		g, err := b.reserver.Reserve(ctx, max(need, reserveStep))
		if err != nil && abi.ErrnoOf(err) != abi.ENOSPC {
			return 0, err
		}
		if err != nil || g <= 0 || g > max(need, reserveStep) {
			g = 0
		}
		m.resMu.Lock()
		now := m.res.epoch
		if now == epoch {
			m.res.granted += g
		}
		m.resMu.Unlock()
		if now != epoch {
			return 0, abi.ESTALE
		}
	}
}

// unreserve gives n pages of the reservation of an epoch back, to the file
// system when there are many.
func (m *Mount) unreserve(ctx context.Context, n int64, epoch uint64) {
	m.resMu.Lock()
	if m.res.epoch != epoch {
		m.resMu.Unlock()
		return
	}
	m.res.used = max(0, m.res.used-n)
	back := m.res.granted - m.res.used
	if m.res.used > 0 {
		back -= reserveStep
	}
	if back < reserveStep && m.res.used > 0 || back <= 0 {
		m.resMu.Unlock()
		return
	}
	m.res.granted -= back
	m.resMu.Unlock()
	if b := m.b.Load(); b != nil && b.reserver != nil {
		if _, err := b.reserver.Reserve(ctx, -back); err != nil {
			m.vfs.o.Log.Debug("giving back space", "mount", m.dir, "err", err)
		}
	}
}

// kwrite writes into the pages of a kpages file: as much as there is space
// for, ENOSPC if none. Preconditions: v.mu is held exclusively, attributes are
// valid, off+len(src) does not overflow.
func (v *Vnode) kwrite(ctx context.Context, b *binding, src []byte, off int64) (int, error) {
	d := v.pages()
	missing := int64(0)
	for n := off / pageSize; n <= (off+int64(len(src))-1)/pageSize; n++ {
		if d.page(n) == nil {
			missing++
		}
	}
	have := int64(0)
	var short error // why there is less than is missing
	if missing > 0 {
		have, short = v.m.reserve(ctx, b, missing)
	}
	done := 0
	var err error
	for done < len(src) {
		o := int(off & (pageSize - 1))
		n := min(len(src)-done, pageSize-o)
		p := d.page(off / pageSize)
		if p == nil {
			if have == 0 {
				if err = short; err == nil {
					err = abi.ENOSPC
				}
				break
			}
			if p = v.m.vfs.pool.allocFor(v); p == nil {
				err = abi.ENOSPC
				break
			}
			have--
			if n < pageSize {
				clear(p[:])
			}
			d.put(off/pageSize, p)
		}
		copy(p[o:o+n], src[done:])
		done += n
		off += int64(n)
	}
	if have > 0 {
		v.m.unreserve(ctx, have, d.epoch)
	}
	if done > 0 {
		err = nil
	}
	return done, err
}
