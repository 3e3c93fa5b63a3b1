package supervise

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"sync"
)

// oomKills is how often the host's kernel has killed for want of memory, in the
// control group that the components share with the host; in the whole machine if
// that group does not tell.
func oomKills() uint64 {
	for _, name := range oomFiles() {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		if n, ok := oomCount(b); ok {
			return n
		}
	}
	return 0
}

// oomCount finds the line "oom_kill N".
func oomCount(b []byte) (uint64, bool) {
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) == 2 && string(f[0]) == "oom_kill" {
			n, err := strconv.ParseUint(string(f[1]), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// oomFiles are the files that may have the count, the best first.
var oomFiles = sync.OnceValue(func() []string {
	b, _ := os.ReadFile("/proc/self/cgroup")
	return append(oomPaths(string(b)), "/proc/vmstat")
})

// oomPaths finds them for the contents of /proc/PID/cgroup (cgroups(7)).
func oomPaths(groups string) (names []string) {
	for line := range strings.Lines(groups) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(f) != 3 || strings.Contains(f[2], ".."):
		case f[0] == "0" && f[1] == "":
			names = append(names, "/sys/fs/cgroup"+f[2]+"/memory.events")
		case f[1] == "memory":
			names = append(names, "/sys/fs/cgroup/memory"+f[2]+"/memory.oom_control")
		}
	}
	return names
}
