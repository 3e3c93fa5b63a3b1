package cli

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"
)

// benchProgram is the program beside rumpus that measures: it imports the
// plugins, which rumpus itself must not.
const benchProgram = "rumpus-bench"

var benchVerb = &verb{
	name: "bench", group: groupOther, synopsis: []string{"[-t TIME] [PATTERN]"}, max: 1, server: true,
	short: "measure operations against Linux, FUSE and go-plugin",
	long: []string{
		"Measures what operations cost in kernels of its own: with everything in one process, with components in other processes, with the program in another process too; and the same on Linux's tmpfs, a FUSE file system and a go-plugin process, all in one run. It writes a line an operation, path and number of callers: median and 99th percentile, operations a second, CPU time of all processes, and the ratio to Linux.",
		"PATTERN is a regular expression that is looked for in operation/path/callers.",
		"--json is an array of objects with operation, path, callers, p50_ns, p99_ns, ops_s, cpu_ns and ratio.",
		"The program rumpus-bench must be beside rumpus: make build-bench puts it there.",
	},
	examples: []example{
		{"rumpus bench", "The whole table, in about two minutes."},
		{"rumpus bench -t 1s 'stat hit/.*/1'", "stat of a cached name by one caller on every path."},
	},
	setup: func(fs *pflag.FlagSet) runFunc {
		t := fs.DurationP("time", "t", 300*time.Millisecond, "how long a row takes: `TIME`")
		return func(ctx context.Context, c *call, args []string) error {
			exe := filepath.Join(exeDir(), benchProgram)
			if _, err := os.Stat(exe); err != nil {
				return errors.New("there is no " + exe + ": make build-bench puts it there")
			}
			argv := []string{"-t", t.String()}
			if c.json {
				argv = append(argv, "--json")
			}
			cmd := exec.CommandContext(ctx, exe, append(append(argv, "--"), args...)...)
			cmd.Stdout, cmd.Stderr, cmd.Env = c.stdout, c.stderr, c.environ
			err := cmd.Run()
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				return exitError(max(exit.ExitCode(), exitRefused))
			}
			return err
		}
	},
}
