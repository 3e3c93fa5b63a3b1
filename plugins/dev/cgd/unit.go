package cgd

import (
	"context"
	"fmt"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/devops/cgdio"
	"github.com/rumpus-kernel/rumpus/plugins/dev/cgd/crypt"
)

// unit is an attached unit.
type unit struct {
	claim   bool          // not a unit: one is being attached here
	claimed chan struct{} // of a claim: closed when that has ended

	low   devops.BlockIO
	c     crypt.Cipher
	geom  devops.Geom
	info  cgdio.Info
	off   int64  // of the data on low, bytes
	size  int    // what is encrypted at a time, bytes; geom.Sector is a multiple
	first uint64 // number of the first sector for the cipher
	unit  int64  // what those numbers count in, bytes: size or DevBsize

	opens int // protected by driver.mu

	flight sync.RWMutex
	gone   bool // protected by flight
}

// newUnit checks that cipher and layout go with the device below, and makes the
// unit's geometry of them.
func newUnit(low devops.BlockIO, lg *devops.Geom, u *unit, flags cgdio.Flags) (*unit, error) {
	sector := max(lg.Sector, uint32(u.size))
	room := lg.Size - u.off
	size := u.info.Size
	if size > room {
		return nil, fmt.Errorf("%d bytes of data at %d on a device of %d: %w", size, u.off, lg.Size, abi.EIO)
	}
	size -= size % int64(sector)
	switch {
	case u.size < 512 || u.size > 4096 || sector > 4096:
		return nil, fmt.Errorf("sectors of %d bytes are not supported: %w", sector, abi.EINVAL)
	case u.off%int64(lg.Sector) != 0:
		return nil, fmt.Errorf("data at %d does not begin with a sector of %d bytes of the device: %w", u.off, lg.Sector, abi.EINVAL)
	case size <= 0:
		return nil, fmt.Errorf("there is no room for data: %w", abi.EINVAL)
	}
	u.low = low
	u.geom = devops.Geom{
		Size: size, Sector: sector, MaxIO: lg.MaxIO - lg.MaxIO%sector, Optimal: lg.Optimal, Type: "cgd", Label: u.info.Label,
		ReadOnly: lg.ReadOnly || flags&cgdio.ReadOnly != 0, Ops: lg.Ops & (devops.BFlush | devops.BFua),
	}
	if flags&cgdio.Discard != 0 {
		u.geom.Ops |= lg.Ops & devops.BDiscard
	}
	if u.geom.MaxIO == 0 {
		return nil, fmt.Errorf("the device takes %d bytes at a time, less than a sector of %d: %w", lg.MaxIO, sector, abi.EINVAL)
	}
	u.info.Flags &^= cgdio.ReadOnly | cgdio.Discard
	if u.geom.ReadOnly {
		u.info.Flags |= cgdio.ReadOnly
	}
	if u.geom.Ops&devops.BDiscard != 0 {
		u.info.Flags |= cgdio.Discard
	}
	u.info.Size, u.info.Offset, u.info.Sector = size, u.off, uint32(u.size)
	return u, nil
}

// end waits for what is in flight, forgets the key and closes the device.
func (u *unit) end(ctx context.Context) error {
	u.flight.Lock()
	defer u.flight.Unlock()
	if u.gone {
		return nil
	}
	u.gone = true
	u.c.Wipe()
	return u.low.Close(context.WithoutCancel(ctx))
}

// strategy does a buf.
func (u *unit) strategy(ctx context.Context, b *devops.Buf) error {
	if err := b.Check(&u.geom); err != nil {
		return err
	}
	u.flight.RLock()
	defer u.flight.RUnlock()
	if u.gone {
		return abi.ENXIO
	}
	down := devops.Buf{Blkno: b.Blkno + u.off/devops.DevBsize, Bytes: b.Bytes, Flags: b.Flags}
	switch b.Op() {
	case devops.BRead:
		return u.read(ctx, b, &down)
	case devops.BWrite:
		return u.write(ctx, b, &down)
	case devops.BFlush:
		if u.geom.Ops&devops.BFlush == 0 {
			return abi.EOPNOTSUPP
		}
		down.Blkno = 0
	}
	return u.low.Strategy(ctx, &down)
}

// read lets the device below fill the data, and deciphers it in place: by
// areas if all are of whole sectors, else by way of a buffer.
func (u *unit) read(ctx context.Context, b, down *devops.Buf) error {
	if u.whole(b.Data) {
		down.Data = b.Data
		if err := u.low.Strategy(ctx, down); err != nil {
			return err
		}
		off := b.Off()
		for _, p := range b.Data {
			u.c.Decrypt(p, p, u.number(off), u.step(), u.size)
			off += int64(len(p))
		}
		return nil
	}
	buf := getBuf(int(b.Bytes))
	down.Data = abi.IovOf(buf.p)
	if err := u.low.Strategy(ctx, down); err != nil {
		return err
	}
	u.c.Decrypt(buf.p, buf.p, u.number(b.Off()), u.step(), u.size)
	b.Data.CopyIn(buf.p)
	clear(buf.p)
	buf.put()
	return nil
}

// write enciphers the data into a buffer: it is the caller's, and stays as it
// is. The buffer is used again only if the device has answered that all is
// done; else it might still look at it.
func (u *unit) write(ctx context.Context, b, down *devops.Buf) error {
	buf := getBuf(int(b.Bytes))
	if u.whole(b.Data) {
		dst, off := buf.p, b.Off()
		for _, p := range b.Data {
			u.c.Encrypt(dst, p, u.number(off), u.step(), u.size)
			dst, off = dst[len(p):], off+int64(len(p))
		}
	} else {
		b.Data.CopyOut(buf.p)
		u.c.Encrypt(buf.p, buf.p, u.number(b.Off()), u.step(), u.size)
	}
	down.Data = abi.IovOf(buf.p)
	if err := u.low.Strategy(ctx, down); err != nil {
		return err
	}
	buf.put()
	return nil
}

// number is what the cipher calls the sector at off.
func (u *unit) number(off int64) uint64 { return u.first + uint64(off/u.unit) }

func (u *unit) step() uint64 { return uint64(int64(u.size) / u.unit) }

// whole reports whether all areas are of whole sectors.
func (u *unit) whole(v abi.Iov) bool {
	for _, p := range v {
		if len(p)%u.size != 0 {
			return false
		}
	}
	return true
}

// buffer is memory for one buf, from a pool of its size.
type buffer struct {
	p    []byte
	pool *sync.Pool
}

// pools are of buffers of 4 KiB, 16 KiB, ... 1 MiB.
var pools [5]sync.Pool

func getBuf(n int) *buffer {
	size := 4 << 10
	for i := range pools {
		if n <= size {
			if b, ok := pools[i].Get().(*buffer); ok {
				b.p = b.p[:n]
				return b
			}
			return &buffer{p: make([]byte, n, size), pool: &pools[i]}
		}
		size *= 4
	}
	return &buffer{p: make([]byte, n)}
}

func (b *buffer) put() {
	if b.pool != nil {
		b.p = b.p[:cap(b.p)]
		b.pool.Put(b)
	}
}

// reader reads bytes at any offset of a disk of whole sectors.
type reader struct {
	ctx      context.Context
	strategy func(context.Context, *devops.Buf) error
	g        *devops.Geom
}

// ReadAt is io.ReaderAt; EIO behind the end.
func (r reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > r.g.Size || int64(len(p)) > r.g.Size-off {
		return 0, fmt.Errorf("%d bytes at %d, behind the end: %w", len(p), off, abi.EIO)
	}
	sec, done := int64(r.g.Sector), 0
	for done < len(p) {
		lo := (off + int64(done)) / sec * sec
		hi := min((off+int64(len(p))+sec-1)/sec*sec, lo+int64(r.g.MaxIO))
		buf := make([]byte, hi-lo)
		err := r.strategy(r.ctx, &devops.Buf{Blkno: lo / devops.DevBsize, Bytes: hi - lo, Flags: devops.BRead, Data: abi.IovOf(buf)})
		if err != nil {
			return done, err
		}
		done += copy(p[done:], buf[off+int64(done)-lo:])
		clear(buf)
	}
	return done, nil
}
