package vfs

import "github.com/rumpus-kernel/rumpus/kernel/file"

// MountOf says which file system an open file is on: where it is mounted and
// its type. ok is false for what is no file of a file system.
func MountOf(f *file.File) (dir, fstype string, ok bool) {
	v := vnodeOf(f)
	if v == nil {
		return "", "", false
	}
	return v.m.dir, v.m.typ, true
}
