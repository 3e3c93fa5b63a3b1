package fat

import (
	"fmt"
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

// makeShort makes a short name for a long one that is not taken: up to six
// characters and ~1, ~2 and so on. ENOSPC if all are taken.
func makeShort(s string, taken func([11]byte) bool) ([11]byte, error) {
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
	for n := 1; n < 1000000; n++ {
		tail := fmt.Sprintf("~%d", n)
		var sn [11]byte
		for i := range sn {
			sn[i] = ' '
		}
		k := copy(sn[:8], b[:min(len(b), 8-len(tail))])
		copy(sn[k:8], tail)
		copy(sn[8:], e)
		if !taken(sn) {
			return sn, nil
		}
	}
	return [11]byte{}, abi.ENOSPC
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
