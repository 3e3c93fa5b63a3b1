package abi

import "fmt"

// KernVersion is a kernel ABI version in NetBSD's form MMmmrrpp00: major,
// minor, release letter, patch (sys/param.h __NetBSD_Version__).
type KernVersion uint32

// KernVersionCurrent is the version of this kernel: 0.1 as 1.00.00.
const KernVersionCurrent KernVersion = 100000000

// Compatible reports whether a module built for v loads into a kernel of
// version k: the same major and minor number, that is a difference below
// 10000 (NetBSD's module_compatible for a release).
func (v KernVersion) Compatible(k KernVersion) bool {
	d := int64(v) - int64(k)
	return d < 10000 && d > -10000
}

func (v KernVersion) String() string {
	return fmt.Sprintf("%d.%02d.%02d", v/100000000, v/1000000%100, v/100%10000)
}
