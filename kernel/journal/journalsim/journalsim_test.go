package journalsim

import (
	"context"
	"errors"
	"os/exec"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/journal"
)

// TestProgram: a program that is no test simulates too, several runs at a time,
// and keeps its flags and its output.
func TestProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	out, err := exec.CommandContext(t.Context(), "go", "run", "./testdata/prog", "-seed", "7").CombinedOutput()
	if err != nil || string(out) != "fine 3\n" {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestWithoutTest: in a test, T is needed.
func TestWithoutTest(t *testing.T) {
	if _, err := Run(t.Context(), Config{}); !errors.Is(err, errInTest) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Config{T: t}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestChosen: what is not said is chosen by the seed, within bounds.
func TestChosen(t *testing.T) {
	for _, seed := range []int64{-1 << 63, -1, 0, 1, 1<<63 - 1} {
		c := Config{Seed: seed, Workers: 1000, Kills: -3}.filled()
		if c.Workers != 64 || c.Kills != 0 || c.Ops != 60 || c.Every != 3 || c.Limits.Entries < 8 {
			t.Errorf("%+v", c)
		}
		if c = (Config{Seed: seed}).filled(); c.Workers < 1 || c.Workers > 5 || c.Kills <= 0 {
			t.Errorf("%+v", c)
		}
	}
}

// TestSame: a run without deaths by turns of the scheduler is counted alike.
func TestSame(t *testing.T) {
	var ops [2]int
	for i := range ops {
		r, err := Run(t.Context(), Config{T: t, Seed: 5, Workers: 1, Points: []journal.Fault{journal.FaultBeforeReply}})
		if err != nil {
			t.Fatal(err)
		}
		ops[i] = r.Acked
	}
	if ops[0] != ops[1] || ops[0] == 0 {
		t.Errorf("%v", ops)
	}
}
