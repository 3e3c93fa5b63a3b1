package main

import (
	"context"
	"errors"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/journal"
	"github.com/rumpus-kernel/rumpus/kernel/journal/journalsim"
)

// The tier sim: the journal of one mount, simulated.

// simSeeds is how many runs a round of the tier sim has.
const simSeeds = 300

// simRound is a round of the tier sim.
func simRound(ctx context.Context, _ *settings, seed uint64, rep *report) error {
	return simulate(ctx, seed, simSeeds, rep, nil)
}

// simulate runs n seeds: at every second one the process also dies at a fault
// point, each in its turn. t is nil outside of tests.
func simulate(ctx context.Context, seed uint64, n int, rep *report, t *testing.T) error {
	var errs []error
	for i := range n {
		c := journalsim.Config{Seed: int64(seed*simSeeds) + int64(i), Ops: 120, T: t}
		moment := "any"
		if i%2 == 1 {
			c.Points = journal.Faults[i/2%len(journal.Faults):][:1]
			c.Every = 2 + i%5
			moment = string(c.Points[0])
		}
		r, err := journalsim.Run(ctx, c)
		rep.sims += int64(r.Ops)
		rep.row(row{tier: "sim", seed: uint64(c.Seed), kind: "death", victim: "mount", moment: moment, deaths: r.Deaths,
			failed: err != nil})
		if err != nil {
			if errs = append(errs, err); len(errs) == 3 {
				break
			}
		}
	}
	return errors.Join(errs...)
}
