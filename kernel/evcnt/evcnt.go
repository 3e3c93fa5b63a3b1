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
	m  map[key]*modapi.Counter // protected by mu, a leaf
}

type key struct{ group, name string }

// Row is one counter with its count.
type Row struct {
	Group string `json:"group"`
	Name  string `json:"name"`
	Count uint64 `json:"count"`
}

// New makes an empty set.
func New() *Set { return &Set{m: make(map[key]*modapi.Counter)} }

// Max bounds the number of counters: a component cannot make them without end.
const Max = 4096

// Attach finds or makes a counter (evcnt_attach_dynamic). Names over 255
// bytes are cut, and behind Max counters everybody shares one, "evcnt
// overflow".
func (s *Set) Attach(group, name string) *modapi.Counter {
	k := key{clip(group), clip(name)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.m[k]; c != nil {
		return c
	}
	if len(s.m) >= Max {
		k = key{"evcnt", "overflow"}
		if c := s.m[k]; c != nil {
			return c
		}
	}
	c := new(modapi.Counter)
	s.m[k] = c
	return c
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
	for k, c := range s.m {
		rows = append(rows, Row{k.group, k.name, c.Load()})
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
