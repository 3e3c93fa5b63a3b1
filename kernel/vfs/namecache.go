package vfs

import (
	"hash/maphash"
	"strings"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// nameCache remembers which vnode a name in a directory is, or that there is
// none. It is split into shards by hash, each with a clock of its own. Entries
// take no references: a vnode that was reclaimed is a miss.
type nameCache struct {
	seed   maphash.Seed
	cnt    *counters
	shards [nameShards]nameShard
}

const nameShards = 64

type nameKey struct {
	dir  uint64 // Vnode.id
	name string
}

type nameEntry struct {
	key nameKey
	v   *Vnode // nil: there is no such name
	hot bool
	pos int
}

type nameShard struct {
	mu   sync.Mutex
	m    map[nameKey]*nameEntry
	ring []*nameEntry
	hand int
	max  int
	_    [64]byte
}

func newNameCache(max int, cnt *counters) *nameCache {
	nc := &nameCache{seed: maphash.MakeSeed(), cnt: cnt}
	for i := range nc.shards {
		nc.shards[i].max = max/nameShards + 1
		nc.shards[i].m = make(map[nameKey]*nameEntry)
	}
	return nc
}

func (nc *nameCache) shard(dir uint64, name string) *nameShard {
	h := maphash.String(nc.seed, name) + dir*0x9e3779b97f4a7c15
	return &nc.shards[(h>>32^h)%nameShards]
}

// lookup answers the vnode of a name, without a reference. hit and nil: there
// is no such name.
func (nc *nameCache) lookup(dir *Vnode, name string) (v *Vnode, hit bool) {
	id := dir.id.Load()
	s := nc.shard(id, name)
	s.mu.Lock()
	e := s.m[nameKey{id, name}]
	if e != nil {
		v, hit = e.v, true
		e.hot = true
		if v != nil && (v.refs.Load() < 0 || v.dead.Load() != 0) {
			s.drop(e)
			v, hit = nil, false
		}
	}
	s.mu.Unlock()
	switch {
	case !hit:
		nc.cnt.ncMisses.Inc()
	case v == nil:
		nc.cnt.ncNegHits.Inc()
	default:
		nc.cnt.ncHits.Inc()
	}
	return v, hit
}

// enter records a name. It does nothing if still, asked under the lock,
// answers false.
func (nc *nameCache) enter(dir *Vnode, name string, v *Vnode, still func() bool) {
	id := dir.id.Load()
	s := nc.shard(id, name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if still != nil && !still() {
		return
	}
	if e := s.m[nameKey{id, name}]; e != nil {
		e.v, e.hot = v, true
		return
	}
	for len(s.ring) >= s.max {
		if s.hand >= len(s.ring) {
			s.hand = 0
		}
		e := s.ring[s.hand]
		if e.hot {
			e.hot = false
			s.hand++
			continue
		}
		s.drop(e)
		nc.cnt.ncEvicted.Inc()
	}
	e := &nameEntry{key: nameKey{id, strings.Clone(name)}, v: v, pos: len(s.ring)}
	s.ring = append(s.ring, e)
	s.m[e.key] = e
}

// remove forgets a name.
func (nc *nameCache) remove(dir *Vnode, name string) {
	id := dir.id.Load()
	s := nc.shard(id, name)
	s.mu.Lock()
	if e := s.m[nameKey{id, name}]; e != nil {
		s.drop(e)
	}
	s.mu.Unlock()
}

func (s *nameShard) drop(e *nameEntry) {
	delete(s.m, e.key)
	last := len(s.ring) - 1
	s.ring[e.pos] = s.ring[last]
	s.ring[e.pos].pos = e.pos
	s.ring[last] = nil
	s.ring = s.ring[:last]
}

// purge forgets all names (cache_purgevfs and more).
func (nc *nameCache) purge() {
	for i := range nc.shards {
		s := &nc.shards[i]
		s.mu.Lock()
		clear(s.m)
		clear(s.ring)
		s.ring = s.ring[:0]
		s.mu.Unlock()
	}
}

// nameStamp is the state of a mount's mutators at a moment.
type nameStamp struct {
	n  uint64
	ok bool
}

// stamp is taken before asking for several names; unchanged says afterwards
// whether no mutator ran meanwhile.
func (m *Mount) stamp() nameStamp {
	f := m.finished.Load()
	s := m.started.Load()
	return nameStamp{s, s == f}
}

func (m *Mount) unchanged(s nameStamp) bool { return s.ok && m.started.Load() == s.n }

// begin and end bracket a mutator, the update of the caches included.
func (m *Mount) begin() { m.started.Add(1) }
func (m *Mount) end()   { m.finished.Add(1) }

// cacheName records a name of a sole mount as b answered it; no negative entries where case is
// ignored.
func (m *Mount) cacheName(b *binding, dir *Vnode, name string, v *Vnode, still func() bool) {
	if m.sole() && (v != nil || !m.casefold()) {
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
