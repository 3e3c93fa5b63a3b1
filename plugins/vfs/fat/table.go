package fat

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// table is the file allocation table: chains, and which clusters are free.
// Protected by FS.mu.
type table struct {
	*layout
	c     *cache
	used  []uint64 // a bit a cluster, from number 2; nil until it is needed
	nfree uint32
	next  uint32 // where the search for a free one begins
}

// entryAt is where the entry of a cluster is in the first FAT, and how many
// bytes hold it.
func (t *table) entryAt(c uint32) (off int64, n int) {
	switch t.bits {
	case 12:
		return t.fat + int64(c)*3/2, 2
	case 16:
		return t.fat + int64(c)*2, 2
	}
	return t.fat + int64(c)*4, 4
}

// get is the entry of a cluster. EIO for one that does not exist.
func (t *table) get(ctx context.Context, c uint32) (uint32, error) {
	if !t.valid(c) {
		return 0, fmt.Errorf("cluster %d of %d: %w", c, t.clusters, abi.EIO)
	}
	return t.entry(ctx, c)
}

// entry is get for the two entries in front of the clusters' as well.
func (t *table) entry(ctx context.Context, c uint32) (uint32, error) {
	off, n := t.entryAt(c)
	copyOff := int64(t.active) * t.fatSize
	var b [4]byte
	if err := t.c.read(ctx, b[:n], off+copyOff, t.fat+copyOff+t.fatSize); err != nil {
		return 0, err
	}
	return t.decode(c, b[:n]), nil
}

func (t *table) decode(c uint32, b []byte) uint32 {
	switch t.bits {
	case 12:
		v := uint32(binary.LittleEndian.Uint16(b))
		if c&1 != 0 {
			return v >> 4
		}
		return v & 0xfff
	case 16:
		return uint32(binary.LittleEndian.Uint16(b))
	}
	return binary.LittleEndian.Uint32(b) & 0x0fffffff
}

// set changes an entry, in all copies that are kept.
func (t *table) set(ctx context.Context, c, v uint32) error {
	if !t.valid(c) {
		return fmt.Errorf("cluster %d of %d: %w", c, t.clusters, abi.EIO)
	}
	return t.put(ctx, c, v)
}

// put is set for the two entries in front of the clusters' as well.
func (t *table) put(ctx context.Context, c, v uint32) error {
	off, n := t.entryAt(c)
	for i := range t.fats {
		if !t.mirror && i != t.active {
			continue
		}
		at := off + int64(i)*t.fatSize
		var b [4]byte
		if err := t.c.read(ctx, b[:n], at, t.fat+int64(i+1)*t.fatSize); err != nil {
			return err
		}
		switch old := binary.LittleEndian.Uint16(b[:]); {
		case t.bits == 32:
			// The upper four bits are not ours.
			w := binary.LittleEndian.Uint32(b[:])
			binary.LittleEndian.PutUint32(b[:], w&0xf0000000|v&0x0fffffff)
		case t.bits == 16:
			binary.LittleEndian.PutUint16(b[:], uint16(v))
		case c&1 != 0:
			binary.LittleEndian.PutUint16(b[:], old&0x000f|uint16(v)<<4)
		default:
			binary.LittleEndian.PutUint16(b[:], old&0xf000|uint16(v)&0xfff)
		}
		if err := t.c.write(ctx, b[:n], at); err != nil {
			return err
		}
	}
	return nil
}

// load finds out which clusters are free. It is done before the first change,
// so that the device has all of the FAT.
func (t *table) load(ctx context.Context) error {
	if t.used != nil {
		return nil
	}
	used := make([]uint64, (t.clusters+63)/64)
	free := t.clusters
	// Pieces of whole sectors in which whole entries begin: 3 sectors are a
	// whole number of entries of 12 bits.
	piece := devops.MaxPhys / (3 * t.sector) * (3 * t.sector)
	buf := make([]byte, min(piece, t.fatSize)+1)
	base := t.fat + int64(t.active)*t.fatSize
	c := uint32(2)
	for at := int64(0); at < t.fatSize && t.valid(c); {
		n := min(piece, t.fatSize-at)
		if err := t.c.strategy(ctx, devops.BRead|devops.BMeta, base+at, abi.IovOf(buf[:n])); err != nil {
			return err
		}
		for ; t.valid(c); c++ {
			off, k := t.entryAt(c)
			off -= t.fat + at
			if off+int64(k) > n {
				break
			}
			if t.decode(c, buf[off:off+int64(k)]) != 0 {
				used[(c-2)/64] |= 1 << ((c - 2) % 64)
				free--
			}
		}
		at += n
	}
	if c-2 < t.clusters { // the last entry of 12 bits ends behind the FAT
		for ; t.valid(c); c++ {
			used[(c-2)/64] |= 1 << ((c - 2) % 64)
			free--
		}
	}
	t.used, t.nfree = used, free
	if !t.valid(t.next) {
		t.next = 2
	}
	return nil
}

// alloc takes a free cluster, if it can near (the one after a file's last), and
// makes it the end of a chain.
func (t *table) alloc(ctx context.Context, near uint32) (uint32, error) {
	if t.nfree == 0 {
		return 0, abi.ENOSPC
	}
	if !t.valid(near) {
		near = t.next
	}
	i := near - 2
	words := uint32(len(t.used))
	for k := uint32(0); k <= words; k++ {
		w := (i/64 + k) % words
		free := ^t.used[w]
		if k == 0 {
			free &= ^uint64(0) << (i % 64)
		}
		for free != 0 {
			c := w*64 + uint32(bits.TrailingZeros64(free)) + 2
			if !t.valid(c) {
				break
			}
			if err := t.set(ctx, c, t.end()|7); err != nil {
				return 0, err
			}
			t.used[w] |= 1 << ((c - 2) % 64)
			t.nfree--
			t.next = c + 1
			if !t.valid(t.next) {
				t.next = 2
			}
			return c, nil
		}
	}
	return 0, fmt.Errorf("%d clusters are free and not to be found: %w", t.nfree, abi.EIO)
}

// release frees a chain from a cluster on. It stops at damage, which is the
// business of fsck.
func (t *table) release(ctx context.Context, c uint32) error {
	for n := uint32(0); t.valid(c) && n <= t.clusters; n++ {
		w, bit := (c-2)/64, uint64(1)<<((c-2)%64)
		if t.used[w]&bit == 0 {
			return nil
		}
		next, err := t.get(ctx, c)
		if err != nil {
			return err
		}
		if err := t.set(ctx, c, 0); err != nil {
			return err
		}
		t.used[w] &^= bit
		t.nfree++
		t.c.drop(t.at(c), t.cluster)
		c = next
	}
	return nil
}

// run is a part of a chain that lies together.
type run struct{ index, disk, n uint32 }

// chain is the clusters of a file, as far as they have been looked for.
type chain struct {
	first uint32 // 0: there are none
	runs  []run
	n     uint32 // clusters in runs
	done  bool   // runs has all of them
}

func (ch *chain) reset(first uint32) { *ch = chain{first: first, done: first == 0} }

// last is the number of the last cluster of a chain that is done.
func (ch *chain) last() uint32 {
	if len(ch.runs) == 0 {
		return 0
	}
	r := ch.runs[len(ch.runs)-1]
	return r.disk + r.n - 1
}

func (ch *chain) push(c uint32) {
	if k := len(ch.runs); k > 0 && ch.runs[k-1].disk+ch.runs[k-1].n == c {
		ch.runs[k-1].n++
	} else {
		ch.runs = append(ch.runs, run{ch.n, c, 1})
	}
	ch.n++
}

// cut forgets all but the first n clusters.
func (ch *chain) cut(n uint32) {
	for len(ch.runs) > 0 {
		r := &ch.runs[len(ch.runs)-1]
		if r.index+r.n <= n {
			break
		}
		if r.index < n {
			r.n = n - r.index
			break
		}
		ch.runs = ch.runs[:len(ch.runs)-1]
	}
	ch.n = min(ch.n, n)
}

// find answers where the cluster of an index is, and how many lie together from
// there on. Preconditions: index < ch.n.
func (ch *chain) find(index uint32) (disk, n uint32) {
	lo, hi := 0, len(ch.runs)
	for hi-lo > 1 {
		if m := (lo + hi) / 2; ch.runs[m].index <= index {
			lo = m
		} else {
			hi = m
		}
	}
	r := ch.runs[lo]
	return r.disk + index - r.index, r.n - (index - r.index)
}

// walk looks for a chain's clusters until there are n of them, or it ends. EIO
// if it is damaged or longer than the device.
func (t *table) walk(ctx context.Context, ch *chain, n uint32) error {
	for !ch.done && ch.n < n {
		c := ch.first
		if ch.n > 0 {
			next, err := t.get(ctx, ch.last())
			if err != nil {
				return err
			}
			if next >= t.end() {
				ch.done = true
				return nil
			}
			c = next
		}
		if !t.valid(c) {
			return fmt.Errorf("a chain leads from cluster %d to %d: %w", ch.last(), c, abi.EIO)
		}
		if ch.n >= t.clusters {
			return fmt.Errorf("the chain from cluster %d has no end: %w", ch.first, abi.EIO)
		}
		ch.push(c)
	}
	return nil
}

// grow makes a chain n clusters long. ENOSPC changes nothing. Preconditions:
// load; the chain is done.
func (t *table) grow(ctx context.Context, ch *chain, n uint32) error {
	if n <= ch.n {
		return nil
	}
	if n-ch.n > t.nfree {
		return abi.ENOSPC
	}
	for ch.n < n {
		c, err := t.alloc(ctx, ch.last()+1)
		if err != nil {
			return err
		}
		if ch.n == 0 {
			ch.first = c
		} else if err := t.set(ctx, ch.last(), c); err != nil {
			return err
		}
		ch.push(c)
	}
	return nil
}

// shrink makes a chain n clusters long. Preconditions: load; the chain is done.
func (t *table) shrink(ctx context.Context, ch *chain, n uint32) error {
	if n >= ch.n {
		return nil
	}
	from, _ := ch.find(n)
	if n > 0 {
		last, _ := ch.find(n - 1)
		if err := t.set(ctx, last, t.end()|7); err != nil {
			return err
		}
	} else {
		ch.first = 0
	}
	ch.cut(n)
	return t.release(ctx, from)
}
