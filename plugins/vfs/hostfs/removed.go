package hostfs

import "github.com/rumpus-kernel/rumpus/modapi/abi"

// maxRemoved bounds how many removed files are remembered.
const maxRemoved = 4096

// removed remembers the generations of files whose last name went here,
// because their inodes may be used again at once: a host's clock ticks only
// every few milliseconds, so that the time of birth alone does not tell the two
// apart.
type removed struct {
	gens  map[abi.Fileid]abi.Gen // protected by FS.mu
	order []abi.Fileid           // oldest first, protected by FS.mu
}

// add remembers n. Preconditions: FS.mu is held.
func (r *removed) add(n *node) {
	if r.gens == nil {
		r.gens = make(map[abi.Fileid]abi.Gen)
	}
	if _, ok := r.gens[n.fileid]; !ok {
		if r.order = append(r.order, n.fileid); len(r.order) > maxRemoved {
			delete(r.gens, r.order[0])
			r.order = r.order[1:]
		}
	}
	r.gens[n.fileid] = n.gen
}

// next is the generation of a file with this id and birth that is new in the
// table: its birth, or higher if the last file with the id had that already
// (generations wrap). Preconditions: FS.mu is held.
func (r *removed) next(id abi.Fileid, birth abi.Gen) abi.Gen {
	if g, ok := r.gens[id]; ok && int32(birth-g) <= 0 && int32(birth-g) > -maxAhead {
		return g + 1
	}
	return birth
}

// maxAhead is how far generations can run ahead of births: a minute's.
const maxAhead = 60 << 12
