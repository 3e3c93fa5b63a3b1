// Command dev is the plugin of the devices: the modules mem (null, zero,
// full), rnd (random, urandom), cons (console), md (memory disks), part
// (partitions, and what a disk holds), cgd (encrypted disks) and nbd (disks of
// the network). See the packages below it.
package main

import (
	"github.com/rumpus-kernel/rumpus/modapi/serve"
	"github.com/rumpus-kernel/rumpus/plugins/dev/cgd"
	"github.com/rumpus-kernel/rumpus/plugins/dev/cons"
	"github.com/rumpus-kernel/rumpus/plugins/dev/md"
	"github.com/rumpus-kernel/rumpus/plugins/dev/mem"
	"github.com/rumpus-kernel/rumpus/plugins/dev/nbd"
	"github.com/rumpus-kernel/rumpus/plugins/dev/part/dk"
	"github.com/rumpus-kernel/rumpus/plugins/dev/rnd"
)

func main() {
	serve.Main(mem.New(), rnd.New(), cons.New(), md.New(), dk.New(), cgd.New(), nbd.New())
}
