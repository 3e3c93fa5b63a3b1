package stream

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// readable reports whether bytes of a socket wait to be read.
func readable(nc net.Conn) bool {
	s, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	rc, err := s.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	rc.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n > 0
}
