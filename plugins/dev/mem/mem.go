// Package mem is the module of the devices that need no hardware: null(4),
// zero(4) and full(4), as NetBSD's mm driver has them.
//
//	null  unit 2   reads are at the end of file, writes vanish
//	zero  unit 12  reads are zeros, writes vanish
//	full  unit 11  reads are zeros, a write is ENOSPC
//
// The unit numbers are those of NetBSD's sys/dev/mm.h. mem and kmem (units 0
// and 1) do not exist here: there is no such memory to show, so they answer
// ENXIO like any other unit.
//
// There is no state, hence no lock, and everything is always ready.
package mem

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// The units, as NetBSD's sys/dev/mm.h numbers them.
const (
	UnitNull = 2
	UnitFull = 11
	UnitZero = 12
)

// New makes the module "mem" (class driver).
func New() modapi.Module { return module{} }

type module struct{}

func (module) Info() modapi.Info {
	return modapi.Info{
		Name: "mem", Class: modapi.ClassDriver,
		Kern: abi.KernVersionCurrent, Version: "0.1.0",
	}
}

func (module) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, _ modapi.Props) error {
	if _, err := k.AttachChr("mem", driver{}); err != nil {
		return fmt.Errorf("attach mem: %w", err)
	}
	return nil
}

func (module) Fini(context.Context) error { return nil }

// driver is the mem driver. Its zero value is ready for use.
type driver struct{}

var (
	_ devops.Chr   = driver{}
	_ devops.Noder = driver{}
)

// Nodes are the device nodes with the modes of NetBSD's MAKEDEV.
func (driver) Nodes() []devops.Node {
	return []devops.Node{
		{Name: "null", Unit: UnitNull, Mode: 0o666},
		{Name: "zero", Unit: UnitZero, Mode: 0o666},
		{Name: "full", Unit: UnitFull, Mode: 0o666},
	}
}

// check is ENXIO for a unit that does not exist.
func check(unit uint32) error {
	switch unit {
	case UnitNull, UnitFull, UnitZero:
		return nil
	}
	return fmt.Errorf("mem unit %d: %w", unit, abi.ENXIO)
}

func (driver) Open(_ context.Context, unit uint32, _ int) error  { return check(unit) }
func (driver) Close(_ context.Context, unit uint32, _ int) error { return check(unit) }

func (driver) Read(_ context.Context, unit uint32, _ int64, dst abi.Iov, _ int) (int, error) {
	switch unit {
	case UnitNull:
		return 0, nil
	case UnitFull, UnitZero:
		n := 0
		for _, p := range dst {
			clear(p)
			n += len(p)
		}
		return n, nil
	}
	return 0, check(unit)
}

func (driver) Write(_ context.Context, unit uint32, _ int64, src abi.Iov, _ int) (int, error) {
	n := src.Len()
	switch unit {
	case UnitNull, UnitZero:
		return n, nil
	case UnitFull:
		if n == 0 {
			return 0, nil
		}
		return 0, fmt.Errorf("write to full: %w", abi.ENOSPC)
	}
	return 0, check(unit)
}

// Ioctl takes FIONBIO and FIOASYNC, which change nothing here, as NetBSD's
// driver does; everything else is ENOTTY.
func (driver) Ioctl(_ context.Context, unit uint32, cmd uint32, _ []byte) ([]byte, error) {
	if err := check(unit); err != nil {
		return nil, err
	}
	switch cmd {
	case abi.FIONBIO, abi.FIOASYNC:
		return nil, nil
	}
	return nil, abi.ENOTTY
}

func (driver) Poll(_ context.Context, unit uint32) (abi.PollEvents, error) {
	if err := check(unit); err != nil {
		return 0, err
	}
	return abi.POLLIN | abi.POLLRDNORM | abi.POLLOUT, nil
}
