package fat

import (
	"encoding/binary"
	"time"
	"unicode/utf16"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// slotSize is the bytes of a slot of a directory.
const slotSize = 32

// Attributes.
const (
	attrReadOnly = 0x01
	attrHidden   = 0x02
	attrSystem   = 0x04
	attrLabel    = 0x08
	attrDir      = 0x10
	attrArchive  = 0x20
	attrLong     = attrReadOnly | attrHidden | attrSystem | attrLabel
	attrMask     = 0x3f
)

// First bytes of a slot.
const (
	slotEnd  = 0x00 // free, as are all behind it
	slotFree = 0xe5
	lastLong = 0x40 // in a long slot's number: the first of them, the name's end
)

// unitsPerSlot is how many UTF-16 units of a name a long slot has.
const unitsPerSlot = 13

// slot is a short slot.
type slot struct {
	name         [11]byte
	attr, nt     byte
	btime        fatTime // date, time, hundredths of two seconds
	adate        uint16
	mdate, mtime uint16
	first        uint32
	size         uint32
}

// fatTime is a time to 10 ms.
type fatTime struct {
	date, time uint16
	cs         byte
}

func parseSlot(b []byte) slot {
	le := binary.LittleEndian
	s := slot{attr: b[11] & attrMask, nt: b[12], btime: fatTime{le.Uint16(b[16:]), le.Uint16(b[14:]), b[13]},
		adate: le.Uint16(b[18:]), mtime: le.Uint16(b[22:]), mdate: le.Uint16(b[24:]),
		first: uint32(le.Uint16(b[20:]))<<16 | uint32(le.Uint16(b[26:])), size: le.Uint32(b[28:])}
	copy(s.name[:], b)
	return s
}

func (s *slot) bytes() []byte {
	le := binary.LittleEndian
	b := make([]byte, slotSize)
	copy(b, s.name[:])
	b[11], b[12], b[13] = s.attr, s.nt, s.btime.cs
	le.PutUint16(b[14:], s.btime.time)
	le.PutUint16(b[16:], s.btime.date)
	le.PutUint16(b[18:], s.adate)
	le.PutUint16(b[20:], uint16(s.first>>16))
	le.PutUint16(b[22:], s.mtime)
	le.PutUint16(b[24:], s.mdate)
	le.PutUint16(b[26:], uint16(s.first))
	le.PutUint32(b[28:], s.size)
	return b
}

// longSlots are the slots in front of a short one that carry a long name.
func longSlots(name []uint16, sum byte) []byte {
	n := (len(name) + unitsPerSlot - 1) / unitsPerSlot
	out := make([]byte, n*slotSize)
	for i := range n {
		b := out[(n-1-i)*slotSize:][:slotSize]
		b[0] = byte(i + 1)
		if i == n-1 {
			b[0] |= lastLong
		}
		b[11], b[13] = attrLong, sum
		for k := range unitsPerSlot {
			u := uint16(0xffff)
			switch at := i*unitsPerSlot + k; {
			case at < len(name):
				u = name[at]
			case at == len(name):
				u = 0
			}
			binary.LittleEndian.PutUint16(b[unitAt[k]:], u)
		}
	}
	return out
}

// unitAt is where the units of a long slot are.
var unitAt = [unitsPerSlot]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30}

// longName collects the slots of a long name as they come, from its end.
type longName struct {
	units [20 * unitsPerSlot]uint16
	next  int  // the number of the slot that is to come; 0: the short one is
	n     int  // slots of the name
	sum   byte // of the short name
	from  int  // index of the first of them
	ok    bool
}

// add takes a long slot.
func (l *longName) add(b []byte, index int) {
	k := int(b[0] &^ lastLong)
	if b[0]&lastLong != 0 {
		*l = longName{next: k, n: k, sum: b[13], from: index, ok: k >= 1 && k <= 20}
	}
	if !l.ok || k != l.next || b[13] != l.sum || b[12] != 0 {
		l.ok = false
		return
	}
	l.next--
	for i := range unitsPerSlot {
		l.units[(k-1)*unitsPerSlot+i] = binary.LittleEndian.Uint16(b[unitAt[i]:])
	}
}

// text is the name for a short slot, "" if there is none that fits it.
func (l *longName) text(sn [11]byte) string {
	if !l.ok || l.next != 0 || l.sum != sumOf(sn) {
		return ""
	}
	u := l.units[:l.n*unitsPerSlot]
	for i, c := range u {
		if c == 0 {
			u = u[:i]
			break
		}
	}
	if len(u) > maxUnits {
		return ""
	}
	return string(utf16.Decode(u))
}

// Times. FAT knows those from 1980 to 2107.

func (o *options) toFat(ts abi.Timespec) fatTime {
	t := time.Unix(ts.Sec+o.gmtoff, int64(ts.Nsec)).UTC()
	switch y := t.Year(); {
	case y < 1980:
		return fatTime{date: 1<<5 | 1}
	case y > 2107:
		t = time.Date(2107, 12, 31, 23, 59, 59, 990e6, time.UTC)
	}
	return fatTime{
		date: uint16(t.Year()-1980)<<9 | uint16(t.Month())<<5 | uint16(t.Day()),
		time: uint16(t.Hour())<<11 | uint16(t.Minute())<<5 | uint16(t.Second()/2),
		cs:   byte(t.Second()%2*100 + t.Nanosecond()/10e6),
	}
}

// fromFat is the epoch for a date of no month.
func (o *options) fromFat(f fatTime) abi.Timespec {
	y, mon, d := int(f.date>>9)+1980, int(f.date>>5&15), int(f.date&31)
	if mon == 0 || mon > 12 || d == 0 {
		return abi.Timespec{}
	}
	t := time.Date(y, time.Month(mon), d, int(f.time>>11), int(f.time>>5&63), int(f.time&31)*2, 0, time.UTC)
	cs := int64(min(f.cs, 199))
	return abi.Timespec{Sec: t.Unix() + cs/100 - o.gmtoff, Nsec: int32(cs % 100 * 10e6)}
}
