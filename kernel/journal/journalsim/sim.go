package journalsim

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing/synctest"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/journal"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Sim is one run, as the functions of a Config see it.
type Sim struct {
	cfg Config
	rng *rand.Rand

	hookMu sync.Mutex // one call of Config.Fault at a time
	f      *journal.FS
	store  *Store
	dead   chan struct{}
	ctx    context.Context // ends when the run has no end
	cancel context.CancelFunc

	mu     sync.Mutex
	turn   map[int]chan struct{} // who waits for a turn, by ticket
	next   int
	proc   *Proc
	cnt    map[string]*modapi.Counter
	died   int
	ops    int // operations whose answer was checked
	acked  int // mutators that were answered without an error
	passed map[journal.Fault]int
	bad    []string
	ring   [ringSize]event // what happened last
	rings  int
	off    bool                   // nobody is killed any more
	tries  map[*journal.Entry]int // how often an orphan was sent again
	last   bool                   // the next death would make an innocent one a poison, by the rule for outsiders
}

// FS is the journal.
func (s *Sim) FS() *journal.FS { return s.f }

// Kill lets the process die now, unless the run comes to its end.
func (s *Sim) Kill() {
	s.mu.Lock()
	if !s.off {
		s.killLocked()
	}
	s.mu.Unlock()
}

// fail takes note of what is wrong.
func (s *Sim) fail(format string, args ...any) {
	s.mu.Lock()
	if len(s.bad) < maxBad {
		s.bad = append(s.bad, fmt.Sprintf(format, args...))
	}
	if len(s.bad) == 1 {
		s.bad[0] += s.lastLocked()
	}
	s.mu.Unlock()
}

// pause waits for a turn.
func (s *Sim) pause() {
	c := make(chan struct{})
	s.mu.Lock()
	s.next++
	s.turn[s.next] = c
	s.mu.Unlock()
	<-c
}

// step lets one waiter go on, or time pass.
func (s *Sim) step() {
	synctest.Wait()
	s.mu.Lock()
	ks := slices.Sorted(maps.Keys(s.turn))
	var c chan struct{}
	if len(ks) > 0 {
		k := ks[s.rng.IntN(len(ks))]
		c = s.turn[k]
		delete(s.turn, k)
	}
	if !s.off && s.proc != nil && s.rng.Float64() < s.cfg.Kills && !s.last {
		s.killLocked()
	}
	s.mu.Unlock()
	if c != nil {
		time.Sleep(20 * time.Microsecond)
		close(c)
	} else {
		time.Sleep(time.Millisecond)
	}
}

func (s *Sim) killLocked() {
	if s.proc != nil {
		s.noteLocked("the process dies", nil)
		s.proc.Kill()
		s.proc = nil
		s.died++
		select {
		case s.dead <- struct{}{}:
		default:
		}
	}
}

func (s *Sim) start() *Proc {
	p := NewProc(s.store)
	p.Around = func(op string, after bool, name string) bool {
		s.pause()
		if s.cfg.Around == nil || !s.cfg.Around(op, after, name) {
			return false
		}
		s.mu.Lock()
		if s.proc == p {
			s.killLocked()
		}
		s.mu.Unlock()
		return true
	}
	s.mu.Lock()
	s.proc = p
	s.mu.Unlock()
	return p
}

// supervise restarts the process.
func (s *Sim) supervise(done <-chan struct{}) {
	for {
		select {
		case <-s.dead:
		case <-done:
			return
		}
		s.f.Down()
		if s.cfg.Blamed {
			s.f.Judge(true)
		}
		s.f.Recover(s.ctx, func(ctx context.Context, seq abi.OpSeq) (vfsops.FS, error) {
			if at := s.store.Seq(); seq != at {
				s.fail("mount with checkpoint %d, the store has %d", seq, at)
			}
			return s.start(), nil
		})
	}
}

// outsiders is how often a process may be killed while an orphan is alone in
// flight: the journal's rule allows one more.
const outsiders = 4

// fault is called by the journal at its fault points.
func (s *Sim) fault(p journal.Fault, e *journal.Entry) {
	s.mu.Lock()
	s.passed[p]++
	n := s.passed[p]
	s.noteLocked(string(p), e)
	switch p {
	case journal.FaultOrphan:
		s.tries[e]++
		s.last = s.tries[e] >= outsiders
	case journal.FaultMount, journal.FaultOpen:
		s.last = false
	}
	if slices.Contains(s.cfg.Points, p) && n%s.cfg.Every == 0 && n < maxAtPoint && !s.off && !s.last {
		s.killLocked()
	}
	s.mu.Unlock()
	if s.cfg.Fault != nil {
		s.hookMu.Lock()
		s.cfg.Fault(s, p, e)
		s.hookMu.Unlock()
	}
	s.pause()
}

func (s *Sim) counter(name string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.cnt[name]; c != nil {
		return c.Load()
	}
	return 0
}

// bubble runs s to its end; its clock is synctest's.
func (s *Sim) bubble() {
	s.ctx, s.cancel = context.WithCancel(context.Background())
	defer s.cancel()
	s.rng = rand.New(rand.NewPCG(uint64(s.cfg.Seed), 1))
	s.turn, s.store, s.dead = map[int]chan struct{}{}, &Store{}, make(chan struct{}, 1)
	s.cnt, s.passed = map[string]*modapi.Counter{}, map[journal.Fault]int{}
	s.tries = map[*journal.Entry]int{}
	first := s.start()
	s.f = journal.New(first, journal.Options{Backing: s.store, Seq: 1, Root: Handle(1), Wait: time.Hour,
		Limits: s.cfg.Limits, Poison: s.cfg.Poison, Fault: s.fault,
		Evcnt: func(_, name string) *modapi.Counter {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.cnt[name] == nil {
				s.cnt[name] = new(modapi.Counter)
			}
			return s.cnt[name]
		}})
	done := make(chan struct{})
	var sup, all sync.WaitGroup
	sup.Go(func() { s.supervise(done) })
	ws := make([]*worker, s.cfg.Workers)
	for i := range ws {
		w := &worker{s: s, n: i, rng: rand.New(rand.NewPCG(uint64(s.cfg.Seed), uint64(i)+2)), files: map[string]*file{}}
		ws[i] = w
		all.Go(func() { w.all(s.ctx) })
	}
	if s.cfg.Extra != nil {
		all.Go(func() { s.pause(); s.cfg.Extra(s.ctx, s.f) })
	}
	over := make(chan struct{})
	go func() { all.Wait(); close(over) }()
	if !s.steps(over, maxSteps(s.cfg)) {
		s.fail("no end: %+v, %d deaths, %d acknowledged", s.f.Stats(), s.died, s.acked)
	}
	s.end(done, &sup, ws)
	s.steps(over, 0) // workers that are left get errors
}

// steps steps until over is closed, at most n times; 0: without end.
func (s *Sim) steps(over <-chan struct{}, n int) bool {
	for i := 0; n == 0 || i < n; i++ {
		synctest.Wait()
		select {
		case <-over:
			return true
		default:
			s.step()
		}
	}
	return false
}

// all is what a worker does.
func (w *worker) all(ctx context.Context) {
	s := w.s
	m, err := s.f.Mkdir(ctx, vfsops.CreateReq{Op: w.op(), Dir: Handle(1), Name: []byte("d" + strconv.Itoa(w.n)), Mode: 0o755})
	if err != nil {
		s.fail("worker %d: mkdir: %v", w.n, err)
		return
	}
	w.dir = m.Node.Handle
	for range s.cfg.Ops {
		s.pause()
		w.run(ctx)
		s.mu.Lock()
		s.ops++
		s.mu.Unlock()
	}
	w.list(ctx)
	for _, k := range slices.Sorted(maps.Keys(w.files)) {
		w.check(ctx, k, w.files[k])
	}
	for _, x := range w.open {
		w.check(ctx, "(open)", x)
	}
}

// end checks what no worker sees: that nothing was done twice or is left.
func (s *Sim) end(done chan struct{}, sup *sync.WaitGroup, ws []*worker) {
	s.mu.Lock()
	s.off = true
	s.mu.Unlock()
	fin := make(chan struct{})
	go func() {
		defer close(fin)
		s.f.Getattr(s.ctx, Handle(1)) // the last recovery is over
		close(done)
		sup.Wait()
		s.f.Close()
	}()
	if !s.steps(fin, maxSteps(s.cfg)) {
		s.fail("no end of the last recovery: %+v", s.f.Stats())
		s.cancel()
		s.f.Close()
		s.steps(fin, 0)
	}
	for _, b := range s.store.bad {
		s.fail("%s", b)
	}
	if n := s.counter("diverged"); n > 0 {
		s.fail("%d divergences", n)
	}
	want := 1
	for _, w := range ws {
		want += 1 + len(w.files) + len(w.open)
	}
	if p := s.proc; p != nil {
		if n := p.Nodes(); n != want {
			s.fail("%d nodes, not %d\n%s", n, want, p.Dump())
		}
		if n := p.executed(); n != s.acked+len(ws) {
			s.fail("%d mutators executed, %d acknowledged", n, s.acked+len(ws))
		}
		if n := s.f.Stats().Granted; p.granted != n {
			s.fail("%d pages granted, %d known", p.granted, n)
		}
	}
}
