package kauth

import (
	"errors"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestSecurelevel asks as the super-user, level by level.
func TestSecurelevel(t *testing.T) {
	a := New()
	a.Suser()
	s, remove := a.Securelevel()
	write := func(mounted bool) DevArg { return DevArg{Blk: true, Mounted: mounted, Write: true} }
	asks := []struct {
		scope Scope
		act   Action
		arg   any
		from  int // the level that refuses it; 0: none does
	}{
		{System, Module, nil, 1}, {System, Autoload, nil, 1}, {System, Chsysflags, nil, 1}, {System, Mount, nil, 2},
		{System, Unmount, nil, 0}, {System, Reboot, nil, 0}, {System, Sysctl, nil, 0}, {Process, Setid, nil, 0}, {Network, RawSock, nil, 0},
		{Device, RawIO, write(true), 1}, {Device, RawIO, write(false), 2}, {Device, RawIO, DevArg{Blk: true}, 0}, {Device, RawIO, DevArg{Write: true}, 0},
		{Device, RawIO, nil, 0},
	}
	for _, level := range []int{0, 1, 2, 3} {
		if err := s.Raise(level); err != nil || s.Level() != level {
			t.Fatalf("raise to %d: %v", level, err)
		}
		for _, q := range asks {
			err := a.Authorize(q.scope, abi.Root, q.act, q.arg)
			if refuse := q.from > 0 && level >= q.from; (err != nil) != refuse {
				t.Errorf("level %d: %s %s %+v: %v", level, q.scope, q.act, q.arg, err)
			}
		}
	}
	for _, n := range []int{2, 0, -1} {
		if err := s.Raise(n); !errors.Is(err, abi.EPERM) {
			t.Errorf("lowered to %d: %v", n, err)
		}
	}
	if err := s.Raise(1 << 40); !errors.Is(err, abi.EINVAL) {
		t.Errorf("1<<40: %v", err)
	}
	remove()
	if err := a.Authorize(System, abi.Root, Module, nil); err != nil {
		t.Errorf("after the model is gone: %v", err)
	}
}

// TestDeviceDefault: the permissions of the node decide about devices, for
// everybody.
func TestDeviceDefault(t *testing.T) {
	a := New()
	a.Suser()
	if err := a.Authorize(Device, abi.NewCred(5, 5), RawIO, DevArg{Write: true}); err != nil {
		t.Error(err)
	}
	if err := a.Authorize(Device, abi.NewCred(5, 5), "other", nil); err != abi.EPERM {
		t.Error(err)
	}
}
