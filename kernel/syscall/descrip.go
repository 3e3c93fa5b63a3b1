package syscall

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// get finds the file of the descriptor in argument i, with a reference that
// the caller releases.
func get(l *proc.Lwp, a *abi.Sysargs, i int) (*file.File, error) {
	f, err := l.Proc.Fd.Get(a.Int(i))
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", a.Int(i), err)
	}
	return f, nil
}

// install puts a new file into the lowest free descriptor and R[0].
func install(ctx context.Context, l *proc.Lwp, a *abi.Sysargs, f *file.File, cloexec bool) error {
	fd, err := l.Proc.Fd.Alloc(f, 0, cloexec)
	if err != nil {
		f.Release(ctx)
		return err
	}
	a.R[0] = uint64(fd)
	return nil
}

func sysRead(ctx context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return read(ctx, l, a, file.Cur)
}

func sysPread(ctx context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	off := int64(a.A[1])
	if off < 0 {
		return abi.EINVAL
	}
	return read(ctx, l, a, off)
}

func read(ctx context.Context, l *proc.Lwp, a *abi.Sysargs, off int64) error {
	f, err := l.Proc.Fd.Get(a.Int(0))
	if err != nil {
		return err
	}
	if !f.Readable() {
		err = abi.EBADF
	} else if off >= 0 && f.Type != file.TypeVnode {
		err = abi.ESPIPE
	} else {
		a.NO, err = f.Ops.Read(ctx, l.Caller(), f, a.Out, off)
		a.R[0] = uint64(a.NO)
	}
	f.Release(ctx)
	return err
}

func sysWrite(ctx context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return write(ctx, l, a, file.Cur)
}

func sysPwrite(ctx context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	off := int64(a.A[1])
	if off < 0 {
		return abi.EINVAL
	}
	return write(ctx, l, a, off)
}

func write(ctx context.Context, l *proc.Lwp, a *abi.Sysargs, off int64) error {
	f, err := l.Proc.Fd.Get(a.Int(0))
	if err != nil {
		return err
	}
	var n int
	if !f.Writable() {
		err = abi.EBADF
	} else if off >= 0 && f.Type != file.TypeVnode {
		err = abi.ESPIPE
	} else {
		n, err = f.Ops.Write(ctx, l.Caller(), f, a.In, off)
		if n > 0 { // what was written counts, the error comes next time
			err = nil
		}
		a.R[0] = uint64(n)
		if err != nil {
			writeSignal(l, f, err, 0)
		}
	}
	f.Release(ctx)
	return err
}

func sysClose(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	if !k.VFS.HasLocks() {
		return l.Proc.Fd.Close(ctx, a.Int(0))
	}
	f, err := l.Proc.Fd.Get(a.Int(0))
	if err != nil {
		return err
	}
	err = l.Proc.Fd.Close(ctx, a.Int(0))
	k.VFS.UnlockClosed(l.Caller().Pid, f)
	if e := f.Release(ctx); err == nil {
		err = e
	}
	return err
}

func sysLseek(ctx context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	f, err := get(l, a, 0)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	off, err := f.Ops.Seek(ctx, l.Caller(), f, int64(a.A[1]), a.Int(2))
	a.R[0] = uint64(off)
	return err
}

func sysDup(ctx context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return dupMin(ctx, l, a, 0, false)
}

func dupMin(ctx context.Context, l *proc.Lwp, a *abi.Sysargs, min int, cloexec bool) error {
	f, err := get(l, a, 0)
	if err != nil {
		return err
	}
	fd, err := l.Proc.Fd.Alloc(f, min, cloexec)
	if err != nil {
		f.Release(ctx)
		return err
	}
	a.R[0] = uint64(fd)
	return nil
}

func sysDup2(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	a.R[0] = a.A[1]
	k.dupOnto(ctx, l, a)
	return l.Proc.Fd.Dup2(ctx, a.Int(0), a.Int(1), false)
}

func sysDup3(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	if a.Int(2)&^(abi.O_CLOEXEC|abi.O_NONBLOCK|abi.O_NOSIGPIPE) != 0 {
		return abi.EINVAL
	}
	k.dupOnto(ctx, l, a)
	if err := l.Proc.Fd.Dup2(ctx, a.Int(0), a.Int(1), a.Int(2)&abi.O_CLOEXEC != 0); err != nil {
		return err
	}
	a.R[0] = a.A[1]
	return nil
}

func sysFcntl(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	fd, arg := a.Int(0), a.Int(2)
	switch a.Int(1) {
	case abi.F_DUPFD:
		return dupMin(ctx, l, a, arg, false)
	case abi.F_DUPFD_CLOEXEC:
		return dupMin(ctx, l, a, arg, true)
	case abi.F_GETFD:
		on, err := l.Proc.Fd.Cloexec(fd)
		if on {
			a.R[0] = abi.FD_CLOEXEC
		}
		return err
	case abi.F_SETFD:
		return l.Proc.Fd.SetCloexec(fd, arg&abi.FD_CLOEXEC != 0)
	case abi.F_GETFL, abi.F_SETFL:
		f, err := get(l, a, 0)
		if err != nil {
			return err
		}
		defer f.Release(ctx)
		if a.Int(1) == abi.F_SETFL {
			if err := k.setAsync(f, arg&abi.O_ASYNC != 0); err != nil {
				return err
			}
			f.SetFlags(arg)
		} else {
			a.R[0] = uint64(f.Flags())
		}
		return nil
	case abi.F_GETOWN, abi.F_SETOWN:
		return k.fileOwner(ctx, l, a, a.Int(1) == abi.F_SETOWN, arg)
	case abi.F_GETNOSIGPIPE, abi.F_SETNOSIGPIPE:
		f, err := get(l, a, 0)
		if err != nil {
			return err
		}
		defer f.Release(ctx)
		if a.Int(1) == abi.F_SETNOSIGPIPE {
			f.SetNosigpipe(arg != 0)
		} else if f.Flags()&abi.O_NOSIGPIPE != 0 {
			a.R[0] = 1
		}
		return nil
	case abi.F_GETLK, abi.F_SETLK, abi.F_SETLKW:
		return k.recordLock(ctx, l, a)
	}
	return abi.EINVAL
}

// pipeFlags are what pipe2(2) takes.
const pipeFlags = abi.O_CLOEXEC | abi.O_NONBLOCK | abi.O_NOSIGPIPE

// sysPipe2 is pipe2(2): R = {read end, write end}.
func sysPipe2(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	flags := a.Int(0)
	if flags&^pipeFlags != 0 {
		return abi.EINVAL
	}
	r, w, err := k.Pipes.Pipe(l.Caller(), flags)
	if err != nil {
		return err
	}
	return installPair(ctx, l, a, r, w, flags&abi.O_CLOEXEC != 0)
}

// installPair puts two new files into the lowest free descriptors and R, or
// neither.
func installPair(ctx context.Context, l *proc.Lwp, a *abi.Sysargs, f, g *file.File, cloexec bool) error {
	if err := install(ctx, l, a, f, cloexec); err != nil {
		g.Release(ctx)
		return err
	}
	first := a.R[0]
	if err := install(ctx, l, a, g, cloexec); err != nil {
		l.Proc.Fd.Close(ctx, int(first))
		a.R[0] = 0
		return err
	}
	a.R[0], a.R[1] = first, a.R[0]
	return nil
}

func sysIoctl(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	f, err := get(l, a, 0)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	switch cmd := a.U32(1); cmd {
	case abi.FIOCLEX, abi.FIONCLEX:
		return l.Proc.Fd.SetCloexec(a.Int(0), cmd == abi.FIOCLEX)
	case abi.FIOASYNC, abi.FIOSETOWN, abi.FIOGETOWN:
		return k.asyncIoctl(ctx, l, f, cmd, a)
	default:
		out, err := f.Ops.Ioctl(ctx, l.Caller(), f, cmd, a.In)
		if err != nil {
			return err
		}
		a.NO = copy(a.Out, out)
		return nil
	}
}

func sysFstat(ctx context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	f, err := get(l, a, 0)
	if err != nil {
		return err
	}
	st, err := f.Ops.Stat(ctx, l.Caller(), f)
	f.Release(ctx)
	if err != nil {
		return err
	}
	return putStat(a, &st)
}

func putStat(a *abi.Sysargs, st *abi.Stat) error {
	if err := need(a, abi.StatSize); err != nil {
		return err
	}
	a.NO = len(abi.AppendStat(a.Out[:0], st))
	return nil
}

func sysFsync(ctx context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return fsync(ctx, l, a, false)
}

func sysFdatasync(ctx context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return fsync(ctx, l, a, true)
}

// sysFadvise is posix_fadvise(2): fd, offset, length, advice.
func sysFadvise(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	f, err := get(l, a, 0)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	return k.VFS.Advise(ctx, f, int64(a.A[1]), int64(a.A[2]), int(int32(a.A[3])))
}

func fsync(ctx context.Context, l *proc.Lwp, a *abi.Sysargs, dataOnly bool) error {
	f, err := get(l, a, 0)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	return f.Ops.Fsync(ctx, l.Caller(), f, dataOnly)
}
