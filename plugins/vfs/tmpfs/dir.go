package tmpfs

import (
	"cmp"
	"slices"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// dir is the contents of a directory: a map for names, and a list in the
// order of cookies for listing. The list keeps the places of removed entries
// until they are half of it. FS.mu protects all of it.
type dir struct {
	names   map[string]*dirent // nil while empty
	order   []*dirent          // ascending cookies; id 0 = removed
	last    uint64             // cookie given last
	cold    int                // entries that are in the Store only; then names and order are empty
	changed *changes           // since the last checkpoint; nil: nothing
}

// dirent is a name in a directory. When another node takes over the name
// (rename over it, exchange), the dirent stays and so does its cookie.
type dirent struct {
	name   string
	node   *node      // nil: not read from the Store yet, see FS.nodeOf
	id     abi.Fileid // of the node; 0: removed
	cookie uint64
	typ    abi.VType
}

// lead makes e an entry of n.
func (e *dirent) lead(n *node) { e.node, e.id, e.typ = n, n.fileid, n.typ }

func (d *dir) len() int { return len(d.names) + d.cold }

// find is the entry of a name, or nil.
func (d *dir) find(name []byte) *dirent { return d.names[string(name)] }

// add appends an entry.
//
// Preconditions: there is none of that name.
func (d *dir) add(name string, n *node) *dirent {
	if d.names == nil {
		d.names = make(map[string]*dirent)
	}
	d.last++
	e := &dirent{name: name, cookie: d.last}
	e.lead(n)
	d.names[name] = e
	d.order = append(d.order, e)
	return e
}

// del removes an entry that find answered.
func (d *dir) del(e *dirent) {
	delete(d.names, e.name)
	e.node, e.id, e.name = nil, 0, ""
	if len(d.names) == 0 {
		d.names, d.order = nil, nil // cookies go on
		return
	}
	// Compact when most places are empty: each removal pays for one move.
	if len(d.order) >= 16 && len(d.names) < len(d.order)/2 {
		d.compact()
	}
}

// compact drops the places of removed entries, and the room they had.
func (d *dir) compact() {
	live := make([]*dirent, 0, len(d.names)+len(d.names)/4)
	for _, e := range d.order {
		if e.id != 0 {
			live = append(live, e)
		}
	}
	if cap(d.order) >= shrinkFrom {
		d.names = shrunk(d.names)
	}
	d.order = live
}

// after is the list of entries, removed ones among them, behind a cookie.
func (d *dir) after(cookie uint64) []*dirent {
	i, found := d.at(cookie)
	if found {
		i++
	}
	return d.order[i:]
}

// at is where the entry of a cookie is in the list, or belongs.
func (d *dir) at(cookie uint64) (int, bool) {
	return slices.BinarySearchFunc(d.order, cookie, func(e *dirent, c uint64) int { return cmp.Compare(e.cookie, c) })
}

// chunk is the list of entries of a chunk, removed ones among them.
func (d *dir) chunk(n uint64) []*dirent {
	from, _ := d.at(n << chunkBits)
	to, _ := d.at((n + 1) << chunkBits)
	return d.order[from:to]
}

// changes are the chunks of a directory that have changed.
type changes struct {
	all  bool     // too many to be noted
	list []uint64 // some perhaps twice
	most int      // length at which it is sorted out
	few  [4]uint64
}

// maxChanges is how many chunks are noted, or a quarter of those there are; a
// variable for tests.
var maxChanges = 1024

// change notes that the entry of a cookie has changed.
func (d *dir) change(cookie uint64) {
	c, n := d.changed, cookie>>chunkBits
	if c == nil {
		c = &changes{most: 64}
		c.list = c.few[:0]
		d.changed = c
	}
	if c.all || len(c.list) > 0 && c.list[len(c.list)-1] == n {
		return
	}
	c.list = append(c.list, n)
	if len(c.list) < c.most {
		return
	}
	c.sort()
	if len(c.list) > max(maxChanges, len(d.names)>>(chunkBits+2)) {
		*c = changes{all: true}
		return
	}
	c.most = 2*len(c.list) + 64
}

// sort puts the list in order, each chunk once.
func (c *changes) sort() {
	slices.Sort(c.list)
	c.list = slices.Compact(c.list)
}

// checkName says what is wrong with a name that is to be made. The kernel
// has looked at it before; a bad one is a bug there.
func checkName(name []byte) error {
	switch {
	case len(name) > abi.NAME_MAX:
		return abi.ENAMETOOLONG
	case len(name) == 0, string(name) == ".", string(name) == "..":
		return abi.EINVAL
	}
	for _, c := range name {
		if c == 0 || c == '/' {
			return abi.EINVAL
		}
	}
	return nil
}
