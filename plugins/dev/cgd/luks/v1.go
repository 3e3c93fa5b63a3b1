package luks

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// The LUKS1 header: specification 1.2.3, figures 1 and 2. Big-endian.
const (
	size1     = 592
	slots1    = 8
	slotSize1 = 48
	enabled1  = 0x00ac71f3
	disabled1 = 0x0000dead
)

// maxStripes bounds the anti-forensic splitter; cryptsetup always takes 4000.
const maxStripes = 8192

func (h *Header) read1(dev io.ReaderAt) error {
	p := make([]byte, size1)
	if err := readFull(dev, h.size, p, 0); err != nil {
		return fmt.Errorf("LUKS1 header: %w", err)
	}
	be := binary.BigEndian
	hash, keySize := text(p[72:104]), int(be.Uint32(p[108:]))
	h.Version, h.UUID = 1, text(p[168:208])
	h.seg = segment{
		off:    int64(be.Uint32(p[104:])) * 512,
		cipher: text(p[8:40]) + "-" + text(p[40:72]), sectorSize: 512,
	}
	if !keySizeOK(keySize) {
		return fmt.Errorf("LUKS1: a volume key of %d bytes: %w", keySize, abi.EIO)
	}
	if h.seg.off == 0 {
		return fmt.Errorf("LUKS1: a detached header is not supported: %w", abi.EINVAL)
	}
	d := digest{hash: hash, want: p[112:132:132], salt: p[132:164:164], iter: uint64(be.Uint32(p[164:]))}
	for i := range slots1 {
		q := p[208+i*slotSize1:][:slotSize1]
		switch state := be.Uint32(q); state {
		case disabled1:
			continue
		case enabled1:
		default:
			h.note("key slot %d has the state %#x", i, state)
			continue
		}
		s := Slot{
			ID: i, KDF: "pbkdf2", Priority: 1, keySize: keySize, cipher: h.seg.cipher, areaKey: keySize,
			off: int64(be.Uint32(q[40:])) * 512, stripes: int(be.Uint32(q[44:])), afHash: hash,
			salt: q[8:40:40], hash: hash, iter: uint64(be.Uint32(q[4:])),
		}
		s.len = h.seg.off - s.off
		if s.stripes < 1 || s.stripes > maxStripes || s.off < size1 {
			s.Err = fmt.Errorf("%d stripes at %d: %w", s.stripes, s.off, abi.EIO)
		}
		h.Slots = append(h.Slots, s)
		d.slots = append(d.slots, i)
	}
	h.digests = []digest{d}
	return nil
}

func (h *Header) note(format string, a ...any) { h.Notes = append(h.Notes, fmt.Sprintf(format, a...)) }

// keySizeOK bounds keys: AES-XTS wants 64 bytes at most.
func keySizeOK(n int) bool { return n >= 16 && n <= 64 && n%8 == 0 }

// text is a string that ends at its first NUL; what does not print is replaced.
func text(p []byte) string {
	var r []byte
	for _, c := range p {
		if c == 0 {
			break
		}
		if c < ' ' || c > '~' {
			c = '?'
		}
		r = append(r, c)
	}
	return string(r)
}
