package inet

import (
	"testing"

	_ "github.com/rumpus-kernel/rumpus/kernel/modproxy/modproxytest" // the binding "stream"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

// TestBindings runs the module as the kernel reaches it, in-process and over
// the stream: bulk both ways, datagrams, errors, options, edges.
func TestBindings(t *testing.T) {
	newMods := func() []modapi.Module { return []modapi.Module{New()} }
	modtest.EachBinding(t, newMods, modtest.Options{}, func(t *testing.T, _ *modtest.Kernel, mods []modapi.Module) {
		k := bootMod(t, mods[0])
		for _, af := range []int{abi.AF_INET, abi.AF_INET6} {
			c, s := k.pair(af)
			if c.name(true) != s.name(false) {
				t.Errorf("peer %v, name %v", c.name(true), s.name(false))
			}
			if err := exchange(c, s, pattern(2<<20), 64<<10, 1); err != nil {
				t.Errorf("%s: %v", names[af], err)
			}
			wantErr(t, "close", c.close(), 0)
			wantErr(t, "close", s.close(), 0)
		}
		for _, small := range []int{1, 65536} {
			c, s := k.pairBuf(abi.AF_INET, small)
			if err := exchange(c, s, pattern(64<<10), 3000, 2); err != nil {
				t.Error(err)
			}
		}

		u, v := k.socket(abi.AF_INET, abi.SOCK_DGRAM), k.socket(abi.AF_INET, abi.SOCK_DGRAM)
		wantErr(t, "bind", v.bind(lo4), 0)
		if _, err := u.d.Send(bg, u.id, sockops.SendReq{To: v.name(false)}, abi.IovOf([]byte("datagram"))); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4)
		r, err := v.recv(b, 0)
		if err != nil || string(b[:r.N]) != "data" || r.Flags != abi.MSG_TRUNC || r.From.Port != u.name(false).Port {
			t.Errorf("datagram %+v %q, %v", r, b, err)
		}
		wantErr(t, "too long", func() error {
			_, err := u.d.Send(bg, u.id, sockops.SendReq{To: v.name(false)}, abi.IovOf(make([]byte, 70000)))
			return err
		}(), abi.EMSGSIZE)
		wantErr(t, "refused", k.socket(abi.AF_INET, abi.SOCK_STREAM).connect(v.name(false)), abi.ECONNREFUSED)
		if st, err := k.ifc["lo"].Stats(bg, "lo0"); err != nil || st.InBytes == 0 {
			t.Errorf("stats %+v, %v", st, err)
		}
	})
}
