package kernel

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/rumpus-kernel/rumpus/kernel/clock"
	"github.com/rumpus-kernel/rumpus/kernel/dev"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/kernel/iostat"
	"github.com/rumpus-kernel/rumpus/kernel/kauth"
	"github.com/rumpus-kernel/rumpus/kernel/ksyms"
	"github.com/rumpus-kernel/rumpus/kernel/kthread"
	"github.com/rumpus-kernel/rumpus/kernel/module"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/socket"
	"github.com/rumpus-kernel/rumpus/kernel/socket/local"
	"github.com/rumpus-kernel/rumpus/kernel/syscall"
	"github.com/rumpus-kernel/rumpus/kernel/sysctl"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// step notes a boot step. The names are those of the seed's 32 steps
// (testdata/boottrace.golden has them beside the seed's numbers). A step for
// which Go's runtime stands (allocators, mutexes, the scheduler) is noted where
// it was, and does nothing.
func (k *Kernel) step(name string) {
	k.mu.Lock()
	k.trace = append(k.trace, name)
	k.mu.Unlock()
}

// Boot brings the kernel up, in the order of rump__init. A second call while it
// runs answers nil and does nothing. EPROGMISMATCH for another Version, after
// which a Boot with the right one would work (defect B of the seed: there it
// answered 0 with nothing initialised). An absent component is no error unless
// it is essential.
func (k *Kernel) Boot(ctx context.Context) error {
	k.mu.Lock()
	switch v := k.o.Version; {
	case k.state == Running, k.state == Booting:
		k.mu.Unlock()
		return nil
	case k.state != Cold:
		k.mu.Unlock()
		return errRestart
	case v != 0 && v != Version:
		k.mu.Unlock()
		k.Msg.Printf("rump version mismatch, %d vs. %d", v, Version)
		return fmt.Errorf("rump version mismatch, %d vs. %d: %w", v, Version, abi.EPROGMISMATCH)
	case k.checkSecmodels() != nil:
		k.mu.Unlock()
		return k.checkSecmodels()
	case k.o.NCPU < 0 || k.o.NCPU > MaxCPU || k.o.MemLimit < 0:
		k.mu.Unlock()
		return fmt.Errorf("%d virtual CPUs (at most %d) and %d bytes of memory: %w", k.o.NCPU, MaxCPU, k.o.MemLimit, abi.EINVAL)
	}
	k.state = Booting
	k.mu.Unlock()
	ctx, k.cancelBoot = context.WithCancel(ctx)
	defer k.cancelBoot()
	close(k.began)
	loads := k.startLoading(ctx)
	k.initCore()
	close(k.core)
	err := k.initFactions(ctx, loads)
	close(k.settled)
	k.mu.Lock()
	ended := k.state != Booting // it panicked, or somebody ended it
	if !ended && err == nil {
		k.state = Running
		k.mu.Unlock()
		return nil
	}
	k.mu.Unlock()
	if ended {
		err = fmt.Errorf("the kernel was ended while it booted: %w", abi.EINTR)
	}
	k.Msg.Printf("boot: %v", err)
	loads.drain(ctx)
	if !ended {
		k.Reboot(ctx, abi.RB_NOSYNC)
	} else if k.PanicString() != "" {
		k.Mod.KillAll(ctx) // what was attached after the panic
	}
	return err
}

// SetVersion changes what Boot compares, for an embedder that tries again.
func (k *Kernel) SetVersion(v int) { k.o.Version = v }

// initCore makes the subsystems that are always there.
func (k *Kernel) initCore() {
	k.step("reentry")
	k.step("entropy")
	var seed [8]byte
	k.hyp.Entropy(seed[:])
	k.step("version")
	k.step("threads")
	k.step("lwp0")
	k.step("tty_lock")
	k.step("ksyms")
	k.Ksyms = ksyms.New()
	if err := k.Ksyms.Load(ksyms.Go); err != nil {
		k.Msg.Printf("%v", err)
	}
	k.step("vm")
	k.step("evcnt")
	k.Callouts = clock.New(k.Evcnt.Attach)
	k.Threads = kthread.New(k.intrCounter)
	if !k.threads() {
		k.Callouts.Disable()
		k.Threads.Disable()
	}
	k.step("once")
	k.step("prop")
	k.step("sleepers")
	k.step("kmem")
	k.step("uvm_ra")
	k.step("mutex_obj")
	k.step("kprintf")
	k.banner()
	k.step("kauth")
	k.startSecmodels()
	k.step("proc0")
	k.Files = &file.Table{}
	k.Files.Max.Store(DefaultMaxFiles)
	k.Pipes = file.NewPipes(k.Files, k.hyp.Now)
	k.Procs = proc.NewTable(k.Files)
	if m := k.sigmodel.Load(); m != nil {
		k.Procs.SetSigmodel(*m)
	}
	k.step("limits")
	k.step("scheduler")
	k.attachCPUs()
	k.step("callout")
	k.step("select")
	k.step("sysctl")
	k.Sysctl = sysctl.New()
	k.step("kqueue")
	k.step("iostat")
	k.Iostat = iostat.New()
	k.step("uidinfo")
	k.step("percpu")
	k.step("filedesc")
	k.step("module")
	k.step("softint")
	k.step("devsw")
	k.Dev = dev.New(dev.Options{RestartWait: k.o.RestartWait, Evcnt: k.Evcnt.Attach, Log: k.Msg.Logger("dev"), Autoload: k.autoloadMajor, AutoloadBlk: k.autoloadBlk, Iostat: k.Iostat, Fail: k.o.BlkFail})
	if n, seed := k.Dev.Failing(); n > 0 {
		k.Msg.Printf("blk: FAULT INJECTION ACTIVE! fail %d/%d. seed %d", n, dev.FailMax, seed)
	}
	k.attachPseudo()
	k.attachEtfs()
	k.attachVnd()
	log := k.Msg.Logger("vfs")
	k.VFS = vfs.New(vfs.Options{
		Now:         func() abi.Timespec { return abi.TimespecOf(k.hyp.Now()) },
		MemLimit:    k.o.MemLimit,
		Log:         log,
		Files:       k.Files,
		RestartWait: k.o.RestartWait,
		Evcnt:       k.Evcnt.Attach,
		Events:      k.Events,
		Poison:      k.o.Poison,

		Drain:     k.background("vdrain"),
		Async:     k.Aiodone,
		LowMemory: k.lowMemory(),
		Shrink:    func(want int64) int64 { return k.Bio.Shrink(want) },
		Autoload:  k.autoloadFS,
		Disk:      k.openDisk,
		Lockcnt:   func(uid uint32, d int) { _ = k.Procs.Uids.Find(uid).Chglockcnt(d, abi.RLIM_INFINITY) },
		Authorize: func(c *abi.Caller, want abi.AccMode, va *abi.Vattr, fsErr error) error {
			return k.Auth.AuthorizeVnode(c.Cred, want, va, fsErr)
		},
		Privileged: func(c *abi.Caller, action string) error {
			return k.Auth.Authorize(kauth.System, c.Cred, kauth.Action(action), nil)
		},
		OpenDev: func(ctx context.Context, c *abi.Caller, d abi.Dev, blk bool, flags int) (file.Ops, any, error) {
			if err := k.mayOpenDev(c, blk, flags); err != nil {
				return nil, nil, err
			}
			if blk {
				return k.Dev.OpenBlkNode(ctx, c, d, flags)
			}
			return k.Dev.Open(ctx, c, d, flags)
		},
		OpenFifo: func(ctx context.Context, _ *abi.Caller, a *vfs.Assoc, flags int) (file.Ops, any, error) {
			return k.Pipes.OpenFifo(ctx, a, &a.V, flags)
		},
	})
	k.startBio()
	k.Socket = socket.New(socket.Options{
		Local:  local.New(local.Options{Files: k.Files, Bind: k.bindLocal, Find: k.findLocal, Evcnt: k.Evcnt.Attach, Sbsize: k.sbsize}),
		Sbsize: k.sbsize,
		Files:  k.Files, RestartWait: k.o.RestartWait, Ifs: k.o.Ifs, Evcnt: k.Evcnt.Attach, Log: k.Msg.Logger("net"),
		Autoload: k.autoloadDomain,
		Authorize: func(c *abi.Caller, act socket.Action, _ abi.Sockaddr) error {
			if act == socket.OpenRaw {
				return k.Auth.Authorize(kauth.Network, c.Cred, kauth.RawSock, nil)
			}
			if k.Auth.Authorize(kauth.Network, c.Cred, kauth.PrivPort, nil) != nil {
				return abi.EACCES
			}
			return nil
		},
	})
	k.sys = &syscall.Kernel{
		VFS: k.VFS, Socket: k.Socket, Dev: k.Dev, Sysctl: k.Sysctl, Evcnt: k.Evcnt, Msg: k.Msg, Events: k.Events, Procs: k.Procs, Files: k.Files, Pipes: k.Pipes,
		Auth: k.Auth, Now: k.hyp.Now, Booted: k.boot, Random: k.hyp.Entropy, Reboot: k.requestReboot, SyncBlocks: k.Bio.Sync, Drvctl: k.drvctl,
		Rfork: k.rfork, Wmesg: k.wmesg, NoThreads: !k.threads(), Autoload: k.autoloadSyscall,
		Calls: k.Evcnt.Attach("sysproxy", "syscalls"),
	}
	k.Mod = module.New(module.Deps{
		Callouts: k.Callouts, Threads: k.Threads, Symbols: k.moduleSymbols,
		Load: k.hyp.Load, Sysctl: k.Sysctl, Evcnt: k.Evcnt, Msg: k.Msg, Events: k.Events,
		Factions: map[modapi.Class]module.Faction{
			modapi.ClassVFS: vfsFaction{k.VFS}, modapi.ClassNet: netFaction{k.Socket}, modapi.ClassDriver: devFaction{k.Dev},
		},
		AttachFS: k.VFS.AttachFS, Store: k.VFS.Store, AttachChr: k.Dev.AttachChr,
		AttachBlk: k.Dev.AttachBlk, BlkChanged: k.Dev.BlkChanged, Block: k.blockFor, DropBlocks: k.Dev.DropBlocks, AttachDomain: k.Socket.AttachDomain, AttachIf: k.Socket.AttachIf,
		Syscall: k.sys.Attach, DropSyscalls: k.sys.Detach, Ready: k.Socket.Ready, DevReady: k.Dev.DevReady,
		Started: func(i *module.Instance) {
			if k.o.Watch != nil {
				k.o.Watch(k, i)
			}
		},
	})
	k.sys.Mod = k.Mod
	k.attachPseudofs()
	k.Procs.SetHooks(proc.Hooks{
		VFSInit:    vfs.NewCwdinfo,
		VFSRelease: func(c *vfs.Cwdinfo) { c.Release() },
		Exit:       k.VFS.UnlockAll,
		Panic:      func(why string) { k.Panic("%s", why) },
	})
	k.step("pipe")
	k.sysctlInit()
	k.sysctlCore()
}

// initFactions attaches the components in the order vfs, net, dev, then what
// else there is, and mounts the root file system.
func (k *Kernel) initFactions(ctx context.Context, loads *loads) error {
	for _, f := range []struct {
		name  string
		class modapi.Class
	}{{"vfs", modapi.ClassVFS}, {"net", modapi.ClassNet}, {"dev", modapi.ClassDriver}} {
		k.step(f.name)
		if err := k.attachClass(ctx, f.class, loads); err != nil {
			return err
		}
	}
	k.step("cold")
	if k.threads() {
		k.step("aiodoned")
		k.startAiodoned()
	}
	k.step("sysctl_finalize")
	k.Sysctl.Finalize()
	k.step("modules")
	for _, c := range []modapi.Class{modapi.ClassMisc, modapi.ClassExec, modapi.ClassSecmodel} {
		if err := k.attachClass(ctx, c, loads); err != nil {
			return err
		}
	}
	devices := k.attachDevices(ctx, k.o.Devices, false)
	k.step("rootfs")
	if err := k.mountAll(ctx, func() { devices = k.attachDevices(ctx, devices, false) }); err != nil {
		return err
	}
	k.attachDevices(ctx, devices, true)
	k.step("hostname")
	name := k.o.Hostname
	if name == "" {
		name, _ = k.hyp.Hostname()
	}
	k.mu.Lock()
	k.hostname = name[:min(len(name), 255)]
	k.mu.Unlock()
	k.step("proc0_fd")
	if err := k.sysctlOptions(); err != nil {
		return err
	}
	if k.threads() {
		k.step("vmem_rehash")
	}
	k.step("unschedule")
	return nil
}

// loads are the plugin processes that are being started.
type loads struct {
	mu sync.Mutex
	m  map[string]*load
}

type load struct {
	done chan struct{}
	p    hyper.Plugin
	err  error
}

// startLoading starts all plugin processes at once; they are attached in order.
func (k *Kernel) startLoading(ctx context.Context) *loads {
	ls := &loads{m: make(map[string]*load)}
	for _, c := range k.o.Components {
		l := &load{done: make(chan struct{})}
		ls.m[c.Name] = l
		go func() {
			defer close(l.done)
			ctx, cancel := context.WithTimeout(ctx, k.o.LoadTimeout)
			defer cancel()
			l.p, l.err = k.hyp.Load(ctx, hyper.PluginSpec{Instance: c.Name, Plugin: c.Plugin, Epoch: 1})
		}()
	}
	return ls
}

// take answers the process of an instance, once.
func (ls *loads) take(name string) (hyper.Plugin, error) {
	ls.mu.Lock()
	l := ls.m[name]
	delete(ls.m, name)
	ls.mu.Unlock()
	<-l.done
	return l.p, l.err
}

// drain stops the processes that nobody took.
func (ls *loads) drain(ctx context.Context) {
	ls.mu.Lock()
	names := make([]string, 0, len(ls.m))
	for n := range ls.m {
		names = append(names, n)
	}
	ls.mu.Unlock()
	for _, n := range names {
		if p, err := ls.take(n); err == nil {
			p.Stop(ctx)
		}
	}
}

// attachClass attaches the modules bound in this process and the components of
// one class.
func (k *Kernel) attachClass(ctx context.Context, class modapi.Class, ls *loads) error {
	for _, m := range k.o.Modules {
		info := m.Info()
		if info.Class != class {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, k.o.LoadTimeout)
		err := k.Mod.Start(ctx, module.StartSpec{Instance: info.Name, Plugin: info.Name, Source: module.Builtin, Props: k.o.Props[info.Name]}, inproc{m})
		cancel()
		if module.InitFailed(err) { // it stays listed as disabled
			k.Msg.Logger("boot").Error(fmt.Sprintf("absent: %v", err))
			err = nil
		}
		if err != nil {
			return err
		}
	}
	for _, c := range k.o.Components {
		if c.Class != class {
			continue
		}
		p, err := ls.take(c.Name)
		if err == nil {
			ctx, cancel := context.WithTimeout(ctx, k.o.LoadTimeout)
			err = k.Mod.Start(ctx, module.StartSpec{Instance: c.Name, Plugin: c.Plugin, Source: module.Boot, Essential: c.Essential, Class: c.Class, Props: c.Props}, p)
			cancel()
		}
		if err != nil && c.Essential {
			return fmt.Errorf("essential component is absent: %w", named(c.Name, err))
		}
		if err != nil {
			k.Msg.Logger("boot").Error(fmt.Sprintf("absent: %v", named(c.Name, err)))
		}
	}
	return nil
}

// named is err with the component's name in front, once.
func named(name string, err error) error {
	if prefix := "component " + name + ": "; !strings.HasPrefix(err.Error(), prefix) {
		return fmt.Errorf("%s%w", prefix, err)
	}
	return err
}

// mountAll mounts the list, making mount points as it goes, and calls mounted
// after each. A mount that fails is told and left out, unless Options.MountFailed
// says that there is to be no boot without it; without the root the others make
// no sense.
func (k *Kernel) mountAll(ctx context.Context, mounted func()) error {
	mounts := k.o.Mounts
	if mounts == nil {
		mounts = []vfs.MountArgs{{Type: "tmpfs", Dir: "/"}, {Type: "devfs", Dir: "/dev"}}
	}
	if !k.VFS.Available() {
		return nil
	}
	w := k.where0()
	for i, m := range mounts {
		err := k.mountOne(ctx, w, m)
		if err == nil {
			mounted()
			continue
		}
		if k.o.MountFailed == nil {
			k.Msg.Logger("boot").Error(err.Error())
		} else {
			k.Msg.Logger("boot").Info(err.Error()) // who is told says it
			if err := k.o.MountFailed(m, err); err != nil {
				k.VFS.UnmountAll(context.WithoutCancel(ctx)) // the others have been in use, if for a moment
				return err
			}
		}
		if i == 0 {
			break
		}
	}
	return nil
}

// mountOne makes one mount of the list and its mount point.
func (k *Kernel) mountOne(ctx context.Context, w vfs.Where, m vfs.MountArgs) error {
	if m.Dir != "/" {
		if err := k.mkdirAll(ctx, w, m.Dir); err != nil {
			return fmt.Errorf("mount point %s: %w", m.Dir, err)
		}
	}
	if _, err := k.VFS.Mount(ctx, w, m); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.Type, m.Dir, err)
	}
	return nil
}

// where0 is proc0 as the one who walks paths.
func (k *Kernel) where0() vfs.Where {
	return vfs.Where{Caller: abi.KernelCaller, Cwd: k.Procs.Proc0.Cwd()}
}

func (k *Kernel) mkdirAll(ctx context.Context, w vfs.Where, dir string) error {
	var todo []string
	for d := path.Clean(dir); d != "/" && d != "."; d = path.Dir(d) {
		todo = append(todo, d)
	}
	for _, d := range slices.Backward(todo) {
		if err := k.VFS.Mkdir(ctx, w, d, 0o755); err != nil && abi.ErrnoOf(err) != abi.EEXIST {
			return err
		}
	}
	return nil
}

// inproc is a module bound in this process, as the plugin that it is not.
type inproc struct{ m modapi.Module }

func (p inproc) Modules() []modapi.Module { return []modapi.Module{p.m} }
func (inproc) Pid() int                   { return 0 }
func (inproc) Size() int64                { return 0 }
func (inproc) Done() <-chan struct{}      { return nil }
func (inproc) Cause() string              { return "" }
func (inproc) Stop(context.Context)       {}
