// Rumpus runs a rump kernel in user space and talks to one that runs: see
// `rumpus help`, which is host/cli.
package main

import (
	"os"

	"github.com/rumpus-kernel/rumpus/host/cli"
)

func main() { os.Exit(cli.Main()) }
