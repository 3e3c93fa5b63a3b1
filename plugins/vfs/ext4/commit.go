package ext4

import (
	"context"
	"fmt"
	"slices"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// dirtyBytes is how much the running transaction may have.
const dirtyBytes = 8 << 20

// roomy commits a transaction that has become large.
func (f *FS) roomy(ctx context.Context) error {
	if len(f.dirty) < f.most() {
		return nil
	}
	return f.commit(ctx)
}

// most is how many blocks a transaction has at most, before the last operation.
func (f *FS) most() int {
	n := int(dirtyBytes / f.s.bs)
	if f.j != nil {
		n = min(n, f.j.most())
	}
	return max(n, 1)
}

// commit writes the running transaction. After an error it is still running.
func (f *FS) commit(ctx context.Context) error {
	// Contents that are on their way belong to it.
	f.ioMu.Lock()
	defer f.ioMu.Unlock()
	if len(f.dirty) == 0 {
		clear(f.pend)
		return nil
	}
	if err := f.sealAll(ctx); err != nil {
		return err
	}
	bs := f.sorted()
	if f.j != nil {
		if err := f.j.commit(ctx, bs, f.revoked); err != nil {
			return err
		}
	} else if err := f.writeHome(ctx, bs); err != nil {
		return err
	}
	for _, b := range bs {
		b.dirty = false
	}
	clear(f.dirty)
	clear(f.dirtyGroups)
	clear(f.pend)
	clear(f.revoked)
	return nil
}

// sealAll computes the checksums of bitmaps, descriptors and superblock.
func (f *FS) sealAll(ctx context.Context) error {
	t := &tx{ctx: ctx, f: f}
	s := f.s
	for n := range f.dirtyGroups {
		g, err := t.group(n)
		if err != nil {
			return err
		}
		if !g.b.dirty { // undone
			continue
		}
		if s.csum() {
			if b := f.c.blks[g.blockBitmap()]; b != nil && b.dirty && g.flags()&bgBlockUninit == 0 {
				c := crc32c(s.seed, b.data[:s.perGroup/8])
				g.putCsum(gdBlockCsum, gdBlockCsumHi, c)
			}
			if b := f.c.blks[g.inodeBitmap()]; b != nil && b.dirty && g.flags()&bgInodeUninit == 0 {
				c := crc32c(s.seed, b.data[:s.inodesPer/8])
				g.putCsum(gdInodeCsum, gdInodeCsumHi, c)
			}
		}
		if s.gdtCsum() {
			le.PutUint16(g.raw[gdCsum:], s.descCsum(n, g.raw))
		}
	}
	sb, err := t.superBlock()
	if err != nil {
		return err
	}
	if f.damaged {
		f.soil(sb.b)
		le.PutUint16(sb.raw[sbState:], le.Uint16(sb.raw[sbState:])|stateErrors)
	}
	if sb.b.dirty && s.csum() {
		le.PutUint32(sb.raw[sbCsum:], crc32c(^uint32(0), sb.raw[:sbCsum]))
	}
	return nil
}

func (g *group) putCsum(lo, hi int, c uint32) {
	le.PutUint16(g.raw[lo:], uint16(c))
	if g.hi {
		le.PutUint16(g.raw[hi:], uint16(c>>16))
	}
}

// startWriting makes a mount one that writes: the superblock says so, orphans are
// dealt with.
func (f *FS) startWriting(ctx context.Context, op *vfsops.Op, again bool) error {
	if !again {
		err := f.change(ctx, op, func(t *tx) error {
			sb, err := t.superBlock()
			if err != nil {
				return err
			}
			t.mod(sb.b)
			state := le.Uint16(sb.raw[sbState:])
			f.wasValid = state&stateValid != 0
			if state&stateErrors != 0 {
				f.log("it has errors: e2fsck is recommended")
			} else if !f.wasValid && f.j == nil {
				f.log("it was not unmounted: e2fsck is recommended")
			}
			if f.j == nil {
				le.PutUint16(sb.raw[sbState:], state&^stateValid)
			} else {
				f.s.incompat |= incompatRecover
				le.PutUint32(sb.raw[sbIncompat:], f.s.incompat)
			}
			le.PutUint16(sb.raw[sbMntCount:], le.Uint16(sb.raw[sbMntCount:])+1)
			le.PutUint32(sb.raw[sbMtime:], uint32(op.Now.Sec))
			le.PutUint32(sb.raw[sbWtime:], uint32(op.Now.Sec))
			return nil
		})
		if err != nil {
			return err
		}
		// The journal does not count before the superblock says that there is
		// something in it.
		if f.j != nil {
			if err := f.sealAll(ctx); err != nil {
				return err
			}
			if err := f.writeHome(ctx, f.sorted()); err != nil {
				return err
			}
			if err := f.flushDev(ctx); err != nil {
				return err
			}
		}
	}
	return f.orphans(ctx, op)
}

// finish is the end of a mount that writes.
func (f *FS) finish(ctx context.Context) error {
	if f.readOnly || f.broken != nil {
		return nil
	}
	if err := f.commit(ctx); err != nil {
		return err
	}
	// What is pinned now has nobody any more.
	var op vfsops.Op
	op.Caller = abi.KernelCaller
	var pinned []uint32
	for ino, n := range f.nodes {
		if n.pins > 0 {
			pinned = append(pinned, ino)
		}
	}
	slices.Sort(pinned)
	for _, ino := range pinned {
		f.nodes[ino].pins = 0
		if in, _, err := f.reader(ctx).inodeAt(ino); err == nil && in.links() == 0 {
			f.reap = append(f.reap, ino)
			op.Now = in.time(inCtime, inCtimeX)
		}
	}
	if err := f.reapAll(ctx, &op); err != nil {
		return err
	}
	if err := f.commit(ctx); err != nil {
		return err
	}
	if f.j != nil {
		if err := f.j.finish(ctx); err != nil {
			return err
		}
	}
	err := f.change(ctx, &op, func(t *tx) error {
		sb, err := t.superBlock()
		if err != nil {
			return err
		}
		t.mod(sb.b)
		if f.wasValid {
			le.PutUint16(sb.raw[sbState:], le.Uint16(sb.raw[sbState:])|stateValid)
		}
		if f.j != nil {
			f.s.incompat &^= incompatRecover
			le.PutUint32(sb.raw[sbIncompat:], f.s.incompat)
		}
		return nil
	})
	if err == nil {
		if err = f.sealAll(ctx); err == nil {
			err = f.writeHome(ctx, f.sorted())
		}
	}
	if err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	clear(f.dirty)
	return f.flushDev(ctx)
}
