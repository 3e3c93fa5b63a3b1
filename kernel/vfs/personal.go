package vfs

import (
	"context"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// FileOpener is a file system in the kernel that opens its regular files itself,
// so that what it answers belongs to the open file (kernfs, procfs). It is asked
// after the open has been authorised; O_TRUNC is its own affair.
type FileOpener interface {
	OpenFile(ctx context.Context, c *abi.Caller, h abi.Handle, flags int) (ops file.Ops, data any, err error)
}

// Personal is a file system in the kernel whose answers depend on who asks: its
// Lookup, Readdir and Readlink find that in their context, see CallerOf. It must
// not be CapSole.
type Personal interface {
	Personal()
}

type callerKey struct{}

// CallerOf is on whose behalf a Personal file system is asked, nil if that is
// not known.
func CallerOf(ctx context.Context) *abi.Caller {
	c, _ := ctx.Value(callerKey{}).(*abi.Caller)
	return c
}

// asking is ctx for a question of c to m's file system.
func (m *Mount) asking(ctx context.Context, c *abi.Caller) context.Context {
	b := m.b.Load()
	if b == nil || !b.personal || CallerOf(ctx) == c {
		return ctx
	}
	return context.WithValue(ctx, callerKey{}, c)
}

// openers reports whether m's file system opens files itself.
func (m *Mount) openers() bool { return m.instance == "" }

// openMadeUp opens v if its file system opens files itself; ok says so. It takes
// over the reference on v if it succeeds.
func (fs *VFS) openMadeUp(ctx context.Context, c *abi.Caller, v *Vnode, flags int) (f *file.File, ok bool, err error) {
	low := v.base()
	b, err := low.bind(ctx)
	if err != nil {
		return nil, true, err
	}
	if b.opener == nil {
		return nil, false, nil
	}
	ops, data, err := b.opener.OpenFile(ctx, c, low.handle(), flags)
	if err != nil {
		return nil, true, err
	}
	f, err = fs.wrap(c, v, ops, data, flags)
	return f, true, err
}
