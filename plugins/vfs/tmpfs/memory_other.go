//go:build !linux

package tmpfs

// machineMemory is the memory of the machine in bytes, which is not asked here:
// 4 GiB. A variable for tests.
var machineMemory = func() (uint64, error) { return 4 << 30, nil }
