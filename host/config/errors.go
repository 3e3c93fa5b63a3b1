package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Error is what is wrong with a configuration, in one line. A program that
// gets one prints it and exits with status 2.
type Error struct {
	// File is the file's path as it was given, "environment NAME", "--set",
	// or BuiltIn.
	File string
	// Key is the path of the value, parts joined by "/", list entries counted
	// from 0; "" if it is about the whole source.
	Key string
	// Line is where it stands in the file, from 1; 0 if that is not known.
	Line int
	// Msg is one line.
	Msg string

	path []string // Key before it was made fit to be shown
}

// Error is File with Line, Key and Msg, as in "config.yaml:3: log/level: ...".
func (e *Error) Error() string {
	head := e.File
	if e.Line > 0 {
		head += ":" + strconv.Itoa(e.Line)
	}
	if e.Key != "" {
		head += ": " + e.Key
	}
	return head + ": " + e.Msg
}

// Errors are all mistakes of a configuration, two or more, sorted by where they
// stand: the file's by line, then the environment's and the command line's.
type Errors []*Error

// Error has a line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives each *Error.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}

// maxShown is how much of a value or a name a message repeats, in bytes.
const maxShown = 64

// shown is s fit for a message: short, one line, quoted only if it has to be.
func shown(s string) string {
	if len(s) > maxShown {
		s = strings.ToValidUTF8(s[:maxShown], "") + "..."
	}
	if q := strconv.Quote(s); s == "" || q[1:len(q)-1] != s || strings.ContainsAny(s, " :") {
		return q
	}
	return s
}

// oneLine is s as a single printable line of bounded length.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	s = strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
	if len(s) > 4*maxShown {
		s = strings.ToValidUTF8(s[:4*maxShown], "") + "..."
	}
	return s
}

// keyPath is the Key of an Error.
func keyPath(path []string) string {
	parts := make([]string, len(path))
	for i, p := range path {
		parts[i] = shown(p)
	}
	return strings.Join(parts, "/")
}

// got names a value and its type for a message.
func got(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case bool:
		return strconv.FormatBool(v)
	case string:
		s := shown(v)
		if s[0] != '"' {
			s = strconv.Quote(s)
		}
		return s
	case int, int64, uint64, float64:
		return fmt.Sprintf("the number %v", v)
	case time.Time:
		return "a date"
	case []any:
		return "a list"
	case map[string]any, map[any]any:
		return "a mapping"
	}
	return fmt.Sprintf("a %T", v)
}

// unknown is the message for a key that is not among known; all are the full
// paths of the schema, for a key that belongs elsewhere.
func unknown(key string, known, all []string) string {
	// kernel.ncpu and, from the environment, kernel-ncpu are kernel/ncpu.
	flat := strings.NewReplacer(".", "-", "/", "-", "_", "-")
	var elsewhere []string
	for _, p := range all {
		if strings.Contains(p, "/") && flat.Replace(p) == flat.Replace(key) {
			return "unknown key (names are nested: did you mean " + p + "?)"
		}
		if p[strings.LastIndexByte(p, '/')+1:] == key {
			elsewhere = append(elsewhere, p)
		}
	}
	if best := nearest(key, known); best != "" {
		return "unknown key (did you mean " + best + "?)"
	}
	if len(elsewhere) == 1 {
		return "unknown key (did you mean " + elsewhere[0] + "?)"
	}
	if len(known) == 0 {
		return "unknown key (nothing can be set here)"
	}
	return "unknown key (there are " + strings.Join(known, ", ") + ")"
}

// nearest is the name of known that key was most likely meant to be, or "".
func nearest(key string, known []string) string {
	if len(key) > maxShown {
		return ""
	}
	key = strings.ReplaceAll(strings.ToLower(key), "_", "-")
	best, bestDist := "", max(2, len(key)/3)+1
	if len(key) <= 3 {
		bestDist = 2
	}
	for _, k := range known {
		if d := distance(key, k); d < bestDist && d < len(k) {
			best, bestDist = k, d
		}
	}
	if best == "" && len(key) >= 3 {
		for _, k := range known {
			if strings.HasPrefix(k, key) || strings.HasPrefix(key, k) {
				return k
			}
		}
	}
	return best
}

// distance is how many letters must be put in, left out, changed or swapped
// with their neighbour to make b of a.
func distance(a, b string) int {
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
