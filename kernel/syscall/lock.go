package syscall

import (
	"context"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// recordLock is fcntl(2) with F_GETLK, F_SETLK and F_SETLKW: In and, for the
// first, Out are a struct flock.
func (k *Kernel) recordLock(ctx context.Context, l *proc.Lwp, a *abi.Sysargs) error {
	f, err := get(l, a, 0)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	fl, err := abi.ParseFlock(a.In)
	if err != nil {
		return err
	}
	cmd := a.Int(1)
	if cmd == abi.F_GETLK {
		if err := need(a, abi.FlockSize); err != nil {
			return err
		}
	}
	if err := k.VFS.Advlock(ctx, l.Caller(), f, cmd, &fl); err != nil {
		return err
	}
	if cmd == abi.F_GETLK {
		a.NO = len(abi.AppendFlock(a.Out[:0], &fl))
		return nil
	}
	// Another lwp may have closed the descriptor meanwhile: then that did not
	// see this lock, and nobody would take it away.
	now, err := l.Proc.Fd.Get(a.Int(0))
	if err == nil {
		now.Release(ctx)
	}
	if now != f {
		k.VFS.UnlockClosed(l.Caller().Pid, f)
		return abi.EBADF
	}
	return nil
}

// sysFlock is flock(2).
func sysFlock(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	f, err := get(l, a, 0)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	return k.VFS.Flock(ctx, l.Caller(), f, a.Int(1))
}

// openLocked takes the lock that an open with O_SHLOCK or O_EXLOCK wants.
func (k *Kernel) openLocked(ctx context.Context, l *proc.Lwp, f *file.File, flags int) error {
	op := abi.LOCK_SH
	if flags&abi.O_EXLOCK != 0 {
		op = abi.LOCK_EX
	}
	if flags&abi.O_NONBLOCK != 0 {
		op |= abi.LOCK_NB
	}
	return k.VFS.Flock(ctx, l.Caller(), f, op)
}

// dupOnto takes away the record locks that the process has on the file which
// dup2(2) is about to close.
func (k *Kernel) dupOnto(ctx context.Context, l *proc.Lwp, a *abi.Sysargs) {
	if !k.VFS.HasLocks() || a.Int(0) == a.Int(1) {
		return
	}
	if _, err := l.Proc.Fd.Cloexec(a.Int(0)); err != nil {
		return
	}
	if f, err := l.Proc.Fd.Get(a.Int(1)); err == nil {
		k.VFS.UnlockClosed(l.Caller().Pid, f)
		f.Release(ctx)
	}
}
