package fat

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// maxUnits is how long a name may be, in UTF-16 code units.
const maxUnits = 255

// cp437 are the characters of bytes from 0x80 on in short names.
var cp437 = []rune("ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0")

// fold is a name as names are compared.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x80 {
			if 'a' <= r && r <= 'z' {
				return r - 'a' + 'A'
			}
			return r
		}
		return unicode.ToUpper(r)
	}, s)
}

// checkName says whether a file may be given the name, and answers it in
// UTF-16. EINVAL, ENAMETOOLONG.
func checkName(name []byte) ([]uint16, error) {
	if !utf8.Valid(name) {
		return nil, fmt.Errorf("a name that is not UTF-8: %w", abi.EINVAL)
	}
	s := string(name)
	for _, r := range s {
		if r < 0x20 || r == 0x7f || strings.ContainsRune(`"*/:<>?\|`, r) {
			return nil, fmt.Errorf("a name with %q: %w", r, abi.EINVAL)
		}
	}
	if s == "" || s[len(s)-1] == '.' || s[len(s)-1] == ' ' {
		return nil, fmt.Errorf("a name that ends in a dot or space: %w", abi.EINVAL)
	}
	u := utf16.Encode([]rune(s))
	if len(u) > maxUnits {
		return nil, abi.ENAMETOOLONG
	}
	return u, nil
}

// showable reports whether a name from a disk may be shown: a hostile one can
// have anything in it.
func showable(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= abi.NAME_MAX && utf8.ValidString(s) && !strings.ContainsAny(s, "/\x00")
}

// shortChar reports whether a byte may stand in a short name.
func shortChar(c byte) bool {
	return 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'()-@^_`{}~", c) >= 0
}

// exactShort is the short name that says all of a name, if there is one.
func exactShort(s string) (sn [11]byte, ok bool) {
	base, ext, dot := strings.Cut(s, ".")
	if base == "" || len(base) > 8 || len(ext) > 3 || dot && ext == "" {
		return sn, false
	}
	for i := range sn {
		sn[i] = ' '
	}
	for i := range len(base) {
		if sn[i] = base[i]; !shortChar(base[i]) {
			return sn, false
		}
	}
	for i := range len(ext) {
		if sn[8+i] = ext[i]; !shortChar(ext[i]) {
			return sn, false
		}
	}
	return sn, true
}

// tail is a family of short names that end in ~ and a number of some digits.
type tail struct {
	base   string // in front of the ~
	digits int
	ext    [3]byte
}

// tailOf is the family and the number of a short name.
func tailOf(sn [11]byte) (tail, int, bool) {
	base := strings.TrimRight(string(sn[:8]), " ")
	i := strings.LastIndexByte(base, '~')
	if i < 0 || i == len(base)-1 || base[i+1] == '0' {
		return tail{}, 0, false
	}
	n := 0
	for _, c := range base[i+1:] {
		if c < '0' || c > '9' {
			return tail{}, 0, false
		}
		n = n*10 + int(c-'0')
	}
	return tail{base[:i], len(base) - i - 1, [3]byte(sn[8:])}, n, true
}

// makeShort makes a short name for a long one that is not taken: up to six
// characters and ~1, ~2 and so on, the first that is free. low has numbers of
// families below which all are taken. ENOSPC if all are taken.
func makeShort(s string, low map[tail]int, taken func([11]byte) bool) ([11]byte, error) {
	squeeze := func(s string, n int) []byte {
		var b []byte
		for _, r := range fold(s) {
			switch {
			case len(b) == n:
				return b
			case r == ' ' || r == '.':
			case r < 0x80 && shortChar(byte(r)):
				b = append(b, byte(r))
			default:
				b = append(b, '_')
			}
		}
		return b
	}
	base, ext := strings.TrimLeft(s, "."), ""
	if i := strings.LastIndexByte(base, '.'); i >= 0 {
		base, ext = base[:i], base[i+1:]
	}
	b, e := squeeze(base, 8), squeeze(ext, 3)
	if len(b) == 0 {
		b = []byte("_")
	}
	key := tail{ext: [3]byte{' ', ' ', ' '}}
	copy(key.ext[:], e)
	for first := 1; first < 1000000; first *= 10 {
		key.digits++
		key.base = string(b[:min(len(b), 7-key.digits)])
		for n := max(first, low[key]); n < first*10; n++ {
			sn := [11]byte{' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '}
			k := copy(sn[:8], key.base)
			sn[k] = '~'
			strconv.AppendInt(sn[k+1:k+1], int64(n), 10)
			copy(sn[8:], key.ext[:])
			if !taken(sn) {
				low[key] = n
				return sn, nil
			}
		}
		low[key] = first * 10
	}
	return [11]byte{}, abi.ENOSPC
}

// lowered says how a short name is to be shown so that it is a name: bits of
// Windows NT.
func lowered(name string) (nt byte, ok bool) {
	base, ext, _ := strings.Cut(name, ".")
	for _, p := range []struct {
		s   string
		bit byte
	}{{base, ntLowerBase}, {ext, ntLowerExt}} {
		switch {
		case strings.ToUpper(p.s) == p.s:
		case strings.ToLower(p.s) == p.s:
			nt |= p.bit
		default:
			return 0, false
		}
	}
	return nt, true
}

// Bits of the byte of Windows NT in a short slot.
const (
	ntLowerBase = 0x08
	ntLowerExt  = 0x10
)

// shortName is a short name as it is shown.
func shortName(sn [11]byte, nt byte) string {
	if sn[0] == 0x05 {
		sn[0] = 0xe5
	}
	text := func(b []byte, lower bool) string {
		for len(b) > 0 && b[len(b)-1] == ' ' {
			b = b[:len(b)-1]
		}
		var s strings.Builder
		for _, c := range b {
			switch {
			case c >= 0x80:
				s.WriteRune(cp437[c-0x80])
			case lower && 'A' <= c && c <= 'Z':
				s.WriteByte(c - 'A' + 'a')
			default:
				s.WriteByte(c)
			}
		}
		return s.String()
	}
	s := text(sn[:8], nt&ntLowerBase != 0)
	if e := text(sn[8:], nt&ntLowerExt != 0); e != "" {
		s += "." + e
	}
	return s
}

// sumOf is the checksum of a short name that its long slots carry.
func sumOf(sn [11]byte) byte {
	var s byte
	for _, c := range sn {
		s = s>>1 | s<<7
		s += c
	}
	return s
}
