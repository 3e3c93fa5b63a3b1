package syscall

import (
	"context"
	"fmt"
	"strings"

	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// modular are the calls of NetBSD that its modules have, by the name of the
// module (syscalls_autoload.c): a module may attach these besides 640 to 767,
// and the first caller of one has the module loaded.
var modular = func() map[int]string {
	m := map[int]string{}
	for name, nums := range map[string][]int{
		"aio": {abi.SYS_aio_cancel, abi.SYS_aio_error, abi.SYS_aio_fsync, abi.SYS_aio_read, abi.SYS_aio_return, abi.SYS_aio_write,
			abi.SYS_lio_listio, abi.SYS_aio_suspend},
		"ksem": {abi.SYS__ksem_init, abi.SYS__ksem_open, abi.SYS__ksem_unlink, abi.SYS__ksem_close, abi.SYS__ksem_post, abi.SYS__ksem_wait,
			abi.SYS__ksem_trywait, abi.SYS__ksem_getvalue, abi.SYS__ksem_destroy, abi.SYS__ksem_timedwait},
		"mqueue": {abi.SYS_mq_open, abi.SYS_mq_close, abi.SYS_mq_unlink, abi.SYS_mq_getattr, abi.SYS_mq_setattr, abi.SYS_mq_notify,
			abi.SYS_mq_send, abi.SYS_mq_receive, abi.SYS_mq_timedsend, abi.SYS_mq_timedreceive},
		"sysv_ipc": {abi.SYS_semget, abi.SYS_semop, abi.SYS_semconfig, abi.SYS___semctl, abi.SYS_msgget, abi.SYS_msgsnd, abi.SYS_msgrcv,
			abi.SYS_msgctl, abi.SYS_shmat, abi.SYS_shmdt, abi.SYS_shmget, abi.SYS_shmctl},
	} {
		for _, n := range nums {
			m[n] = name
		}
	}
	return m
}()

// mayAttach reports whether a number is for modules.
func mayAttach(num int) bool {
	return num >= abi.SYS_MINMODULE && num <= abi.SYS_MAXMODULE || num >= 0 && modular[num] != ""
}

// moduleOf is the name of the module that has or had a call, or is known to
// have it; "" if there is none.
func (t *Table) moduleOf(num int) string {
	if p := t.known[num].Load(); p != nil {
		return *p
	}
	return modular[num]
}

// modcall makes a call of a module. One that is not loaded is, if it is known
// which it is and autoload lets it: else ENOSYS.
func (k *Kernel) modcall(ctx context.Context, l *proc.Lwp, num int, a *abi.Sysargs) error {
	c := k.table.mod[num].Load()
	if c == nil {
		name := k.table.moduleOf(num)
		if name == "" || k.Autoload == nil {
			return fmt.Errorf("%s: %w", abi.SyscallName(num), abi.ENOSYS)
		}
		if err := k.Autoload(ctx, name); err != nil {
			return fmt.Errorf("%s: module %s: %v: %w", abi.SyscallName(num), name, err, abi.ENOSYS)
		}
		if c = k.table.mod[num].Load(); c == nil {
			return fmt.Errorf("%s: module %s has no such call: %w", abi.SyscallName(num), name, abi.ENOSYS)
		}
	}
	r, out, err := c.fn(ctx, l.Caller(), a.A, a.In, len(a.Out))
	if err != nil {
		return err
	}
	a.R[0] = r
	a.NO = copy(a.Out, out)
	return nil
}

// Attach adds a module's system call; owner is INSTANCE/MODULE. EINVAL for a
// number that is neither 640 to 767 nor one of NetBSD's that modules have;
// EEXIST if it is taken. When the module goes its number stays known, so that
// the next caller has it loaded again.
func (k *Kernel) Attach(owner string, num int, f modapi.SyscallFn) error {
	if !mayAttach(num) || sysentOf(num) != nil {
		return fmt.Errorf("system call %d is not one of %d to %d: %w", num, abi.SYS_MINMODULE, abi.SYS_MAXMODULE, abi.EINVAL)
	}
	if !k.table.mod[num].CompareAndSwap(nil, &modcall{owner, f}) {
		return fmt.Errorf("system call %d: %w", num, abi.EEXIST)
	}
	_, name, _ := strings.Cut(owner, "/")
	k.table.known[num].Store(&name)
	return nil
}

// sysentOf is the kernel's own function for a number.
func sysentOf(num int) fn {
	if num < 0 || num >= len(sysent) {
		return nil
	}
	return sysent[num]
}

// Detach removes all system calls of a module.
func (k *Kernel) Detach(owner string) {
	for i := range k.table.mod {
		if c := k.table.mod[i].Load(); c != nil && c.owner == owner {
			k.table.mod[i].CompareAndSwap(c, nil)
		}
	}
}
