// Package probe says what a block device holds, as blkid(8) does: a file
// system, a partition table, an encrypted volume, swap.
//
//	r, err := probe.Probe(ctx, disk)
//	fmt.Println(r.Type, r.Label) // ext4 root
//
// It looks at magic numbers and at the fields that make them believable, in a
// fixed number of reads of bounded size. It does not mount, and says nothing of
// whether the rest is whole.
package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf16"

	"github.com/rumpus-kernel/rumpus/plugins/dev/part"
)

// Kind is what sort of contents it is.
type Kind string

// The kinds.
const (
	Filesystem Kind = "filesystem"
	Table      Kind = "partition table"
	Crypto     Kind = "encrypted volume"
	Raid       Kind = "member of a set"
	Swap       Kind = "swap"
	Image      Kind = "disk image" // a format of virtual machines, inside of the device
	Blank      Kind = "blank"      // zeroes, as far as it was looked at
	Unknown    Kind = "unknown"
)

// Result is what a device holds.
type Result struct {
	Kind    Kind   `json:"kind"`
	Type    string `json:"type,omitempty"` // as blkid calls it: "ext4", "vfat", "crypto_LUKS"
	Version string `json:"version,omitempty"`
	Label   string `json:"label,omitempty"`
	UUID    string `json:"uuid,omitempty"`
	Size    int64  `json:"size,omitempty"`  // that it says it has, bytes
	Block   int64  `json:"block,omitempty"` // its block size, bytes
	State   string `json:"state,omitempty"` // "clean", "needs recovery"
}

func (r Result) String() string {
	if r.Type == "" {
		return string(r.Kind)
	}
	s := r.Type
	if r.Version != "" {
		s += " " + r.Version
	}
	if r.Label != "" {
		s += fmt.Sprintf(" %q", r.Label)
	}
	return s
}

var (
	le = binary.LittleEndian
	be = binary.BigEndian
)

// area is a part of the disk that was read; what is not on the disk is zero.
type area struct {
	off int64
	b   []byte
}

// at answers n bytes at an offset of the disk; they lie within.
func (a area) at(off, n int64) []byte { return a.b[off-a.off:][:n] }

func (a area) has(off int64, magic string) bool {
	return string(a.at(off, int64(len(magic)))) == magic
}

// headSize is what is read of the start: all magic numbers but those of a
// RAID's version 1.0 and 0.90 lie in it.
const headSize = 72 << 10

// Probe looks at a device. What it cannot read is an error; what it does not
// know is Unknown.
func Probe(ctx context.Context, d part.Disk) (Result, error) {
	head := area{b: make([]byte, headSize)}
	if n := min(headSize, d.Size()); n > 0 {
		if err := d.ReadAt(ctx, head.b[:n], 0); err != nil {
			return Result{}, err
		}
	}
	for _, known := range []func(area, int64) (Result, bool){
		luks, lvm, raid12, swap, btrfs, xfs, ext, erofs, squashfs, f2fs, hfsplus, apfs, ffs, exfat, ntfs, iso9660, image,
	} {
		if r, ok := known(head, d.Size()); ok {
			return r, nil
		}
	}
	if r, ok, err := raidEnd(ctx, d); ok || err != nil {
		return r, err
	}
	if t, err := part.Read(ctx, d); err == nil && (len(t.Parts) > 0 || t.Kind != "mbr") {
		return Result{Kind: Table, Type: map[string]string{"mbr": "dos"}[t.Kind] + map[string]string{"gpt": "gpt", "disklabel": "disklabel"}[t.Kind],
			UUID: t.UUID, Label: t.Label, Block: t.Sector}, nil
	} else if r, ok := fat(head, d.Size()); ok {
		return r, nil
	} else if err == nil {
		return Result{Kind: Table, Type: "dos", UUID: t.UUID, Block: t.Sector}, nil
	}
	if bytes.Count(head.b, []byte{0}) == len(head.b) {
		return Result{Kind: Blank}, nil
	}
	return Result{Kind: Unknown}, nil
}

func uuid(b []byte) string {
	if bytes.Count(b[:16], []byte{0}) == 16 {
		return ""
	}
	s := hex.EncodeToString(b[:16])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// label is a name on a medium as people may see it.
func label(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	r := []rune(strings.ToValidUTF8(strings.TrimRight(string(b), " "), "?"))
	for i, c := range r {
		if c < ' ' || c >= 0x7f && c < 0xa0 {
			r[i] = '?'
		}
	}
	return string(r)
}

func pow2(n, lo, hi int64) bool { return n >= lo && n <= hi && n&(n-1) == 0 }

// times is a*b, or 0 if that is no size.
func times(a uint64, b int64) int64 {
	if b <= 0 || a > uint64(1<<62)/uint64(b) {
		return 0
	}
	return int64(a) * b
}

func luks(h area, _ int64) (Result, bool) {
	v := be.Uint16(h.at(6, 2))
	if !h.has(0, "LUKS\xba\xbe") || v != 1 && v != 2 {
		return Result{}, false
	}
	r := Result{Kind: Crypto, Type: "crypto_LUKS", Version: fmt.Sprint(v), UUID: label(h.at(168, 40))}
	if v == 2 {
		r.Label = label(h.at(24, 48))
	}
	return r, true
}

func lvm(h area, _ int64) (Result, bool) {
	for s := int64(0); s < 4; s++ {
		if h.has(s*512, "LABELONE") && h.has(s*512+24, "LVM2 001") {
			return Result{Kind: Raid, Type: "LVM2_member", Version: "LVM2 001"}, true
		}
	}
	return Result{}, false
}

const raidMagic = 0xa92b4efc

func raid1(b []byte, v string) (Result, bool) {
	if le.Uint32(b) != raidMagic || le.Uint32(b[4:]) != 1 {
		return Result{}, false
	}
	return Result{Kind: Raid, Type: "linux_raid_member", Version: v, UUID: uuid(b[16:]), Label: label(b[32:64])}, true
}

func raid12(h area, _ int64) (Result, bool) {
	if r, ok := raid1(h.at(4096, 256), "1.2"); ok {
		return r, true
	}
	return raid1(h.at(0, 256), "1.1")
}

// raidEnd looks where versions 1.0 and 0.90 have their superblocks.
func raidEnd(ctx context.Context, d part.Disk) (Result, bool, error) {
	b := make([]byte, 512)
	if at := (d.Size()/512 - 16) &^ 7 * 512; at > 0 {
		if err := d.ReadAt(ctx, b, at); err != nil {
			return Result{}, false, err
		}
		if r, ok := raid1(b, "1.0"); ok {
			return r, true, nil
		}
	}
	if at := d.Size()&^(64<<10-1) - 64<<10; at > 0 {
		if err := d.ReadAt(ctx, b, at); err != nil {
			return Result{}, false, err
		}
		if le.Uint32(b) == raidMagic && le.Uint32(b[4:]) == 0 {
			return Result{Kind: Raid, Type: "linux_raid_member", Version: fmt.Sprintf("0.%d", le.Uint32(b[8:])%1000)}, true, nil
		}
	}
	return Result{}, false, nil
}

func swap(h area, _ int64) (Result, bool) {
	for _, page := range []int64{4096, 8192, 16384, 65536} {
		if h.has(page-10, "SWAPSPACE2") {
			return Result{Kind: Swap, Type: "swap", Version: fmt.Sprint(le.Uint32(h.at(1024, 4))), UUID: uuid(h.at(1036, 16)), Label: label(h.at(1052, 16)),
				Block: page, Size: times(uint64(le.Uint32(h.at(1028, 4)))+1, page)}, true
		}
	}
	return Result{}, false
}

func btrfs(h area, _ int64) (Result, bool) {
	if !h.has(0x10040, "_BHRfS_M") {
		return Result{}, false
	}
	return Result{Kind: Filesystem, Type: "btrfs", UUID: uuid(h.at(0x10020, 16)), Label: label(h.at(0x1012b, 256)),
		Size: times(le.Uint64(h.at(0x10070, 8)), 1), Block: int64(le.Uint32(h.at(0x10090, 4)))}, true
}

func xfs(h area, _ int64) (Result, bool) {
	bs := int64(be.Uint32(h.at(4, 4)))
	if !h.has(0, "XFSB") || !pow2(bs, 512, 64<<10) {
		return Result{}, false
	}
	return Result{Kind: Filesystem, Type: "xfs", UUID: uuid(h.at(32, 16)), Label: label(h.at(108, 12)), Block: bs, Size: times(be.Uint64(h.at(8, 8)), bs)}, true
}

// ext tells ext2, 3 and 4 apart by what each does not know.
func ext(h area, _ int64) (Result, bool) {
	const sb = 1024
	log := le.Uint32(h.at(sb+24, 4))
	if le.Uint16(h.at(sb+56, 2)) != 0xef53 || log > 6 {
		return Result{}, false
	}
	compat, incompat, ro := le.Uint32(h.at(sb+92, 4)), le.Uint32(h.at(sb+96, 4)), le.Uint32(h.at(sb+100, 4))
	blocks := uint64(le.Uint32(h.at(sb+4, 4)))
	if incompat&0x80 != 0 {
		blocks |= uint64(le.Uint32(h.at(sb+0x150, 4))) << 32
	}
	r := Result{Kind: Filesystem, Version: "1.0", Block: 1024 << log, UUID: uuid(h.at(sb+104, 16)), Label: label(h.at(sb+120, 16)), State: "clean"}
	r.Size = times(blocks, r.Block)
	switch {
	case incompat&0x8 != 0:
		r.Type = "jbd"
	case incompat&^uint32(0x2|0x4|0x10) != 0 || ro&^uint32(0x1|0x2|0x4) != 0:
		r.Type = "ext4"
	case compat&0x4 != 0:
		r.Type = "ext3"
	default:
		r.Type = "ext2"
	}
	switch state := le.Uint16(h.at(sb+58, 2)); {
	case incompat&0x4 != 0:
		r.State = "needs recovery"
	case state&2 != 0:
		r.State = "has errors"
	case state&1 == 0:
		r.State = "not cleanly unmounted"
	}
	return r, true
}

func erofs(h area, _ int64) (Result, bool) {
	bits := h.at(1024+12, 1)[0]
	if le.Uint32(h.at(1024, 4)) != 0xe0f5e1e2 || bits < 9 || bits > 16 {
		return Result{}, false
	}
	bs := int64(1) << bits
	return Result{Kind: Filesystem, Type: "erofs", Block: bs, Size: times(uint64(le.Uint32(h.at(1024+36, 4))), bs), UUID: uuid(h.at(1024+48, 16)), Label: label(h.at(1024+64, 16))}, true
}

func squashfs(h area, _ int64) (Result, bool) {
	bs := int64(le.Uint32(h.at(12, 4)))
	if !h.has(0, "hsqs") || !pow2(bs, 4096, 1<<20) {
		return Result{}, false
	}
	return Result{Kind: Filesystem, Type: "squashfs", Version: fmt.Sprintf("%d.%d", le.Uint16(h.at(28, 2)), le.Uint16(h.at(30, 2))), Block: bs, Size: times(le.Uint64(h.at(40, 8)), 1)}, true
}

func f2fs(h area, _ int64) (Result, bool) {
	if le.Uint32(h.at(1024, 4)) != 0xf2f52010 {
		return Result{}, false
	}
	name := make([]uint16, 0, 512)
	for i := range int64(512) {
		c := le.Uint16(h.at(1024+124+2*i, 2))
		if c == 0 {
			break
		}
		name = append(name, c)
	}
	return Result{Kind: Filesystem, Type: "f2fs", Version: fmt.Sprintf("%d.%d", le.Uint16(h.at(1028, 2)), le.Uint16(h.at(1030, 2))),
		UUID: uuid(h.at(1024+108, 16)), Label: label([]byte(string(utf16.Decode(name))))}, true
}

func hfsplus(h area, _ int64) (Result, bool) {
	bs := int64(be.Uint32(h.at(1024+40, 4)))
	if !h.has(1024, "H+\x00\x04") && !h.has(1024, "HX\x00\x05") || !pow2(bs, 512, 1<<20) {
		return Result{}, false
	}
	return Result{Kind: Filesystem, Type: "hfsplus", Block: bs, Size: times(uint64(be.Uint32(h.at(1024+44, 4))), bs)}, true
}

func apfs(h area, _ int64) (Result, bool) {
	bs := int64(le.Uint32(h.at(36, 4)))
	if !h.has(32, "NXSB") || !pow2(bs, 4096, 64<<10) {
		return Result{}, false
	}
	return Result{Kind: Filesystem, Type: "apfs", Block: bs, Size: times(le.Uint64(h.at(40, 8)), bs), UUID: uuid(h.at(72, 16))}, true
}

func ffs(h area, _ int64) (Result, bool) {
	for _, c := range []struct {
		at    int64
		magic uint32
		v     string
	}{{8192, 0x00011954, "1"}, {65536, 0x19540119, "2"}, {0, 0x19540119, "2"}, {8192, 0x19540119, "2"}} {
		for _, o := range []binary.ByteOrder{le, be} {
			if o.Uint32(h.at(c.at+1372, 4)) != c.magic {
				continue
			}
			if bs := int64(o.Uint32(h.at(c.at+48, 4))); pow2(bs, 4096, 64<<10) {
				return Result{Kind: Filesystem, Type: "ffs", Version: c.v, Block: bs}, true
			}
		}
	}
	return Result{}, false
}

func exfat(h area, _ int64) (Result, bool) {
	if !h.has(3, "EXFAT   ") || !h.has(510, "\x55\xaa") {
		return Result{}, false
	}
	sec := int64(1) << (h.at(108, 1)[0] & 15)
	return Result{Kind: Filesystem, Type: "exfat", Version: fmt.Sprintf("%d.%d", h.at(105, 1)[0], h.at(104, 1)[0]),
		UUID: serial(h.at(100, 4)), Size: times(le.Uint64(h.at(72, 8)), sec), Block: sec}, true
}

func serial(b []byte) string {
	v := le.Uint32(b)
	return fmt.Sprintf("%04X-%04X", v>>16, v&0xffff)
}

func ntfs(h area, _ int64) (Result, bool) {
	sec := int64(le.Uint16(h.at(11, 2)))
	if !h.has(3, "NTFS    ") || !pow2(sec, 256, 4096) {
		return Result{}, false
	}
	return Result{Kind: Filesystem, Type: "ntfs", UUID: fmt.Sprintf("%016X", le.Uint64(h.at(72, 8))), Size: times(le.Uint64(h.at(40, 8)), sec), Block: sec}, true
}

func iso9660(h area, _ int64) (Result, bool) {
	const pvd = 32768
	switch {
	case h.has(pvd+1, "CD001"):
		r := Result{Kind: Filesystem, Type: "iso9660", Label: label(h.at(pvd+40, 32)), Block: int64(le.Uint16(h.at(pvd+128, 2)))}
		r.Size = times(uint64(le.Uint32(h.at(pvd+80, 4))), r.Block)
		for d := int64(pvd + 2048); d < pvd+8*2048; d += 2048 {
			if h.has(d+1, "NSR02") || h.has(d+1, "NSR03") {
				return Result{Kind: Filesystem, Type: "udf"}, true
			}
			if h.at(d, 1)[0] == 2 && h.has(d+1, "CD001") && h.has(d+88, "%/") {
				r.Version = "Joliet Extension"
			}
		}
		return r, true
	case h.has(pvd+1, "BEA01"):
		for d := int64(pvd + 2048); d < pvd+8*2048; d += 2048 {
			if h.has(d+1, "NSR02") || h.has(d+1, "NSR03") {
				return Result{Kind: Filesystem, Type: "udf"}, true
			}
		}
	}
	return Result{}, false
}

// image is a disk image of a virtual machine, copied onto the device as it is.
func image(h area, _ int64) (Result, bool) {
	switch {
	case h.has(0, "QFI\xfb"):
		return Result{Kind: Image, Type: "qcow2", Version: fmt.Sprint(be.Uint32(h.at(4, 4))), Size: times(be.Uint64(h.at(24, 8)), 1)}, true
	case h.has(0, "KDMV"):
		return Result{Kind: Image, Type: "vmdk", Size: times(le.Uint64(h.at(12, 8)), 512)}, true
	case h.has(0, "vhdxfile"):
		return Result{Kind: Image, Type: "vhdx"}, true
	case le.Uint32(h.at(64, 4)) == 0xbeda107f:
		return Result{Kind: Image, Type: "vdi"}, true
	}
	return Result{}, false
}

// fat tells 12, 16 and 32 apart by the number of clusters, as its specification
// does.
func fat(h area, _ int64) (Result, bool) {
	b := h.b
	sec, spc, res, fats := int64(le.Uint16(b[11:])), int64(b[13]), int64(le.Uint16(b[14:])), int64(b[16])
	roots, media := int64(le.Uint16(b[17:])), b[21]
	total, per := int64(le.Uint16(b[19:])), int64(le.Uint16(b[22:]))
	if total == 0 {
		total = int64(le.Uint32(b[32:]))
	}
	is32 := per == 0
	if is32 {
		per = int64(le.Uint32(b[36:]))
	}
	if !h.has(510, "\x55\xaa") || !pow2(sec, 512, 4096) || !pow2(spc, 1, 128) || res == 0 || fats == 0 || fats > 4 || per == 0 || media != 0xf0 && media < 0xf8 {
		return Result{}, false
	}
	clusters := (total - res - fats*per - (roots*32+sec-1)/sec) / spc
	if clusters <= 0 {
		return Result{}, false
	}
	r := Result{Kind: Filesystem, Type: "vfat", Block: sec * spc, Size: times(uint64(total), sec)}
	tail := b[36:]
	switch {
	case is32:
		r.Version, tail = "FAT32", b[64:]
	case clusters < 4085:
		r.Version = "FAT12"
	default:
		r.Version = "FAT16"
	}
	if tail[2] == 0x28 || tail[2] == 0x29 {
		r.UUID = serial(tail[3:])
	}
	if tail[2] == 0x29 {
		if l := label(tail[7:18]); l != "NO NAME" {
			r.Label = l
		}
	}
	return r, true
}
