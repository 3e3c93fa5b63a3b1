package ext4

import (
	"context"
	"math"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// piece is a part of a file that lies together on the device, or a hole (at 0).
type piece struct{ at, n int64 }

// pieces are where the blocks of a file from byte off to end are, which are whole
// blocks.
func (t *tx) pieces(in *inode, off, end int64) ([]piece, error) {
	var ps []piece
	for off < end {
		if off>>t.f.s.logBS > math.MaxUint32 {
			return append(ps, piece{0, end - off}), nil
		}
		e, err := t.part(in, uint32(off>>t.f.s.logBS))
		if err != nil {
			return nil, err
		}
		n := min(int64(e.n)<<t.f.s.logBS, end-off)
		p := piece{n: n}
		if e.pblk != 0 && !e.unwritten {
			p.at = int64(e.pblk) << t.f.s.logBS
		}
		if k := len(ps) - 1; k >= 0 && (p.at == 0 && ps[k].at == 0 || p.at != 0 && ps[k].at+ps[k].n == p.at) {
			ps[k].n += n
		} else {
			ps = append(ps, p)
		}
		off += n
	}
	return ps, nil
}

func (f *FS) up(n int64) int64 { return (n + f.s.bs - 1) &^ (f.s.bs - 1) }

// readAt reads whole blocks of a file; what is behind its end is zeroes.
func (f *FS) readAt(ctx context.Context, h abi.Handle, off int64, dst abi.Iov) error {
	f.mu.Lock()
	t := f.reader(ctx)
	in, err := t.loadFile(h)
	if err != nil {
		f.mu.Unlock()
		return err
	}
	total := int64(dst.Len())
	end := max(off, min(off+total, in.size()))
	var ps []piece
	if in.flags()&flInline != 0 {
		p, err := t.inlineData(in)
		f.mu.Unlock()
		if err != nil {
			return err
		}
		p = p[min(off, int64(len(p))):min(end, int64(len(p)))]
		n := dst.CopyIn(p)
		dst.Zero(n, int(total)-n)
		return nil
	}
	ps, err = t.pieces(in, off, f.up(end))
	f.mu.Unlock()
	if err != nil {
		return err
	}
	done := 0
	for _, p := range ps {
		part := dst.Slice(done, int(p.n))
		if p.at == 0 {
			part.Zero(0, int(p.n))
		} else {
			if err := transfer(ctx, f.dev, devops.BRead, p.at, part); err != nil {
				return err
			}
			if err := f.c.patch(ctx, uint64(p.at)>>f.s.logBS, part); err != nil {
				return err
			}
		}
		done += int(p.n)
	}
	dst.Zero(int(end-off), int(total-(end-off)))
	return nil
}

// ReadPages reads pages of a file.
func (f *FS) ReadPages(ctx context.Context, h abi.Handle, off int64, dst abi.Iov) error {
	if n := int64(dst.Len()); off < 0 || off&(f.s.bs-1) != 0 || n&(f.s.bs-1) != 0 {
		if off < 0 || off%abi.PageSize != 0 || n%abi.PageSize != 0 {
			return abi.EINVAL
		}
		// Blocks larger than pages.
		from := off &^ (f.s.bs - 1)
		buf := make([]byte, f.up(off+n)-from)
		if err := f.readAt(ctx, h, from, abi.IovOf(buf)); err != nil {
			return err
		}
		dst.CopyIn(buf[off-from:])
		return nil
	}
	return f.readAt(ctx, h, off, dst)
}

// Read reads any bytes of a file.
func (f *FS) Read(ctx context.Context, h abi.Handle, off int64, dst abi.Iov) (int, error) {
	f.mu.Lock()
	in, err := f.reader(ctx).loadFile(h)
	if err != nil {
		f.mu.Unlock()
		return 0, err
	}
	size := in.size()
	f.mu.Unlock()
	if off < 0 {
		return 0, abi.EINVAL
	}
	total := int(min(int64(dst.Len()), max(size-off, 0), abi.MaxTransfer))
	done := 0
	for done < total {
		at := off + int64(done)
		from := at &^ (f.s.bs - 1)
		buf := make([]byte, min(f.up(at+int64(total-done))-from, 256<<10))
		if err := f.readAt(ctx, h, from, abi.IovOf(buf)); err != nil {
			return done, err
		}
		k := min(len(buf)-int(at-from), total-done)
		done += dst.Slice(done, k).CopyIn(buf[at-from:][:k])
	}
	return done, nil
}

// Seek finds data and holes. Unwritten parts are holes.
func (f *FS) Seek(ctx context.Context, h abi.Handle, off int64, whence int) (int64, error) {
	if whence != abi.SEEK_DATA && whence != abi.SEEK_HOLE {
		return 0, abi.EINVAL
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.reader(ctx)
	in, err := t.loadFile(h)
	if err != nil {
		return 0, err
	}
	size := in.size()
	if off < 0 || off >= size {
		return 0, abi.ENXIO
	}
	if in.flags()&flInline != 0 {
		return 0, abi.EOPNOTSUPP
	}
	for at := off; at < size; {
		hole, n := true, size-at
		if l := at >> f.s.logBS; l <= math.MaxUint32 {
			e, err := t.part(in, uint32(l))
			if err != nil {
				return 0, err
			}
			hole = e.pblk == 0 || e.unwritten
			n = (l+int64(e.n))<<f.s.logBS - at
		}
		if hole == (whence == abi.SEEK_HOLE) {
			return at, nil
		}
		at += n
	}
	if whence == abi.SEEK_DATA {
		return 0, abi.ENXIO
	}
	return size, nil
}
