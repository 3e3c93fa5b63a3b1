package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/host/config"
	"github.com/rumpus-kernel/rumpus/host/repro"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

var replayVerb = &verb{
	name: "replay", group: groupModules, synopsis: []string{"[-v] [--plugin PROGRAM] FILE", "--redact OUT [--keep-names] FILE"}, min: 1, max: 1, server: true,
	short: "let a file system die again, from the reproducer of a request that killed it",
	long: []string{
		"A request over which a file system's process died twice is refused with EIO, and how to do it again is kept in FILE: see kernel/repro in config.yaml, and rumpus events, which names the file. replay starts the plugin's program, without a kernel, puts the mount back as it was at its last checkpoint, gives it the changes that were made since, and the request. Each time it is the same, with the times and file numbers of then. Nothing outside of the process is touched.",
		"-v shows every change, what was answered, and what the process wrote before it died.",
		"FILE has in it what clients wrote: names, the contents of files. --redact writes OUT, in which contents are other text of the same length; in a file system without a device names are, too, consistently; data blocks of a device are zero. It says what it has left, and whether OUT still kills; if it is a name that kills, --keep-names has to stand there.",
	},
	examples: []example{
		{"rumpus replay -v ~/.local/state/rumpus/repro/vfs-20261124T030211.113-811-1.repro", "What happened?"},
		{"rumpus replay --plugin ./fixed/vfs crash.repro || echo repaired", "Does it happen with this program, too?"},
		{"rumpus replay --redact mail.repro crash.repro", "A file that one may show to others."},
	},
	exit: []string{"0 if the process died (with --redact: of OUT, too), 1 if it did not or could not be asked, 2 for a wrong command line or a FILE that is none."},
	setup: func(fs *pflag.FlagSet) runFunc {
		plugin := fs.String("plugin", "", "the plugin's `PROGRAM`, if not the one of then")
		redact := fs.String("redact", "", "write `OUT`, without what clients wrote")
		keep := fs.Bool("keep-names", false, "with --redact: names stay as they are")
		fs.BoolP("verbose", "v", false, "show every change")
		return func(ctx context.Context, c *call, args []string) error {
			if *keep && *redact == "" {
				return usagef("--keep-names is for --redact")
			}
			ctx, stop := withSignals(ctx)
			defer stop()
			return c.replay(ctx, args[0], *plugin, *redact, *keep)
		}
	},
}

// replayJSON is a replay as --json shows it.
type replayJSON struct {
	Died    bool     `json:"died"`
	Poison  bool     `json:"poison"` // over the request that killed then
	At      string   `json:"at"`
	Cause   string   `json:"cause,omitempty"` // of the death, as in rumpus events
	Text    string   `json:"text,omitempty"`
	Answer  string   `json:"answer,omitempty"`
	Differs int      `json:"differs"` // changes that were answered differently than then
	Lacked  int      `json:"lacked"`  // sectors that were read and are not in FILE
	Steps   []string `json:"steps"`
}

func (c *call) replay(ctx context.Context, file, plugin, redact string, keepNames bool) error {
	f, err := repro.Read(file)
	if err != nil {
		c.fail(err)
		if errors.Is(err, abi.EINVAL) {
			return exitError(exitUsage)
		}
		return exitError(exitRefused)
	}
	o := repro.Options{Program: plugin}
	if o.Program == "" {
		if o.Program, err = programOf(f); err != nil {
			return err
		}
	}
	if sum, err := repro.Sum(o.Program); err == nil && f.Sum != "" && sum != f.Sum && !c.quiet {
		fmt.Fprintf(c.stderr, "rumpus: %s is not the program of then: its SHA-256 is %.16s, it was %.16s\n", printable(o.Program), sum, f.Sum)
	}
	if redact != "" {
		return c.redact(ctx, f, o, redact, keepNames)
	}
	if !c.json {
		c.printf("%s of %s, %s on %s: checkpoint %d, %s since, and one that killed\n", f.Mount.Type, c.show(f.Instance), c.show(f.Mount.Type), c.show(f.Dir), f.Checkpoint, plural(len(f.Entries), "change"))
		if f.Redacted != "" {
			c.printf("redacted: %s\n", c.show(f.Redacted))
		}
	}
	j := replayJSON{Steps: []string{}}
	if c.verbose {
		o.Log = hclog.New(&hclog.LoggerOptions{Name: "replay", Level: hclog.Info, Output: c.stderr, DisableTime: true})
	}
	o.Each = func(s repro.Step) {
		if c.json {
			j.Steps = append(j.Steps, s.String())
		} else if c.verbose {
			c.printf("%s\n", c.show(s.String()))
		}
	}
	r, err := repro.Run(ctx, f, o)
	if err != nil {
		return err
	}
	if c.json {
		j.Died, j.Poison, j.At, j.Differs, j.Lacked = r.Died, r.Poison, r.At, r.Differs, r.Lacked
		j.Cause, j.Text = r.Death.Cause, r.Death.Text
		if !r.Died {
			j.Answer = "done"
			if r.Answer != nil {
				j.Answer = errorText(r.Answer)
			}
		}
		if err := writeJSON(c.out, j); err != nil {
			return err
		}
	} else {
		c.printf("%s\n", c.show(r.String()))
	}
	if !r.Died {
		return exitError(exitRefused)
	}
	return nil
}

// redact writes a file that may be shown, and tries it.
func (c *call) redact(ctx context.Context, f *repro.File, o repro.Options, out string, keepNames bool) error {
	var names [][]byte
	o.Fs = func(ctx context.Context, fs vfsops.FS) (err error) {
		names, err = repro.Names(ctx, fs)
		return err
	}
	before, err := repro.Run(ctx, f, o)
	if err != nil {
		return err
	}
	f.Redact(names, keepNames)
	if err := repro.Write(out, f); err != nil {
		return err
	}
	c.printf("%s: redacted: %s\n", c.show(out), c.show(f.Redacted))
	o.Fs = nil
	after, err := repro.Run(ctx, f, o)
	if err != nil {
		return err
	}
	c.printf("before: %s\nredacted: %s\n", c.show(before.String()), c.show(after.String()))
	if !after.Died {
		return exitError(exitRefused)
	}
	return nil
}

// programOf finds the plugin's program: where it was, or by its name.
func programOf(f *repro.File) (string, error) {
	if _, err := os.Stat(f.Path); f.Path != "" && err == nil {
		return f.Path, nil
	}
	if f.Plugin == "" || strings.Contains(f.Plugin, "/") {
		return "", fmt.Errorf("%s, the plugin of then, is not there: name one by --plugin: %w", f.Path, abi.ENOENT)
	}
	path, err := config.Default().PluginPath(f.Plugin, exeDir())
	if err != nil {
		return "", fmt.Errorf("%w: name a program by --plugin", err)
	}
	return path, nil
}
