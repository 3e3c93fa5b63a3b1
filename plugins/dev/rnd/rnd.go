// Package rnd is the module of random(4): the devices random (unit 0) and
// urandom (unit 1).
//
// Both read from the operating system's generator through crypto/rand, which
// is always seeded, so neither ever has to wait and they differ in name only.
// What is written is accepted and has no effect: NetBSD mixes it into the
// entropy pool, which here belongs to the host, and a component has no say in
// that.
//
// There is no state, hence no lock.
package rnd

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// The units, as NetBSD's sys/dev/random.c has them.
const (
	UnitRandom  = 0
	UnitURandom = 1
)

// New makes the module "rnd" (class driver).
func New() modapi.Module { return module{} }

type module struct{}

func (module) Info() modapi.Info {
	return modapi.Info{
		Name: "rnd", Class: modapi.ClassDriver,
		Kern: abi.KernVersionCurrent, Version: "0.1.0",
	}
}

func (module) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, _ modapi.Props) error {
	if _, err := k.AttachChr("rnd", driver{}); err != nil {
		return fmt.Errorf("attach rnd: %w", err)
	}
	return nil
}

func (module) Fini(context.Context) error { return nil }

// driver is the rnd driver. Its zero value is ready for use.
type driver struct{}

var (
	_ devops.Chr   = driver{}
	_ devops.Noder = driver{}
)

// Nodes are the device nodes with the modes of NetBSD's MAKEDEV.
func (driver) Nodes() []devops.Node {
	return []devops.Node{
		{Name: "random", Unit: UnitRandom, Mode: 0o444},
		{Name: "urandom", Unit: UnitURandom, Mode: 0o644},
	}
}

// check is ENXIO for a unit that does not exist.
func check(unit uint32) error {
	if unit == UnitRandom || unit == UnitURandom {
		return nil
	}
	return fmt.Errorf("rnd unit %d: %w", unit, abi.ENXIO)
}

func (driver) Open(_ context.Context, unit uint32, _ int) error  { return check(unit) }
func (driver) Close(_ context.Context, unit uint32, _ int) error { return check(unit) }

// chunk bounds what is generated between two looks at the caller's context.
const chunk = 64 << 10

// Read fills dst; it is short only if the caller gives up (EINTR, if nothing
// was read yet).
func (driver) Read(ctx context.Context, unit uint32, _ int64, dst abi.Iov, _ int) (int, error) {
	if err := check(unit); err != nil {
		return 0, err
	}
	n := 0
	for _, p := range dst {
		for len(p) > 0 {
			if err := ctx.Err(); err != nil {
				if n > 0 {
					return n, nil
				}
				return 0, fmt.Errorf("read random: %w", err)
			}
			q := p[:min(len(p), chunk)]
			if _, err := rand.Read(q); err != nil {
				return n, fmt.Errorf("read random: %v: %w", err, abi.EIO)
			}
			n += len(q)
			p = p[len(q):]
		}
	}
	return n, nil
}

func (driver) Write(_ context.Context, unit uint32, _ int64, src abi.Iov, _ int) (int, error) {
	if err := check(unit); err != nil {
		return 0, err
	}
	return src.Len(), nil
}

// Ioctl takes FIONBIO and FIOASYNC, which change nothing here, as NetBSD's
// driver does; everything else, the RND* commands included, is ENOTTY.
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
