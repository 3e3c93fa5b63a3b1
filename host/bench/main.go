package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime/pprof"
	"syscall"
	"time"
)

func main() {
	if isComponent() {
		component()
	}
	arg := os.Getenv(argEnv)
	switch role := os.Getenv(roleEnv); role {
	case roleClient:
		os.Exit(clientRole(arg))
	case roleFuse:
		os.Exit(fuseRole(arg))
	case roleMount:
		os.Exit(mountRole(arg))
	case roleGRPCComp, roleGRPCHost:
		os.Exit(grpcRole(role))
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// config is what the command line says.
type config struct {
	t       time.Duration
	json    bool
	gc      bool
	list    bool
	results string
	cpuprof string
	pattern *regexp.Regexp
	rest    time.Duration
	soak    float64
	files   int
}

const usage = `usage: rumpus-bench [--json] [-t TIME] [-gc=false] [--results FILE] [PATTERN]

Measures operations on every path and writes a table. PATTERN is a regular
expression that is looked for in "operation/path/callers", as in
'stat hit/c-.*/1'. The package comment of host/bench says what the words mean.

`

func parse(args []string, stderr io.Writer) (*config, error) {
	c := &config{}
	fs := flag.NewFlagSet("rumpus-bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.DurationVar(&c.t, "t", 300*time.Millisecond, "time of a row")
	fs.BoolVar(&c.json, "json", false, "write an array of rows instead of a table")
	fs.BoolVar(&c.gc, "gc", true, "force the garbage collector every 100 ms meanwhile")
	fs.DurationVar(&c.rest, "idle", 5*time.Second, "how long to watch idle processes")
	fs.Float64Var(&c.soak, "soak", 0, "make this many operations as a remote client instead, and compare the processes before and after")
	fs.IntVar(&c.files, "files", 0, "make this many empty files, list and remove them instead, and look at the memory; 1000000 is the figure")
	fs.BoolVar(&c.list, "list", false, "list operations, measure nothing")
	fs.StringVar(&c.results, "results", "", "append the table to this `file`")
	fs.StringVar(&c.cpuprof, "cpuprofile", "", "write a CPU profile of this process to `file`, and one of the last client process to file.client")
	fs.Usage = func() { fmt.Fprint(stderr, usage); fs.PrintDefaults() }
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	var err error
	switch {
	case fs.NArg() > 1:
		err = fmt.Errorf("operand %q is one too many", fs.Arg(1))
	case c.t <= 0:
		err = fmt.Errorf("-t %v is not positive", c.t)
	case c.soak < 0 || c.files < 0 || c.rest <= 0:
		err = errors.New("-soak, -files and -idle are not below 0")
	default:
		c.pattern, err = regexp.Compile(fs.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(stderr, "rumpus-bench: %v\n", err)
	}
	return c, err
}

// run is main after the roles: 0, 1 when a measurement failed, 2 for a wrong
// command line.
func run(args []string, stdout, stderr io.Writer) int {
	c, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if c.list {
		for _, op := range operations {
			fmt.Fprintln(stdout, op)
		}
		for _, op := range append([]string{stUntar, stBuild}, states...) {
			fmt.Fprintln(stdout, op)
		}
		return 0
	}
	if c.files > 0 {
		rows, err := manyFiles(c.files, stdout)
		if err == nil && c.results != "" {
			err = appendResults(c.results, rows, c.t)
		}
		if err != nil {
			fmt.Fprintf(stderr, "rumpus-bench: %v\n", err)
			return 1
		}
		return 0
	}
	if c.soak > 0 {
		if err := soak(c.soak, stdout); err != nil {
			fmt.Fprintf(stderr, "rumpus-bench: %v\n", err)
			return 1
		}
		return 0
	}
	rows, err := c.measureAll(stderr)
	if err != nil {
		fmt.Fprintf(stderr, "rumpus-bench: %v\n", err)
		return 1
	}
	if c.json {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		err = e.Encode(rows)
	} else {
		fmt.Fprintln(stdout, machine())
		err = writeTable(stdout, rows, false)
	}
	if err == nil && c.results != "" && len(rows) > 0 {
		err = appendResults(c.results, rows, c.t)
	}
	if err != nil {
		fmt.Fprintf(stderr, "rumpus-bench: %v\n", err)
		return 1
	}
	return 0
}

// wants reports whether a row is asked for.
func (c *config) wants(op, path string, callers int) bool {
	return c.pattern.MatchString(fmt.Sprintf("%s/%s/%d", op, path, callers))
}

// wantsPath reports whether any row of a path is asked for.
func (c *config) wantsPath(path string) bool {
	for _, op := range operations {
		for _, n := range callersOf(op) {
			if c.wants(op, path, n) {
				return true
			}
		}
	}
	return path == pathMount && (c.wants(stUntar, path, 1) || c.wants(stBuild, path, 1))
}

// measureAll starts what is needed and makes the rows, operation by operation,
// so that what is compared is measured at about the same time.
func (c *config) measureAll(stderr io.Writer) ([]Row, error) {
	if c.cpuprof != "" {
		os.Setenv(profileEnv, c.cpuprof+".client")
		defer os.Unsetenv(profileEnv)
	}
	r, err := newRig(stderr, c.wantsPath)
	if err != nil {
		return nil, err
	}
	defer endPlugins()
	defer r.close()
	// The first signal ends it after the row, a second one at once.
	ctx, stop := signal.NotifyContext(bg, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	if c.cpuprof != "" {
		stop, err := profile(c.cpuprof)
		if err != nil {
			return nil, err
		}
		defer stop()
	}
	rows := []Row{}
	for _, op := range operations {
		for _, n := range callersOf(op) {
			more, err := c.measureOne(ctx, r, op, n)
			if err != nil {
				return nil, err
			}
			rows = append(rows, more...)
		}
	}
	more, err := c.measureTrees(ctx, r)
	if err != nil {
		return nil, err
	}
	rows = append(rows, more...)
	more, err = c.measureStates(ctx, stderr)
	return append(rows, more...), err
}

// measureOne makes the rows of one operation with n callers.
func (c *config) measureOne(ctx context.Context, r *rig, op string, n int) ([]Row, error) {
	any := false
	for _, p := range r.paths {
		any = any || c.wants(op, p.name, n)
	}
	if !any {
		return nil, nil
	}
	var rows []Row
	linux := 0.0 // what ratios are of
	for _, p := range r.paths {
		if ctx.Err() != nil {
			return nil, errors.New("interrupted")
		}
		wanted := c.wants(op, p.name, n)
		if !wanted && p.name != pathLinux {
			continue
		}
		s, err := p.run(task{Op: op, Callers: n, Budget: c.t, GC: c.gc, Pids: p.pids})
		if errors.Is(err, errAbsent) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("%s, %s, %d callers: %w", op, p.name, n, err)
		}
		if p.name == pathLinux {
			linux = cost(op, s)
		}
		row := Row{Operation: op, Path: p.name, Callers: n, P50: s.P50, P99: s.P99, Ops: s.Ops, CPU: s.CPU}
		if linux > 0 {
			row.Ratio = cost(op, s) / linux
		}
		if wanted {
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// profile writes a CPU profile to file until stop is called.
func profile(file string) (stop func(), err error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		f.Close()
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, nil
}

// cost is the time of an operation that ratios compare: the median, except that
// a sender whose data is buffered is as fast as what arrives.
func cost(op string, s sample) float64 {
	if oneWay[op] && s.Ops > 0 {
		return 1e9 / s.Ops
	}
	return s.P50
}
