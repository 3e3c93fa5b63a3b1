package dev

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// Blocks is a block device as bytes at any offset: what package bio makes of a
// BlkHandle, with its cache, or the plain one of this package.
type Blocks interface {
	// ReadAt and WriteAt move all of p, which lies within the device, or answer
	// an error.
	ReadAt(ctx context.Context, p []byte, off int64) error
	WriteAt(ctx context.Context, p []byte, off int64) error
	// Flush makes all that was written durable.
	Flush(ctx context.Context) error
	// Close ends the view; what was written is on the device, if not durable.
	// It does not close the BlkHandle.
	Close(ctx context.Context) error
}

// SetCache lets block device nodes be read and written through a cache from
// now on. Raw nodes go past it.
func (s *Switch) SetCache(open func(ctx context.Context, h *BlkHandle) (Blocks, error)) {
	s.mu.Lock()
	s.cached = open
	s.mu.Unlock()
}

// diskFile is an open node of a block device: the block device itself, or its
// raw side if b is nil.
type diskFile struct {
	h   *BlkHandle
	b   Blocks
	sel event.Selinfo // never notified: always ready
}

var _ file.Ops = (*diskFile)(nil)

// rawOf is the driver whose raw side has a character device number.
func (s *Switch) rawOf(n abi.Dev) *blkDriver {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.raws[n.Major()]
}

func (s *Switch) openRaw(ctx context.Context, d *blkDriver, unit uint32, flags int) (file.Ops, any, error) {
	h, err := s.openUnit(ctx, d, unit, nodeFlags(flags), "")
	if err != nil {
		return nil, nil, err
	}
	f := &diskFile{h: h}
	return f, f, nil
}

// nodeFlags are the flags of an open of a node as OpenBlk wants them. A node
// that is opened for writing is opened for both: parts of sectors are read.
func nodeFlags(flags int) int {
	if flags&abi.O_ACCMODE == abi.O_RDONLY {
		return abi.O_RDONLY
	}
	return abi.O_RDWR
}

// OpenBlkNode opens a block device and answers the operations and data of its
// file, as Open does for a character device.
func (s *Switch) OpenBlkNode(ctx context.Context, c *abi.Caller, n abi.Dev, flags int) (file.Ops, any, error) {
	h, err := s.OpenBlk(ctx, n, nodeFlags(flags))
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	open := s.cached
	s.mu.Unlock()
	f := &diskFile{h: h, b: plain{h}}
	if open != nil {
		if f.b, err = open(ctx, h); err != nil {
			h.Close(ctx)
			return nil, nil, err
		}
	}
	return f, f, nil
}

// Read is read(2). At the end of the device it answers 0, behind it EINVAL;
// the raw side wants whole sectors (EINVAL).
func (d *diskFile) Read(ctx context.Context, c *abi.Caller, f *file.File, dst []byte, off int64) (int, error) {
	return d.move(ctx, f, dst, off, true)
}

// Write is write(2). At the end of the device it is ENOSPC, behind it EINVAL;
// the raw side wants whole sectors (EINVAL).
func (d *diskFile) Write(ctx context.Context, c *abi.Caller, f *file.File, src []byte, off int64) (int, error) {
	return d.move(ctx, f, src, off, false)
}

func (d *diskFile) move(ctx context.Context, f *file.File, b []byte, off int64, read bool) (int, error) {
	at := offset(f, off)
	g, err := d.h.Geometry(ctx)
	switch {
	case err != nil:
		return 0, err
	case at < 0 || at > g.Size:
		return 0, abi.EINVAL
	case len(b) == 0:
		return 0, nil
	case at == g.Size && read:
		return 0, nil
	case at == g.Size:
		return 0, abi.ENOSPC
	}
	raw := d.b == nil
	if raw && (at%int64(g.Sector) != 0 || len(b)%int(g.Sector) != 0) {
		return 0, fmt.Errorf("raw device, %d bytes at %d: sectors are of %d: %w", len(b), at, g.Sector, abi.EINVAL)
	}
	b = b[:min(int64(len(b)), g.Size-at)]
	done := 0
	for done < len(b) && err == nil {
		part := b[done:min(len(b), done+int(g.MaxIO))]
		switch {
		case raw:
			err = d.h.Do(ctx, &devops.Buf{Blkno: (at + int64(done)) / devops.DevBsize, Bytes: int64(len(part)), Flags: dir(read), Data: abi.IovOf(part)})
		case read:
			err = d.b.ReadAt(ctx, part, at+int64(done))
		default:
			err = d.b.WriteAt(ctx, part, at+int64(done))
		}
		if err == nil {
			done += len(part)
		}
	}
	if err == nil && !read && f.Flags()&(abi.O_SYNC|abi.O_DSYNC) != 0 {
		err = d.flush(ctx)
		if err != nil {
			return 0, err
		}
	}
	if done == 0 && err != nil {
		return 0, err
	}
	advance(f, off, done)
	return done, nil
}

func dir(read bool) devops.BufFlags {
	if read {
		return devops.BRead
	}
	return devops.BWrite
}

func (d *diskFile) flush(ctx context.Context) error {
	if d.b != nil {
		return d.b.Flush(ctx)
	}
	return d.h.Do(ctx, &devops.Buf{Flags: devops.BFlush})
}

// Seek is lseek(2); the end is the device's size.
func (d *diskFile) Seek(ctx context.Context, _ *abi.Caller, f *file.File, off int64, whence int) (int64, error) {
	var end int64
	if whence == abi.SEEK_END {
		g, err := d.h.Geometry(ctx)
		if err != nil {
			return 0, err
		}
		end = g.Size
	}
	f.OffMu.Lock()
	defer f.OffMu.Unlock()
	switch whence {
	case abi.SEEK_SET:
	case abi.SEEK_CUR:
		off += f.Offset
	case abi.SEEK_END:
		off += end
	default:
		return 0, abi.EINVAL
	}
	if off < 0 {
		return 0, abi.EINVAL
	}
	f.Offset = off
	return off, nil
}

// Stat describes the device as if it had no node, with its size.
func (d *diskFile) Stat(ctx context.Context, _ *abi.Caller, f *file.File) (abi.Stat, error) {
	va := abi.Vattr{Type: abi.VBLK, Mode: 0o600, Nlink: 1, Rdev: d.h.Dev(), Blksize: abi.PageSize}
	if d.b == nil {
		va.Type, va.Rdev = abi.VCHR, abi.Makedev(d.h.u.d.cmajor, d.h.u.unit)
	}
	if g, err := d.h.Geometry(ctx); err == nil {
		va.Size = g.Size
	}
	return abi.Stat{Vattr: va}, nil
}

// Ioctl answers what all disks have: size, sectors, name, cache. The driver
// has the others. ENOTTY; EINVAL if the argument is too short.
func (d *diskFile) Ioctl(ctx context.Context, c *abi.Caller, f *file.File, cmd uint32, arg []byte) ([]byte, error) {
	size := abi.IOCParmLen(cmd)
	if abi.IOCDir(cmd)&abi.IOC_IN != 0 && len(arg) < size || size > abi.IOCPARM_MAX {
		return nil, abi.EINVAL
	}
	switch cmd {
	case abi.FIONBIO, abi.FIOASYNC:
		return nil, nil
	case abi.DIOCCACHESYNC:
		return nil, d.flush(ctx)
	case abi.DIOCGMEDIASIZE, abi.DIOCGSECTORSIZE, abi.DIOCGCACHE, abi.DIOCGWEDGEINFO:
		g, err := d.h.Geometry(ctx)
		if err != nil {
			return nil, err
		}
		return d.h.info(cmd, &g), nil
	}
	if abi.IOCDir(cmd)&abi.IOC_IN != 0 {
		arg = arg[:size]
	} else {
		arg = nil
	}
	return d.h.Ioctl(ctx, cmd, arg)
}

// info codes the answer to a question of Ioctl.
func (h *BlkHandle) info(cmd uint32, g *devops.Geom) []byte {
	le := binary.LittleEndian
	switch cmd {
	case abi.DIOCGMEDIASIZE:
		return le.AppendUint64(nil, uint64(g.Size))
	case abi.DIOCGSECTORSIZE:
		return le.AppendUint32(nil, g.Sector)
	case abi.DIOCGCACHE:
		bits := uint32(0)
		if g.Ops&devops.BFlush != 0 {
			bits |= abi.DKCACHE_READ | abi.DKCACHE_WRITE
		}
		if g.Ops&devops.BFua != 0 {
			bits |= abi.DKCACHE_FUA
		}
		return le.AppendUint32(nil, bits)
	}
	h.s.mu.Lock()
	name, parent := h.u.name(), ""
	if len(h.u.on) > 0 {
		parent = h.u.on[0].name()
	}
	h.s.mu.Unlock()
	b := make([]byte, abi.DkwedgeInfoSize)
	copy(b[:15], name)
	copy(b[16:143], g.Label)
	copy(b[144:159], parent)
	le.PutUint64(b[168:], uint64(g.Size)/uint64(g.Sector))
	copy(b[176:207], g.Type)
	return b
}

// Poll: disks are always ready (seltrue).
func (d *diskFile) Poll(_ context.Context, _ *file.File, want abi.PollEvents) abi.PollEvents {
	ready := abi.POLLIN | abi.POLLRDNORM | abi.POLLOUT
	if d.h.u.d.gone.Load() {
		ready |= abi.POLLHUP | abi.POLLERR
	}
	return ready & (want | abi.POLLANSWER)
}

// Selinfo is never notified.
func (d *diskFile) Selinfo(*file.File) *event.Selinfo { return &d.sel }

// Fsync makes what was written durable.
func (d *diskFile) Fsync(ctx context.Context, _ *abi.Caller, _ *file.File, _ bool) error {
	return d.flush(ctx)
}

// Close ends the open; what the cache has goes to the device.
func (d *diskFile) Close(ctx context.Context, _ *file.File) (err error) {
	if d.b != nil {
		err = d.b.Close(ctx)
	}
	if e := d.h.Close(ctx); err == nil {
		err = e
	}
	return err
}

// plain are the bytes of a block device without a cache: parts of sectors are
// read, changed and written, one of them at a time.
type plain struct{ h *BlkHandle }

// edges orders changes of parts of sectors, of all devices: they are rare.
var edges sync.Mutex

func (p plain) ReadAt(ctx context.Context, b []byte, off int64) error {
	return p.each(ctx, b, off, true)
}

func (p plain) WriteAt(ctx context.Context, b []byte, off int64) error {
	return p.each(ctx, b, off, false)
}

func (p plain) each(ctx context.Context, b []byte, off int64, read bool) error {
	g, err := p.h.Geometry(ctx)
	if err != nil {
		return err
	}
	sec := int64(g.Sector)
	for len(b) > 0 {
		n := int64(len(b))
		in := off % sec
		if in == 0 && n >= sec { // whole sectors
			n = min(n-n%sec, int64(g.MaxIO))
			err = p.do(ctx, b[:n], off, read)
		} else {
			n = min(n, sec-in)
			err = p.part(ctx, b[:n], off-in, in, sec, read)
		}
		if err != nil {
			return err
		}
		b, off = b[n:], off+n
	}
	return nil
}

// part moves a part of one sector.
func (p plain) part(ctx context.Context, b []byte, off, in, sec int64, read bool) error {
	if !read {
		edges.Lock()
		defer edges.Unlock()
	}
	whole := make([]byte, sec)
	err := p.do(ctx, whole, off, true)
	if err != nil || read {
		copy(b, whole[in:])
		return err
	}
	copy(whole[in:], b)
	return p.do(ctx, whole, off, false)
}

func (p plain) do(ctx context.Context, b []byte, off int64, read bool) error {
	return p.h.Do(ctx, &devops.Buf{Blkno: off / devops.DevBsize, Bytes: int64(len(b)), Flags: dir(read), Data: abi.IovOf(b)})
}

func (p plain) Flush(ctx context.Context) error {
	return p.h.Do(ctx, &devops.Buf{Flags: devops.BFlush})
}

func (p plain) Close(context.Context) error { return nil }
