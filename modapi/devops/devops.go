// Package devops is what a device driver implements.
//
// A driver is attached under a name and gets a major number; its units are
// the minors. Character devices (Chr) move bytes and never wait: a read with
// nothing there answers EAGAIN, and Kernel.DevReady says later that there is
// something. Block devices (Blk) answer each Buf once, in any order, which is
// biodone.
//
// Locks: the kernel calls concurrently, also on one unit.
package devops

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Chr is a character device driver (struct cdevsw).
type Chr interface {
	// Open is called for every open of a unit. ENXIO: no such unit.
	Open(ctx context.Context, unit uint32, flags int) error
	Close(ctx context.Context, unit uint32, flags int) error
	// Read fills dst; 0 bytes are the end of file. EAGAIN if there is
	// nothing yet. flags: O_NONBLOCK as opened, for information.
	Read(ctx context.Context, unit uint32, off int64, dst abi.Iov, flags int) (int, error)
	Write(ctx context.Context, unit uint32, off int64, src abi.Iov, flags int) (int, error)
	// Ioctl gets the in part of its argument and answers the out part.
	// ENOTTY for what it does not know.
	Ioctl(ctx context.Context, unit uint32, cmd uint32, arg []byte) ([]byte, error)
	// Poll answers what is ready now.
	Poll(ctx context.Context, unit uint32) (abi.PollEvents, error)
}

// Noder is the optional part of a driver that names its device nodes for
// devfs. Without it there is one node, called as the driver, for unit 0, with
// mode 0600.
type Noder interface {
	Nodes() []Node
}

// Node is a device node that devfs shows.
type Node struct {
	Name string
	Unit uint32
	Mode uint32
}

// Ready says that a unit may have become ready: an edge.
type Ready struct {
	Dev    abi.Dev
	Events abi.PollEvents
}

// NoChr is embedded by drivers that lack parts of Chr: open and close do
// nothing, reads are at the end of file, writes ENODEV, ioctls ENOTTY, and it
// is always ready.
type NoChr struct{}

// Open lets everybody in.
func (NoChr) Open(context.Context, uint32, int) error { return nil }

// Close does nothing.
func (NoChr) Close(context.Context, uint32, int) error { return nil }

// Read is at the end of file.
func (NoChr) Read(context.Context, uint32, int64, abi.Iov, int) (int, error) { return 0, nil }

// Write refuses with ENODEV.
func (NoChr) Write(context.Context, uint32, int64, abi.Iov, int) (int, error) {
	return 0, abi.ENODEV
}

// Ioctl refuses with ENOTTY.
func (NoChr) Ioctl(context.Context, uint32, uint32, []byte) ([]byte, error) {
	return nil, abi.ENOTTY
}

// Poll says always ready.
func (NoChr) Poll(context.Context, uint32) (abi.PollEvents, error) {
	return abi.POLLIN | abi.POLLOUT | abi.POLLRDNORM, nil
}
