package bio

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Memory is an account of the kernel's one memory limit. Its methods never
// wait and call nothing of this package.
type Memory interface {
	// Try counts n bytes if the limit allows it.
	Try(n int64) bool
	// Take counts n bytes without asking; negative gives them back.
	Take(n int64)
	// Share is what this account may come to, in bytes.
	Share() int64
}

// NewMemory is an account of its own with a limit in bytes.
func NewMemory(limit int64) Memory { return &ownMemory{limit: limit} }

type ownMemory struct {
	limit int64
	used  atomic.Int64
}

func (m *ownMemory) Try(n int64) bool {
	if m.used.Add(n) <= m.limit {
		return true
	}
	m.used.Add(-n)
	return false
}

func (m *ownMemory) Take(n int64) { m.used.Add(n) }
func (m *ownMemory) Share() int64 { return m.limit }

// slab hands out blocks of powers of two from 4 KiB on, outside the Go heap:
// cached blocks must neither double it nor be scanned. They come from mappings
// of slabBytes; a mapping that is free again is given back unless it is the
// only one of its size with free blocks.
type slab struct {
	mu     sync.Mutex
	free   [slabClasses][]*slabChunk // protected by mu; chunks with free blocks
	chunks map[uintptr]*slabChunk    // protected by mu; by address
}

const (
	slabBytes   = 1 << 20
	slabMin     = 4096
	slabClasses = 5 // 4, 8, 16, 32, 64 KiB
)

type slabChunk struct {
	raw, mem []byte
	class    int
	free     []uint16
	pos      int // in slab.free[class], -1 if not there
}

// get answers a block of size bytes, a power of two from slabMin to 64 KiB, with
// undefined contents.
func (s *slab) get(size int64) []byte {
	class := bits.TrailingZeros64(uint64(size / slabMin))
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free[class]) == 0 && !s.growLocked(class) {
		return make([]byte, size) // the host refuses mappings: its heap will do
	}
	c := s.free[class][len(s.free[class])-1]
	i := int64(c.free[len(c.free)-1])
	c.free = c.free[:len(c.free)-1]
	if len(c.free) == 0 {
		s.delistLocked(c)
	}
	return c.mem[i*size : (i+1)*size : (i+1)*size]
}

func (s *slab) growLocked(class int) bool {
	raw, err := syscall.Mmap(-1, 0, 2*slabBytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_NORESERVE)
	if err != nil {
		return false
	}
	base := uintptr(unsafe.Pointer(&raw[0]))
	skip := int(-base & (slabBytes - 1))
	n := slabBytes / (slabMin << class)
	c := &slabChunk{raw: raw, mem: raw[skip : skip+slabBytes], class: class, free: make([]uint16, n), pos: len(s.free[class])}
	for i := range c.free {
		c.free[i] = uint16(n - 1 - i)
	}
	if s.chunks == nil {
		s.chunks = make(map[uintptr]*slabChunk)
	}
	s.chunks[base+uintptr(skip)] = c
	s.free[class] = append(s.free[class], c)
	return true
}

func (s *slab) delistLocked(c *slabChunk) {
	l := s.free[c.class]
	last := l[len(l)-1]
	l[c.pos] = last
	last.pos = c.pos
	s.free[c.class] = l[:len(l)-1]
	c.pos = -1
}

// put gives a block back.
func (s *slab) put(b []byte) {
	addr := uintptr(unsafe.Pointer(&b[0]))
	base := addr &^ (slabBytes - 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.chunks[base]
	if c == nil {
		return // the heap's
	}
	c.free = append(c.free, uint16((addr-base)/(slabMin<<c.class)))
	if c.pos < 0 {
		c.pos = len(s.free[c.class])
		s.free[c.class] = append(s.free[c.class], c)
	}
	if len(c.free) == slabBytes/(slabMin<<c.class) && len(s.free[c.class]) > 1 {
		s.delistLocked(c)
		delete(s.chunks, base)
		syscall.Munmap(c.raw)
	}
}
