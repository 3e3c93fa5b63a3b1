package kernel_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
	"github.com/rumpus-kernel/rumpus/plugins/net/inet"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// comefs is tmpfs under another name.
type comefs struct{ modapi.Module }

func (c comefs) Info() modapi.Info {
	i := c.Module.Info()
	i.Name = "comefs"
	return i
}

func (c comefs) Init(ctx context.Context, k modapi.Kernel, r modapi.Reason, p modapi.Props) error {
	return c.Module.Init(ctx, asComefs{k}, r, p)
}

type asComefs struct{ modapi.Kernel }

func (k asComefs) AttachFS(_ string, t vfsops.FSType, c vfsops.Caps) error {
	return k.Kernel.AttachFS("comefs", t, c)
}
func (k asComefs) Sysctl(modapi.SysctlNode) error { return nil }

// TestModulesComeAndGo loads and unloads modules while they are used: every
// call is done or refused with an errno that says why, none hangs, and what is
// in use stays.
func TestModulesComeAndGo(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var d diary
	h := &loader{d: &d, mods: map[string]modapi.Module{"comefs": comefs{tmpfs.New()}, "inet": inet.New()}}
	k := booted(t, kernel.Options{Hyper: h, Modules: []modapi.Module{tmpfs.New()}})
	stop := time.Now().Add(time.Second)
	var wg sync.WaitGroup
	worker := func(name string, may []abi.Errno, f func(call func(error)) error) {
		wg.Go(func() {
			c, err := k.Client(name)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Exit()
			done := 0
			check := func(err error) {
				if err == nil {
					done++
				} else if !slices.Contains(may, abi.ErrnoOf(err)) {
					t.Errorf("%s: %v", name, err)
				}
			}
			may0 := name == "unloader" || name == "loader" // these may come too late each time
			for (time.Now().Before(stop) || done == 0 && !may0) && ctx.Err() == nil {
				check(f(check))
			}
			if done == 0 && !may0 {
				t.Errorf("%s was never done", name)
			}
		})
	}
	boss, err := k.Client("boss")
	if err != nil {
		t.Fatal(err)
	}
	defer boss.Exit()
	for i := range 2 {
		dir := fmt.Sprintf("/m%d", i)
		if err := boss.Mkdir(ctx, dir, 0o755); err != nil {
			t.Fatal(err)
		}
		worker("mounter", []abi.Errno{abi.ENODEV, abi.ENOENT, abi.EBUSY}, func(check func(error)) error {
			if err := boss.Mount(ctx, "comefs", dir, 0, "", nil); err != nil {
				return err
			}
			check(boss.WriteFile(ctx, dir+"/f", []byte("x"), 0o600))
			// Its file system can be mounted a moment before the module is listed.
			for ok := false; !ok; {
				var err error
				if ok, err = boss.Modexists(ctx, "comefs"); err != nil {
					t.Errorf("mounted, and its module is there: %v, %v", ok, err)
					break
				}
			}
			check(boss.Unmount(ctx, dir, 0))
			return boss.Modunload(ctx, "comefs", 0)
		})
	}
	worker("talker", []abi.Errno{abi.EOPNOTSUPP, abi.EAFNOSUPPORT}, func(func(error)) error {
		fd, err := boss.Socket(ctx, abi.AF_INET, abi.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		return boss.Close(ctx, fd)
	})
	worker("unloader", []abi.Errno{abi.ENOENT, abi.EBUSY}, func(func(error)) error { return boss.Modunload(ctx, "inet", 0) })
	worker("loader", []abi.Errno{abi.EEXIST}, func(func(error)) error { return boss.Modload(ctx, "comefs", 0, nil) })
	worker("reader", nil, func(func(error)) error {
		if _, err := boss.Modstat(ctx); err != nil {
			return err
		}
		_, err := boss.SysctlList(ctx, "")
		return err
	})
	wg.Wait()
}
