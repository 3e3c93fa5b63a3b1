package kauth

import (
	"fmt"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// DevArg goes with RawIO.
type DevArg struct {
	Blk     bool // a disk
	Mounted bool // with a file system of it mounted
	Write   bool
}

// Securelevel is the security model securelevel (secmodel_securelevel(9)): what
// nobody may do, the super-user neither, while the level is high enough. The
// level only rises.
//
//	0  insecure: nothing is refused
//	1  modules are neither loaded nor unloaded nor autoloaded; system flags of
//	   files (SF_IMMUTABLE, SF_APPEND) stay; mounted disks are not written to
//	2  no disk is written to; nothing is mounted
type Securelevel struct{ level atomic.Int32 }

// Securelevel registers the model, at level 0. It answers how to remove it.
func (a *Auth) Securelevel() (s *Securelevel, remove func()) {
	s = new(Securelevel)
	rm := []func(){a.Listen(System, s.system), a.Listen(Device, s.device)}
	a.RegisterModel()
	return s, func() {
		for _, f := range rm {
			f()
		}
		a.DeregisterModel()
	}
}

// Level is the level.
func (s *Securelevel) Level() int { return int(s.level.Load()) }

// Raise sets it. EPERM for one below the present.
func (s *Securelevel) Raise(n int) error {
	if n > 1<<30 {
		return fmt.Errorf("securelevel %d: %w", n, abi.EINVAL)
	}
	for {
		old := s.level.Load()
		if n < int(old) {
			return fmt.Errorf("the securelevel is %d and only rises: %w", old, abi.EPERM)
		}
		if s.level.CompareAndSwap(old, int32(n)) {
			return nil
		}
	}
}

func (s *Securelevel) system(_ *abi.Cred, act Action, _ any) Decision {
	n := s.level.Load()
	switch act {
	case Module, Autoload, Chsysflags:
		if n > 0 {
			return Deny
		}
	case Mount:
		if n > 1 {
			return Deny
		}
	}
	return Defer
}

func (s *Securelevel) device(_ *abi.Cred, act Action, arg any) Decision {
	d, ok := arg.(DevArg)
	if act != RawIO || !ok || !d.Blk || !d.Write {
		return Defer
	}
	if n := s.level.Load(); n > 1 || n > 0 && d.Mounted {
		return Deny
	}
	return Defer
}
