package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	modgrant "github.com/rumpus-kernel/rumpus/modapi/grant"
	"github.com/rumpus-kernel/rumpus/modapi/serve"
)

// OpenGrant opens what one entry of a component's `grant` list stands for, on
// behalf of a component that runs as uid and gid forUID, and answers the name
// under which the component finds the descriptor (modapi.Kernel.Granted). The
// caller owns the file. The entries:
//
//	host.dir:/abs/path[:ro|:rw]   a directory, for reading only by default
//	host.file:/abs/path[:ro|:rw]  a regular file or block device, likewise
//	host.console                  the host's standard output, for writing
//	host.connect:unix:/abs/path   connections to a unix stream socket
//	host.connect:tcp:HOST:PORT    connections by TCP
//
// A grant of connections is a socket behind which the host dials anew each time
// the component asks (package grant); nothing is dialled before.
//
// The name is the entry without the mode, except that a directory for reading
// only whose descriptor does not enforce that is called "host.dir:/path:ro":
// the component's file system then has to refuse writes itself.
//
// A root host grants a directory as a detached mount of its own: without
// set-id bits and devices, read-only where asked, without the mounts below
// it, and nothing outside can be reached by "..". If the component has another
// uid than the host, ids are mapped on that mount so that the disk's 0 and
// forUID change places: the component owns what root owns, and what it creates
// is root's. Other users' files stay theirs. So a component that was taken
// over can leave set-id programs of root in a directory granted for writing;
// on the grant's own mount they have no effect, but a local user who can reach
// the directory by its path can run them. Grant for writing only what other
// users cannot enter.
//
// A host that is not root has no such mounts: the component gets a plain
// descriptor, runs as the same user, and is held to the directory and to
// reading by its file system alone.
//
// Errors are one line: EINVAL for an entry that makes no sense, ENOENT,
// ENOTDIR, EACCES, EOPNOTSUPP and EPERM with what is missing.
func OpenGrant(spec string, forUID int) (name string, f *os.File, err error) {
	fail := func(e abi.Errno, format string, a ...any) (string, *os.File, error) {
		text := fmt.Sprintf("grant %q: "+format, append([]any{spec}, a...)...)
		if strings.HasSuffix(text, ": "+e.Error()) {
			return "", nil, &grantError{e, text}
		}
		return "", nil, fmt.Errorf("%s: %w", text, e)
	}
	kind, arg, hasArg := strings.Cut(spec, ":")
	switch kind {
	case "host.console":
		if hasArg {
			return fail(abi.EINVAL, "host.console takes nothing")
		}
		if f, err = openConsole(os.Stdout); err != nil {
			return fail(grantErrno(err), "standard output: %v", err)
		}
		return kind, f, nil
	case "host.connect":
		network, addr, why := parseConnect(arg)
		if why != "" {
			return fail(abi.EINVAL, "%s", why)
		}
		name = kind + ":" + network + ":" + addr
		if !serve.ValidGrant(name) {
			return fail(abi.EINVAL, "address cannot be the name of a grant")
		}
		if f, err = modgrant.Broker(func(ctx context.Context) (*os.File, error) { return dialGrant(ctx, network, addr) }); err != nil {
			return fail(abi.ErrnoOf(err), "%v", err)
		}
		return name, f, nil
	case "host.dir", "host.file":
	default:
		return fail(abi.EINVAL, "unknown kind %q; known are host.dir, host.file, host.connect and host.console", kind)
	}
	p, rw := arg, false
	if s, ok := strings.CutSuffix(arg, ":rw"); ok {
		p, rw = s, true
	} else if s, ok := strings.CutSuffix(arg, ":ro"); ok {
		p = s
	}
	switch {
	case !path.IsAbs(p):
		return fail(abi.EINVAL, "path %q is not absolute", p)
	case strings.IndexByte(p, 0) >= 0:
		return fail(abi.EINVAL, "NUL in path")
	}
	p = path.Clean(p)
	if name = kind + ":" + p; !serve.ValidGrant(name) {
		return fail(abi.EINVAL, "path cannot be the name of a grant")
	}
	if kind == "host.file" {
		if f, err = openGrantFile(p, rw); err != nil {
			return fail(grantErrno(err), "%s", plain(err))
		}
		return name, f, nil
	}
	f, enforced, err := openGrantDir(p, rw, forUID)
	if err != nil {
		return fail(grantErrno(err), "%s", plain(err))
	}
	if !rw && !enforced {
		name += ":ro"
	}
	return name, f, nil
}

// grantError is an error with the number that a grant answers.
type grantError struct {
	errno abi.Errno
	text  string
}

func (e *grantError) Error() string { return e.text }
func (e *grantError) Unwrap() error { return e.errno }

// grantErrno is our number for an error of the host.
func grantErrno(err error) abi.Errno {
	if e, ok := errors.AsType[*grantError](err); ok {
		return e.errno
	}
	var e syscall.Errno
	errors.As(err, &e)
	switch e {
	case unix.ENOTDIR:
		return abi.ENOTDIR
	case unix.EISDIR:
		return abi.EISDIR
	case unix.ELOOP:
		return abi.ELOOP
	case unix.EROFS:
		return abi.EROFS
	case unix.EMFILE, unix.ENFILE:
		return abi.ENFILE
	}
	return abi.ErrnoOf(err)
}

// plain is the text of err without the path, which the entry has already.
func plain(err error) string {
	var e syscall.Errno
	if _, ok := errors.AsType[*grantError](err); !ok && errors.As(err, &e) {
		return e.Error()
	}
	return err.Error()
}

// openGrantFile opens a file with the access that the component is to have.
func openGrantFile(p string, rw bool) (*os.File, error) {
	flags := unix.O_RDONLY
	if rw {
		flags = unix.O_RDWR
	}
	// Nonblocking, so that a fifo cannot hold us up; it is refused below.
	fd, err := unix.Open(p, flags|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG, unix.S_IFBLK:
			err = unix.SetNonblock(fd, false)
		default:
			err = &grantError{abi.EFTYPE, "neither a regular file nor a block device"}
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), p), nil
}

// openConsole duplicates out. A terminal is opened again for writing only, so
// that the component cannot read what is typed.
func openConsole(out *os.File) (*os.File, error) {
	rc, err := out.SyscallConn()
	if err != nil {
		return nil, err
	}
	nfd := -1
	var derr error
	err = rc.Control(func(fd uintptr) {
		if _, terr := unix.IoctlGetTermios(int(fd), unix.TCGETS); terr == nil {
			nfd, derr = unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_WRONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
			if derr == nil {
				return
			}
		}
		nfd, derr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3)
	})
	if err = errors.Join(err, derr); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(nfd), "console"), nil
}
