package inet

import (
	"net/netip"
	"strconv"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

func TestInterface(t *testing.T) {
	k := boot(t)
	lo := k.ifc["lo"]
	wantErr(t, "create again", lo.Create(bg, lo0()), abi.EEXIST)
	for what, c := range map[string]sockops.IfConfig{
		"no name":   {},
		"long name": {Name: "lo45678901234567"},
		"small mtu": {Name: "lo1", MTU: 1279},
		"large mtu": {Name: "lo1", MTU: 65537},
		"no prefix": {Name: "lo1", Addrs: []netip.Prefix{{}}},
		"mapped":    {Name: "lo1", Addrs: []netip.Prefix{netip.MustParsePrefix("::ffff:127.0.0.1/128")}},
	} {
		wantErr(t, what, lo.Create(bg, c), abi.EINVAL)
	}
	wantErr(t, "configure none", lo.Configure(bg, sockops.IfConfig{Name: "lo7"}), abi.ENXIO)
	wantErr(t, "destroy none", lo.Destroy(bg, "lo7"), abi.ENXIO)
	_, err := lo.Stats(bg, "lo7")
	wantErr(t, "stats of none", err, abi.ENXIO)

	before, err := lo.Stats(bg, "lo0")
	if err != nil || before.MTU != loMTU {
		t.Fatalf("stats %+v, %v", before, err)
	}
	c, s := k.pair(abi.AF_INET)
	if _, err := c.Write(pattern(10000)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	after, err := lo.Stats(bg, "lo0")
	if err != nil || after.OutBytes < before.OutBytes+10000 || after.InBytes < before.InBytes+10000 ||
		after.InPackets <= before.InPackets || after.OutPackets <= before.OutPackets {
		t.Errorf("stats %+v, %+v before, %v", after, before, err)
	}

	// Reconfigure: another MTU, one address more, one less.
	cfg := lo0()
	cfg.MTU = 33184
	cfg.Addrs = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("10.9.8.7/24")}
	wantErr(t, "configure", lo.Configure(bg, cfg), 0)
	if st, _ := lo.Stats(bg, "lo0"); st.MTU != 33184 {
		t.Errorf("mtu %d", st.MTU)
	}
	wantErr(t, "bind the address that went", k.socket(abi.AF_INET6, abi.SOCK_STREAM).bind(lo6), abi.EADDRNOTAVAIL)
	ten := abi.SockaddrFrom(netip.MustParseAddrPort("10.9.8.7:0"))
	l := k.socket(abi.AF_INET, abi.SOCK_STREAM)
	wantErr(t, "bind the address that came", l.bind(ten), 0)
	wantErr(t, "listen", l.listen(1), 0)
	wantErr(t, "connect to it", k.socket(abi.AF_INET, abi.SOCK_STREAM).connect(l.name(false)), 0)
	// Down: no route. Up again: back, and the same address twice is no error.
	cfg.Up = false
	wantErr(t, "down", lo.Configure(bg, cfg), 0)
	d := k.socket(abi.AF_INET, abi.SOCK_DGRAM)
	_, err = d.d.Send(bg, d.id, sockops.SendReq{To: port(ten, 9)}, nil)
	wantErr(t, "send over an interface that is down", err, abi.ENETDOWN)
	cfg.Up = true
	wantErr(t, "up", lo.Configure(bg, cfg), 0)
	wantErr(t, "connect again", k.socket(abi.AF_INET, abi.SOCK_STREAM).connect(l.name(false)), 0)

	wantErr(t, "create lo1", lo.Create(bg, sockops.IfConfig{Name: "lo1", Up: true}), 0)
	wantErr(t, "destroy lo1", lo.Destroy(bg, "lo1"), 0)
	wantErr(t, "destroy lo1 again", lo.Destroy(bg, "lo1"), abi.ENXIO)
}

func TestRoutes(t *testing.T) {
	k := boot(t)
	r4, r6 := k.dom[abi.AF_INET].(sockops.Router), k.dom[abi.AF_INET6].(sockops.Router)
	reach := func(to string) error {
		a := abi.SockaddrFrom(netip.MustParseAddrPort(to))
		s := k.socket(int(a.Family), abi.SOCK_DGRAM)
		return s.start(a)
	}
	if err := reach("198.51.100.1:9"); err == nil {
		t.Error("reached without a route")
	}
	routes := []sockops.Route{
		{Dst: netip.MustParsePrefix("198.51.100.0/24"), If: "lo0"},
		{Dst: netip.MustParsePrefix("203.0.113.0/24"), If: "lo5"},
		{Dst: netip.MustParsePrefix("2001:db8::/32"), If: "lo0"},
	}
	wantErr(t, "set", r4.SetRoutes(bg, routes), 0)
	wantErr(t, "reach", reach("198.51.100.1:9"), 0)
	if err := reach("203.0.113.1:9"); err == nil {
		t.Error("reached through an interface that is not there")
	}
	if err := reach("[2001:db8::1]:9"); err == nil {
		t.Error("AF_INET set a route of AF_INET6")
	}
	wantErr(t, "set 6", r6.SetRoutes(bg, routes), 0)
	wantErr(t, "reach 6", reach("[2001:db8::1]:9"), 0)
	wantErr(t, "the interface comes", k.ifc["lo"].Create(bg, sockops.IfConfig{Name: "lo5", Up: true,
		Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}), 0)
	wantErr(t, "reach", reach("203.0.113.1:9"), 0)
	wantErr(t, "no prefix", r4.SetRoutes(bg, []sockops.Route{{If: "lo0"}}), abi.EINVAL)
	wantErr(t, "mixed", r4.SetRoutes(bg, []sockops.Route{{Dst: routes[0].Dst, Gateway: netip.MustParseAddr("::1"), If: "lo0"}}), abi.EINVAL)
	wantErr(t, "set none", r4.SetRoutes(bg, nil), 0)
	if err := reach("198.51.100.1:9"); err == nil {
		t.Error("reached by a route that is gone")
	}
	wantErr(t, "own network", reach("127.0.0.1:9"), 0)
}

// TestModule checks Info, the counters, and that a second life in one process
// works as the first.
func TestModule(t *testing.T) {
	k := boot(t)
	i := k.mod.Info()
	if err := i.Check(); err != nil || i.Class != modapi.ClassNet || i.Name != "inet" {
		t.Errorf("info %+v, %v", i, err)
	}
	value := func(name string) int {
		t.Helper()
		n, ok := k.sysctl[name]
		if !ok {
			t.Fatalf("no sysctl %s", name)
		}
		v, err := strconv.Atoi(n.Get())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	before := value("net.inet.tcp.stats.segments_sent")
	k.pair(abi.AF_INET)
	if v := value("net.inet.tcp.stats.segments_sent"); v <= before {
		t.Errorf("segments sent %d, %d before", v, before)
	}
	if err := k.mod.Fini(bg); err != nil {
		t.Fatal(err)
	}
	clear(k.sysctl)
	if err := k.mod.Init(bg, k, modapi.Restart, nil); err != nil {
		t.Fatal(err)
	}
	if err := k.ifc["lo"].Create(bg, lo0()); err != nil {
		t.Fatal(err)
	}
	c, s := k.pair(abi.AF_INET6)
	if err := exchange(c, s, pattern(1000), 100, 1); err != nil {
		t.Fatal(err)
	}
}

func TestSnake(t *testing.T) {
	for in, want := range map[string]string{
		"SegmentsSent": "segments_sent", "SYNReceived": "syn_received", "X": "x", "": "", "FailedPortReservations": "failed_port_reservations",
	} {
		if got := snake(in); got != want {
			t.Errorf("snake(%q) = %q, want %q", in, got, want)
		}
	}
}
