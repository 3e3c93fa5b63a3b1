package cli

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var killVerb = &verb{
	name: "kill", group: groupKernel, synopsis: []string{"[-SIGNAL | -s SIGNAL] PID ...", "-l"}, max: -1,
	short: "send a signal to processes of the kernel",
	long: []string{
		"Sends SIGTERM, or the signal with that name (TERM, SIGTERM) or number, to each process of the kernel. The numbers are NetBSD's, not the host's. A PID that is negative is a process group, and -1 all processes but the kernel and kill; -- goes before it. Signal 0 asks whether the process is there.",
		"A process is a client of the kernel. A signal that ends it closes its files and its connection, and ends its waiting calls; the program on the host goes on, and is told. A signal that the program handles is passed to it, SIGSTOP keeps it from making system calls until SIGCONT.",
		"With -l the names of the signals, and nothing else.",
	},
	examples: []example{
		{"rumpus kill 7", "End process 7, as ps shows it."},
		{"rumpus kill -HUP 7", "Send it SIGHUP."},
	},
	rewrite: killArgs,
	setup: func(fs *pflag.FlagSet) runFunc {
		name := fs.StringP("signal", "s", "TERM", "send `SIGNAL`")
		list := fs.BoolP("list", "l", false, "list the signals")
		return func(ctx context.Context, c *call, args []string) error {
			if *list {
				if len(args) > 0 {
					return usagef("operand %q is not expected", args[0])
				}
				for sig := 1; sig < abi.SIGRTMIN; sig++ {
					c.printf("%2d %s\n", sig, strings.TrimPrefix(abi.SignalName(sig), "SIG"))
				}
				return nil
			}
			sig, ok := abi.SignalByName(*name)
			if !ok {
				return usagef("%q is no signal", *name)
			}
			if len(args) == 0 {
				return usagef("an operand is missing")
			}
			pids := make(map[string]int)
			for _, a := range args {
				pid, err := strconv.ParseInt(a, 10, 32)
				if err != nil {
					return usagef("%q is no process number", a)
				}
				pids[a] = int(pid)
			}
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			return c.each(ctx, args, func(a string) error { return k.Kill(ctx, pids[a], sig) })
		}
	},
}

// killArgs makes -s SIGNAL of the -SIGNAL that may come first.
func killArgs(args []string) []string {
	if len(args) == 0 || len(args[0]) < 2 || args[0][0] != '-' {
		return args
	}
	if _, ok := abi.SignalByName(args[0][1:]); !ok {
		return args
	}
	return append([]string{"-s", args[0][1:]}, args[1:]...)
}
