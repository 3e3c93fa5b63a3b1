package journalsim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rumpus-kernel/rumpus/kernel/journal"
)

// Config says what is to be simulated. All but the seed may be zero; what is
// zero is chosen by the seed.
type Config struct {
	Seed    int64
	Workers int            // with a directory each, 1 to 64
	Ops     int            // operations of each worker; 0 = 60
	Kills   float64        // chance of a death at each turn; negative: nobody is killed by chance
	Limits  journal.Limits // of the journal; in entries, small ones have many checkpoints
	Blamed  bool           // deaths are the process's own fault
	Points  []journal.Fault
	Every   int // at each of Points the process dies when somebody comes by for the n-th time; 0 = 3

	// T is the test that Run is called from, nil outside of tests.
	T *testing.T

	// Fault is called at each fault point, by one goroutine at a time, and may
	// change what it gets: a journal that is wrong has to be noticed. nil: nothing.
	Fault func(s *Sim, p journal.Fault, e *journal.Entry)
	// Around is called before and after the process executes a call, and
	// lets it die by answering true. nil: false.
	Around func(op string, after bool, name string) bool
	// Extra is one more worker. nil: there is none.
	Extra func(ctx context.Context, f *journal.FS)
	// Poison is told of mutators that kill. nil: nobody is.
	Poison func(r *journal.Repro)
}

const (
	ringSize   = 40 // events that a report has
	maxBad     = 20 // complaints that it has
	maxAtPoint = 60 // passes of a fault point after which nobody dies there any more
)

// maxSteps is how many turns a run may take: many times what one takes.
func maxSteps(c Config) int { return 300_000 + 2000*c.Workers*c.Ops }

func (c Config) filled() Config {
	pick := func(n int64, of ...float64) float64 {
		return of[uint64(n)%uint64(len(of))]
	}
	if c.Workers <= 0 {
		c.Workers = 1 + int(uint64(c.Seed)%5)
	}
	c.Workers = min(c.Workers, 64)
	if c.Ops <= 0 {
		c.Ops = 60
	}
	switch {
	case c.Kills == 0:
		c.Kills = pick(c.Seed, 0.002, 0.01, 0.03)
	case c.Kills < 0:
		c.Kills = 0
	}
	if c.Limits == (journal.Limits{}) {
		c.Limits.Entries = int(pick(c.Seed/3, 8, 40, 400))
	}
	if c.Every <= 0 {
		c.Every = 3
	}
	return c
}

// Report is what came of a run.
type Report struct {
	Config      Config // with all that was chosen
	Ops         int    // operations whose answers were checked
	Acked       int    // of them mutators that were done
	Deaths      int
	Replayed    int
	Orphans     int
	Checkpoints int
	Poisons     int
	Passed      map[journal.Fault]int // how often somebody came by
	Bad         []string              // what was wrong, the first with what happened last before it
}

// Err is nil if nothing was wrong, else an error that says all of it: the seed,
// each difference, and the operations, deaths and fault points before the first.
func (r *Report) Err() error {
	if len(r.Bad) == 0 {
		return nil
	}
	var b strings.Builder
	c := &r.Config
	fmt.Fprintf(&b, "seed %d (%d workers, %d operations each, kills %g, at most %d entries", c.Seed, c.Workers, c.Ops, c.Kills, c.Limits.Entries)
	if len(c.Points) > 0 {
		fmt.Fprintf(&b, ", dead at each %d. of %v", c.Every, c.Points)
	}
	fmt.Fprintf(&b, "): %d deaths, %d operations checked; wrong:", r.Deaths, r.Ops)
	for i, s := range r.Bad {
		fmt.Fprintf(&b, "\n%d. %s", i+1, s)
	}
	return errors.New(b.String())
}

// Run simulates. The same Config has the same run, but for the order in which
// the scheduler lets goroutines come for their next turn. The error is the
// report's, or that of ctx if that was over before the run began: a run takes
// milliseconds and is not interrupted.
func Run(ctx context.Context, c Config) (Report, error) {
	if err := ctx.Err(); err != nil {
		return Report{}, err
	}
	s := &Sim{cfg: c.filled()}
	if c.T != nil {
		synctest.Test(c.T, func(*testing.T) { s.bubble() })
	} else if err := outside(s.bubble); err != nil {
		return Report{}, err
	}
	r := Report{Config: s.cfg, Ops: s.ops, Acked: s.acked, Deaths: s.died, Passed: s.passed, Bad: s.bad,
		Replayed: int(s.counter("replayed")), Orphans: int(s.counter("orphans")),
		Checkpoints: int(s.counter("checkpoints")), Poisons: int(s.counter("poison"))}
	return r, r.Err()
}
