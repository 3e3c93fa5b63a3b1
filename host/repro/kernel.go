package repro

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/rumpus-kernel/rumpus/kernel/store"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// standIn is what the module takes for the kernel: it has the Store and the
// device of one mount, and nothing else.
type standIn struct {
	f    *File
	log  modapi.Logger
	disk *disk // nil: none

	mu    sync.Mutex
	types map[string]vfsops.FSType // protected by mu
	store *store.Session           // protected by mu
	evcnt map[string]*modapi.Counter
}

func newStandIn(f *File, log modapi.Logger) (*standIn, error) {
	k := &standIn{f: f, log: log, types: make(map[string]vfsops.FSType), evcnt: make(map[string]*modapi.Counter)}
	if f.Disk != nil {
		k.disk = &disk{d: f.Disk, own: make(map[int64][]byte)}
	}
	s := store.New(store.Options{})
	k.store = s.Open()
	var ops []modapi.StoreOp
	for _, r := range f.Store {
		ops = append(ops, modapi.StoreOp{Key: r.Key, Value: r.Value})
	}
	if err := k.store.Write(context.Background(), ops); err != nil {
		return nil, fmt.Errorf("the checkpoint: %w", err)
	}
	if f.Checkpoint == 0 { // there was none yet
		return k, nil
	}
	return k, k.store.Commit(f.Checkpoint)
}

func (k *standIn) AttachFS(name string, t vfsops.FSType, _ vfsops.Caps) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.types[name] = t
	return nil
}

func (k *standIn) fsType(name string) vfsops.FSType {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.types[name]
}

func (k *standIn) AttachChr(string, devops.Chr) (abi.Dev, error) { return abi.Makedev(1, 0), nil }
func (k *standIn) AttachBlk(string, devops.Blk) (abi.Dev, error) { return abi.Makedev(1, 0), nil }
func (k *standIn) BlkChanged(abi.Dev) error                      { return nil }
func (k *standIn) AttachDomain(int, sockops.Domain) error        { return nil }
func (k *standIn) AttachIf(string, sockops.IfClass) error        { return nil }
func (k *standIn) Sysctl(modapi.SysctlNode) error                { return nil }
func (k *standIn) Syscall(int, modapi.SyscallFn) error           { return nil }
func (k *standIn) Ready(sockops.Ready)                           {}
func (k *standIn) DevReady(devops.Ready)                         {}
func (k *standIn) Granted(name string) (*os.File, error) {
	return nil, fmt.Errorf("%s: no grants in a replay: %w", name, abi.ENOENT)
}
func (k *standIn) Log() modapi.Logger { return k.log }

func (k *standIn) Evcnt(group, name string) *modapi.Counter {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.evcnt[group+" "+name]
	if c == nil {
		c = new(modapi.Counter)
		k.evcnt[group+" "+name] = c
	}
	return c
}

func (k *standIn) Store(mount abi.Fsid) modapi.Store {
	if mount != k.f.Mount.Fsid {
		return modapi.NoStore{}
	}
	return k.store
}

func (k *standIn) Block(dev, _ abi.Dev) (devops.BlockIO, error) {
	if k.disk == nil || dev != k.f.Mount.Dev {
		return nil, fmt.Errorf("%v: %w", dev, abi.ENXIO)
	}
	return k.disk, nil
}

// disk is the device as it was at the checkpoint: the blocks of the file, and
// what has been written over them. Others are zero.
type disk struct {
	d       *vfsDisk
	mu      sync.Mutex
	own     map[int64][]byte // sectors, by number; protected by mu
	missing int              // sectors that were read and are nowhere; protected by mu
}

// lacked is how many sectors were read that the file has not got.
func (d *disk) lacked() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.missing
}

func (d *disk) Geometry(context.Context) (devops.Geom, error) { return d.d.Geom, nil }
func (d *disk) Close(context.Context) error                   { return nil }

func (d *disk) Strategy(_ context.Context, b *devops.Buf) error {
	sec := int64(d.d.Geom.Sector)
	off := b.Blkno * devops.DevBsize
	if off < 0 || b.Bytes < 0 || off%sec != 0 || b.Bytes%sec != 0 || b.Bytes > d.d.Geom.Size || off > d.d.Geom.Size-b.Bytes {
		return fmt.Errorf("%d bytes at block %d: %w", b.Bytes, b.Blkno, abi.EINVAL)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch b.Flags & devops.BOpMask {
	case devops.BRead:
		buf := make([]byte, b.Bytes)
		for i := int64(0); i < b.Bytes; i += sec {
			d.sector((off+i)/sec, buf[i:i+sec])
		}
		b.Data.CopyIn(buf)
	case devops.BWrite:
		buf := make([]byte, b.Bytes)
		b.Data.CopyOut(buf)
		for i := int64(0); i < b.Bytes; i += sec {
			d.own[(off+i)/sec] = buf[i : i+sec]
		}
	case devops.BZeroes:
		zero := make([]byte, sec)
		for i := int64(0); i < b.Bytes; i += sec {
			d.own[(off+i)/sec] = zero
		}
	}
	return nil
}

// sector reads one. Preconditions: mu is held.
func (d *disk) sector(n int64, p []byte) {
	if own := d.own[n]; own != nil {
		copy(p, own)
		return
	}
	off := n * int64(len(p))
	i, ok := slices.BinarySearchFunc(d.d.Blocks, off, func(b block, off int64) int {
		switch {
		case b.Off+int64(len(b.Data)) <= off:
			return -1
		case b.Off > off:
			return 1
		}
		return 0
	})
	if !ok {
		clear(p)
		d.missing++
		return
	}
	b := d.d.Blocks[i]
	clear(p[copy(p, b.Data[off-b.Off:]):])
}
