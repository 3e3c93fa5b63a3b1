package fat

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// maxSlots is how many slots a directory may have.
const maxSlots = 65536

// dir is a directory in memory.
type dir struct {
	slots  int              // there are so many
	ents   []*dent          // by the index of their short slot
	used   []bool           // which slots are in use
	byName map[string]*dent // long and short names, folded
	short  map[[11]byte]bool
	n      int          // entries
	dirs   uint32       // of them directories
	low    int          // no free slot before this one
	tails  map[tail]int // all numbers of short names below these are taken
	end    int          // from here on nothing was ever used: the end marker, or slots
}

// dent is an entry of a directory.
type dent struct {
	first int // index of its first slot
	index int // and of its short slot
	name  string
	alias string // its short name, folded
	sn    [11]byte
	nt    byte  // how it is shown without a long name
	at    int64 // where the short slot is
	isDir bool
}

// slotAt is where a slot of a directory is on the device.
func (f *FS) slotAt(n *node, index int) int64 {
	off := int64(index) * slotSize
	if n.id == rootID && f.t.rootSize > 0 {
		return f.t.root + off
	}
	c, _ := n.ch.find(uint32(off / f.t.cluster))
	return f.t.at(c) + off%f.t.cluster
}

// readDir reads a directory that has not been read.
func (f *FS) readDir(ctx context.Context, n *node) error {
	if n.d != nil {
		return nil
	}
	if other := f.owners[n.ch.first]; other != 0 && other != n.id && !n.gone {
		// A directory in itself, or in two places.
		return fmt.Errorf("directory at %d: cluster %d is that of directory %d: %w", n.at, n.ch.first, other, abi.EIO)
	}
	var pieces []run
	slots := 0
	fixed := n.id == rootID && f.t.rootSize > 0
	if fixed {
		slots = int(f.t.rootSize / slotSize)
	} else {
		// One more than there may be: then it is damaged.
		most := uint32(maxSlots*slotSize/f.t.cluster) + 1
		if err := f.t.walk(ctx, &n.ch, most); err != nil {
			return fmt.Errorf("directory at %d: %w", n.at, err)
		}
		if !n.ch.done && n.ch.n < most {
			return fmt.Errorf("directory at %d: %w", n.at, abi.EIO)
		}
		if n.ch.n >= most {
			return fmt.Errorf("directory at %d has more than %d slots: %w", n.at, maxSlots, abi.EIO)
		}
		if n.ch.n == 0 {
			return fmt.Errorf("directory at %d has no clusters: %w", n.at, abi.EIO)
		}
		slots = int(int64(n.ch.n) * f.t.cluster / slotSize)
		pieces = n.ch.runs
	}
	buf := make([]byte, slots*slotSize)
	if fixed {
		if err := f.c.read(ctx, buf, f.t.root, 0); err != nil {
			return err
		}
	}
	at := 0
	for _, r := range pieces {
		k := int(int64(r.n) * f.t.cluster)
		if err := f.c.read(ctx, buf[at:at+k], f.t.at(r.disk), 0); err != nil {
			return err
		}
		at += k
	}
	d := &dir{slots: slots, end: slots, ents: make([]*dent, slots), used: make([]bool, slots), byName: map[string]*dent{}, short: map[[11]byte]bool{}}
	n.d = d
	f.own(n)
	var long longName
	long.ok = false
	for i := range slots {
		b := buf[i*slotSize:][:slotSize]
		switch {
		case b[0] == slotEnd:
			d.end = i
			return nil
		case b[0] == slotFree:
			long.ok = false
			continue
		}
		d.used[i] = true
		if b[11]&attrMask == attrLong {
			long.add(b, i)
			continue
		}
		s := parseSlot(b)
		name := long.text(s.name)
		first := i
		if name != "" {
			first = long.from
		}
		long.ok = false
		if n.id == rootID && s.attr&(attrLabel|attrDir) == attrLabel {
			f.t.label = labelOf(s.name[:])
		}
		if s.attr&attrLabel != 0 || s.name == dotName || s.name == dotdotName {
			continue
		}
		alias := shortName(s.name, 0)
		if !showable(name) {
			name = shortName(s.name, s.nt)
		}
		if !showable(name) {
			f.log("a name that cannot be shown", "directory", n.id, "slot", i)
			continue
		}
		d.add(&dent{first: first, index: i, name: name, alias: fold(alias), sn: s.name, nt: s.nt & (ntLowerBase | ntLowerExt), at: f.slotAt(n, i), isDir: s.attr&attrDir != 0})
	}
	return nil
}

// own notes which directory a cluster begins.
func (f *FS) own(n *node) {
	if n.ch.first != 0 {
		f.owners[n.ch.first] = n.id
	}
}

// disown undoes own for a directory that is forgotten.
func (f *FS) disown(n *node) {
	if n.dir && f.owners[n.ch.first] == n.id {
		delete(f.owners, n.ch.first)
	}
}

var (
	dotName    = [11]byte{'.', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '}
	dotdotName = [11]byte{'.', '.', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '}
)

// add notes an entry. Of two with one name, which a damaged disk can have, the
// first is found.
func (d *dir) add(e *dent) {
	d.ents[e.index] = e
	for i := e.first; i <= e.index; i++ {
		d.used[i] = true
	}
	d.n++
	if e.isDir {
		d.dirs++
	}
	d.know(e)
}

// setDir notes that an entry leads to a directory, or no more.
func (d *dir) setDir(e *dent, isDir bool) {
	if e.isDir {
		d.dirs--
	}
	if e.isDir = isDir; isDir {
		d.dirs++
	}
}

// know makes the names of an entry lead to it, if they lead nowhere.
func (d *dir) know(e *dent) {
	d.short[e.sn] = true
	for _, k := range []string{fold(e.name), e.alias} {
		if k != "" && d.byName[k] == nil {
			d.byName[k] = e
		}
	}
}

// del forgets an entry.
func (d *dir) del(e *dent) {
	d.ents[e.index] = nil
	for i := e.first; i <= e.index; i++ {
		d.used[i] = false
	}
	d.n--
	d.setDir(e, false)
	d.low = min(d.low, e.first)
	delete(d.short, e.sn)
	d.untail(e.sn)
	if sn, ok := exactShort(fold(e.name)); ok {
		d.untail(sn)
	}
	for _, k := range []string{fold(e.name), e.alias} {
		if d.byName[k] == e {
			delete(d.byName, k)
		}
	}
}

// untail notes that a short name is not taken any more.
func (d *dir) untail(sn [11]byte) {
	if key, n, ok := tailOf(sn); ok && d.tails[key] > n {
		d.tails[key] = n
	}
}

// find finds a name.
func (d *dir) find(name []byte) *dent { return d.byName[fold(string(name))] }

// place finds n free slots in a row, and has the directory grow if there are
// none. ENOSPC if the disk is full, or the directory cannot grow. Preconditions:
// the table is loaded.
func (f *FS) place(ctx context.Context, n *node, want int) (int, error) {
	d := n.d
	for d.low < d.slots && d.used[d.low] {
		d.low++
	}
	free := 0
	for i := d.low; i < d.slots; i++ {
		if d.used[i] {
			free = 0
			continue
		}
		if free++; free == want {
			return i - want + 1, nil
		}
	}
	if n.id == rootID && f.t.rootSize > 0 {
		return 0, fmt.Errorf("the root directory is full: %w", abi.ENOSPC)
	}
	per := int(f.t.cluster / slotSize)
	more := (want - free + per - 1) / per
	if d.slots+more*per > maxSlots {
		return 0, fmt.Errorf("a directory of %d slots is full: %w", d.slots, abi.ENOSPC)
	}
	old := n.ch.n
	if uint32(more) > f.avail() {
		return 0, abi.ENOSPC
	}
	if err := f.t.grow(ctx, &n.ch, old+uint32(more)); err != nil {
		return 0, err
	}
	for i := old; i < n.ch.n; i++ {
		c, _ := n.ch.find(i)
		if err := f.c.zero(ctx, f.t.at(c), f.t.cluster); err != nil {
			return 0, err
		}
	}
	start := d.slots - free
	d.slots += more * per
	d.ents = append(d.ents, make([]*dent, more*per)...)
	d.used = append(d.used, make([]bool, more*per)...)
	return start, nil
}

// insert writes the slots of a name from an index on, and answers the entry. The
// short slot is written by who calls.
func (f *FS) insert(ctx context.Context, n *node, from int, nm *naming, isDir bool) (*dent, error) {
	k := 0
	if nm.units != nil {
		long := longSlots(nm.units, sumOf(nm.sn))
		k = len(long) / slotSize
		for i := range k {
			if err := f.c.write(ctx, long[i*slotSize:][:slotSize], f.slotAt(n, from+i)); err != nil {
				return nil, err
			}
		}
	}
	e := &dent{first: from, index: from + k, name: nm.name, alias: fold(shortName(nm.sn, 0)), sn: nm.sn, nt: nm.nt, at: f.slotAt(n, from+k), isDir: isDir}
	n.d.add(e)
	if e.index < n.d.end {
		return e, nil
	}
	// What is behind the end marker may be anything.
	if n.d.end = e.index + 1; n.d.end < n.d.slots {
		return e, f.c.write(ctx, []byte{slotEnd}, f.slotAt(n, n.d.end))
	}
	return e, nil
}

// erase marks the slots of an entry as free.
func (f *FS) erase(ctx context.Context, n *node, e *dent) error {
	for i := e.first; i <= e.index; i++ {
		if err := f.c.write(ctx, []byte{slotFree}, f.slotAt(n, i)); err != nil {
			return err
		}
	}
	n.d.del(e)
	return nil
}

// naming is what a new name in a directory needs.
type naming struct {
	name  string
	units []uint16 // nil: the short name says it all
	sn    [11]byte
	nt    byte
	slots int
}

// nameFor prepares a new name; old is an entry that it takes the place of, or
// nil. EINVAL, ENAMETOOLONG.
func (d *dir) nameFor(name []byte, old *dent) (naming, error) {
	units, err := checkName(name)
	if err != nil {
		return naming{}, err
	}
	r := naming{name: string(name), units: units}
	r.slots = (len(units)+unitsPerSlot-1)/unitsPerSlot + 1
	taken := func(sn [11]byte) bool { return d.short[sn] && (old == nil || old.sn != sn) }
	if sn, ok := exactShort(fold(r.name)); ok && !taken(sn) {
		r.sn = sn
		if nt, ok := lowered(r.name); ok {
			r.nt, r.units, r.slots = nt, nil, 1
		}
		return r, nil
	}
	if d.tails == nil {
		d.tails = map[tail]int{}
	}
	r.sn, err = makeShort(r.name, d.tails, func(sn [11]byte) bool { return d.short[sn] || d.byName[fold(shortName(sn, 0))] != nil })
	return r, err
}
