package kernel

import (
	"context"
	"strconv"
	"strings"

	"github.com/rumpus-kernel/rumpus/kernel/dev"
	"github.com/rumpus-kernel/rumpus/kernel/module"
	"github.com/rumpus-kernel/rumpus/kernel/socket"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
)

// The three factions as the module layer knows them.
var (
	_ module.Faction = vfsFaction{}
	_ module.Faction = netFaction{}
	_ module.Faction = devFaction{}

	_ module.Degrader = vfsFaction{}
	_ module.Judge    = vfsFaction{}
	_ module.Seqs     = vfsFaction{}
)

type vfsFaction struct{ v *vfs.VFS }

func (f vfsFaction) Available(on bool) { f.v.SetAvailable(on) }
func (f vfsFaction) Down(inst string)  { f.v.InstanceDown(inst) }

func (f vfsFaction) Died(inst string, own bool) { f.v.InstanceDied(inst, own) }

func (f vfsFaction) Up(c context.Context, i string) error {
	err := f.v.Remount(c, i)
	f.v.InstanceUp(i)
	return err
}
func (f vfsFaction) Gone(inst string)            { f.v.InstanceUp(inst) }
func (f vfsFaction) Hide(inst, name string) bool { return f.v.HideFS(inst, name) }
func (f vfsFaction) Show(inst, name string)      { f.v.ShowFS(inst, name) }
func (f vfsFaction) Detach(inst, name string)    { f.v.DetachFS(inst, name) }

// Degrade has what is called meanwhile fail at once rather than wait.
func (f vfsFaction) Degrade(inst string, on bool) {
	f.v.InstanceDegrade(inst, on)
	if on {
		f.v.InstanceUp(inst)
	}
}

// Seq is how many changes there have been.
func (f vfsFaction) Seq(inst string) uint64 {
	return uint64(f.v.InstanceSeq(inst))
}

type netFaction struct{ l *socket.Layer }

func (f netFaction) Available(on bool)                    { f.l.SetAvailable(on) }
func (f netFaction) Down(inst string)                     { f.l.InstanceDown(inst) }
func (f netFaction) Up(c context.Context, i string) error { return f.l.InstanceUp(c, i) }
func (f netFaction) Gone(inst string)                     { f.l.DetachInstance(inst) }

func (f netFaction) Hide(inst, name string) bool {
	if af, ok := strings.CutPrefix(name, "af"); ok {
		n, _ := strconv.Atoi(af)
		return f.l.HideDomain(inst, n)
	}
	return true
}

func (f netFaction) Show(inst, name string) {
	if af, ok := strings.CutPrefix(name, "af"); ok {
		n, _ := strconv.Atoi(af)
		f.l.ShowDomain(inst, n)
	}
}

func (f netFaction) Detach(inst, name string) {
	if af, ok := strings.CutPrefix(name, "af"); ok {
		n, _ := strconv.Atoi(af)
		f.l.DetachDomain(inst, n)
		return
	}
	f.l.DetachIf(inst, strings.TrimPrefix(name, "if"))
}

type devFaction struct{ s *dev.Switch }

func (f devFaction) Available(on bool)                    { f.s.SetAvailable(on) }
func (f devFaction) Down(inst string)                     { f.s.InstanceDown(inst) }
func (f devFaction) Up(_ context.Context, i string) error { f.s.InstanceUp(i); return nil }
func (f devFaction) Gone(inst string)                     { f.s.DetachInstance(inst) }
func (f devFaction) Hide(inst, name string) bool          { return f.s.HideChr(inst, name) }
func (f devFaction) Show(inst, name string)               { f.s.ShowChr(inst, name) }
func (f devFaction) Detach(inst, name string)             { f.s.DetachChr(inst, name) }
