package fat

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// layout is where everything is, from the BPB. Offsets are bytes from the start
// of the device.
type layout struct {
	bits      int    // of a FAT entry: 12, 16, 32
	sector    int64  // bytes
	cluster   int64  // bytes
	fat       int64  // where the first FAT begins
	fatSize   int64  // bytes of one FAT
	fats      int    // copies
	active    int    // the copy that counts
	mirror    bool   // all copies are written
	root      int64  // FAT12, FAT16: where the root directory begins
	rootSize  int64  // and how many bytes it has
	rootFirst uint32 // FAT32: its first cluster
	data      int64  // where cluster 2 begins
	clusters  uint32 // how many there are: the last is clusters+1
	fsinfo    int64  // FAT32: where the FSInfo sector is; 0 = there is none
	label     string
	extended  bool // there is an extended boot signature
}

const (
	minSector  = 512
	maxSector  = 4096
	maxCluster = 256 << 10
)

// parseBPB reads the first 512 bytes of a device of size bytes with sectors of
// devSector. EINVAL if that is no FAT, or one that cannot be right.
func parseBPB(b []byte, size int64, devSector uint32) (layout, error) {
	var l layout
	bad := func(what string, n any) (layout, error) {
		return l, fmt.Errorf("no FAT file system: %s %v: %w", what, n, abi.EINVAL)
	}
	if len(b) < 512 {
		return bad("a boot sector of bytes", len(b))
	}
	if b[510] != 0x55 || b[511] != 0xaa {
		return bad("signature", fmt.Sprintf("%02x%02x", b[510], b[511]))
	}
	if !(b[0] == 0xeb || b[0] == 0xe9) {
		return bad("jump instruction", fmt.Sprintf("%02x", b[0]))
	}
	le := binary.LittleEndian
	l.sector = int64(le.Uint16(b[11:]))
	if l.sector < minSector || l.sector > maxSector || l.sector&(l.sector-1) != 0 {
		return bad("bytes a sector:", l.sector)
	}
	if l.sector%int64(devSector) != 0 {
		return l, fmt.Errorf("a FAT file system with sectors of %d bytes on a device with sectors of %d: %w", l.sector, devSector, abi.EINVAL)
	}
	per := int64(b[13])
	if per == 0 || per&(per-1) != 0 || per*l.sector > maxCluster {
		return bad("sectors a cluster:", per)
	}
	l.cluster = per * l.sector
	reserved := int64(le.Uint16(b[14:]))
	if reserved == 0 {
		return bad("reserved sectors:", reserved)
	}
	l.fats = int(b[16])
	if l.fats < 1 || l.fats > 4 {
		return bad("copies of the FAT:", l.fats)
	}
	rootEnts := int64(le.Uint16(b[17:]))
	total := int64(le.Uint16(b[19:]))
	if total == 0 {
		total = int64(le.Uint32(b[32:]))
	}
	if total == 0 || total > size/l.sector {
		return bad("sectors (the device has "+fmt.Sprint(size/l.sector)+"):", total)
	}
	fatSectors := int64(le.Uint16(b[22:]))
	wide := fatSectors == 0 // FAT32
	l.mirror = true
	if wide {
		fatSectors = int64(le.Uint32(b[36:]))
		if fl := le.Uint16(b[40:]); fl&0x80 != 0 {
			l.mirror = false
			if l.active = int(fl & 15); l.active >= l.fats {
				return bad("active FAT", l.active)
			}
		}
		if v := le.Uint16(b[42:]); v != 0 {
			return bad("FAT32 version", v)
		}
		if rootEnts != 0 {
			return bad("entries in the root directory of a FAT32:", rootEnts)
		}
	}
	if fatSectors == 0 || fatSectors > total {
		return bad("sectors a FAT:", fatSectors)
	}
	l.fat = reserved * l.sector
	l.fatSize = fatSectors * l.sector
	l.root = l.fat + int64(l.fats)*l.fatSize
	l.rootSize = rootEnts * slotSize
	l.data = l.root + (l.rootSize+l.sector-1)/l.sector*l.sector
	if l.data >= total*l.sector {
		return bad("sectors before the first cluster:", l.data/l.sector)
	}
	n := (total*l.sector - l.data) / l.cluster
	switch {
	case n == 0 || n > math.MaxUint32/16:
		return bad("clusters:", n)
	case wide:
		l.bits = 32
	case n < 4085:
		l.bits = 12
	case n < 65525:
		l.bits = 16
	default:
		return bad("clusters for a FAT16:", n)
	}
	if !wide && rootEnts == 0 {
		return bad("entries in the root directory:", 0)
	}
	// A FAT that is too short for all clusters bounds them.
	if fit := l.fatSize*8/int64(l.bits) - 2; fit < n {
		if fit < 1 {
			return bad("bytes of a FAT:", l.fatSize)
		}
		n = fit
	}
	l.clusters = uint32(n)
	lab, sig := b[43:54], b[38]
	if wide {
		lab, sig = b[71:82], b[66]
		l.rootFirst = le.Uint32(b[44:])
		if !l.valid(l.rootFirst) {
			return bad("cluster of the root directory", l.rootFirst)
		}
		l.root, l.rootSize = 0, 0
		if s := int64(le.Uint16(b[48:])); s > 0 && s < reserved {
			l.fsinfo = s * l.sector
		}
	}
	if l.extended = sig == 0x28 || sig == 0x29; sig == 0x29 {
		l.label = labelOf(lab)
	}
	return l, nil
}

// valid reports whether there is a cluster of the number.
func (l *layout) valid(c uint32) bool { return c >= 2 && c-2 < l.clusters }

// at is where a cluster begins. Preconditions: valid(c).
func (l *layout) at(c uint32) int64 { return l.data + int64(c-2)*l.cluster }

// end is the smallest number that ends a chain.
func (l *layout) end() uint32 {
	switch l.bits {
	case 12:
		return 0xff8
	case 16:
		return 0xfff8
	}
	return 0x0ffffff8
}

// labelOf is a volume label as people read it.
func labelOf(b []byte) string {
	s := ""
	for _, c := range b {
		if c < 0x20 || c > 0x7e {
			c = ' '
		}
		s += string(rune(c))
	}
	for len(s) > 0 && s[len(s)-1] == ' ' {
		s = s[:len(s)-1]
	}
	if s == "NO NAME" {
		return ""
	}
	return s
}
