package tmpfs

import (
	"slices"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// dir is the contents of a directory: a map for names, and a list in the
// order of cookies for listing. The list keeps the places of removed entries
// until they are half of it. FS.mu protects all of it.
type dir struct {
	names map[string]*dirent // nil while empty
	order []*dirent          // ascending cookies; node nil = removed
	last  uint64             // cookie given last
}

// dirent is a name in a directory. When another node takes over the name
// (rename over it, exchange), the dirent stays and so does its cookie.
type dirent struct {
	name   string
	node   *node // nil: removed
	cookie uint64
}

func (d *dir) len() int { return len(d.names) }

// find is the entry of a name, or nil.
func (d *dir) find(name []byte) *dirent { return d.names[string(name)] }

// add appends an entry.
//
// Preconditions: there is none of that name.
func (d *dir) add(name string, n *node) {
	if d.names == nil {
		d.names = make(map[string]*dirent)
	}
	d.last++
	e := &dirent{name: name, node: n, cookie: d.last}
	d.names[name] = e
	d.order = append(d.order, e)
}

// del removes an entry that find answered.
func (d *dir) del(e *dirent) {
	delete(d.names, e.name)
	e.node, e.name = nil, ""
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
		if e.node != nil {
			live = append(live, e)
		}
	}
	d.order = live
}

// after is the list of entries, removed ones among them, behind a cookie.
func (d *dir) after(cookie uint64) []*dirent {
	i, found := slices.BinarySearchFunc(d.order, cookie, func(e *dirent, c uint64) int {
		switch {
		case e.cookie < c:
			return -1
		case e.cookie > c:
			return 1
		}
		return 0
	})
	if found {
		i++
	}
	return d.order[i:]
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
