package devops

import (
	"context"
	"encoding/binary"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Configurer is the optional part of a Blk whose units are made while it runs:
// cgd(4), nbd, partitions. In NetBSD each has ioctls of its own for that
// (CGDIOCSET, VNDIOCSET); here all are made through drvctl(4), and the kernel
// remembers how, keys included: after a restart of the driver's process it
// configures a unit again before anybody uses it, and nobody notices.
type Configurer interface {
	// Configure makes units from arg, which is the driver's own (JSON), and
	// may hold keys: it is neither logged nor kept by the driver longer than
	// needed. on is the block device that arg is about, or abi.NoDev. It
	// answers the units, Units.First to Units.First+Units.Count-1, whose nodes
	// Noder.Nodes names from now on; the kernel asks for them next. Told the
	// same in a new process, with the units that it answered before in u, it
	// makes the same units. EEXIST, EBUSY: units are there already; EINVAL:
	// arg, by a text that says what is wrong; what the device answers.
	Configure(ctx context.Context, u Units, on abi.Dev, arg []byte) (Units, error)
	// Unconfigure takes the units away that Configure answered. They are not
	// open, unless force. ENXIO: there are none.
	Unconfigure(ctx context.Context, u Units, force bool) error
}

// Units are units of a driver that belong together.
type Units struct {
	First, Count uint32 // Count 0: none yet
}

// Has reports whether a unit is one of them.
func (u Units) Has(n uint32) bool { return n >= u.First && n-u.First < u.Count }

// MaxConfigure bounds the argument of Configure, in bytes.
const MaxConfigure = 4000

// Commands by which Configure travels to the driver's process, as an ioctl of
// unit 0. Programs cannot send them: they go through drvctl(4).
const (
	DIOCCONFIGURE   = abi.IOC_INOUT | 0xfff<<16 | 'd'<<8 | 200
	DIOCUNCONFIGURE = abi.IOC_IN | 12<<16 | 'd'<<8 | 201
)

// AppendConfigure codes a call of Configure.
func AppendConfigure(b []byte, u Units, on abi.Dev, arg []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, u.First)
	b = binary.LittleEndian.AppendUint32(b, u.Count)
	b = binary.LittleEndian.AppendUint64(b, uint64(on))
	return append(b, arg...)
}

// AppendUnits codes an answer of Configure.
func AppendUnits(b []byte, u Units) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, u.First), u.Count)
}

// ParseUnits decodes one. EINVAL: it is none.
func ParseUnits(b []byte) (u Units, err error) {
	if len(b) != 8 {
		return u, abi.EINVAL
	}
	u.First, u.Count = binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	if u.Count == 0 || u.Count > 4096 || u.First > 1<<20-u.Count {
		return Units{}, abi.EINVAL
	}
	return u, nil
}

// AppendUnconfigure codes a call of Unconfigure.
func AppendUnconfigure(b []byte, u Units, force bool) []byte {
	f := uint32(0)
	if force {
		f = 1
	}
	return binary.LittleEndian.AppendUint32(AppendUnits(b, u), f)
}

// ServeConfigure is Ioctl for the two commands: it calls c. handled is false
// for other commands.
func ServeConfigure(ctx context.Context, c Configurer, cmd uint32, arg []byte) (out []byte, handled bool, err error) {
	switch cmd {
	case DIOCCONFIGURE:
		if len(arg) < 16 || len(arg) > 16+MaxConfigure {
			return nil, true, abi.EINVAL
		}
		u := Units{binary.LittleEndian.Uint32(arg), binary.LittleEndian.Uint32(arg[4:])}
		u, err := c.Configure(ctx, u, abi.Dev(binary.LittleEndian.Uint64(arg[8:])), arg[16:])
		if err != nil {
			return nil, true, err
		}
		return AppendUnits(nil, u), true, nil
	case DIOCUNCONFIGURE:
		if len(arg) != 12 {
			return nil, true, abi.EINVAL
		}
		u, err := ParseUnits(arg[:8])
		if err != nil {
			return nil, true, err
		}
		return nil, true, c.Unconfigure(ctx, u, binary.LittleEndian.Uint32(arg[8:]) != 0)
	}
	return nil, false, nil
}
