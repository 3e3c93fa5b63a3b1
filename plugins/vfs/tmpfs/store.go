package tmpfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// restore makes a mount as it was at the checkpoint of seq: its counters and
// its root. The rest is read when somebody asks for it.
func restore(ctx context.Context, id abi.Fsid, o options, st modapi.Store, seq abi.OpSeq) (*FS, error) {
	b, err := st.Get(ctx, []byte{keySuper})
	if err != nil {
		return nil, fmt.Errorf("tmpfs: the store of mount %d: %w", id, noRecord(err))
	}
	var s superblock
	if err := s.parse(b); err != nil {
		return nil, err
	}
	if s.seq != seq {
		return nil, fmt.Errorf("tmpfs: the store of mount %d is of mutator %d, not %d: %w", id, s.seq, seq, abi.EIO)
	}
	f := &FS{fsid: id, opt: o, nodes: make(map[abi.Fileid]*node), st: st, lazy: true,
		next: s.next, names: s.names, live: s.live, xbytes: s.xbytes}
	if f.root, err = f.byID(ctx, s.root); err != nil {
		return nil, err
	}
	if f.root == nil || f.root.dir == nil {
		return nil, fmt.Errorf("tmpfs: the store of mount %d has no root: %w", id, abi.EIO)
	}
	return f, nil
}

// noRecord is the error of a Get, of a record that must be there.
func noRecord(err error) error {
	if abi.ErrnoOf(err) == abi.ENOENT {
		return abi.EIO
	}
	return err
}

// Reading of nodes goes ahead by this many records, twice as many whenever the
// next one asked for is the one behind them.
const (
	minAhead = 16
	maxAhead = 1024
)

// byID is the node of an id, read from the Store if need be; nil if there is
// none.
//
// Preconditions: f.mu is held, exclusively if f.lazy.
func (f *FS) byID(ctx context.Context, id abi.Fileid) (*node, error) {
	if n := f.nodes[id]; n != nil || !f.lazy {
		return n, nil
	}
	if f.dead[id] != nil || f.next != 0 && id >= f.next {
		return nil, nil
	}
	if f.ahead = min(2*f.ahead, maxAhead); id != f.aheadEnd {
		f.ahead = minAhead
	}
	from := appendKey(nil, keyNode, id)
	recs, err := f.st.Scan(ctx, from, []byte{keyNode + 1}, f.ahead)
	if err != nil {
		return nil, fmt.Errorf("tmpfs: read node %d: %w", id, err)
	}
	for i := range recs {
		key := recs[i].Key
		if len(key) != keyLen {
			return nil, fmt.Errorf("tmpfs: key of %d bytes: %w", len(key), abi.EIO)
		}
		at := abi.Fileid(binary.BigEndian.Uint64(key[1:]))
		f.aheadEnd = at + 1
		if f.nodes[at] != nil || f.dead[at] != nil {
			continue
		}
		n, err := parseNode(at, recs[i].Value)
		if err != nil {
			return nil, err
		}
		f.nodes[at] = n
	}
	return f.nodes[id], nil
}

// nodeOf is the node of an entry.
//
// Preconditions: as byID.
func (f *FS) nodeOf(ctx context.Context, e *dirent) (*node, error) {
	if e.node == nil {
		n, err := f.byID(ctx, e.id)
		if err == nil && n == nil {
			err = fmt.Errorf("tmpfs: entry of node %d, which is not there: %w", e.id, abi.EIO)
		}
		if err != nil {
			return nil, err
		}
		e.node = n
	}
	return e.node, nil
}

// scan calls g with every record whose key begins with prefix.
func (f *FS) scan(ctx context.Context, prefix []byte, g func(key, val []byte) error) error {
	to := bytes.Clone(prefix)
	for i := len(to) - 1; ; i-- { // the key kind is never 0xff
		if to[i]++; to[i] != 0 {
			break
		}
	}
	from := prefix
	for {
		recs, err := f.st.Scan(ctx, from, to, 0)
		if err != nil || len(recs) == 0 {
			return err
		}
		for _, r := range recs {
			if err := g(r.Key, r.Value); err != nil {
				return err
			}
		}
		from = modapi.StoreAfter(recs[len(recs)-1].Key)
	}
}

// maxWarm bounds the room made for entries before they have been read.
const maxWarm = 1 << 20

// warm reads the entries of a directory, if they are not here yet.
//
// Preconditions: f.mu is held, exclusively if f.lazy.
func (f *FS) warm(ctx context.Context, n *node) error {
	d := n.dir
	if d.cold == 0 {
		return nil
	}
	most := min(d.cold, maxWarm)
	names := make(map[string]*dirent, most)
	order := make([]*dirent, 0, most)
	last := uint64(0)
	err := f.scan(ctx, appendKey(nil, keyDir, n.fileid), func(key, val []byte) error {
		if len(key) != keyLen+8 {
			return abi.EIO
		}
		es, err := parseChunk(binary.BigEndian.Uint64(key[keyLen:]), val)
		if err != nil || len(es) == 0 {
			return err
		}
		if es[0].cookie <= last || es[len(es)-1].cookie > d.last {
			return abi.EIO
		}
		last = es[len(es)-1].cookie
		for i := range es {
			names[es[i].name] = &es[i]
			order = append(order, &es[i])
		}
		return nil
	})
	if err == nil && (len(names) != d.cold || len(order) != d.cold) {
		err = fmt.Errorf("%d entries instead of %d: %w", len(order), d.cold, abi.EIO)
	}
	if err != nil {
		return fmt.Errorf("tmpfs: read directory %d: %w", n.fileid, err)
	}
	d.names, d.order, d.cold = names, order, 0
	return nil
}

// warmXattrs reads the extended attributes of a node, if they are not here yet.
//
// Preconditions: f.mu is held, exclusively if f.lazy.
func (f *FS) warmXattrs(ctx context.Context, n *node) error {
	if n.extra == nil || !n.extra.xcold {
		return nil
	}
	var xs []xattr
	var cost int64
	err := f.scan(ctx, appendKey(nil, keyXattr, n.fileid), func(key, val []byte) error {
		if len(key) <= keyLen {
			return abi.EIO
		}
		x := xattr{string(key[keyLen:]), val}
		cost += x.cost()
		xs = append(xs, x)
		return nil
	})
	if err == nil && cost != n.extra.xcost {
		err = fmt.Errorf("%d bytes instead of %d: %w", cost, n.extra.xcost, abi.EIO)
	}
	if err != nil {
		return fmt.Errorf("tmpfs: read extended attributes of node %d: %w", n.fileid, err)
	}
	n.extra.xattrs, n.extra.xcold = xs, false
	return nil
}

// mark notes that the record of n has to be written.
//
// Preconditions: f.mu is held.
func (f *FS) mark(n *node) {
	if !n.dirty && f.st != nil {
		n.dirty = true
		f.dirty = append(f.dirty, n)
	}
}

// bury notes that the records of n have to go: n is gone.
func (f *FS) bury(n *node) {
	switch {
	case n.stored:
		if f.dead == nil {
			f.dead = make(map[abi.Fileid]*node)
		}
		f.dead[n.fileid] = n
	case n.dirty:
		// It was never written, and stays in the list until there are many.
		if f.ghosts++; f.ghosts > 64 && f.ghosts > len(f.dirty)/2 {
			f.exorcise()
		}
	}
}

// exorcise takes nodes that are gone out of the list of what is to be written.
func (f *FS) exorcise() {
	live := f.dirty[:0]
	for _, n := range f.dirty {
		if !n.isGone() {
			live = append(live, n)
		}
	}
	clear(f.dirty[len(live):])
	f.dirty = live
	f.ghosts = 0
}

// batch gathers changes for the Store.
type batch struct {
	ctx context.Context
	st  modapi.Store
	ops []modapi.StoreOp
	buf []byte
}

// batchSize is when a batch is sent, in bytes.
const batchSize = 512 << 10

// put sets a record: whatever key and val append.
func (b *batch) put(key func([]byte) []byte, val func([]byte) []byte) error {
	at := len(b.buf)
	b.buf = key(b.buf)
	k := b.buf[at:len(b.buf):len(b.buf)]
	at = len(b.buf)
	if val != nil {
		b.buf = val(b.buf)
	}
	b.ops = append(b.ops, modapi.StoreOp{Key: k, Value: b.buf[at:len(b.buf):len(b.buf)], Delete: val == nil})
	if len(b.buf) >= batchSize {
		return b.send()
	}
	return nil
}

// keepBatch is the largest room for changes that is kept.
const keepBatch = 1 << 14

// trim forgets what is too large to be kept.
func (b *batch) trim() {
	b.ctx = nil
	if cap(b.ops) > keepBatch {
		b.ops = nil
	}
	if cap(b.buf) > 2*batchSize {
		b.buf = nil
	}
}

func (b *batch) send() error {
	if len(b.ops) == 0 {
		return nil
	}
	err := b.st.Write(b.ctx, b.ops)
	clear(b.ops)
	b.ops, b.buf = b.ops[:0], b.buf[:0]
	return err
}

// Checkpoint writes the records of what has changed. Reads go on meanwhile,
// but for those that have to read from the Store themselves.
func (f *FS) Checkpoint(ctx context.Context, seq abi.OpSeq) error {
	f.ckptMu.Lock()
	defer f.ckptMu.Unlock()
	if err := f.write(ctx, seq); err != nil {
		return fmt.Errorf("tmpfs: checkpoint of %d: %w", seq, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.dirty {
		n.dirty = false
		if n.dir != nil {
			n.dir.changed = nil
		}
		if n.extra != nil {
			n.extra.xchanged = nil
		}
	}
	if cap(f.dirty) > 4096 {
		f.dirty = nil
	}
	clear(f.dirty)
	f.dirty, f.dead, f.ghosts = f.dirty[:0], nil, 0
	return nil
}

func (f *FS) write(ctx context.Context, seq abi.OpSeq) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.st == nil {
		return abi.ENXIO
	}
	b := &f.batch
	b.ctx, b.st = ctx, f.st
	b.ops, b.buf = b.ops[:0], b.buf[:0]
	defer b.trim()
	for _, n := range f.dead {
		if err := f.writeDead(b, n); err != nil {
			return err
		}
	}
	for _, n := range f.dirty {
		if n.isGone() {
			continue
		}
		n.stored = true // even if this fails: part of it may be there
		if err := f.writeNode(b, n); err != nil {
			return err
		}
	}
	s := superblock{seq: seq, root: f.root.fileid, next: f.next, names: f.names, live: f.live, xbytes: f.xbytes}
	if err := b.put(func(p []byte) []byte { return append(p, keySuper) }, s.append); err != nil {
		return err
	}
	return b.send()
}

// writeNode writes what has changed of a node.
func (f *FS) writeNode(b *batch, n *node) error {
	err := b.put(func(p []byte) []byte { return appendKey(p, keyNode, n.fileid) }, func(p []byte) []byte { return appendNode(p, n) })
	if err == nil && n.dir != nil {
		err = f.writeChunks(b, n)
	}
	if err == nil && n.extra != nil {
		for name := range n.extra.xchanged {
			if err = f.writeXattr(b, n, name); err != nil {
				break
			}
		}
	}
	return err
}

// writeDead deletes the records of a node that is gone. A directory was empty
// then, so that what is there of it is what has changed.
func (f *FS) writeDead(b *batch, n *node) error {
	if err := b.put(func(p []byte) []byte { return appendKey(p, keyNode, n.fileid) }, nil); err != nil {
		return err
	}
	if n.dir != nil {
		if err := f.writeChunks(b, n); err != nil {
			return err
		}
	}
	if n.extra == nil || n.extra.xcost == 0 && n.extra.xchanged == nil {
		return nil
	}
	return f.deleteAll(b, appendKey(nil, keyXattr, n.fileid), nil)
}

// deleteAll deletes the records whose key begins with prefix, but for those
// that are to stay.
func (f *FS) deleteAll(b *batch, prefix []byte, stay func(key []byte) bool) error {
	if err := b.send(); err != nil { // what it has must be seen
		return err
	}
	return f.scan(b.ctx, prefix, func(key, _ []byte) error {
		if stay != nil && stay(key) {
			return nil
		}
		return b.put(func(p []byte) []byte { return append(p, key...) }, nil)
	})
}

// writeChunks writes the chunks of a directory that have changed.
func (f *FS) writeChunks(b *batch, n *node) error {
	c := n.dir.changed
	switch {
	case c == nil:
		return nil
	case !c.all:
		for _, chunk := range c.list {
			if err := f.writeChunk(b, n, chunk); err != nil {
				return err
			}
		}
		return nil
	}
	there := make(map[uint64]struct{}, len(n.dir.order)>>chunkBits+1)
	for _, e := range n.dir.order {
		if e.id != 0 {
			there[e.cookie>>chunkBits] = struct{}{}
		}
	}
	for chunk := range there {
		if err := f.writeChunk(b, n, chunk); err != nil {
			return err
		}
	}
	return f.deleteAll(b, appendKey(nil, keyDir, n.fileid), func(key []byte) bool {
		_, ok := there[binary.BigEndian.Uint64(key[keyLen:])]
		return ok
	})
}

// writeChunk writes a chunk, or deletes it if it has no entries.
func (f *FS) writeChunk(b *batch, n *node, chunk uint64) error {
	var val func([]byte) []byte
	es := n.dir.chunk(chunk)
	for _, e := range es {
		if e.id != 0 {
			val = func(p []byte) []byte {
				for _, e := range es {
					if e.id != 0 {
						p = appendEntry(p, e)
					}
				}
				return p
			}
			break
		}
	}
	return b.put(func(p []byte) []byte { return appendChunkKey(p, n.fileid, chunk) }, val)
}

// writeXattr writes an extended attribute, or deletes it if it is gone.
func (f *FS) writeXattr(b *batch, n *node, name string) error {
	var val func([]byte) []byte
	if i, ok := n.findXattr(name); ok {
		val = func(p []byte) []byte { return append(p, n.extra.xattrs[i].value...) }
	}
	return b.put(func(p []byte) []byte { return append(appendKey(p, keyXattr, n.fileid), name...) }, val)
}

var _ vfsops.Checkpointer = (*FS)(nil)
