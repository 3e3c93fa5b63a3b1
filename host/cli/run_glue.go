package cli

import (
	"context"
	"io"

	"github.com/rumpus-kernel/rumpus/host/config"
	runner "github.com/rumpus-kernel/rumpus/host/run"
)

// serveKernel boots and serves a kernel until it ends, and gives the exit code.
func serveKernel(ctx context.Context, cfg *config.Config, stdout, stderr io.Writer, verbose bool) int {
	return runner.Run(ctx, runner.Options{Config: cfg, Stdout: stdout, Stderr: stderr, Verbose: verbose})
}
