package journal_test

import (
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/journal/journalsim"
)

func seeds(t *testing.T) int {
	if testing.Short() {
		return 5
	}
	return 60
}

// TestSimulation: whatever dies when, every answer is what it has to be.
func TestSimulation(t *testing.T) {
	var sum journalsim.Report
	for seed := range seeds(t) {
		r, err := journalsim.Run(t.Context(), journalsim.Config{Seed: int64(seed), T: t})
		if err != nil {
			t.Error(err)
		}
		sum.Deaths += r.Deaths
		sum.Replayed += r.Replayed
		sum.Orphans += r.Orphans
		sum.Checkpoints += r.Checkpoints
		sum.Ops += r.Ops
	}
	t.Logf("%d operations, %d deaths, %d replayed, %d orphans, %d checkpoints", sum.Ops, sum.Deaths, sum.Replayed, sum.Orphans, sum.Checkpoints)
	if sum.Deaths == 0 || sum.Replayed == 0 || sum.Orphans == 0 || sum.Checkpoints == 0 {
		t.Error("something never happened")
	}
}
