package supervise

import (
	"context"
	"errors"
	"net"
	"os"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// parseConnect divides the argument of host.connect into network and address;
// why says what is wrong with it.
func parseConnect(arg string) (network, addr, why string) {
	network, addr, _ = strings.Cut(arg, ":")
	switch network {
	case "unix":
		switch {
		case !path.IsAbs(addr):
			return "", "", "path of the socket is not absolute"
		case strings.IndexByte(addr, 0) >= 0:
			return "", "", "NUL in path"
		}
		if addr = path.Clean(addr); len(addr) > 107 {
			return "", "", "path is longer than the 107 bytes that a socket's path can have"
		}
	case "tcp":
		host, port, err := net.SplitHostPort(addr)
		if err != nil || host == "" || port == "" {
			return "", "", "not HOST:PORT"
		}
	default:
		return "", "", "neither unix:/path nor tcp:HOST:PORT"
	}
	return network, addr, ""
}

// dialErrno is our number for an error of a dial.
func dialErrno(err error) abi.Errno {
	var e syscall.Errno
	errors.As(err, &e)
	switch e {
	case unix.ENOENT, unix.ECONNREFUSED:
		return abi.ECONNREFUSED // ENOENT is for grants that are not there
	case unix.ETIMEDOUT:
		return abi.ETIMEDOUT
	case unix.EHOSTUNREACH:
		return abi.EHOSTUNREACH
	case unix.ENETUNREACH:
		return abi.ENETUNREACH
	case unix.EADDRNOTAVAIL:
		return abi.EADDRNOTAVAIL
	case unix.EAGAIN:
		return abi.EAGAIN // a unix socket with a full backlog
	}
	return grantErrno(err)
}

// dialGrant makes one connection for a component.
func dialGrant(ctx context.Context, network, addr string) (*os.File, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, dialErrno(err)
	}
	defer c.Close()
	switch c := c.(type) {
	case *net.UnixConn:
		return c.File()
	case *net.TCPConn:
		c.SetNoDelay(true)
		return c.File()
	}
	return nil, abi.EOPNOTSUPP
}
