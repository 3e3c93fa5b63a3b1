package kernel_test

import (
	"context"
	"errors"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestSysproxySet: a hook gets all calls; one with an arg stays, one without
// can be replaced, as with rump_sysproxy_set.
func TestSysproxySet(t *testing.T) {
	k := booted(t, kernel.Options{})
	c, err := k.Client("test")
	if err != nil {
		t.Fatal(err)
	}
	if fn, arg := k.Sysproxy(); fn != nil || arg != nil {
		t.Error("a hook before one is set")
	}
	var d diary
	hook := func(name string) kernel.SysproxyFn {
		return func(_ context.Context, arg any, who *abi.Caller, num int, a *abi.Sysargs, local func() error) error {
			d.note("%s %s %v", name, abi.SyscallName(num), arg)
			if num == abi.SYS_getppid {
				return abi.EPERM
			}
			if num == abi.SYS_getpgrp {
				a.R[0] = 42
				return nil
			}
			if who.Pid == 0 {
				t.Error("whose call is it?")
			}
			return local()
		}
	}
	if err := k.SysproxySet(nil, 1); !errors.Is(err, abi.EINVAL) {
		t.Errorf("no hook: %v", err)
	}
	if err := k.SysproxySet(hook("first"), nil); err != nil {
		t.Fatal(err)
	}
	if pid, err := c.Getpid(t.Context()); pid < 2 || err != nil {
		t.Errorf("getpid: %d, %v", pid, err)
	}
	if err := k.SysproxySet(hook("second"), "arg"); err != nil {
		t.Errorf("one without an arg was not replaced: %v", err)
	}
	if _, err := c.Getppid(t.Context()); !errors.Is(err, abi.EPERM) {
		t.Errorf("the hook's refusal: %v", err)
	}
	if g, err := c.Getpgrp(t.Context()); g != 42 || err != nil {
		t.Errorf("the hook's answer: %d, %v", g, err)
	}
	if err := k.SysproxySet(hook("third"), nil); !errors.Is(err, abi.EBUSY) {
		t.Errorf("one with an arg was replaced: %v", err)
	}
	if fn, arg := k.Sysproxy(); fn == nil || arg != "arg" {
		t.Errorf("arg %v", arg)
	}
	if d.String() != "first getpid <nil>, second getppid arg, second getpgrp arg" {
		t.Error(&d)
	}
}
