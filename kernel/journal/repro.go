package journal

import (
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Repro is how to let a file system's process die again: the checkpoint it
// begins with, the mutators that were answered after it, and the one that
// kills. What is in it is the clients' own, names and contents, and must not be
// changed. Options.Poison gets it while the recovery waits, and must not call
// the FS.
type Repro struct {
	Checkpoint abi.OpSeq
	Entries    []*Entry // answered, in order
	Poison     *Entry
}

func (f *FS) reproLocked(e *Entry) *Repro {
	p := *e // the caller gets his memory back
	p.keep()
	p.iov = nil
	r := &Repro{Checkpoint: f.ckpt, Poison: &p}
	for _, o := range f.list[f.head:] {
		if o.State == Answered {
			r.Entries = append(r.Entries, o)
		}
	}
	return r
}
