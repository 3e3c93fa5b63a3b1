package run

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/rumpus-kernel/rumpus/host/config"
	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/etfs"
)

// devices are the block devices of a configuration as the kernel attaches them.
func devices(c *config.Config) []kernel.Device {
	var r []kernel.Device
	for _, name := range slices.Sorted(maps.Keys(c.Devices)) {
		d := c.Devices[name]
		if d.Etfs != "" {
			r = append(r, kernel.Device{Driver: "etfs", Arg: argument(etfs.Config{Name: name, Host: d.Etfs,
				Offset: int64(d.Offset.Bytes), Size: int64(d.Size.Bytes), ReadOnly: d.RO, NoLock: d.Nolock})})
		} else {
			unit, _ := strconv.Atoi(strings.TrimPrefix(name, "md")) // the configuration has been checked
			r = append(r, kernel.Device{Driver: "md", Arg: argument(map[string]any{"size": d.Md.Bytes, "unit": unit})})
		}
		if d.Partitions {
			r = append(r, kernel.Device{Driver: "dk", On: name, Arg: argument(map[string]string{"name": name})})
		}
	}
	return r
}

// argument is a driver's argument in JSON.
func argument(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // numbers and strings
	}
	return b
}
