package ext4

import (
	"container/list"
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// buf is a block of metadata in memory. Protected by FS.mu.
type buf struct {
	n    uint64
	data []byte
	elem *list.Element
	// dirty: changed by the running transaction. late: committed, but not at its
	// place on the device. Neither may be forgotten.
	dirty, late bool
	op          uint64 // the operation that has a copy of what it was
	ok          uint8  // checked as what (okXxx)
}

// What a block has been found to be.
const (
	okDir = 1 << iota
	okExtent
	okBitmap
	okXattr
	okIndex
)

// cache has the blocks of metadata.
type cache struct {
	dev  devops.BlockIO
	bs   int64
	blks map[uint64]*buf
	lru  list.List // the most recently used in front
	most int
	over map[uint64]overBlock // what a journal's replay says, when the device is not to be written
}

// cacheBytes bounds what is in memory and could be read again.
const cacheBytes = 24 << 20

func newCache(dev devops.BlockIO, bs int64) *cache {
	return &cache{dev: dev, bs: bs, blks: map[uint64]*buf{}, most: int(cacheBytes / bs)}
}

// get reads a block.
func (c *cache) get(ctx context.Context, n uint64) (*buf, error) { return c.getRun(ctx, n, 1) }

// getRun reads a block, and if it has to be read the ones behind it as well.
func (c *cache) getRun(ctx context.Context, n uint64, run int) (*buf, error) {
	if b := c.blks[n]; b != nil {
		c.lru.MoveToFront(b.elem)
		return b, nil
	}
	k := 1
	for k < run && int64(k+1)*c.bs <= 128<<10 && c.blks[n+uint64(k)] == nil {
		k++
	}
	p := make([]byte, int64(k)*c.bs)
	if err := c.read(ctx, int64(n), abi.IovOf(p)); err != nil {
		return nil, err
	}
	for i := k - 1; i >= 0; i-- {
		c.add(n+uint64(i), p[int64(i)*c.bs:][:c.bs:c.bs])
	}
	return c.blks[n], nil
}

// read reads blocks past the buffers.
func (c *cache) read(ctx context.Context, n int64, iov abi.Iov) error {
	if err := transfer(ctx, c.dev, devops.BRead|devops.BMeta, n*c.bs, iov); err != nil {
		return err
	}
	return c.patch(ctx, uint64(n), iov)
}

// patch puts what a replay says over blocks that were read.
func (c *cache) patch(ctx context.Context, n uint64, iov abi.Iov) error {
	if len(c.over) == 0 {
		return nil
	}
	for i := 0; i < iov.Len(); i += int(c.bs) {
		ob, ok := c.over[n+uint64(int64(i)/c.bs)]
		if !ok {
			continue
		}
		p := make([]byte, c.bs)
		if err := c.readOver(ctx, ob, p); err != nil {
			return err
		}
		iov.Slice(i, int(c.bs)).CopyIn(p)
	}
	return nil
}

// readOver reads a block from the journal.
func (c *cache) readOver(ctx context.Context, ob overBlock, p []byte) error {
	if err := transfer(ctx, c.dev, devops.BRead|devops.BMeta, int64(ob.at)*c.bs, abi.IovOf(p)); err != nil {
		return err
	}
	if ob.escape {
		be.PutUint32(p, jMagic)
	}
	return nil
}

func (c *cache) add(n uint64, p []byte) *buf {
	b := &buf{n: n, data: p}
	b.elem = c.lru.PushFront(b)
	c.blks[n] = b
	return b
}

// fresh is a block of zeroes that need not be read.
func (c *cache) fresh(n uint64) *buf {
	if b := c.blks[n]; b != nil {
		c.lru.MoveToFront(b.elem)
		return b
	}
	return c.add(n, make([]byte, c.bs))
}

// drop forgets a block.
func (c *cache) drop(n uint64) {
	if b := c.blks[n]; b != nil {
		c.lru.Remove(b.elem)
		delete(c.blks, n)
	}
}

// trim forgets blocks that are too many. Preconditions: nobody works with one.
func (c *cache) trim() {
	for e := c.lru.Back(); e != nil && len(c.blks) > c.most; {
		prev := e.Prev()
		if b := e.Value.(*buf); !b.dirty && !b.late {
			c.lru.Remove(e)
			delete(c.blks, b.n)
		}
		e = prev
	}
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
