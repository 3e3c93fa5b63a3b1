package proc

import (
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// What a process is to its user's record (struct uidinfo): one process, and so
// many lwps of NewLwp. Both count for the real user, and move with him when the
// process changes it.

// bornLocked counts a new process. EAGAIN above RLIMIT_NPROC; the super-user
// has no limit. Preconditions: Table.mu is held.
func (p *Proc) bornLocked(limits *Limits) error {
	c := p.Cred()
	if err := p.table.Uids.Find(c.Ruid).Chgproccnt(1, limitOf(limits, abi.RLIMIT_NPROC, c)); err != nil {
		return fmt.Errorf("uid %d has too many processes: %w", c.Ruid, err)
	}
	p.uid, p.counted = c.Ruid, true
	return nil
}

// died takes the process and its lwps out of the counts.
func (p *Proc) died() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.counted {
		return
	}
	p.counted = false
	i := p.table.Uids.Find(p.uid)
	_ = i.Chgproccnt(-1, 0)
	_ = i.Chglwpcnt(-p.nthr, 0)
	p.nthr = 0
}

// moveLocked lets the counts follow a new real user. It does not ask for
// limits: NetBSD's do_setresuid does not either. Preconditions: p.mu is held.
func (p *Proc) moveLocked(to uint32) {
	if !p.counted || to == p.uid {
		return
	}
	from, i := p.table.Uids.Find(p.uid), p.table.Uids.Find(to)
	_ = i.Chgproccnt(1, abi.RLIM_INFINITY)
	_ = i.Chglwpcnt(p.nthr, abi.RLIM_INFINITY)
	_ = from.Chgproccnt(-1, 0)
	_ = from.Chglwpcnt(-p.nthr, 0)
	p.uid = to
}

// lwpBorn counts an lwp: EAGAIN above RLIMIT_NTHR.
func (p *Proc) lwpBorn() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.counted {
		return nil
	}
	if err := p.table.Uids.Find(p.uid).Chglwpcnt(1, limitOf(&p.limits, abi.RLIMIT_NTHR, p.Cred())); err != nil {
		return fmt.Errorf("uid %d has too many lwps: %w", p.uid, err)
	}
	p.nthr++
	return nil
}

// lwpDied takes one out.
func (p *Proc) lwpDied() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counted && p.nthr > 0 {
		p.nthr--
		_ = p.table.Uids.Find(p.uid).Chglwpcnt(-1, 0)
	}
}

// limitOf is a soft limit, for who has one.
func limitOf(l *Limits, which int, c *abi.Cred) int64 {
	if c.Euid == 0 {
		return abi.RLIM_INFINITY
	}
	return l[which].Cur
}
