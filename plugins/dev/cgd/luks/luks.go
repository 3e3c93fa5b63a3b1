// Package luks opens volumes that cryptsetup made: LUKS2 (the "LUKS2 On-Disk
// Format Specification", 1.1.1) and LUKS1 (the "LUKS On-Disk Format
// Specification", 1.2.3). It reads headers and finds the key; what lies in the
// volume is deciphered with package crypt.
//
// The words. The volume key encrypts the data. A keyslot keeps a copy of it,
// encrypted with a key that a key derivation function (argon2id, argon2i,
// pbkdf2) makes from a passphrase; the copy is blown up to many stripes first
// (AF, anti-forensic splitter), so that a slot can be destroyed for sure. A
// digest of the volume key says whether what came out of a slot is right. A
// segment is the part of the device that holds data.
//
// The usual sequence:
//
//	h, err := luks.Read(dev, size)              // header, checked
//	v, err := h.Unlock(ctx, dev, pass, luks.AnySlot)
//	c, err := v.NewCipher()
//	c.Decrypt(buf, buf, v.Sector(off), v.Step(), v.SectorSize)
//	v.Wipe()
//
// A passphrase and the contents of a key file are the same to LUKS: bytes.
//
// A header is hostile: each number is checked before it is used, and what a
// slot may cost in memory and time is bounded (Limits). LUKS2 keeps two copies
// of its header with a sequence number; the newest good one is used, and
// Header.Notes says if that was not the first, or not both.
//
// What goes wrong: EFTYPE if there is no LUKS header; EIO if there is one, but
// damaged or cut off; EINVAL for what is not supported, named in the text;
// EACCES if the passphrase opens no slot; ENOENT for a slot that is not there.
//
// Locks: none. Nothing here writes to the device.
package luks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/dev/cgd/crypt"
)

// AnySlot lets Unlock try all keyslots.
const AnySlot = -1

// Limits bound what opening may cost. A header asks for more than is usual only
// if somebody wants to hurt, or has a far larger machine.
type Limits struct {
	Memory     uint64 // of argon2, KiB
	Work       uint64 // of argon2, passes times KiB
	Iterations uint64 // of pbkdf2, in all blocks of its output
}

// DefaultLimits take what cryptsetup makes by default: argon2id with 1 GiB at
// most, calibrated to two seconds.
var DefaultLimits = Limits{Memory: 1 << 20, Work: 16 << 20, Iterations: 1 << 25}

// Header is what a LUKS header says, checked.
type Header struct {
	Version int    // 1 or 2
	UUID    string // as text
	Label   string // LUKS2 only
	Slots   []Slot // in the order in which they are tried
	Notes   []string
	Limits  Limits

	seg     segment
	digests []digest
	size    int64 // of the device, bytes
}

// Slot is a keyslot. Err says why it cannot be used, if so.
type Slot struct {
	ID       int
	KDF      string // argon2id, argon2i, pbkdf2
	Priority int    // 2 is tried first, 0 only if it is asked for
	Err      error

	keySize  int    // of the volume key, bytes
	cipher   string // of the area
	areaKey  int    // length of the area's key, bytes
	off, len int64  // of the area, bytes
	stripes  int
	afHash   string
	salt     []byte
	hash     string // of pbkdf2
	iter     uint64 // of pbkdf2, passes of argon2
	memory   uint64 // of argon2, KiB
	cpus     int    // of argon2
}

// digest tells a right volume key.
type digest struct {
	slots      []int
	hash       string
	salt, want []byte
	iter       uint64
	err        error // why it cannot be used
}

// segment is where the data lies.
type segment struct {
	off, size  int64
	cipher     string
	sectorSize int
	ivTweak    uint64
}

// Volume is an opened LUKS volume. It holds the volume key until Wipe.
type Volume struct {
	Cipher     string // as LUKS names it, "aes-xts-plain64"
	SectorSize int    // bytes, 512 to 4096
	Offset     int64  // of the data on the device, bytes
	Size       int64  // of the data, bytes
	IVTweak    uint64 // is added to the number of each sector
	Slot       int    // the keyslot that was opened

	key []byte
}

// String says what is in the volume, without the key.
func (v *Volume) String() string {
	return fmt.Sprintf("LUKS volume %s, %d bytes from %d, sectors of %d bytes, slot %d", v.Cipher, v.Size, v.Offset, v.SectorSize, v.Slot)
}

// Format is String for every verb, so that no verb shows the key.
func (v *Volume) Format(f fmt.State, _ rune) { fmt.Fprint(f, v.String()) }

// Wipe forgets the volume key.
func (v *Volume) Wipe() { clear(v.key); v.key = nil }

// KeyBits is the length of the volume key in bits.
func (v *Volume) KeyBits() int { return len(v.key) * 8 }

// NewCipher is the cipher of the data.
func (v *Volume) NewCipher() (crypt.Cipher, error) { return crypt.NewLUKS(v.Cipher, v.key) }

// Sector is the number that the cipher wants for the sector at the offset off
// of the data, in bytes.
func (v *Volume) Sector(off int64) uint64 { return v.IVTweak + uint64(off)/512 }

// Step is by how much the number of each further sector is more.
func (v *Volume) Step() uint64 { return uint64(v.SectorSize) / 512 }

// Detect says whether p, the first bytes of a device, looks like a LUKS header:
// its version, or 0.
func Detect(p []byte) int {
	if len(p) >= 8 && string(p[:6]) == magic1st && p[6] == 0 && (p[7] == 1 || p[7] == 2) {
		return int(p[7])
	}
	return 0
}

// Read reads the header from a device of size bytes.
func Read(dev io.ReaderAt, size int64) (*Header, error) {
	p := make([]byte, 8)
	if size < size1 {
		return nil, fmt.Errorf("no LUKS header in %d bytes: %w", size, abi.EFTYPE)
	}
	if err := readFull(dev, size, p, 0); err != nil {
		return nil, fmt.Errorf("LUKS header: %w", err)
	}
	h := &Header{Limits: DefaultLimits, size: size}
	var err error
	if Detect(p) == 1 {
		err = h.read1(dev)
	} else {
		err = h.read2(dev)
	}
	if err != nil {
		return nil, err
	}
	if err := h.checkSegment(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(h.Slots, func(a, b Slot) int {
		if a.Priority != b.Priority {
			return b.Priority - a.Priority
		}
		return a.ID - b.ID
	})
	return h, nil
}

// checkSegment holds the segment against the device and makes its size definite.
func (h *Header) checkSegment() error {
	s := &h.seg
	if s.sectorSize < 512 || s.sectorSize > 4096 || s.sectorSize&(s.sectorSize-1) != 0 {
		return fmt.Errorf("LUKS: sectors of %d bytes: %w", s.sectorSize, abi.EINVAL)
	}
	ss := int64(s.sectorSize)
	if s.off < 0 || s.off%512 != 0 || s.size < 0 {
		return fmt.Errorf("LUKS: data at %d, %d bytes: %w", s.off, s.size, abi.EIO)
	}
	if s.off >= h.size {
		return fmt.Errorf("LUKS: the image is cut off: %d bytes, and data begins at %d: %w", h.size, s.off, abi.EIO)
	}
	room := (h.size - s.off) / ss * ss
	switch {
	case s.size == 0: // dynamic
		s.size = room
	case s.size%ss != 0:
		return fmt.Errorf("LUKS: %d bytes of data are no whole sectors: %w", s.size, abi.EIO)
	}
	if s.size > room || s.size == 0 {
		return fmt.Errorf("LUKS: the image is cut off: %d bytes, and data is to end at %d: %w", h.size, s.off+max(s.size, ss), abi.EIO)
	}
	return nil
}

// Unlock finds the volume key. slot is AnySlot, or the only one to try. The
// passphrase stays the caller's, to wipe. A derivation that has begun is not
// cut short by ctx, the next one does not begin.
func (h *Header) Unlock(ctx context.Context, dev io.ReaderAt, pass []byte, slot int) (*Volume, error) {
	if len(pass) == 0 {
		return nil, fmt.Errorf("LUKS: an empty passphrase: %w", abi.EACCES)
	}
	var broken error
	tried := 0
	for i := range h.Slots {
		s := &h.Slots[i]
		if slot != AnySlot && s.ID != slot || slot == AnySlot && s.Priority == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("LUKS: before key slot %d: %w", s.ID, abi.ErrnoOf(err))
		}
		key, err := h.try(dev, s, pass)
		if err != nil {
			broken = errors.Join(broken, err)
			continue
		}
		if key == nil {
			tried++
			continue
		}
		v := &Volume{
			Cipher: h.seg.cipher, SectorSize: h.seg.sectorSize, Offset: h.seg.off, Size: h.seg.size,
			IVTweak: h.seg.ivTweak, Slot: s.ID, key: key,
		}
		c, err := v.NewCipher()
		if err != nil {
			v.Wipe()
			return nil, fmt.Errorf("LUKS: data: %w", err)
		}
		c.Wipe()
		return v, nil
	}
	switch {
	case tried > 0 && broken != nil:
		return nil, fmt.Errorf("LUKS: no key slot opened with this passphrase; not usable: %v: %w", broken, abi.EACCES)
	case tried > 0:
		return nil, fmt.Errorf("LUKS: no key slot opened with this passphrase: %w", abi.EACCES)
	case broken != nil:
		return nil, fmt.Errorf("LUKS: no key slot can be used: %w", broken)
	case slot != AnySlot:
		return nil, fmt.Errorf("LUKS: there is no key slot %d: %w", slot, abi.ENOENT)
	}
	return nil, fmt.Errorf("LUKS: there is no key slot: %w", abi.ENOENT)
}

// try tries one slot: the volume key, or nil if the passphrase is not this
// slot's.
func (h *Header) try(dev io.ReaderAt, s *Slot, pass []byte) ([]byte, error) {
	wrap := func(err error) error { return fmt.Errorf("key slot %d: %w", s.ID, err) }
	if s.Err != nil {
		return nil, wrap(s.Err)
	}
	d := h.digestOf(s.ID)
	if d == nil {
		return nil, wrap(fmt.Errorf("no digest: %w", abi.EIO))
	}
	if d.err != nil {
		return nil, wrap(d.err)
	}
	stretched := (int64(s.keySize)*int64(s.stripes) + 511) / 512 * 512
	if stretched > s.len {
		return nil, wrap(fmt.Errorf("%d bytes of key material in %d: %w", stretched, s.len, abi.EIO))
	}
	area := make([]byte, stretched)
	defer clear(area)
	if err := readFull(dev, h.size, area, s.off); err != nil {
		return nil, wrap(err)
	}
	areaKey, err := s.derive(pass, h.Limits)
	if err != nil {
		return nil, wrap(err)
	}
	defer clear(areaKey)
	c, err := crypt.NewLUKS(s.cipher, areaKey)
	if err != nil {
		return nil, wrap(err)
	}
	c.Decrypt(area, area, 0, 1, 512)
	c.Wipe()
	key, err := afMerge(area, s.keySize, s.stripes, s.afHash)
	if err != nil {
		return nil, wrap(err)
	}
	ok, err := d.matches(key, h.Limits)
	if err != nil || !ok {
		clear(key)
		if err != nil {
			return nil, wrap(err)
		}
		return nil, nil
	}
	return key, nil
}

func (h *Header) digestOf(slot int) *digest {
	for i := range h.digests {
		if slices.Contains(h.digests[i].slots, slot) {
			return &h.digests[i]
		}
	}
	return nil
}

// readFull fills p from off; beyond the end of the device it is EIO.
func readFull(dev io.ReaderAt, size int64, p []byte, off int64) error {
	if off < 0 || off > size || int64(len(p)) > size-off {
		return fmt.Errorf("the image is cut off: %d bytes, and %d are wanted at %d: %w", size, len(p), off, abi.EIO)
	}
	n, err := dev.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("short read at %d: %w", off, abi.EIO)
	}
	return fmt.Errorf("read at %d: %w", off, err)
}
