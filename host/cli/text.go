package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// printable replaces every control, formatting and invalid character by "?", as
// ls -q does, so that text from the kernel cannot drive a terminal.
func printable(s string) string {
	clean := true
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsGraphic(r) {
			return '?'
		}
		return r
	}, s)
}

// printableLines is printable for text of several lines: newlines and tabs stay.
func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		fields := strings.Split(l, "\t")
		for j := range fields {
			fields[j] = printable(fields[j])
		}
		lines[i] = strings.Join(fields, "\t")
	}
	return strings.Join(lines, "\n")
}

// table lays out rows in columns that line up. The format says one letter a
// column: l to the left, r to the right; the last column is not padded.
func table(w io.Writer, format string, rows [][]string) {
	width := make([]int, len(format))
	for _, r := range rows {
		for i, cell := range r {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, r := range rows {
		var b strings.Builder
		for i, cell := range r {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i > 0 {
				b.WriteByte(' ')
			}
			if format[i] == 'r' {
				b.WriteString(pad + cell)
			} else {
				b.WriteString(cell + pad)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// columns writes names in as many columns as fit into width, down before across.
func columns(w io.Writer, names []string, width int) {
	longest := 0
	for _, n := range names {
		longest = max(longest, utf8.RuneCountInString(n))
	}
	cols := max(1, width/(longest+2))
	rows := (len(names) + cols - 1) / cols
	for r := range rows {
		var b strings.Builder
		for i := r; i < len(names); i += rows {
			b.WriteString(names[i])
			if i+rows < len(names) {
				b.WriteString(strings.Repeat(" ", longest+2-utf8.RuneCountInString(names[i])))
			}
		}
		fmt.Fprintln(w, b.String())
	}
}

// writeJSON writes v as one document.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// human writes a number of bytes in at most four characters and a unit, in
// powers of 1024, as humanize_number(3) does: 0B, 999B, 1.5K, 12M.
func human(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%dB", n)
	}
	v := float64(n)
	for _, u := range "KMGTPE" {
		v /= 1024
		if v < 9.95 {
			return fmt.Sprintf("%.1f%c", v, u)
		}
		if v < 999.5 || u == 'E' {
			return fmt.Sprintf("%.0f%c", v, u)
		}
	}
	return ""
}

var typeLetters = map[abi.VType]byte{
	abi.VREG: '-', abi.VDIR: 'd', abi.VBLK: 'b', abi.VCHR: 'c', abi.VLNK: 'l', abi.VSOCK: 's', abi.VFIFO: 'p',
}

// modeString is strmode(3): drwxr-xr-x.
func modeString(t abi.VType, mode uint32) string {
	b := []byte("?rwxrwxrwx")
	if l := typeLetters[t]; l != 0 {
		b[0] = l
	}
	for i := range 9 {
		if mode&(0o400>>i) == 0 {
			b[1+i] = '-'
		}
	}
	special := func(at int, bit uint32, with, without byte) {
		if mode&bit == 0 {
			return
		}
		if b[at] == 'x' {
			b[at] = with
		} else {
			b[at] = without
		}
	}
	special(3, abi.S_ISUID, 's', 'S')
	special(6, abi.S_ISGID, 's', 'S')
	special(9, abi.S_ISVTX, 't', 'T')
	return string(b)
}

// typeNames are the words for file types in --json.
var typeNames = map[abi.VType]string{
	abi.VREG: "file", abi.VDIR: "directory", abi.VBLK: "block_device", abi.VCHR: "character_device",
	abi.VLNK: "symlink", abi.VSOCK: "socket", abi.VFIFO: "fifo",
}

func typeName(t abi.VType) string {
	if n := typeNames[t]; n != "" {
		return n
	}
	return "unknown"
}

// lsTime is a time as ls -l shows it: with the year if it is more than about
// half a year away.
func lsTime(t, now time.Time) string {
	const halfYear = 365 * 24 * time.Hour / 2
	if d := now.Sub(t); d > halfYear || d < -halfYear {
		return t.Format("Jan _2  2006")
	}
	return t.Format("Jan _2 15:04")
}
