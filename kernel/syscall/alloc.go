package syscall

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// sysFallocate is posix_fallocate(2) and, with punch, fdiscard(2): A = {fd, off,
// len}. The errno is the call's, where NetBSD's posix_fallocate answers it as its
// value. ESPIPE for what is not a file.
func sysFallocate(punch bool) fn {
	return func(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
		f, err := get(l, a, 0)
		if err != nil {
			return err
		}
		defer f.Release(ctx)
		if f.Type != file.TypeVnode {
			return fmt.Errorf("descriptor %d is a %s: %w", a.Int(0), f.Type, abi.ESPIPE)
		}
		return k.VFS.Fallocate(ctx, l.Caller(), f, int64(a.A[1]), int64(a.A[2]), punch)
	}
}
