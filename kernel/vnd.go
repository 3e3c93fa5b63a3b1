package kernel

import (
	"context"

	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/kernel/vnd"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// attachVnd makes the driver of files of the kernel as disks.
func (k *Kernel) attachVnd() {
	var number abi.Dev
	k.Vnd = vnd.New(vnd.Options{
		Open: func(ctx context.Context, path string, write bool) (vnd.File, error) {
			b, err := k.VFS.OpenBacking(ctx, k.where0(), path, write)
			if err != nil {
				return nil, err
			}
			return b, nil
		},
		Rest: func(unit uint32, f vnd.File) (func(), error) {
			return k.Dev.Rest(abi.Makedev(number.Major(), unit), f.(*vfs.Backing).Instance())
		},
	})
	n, err := k.Dev.AttachBlk("", "vnd", k.Vnd)
	if err != nil {
		k.Msg.Printf("vnd: %v", err)
		return
	}
	number = n
}

// endVnd lets the files of all units go.
func (k *Kernel) endVnd(ctx context.Context) {
	if err := k.Vnd.CloseAll(ctx); err != nil {
		k.Msg.Printf("%v", err)
	}
}
