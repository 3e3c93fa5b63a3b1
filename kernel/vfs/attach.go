package vfs

import "slices"

// InUse reports whether something of the instance's type name is mounted.
func (fs *VFS) InUse(instance, name string) bool {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	return slices.ContainsFunc(fs.mounts, func(m *Mount) bool { return m.instance == instance && m.typ == name })
}

// HideFS lets nobody mount a type any more (vfs_detach begins), unless it is
// mounted or being mounted: false. ShowFS is the way back, DetachFS the way on.
func (fs *VFS) HideFS(instance, name string) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	t := fs.typeLocked(instance, name, true)
	if t == nil {
		return true
	}
	if t.users > 0 || slices.ContainsFunc(fs.mounts, func(m *Mount) bool { return m.instance == instance && m.typ == name }) {
		return false
	}
	t.hidden = true
	return true
}

// ShowFS undoes HideFS.
func (fs *VFS) ShowFS(instance, name string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if t := fs.typeLocked(instance, name, true); t != nil {
		t.hidden = false
	}
}

// leaveType ends a mount's use of its type: it counts as mounted now, or failed.
func (fs *VFS) leaveType(t *fsType) {
	fs.mu.Lock()
	t.users--
	fs.mu.Unlock()
}

// DetachFS takes one type of an instance away (vfs_detach). Its mounts, if
// there are any, go on.
func (fs *VFS) DetachFS(instance, name string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.types = slices.DeleteFunc(fs.types, func(t *fsType) bool { return t.instance == instance && t.name == name })
}
