package fat

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// piece is a part of a file that lies together on the device.
type piece struct{ at, n int64 }

// pieces are where the bytes of a file from off to end are. EIO if its chain is
// shorter than that.
func (f *FS) pieces(ctx context.Context, n *node, off, end int64) ([]piece, error) {
	if off >= end {
		return nil, nil
	}
	want := f.clustersFor(end)
	if err := f.t.walk(ctx, &n.ch, want); err != nil {
		f.log("a damaged file", "file", n.id, "err", err)
		return nil, fmt.Errorf("file %d: %w", n.id, err)
	}
	if n.ch.n < want {
		f.log("a damaged file", "file", n.id, "first cluster", n.ch.first, "clusters", n.ch.n, "of", want)
		return nil, fmt.Errorf("file %d has %d clusters for %d bytes: %w", n.id, n.ch.n, end, abi.EIO)
	}
	var ps []piece
	for off < end {
		c, k := n.ch.find(uint32(off / f.t.cluster))
		in := off % f.t.cluster
		l := min(int64(k)*f.t.cluster-in, end-off)
		ps = append(ps, piece{f.t.at(c) + in, l})
		off += l
	}
	return ps, nil
}

func (f *FS) up(n int64) int64 { return (n + f.t.sector - 1) / f.t.sector * f.t.sector }

// readAt reads whole sectors of a file; what is behind its end is zeroes.
func (f *FS) readAt(ctx context.Context, n *node, off int64, dst abi.Iov) error {
	f.mu.Lock()
	total := int64(dst.Len())
	end := max(off, min(off+total, n.init))
	ps, err := f.pieces(ctx, n, off, f.up(end))
	f.mu.Unlock()
	if err != nil {
		return err
	}
	done := 0
	for _, p := range ps {
		if err := transfer(ctx, f.dev, devops.BRead, p.at, dst.Slice(done, int(p.n))); err != nil {
			return err
		}
		done += int(p.n)
	}
	dst.Zero(int(end-off), int(total-(end-off)))
	return nil
}

func (f *FS) file(ctx context.Context, h abi.Handle) (*node, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.getFile(ctx, h)
}

// ReadPages reads pages of a file.
func (f *FS) ReadPages(ctx context.Context, h abi.Handle, off int64, dst abi.Iov) error {
	n, err := f.file(ctx, h)
	if err != nil {
		return err
	}
	if off < 0 || off%f.t.sector != 0 || int64(dst.Len())%f.t.sector != 0 {
		return abi.EINVAL
	}
	return f.readAt(ctx, n, off, dst)
}

// Read reads any bytes of a file.
func (f *FS) Read(ctx context.Context, h abi.Handle, off int64, dst abi.Iov) (int, error) {
	n, err := f.file(ctx, h)
	if err != nil {
		return 0, err
	}
	f.mu.Lock()
	size := n.size()
	f.mu.Unlock()
	if off < 0 {
		return 0, abi.EINVAL
	}
	total := int(min(int64(dst.Len()), max(size-off, 0), abi.MaxTransfer))
	done := 0
	for done < total {
		at := off + int64(done)
		from := at / f.t.sector * f.t.sector
		buf := make([]byte, min(f.up(at+int64(total-done))-from, 256<<10))
		if err := f.readAt(ctx, n, from, abi.IovOf(buf)); err != nil {
			return done, err
		}
		k := min(len(buf)-int(at-from), total-done)
		done += dst.Slice(done, k).CopyIn(buf[at-from:][:k])
	}
	return done, nil
}

// WritePages stores pages of a file, which has size bytes from now on. EFBIG,
// ENOSPC.
func (f *FS) WritePages(ctx context.Context, op vfsops.Op, h abi.Handle, off int64, src abi.Iov, size int64) error {
	if off < 0 || size < 0 || off%f.t.sector != 0 || int64(src.Len())%f.t.sector != 0 {
		return abi.EINVAL
	}
	n, ps, end, err := f.writable(ctx, &op, h, off, int64(src.Len()), size)
	if err != nil {
		return err
	}
	done := 0
	for _, p := range ps {
		if err := transfer(ctx, f.dev, devops.BWrite, p.at, src.Slice(done, int(p.n))); err != nil {
			return err
		}
		done += int(p.n)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n.init = max(n.init, end)
	f.isLazy(n)
	return nil
}

// writable prepares a write of n bytes at off.
func (f *FS) writable(ctx context.Context, op *vfsops.Op, h abi.Handle, off, n, size int64) (*node, []piece, int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(ctx); err != nil {
		return nil, nil, 0, err
	}
	nd, err := f.getFile(ctx, h)
	if err != nil {
		return nil, nil, 0, err
	}
	before := f.t.nfree
	if err := f.resize(ctx, nd, max(size, nd.size()), f.t.nfree); err != nil {
		return nil, nil, 0, err
	}
	f.take(before - min(before, f.t.nfree))
	f.touched(nd, op.Now)
	if err := f.changing(ctx, func() error { return f.store(ctx, nd) }); err != nil {
		return nil, nil, 0, err
	}
	end := max(off, min(off+n, nd.size()))
	if off < end && off > nd.init {
		if err := f.fill(ctx, nd, off); err != nil {
			return nil, nil, 0, err
		}
	}
	ps, err := f.pieces(ctx, nd, off, f.up(end))
	return nd, ps, end, err
}

// fill writes zeroes where a file has not been written, up to an offset.
func (f *FS) fill(ctx context.Context, n *node, to int64) error {
	to = min(to, n.size())
	if from := n.init / f.t.sector * f.t.sector; from < n.init && from < to {
		// The rest of the sector in which the contents end.
		ps, err := f.pieces(ctx, n, from, from+f.t.sector)
		if err != nil {
			return err
		}
		buf := make([]byte, f.t.sector)
		if err := transfer(ctx, f.dev, devops.BRead, ps[0].at, abi.IovOf(buf)); err != nil {
			return err
		}
		clear(buf[n.init-from:])
		if err := transfer(ctx, f.dev, devops.BWrite, ps[0].at, abi.IovOf(buf)); err != nil {
			return err
		}
	}
	if from := f.up(n.init); from < to {
		ps, err := f.pieces(ctx, n, from, f.up(to))
		if err != nil {
			return err
		}
		for _, p := range ps {
			if err := f.zeroes(ctx, p); err != nil {
				return err
			}
		}
	}
	n.init = max(n.init, to)
	f.isLazy(n)
	return nil
}

// zeroes makes a part of the device zeroes.
func (f *FS) zeroes(ctx context.Context, p piece) error {
	if f.geom.Ops&devops.BZeroes != 0 {
		return f.dev.Strategy(ctx, &devops.Buf{Blkno: p.at / devops.DevBsize, Bytes: p.n, Flags: devops.BZeroes})
	}
	zero := make([]byte, min(p.n, 256<<10))
	for done := int64(0); done < p.n; {
		k := min(p.n-done, int64(len(zero)))
		if err := transfer(ctx, f.dev, devops.BWrite, p.at+done, abi.IovOf(zero[:k])); err != nil {
			return err
		}
		done += k
	}
	return nil
}
