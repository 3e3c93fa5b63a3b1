package store

import (
	"bytes"
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Session is a Store towards one process generation.
type Session struct {
	s *Store
}

var _ modapi.Store = (*Session)(nil)

func ended() error { return fmt.Errorf("store: %w", abi.ENXIO) }

// Get answers the value of a key.
func (x *Session) Get(_ context.Context, key []byte) ([]byte, error) {
	if err := modapi.CheckStoreKey(key); err != nil {
		return nil, err
	}
	s := x.s
	s.c.Gets.Inc()
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.now != x {
		return nil, ended()
	}
	v, ok := s.t.get(key)
	if !ok {
		return nil, abi.ENOENT
	}
	return bytes.Clone(v), nil
}

// Scan answers the records of a range, as many as it may at a time.
func (x *Session) Scan(_ context.Context, from, to []byte, max int) ([]modapi.StoreRec, error) {
	if err := modapi.CheckStoreRange(from, to, max); err != nil {
		return nil, err
	}
	s := x.s
	s.c.Scans.Inc()
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.now != x {
		return nil, ended()
	}
	var recs []modapi.StoreRec
	room := modapi.MaxStoreScan
	end := string(to)
	s.t.each(string(from), func(key string, val []byte) bool {
		if end != "" && key >= end || max > 0 && len(recs) == max {
			return false
		}
		if room -= 8 + len(key) + len(val); room < 0 {
			return false
		}
		b := make([]byte, len(key)+len(val))
		n := copy(b, key)
		copy(b[n:], val)
		recs = append(recs, modapi.StoreRec{Key: b[:n:n], Value: b[n:]})
		return true
	})
	return recs, nil
}

// Write changes records: all, or after an error none.
func (x *Session) Write(_ context.Context, ops []modapi.StoreOp) error {
	var bytes, need int64
	for i := range ops {
		if err := modapi.CheckStoreOp(&ops[i]); err != nil {
			return err
		}
		n := int64(len(ops[i].Key) + len(ops[i].Value))
		bytes += n
		// At worst it is a new record and a note in the log.
		need += n + 2*recordCost
	}
	s := x.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != x {
		return ended()
	}
	if s.o.Account != nil && need > 0 {
		if err := s.o.Account(need); err != nil {
			return fmt.Errorf("store: %d bytes more than %d: %w", need, s.held, abi.ENOMEM)
		}
	}
	s.held += need
	s.c.Writes.Add(uint64(len(ops)))
	s.c.Bytes.Add(uint64(bytes))
	s.giveLocked(need - s.applyLocked(ops))
	return nil
}

// applyLocked does the changes, and answers by how many bytes more is held.
func (s *Store) applyLocked(ops []modapi.StoreOp) (more int64) {
	for i := range ops {
		o := &ops[i]
		var u undo
		if o.Delete {
			key := string(o.Key)
			val, had := s.t.del(key)
			if !had {
				continue
			}
			u = undo{key, val, true}
			more -= cost(key, val)
		} else {
			key, old, had := s.t.put(o.Key, append(make([]byte, 0, len(o.Value)), o.Value...))
			u = undo{key, old, had}
			more += int64(len(o.Value)) - int64(len(old))
			if !had {
				more += recordCost + int64(len(key))
			}
		}
		s.undo = append(s.undo, u)
		n := u.cost()
		s.log += n
		more += n
	}
	return more
}

// put is set with the bytes of a key, which are copied if it is new. It answers
// the key of the record as well.
func (t *table) put(key, val []byte) (k string, old []byte, had bool) {
	i, j, ok := t.near(string(key))
	if ok {
		r := &t.leaves[i].recs[j]
		old, r.val = r.val, val
		return r.key, old, true
	}
	k = string(key)
	t.insert(i, j, rec{k, val})
	return k, nil, false
}
