package run

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lockWait bounds the waiting for another host that takes a socket in the same
// directory.
const lockWait = 3 * time.Second

// listen opens the server's socket. Its directory is made if need be, but not
// what is above it: a runtime directory that is not there is a mistake. It must
// be the user's own, and is closed to others when it is named rumpus (the default
// place). A socket that a dead host left is replaced; a live one is an error.
// The directory is locked meanwhile, so that of two hosts that find a dead
// socket one gets it. Closing the listener removes the socket.
func listen(path string, mode os.FileMode) (net.Listener, error) {
	fail := func(format string, a ...any) (net.Listener, error) {
		return nil, fmt.Errorf("server socket: "+format, a...)
	}
	if len(path) > 107 {
		return fail("%s is longer than the 107 bytes that a socket's path can have", path)
	}
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fail("%w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fail("%s: %w", dir, err)
	}
	if filepath.Base(dir) == "rumpus" || filepath.Dir(dir) == os.TempDir() {
		if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
			return fail("%s is not a directory of yours alone: remove it, or set server/socket", dir)
		}
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return fail("%s: %w", dir, err)
	}
	defer unlock()
	if fi, err := os.Lstat(path); err == nil {
		if fi.Mode()&os.ModeSocket == 0 {
			return fail("%s exists and is no socket", path)
		}
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			c.Close()
			return fail("a kernel is running at %s already (end it with `rumpus halt`, or set server/socket)", path)
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			return fail("%w", err)
		}
		os.Remove(path)
	}
	// Nobody gets in between bind and chmod: the file takes the mode that the
	// socket has when it is bound.
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var merr error
		err := rc.Control(func(fd uintptr) { merr = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(err, merr)
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return fail("%w", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return fail("%w", err)
	}
	return l, nil
}

// lockDir locks a directory against other hosts. One that cannot be opened for
// reading is not locked.
func lockDir(dir string) (unlock func(), err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return func() {}, nil
	}
	for end := time.Now().Add(lockWait); ; {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || err == unix.ENOLCK || err == unix.EOPNOTSUPP {
			return func() { unix.Close(fd) }, nil
		}
		if time.Now().After(end) {
			unix.Close(fd)
			return nil, fmt.Errorf("it is locked by another process: %w", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
