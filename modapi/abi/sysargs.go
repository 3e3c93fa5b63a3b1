package abi

// Sysargs are the arguments and results of one system call, in the one form
// that travels between a client and the kernel. An embedded client passes the
// pointer straight in; a remote one has it coded into a frame, where In goes
// along with the request and Out comes back with the reply, so that no call
// needs a second exchange to copy user memory (copyin, copyout).
type Sysargs struct {
	A    [6]uint64 // integer arguments in the order of the manual page
	Path [2]string // path names and other short strings, PathMax bytes each
	In   []byte    // what the call reads from the caller's memory
	Out  []byte    // where the call writes; its length is the caller's limit
	// results
	R  [2]uint64 // return values (pipe, fork have two)
	NO int       // bytes of Out that were written
}

// MaxTransfer bounds In and Out of one call, in bytes. Clients split longer
// reads and writes.
const MaxTransfer = 1 << 20

// Int is argument i as a signed number.
func (a *Sysargs) Int(i int) int { return int(int64(a.A[i])) }

// Stat is struct stat: what stat(2) answers.
type Stat struct {
	Vattr
	Dev Fsid
}
