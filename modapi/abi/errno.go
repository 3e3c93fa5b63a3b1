package abi

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
)

// Errno is an error number of NetBSD. It is an error value itself; code adds
// context by wrapping it, fmt.Errorf("open %s: %w", path, abi.ENOENT), and the
// edge that needs a number calls ErrnoOf. The zero Errno means success and is
// never used as an error.
type Errno int32

// Error is the text of strerror(3), in lower case: "no such file or
// directory". A number without a name is "errno 123".
func (e Errno) Error() string {
	if e > 0 && int(e) < len(errnoTab) {
		return errnoTab[e].text
	}
	return "errno " + strconv.Itoa(int(e))
}

// Name is the symbol, "ENOENT", or "E123" for a number without one and "0" for
// success.
func (e Errno) Name() string {
	switch {
	case e > 0 && int(e) < len(errnoTab):
		return errnoTab[e].name
	case e == 0:
		return "0"
	}
	return "E" + strconv.Itoa(int(e))
}

// ErrnoByName finds an error number by its symbol. EWOULDBLOCK is EAGAIN.
func ErrnoByName(name string) (Errno, bool) {
	if name == "EWOULDBLOCK" {
		return EWOULDBLOCK, true
	}
	for i := 1; i < len(errnoTab); i++ {
		if errnoTab[i].name == name {
			return Errno(i), true
		}
	}
	return 0, false
}

// Is makes errors.Is see the general errors of the standard library in an
// Errno: fs.ErrNotExist (ENOENT), fs.ErrExist (EEXIST, ENOTEMPTY),
// fs.ErrPermission (EPERM, EACCES), fs.ErrInvalid (EINVAL), fs.ErrClosed
// (EBADF), os.ErrDeadlineExceeded (ETIMEDOUT) and errors.ErrUnsupported
// (ENOSYS, ENOTSUP, EOPNOTSUPP).
func (e Errno) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e == ENOENT
	case fs.ErrExist:
		return e == EEXIST || e == ENOTEMPTY
	case fs.ErrPermission:
		return e == EPERM || e == EACCES
	case fs.ErrInvalid:
		return e == EINVAL
	case fs.ErrClosed:
		return e == EBADF
	case os.ErrDeadlineExceeded:
		return e == ETIMEDOUT
	case errors.ErrUnsupported:
		return e == ENOSYS || e == ENOTSUP || e == EOPNOTSUPP
	}
	return false
}

// Timeout reports whether e says that time ran out or that the call would have
// had to wait, as syscall.Errno.Timeout does.
func (e Errno) Timeout() bool { return e == EAGAIN || e == ETIMEDOUT }

// Temporary reports whether the same call may well succeed later, as
// syscall.Errno.Temporary does.
func (e Errno) Temporary() bool {
	return e == EINTR || e == EMFILE || e == ENFILE || e.Timeout()
}

// ErrnoOf turns an error into the number that a system call answers: 0 for nil,
// the Errno that err wraps, otherwise the number that fits a general error of
// the standard library, and EIO for what has none. A wrapped Errno that no system
// call may answer (see SanitizeErrno), or that is 0, is EIO as well.
func ErrnoOf(err error) Errno {
	if err == nil {
		return 0
	}
	var e Errno
	if errors.As(err, &e) {
		if e == 0 {
			return EIO
		}
		return SanitizeErrno(int32(e))
	}
	switch {
	case errors.Is(err, context.Canceled):
		return EINTR
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return ETIMEDOUT
	case errors.Is(err, errors.ErrUnsupported):
		return EOPNOTSUPP
	}
	// Last, because errors of the host carry their own meaning of these.
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ENOENT
	case errors.Is(err, fs.ErrExist):
		return EEXIST
	case errors.Is(err, fs.ErrPermission):
		return EACCES
	case errors.Is(err, fs.ErrInvalid):
		return EINVAL
	case errors.Is(err, fs.ErrClosed):
		return EBADF
	}
	return EIO
}

// SanitizeErrno checks an error number that came from outside, from a
// component or over a socket: 0 and every number up to 255 pass, so that a
// newer peer may know more errors than we do; everything else is EIO.
func SanitizeErrno(n int32) Errno {
	if n < 0 || n > 255 {
		return EIO
	}
	return Errno(n)
}
