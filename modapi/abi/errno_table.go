package abi

// The error numbers, as sys/errno.h of NetBSD 10 has them. The comment is the
// text that Error answers.
const (
	EPERM           Errno = 1  // operation not permitted
	ENOENT          Errno = 2  // no such file or directory
	ESRCH           Errno = 3  // no such process
	EINTR           Errno = 4  // interrupted system call
	EIO             Errno = 5  // input/output error
	ENXIO           Errno = 6  // device not configured
	E2BIG           Errno = 7  // argument list too long
	ENOEXEC         Errno = 8  // exec format error
	EBADF           Errno = 9  // bad file descriptor
	ECHILD          Errno = 10 // no child processes
	EDEADLK         Errno = 11 // resource deadlock avoided
	ENOMEM          Errno = 12 // cannot allocate memory
	EACCES          Errno = 13 // permission denied
	EFAULT          Errno = 14 // bad address
	ENOTBLK         Errno = 15 // block device required
	EBUSY           Errno = 16 // device busy
	EEXIST          Errno = 17 // file exists
	EXDEV           Errno = 18 // cross-device link
	ENODEV          Errno = 19 // operation not supported by device
	ENOTDIR         Errno = 20 // not a directory
	EISDIR          Errno = 21 // is a directory
	EINVAL          Errno = 22 // invalid argument
	ENFILE          Errno = 23 // too many open files in system
	EMFILE          Errno = 24 // too many open files
	ENOTTY          Errno = 25 // inappropriate ioctl for device
	ETXTBSY         Errno = 26 // text file busy
	EFBIG           Errno = 27 // file too large
	ENOSPC          Errno = 28 // no space left on device
	ESPIPE          Errno = 29 // illegal seek
	EROFS           Errno = 30 // read-only file system
	EMLINK          Errno = 31 // too many links
	EPIPE           Errno = 32 // broken pipe
	EDOM            Errno = 33 // numerical argument out of domain
	ERANGE          Errno = 34 // result too large or too small
	EAGAIN          Errno = 35 // resource temporarily unavailable
	EINPROGRESS     Errno = 36 // operation now in progress
	EALREADY        Errno = 37 // operation already in progress
	ENOTSOCK        Errno = 38 // socket operation on non-socket
	EDESTADDRREQ    Errno = 39 // destination address required
	EMSGSIZE        Errno = 40 // message too long
	EPROTOTYPE      Errno = 41 // protocol wrong type for socket
	ENOPROTOOPT     Errno = 42 // protocol option not available
	EPROTONOSUPPORT Errno = 43 // protocol not supported
	ESOCKTNOSUPPORT Errno = 44 // socket type not supported
	EOPNOTSUPP      Errno = 45 // operation not supported
	EPFNOSUPPORT    Errno = 46 // protocol family not supported
	EAFNOSUPPORT    Errno = 47 // address family not supported by protocol family
	EADDRINUSE      Errno = 48 // address already in use
	EADDRNOTAVAIL   Errno = 49 // can't assign requested address
	ENETDOWN        Errno = 50 // network is down
	ENETUNREACH     Errno = 51 // network is unreachable
	ENETRESET       Errno = 52 // network dropped connection on reset
	ECONNABORTED    Errno = 53 // software caused connection abort
	ECONNRESET      Errno = 54 // connection reset by peer
	ENOBUFS         Errno = 55 // no buffer space available
	EISCONN         Errno = 56 // socket is already connected
	ENOTCONN        Errno = 57 // socket is not connected
	ESHUTDOWN       Errno = 58 // can't send after socket shutdown
	ETOOMANYREFS    Errno = 59 // too many references: can't splice
	ETIMEDOUT       Errno = 60 // operation timed out
	ECONNREFUSED    Errno = 61 // connection refused
	ELOOP           Errno = 62 // too many levels of symbolic links
	ENAMETOOLONG    Errno = 63 // file name too long
	EHOSTDOWN       Errno = 64 // host is down
	EHOSTUNREACH    Errno = 65 // no route to host
	ENOTEMPTY       Errno = 66 // directory not empty
	EPROCLIM        Errno = 67 // too many processes
	EUSERS          Errno = 68 // too many users
	EDQUOT          Errno = 69 // disc quota exceeded
	ESTALE          Errno = 70 // stale file handle
	EREMOTE         Errno = 71 // too many levels of remote in path
	EBADRPC         Errno = 72 // RPC struct is bad
	ERPCMISMATCH    Errno = 73 // RPC version wrong
	EPROGUNAVAIL    Errno = 74 // RPC program not available
	EPROGMISMATCH   Errno = 75 // program version wrong
	EPROCUNAVAIL    Errno = 76 // bad procedure for program
	ENOLCK          Errno = 77 // no locks available
	ENOSYS          Errno = 78 // function not implemented
	EFTYPE          Errno = 79 // inappropriate file type or format
	EAUTH           Errno = 80 // authentication error
	ENEEDAUTH       Errno = 81 // need authenticator
	EIDRM           Errno = 82 // identifier removed
	ENOMSG          Errno = 83 // no message of desired type
	EOVERFLOW       Errno = 84 // value too large to be stored in data type
	EILSEQ          Errno = 85 // illegal byte sequence
	ENOTSUP         Errno = 86 // not supported
	ECANCELED       Errno = 87 // operation canceled
	EBADMSG         Errno = 88 // bad or corrupt message
	ENODATA         Errno = 89 // no message available
	ENOSR           Errno = 90 // no STREAM resources
	ENOSTR          Errno = 91 // not a STREAM
	ETIME           Errno = 92 // STREAM ioctl timeout
	ENOATTR         Errno = 93 // attribute not found
	EMULTIHOP       Errno = 94 // multihop attempted
	ENOLINK         Errno = 95 // link has been severed
	EPROTO          Errno = 96 // protocol error
	EOWNERDEAD      Errno = 97 // previous owner died
	ENOTRECOVERABLE Errno = 98 // state not recoverable

	EWOULDBLOCK = EAGAIN // the same number under its socket name

	ELAST = ENOTRECOVERABLE // the largest error number
)

// errnoTab is the one table behind Error, Name and ErrnoByName.
var errnoTab = [ELAST + 1]struct{ name, text string }{
	EPERM:           {"EPERM", "operation not permitted"},
	ENOENT:          {"ENOENT", "no such file or directory"},
	ESRCH:           {"ESRCH", "no such process"},
	EINTR:           {"EINTR", "interrupted system call"},
	EIO:             {"EIO", "input/output error"},
	ENXIO:           {"ENXIO", "device not configured"},
	E2BIG:           {"E2BIG", "argument list too long"},
	ENOEXEC:         {"ENOEXEC", "exec format error"},
	EBADF:           {"EBADF", "bad file descriptor"},
	ECHILD:          {"ECHILD", "no child processes"},
	EDEADLK:         {"EDEADLK", "resource deadlock avoided"},
	ENOMEM:          {"ENOMEM", "cannot allocate memory"},
	EACCES:          {"EACCES", "permission denied"},
	EFAULT:          {"EFAULT", "bad address"},
	ENOTBLK:         {"ENOTBLK", "block device required"},
	EBUSY:           {"EBUSY", "device busy"},
	EEXIST:          {"EEXIST", "file exists"},
	EXDEV:           {"EXDEV", "cross-device link"},
	ENODEV:          {"ENODEV", "operation not supported by device"},
	ENOTDIR:         {"ENOTDIR", "not a directory"},
	EISDIR:          {"EISDIR", "is a directory"},
	EINVAL:          {"EINVAL", "invalid argument"},
	ENFILE:          {"ENFILE", "too many open files in system"},
	EMFILE:          {"EMFILE", "too many open files"},
	ENOTTY:          {"ENOTTY", "inappropriate ioctl for device"},
	ETXTBSY:         {"ETXTBSY", "text file busy"},
	EFBIG:           {"EFBIG", "file too large"},
	ENOSPC:          {"ENOSPC", "no space left on device"},
	ESPIPE:          {"ESPIPE", "illegal seek"},
	EROFS:           {"EROFS", "read-only file system"},
	EMLINK:          {"EMLINK", "too many links"},
	EPIPE:           {"EPIPE", "broken pipe"},
	EDOM:            {"EDOM", "numerical argument out of domain"},
	ERANGE:          {"ERANGE", "result too large or too small"},
	EAGAIN:          {"EAGAIN", "resource temporarily unavailable"},
	EINPROGRESS:     {"EINPROGRESS", "operation now in progress"},
	EALREADY:        {"EALREADY", "operation already in progress"},
	ENOTSOCK:        {"ENOTSOCK", "socket operation on non-socket"},
	EDESTADDRREQ:    {"EDESTADDRREQ", "destination address required"},
	EMSGSIZE:        {"EMSGSIZE", "message too long"},
	EPROTOTYPE:      {"EPROTOTYPE", "protocol wrong type for socket"},
	ENOPROTOOPT:     {"ENOPROTOOPT", "protocol option not available"},
	EPROTONOSUPPORT: {"EPROTONOSUPPORT", "protocol not supported"},
	ESOCKTNOSUPPORT: {"ESOCKTNOSUPPORT", "socket type not supported"},
	EOPNOTSUPP:      {"EOPNOTSUPP", "operation not supported"},
	EPFNOSUPPORT:    {"EPFNOSUPPORT", "protocol family not supported"},
	EAFNOSUPPORT:    {"EAFNOSUPPORT", "address family not supported by protocol family"},
	EADDRINUSE:      {"EADDRINUSE", "address already in use"},
	EADDRNOTAVAIL:   {"EADDRNOTAVAIL", "can't assign requested address"},
	ENETDOWN:        {"ENETDOWN", "network is down"},
	ENETUNREACH:     {"ENETUNREACH", "network is unreachable"},
	ENETRESET:       {"ENETRESET", "network dropped connection on reset"},
	ECONNABORTED:    {"ECONNABORTED", "software caused connection abort"},
	ECONNRESET:      {"ECONNRESET", "connection reset by peer"},
	ENOBUFS:         {"ENOBUFS", "no buffer space available"},
	EISCONN:         {"EISCONN", "socket is already connected"},
	ENOTCONN:        {"ENOTCONN", "socket is not connected"},
	ESHUTDOWN:       {"ESHUTDOWN", "can't send after socket shutdown"},
	ETOOMANYREFS:    {"ETOOMANYREFS", "too many references: can't splice"},
	ETIMEDOUT:       {"ETIMEDOUT", "operation timed out"},
	ECONNREFUSED:    {"ECONNREFUSED", "connection refused"},
	ELOOP:           {"ELOOP", "too many levels of symbolic links"},
	ENAMETOOLONG:    {"ENAMETOOLONG", "file name too long"},
	EHOSTDOWN:       {"EHOSTDOWN", "host is down"},
	EHOSTUNREACH:    {"EHOSTUNREACH", "no route to host"},
	ENOTEMPTY:       {"ENOTEMPTY", "directory not empty"},
	EPROCLIM:        {"EPROCLIM", "too many processes"},
	EUSERS:          {"EUSERS", "too many users"},
	EDQUOT:          {"EDQUOT", "disc quota exceeded"},
	ESTALE:          {"ESTALE", "stale file handle"},
	EREMOTE:         {"EREMOTE", "too many levels of remote in path"},
	EBADRPC:         {"EBADRPC", "RPC struct is bad"},
	ERPCMISMATCH:    {"ERPCMISMATCH", "RPC version wrong"},
	EPROGUNAVAIL:    {"EPROGUNAVAIL", "RPC program not available"},
	EPROGMISMATCH:   {"EPROGMISMATCH", "program version wrong"},
	EPROCUNAVAIL:    {"EPROCUNAVAIL", "bad procedure for program"},
	ENOLCK:          {"ENOLCK", "no locks available"},
	ENOSYS:          {"ENOSYS", "function not implemented"},
	EFTYPE:          {"EFTYPE", "inappropriate file type or format"},
	EAUTH:           {"EAUTH", "authentication error"},
	ENEEDAUTH:       {"ENEEDAUTH", "need authenticator"},
	EIDRM:           {"EIDRM", "identifier removed"},
	ENOMSG:          {"ENOMSG", "no message of desired type"},
	EOVERFLOW:       {"EOVERFLOW", "value too large to be stored in data type"},
	EILSEQ:          {"EILSEQ", "illegal byte sequence"},
	ENOTSUP:         {"ENOTSUP", "not supported"},
	ECANCELED:       {"ECANCELED", "operation canceled"},
	EBADMSG:         {"EBADMSG", "bad or corrupt message"},
	ENODATA:         {"ENODATA", "no message available"},
	ENOSR:           {"ENOSR", "no STREAM resources"},
	ENOSTR:          {"ENOSTR", "not a STREAM"},
	ETIME:           {"ETIME", "STREAM ioctl timeout"},
	ENOATTR:         {"ENOATTR", "attribute not found"},
	EMULTIHOP:       {"EMULTIHOP", "multihop attempted"},
	ENOLINK:         {"ENOLINK", "link has been severed"},
	EPROTO:          {"EPROTO", "protocol error"},
	EOWNERDEAD:      {"EOWNERDEAD", "previous owner died"},
	ENOTRECOVERABLE: {"ENOTRECOVERABLE", "state not recoverable"},
}
