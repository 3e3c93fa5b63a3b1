// Command vfs is the plugin of the file systems: the modules tmpfs and
// hostfs. See the packages below it.
package main

import (
	"github.com/rumpus-kernel/rumpus/modapi/serve"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/hostfs"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

func main() { serve.Main(tmpfs.New(), hostfs.New()) }
