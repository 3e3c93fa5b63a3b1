package store

import (
	"slices"
	"sort"
)

// table is records in the order of their keys: leaves of at most leafMax, none
// empty, in a slice. With a million records that is twenty comparisons to find
// one, and to split a leaf moves some 100 KiB, once in leafMax/2 insertions.
type table struct {
	leaves []*leaf
	n      int
	hint   int // the leaf of the last change: the next one is near, mostly
}

type leaf struct{ recs []rec }

type rec struct {
	key string
	val []byte
}

// leafMax is how many records a leaf has at most; one with fewer than leafMin
// is joined with its neighbour if they fit.
const (
	leafMax = 128
	leafMin = leafMax / 4
)

// find is where key is or belongs: leaf i, place j. Without leaves it is 0, 0.
func (t *table) find(key string) (i, j int, ok bool) {
	// The last leaf that begins at or before key; the first if there is none.
	i = sort.Search(len(t.leaves), func(i int) bool { return t.leaves[i].recs[0].key > key }) - 1
	if i < 0 {
		return 0, 0, false
	}
	j, ok = t.leaves[i].find(key)
	return i, j, ok
}

func (l *leaf) find(key string) (int, bool) {
	r := l.recs
	j := sort.Search(len(r), func(j int) bool { return r[j].key >= key })
	return j, j < len(r) && r[j].key == key
}

// near is find for a change: it looks at the leaf of the last one first, and at
// its end.
func (t *table) near(key string) (i, j int, ok bool) {
	i = t.hint
	if i < len(t.leaves) && t.leaves[i].recs[0].key <= key && (i+1 == len(t.leaves) || key < t.leaves[i+1].recs[0].key) {
		l := t.leaves[i]
		if n := len(l.recs); l.recs[n-1].key < key {
			return i, n, false
		}
		j, ok = l.find(key)
		return i, j, ok
	}
	i, j, ok = t.find(key)
	t.hint = i
	return i, j, ok
}

func (t *table) get(key []byte) ([]byte, bool) {
	i, j, ok := t.find(string(key))
	if !ok {
		return nil, false
	}
	return t.leaves[i].recs[j].val, true
}

// set sets a record and answers what it was.
func (t *table) set(key string, val []byte) (old []byte, had bool) {
	i, j, ok := t.near(key)
	if ok {
		r := &t.leaves[i].recs[j]
		old, r.val = r.val, val
		return old, true
	}
	t.insert(i, j, rec{key, val})
	return nil, false
}

// insert puts a record where find said.
func (t *table) insert(i, j int, r rec) {
	t.n++
	if len(t.leaves) == 0 {
		t.leaves = []*leaf{{recs: append(make([]rec, 0, leafMax), r)}}
		return
	}
	l := t.leaves[i]
	if len(l.recs) == leafMax {
		// Split in halves; at the end, where keys mostly come in order, leave
		// the full one full.
		at := leafMax / 2
		if j == leafMax {
			at = leafMax - 1
		}
		right := &leaf{recs: append(make([]rec, 0, leafMax), l.recs[at:]...)}
		clear(l.recs[at:])
		l.recs = l.recs[:at]
		t.leaves = slices.Insert(t.leaves, i+1, right)
		if j > at {
			l, j = right, j-at
			t.hint = i + 1
		}
	}
	l.recs = slices.Insert(l.recs, j, r)
}

// del deletes a record and answers what it was.
func (t *table) del(key string) (old []byte, had bool) {
	i, j, ok := t.near(key)
	if !ok {
		return nil, false
	}
	t.n--
	l := t.leaves[i]
	old = l.recs[j].val
	l.recs = slices.Delete(l.recs, j, j+1)
	switch {
	case len(l.recs) == 0:
		t.leaves = slices.Delete(t.leaves, i, i+1)
	case len(l.recs) < leafMin && i+1 < len(t.leaves) && len(l.recs)+len(t.leaves[i+1].recs) <= leafMax:
		l.recs = append(l.recs, t.leaves[i+1].recs...)
		t.leaves = slices.Delete(t.leaves, i+1, i+2)
	}
	return old, true
}

// each calls f with the records from a key on until it answers false.
func (t *table) each(from string, f func(key string, val []byte) bool) {
	i, j, _ := t.find(from)
	for ; i < len(t.leaves); i, j = i+1, 0 {
		for _, r := range t.leaves[i].recs[j:] {
			if !f(r.key, r.val) {
				return
			}
		}
	}
}
