package main

import (
	"context"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

// fault is a device that does to its process what is written to it, for the
// tests of recovery: all the ways in which a component can die or hang.
type fault struct {
	devops.NoChr
	k modapi.Kernel
}

func (f *fault) Write(ctx context.Context, _ uint32, _ int64, src abi.Iov, _ int) (int, error) {
	b := make([]byte, src.Len())
	src.CopyOut(b)
	word, arg, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	n, _ := strconv.Atoi(arg)
	switch word {
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "stop":
		syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		select {} // this thread may run on for a moment
	case "signal":
		syscall.Kill(os.Getpid(), syscall.Signal(n))
		select {}
	case "panic":
		panic("as it was told")
	case "exit":
		os.Exit(n)
	case "loop":
		for {
			n++
		}
	case "deadlock":
		select {}
	case "bomb": // it is bounded, or others would be hit as well
		lim := syscall.Rlimit{Cur: 3 << 30, Max: 3 << 30}
		if err := syscall.Setrlimit(syscall.RLIMIT_AS, &lim); err != nil {
			return 0, err
		}
		var all [][]byte
		for {
			all = append(all, make([]byte, 64<<20))
		}
	case "lie":
		f.k.Ready(sockops.Ready{Sock: 1 << 40, Events: abi.POLLIN})
		select {}
	case "work": // for so many ms of processor time, and says that it gets on
		for used := cpu(); cpu()-used < time.Duration(n)*time.Millisecond; modapi.Tick(ctx) {
			for i := range 100000 {
				n ^= i & 0
			}
		}
	default:
		return 0, abi.EINVAL
	}
	return len(b), nil
}

// cpu is the processor time of this process.
func cpu() time.Duration {
	var ru syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
