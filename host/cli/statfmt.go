package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// statField is a piece of a format of stat -f: text, or one datum.
type statField struct {
	text  string // if datum is 0
	flags string // of "#+-0 "
	width int
	prec  int  // -1: none
	fmt   byte // one of "DOUXFS", 0: the datum's own
	sub   byte // one of "HML", 0: none
	datum byte
}

// statData are the data of stat -f with the formats that each may have, the
// first being its own.
var statData = map[byte]string{
	'd': "UOXD", 'i': "UOXD", 'p': "OUXDS", 'l': "UOXD", 'u': "UOXDS", 'g': "UOXDS", 'r': "UOXD",
	'a': "DOUXFS", 'm': "DOUXFS", 'c': "DOUXFS", 'B': "DOUXFS", 'z': "DOUX", 'b': "DOUX", 'k': "UDOX", 'f': "UDOX", 'v': "UDOX",
	'N': "S", 'T': "S", 'Y': "S", 'Z': "S",
	'n': "S", 't': "S", '%': "S", '@': "UDOX",
}

// maxWidth bounds the widths of a format.
const maxWidth = 1000

// parseStatFormat reads the FORMAT of stat -f.
func parseStatFormat(s string) ([]statField, error) {
	var all []statField
	for s != "" {
		i := strings.IndexByte(s, '%')
		if i != 0 {
			if i < 0 {
				i = len(s)
			}
			all = append(all, statField{text: s[:i]})
			s = s[i:]
			continue
		}
		f, whole := statField{prec: -1}, s
		s = s[1:]
		n := len(s) - len(strings.TrimLeft(s, "#+-0 "))
		f.flags, s = s[:n], s[n:]
		number := func() (n int, err error) {
			end := len(s) - len(strings.TrimLeft(s, "0123456789"))
			if end > 0 {
				n, err = strconv.Atoi(s[:end])
			}
			s = s[end:]
			if err != nil || n > maxWidth {
				return 0, usagef("-f: a width in %q is more than %d", whole, maxWidth)
			}
			return n, nil
		}
		var err error
		if f.width, err = number(); err != nil {
			return nil, err
		}
		if strings.HasPrefix(s, ".") {
			s = s[1:]
			if f.prec, err = number(); err != nil {
				return nil, err
			}
		}
		if s != "" && strings.IndexByte("DOUXFS", s[0]) >= 0 {
			f.fmt, s = s[0], s[1:]
		}
		if s != "" && strings.IndexByte("HML", s[0]) >= 0 {
			f.sub, s = s[0], s[1:]
		}
		if s == "" {
			return nil, usagef("-f: %q has no end", whole)
		}
		f.datum, s = s[0], s[1:]
		may := statData[f.datum]
		what := whole[:len(whole)-len(s)]
		if may == "" {
			return nil, usagef("-f: %q names nothing that stat knows", what)
		}
		if f.fmt == 0 {
			f.fmt = may[0]
		}
		if strings.IndexByte(may, f.fmt) < 0 {
			return nil, usagef("-f: %q cannot be shown as %c", what, f.fmt)
		}
		if f.sub != 0 && strings.IndexByte("drpTY", f.datum) < 0 {
			return nil, usagef("-f: %q has no part %c", what, f.sub)
		}
		all = append(all, f)
	}
	return all, nil
}

// appendStat writes a file in a format; nth is its number among the operands.
func appendStat(b []byte, fields []statField, fi *fileInfo, nth int, show func(string) string) []byte {
	for i := range fields {
		f := &fields[i]
		switch f.datum {
		case 0:
			b = append(b, f.text...)
		case 'n':
			b = append(b, '\n')
		case 't':
			b = append(b, '\t')
		case '%':
			b = append(b, '%')
		default:
			b = append(b, f.value(fi, nth, show)...)
		}
	}
	return b
}

func (f *statField) value(fi *fileInfo, nth int, show func(string) string) string {
	v := &fi.st.Vattr
	part := func(d abi.Dev) uint64 {
		switch f.sub {
		case 'H':
			return uint64(d.Major())
		case 'L':
			return uint64(d.Minor())
		}
		return uint64(d)
	}
	switch f.datum {
	case 'd':
		return f.number(part(abi.Dev(fi.st.Dev)))
	case 'r':
		return f.number(part(v.Rdev))
	case 'i':
		return f.number(uint64(v.Fileid))
	case 'p':
		mode := abi.TypeMode(v.Type) | v.Mode&abi.ALLPERMS
		if f.fmt == 'S' {
			s := modeString(v.Type, v.Mode)
			switch f.sub {
			case 'H':
				s = s[1:4]
			case 'M':
				s = s[4:7]
			case 'L':
				s = s[7:10]
			}
			return f.pad(s)
		}
		switch f.sub {
		case 'H':
			mode >>= 12
		case 'M':
			mode = mode >> 9 & 7
		case 'L':
			mode &= 0o777
		}
		return f.number(uint64(mode))
	case 'l':
		return f.number(uint64(v.Nlink))
	case 'u':
		return f.number(uint64(v.Uid))
	case 'g':
		return f.number(uint64(v.Gid))
	case 'a':
		return f.time(v.Atime)
	case 'm':
		return f.time(v.Mtime)
	case 'c':
		return f.time(v.Ctime)
	case 'B':
		return f.time(v.Btime)
	case 'z':
		return f.number(uint64(v.Size))
	case 'b':
		return f.number(uint64((v.Bytes + abi.S_BLKSIZE - 1) / abi.S_BLKSIZE))
	case 'k':
		return f.number(uint64(v.Blksize))
	case 'f':
		return f.number(uint64(v.Flags))
	case 'v':
		return f.number(uint64(v.Gen))
	case '@':
		return f.number(uint64(nth))
	case 'N':
		return f.pad(show(fi.name))
	case 'Y':
		return f.pad(show(fi.target))
	case 'T':
		return f.pad(typeText(v, f.sub == 'H'))
	case 'Z':
		if v.Type == abi.VCHR || v.Type == abi.VBLK {
			return f.pad(fmt.Sprintf("%d,%d", v.Rdev.Major(), v.Rdev.Minor()))
		}
		return f.pad(strconv.FormatInt(v.Size, 10))
	}
	return ""
}

// typeText is the type of a file, as ls -F shows it or in words.
func typeText(v *abi.Vattr, words bool) string {
	marks := map[abi.VType][2]string{
		abi.VREG: {"", "Regular File"}, abi.VDIR: {"/", "Directory"}, abi.VBLK: {"", "Block Device"}, abi.VCHR: {"", "Character Device"},
		abi.VLNK: {"@", "Symbolic Link"}, abi.VFIFO: {"|", "Fifo File"}, abi.VSOCK: {"=", "Socket"},
	}
	m, ok := marks[v.Type]
	switch {
	case !ok:
		m = [2]string{"?", "???"}
	case v.Type == abi.VREG && v.Mode&0o111 != 0:
		m[0] = "*"
	}
	if words {
		return m[1]
	}
	return m[0]
}

func (f *statField) pad(s string) string {
	if f.prec >= 0 && len(s) > f.prec {
		s = s[:f.prec]
	}
	format := "%*s"
	if strings.Contains(f.flags, "-") {
		format = "%-*s"
	}
	return fmt.Sprintf(format, f.width, s)
}

func (f *statField) number(n uint64) string {
	verb, arg := "d", any(n)
	switch f.fmt {
	case 'D':
		arg = int64(n)
	case 'O':
		verb = "o"
	case 'X':
		verb = "x"
	}
	format := "%"
	for _, c := range f.flags {
		if c != '#' || verb != "d" {
			format += string(c)
		}
	}
	format += "*"
	if f.prec >= 0 {
		return fmt.Sprintf(format+".*"+verb, f.width, f.prec, arg)
	}
	return fmt.Sprintf(format+verb, f.width, arg)
}

func (f *statField) time(t abi.Timespec) string {
	switch f.fmt {
	case 'S':
		return f.pad(t.Time().UTC().Format("2006-01-02T15:04:05.000000000Z"))
	case 'F':
		prec := 9
		if f.prec >= 0 {
			prec = min(f.prec, 9)
		}
		frac := fmt.Sprintf("%09d", t.Nsec)[:prec]
		if prec > 0 {
			frac = "." + frac
		}
		p := *f
		p.prec = -1
		return p.pad(strconv.FormatInt(t.Sec, 10) + frac)
	}
	return f.number(uint64(t.Sec))
}
