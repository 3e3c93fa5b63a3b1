package cli

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// globMatch is fnmatch(3) without flags: * stands for any text, "/" and a
// leading "." among it, ? for one character, [...] for one of a set, and \ takes
// the meaning from what is behind it. An unclosed [ is a [. fold ignores case.
//
// It takes at most len(pattern) x len(s) steps.
func globMatch(pattern, s string, fold bool) bool {
	if fold {
		pattern, s = strings.ToLower(pattern), strings.ToLower(s)
	}
	p, i := 0, 0
	star, back := -1, 0 // behind the last *, and where in s it was tried last
	for {
		if p < len(pattern) && pattern[p] == '*' {
			p++
			star, back = p, i
			continue
		}
		if i == len(s) {
			if p == len(pattern) {
				return true
			}
		} else if np, ni, ok := globOne(pattern, p, s, i); ok {
			p, i = np, ni
			continue
		}
		if star < 0 || back >= len(s) {
			return false
		}
		_, n := utf8.DecodeRuneInString(s[back:])
		back += n
		p, i = star, back
	}
}

// globOne matches one character of s at i against what stands in the pattern at
// p, and answers what is behind both.
func globOne(pattern string, p int, s string, i int) (np, ni int, ok bool) {
	if p == len(pattern) {
		return 0, 0, false
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	switch pattern[p] {
	case '?':
		return p + 1, i + n, true
	case '[':
		if end, in, valid := globSet(pattern, p, r); valid {
			return end, i + n, in
		}
	case '\\':
		if p+1 < len(pattern) {
			p++
		}
	}
	if pattern[p] != s[i] {
		return 0, 0, false
	}
	return p + 1, i + 1, true // bytes, so that names that are no UTF-8 match themselves
}

// globClasses are the names in [[:alpha:]].
var globClasses = map[string]func(r rune) bool{
	"alpha": unicode.IsLetter, "digit": func(r rune) bool { return r >= '0' && r <= '9' },
	"alnum": func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) },
	"upper": unicode.IsUpper, "lower": unicode.IsLower, "space": unicode.IsSpace, "punct": unicode.IsPunct,
	"blank": func(r rune) bool { return r == ' ' || r == '\t' }, "cntrl": unicode.IsControl,
	"print": unicode.IsPrint, "graph": func(r rune) bool { return unicode.IsGraphic(r) && r != ' ' },
	"xdigit": func(r rune) bool { return strings.ContainsRune("0123456789abcdefABCDEF", r) },
}

// globSet reads the set that begins at pattern[p], a "[". It answers the place
// behind it and whether r is in it; valid is false if it has no end.
func globSet(pattern string, p int, r rune) (end int, in, valid bool) {
	rest := pattern[p+1:]
	not := rest != "" && (rest[0] == '!' || rest[0] == '^')
	if not {
		rest = rest[1:]
	}
	next := func() (rune, bool) {
		if rest != "" && rest[0] == '\\' {
			rest = rest[1:]
		}
		if rest == "" {
			return 0, false
		}
		c, n := utf8.DecodeRuneInString(rest)
		rest = rest[n:]
		return c, true
	}
	for first := true; ; first = false {
		if rest == "" {
			return 0, false, false
		}
		if rest[0] == ']' && !first {
			return len(pattern) - len(rest) + 1, in != not, true
		}
		if name, behind, ok := strings.Cut(strings.TrimPrefix(rest, "[:"), ":]"); ok && strings.HasPrefix(rest, "[:") {
			if f := globClasses[name]; f != nil {
				in = in || f(r)
				rest = behind
				continue
			}
		}
		lo, ok := next()
		if !ok {
			return 0, false, false
		}
		hi := lo
		if len(rest) > 1 && rest[0] == '-' && rest[1] != ']' {
			rest = rest[1:]
			if hi, ok = next(); !ok {
				return 0, false, false
			}
		}
		in = in || lo <= r && r <= hi
	}
}
