package ring

import (
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Operations of futex(2). They are not private: the other process maps the
// same words.
const (
	opWait = 0
	opWake = 1
	// futexU32 is FUTEX2_SIZE_U32, in futex_waitv's flags.
	futexU32 = 2
)

// futexWait sleeps while *w is val, for at most d. Returning says nothing. It
// goes by Syscall6, so that the runtime takes the processor away meanwhile: by
// RawSyscall6 a garbage collection would wait for the wake-up.
func futexWait(w *atomic.Uint32, val uint32, d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	syscall.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(w)), opWait, uintptr(val),
		uintptr(unsafe.Pointer(&ts)), 0, 0)
}

// futexWake wakes up to n sleepers.
func futexWake(w *atomic.Uint32, n int) {
	syscall.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(w)), opWake, uintptr(n), 0, 0, 0)
}

// waitv is struct futex_waitv.
type waitv struct {
	val   uint64
	addr  uint64
	flags uint32
	_     uint32
}

// maxWaitv is how many words one futex_waitv takes, less one for our own use.
const maxWaitv = 127

// futexWaitv sleeps while every word has its value, for at most d if that is
// positive. ok is false where the kernel lacks it.
func futexWaitv(v []waitv, d time.Duration) (ok bool) {
	var ts *unix.Timespec
	if d > 0 {
		var now unix.Timespec
		unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
		t := unix.NsecToTimespec(now.Nano() + int64(d))
		ts = &t
	}
	_, _, e := syscall.Syscall6(unix.SYS_FUTEX_WAITV, uintptr(unsafe.Pointer(&v[0])), uintptr(len(v)), 0,
		uintptr(unsafe.Pointer(ts)), unix.CLOCK_MONOTONIC, 0)
	return e != syscall.ENOSYS && e != syscall.EPERM && e != syscall.EINVAL
}
