//go:build linux || freebsd

package grant

import "syscall"

// Descriptors that come are closed on exec at once, and a peer that is gone is
// an error, not a signal.
const (
	msgNosignal = syscall.MSG_NOSIGNAL
	msgCloexec  = syscall.MSG_CMSG_CLOEXEC
	sockCloexec = syscall.SOCK_CLOEXEC
)
