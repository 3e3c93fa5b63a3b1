package syscall

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// sysUnmount is unmount(2). EBUSY names the processes that use the mount, as far
// as the caller may see them, and the exports that have files of it open.
func sysUnmount(ctx context.Context, k *Kernel, l *proc.Lwp, a *abi.Sysargs) error {
	dir := a.Path[0]
	err := k.VFS.Unmount(ctx, where(l), dir, a.A[0])
	if err == nil {
		k.Events.Emit(evlog.Event{Kind: evlog.Unmounted, Mount: dir})
	}
	if !errors.Is(err, abi.EBUSY) {
		return err
	}
	if sv, serr := k.VFS.Statvfs(ctx, where(l), dir); serr == nil {
		if users := append(k.mountUsers(l.Caller(), sv.On), k.VFS.Holding(sv.Fsid)...); len(users) > 0 {
			return fmt.Errorf("%w (used by %s)", err, strings.Join(users, "; "))
		}
	}
	return err
}

// Bounds of what an error names: processes, and descriptors of each.
const (
	maxUsers    = 8
	maxUsersFds = 4
)

// mountUsers names the processes with a descriptor, current or root directory
// on the mount at dir: "12 nc: cwd, fd 3; 14 sh: root".
func (k *Kernel) mountUsers(c *abi.Caller, dir string) (users []string) {
	for _, p := range k.byPid(c) {
		var uses []string
		if w := p.Cwd(); w != nil {
			cwd, root := w.MountDirs()
			if cwd == dir {
				uses = append(uses, "cwd")
			}
			if root == dir {
				uses = append(uses, "root")
			}
		}
		fds := 0
		p.Fd.Each(func(fd int, f *file.File) {
			if on, _, ok := vfs.MountOf(f); ok && on == dir {
				if fds++; fds <= maxUsersFds {
					uses = append(uses, fmt.Sprintf("fd %d", fd))
				}
			}
		})
		if fds > maxUsersFds {
			uses = append(uses, fmt.Sprintf("%d more", fds-maxUsersFds))
		}
		if len(uses) > 0 {
			users = append(users, fmt.Sprintf("%d %s: %s", p.Pid, p.Name(), strings.Join(uses, ", ")))
		}
	}
	if n := len(users); n > maxUsers {
		users = append(users[:maxUsers], fmt.Sprintf("%d more", n-maxUsers))
	}
	return users
}
