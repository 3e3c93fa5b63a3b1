package socket

import (
	"context"
	"encoding/binary"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var _ file.KnotePoller = fileOps{}

// sendLowat is what EVFILT_WRITE answers as room: the default low-water mark of
// NetBSD's socket buffers. How much room there is, the component knows alone.
const sendLowat = 2048

// PollKnote is soo_kqfilter. A listening socket is readable when a connection
// waits to be accepted (data 1); another one has the bytes up to 64 KiB that
// can be read. The end of a stream is EV_EOF.
func (o fileOps) PollKnote(ctx context.Context, f *file.File, filter uint32) (data int64, flags uint32, ready bool) {
	s := f.Data.(*Socket)
	want := abi.POLLIN | abi.POLLRDNORM
	if filter == abi.EVFILT_WRITE {
		want = abi.POLLOUT
	}
	ev := o.Poll(ctx, f, want)
	if ev&(abi.POLLHUP|abi.POLLNVAL) != 0 {
		flags |= abi.EV_EOF
	}
	switch {
	case ev == 0:
		return 0, 0, false
	case filter == abi.EVFILT_WRITE:
		return sendLowat, flags, true
	case s.getPhase() == listening:
		return 1, flags, true
	}
	if b, err := o.Ioctl(ctx, abi.KernelCaller, f, abi.FIONREAD, nil); err == nil && len(b) == 4 {
		data = int64(binary.LittleEndian.Uint32(b))
	}
	if data == 0 && s.oriented() && ev&abi.POLLIN != 0 {
		flags |= abi.EV_EOF
	}
	return data, flags, true
}
