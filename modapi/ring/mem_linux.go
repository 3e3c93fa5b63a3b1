package ring

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// The layout of a half. Everything is a multiple of pages, and pages that
// nobody touched do not exist.
const (
	page = 4096

	slots    = 128 // slots of a half; the length of its ring as well
	reserved = 2   // slots that only calls of one rank take
	ranks    = 9   // 0 to 8
	general  = slots - reserved*ranks
	spared   = 16 // general slots that mutators do not take

	slotSize   = 128      // 64 of header, 64 of our own
	inlineSize = 16 << 10 // payload area of each slot
	extents    = 4        // larger payload areas, for all
	extentSize = wire.MaxPayload

	offState  = 0   // what the server does: see server
	offBell   = 64  // counted up to wake the server through its watcher
	offCBell  = 128 // counted up when a call is complete whose caller is parked
	offSCPU   = 192 // the CPU that the server last ran on
	offCCPU   = 256 // the CPU that a caller last ran on
	offRing   = 512
	offSlots  = page
	offArgs   = offSlots + slots*slotSize
	offInline = offArgs + slots*wire.MaxArgs
	offArena  = offInline + slots*inlineSize
	halfSize  = offArena + extents*extentSize

	offCancel = 64 // within a slot: the caller gave up
)

const (
	magic   = uint32('R') | uint32('U')<<8 | uint32('R')<<16 | uint32('1')<<24
	version = 1
	seals   = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
)

// size is the length of the memory of a connection with so many halves.
func size(halves int) int { return page + halves*halfSize }

// Create makes the memory of a connection: a sealed memfd that neither side
// can cut short under the other. With upcalls it has a half for calls of the
// second side as well. The caller closes it, when the peer has its own
// descriptor and Map is done.
func Create(upcalls bool) (*os.File, error) {
	fd, err := unix.MemfdCreate("rumpus-ring", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("rumpus-ring", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("shared memory: %v: %w", err, abi.ENOMEM)
	}
	f := os.NewFile(uintptr(fd), "rumpus-ring")
	halves := 1
	if upcalls {
		halves = 2
	}
	err = unix.Ftruncate(fd, int64(size(halves)))
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	if err == nil {
		var head [16]byte
		put := func(i int, v uint32) { *(*uint32)(unsafe.Pointer(&head[i])) = v }
		put(0, magic)
		put(4, version)
		put(8, uint32(halves))
		_, err = unix.Pwrite(fd, head[:12], 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("shared memory: %v: %w", err, abi.ENOMEM)
	}
	return f, nil
}

// Mem is the mapped memory of a connection.
type Mem struct {
	b      []byte
	halves int
}

// Map maps the memory of f, which it does not keep. It refuses what Create did
// not make with EINVAL.
func Map(f *os.File) (*Mem, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("shared memory: %v: %w", err, abi.EBADF)
	}
	var m *Mem
	var merr error
	err = rc.Control(func(fd uintptr) { m, merr = mapFd(int(fd)) })
	if err != nil {
		return nil, fmt.Errorf("shared memory: %v: %w", err, abi.EBADF)
	}
	return m, merr
}

func mapFd(fd int) (*Mem, error) {
	have, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil || have&seals != seals {
		return nil, fmt.Errorf("shared memory is not sealed: %w", abi.EINVAL)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Size != int64(size(1)) && st.Size != int64(size(2)) {
		return nil, fmt.Errorf("shared memory of %d bytes: %w", st.Size, abi.EINVAL)
	}
	b, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("shared memory: %v: %w", err, abi.ENOMEM)
	}
	m := &Mem{b: b, halves: (len(b) - page) / halfSize}
	if m.word(0).Load() != magic || m.word(4).Load() != version || m.word(8).Load() != uint32(m.halves) {
		unix.Munmap(b)
		return nil, fmt.Errorf("shared memory of another version: %w", abi.EINVAL)
	}
	return m, nil
}

// Unmap gives memory back that was never attached.
func (m *Mem) Unmap() {
	if m.b != nil {
		unix.Munmap(m.b)
		m.b = nil
	}
}

func (m *Mem) word(off int) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&m.b[off])) }

// half is one direction: the calls of one side.
type half struct {
	m    *Mem
	base int
}

func (h half) word(off int) *atomic.Uint32   { return h.m.word(h.base + off) }
func (h half) entry(i uint32) *atomic.Uint32 { return h.word(offRing + 4*int(i%slots)) }
func (h half) slot(i int) *atomic.Uint32     { return h.word(offSlots + slotSize*i) }
func (h half) cancel(i int) *atomic.Uint32   { return h.word(offSlots + slotSize*i + offCancel) }
func (h half) header(i int) []byte           { return h.bytes(offSlots+slotSize*i, wire.HeaderSize) }
func (h half) args(i int) []byte             { return h.bytes(offArgs+wire.MaxArgs*i, wire.MaxArgs) }
func (h half) bytes(off, n int) []byte       { off += h.base; return h.m.b[off : off+n : off+n] }

// area is the payload area that a slot's header names by its offset in the
// half: the slot's own, or an extent. nil if there is none.
func (h half) area(i int, off uint32) []byte {
	o := int(off)
	switch {
	case o == offInline+i*inlineSize:
		return h.bytes(o, inlineSize)
	case o >= offArena && o < halfSize && (o-offArena)%extentSize == 0:
		return h.bytes(o, extentSize)
	}
	return nil
}
