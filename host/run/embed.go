package run

import (
	"context"
	"errors"
	"fmt"

	"github.com/rumpus-kernel/rumpus/host/config"
	"github.com/rumpus-kernel/rumpus/host/export/fuse"
	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Embedded is a kernel inside of the caller's process, with its components in
// processes of their own as ever, and without a socket: what a tool needs that
// has one thing to do, such as `rumpus --image`.
type Embedded struct {
	h *host
}

// Embed boots the kernel of a configuration. Nothing of exports and server is
// looked at. The error is the boot's; a configuration that no kernel can be made
// of has been told on Options.Stderr, and is EINVAL.
func Embed(ctx context.Context, o Options) (*Embedded, error) {
	h, _ := newHost(o)
	if h == nil {
		return nil, fmt.Errorf("no kernel can be made: %w", abi.EINVAL)
	}
	if err := h.k.Boot(ctx); err != nil {
		h.close()
		return nil, err
	}
	return &Embedded{h}, nil
}

// Kernel is the kernel.
func (e *Embedded) Kernel() *kernel.Kernel { return e.h.k }

// Fuse mounts the kernel's files on a directory of the host, until the Server is
// closed or somebody else unmounts it.
func (e *Embedded) Fuse(ctx context.Context, f config.Fuse) (*fuse.Server, error) {
	return fuse.Mount(ctx, e.h.k.VFS, e.h.fuseOptions(f))
}

// Close syncs, unmounts and ends the kernel and its processes. The error is of a
// kernel that panicked; what could not be written is for those to ask who sync
// and unmount before.
func (e *Embedded) Close() error {
	e.h.k.Reboot(context.Background(), 0)
	e.h.close()
	if s := e.h.k.PanicString(); s != "" {
		return errors.New("kernel panic: " + s)
	}
	return nil
}
