package journal

import (
	"context"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// The negative controls: journals that are wrong on purpose. The simulation has
// to notice each of them, else it proves nothing.

// caught runs seeds until something goes wrong.
func caught(t *testing.T, sabot func(s *sim, p Fault, e *Entry)) {
	t.Helper()
	for seed := range 20 {
		s := &sim{seed: uint64(seed), workers: 3, ops: 60, kills: 0.01, limits: Limits{Entries: 40}, sabot: sabot}
		if bad := s.simulate(t); len(bad) > 0 {
			t.Logf("seed %d: %d complaints, the first: %.200s", seed, len(bad), bad[0])
			return
		}
	}
	t.Error("nobody noticed")
}

// TestLostAcknowledgement: an entry is gone although its caller was answered.
func TestLostAcknowledgement(t *testing.T) {
	n := 0
	caught(t, func(s *sim, p Fault, e *Entry) {
		if n++; p != FaultBeforeReply || n%11 != 0 || e.State != Answered {
			return
		}
		s.f.mu.Lock()
		s.f.unlistLocked(e)
		s.f.mu.Unlock()
	})
}

// TestDoubledAppend: an entry is there twice.
func TestDoubledAppend(t *testing.T) {
	n := 0
	caught(t, func(s *sim, p Fault, e *Entry) {
		if n++; p != FaultBeforeReply || n%11 != 0 || e.State != Answered {
			return
		}
		s.f.mu.Lock()
		o := *e
		s.f.seq++
		o.Op.Seq = s.f.seq
		s.f.list = append(s.f.list, &o)
		s.f.bytes += o.bytes()
		s.f.mu.Unlock()
	})
}

// TestEarlyTrim: entries go before the checkpoint that covers them is committed.
func TestEarlyTrim(t *testing.T) {
	caught(t, func(s *sim, p Fault, e *Entry) {
		if p == FaultCheckpoint {
			s.f.mu.Lock()
			s.f.trimLocked(s.f.seq)
			s.f.mu.Unlock()
		}
	})
}

// TestUnhonoredID: a replay that does not carry the file ids given first.
func TestUnhonoredID(t *testing.T) {
	caught(t, func(s *sim, p Fault, e *Entry) {
		if p == FaultReplay && e.Kind.makes() {
			e.Op.Fileid = 1 << 40
		}
	})
}

// TestEveryFaultPoint: the process dies at each fault point, whenever one comes
// by there for the n-th time, and all points are passed.
func TestEveryFaultPoint(t *testing.T) {
	for _, at := range Faults {
		t.Run(string(at), func(t *testing.T) {
			seen := 0
			for _, every := range []int{2, 3, 7} {
				n := 0
				s := &sim{seed: uint64(every), workers: 3, ops: 40, kills: 0.004, limits: Limits{Entries: 24}}
				s.sabot = func(s *sim, p Fault, e *Entry) {
					if p != at {
						return
					}
					s.mu.Lock()
					seen++
					if n++; n%every == 0 && n < 60 && !s.off {
						s.killLocked()
					}
					s.mu.Unlock()
				}
				for _, b := range s.simulate(t) {
					t.Errorf("every %d: %s", every, b)
				}
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
		s := &poisonSim{sim: sim{seed: uint64(seed), workers: 3, ops: 40, limits: Limits{Entries: 40}}}
		for _, b := range s.run(t) {
			t.Errorf("seed %d: %s", seed, b)
		}
		if s.err != abi.EIO {
			t.Errorf("seed %d: the poison was answered %v", seed, s.err)
		}
		if s.died != 2 {
			t.Errorf("seed %d: %d deaths", seed, s.died)
		}
		if s.repro == nil || s.repro.Poison.Kind != Create || string(s.repro.Poison.Name) != "poison" {
			t.Errorf("seed %d: reproducer %+v", seed, s.repro)
		}
	}
}

// poisonSim has one more worker, whose create kills.
type poisonSim struct {
	sim
	err   abi.Errno
	repro *Repro
}

func (s *poisonSim) run(t *testing.T) []string {
	s.blamed = true
	s.poison = func(r *Repro) { s.repro = r }
	s.around = func(op string, after bool, name string) bool { return name == "poison" && !after }
	s.extra = func(ctx context.Context) {
		_, err := s.f.Create(ctx, vfsops.CreateReq{Op: vfsops.Op{Caller: abi.KernelCaller}, Dir: simHandle(1), Name: []byte("poison")})
		s.err = abi.ErrnoOf(err)
	}
	return s.simulate(t)
}
