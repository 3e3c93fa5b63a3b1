package dev

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Writable reports whether the open is for writing.
func (h *BlkHandle) Writable() bool { return h.flags&abi.O_ACCMODE != abi.O_RDONLY }

// Settle waits until it makes sense to issue again what ended with err, an
// ErrDied: first until the kernel knows of the death, then as Up.
func (h *BlkHandle) Settle(ctx context.Context, err error) error { return h.settle(ctx, err) }
