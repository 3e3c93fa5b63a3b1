package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if isComponent() {
		component()
	}
	if path := os.Getenv(hostEnv); path != "" {
		os.Exit(hostRole(path))
	}
	os.Exit(chaos(os.Args[1:], os.Stdout, os.Stderr))
}

// settings are what the command line says.
type settings struct {
	minutes float64
	seed    uint64
	tier    string
	rounds  int
	faults  int
	slow    int
	trees   int
	cuts    int
	hosts   int
	csv     string
	figures bool
	results string
}

const usage = `usage: rumpus-chaos [-minutes N] [-seed N] [-tier sim|kill|power] [-rounds N]

Breaks components, hosts and disks while programs use a kernel, and checks every
answer. The package comment of host/chaos says what is done and how it is judged.

`

func parse(args []string, stderr io.Writer) (*settings, error) {
	s := &settings{}
	fs := flag.NewFlagSet("rumpus-chaos", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Float64Var(&s.minutes, "minutes", 1, "how long; a round that has begun is ended")
	fs.Uint64Var(&s.seed, "seed", 0, "the seed of the first round, the others have those that follow; 0: another one each time")
	fs.StringVar(&s.tier, "tier", "", "only this tier: sim, kill, power")
	fs.IntVar(&s.rounds, "rounds", 0, "so many rounds, however long they take")
	fs.IntVar(&s.faults, "faults", 40, "faults in a round of the tier kill")
	fs.IntVar(&s.slow, "slow", 2, "of these, how many may take seconds to be found out")
	fs.IntVar(&s.trees, "trees", 2, "clients with a subtree of their own, of each file system")
	fs.IntVar(&s.cuts, "cuts", 200, "power cuts in a round of the tier power")
	fs.IntVar(&s.hosts, "hosts", 5, "how often a host is killed in a round of the tier power")
	fs.StringVar(&s.csv, "csv", "", "write a row a fault to this `file`")
	fs.BoolVar(&s.figures, "figures", false, "measure what faults cost instead")
	fs.StringVar(&s.results, "results", "", "append the table of -figures to this `file`")
	fs.Usage = func() { fmt.Fprint(stderr, usage); fs.PrintDefaults() }
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	var err error
	switch {
	case fs.NArg() > 0:
		err = fmt.Errorf("operand %q is one too many", fs.Arg(0))
	case s.minutes <= 0 || s.rounds < 0 || s.faults < 4 || s.slow < 0 || s.trees < 1 || s.cuts < 1 || s.hosts < 0:
		err = errors.New("-minutes is above 0, -faults at least 4, -trees at least 1, -cuts at least 1, -rounds, -slow and -hosts are not below 0")
	case s.tier != "" && tiers[s.tier] == nil:
		err = fmt.Errorf("-tier %s: there are sim, kill and power", s.tier)
	}
	if err != nil {
		fmt.Fprintf(stderr, "rumpus-chaos: %v\n", err)
	}
	if s.seed == 0 {
		s.seed = uint64(time.Now().UnixNano()) % 1e9
	}
	return s, err
}

// tiers make a round with a seed.
var tiers = map[string]func(ctx context.Context, s *settings, seed uint64, rep *report) error{
	"sim":   simRound,
	"kill":  killRound,
	"power": powerRound,
}

// turns is the order of the tiers; kill has most of the time.
var turns = []string{"kill", "sim", "kill", "power"}

// killRound is a round of the tier kill.
func killRound(ctx context.Context, s *settings, seed uint64, rep *report) error {
	r, err := newRound(ctx, seed, rigKind(seed%uint64(rigs)), rep, nil)
	if err != nil {
		return err
	}
	defer r.rig.close()
	return r.run(ctx, load{faults: s.faults, slow: s.slow, trees: s.trees})
}

// chaos is main after the roles: 0, 1 when something failed, 2 for a wrong
// command line.
func chaos(args []string, stdout, stderr io.Writer) int {
	s, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	// The first signal ends it after the round, a second one at once.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	if s.figures {
		if err := figures(ctx, time.Duration(s.minutes*float64(time.Minute)), stdout, s.results); err != nil {
			fmt.Fprintf(stderr, "rumpus-chaos: %v\n", err)
			return 1
		}
		return 0
	}
	rep, err := newReport(stdout, s.csv)
	if err != nil {
		fmt.Fprintf(stderr, "rumpus-chaos: %v\n", err)
		return 1
	}
	fmt.Fprintf(stdout, "seed %d\n", s.seed)
	end := time.Now().Add(time.Duration(s.minutes * float64(time.Minute)))
	for n := 0; ctx.Err() == nil; n++ {
		if s.rounds > 0 && n >= s.rounds || s.rounds == 0 && time.Now().After(end) {
			break
		}
		tier, seed := s.tier, s.seed+uint64(n)
		if tier == "" {
			tier = turns[n%len(turns)]
		}
		err := tiers[tier](context.WithoutCancel(ctx), s, seed, rep)
		rep.round(fmt.Sprintf("-tier %s -seed %d -rounds 1 -faults %d -slow %d -trees %d -cuts %d -hosts %d", tier, seed, s.faults, s.slow, s.trees, s.cuts, s.hosts), err)
	}
	return rep.close()
}
