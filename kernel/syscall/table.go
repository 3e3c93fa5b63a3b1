// Package syscall is the system-call table: sysent, and what each call does
// with descriptors, paths and sockets.
//
// A call comes as a number and abi.Sysargs, whether from an embedded client or
// from sysproxy. Call looks the number up (ENOSYS outside of the table, for
// negative numbers too: defect D of the seed), checks the lengths of what came
// along, and runs the entry with an lwp of the caller's process. Numbers up to
// 511 are NetBSD's, 512 to 639 ours for what NetBSD lacks, 640 to 767 belong
// to modules, and so do NetBSD's calls that are modules there (aio, ksem,
// mqueue, sysv_ipc). A missing call has the module loaded that is known to have
// it.
//
// Nothing here decides about permissions on files (kernel/vfs does) or waits
// for itself (the layers below do, interrupted by the context).
//
// Locks: none but an RWMutex around the modules' part of the table, a leaf.
package syscall

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/dev"
	"github.com/rumpus-kernel/rumpus/kernel/evcnt"
	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/kauth"
	"github.com/rumpus-kernel/rumpus/kernel/kprintf"
	"github.com/rumpus-kernel/rumpus/kernel/module"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/socket"
	"github.com/rumpus-kernel/rumpus/kernel/sysctl"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Kernel is what system calls work on.
type Kernel struct {
	VFS    *vfs.VFS
	Socket *socket.Layer
	Dev    *dev.Switch
	Sysctl *sysctl.Tree
	Evcnt  *evcnt.Set
	Msg    *kprintf.Msgbuf
	Events *evlog.Log
	Procs  *proc.Table
	Files  *file.Table
	Pipes  *file.Pipes
	Mod    *module.Manager
	Auth   *kauth.Auth
	Now    func() time.Time
	Booted time.Time
	Random func(p []byte)
	Reboot func(howto int) // begins a reboot; returns at once
	// Drvctl serves drvctl, of who may; nil: ENOSYS.
	Drvctl func(ctx context.Context, a *abi.Sysargs) ([]byte, error)
	// SyncBlocks writes what the caches of block devices have; nil: there are none.
	SyncBlocks func(ctx context.Context) error
	Rfork      func(l *proc.Lwp, flags int) (pid int32, cookie [abi.CookieSize]byte, err error)
	Wmesg      func(pid int32) string // what a process sleeps on, "" if nothing
	Calls      *modapi.Counter        // all system calls

	// Autoload loads the module that has a missing call; nil: nobody does.
	Autoload func(ctx context.Context, name string) error

	NoThreads bool // the kernel has no threads of its own (RUMP_THREADS=0)

	table Table
}

// fn is the function of a system call.
type fn func(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error

// Table is the system-call table (sysent): the kernel's calls and those that
// modules add.
type Table struct {
	mod   [abi.SYS_NSYSENT]atomic.Pointer[modcall]
	known [abi.SYS_NSYSENT]atomic.Pointer[string] // the module that attached it last
}

type modcall struct {
	owner string
	fn    modapi.SyscallFn
}

// Call runs one system call for l. ENOSYS for a number without a call.
func (k *Kernel) Call(ctx context.Context, l *proc.Lwp, num int, a *abi.Sysargs) error {
	k.Calls.Inc()
	a.R, a.NO = [2]uint64{}, 0
	if num < 0 || num >= abi.SYS_NSYSENT {
		return fmt.Errorf("system call %d: %w", num, abi.ENOSYS)
	}
	if len(a.Path[0]) > 0 || len(a.Path[1]) > 0 {
		for _, p := range a.Path {
			if len(p) >= abi.PATH_MAX {
				return fmt.Errorf("%s: %w", abi.SyscallName(num), abi.ENAMETOOLONG)
			}
			if strings.IndexByte(p, 0) >= 0 {
				return fmt.Errorf("%s: a name has a NUL byte: %w", abi.SyscallName(num), abi.EINVAL)
			}
		}
	}
	if len(a.In) > abi.MaxTransfer || len(a.Out) > abi.MaxTransfer {
		return fmt.Errorf("%s: more than %d bytes in one call: %w", abi.SyscallName(num), abi.MaxTransfer, abi.EINVAL)
	}
	if num >= abi.SYS_MINMODULE {
		return k.modcall(ctx, l, num, a)
	}
	if f := sysent[num]; f != nil {
		err := f(ctx, k, l, a)
		k.VFS.Settle() // caches outside know what this call did before its caller does
		return err
	}
	return k.modcall(ctx, l, num, a)
}

// answer copies b to Out: ENOMEM, with what would be needed in R[0], if it
// does not fit.
func answer(a *abi.Sysargs, b []byte) error {
	a.R[0] = uint64(len(b))
	if len(b) > len(a.Out) {
		return abi.ENOMEM
	}
	a.NO = copy(a.Out, b)
	return nil
}

// need says that Out is too short for a structure.
func need(a *abi.Sysargs, n int) error {
	if len(a.Out) < n {
		return fmt.Errorf("buffer of %d bytes, %d needed: %w", len(a.Out), n, abi.EFAULT)
	}
	return nil
}

// authorize asks kauth and says what was refused.
func (k *Kernel) authorize(l *proc.Lwp, s kauth.Scope, act kauth.Action) error {
	if err := k.Auth.Authorize(s, l.Caller().Cred, act, nil); err != nil {
		return fmt.Errorf("%s: uid %d may not: %w", act, l.Caller().Cred.Euid, err)
	}
	return nil
}
