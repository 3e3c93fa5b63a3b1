package modtest

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// AttachBlk gives out majors from 201.
func (k *Kernel) AttachBlk(name string, d devops.Blk) (abi.Dev, error) {
	k.mu.Lock()
	k.major++
	dev := abi.Makedev(k.major, 0)
	k.mu.Unlock()
	return dev, add(k, "blk", func() map[string]Blk { return k.Blks }, name, Blk{dev, d, blkNodes(d)})
}

func blkNodes(d devops.Blk) []devops.Node {
	if n, ok := d.(devops.Noder); ok {
		return n.Nodes()
	}
	return nil
}

// BlkChanged asks the driver for its nodes again.
func (k *Kernel) BlkChanged(dev abi.Dev) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, b := range k.Blks {
		if b.Dev.Major() == dev.Major() {
			k.mu.Unlock()
			b.Nodes = blkNodes(b.Ops)
			k.mu.Lock()
			k.Blks[name] = b
			return nil
		}
	}
	return fmt.Errorf("disk %v: %w", dev, abi.ENXIO)
}

// SetDisk makes a block device that Block opens.
func (k *Kernel) SetDisk(dev abi.Dev, io devops.BlockIO) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.disks[dev] = &testDisk{io: io}
}

// Block opens what SetDisk made, for one at a time or for units of one driver.
// As devops.ProbeUnit it reads only.
func (k *Kernel) Block(dev, user abi.Dev) (devops.BlockIO, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d := k.disks[dev]
	probe := user != abi.NoDev && user.Minor() == devops.ProbeUnit
	switch {
	case d == nil:
		return nil, fmt.Errorf("disk %v: %w", dev, abi.ENXIO)
	case d.opens > 0 && !probe && (user == abi.NoDev || d.user == abi.NoDev || d.user.Major() != user.Major()):
		return nil, fmt.Errorf("disk %v: %w", dev, abi.EBUSY)
	}
	if !probe {
		d.opens++
		d.user = user
	}
	return &disk{BlockIO: d.io, k: k, d: d, probe: probe}, nil
}

// testDisk is what SetDisk made.
type testDisk struct {
	io    devops.BlockIO
	opens int     // protected by Kernel.mu
	user  abi.Dev // protected by Kernel.mu
}

// disk is one that a module has open.
type disk struct {
	devops.BlockIO
	k      *Kernel
	d      *testDisk
	probe  bool
	closed atomic.Bool
}

// Strategy does a buf, unless the disk was closed or is only looked at.
func (d *disk) Strategy(ctx context.Context, b *devops.Buf) error {
	if d.closed.Load() || d.probe && b.Op() != devops.BRead {
		return abi.EBADF
	}
	return d.BlockIO.Strategy(ctx, b)
}

// Close gives the disk back; the one under it stays open.
func (d *disk) Close(context.Context) error {
	if !d.closed.Swap(true) && !d.probe {
		d.k.mu.Lock()
		d.d.opens--
		d.k.mu.Unlock()
	}
	return nil
}
