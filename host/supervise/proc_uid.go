package supervise

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// uidBase is the first uid of the range that components of a root host run
// under. The range is cut into blocks of uidBlock, one per host process (by
// its number), so that hosts seldom share one; the count bounds the range.
const (
	uidBase   = 700000
	uidBlock  = 256
	uidBlocks = 256
)

// uids are the numbers of this host's block that are in use.
var uids struct {
	mu   sync.Mutex
	used [uidBlock]bool
}

// takeUID reserves a uid that no other live component of this host has;
// give ends the reservation.
func takeUID() (uid uint32, give func(), err error) {
	uids.mu.Lock()
	defer uids.mu.Unlock()
	for i := range uids.used {
		if uids.used[i] {
			continue
		}
		uids.used[i] = true
		uid = uint32(uidBase + os.Getpid()%uidBlocks*uidBlock + i)
		return uid, func() {
			uids.mu.Lock()
			uids.used[i] = false
			uids.mu.Unlock()
		}, nil
	}
	return 0, nil, fmt.Errorf("%d components run already", uidBlock)
}

// HostCred is the credential for a component that must run as the host does,
// for example to serve a host directory. As root this gives up the wall
// between that component and everything else.
func HostCred() *syscall.Credential {
	return &syscall.Credential{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid()), NoSetGroups: true}
}

// sameAsHost reports whether c is what HostCred gives.
func sameAsHost(c *syscall.Credential) bool {
	return c.NoSetGroups && int(c.Uid) == os.Geteuid() && int(c.Gid) == os.Getegid()
}

// canIsolate says why this process cannot give components uids of their own,
// "" if it can: it must be root with the capabilities for it, in a user
// namespace that has the range.
var canIsolate = sync.OnceValue(func() string {
	if os.Geteuid() != 0 {
		return "not root"
	}
	// chown, dac_override, kill, setgid, setuid
	const need = 1<<0 | 1<<1 | 1<<5 | 1<<6 | 1<<7
	status, err := os.ReadFile("/proc/thread-self/status") // the main thread may be a special one
	if err != nil {
		return "no /proc"
	}
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "CapEff:"); ok {
			if c, err := strconv.ParseUint(strings.TrimSpace(v), 16, 64); err != nil || c&need != need {
				return "capabilities missing"
			}
		}
	}
	for _, m := range []string{"/proc/self/uid_map", "/proc/self/gid_map"} {
		b, err := os.ReadFile(m)
		if err != nil || !mapped(string(b), uidBase, uidBase+uidBlock*uidBlocks) {
			return fmt.Sprintf("ids from %d are not in %s", uidBase, m)
		}
	}
	return ""
})

// mapped reports whether one line of an id map has all of [lo, hi).
func mapped(idmap string, lo, hi uint64) bool {
	for sc := bufio.NewScanner(strings.NewReader(idmap)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) != 3 {
			continue
		}
		first, err1 := strconv.ParseUint(f[0], 10, 64)
		n, err2 := strconv.ParseUint(f[2], 10, 64)
		if err1 == nil && err2 == nil && first <= lo && hi <= first+n {
			return true
		}
	}
	return false
}
