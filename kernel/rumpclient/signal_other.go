//go:build !unix

package rumpclient

import "syscall"

// signalNum answers 0: the host's signals are not NetBSD's by name here.
func signalNum(string) syscall.Signal { return 0 }
