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
	status := p.status()
	p.Notes.Each(func(k *event.Knote) {
		k.Update(func(n *event.Happened) {
			n.Flags |= abi.EV_EOF | abi.EV_ONESHOT
			if n.Asked&abi.NOTE_EXIT != 0 {
				n.Fflags |= abi.NOTE_EXIT
				n.Data = int64(status)
			}
			n.Active = n.Fflags != 0
		})
	})
}

// Wait is an lwp that waits in a system call, for ps.
type Wait struct {
	Lid  int32
	Num  int       // of the call
	Args [2]uint64 // its first two arguments, if the Interrupter tells (CallArgs)
}

// Waits notes that the lwp's call waits for something, until Woke, and that w
// ends the wait if a signal interrupts it. It costs nothing for calls that never
// wait, which do not call it.
func (l *Lwp) Waits(num int, w Interrupter) {
	p := l.Proc
	p.sigMu.Lock()
	if p.sig.waits == nil {
		p.sig.waits = make(map[int32]*Lwp)
	}
	p.sig.waits[l.Lid] = l
	l.waitNum, l.waiter, l.interrupted = num, w, false
	h := &p.sig.hung
	if h.seq > l.sigseq && (h.l == nil || h.l == l) && !l.maskLocked().Has(h.sig) && (!h.restart || neverRestarts(num)) {
		l.interrupted = true
		*h = hung{}
	}
	now := l.interrupted
	p.sigMu.Unlock()
	if now {
		w.Interrupt()
	}
}

// Woke ends what Waits began.
func (l *Lwp) Woke() {
	p := l.Proc
	p.sigMu.Lock()
	delete(p.sig.waits, l.Lid)
	l.waiter = nil
	p.sigMu.Unlock()
}

// Waiting lists the lwps of the process that wait in system calls, by lid.
func (p *Proc) Waiting() []Wait {
	p.sigMu.Lock()
	ws := make([]Wait, 0, len(p.sig.waits))
	for lid, l := range p.sig.waits {
		w := Wait{Lid: lid, Num: l.waitNum}
		if c, ok := l.waiter.(interface{ CallArgs() [2]uint64 }); ok {
			w.Args = c.CallArgs()
		}
		ws = append(ws, w)
	}
	p.sigMu.Unlock()
	slices.SortFunc(ws, func(a, b Wait) int { return int(a.Lid) - int(b.Lid) })
	return ws
}
