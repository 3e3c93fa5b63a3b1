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
	k.disks[dev] = io
}

// Block opens what SetDisk made, for one at a time.
func (k *Kernel) Block(dev, user abi.Dev) (devops.BlockIO, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	io, ok := k.disks[dev]
	switch {
	case !ok:
		return nil, fmt.Errorf("disk %v: %w", dev, abi.ENXIO)
	case io == nil:
		return nil, fmt.Errorf("disk %v: %w", dev, abi.EBUSY)
	}
	k.disks[dev] = nil
	return &disk{BlockIO: io, k: k, dev: dev}, nil
}

// disk is one that a module has open.
type disk struct {
	devops.BlockIO
	k      *Kernel
	dev    abi.Dev
	closed atomic.Bool
}

// Close gives the disk back; the one under it stays open.
func (d *disk) Close(context.Context) error {
	if !d.closed.Swap(true) {
		d.k.SetDisk(d.dev, d.BlockIO)
	}
	return nil
}
