package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/host/config"
)

const topUsage = "rumpus [--config FILE] [--server URL | --image FILE [--rw]] [--json] [--timeout D] [-v | -q] [--set KEY=VALUE] VERB [ARGUMENT ...]"

var helpVerb = &verb{
	name: "help", group: groupOther, synopsis: []string{"[VERB]"}, max: 1, server: true,
	short: "show this manual, or that of a verb",
	long: []string{
		"Without an operand, help shows the manual of rumpus: the verbs by what they are about, the environment, the files and the exit status. With a verb, it shows the verb's own page, as rumpus VERB --help does.",
	},
	examples: []example{{"rumpus help cp", "The manual page of cp."}},
	setup: func(fs *pflag.FlagSet) runFunc {
		return func(_ context.Context, c *call, args []string) error {
			if len(args) == 0 {
				writeManual(c.out)
				return nil
			}
			v := verbNamed(args[0])
			if v == nil {
				if near := suggest(args[0]); near != "" {
					return usagef("there is no verb %q: did you mean %s?", args[0], near)
				}
				return usagef("there is no verb %q", args[0])
			}
			writePage(c.out, v)
			return nil
		}
	},
}

const (
	manIndent = "     "
	manWidth  = 78
)

// fill breaks text into lines below an indentation.
func fill(w io.Writer, indent, text string) {
	if strings.HasPrefix(text, " ") {
		for line := range strings.Lines(text) {
			fmt.Fprintf(w, "%s%s\n", indent, strings.TrimRight(line, "\n"))
		}
		return
	}
	line := indent
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > manWidth && line != indent {
			fmt.Fprintln(w, line)
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	fmt.Fprintln(w, line)
}

func heading(w io.Writer, s string) { fmt.Fprintf(w, "\n%s\n", s) }

// item writes a term and its description, hanging.
func item(w io.Writer, term, text string, hang int) {
	indent := strings.Repeat(" ", hang)
	if len(manIndent)+len(term)+1 >= hang {
		fmt.Fprintln(w, manIndent+term)
		fill(w, indent, text)
		return
	}
	var b strings.Builder
	fill(&b, indent, text)
	head := manIndent + term
	io.WriteString(w, head+b.String()[len(head):])
}

// writeManual writes `rumpus help`.
func writeManual(w io.Writer) {
	fmt.Fprintln(w, "NAME")
	fill(w, manIndent, "rumpus - a rump kernel in user space, and the programs to use it")
	heading(w, "SYNOPSIS")
	fill(w, manIndent, topUsage)
	heading(w, "DESCRIPTION")
	for i, p := range []string{
		"rumpus run boots a kernel in the foreground: the file systems, the network stack and the devices that its configuration chooses, each in a process of its own. All other verbs are clients: they do something in a kernel that runs, over its socket.",
		"Paths are the kernel's. In cp, which knows both sides, paths of the host are written as they are and the kernel's with kernel: in front. File names and other text from the kernel are written as they are into files and pipes; on a terminal their control characters become \"?\".",
		"With --image FILE a verb about files works on a disk image: the kernel is inside of the command, which needs no privileges; processes of their own find out what FILE holds and read it, so that a hostile image ends no more than one of these. FILE is a file system or a disk with partitions, what was found is said on standard error, and nothing in it changes unless --rw stands there. sh is for looking around, and fuse mounts the image on a directory of the host for as long as it runs.",
		"Flags may stand before, between and behind operands; -- ends them.",
	} {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fill(w, manIndent, p)
	}
	heading(w, "VERBS")
	for i, g := range groups {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "   %s\n", g)
		for _, v := range verbs {
			if v.group == g {
				item(w, v.name, v.short, 17)
			}
		}
	}
	heading(w, "OPTIONS")
	fill(w, manIndent, "These are for every verb, in front of it or (the long ones) behind it.")
	fmt.Fprintln(w)
	for _, o := range [...]struct{ term, text string }{
		{"--config FILE", "Read the configuration from FILE: for run and config check."},
		{"--server URL", "The socket of the kernel: unix:///path, or a path."},
		{"--image FILE", "Work on the disk image or disk FILE of the host instead of a running kernel's files: for " + strings.Join(imageVerbs, ", ") + "."},
		{"--rw", "The image may be written; without it not a byte of it changes."},
		{"--partition N", "The partition of the image, counted from 1, where several hold a file system."},
		{"--json", "Write one JSON document instead of text, where there is something to write. Sizes are bytes, times nanoseconds since 1970."},
		{"--timeout D", "Give up after D, which is written 500ms, 10s, 2m."},
		{"-v, --verbose", "Say more."},
		{"-q, --quiet", "Say less: no progress."},
		{"--set KEY=VALUE", "Set a key of the configuration, its names joined by /: --set log/level=debug."},
		{"--version", "The same as rumpus version."},
		{"-h, --help", "Behind a verb: its manual page."},
	} {
		item(w, o.term, o.text, 22)
	}
	heading(w, "ENVIRONMENT")
	for _, e := range [...]struct{ term, text string }{
		{"RUMP_SERVER", "Where the kernel is, if --server does not say; for run, where its socket is made."},
		{"RUMPUS_CONFIG", "The configuration file, if --config does not say."},
		{"RUMPUS_KEY", "A key of the configuration, in capitals, / written as __ and - as _: RUMPUS_LOG__LEVEL=debug, RUMPUS_COMPONENTS__NET__ENABLED=false."},
		{"RUMP_THREADS, RUMP_NCPU, RUMP_VERBOSE, RUMP_MEMLIMIT, RUMP_BLKFAIL", "NetBSD's names for some of the keys below kernel."},
		{"XDG_RUNTIME_DIR", "The directory in which the default socket is."},
	} {
		item(w, e.term, e.text, 22)
	}
	heading(w, "FILES")
	item(w, config.DefaultFile, "The configuration, if it is in the working directory. The one in the source tree names every key with its default.", 22)
	item(w, "$XDG_RUNTIME_DIR/rumpus/default.sock", "The default socket; /run/user/UID stands in for XDG_RUNTIME_DIR, or else it is /tmp/rumpus-UID/default.sock.", 22)
	item(w, "plugins/", "Beside the program: the plugins vfs, net and dev.", 22)
	heading(w, "EXIT STATUS")
	for _, e := range exitTable {
		item(w, e.code, e.text, 11)
	}
	heading(w, "EXAMPLES")
	for i, e := range []example{
		{"rumpus run &", "Boot a kernel with the default configuration."},
		{"rumpus cp -r . kernel:/src && rumpus ls -l /src", "Take a tree into the kernel and look at it."},
		{"rumpus mount -t hostfs -o ro /usr/share /mnt", "Show the kernel a directory of the host."},
		{"rumpus nc -l 8080 > out & rumpus nc 127.0.0.1 8080 < in", "Carry bytes through the kernel's own network."},
		{"rumpus cat -n 16 /dev/urandom | od -t x1", "Sixteen random bytes."},
		{"rumpus --image disk.img cp -a kernel:/etc .", "Take a directory out of a disk image."},
		{"rumpus modstat && rumpus halt", "See what is loaded, and stop."},
	} {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fill(w, manIndent, e.text)
		fmt.Fprintf(w, "%s    $ %s\n", manIndent, e.cmd)
	}
	heading(w, "SEE ALSO")
	fill(w, manIndent, "rumpus help VERB, for the manual page of each verb.")
}

var exitTable = [...]struct{ code, text string }{
	{"0", "Done."},
	{"1", "Refused, by the kernel or by the host; the message ends with the name of the error, as in \"no such file or directory (ENOENT)\"."},
	{"2", "Wrong command line or configuration."},
	{"3", "No kernel reached, or it has gone away."},
	{"4", "The component that would be needed is not available."},
	{"70", "run: the kernel panicked."},
	{"130, 143", "Ended by SIGINT or SIGTERM. (run ends with 0 then.)"},
}

// writePage writes the manual page of a verb.
func writePage(w io.Writer, v *verb) {
	fmt.Fprintln(w, "NAME")
	fill(w, manIndent, v.name+" - "+v.short)
	heading(w, "SYNOPSIS")
	for _, s := range v.synopsis {
		fmt.Fprintln(w, manIndent+strings.TrimSpace("rumpus "+v.name+" "+s))
	}
	heading(w, "DESCRIPTION")
	for i, p := range v.long {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fill(w, manIndent, p)
	}
	fs := newFlags(v.name)
	v.setup(fs)
	if fs.HasFlags() {
		heading(w, "OPTIONS")
		fs.VisitAll(func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			name, text := pflag.UnquoteUsage(f)
			term := "--" + f.Name
			if f.Shorthand != "" {
				term = "-" + f.Shorthand + ", " + term
			}
			if f.Value.Type() != "bool" {
				term += " " + name
			}
			item(w, term, strings.ToUpper(text[:1])+text[1:]+".", 22)
		})
	}
	if len(v.examples) > 0 {
		heading(w, "EXAMPLES")
		for i, e := range v.examples {
			if i > 0 {
				fmt.Fprintln(w)
			}
			fill(w, manIndent, e.text)
			fmt.Fprintf(w, "%s    $ %s\n", manIndent, e.cmd)
		}
	}
	heading(w, "EXIT STATUS")
	for _, e := range v.exit {
		fill(w, manIndent, e)
	}
	if v.server {
		if len(v.exit) == 0 {
			fill(w, manIndent, "0 if it could be done, 2 for a wrong command line or configuration.")
		}
		return
	}
	fill(w, manIndent, "0 if everything was done, 1 if something was refused, 2 for a wrong command line, 3 if no kernel was reached, 4 if the component for it is not available.")
}
