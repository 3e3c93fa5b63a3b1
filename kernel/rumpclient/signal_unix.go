//go:build unix

package rumpclient

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// signalNum is the host's signal of that name, 0 if it has none.
func signalNum(name string) syscall.Signal { return unix.SignalNum(name) }
