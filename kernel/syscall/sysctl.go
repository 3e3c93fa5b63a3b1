package syscall

import (
	"context"
	"fmt"
	"strings"

	"github.com/rumpus-kernel/rumpus/kernel/kauth"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// sysSysctl is __sysctl: the tree by numbers. abi/sysctl.go has the layout of
// its arguments. ENOENT, EISDIR, ENOTDIR, EPERM as by name; EINVAL for a name
// or value of the wrong size; ENOMEM for an Out that is too short.
func sysSysctl(_ context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	nums, in, err := abi.ParseSysctlName(a.In, a.Int(0))
	if err != nil {
		return fmt.Errorf("sysctl: a name of %d numbers in %d bytes: %w", a.Int(0), len(a.In), err)
	}
	set := a.A[1] != 0
	if !set && len(in) > 0 {
		return fmt.Errorf("sysctl: %d bytes behind the name: %w", len(in), abi.EINVAL)
	}
	if last := nums[len(nums)-1]; last < 0 && last >= abi.CTL_DESCRIBE {
		if last != abi.CTL_QUERY && last != abi.CTL_DESCRIBE {
			return fmt.Errorf("sysctl: the tree belongs to the kernel and its modules: %w", abi.EPERM)
		}
		name, err := k.Sysctl.Name(nums[:len(nums)-1])
		if err != nil {
			return err
		}
		return k.sysctlQuery(name, last == abi.CTL_DESCRIBE, a)
	}
	name, err := k.Sysctl.Name(nums)
	if err != nil {
		return err
	}
	typ, err := k.Sysctl.TypeOf(name)
	if err != nil {
		return err
	}
	old, err := k.Sysctl.GetAs(l.Caller(), name)
	if err != nil {
		return err
	}
	if set {
		if err := k.authorize(l, kauth.System, kauth.Sysctl); err != nil {
			return err
		}
		text, err := typ.Decode(in)
		if err != nil {
			return fmt.Errorf("sysctl %s: %w", name, err)
		}
		if err := k.Sysctl.Set(name, text); err != nil {
			return err
		}
	}
	return partly(a, typ.Encode(old))
}

// sysctlQuery answers what is below a branch, or the descriptions of it.
func (k *Kernel) sysctlQuery(name string, describe bool, a *abi.Sysargs) error {
	cs, err := k.Sysctl.Children(name)
	if err != nil {
		return err
	}
	var b []byte
	for _, c := range cs {
		if describe {
			b = abi.AppendSysctlDesc(b, c.Num, c.Desc)
			continue
		}
		n := abi.SysctlNode{Num: c.Num, Type: c.Type.Number(), Name: c.Name}
		if c.Writable {
			n.Flags |= abi.CTLFLAG_READWRITE
		}
		if c.Permanent {
			n.Flags |= abi.CTLFLAG_PERMANENT
		}
		b = abi.AppendSysctlNode(b, n)
	}
	return partly(a, b)
}

// partly fills Out with as much of b as fits: ENOMEM if that is not all, unless
// there is no Out at all.
func partly(a *abi.Sysargs, b []byte) error {
	a.R[0] = uint64(len(b))
	a.NO = copy(a.Out, b)
	if a.NO < len(b) && len(a.Out) > 0 {
		return abi.ENOMEM
	}
	return nil
}

// curproc makes proc.curproc the process that asks.
func curproc(l *proc.Lwp, name string) string {
	if rest, ok := strings.CutPrefix(name, "proc.curproc"); ok && (rest == "" || rest[0] == '.') {
		return fmt.Sprintf("proc.%d%s", l.Proc.Pid, rest)
	}
	return name
}
