package bio

import (
	"context"

	"github.com/rumpus-kernel/rumpus/kernel/dev"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// switched is a device of kernel/dev as a Device.
type switched struct{ *dev.BlkHandle }

var _ Device = switched{}

func (d switched) Up(ctx context.Context, died error) error { return d.Settle(ctx, died) }

// Switched opens devices of a switch, for Options.Open.
func Switched(s *dev.Switch) func(ctx context.Context, n abi.Dev, flags int) (Device, error) {
	return func(ctx context.Context, n abi.Dev, flags int) (Device, error) {
		h, err := s.OpenBlk(ctx, n, flags)
		if err != nil {
			return nil, err
		}
		return switched{h}, nil
	}
}

// Node is the view of an open block device node, for dev.Switch.SetCache: it
// opens the device once more, because the blocks outlive any one node.
func (s *System) Node(ctx context.Context, h *dev.BlkHandle) (dev.Blocks, error) {
	flags := abi.O_RDONLY
	if h.Writable() {
		flags = abi.O_RDWR
	}
	b, err := s.Open(ctx, h.Dev(), flags)
	if err != nil {
		return nil, err
	}
	return blocks{b}, nil
}

// blocks is a Handle as kernel/dev wants it: all of a transfer or an error.
type blocks struct{ h *Handle }

func (b blocks) ReadAt(ctx context.Context, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := b.h.ReadAt(ctx, p, off)
		if err == nil && n == 0 {
			err = abi.EIO
		}
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (b blocks) WriteAt(ctx context.Context, p []byte, off int64) error {
	_, err := b.h.WriteAt(ctx, p, off, false)
	return err
}

func (b blocks) Flush(ctx context.Context) error {
	if !b.h.write {
		return nil
	}
	return b.h.Flush(ctx)
}

func (b blocks) Close(ctx context.Context) error { return b.h.Close(ctx) }
