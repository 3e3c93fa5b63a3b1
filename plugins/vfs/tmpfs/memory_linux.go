package tmpfs

import "golang.org/x/sys/unix"

// machineMemory is the memory of the machine in bytes; a variable for tests.
var machineMemory = func() (uint64, error) {
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return 0, err
	}
	return uint64(si.Totalram) * uint64(max(si.Unit, 1)), nil
}
