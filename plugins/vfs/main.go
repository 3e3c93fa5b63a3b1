// Command vfs is the plugin of the file systems: the modules tmpfs,
// hostfs, msdos and ext4. See the packages below it.
package main

import (
	"github.com/rumpus-kernel/rumpus/modapi/serve"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/ext4"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/fat"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/hostfs"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

func main() { serve.Main(tmpfs.New(), hostfs.New(), fat.New(), ext4.New()) }
