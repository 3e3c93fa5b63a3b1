package ext4

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Orphans are inodes that have no name but are pinned, or from which blocks are
// being taken: a list through their i_dtime, so that who finds the image after a
// crash goes on. f.reap are those of which nobody has a pin.

// cutBudget is how many pieces one operation takes from a file.
const cutBudget = 2048

// orphanAdd puts an inode on the list.
func (t *tx) orphanAdd(in *inode) error {
	sb, err := t.superBlock()
	if err != nil {
		return err
	}
	t.mod(sb.b)
	t.mod(in.b)
	le.PutUint32(in.raw[inDtime:], le.Uint32(sb.raw[sbLastOrphan:]))
	le.PutUint32(sb.raw[sbLastOrphan:], in.ino)
	t.seal(in)
	return nil
}

// orphanDrop takes an inode off the list. EIO if it is not there.
func (t *tx) orphanDrop(in *inode) error {
	sb, err := t.superBlock()
	if err != nil {
		return err
	}
	next := in.u32(inDtime)
	t.mod(in.b)
	le.PutUint32(in.raw[inDtime:], 0)
	t.seal(in)
	cur := le.Uint32(sb.raw[sbLastOrphan:])
	if cur == in.ino {
		t.mod(sb.b)
		le.PutUint32(sb.raw[sbLastOrphan:], next)
		return nil
	}
	for n := uint32(0); cur != 0 && n < t.f.s.inodes; n++ {
		p, _, err := t.inodeAt(cur)
		if err != nil {
			return err
		}
		if p.u32(inDtime) == in.ino {
			t.mod(p.b)
			le.PutUint32(p.raw[inDtime:], next)
			t.seal(p)
			return nil
		}
		cur = p.u32(inDtime)
	}
	return t.f.damage(fmt.Errorf("inode %d is not on the list of orphans: %w", in.ino, abi.EIO), "inode", in.ino)
}

// unlinked deals with an inode that has lost its last name: what is pinned, or too
// much to be freed at once, becomes an orphan.
func (t *tx) unlinked(in *inode) error {
	if n := t.f.nodes[in.ino]; n != nil && n.pins > 0 {
		return t.orphanAdd(in)
	}
	if done, err := t.erase(in); err != nil || done {
		return err
	}
	t.reap = append(t.reap, in.ino)
	return t.orphanAdd(in)
}

// erase frees what an inode has, and the inode. done is false if there is more.
func (t *tx) erase(in *inode) (done bool, err error) {
	if in.mapped() {
		all := uint64(1) << 32
		next, err := t.punch(in, 0, all, cutBudget)
		if err != nil {
			return false, err
		}
		if in.extents() && next < all || !in.extents() && next < t.f.s.maxInd() {
			return false, nil
		}
	}
	if err := t.dropXattrBlock(in); err != nil {
		return false, err
	}
	return true, t.freeInode(in)
}

// mapped reports whether an inode's 60 bytes lead to blocks.
func (in *inode) mapped() bool {
	if in.flags()&flInline != 0 {
		return false
	}
	switch in.vtype() {
	case abi.VREG, abi.VDIR:
		return true
	case abi.VLNK:
		return !in.fast()
	}
	return false
}

// reapAll frees what operations left for later, each in operations of its own.
func (f *FS) reapAll(ctx context.Context, op *vfsops.Op) error {
	for len(f.reap) > 0 {
		ino := f.reap[len(f.reap)-1]
		done := false
		err := f.change(ctx, op, func(t *tx) error {
			in, _, err := t.inodeAt(ino)
			if err != nil {
				return err
			}
			if in.links() > 0 {
				done, err = t.shrink(in)
				return err
			}
			next := in.u32(inDtime)
			if done, err = t.erase(in); err != nil || !done {
				return err
			}
			// It is on the list still: taking it off writes to it again.
			t.mod(in.b)
			dtime := in.u32(inDtime)
			le.PutUint32(in.raw[inDtime:], next)
			if err := t.orphanDrop(in); err != nil {
				return err
			}
			le.PutUint32(in.raw[inDtime:], dtime)
			t.seal(in)
			return nil
		})
		if err != nil || done {
			f.reap = f.reap[:len(f.reap)-1]
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// shrink frees blocks behind the end of a file that is on the list, and takes it
// off when there are none left.
func (t *tx) shrink(in *inode) (done bool, err error) {
	from := uint64(t.f.up(in.size())) >> t.f.s.logBS
	all := uint64(1) << 32
	if !in.extents() {
		all = t.f.s.maxInd()
	}
	if in.mapped() && from < all {
		next, err := t.punch(in, from, all, cutBudget)
		if err != nil || next < all {
			return false, err
		}
	}
	return true, t.orphanDrop(in)
}

// orphans deals with the list that is found at a mount: what the mount's Store says
// is pinned is kept.
func (f *FS) orphans(ctx context.Context, op *vfsops.Op) error {
	t := f.reader(ctx)
	sb, err := t.superBlock()
	if err != nil {
		return err
	}
	seen := map[uint32]bool{}
	const most = 1 << 20
	for cur := le.Uint32(sb.raw[sbLastOrphan:]); cur != 0; {
		if seen[cur] || cur < f.s.firstIno || len(seen) >= most {
			f.damage(fmt.Errorf("the list of orphans leads to inode %d: %w", cur, abi.EIO), "inode", cur)
			return nil
		}
		seen[cur] = true
		in, _, err := t.inodeAt(cur)
		if err == nil {
			err = in.check()
		}
		if err != nil {
			f.damage(fmt.Errorf("the list of orphans: %w", err), "inode", cur)
			return nil
		}
		if n := f.nodes[cur]; in.links() > 0 || n == nil || n.pins == 0 {
			f.reap = append(f.reap, cur)
		}
		cur = in.u32(inDtime)
	}
	return f.reapAll(ctx, op)
}
