package cli

import (
	"context"

	"github.com/rumpus-kernel/rumpus/host/config"
	runner "github.com/rumpus-kernel/rumpus/host/run"
)

// serveKernel boots and serves a kernel until it ends, and gives the exit code.
func serveKernel(ctx context.Context, cfg *config.Config, c *call) int {
	return runner.Run(ctx, runner.Options{Config: cfg, Stdout: c.stdout, Stderr: c.stderr, Verbose: c.verbose, Environ: c.environ})
}
