package devops

import (
	"context"
	"encoding/binary"
	"fmt"

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

// ProbeUnit is a unit that no driver has. Block for it reads only, and beside
// others who have the device for themselves.
const ProbeUnit = 0xfffff

// Prober is the optional part of a Blk that says what any block device holds:
// partition tables and file systems are hostile, and looked at in a component.
type Prober interface {
	// Probe answers a JSON object for people and their tools, at most MaxProbe
	// bytes.
	Probe(ctx context.Context, on abi.Dev) ([]byte, error)
}

// MaxProbe bounds the answer of Probe, in bytes.
const MaxProbe = 256 << 10

// Units are units of a driver that belong together.
type Units struct {
	First, Count uint32 // Count 0: none yet
}

// Has reports whether a unit is one of them.
func (u Units) Has(n uint32) bool { return n >= u.First && n-u.First < u.Count }

// MaxConfigure bounds the argument of Configure, in bytes.
const MaxConfigure = 4000

// Commands by which Configure and Probe travel to the driver's process, as an ioctl of
// unit 0. Programs cannot send them: they go through drvctl(4).
const (
	DIOCCONFIGURE   = abi.IOC_INOUT | 0xfff<<16 | 'd'<<8 | 200
	DIOCUNCONFIGURE = abi.IOC_IN | 12<<16 | 'd'<<8 | 201
	DIOCPROBE       = abi.IOC_INOUT | 8<<16 | 'd'<<8 | 202
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

// ServeControl is Ioctl for these commands: it calls what b has of Configurer
// and Prober, and answers ENOTTY for what it has not, whatever its units are.
// handled is false for other commands.
func ServeControl(ctx context.Context, b Blk, cmd uint32, arg []byte) (out []byte, handled bool, err error) {
	c, _ := b.(Configurer)
	p, _ := b.(Prober)
	switch {
	case cmd == DIOCPROBE && p != nil:
		if len(arg) != 8 {
			return nil, true, abi.EINVAL
		}
		out, err = p.Probe(ctx, abi.Dev(binary.LittleEndian.Uint64(arg)))
		if err == nil && len(out) > MaxProbe {
			out, err = nil, abi.E2BIG
		}
		return out, true, err
	case cmd == DIOCCONFIGURE && c != nil:
		if len(arg) < 16 || len(arg) > 16+MaxConfigure {
			return nil, true, abi.EINVAL
		}
		u := Units{binary.LittleEndian.Uint32(arg), binary.LittleEndian.Uint32(arg[4:])}
		u, err := c.Configure(ctx, u, abi.Dev(binary.LittleEndian.Uint64(arg[8:])), arg[16:])
		if err != nil {
			return nil, true, err
		}
		return AppendUnits(nil, u), true, nil
	case cmd == DIOCUNCONFIGURE && c != nil:
		if len(arg) != 12 {
			return nil, true, abi.EINVAL
		}
		u, err := ParseUnits(arg[:8])
		if err != nil {
			return nil, true, err
		}
		return nil, true, c.Unconfigure(ctx, u, binary.LittleEndian.Uint32(arg[8:]) != 0)
	case cmd == DIOCPROBE, cmd == DIOCCONFIGURE, cmd == DIOCUNCONFIGURE:
		return nil, true, abi.ENOTTY
	}
	return nil, false, nil
}

// Configure calls Configure of a driver, in this process or another. ENOTTY: it
// is no Configurer. EIO: an answer that makes no sense.
func Configure(ctx context.Context, b Blk, u Units, on abi.Dev, arg []byte) (Units, error) {
	if c, ok := b.(Configurer); ok {
		return c.Configure(ctx, u, on, arg)
	}
	out, err := b.Ioctl(ctx, 0, DIOCCONFIGURE, AppendConfigure(nil, u, on, arg))
	if err != nil {
		return u, err
	}
	if u, err = ParseUnits(out); err != nil {
		return u, fmt.Errorf("units that make no sense: %w", abi.EIO)
	}
	return u, nil
}

// Unconfigure calls Unconfigure of a driver, as Configure does.
func Unconfigure(ctx context.Context, b Blk, u Units, force bool) error {
	if c, ok := b.(Configurer); ok {
		return c.Unconfigure(ctx, u, force)
	}
	_, err := b.Ioctl(ctx, 0, DIOCUNCONFIGURE, AppendUnconfigure(nil, u, force))
	return err
}

// Probe calls Probe of a driver, in this process or another. ENOTTY: it is no
// Prober.
func Probe(ctx context.Context, b Blk, on abi.Dev) ([]byte, error) {
	if p, ok := b.(Prober); ok {
		return p.Probe(ctx, on)
	}
	return b.Ioctl(ctx, 0, DIOCPROBE, binary.LittleEndian.AppendUint64(nil, uint64(on)))
}
