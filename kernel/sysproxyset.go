package kernel

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// SysproxyFn takes system calls in the kernel's stead. who says whose call it
// is; local makes the call here. arg is what SysproxySet was given.
type SysproxyFn func(ctx context.Context, arg any, who *abi.Caller, num int, a *abi.Sysargs, local func() error) error

type sysproxyHook struct {
	fn  SysproxyFn
	arg any
}

// SysproxySet puts fn in the way of all system calls (rump_sysproxy_set): it
// makes them elsewhere, counts them, refuses them. EBUSY if one with an arg is
// set already; one without an arg can be replaced, as in the seed. A nil fn is
// EINVAL.
func (k *Kernel) SysproxySet(fn SysproxyFn, arg any) error {
	if fn == nil {
		return abi.EINVAL
	}
	n := &sysproxyHook{fn, arg}
	for {
		old := k.sysproxy.Load()
		if old != nil && old.arg != nil {
			return fmt.Errorf("system calls are forwarded already: %w", abi.EBUSY)
		}
		if k.sysproxy.CompareAndSwap(old, n) {
			return nil
		}
	}
}

// Sysproxy is the hook in force and its arg (rump_sysproxy, rump_sysproxy_arg);
// nil: calls are made here.
func (k *Kernel) Sysproxy() (fn SysproxyFn, arg any) {
	if h := k.sysproxy.Load(); h != nil {
		return h.fn, h.arg
	}
	return nil, nil
}
