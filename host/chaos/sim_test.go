package main

import (
	"testing"
)

// TestSimSlice is a slice of the tier sim. More is in kernel/journal.
func TestSimSlice(t *testing.T) {
	rep := quiet(t)
	if err := simulate(t.Context(), 1, 28, rep, t); err != nil {
		t.Error(err)
	}
	if rep.close() != 0 || len(rep.rows) != 28 || rep.sims < 28*120 {
		t.Errorf("%d rows, %d operations\n%s", len(rep.rows), rep.sims, rep.out)
	}
}

// TestTurns: each tier that has a turn is there.
func TestTurns(t *testing.T) {
	for _, tier := range turns {
		if tiers[tier] == nil {
			t.Errorf("there is no tier %s", tier)
		}
	}
}
