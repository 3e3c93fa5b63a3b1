// Package store is the host's end of modapi.Store: the memory in which a
// mounted file system keeps what its next process must find.
//
// The words. A record is a key and a value. What a process has written since
// the last Commit is pending. A session is what one process generation has of a
// Store: opening another one ends it, so that what the old process sent last,
// and is still on its way, finds nothing to spoil.
//
// The usual sequence, for each mount of a file system with
// vfsops.CapCheckpoint:
//
//	s := store.New(store.Options{...})
//	x := s.Open()                 // given to the component at Mount
//	fs.Checkpoint(ctx, seq)       // it writes, by x
//	x.Commit(seq)                 // valid from here on
//	... it dies ...
//	s.Drop()                      // pending is undone, x is ended
//	x = s.Open()                  // for the next; mounted with Seq: s.Seq()
//	s.Close()                     // after unmount
//
// # How it works
//
// The records are in one ordered table, which a write changes at once: it notes
// in a log how it was before. So Commit only forgets the log, and Drop takes it
// back, newest first: a checkpoint costs what the changes cost to write, however
// many records there are, and nothing is copied at a restart. Readers see the
// table as it is: valid, with their own pending changes.
//
// # What it costs
//
// Keys, values, a constant for each record, and what the log holds are counted
// (Options.Account), before they are taken: a Write that would exceed the
// limit is ENOMEM and changes nothing.
//
// # Locks
//
//	Store.mu    all of it; leaf, but for Options.Account
//
// Nothing here waits for a component.
package store

import (
	"fmt"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// recordCost is what a record takes beside its key and value, about, in bytes.
const recordCost = 64

// Options of a Store.
type Options struct {
	// Account counts memory: n bytes are about to be taken, or n < 0 have been
	// given back. An error, for taking only, refuses them. It must not call
	// the Store. nil: nobody counts.
	Account func(n int64) error
	// Counters, perhaps shared by several; nil: nobody counts.
	Counters *Counters
}

// Counters are event counters of stores.
type Counters struct {
	Gets    *modapi.Counter // store_gets: values asked for
	Scans   *modapi.Counter // store_scans
	Writes  *modapi.Counter // store_writes: records set or deleted
	Bytes   *modapi.Counter // store_bytes: of keys and values written
	Commits *modapi.Counter // store_commits
	Drops   *modapi.Counter // store_drops: of pending changes, at a death
	Undone  *modapi.Counter // store_undone: records put back by drops
}

// NewCounters makes the counters, by the kernel's evcnt attach.
func NewCounters(attach func(group, name string) *modapi.Counter) *Counters {
	at := func(name string) *modapi.Counter { return attach("store", name) }
	return &Counters{Gets: at("gets"), Scans: at("scans"), Writes: at("writes"), Bytes: at("bytes"),
		Commits: at("commits"), Drops: at("drops"), Undone: at("undone")}
}

// discard makes counters that nobody reads.
func discard() *Counters {
	return NewCounters(func(string, string) *modapi.Counter { return new(modapi.Counter) })
}

// Store is the Store of one mount.
type Store struct {
	o Options
	c *Counters

	mu     sync.RWMutex
	t      table
	undo   []undo
	now    *Session // nil: nobody may use it
	seq    abi.OpSeq
	ckpt   abi.Ckpt
	held   int64 // bytes counted
	log    int64 // of these, those of the log
	closed bool
}

// undo is how a record was before a write.
type undo struct {
	key string
	val []byte
	had bool
}

func (u *undo) cost() int64 {
	return recordCost + int64(len(u.val)) // the key is the record's, mostly
}

// New makes an empty one, with Seq 0.
func New(o Options) *Store {
	s := &Store{o: o, c: o.Counters}
	if s.c == nil {
		s.c = discard()
	}
	return s
}

// Open starts the session of a new process generation. An earlier one ends, as
// by Drop.
func (s *Store) Open() *Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked()
	x := &Session{s: s}
	if !s.closed {
		s.now = x
	}
	return x
}

// Drop ends the session, and undoes what was pending. To be called as soon as
// the process is known to be dead.
func (s *Store) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked()
}

func (s *Store) dropLocked() {
	if s.now == nil {
		return
	}
	s.now = nil
	s.c.Drops.Inc()
	s.c.Undone.Add(uint64(len(s.undo)))
	var back int64
	for i := len(s.undo) - 1; i >= 0; i-- {
		u := &s.undo[i]
		if u.had {
			old, had := s.t.set(u.key, u.val)
			if had {
				back += int64(len(old)) - int64(len(u.val))
			} else {
				back -= cost(u.key, u.val)
			}
		} else if old, had := s.t.del(u.key); had {
			back += cost(u.key, old)
		}
	}
	s.undo = nil
	s.giveLocked(back + s.log)
	s.log = 0
}

// giveLocked counts n bytes as given back; n < 0 takes what nobody refuses:
// it was held by the log until now.
func (s *Store) giveLocked(n int64) {
	s.held -= n
	if s.o.Account != nil && n != 0 {
		s.o.Account(-n)
	}
}

func cost(key string, val []byte) int64 { return recordCost + int64(len(key)+len(val)) }

// Seq is the mutator that the last commit is complete to; 0: there was none.
func (s *Store) Seq() abi.OpSeq {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.seq
}

// Ckpt counts the commits.
func (s *Store) Ckpt() abi.Ckpt {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.ckpt
}

// Stats say how large a Store is.
type Stats struct {
	Records int   // valid and pending
	Bytes   int64 // of memory, the log included
	Pending int   // changes since the last commit
}

// Stats answers how large it is.
func (s *Store) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return Stats{Records: s.t.n, Bytes: s.held, Pending: len(s.undo)}
}

// Each calls f with every record in the order of keys until it answers false.
// Without a session (Drop) that is the last checkpoint. Key and value are only
// to be read.
func (s *Store) Each(f func(key string, value []byte) bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.t.each("", f)
}

// Close ends the session and frees all of it. The Store stays empty.
func (s *Store) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.closed = nil, true
	s.t, s.undo = table{}, nil
	s.giveLocked(s.held)
	s.log = 0
}

// Commit makes what is pending valid, as of seq. ENXIO if the session has
// ended: then nothing has changed. EINVAL if seq is less than the last one's.
func (x *Session) Commit(seq abi.OpSeq) error {
	s := x.s
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.now != x:
		return fmt.Errorf("store: commit of %d: %w", seq, abi.ENXIO)
	case seq < s.seq || seq == 0:
		return fmt.Errorf("store: commit of %d after %d: %w", seq, s.seq, abi.EINVAL)
	}
	s.seq = seq
	s.ckpt++
	s.c.Commits.Inc()
	if cap(s.undo) > keepUndo {
		s.undo = nil
	} else {
		clear(s.undo)
		s.undo = s.undo[:0]
	}
	s.giveLocked(s.log)
	s.log = 0
	return nil
}

// keepUndo is the largest log whose room is kept, in changes.
const keepUndo = 1 << 14
