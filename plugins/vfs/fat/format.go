package fat

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// FormatOptions say how to make a file system.
type FormatOptions struct {
	Bits    int    // of a FAT entry: 12, 16, 32; 0 = by the size, as newfs_msdos(8)
	Cluster int64  // bytes, a power of two from Sector on; 0 = by the size
	Sector  int64  // bytes; 0 = 512
	Label   string // at most 11 characters
	ID      uint32 // serial number of the volume
	Root    int64  // FAT12, FAT16: entries of the root directory; 0 = 512
}

// Format makes an empty file system in the first size bytes of w: boot sector,
// two FATs and an empty root directory. EINVAL if such a one cannot be.
func Format(w io.WriterAt, size int64, o FormatOptions) error {
	if o.Sector == 0 {
		o.Sector = minSector
	}
	if o.Bits == 0 {
		switch {
		case size < 8<<20:
			o.Bits = 12
		case size < 512<<20:
			o.Bits = 16
		default:
			o.Bits = 32
		}
	}
	reserved, rootEnts := int64(1), o.Root
	if rootEnts == 0 {
		rootEnts = 512
	}
	if o.Bits == 32 {
		reserved, rootEnts = 32, 0
	}
	total := size / o.Sector
	most := map[int]int64{12: 4084, 16: 65524, 32: 0x0ffffff4}[o.Bits]
	if o.Cluster == 0 {
		for o.Cluster = o.Sector; size/o.Cluster > most || o.Bits == 32 && o.Cluster < 4096; o.Cluster *= 2 {
		}
	}
	if most == 0 || rootEnts < 0 || rootEnts > maxSlots-1 || o.Cluster < o.Sector || o.Cluster > maxCluster || o.Cluster/o.Sector > 128 {
		return fmt.Errorf("FAT%d with clusters of %d bytes: %w", o.Bits, o.Cluster, abi.EINVAL)
	}
	rootSize := (rootEnts*slotSize + o.Sector - 1) / o.Sector * o.Sector
	// The FAT takes from the clusters that it is for.
	clusters := (total*o.Sector - reserved*o.Sector - rootSize) / o.Cluster
	fatSectors := ((clusters+2)*int64(o.Bits) + 8*o.Sector - 1) / (8 * o.Sector)
	clusters = (total*o.Sector - (reserved+2*fatSectors)*o.Sector - rootSize) / o.Cluster
	least := map[int]int64{12: 1, 16: 4085, 32: 1}[o.Bits]
	if clusters < least || clusters > most || len(o.Label) > 11 {
		return fmt.Errorf("FAT%d with %d clusters: %w", o.Bits, clusters, abi.EINVAL)
	}
	b := make([]byte, reserved*o.Sector)
	le := binary.LittleEndian
	copy(b, "\xeb\x58\x90rumpus  ")
	le.PutUint16(b[11:], uint16(o.Sector))
	b[13] = byte(o.Cluster / o.Sector)
	le.PutUint16(b[14:], uint16(reserved))
	b[16] = 2
	le.PutUint16(b[17:], uint16(rootEnts))
	if total < 1<<16 && o.Bits != 32 {
		le.PutUint16(b[19:], uint16(total))
	} else {
		le.PutUint32(b[32:], uint32(total))
	}
	b[21] = 0xf8
	le.PutUint16(b[24:], 32) // sectors a track and heads, which nobody has any more
	le.PutUint16(b[26:], 8)
	label := o.Label
	if label == "" {
		label = "NO NAME"
	}
	label += strings.Repeat(" ", 11-len(label))
	ext := 36
	if o.Bits == 32 {
		le.PutUint32(b[36:], uint32(fatSectors))
		le.PutUint32(b[44:], 2)
		le.PutUint16(b[48:], 1)
		le.PutUint16(b[50:], 6)
		ext = 64
		fi := b[o.Sector:]
		le.PutUint32(fi, fsinfoLead)
		le.PutUint32(fi[484:], fsinfoStruct)
		le.PutUint32(fi[488:], uint32(clusters-1))
		le.PutUint32(fi[492:], 3)
		fi[510], fi[511] = 0x55, 0xaa
	} else {
		le.PutUint16(b[22:], uint16(fatSectors))
	}
	b[ext], b[ext+2] = 0x80, 0x29
	le.PutUint32(b[ext+3:], o.ID)
	copy(b[ext+7:], label)
	copy(b[ext+18:], fmt.Sprintf("FAT%-5d", o.Bits))
	b[510], b[511] = 0x55, 0xaa
	if o.Bits == 32 {
		copy(b[6*o.Sector:], b[:2*o.Sector]) // the copy of both
	}
	if _, err := w.WriteAt(b, 0); err != nil {
		return err
	}
	zero := make([]byte, 64<<10)
	off, end := reserved*o.Sector, (reserved+2*fatSectors)*o.Sector+rootSize
	if o.Bits == 32 {
		end += o.Cluster
	}
	for at := off; at < end; at += int64(len(zero)) {
		if _, err := w.WriteAt(zero[:min(int64(len(zero)), end-at)], at); err != nil {
			return err
		}
	}
	var fat []byte
	switch o.Bits {
	case 12:
		fat = []byte{0xf8, 0xff, 0xff}
	case 16:
		fat = []byte{0xf8, 0xff, 0xff, 0xff}
	default:
		fat = []byte{0xf8, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0x0f}
	}
	for i := range int64(2) {
		if _, err := w.WriteAt(fat, off+i*fatSectors*o.Sector); err != nil {
			return err
		}
	}
	return nil
}
