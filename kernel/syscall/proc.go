package syscall

import (
	"context"
	"encoding/binary"

	"github.com/rumpus-kernel/rumpus/kernel/kauth"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// keep is (uid_t)-1: an id that stays as it is.
const keep = ^uint32(0)

// setids is the frame of the set*id calls: anybody may change to one of the ids
// in may, the super-user to all.
func (k *Kernel) setids(l *proc.Lwp, change func(n *abi.Cred), ok bool) error {
	c := l.Proc.Cred()
	if !ok {
		if err := k.authorize(l, kauth.Process, kauth.Setid); err != nil {
			return err
		}
	}
	n := c.Clone()
	change(n)
	l.Proc.SetCred(n)
	return nil
}

// oneOf reports whether id is keep or one of ids.
func oneOf(id uint32, ids ...uint32) bool {
	for _, x := range ids {
		if id == x {
			return true
		}
	}
	return id == keep
}

// sysSetreuid is setreuid(2): A = {ruid, euid}.
func sysSetreuid(_ context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	r, e, c := a.U32(0), a.U32(1), l.Proc.Cred()
	ok := oneOf(r, c.Ruid, c.Euid) && oneOf(e, c.Ruid, c.Euid, c.Svuid)
	return k.setids(l, func(n *abi.Cred) {
		setre(r, e, &n.Ruid, &n.Euid, &n.Svuid)
	}, ok)
}

// sysSetregid is setregid(2): A = {rgid, egid}.
func sysSetregid(_ context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	r, e, c := a.U32(0), a.U32(1), l.Proc.Cred()
	ok := oneOf(r, c.Rgid, c.Egid) && oneOf(e, c.Rgid, c.Egid, c.Svgid)
	return k.setids(l, func(n *abi.Cred) {
		setre(r, e, &n.Rgid, &n.Egid, &n.Svgid)
	}, ok)
}

// setre sets the real and effective id; the saved one becomes the effective one
// if the real one is set or the effective one to something else than it.
func setre(r, e uint32, rid, eid, svid *uint32) {
	was := *rid
	if r != keep {
		*rid = r
	}
	if e != keep {
		*eid = e
	}
	if r != keep || e != keep && e != was {
		*svid = *eid
	}
}

// sysSeteuid is seteuid(2).
func sysSeteuid(_ context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	e, c := a.U32(0), l.Proc.Cred()
	return k.setids(l, func(n *abi.Cred) { n.Euid = e }, e == c.Ruid || e == c.Svuid)
}

// sysSetegid is setegid(2).
func sysSetegid(_ context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	e, c := a.U32(0), l.Proc.Cred()
	return k.setids(l, func(n *abi.Cred) { n.Egid = e }, e == c.Rgid || e == c.Svgid)
}

func sysGetpgrp(_ context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	a.R[0] = uint64(l.Proc.Pgid())
	return nil
}

// other finds the process of argument 0, 0 being the caller's. ESRCH.
func (k *Kernel) other(l *proc.Lwp, a *abi.Sysargs) (*proc.Proc, error) {
	pid := a.Int(0)
	if pid == 0 {
		return l.Proc, nil
	}
	if pid < 0 || pid > 1<<31-1 {
		return nil, abi.ESRCH
	}
	return k.Procs.Find(int32(pid))
}

func sysGetpgid(_ context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	p, err := k.other(l, a)
	if err == nil {
		a.R[0] = uint64(p.Pgid())
	}
	return err
}

func sysGetsid(_ context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	p, err := k.other(l, a)
	if err == nil {
		a.R[0] = uint64(p.Sid())
	}
	return err
}

// sysSetpgid is setpgid(2): A = {pid, pgid}.
func sysSetpgid(_ context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	if int(int32(a.A[0])) != a.Int(0) || int(int32(a.A[1])) != a.Int(1) {
		return abi.EINVAL
	}
	return l.Proc.Setpgid(int32(a.A[0]), int32(a.A[1]))
}

// sysSetsid is setsid(2); it answers the number of the new session.
func sysSetsid(_ context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	a.R[0] = uint64(l.Proc.Pid)
	return l.Proc.Setsid()
}

// sysGetlogin is __getlogin: Out takes the name, R[0] is its length. ENOMEM if
// it does not fit.
func sysGetlogin(_ context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	return answer(a, []byte(l.Proc.Login()))
}

// sysSetlogin is __setlogin: Path[0] is the name.
func sysSetlogin(_ context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	if err := k.authorize(l, kauth.Process, kauth.Setlogin); err != nil {
		return err
	}
	return l.Proc.SetLogin(a.Path[0])
}

// sysGetrlimit is getrlimit(2): A = {which}; Out is a struct rlimit, two 64-bit
// numbers: soft and hard limit.
func sysGetrlimit(_ context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	r, err := l.Proc.Rlimit(a.Int(0))
	if err != nil {
		return err
	}
	if err := need(a, 16); err != nil {
		return err
	}
	b := binary.LittleEndian.AppendUint64(a.Out[:0], uint64(r.Cur))
	a.NO = len(binary.LittleEndian.AppendUint64(b, uint64(r.Max)))
	return nil
}

// sysSetrlimit is setrlimit(2): A = {which}, In a struct rlimit.
func sysSetrlimit(_ context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	if len(a.In) != 16 {
		return abi.EINVAL
	}
	r := proc.Rlimit{Cur: int64(binary.LittleEndian.Uint64(a.In)), Max: int64(binary.LittleEndian.Uint64(a.In[8:]))}
	return l.Proc.SetRlimit(a.Int(0), r, func() error { return k.authorize(l, kauth.Process, kauth.Rlimit) })
}

func sysLwpSelf(_ context.Context, _ *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	a.R[0] = uint64(l.Lid)
	return nil
}

// sysLwprocRfork is rump_lwproc_rfork for remote clients too: A = {flags}
// (RUMP_RF*). R[0] is the child's pid; Out takes the cookie by which another
// connection becomes the child (lwproc_attach).
func sysLwprocRfork(_ context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	if err := need(a, abi.CookieSize); err != nil {
		return err
	}
	pid, cookie, err := k.Rfork(l, a.Int(0))
	if err != nil {
		return err
	}
	a.R[0] = uint64(pid)
	a.NO = copy(a.Out, cookie[:])
	return nil
}
