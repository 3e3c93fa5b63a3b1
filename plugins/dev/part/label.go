package part

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

const (
	labelMagic = 0x82564557
	labelMax   = 22 // MAXPARTITIONS, the most of any port
	labelHead  = 148
)

// readWholeLabel finds a disklabel on a disk without another table.
func readWholeLabel(ctx context.Context, d Disk) (*Table, error) { return readLabel(ctx, d, 0) }

// readLabel reads the disklabel of a disk, or of the partition at base: it lies
// in the second sector at offset 0 (amd64, i386), or in the first one at offset
// 64 (vax, sun2, ...). Its offsets count from the start of the disk.
func readLabel(ctx context.Context, d Disk, base int64) (*Table, error) {
	b := make([]byte, 1024)
	if base < 0 || base > d.Size()-int64(len(b)) {
		return nil, ErrNoTable
	}
	if err := d.ReadAt(ctx, b, base); err != nil {
		return nil, err
	}
	for _, at := range []int{512, 64, 0} {
		l := b[at:]
		if le.Uint32(l) != labelMagic || le.Uint32(l[132:]) != labelMagic {
			continue
		}
		n := int(le.Uint16(l[138:]))
		if n > labelMax {
			return nil, fmt.Errorf("a disklabel of %d partitions: %w", n, abi.EFTYPE)
		}
		sum := uint16(0)
		for i := 0; i < labelHead+16*n; i += 2 {
			sum ^= le.Uint16(l[i:])
		}
		if sum != 0 {
			return nil, fmt.Errorf("checksum of the disklabel: %w", abi.EFTYPE)
		}
		sec := int64(le.Uint32(l[40:]))
		if sec < 512 || sec > 64<<10 || sec&(sec-1) != 0 {
			return nil, fmt.Errorf("a disklabel with sectors of %d bytes: %w", sec, abi.EFTYPE)
		}
		t := &Table{Kind: "disklabel", Sector: sec, Label: text(string(l[24:40]), 16)}
		for i := range n {
			e := l[labelHead+16*i:]
			size, start, typ := int64(le.Uint32(e)), int64(le.Uint32(e[4:])), e[12]
			if size == 0 {
				continue
			}
			letter := string(rune('a' + i))
			p := Part{Num: i + 1, Suffix: letter, Start: start * sec, Size: size * sec, TypeID: fmt.Sprint(typ), Type: fmt.Sprintf("type %d", typ)}
			if int(typ) < len(labelTypes) {
				p.Type = labelTypes[typ]
				p.TypeID = p.Type
			}
			t.Parts = append(t.Parts, p)
		}
		return t, nil
	}
	return nil, ErrNoTable
}

// labelTypes are FS_* of <sys/disklabel.h>.
var labelTypes = []string{"unused", "swap", "Version 6", "Version 7", "System V", "4.1BSD", "Eighth Edition", "4.2BSD", "MSDOS", "4.4LFS",
	"unknown", "HPFS", "ISO9660", "boot", "ADOS", "HFS", "FILECORE", "Linux Ext2", "NTFS", "RAID", "ccd", "jfs2", "Apple UFS", "vinum", "udf",
	"SysVBFS", "EFS", "NiLFS", "cgd", "minix"}
