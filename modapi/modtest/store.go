package modtest

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Store is the Store of a mount as simply as it can be said.
type Store struct {
	mu      sync.Mutex
	valid   map[string][]byte
	pending map[string][]byte // nil value: deleted
	keys    []string          // all of both, in order; nil: to be made
	now     *session
	seq     abi.OpSeq
	writes  int
}

// session is what one process generation has of a Store.
type session struct{ s *Store }

var _ modapi.Store = (*session)(nil)

// NewStore makes an empty one.
func NewStore() *Store {
	s := &Store{valid: map[string][]byte{}}
	s.Reopen()
	return s
}

// Reopen is the death of who uses it: what is pending is dropped, and what was
// given out before answers ENXIO from now on.
func (s *Store) Reopen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending, s.keys = map[string][]byte{}, nil
	s.now = &session{s}
}

// Commit makes what is pending valid, as of seq.
func (s *Store) Commit(seq abi.OpSeq) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.pending {
		if v == nil {
			delete(s.valid, k)
		} else {
			s.valid[k] = v
		}
	}
	s.pending = map[string][]byte{}
	s.seq = seq
}

// Seq is that of the last Commit.
func (s *Store) Seq() abi.OpSeq {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seq
}

// Records are the valid records; Writes how many changes were written so far.
func (s *Store) Records() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.valid)
}

// Writes is how many changes were written so far.
func (s *Store) Writes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes
}

// Store is the Store for who uses it now.
func (s *Store) Store() modapi.Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// enter locks the store for one that has not been replaced.
func (x *session) enter() (leave func(), err error) {
	x.s.mu.Lock()
	if x.s.now != x {
		x.s.mu.Unlock()
		return nil, abi.ENXIO
	}
	return x.s.mu.Unlock, nil
}

// Get answers a value.
func (x *session) Get(_ context.Context, key []byte) ([]byte, error) {
	if err := modapi.CheckStoreKey(key); err != nil {
		return nil, err
	}
	leave, err := x.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	v, ok := x.s.pending[string(key)]
	if !ok {
		v = x.s.valid[string(key)]
	}
	if v == nil {
		return nil, abi.ENOENT
	}
	return bytes.Clone(v), nil
}

// Scan answers records in order.
func (x *session) Scan(_ context.Context, from, to []byte, max int) ([]modapi.StoreRec, error) {
	if err := modapi.CheckStoreRange(from, to, max); err != nil {
		return nil, err
	}
	leave, err := x.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	s := x.s
	if s.keys == nil {
		all := maps.Clone(s.valid)
		maps.Copy(all, s.pending)
		s.keys = slices.Sorted(maps.Keys(all))
	}
	var recs []modapi.StoreRec
	room := modapi.MaxStoreScan
	first, _ := slices.BinarySearch(s.keys, string(from))
	for _, k := range s.keys[first:] {
		if len(to) > 0 && k >= string(to) {
			break
		}
		v, ok := s.pending[k]
		if !ok {
			v = s.valid[k]
		}
		if v == nil {
			continue
		}
		if room -= 8 + len(k) + len(v); room < 0 || max > 0 && len(recs) == max {
			break
		}
		recs = append(recs, modapi.StoreRec{Key: []byte(k), Value: bytes.Clone(v)})
	}
	return recs, nil
}

// Write changes records.
func (x *session) Write(_ context.Context, ops []modapi.StoreOp) error {
	for i := range ops {
		if err := modapi.CheckStoreOp(&ops[i]); err != nil {
			return err
		}
	}
	leave, err := x.enter()
	if err != nil {
		return err
	}
	defer leave()
	x.s.keys = nil
	for _, o := range ops {
		x.s.writes++
		x.s.pending[string(o.Key)] = nil
		if !o.Delete {
			x.s.pending[string(o.Key)] = append([]byte{}, o.Value...)
		}
	}
	return nil
}

// StoreOf is the Store of a mount, made when it is asked for.
func (k *Kernel) StoreOf(mount abi.Fsid) *Store {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.stores[mount]
	if s == nil {
		s = NewStore()
		k.stores[mount] = s
	}
	return s
}

// Store is the Store of any mount.
func (k *Kernel) Store(mount abi.Fsid) modapi.Store { return k.StoreOf(mount).Store() }
