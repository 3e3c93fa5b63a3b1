package proc

import (
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
