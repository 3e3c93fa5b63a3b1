package vfs

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// nameCache remembers which vnode a name in a directory is, or that there is
// none. It is split into shards by hash, each with a clock of its own. Entries
// take no references: a vnode that was reclaimed is a miss.
//
// A lookup takes no lock: buckets are chains that only who has the shard's lock
// changes, with one store at a time, and an entry that was taken out still leads
// on. What a lookup may miss is a name whose entry is being moved to a larger
// table at that moment; a miss costs a question to the file system and is never
// wrong.
type nameCache struct {
	seed   maphash.Seed
	mem    *memory
	cnt    *counters
	shards [nameShards]nameShard
}

const nameShards = 64

type nameEntry struct {
	hash uint64
	dir  uint64 // Vnode.id
	name string
	v    atomic.Pointer[Vnode] // nil: there is no such name
	next atomic.Pointer[nameEntry]
	hot  atomic.Bool
	pos  int // protected by nameShard.mu; in the ring
}

type nameTable []atomic.Pointer[nameEntry] // a power of two of them

type nameShard struct {
	table atomic.Pointer[nameTable]

	mu    sync.Mutex
	ring  []*nameEntry // protected by mu
	hand  int          // protected by mu
	bytes int64        // protected by mu
	max   int
	_     [64]byte
}

func newNameCache(max int, mem *memory, cnt *counters) *nameCache {
	nc := &nameCache{seed: maphash.MakeSeed(), mem: mem, cnt: cnt}
	for i := range nc.shards {
		s := &nc.shards[i]
		s.max = max/nameShards + 1
		s.table.Store(new(make(nameTable, 4)))
	}
	return nc
}

func (nc *nameCache) hash(dir uint64, name string) uint64 {
	return maphash.String(nc.seed, name) + dir*0x9e3779b97f4a7c15
}

func (nc *nameCache) shard(h uint64) *nameShard { return &nc.shards[(h>>32^h)%nameShards] }

// bucket is the head of the chain of a hash.
func (t nameTable) bucket(h uint64) *atomic.Pointer[nameEntry] {
	return &t[(h>>38^h>>6)&uint64(len(t)-1)]
}

// find answers the entry of a name, nil if there is none.
func (s *nameShard) find(h, dir uint64, name string) *nameEntry {
	for e := s.table.Load().bucket(h).Load(); e != nil; e = e.next.Load() {
		if e.hash == h && e.dir == dir && e.name == name {
			return e
		}
	}
	return nil
}

// lookup answers the vnode of a name, without a reference. hit and nil: there
// is no such name.
func (nc *nameCache) lookup(dir *Vnode, name string) (v *Vnode, hit bool) {
	if v, hit = nc.step(dir, name); v != nil {
		nc.cnt.ncHits.Inc()
	}
	return v, hit
}

// step is lookup for who counts the vnodes that it finds himself.
func (nc *nameCache) step(dir *Vnode, name string) (v *Vnode, hit bool) {
	id := dir.id.Load()
	h := nc.hash(id, name)
	s := nc.shard(h)
	e := s.find(h, id, name)
	if e == nil {
		nc.cnt.ncMisses.Inc()
		return nil, false
	}
	if !e.hot.Load() {
		e.hot.Store(true)
	}
	v = e.v.Load()
	switch {
	case v == nil:
		nc.cnt.ncNegHits.Inc()
	case v.refs.Load() < 0 || v.dead.Load() != 0:
		nc.cnt.ncMisses.Inc()
		s.mu.Lock()
		if e.v.Load() == v && s.find(h, id, name) == e {
			nc.drop(s, e)
		}
		s.mu.Unlock()
		return nil, false
	}
	return v, true
}

// enter records a name. It does nothing if still, asked under the lock,
// answers false.
func (nc *nameCache) enter(dir *Vnode, name string, v *Vnode, still func() bool) {
	id := dir.id.Load()
	h := nc.hash(id, name)
	s := nc.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	if still != nil && !still() {
		return
	}
	if e := s.find(h, id, name); e != nil {
		e.v.Store(v)
		e.hot.Store(true)
		if v != nil {
			v.name.Store(e)
		}
		return
	}
	n := nameBytes + int64(len(name))
	for len(s.ring) > 0 && (len(s.ring) >= s.max || s.bytes+n > nc.mem.share()/nameShards) {
		if s.hand >= len(s.ring) {
			s.hand = 0
		}
		e := s.ring[s.hand]
		if e.hot.Load() {
			e.hot.Store(false)
			s.hand++
			continue
		}
		nc.drop(s, e)
		nc.cnt.ncEvicted.Inc()
	}
	if t := *s.table.Load(); len(s.ring) >= 2*len(t) {
		s.grow(4 * len(t))
	}
	e := &nameEntry{hash: h, dir: id, name: strings.Clone(name), pos: len(s.ring)}
	e.v.Store(v)
	if v != nil {
		v.name.Store(e)
	}
	s.ring = append(s.ring, e)
	s.bytes += n
	nc.mem.take(memNames, n)
	s.table.Load().link(e)
}

// link puts an entry at the head of its chain.
func (t nameTable) link(e *nameEntry) {
	b := t.bucket(e.hash)
	e.next.Store(b.Load())
	b.Store(e)
}

// grow moves the entries to a table of n buckets. Preconditions: s.mu is held.
func (s *nameShard) grow(n int) {
	t := make(nameTable, n)
	for _, e := range s.ring {
		t.link(e)
	}
	s.table.Store(&t)
}

// remove forgets a name.
func (nc *nameCache) remove(dir *Vnode, name string) {
	id := dir.id.Load()
	h := nc.hash(id, name)
	s := nc.shard(h)
	s.mu.Lock()
	if e := s.find(h, id, name); e != nil {
		nc.drop(s, e)
	}
	s.mu.Unlock()
}

// forget takes out the name of a vnode that was reclaimed, so that its memory
// can go; other names of it go when they are met, or at their time.
func (nc *nameCache) forget(v *Vnode) {
	e := v.name.Swap(nil)
	if e == nil {
		return
	}
	s := nc.shard(e.hash)
	s.mu.Lock()
	if e.v.Load() == v && s.find(e.hash, e.dir, e.name) == e {
		nc.drop(s, e)
	}
	s.mu.Unlock()
}

// drop takes out an entry that is in s. Preconditions: s.mu is held.
func (nc *nameCache) drop(s *nameShard, e *nameEntry) {
	at := s.table.Load().bucket(e.hash)
	for at.Load() != e {
		at = &at.Load().next
	}
	at.Store(e.next.Load())
	last := len(s.ring) - 1
	s.ring[e.pos] = s.ring[last]
	s.ring[e.pos].pos = e.pos
	s.ring[last] = nil
	s.ring = s.ring[:last]
	n := nameBytes + int64(len(e.name))
	s.bytes -= n
	nc.mem.take(memNames, -n)
}

// purge forgets all names (cache_purgevfs and more).
func (nc *nameCache) purge() {
	for i := range nc.shards {
		s := &nc.shards[i]
		s.mu.Lock()
		s.table.Store(new(make(nameTable, 4)))
		nc.mem.take(memNames, -s.bytes)
		s.bytes = 0
		clear(s.ring)
		s.ring = s.ring[:0]
		s.mu.Unlock()
	}
}

// nameStamp is the state of a mount's mutators at a moment; the zero one is for
// what a mutator itself answers.
type nameStamp struct {
	n  uint64
	at bool // there is a moment
	ok bool // no mutator ran then
}

// stamp is taken before asking for several names; unchanged says afterwards
// whether no mutator ran meanwhile.
func (m *Mount) stamp() nameStamp {
	f := m.finished.Load()
	s := m.started.Load()
	return nameStamp{s, true, s == f}
}

func (m *Mount) unchanged(s nameStamp) bool { return s.ok && m.started.Load() == s.n }

// fresh is unchanged, and true of what a mutator answers.
func (m *Mount) fresh(s nameStamp) bool { return !s.at || m.unchanged(s) }

// begin and end bracket a mutator, the update of the caches included.
func (m *Mount) begin() { m.started.Add(1) }
func (m *Mount) end()   { m.finished.Add(1) }

// cacheName records a name of a sole mount as b answered it; no negative entries where case is
// ignored.
func (m *Mount) cacheName(b *binding, dir *Vnode, name string, v *Vnode, still func() bool) {
	if m.names() && (v != nil || !m.casefold()) {
		m.vfs.nc.enter(dir, name, v, func() bool { return m.current(b) && (still == nil || still()) })
	}
}

// spellings forgets all names in dir if the mount ignores case: a name that
// goes may be known in other spellings. Preconditions: dir.mu is held
// exclusively.
func (m *Mount) spellings(dir *Vnode) {
	if m.casefold() {
		dir.id.Store(m.vfs.nextID.Add(1))
	}
}

// legalName checks one component of a path for a directory entry.
func legalName(name string) error {
	if len(name) > abi.NAME_MAX {
		return abi.ENAMETOOLONG
	}
	return nil
}
