package modtest_test

import (
	"net/netip"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/examples/hello/hello"
	"github.com/rumpus-kernel/rumpus/modapi/modtest"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
	"github.com/rumpus-kernel/rumpus/plugins/dev/mem"
	"github.com/rumpus-kernel/rumpus/plugins/net/inet"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

func TestModuleKit(t *testing.T) {
	modtest.TestModule(t, func() []modapi.Module {
		return []modapi.Module{hello.New(), tmpfs.New(), mem.New(), inet.New()}
	}, modtest.Options{})
}

func TestChrKit(t *testing.T) {
	for driver, ut := range map[string]modtest.ChrUnderTest{
		"hello": {Units: []uint32{0}, BadUnit: 1},
		"mem":   {Units: []uint32{2, 11, 12}, BadUnit: 77},
	} {
		t.Run(driver, func(t *testing.T) {
			modtest.TestChr(t, func(*testing.T) modtest.ChrUnderTest {
				ut.Driver, ut.Mods = driver, []modapi.Module{hello.New(), mem.New()}
				return ut
			})
		})
	}
}

func TestDomainKit(t *testing.T) {
	for name, ut := range map[string]modtest.DomainUnderTest{
		"inet": {AF: abi.AF_INET, Local: abi.SockaddrFrom(netip.MustParseAddrPort("127.0.0.1:0")),
			Refused: abi.SockaddrFrom(netip.MustParseAddrPort("127.0.0.1:9"))},
		"inet6": {AF: abi.AF_INET6, Local: abi.SockaddrFrom(netip.MustParseAddrPort("[::1]:0")),
			Refused: abi.SockaddrFrom(netip.MustParseAddrPort("[::1]:9"))},
	} {
		t.Run(name, func(t *testing.T) {
			modtest.TestDomain(t, func(*testing.T) modtest.DomainUnderTest {
				ut.Mods = []modapi.Module{inet.New()}
				ut.Setup = func(t *testing.T, k *modtest.Kernel) {
					c := sockops.IfConfig{Name: "lo0", Class: "lo", Up: true,
						Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128")}}
					if err := k.Ifs["lo"].Create(t.Context(), c); err != nil {
						t.Fatal(err)
					}
				}
				return ut
			})
		})
	}
}
