package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

// Main runs the program with os.Args and gives its exit code.
func Main() int {
	return dispatch(context.Background(), streams{os.Stdin, os.Stdout, os.Stderr, os.Environ()}, os.Args[1:])
}

// patience is how long a client verb may take to end after a signal.
const patience = 500 * time.Millisecond

// errSignal is the cause of a context that a signal ended.
type errSignal struct{ sig syscall.Signal }

func (e errSignal) Error() string { return e.sig.String() }

// withSignals makes a context that ends on SIGINT and SIGTERM. The second
// signal has its usual effect, so that nothing can make a program unkillable.
func withSignals(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case s := <-ch:
			signal.Stop(ch)
			sig, _ := s.(syscall.Signal)
			cancel(errSignal{sig})
		case <-ctx.Done():
			signal.Stop(ch)
		}
	}()
	return ctx, func() { cancel(nil); <-done }
}

// addGlobals declares the global flags. Shorthands are only taken in front of
// the verb, where they cannot collide with the verb's own.
func addGlobals(fs *pflag.FlagSet, g *globals, short bool) {
	v, q := "", ""
	if short {
		v, q = "v", "q"
	}
	add := func(name string, f func()) {
		if fs.Lookup(name) == nil {
			f()
		}
	}
	add("config", func() { fs.StringVar(&g.config, "config", g.config, "read the configuration from `FILE`") })
	add("server", func() {
		fs.StringVar(&g.server, "server", g.server, "the kernel's socket, `URL` is unix:///path or a path")
	})
	add("image", func() {
		fs.StringVar(&g.image, "image", g.image, "look into the disk image `FILE` with a kernel inside this command")
	})
	add("rw", func() { fs.BoolVar(&g.rw, "rw", g.rw, "--image may be written") })
	add("partition", func() {
		fs.IntVar(&g.partition, "partition", g.partition, "partition `N` of --image, counted from 1")
	})
	add("json", func() { fs.BoolVar(&g.json, "json", g.json, "write one JSON document") })
	add("timeout", func() { fs.DurationVar(&g.timeout, "timeout", g.timeout, "give up after `D` (500ms, 10s, 2m)") })
	add("verbose", func() { fs.BoolVarP(&g.verbose, "verbose", v, g.verbose, "say more") })
	add("quiet", func() { fs.BoolVarP(&g.quiet, "quiet", q, g.quiet, "say less: no progress") })
	add("set", func() {
		fs.StringArrayVar(&g.set, "set", g.set, "set `KEY=VALUE` of the configuration, as in log/level=debug")
	})
}

func newFlags(name string) *pflag.FlagSet {
	fs := pflag.NewFlagSet(name, pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.SortFlags = false
	return fs
}

// dispatch finds the verb, parses its flags, runs it and gives the exit code.
func dispatch(ctx context.Context, s streams, args []string) int {
	say := func(code int, format string, a ...any) int {
		fmt.Fprintf(s.stderr, "rumpus: %s\n", printableLines(fmt.Sprintf(format, a...)))
		return code
	}
	var g globals
	top := newFlags("rumpus")
	top.SetInterspersed(false)
	addGlobals(top, &g, true)
	version := top.Bool("version", false, "")
	if err := top.Parse(args); errors.Is(err, pflag.ErrHelp) {
		writeManual(s.stdout)
		return exitOK
	} else if err != nil {
		return say(exitUsage, "%v\nusage: %s\nSee rumpus help.", err, topUsage)
	}
	args = top.Args()
	if *version {
		args = []string{"version"}
	}
	if len(args) == 0 {
		return say(exitUsage, "a verb is needed\nusage: %s\nSee rumpus help.", topUsage)
	}
	return dispatchVerb(ctx, s, g, args, nil)
}

// dispatchVerb does what is left of dispatch behind the global flags. prepare,
// if there is one, is given the call before it is run.
func dispatchVerb(ctx context.Context, s streams, g globals, args []string, prepare func(*call)) int {
	say := func(code int, format string, a ...any) int {
		fmt.Fprintf(s.stderr, "rumpus: %s\n", printableLines(fmt.Sprintf(format, a...)))
		return code
	}
	v := verbNamed(args[0])
	if v == nil {
		if near := suggest(args[0]); near != "" {
			return say(exitUsage, "unknown verb %q: did you mean %s?\nSee rumpus help.", args[0], near)
		}
		return say(exitUsage, "unknown verb %q\nSee rumpus help.", args[0])
	}
	fs := newFlags(v.name)
	run := v.setup(fs)
	own := ownFlags(fs)
	addGlobals(fs, &g, false)
	args = args[1:]
	if v.rewrite != nil {
		args = v.rewrite(args)
	}
	err := fs.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		writePage(s.stdout, v)
		return exitOK
	}
	if own["verbose"] {
		g.verbose, _ = fs.GetBool("verbose")
	}
	if err == nil {
		err = countArgs(v, fs.Args())
	}
	if err == nil && g.timeout < 0 {
		err = usagef("--timeout %v is negative", g.timeout)
	}
	if err == nil {
		err = imageUsage(&g, v)
	}
	c := newCall(s, g, v)
	if prepare != nil {
		prepare(c)
	}
	if err != nil {
		err = &usageError{err.Error()}
	} else {
		err = c.run(ctx, run, fs.Args())
	}
	var usage *usageError
	if errors.As(err, &usage) {
		return say(exitUsage, "%s: %v\n%s", v.name, err, usageLines(v))
	}
	return c.finish(err)
}

// ownFlags are the names of the flags that a verb itself declares.
func ownFlags(fs *pflag.FlagSet) map[string]bool {
	own := make(map[string]bool)
	fs.VisitAll(func(f *pflag.Flag) { own[f.Name] = true })
	return own
}

func countArgs(v *verb, args []string) error {
	switch n := len(args); {
	case n < v.min && v.min == 1:
		return usagef("an operand is missing")
	case n < v.min:
		return usagef("%d operands are needed", v.min)
	case v.max == 0 && n > 0:
		return usagef("operand %q is not expected", args[0])
	case v.max >= 0 && n > v.max:
		return usagef("operand %q is one too many", args[v.max])
	}
	return nil
}

// run does the verb's work; for a client, until a signal or --timeout ends it.
func (c *call) run(ctx context.Context, f runFunc, args []string) error {
	if c.verb.server {
		// run has its own way with signals.
		return f(ctx, c, args)
	}
	ctx, stop := withSignals(ctx)
	defer stop()
	if c.timeout > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("no end after --timeout %v: %w", c.timeout, context.DeadlineExceeded))
		defer cancel()
	}
	err := c.runClient(ctx, f, args)
	var sig errSignal
	switch {
	case ctx.Err() == nil || err == nil:
		return err
	case errors.As(context.Cause(ctx), &sig) && c.served:
		return err
	case errors.As(context.Cause(ctx), &sig):
		return exitError(128 + int(sig.sig))
	}
	return context.Cause(ctx)
}

// runClient runs f, and leaves it behind if it is blocked in something that no
// context ends, such as reading a terminal.
func (c *call) runClient(ctx context.Context, f runFunc, args []string) error {
	done := make(chan error, 1)
	go func() {
		err := f(ctx, c, args)
		c.close()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if c.image != "" {
		return <-done // what is not written would be lost; a second signal does that
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return ctx.Err()
	}
}

// finish reports how the verb ended and gives the exit code.
func (c *call) finish(err error) int {
	if c.verb.server {
		c.close()
	}
	c.fail(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.code
}

// usageLines are the forms of a verb's command line for an error message.
func usageLines(v *verb) string {
	var b strings.Builder
	for i, s := range v.synopsis {
		head := "usage: "
		if i > 0 {
			head = "\n       "
		}
		b.WriteString(head + strings.TrimSpace("rumpus "+v.name+" "+s))
	}
	return b.String()
}
