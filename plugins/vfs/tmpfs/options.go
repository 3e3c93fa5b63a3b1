package tmpfs

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// options are the mount options after parsing.
type options struct {
	pages    int64 // of file contents, and as much for extended attributes
	nodes    int64 // names, the root's included
	mode     uint32
	uid, gid uint32
}

// parseOptions reads the mount options. EINVAL, with the option's name in the
// text, for one that is unknown or malformed.
func parseOptions(opts map[string]string) (options, error) {
	o := options{mode: 0o755}
	size := "50%"
	var names []string
	for name := range opts {
		names = append(names, name)
	}
	slices.Sort(names) // the first complaint does not depend on chance
	for _, name := range names {
		val := opts[name]
		var err error
		switch name {
		case "size":
			size = val
		case "nodes":
			var n uint64
			if n, err = parseSize(val); err == nil && n == 0 {
				err = abi.EINVAL
			}
			o.nodes = int64(min(n, math.MaxInt64))
		case "mode":
			var n uint64
			n, err = strconv.ParseUint(val, 8, 12)
			o.mode = uint32(n)
		case "uid", "gid":
			var n uint64
			n, err = strconv.ParseUint(val, 10, 32)
			if name == "uid" {
				o.uid = uint32(n)
			} else {
				o.gid = uint32(n)
			}
		default:
			return o, fmt.Errorf("unknown option %q: %w", name, abi.EINVAL)
		}
		if err != nil {
			return o, fmt.Errorf("option %s=%q: %w", name, val, abi.EINVAL)
		}
	}
	bytes, err := parseSize(size)
	if err != nil || bytes == 0 {
		return o, fmt.Errorf("option size=%q: %w", size, abi.EINVAL)
	}
	o.pages = int64(min(bytes, math.MaxInt64-abi.PageSize)+abi.PageSize-1) / abi.PageSize
	if o.nodes == 0 {
		o.nodes = 3 + o.pages*(abi.PageSize/1024)
	}
	return o, nil
}

// parseSize reads a number with one of the endings b, k, m, g, t (powers of
// 1024) or % of the machine's memory.
func parseSize(s string) (uint64, error) {
	if s == "" {
		return 0, abi.EINVAL
	}
	unit := uint64(1)
	num := s[:len(s)-1]
	switch s[len(s)-1] {
	case 'b', 'B':
	case 'k', 'K':
		unit = 1 << 10
	case 'm', 'M':
		unit = 1 << 20
	case 'g', 'G':
		unit = 1 << 30
	case 't', 'T':
		unit = 1 << 40
	case '%':
		n, err := strconv.ParseUint(num, 10, 16)
		if err != nil || n > 100 {
			return 0, abi.EINVAL
		}
		mem, err := machineMemory()
		if err != nil {
			return 0, err
		}
		return mem / 100 * n, nil
	default:
		num = s
	}
	n, err := strconv.ParseUint(num, 10, 64)
	if err != nil {
		return 0, abi.EINVAL
	}
	hi, lo := bits.Mul64(n, unit)
	if hi != 0 {
		return 0, abi.EINVAL
	}
	return lo, nil
}
