package modapi

import (
	"fmt"
	"strings"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Info describes a module (modinfo_t).
type Info struct {
	Name     string          // [a-z][a-z0-9_]{0,30}
	Class    Class           //
	Kern     abi.KernVersion // the kernel ABI it was built for
	Requires []string        // modules that must be loaded first, at most 9
	Version  string          // its own, as text
	Caps     Caps            // what it wants of the transport and kernel
	Wants    []Want          // grants it needs, for humans and manifests
}

// Class is a module's class (modclass_t).
type Class uint8

// The classes, in NetBSD's order with net where it belongs.
const (
	ClassAny Class = iota
	ClassMisc
	ClassVFS
	ClassNet
	ClassDriver
	ClassExec
	ClassSecmodel
)

var classNames = [...]string{"any", "misc", "vfs", "net", "driver", "exec", "secmodel"}

func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return fmt.Sprintf("class%d", c)
}

// Valid reports whether a module can be of class c.
func (c Class) Valid() bool { return c > ClassAny && int(c) < len(classNames) }

// Caps are capability bits of a module. The low half is required: a kernel
// that does not know a bit there refuses the module (EPROGMISMATCH). The high
// half is optional: unknown bits are masked off.
type Caps uint64

// Optional capabilities.
const (
	CapRing Caps = 1 << (32 + iota) // can serve a shared-memory ring
)

// CapsRequired masks the capabilities that a kernel must know.
const CapsRequired Caps = 0xffffffff

// Want is a grant that a module asks for: what kind, and why.
type Want struct {
	Grant string // "host.dir"
	Why   string
}

// Reason is why Init runs.
type Reason uint8

// The reasons.
const (
	Fresh   Reason = iota // first start
	Restart               // the process before died; state is being put back
)

func (r Reason) String() string {
	if r == Restart {
		return "restart"
	}
	return "fresh"
}

// Props are the properties given at load: strings, bools, int64s, float64s,
// lists and maps of them. At most 4096 bytes in coded form (ENOMEM).
type Props map[string]any

// ValidName reports whether s can name a module: [a-z][a-z0-9_]{0,30}.
func ValidName(s string) bool {
	if len(s) == 0 || len(s) > 31 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// Check says what is wrong with an Info that came from a module.
func (i *Info) Check() error {
	switch {
	case !ValidName(i.Name):
		return fmt.Errorf("module name %q: %w", clip(i.Name), abi.EINVAL)
	case !i.Class.Valid():
		return fmt.Errorf("module %s: class %d: %w", i.Name, i.Class, abi.EINVAL)
	case len(i.Requires) > 9:
		return fmt.Errorf("module %s requires %d modules, more than 9: %w", i.Name, len(i.Requires), abi.EINVAL)
	}
	for _, r := range i.Requires {
		if !ValidName(r) {
			return fmt.Errorf("module %s requires %q: %w", i.Name, clip(r), abi.EINVAL)
		}
	}
	return nil
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}
