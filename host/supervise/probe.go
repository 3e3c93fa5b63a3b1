package supervise

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// The launcher is the probe of its process.
var _ probe = (*launcher)(nil)

// living runs f with the process number, which cannot be another's meanwhile.
// False: it has been reaped.
func (l *launcher) living(f func(pid int) bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pid != 0 && !l.reaped && f(l.pid)
}

// CPU is the processor time of all threads, by clock_gettime(2) of the
// process's clock.
func (l *launcher) CPU() (d time.Duration, ok bool) {
	ok = l.living(func(pid int) bool {
		var ts unix.Timespec
		// MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)
		if unix.ClockGettime(int32(^uint32(pid)<<3|2), &ts) != nil {
			return false
		}
		d = time.Duration(ts.Nano())
		return true
	})
	return d, ok
}

// State is the state of the process's first thread: 'R', 'S', 'D', 'T' ...
func (l *launcher) State() (st byte, ok bool) {
	ok = l.living(func(pid int) bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		i := bytes.LastIndexByte(b, ')') // the name before it may have any character
		if i < 0 || i+2 >= len(b) {
			return false
		}
		st = b[i+2]
		return true
	})
	return st, ok
}

// Delayed is how long the threads that there are have been waiting for a
// processor (schedstat, where the host's kernel counts that).
func (l *launcher) Delayed() (d time.Duration, ok bool) {
	ok = l.living(func(pid int) bool {
		dir := fmt.Sprintf("/proc/%d/task", pid)
		tasks, err := os.ReadDir(dir)
		if err != nil {
			return false
		}
		counted := false
		for _, t := range tasks {
			b, err := os.ReadFile(dir + "/" + t.Name() + "/schedstat")
			if f := bytes.Fields(b); err == nil && len(f) == 3 {
				if n, err := strconv.ParseInt(string(f[1]), 10, 64); err == nil {
					d, counted = d+time.Duration(n), true
				}
			}
		}
		return counted
	})
	return d, ok
}
