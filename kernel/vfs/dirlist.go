package vfs

import (
	"sort"
	"sync"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// The listings of directories of sole file systems, as getdents gives them.
//
// A dirList is the beginning of a directory, or all of it: the answers of the
// file system one behind the other, coded. It never changes: a longer one takes
// its place, and every mutator of the directory, succeed or fail, throws it
// away before it is done. A reader takes no lock; one who reads while a mutator
// is under way sees the directory as it was before.
//
// Cookies are the file system's, in ascending order, so a scan that began in a
// listing goes on in the file system, or in the next listing, where it was.
// Answers whose cookies do not ascend are not kept.
type dirList struct {
	blocks []*dirBlock // at least one
	bytes  int64
	hot    atomic.Bool // used since the clock hand passed
	capped atomic.Bool // there is no memory for more of it
}

// dirBlock is one answer of the file system.
type dirBlock struct {
	buf     []byte   // struct dirent, one behind the other
	ends    []uint32 // of the records in buf
	cookies []uint64 // of the records
	last    uint64   // where to go on
	eof     bool
}

// dirBlockMax is how many bytes of entries are asked for at a time.
const dirBlockMax = 64 << 10

// encode makes a block of an answer for cookie. nil if it may not be kept:
// cookies do not ascend, or a name is none.
func encodeBlock(cookie uint64, res *vfsops.ReaddirRes) *dirBlock {
	size := 0
	for i := range res.Entries {
		size += abi.DirentSize(len(res.Entries[i].Name))
	}
	n := len(res.Entries)
	b := &dirBlock{buf: make([]byte, size), ends: make([]uint32, n), cookies: make([]uint64, n), last: cookie, eof: res.EOF || n == 0}
	at := 0
	for i := range res.Entries {
		e := &res.Entries[i]
		w := abi.PutDirent(b.buf[at:], e)
		if w == 0 || e.Cookie <= b.last || e.Cookie > maxCookie {
			return nil
		}
		at += w
		b.ends[i], b.cookies[i], b.last = uint32(at), e.Cookie, e.Cookie
	}
	return b
}

func (b *dirBlock) bytes() int64 { return int64(len(b.buf) + 4*len(b.ends) + 8*len(b.cookies) + 128) }

// read copies the records behind cookie that fit, and answers how many bytes
// they are, the cookie to go on with, and whether that was all of the block.
func (b *dirBlock) read(dst []byte, cookie uint64) (n int, next uint64, all bool) {
	i := 0
	if len(b.cookies) > 0 && b.cookies[0] <= cookie {
		i = sort.Search(len(b.cookies), func(j int) bool { return b.cookies[j] > cookie })
	}
	from := 0
	if i > 0 {
		from = int(b.ends[i-1])
	}
	k := len(b.ends)
	if len(b.buf)-from > len(dst) {
		k = sort.Search(k, func(j int) bool { return int(b.ends[j])-from > len(dst) })
	}
	if k <= i {
		return 0, cookie, i == len(b.ends)
	}
	return copy(dst, b.buf[from:b.ends[k-1]]), b.cookies[k-1], k == len(b.ends)
}

// How a listing was read.
type listEnd int

const (
	listMore listEnd = iota // there is no more in it, but in the directory
	listFull                // the next record does not fit
	listEOF                 // that was all
)

func (l *dirList) last() *dirBlock { return l.blocks[len(l.blocks)-1] }

// read copies the records behind cookie that fit.
func (l *dirList) read(dst []byte, cookie uint64) (done int, next uint64, end listEnd) {
	i := 0
	if l.blocks[0].last <= cookie {
		i = sort.Search(len(l.blocks), func(j int) bool { return l.blocks[j].last > cookie })
	}
	for ; i < len(l.blocks); i++ {
		n, c, all := l.blocks[i].read(dst[done:], cookie)
		done, cookie = done+n, c
		if !all {
			return done, cookie, listFull
		}
	}
	if l.last().eof {
		return done, cookie, listEOF
	}
	return done, cookie, listMore
}

// grows reports whether an answer for cookie would make v's listing l, which
// may be nil, longer.
func (l *dirList) grows(cookie uint64) bool {
	if l == nil {
		return cookie == 0
	}
	return cookie == l.last().last && !l.last().eof && !l.capped.Load()
}

// dirLists are the directories that have listings, for eviction.
type dirLists struct {
	mem  *memory
	mu   sync.Mutex
	ring []*Vnode // protected by mu, as is every change of Vnode.list
	hand int      // protected by mu
}

// block is how many bytes are asked for at a time.
func (c *dirLists) block() int { return int(min(dirBlockMax, c.mem.share()/4)) }

// put makes what b answered part of v's listing, if that is still old and
// there is memory. Preconditions: v.mu is held, shared or exclusively, since
// before b was asked.
func (c *dirLists) put(v *Vnode, b *binding, old *dirList, blk *dirBlock) {
	n := blk.bytes()
	l := &dirList{bytes: n}
	if old != nil {
		l.bytes += old.bytes
		l.blocks = append(l.blocks, old.blocks...)
	}
	l.blocks = append(l.blocks, blk)
	l.hot.Store(true)
	v.amu.Lock()
	defer v.amu.Unlock()
	if !v.m.current(b) || v.dead.Load() != 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if v.list.Load() != old {
		return
	}
	// One directory gets half of the share, so that two do not take turns.
	if l.bytes > c.mem.share()/2 || !c.roomLocked(v, n) {
		if old != nil {
			old.capped.Store(true)
		}
		return
	}
	if v.list.Store(l); old == nil {
		v.listPos = len(c.ring)
		c.ring = append(c.ring, v)
	}
}

// roomLocked counts n bytes, for which listings of others than v go if they
// must.
func (c *dirLists) roomLocked(v *Vnode, n int64) bool {
	for steps := 2 * len(c.ring); ; steps-- {
		if c.mem.try(memLists, n) {
			return true
		}
		if steps <= 0 || len(c.ring) == 0 {
			return false
		}
		if c.hand++; c.hand >= len(c.ring) {
			c.hand = 0
		}
		if o := c.ring[c.hand]; o != v && !o.list.Load().hot.Swap(false) {
			c.dropLocked(o)
		}
	}
}

// drop forgets v's listing. Every mutator of a directory calls it as soon as
// the file system has answered.
func (c *dirLists) drop(v *Vnode) {
	if v.list.Load() == nil {
		return
	}
	c.mu.Lock()
	c.dropLocked(v)
	c.mu.Unlock()
}

func (c *dirLists) dropLocked(v *Vnode) {
	l := v.list.Swap(nil)
	if l == nil {
		return
	}
	c.mem.take(memLists, -l.bytes)
	last := len(c.ring) - 1
	c.ring[v.listPos] = c.ring[last]
	c.ring[v.listPos].listPos = v.listPos
	c.ring[last] = nil
	c.ring = c.ring[:last]
}

// shrink forgets all listings and answers how many bytes that gave.
func (c *dirLists) shrink() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := int64(0)
	for len(c.ring) > 0 {
		v := c.ring[len(c.ring)-1]
		n += v.list.Load().bytes
		c.dropLocked(v)
	}
	return n
}
