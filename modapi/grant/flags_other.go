//go:build !linux && !freebsd

package grant

// Hosts without these flags have no components of their own process.
const (
	msgNosignal = 0
	msgCloexec  = 0
	sockCloexec = 0
)
