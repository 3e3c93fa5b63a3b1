package run

import (
	"fmt"

	"github.com/rumpus-kernel/rumpus/host/config"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
)

// mountArgs turns an entry of the configuration's list into what the kernel
// mounts. Options that are true stand as a bare word.
func mountArgs(m config.Mount) vfs.MountArgs {
	a := vfs.MountArgs{Type: m.Type, Source: m.Source, Dir: m.Dir, Instance: m.Instance, Options: make(map[string]string)}
	for k, v := range m.Options {
		a.Options[k] = fmt.Sprint(v)
	}
	return a
}
