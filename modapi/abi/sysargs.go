package abi

// Sysargs are the arguments and results of one system call, in the one form
// that travels between a client and the kernel. An embedded client passes the
// pointer straight in; a remote one has it coded into a frame, where In goes
// along with the request and Out comes back with the reply, so that no call
// needs a second exchange to copy user memory (copyin, copyout).
//
// The convention: take the arguments in the order of the NetBSD manual page.
// Path names (and other names) go to Path in order. Memory that the call reads
// is In, memory that it fills is Out, and their lengths are the slices'.
// Whatever is left, the plain integers, fills A in order. So
// pread(fd, buf, n, off) is A = {fd, off}, Out = buf; linkat(fd1, p1, fd2, p2,
// flag) is A = {fd1, fd2, flag}, Path = {p1, p2}. A socket address that the
// call reads beside data (sendto) is Addr; one that it answers comes in Addr
// as well. Structures have the layouts of this package's Append and Parse
// functions.
//
// sendmsg and recvmsg have two kinds of memory; the control messages lie behind
// the data. sendmsg(fd, msg, flags) is A = {fd, flags, bytes of control}, In =
// data, then control; the name is Addr. recvmsg is A = {fd, flags, most bytes
// of control}, Out as long as the data and that together; it answers R[0] =
// bytes of data (with MSG_TRUNC the whole length), R[1] = bytes of control in
// the low half and msg_flags in the high half, and in Out the data that fitted
// and the control right behind it; the sender is Addr.
//
// fcntl with F_GETLK, F_SETLK and F_SETLKW is A = {fd, cmd}, In = a Flock, and
// for F_GETLK Out = a Flock.
type Sysargs struct {
	A    [6]uint64
	Path [2]string // at most PATH_MAX bytes each
	Addr []byte    // a sockaddr in NetBSD's layout, at most SockaddrMaxLen bytes; in and out
	In   []byte    // at most MaxTransfer bytes
	Out  []byte    // at most MaxTransfer bytes

	// Results.
	R  [2]uint64 // return values
	NO int       // bytes of Out that were written
}

// MaxTransfer bounds In and Out of one call, in bytes. Clients split longer
// reads and writes.
const MaxTransfer = 1 << 20

// Int is argument i as a signed number.
func (a *Sysargs) Int(i int) int { return int(int64(a.A[i])) }

// U32 is argument i as an unsigned 32-bit number.
func (a *Sysargs) U32(i int) uint32 { return uint32(a.A[i]) }

// SetInt sets argument i to a possibly negative number.
func (a *Sysargs) SetInt(i, v int) { a.A[i] = uint64(int64(v)) }
