// Rumpus runs a rump kernel in user space and talks to one that runs: see
// `rumpus help`, which is host/cli.
package main

import (
	"os"

	"github.com/rumpus-kernel/rumpus/host/cli"
	"github.com/rumpus-kernel/rumpus/modapi/serve"
)

func main() {
	serve.BoundMemory() // a kernel with a million files is as large as they are
	os.Exit(cli.Main())
}
