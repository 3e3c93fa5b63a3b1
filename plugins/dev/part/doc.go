// Package part reads partition tables, and shows each partition as a block
// device (dk(4), wedges).
//
// Tables come from untrusted media, and are read here, in a component, never in
// the host. Read finds a GUID partition table (UEFI specification, chapter 5), a
// master boot record with logical partitions, or a NetBSD disklabel
// (disklabel(5)), in this order:
//
//	t, err := part.Read(ctx, disk)
//	for _, p := range t.Parts { ... p.Start, p.Size ... }
//
// All counts, sizes and chains are bounded. An entry that lies outside the disk
// or over another one is shown with the reason in Err and gets no device; a
// table whose first copy is damaged is read from its second, and says so in
// Warnings.
package part

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Disk is what a table is read from.
type Disk interface {
	// ReadAt fills p from any offset, or fails.
	ReadAt(ctx context.Context, p []byte, off int64) error
	Size() int64   // bytes
	Sector() int64 // bytes: 512 to 64 KiB
}

// Table is a partition table.
type Table struct {
	Kind   string `json:"kind"`           // "gpt", "mbr", "disklabel"
	UUID   string `json:"uuid,omitempty"` // of the disk; of an MBR its 8 hexadecimal digits
	Label  string `json:"label,omitempty"`
	Sector int64  `json:"sector"` // that the table counts in, bytes
	Parts  []Part `json:"partitions"`
	// Inner are the partitions of a disklabel inside of one of Parts.
	Inner    []Part   `json:"inner,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// Part is a partition.
type Part struct {
	Num    int    `json:"num"`             // from 1; logical ones from 5
	Suffix string `json:"suffix"`          // of the device: "p1"; "a" for those of a disklabel
	Start  int64  `json:"start"`           // bytes
	Size   int64  `json:"size"`            // bytes
	Type   string `json:"type"`            // "Linux filesystem"; the number or GUID if it has no name
	TypeID string `json:"type_id"`         // "0x83", a GUID, "4.2BSD"
	Name   string `json:"name,omitempty"`  // the label
	UUID   string `json:"uuid,omitempty"`  // of the partition
	Boot   bool   `json:"boot,omitempty"`  // active
	Attrs  uint64 `json:"attrs,omitempty"` // of a GPT entry
	Err    string `json:"error,omitempty"` // why there is no device for it
}

// MaxParts bounds the partitions of one disk.
const MaxParts = 256

// ErrNoTable says that a disk has no partition table.
var ErrNoTable = fmt.Errorf("no partition table: %w", abi.ESRCH)

// Read finds the table of a disk. ErrNoTable; EIO and what the disk answers;
// EFTYPE: there is one, and it is damaged beyond use.
func Read(ctx context.Context, d Disk) (*Table, error) {
	if d.Size() < 512 {
		return nil, ErrNoTable
	}
	for _, read := range []func(context.Context, Disk) (*Table, error){readGPT, readMBR, readWholeLabel} {
		t, err := read(ctx, d)
		if errors.Is(err, ErrNoTable) {
			continue
		}
		if t != nil {
			t.check(d.Size())
		}
		return t, err
	}
	return nil, ErrNoTable
}

func (t *Table) warn(format string, args ...any) {
	if len(t.Warnings) < 32 {
		t.Warnings = append(t.Warnings, fmt.Sprintf(format, args...))
	}
}

// check marks what cannot be a device: what is outside of the disk, and what
// lies over an entry that comes before it, unless it is the partition that
// holds it (an extended one, the slice of a disklabel: those are not in Parts).
func (t *Table) check(size int64) {
	bySpace := make([]*Part, 0, len(t.Parts))
	for i := range t.Parts {
		p := &t.Parts[i]
		switch {
		case p.Err != "":
		case p.Size <= 0:
			p.Err = "empty"
		case p.Start < 0 || p.Start > size || p.Size > size-p.Start:
			p.Err = fmt.Sprintf("reaches behind the end of the disk at %d bytes", size)
		default:
			bySpace = append(bySpace, p)
		}
	}
	if t.Kind == "disklabel" {
		return // c and d are the slice and the disk: overlapping is how it is done
	}
	sort.SliceStable(bySpace, func(i, j int) bool { return bySpace[i].Start < bySpace[j].Start })
	var last *Part
	for _, p := range bySpace {
		if last != nil && p.Start < last.Start+last.Size {
			p.Err = fmt.Sprintf("overlaps partition %d", last.Num)
			continue
		}
		last = p
	}
}

var le = binary.LittleEndian

// guid writes a GUID as it is stored: the first three fields little-endian.
func guid(b []byte) string {
	return strings.ToUpper(fmt.Sprintf("%08x-%04x-%04x-%s-%s", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]),
		hex.EncodeToString(b[8:10]), hex.EncodeToString(b[10:16])))
}

// text is a label of a medium as people may see it: no controls, at most n
// runes.
func text(s string, n int) string {
	s = strings.TrimRight(s, "\x00 ")
	r := []rune(strings.ToValidUTF8(s, "?"))
	if len(r) > n {
		r = r[:n]
	}
	for i, c := range r {
		if c < ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 {
			r[i] = '?'
		}
	}
	return string(r)
}
