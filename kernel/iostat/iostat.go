// Package iostat counts what devices do: iostat(9), read by iostat(8) through
// the sysctl nodes hw.iostatnames and hw.iostats.
//
// Who drives a device makes its Stats, calls Busy before a transfer and Unbusy
// after it, and Seek when the position is moved. Busy time is the time in which
// at least one transfer is under way. Devices that go leave nothing behind.
//
// Locks: each Stats has its own, a leaf, and the Set one for its list.
package iostat

import (
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Type is what kind of device it is (IOSTAT_*).
type Type int

// The types.
const (
	Disk Type = iota
	Tape
	NFS
	Chr // a character device; NetBSD counts none
)

// Set is the devices of one kernel that are counted.
type Set struct {
	mu sync.Mutex
	m  map[string]*Stats // protected by mu
}

// Stats are the counts of one device (struct io_stats). A nil *Stats counts
// nothing.
type Stats struct {
	typ      Type
	name     string
	attached time.Time

	mu             sync.Mutex
	rxfer, wxfer   uint64
	rbytes, wbytes uint64
	seeks          uint64
	busy           int           // transfers under way
	since          time.Time     // of the last change of busy
	busysum        time.Duration // time with a transfer under way, up to since
}

// Row is a device as hw.iostats shows it.
type Row struct {
	Name     string `json:"name"`
	Type     Type   `json:"type"`
	Reads    uint64 `json:"reads"`
	RBytes   uint64 `json:"read_bytes"`
	Writes   uint64 `json:"writes"`
	WBytes   uint64 `json:"write_bytes"`
	Seeks    uint64 `json:"seeks"`
	Busy     int    `json:"busy"`
	BusyNs   int64  `json:"busy_ns"`
	UptimeNs int64  `json:"uptime_ns"`
}

// New makes an empty Set (iostat_init).
func New() *Set { return &Set{m: make(map[string]*Stats)} }

// Alloc begins to count a device (iostat_alloc). EEXIST.
func (s *Set) Alloc(typ Type, name string) (*Stats, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[name] != nil {
		return nil, fmt.Errorf("iostat %s: %w", name, abi.EEXIST)
	}
	now := time.Now()
	st := &Stats{typ: typ, name: name, attached: now, since: now}
	s.m[name] = st
	return st, nil
}

// Free ends it (iostat_free).
func (s *Set) Free(st *Stats) {
	if st == nil {
		return
	}
	s.mu.Lock()
	if s.m[st.name] == st {
		delete(s.m, st.name)
	}
	s.mu.Unlock()
}

// Find looks a device up by name (iostat_find); nil if there is none.
func (s *Set) Find(name string) *Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[name]
}

// Names are the names of all devices, with spaces between (hw.iostatnames).
func (s *Set) Names() string {
	var names []string
	for _, r := range s.Rows() {
		names = append(names, r.Name)
	}
	return strings.Join(names, " ")
}

// Rows lists the devices by name.
func (s *Set) Rows() []Row {
	s.mu.Lock()
	all := make([]*Stats, 0, len(s.m))
	for _, st := range s.m {
		all = append(all, st)
	}
	s.mu.Unlock()
	rows := make([]Row, len(all))
	for i, st := range all {
		rows[i] = st.Row()
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].Name < rows[j].Name })
	return rows
}

// Busy says that a transfer begins (iostat_busy).
func (st *Stats) Busy() {
	if st == nil {
		return
	}
	st.mu.Lock()
	st.tickLocked()
	st.busy++
	st.mu.Unlock()
}

// Unbusy says that it has ended, after so many bytes (iostat_unbusy). A
// transfer of none counts as none.
func (st *Stats) Unbusy(bytes int, read bool) {
	if st == nil {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.tickLocked()
	st.busy--
	switch {
	case bytes <= 0:
	case read:
		st.rxfer++
		st.rbytes += uint64(bytes)
	default:
		st.wxfer++
		st.wbytes += uint64(bytes)
	}
}

// Seek says that the position was moved (iostat_seek).
func (st *Stats) Seek() {
	if st == nil {
		return
	}
	st.mu.Lock()
	st.seeks++
	st.mu.Unlock()
}

// tickLocked adds the time since the last change if it was busy.
func (st *Stats) tickLocked() {
	now := time.Now()
	if st.busy > 0 {
		st.busysum += now.Sub(st.since)
	}
	st.since = now
}

// Row is the counts now.
func (st *Stats) Row() Row {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.tickLocked()
	return Row{st.name, st.typ, st.rxfer, st.rbytes, st.wxfer, st.wbytes, st.seeks, st.busy, int64(st.busysum), int64(st.since.Sub(st.attached))}
}
