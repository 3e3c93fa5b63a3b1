package bio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// RedoSuffix is what the redo file's name has behind the image's.
const RedoSuffix = ".rumpus-redo"

// RedoHost is what of hypercalls a FileRedo needs (hyper.Hyper).
type RedoHost interface {
	OpenFile(ctx context.Context, o hyper.FileOpen) (hyper.File, error)
	RemoveFile(path string) error
}

// FileRedo is a RedoStore of the host: IMAGE.rumpus-redo, and a second file,
// IMAGE.rumpus-redo.2, for a new one while the first still counts. Of two that
// are complete the later sequence counts. Between write-outs the files are
// there and empty, which costs one sync less than making them each time; Close
// removes them. They are not locked: who has locked the image has them.
type FileRedo struct {
	h RedoHost

	mu    sync.Mutex
	slots [2]redoSlot
	last  int // the slot that counts if both are complete
}

// redoSlot is one of the files; protected by FileRedo.mu.
type redoSlot struct {
	path string
	f    hyper.File // nil: not open
	full bool       // it counts
	left bool       // it was there when somebody looked: of a process before
}

var _ RedoStore = (*FileRedo)(nil)

// NewFileRedo is the redo store of an image of the host. Nothing is opened yet.
func NewFileRedo(h RedoHost, imagePath string) *FileRedo {
	p := imagePath + RedoSuffix
	return &FileRedo{h: h, slots: [2]redoSlot{{path: p}, {path: p + ".2"}}}
}

// hostRedo reads a file of the host.
type hostRedo struct {
	f    hyper.File
	size int64
}

func (r hostRedo) Size() int64  { return r.size }
func (r hostRedo) Close() error { return r.f.Close() }
func (r hostRedo) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.f.ReadAt(abi.IovOf(p), off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// Open is RedoStore.
func (s *FileRedo) Open(ctx context.Context) (RedoFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var best *hostRedo
	var bestSeq uint64
	whole := false
	for i := range s.slots {
		sl := &s.slots[i]
		sl.close()
		f, err := s.h.OpenFile(ctx, hyper.FileOpen{Path: sl.path, ReadOnly: true, NoLock: true})
		if errors.Is(err, abi.ENOENT) {
			sl.full, sl.left = false, false
			continue
		}
		if err != nil {
			return nil, errors.Join(err, best.end())
		}
		info, err := f.Info()
		if err != nil {
			f.Close()
			return nil, errors.Join(err, best.end())
		}
		sl.left = true
		r := &hostRedo{f, info.Size}
		if sl.full = info.Size > 0; !sl.full {
			r.end()
			continue
		}
		rd, err := ReadRedo(r, info.Size, ImageID{}, nil)
		if err != nil && !errors.Is(err, ErrIncomplete) && !errors.Is(err, abi.EINVAL) {
			return nil, errors.Join(err, r.end(), best.end())
		}
		// One that is refused says why; one that is incomplete gives way.
		ok := !errors.Is(err, ErrIncomplete)
		if best == nil || ok && (!whole || rd.Seq > bestSeq) {
			best.end()
			best, bestSeq, whole, s.last = r, rd.Seq, ok, i
		} else {
			r.end()
		}
	}
	if best == nil {
		return nil, fmt.Errorf("%s: %w", s.slots[0].path, abi.ENOENT)
	}
	return *best, nil
}

func (r *hostRedo) end() error {
	if r == nil {
		return nil
	}
	return r.f.Close()
}

func (sl *redoSlot) close() {
	if sl.f != nil {
		sl.f.Close()
		sl.f = nil
	}
}

// Create is RedoStore.
func (s *FileRedo) Create(ctx context.Context) (RedoWriter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl := &s.slots[0]
	if sl.full {
		sl = &s.slots[1]
	}
	if err := s.emptyLocked(ctx, sl); err != nil {
		return nil, err
	}
	return &fileRedoWriter{ctx: ctx, s: s, sl: sl}, nil
}

// emptyLocked opens a slot's file and makes it empty, durably if it counted.
func (s *FileRedo) emptyLocked(ctx context.Context, sl *redoSlot) error {
	if sl.f == nil {
		f, err := s.h.OpenFile(ctx, hyper.FileOpen{Path: sl.path, Create: true, NoLock: true})
		if err != nil {
			return err
		}
		sl.f = f
	}
	if err := sl.f.Truncate(0); err != nil {
		return err
	}
	if sl.full {
		if err := sl.f.Sync(); err != nil {
			return err
		}
	}
	sl.full = false
	return nil
}

// Remove is RedoStore: what counts does not any more.
func (s *FileRedo) Remove(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range [2]int{1 - s.last, s.last} { // an older one must not outlive it
		if s.slots[i].full {
			if err := s.emptyLocked(ctx, &s.slots[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close closes the files, and removes those that say nothing.
func (s *FileRedo) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first error
	for i := range s.slots {
		sl := &s.slots[i]
		if sl.f == nil && !sl.left {
			continue
		}
		sl.close()
		if !sl.full {
			sl.left = false
			if err := s.h.RemoveFile(sl.path); err != nil && first == nil {
				first = err
			}
		}
	}
	return first
}

// fileRedoWriter writes a redo file in large pieces.
type fileRedoWriter struct {
	ctx context.Context
	s   *FileRedo
	sl  *redoSlot
	buf []byte
	off int64
}

const redoPiece = 1 << 20

func (w *fileRedoWriter) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	if len(w.buf) >= redoPiece {
		if err := w.flush(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (w *fileRedoWriter) flush() error {
	n, err := w.sl.f.WriteAt(abi.IovOf(w.buf), w.off, false)
	if err == nil && n < len(w.buf) {
		err = abi.EIO
	}
	w.off += int64(n)
	w.buf = w.buf[:0]
	return err
}

// Commit makes it durable; the one before it goes.
func (w *fileRedoWriter) Commit() error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.sl.f.Sync(); err != nil {
		return err
	}
	w.sl.full = true
	if w.sl == &w.s.slots[1] {
		w.s.last = 1
	} else {
		w.s.last = 0
	}
	if o := &w.s.slots[1-w.s.last]; o.full {
		return w.s.emptyLocked(w.ctx, o)
	}
	return nil
}

// Abort leaves an incomplete file, which the next one overwrites.
func (w *fileRedoWriter) Abort() {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	_ = w.sl.f.Truncate(0)
}
