// Package evcnt keeps the event counters of a kernel: evcnt(9), shown by
// `rumpus vmstat -e` and as sysctl nodes below kern.evcnt.
//
// A counter has a group and a name, each 1 to 255 bytes. Asking for one that
// exists answers the same counter, so that a component that comes back goes
// on counting where its predecessor stopped.
package evcnt

import (
	"sort"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi"
)

// Set is the counters of one kernel.
type Set struct {
	mu sync.Mutex
	m  map[key]*ev // protected by mu, a leaf
}

// Type is what kind of event is counted (EVCNT_TYPE_*).
type Type uint8

// The types.
const (
	Misc Type = iota
	Intr      // interrupts
	Trap
)

func (t Type) String() string {
	switch t {
	case Intr:
		return "intr"
	case Trap:
		return "trap"
	}
	return "misc"
}

// ev is a counter with its type.
type ev struct {
	c   *modapi.Counter
	typ Type
}

type key struct{ group, name string }

// Row is one counter with its count.
type Row struct {
	Group string `json:"group"`
	Name  string `json:"name"`
	Count uint64 `json:"count"`
	Type  string `json:"type"`
}

// New makes an empty set.
func New() *Set { return &Set{m: make(map[key]*ev)} }

// Max bounds the number of counters: a component cannot make them without end.
const Max = 4096

// Attach finds or makes a counter (evcnt_attach_dynamic). Names over 255
// bytes are cut, and behind Max counters everybody shares one, "evcnt
// overflow".
func (s *Set) Attach(group, name string) *modapi.Counter { return s.AttachType(Misc, group, name) }

// AttachType is Attach of a counter of a type, which stays what it was first.
func (s *Set) AttachType(typ Type, group, name string) *modapi.Counter {
	k := key{clip(group), clip(name)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.m[k]; e != nil {
		return e.c
	}
	if len(s.m) >= Max {
		k = key{"evcnt", "overflow"}
		if e := s.m[k]; e != nil {
			return e.c
		}
	}
	c := new(modapi.Counter)
	s.m[k] = &ev{c, typ}
	return c
}

// Detach takes a counter off the list (evcnt_detach). Who has it may go on
// counting, unseen.
func (s *Set) Detach(group, name string) {
	s.mu.Lock()
	delete(s.m, key{clip(group), clip(name)})
	s.mu.Unlock()
}

func clip(s string) string {
	if len(s) > 255 {
		return s[:255]
	}
	return s
}

// Rows lists all counters by group and name.
func (s *Set) Rows() []Row {
	s.mu.Lock()
	rows := make([]Row, 0, len(s.m))
	for k, e := range s.m {
		rows = append(rows, Row{k.group, k.name, e.c.Load(), e.typ.String()})
	}
	s.mu.Unlock()
	sort.Slice(rows, func(i, j int) bool {
		if rows[i].Group != rows[j].Group {
			return rows[i].Group < rows[j].Group
		}
		return rows[i].Name < rows[j].Name
	})
	return rows
}
