package journal_test

import (
	"context"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel/journal"
	"github.com/rumpus-kernel/rumpus/kernel/journal/journalsim"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// The negative controls: journals that are wrong on purpose. The simulation has
// to notice each of them, else it proves nothing.

// caught runs seeds until something goes wrong.
func caught(t *testing.T, sabot func(f *journal.FS, p journal.Fault, e *journal.Entry)) {
	t.Helper()
	for seed := range 20 {
		_, err := journalsim.Run(t.Context(), journalsim.Config{T: t, Seed: int64(seed), Workers: 3, Ops: 60, Kills: 0.01,
			Limits: journal.Limits{Entries: 40},
			Fault:  func(s *journalsim.Sim, p journal.Fault, e *journal.Entry) { sabot(s.FS(), p, e) }})
		if err != nil {
			t.Logf("%.300s", err)
			for _, want := range []string{"seed", "3 workers", "wrong:\n1. ", "before it", string(journal.FaultBeforeReply)} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the report has no %q:\n%v", want, err)
				}
			}
			return
		}
	}
	t.Error("nobody noticed")
}

// TestLostAcknowledgement: an entry is gone although its caller was answered.
func TestLostAcknowledgement(t *testing.T) {
	n := 0
	caught(t, func(f *journal.FS, p journal.Fault, e *journal.Entry) {
		if n++; p == journal.FaultBeforeReply && n%11 == 0 && e.State == journal.Answered {
			f.Lose(e)
		}
	})
}

// TestDoubledAppend: an entry is there twice.
func TestDoubledAppend(t *testing.T) {
	n := 0
	caught(t, func(f *journal.FS, p journal.Fault, e *journal.Entry) {
		if n++; p == journal.FaultBeforeReply && n%11 == 0 && e.State == journal.Answered {
			f.Double(e)
		}
	})
}

// TestEarlyTrim: entries go before the checkpoint that covers them is committed.
func TestEarlyTrim(t *testing.T) {
	caught(t, func(f *journal.FS, p journal.Fault, e *journal.Entry) {
		if p == journal.FaultCheckpoint {
			f.TrimEarly()
		}
	})
}

// TestUnhonoredID: a replay that does not carry the file ids given first.
func TestUnhonoredID(t *testing.T) {
	caught(t, func(f *journal.FS, p journal.Fault, e *journal.Entry) {
		if p == journal.FaultReplay && e.Kind.Makes() {
			e.Op.Fileid = 1 << 40
		}
	})
}

// TestEveryFaultPoint: the process dies at each fault point, whenever one comes
// by there for the n-th time, and all points are passed.
func TestEveryFaultPoint(t *testing.T) {
	for _, at := range journal.Faults {
		t.Run(string(at), func(t *testing.T) {
			seen := 0
			for _, every := range []int{2, 3, 7} {
				r, err := journalsim.Run(t.Context(), journalsim.Config{T: t, Seed: int64(every), Workers: 3, Ops: 40, Kills: 0.004,
					Limits: journal.Limits{Entries: 24}, Points: []journal.Fault{at}, Every: every})
				if err != nil {
					t.Error(err)
				}
				seen += r.Passed[at]
			}
			if seen == 0 {
				t.Error("nobody came by")
			}
		})
	}
}

// TestSimulatedPoison: a request that kills whoever executes it gets EIO, costs
// two restarts, and nobody else notices anything.
func TestSimulatedPoison(t *testing.T) {
	for seed := range 10 {
		var got error
		var repro *journal.Repro
		r, err := journalsim.Run(t.Context(), journalsim.Config{T: t, Seed: int64(seed), Workers: 3, Ops: 40, Kills: -1,
			Limits: journal.Limits{Entries: 40}, Blamed: true,
			Poison: func(r *journal.Repro) { repro = r },
			Around: func(op string, after bool, name string) bool { return name == "poison" && !after },
			Extra: func(ctx context.Context, f *journal.FS) {
				_, got = f.Create(ctx, vfsops.CreateReq{Op: vfsops.Op{Caller: abi.KernelCaller}, Dir: journalsim.Handle(1), Name: []byte("poison")})
			}})
		if err != nil {
			t.Error(err)
		}
		if abi.ErrnoOf(got) != abi.EIO {
			t.Errorf("seed %d: the poison was answered %v", seed, got)
		}
		if r.Deaths != 2 || r.Poisons != 1 {
			t.Errorf("seed %d: %d deaths, %d poisons", seed, r.Deaths, r.Poisons)
		}
		if repro == nil || repro.Poison.Kind != journal.Create || string(repro.Poison.Name) != "poison" {
			t.Errorf("seed %d: reproducer %+v", seed, repro)
		}
	}
}
