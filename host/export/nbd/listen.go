package nbd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Listen opens a listener for Serve: "unix:/path", a socket of mode 0600, or
// "tcp:HOST:PORT" on a loopback address; on others only if anywhere is true: NBD
// knows no users, and who connects can read and write everything. A socket file
// that nobody answers at is replaced. Closing the listener removes the file.
//
// EINVAL for an address that makes no sense, EACCES for one that is not allowed,
// EADDRINUSE, EEXIST if the path is there and no socket.
func Listen(addr string, anywhere bool) (net.Listener, error) {
	kind, rest, _ := strings.Cut(addr, ":")
	fail := func(err error) (net.Listener, error) { return nil, fmt.Errorf("nbd: listen at %s: %w", addr, err) }
	switch kind {
	case "unix":
		if len(rest) == 0 || len(rest) > 107 || strings.IndexByte(rest, 0) >= 0 {
			return fail(fmt.Errorf("not the path of a socket (1 to 107 bytes): %w", abi.EINVAL))
		}
		return listenUnix(rest, fail)
	case "tcp":
		host, _, err := net.SplitHostPort(rest)
		if err != nil {
			return fail(fmt.Errorf("%v: %w", err, abi.EINVAL))
		}
		if !anywhere && host != "localhost" {
			if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
				return fail(fmt.Errorf("not a loopback address: %w", abi.EACCES))
			}
		}
		l, err := net.Listen("tcp", rest)
		if err != nil {
			return fail(err)
		}
		if a, ok := l.Addr().(*net.TCPAddr); !anywhere && (!ok || !a.IP.IsLoopback()) {
			l.Close()
			return fail(fmt.Errorf("not a loopback address: %w", abi.EACCES))
		}
		return l, nil
	}
	return fail(fmt.Errorf("neither unix: nor tcp: %w", abi.EINVAL))
}

func listenUnix(path string, fail func(error) (net.Listener, error)) (net.Listener, error) {
	if fi, err := os.Lstat(path); err == nil {
		if fi.Mode()&os.ModeSocket == 0 {
			return fail(fmt.Errorf("it is there and no socket: %w", abi.EEXIST))
		}
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			c.Close()
			return fail(fmt.Errorf("somebody serves there: %w", abi.EADDRINUSE))
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			return fail(err)
		}
		os.Remove(path)
	}
	// The file takes the mode that the socket has when it is bound.
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var merr error
		err := rc.Control(func(fd uintptr) { merr = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(err, merr)
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return fail(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return fail(err)
	}
	return l, nil
}

// sockBuffer is what we ask for in the way of socket buffers: a megabyte answer
// then takes a few turns between client and server, not dozens.
const sockBuffer = 1 << 20

// tune sets the options of a connection's socket, as far as it has them.
func tune(nc net.Conn) {
	if t, ok := nc.(*net.TCPConn); ok {
		t.SetNoDelay(true)
		t.SetKeepAlivePeriod(30 * time.Second)
		return // TCP finds its buffers itself
	}
	if u, ok := nc.(*net.UnixConn); ok {
		u.SetWriteBuffer(sockBuffer)
	}
}
