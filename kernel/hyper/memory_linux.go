package hyper

import "golang.org/x/sys/unix"

// Memory is the host's memory in bytes, 0 if it does not tell.
func Memory() uint64 {
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) != nil {
		return 0
	}
	return uint64(si.Totalram) * uint64(max(si.Unit, 1))
}
