package kernel

import (
	"github.com/rumpus-kernel/rumpus/kernel/kauth"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/pseudofs"
	"github.com/rumpus-kernel/rumpus/kernel/pseudofs/devfs"
	"github.com/rumpus-kernel/rumpus/kernel/pseudofs/kernfs"
	"github.com/rumpus-kernel/rumpus/kernel/pseudofs/procfs"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// attachPseudofs attaches the file systems that are the kernel's own.
func (k *Kernel) attachPseudofs() {
	for _, t := range []struct {
		name string
		t    vfsops.FSType
		caps vfsops.Caps
	}{
		{"devfs", devfs.New(k.Dev, k.Dev.OpenBlkNode), devfs.Caps},
		{"kernfs", kernfs.New(kernfs.Deps{Sysctl: k.Sysctl, Now: k.hyp.Now, Booted: k.boot}), pseudofs.Caps},
		{"procfs", procfs.New(procfs.Deps{
			Procs: k.Procs, VFS: k.VFS, Sysctl: k.Sysctl, Now: k.hyp.Now, Booted: k.boot, Wmesg: k.wmesg,
			Sees: func(c *abi.Caller, of *proc.Proc) bool {
				return k.Auth.Authorize(kauth.Process, c.Cred, kauth.CanSee, of.Cred()) == nil
			},
		}), pseudofs.Caps},
		{"nullfs", vfs.NullType{}, vfs.NullCaps},
	} {
		if err := k.VFS.AttachFS("", t.name, t.t, t.caps); err != nil {
			k.Msg.Printf("%s: %v", t.name, err)
		}
	}
}
