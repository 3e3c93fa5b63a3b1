package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dirPrefix begins the name of every private directory.
const dirPrefix = "rumpus-proc-"

// maxDir bounds the length of a private directory's path: go-plugin appends
// "/plugin-dirNNNNNNNNNN/pluginNNNNNNNNNN", and a socket's path has 107 bytes.
const maxDir = 107 - 39

// procDir is a process's private directory: ours, with one directory in it
// that go-plugin makes and that belongs to the component. A lock on it says
// that its host lives; a directory without one is swept by the next host.
type procDir struct {
	path string
	lock *os.File
}

// newProcDir makes one. foreign says that the component has another uid and
// needs to search the way to it.
func newProcDir(foreign bool) (*procDir, error) {
	base, err := dirBase(foreign)
	if err != nil {
		return nil, err
	}
	sweepOnce(base)
	path, err := os.MkdirTemp(base, dirPrefix)
	if err != nil {
		return nil, fmt.Errorf("private directory: %w", err)
	}
	d := &procDir{path: path}
	if d.lock, err = lockDir(path); err == nil && foreign {
		err = os.Chmod(path, 0o711)
	}
	if err != nil {
		d.remove()
		return nil, fmt.Errorf("private directory: %w", err)
	}
	return d, nil
}

// give makes the inner directory the component's own.
func (d *procDir) give(inner string, c *syscall.Credential) error {
	if c == nil {
		return nil
	}
	if err := os.Lchown(inner, int(c.Uid), int(c.Gid)); err != nil {
		return fmt.Errorf("private directory: %w", err)
	}
	return nil
}

// remove deletes the directory and what is in it, and gives the lock up.
func (d *procDir) remove() {
	_ = os.RemoveAll(d.path)
	if d.lock != nil {
		d.lock.Close()
	}
}

// dirBase is where private directories are made: $XDG_RUNTIME_DIR/rumpus if
// only we need to reach it, else the first of TMPDIR, /tmp and /run that fits
// and that the component can search.
func dirBase(foreign bool) (string, error) {
	if !foreign {
		if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
			dir = filepath.Join(dir, "rumpus")
			if os.MkdirAll(dir, 0o700) == nil && ownDir(dir) && fits(dir) {
				return dir, nil
			}
		}
	}
	for _, dir := range []string{os.TempDir(), "/tmp", "/run"} {
		if filepath.IsAbs(dir) && fits(dir) && (!foreign || searchable(dir)) && unix.Access(dir, unix.W_OK|unix.X_OK) == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no place for a private directory: XDG_RUNTIME_DIR, TMPDIR, /tmp and /run do not do")
}

// fits reports whether a socket below a private directory in dir has a path
// that is short enough.
func fits(dir string) bool { return len(dir)+1+len(dirPrefix)+10 <= maxDir }

// ownDir reports whether dir is a directory of ours that nobody else writes.
func ownDir(dir string) bool {
	fi, err := os.Lstat(dir)
	if err != nil || !fi.IsDir() || fi.Mode().Perm()&0o022 != 0 {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

// searchable reports whether everybody may search dir and all above it.
func searchable(dir string) bool {
	for dir = filepath.Clean(dir); ; dir = filepath.Dir(dir) {
		fi, err := os.Stat(dir)
		if err != nil || fi.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == "/" {
			return true
		}
	}
}

// lockDir opens and locks a private directory; it fails if its host lives.
func lockDir(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// sweepAge is how old a directory must be to be swept: younger ones may be
// between making and locking.
const sweepAge = time.Minute

// swept holds the bases that this process has swept.
var swept sync.Map

func sweepOnce(base string) {
	if _, done := swept.LoadOrStore(base, true); !done {
		sweep(base, time.Now().Add(-sweepAge))
	}
}

// sweep removes private directories in base that are ours, older than before,
// and whose host is gone (it was killed and could not tidy up).
func sweep(base string, before time.Time) {
	paths, _ := filepath.Glob(filepath.Join(base, dirPrefix+"*"))
	for _, p := range paths {
		fi, err := os.Lstat(p)
		if err != nil || !ownDir(p) || fi.ModTime().After(before) {
			continue
		}
		if lock, err := lockDir(p); err == nil {
			(&procDir{path: p, lock: lock}).remove()
		}
	}
}
