package socket

import (
	"net/netip"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

func TestInterfaces(t *testing.T) {
	k := newKit(t, 10)
	ctx := ctxT(t)
	ifs := k.Ifs(ctx)
	if len(ifs) != 1 || ifs[0].Name != "lo0" || ifs[0].Index != 1 || len(ifs[0].Addrs) != 2 ||
		ifs[0].Flags != abi.IFF_UP|abi.IFF_LOOPBACK|abi.IFF_RUNNING|abi.IFF_MULTICAST || ifs[0].Stats.InPackets != 7 {
		t.Errorf("interfaces at boot: %+v", ifs)
	}
	pfx := netip.MustParsePrefix
	lo1 := sockops.IfConfig{Name: "lo1", Class: "lo", Up: true, Addrs: []netip.Prefix{pfx("10.0.0.1/24")}}
	for _, c := range []struct {
		what string
		c    sockops.IfConfig
		e    abi.Errno
	}{
		{"good", lo1, 0},
		{"again", lo1, abi.EEXIST},
		{"unknown class", sockops.IfConfig{Name: "tap0", Class: "tap"}, abi.EINVAL},
		{"no class", sockops.IfConfig{Name: "lo2"}, abi.EINVAL},
		{"no number", sockops.IfConfig{Name: "lo", Class: "lo"}, abi.EINVAL},
		{"only number", sockops.IfConfig{Name: "0", Class: "lo"}, abi.EINVAL},
		{"bad bytes", sockops.IfConfig{Name: "l/o0", Class: "lo"}, abi.EINVAL},
		{"long", sockops.IfConfig{Name: "looooooooooooooo0", Class: "lo"}, abi.EINVAL},
		{"bad address", sockops.IfConfig{Name: "lo2", Class: "lo", Addrs: []netip.Prefix{{}}}, abi.EINVAL},
		{"class refuses", sockops.IfConfig{Name: "lo2", Class: "lo", Props: map[string]string{"fail": "1"}}, abi.EIO},
	} {
		want(t, c.what, k.IfCreate(ctx, c.c), c.e)
	}

	gw := netip.MustParseAddr("10.0.0.254")
	def := sockops.Route{Dst: pfx("0.0.0.0/0"), Gateway: gw}
	if err := k.SetRoutes(ctx, []sockops.Route{def}); err != nil {
		t.Fatalf("SetRoutes: %v", err)
	}
	def.If = "lo1"
	wantRoutes := []sockops.Route{
		{Dst: pfx("127.0.0.0/8"), If: "lo0"}, {Dst: pfx("::1/128"), If: "lo0"},
		{Dst: pfx("10.0.0.0/24"), If: "lo1"}, def,
	}
	same := func(what string, got []sockops.Route) {
		t.Helper()
		if len(got) != len(wantRoutes) {
			t.Errorf("%s: %v", what, got)
			return
		}
		for i := range got {
			if got[i] != wantRoutes[i] {
				t.Errorf("%s: %v, want %v", what, got[i], wantRoutes[i])
			}
		}
	}
	same("table", k.Routes())
	same("component", k.n.routes)
	for what, r := range map[string]sockops.Route{
		"EINVAL":      {Dst: pfx("::/0"), Gateway: gw},
		"ENXIO":       {Dst: pfx("1.0.0.0/8"), If: "lo9"},
		"ENETUNREACH": {Dst: pfx("1.0.0.0/8"), Gateway: netip.MustParseAddr("11.1.1.1")},
	} {
		e, _ := abi.ErrnoByName(what)
		want(t, what, k.SetRoutes(ctx, []sockops.Route{r}), e)
	}
	same("after refusals", k.Routes())

	lo1.MTU = 1 << 20
	want(t, "configure refused", k.IfConfigure(ctx, lo1), abi.EINVAL)
	lo1.MTU, lo1.Class = 1500, ""
	want(t, "configure", k.IfConfigure(ctx, lo1), 0)
	want(t, "configure unknown", k.IfConfigure(ctx, sockops.IfConfig{Name: "lo7"}), abi.ENXIO)

	k.crash()
	if f := k.Ifs(ctx)[1].Flags; f&abi.IFF_RUNNING != 0 {
		t.Errorf("flags without a component: %#x", f)
	}
	// Made in the table while nobody is there, and with the others then.
	want(t, "create meanwhile", k.IfCreate(ctx, sockops.IfConfig{Name: "lo3", Class: "lo"}), 0)
	k.boot(10)
	same("component after restart", k.n.routes)
	if c := k.n.ifs["lo1"]; len(k.n.ifs) != 3 || c.MTU != 1500 || c.Class != "lo" || !c.Up {
		t.Errorf("interfaces after restart: %+v", k.n.ifs)
	}
	want(t, "destroy", k.IfDestroy(ctx, "lo1"), 0)
	want(t, "destroy again", k.IfDestroy(ctx, "lo1"), abi.ENXIO)
	if r := k.Routes(); len(r) != 2 {
		t.Errorf("routes left: %v", r)
	}
	if _, ok := k.n.ifs["lo1"]; ok {
		t.Error("lo1 is still in the component")
	}
}
