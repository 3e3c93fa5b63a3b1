package bio

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// The redo file, IMAGE.rumpus-redo, makes the write-out of many blocks atomic:
// first they go to it, durably, then to the image, then it is removed. After a
// crash a complete one is replayed and an incomplete one removed.
//
// All numbers are little-endian. The file is a header of 64 bytes:
//
//	 0  8  magic "RMPREDO1"
//	 8  4  version, 1
//	12  4  0
//	16  8  size of the image, bytes
//	24 16  UUID of the image's file system, or 0
//	40  8  number of the image's file (inode), or 0
//	48  8  sequence, rises
//	56  4  0
//	60  4  CRC-32C of the 60 bytes before
//
// then entries, each a head of 24 bytes and its data:
//
//	 0  4  "ENTR"
//	 4  4  length of the data, bytes, 1 to 1 MiB
//	 8  8  offset in the image, bytes
//	16  4  CRC-32C of the data
//	20  4  CRC-32C of the 20 bytes before
//
// then the commit record of 40 bytes, behind which nothing counts:
//
//	 0  4  "CMIT"
//	 4  4  0
//	 8  8  number of entries
//	16  8  bytes of data of all entries
//	24  8  sequence
//	32  4  CRC-32C of all heads and the header before it
//	36  4  CRC-32C of the 36 bytes before
const (
	redoMagic   = "RMPREDO1"
	redoVersion = 1
	redoHeader  = 64
	redoEntry   = 24
	redoCommit  = 40
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func crc(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// RedoStore keeps the redo file of one image. The host has it beside the image.
// Each method is durable when it answers, but for the Writer's Write.
type RedoStore interface {
	// Open opens the file. ENOENT: there is none.
	Open(ctx context.Context) (RedoFile, error)
	// Create begins a new one, which nobody sees before Commit.
	Create(ctx context.Context) (RedoWriter, error)
	// Remove removes it; that there is none is no error.
	Remove(ctx context.Context) error
}

// RedoFile is a redo file that is read.
type RedoFile interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// RedoWriter writes a redo file. Exactly one of Commit and Abort ends it.
type RedoWriter interface {
	io.Writer
	// Commit makes what was written durable, then lets it take the place of
	// the file that was there, atomically and durably.
	Commit() error
	// Abort throws it away.
	Abort()
}

// ImageID says which image a redo file belongs to. What is zero is not known,
// and not compared.
type ImageID struct {
	Size int64 // bytes
	UUID [16]byte
	Ino  uint64
}

func (id ImageID) String() string {
	return fmt.Sprintf("%d bytes, uuid %x, file %d", id.Size, id.UUID, id.Ino)
}

// same reports whether two may be the same image.
func (id ImageID) same(o ImageID) bool {
	return (id.Size == 0 || o.Size == 0 || id.Size == o.Size) &&
		(id.UUID == [16]byte{} || o.UUID == [16]byte{} || id.UUID == o.UUID) &&
		(id.Ino == 0 || o.Ino == 0 || id.Ino == o.Ino)
}

// RedoEncoder writes a redo file.
type RedoEncoder struct {
	w     io.Writer
	sum   uint32 // of header and heads
	seq   uint64
	n     uint64
	bytes uint64
}

// NewRedoEncoder writes the header.
func NewRedoEncoder(w io.Writer, id ImageID, seq uint64) (*RedoEncoder, error) {
	var h [redoHeader]byte
	copy(h[:], redoMagic)
	le := binary.LittleEndian
	le.PutUint32(h[8:], redoVersion)
	le.PutUint64(h[16:], uint64(id.Size))
	copy(h[24:], id.UUID[:])
	le.PutUint64(h[40:], id.Ino)
	le.PutUint64(h[48:], seq)
	le.PutUint32(h[60:], crc(h[:60]))
	_, err := w.Write(h[:])
	return &RedoEncoder{w: w, sum: crc(h[:]), seq: seq}, err
}

// Entry adds data for an offset of the image.
func (e *RedoEncoder) Entry(off int64, data abi.Iov) error {
	var h [redoEntry]byte
	copy(h[:], "ENTR")
	le := binary.LittleEndian
	n := data.Len()
	le.PutUint32(h[4:], uint32(n))
	le.PutUint64(h[8:], uint64(off))
	var sum uint32
	for _, p := range data {
		sum = crc32.Update(sum, castagnoli, p)
	}
	le.PutUint32(h[16:], sum)
	le.PutUint32(h[20:], crc(h[:20]))
	if _, err := e.w.Write(h[:]); err != nil {
		return err
	}
	for _, p := range data {
		if _, err := e.w.Write(p); err != nil {
			return err
		}
	}
	e.sum = crc32.Update(e.sum, castagnoli, h[:])
	e.n++
	e.bytes += uint64(n)
	return nil
}

// Commit adds the commit record.
func (e *RedoEncoder) Commit() error {
	var h [redoCommit]byte
	copy(h[:], "CMIT")
	le := binary.LittleEndian
	le.PutUint64(h[8:], e.n)
	le.PutUint64(h[16:], e.bytes)
	le.PutUint64(h[24:], e.seq)
	le.PutUint32(h[32:], e.sum)
	le.PutUint32(h[36:], crc(h[:36]))
	_, err := e.w.Write(h[:])
	return err
}

// ErrIncomplete says that a redo file was not written to its end, or is
// damaged: what it has has not begun to go to the image, or all of it is there.
var ErrIncomplete = errors.New("incomplete redo file")

// Redo is what the header of a redo file says.
type Redo struct {
	ID      ImageID
	Seq     uint64
	Entries uint64 // set when all of it has been read
	Bytes   uint64
}

// ReadRedo reads a redo file of size bytes for an image, checks all of it, and
// calls fn for each entry; data is fn's during the call. ErrIncomplete when it
// does not end in a commit record or a checksum is wrong; EINVAL when it is
// complete and of another image or version, or has offsets outside of it. With
// a nil fn it only checks.
func ReadRedo(r io.ReaderAt, size int64, id ImageID, fn func(off int64, data []byte) error) (Redo, error) {
	var rd Redo
	le := binary.LittleEndian
	var h [redoHeader]byte
	at := int64(0)
	next := func(p []byte) error {
		if int64(len(p)) > size-at {
			return fmt.Errorf("it ends at %d: %w", size, ErrIncomplete)
		}
		if _, err := r.ReadAt(p, at); err != nil && !errors.Is(err, io.EOF) {
			return err
		} else if err != nil && at+int64(len(p)) < size {
			return fmt.Errorf("it ends before %d: %w", size, ErrIncomplete)
		}
		at += int64(len(p))
		return nil
	}
	if err := next(h[:]); err != nil {
		return rd, err
	}
	if string(h[:8]) != redoMagic || le.Uint32(h[60:]) != crc(h[:60]) {
		return rd, fmt.Errorf("no header: %w", ErrIncomplete)
	}
	rd.ID.Size, rd.ID.Ino, rd.Seq = int64(le.Uint64(h[16:])), le.Uint64(h[40:]), le.Uint64(h[48:])
	copy(rd.ID.UUID[:], h[24:])
	sum := crc(h[:])
	if v := le.Uint32(h[8:]); v != redoVersion {
		return rd, fmt.Errorf("redo file of version %d: %w", v, abi.EINVAL)
	}
	if !id.same(rd.ID) {
		return rd, fmt.Errorf("the redo file belongs to another image (%v, this one is %v): %w", rd.ID, id, abi.EINVAL)
	}
	most := rd.ID.Size
	if most == 0 {
		most = id.Size
	}
	var buf []byte
	for {
		e := h[:redoEntry]
		if err := next(e); err != nil {
			return rd, err
		}
		if string(e[:4]) == "CMIT" {
			c := h[:redoCommit]
			if err := next(c[redoEntry:]); err != nil {
				return rd, err
			}
			if le.Uint32(c[36:]) != crc(c[:36]) || le.Uint32(c[32:]) != sum || le.Uint64(c[8:]) != rd.Entries ||
				le.Uint64(c[16:]) != rd.Bytes || le.Uint64(c[24:]) != rd.Seq {
				return rd, fmt.Errorf("its commit record is wrong: %w", ErrIncomplete)
			}
			return rd, nil
		}
		n, off := int64(le.Uint32(e[4:])), le.Uint64(e[8:])
		want := le.Uint32(e[16:])
		switch {
		case string(e[:4]) != "ENTR", le.Uint32(e[20:]) != crc(e[:20]), n == 0 || n > devops.MaxPhys:
			return rd, fmt.Errorf("entry %d is none: %w", rd.Entries, ErrIncomplete)
		case off > 1<<62, most != 0 && int64(off) > most-n:
			return rd, fmt.Errorf("entry %d is for %d bytes at %d, outside of the image: %w", rd.Entries, n, off, abi.EINVAL)
		}
		sum = crc32.Update(sum, castagnoli, e)
		if n > size-at {
			return rd, fmt.Errorf("entry %d is cut off: %w", rd.Entries, ErrIncomplete)
		}
		if int64(cap(buf)) < n {
			buf = make([]byte, n)
		}
		buf = buf[:n]
		if err := next(buf); err != nil {
			return rd, err
		}
		if crc(buf) != want {
			return rd, fmt.Errorf("the data of entry %d are wrong: %w", rd.Entries, ErrIncomplete)
		}
		rd.Entries++
		rd.Bytes += uint64(n)
		if fn != nil {
			if err := fn(int64(off), buf); err != nil {
				return rd, err
			}
		}
	}
}

// writeRedo makes a durable redo file of versions.
func (l *Layered) writeRedo(ctx context.Context, seq uint64, vers []*version) error {
	w, err := l.o.Redo.Create(ctx)
	if err != nil {
		return err
	}
	id := l.o.ID
	id.Size = l.base.geom.Size
	e, err := NewRedoEncoder(w, id, seq)
	for _, sg := range l.segments(vers) {
		if err == nil {
			err = e.Entry(sg.off, sg.data)
		}
	}
	if err == nil {
		err = e.Commit()
	}
	if err != nil {
		w.Abort()
		return err
	}
	return w.Commit()
}

// recover replays the redo file, if there is one.
func (l *Layered) recover(ctx context.Context, write bool) error {
	f, err := l.o.Redo.Open(ctx)
	if errors.Is(err, abi.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("redo file of device %v: %w", l.base.dev, err)
	}
	defer f.Close()
	id := l.o.ID
	id.Size = l.base.geom.Size
	log := l.base.s.log
	rd, err := ReadRedo(f, f.Size(), id, nil)
	switch {
	case errors.Is(err, ErrIncomplete):
		log.Info("an incomplete redo file is ignored", "device", l.base.dev.String(), "why", err)
		if !write {
			return nil
		}
		return l.o.Redo.Remove(ctx)
	case err != nil:
		return fmt.Errorf("redo file of device %v: %w", l.base.dev, err)
	}
	l.seq = rd.Seq
	log.Info("a redo file is replayed", "device", l.base.dev.String(), "entries", rd.Entries, "bytes", rd.Bytes)
	if !write { // the device cannot be written: what it should have lies over it
		_, err := ReadRedo(f, f.Size(), id, func(off int64, data []byte) error {
			return l.writeAt(ctx, 0, data, off, 0)
		})
		l.Checkpoint(0, 0)
		return err
	}
	_, err = ReadRedo(f, f.Size(), id, func(off int64, data []byte) error {
		_, err := l.base.WriteAt(ctx, data, off, false)
		return err
	})
	if err == nil {
		err = l.base.Flush(ctx)
	}
	if err == nil {
		err = l.o.Redo.Remove(ctx)
	}
	if err != nil {
		return fmt.Errorf("replay of the redo file of device %v: %w", l.base.dev, err)
	}
	l.base.s.cnt.replayed.Inc()
	return nil
}
