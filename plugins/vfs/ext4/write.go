package ext4

import (
	"context"
	"math"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

var (
	_ vfsops.Truncater  = (*FS)(nil)
	_ vfsops.Fallocater = (*FS)(nil)
	_ vfsops.Pager      = (*FS)(nil)
	_ vfsops.HoleSeeker = (*FS)(nil)
)

// WritePages stores pages of a file, which has size bytes from now on, or more if
// it had. EFBIG, ENOSPC.
func (f *FS) WritePages(ctx context.Context, op vfsops.Op, h abi.Handle, off int64, src abi.Iov, size int64) error {
	n := int64(src.Len())
	if off < 0 || size < 0 || off%abi.PageSize != 0 || n%abi.PageSize != 0 || off > math.MaxInt64-n {
		return abi.EINVAL
	}
	ps, end, err := f.mapPages(ctx, &op, h, off, n, size)
	if err != nil || len(ps) == 0 {
		return err
	}
	defer f.ioMu.RUnlock()
	// What is behind the end in its block is zeroes.
	whole := f.up(end)
	iov := src.Slice(0, int(end-off))
	if whole > end {
		iov = append(iov, make([]byte, whole-end))
	}
	done := 0
	for _, p := range ps {
		if err := transfer(ctx, f.dev, devops.BWrite, p.at, iov.Slice(done, int(p.n))); err != nil {
			return err
		}
		done += int(p.n)
	}
	return nil
}

// mapPages gives blocks to a part of a file. With pieces it answers, f.ioMu is
// held shared.
func (f *FS) mapPages(ctx context.Context, op *vfsops.Op, h abi.Handle, off, n, size int64) (ps []piece, end int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err = f.change(ctx, op, func(t *tx) error {
		in, err := t.loadFile(h)
		if err != nil {
			return err
		}
		if size = max(size, in.size()); size > t.maxFile(in) {
			return abi.EFBIG
		}
		end = max(off, min(off+n, size))
		t.mod(in.b)
		if size != in.size() {
			if err := t.resize(in, size); err != nil {
				return err
			}
		}
		if err := t.fill(in, uint64(off)>>f.s.logBS, uint64(f.up(end))>>f.s.logBS, false); err != nil {
			return err
		}
		// The times are those of the write, which the kernel knows: Setattr.
		t.seal(in)
		ps, err = t.pieces(in, off, f.up(end))
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	for _, p := range ps {
		if p.at == 0 {
			return nil, 0, abi.EIO
		}
	}
	if len(ps) > 0 {
		f.ioMu.RLock()
	}
	return ps, end, nil
}

// Truncate changes the size of a file. EFBIG.
func (f *FS) Truncate(ctx context.Context, op vfsops.Op, h abi.Handle, size int64) (v abi.Vattr, err error) {
	if size < 0 {
		return v, abi.EINVAL
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var tail *piece
	err = f.change(ctx, &op, func(t *tx) error {
		in, err := t.loadFile(h)
		if err != nil {
			return err
		}
		old := in.size()
		tail = nil
		if size < old && size&(f.s.bs-1) != 0 {
			ps, err := t.pieces(in, size&^(f.s.bs-1), f.up(size))
			if err != nil {
				return err
			}
			if ps[0].at != 0 {
				tail = &ps[0]
			}
		}
		if err := t.resize(in, size); err != nil {
			return err
		}
		in.touch(op.Now, true)
		t.seal(in)
		if size >= old {
			return nil
		}
		from := uint64(f.up(size)) >> f.s.logBS
		all := uint64(1) << 32
		if !in.extents() {
			all = f.s.maxInd()
		}
		if from >= all {
			return nil
		}
		next, err := t.punch(in, from, all, cutBudget)
		if err != nil {
			return err
		}
		if next < all && in.links() > 0 {
			t.reap = append(t.reap, in.ino)
			return t.orphanAdd(in)
		}
		for next < all { // it has no name: the list has it already
			if next, err = t.punch(in, next, all, cutBudget); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return v, err
	}
	if tail != nil {
		if err := f.clearTail(ctx, *tail, size&(f.s.bs-1)); err != nil {
			return v, err
		}
	}
	if err := f.reapAll(ctx, &op); err != nil {
		return v, err
	}
	in, err := f.reader(ctx).load(h)
	if err != nil {
		return v, err
	}
	return in.attr(), nil
}

// clearTail makes what is behind a place in a block of a file zeroes.
func (f *FS) clearTail(ctx context.Context, p piece, from int64) error {
	buf := make([]byte, f.s.bs)
	if err := transfer(ctx, f.dev, devops.BRead, p.at, abi.IovOf(buf)); err != nil {
		return err
	}
	if zero(buf[from+(-from&7):]) && zeroBytes(buf[from:from+(-from&7)]) {
		return nil
	}
	clear(buf[from:])
	return transfer(ctx, f.dev, devops.BWrite, p.at, abi.IovOf(buf))
}

func zeroBytes(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// Fallocate gives blocks to a part of a file, or takes them (punch). Without
// extents there is no way to say that a block has not been written: EOPNOTSUPP.
func (f *FS) Fallocate(ctx context.Context, op vfsops.Op, h abi.Handle, off, n int64, punch bool) (v abi.Vattr, err error) {
	if off < 0 || n <= 0 || off > math.MaxInt64-n {
		return v, abi.EINVAL
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	end := off + n
	var edges []edge
	err = f.change(ctx, &op, func(t *tx) error {
		in, err := t.loadFile(h)
		if err != nil {
			return err
		}
		edges = edges[:0]
		if punch {
			if edges, err = t.punchRange(in, off, min(end, max(in.size(), off))); err != nil {
				return err
			}
		} else {
			if !in.extents() {
				return abi.EOPNOTSUPP
			}
			if end > t.maxFile(in) {
				return abi.EFBIG
			}
			if err := t.fill(in, uint64(off)>>f.s.logBS, uint64(f.up(end))>>f.s.logBS, true); err != nil {
				return err
			}
			if end > in.size() {
				if err := t.resize(in, end); err != nil {
					return err
				}
			}
		}
		in.touch(op.Now, true)
		t.seal(in)
		v = in.attr()
		return nil
	})
	if err != nil {
		return abi.Vattr{}, err
	}
	for _, e := range edges {
		if err := f.clearEdge(ctx, e); err != nil {
			return abi.Vattr{}, err
		}
	}
	return v, nil
}

// edge is a part of a block of a file that is to be zeroes.
type edge struct {
	at       int64 // the block
	from, to int64
}

func (f *FS) clearEdge(ctx context.Context, e edge) error {
	buf := make([]byte, f.s.bs)
	if err := transfer(ctx, f.dev, devops.BRead, e.at, abi.IovOf(buf)); err != nil {
		return err
	}
	clear(buf[e.from:e.to])
	return transfer(ctx, f.dev, devops.BWrite, e.at, abi.IovOf(buf))
}

// punchRange frees the whole blocks of a part of a file, and answers what of others
// is to be zeroes.
func (t *tx) punchRange(in *inode, off, end int64) ([]edge, error) {
	f := t.f
	if off >= end {
		return nil, nil
	}
	var edges []edge
	part := func(from, to int64) error {
		blk := from &^ (f.s.bs - 1)
		ps, err := t.pieces(in, blk, blk+f.s.bs)
		if err == nil && ps[0].at != 0 {
			edges = append(edges, edge{ps[0].at, from - blk, to - blk})
		}
		return err
	}
	first, last := f.up(off), end&^(f.s.bs-1)
	if end == in.size() {
		last = f.up(end)
	}
	if first > last { // within a block
		return edges, part(off, end)
	}
	if off < first {
		if err := part(off, min(first, end)); err != nil {
			return nil, err
		}
	}
	if end > last {
		if err := part(last, end); err != nil {
			return nil, err
		}
	}
	to := uint64(last) >> f.s.logBS
	for from := uint64(first) >> f.s.logBS; from < to; {
		next, err := t.punch(in, from, to, cutBudget)
		if err != nil {
			return nil, err
		}
		if next <= from {
			break
		}
		from = next
	}
	return edges, nil
}
