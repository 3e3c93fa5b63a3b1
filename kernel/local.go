package kernel

import (
	"context"

	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/socket/local"
	"github.com/rumpus-kernel/rumpus/kernel/uidinfo"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// where is how a caller means a path: from the working directory of the lwp in
// ctx, or of proc0 if there is none.
func (k *Kernel) where(ctx context.Context, c *abi.Caller) vfs.Where {
	p := k.Procs.Proc0
	if l := proc.Current(ctx); l != nil {
		p = l.Proc
	}
	return vfs.Where{Caller: c, Cwd: p.Cwd()}
}

// sbsize answers for whom a caller's socket buffers count (so_uidinfo), and how
// many bytes of them his process may have.
func (k *Kernel) sbsize(c *abi.Caller) (*uidinfo.Info, int64) {
	limit := int64(abi.RLIM_INFINITY)
	if p, err := k.Procs.Find(c.Pid); err == nil {
		if l, err := p.Rlimit(abi.RLIMIT_SBSIZE); err == nil {
			limit = l.Cur
		}
	}
	return k.Procs.Uids.Find(c.Cred.Euid), limit
}

// bindLocal makes the name of an AF_LOCAL socket.
func (k *Kernel) bindLocal(ctx context.Context, c *abi.Caller, path string) (local.Node, error) {
	n, err := k.VFS.MakeSocket(ctx, k.where(ctx, c), path)
	if err != nil {
		return nil, err
	}
	return n, nil
}

// findLocal finds the name of an AF_LOCAL socket.
func (k *Kernel) findLocal(ctx context.Context, c *abi.Caller, path string) (local.Node, error) {
	n, err := k.VFS.FindSocket(ctx, k.where(ctx, c), path)
	if err != nil {
		return nil, err
	}
	return n, nil
}
