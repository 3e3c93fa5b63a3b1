package syscall

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/rumpus-kernel/rumpus/kernel/kauth"
	"github.com/rumpus-kernel/rumpus/kernel/module"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// The commands of modctl(2), in A[0].
const (
	ModctlLoad   = 0
	ModctlUnload = 1
	ModctlStat   = 2
	ModctlExists = 3
)

// The flags of modctl's load, in A[1].
const (
	ModctlForce  = 1 // MODCTL_LOAD_FORCE
	ModctlNoProp = 2 // MODCTL_NO_PROP
)

// The operations of sysctlbyname, in A[0].
const (
	SysctlGet  = 0
	SysctlSet  = 1
	SysctlList = 2
)

func sysZero(context.Context, *Kernel, *proc.Lwp, *abi.Sysargs) error { return nil }

func sysGetpid(_ context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	a.R[0] = uint64(l.Proc.Pid)
	return nil
}

// id makes a call that answers something of the caller's credentials.
func id(get func(*abi.Caller) uint32) fn {
	return func(_ context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
		a.R[0] = uint64(get(l.Caller()))
		return nil
	}
}

func sysGetppid(_ context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	a.R[0] = uint64(l.Proc.Ppid())
	return nil
}

// sysGetgroups answers the supplementary groups, 4 bytes each.
func sysGetgroups(_ context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	g := l.Caller().Cred.Groups
	a.R[0] = uint64(len(g))
	if len(a.Out) == 0 {
		return nil
	}
	if len(a.Out) < 4*len(g) {
		return abi.EINVAL
	}
	b := a.Out[:0]
	for _, gid := range g {
		b = append(b, byte(gid), byte(gid>>8), byte(gid>>16), byte(gid>>24))
	}
	a.NO = len(b)
	return nil
}

// sysSetuid is setuid(2): the super-user changes all three ids, anybody may
// change to the real or saved one.
func sysSetuid(_ context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	c, uid := l.Proc.Cred(), a.U32(0)
	n := c.Clone()
	if k.Auth.Authorize(kauth.Process, c, kauth.Setid, nil) == nil {
		n.Ruid, n.Euid, n.Svuid = uid, uid, uid
	} else if uid == c.Ruid || uid == c.Svuid {
		n.Euid = uid
	} else {
		return abi.EPERM
	}
	l.Proc.SetCred(n)
	return nil
}

// sysSetgid is setgid(2), likewise.
func sysSetgid(_ context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	c, gid := l.Proc.Cred(), a.U32(0)
	n := c.Clone()
	if k.Auth.Authorize(kauth.Process, c, kauth.Setid, nil) == nil {
		n.Rgid, n.Egid, n.Svgid = gid, gid, gid
	} else if gid == c.Rgid || gid == c.Svgid {
		n.Egid = gid
	} else {
		return abi.EPERM
	}
	l.Proc.SetCred(n)
	return nil
}

// sysSetgroups is setgroups(2): In has 4 bytes a group.
func sysSetgroups(_ context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	if len(a.In)%4 != 0 || len(a.In)/4 > abi.NGroupsMax {
		return abi.EINVAL
	}
	if err := k.authorize(l, kauth.Process, kauth.Setid); err != nil {
		return err
	}
	n := l.Proc.Cred().Clone()
	n.Groups = nil
	for i := 0; i < len(a.In); i += 4 {
		n.Groups = append(n.Groups, uint32(a.In[i])|uint32(a.In[i+1])<<8|uint32(a.In[i+2])<<16|uint32(a.In[i+3])<<24)
	}
	l.Proc.SetCred(n)
	return nil
}

// sysClockGettime answers CLOCK_REALTIME (0) as a struct timespec, and the time
// since boot for CLOCK_MONOTONIC (3).
func sysClockGettime(_ context.Context, k *Kernel, _ *proc.Lwp, a *abi.Sysargs) error {
	if err := need(a, 16); err != nil {
		return err
	}
	var ts abi.Timespec
	switch a.Int(0) {
	case 0:
		ts = abi.TimespecOf(k.Now())
	case 3:
		d := k.Now().Sub(k.Booted)
		ts = abi.Timespec{Sec: int64(d / 1e9), Nsec: int32(d % 1e9)}
	default:
		return abi.EINVAL
	}
	a.NO = len(abi.AppendTimespec(a.Out[:0], ts))
	return nil
}

// sysGetrandom fills Out.
func sysGetrandom(_ context.Context, k *Kernel, _ *proc.Lwp, a *abi.Sysargs) error {
	k.Random(a.Out)
	a.NO = len(a.Out)
	a.R[0] = uint64(len(a.Out))
	return nil
}

func sysReboot(_ context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	if err := k.authorize(l, kauth.System, kauth.Reboot); err != nil {
		return err
	}
	k.Reboot(a.Int(0))
	return nil
}

// sysModctl is modctl(2): A[0] is the command, Path[0] the module. Load takes
// flags in A[1] and its properties as JSON in In. EXISTS without a name asks
// what A[1] says, see modctlMay.
func sysModctl(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	switch name := a.Path[0]; a.Int(0) {
	case ModctlLoad:
		if err := k.authorize(l, kauth.System, kauth.Module); err != nil {
			return err
		}
		props, err := module.ParseProps(a.In)
		if err != nil {
			return fmt.Errorf("modload %s: %w", name, err)
		}
		flags := a.Int(1)
		if flags&^(ModctlForce|ModctlNoProp) != 0 {
			return fmt.Errorf("modload %s: flags %#x: %w", name, flags, abi.EINVAL)
		}
		return k.Mod.LoadWith(ctx, module.LoadSpec{Name: name, Props: props, Force: flags&ModctlForce != 0, NoProps: flags&ModctlNoProp != 0})
	case ModctlUnload:
		if err := k.authorize(l, kauth.System, kauth.Module); err != nil {
			return err
		}
		return k.Mod.Unload(ctx, name)
	case ModctlStat:
		return sysModstat(ctx, k, l, a)
	case ModctlExists:
		if name == "" {
			return modctlMay(k, l, a.Int(1))
		}
		if !k.Mod.Exists(name) {
			return fmt.Errorf("module %s: %w", name, abi.ENOENT)
		}
		return nil
	}
	return abi.EINVAL
}

// modctlMay is the EXISTS of NetBSD's modctl, which is asked without a name:
// may the caller load modules (0), may modules be autoloaded on his behalf (1;
// everybody's are). EPERM; EINVAL for another question.
func modctlMay(k *Kernel, l *proc.Lwp, auto int) error {
	switch auto {
	case 0:
		return k.authorize(l, kauth.System, kauth.Module)
	case 1:
		return nil
	}
	return abi.EINVAL
}

// sysModstat lists the modules as a JSON array; ENOMEM, with the length in
// R[0], if it does not fit.
func sysModstat(_ context.Context, k *Kernel, _ *proc.Lwp, a *abi.Sysargs) error {
	b, err := json.Marshal(k.Mod.Rows())
	if err != nil {
		return err
	}
	return answer(a, b)
}

// sysSysctlbyname reads, writes and lists the sysctl tree by name, of which
// parts may be numbers.
func sysSysctlbyname(_ context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	switch name := k.Sysctl.Words(curproc(l, a.Path[0])); a.Int(0) {
	case SysctlGet:
		v, err := k.Sysctl.GetAs(l.Caller(), name)
		if err != nil {
			return err
		}
		return answer(a, []byte(v))
	case SysctlSet:
		if err := k.authorize(l, kauth.System, kauth.Sysctl); err != nil {
			return err
		}
		return k.Sysctl.Set(name, string(a.In))
	case SysctlList:
		rows, err := k.Sysctl.ListAs(l.Caller(), name)
		if err != nil {
			return err
		}
		b, err := json.Marshal(rows)
		if err != nil {
			return err
		}
		return answer(a, b)
	}
	return abi.EINVAL
}

// sysMsgbuf reads the message buffer from position A[0] on; with A[1] it waits
// until there is more. R = {bytes, next position}. Who has too little room
// gets the beginning and the position behind it.
func sysMsgbuf(ctx context.Context, k *Kernel, _ *proc.Lwp, a *abi.Sysargs) error {
	pos := int64(a.A[0])
	var b []byte
	var next int64
	try := func() error {
		if b, next = k.Msg.Read(pos); len(b) == 0 && a.A[1] != 0 {
			return abi.EAGAIN
		}
		return nil
	}
	if err := k.Msg.Sel.Wait(ctx, try); err != nil {
		return err
	}
	a.NO = copy(a.Out, b)
	a.R[0], a.R[1] = uint64(a.NO), uint64(next-int64(len(b)-a.NO))
	return nil
}
