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

// mounts are those that are made at boot.
func (h *host) mounts() []vfs.MountArgs {
	list := []vfs.MountArgs{}
	for _, m := range h.cfg.Mounts {
		if !m.Noauto {
			list = append(list, mountArgs(m))
		}
	}
	return list
}

// mountFailed ends the boot if the mount is one that it cannot do without: the
// root, and what the configuration calls essential. Otherwise it says on
// standard error what is missing, whatever the log's level and place.
func (h *host) mountFailed(a vfs.MountArgs, err error) error {
	for _, m := range h.cfg.Mounts {
		if m.Dir != a.Dir {
			continue
		}
		if m.Dir == "/" {
			return fmt.Errorf("no root file system: %w", err)
		}
		if m.Essential {
			return fmt.Errorf("essential mount is missing: %w", err)
		}
	}
	fmt.Fprintf(h.o.Stderr, "rumpus: %v: going on without it\n", err)
	return nil
}
