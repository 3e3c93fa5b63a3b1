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

// ending reports whether the process dies by itself, which it waits for: killWait,
// or on a busy machine, where the last steps of a death can take long, up to
// endWait as long as it can be seen to be on its way.
func (l *launcher) ending() bool {
	for end := time.Now().Add(endWait); !waitFor(l.dead, killWait); {
		if !l.exiting() || time.Now().After(end) {
			return false
		}
	}
	return true
}

// exiting reports whether the process's first thread has begun to end: it runs
// nothing any more (PF_EXITING in /proc/PID/stat), or it has been reaped.
func (l *launcher) exiting() (yes bool) {
	known := l.living(func(pid int) bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return true
		}
		f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		if len(f) > 6 {
			flags, err := strconv.ParseUint(string(f[6]), 10, 64)
			yes = err == nil && flags&0x4 != 0
		}
		return true
	})
	return yes || !known
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
