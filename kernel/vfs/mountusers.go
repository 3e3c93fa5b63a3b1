package vfs

// MountDirs are the mount points of the mounts that the current and the root
// directory are on; "" for one that is the root of the tree without having been
// chosen, which keeps no mount busy.
func (c *Cwdinfo) MountDirs() (cwd, root string) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.cdir != nil {
		cwd = c.cdir.m.dir
	}
	if c.rdir != nil {
		root = c.rdir.m.dir
	}
	return cwd, root
}
