package devops

import (
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Check checks a geometry against the rules of Geom and fills in MaxIO. EINVAL.
func (g *Geom) Check() error {
	if g.Sector < DevBsize || g.Sector > 64<<10 || g.Sector&(g.Sector-1) != 0 ||
		g.Size < 0 || g.Size%int64(g.Sector) != 0 || g.MaxIO > MaxPhys || g.MaxIO%g.Sector != 0 {
		return fmt.Errorf("disk of %d bytes in sectors of %d, at most %d at a time: %w", g.Size, g.Sector, g.MaxIO, abi.EINVAL)
	}
	if g.MaxIO == 0 {
		g.MaxIO = MaxPhys
	}
	g.Ops &= BFlush | BFua | BDiscard | BZeroes
	return nil
}

// Off is where the buf begins, in bytes.
func (b *Buf) Off() int64 { return b.Blkno * DevBsize }

// Op is which of the five operations it is.
func (b *Buf) Op() BufFlags { return b.Flags & BOpMask }

// Check checks a buf against a checked geometry. EINVAL: not exactly one
// operation, not whole sectors, behind the end, more than MaxIO, or data of
// another length; EROFS; EOPNOTSUPP for a discard or zeroes that Ops does not
// have.
func (b *Buf) Check(g *Geom) error {
	op := b.Op()
	switch op {
	case BFlush:
		return nil
	case BRead, BWrite:
		if int64(b.Data.Len()) != b.Bytes || b.Bytes > int64(g.MaxIO) {
			return fmt.Errorf("buf of %d bytes with %d of data, at most %d: %w", b.Bytes, b.Data.Len(), g.MaxIO, abi.EINVAL)
		}
	case BDiscard, BZeroes:
		if g.Ops&op == 0 {
			return abi.EOPNOTSUPP
		}
	default:
		return fmt.Errorf("buf with flags %#x: %w", uint32(b.Flags), abi.EINVAL)
	}
	sec := int64(g.Sector)
	switch {
	case b.Blkno < 0 || b.Blkno > 1<<53 || b.Bytes <= 0 || b.Off()%sec != 0 || b.Bytes%sec != 0:
		return fmt.Errorf("buf of %d bytes at block %d, sectors are of %d: %w", b.Bytes, b.Blkno, sec, abi.EINVAL)
	case b.Off() > g.Size || b.Bytes > g.Size-b.Off():
		return fmt.Errorf("buf of %d bytes at block %d, behind the end at %d: %w", b.Bytes, b.Blkno, g.Size/DevBsize, abi.EINVAL)
	case op != BRead && g.ReadOnly:
		return abi.EROFS
	}
	return nil
}
