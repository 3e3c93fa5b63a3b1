package vfs

import "slices"

// InUse reports whether something of the instance's type name is mounted.
func (fs *VFS) InUse(instance, name string) bool {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	return slices.ContainsFunc(fs.mounts, func(m *Mount) bool { return m.instance == instance && m.typ == name })
}

// DetachFS takes one type of an instance away (vfs_detach). Its mounts, if
// there are any, go on.
func (fs *VFS) DetachFS(instance, name string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.types = slices.DeleteFunc(fs.types, func(t *fsType) bool { return t.instance == instance && t.name == name })
}
