package vfs

import "github.com/rumpus-kernel/rumpus/modapi/abi"

// InstanceDegrade has the mounts of an instance that have a journal refuse
// changes with EIO, while what they can be asked without is answered; or take
// them again. Other mounts have nothing that could be spoiled.
func (fs *VFS) InstanceDegrade(instance string, on bool) {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	for _, m := range fs.mounts {
		if m.instance == instance && m.j != nil {
			m.j.Degrade(on)
		}
	}
}

// InstanceSeq is how many changes the journals of an instance's mounts have had:
// as long as that grows, somebody gets on with his work.
func (fs *VFS) InstanceSeq(instance string) (n abi.OpSeq) {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	for _, m := range fs.mounts {
		if m.instance == instance && m.j != nil {
			n += m.j.Stats().Seq
		}
	}
	return n
}
