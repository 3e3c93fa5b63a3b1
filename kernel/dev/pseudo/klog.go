// Package pseudo has the kernel's own character devices, which are there without
// any driver component: /dev/klog, the message buffer, and /dev/ksyms, the
// symbol table.
//
// They are drivers of the device switch's instance "", and behave to it as any
// module's: they never wait, and say when something has changed.
package pseudo

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/rumpus-kernel/rumpus/kernel/kprintf"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// Klog is /dev/klog (log(4)): who reads it gets each message once, with its
// priority, and waits for more. It can be open once (EBUSY); what nobody has
// read is kept for the next who opens it, as long as the message buffer has it.
//
// Locks: Klog.mu, before the message buffer's.
type Klog struct {
	devops.NoChr
	msg *kprintf.Msgbuf

	mu   sync.Mutex
	open bool
	pos  int64  // of what is read next, protected by mu
	rest []byte // what did not fit into the last read, protected by mu
}

var (
	_ devops.Chr   = (*Klog)(nil)
	_ devops.Noder = (*Klog)(nil)
)

// NewKlog makes the driver "log".
func NewKlog(m *kprintf.Msgbuf) *Klog { return &Klog{msg: m} }

// Nodes is /dev/klog, for the super-user.
func (*Klog) Nodes() []devops.Node { return []devops.Node{{Name: "klog", Mode: 0o600}} }

// Open lets one in: ENXIO for another unit than 0, EBUSY.
func (k *Klog) Open(_ context.Context, unit uint32, _ int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case unit != 0:
		return abi.ENXIO
	case k.open:
		return abi.EBUSY
	}
	k.open = true
	return nil
}

// Close lets the next in.
func (k *Klog) Close(context.Context, uint32, int) error {
	k.mu.Lock()
	k.open = false
	k.mu.Unlock()
	return nil
}

// fill fetches messages if there is nothing left of the last ones.
func (k *Klog) fillLocked() {
	if len(k.rest) == 0 {
		k.rest, k.pos = k.msg.ReadLog(k.pos)
	}
}

// Read answers messages: EAGAIN if there are none yet.
func (k *Klog) Read(_ context.Context, _ uint32, _ int64, dst abi.Iov, _ int) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if dst.Len() == 0 {
		return 0, nil
	}
	if k.fillLocked(); len(k.rest) == 0 {
		return 0, abi.EAGAIN
	}
	n := dst.CopyIn(k.rest)
	k.rest = k.rest[n:]
	return n, nil
}

// Ioctl knows FIONREAD.
func (k *Klog) Ioctl(_ context.Context, _ uint32, cmd uint32, _ []byte) ([]byte, error) {
	if cmd != abi.FIONREAD {
		return nil, abi.ENOTTY
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fillLocked()
	return binary.LittleEndian.AppendUint32(nil, uint32(len(k.rest))), nil
}

// Poll says readable if there are messages.
func (k *Klog) Poll(context.Context, uint32) (abi.PollEvents, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.rest) > 0 || k.msg.End() > k.pos {
		return abi.POLLIN | abi.POLLRDNORM, nil
	}
	return 0, nil
}
