package devops

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// DevBsize is the unit of Buf.Blkno (DEV_BSIZE), whatever the sector size of
// the device.
const DevBsize = 512

// MaxPhys is the most that one Buf moves, in bytes: what one frame holds.
const MaxPhys = 1 << 20

// Blk is a block device driver (struct bdevsw). Its raw side, the character
// device, is the kernel's: a driver has blocks only.
//
// The kernel calls concurrently, also on one unit; several bufs are in flight
// at a time and may end in any order. Writes that overlap are never in flight
// together: the kernel sees to it.
type Blk interface {
	// Geometry says what a unit is. ENXIO: no such unit, now.
	Geometry(ctx context.Context, unit uint32) (Geom, error)
	// Open is called for every open of a unit. ENXIO: no such unit. EROFS: it
	// is read-only, and flags want to write.
	Open(ctx context.Context, unit uint32, flags int) error
	Close(ctx context.Context, unit uint32, flags int) error
	// Strategy moves a buf, and answers when it is done: returning is biodone.
	// All of the buf is done or none of it counts. EIO: the device says no;
	// EINVAL: the buf is not of whole sectors or reaches behind the end; EROFS;
	// ENXIO: gone; ENOSPC: the backing store is full; EOPNOTSUPP: an operation
	// that Geom does not offer.
	Strategy(ctx context.Context, b *Buf) error
	// Ioctl gets the in part of its argument and answers the out part. ENOTTY
	// for what it does not know.
	Ioctl(ctx context.Context, unit uint32, cmd uint32, arg []byte) ([]byte, error)
}

// Geom is what a block device is (struct disk_geom, as far as anybody looks).
type Geom struct {
	Size     int64    // bytes; a multiple of Sector
	Sector   uint32   // bytes, a power of two from 512 to 64 KiB
	MaxIO    uint32   // bytes that one Buf may move, a multiple of Sector; 0 = MaxPhys
	Optimal  uint32   // bytes that are moved best at a time; 0 = unknown
	ReadOnly bool     // writes are EROFS
	Ops      BufFlags // which of BFlush, BFua, BDiscard, BZeroes the device has
	Type     string   // "md", "cgd", "GPT partition"; for people
	Label    string   // the name that the medium has itself; may be empty
}

// BufFlags say what a Buf wants.
type BufFlags uint32

// Exactly one of the first five, and modifiers.
const (
	BRead    BufFlags = 1 << iota // fill Data
	BWrite                        // drain Data
	BFlush                        // all writes answered before are durable when it returns
	BDiscard                      // Bytes from Blkno are of no use any more; what is read there is anything
	BZeroes                       // Bytes from Blkno read as zeroes afterwards
	BFua                          // with BWrite, BZeroes: durable when it returns
	BFresh                        // with BWrite: unreferenced in the last checkpoint, may go straight to the device
	BMeta                         // metadata of a file system: kept in the cache longer
	BAhead                        // read-ahead: may be dropped

	BOpMask = BRead | BWrite | BFlush | BDiscard | BZeroes
)

// Buf is one request to a block device (struct buf).
type Buf struct {
	ID    abi.BufID // issued by the kernel, the same when it is issued again
	Dev   abi.Dev   // Minor is the unit
	Blkno int64     // in units of DevBsize
	Bytes int64     // a multiple of the sector; == Data.Len() for reads and writes
	Flags BufFlags
	Data  abi.Iov // reads and writes; may lie in shared memory: copy before trusting
}

// BlockIO is a block device of the kernel as a component uses it: a file system
// its disk, cgd what it encrypts, a partition table the whole disk. It is got
// from modapi.Kernel.Block; calls are upcalls, and reach devices of a lower
// rank only (EDEADLK).
type BlockIO interface {
	Geometry(ctx context.Context) (Geom, error)
	// Strategy as in Blk; ID and Dev are set by the kernel.
	Strategy(ctx context.Context, b *Buf) error
	Close(ctx context.Context) error
}
