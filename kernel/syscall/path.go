package syscall

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// where is the lwp as one who walks paths from its working directory.
func where(l *proc.Lwp) vfs.Where {
	return vfs.Where{Caller: l.Caller(), Cwd: l.Proc.Cwd()}
}

// whereAt is where for a call of the *at family: from the directory of
// descriptor A[i], unless that is AT_FDCWD or the path is absolute. done gives
// the descriptor's file back.
func whereAt(ctx context.Context, l *proc.Lwp, a *abi.Sysargs, i int, path string) (w vfs.Where, done func(), err error) {
	w = where(l)
	if int32(a.A[i]) == abi.AT_FDCWD || strings.HasPrefix(path, "/") {
		return w, func() {}, nil
	}
	f, err := get(l, a, i)
	if err != nil {
		return w, nil, err
	}
	if f.Type != file.TypeVnode {
		f.Release(ctx)
		return w, nil, abi.ENOTDIR
	}
	w.At = f
	return w, func() { f.Release(ctx) }, nil
}

// at runs fn with the Where of descriptor A[0] and Path[0].
func at(ctx context.Context, l *proc.Lwp, a *abi.Sysargs, fn func(w vfs.Where) error) error {
	w, done, err := whereAt(ctx, l, a, 0, a.Path[0])
	if err != nil {
		return err
	}
	defer done()
	return fn(w)
}

// cwdAt shifts the arguments of a call without a directory descriptor so that
// the *at call of the same name can do it.
func cwdAt(f fn, n int) fn {
	return func(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
		copy(a.A[1:n+1], a.A[:n])
		a.SetInt(0, abi.AT_FDCWD)
		return f(ctx, k, l, a)
	}
}

// with sets argument i of a call, for the older call that lacks it.
func with(i, v int, f fn) fn {
	return func(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
		a.SetInt(i, v)
		return f(ctx, k, l, a)
	}
}

func follow(a *abi.Sysargs, i int) bool { return a.Int(i)&abi.AT_SYMLINK_NOFOLLOW == 0 }

// sysOpenat is openat(2): A = {fd, flags, mode}.
func sysOpenat(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	w, done, err := whereAt(ctx, l, a, 0, a.Path[0])
	if err != nil {
		return err
	}
	defer done()
	flags := a.Int(1)
	f, err := k.VFS.Open(ctx, w, a.Path[0], flags, a.U32(2))
	if err != nil {
		return err
	}
	if flags&(abi.O_SHLOCK|abi.O_EXLOCK) != 0 {
		if err := k.openLocked(ctx, l, f, flags); err != nil {
			f.Release(ctx)
			return err
		}
	}
	f.Name = a.Path[0]
	return install(ctx, l, a, f, flags&abi.O_CLOEXEC != 0)
}

// sysFstatat is fstatat(2): A = {fd, flag}.
func sysFstatat(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	w, done, err := whereAt(ctx, l, a, 0, a.Path[0])
	if err != nil {
		return err
	}
	defer done()
	st, err := k.VFS.Stat(ctx, w, a.Path[0], follow(a, 1))
	if err != nil {
		return err
	}
	return putStat(a, &st)
}

func sysMkdirat(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return at(ctx, l, a, func(w vfs.Where) error { return k.VFS.Mkdir(ctx, w, a.Path[0], a.U32(1)) })
}

func sysRmdir(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return k.VFS.Rmdir(ctx, where(l), a.Path[0])
}

func sysUnlinkat(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return at(ctx, l, a, func(w vfs.Where) error { return k.VFS.Unlink(ctx, w, a.Path[0], a.Int(1)) })
}

func sysMkfifoat(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return at(ctx, l, a, func(w vfs.Where) error { return k.VFS.Mkfifo(ctx, w, a.Path[0], a.U32(1)) })
}

// sysMknodat is mknodat(2): A = {fd, mode, dev}.
func sysMknodat(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return at(ctx, l, a, func(w vfs.Where) error { return k.VFS.Mknod(ctx, w, a.Path[0], a.U32(1), abi.Dev(a.A[2])) })
}

// two runs fn with the Wheres of descriptors A[0] for Path[0] and A[1] for
// Path[1].
func two(ctx context.Context, l *proc.Lwp, a *abi.Sysargs, fn func(w1, w2 vfs.Where) error) error {
	w1, done1, err := whereAt(ctx, l, a, 0, a.Path[0])
	if err != nil {
		return err
	}
	defer done1()
	w2, done2, err := whereAt(ctx, l, a, 1, a.Path[1])
	if err != nil {
		return err
	}
	defer done2()
	return fn(w1, w2)
}

// sysRenameat2 is renameat(2) with flags: A = {fd, fd, flags}.
func sysRenameat2(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return two(ctx, l, a, func(w1, w2 vfs.Where) error {
		return k.VFS.Rename(ctx, w1, a.Path[0], w2, a.Path[1], a.U32(2))
	})
}

// sysLinkat is linkat(2): A = {fd, fd, flag}.
func sysLinkat(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return two(ctx, l, a, func(w1, w2 vfs.Where) error {
		return k.VFS.Link(ctx, w1, a.Path[0], w2, a.Path[1], a.Int(2)&abi.AT_SYMLINK_FOLLOW != 0)
	})
}

// bothCwd makes a call of two paths relative to the working directory.
func bothCwd(flag int, f fn) fn {
	return func(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
		a.SetInt(0, abi.AT_FDCWD)
		a.SetInt(1, abi.AT_FDCWD)
		a.SetInt(2, flag)
		return f(ctx, k, l, a)
	}
}

// sysSymlinkat is symlinkat(2): Path = {text, path}, A = {fd}.
func sysSymlinkat(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	w, done, err := whereAt(ctx, l, a, 0, a.Path[1])
	if err != nil {
		return err
	}
	defer done()
	return k.VFS.Symlink(ctx, w, a.Path[0], a.Path[1])
}

// sysReadlinkat is readlinkat(2): A = {fd}; what does not fit is cut.
func sysReadlinkat(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return at(ctx, l, a, func(w vfs.Where) error {
		t, err := k.VFS.Readlink(ctx, w, a.Path[0])
		a.NO = copy(a.Out, t)
		a.R[0] = uint64(a.NO)
		return err
	})
}

// sysFchmodat is fchmodat(2): A = {fd, mode, flag}.
func sysFchmodat(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return at(ctx, l, a, func(w vfs.Where) error { return k.VFS.Chmod(ctx, w, a.Path[0], a.U32(1), follow(a, 2)) })
}

// sysFchownat is fchownat(2): A = {fd, uid, gid, flag}; -1 leaves an id alone.
func sysFchownat(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return at(ctx, l, a, func(w vfs.Where) error { return k.VFS.Chown(ctx, w, a.Path[0], a.U32(1), a.U32(2), follow(a, 3)) })
}

// times reads the pair of times in In; none (nil) means now.
func times(a *abi.Sysargs) (*[2]abi.Timespec, error) {
	if len(a.In) == 0 {
		return nil, nil
	}
	if len(a.In) < abi.TimesSize {
		return nil, abi.EINVAL
	}
	var t [2]abi.Timespec
	t[0], _ = abi.ParseTimespec(a.In)
	t[1], _ = abi.ParseTimespec(a.In[16:])
	return &t, nil
}

// sysUtimensat is utimensat(2): A = {fd, flag}.
func sysUtimensat(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return at(ctx, l, a, func(w vfs.Where) error {
		t, err := times(a)
		if err != nil {
			return err
		}
		return k.VFS.Utimens(ctx, w, a.Path[0], t, follow(a, 1))
	})
}

// sysFaccessat is faccessat(2): A = {fd, mode, flag}.
func sysFaccessat(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return at(ctx, l, a, func(w vfs.Where) error {
		return k.VFS.Access(ctx, w, a.Path[0], a.U32(1), a.Int(2))
	})
}

func sysTruncate(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return k.VFS.Truncate(ctx, where(l), a.Path[0], int64(a.A[0]))
}

// vnode runs fn on the vnode file of descriptor A[0]. EINVAL for other files.
func vnode(ctx context.Context, l *proc.Lwp, a *abi.Sysargs, fn func(f *file.File) error) error {
	f, err := get(l, a, 0)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	if f.Type != file.TypeVnode {
		return fmt.Errorf("descriptor %d is a %s: %w", a.Int(0), f.Type, abi.EINVAL)
	}
	return fn(f)
}

func sysFtruncate(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return vnode(ctx, l, a, func(f *file.File) error { return k.VFS.Ftruncate(ctx, l.Caller(), f, int64(a.A[1])) })
}

func sysFchmod(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return vnode(ctx, l, a, func(f *file.File) error { return k.VFS.Fchmod(ctx, l.Caller(), f, a.U32(1)) })
}

func sysFchown(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return vnode(ctx, l, a, func(f *file.File) error { return k.VFS.Fchown(ctx, l.Caller(), f, a.U32(1), a.U32(2)) })
}

func sysFutimens(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return vnode(ctx, l, a, func(f *file.File) error {
		t, err := times(a)
		if err != nil {
			return err
		}
		return k.VFS.Futimens(ctx, l.Caller(), f, t)
	})
}

// sysGetdents fills Out with directory entries (abi.AppendDirent).
func sysGetdents(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return vnode(ctx, l, a, func(f *file.File) error {
		if !f.Readable() {
			return abi.EBADF
		}
		n, err := k.VFS.Getdents(ctx, l.Caller(), f, a.Out)
		a.NO = n
		a.R[0] = uint64(n)
		return err
	})
}

func putStatvfs(a *abi.Sysargs, sv *abi.Statvfs) error {
	return answer(a, abi.AppendStatvfs(nil, sv))
}

func sysStatvfs1(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	sv, err := k.VFS.Statvfs(ctx, where(l), a.Path[0])
	if err != nil {
		return err
	}
	return putStatvfs(a, &sv)
}

func sysFstatvfs1(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return vnode(ctx, l, a, func(f *file.File) error {
		sv, err := k.VFS.Fstatvfs(ctx, f)
		if err != nil {
			return err
		}
		return putStatvfs(a, &sv)
	})
}

// sysGetvfsstat fills Out with one coded Statvfs a mount, as many as fit, and
// answers how many mounts there are.
func sysGetvfsstat(ctx context.Context, k *Kernel, _ *proc.Lwp, a *abi.Sysargs) error {
	if !k.VFS.Available() && len(k.VFS.Mounts()) == 0 {
		return fmt.Errorf("vfs component not available: %w", abi.EOPNOTSUPP)
	}
	svs := k.VFS.StatvfsAll(ctx)
	var b []byte
	for i := range svs {
		n := len(b)
		if b = abi.AppendStatvfs(b, &svs[i]); len(b) > len(a.Out) {
			b = b[:n]
			break
		}
	}
	a.NO = copy(a.Out, b)
	a.R[0] = uint64(len(svs))
	return nil
}

// sysMountx mounts by text: Path = {type, dir}, A = {flags}, In = source and
// options ("key=value"), each ended by NUL. An option instance= says which
// component's type is meant.
func sysMountx(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	args := vfs.MountArgs{Type: a.Path[0], Dir: a.Path[1], Flags: a.A[0], Options: make(map[string]string)}
	if len(a.In) > 64<<10 {
		return abi.E2BIG
	}
	for i, p := range bytes.Split(bytes.TrimSuffix(a.In, []byte{0}), []byte{0}) {
		if i == 0 {
			args.Source = string(p)
			continue
		}
		key, val, _ := strings.Cut(string(p), "=")
		if key == "instance" {
			args.Instance = val
		} else if key != "" {
			args.Options[key] = val
		}
	}
	_, err := k.VFS.Mount(ctx, where(l), args)
	if err == nil {
		k.Events.Emit(evlog.Event{Kind: evlog.Mounted, Instance: args.Instance, Mount: args.Dir, Text: args.Type})
	}
	return err
}

func sysSync(ctx context.Context, k *Kernel, _ *proc.Lwp, _ *abi.Sysargs) error {
	err := k.VFS.SyncAll(ctx) // first: file systems write to devices
	if k.SyncBlocks != nil {
		if e := k.SyncBlocks(ctx); err == nil {
			err = e
		}
	}
	return err
}

func sysChdir(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return k.VFS.Chdir(ctx, where(l), a.Path[0])
}

func sysFchdir(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	f, err := get(l, a, 0)
	if err != nil {
		return err
	}
	defer f.Release(ctx)
	if f.Type != file.TypeVnode {
		return abi.ENOTDIR
	}
	return k.VFS.Fchdir(ctx, where(l), f)
}

func sysChroot(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return k.VFS.Chroot(ctx, where(l), a.Path[0])
}

// sysGetcwd answers the path with a NUL at its end, and its length. ERANGE.
func sysGetcwd(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	p, err := k.VFS.Getcwd(ctx, where(l))
	if err != nil {
		return err
	}
	if len(p)+1 > len(a.Out) {
		return abi.ERANGE
	}
	a.NO = copy(a.Out, p+"\x00")
	a.R[0] = uint64(a.NO)
	return nil
}

func sysUmask(_ context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	c := l.Proc.Cwd()
	if c == nil {
		return fmt.Errorf("vfs component not available: %w", abi.EOPNOTSUPP)
	}
	a.R[0] = uint64(c.Umask(a.U32(0)))
	return nil
}

// sysChflags is chflags(2), and lchflags(2) without follow: A = {flags}.
func sysChflags(follow bool) fn {
	return func(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
		return k.VFS.Chflags(ctx, where(l), a.Path[0], a.U32(0), follow)
	}
}
