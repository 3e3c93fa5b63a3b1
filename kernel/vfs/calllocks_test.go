package vfs

import (
	"sync"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestNoLockOverACall holds that no lock but those that the package doc allows
// is held while a file system is asked: one that takes its time holds up nobody
// who does not need the same vnode.
func TestNoLockOverACall(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			// The drain runs here, so that a lock that is held is this goroutine's.
			k := newKern(t, v, Options{Drain: func(fn func()) { fn() }})
			m := k.fs()
			if m == nil {
				t.Skip("this file system has no hook")
			}
			asked := map[string]int{}
			held := func(op, name string, l interface {
				TryLock() bool
				Unlock()
			}) {
				if !l.TryLock() {
					t.Errorf("%s is asked with %s held", op, name)
					return
				}
				l.Unlock()
			}
			mount := k.mounts[0]
			m.mu.Lock()
			m.hook = func(op string) error {
				asked[op]++
				for name, l := range map[string]sync.Locker{
					"VFS.mu": &k.mu, "VFS.clockMu": &k.clockMu, "pagePool.mu": &k.pool.mu, "dirLists.mu": &k.lists.mu,
					"Mount.vmu": &mount.vmu, "Mount.treeMu": &mount.treeMu, "Mount.resMu": &mount.resMu,
					"Mount.stateMu": &mount.stateMu, "Mount.forgetMu": &mount.forgetMu,
				} {
					held(op, name, l.(interface {
						TryLock() bool
						Unlock()
					}))
				}
				for i := range k.nc.shards {
					held(op, "nameShard.mu", &k.nc.shards[i].mu)
				}
				mount.vmu.Lock()
				defer mount.vmu.Unlock()
				for _, v := range mount.vnodes {
					held(op, "Vnode.amu", &v.amu)
				}
				return nil
			}
			m.mu.Unlock()
			k.ok(k.Mkdir(ctx, su(), "/a", 0o755))
			k.write("/a/f", "0123456789")
			k.ok(k.Symlink(ctx, su(), "f", "/a/l"))
			k.ok(k.Link(ctx, su(), "/a/f", su(), "/a/g", true))
			k.ok(k.Chmod(ctx, su(), "/a/f", 0o600, true))
			k.ok(k.Truncate(ctx, su(), "/a/f", 5))
			k.ok(k.SyncAll(ctx))
			k.nc.forget(k.mounts[0].root)
			k.ls("/a")
			if _, err := k.Stat(ctx, su(), "/a/l", true); err != nil {
				t.Error(err)
			}
			if _, err := k.Stat(ctx, su(), "/a/none", true); abi.ErrnoOf(err) != abi.ENOENT {
				t.Error(err)
			}
			f := k.open("/a/g", abi.O_RDWR)
			if got := k.readFile(f); got != "01234" {
				t.Errorf("read %q", got)
			}
			k.ok(k.Rename(ctx, su(), "/a/f", su(), "/a/h", 0))
			k.ok(k.Unlink(ctx, su(), "/a/h", 0))
			k.ok(k.Unlink(ctx, su(), "/a/g", 0))
			k.ok(f.Release(ctx))
			k.ok(k.Unlink(ctx, su(), "/a/l", 0))
			k.ok(k.Rmdir(ctx, su(), "/a"))
			k.ok(k.SyncAll(ctx))
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, op := range []string{"create", "mkdir", "lookup", "readdir", "link", "symlink", "rename", "remove", "rmdir", "setattr", "pin", "unpin"} {
				if asked[op] == 0 {
					t.Errorf("%s was not asked: %v", op, asked)
				}
			}
		})
	}
}
