package inet

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/rumpus-kernel/rumpus/modapi"
)

// attachSysctl shows the stack's counters as net.inet.PROTO.stats.NAME,
// read-only: those of netstack's Stats under PROTO ip, icmp, igmp, tcp and
// udp, with netstack's names in lower case with underscores.
func (m *Module) attachSysctl() error {
	st := m.stack.Stats()
	for _, g := range []struct {
		proto string
		v     any
	}{
		{"ip", st.IP}, {"tcp", st.TCP}, {"udp", st.UDP},
	} {
		if err := m.attachStats("net.inet."+g.proto+".stats", reflect.ValueOf(g.v)); err != nil {
			return err
		}
	}
	return nil
}

// attachStats adds a node for every plain counter in the struct v.
func (m *Module) attachStats(prefix string, v reflect.Value) error {
	for i := range v.NumField() {
		c, ok := v.Field(i).Interface().(*tcpip.StatCounter)
		if !ok || c == nil {
			continue
		}
		name := prefix + "." + snake(v.Type().Field(i).Name)
		err := m.k.Sysctl(modapi.SysctlNode{
			Name: name,
			Desc: v.Type().Field(i).Name + " of the network stack",
			Get:  func() string { return strconv.FormatUint(c.Value(), 10) },
		})
		if err != nil {
			return fmt.Errorf("sysctl %s: %w", name, err)
		}
	}
	return nil
}

// snake writes a Go name in lower case with underscores: "SegmentsSent" is
// "segments_sent", "SYNReceived" "syn_received".
func snake(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		upper := c >= 'A' && c <= 'Z'
		if upper && i > 0 {
			prev := s[i-1]
			lowNext := i+1 < len(s) && s[i+1] >= 'a' && s[i+1] <= 'z'
			if prev >= 'a' && prev <= 'z' || lowNext {
				b.WriteByte('_')
			}
		}
		if upper {
			c += 'a' - 'A'
		}
		b.WriteByte(c)
	}
	return b.String()
}
