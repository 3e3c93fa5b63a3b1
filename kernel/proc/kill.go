package proc

import (
	"context"
	"errors"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Kill is kill(2) by process from: pid is a process, 0 all of its group, -1 all
// but itself, another negative number that group. may says whether a process may
// be sent the signal. Signal 0 only asks. The kernel itself (proc0) gets none.
// EINVAL for what is no signal, ESRCH, EPERM; of several those that may not be
// sent it are passed over.
func (t *Table) Kill(from *Proc, pid int, si abi.Siginfo, may func(*Proc) error) error {
	if si.Signo < 0 || si.Signo >= abi.NSIG {
		return fmt.Errorf("signal %d: %w", si.Signo, abi.EINVAL)
	}
	if pid != int(int32(pid)) {
		return abi.ESRCH
	}
	if pid > 0 {
		p, err := t.Find(int32(pid))
		if err != nil {
			return fmt.Errorf("kill %d: %w", pid, err)
		}
		if err := may(p); err != nil {
			return err
		}
		p.Signal(si)
		return nil
	}
	group := int32(-pid)
	var targets []*Proc
	t.mu.Lock()
	if pid == 0 {
		group = 0
		if from.pgrp != nil {
			group = from.pgrp.ID
		}
	}
	for _, p := range t.procs {
		switch {
		case p == t.Proc0, pid == -1 && p == from, pid != -1 && (p.pgrp == nil || p.pgrp.ID != group):
		default:
			targets = append(targets, p)
		}
	}
	t.mu.Unlock()
	n := 0
	for _, p := range targets {
		if may(p) == nil {
			n++
			p.Signal(si)
		}
	}
	if n == 0 {
		return fmt.Errorf("kill %d: %w", pid, abi.ESRCH)
	}
	return nil
}

// KillLwp is _lwp_kill(2): an lwp of the same process, of those that NewLwp made
// or that wait in a call. The latter have the process's mask and are gone after
// the call, so a signal for one is the process's. ESRCH, EINVAL.
func (l *Lwp) KillLwp(lid int, si abi.Siginfo) error {
	if si.Signo < 0 || si.Signo >= abi.NSIG {
		return abi.EINVAL
	}
	p := l.Proc
	p.sigMu.Lock()
	var to *Lwp
	if lid == int(int32(lid)) {
		to = p.sig.owned[int32(lid)]
		if to == nil && lid != int(l.Lid) && p.sig.waits[int32(lid)] == nil {
			lid = 0
		}
	}
	p.sigMu.Unlock()
	switch {
	case to != nil:
		to.Signal(si)
	case lid <= 0:
		return abi.ESRCH
	default:
		p.Signal(si)
	}
	return nil
}

// SameSession reports whether two processes are of one session.
func (p *Proc) SameSession(q *Proc) bool {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	return p.pgrp != nil && q.pgrp != nil && p.pgrp.session == q.pgrp.session
}

// zombie is what is left of a child until wait4(2).
type zombie struct {
	pid, pgid int32
	status    int
}

// maxZombies bounds them: the oldest are forgotten.
const maxZombies = 1024

// Terminate ends the process with a status, as exit(2) does. It does not wait.
func (p *Proc) Terminate(code int) {
	p.sigMu.Lock()
	if p.sig.xsig == 0 {
		p.sig.xcode = code & 0xff
	}
	p.sigMu.Unlock()
	p.end()
}

// status is how the process ended, as wait4(2) has it.
func (p *Proc) status() int {
	p.sigMu.Lock()
	defer p.sigMu.Unlock()
	if p.sig.xsig != 0 {
		return p.sig.xsig
	}
	return p.sig.xcode << 8
}

// buryLocked leaves a zombie of p with its parent, unless that does not want to
// know (SIGCHLD ignored, SA_NOCLDWAIT) or is the kernel. It answers the parent.
// Preconditions: Table.mu is held, and p is in its group still.
func (p *Proc) buryLocked() *Proc {
	parent := p.table.procs[p.Ppid()]
	if parent == nil || parent == p.table.Proc0 {
		return nil
	}
	z := zombie{pid: p.Pid, status: p.status()}
	if p.pgrp != nil {
		z.pgid = p.pgrp.ID
	}
	parent.sigMu.Lock()
	if a := parent.sig.acts[abi.SIGCHLD]; a.Handler != abi.SIG_IGN && a.Flags&abi.SA_NOCLDWAIT == 0 {
		if len(parent.sig.zombies) >= maxZombies {
			parent.sig.zombies = parent.sig.zombies[1:]
		}
		parent.sig.zombies = append(parent.sig.zombies, z)
	}
	parent.sigMu.Unlock()
	return parent
}

// mourn tells the parent that p has ended.
func (p *Proc) mourn(parent *Proc) {
	if parent == nil {
		return
	}
	code, value := abi.CLD_EXITED, int64(p.status()>>8)
	if sig := p.EndSignal(); sig != 0 {
		code, value = abi.CLD_KILLED, int64(sig)
	}
	parent.kids.Notify()
	parent.Signal(abi.Siginfo{Signo: abi.SIGCHLD, Code: code, Pid: p.Pid, Uid: p.Cred().Ruid, Value: value})
}

// tellParent sends SIGCHLD for a child that was stopped or continued.
func (p *Proc) tellParent(code int, value int64) {
	parent, err := p.table.Find(p.Ppid())
	if err != nil || parent == p.table.Proc0 {
		return
	}
	parent.kids.Notify()
	parent.sigMu.Lock()
	quiet := parent.sig.acts[abi.SIGCHLD].Flags&abi.SA_NOCLDSTOP != 0
	parent.sigMu.Unlock()
	if !quiet {
		parent.Signal(abi.Siginfo{Signo: abi.SIGCHLD, Code: code, Pid: p.Pid, Uid: p.Cred().Ruid, Value: value})
	}
}

// Wait4 waits for a child to end, or with WUNTRACED to stop, and answers its
// number and status (wait4(2)): pid is a child, -1 any, 0 any of the own group,
// another negative number any of that group. With WNOHANG it does not wait and
// may answer 0. ECHILD without such a child, EINVAL, EINTR.
func (p *Proc) Wait4(ctx context.Context, pid, options int) (child int32, status int, err error) {
	if options&^(abi.WNOHANG|abi.WUNTRACED|abi.WALLSIG|abi.WCONTINUED) != 0 {
		return 0, 0, abi.EINVAL
	}
	err = p.kids.Wait(ctx, func() error {
		child, status, err = p.wait4(pid, options)
		if options&abi.WNOHANG != 0 && errors.Is(err, abi.EAGAIN) {
			return nil
		}
		return err
	})
	return child, status, err
}

// wait4 is one look; EAGAIN if there are only children that live.
func (p *Proc) wait4(pid, options int) (int32, int, error) {
	t := p.table
	t.mu.Lock()
	defer t.mu.Unlock()
	group := int32(-pid)
	if pid == 0 {
		if p.pgrp == nil {
			return 0, 0, abi.ECHILD
		}
		group = p.pgrp.ID
	}
	want := func(id, pgid int32) bool {
		switch {
		case pid == -1:
			return true
		case pid > 0:
			return int(id) == pid
		}
		return pgid == group
	}
	p.sigMu.Lock()
	for i, z := range p.sig.zombies {
		if want(z.pid, z.pgid) {
			p.sig.zombies = append(p.sig.zombies[:i:i], p.sig.zombies[i+1:]...)
			p.sigMu.Unlock()
			return z.pid, z.status, nil
		}
	}
	p.sigMu.Unlock()
	err := abi.ECHILD
	for _, c := range t.procs {
		if c == p || c.Ppid() != p.Pid || c.pgrp == nil || !want(c.Pid, c.pgrp.ID) {
			continue
		}
		err = abi.EAGAIN
		if options&abi.WUNTRACED != 0 {
			c.sigMu.Lock()
			sig, tell := c.sig.stopsig, c.sig.unwaited
			c.sig.unwaited = false
			c.sigMu.Unlock()
			if tell && sig != 0 {
				return c.Pid, sig<<8 | 0x7f, nil
			}
		}
	}
	return 0, 0, err
}
