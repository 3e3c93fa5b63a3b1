package vfs

import (
	"math"
	"sync"
	"syscall"
	"unsafe"

	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

const (
	pageSize   = abi.PageSize
	leafPages  = 256 // pages under one leaf of a file
	leafShift  = 8
	chunkPages = 1024 // pages per mapping
)

// page is one page of memory, outside the Go heap: file contents must neither
// double the heap nor be scanned by the collector. Chunks are aligned to their
// size, so that a page finds its chunk.
type page [pageSize]byte

const chunkBytes = chunkPages * pageSize

// pagePool is the memory of all file pages, counted in mem. Pages come from
// mappings of 4 MiB; a mapping all of whose pages are free is given back,
// unless it is the only one with free pages.
type pagePool struct {
	mem   *memory
	evict func(want int, clean bool) int // makes room for pages, answers for how many; clean: without writing any

	mu     sync.Mutex
	free   []*chunk           // protected by mu; chunks with free pages
	chunks map[uintptr]*chunk // protected by mu; by address
}

type chunk struct {
	raw  []byte   // the mapping
	mem  []byte   // the aligned part of it
	free []uint16 // indexes of free pages, a stack
	pos  int      // in pagePool.free, -1 if not there
}

func newPagePool(mem *memory) *pagePool {
	return &pagePool{mem: mem, chunks: map[uintptr]*chunk{}}
}

// defaultMemLimit is a quarter of the machine's memory.
func defaultMemLimit() int64 {
	if n := hyper.Memory(); n > 0 {
		return int64(min(n, math.MaxInt64) / 4)
	}
	return 1 << 30
}

// alloc takes a page whose contents are undefined; nil if the limit is reached
// and nothing can be evicted, or the host has no memory.
func (p *pagePool) alloc() *page { return p.get(false) }

// allocFor is alloc for a page of v, which is locked.
func (p *pagePool) allocFor(v *Vnode) *page { return p.get(v.backing.Load() != 0) }

func (p *pagePool) get(clean bool) *page {
	if !p.mem.try(memPages, pageSize) {
		if p.evict == nil || p.evict(leafPages, clean) == 0 || !p.mem.try(memPages, pageSize) {
			return nil
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 && !p.growLocked() {
		p.mem.take(memPages, -pageSize)
		return nil
	}
	c := p.free[len(p.free)-1]
	i := int(c.free[len(c.free)-1])
	c.free = c.free[:len(c.free)-1]
	if len(c.free) == 0 {
		p.delistLocked(c)
	}
	return (*page)(c.mem[i*pageSize : (i+1)*pageSize])
}

func (p *pagePool) growLocked() bool {
	raw, err := syscall.Mmap(-1, 0, 2*chunkBytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_NORESERVE)
	if err != nil {
		return false
	}
	base := uintptr(unsafe.Pointer(&raw[0]))
	skip := int(-base & (chunkBytes - 1))
	c := &chunk{raw: raw, mem: raw[skip : skip+chunkBytes], free: make([]uint16, chunkPages)}
	for i := range c.free {
		c.free[i] = uint16(chunkPages - 1 - i)
	}
	p.chunks[base+uintptr(skip)] = c
	c.pos = len(p.free)
	p.free = append(p.free, c)
	return true
}

func (p *pagePool) delistLocked(c *chunk) {
	last := p.free[len(p.free)-1]
	p.free[c.pos] = last
	last.pos = c.pos
	p.free = p.free[:len(p.free)-1]
	c.pos = -1
}

// release gives pages back.
func (p *pagePool) release(pgs ...*page) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pg := range pgs {
		addr := uintptr(unsafe.Pointer(pg))
		base := addr &^ (chunkBytes - 1)
		c := p.chunks[base]
		c.free = append(c.free, uint16((addr-base)/pageSize))
		if c.pos < 0 {
			c.pos = len(p.free)
			p.free = append(p.free, c)
		}
		if len(c.free) == chunkPages && len(p.free) > 1 {
			p.unmapLocked(c)
		}
	}
	p.mem.take(memPages, -pageSize*int64(len(pgs)))
}

// unmapLocked gives a chunk whose pages are all free back to the host.
func (p *pagePool) unmapLocked(c *chunk) {
	p.delistLocked(c)
	delete(p.chunks, uintptr(unsafe.Pointer(&c.mem[0])))
	syscall.Munmap(c.raw)
}

// trim gives back every chunk whose pages are all free.
func (p *pagePool) trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.free) - 1; i >= 0; i-- {
		if c := p.free[i]; len(c.free) == chunkPages {
			p.unmapLocked(c)
		}
	}
}
