package ring

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pause tells the CPU n times that this is a loop that waits for memory.
// Preconditions: n > 0.
//
//go:noescape
func pause(n uint32)

func rdtscp() (tsc uint64, aux uint32)

func cpuid(leaf uint32) (eax, edx uint32)

// noCPU is the number of a CPU that is not known.
const noCPU = ^uint32(0)

// haveCPU says that RDTSCP answers the CPU's number as the kernel counts.
var haveCPU = checkCPU()

// checkCPU compares RDTSCP with getcpu(2).
func checkCPU() bool {
	if max, _ := cpuid(0x80000000); max < 0x80000001 {
		return false
	}
	if _, edx := cpuid(0x80000001); edx&(1<<27) == 0 {
		return false
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for range 10 { // the thread may move between the questions
		var cpu uint32
		_, before := rdtscp()
		_, _, e := syscall.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0)
		_, after := rdtscp()
		if e == 0 && before == after {
			return cpu == before&0xfff
		}
	}
	return false
}

// myCPU is the CPU that this goroutine runs on at this moment, or noCPU.
func myCPU() uint32 {
	if !haveCPU {
		return noCPU
	}
	_, aux := rdtscp()
	return aux & 0xfff
}
