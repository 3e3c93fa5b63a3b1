package proc

import (
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// MaxLogname bounds a login name in bytes (MAXLOGNAME without the NUL).
const MaxLogname = 16

// Session is a session (struct session).
type Session struct {
	Sid   int32  // pid of who made it
	login string // protected by Table.mu
}

// Pgrp is a process group (struct pgrp).
type Pgrp struct {
	ID      int32
	Jobc    int // members that can be stopped from a terminal; 1 for proc0's, as the seed has it
	session *Session
	members int // protected by Table.mu
}

// joinLocked puts p into a process group. Preconditions: Table.mu is held.
func (t *Table) joinLocked(p *Proc, g *Pgrp) {
	t.leaveLocked(p)
	p.pgrp = g
	g.members++
	t.pgrps[g.ID] = g
}

// leaveLocked takes p out of its group, which ends with its last member.
func (t *Table) leaveLocked(p *Proc) {
	g := p.pgrp
	if g == nil {
		return
	}
	p.pgrp = nil
	if g.members--; g.members == 0 {
		delete(t.pgrps, g.ID)
	}
}

// Pgid is the process group's number (getpgrp).
func (p *Proc) Pgid() int32 {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	if p.pgrp == nil {
		return 0
	}
	return p.pgrp.ID
}

// Jobc is the job-control count of the process's group.
func (p *Proc) Jobc() int {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	if p.pgrp == nil {
		return 0
	}
	return p.pgrp.Jobc
}

// Sid is the session's number (getsid).
func (p *Proc) Sid() int32 {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	if p.pgrp == nil {
		return 0
	}
	return p.pgrp.session.Sid
}

// Login is the login name of the session (s_login).
func (p *Proc) Login() string {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	if p.pgrp == nil {
		return ""
	}
	return p.pgrp.session.login
}

// SetLogin changes it for the whole session (setlogin(2)). EINVAL if it is
// longer than MaxLogname bytes.
func (p *Proc) SetLogin(name string) error {
	if len(name) > MaxLogname {
		return abi.EINVAL
	}
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	if p.pgrp == nil {
		return abi.ESRCH
	}
	p.pgrp.session.login = name
	return nil
}

// Setsid makes p the leader of a new session and group, which inherit the login
// name (setsid(2)). EPERM if there is a group with its number already.
func (p *Proc) Setsid() error {
	t := p.table
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case p.pgrp == nil:
		return abi.ESRCH
	case t.pgrps[p.Pid] != nil:
		return abi.EPERM
	}
	s := &Session{Sid: p.Pid, login: p.pgrp.session.login}
	t.joinLocked(p, &Pgrp{ID: p.Pid, session: s})
	return nil
}

// Setpgid moves process pid (0: p itself; else p or a child of it) to group
// pgid (0: its own number), which is made if it is its own number (setpgid(2)).
// ESRCH for another process, EINVAL for a negative group, EPERM for a session
// leader, another session, or a group that is not there.
func (p *Proc) Setpgid(pid, pgid int32) error {
	t := p.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if pgid < 0 {
		return abi.EINVAL
	}
	q := p
	if pid != 0 && pid != p.Pid {
		if q = t.procs[pid]; q == nil || q.Ppid() != p.Pid {
			return abi.ESRCH
		}
	}
	switch {
	case p.pgrp == nil, q.pgrp == nil:
		return abi.ESRCH
	case q.pgrp.session != p.pgrp.session:
		return abi.EPERM
	case q.pgrp.session.Sid == q.Pid:
		return abi.EPERM
	}
	if pgid == 0 {
		pgid = q.Pid
	}
	g := t.pgrps[pgid]
	switch {
	case g == nil && pgid != q.Pid:
		return abi.EPERM
	case g == nil:
		g = &Pgrp{ID: pgid, session: q.pgrp.session}
	case g.session != q.pgrp.session:
		return abi.EPERM
	}
	if g != q.pgrp {
		t.joinLocked(q, g)
	}
	return nil
}
