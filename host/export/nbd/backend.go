package nbd

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	proto "github.com/rumpus-kernel/rumpus/modapi/nbd"
)

// Backend is a block device that can be exported. The server calls
// concurrently, with ranges that lie within the device and are multiples of
// Info.Block. What it answers are abi's errors; EIO is for what has none.
//
// Overlapping writes may be in flight together if a client sends them so; which
// one wins is the backend's choice.
type Backend interface {
	// Info says what the device is. It is asked once per connection.
	Info() Info
	// ReadAt fills p, or answers an error.
	ReadAt(ctx context.Context, p []byte, off int64) error
	// WriteAt writes p; with fua it is durable when it returns (only with
	// OpFUA; otherwise the server flushes).
	WriteAt(ctx context.Context, p []byte, off int64, fua bool) error
	// Flush makes all writes durable that were answered before, those of
	// other connections as well if there is OpMultiConn. Needs OpFlush.
	Flush(ctx context.Context) error
	// Trim says that a range is of no use any more. Needs OpTrim.
	Trim(ctx context.Context, off, n int64) error
	// WriteZeroes makes a range read as zeroes; punch allows that it becomes
	// a hole. Needs OpZeroes; otherwise the server writes.
	WriteZeroes(ctx context.Context, off, n int64, fua, punch bool) error
	// Extents appends to dst what the range from off on consists of, in
	// order, at least one extent; it may stop before the end and may reach
	// behind it. Needs OpExtents; otherwise everything is data.
	Extents(ctx context.Context, off, n int64, dst []Extent) ([]Extent, error)
}

// TryReader is a backend that may have bytes at hand: TryRead fills p without
// waiting and answers true, or answers false at once.
type TryReader interface {
	TryRead(p []byte, off int64) bool
}

// TryWriter is the same for writing: TryWrite takes all of p without waiting and
// answers true, or nothing and answers false at once.
type TryWriter interface {
	TryWrite(p []byte, off int64) bool
}

// Extent is a run of bytes of one kind.
type Extent struct {
	Len  int64
	Hole bool // nothing is allocated for it
	Zero bool // it reads as zeroes
}

// Info is what a backend is.
type Info struct {
	Size      int64  // bytes
	Block     uint32 // bytes that offsets and lengths are multiples of, a power of two up to 64 KiB; 0 = 1
	Preferred uint32 // bytes that are moved best at a time, a power of two; 0 = 4096
	ReadOnly  bool
	Ops       Ops
}

// Ops say what a backend does of itself.
type Ops uint32

// The operations.
const (
	OpFlush      Ops = 1 << iota // Flush
	OpFUA                        // WriteAt and WriteZeroes know fua
	OpTrim                       // Trim
	OpZeroes                     // WriteZeroes
	OpFastZeroes                 // WriteZeroes is faster than writing
	OpExtents                    // Extents
	OpCache                      // reading ahead (NBD_CMD_CACHE) is of use
	OpMultiConn                  // writes of all connections are seen by all, and Flush is for all
	OpPrompt                     // calls never wait: the device is memory
)

// check completes i and says what is wrong with it.
func (i *Info) check() error {
	if i.Block == 0 {
		i.Block = 1
	}
	if i.Preferred == 0 {
		i.Preferred = 4096
	}
	i.Preferred = max(i.Preferred, i.Block, 512)
	switch {
	case i.Size < 0:
		return fmt.Errorf("size %d: %w", i.Size, abi.EINVAL)
	case i.Block&(i.Block-1) != 0 || i.Block > 1<<16:
		return fmt.Errorf("block size %d: %w", i.Block, abi.EINVAL)
	case i.Preferred&(i.Preferred-1) != 0 || i.Preferred > proto.MaxPayload:
		return fmt.Errorf("preferred block size %d: %w", i.Preferred, abi.EINVAL)
	}
	i.Size -= i.Size % int64(i.Block)
	return nil
}

// flags are the transmission flags of such a device.
func (i *Info) flags(structured bool) proto.TxFlags {
	f := proto.HasFlags
	if i.Ops&(OpFlush|OpFUA) != 0 {
		f |= proto.SendFUA
	}
	if i.Ops&OpFlush != 0 {
		f |= proto.SendFlush
	}
	if i.ReadOnly {
		f |= proto.ReadOnly
	} else {
		f |= proto.SendWriteZeroes | proto.SendFastZero
		if i.Ops&OpTrim != 0 {
			f |= proto.SendTrim
		}
	}
	if i.Ops&OpMultiConn != 0 || i.ReadOnly {
		f |= proto.CanMultiConn
	}
	if i.Ops&OpCache != 0 {
		f |= proto.SendCache
	}
	if structured {
		f |= proto.SendDF
	}
	return f
}
