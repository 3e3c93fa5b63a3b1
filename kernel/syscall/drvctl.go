package syscall

import (
	"context"

	"github.com/rumpus-kernel/rumpus/kernel/kauth"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// sysDrvctl attaches, detaches and lists block devices. Everybody may list;
// EPERM for the rest, but for who may.
func sysDrvctl(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	if k.Drvctl == nil {
		return abi.ENOSYS
	}
	if a.Int(0) != abi.DRV_LIST {
		if err := k.authorize(l, kauth.System, kauth.Drvctl); err != nil {
			return err
		}
	}
	b, err := k.Drvctl(ctx, a)
	if err != nil {
		return err
	}
	return answer(a, b)
}
