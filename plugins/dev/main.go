// Command dev is the plugin of the devices: the modules mem (null, zero,
// full), rnd (random, urandom), cons (console) and md (memory disks). See the packages below it.
package main

import (
	"github.com/rumpus-kernel/rumpus/modapi/serve"
	"github.com/rumpus-kernel/rumpus/plugins/dev/cons"
	"github.com/rumpus-kernel/rumpus/plugins/dev/md"
	"github.com/rumpus-kernel/rumpus/plugins/dev/mem"
	"github.com/rumpus-kernel/rumpus/plugins/dev/rnd"
)

func main() { serve.Main(mem.New(), rnd.New(), cons.New(), md.New()) }
