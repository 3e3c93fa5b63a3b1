package wlog

import (
	"context"
	"fmt"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// Mem is a block device in memory (a bio.Device) that can be made to fail, and
// that checks the rules a driver may rely on.
type Mem struct {
	// Fault is asked before each request; its error is the answer. After is
	// asked when it is done. Nil: nothing fails. Both may wait.
	Fault func(b *devops.Buf) error
	After func(b *devops.Buf) error
	// Back is Up. Nil: the device is there.
	Back func(ctx context.Context) error

	geom devops.Geom

	mu     sync.Mutex
	data   []byte
	flying map[*devops.Buf]bool
	ids    map[abi.BufID]int // how often each was issued
	broken []string          // rules that were broken
	count  Counts
}

// Counts is what a Mem has been asked.
type Counts struct {
	Reads, Writes, Flushes, Discards, Zeroes int
	ReadBytes, WriteBytes                    int64
	MostFlying                               int
	Closed                                   bool
}

// NewMem makes a device of zeroes. It offers all operations.
func NewMem(size int64, sector uint32) *Mem { return NewMemOf(make([]byte, size), sector) }

// NewMemOf makes a device of an image, which is its from now on.
func NewMemOf(image []byte, sector uint32) *Mem {
	return &Mem{data: image, flying: map[*devops.Buf]bool{}, ids: map[abi.BufID]int{},
		geom: devops.Geom{Size: int64(len(image)), Sector: sector, Ops: devops.BFlush | devops.BFua | devops.BDiscard | devops.BZeroes, Type: "memory"}}
}

// SetGeom changes what the device says of itself, before it is opened.
func (m *Mem) SetGeom(f func(*devops.Geom)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.geom)
}

// Geometry is Device.
func (m *Mem) Geometry(context.Context) (devops.Geom, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.geom, nil
}

// Up is Device.
func (m *Mem) Up(ctx context.Context, _ error) error {
	if m.Back != nil {
		return m.Back(ctx)
	}
	return nil
}

// Close is Device.
func (m *Mem) Close(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count.Closed = true
	return nil
}

// Image is a copy of what is there.
func (m *Mem) Image() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]byte(nil), m.data...)
}

// Counts is what the device has been asked.
func (m *Mem) Counts() Counts {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}

// Issued is how often each buf came, by number.
func (m *Mem) Issued() map[abi.BufID]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := make(map[abi.BufID]int, len(m.ids))
	for k, v := range m.ids {
		r[k] = v
	}
	return r
}

// Broken lists the rules that were broken: overlapping writes at the same time,
// requests that are not of whole sectors, too long or outside.
func (m *Mem) Broken() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.broken...)
}

func span(b *devops.Buf) (int64, int64) {
	off := b.Blkno * devops.DevBsize
	return off, off + b.Bytes
}

// Strategy is Device.
func (m *Mem) Strategy(_ context.Context, b *devops.Buf) error {
	if err := m.begin(b); err != nil {
		return err
	}
	defer func() {
		m.mu.Lock()
		delete(m.flying, b)
		m.mu.Unlock()
	}()
	if m.Fault != nil {
		if err := m.Fault(b); err != nil {
			return err
		}
	}
	m.mu.Lock()
	off, end := span(b)
	switch b.Flags & devops.BOpMask {
	case devops.BRead:
		m.count.Reads++
		m.count.ReadBytes += b.Bytes
		b.Data.CopyIn(m.data[off:end])
	case devops.BWrite:
		m.count.Writes++
		m.count.WriteBytes += b.Bytes
		b.Data.CopyOut(m.data[off:end])
	case devops.BFlush:
		m.count.Flushes++
	case devops.BDiscard:
		m.count.Discards++
		for i := off; i < end; i++ {
			m.data[i] = 0xdd
		}
	case devops.BZeroes:
		m.count.Zeroes++
		clear(m.data[off:end])
	}
	m.mu.Unlock()
	if m.After != nil {
		return m.After(b)
	}
	return nil
}

// begin checks the rules and puts the buf among those in flight.
func (m *Mem) begin(b *devops.Buf) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ids[b.ID]++
	bad := func(format string, args ...any) error {
		m.broken = append(m.broken, fmt.Sprintf(format, args...))
		return abi.EINVAL
	}
	off, end := span(b)
	sec := int64(m.geom.Sector)
	most := int64(devops.MaxPhys)
	if m.geom.MaxIO != 0 {
		most = int64(m.geom.MaxIO)
	}
	data := b.Flags&(devops.BRead|devops.BWrite) != 0
	switch {
	case b.Flags&devops.BFlush != 0:
	case off%sec != 0 || end%sec != 0 || b.Bytes <= 0:
		return bad("buf %d of %d bytes at %d: not of whole sectors", b.ID, b.Bytes, off)
	case off < 0 || end > int64(len(m.data)):
		return bad("buf %d of %d bytes at %d: outside", b.ID, b.Bytes, off)
	case data && (b.Bytes > most || int64(b.Data.Len()) != b.Bytes):
		return bad("buf %d of %d bytes, data of %d, at most %d", b.ID, b.Bytes, b.Data.Len(), most)
	}
	for o := range m.flying {
		ooff, oend := span(o)
		if off < oend && ooff < end && b.Flags&devops.BRead == 0 && o.Flags&devops.BRead == 0 && (b.Flags|o.Flags)&devops.BFlush == 0 {
			_ = bad("bufs %d and %d write the same at the same time", o.ID, b.ID)
		}
		if o.ID == b.ID {
			_ = bad("buf %d is there twice", b.ID)
		}
	}
	m.flying[b] = true
	m.count.MostFlying = max(m.count.MostFlying, len(m.flying))
	return nil
}
