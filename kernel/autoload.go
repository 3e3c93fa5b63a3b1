package kernel

import (
	"context"
	"fmt"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// What is autoloaded for whom: the module called as the file-system type, as
// the protocol family, as the driver, and the one that has a system call.

func (k *Kernel) autoloadFS(ctx context.Context, fstype string) error {
	if err := k.mayAutoload(fstype); err != nil {
		return err
	}
	return k.Mod.Autoload(ctx, fstype, modapi.ClassVFS)
}

func (k *Kernel) autoloadDomain(ctx context.Context, af int) error {
	if err := k.mayAutoload(domainModule(af)); err != nil {
		return err
	}
	return k.Mod.Autoload(ctx, domainModule(af), modapi.ClassNet)
}

// domainModule is the name of the module with a protocol family.
func domainModule(af int) string {
	switch af {
	case abi.AF_INET, abi.AF_INET6:
		return "inet"
	}
	return fmt.Sprintf("af%d", af)
}

func (k *Kernel) autoloadSyscall(ctx context.Context, name string) error {
	if err := k.mayAutoload(name); err != nil {
		return err
	}
	return k.Mod.Autoload(ctx, name, modapi.ClassMisc)
}

func (k *Kernel) autoloadMajor(ctx context.Context, major uint32) error {
	return k.autoloadDriver(ctx, k.Dev.ModuleName(major), major)
}

// autoloadBlk is the same for a block device.
func (k *Kernel) autoloadBlk(ctx context.Context, major uint32) error {
	return k.autoloadDriver(ctx, k.Dev.BlkModuleName(major), major)
}

func (k *Kernel) autoloadDriver(ctx context.Context, name string, major uint32) error {
	if name == "" {
		return fmt.Errorf("no driver is known for major %d: %w", major, abi.ENOENT)
	}
	if err := k.mayAutoload(name); err != nil {
		return err
	}
	return k.Mod.Autoload(ctx, name, modapi.ClassDriver)
}
