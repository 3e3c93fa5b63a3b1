package serve

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/grant"
)

// MaxGrants bounds the descriptors that one process can be granted.
const MaxGrants = 64

// GrantSetter is a Backend that wants the granted descriptors. The map and
// the files in it belong to serve; a taker duplicates what it hands on.
type GrantSetter interface {
	SetGranted(map[string]*os.File)
}

// granted are the descriptors of this process; set once, by Run.
var granted struct {
	once  sync.Once
	files map[string]*os.File
	err   error
}

// Granted is the descriptor that the host granted to this process under name:
// a duplicate, or a new connection (package grant). The caller owns and closes
// it. ENOENT if there is none.
func Granted(name string) (*os.File, error) {
	m, err := grantedFiles()
	if err != nil {
		return nil, err
	}
	f, ok := m[name]
	if !ok {
		return nil, fmt.Errorf("grant %q: %w", name, abi.ENOENT)
	}
	return grant.Take(name, f)
}

// grantedFiles opens the granted descriptors on first use.
func grantedFiles() (map[string]*os.File, error) {
	granted.once.Do(func() {
		var fds map[string]int
		if fds, granted.err = ParseGrants(os.Getenv(EnvGrants)); granted.err != nil {
			return
		}
		granted.files = make(map[string]*os.File, len(fds))
		for name, fd := range fds {
			if !takeOver(fd, 0) {
				granted.err = fmt.Errorf("grant %q: descriptor %d is not open: %w", name, fd, abi.EBADF)
				return
			}
			granted.files[name] = os.NewFile(uintptr(fd), name)
		}
	})
	return granted.files, granted.err
}

// ValidGrant reports whether a grant can have this name: 1 to 255 bytes
// without ";", "=" and NUL.
func ValidGrant(name string) bool {
	return name != "" && len(name) <= 255 && !strings.ContainsAny(name, ";=\x00")
}

// FormatGrants makes the value of RUMPUS_GRANTS: names[i] is descriptor
// FdGrants+i. EINVAL for an impossible or double name, E2BIG for too many.
func FormatGrants(names []string) (string, error) {
	if len(names) > MaxGrants {
		return "", fmt.Errorf("%d grants, more than %d: %w", len(names), MaxGrants, abi.E2BIG)
	}
	var b strings.Builder
	seen := make(map[string]bool, len(names))
	for i, n := range names {
		if !ValidGrant(n) {
			return "", fmt.Errorf("grant name %q: %w", n, abi.EINVAL)
		}
		if seen[n] {
			return "", fmt.Errorf("grant %q given twice: %w", n, abi.EINVAL)
		}
		seen[n] = true
		if i > 0 {
			b.WriteByte(';')
		}
		b.WriteString(n + "=" + strconv.Itoa(FdGrants+i))
	}
	return b.String(), nil
}

// ParseGrants reads the value of RUMPUS_GRANTS. Each name must be possible
// and single, each descriptor FdGrants or above and single; else EINVAL.
func ParseGrants(s string) (map[string]int, error) {
	m := make(map[string]int)
	if s == "" {
		return m, nil
	}
	items := strings.Split(s, ";")
	if len(items) > MaxGrants {
		return nil, fmt.Errorf("%s: %d grants, more than %d: %w", EnvGrants, len(items), MaxGrants, abi.E2BIG)
	}
	used := make(map[int]bool, len(items))
	for _, it := range items {
		name, num, ok := strings.Cut(it, "=")
		fd, err := strconv.Atoi(num)
		_, twice := m[name]
		if !ok || err != nil || !ValidGrant(name) || twice || used[fd] || fd < FdGrants || fd >= FdGrants+MaxGrants {
			return nil, fmt.Errorf("%s: %q: %w", EnvGrants, it, abi.EINVAL)
		}
		m[name], used[fd] = fd, true
	}
	return m, nil
}
