package wlog

import (
	"context"
	"slices"
	"sync"

	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// Kind is what a record is.
type Kind uint32

// The kinds, as in the file.
const (
	Write Kind = 1 + iota
	Flush
	Discard
	Zeroes
	RedoPut    // a redo file is there, whole: Data
	RedoRemove // and gone
	Mark       // the test's own: something was promised
)

// Flags of a record.
const FUA = 1

// Rec is a record of a Log.
type Rec struct {
	Kind   Kind
	Flags  uint32
	Seq    uint64 // from 1
	Off    int64  // of a Flush: the seq of the last write that it covers
	Length int64
	Data   []byte
}

// Log is a base image and what was written to it.
type Log struct {
	Sector uint32
	Base   []byte
	Recs   []Rec
}

// Recorder is a bio.Device that records what goes to another.
type Recorder struct {
	// LoseFlushes and LoseRedo answer flushes and redo files without doing
	// them: defects that a test must find.
	LoseFlushes, LoseRedo bool

	dev bio.Device

	mu     sync.Mutex
	log    Log
	flying map[uint64]bool // writes not yet answered
	redo   []byte
}

var _ bio.Device = (*Recorder)(nil)

// Record records what goes to m from now on.
func Record(m *Mem) *Recorder { return RecordDevice(m, m.Image(), m.geom.Sector) }

// RecordDevice records what goes to any device, whose contents are base now.
func RecordDevice(d bio.Device, base []byte, sector uint32) *Recorder {
	return &Recorder{dev: d, log: Log{Sector: sector, Base: base}, flying: map[uint64]bool{}}
}

// Log is what was recorded so far.
func (r *Recorder) Log() *Log {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &Log{r.log.Sector, r.log.Base, slices.Clone(r.log.Recs)}
}

func (r *Recorder) addLocked(rec Rec) uint64 {
	rec.Seq = uint64(len(r.log.Recs)) + 1
	r.log.Recs = append(r.log.Recs, rec)
	return rec.Seq
}

// Mark records that something was promised: data is the test's.
func (r *Recorder) Mark(data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addLocked(Rec{Kind: Mark, Data: slices.Clone(data)})
}

// Geometry is bio.Device.
func (r *Recorder) Geometry(ctx context.Context) (devops.Geom, error) { return r.dev.Geometry(ctx) }

// Up is bio.Device.
func (r *Recorder) Up(ctx context.Context, died error) error { return r.dev.Up(ctx, died) }

// Close is bio.Device.
func (r *Recorder) Close(ctx context.Context) error { return r.dev.Close(ctx) }

// Strategy is bio.Device. A write is recorded when it comes, a flush when it is
// answered, with what it covers.
func (r *Recorder) Strategy(ctx context.Context, b *devops.Buf) error {
	off := b.Blkno * devops.DevBsize
	rec := Rec{Off: off, Length: b.Bytes}
	switch b.Flags & devops.BOpMask {
	case devops.BRead:
		return r.dev.Strategy(ctx, b)
	case devops.BFlush:
		if r.LoseFlushes {
			return nil
		}
		r.mu.Lock()
		covers := uint64(len(r.log.Recs))
		for seq := range r.flying {
			covers = min(covers, seq-1)
		}
		r.mu.Unlock()
		if err := r.dev.Strategy(ctx, b); err != nil {
			return err
		}
		r.mu.Lock()
		r.addLocked(Rec{Kind: Flush, Off: int64(covers)})
		r.mu.Unlock()
		return nil
	case devops.BWrite:
		rec.Kind, rec.Data = Write, make([]byte, b.Bytes)
		b.Data.CopyOut(rec.Data)
	case devops.BDiscard:
		rec.Kind = Discard
	case devops.BZeroes:
		rec.Kind = Zeroes
	}
	if b.Flags&devops.BFua != 0 {
		rec.Flags |= FUA
	}
	r.mu.Lock()
	seq := r.addLocked(rec)
	r.flying[seq] = true
	r.mu.Unlock()
	err := r.dev.Strategy(ctx, b)
	r.mu.Lock()
	delete(r.flying, seq)
	r.mu.Unlock()
	return err
}

// Redo is a bio.RedoStore in memory, recorded with the device.
func (r *Recorder) Redo() bio.RedoStore { return &MemRedo{rec: r} }

// MemRedo is a redo store in memory.
type MemRedo struct {
	// Fault is asked before each Commit and Remove. Nil: nothing fails.
	Fault func(what string) error

	rec *Recorder // nil: nobody records

	mu   sync.Mutex
	data []byte // nil: there is none
}

// NewMemRedo makes a store with a redo file; nil: without.
func NewMemRedo(data []byte) *MemRedo { return &MemRedo{data: data} }

type memRedoFile struct{ data []byte }

func (f memRedoFile) Size() int64  { return int64(len(f.data)) }
func (f memRedoFile) Close() error { return nil }
func (f memRedoFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(f.data)) {
		return 0, abi.EINVAL
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, abi.EIO
	}
	return n, nil
}

// Data is the redo file, nil if there is none.
func (s *MemRedo) Data() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data
}

// Open is bio.RedoStore.
func (s *MemRedo) Open(context.Context) (bio.RedoFile, error) {
	if d := s.Data(); d != nil {
		return memRedoFile{d}, nil
	}
	return nil, abi.ENOENT
}

// Create is bio.RedoStore.
func (s *MemRedo) Create(context.Context) (bio.RedoWriter, error) { return &memRedoWriter{s: s}, nil }

// Remove is bio.RedoStore.
func (s *MemRedo) Remove(context.Context) error {
	if s.Fault != nil {
		if err := s.Fault("remove"); err != nil {
			return err
		}
	}
	s.set(nil)
	return nil
}

func (s *MemRedo) set(d []byte) {
	s.mu.Lock()
	s.data = d
	s.mu.Unlock()
	if r := s.rec; r != nil && !r.LoseRedo {
		r.mu.Lock()
		defer r.mu.Unlock()
		if d == nil {
			r.addLocked(Rec{Kind: RedoRemove})
		} else {
			r.addLocked(Rec{Kind: RedoPut, Data: d})
		}
	}
}

type memRedoWriter struct {
	s    *MemRedo
	data []byte
}

func (w *memRedoWriter) Write(p []byte) (int, error) {
	w.data = append(w.data, p...)
	return len(p), nil
}

func (w *memRedoWriter) Commit() error {
	if w.s.Fault != nil {
		if err := w.s.Fault("commit"); err != nil {
			return err
		}
	}
	w.s.set(w.data)
	return nil
}

func (w *memRedoWriter) Abort() {}
