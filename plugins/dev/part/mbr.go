package part

import (
	"context"
	"fmt"
	"sort"
	"strconv"
)

// mbrMaxLogical bounds the chain of logical partitions.
const mbrMaxLogical = 128

func extended(t byte) bool { return t == 0x05 || t == 0x0f || t == 0x85 }

// mbrEntry is one of the four entries of a boot record.
type mbrEntry struct {
	boot, typ   byte
	start, size uint32 // sectors
}

func mbrEntries(b []byte) (r [4]mbrEntry) {
	for i := range r {
		e := b[446+16*i:]
		r[i] = mbrEntry{boot: e[0], typ: e[4], start: le.Uint32(e[8:]), size: le.Uint32(e[12:])}
	}
	return r
}

// readMBR reads a master boot record. A boot sector of a file system ends with
// the same two bytes: it is none if an entry is neither active nor not, if none
// lies on the disk, or if the sector says that it is FAT's or NTFS's.
func readMBR(ctx context.Context, d Disk) (*Table, error) {
	b := make([]byte, 512)
	if err := d.ReadAt(ctx, b, 0); err != nil {
		return nil, err
	}
	if b[510] != 0x55 || b[511] != 0xaa {
		return nil, ErrNoTable
	}
	es := mbrEntries(b)
	used, onDisk := 0, 0
	for _, e := range es {
		if e.boot&0x7f != 0 {
			return nil, ErrNoTable
		}
		if e.typ != 0 && e.size != 0 {
			used++
			if e.start > 0 && int64(e.start) < d.Size()/512 {
				onDisk++
			}
		}
	}
	fs := string(b[54:57]) == "FAT" || string(b[82:85]) == "FAT" || string(b[3:7]) == "NTFS" || string(b[3:8]) == "EXFAT"
	if used > 0 && onDisk == 0 || fs && (used == 0 || b[0] == 0xeb || b[0] == 0xe9) {
		return nil, ErrNoTable
	}
	if used == 0 { // a fresh table, or no table
		if le.Uint32(b[440:]) == 0 {
			return nil, ErrNoTable
		}
	}
	t := &Table{Kind: "mbr", Sector: 512, UUID: fmt.Sprintf("%08x", le.Uint32(b[440:]))}
	for i, e := range es {
		if e.typ == 0 || e.size == 0 {
			continue
		}
		p := mbrPart(t, i+1, e, int64(e.start))
		switch {
		case extended(e.typ):
			if err := t.logical(ctx, d, int64(e.start), int64(e.size)); err != nil {
				return nil, err
			}
		case e.typ == 0xee:
			t.warn("entry %d keeps the disk for a GUID partition table, which is not there", i+1)
		case e.typ == 0xa9:
			t.Parts = append(t.Parts, p)
			if l, err := readLabel(ctx, d, int64(e.start)*512); err == nil {
				l.check(d.Size())
				t.Warnings = append(t.Warnings, l.Warnings...)
				t.nested(p, l)
			} else {
				t.warn("partition %d is for NetBSD: %v", p.Num, err)
			}
		default:
			t.Parts = append(t.Parts, p)
		}
	}
	sort.SliceStable(t.Parts, func(i, j int) bool { return t.Parts[i].Num < t.Parts[j].Num })
	return t, nil
}

func mbrPart(t *Table, num int, e mbrEntry, start int64) Part {
	p := Part{Num: num, Suffix: "p" + strconv.Itoa(num), Start: start * 512, Size: int64(e.size) * 512, TypeID: fmt.Sprintf("0x%02x", e.typ),
		Type: mbrTypes[e.typ], Boot: e.boot == 0x80, UUID: fmt.Sprintf("%s-%02x", t.UUID, num)}
	if p.Type == "" {
		p.Type = p.TypeID
	}
	return p
}

// nested adds the partitions of a disklabel inside of one of the disk. They may
// lie over the others as they like; a device for what reaches out of its own
// partition would be a way around it, so that gets none.
func (t *Table) nested(in Part, l *Table) {
	for _, p := range l.Parts {
		if len(t.Parts)+len(t.Inner) >= MaxParts {
			return
		}
		p.Suffix = in.Suffix + p.Suffix
		if p.Err == "" && (p.Start < in.Start || p.Start+p.Size > in.Start+in.Size) {
			p.Err = "reaches out of the partition that holds it"
		}
		t.Inner = append(t.Inner, p)
	}
}

// logical follows the chain of extended boot records: each tells its partition,
// from itself, and the next record, from the start of the extended partition.
func (t *Table) logical(ctx context.Context, d Disk, base, size int64) error {
	at := base
	for n, num := 0, 5; ; n++ {
		if n == mbrMaxLogical {
			t.warn("more than %d logical partitions, or a chain in a circle: the rest is not shown", mbrMaxLogical)
			return nil
		}
		if at < base || at >= base+size || at >= d.Size()/512 {
			t.warn("the chain of logical partitions leaves the extended partition, at block %d", at)
			return nil
		}
		b := make([]byte, 512)
		if err := d.ReadAt(ctx, b, at*512); err != nil {
			return err
		}
		if b[510] != 0x55 || b[511] != 0xaa {
			t.warn("no boot record in the chain of logical partitions at block %d", at)
			return nil
		}
		es := mbrEntries(b)
		if e := es[0]; e.typ != 0 && e.size != 0 {
			p := mbrPart(t, num, e, at+int64(e.start))
			if p.Start+p.Size > (base+size)*512 {
				p.Err = "reaches out of the extended partition"
			}
			t.Parts = append(t.Parts, p)
			num++
		}
		e := es[1]
		if !extended(e.typ) || e.size == 0 {
			return nil
		}
		if e.start == 0 {
			t.warn("a chain of logical partitions in a circle at block %d", at)
			return nil
		}
		at = base + int64(e.start)
	}
}

var mbrTypes = map[byte]string{
	0x01: "FAT12", 0x04: "FAT16 <32M", 0x05: "Extended", 0x06: "FAT16", 0x07: "HPFS/NTFS/exFAT", 0x0b: "W95 FAT32",
	0x0c: "W95 FAT32 (LBA)", 0x0e: "W95 FAT16 (LBA)", 0x0f: "W95 Extended (LBA)", 0x11: "Hidden FAT12", 0x27: "Windows recovery",
	0x42: "SFS", 0x82: "Linux swap", 0x83: "Linux", 0x85: "Linux extended", 0x8e: "Linux LVM", 0xa5: "FreeBSD", 0xa6: "OpenBSD",
	0xa8: "Darwin UFS", 0xa9: "NetBSD", 0xab: "Darwin boot", 0xaf: "HFS / HFS+", 0xbf: "Solaris", 0xee: "GPT", 0xef: "EFI (FAT)",
	0xfb: "VMware VMFS", 0xfd: "Linux RAID autodetect",
}
