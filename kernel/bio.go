package kernel

import (
	"github.com/rumpus-kernel/rumpus/kernel/bio"
)

// startBio makes the block layer between the device switch and who reads block
// devices: nodes, file systems, exports.
func (k *Kernel) startBio() {
	k.Bio = bio.New(bio.Options{
		Memory:   k.VFS.BlockMemory(),
		Evcnt:    k.Evcnt.Attach,
		Log:      k.Msg.Logger("bio"),
		Open:     bio.Switched(k.Dev),
		Aiodone:  k.Aiodone,
		Callouts: k.Callouts,
	})
	k.Dev.SetCache(k.Bio.Node)
}
