package proc

import (
	"slices"

	"github.com/rumpus-kernel/rumpus/kernel/event"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Watch hangs a knote on the process: it is told of NOTE_EXIT and NOTE_FORK.
// ESRCH if the process has ended.
func (p *Proc) Watch(k *event.Knote) error {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	if p.table.procs[p.Pid] != p {
		return abi.ESRCH
	}
	p.Notes.Insert(k)
	return nil
}

// noteExit tells who watches that the process has ended. Preconditions: it has
// left the table.
func (p *Proc) noteExit() {
	p.Notes.Each(func(k *event.Knote) {
		k.Update(func(n *event.Happened) {
			n.Flags |= abi.EV_EOF | abi.EV_ONESHOT
			if n.Asked&abi.NOTE_EXIT != 0 {
				n.Fflags |= abi.NOTE_EXIT
			}
			n.Active = n.Fflags != 0
		})
	})
}

// Wait is an lwp that waits in a system call, for ps.
type Wait struct {
	Lid int32
	Num int // of the call
}

// Waits notes that the lwp's call waits for something, until Woke. It costs
// nothing for calls that never wait, which do not call it.
func (l *Lwp) Waits(num int) {
	p := l.Proc
	p.waitMu.Lock()
	if p.waits == nil {
		p.waits = make(map[int32]int)
	}
	p.waits[l.Lid] = num
	p.waitMu.Unlock()
}

// Woke ends what Waits began.
func (l *Lwp) Woke() {
	p := l.Proc
	p.waitMu.Lock()
	delete(p.waits, l.Lid)
	p.waitMu.Unlock()
}

// Waiting lists the lwps of the process that wait in system calls, by lid.
func (p *Proc) Waiting() []Wait {
	p.waitMu.Lock()
	ws := make([]Wait, 0, len(p.waits))
	for lid, num := range p.waits {
		ws = append(ws, Wait{lid, num})
	}
	p.waitMu.Unlock()
	slices.SortFunc(ws, func(a, b Wait) int { return int(a.Lid) - int(b.Lid) })
	return ws
}
