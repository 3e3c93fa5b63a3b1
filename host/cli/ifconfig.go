package cli

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var ifconfigVerb = &verb{
	name: "ifconfig", group: groupNet, synopsis: []string{"[-v] [INTERFACE]", "[-v] -a", "-l"}, max: 1,
	short:    "show the network interfaces",
	long:     []string{"Shows the flags, the MTU and the addresses of INTERFACE or, without one, of all interfaces. -v adds the counters."},
	examples: []example{{"rumpus ifconfig lo0", "The loopback interface."}},
	setup: func(fs *pflag.FlagSet) runFunc {
		all := fs.BoolP("all", "a", false, "all interfaces, which is what is shown without operand")
		names := fs.BoolP("list", "l", false, "only the names")
		verbose := fs.BoolP("verbose", "v", false, "counters as well")
		return func(ctx context.Context, c *call, args []string) error {
			if *all && len(args) > 0 {
				return usagef("either -a or an interface")
			}
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			ifs, err := k.Ifstat(ctx)
			if err != nil {
				return err
			}
			list := []rumpclient.Ifstat{}
			for _, i := range ifs {
				if len(args) == 0 || i.Name == args[0] {
					list = append(list, i)
				}
			}
			if len(args) > 0 && len(list) == 0 {
				return fmt.Errorf("interface %s: %w", args[0], abi.ENXIO)
			}
			if c.json {
				return writeJSON(c.out, list)
			}
			if *names {
				var all []string
				for _, i := range list {
					all = append(all, c.show(i.Name))
				}
				c.printf("%s\n", strings.Join(all, " "))
				return nil
			}
			for i := range list {
				c.out.WriteString(ifText(&list[i], *verbose, c.show))
			}
			return nil
		}
	},
}

// ifFlags are the numbers of an interface's flags (net/if.h).
var ifFlags = map[string]uint{
	"UP": 0x1, "BROADCAST": 0x2, "DEBUG": 0x4, "LOOPBACK": 0x8, "POINTOPOINT": 0x10, "RUNNING": 0x40,
	"NOARP": 0x80, "PROMISC": 0x100, "ALLMULTI": 0x200, "OACTIVE": 0x400, "SIMPLEX": 0x800,
	"LINK0": 0x1000, "LINK1": 0x2000, "LINK2": 0x4000, "MULTICAST": 0x8000,
}

// ifText is an interface in ifconfig(8)'s manner.
func ifText(i *rumpclient.Ifstat, verbose bool, show func(string) string) string {
	var b strings.Builder
	bits := uint(0)
	flags := make([]string, len(i.Flags))
	for n, f := range i.Flags {
		flags[n] = strings.ToUpper(f)
		bits |= ifFlags[flags[n]]
	}
	fmt.Fprintf(&b, "%s: flags=0x%x<%s> mtu %d\n", show(i.Name), bits, show(strings.Join(flags, ",")), i.MTU)
	if verbose {
		fmt.Fprintf(&b, "\tinput: %d packets, %d bytes, %d errors, %d drops\n", i.InPackets, i.InBytes, i.InErrors, i.InDrops)
		fmt.Fprintf(&b, "\toutput: %d packets, %d bytes, %d errors, %d drops\n", i.OutPackets, i.OutBytes, i.OutErrors, i.OutDrops)
	}
	for _, a := range i.Addrs {
		family := "inet"
		if p, err := netip.ParsePrefix(a); err == nil && p.Addr().Is6() {
			family = "inet6"
		} else if err != nil && strings.Contains(a, ":") {
			family = "inet6"
		}
		fmt.Fprintf(&b, "\t%s %s\n", family, show(a))
	}
	return b.String()
}
