package wlog

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

const (
	fileMagic  = "RMPWLOG1"
	fileHeader = 32
	recHeader  = 40
	maxData    = 1 << 30 // bytes of one record, or of the image
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// WriteTo writes the log as a file.
func (l *Log) WriteTo(w io.Writer) (int64, error) {
	le := binary.LittleEndian
	cw := &counter{w: bufio.NewWriterSize(w, 1<<16)}
	var h [recHeader]byte
	copy(h[:], fileMagic)
	le.PutUint32(h[8:], l.Sector)
	le.PutUint64(h[16:], uint64(len(l.Base)))
	le.PutUint64(h[24:], uint64(len(l.Recs)))
	le.PutUint32(h[12:], headSum(h[:fileHeader]))
	cw.write(h[:fileHeader])
	cw.write(l.Base)
	for _, r := range l.Recs {
		le.PutUint32(h[0:], uint32(r.Kind))
		le.PutUint32(h[4:], r.Flags)
		le.PutUint64(h[8:], r.Seq)
		le.PutUint64(h[16:], uint64(r.Off))
		le.PutUint64(h[24:], uint64(r.Length))
		le.PutUint32(h[32:], uint32(len(r.Data)))
		le.PutUint32(h[36:], crc32.Update(crc32.Checksum(h[:36], castagnoli), castagnoli, r.Data))
		cw.write(h[:])
		cw.write(r.Data)
	}
	if cw.err == nil {
		cw.err = cw.w.Flush()
	}
	return cw.n, cw.err
}

func headSum(h []byte) uint32 {
	return crc32.Update(crc32.Checksum(h[:12], castagnoli), castagnoli, h[16:fileHeader])
}

type counter struct {
	w   *bufio.Writer
	n   int64
	err error
}

func (c *counter) write(p []byte) {
	if c.err == nil {
		var n int
		n, c.err = c.w.Write(p)
		c.n += int64(n)
	}
}

// ReadLog reads a log file and checks it. EINVAL for what is none, or damaged,
// or has records outside of the image.
func ReadLog(r io.Reader) (*Log, error) {
	le := binary.LittleEndian
	var h [recHeader]byte
	bad := func(format string, args ...any) error {
		return fmt.Errorf("write log: %s: %w", fmt.Sprintf(format, args...), abi.EINVAL)
	}
	if _, err := io.ReadFull(r, h[:fileHeader]); err != nil {
		return nil, bad("no header: %v", err)
	}
	l := &Log{Sector: le.Uint32(h[8:])}
	size, n := le.Uint64(h[16:]), le.Uint64(h[24:])
	switch {
	case string(h[:8]) != fileMagic:
		return nil, bad("no magic")
	case le.Uint32(h[12:]) != headSum(h[:fileHeader]):
		return nil, bad("its header is damaged")
	case l.Sector < 512 || l.Sector > 64<<10 || l.Sector&(l.Sector-1) != 0 || size > maxData || size%uint64(l.Sector) != 0:
		return nil, bad("an image of %d bytes in sectors of %d", size, l.Sector)
	}
	var err error
	if l.Base, err = readData(r, int64(size)); err != nil {
		return nil, bad("the image: %v", err)
	}
	for i := range n {
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return nil, bad("record %d of %d: %v", i, n, err)
		}
		rec := Rec{Kind: Kind(le.Uint32(h[0:])), Flags: le.Uint32(h[4:]), Seq: le.Uint64(h[8:]), Off: int64(le.Uint64(h[16:])), Length: int64(le.Uint64(h[24:]))}
		data := int64(le.Uint32(h[32:]))
		if data > maxData {
			return nil, bad("record %d has %d bytes", i, data)
		}
		if rec.Data, err = readData(r, data); err != nil {
			return nil, bad("record %d: %v", i, err)
		}
		if le.Uint32(h[36:]) != crc32.Update(crc32.Checksum(h[:36], castagnoli), castagnoli, rec.Data) {
			return nil, bad("record %d is damaged", i)
		}
		if why := rec.wrong(i+1, int64(size), int64(l.Sector)); why != "" {
			return nil, bad("record %d: %s", i, why)
		}
		l.Recs = append(l.Recs, rec)
	}
	return l, nil
}

// wrong says what is wrong with a record.
func (r *Rec) wrong(seq uint64, size, sector int64) string {
	switch r.Kind {
	case Write, Discard, Zeroes:
		switch {
		case r.Off < 0 || r.Length <= 0 || r.Length > size || r.Off > size-r.Length || r.Off%sector != 0 || r.Length%sector != 0:
			return fmt.Sprintf("%d bytes at %d are not in the image", r.Length, r.Off)
		case r.Kind == Write && int64(len(r.Data)) != r.Length:
			return fmt.Sprintf("%d bytes of data for %d", len(r.Data), r.Length)
		}
	case Flush:
		if r.Off < 0 || uint64(r.Off) >= seq {
			return fmt.Sprintf("a flush of what comes later, %d", r.Off)
		}
	case RedoPut, RedoRemove, Mark:
	default:
		return fmt.Sprintf("kind %d", r.Kind)
	}
	if r.Seq != seq {
		return fmt.Sprintf("seq %d instead of %d", r.Seq, seq)
	}
	return ""
}

// readData reads n bytes, without believing that there are so many.
func readData(r io.Reader, n int64) ([]byte, error) {
	if n <= 1<<20 {
		p := make([]byte, n)
		_, err := io.ReadFull(r, p)
		return p, err
	}
	p, err := io.ReadAll(io.LimitReader(r, n))
	if err == nil && int64(len(p)) != n {
		err = io.ErrUnexpectedEOF
	}
	return p, err
}
