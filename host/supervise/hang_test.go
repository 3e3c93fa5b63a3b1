package supervise

import (
	"strings"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// suspect is a process as a judge sees it, and a clock.
type suspect struct {
	now          time.Time
	frames       uint64
	calls        []wire.Op // in flight, the first has identifier 1
	unread       bool
	serving      bool
	used, waited time.Duration
	state        byte

	looks int
}

func (s *suspect) Frames() uint64                 { return s.frames }
func (s *suspect) LastID() abi.ReqID              { return abi.ReqID(len(s.calls)) }
func (s *suspect) Serving() bool                  { return s.serving }
func (s *suspect) Unread() bool                   { return s.unread }
func (s *suspect) Unwatch() bool                  { return true }
func (s *suspect) CPU() (time.Duration, bool)     { return s.used, true }
func (s *suspect) State() (byte, bool)            { return s.state, true }
func (s *suspect) Delayed() (time.Duration, bool) { return s.waited, true }
func (s *suspect) Inflight(upto abi.ReqID) (in stream.Inflight) {
	for i, op := range s.calls {
		switch {
		case abi.ReqID(i+1) > upto || op == 0:
		case op.Class() <= wire.ClassCPU:
			in.Fast++
			in.FastOp = op
		default:
			in.Slow++
			in.SlowOp = op
			if op.Class() == wire.ClassAdmin {
				in.Admin++
			}
		}
	}
	return in
}

// run lets time pass as the judge wants it, calling step for each piece of it,
// and answers the verdict, "" if there is none within limit.
func (s *suspect) run(j *judge, limit time.Duration, step func(d time.Duration)) (string, time.Duration) {
	begin := s.now
	d := firstLook
	for s.now.Sub(begin) < limit {
		s.now = s.now.Add(d)
		step(d)
		s.looks++
		h, next := j.look(s.now)
		if h != nil {
			return h.What, s.now.Sub(begin)
		}
		if d = next; d == 0 {
			return "idle", s.now.Sub(begin)
		}
	}
	return "", limit
}

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		name   string
		calls  []wire.Op
		slow   time.Duration
		step   func(s *suspect, d time.Duration)
		want   string // in the verdict
		within time.Duration
	}{
		{"loops", []wire.Op{wire.OpSend}, 0, func(s *suspect, d time.Duration) { s.used += d }, "send, 1", 130 * time.Millisecond},
		{"loops on four processors", []wire.Op{wire.OpSend}, 0, func(s *suspect, d time.Duration) { s.used += 4 * d }, "of processor time", 60 * time.Millisecond},
		{"loops on a busy machine", []wire.Op{wire.OpSend}, 0, func(s *suspect, d time.Duration) { s.used += d / 10 }, "of processor time", 1100 * time.Millisecond},
		{"loops in a slow call", []wire.Op{wire.OpLookup}, 0, func(s *suspect, d time.Duration) { s.used += d }, "", 0},
		{"loops in a slow call with a budget", []wire.Op{wire.OpLookup}, 100 * time.Millisecond, func(s *suspect, d time.Duration) { s.used += d }, "lookup, 1", 130 * time.Millisecond},
		{"a slow call beside one that works hard", []wire.Op{wire.OpLookup, wire.OpInit}, 100 * time.Millisecond, func(s *suspect, d time.Duration) { s.used += d }, "", 0},
		{"gets on", []wire.Op{wire.OpSend}, 0, func(s *suspect, d time.Duration) { s.used += d; s.frames++ }, "", 0},
		{"gets on slowly", []wire.Op{wire.OpSend}, 0, func(s *suspect, d time.Duration) {
			if s.used += d; s.looks%3 == 2 {
				s.frames++
			}
		}, "", 0},
		{"has answered, unread", []wire.Op{wire.OpSend}, 0, func(s *suspect, d time.Duration) { s.used += d; s.unread = true }, "", 0},
		{"waits for us", []wire.Op{wire.OpSend}, 0, func(s *suspect, d time.Duration) { s.used += d; s.serving = true }, "", 0},
		{"sleeps", []wire.Op{wire.OpSend}, 0, func(s *suspect, d time.Duration) {}, "", 0},
		{"calls that come and go", []wire.Op{wire.OpSend}, 0, func(s *suspect, d time.Duration) {
			s.used += d
			s.calls[len(s.calls)-1] = 0
			s.calls = append(s.calls, wire.OpSend)
		}, "", 0},
		{"a fast call behind a slow one", []wire.Op{wire.OpLookup}, 0, func(s *suspect, d time.Duration) {
			if s.used += d; s.looks == 10 {
				s.calls = append(s.calls, wire.OpSend)
			}
		}, "send, 3", 600 * time.Millisecond},
		{"is stopped", []wire.Op{wire.OpLookup}, 0, func(s *suspect, d time.Duration) { s.state = 'T' }, "stopped", 125 * time.Millisecond},
		{"is stopped in the middle", []wire.Op{wire.OpSend}, 0, func(s *suspect, d time.Duration) {
			if s.used += d; s.looks > 5 {
				s.used, s.state = 40*time.Millisecond, 'T'
			} else {
				s.frames++
			}
		}, "stopped", 250 * time.Millisecond},
		{"is stopped and goes on", []wire.Op{wire.OpSend}, 0, func(s *suspect, d time.Duration) {
			if s.state = 'S'; s.looks%2 == 1 {
				s.state = 'T'
			}
			if s.looks%4 == 3 {
				s.frames++
			}
		}, "", 0},
		{"is debugged", []wire.Op{wire.OpSend}, 0, func(s *suspect, d time.Duration) { s.state = 't' }, "", 0},
		{"has nothing to do", []wire.Op{0}, 0, func(s *suspect, d time.Duration) { s.used += d }, "idle", 100 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &suspect{now: time.Unix(1000, 0), calls: tc.calls, state: 'S'}
			j := &judge{c: s, p: s, cpu: hangCPU, slowCPU: tc.slow}
			what, after := s.run(j, 3*time.Second, func(d time.Duration) { tc.step(s, d) })
			if tc.want == "" && what != "" || !strings.Contains(what, tc.want) {
				t.Errorf("verdict %q after %v", what, after)
			}
			if tc.want != "" && after > tc.within {
				t.Errorf("%q after %v only", what, after)
			}
			if s.looks > 250 {
				t.Errorf("%d looks in 3 s", s.looks)
			}
		})
	}
}

// TestStarved: deadlines are put off for a process that just waits for a
// processor, and for no other.
func TestStarved(t *testing.T) {
	for _, tc := range []struct {
		name  string
		share time.Duration // of 10 that it waits
		want  bool
	}{{"sleeps", 0, false}, {"waits a little", 2, false}, {"starves", 9, true}} {
		s := &suspect{now: time.Unix(1000, 0), calls: []wire.Op{wire.OpSend}, state: 'R'}
		j := &judge{c: s, p: s, cpu: hangCPU}
		if what, _ := s.run(j, 5*time.Second, func(d time.Duration) { s.waited += d * tc.share / 10 }); what != "" {
			t.Errorf("%s: %s", tc.name, what)
		}
		if got := j.starved.Load(); got != tc.want {
			t.Errorf("%s: starved %v", tc.name, got)
		}
		s.frames++
		s.now = s.now.Add(time.Second)
		j.look(s.now)
		if j.starved.Load() {
			t.Errorf("%s: it gets on, and starves", tc.name)
		}
	}
}
