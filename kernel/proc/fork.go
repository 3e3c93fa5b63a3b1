package proc

import (
	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Flags of Rfork: what the child gets of the descriptors. Without a flag it
// shares the table.
const (
	RFFDG  = abi.RUMP_RFFDG  // a copy, without the kqueues
	RFCFDG = abi.RUMP_RFCFDG // an empty table
)

// Rfork makes a child of p (rump_lwproc_rfork): the same credentials, working
// directory (a copy), process group, session, limits, signal dispositions and
// mask; descriptors as flags say. It has no lwp yet. EINVAL for both flags or others; ESRCH if p has
// ended; EAGAIN.
func (p *Proc) Rfork(flags int) (*Proc, error) {
	if flags&^(RFFDG|RFCFDG) != 0 || flags == RFFDG|RFCFDG {
		return nil, abi.EINVAL
	}
	if err := p.begin(); err != nil { // its descriptors stay while we look
		return nil, err
	}
	defer p.leave()
	cwd := p.Cwd()
	p.mu.Lock()
	limits := p.limits
	p.mu.Unlock()
	var fd *file.Filedesc
	switch flags {
	case 0:
		fd = p.Fd.Share()
	case RFFDG:
		fd = p.Fd.Copy()
	default:
		fd = file.NewFiledesc(p.Fd.Max())
	}
	c, err := p.table.add(p.Name(), p.Cred(), p, fd, limits)
	if err != nil {
		fd.Release(p.ctx)
		return nil, err
	}
	p.inheritSignals(c)
	if cwd != nil {
		c.mu.Lock()
		c.cwd.CompareAndSwap(nil, cwd.Copy())
		c.mu.Unlock()
	}
	p.Notes.Each(func(k *event.Knote) { k.Note(abi.NOTE_FORK) })
	return c, nil
}

// Execed is what execve(2) does to a process itself: it has another name, its
// handlers are gone, and who watches it is told (NOTE_EXEC). What is ignored,
// masked or pending stays so.
func (p *Proc) Execed(name string) {
	p.name.Store(&name)
	p.sigMu.Lock()
	for sig, a := range p.sig.acts {
		if a.Handler > abi.SIG_IGN {
			delete(p.sig.acts, sig)
		}
	}
	p.catches.Store(false)
	p.sigMu.Unlock()
	p.Notes.Each(func(k *event.Knote) { k.Note(abi.NOTE_EXEC) })
}
