package hyper

import (
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// FileOpen says which file of the host to open, and how.
type FileOpen struct {
	Path     string
	ReadOnly bool
	NoLock   bool // do not lock it against other kernels
	// Create makes a regular file (mode 0600) if there is none.
	Create bool
}

// FileInfo is what a file of the host is.
type FileInfo struct {
	Size     int64  // bytes; of a device too
	Sector   uint32 // what a device reads and writes at least, in bytes; 512 for a regular file
	Block    bool   // a block device of the host, otherwise a regular file
	ReadOnly bool   // as opened
	Dev, Ino uint64 // who it is on the host
	Mtime    abi.Timespec
}

// File is a file or block device of the host, opened for the kernel
// (rumpuser_open, rumpuser_iovread, rumpuser_bio). Calls wait for the host's
// disk, in a thread of their own; they may be made concurrently. Errors are
// abi.Errno with the path.
type File interface {
	// Info looks again each time: somebody else may have made the file longer.
	Info() (FileInfo, error)
	// ReadAt fills v. Fewer bytes come only at the end of the file.
	ReadAt(v abi.Iov, off int64) (int, error)
	// WriteAt drains v, all of it unless there is an error. durable: it is on
	// the medium when it returns (RWF_DSYNC).
	WriteAt(v abi.Iov, off int64, durable bool) (int, error)
	// Sync makes durable what was written (fdatasync).
	Sync() error
	// Discard gives back the space of a range, which reads as anything
	// afterwards. EOPNOTSUPP.
	Discard(off, n int64) error
	// Zero makes a range read as zeroes. EOPNOTSUPP: the host has no way that
	// is faster than writing them.
	Zero(off, n int64) error
	// Truncate sets the length of a regular file.
	Truncate(n int64) error
	Close() error
}

// hostErrno is the kernel's number for one of the host's: up to ERANGE Linux
// and NetBSD agree but for one, and the rest is EIO unless it is known.
func hostErrno(n uintptr, known map[uintptr]abi.Errno) abi.Errno {
	if e, ok := known[n]; ok {
		return e
	}
	if n >= 1 && n <= 34 && n != 11 {
		return abi.Errno(n)
	}
	return abi.EIO
}

func fileErr(what, path string, e abi.Errno, host error) error {
	if host == nil {
		return fmt.Errorf("%s %s on the host: %w", what, path, e)
	}
	return fmt.Errorf("%s %s on the host: %w (%v)", what, path, e, host)
}
