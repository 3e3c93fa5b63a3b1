package part

import (
	"context"
	"fmt"
	"hash/crc32"
	"strconv"
	"unicode/utf16"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

const (
	gptHead       = 92      // bytes of the header that revision 1.0 defines
	gptMaxEntries = 1 << 20 // bytes of the array that are read; sgdisk's is 16 KiB
)

// gptHeader is a header that has passed its checks.
type gptHeader struct {
	sector    int64
	lba, alt  uint64
	first     uint64 // usable
	last      uint64
	disk      string
	entries   []byte
	entrySize int
}

// readGPT tries the sector of the disk, and then 512 and 4096 bytes: an image may
// come from a disk with other sectors.
func readGPT(ctx context.Context, d Disk) (*Table, error) {
	var broken error
	for i, sec := range []int64{d.Sector(), 512, 4096} {
		if i > 0 && sec == d.Sector() || d.Size() < 3*sec {
			continue
		}
		t := &Table{Kind: "gpt", Sector: sec}
		h, seen, err := gptAt(ctx, d, sec, 1)
		if err != nil {
			last := d.Size()/sec - 1
			b, seen2, err2 := gptAt(ctx, d, sec, last)
			if err2 == nil {
				t.warn("the first table is damaged (%v): the backup at the end of the disk is shown", err)
				h, err = b, nil
			} else if seen || seen2 {
				broken = fmt.Errorf("GUID partition table: %v; its backup: %v: %w", err, err2, abi.EFTYPE)
			}
		} else if _, _, err := gptAt(ctx, d, sec, int64(min(h.alt, 1<<52))); err != nil {
			t.warn("the backup table is damaged: %v", err)
		}
		if err != nil {
			continue
		}
		t.UUID = h.disk
		if err := t.addGPT(h); err != nil {
			return nil, err
		}
		return t, nil
	}
	if broken != nil {
		return nil, broken
	}
	return nil, ErrNoTable
}

// gptAt reads and checks the header and the array of one copy. seen: the
// signature is there.
func gptAt(ctx context.Context, d Disk, sec, lba int64) (_ *gptHeader, seen bool, err error) {
	n := d.Size() / sec
	if lba < 1 || lba >= n {
		return nil, false, fmt.Errorf("block %d is not on the disk", lba)
	}
	b := make([]byte, sec)
	if err := d.ReadAt(ctx, b, lba*sec); err != nil {
		return nil, false, err
	}
	if string(b[:8]) != "EFI PART" {
		return nil, false, fmt.Errorf("no signature")
	}
	size := int64(le.Uint32(b[12:]))
	if size < gptHead || size > sec {
		return nil, true, fmt.Errorf("a header of %d bytes", size)
	}
	sum := le.Uint32(b[16:])
	clear(b[16:20])
	if got := crc32.ChecksumIEEE(b[:size]); got != sum {
		return nil, true, fmt.Errorf("checksum of the header is %08x, not %08x", got, sum)
	}
	h := &gptHeader{sector: sec, lba: le.Uint64(b[24:]), alt: le.Uint64(b[32:]),
		first: le.Uint64(b[40:]), last: le.Uint64(b[48:]), disk: guid(b[56:72])}
	at, cnt, esize := le.Uint64(b[72:]), uint64(le.Uint32(b[80:])), uint64(le.Uint32(b[84:]))
	switch {
	case le.Uint32(b[8:])>>16 != 1:
		return nil, true, fmt.Errorf("revision %#x is unknown", le.Uint32(b[8:]))
	case h.lba != uint64(lba):
		return nil, true, fmt.Errorf("it says that it is at block %d, not %d", h.lba, lba)
	case esize < 128 || esize > 4096 || esize&(esize-1) != 0:
		return nil, true, fmt.Errorf("entries of %d bytes", esize)
	case cnt == 0 || cnt > gptMaxEntries/esize:
		return nil, true, fmt.Errorf("%d entries of %d bytes", cnt, esize)
	case at < 2 || at >= uint64(n) || cnt*esize > uint64(n*sec)-at*uint64(sec):
		return nil, true, fmt.Errorf("entries at block %d are not on the disk", at)
	}
	h.entries, h.entrySize = make([]byte, cnt*esize), int(esize)
	if err := d.ReadAt(ctx, h.entries, int64(at)*sec); err != nil {
		return nil, true, err
	}
	if got := crc32.ChecksumIEEE(h.entries); got != le.Uint32(b[88:]) {
		return nil, true, fmt.Errorf("checksum of the entries is %08x, not %08x", got, le.Uint32(b[88:]))
	}
	return h, true, nil
}

func (t *Table) addGPT(h *gptHeader) error {
	for i := 0; len(h.entries) >= (i+1)*h.entrySize; i++ {
		e := h.entries[i*h.entrySize:][:h.entrySize]
		typ := guid(e)
		if typ == "00000000-0000-0000-0000-000000000000" {
			continue
		}
		if len(t.Parts) == MaxParts {
			t.warn("more than %d partitions: the rest is not shown", MaxParts)
			return nil
		}
		p := Part{Num: i + 1, Suffix: "p" + strconv.Itoa(i+1), TypeID: typ, Type: gptTypes[typ], UUID: guid(e[16:]), Attrs: le.Uint64(e[48:])}
		if p.Type == "" {
			p.Type = typ
		}
		p.Boot = p.Attrs&(1<<2) != 0
		name := make([]uint16, 36)
		for j := range name {
			if name[j] = le.Uint16(e[56+2*j:]); name[j] == 0 {
				name = name[:j]
				break
			}
		}
		p.Name = text(string(utf16.Decode(name)), 36)
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		const most = 1 << 62
		switch {
		case first > last || last >= most/uint64(h.sector):
			p.Err = fmt.Sprintf("from block %d to block %d", first, last)
		default:
			p.Start, p.Size = int64(first)*h.sector, int64(last-first+1)*h.sector
			if first < h.first || last > h.last {
				p.Err = fmt.Sprintf("outside of the blocks %d to %d that the table says are usable", h.first, h.last)
			}
		}
		t.Parts = append(t.Parts, p)
	}
	return nil
}

// gptTypes are the types that people meet.
var gptTypes = map[string]string{
	"C12A7328-F81F-11D2-BA4B-00A0C93EC93B": "EFI system",
	"024DEE41-33E7-11D3-9D69-0008C781F39F": "MBR partition scheme",
	"21686148-6449-6E6F-744E-656564454649": "BIOS boot",
	"E3C9E316-0B5C-4DB8-817D-F92DF00215AE": "Microsoft reserved",
	"EBD0A0A2-B9E5-4433-87C0-68B6B72699C7": "Microsoft basic data",
	"DE94BBA4-06D1-4D40-A16A-BFD50179D6AC": "Windows recovery",
	"0FC63DAF-8483-4772-8E79-3D69D8477DE4": "Linux filesystem",
	"44479540-F297-41B2-9AF7-D131D5F0458A": "Linux root (x86)",
	"4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709": "Linux root (x86-64)",
	"B921B045-1DF0-41C3-AF44-4C6F280D3FAE": "Linux root (ARM-64)",
	"933AC7E1-2EB4-4F13-B844-0E14E2AEF915": "Linux home",
	"3B8F8425-20E0-4F3B-907F-1A25A76F98E8": "Linux server data",
	"BC13C2FF-59E6-4262-A352-B275FD6F7172": "Linux extended boot",
	"A19D880F-05FC-4D3B-A006-743F0F84911E": "Linux RAID",
	"0657FD6D-A4AB-43C4-84E5-0933C84B4F4F": "Linux swap",
	"E6D6D379-F507-44C2-A23C-238F2A3DF928": "Linux LVM",
	"CA7D7CCB-63ED-4C53-861C-1742536059CC": "Linux LUKS",
	"49F48D32-B10E-11DC-B99B-0019D1879648": "NetBSD swap",
	"49F48D5A-B10E-11DC-B99B-0019D1879648": "NetBSD FFS",
	"49F48D82-B10E-11DC-B99B-0019D1879648": "NetBSD LFS",
	"49F48DAA-B10E-11DC-B99B-0019D1879648": "NetBSD RAIDframe",
	"2DB519C4-B10F-11DC-B99B-0019D1879648": "NetBSD CCD",
	"2DB519EC-B10F-11DC-B99B-0019D1879648": "NetBSD CGD",
	"516E7CB4-6ECF-11D6-8FF8-00022D09712B": "FreeBSD data",
	"83BD6B9D-7F41-11DC-BE0B-001560B84F0F": "FreeBSD boot",
	"516E7CB5-6ECF-11D6-8FF8-00022D09712B": "FreeBSD swap",
	"516E7CB6-6ECF-11D6-8FF8-00022D09712B": "FreeBSD UFS",
	"516E7CBA-6ECF-11D6-8FF8-00022D09712B": "FreeBSD ZFS",
	"824CC7A0-36A8-11E3-890A-952519AD3F61": "OpenBSD data",
	"48465300-0000-11AA-AA11-00306543ECAC": "Apple HFS+",
	"7C3457EF-0000-11AA-AA11-00306543ECAC": "Apple APFS",
	"6A898CC3-1DD2-11B2-99A6-080020736631": "Solaris /usr or Apple ZFS",
}
