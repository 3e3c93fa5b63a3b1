package vfs

import (
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestUnlinkUnopened: a file that only Watchers know, and nobody has open, goes
// without being pinned, and cannot be opened by who still knows it. One that is
// open is pinned, and can.
func TestUnlinkUnopened(t *testing.T) {
	for _, v := range variants[:4] {
		t.Run(v.name, func(t *testing.T) {
			k := newKern(t, v, Options{})
			m := k.fs()
			for _, open := range []bool{false, true} {
				k.write("/f", "hello")
				vn, err := k.Vget(ctx, su(), "/f")
				k.ok(err)
				vn.Watch(1)
				clear(m.calls)
				release := func() {}
				if open {
					f, err := k.OpenVnode(ctx, abi.KernelCaller, vn, abi.O_RDWR)
					k.ok(err)
					release = func() { k.ok(f.Release(ctx)) }
				}
				k.ok(k.Unlink(ctx, su(), "/f", 0))
				pins := 1
				if !open && vn.m.sole() {
					pins = 0
				}
				if m.calls["pin"] != pins {
					t.Errorf("open %v: pinned %d times, want %d", open, m.calls["pin"], pins)
				}
				st, err := vn.Stat(ctx)
				if err != nil || st.Nlink != 0 || st.Size != 5 {
					t.Errorf("open %v: %+v, %v", open, st, err)
				}
				f, err := k.OpenVnode(ctx, abi.KernelCaller, vn, abi.O_RDONLY)
				if pins == 0 {
					k.is(err, abi.ESTALE)
				} else {
					k.ok(err)
					k.ok(f.Release(ctx))
				}
				release()
				vn.Watch(-1)
				vn.Rele()
			}
			k.settled()
		})
	}
}
