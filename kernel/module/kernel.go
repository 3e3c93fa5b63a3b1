package module

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/kernel/sysctl"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// kernel is the modapi.Kernel that one module gets for one Init. It records
// what the module attaches.
type kernel struct {
	m      *Manager
	x      *Mod
	closed atomic.Bool
	log    modapi.Logger
}

var _ modapi.Kernel = (*kernel)(nil)

func newKernel(m *Manager, x *Mod) *kernel {
	return &kernel{m: m, x: x, log: m.d.Msg.Logger(x.Name)}
}

// close ends the time for attaching.
func (k *kernel) close() { k.closed.Store(true) }

// maxAttach bounds what one module can attach.
const maxAttach = 64

func (k *kernel) may(what string) error {
	if k.closed.Load() {
		return fmt.Errorf("module %s: attach %s outside of init: %w", k.x.Name, what, abi.EPERM)
	}
	k.m.tab.Lock()
	n := len(k.x.att)
	k.m.tab.Unlock()
	if n >= maxAttach {
		return fmt.Errorf("module %s: attaches more than %d things: %w", k.x.Name, maxAttach, abi.ENOMEM)
	}
	return nil
}

func (k *kernel) record(c modapi.Class, name string) {
	k.m.tab.Lock()
	k.x.att = append(k.x.att, attachment{k.m.d.Factions[c], name})
	k.m.tab.Unlock()
}

func (k *kernel) AttachFS(name string, t vfsops.FSType, c vfsops.Caps) error {
	if err := k.may("file system " + name); err != nil {
		return err
	}
	if err := k.m.d.AttachFS(k.x.Inst.Name, name, t, c); err != nil {
		return fmt.Errorf("file system %s: %w", name, err)
	}
	k.record(modapi.ClassVFS, name)
	return nil
}

func (k *kernel) AttachChr(name string, d devops.Chr) (abi.Dev, error) {
	if err := k.may("device " + name); err != nil {
		return abi.NoDev, err
	}
	dev, err := k.m.d.AttachChr(k.x.Inst.Name, name, d)
	if err != nil {
		return abi.NoDev, fmt.Errorf("device %s: %w", name, err)
	}
	k.record(modapi.ClassDriver, name)
	return dev, nil
}

func (k *kernel) AttachBlk(name string, d devops.Blk) (abi.Dev, error) {
	if err := k.may("disk " + name); err != nil {
		return abi.NoDev, err
	}
	dev, err := k.m.d.AttachBlk(k.x.Inst.Name, name, d)
	if err != nil {
		return abi.NoDev, fmt.Errorf("disk %s: %w", name, err)
	}
	k.record(modapi.ClassDriver, name)
	return dev, nil
}

func (k *kernel) BlkChanged(dev abi.Dev) error { return k.m.d.BlkChanged(k.x.Inst.Name, dev) }

func (k *kernel) Block(dev, user abi.Dev) (devops.BlockIO, error) {
	return k.m.d.Block(context.Background(), k.x.Inst.Name, k.x.owner(), dev, user)
}

func (k *kernel) Store(mount abi.Fsid) modapi.Store {
	if k.m.d.Store == nil {
		return modapi.NoStore{}
	}
	return k.m.d.Store(k.x.Inst.Name, mount)
}

func (k *kernel) AttachDomain(af int, d sockops.Domain) error {
	if err := k.may("domain " + strconv.Itoa(af)); err != nil {
		return err
	}
	if err := k.m.d.AttachDomain(k.x.Inst.Name, af, d); err != nil {
		return fmt.Errorf("domain %d: %w", af, err)
	}
	k.record(modapi.ClassNet, "af"+strconv.Itoa(af))
	return nil
}

func (k *kernel) AttachIf(class string, c sockops.IfClass) error {
	if err := k.may("interface class " + class); err != nil {
		return err
	}
	if err := k.m.d.AttachIf(k.x.Inst.Name, class, c); err != nil {
		return fmt.Errorf("interface class %s: %w", class, err)
	}
	k.record(modapi.ClassNet, "if"+class)
	return nil
}

func (k *kernel) Sysctl(n modapi.SysctlNode) error {
	if err := k.may("sysctl " + n.Name); err != nil {
		return err
	}
	if k.x.Name != k.x.Info.Name { // a further instance of the module
		n.Name += "@" + k.x.Inst.Name
	}
	return k.m.d.Sysctl.Create(sysctl.Node{Name: n.Name, Type: sysctl.TypeString, Desc: n.Desc, Get: n.Get, Set: n.Set, Owner: k.x.owner()})
}

func (k *kernel) Evcnt(group, name string) *modapi.Counter {
	return k.m.d.Evcnt.Attach(group, name)
}

func (k *kernel) Syscall(num int, fn modapi.SyscallFn) error {
	if k.x.Info.Class != modapi.ClassMisc {
		return fmt.Errorf("module %s of class %s cannot attach system call %d: %w", k.x.Name, k.x.Info.Class, num, abi.EPERM)
	}
	if err := k.may("system call " + strconv.Itoa(num)); err != nil {
		return err
	}
	return k.m.d.Syscall(k.x.owner(), num, fn)
}

func (k *kernel) Ready(r sockops.Ready)   { k.m.d.Ready(r) }
func (k *kernel) DevReady(r devops.Ready) { k.m.d.DevReady(r) }

func (k *kernel) Granted(name string) (*os.File, error) {
	if k.m.d.Granted == nil {
		return nil, abi.ENOENT
	}
	return k.m.d.Granted(name)
}

func (k *kernel) Log() modapi.Logger { return k.log }
