// Package linuxabi is the edge between NetBSD's numbers, which the kernel has,
// and those of the Linux that the host runs on, for exports that its programs
// see: error numbers, flags of open(2), devices, locks, names of extended
// attributes. It is one table of each kind, read in both directions; nothing
// else in the host has numbers of Linux for what belongs to the kernel.
//
// What has no counterpart: a NetBSD error becomes the Linux one that a program
// would meet in its place (EFTYPE: EINVAL; ENOATTR: ENODATA), a Linux error
// that NetBSD lacks becomes EIO. Nothing here fails or panics.
package linuxabi

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// errnos are NetBSD's error numbers and Linux's. Where several of NetBSD's have
// one of Linux's, the first is what that is read as.
var errnos = []struct {
	bsd   abi.Errno
	linux syscall.Errno
}{
	{abi.ENOATTR, unix.ENODATA},
	{abi.EPERM, unix.EPERM},
	{abi.ENOENT, unix.ENOENT},
	{abi.ESRCH, unix.ESRCH},
	{abi.EINTR, unix.EINTR},
	{abi.EIO, unix.EIO},
	{abi.ENXIO, unix.ENXIO},
	{abi.E2BIG, unix.E2BIG},
	{abi.ENOEXEC, unix.ENOEXEC},
	{abi.EBADF, unix.EBADF},
	{abi.ECHILD, unix.ECHILD},
	{abi.EDEADLK, unix.EDEADLK},
	{abi.ENOMEM, unix.ENOMEM},
	{abi.EACCES, unix.EACCES},
	{abi.EFAULT, unix.EFAULT},
	{abi.ENOTBLK, unix.ENOTBLK},
	{abi.EBUSY, unix.EBUSY},
	{abi.EEXIST, unix.EEXIST},
	{abi.EXDEV, unix.EXDEV},
	{abi.ENODEV, unix.ENODEV},
	{abi.ENOTDIR, unix.ENOTDIR},
	{abi.EISDIR, unix.EISDIR},
	{abi.EINVAL, unix.EINVAL},
	{abi.ENFILE, unix.ENFILE},
	{abi.EMFILE, unix.EMFILE},
	{abi.ENOTTY, unix.ENOTTY},
	{abi.ETXTBSY, unix.ETXTBSY},
	{abi.EFBIG, unix.EFBIG},
	{abi.ENOSPC, unix.ENOSPC},
	{abi.ESPIPE, unix.ESPIPE},
	{abi.EROFS, unix.EROFS},
	{abi.EMLINK, unix.EMLINK},
	{abi.EPIPE, unix.EPIPE},
	{abi.EDOM, unix.EDOM},
	{abi.ERANGE, unix.ERANGE},
	{abi.EAGAIN, unix.EAGAIN},
	{abi.EINPROGRESS, unix.EINPROGRESS},
	{abi.EALREADY, unix.EALREADY},
	{abi.ENOTSOCK, unix.ENOTSOCK},
	{abi.EDESTADDRREQ, unix.EDESTADDRREQ},
	{abi.EMSGSIZE, unix.EMSGSIZE},
	{abi.EPROTOTYPE, unix.EPROTOTYPE},
	{abi.ENOPROTOOPT, unix.ENOPROTOOPT},
	{abi.EPROTONOSUPPORT, unix.EPROTONOSUPPORT},
	{abi.ESOCKTNOSUPPORT, unix.ESOCKTNOSUPPORT},
	{abi.EOPNOTSUPP, unix.EOPNOTSUPP},
	{abi.EPFNOSUPPORT, unix.EPFNOSUPPORT},
	{abi.EAFNOSUPPORT, unix.EAFNOSUPPORT},
	{abi.EADDRINUSE, unix.EADDRINUSE},
	{abi.EADDRNOTAVAIL, unix.EADDRNOTAVAIL},
	{abi.ENETDOWN, unix.ENETDOWN},
	{abi.ENETUNREACH, unix.ENETUNREACH},
	{abi.ENETRESET, unix.ENETRESET},
	{abi.ECONNABORTED, unix.ECONNABORTED},
	{abi.ECONNRESET, unix.ECONNRESET},
	{abi.ENOBUFS, unix.ENOBUFS},
	{abi.EISCONN, unix.EISCONN},
	{abi.ENOTCONN, unix.ENOTCONN},
	{abi.ESHUTDOWN, unix.ESHUTDOWN},
	{abi.ETOOMANYREFS, unix.ETOOMANYREFS},
	{abi.ETIMEDOUT, unix.ETIMEDOUT},
	{abi.ECONNREFUSED, unix.ECONNREFUSED},
	{abi.ELOOP, unix.ELOOP},
	{abi.ENAMETOOLONG, unix.ENAMETOOLONG},
	{abi.EHOSTDOWN, unix.EHOSTDOWN},
	{abi.EHOSTUNREACH, unix.EHOSTUNREACH},
	{abi.ENOTEMPTY, unix.ENOTEMPTY},
	{abi.EUSERS, unix.EUSERS},
	{abi.EDQUOT, unix.EDQUOT},
	{abi.ESTALE, unix.ESTALE},
	{abi.EREMOTE, unix.EREMOTE},
	{abi.ENOLCK, unix.ENOLCK},
	{abi.ENOSYS, unix.ENOSYS},
	{abi.EIDRM, unix.EIDRM},
	{abi.ENOMSG, unix.ENOMSG},
	{abi.EOVERFLOW, unix.EOVERFLOW},
	{abi.EILSEQ, unix.EILSEQ},
	{abi.ECANCELED, unix.ECANCELED},
	{abi.EBADMSG, unix.EBADMSG},
	{abi.ENODATA, unix.ENODATA},
	{abi.ENOSR, unix.ENOSR},
	{abi.ENOSTR, unix.ENOSTR},
	{abi.ETIME, unix.ETIME},
	{abi.EMULTIHOP, unix.EMULTIHOP},
	{abi.ENOLINK, unix.ENOLINK},
	{abi.EPROTO, unix.EPROTO},
	{abi.EOWNERDEAD, unix.EOWNERDEAD},
	{abi.ENOTRECOVERABLE, unix.ENOTRECOVERABLE},
	{abi.EPROCLIM, unix.EAGAIN},
	{abi.EBADRPC, unix.EPROTO},
	{abi.ERPCMISMATCH, unix.EPROTO},
	{abi.EPROGUNAVAIL, unix.EPROTO},
	{abi.EPROGMISMATCH, unix.EPROTO},
	{abi.EPROCUNAVAIL, unix.EPROTO},
	{abi.EFTYPE, unix.EINVAL},
	{abi.EAUTH, unix.EACCES},
	{abi.ENEEDAUTH, unix.EACCES},
	{abi.ENOTSUP, unix.EOPNOTSUPP},
}

var (
	toLinux   [abi.ELAST + 1]syscall.Errno
	fromLinux = map[syscall.Errno]abi.Errno{}
)

func init() {
	for _, e := range errnos {
		toLinux[e.bsd] = e.linux
		if _, ok := fromLinux[e.linux]; !ok {
			fromLinux[e.linux] = e.bsd
		}
	}
}

// Errno is what an error is on Linux, 0 for nil; EIO for one that is no number
// of NetBSD's.
func Errno(err error) syscall.Errno {
	e := abi.ErrnoOf(err)
	switch {
	case e == 0:
		return 0
	case int(e) < len(toLinux) && toLinux[e] != 0:
		return toLinux[e]
	}
	return unix.EIO
}

// FromErrno is the NetBSD number of an error of Linux: 0 for 0, EIO for one
// that NetBSD lacks.
func FromErrno(e syscall.Errno) abi.Errno {
	if e == 0 {
		return 0
	}
	if n, ok := fromLinux[e]; ok {
		return n
	}
	return abi.EIO
}
