// Package mdio is the language of memory disks (md(4)): the command that gives
// a unit its memory or takes it away.
package mdio

import (
	"encoding/binary"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Types of struct md_conf.
const (
	Unconfigured  = 0 // no memory; Size is 0
	KmemAllocated = 2 // memory of the driver's process
)

// confSize is the length of struct md_conf: address, size, type, padding.
const confSize = 24

// Commands (sys/dev/md.h).
var (
	GetConf = abi.IOR('r', 0, confSize)
	SetConf = abi.IOW('r', 1, confSize)
)

// MaxSize bounds a unit, in bytes.
const MaxSize = 1 << 40

// Conf is struct md_conf. Setting KmemAllocated with a Size, in bytes, makes
// the disk (EBUSY if there is one); setting Unconfigured ends it, contents and
// all.
type Conf struct {
	Size int64
	Type int32
}

// Append codes c at the end of b.
func (c Conf) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(c.Size))
	b = binary.LittleEndian.AppendUint32(b, uint32(c.Type))
	return binary.LittleEndian.AppendUint32(b, 0)
}

// Parse decodes c. EINVAL: another length, an unknown type, or a size that is
// not whole sectors of 512 bytes or more than MaxSize.
func (c *Conf) Parse(b []byte) error {
	if len(b) != confSize {
		return fmt.Errorf("md_conf of %d bytes: %w", len(b), abi.EINVAL)
	}
	c.Size, c.Type = int64(binary.LittleEndian.Uint64(b[8:])), int32(binary.LittleEndian.Uint32(b[16:]))
	return c.Check()
}

// Check checks c as Parse does.
func (c *Conf) Check() error {
	switch {
	case c.Type == Unconfigured && c.Size == 0:
		return nil
	case c.Type != KmemAllocated || c.Size <= 0 || c.Size > MaxSize || c.Size%512 != 0:
		return fmt.Errorf("memory disk of %d bytes, type %d: %w", c.Size, c.Type, abi.EINVAL)
	}
	return nil
}
