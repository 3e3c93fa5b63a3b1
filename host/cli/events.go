package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
)

var eventsVerb = &verb{
	name: "events", group: groupKernel, synopsis: []string{"[-f] [-n NUMBER]"}, max: 0,
	short: "show what happened to components",
	long: []string{
		"Writes a line for each event that the kernel remembers, some 4000: components that are started, die, recover, are degraded or given up, and what becomes of their journals. The line has the time of day, the component, what happened, and more about it. With -f, events then goes on with what happens until it is interrupted; if it cannot keep up, it says how many events are lost.",
		"What happens: started, died (with the cause: exit, panic, signal, killed, oom, hang, lie, closed), recovered, retry (a new process that did not come up), degraded (no changes are taken), restored, failed, ended (unloaded), spare and spare_died (a process that stands by), replayed, poison, divergence, mount, unmount.",
		"--json writes one object a line: seq (one more than the last one's), time (ns since 1970), kind, and where they apply instance, pid, epoch, cause, signal, status, calls (in flight), op (the oldest of them), ns (how long it took), replayed (operations), mount and text. Lost events are an object with kind lost and their number as lost.",
	},
	examples: []example{
		{"rumpus events -f", "Watch the components."},
		{"rumpus events --json -n 1 -f", "The last event and all that follow, for a program."},
	},
	setup: func(fs *pflag.FlagSet) runFunc {
		follow := fs.BoolP("follow", "f", false, "wait for more")
		last := fs.IntP("number", "n", -1, "only the last `NUMBER` of those that there are")
		return func(ctx context.Context, c *call, _ []string) error {
			if *last < -1 {
				return usagef("-n takes 0 or more")
			}
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			return c.events(ctx, k, *last, *follow)
		}
	},
}

// events writes the last n events, all for n < 0, and what follows.
func (c *call) events(ctx context.Context, k *rumpclient.Client, n int, follow bool) error {
	_, newest, err := k.Events(ctx, 1<<63, false)
	if err != nil {
		return err
	}
	var seq uint64
	if n >= 0 {
		seq = newest - min(newest, uint64(n))
	}
	first := true // what the kernel has forgotten already is not lost
	for follow || seq < newest {
		evs, _, err := k.Events(ctx, seq, seq >= newest)
		if err != nil {
			return err
		}
		if len(evs) == 0 && seq < newest { // all of it is forgotten
			return nil
		}
		for _, e := range evs {
			if lost := e.Seq - seq - 1; e.Seq > seq && lost > 0 && !first {
				c.lost(lost)
			}
			first = false
			if seq = e.Seq; !follow && seq > newest {
				return nil
			}
			if c.json {
				b, err := json.Marshal(e)
				if err != nil {
					return err
				}
				c.printf("%s\n", b)
				continue
			}
			c.printf("%s\n", c.show(eventLine(e)))
		}
		if err := c.out.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// lost says that events were forgotten before they could be read.
func (c *call) lost(n uint64) {
	if c.json {
		c.printf("{\"kind\":\"lost\",\"lost\":%d}\n", n)
		return
	}
	c.printf("%s lost\n", plural(int(n), "event"))
}

// eventLine is an event for people.
func eventLine(e rumpclient.Event) string {
	var more []string
	add := func(ok bool, format string, a ...any) {
		if ok {
			more = append(more, fmt.Sprintf(format, a...))
		}
	}
	add(e.Mount != "", "%s", e.Mount)
	add(e.Cause != "", "%s", e.Cause)
	add(e.Pid != 0, "process %d", e.Pid)
	add(e.Epoch != 0, "epoch %d", e.Epoch)
	add(e.Ns != 0, "after %v", time.Duration(e.Ns).Round(10*time.Microsecond))
	add(e.Replayed != 0, "%s replayed", plural(e.Replayed, "operation"))
	switch {
	case e.Kind == evlog.Died && e.Calls > 0:
		add(true, "%s in flight, the oldest %s", plural(e.Calls, "call"), e.Op)
	default:
		add(e.Op != "", "%s", e.Op)
	}
	add(e.Text != "", "%s", e.Text)
	who := e.Instance
	if who == "" {
		who = "-"
	}
	line := fmt.Sprintf("%s %s %s", time.Unix(0, e.Time).Format("15:04:05.000"), who, e.Kind)
	if len(more) > 0 {
		line += ": " + strings.Join(more, ", ")
	}
	return line
}
