package run

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// listen opens the server's socket. Its directory is made if need be, must be
// the user's own, and is closed to others when it is named rumpus (the default
// place). A socket that a dead host left is replaced; a live one is an error.
func listen(path string, mode os.FileMode) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("server socket: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return nil, fmt.Errorf("server socket: %s: %w", dir, err)
	}
	if filepath.Base(dir) == "rumpus" || filepath.Dir(dir) == os.TempDir() {
		if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
			return nil, fmt.Errorf("server socket: %s is not a directory of yours alone: remove it, or set server/socket", dir)
		}
	}
	if fi, err := os.Lstat(path); err == nil {
		if fi.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("server socket: %s exists and is no socket", path)
		}
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			c.Close()
			return nil, fmt.Errorf("server socket: a kernel is running at %s already (end it with `rumpus halt`, or set server/socket)", path)
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			return nil, fmt.Errorf("server socket: %w", err)
		}
		os.Remove(path)
	}
	if len(path) > 107 {
		return nil, fmt.Errorf("server socket: %s is longer than the 107 bytes that a socket's path can have", path)
	}
	// Nobody gets in between bind and chmod: the socket is made closed.
	old := unix.Umask(0o177)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("server socket: %w", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, fmt.Errorf("server socket: %w", err)
	}
	return l, nil
}
