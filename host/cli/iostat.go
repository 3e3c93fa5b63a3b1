package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// iostatRow is a device in hw.iostats.
type iostatRow struct {
	Name     string `json:"name"`
	Type     int    `json:"type"`
	Reads    uint64 `json:"reads"`
	RBytes   uint64 `json:"read_bytes"`
	Writes   uint64 `json:"writes"`
	WBytes   uint64 `json:"write_bytes"`
	Seeks    uint64 `json:"seeks"`
	Busy     int    `json:"busy"`
	BusyNs   int64  `json:"busy_ns"`
	UptimeNs int64  `json:"uptime_ns"`
}

var iostatVerb = &verb{
	name: "iostat", group: groupKernel, synopsis: []string{"[-w SECONDS [-c COUNT]] [DEVICE ...]"}, max: -1,
	short: "show the transfers of devices",
	long: []string{
		"Shows one line a device, or each DEVICE: reads and writes with their bytes, seeks, and the part of the time in which a transfer was under way, since the device was attached. With -w it goes on, every SECONDS, with what was done since the time before, COUNT times in all if there is a COUNT.",
		"--json is an array of objects with name, type (a number of iostat(9)), reads, read_bytes, writes, write_bytes, seeks, busy (transfers under way), busy_ns and uptime_ns.",
	},
	examples: []example{{"rumpus iostat -w 1", "What the devices do, each second."}},
	exit:     []string{"1 also if there is no DEVICE."},
	setup: func(fs *pflag.FlagSet) runFunc {
		wait := fs.IntP("wait", "w", 0, "every `SECONDS`")
		count := fs.IntP("count", "c", 0, "`COUNT` times")
		return func(ctx context.Context, c *call, args []string) error {
			switch {
			case *wait < 0 || *count < 0:
				return usagef("-w and -c want numbers above 0")
			case *count > 0 && *wait == 0:
				return usagef("-c goes with -w")
			case c.json && *wait > 0:
				return usagef("--json and -w do not go together")
			}
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			old := map[string]iostatRow{}
			for i := 0; ; i++ {
				rows, err := iostats(ctx, k, args)
				if err != nil {
					return err
				}
				if c.json {
					return writeJSON(c.out, rows)
				}
				lines := [][]string{{"DEVICE", "READS", "BYTES", "WRITES", "BYTES", "SEEKS", "BUSY"}}
				for _, r := range rows {
					lines = append(lines, append([]string{c.show(r.Name)}, r.since(old[r.Name])...))
					old[r.Name] = r
				}
				table(c.out, "lrrrrrr", lines)
				if err := c.out.Flush(); err != nil {
					return fmt.Errorf("standard output: %w", err)
				}
				if *wait == 0 || *count > 0 && i+1 >= *count {
					return nil
				}
				t := time.NewTimer(time.Duration(*wait) * time.Second)
				select {
				case <-t.C:
				case <-ctx.Done():
					t.Stop()
					return ctx.Err()
				}
			}
		}
	},
}

// since are the columns of what was done after old.
func (r iostatRow) since(old iostatRow) []string {
	n := func(v, was uint64) string { return strconv.FormatUint(v-min(v, was), 10) }
	busy := "-"
	if d := r.UptimeNs - old.UptimeNs; d > 0 {
		busy = fmt.Sprintf("%d%%", min(100, max(0, (r.BusyNs-old.BusyNs)*100/d)))
	}
	return []string{n(r.Reads, old.Reads), n(r.RBytes, old.RBytes), n(r.Writes, old.Writes), n(r.WBytes, old.WBytes), n(r.Seeks, old.Seeks), busy}
}

// iostats reads hw.iostats, of the named devices or all.
func iostats(ctx context.Context, k *rumpclient.Client, names []string) ([]iostatRow, error) {
	text, err := k.Sysctl(ctx, "hw.iostats")
	if err != nil {
		return nil, err
	}
	all := []iostatRow{}
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, fmt.Errorf("hw.iostats: the kernel's answer makes no sense: %w (%v)", abi.EIO, err)
	}
	if len(names) == 0 {
		return all, nil
	}
	rows := []iostatRow{}
	for _, n := range names {
		i := slices.IndexFunc(all, func(r iostatRow) bool { return r.Name == n })
		if i < 0 {
			return nil, &rumpclient.Error{Op: "iostat", Path: n, Errno: abi.ENXIO}
		}
		rows = append(rows, all[i])
	}
	return rows, nil
}
