package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var sysctlVerb = &verb{
	name: "sysctl", group: groupKernel, synopsis: []string{"[-d] [-n] NAME ...", "[-d] [-n] -a", "-w NAME=VALUE ..."}, max: -1,
	short: "show or set the kernel's variables",
	long: []string{
		"Shows the variable called NAME, or all below it, as NAME = VALUE. With -a, all of them. NAME=VALUE sets one, with or without -w, and shows the old and the new value.",
	},
	examples: []example{
		{"rumpus sysctl kern", "The variables below kern."},
		{"rumpus sysctl -w kern.hostname=rumpus", "Give the kernel a name."},
	},
	setup: func(fs *pflag.FlagSet) runFunc {
		all := fs.BoolP("all", "a", false, "all variables")
		desc := fs.BoolP("description", "d", false, "what they are for, instead of their values")
		bare := fs.BoolP("no-name", "n", false, "the values without the names")
		write := fs.BoolP("write", "w", false, "operands are NAME=VALUE")
		return func(ctx context.Context, c *call, args []string) error {
			if *all == (len(args) > 0) {
				return usagef("either names or -a")
			}
			if *all {
				args = []string{""}
			}
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			nodes := []rumpclient.SysctlNode{}
			show := func(name, text string) {
				switch {
				case c.json:
				case *bare:
					c.printf("%s\n", c.show(text))
				default:
					c.printf("%s = %s\n", c.show(name), c.show(text))
				}
			}
			err = c.each(ctx, args, func(a string) error {
				if name, val, set := strings.Cut(a, "="); set {
					return sysctlSet(ctx, k, strings.TrimSpace(name), strings.TrimSpace(val), &nodes, show)
				}
				if *write {
					return usagef("%q is not NAME=VALUE", a)
				}
				rows, err := k.SysctlList(ctx, strings.TrimSuffix(a, "."))
				for _, n := range rows {
					nodes = append(nodes, n)
					if *desc {
						if *bare {
							show("", n.Desc)
						} else if !c.json {
							c.printf("%s: %s\n", c.show(n.Name), c.show(n.Desc))
						}
						continue
					}
					show(n.Name, n.Value)
				}
				return err
			})
			if err == nil && c.json {
				err = writeJSON(c.out, nodes)
			}
			return err
		}
	},
}

// sysctlSet sets a variable and shows "name: old -> new".
func sysctlSet(ctx context.Context, k *rumpclient.Client, name, val string, nodes *[]rumpclient.SysctlNode, show func(name, text string)) error {
	old, err := k.Sysctl(ctx, name)
	if err != nil {
		return err
	}
	if err := k.SysctlSet(ctx, name, val); err != nil {
		return err
	}
	rows, err := k.SysctlList(ctx, name)
	if err != nil || len(rows) != 1 {
		return err
	}
	*nodes = append(*nodes, rows[0])
	show(name, old+" -> "+rows[0].Value)
	return nil
}

var dmesgVerb = &verb{
	name: "dmesg", group: groupKernel, synopsis: []string{"[-w]"}, max: 0,
	short:    "show the kernel's messages",
	long:     []string{"Writes the message buffer: each line with the seconds since boot. With -w, dmesg then waits for more until it is interrupted."},
	examples: []example{{"rumpus dmesg -w", "Watch the kernel."}},
	setup: func(fs *pflag.FlagSet) runFunc {
		wait := fs.BoolP("wait", "w", false, "wait for more")
		return func(ctx context.Context, c *call, _ []string) error {
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			return dmesg(ctx, c, k, *wait)
		}
	},
}

func dmesg(ctx context.Context, c *call, k *rumpclient.Client, wait bool) error {
	if c.json && wait {
		return usagef("--json and -w do not go together")
	}
	var (
		buf   = make([]byte, 64<<10)
		pos   uint64
		all   strings.Builder
		first = true
	)
	for {
		n, next, err := k.Msgbuf(ctx, pos, wait && !first, buf)
		if err != nil {
			return err
		}
		if n == 0 || next == pos {
			if !wait {
				break
			}
			if first = false; n == 0 {
				continue
			}
		}
		pos = next
		if c.json {
			all.Write(buf[:n])
			continue
		}
		text := string(buf[:n])
		if c.tty {
			text = printableLines(text)
		}
		c.out.WriteString(text)
		if err := c.out.Flush(); err != nil {
			return fmt.Errorf("standard output: %w", err)
		}
	}
	if c.json {
		return writeJSON(c.out, messages(all.String()))
	}
	return nil
}

// message is a line of dmesg in --json.
type message struct {
	TimeNs int64  `json:"time_ns"` // since boot
	Text   string `json:"text"`
}

// messages splits the message buffer into lines with their times.
func messages(s string) []message {
	list := []message{}
	for line := range strings.Lines(s) {
		line = strings.TrimSuffix(line, "\n")
		m := message{Text: line}
		if head, text, ok := strings.Cut(line, "] "); ok && strings.HasPrefix(head, "[") {
			var sec, usec int64
			if n, err := fmt.Sscanf(strings.TrimSpace(head[1:]), "%d.%d", &sec, &usec); n == 2 && err == nil {
				m = message{sec*1e9 + usec*1e3, text}
			}
		}
		list = append(list, m)
	}
	return list
}

var vmstatVerb = &verb{
	name: "vmstat", group: groupKernel, synopsis: []string{"-e [-v]"}, max: 0,
	short:    "show the kernel's event counters",
	long:     []string{"Shows how often each event that the kernel and its modules count has happened since the kernel was booted, how often a second, and the type of the event (misc, intr, trap); those that never did, only with -v.", "--json is an array of objects with group, name, count and type."},
	examples: []example{{"rumpus vmstat -e --json", "All counters, for a program."}},
	setup: func(fs *pflag.FlagSet) runFunc {
		events := fs.BoolP("events", "e", false, "event counters")
		verbose := fs.BoolP("verbose", "v", false, "those that are 0 as well")
		return func(ctx context.Context, c *call, _ []string) error {
			if !*events {
				return usagef("-e is needed: the kernel has no virtual memory to show")
			}
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			rows, err := counters(ctx, k)
			if err != nil {
				return err
			}
			if c.json {
				return writeJSON(c.out, rows)
			}
			up := uptime(ctx, k)
			lines := [][]string{{"event", "total", "rate", "type"}}
			for _, r := range rows {
				if r.Count > 0 || *verbose {
					lines = append(lines, []string{c.show(r.Group + " " + r.Name), fmt.Sprint(r.Count), fmt.Sprint(r.Count / up), dash(c.show(r.Type))})
				}
			}
			table(c.out, "lrrl", lines)
			return nil
		}
	},
}

// counter is an event counter.
type counter struct {
	Group string `json:"group"`
	Name  string `json:"name"`
	Count uint64 `json:"count"`
	Type  string `json:"type"`
}

// uptime is how long the kernel has run in seconds, at least 1.
func uptime(ctx context.Context, k *rumpclient.Client) uint64 {
	text, err := k.Sysctl(ctx, "kern.boottime")
	if err != nil {
		return 1
	}
	boot, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 1
	}
	return uint64(max(1, time.Now().Unix()-boot))
}

// counters reads kern.evcnt, which is a JSON array.
func counters(ctx context.Context, k *rumpclient.Client) ([]counter, error) {
	text, err := k.Sysctl(ctx, "kern.evcnt")
	if err != nil {
		return nil, err
	}
	rows := []counter{}
	if err := json.Unmarshal([]byte(text), &rows); err != nil {
		return nil, fmt.Errorf("kern.evcnt: the kernel's answer makes no sense: %w (%v)", abi.EIO, err)
	}
	return rows, nil
}
