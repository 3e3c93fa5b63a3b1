package config

import (
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Size is an amount of memory: bytes, or a share of some total. The zero Size
// is zero bytes.
type Size struct {
	// Bytes counts when Percent is zero.
	Bytes uint64
	// Percent is 1 to 100, or zero.
	Percent uint8
}

// Of is the size in bytes where the whole is total bytes.
func (s Size) Of(total uint64) uint64 {
	if s.Percent == 0 {
		return s.Bytes
	}
	hi, lo := bits.Mul64(total, uint64(s.Percent))
	q, _ := bits.Div64(hi, lo, 100)
	return q
}

// String is the size as it is written in a configuration.
func (s Size) String() string {
	if s.Percent != 0 {
		return strconv.Itoa(int(s.Percent)) + "%"
	}
	b := s.Bytes
	for i := len(sizeUnits) - 1; i > 0; i-- {
		if n := uint(i) * 10; b != 0 && b&(1<<n-1) == 0 {
			return strconv.FormatUint(b>>n, 10) + sizeUnits[i:i+1]
		}
	}
	return strconv.FormatUint(b, 10)
}

// sizeUnits are the suffixes; each is 1024 times the one before.
const sizeUnits = " kmgt"

var errSize = errors.New("wanted a size such as 4096, 64k, 16m, 1g or 25%")

// ParseSize reads a size: a decimal number with nothing or one of k, m, g, t
// (in either case; powers of 1024) behind it, or a percentage from 1% to 100%.
// A size is below 8 exabytes.
func ParseSize(s string) (Size, error) {
	num, shift, percent := s, 0, false
	if n := len(s); n > 0 && (s[n-1] < '0' || s[n-1] > '9') {
		num = s[:n-1]
		if percent = s[n-1] == '%'; !percent {
			i := strings.IndexByte(sizeUnits, s[n-1]|0x20)
			if i < 1 {
				return Size{}, errSize
			}
			shift = i * 10
		}
	}
	v, err := strconv.ParseUint(num, 10, 63)
	switch {
	case errors.Is(err, strconv.ErrRange), v > (1<<63-1)>>shift:
		return Size{}, errors.New("wanted a size below 8 exabytes")
	case err != nil:
		return Size{}, errSize
	case percent && (v < 1 || v > 100):
		return Size{}, errors.New("wanted a percentage from 1% to 100%")
	case percent:
		return Size{Percent: uint8(v)}, nil
	}
	return Size{Bytes: v << shift}, nil
}

// CPUs is a number of virtual CPUs; zero is as many as the host has.
type CPUs int

// maxCPUs bounds kernel/ncpu; a typing error should not cost memory.
const maxCPUs = 256

// Count is the number of CPUs, at least one.
func (c CPUs) Count() int {
	if c > 0 {
		return int(c)
	}
	return min(runtime.NumCPU(), maxCPUs)
}

// String is the number as it is written in a configuration.
func (c CPUs) String() string {
	if c == 0 {
		return "host"
	}
	return strconv.Itoa(int(c))
}

// Mode is a permission, written in a configuration as quoted octal digits.
type Mode uint32

// Perm is the mode as the os package wants it.
func (m Mode) Perm() fs.FileMode { return fs.FileMode(m) & fs.ModePerm }

// String is the mode as it is written in a configuration.
func (m Mode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// maxDuration bounds every duration; longer is a typing error.
const maxDuration = 24 * time.Hour

// maxText bounds every text value, in bytes.
const maxText = 4096

// The leaf parsers: one for each type of leaf. Each takes what YAML made of the
// value, or a string from the environment or the command line, and gives the
// value of the field's own type. The error says what was wanted; the caller
// puts in front what it got.

func parseBool(v any) (any, error) {
	if b, ok := v.(bool); ok {
		return b, nil
	}
	return nil, errors.New("wanted true or false")
}

func parseInt(v any) (any, error) {
	if n, ok := v.(int); ok {
		return n, nil
	}
	return nil, errors.New("wanted a whole number")
}

func parseText(v any) (any, error) {
	s, ok := v.(string)
	if !ok {
		return nil, errors.New("wanted text (in quotes, if need be)")
	}
	return s, checkText(s)
}

// checkText refuses text that could break a line of the log or a C string.
func checkText(s string) error {
	if len(s) > maxText {
		return fmt.Errorf("wanted at most %d bytes", maxText)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("wanted text without control characters")
	}
	return nil
}

func parseTexts(v any) (any, error) {
	l, ok := v.([]any)
	if !ok {
		return nil, errors.New("wanted a list of texts")
	}
	if len(l) > maxList {
		return nil, fmt.Errorf("wanted at most %d entries", maxList)
	}
	out := make([]string, len(l))
	for i, e := range l {
		s, ok := e.(string)
		if !ok {
			return nil, refusal(fmt.Sprintf("entry %d: got %s, wanted text (in quotes, if need be)", i, got(e)))
		}
		if err := checkText(s); err != nil {
			return nil, refusal(fmt.Sprintf("entry %d: got %s, %v", i, got(e), err))
		}
		out[i] = s
	}
	return out, nil
}

func parseList(v any) (any, error) {
	if l, ok := v.([]any); ok {
		return l, nil
	}
	return nil, errors.New("wanted a list")
}

func parseDuration(v any) (any, error) {
	if s, ok := v.(string); ok {
		if d, err := time.ParseDuration(s); err == nil {
			return d, nil
		}
	}
	return nil, errors.New("wanted a duration such as 500ms, 10s or 2m")
}

func parseSize(v any) (any, error) {
	switch v := v.(type) {
	case string:
		return ParseSize(v)
	case int:
		if v >= 0 {
			return Size{Bytes: uint64(v)}, nil
		}
	}
	return nil, errSize
}

func parseCPUs(v any) (any, error) {
	if s, ok := v.(string); ok {
		if s == "host" {
			return CPUs(0), nil
		}
		if n, err := strconv.Atoi(s); err == nil {
			v = n
		}
	}
	if n, ok := v.(int); ok && n >= 1 && n <= maxCPUs {
		return CPUs(n), nil
	}
	return nil, fmt.Errorf("wanted host or a number from 1 to %d", maxCPUs)
}

func parseMode(v any) (any, error) {
	// A number will not do: YAML reads 0700 as octal and 700 as decimal.
	if s, ok := v.(string); ok && len(s) >= 3 {
		if n, err := strconv.ParseUint(s, 8, 32); err == nil && n <= 0o777 {
			return Mode(n), nil
		}
	}
	return nil, errors.New(`wanted a permission in quoted octal such as "0700"`)
}
