package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/host/config"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var runVerb = &verb{
	name: "run", group: groupKernel, synopsis: []string{"[--config FILE] [--set KEY=VALUE]"}, server: true,
	short: "boot a kernel and serve it in the foreground",
	long: []string{
		"Reads the configuration, starts the components that it names, mounts its file systems and serves clients on its socket. When this is done, one line on standard output says so and how to reach the kernel:",
		"    ready: unix:///run/user/1000/rumpus/default.sock pid=1234 (try: rumpus --server ... ls /)",
		"The kernel ends on rumpus halt, SIGINT or SIGTERM: file systems are unmounted, modules finished, components ended. A second signal ends it at once.",
		"Without --config and $RUMPUS_CONFIG, the file is config.yaml in the working directory; without this, the defaults hold.",
	},
	examples: []example{
		{"rumpus run", "Boot with the defaults: tmpfs on /, the loopback interface, /dev."},
		{"rumpus --server /tmp/k.sock run --set components/net/enabled=false", "Boot without the net component, on a socket of one's choice."},
	},
	exit: []string{"0 after an orderly end, 1 if the kernel could not boot, 2 for a wrong command line or configuration, 70 if the kernel panicked."},
	setup: func(*pflag.FlagSet) runFunc {
		return func(ctx context.Context, c *call, _ []string) error {
			cfg, err := c.loadConfig("")
			wrong := each(err)
			if err == nil {
				wrong = mistakes(cfg)
			}
			if len(wrong) > 0 {
				for _, err := range wrong {
					c.fail(err)
				}
				return exitError(exitUsage)
			}
			if c.server != "" {
				cfg.Server.Socket = strings.TrimPrefix(c.server, "unix://")
			}
			if code := serveKernel(ctx, cfg, c); code != 0 {
				return exitError(code)
			}
			return nil
		}
	},
}

// loadConfig reads the configuration that the global flags describe; file, if
// not empty, is the file to read.
func (c *call) loadConfig(file string) (*config.Config, error) {
	o := config.Options{Path: c.config, Environ: c.environ, Overrides: make(map[string]any)}
	if file != "" {
		o.Path = file
	}
	for _, s := range c.set {
		key, val, err := config.ParseSet(s)
		if err != nil {
			return nil, err
		}
		o.Overrides[key] = val
	}
	return config.Load(o)
}

// each are the mistakes in an error of loadConfig.
func each(err error) []error {
	var all config.Errors
	switch {
	case err == nil:
		return nil
	case errors.As(err, &all):
		return all.Unwrap()
	}
	return []error{err}
}

// mistakes are what is wrong with a configuration beyond its form: a plugin that
// is not there.
func mistakes(cfg *config.Config) []error {
	dir := exeDir()
	return cfg.Check(func(name string) error {
		_, err := cfg.PluginPath(name, dir)
		return err
	})
}

// exeDir is the directory of the program, which $EXE stands for.
func exeDir() string {
	exe, err := os.Executable()
	if err != nil {
		return "."
	}
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	return filepath.Dir(exe)
}

var configVerb = &verb{
	name: "config", group: groupOther, synopsis: []string{"check [FILE]"}, min: 1, max: 2, server: true,
	short: "check a configuration",
	long: []string{
		"config check reads the configuration as run would, with the environment and --set on top, and looks whether the plugins are there. It writes one line: what would be booted, or for each mistake where it is and what is wrong. No kernel is needed.",
	},
	examples: []example{{"rumpus config check config.yaml", "Is this configuration right?"}},
	exit:     []string{"0 if the configuration is right, 2 if not."},
	setup: func(*pflag.FlagSet) runFunc {
		return func(_ context.Context, c *call, args []string) error {
			if args[0] != "check" {
				return usagef("there is no config %q, only config check", args[0])
			}
			file := ""
			if len(args) > 1 {
				file = args[1]
			}
			return c.configCheck(file)
		}
	},
}

func (c *call) configCheck(file string) error {
	cfg, err := c.loadConfig(file)
	var wrong []error
	if err != nil {
		wrong = each(err)
	} else {
		wrong = mistakes(cfg)
	}
	if c.json {
		type mistake struct {
			File string `json:"file"`
			Line int    `json:"line"` // 0 if it is not known
			Key  string `json:"key"`
			Msg  string `json:"msg"`
		}
		list := []mistake{}
		for _, err := range wrong {
			m := mistake{Msg: err.Error()}
			var ce *config.Error
			if errors.As(err, &ce) {
				m = mistake{ce.File, ce.Line, ce.Key, ce.Msg}
			}
			list = append(list, m)
		}
		if err := writeJSON(c.out, list); err != nil {
			return err
		}
		if len(wrong) > 0 {
			return exitError(exitUsage)
		}
		return nil
	}
	for _, err := range wrong {
		c.fail(err)
	}
	if len(wrong) > 0 {
		return exitError(exitUsage)
	}
	comps := []string{}
	for _, x := range cfg.Enabled() {
		comps = append(comps, x.Name)
	}
	if len(comps) == 0 {
		comps = []string{"none"}
	}
	c.printf("%s: ok: components %s, %s\n", cfg.Source, strings.Join(comps, " "), plural(len(cfg.Mounts), "mount"))
	return nil
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

var haltVerb = &verb{
	name: "halt", group: groupKernel, synopsis: []string{"[--nosync] [--park]"},
	short: "stop the kernel",
	long: []string{
		"Writes back what is not yet on disk, unmounts the file systems, finishes the modules and ends rumpus run, which exits with status 0. halt returns when this has happened.",
	},
	examples: []example{{"rumpus halt", "Stop the kernel."}},
	setup: func(fs *pflag.FlagSet) runFunc {
		nosync := fs.Bool("nosync", false, "do not write back first: changes may be lost")
		park := fs.Bool("park", false, "halt but keep the process, as reboot(2) with RB_HALT does")
		return func(ctx context.Context, c *call, _ []string) error {
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			howto := abi.RB_AUTOBOOT
			if *nosync {
				howto |= abi.RB_NOSYNC
			}
			if *park {
				howto |= abi.RB_HALT
			}
			host := hostProcess(c.serverURL())
			defer host.close()
			if err := k.Reboot(ctx, howto); err != nil {
				return err
			}
			if err := c.awaitGone(ctx); err != nil || *park {
				return err
			}
			return host.await(ctx)
		}
	},
}

var versionVerb = &verb{
	name: "version", group: groupOther, synopsis: []string{""}, server: true,
	short: "show the version of the program",
	long: []string{
		"Shows the version of rumpus, the version of the kernel that its modules are built for, and what it was built with. It does not ask a running kernel: sysctl kern.version does.",
	},
	setup: func(*pflag.FlagSet) runFunc {
		return func(_ context.Context, c *call, _ []string) error {
			rev, ver := "unknown", "(devel)"
			if bi, ok := debug.ReadBuildInfo(); ok {
				if bi.Main.Version != "" {
					ver = bi.Main.Version
				}
				for _, s := range bi.Settings {
					if s.Key == "vcs.revision" {
						rev = s.Value
					}
				}
			}
			if c.json {
				return writeJSON(c.out, map[string]any{"version": ver, "revision": rev,
					"kernel": abi.KernVersionCurrent.String(), "kernel_number": uint32(abi.KernVersionCurrent), "go": runtime.Version()})
			}
			c.printf("rumpus %s, kernel %s, %s %s/%s\n", ver, abi.KernVersionCurrent, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		}
	},
}
