package config

import (
	"errors"
	"fmt"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits on the number of things; more is a mistake or an attack.
const (
	maxComponents = 64
	maxMounts     = 1024
	maxList       = 256
	maxFree       = 1024 // names in one free map
	maxDepth      = 16   // nesting in a free map
)

// classes are the component slots.
var classes = map[string]bool{"vfs": true, "net": true, "dev": true}

// levels are the log levels, most talkative first.
var levels = []string{"trace", "debug", "info", "warn", "error", "off"}

// secmodels are the security models this version of the kernel has.
var secmodels = []string{"suser", "securelevel", "extensions"}

var (
	componentRE = regexp.MustCompile(`^[a-z][a-z0-9_]{0,30}$`)
	deviceRE    = regexp.MustCompile(`^[a-z][a-z0-9_]{0,19}$`)
	fstypeRE    = regexp.MustCompile(`^[a-z0-9][a-z0-9_]{0,30}$`)
	sysctlRE    = regexp.MustCompile(`^[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)+$`)
	hostRE      = regexp.MustCompile(`^[a-zA-Z0-9_]([a-zA-Z0-9_.-]{0,253}[a-zA-Z0-9_])?$`)
)

// refusal is an error whose message stands by itself, without "got ...".
type refusal string

func (r refusal) Error() string { return string(r) }

// rules are the checks beyond a leaf's type, by the name in the rule tag. Each
// gets the parsed value and gives it back, perhaps in another form.
var rules = map[string]func(v any) (any, error){
	"hostname": text(func(s string) error {
		if s != "" && !hostRE.MatchString(s) {
			return errors.New("wanted a host name of at most 255 letters, digits, dots and hyphens")
		}
		return nil
	}),
	"blkfail": text(func(s string) error {
		if n, err := strconv.ParseUint(s, 10, 32); s != "" && (err != nil || n > 10000) {
			return errors.New("wanted a number from 0 to 10000 in quotes")
		}
		return nil
	}),
	"blkfail-seed": text(func(s string) error {
		if _, err := strconv.ParseUint(s, 10, 32); s != "" && err != nil {
			return errors.New("wanted a number of 32 bits in quotes")
		}
		return nil
	}),
	"secmodels": func(v any) (any, error) {
		for i, s := range v.([]string) {
			if !slices.Contains(secmodels, s) {
				return nil, refusal(fmt.Sprintf("entry %d: unknown secmodel %s (there are %s)", i, shown(s), strings.Join(secmodels, ", ")))
			}
		}
		return distinct(v)
	},
	"owner": text(func(s string) error {
		if s != "root" {
			return errors.New("wanted root")
		}
		return nil
	}),
	"module-path": distinct,
	"grant":       distinct,
	"socket": func(v any) (any, error) {
		s := v.(string)
		if scheme, rest, ok := strings.Cut(s, "://"); ok {
			if scheme != "unix" {
				return nil, errors.New("wanted a path or a unix:// URL")
			}
			if s = rest; s == "" {
				return nil, errors.New("wanted a path behind unix://")
			}
		}
		if len(s) > 107 {
			return nil, refusal(fmt.Sprintf("the path has %d bytes, a socket's has at most 107", len(s)))
		}
		return s, nil
	},
	"clients": number(1, 65536),
	"budget":  number(0, 1000),
	"class": text(func(s string) error {
		if !classes[s] {
			return errors.New("wanted vfs, net or dev")
		}
		return nil
	}),
	"plugin": text(func(s string) error {
		if s == "" || s == "." || s == ".." || strings.HasSuffix(s, "/") {
			return errors.New("wanted the name of a plugin or the path of its program")
		}
		return nil
	}),
	"duration": func(v any) (any, error) {
		if d := v.(time.Duration); d <= 0 || d > maxDuration {
			return nil, errors.New("wanted a duration above 0 and at most 24h")
		}
		return v, nil
	},
	"may-miss": func(v any) (any, error) {
		if len(v.([]string)) > 0 {
			return nil, refusal("the list must be empty in this version")
		}
		return v, nil
	},
	"mounts": func(v any) (any, error) {
		if n := len(v.([]any)); n > maxMounts {
			return nil, refusal(fmt.Sprintf("%d mounts, at most %d are allowed", n, maxMounts))
		}
		return v, nil
	},
	"dir": text(func(s string) error {
		switch {
		case !strings.HasPrefix(s, "/"):
			return errors.New("wanted an absolute path")
		case path.Clean(s) != s:
			return fmt.Errorf("wanted it written as %s", shown(path.Clean(s)))
		case len(s) > 1023:
			return errors.New("wanted at most 1023 bytes")
		}
		return nil
	}),
	"fstype": text(func(s string) error {
		if !fstypeRE.MatchString(s) {
			return errors.New("wanted the name of a file-system type such as tmpfs")
		}
		return nil
	}),
	"instance": text(func(s string) error {
		if s != "" && !componentRE.MatchString(s) {
			return errors.New("wanted the name of a component")
		}
		return nil
	}),
	"nbd": func(v any) (any, error) {
		if n := len(v.([]any)); n > maxList {
			return nil, refusal(fmt.Sprintf("%d entries, at most %d are allowed", n, maxList))
		}
		return v, nil
	},
	"fuse-path": text(func(s string) error {
		if s != "" && (!strings.HasPrefix(s, "/") || path.Clean(s) != s || len(s) > 1023) {
			return errors.New("wanted the absolute path of a directory of the kernel")
		}
		return nil
	}),
	"device-path": text(func(s string) error {
		if strings.HasSuffix(s, "/") || len(s) > 1023 || path.Clean(s) != s && s != "" {
			return errors.New("wanted the name of a node of /dev, or the path of one")
		}
		return nil
	}),
	"loopback": text(func(s string) error {
		if s == "" {
			return nil
		}
		host, port, err := net.SplitHostPort(s)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 {
			return errors.New("wanted HOST:PORT")
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return errors.New("wanted a loopback address such as 127.0.0.1: the protocol knows no users")
		}
		return nil
	}),
	"export-name": text(func(s string) error {
		if len(s) > 4096 || strings.IndexByte(s, 0) >= 0 {
			return errors.New("wanted at most 4096 bytes without NUL")
		}
		return nil
	}),
	"export": func(v any) (any, error) {
		if len(v.([]any)) > 0 {
			return nil, refusal("exports of this kind are not supported by this version")
		}
		return v, nil
	},
	"listen": text(func(s string) error {
		if s != "" {
			return refusal("exports are not supported by this version")
		}
		return nil
	}),
	"level": text(func(s string) error {
		if !slices.Contains(levels, s) {
			return errors.New("wanted " + strings.Join(levels[:len(levels)-1], ", ") + " or " + levels[len(levels)-1])
		}
		return nil
	}),
}

// keyRules are the checks of the names in a map, by the name in the keys or
// free tag.
var keyRules = map[string]func(name string) error{
	"component": func(s string) error {
		// "__" stands for "/" in the environment.
		if !componentRE.MatchString(s) || strings.Contains(s, "__") {
			return errors.New("bad component name (wanted a small letter, then at most 30 small letters, digits or single underscores)")
		}
		return nil
	},
	"interface": func(s string) error {
		if s != "lo0" {
			return errors.New("only the interface lo0 is supported by this version")
		}
		return nil
	},
	"device": func(s string) error {
		if !deviceRE.MatchString(s) || strings.Contains(s, "__") {
			return errors.New("bad device name (wanted a small letter, then at most 19 small letters, digits or single underscores)")
		}
		return nil
	},
	"sysctl": func(s string) error {
		if !sysctlRE.MatchString(s) || len(s) > 255 {
			return errors.New("bad sysctl name (wanted dotted words such as kern.maxfiles)")
		}
		return nil
	},
	"scalars": freeName,
	"any":     freeName,
}

func freeName(s string) error {
	switch {
	case s == "" || len(s) > 255:
		return errors.New("bad name (wanted 1 to 255 bytes)")
	case strings.Contains(s, "/"):
		return errors.New("bad name (the / separates the parts of a key)")
	}
	return checkText(s)
}

func text(f func(string) error) func(any) (any, error) {
	return func(v any) (any, error) { return v, f(v.(string)) }
}

func number(lo, hi int) func(any) (any, error) {
	return func(v any) (any, error) {
		if n := v.(int); n < lo || n > hi {
			return nil, fmt.Errorf("wanted a number from %d to %d", lo, hi)
		}
		return v, nil
	}
}

// distinct wants texts that are not empty and not the same.
func distinct(v any) (any, error) {
	l := v.([]string)
	for i, s := range l {
		if s == "" {
			return nil, refusal(fmt.Sprintf("entry %d is empty", i))
		}
		if j := slices.Index(l, s); j < i {
			return nil, refusal(fmt.Sprintf("entry %d repeats entry %d (%s)", i, j, shown(s)))
		}
	}
	return v, nil
}
