package ext4

import (
	"context"
	"errors"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// tx is one operation. What it changes is blocks in the cache, of which it keeps
// what they were: an operation that fails leaves nothing behind. Protected by
// FS.mu, and only used as long as that is held.
type tx struct {
	ctx  context.Context
	f    *FS
	id   uint64
	op   *vfsops.Op // nil: it only reads
	undo []undo
	tick int
	made []uint32 // inodes that it took
	gone []uint32 // and that it gave back
	reap []uint32 // and of which something is left to do
}

// undo is what a block was before an operation.
type undo struct {
	b     *buf
	data  []byte // nil: it was not in memory
	dirty bool
	ok    uint8
}

// reader begins an operation that changes nothing.
func (f *FS) reader(ctx context.Context) *tx {
	f.c.trim()
	return &tx{ctx: ctx, f: f}
}

func (t *tx) get(blk uint64) (*buf, error) { return t.getRun(blk, 1) }

func (t *tx) getRun(blk uint64, run int) (*buf, error) {
	if t.tick++; t.tick%64 == 0 {
		modapi.Tick(t.ctx)
	}
	if blk >= t.f.s.blocks {
		return nil, fmt.Errorf("block %d of %d: %w", blk, t.f.s.blocks, abi.EIO)
	}
	run = int(min(uint64(run), t.f.s.blocks-blk))
	return t.f.c.getRun(t.ctx, blk, run)
}

// trim keeps memory within bounds in the middle of an operation that only reads:
// no block or inode got before is valid behind it.
func (t *tx) trim() {
	if t.op == nil {
		t.f.c.trim()
	}
}

// mod makes a block ready to be changed.
func (t *tx) mod(b *buf) {
	if b.op == t.id {
		return
	}
	t.undo = append(t.undo, undo{b, append([]byte(nil), b.data...), b.dirty, b.ok})
	b.op = t.id
	t.f.soil(b)
}

// fresh is a new block of metadata, zeroes.
func (t *tx) fresh(blk uint64) *buf {
	_, had := t.f.c.blks[blk]
	b := t.f.c.fresh(blk)
	if had {
		t.mod(b)
		clear(b.data)
		b.ok = 0
		return b
	}
	t.undo = append(t.undo, undo{b: b})
	b.op = t.id
	t.f.soil(b)
	return b
}

func (f *FS) soil(b *buf) {
	if !b.dirty {
		b.dirty = true
		f.dirty[b.n] = b
	}
}

// rollback undoes an operation.
func (t *tx) rollback() {
	for i := len(t.undo) - 1; i >= 0; i-- {
		u := t.undo[i]
		u.b.op = 0
		if u.data == nil {
			u.b.dirty = false
			delete(t.f.dirty, u.b.n)
			t.f.c.drop(u.b.n)
			continue
		}
		copy(u.b.data, u.data)
		u.b.ok = u.ok
		if u.b.dirty = u.dirty; !u.dirty {
			delete(t.f.dirty, u.b.n)
		}
	}
	t.undo = nil
}

// change runs a mutator. What fails is undone; if there is no space but some is
// freed by the running transaction, that is committed and it is tried again.
// Preconditions: f.mu is held.
func (f *FS) change(ctx context.Context, op *vfsops.Op, do func(t *tx) error) error {
	if err := f.writable(); err != nil {
		return err
	}
	for again := false; ; again = true {
		f.c.trim()
		f.opID++
		t := &tx{ctx: ctx, f: f, id: f.opID, op: op}
		err := do(t)
		if err != nil {
			t.rollback()
			for _, ino := range t.made {
				delete(f.nodes, ino)
			}
			f.freedIn(t, false)
			if errors.Is(err, abi.ENOSPC) && !again && len(f.pend) > 0 {
				if cerr := f.commit(ctx); cerr != nil {
					return cerr
				}
				continue
			}
			return err
		}
		f.freedIn(t, true)
		f.lastNow = op.Now
		f.reap = append(f.reap, t.reap...)
		return f.roomy(ctx)
	}
}

// freedIn settles the blocks that an operation freed.
func (f *FS) freedIn(t *tx, done bool) {
	if done {
		for _, ino := range t.gone {
			delete(f.nodes, ino)
			f.pinsChanged[ino] = true
		}
		for _, r := range f.revoking {
			f.revoked[r] = true
		}
		for _, b := range f.dropping {
			if c := f.c.blks[b]; c != nil {
				if c.dirty {
					c.dirty = false
					delete(f.dirty, b)
				}
				f.c.drop(b)
			}
		}
	}
	f.revoking, f.dropping = f.revoking[:0], f.dropping[:0]
}

// writable says whether there may be changes.
func (f *FS) writable() error {
	if f.broken != nil {
		return f.broken
	}
	if f.readOnly {
		return abi.EROFS
	}
	return nil
}
