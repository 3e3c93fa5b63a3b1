package cli

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var modstatVerb = &verb{
	name: "modstat", group: groupModules, synopsis: []string{"[-r] [-n NAME]", "-a | -e"}, max: 0,
	short: "show the modules that are loaded",
	long: []string{
		"Shows one line a module: name, class, where it came from, flags, references, size of its plugin in bytes, the modules that it requires, the process on the host that it is in, the state of this and how often it was restarted.",
		"FLAG is a for a module that was autoloaded and f for a builtin that was unloaded, which has -1 references and needs modload -f to come back. -e and -a show no modules but say whether there may be more.",
		"With -r it shows one line a component instead: its process, state, how often it was restarted, the causes of all deaths, how long the last recovery took, the process that stands by for the next one, and how much processor time without progress makes it be taken to hang.",
		"--json is an array of objects with name, class, source, flag, refs, size, requires (an array), pid, state, restarts, epoch, instance, causes (an object: how often by cause), cause (of the last death), recovery_ns, spare (a process) and hang_ns.",
	},
	examples: []example{
		{"rumpus modstat -n tmpfs", "Is tmpfs there, and in which process?"},
		{"rumpus modstat -r", "How often did what die, and why?"},
	},
	exit: []string{"1 also if -n names a module that is not loaded."},
	setup: func(fs *pflag.FlagSet) runFunc {
		name := fs.StringP("name", "n", "", "only the module called `NAME`")
		auto := fs.BoolP("autoload", "a", false, "say whether modules can be autoloaded")
		recovery := fs.BoolP("recovery", "r", false, "show deaths and recoveries")
		may := fs.BoolP("may-load", "e", false, "say whether you can load modules")
		return func(ctx context.Context, c *call, _ []string) error {
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			if *auto || *may {
				return c.modmay(ctx, k, *auto)
			}
			mods, err := k.Modstat(ctx)
			if err != nil {
				return err
			}
			list := []rumpclient.Modstat{}
			for _, m := range mods {
				if *name == "" || m.Name == *name {
					if m.Requires == nil {
						m.Requires = []string{}
					}
					list = append(list, m)
				}
			}
			if *name != "" && len(list) == 0 {
				return &notLoaded{*name}
			}
			if c.json {
				return writeJSON(c.out, list)
			}
			if *recovery {
				c.modrecovery(list)
				return nil
			}
			rows := [][]string{{"NAME", "CLASS", "SOURCE", "FLAG", "REFS", "SIZE", "REQUIRES", "PID", "STATE", "RESTARTS"}}
			for _, m := range list {
				rows = append(rows, []string{c.show(m.Name), c.show(m.Class), c.show(m.Source), c.show(m.Flag), strconv.Itoa(m.Refs),
					number(m.Size), dash(c.show(strings.Join(m.Requires, ","))), number(int64(m.Pid)), c.show(m.State), strconv.Itoa(m.Restarts)})
			}
			table(c.out, "llllrrlrlr", rows)
			return nil
		}
	},
}

// modrecovery shows the instances of modules, each once.
func (c *call) modrecovery(list []rumpclient.Modstat) {
	rows := [][]string{{"INSTANCE", "PID", "STATE", "RESTARTS", "CAUSES", "RECOVERY", "SPARE", "HANG"}}
	seen := make(map[string]bool)
	for _, m := range list {
		if seen[m.Instance] {
			continue
		}
		seen[m.Instance] = true
		var causes []string
		for _, k := range slices.Sorted(maps.Keys(m.Causes)) {
			causes = append(causes, fmt.Sprintf("%s:%d", c.show(k), m.Causes[k]))
		}
		rows = append(rows, []string{c.show(m.Instance), number(int64(m.Pid)), c.show(m.State), strconv.Itoa(m.Restarts), dash(strings.Join(causes, ",")),
			span(m.RecoveryNs), number(int64(m.Spare)), span(m.HangNs)})
	}
	table(c.out, "lrlrlrrr", rows)
}

// span is a duration, "-" for none.
func span(ns int64) string {
	if ns == 0 {
		return "-"
	}
	return time.Duration(ns).Round(10 * time.Microsecond).String()
}

// modmay says whether modules can be loaded, or autoloaded, in the words of
// modstat(8).
func (c *call) modmay(ctx context.Context, k *rumpclient.Client, auto bool) error {
	if c.json {
		return usagef("-a and -e do not go with --json")
	}
	ok, err := k.Modmay(ctx, auto)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("you are not allowed to load modules right now: %w", abi.EPERM)
	}
	if !auto {
		c.printf("You can load modules.\n")
		return nil
	}
	on, err := k.Sysctl(ctx, "kern.module.autoload")
	if err != nil {
		return err
	}
	if on == "1" {
		c.printf("Modules can be autoloaded\n")
	} else {
		c.printf("Modules can be autoloaded, but kern.module.autoload = 0\n")
	}
	return nil
}

// notLoaded says that a module is not there.
type notLoaded struct{ name string }

func (e *notLoaded) Error() string { return "module " + e.name + " is not loaded" }
func (e *notLoaded) Unwrap() error { return abi.ENOENT }

func number(n int64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

var modloadVerb = &verb{
	name: "modload", group: groupModules, synopsis: []string{"[-fP] [-b NAME=BOOL] [-i NAME=INT] [-s NAME=STRING] MODULE"}, min: 1, max: 1,
	short: "load a module",
	long: []string{
		"Starts the plugin MODULE and attaches its modules. A name without a / is looked for in the directories of kern.module.path; one with a / is a file of the host, taken from where the command is given. The other options give the module properties; those in the file MODULE.json beside the plugin, if there is one, come first.",
	},
	examples: []example{{"rumpus modload -b debug=true ./myfs", "A module that is being written."}},
	setup: func(fs *pflag.FlagSet) runFunc {
		force := fs.BoolP("force", "f", false, "even if it is of another kernel version, or a builtin that was unloaded")
		noprop := fs.BoolP("no-props", "P", false, "without the file of properties")
		b := fs.StringArrayP("bool", "b", nil, "a boolean property, `NAME=BOOL`")
		i := fs.StringArrayP("int", "i", nil, "an integer property, `NAME=INT`")
		s := fs.StringArrayP("string", "s", nil, "a string property, `NAME=STRING`")
		return func(ctx context.Context, c *call, args []string) error {
			props, err := moduleProps(*b, *i, *s)
			if err != nil {
				return err
			}
			name := args[0]
			if name == "" {
				return usagef("the module's name is empty")
			}
			if strings.Contains(name, "/") {
				if name, err = filepath.Abs(name); err != nil {
					return err
				}
			}
			flags := 0
			if *force {
				flags |= rumpclient.ModctlForce
			}
			if *noprop {
				flags |= rumpclient.ModctlNoProp
			}
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			return k.Modload(ctx, name, flags, props)
		}
	},
}

// moduleProps reads the properties of -b, -i and -s.
func moduleProps(bools, ints, strs []string) (map[string]any, error) {
	props := make(map[string]any)
	add := func(list []string, kind string, parse func(string) (any, error)) error {
		for _, p := range list {
			name, text, ok := strings.Cut(p, "=")
			if !ok || name == "" {
				return usagef("property %q is not NAME=%s", p, strings.ToUpper(kind))
			}
			if _, twice := props[name]; twice {
				return usagef("property %q is given twice", name)
			}
			val, err := parse(text)
			if err != nil {
				return usagef("property %s: %q is no %s", name, text, kind)
			}
			props[name] = val
		}
		return nil
	}
	err := add(bools, "bool", func(s string) (any, error) {
		switch strings.ToLower(s) {
		case "yes", "on":
			return true, nil
		case "no", "off":
			return false, nil
		}
		return strconv.ParseBool(s)
	})
	if err == nil {
		err = add(ints, "int", func(s string) (any, error) { return strconv.ParseInt(s, 0, 64) })
	}
	if err == nil {
		err = add(strs, "string", func(s string) (any, error) { return s, nil })
	}
	return props, err
}

var modunloadVerb = &verb{
	name: "modunload", group: groupModules, synopsis: []string{"NAME ..."}, min: 1, max: -1,
	short:    "unload modules",
	long:     []string{"Detaches each module and, with the last one in it, ends its process. One that is in use is refused (EBUSY)."},
	examples: []example{{"rumpus modunload inet", "Take the network stack out of the kernel."}},
	setup: func(*pflag.FlagSet) runFunc {
		return func(ctx context.Context, c *call, args []string) error {
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			return c.each(ctx, args, func(name string) error { return k.Modunload(ctx, name, 0) })
		}
	},
}
