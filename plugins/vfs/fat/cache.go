package fat

import (
	"cmp"
	"container/list"
	"context"
	"fmt"
	"slices"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// cache has the sectors of FAT and directories. Its unit is the sector, as a
// larger one could hold sectors of files, which do not come here.
type cache struct {
	dev    devops.BlockIO
	unit   int64
	blks   map[int64]*list.Element // of *blk, by number
	lru    list.List               // the most recently used in front
	dirty  map[int64]*blk
	most   int // units in memory, unless more are dirty
	limit  int // dirty ones at most
	writes int // bufs written, for tests
}

type blk struct {
	n     int64
	data  []byte
	dirty bool
}

// Bytes in memory, and of them dirty, at most.
const (
	cacheBytes = 16 << 20
	dirtyBytes = 8 << 20
)

func newCache(dev devops.BlockIO, unit int64) *cache {
	return &cache{dev: dev, unit: unit, blks: map[int64]*list.Element{}, dirty: map[int64]*blk{}, most: int(cacheBytes / unit), limit: int(dirtyBytes / unit)}
}

// get finds the unit n, and if it has to be read, reads those up to last with it.
func (c *cache) get(ctx context.Context, n, last int64) (*blk, error) {
	if e := c.blks[n]; e != nil {
		c.lru.MoveToFront(e)
		return e.Value.(*blk), nil
	}
	end := n + 1
	for ; end <= last && (end-n)*c.unit < 64<<10 && c.blks[end] == nil; end++ {
	}
	buf := make([]byte, (end-n)*c.unit)
	if err := c.strategy(ctx, devops.BRead|devops.BMeta, n*c.unit, abi.IovOf(buf)); err != nil {
		return nil, err
	}
	if err := c.room(ctx, int(end-n)); err != nil {
		return nil, err
	}
	for i := end - 1; i >= n; i-- {
		c.blks[i] = c.lru.PushFront(&blk{n: i, data: buf[(i-n)*c.unit:][:c.unit:c.unit]})
	}
	return c.lru.Front().Value.(*blk), nil
}

// room makes place for n units.
func (c *cache) room(ctx context.Context, n int) error {
	if len(c.dirty) >= c.limit {
		if err := c.flush(ctx); err != nil {
			return err
		}
	}
	for e := c.lru.Back(); e != nil && len(c.blks)+n > c.most; {
		prev := e.Prev()
		if b := e.Value.(*blk); !b.dirty {
			c.lru.Remove(e)
			delete(c.blks, b.n)
		}
		e = prev
	}
	return nil
}

// read fills p from off on; what has to be read for it may go on until end.
func (c *cache) read(ctx context.Context, p []byte, off, end int64) error {
	for len(p) > 0 {
		n := off / c.unit
		b, err := c.get(ctx, n, max(off+int64(len(p)), end-1)/c.unit)
		if err != nil {
			return err
		}
		k := copy(p, b.data[off-n*c.unit:])
		p, off = p[k:], off+int64(k)
	}
	return nil
}

// write changes bytes; they are on the device after flush.
func (c *cache) write(ctx context.Context, p []byte, off int64) error {
	for len(p) > 0 {
		n := off / c.unit
		b, err := c.get(ctx, n, n)
		if err != nil {
			return err
		}
		k := copy(b.data[off-n*c.unit:], p)
		c.soil(b)
		p, off = p[k:], off+int64(k)
	}
	return nil
}

func (c *cache) soil(b *blk) {
	if !b.dirty {
		b.dirty = true
		c.dirty[b.n] = b
	}
}

// zero makes whole units zeroes without reading them.
func (c *cache) zero(ctx context.Context, off, n int64) error {
	for i := off / c.unit; i < (off+n)/c.unit; i++ {
		e := c.blks[i]
		if e == nil {
			if err := c.room(ctx, 1); err != nil {
				return err
			}
			e = c.lru.PushFront(&blk{n: i, data: make([]byte, c.unit)})
			c.blks[i] = e
		}
		b := e.Value.(*blk)
		clear(b.data)
		c.soil(b)
	}
	return nil
}

// drop forgets whole units, dirty or not: they are of a file from now on, or of
// nobody.
func (c *cache) drop(off, n int64) {
	for i := off / c.unit; i < (off+n)/c.unit; i++ {
		if e := c.blks[i]; e != nil {
			c.lru.Remove(e)
			delete(c.blks, i)
			delete(c.dirty, i)
		}
	}
}

// flush gives the device what is dirty, adjacent units together.
func (c *cache) flush(ctx context.Context) error {
	bs := make([]*blk, 0, len(c.dirty))
	for _, b := range c.dirty {
		bs = append(bs, b)
	}
	slices.SortFunc(bs, func(a, b *blk) int { return cmp.Compare(a.n, b.n) })
	for i := 0; i < len(bs); {
		var iov abi.Iov
		from := i
		for ; i < len(bs) && bs[i].n == bs[from].n+int64(i-from) && int64(i-from+1)*c.unit <= devops.MaxPhys; i++ {
			iov = append(iov, bs[i].data)
		}
		if err := c.strategy(ctx, devops.BWrite|devops.BMeta, bs[from].n*c.unit, iov); err != nil {
			return err
		}
		c.writes++
		for _, b := range bs[from:i] {
			b.dirty = false
			delete(c.dirty, b.n)
		}
	}
	return nil
}

func (c *cache) strategy(ctx context.Context, fl devops.BufFlags, off int64, iov abi.Iov) error {
	return transfer(ctx, c.dev, fl, off, iov)
}

// transfer moves whole sectors, in several bufs if it must.
func transfer(ctx context.Context, dev devops.BlockIO, fl devops.BufFlags, off int64, iov abi.Iov) error {
	total := iov.Len()
	for done := 0; done < total; {
		n := min(total-done, devops.MaxPhys)
		b := devops.Buf{Blkno: (off + int64(done)) / devops.DevBsize, Bytes: int64(n), Flags: fl, Data: iov.Slice(done, n)}
		if err := dev.Strategy(ctx, &b); err != nil {
			return fmt.Errorf("%d bytes at %d: %w", n, off+int64(done), err)
		}
		done += n
	}
	return nil
}
