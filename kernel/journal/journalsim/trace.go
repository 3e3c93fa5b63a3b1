package journalsim

import (
	"fmt"
	"strings"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/journal"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// event is one thing that happened, cheap to note.
type event struct {
	at   time.Time
	what string
	kind journal.Kind // 0 without an entry
	seq  abi.OpSeq
	name string
	node abi.Handle
}

// noteLocked remembers an event.
func (s *Sim) noteLocked(what string, e *journal.Entry) {
	v := event{at: time.Now(), what: what}
	if e != nil {
		v.kind, v.seq, v.name, v.node = e.Kind, e.Op.Seq, string(e.Name), e.Node
		if v.node.IsZero() {
			v.node = e.Victim
		}
	}
	s.ring[s.rings%ringSize] = v
	s.rings++
}

// lastLocked tells the last events, a line each.
func (s *Sim) lastLocked() string {
	var b strings.Builder
	first := max(0, s.rings-ringSize)
	fmt.Fprintf(&b, "\n   before it (%d events, the last %d):", s.rings, s.rings-first)
	for i := first; i < s.rings; i++ {
		v := &s.ring[i%ringSize]
		fmt.Fprintf(&b, "\n   %s %-22s", v.at.Format("05.000000"), v.what)
		if v.kind != 0 {
			fmt.Fprintf(&b, " %s %d", v.kind, v.seq)
			if v.name != "" {
				fmt.Fprintf(&b, " %q", v.name)
			}
			if !v.node.IsZero() {
				fmt.Fprintf(&b, " of %v", v.node)
			}
		}
	}
	return b.String()
}
