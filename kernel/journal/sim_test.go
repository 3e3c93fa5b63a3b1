package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// The simulation: workers with a directory each change a file system whose
// process dies at seeded moments, and hold every answer against an exact model.
// Goroutines take turns as the seed decides: whoever calls the file system, or
// comes by a fault point, waits until it is picked. Time is synctest's.

// sim is one run.
type sim struct {
	seed    uint64
	workers int
	ops     int
	kills   float64 // chance of a death at each turn
	limits  Limits
	sabot   func(s *sim, p Fault, e *Entry) // breaks the journal on purpose

	rng   *rand.Rand
	sabMu sync.Mutex
	mu    sync.Mutex
	turn  map[int]chan struct{} // who waits for a turn, by ticket
	next  int
	proc  *simFS
	store *simStore
	f     *FS
	cnt   map[string]*modapi.Counter
	dead  chan struct{}
	died  int
	acked int // mutators that were answered without an error
	bad   []string
	off   bool // nobody is killed any more

	blamed bool                      // deaths are the process's own fault
	extra  func(ctx context.Context) // one more worker
	around func(op string, after bool, name string) bool
	poison func(r *Repro)
}

func (s *sim) fail(format string, args ...any) {
	s.mu.Lock()
	s.bad = append(s.bad, fmt.Sprintf(format, args...))
	s.mu.Unlock()
}

// pause waits for a turn.
func (s *sim) pause() {
	c := make(chan struct{})
	s.mu.Lock()
	s.next++
	s.turn[s.next] = c
	s.mu.Unlock()
	<-c
}

// step lets one waiter go on, or time pass.
func (s *sim) step() {
	synctest.Wait()
	s.mu.Lock()
	ks := slices.Sorted(maps.Keys(s.turn))
	var c chan struct{}
	if len(ks) > 0 {
		k := ks[s.rng.IntN(len(ks))]
		c = s.turn[k]
		delete(s.turn, k)
	}
	if !s.off && s.proc != nil && s.rng.Float64() < s.kills {
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

func (s *sim) killLocked() {
	if s.proc != nil {
		s.proc.kill()
		s.proc = nil
		s.died++
		select {
		case s.dead <- struct{}{}:
		default:
		}
	}
}

func (s *sim) start() *simFS {
	p := newSim(s.store)
	p.around = func(op string, after bool, name string) bool {
		s.pause()
		if s.around == nil || !s.around(op, after, name) {
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
func (s *sim) supervise(done <-chan struct{}) {
	for {
		select {
		case <-s.dead:
		case <-done:
			return
		}
		s.f.Down()
		if s.blamed {
			s.f.Judge(true)
		}
		s.f.Recover(context.Background(), func(ctx context.Context, seq abi.OpSeq) (vfsops.FS, error) {
			if seq != s.store.seq {
				s.fail("mount with checkpoint %d, the store has %d", seq, s.store.seq)
			}
			return s.start(), nil
		})
	}
}

// file is what a worker knows of one of its files.
type file struct {
	id    abi.Fileid
	mode  uint32
	data  []byte
	xattr string
}

type worker struct {
	s     *sim
	n     int
	rng   *rand.Rand
	dir   abi.Handle
	files map[string]*file
	open  []*file // pinned, without a name
	tag   int
}

func (w *worker) op() vfsops.Op {
	return vfsops.Op{Now: abi.TimespecOf(time.Now()), Seed: w.rng.Uint64() & 0xffff, Caller: abi.KernelCaller}
}

func (w *worker) pick() (string, *file) {
	ks := slices.Sorted(maps.Keys(w.files))
	if len(ks) == 0 {
		return "", nil
	}
	k := ks[w.rng.IntN(len(ks))]
	return k, w.files[k]
}

// run does one operation and checks what it answers.
func (w *worker) run(ctx context.Context) {
	f, s := w.s.f, w.s
	name, x := w.pick()
	ok := func(what string, err error) bool {
		if err != nil {
			s.fail("worker %d: %s %s: %v", w.n, what, name, err)
			return false
		}
		s.mu.Lock()
		s.acked++
		s.mu.Unlock()
		return true
	}
	w.tag++
	k := w.rng.IntN(13)
	if x == nil && k < 10 {
		k = 0
	}
	switch k {
	case 0, 1:
		name = "f" + strconv.Itoa(w.rng.IntN(8))
		m, err := f.Create(ctx, vfsops.CreateReq{Op: w.op(), Dir: w.dir, Name: []byte(name), Mode: uint32(w.tag & 0o777)})
		if w.files[name] != nil {
			if !errors.Is(err, abi.EEXIST) {
				s.fail("worker %d: create of %s, which is there: %v", w.n, name, err)
			}
			return
		}
		if ok("create", err) {
			w.files[name] = &file{id: m.Node.Handle.File, mode: uint32(w.tag & 0o777)}
		}
	case 2, 3:
		tag := fmt.Sprintf("<%d.%d>", w.n, w.tag)
		r, err := f.Write(ctx, vfsops.WriteReq{Op: w.op(), Node: simHandle(x.id), Append: true}, abi.IovOf([]byte(tag)))
		if ok("write", err) {
			x.data = append(x.data, tag...)
			if r.Off+int64(r.N) != int64(len(x.data)) || r.Vattr.Size != int64(len(x.data)) {
				s.fail("worker %d: append to %s at %d, size %d, not %d", w.n, name, r.Off, r.Vattr.Size, len(x.data))
			}
		}
	case 4:
		pin := w.rng.IntN(2) == 0
		if pin && !ok("pin", f.Pin(ctx, simHandle(x.id))) {
			return
		}
		m, err := f.Remove(ctx, vfsops.RemoveReq{Op: w.op(), Dir: w.dir, Name: []byte(name), Victim: simHandle(x.id)})
		if ok("remove", err) {
			if m.Victim.Nlink != 0 || m.Victim.Fileid != x.id {
				s.fail("worker %d: removed %s: %+v", w.n, name, m.Victim)
			}
			delete(w.files, name)
			if pin {
				w.open = append(w.open, x)
			}
		}
	case 5:
		to := "f" + strconv.Itoa(w.rng.IntN(8))
		if to == name {
			return
		}
		req := vfsops.RenameReq{Op: w.op(), FDir: w.dir, FName: []byte(name), From: simHandle(x.id), TDir: w.dir, TName: []byte(to)}
		if o := w.files[to]; o != nil {
			req.To = simHandle(o.id)
		}
		_, err := f.Rename(ctx, req)
		if ok("rename", err) {
			delete(w.files, name)
			w.files[to] = x
		}
	case 6:
		va, err := f.Setattr(ctx, vfsops.SetattrReq{Op: w.op(), Node: simHandle(x.id), Mask: abi.SetMode, Attr: abi.Vattr{Mode: uint32(w.tag)}})
		if ok("setattr", err) {
			x.mode = uint32(w.tag)
			if va.Mode != x.mode || va.Fileid != x.id {
				s.fail("worker %d: setattr of %s: %+v", w.n, name, va)
			}
		}
	case 7:
		v := strconv.Itoa(w.tag)
		if ok("setxattr", f.Setxattr(ctx, vfsops.SetxattrReq{Op: w.op(), Node: simHandle(x.id), Name: []byte("user.a"), Value: []byte(v)})) {
			x.xattr = v
		}
	case 8:
		err := f.Removexattr(ctx, w.op(), simHandle(x.id), []byte("user.a"))
		if x.xattr == "" {
			if !errors.Is(err, abi.ENODATA) {
				s.fail("worker %d: removexattr of %s: %v", w.n, name, err)
			}
		} else if ok("removexattr", err) {
			x.xattr = ""
		}
	case 9:
		w.check(ctx, name, x)
	case 10:
		if len(w.open) > 0 {
			x := w.open[0]
			w.open = w.open[1:]
			w.check(ctx, "(open)", x)
			ok("unpin", f.Unpin(ctx, simHandle(x.id)))
		}
	case 11:
		w.list(ctx)
	case 12:
		if got, err := f.Reserve(ctx, 3); err != nil || got != 3 {
			s.fail("worker %d: reserve: %d, %v", w.n, got, err)
		}
	}
}

// check reads a file.
func (w *worker) check(ctx context.Context, name string, x *file) {
	f, s := w.s.f, w.s
	va, err := f.Getattr(ctx, simHandle(x.id))
	if err != nil || va.Mode != x.mode || va.Size != int64(len(x.data)) {
		s.fail("worker %d: getattr of %s: %v, %+v", w.n, name, err, va)
	}
	buf := make([]byte, len(x.data)+8)
	n, err := f.Read(ctx, simHandle(x.id), 0, abi.IovOf(buf))
	if err != nil || !bytes.Equal(buf[:n], x.data) {
		s.fail("worker %d: read of %s: %v, %q, not %q", w.n, name, err, buf[:n], x.data)
	}
	v, err := f.Getxattr(ctx, simHandle(x.id), []byte("user.a"))
	if string(v) != x.xattr || (err != nil) != (x.xattr == "") {
		s.fail("worker %d: getxattr of %s: %v, %q, not %q", w.n, name, err, v, x.xattr)
	}
}

// list lists the directory and looks every name up.
func (w *worker) list(ctx context.Context) {
	f, s := w.s.f, w.s
	r, err := f.Readdir(ctx, vfsops.ReaddirReq{Dir: w.dir, Max: 1 << 16})
	if err != nil || len(r.Entries) != len(w.files) {
		s.fail("worker %d: readdir: %v, %d entries, not %d", w.n, err, len(r.Entries), len(w.files))
		return
	}
	for _, e := range r.Entries {
		if x := w.files[e.Name]; x == nil || x.id != e.Fileid {
			s.fail("worker %d: readdir: %+v", w.n, e)
		}
		l, err := f.Lookup(ctx, vfsops.LookupReq{Start: w.dir, Names: [][]byte{[]byte(e.Name)}})
		if err != nil || len(l.Trace) != 1 || l.Trace[0].Handle.File != e.Fileid {
			s.fail("worker %d: lookup of %s: %v, %+v", w.n, e.Name, err, l)
		}
	}
}

// simulate runs s to its end and answers what went wrong.
func (s *sim) simulate(t *testing.T) []string {
	synctest.Test(t, func(t *testing.T) { s.bubble() })
	return s.bad
}

func (s *sim) bubble() {
	ctx := context.Background()
	s.rng = rand.New(rand.NewPCG(s.seed, 1))
	s.turn, s.store, s.dead, s.cnt = map[int]chan struct{}{}, &simStore{}, make(chan struct{}, 1), map[string]*modapi.Counter{}
	first := s.start()
	s.f = New(first, Options{Backing: s.store, Seq: 1, Root: simHandle(1), Wait: time.Hour, Limits: s.limits, Poison: s.poison,
		Fault: func(p Fault, e *Entry) {
			if s.sabot != nil {
				s.sabMu.Lock()
				s.sabot(s, p, e)
				s.sabMu.Unlock()
			}
			s.pause()
		},
		Evcnt: func(_, name string) *modapi.Counter {
			if s.cnt[name] == nil {
				s.cnt[name] = new(modapi.Counter)
			}
			return s.cnt[name]
		}})
	done := make(chan struct{})
	var sup, all sync.WaitGroup
	sup.Go(func() { s.supervise(done) })
	ws := make([]*worker, s.workers)
	for i := range ws {
		w := &worker{s: s, n: i, rng: rand.New(rand.NewPCG(s.seed, uint64(i)+2)), files: map[string]*file{}}
		ws[i] = w
		all.Go(func() {
			m, err := s.f.Mkdir(ctx, vfsops.CreateReq{Op: w.op(), Dir: simHandle(1), Name: []byte("d" + strconv.Itoa(i)), Mode: 0o755})
			if err != nil {
				s.fail("worker %d: mkdir: %v", i, err)
				return
			}
			w.dir = m.Node.Handle
			for range s.ops {
				s.pause()
				w.run(ctx)
			}
			w.list(ctx)
			for _, k := range slices.Sorted(maps.Keys(w.files)) {
				w.check(ctx, k, w.files[k])
			}
			for _, x := range w.open {
				w.check(ctx, "(open)", x)
			}
		})
	}
	if s.extra != nil {
		all.Go(func() { s.pause(); s.extra(ctx) })
	}
	over := make(chan struct{})
	go func() { all.Wait(); close(over) }()
	for range 300_000 {
		select {
		case <-over:
			s.end(done, &sup, ws)
			return
		default:
			s.step()
		}
	}
	s.fail("no end: %+v, %d deaths, %d acknowledged", s.f.Stats(), s.died, s.acked)
	s.end(done, &sup, ws)
	for {
		synctest.Wait()
		select {
		case <-over:
			return
		default:
			s.step()
		}
	}
}

// end checks what no worker sees: that nothing was done twice or is left.
func (s *sim) end(done chan struct{}, sup *sync.WaitGroup, ws []*worker) {
	s.mu.Lock()
	s.off = true
	s.mu.Unlock()
	fin := make(chan struct{})
	go func() {
		defer close(fin)
		s.f.Getattr(context.Background(), simHandle(1)) // the last recovery is over
		close(done)
		sup.Wait()
		s.f.Close()
	}()
	for {
		synctest.Wait()
		select {
		case <-fin:
		default:
			s.step()
			continue
		}
		break
	}
	if n := s.cnt["diverged"].Load(); n > 0 {
		s.fail("%d divergences", n)
	}
	want := 1
	for _, w := range ws {
		want += 1 + len(w.files) + len(w.open)
	}
	if p := s.proc; p != nil {
		if len(p.st.nodes) != want {
			s.fail("%d nodes, not %d\n%s", len(p.st.nodes), want, p.st.dump())
		}
		if p.st.ops != s.acked+len(ws) {
			s.fail("%d mutators executed, %d acknowledged", p.st.ops, s.acked+len(ws))
		}
		if p.granted != s.f.granted {
			s.fail("%d pages granted, %d known", p.granted, s.f.granted)
		}
	}
}

func seeds(t *testing.T) int {
	if testing.Short() {
		return 5
	}
	return 60
}

// TestSimulation: whatever dies when, every answer is what it has to be.
func TestSimulation(t *testing.T) {
	died, replayed, orphans, ckpts := 0, uint64(0), uint64(0), uint64(0)
	for seed := range seeds(t) {
		s := &sim{seed: uint64(seed), workers: 1 + seed%5, ops: 60, kills: []float64{0.002, 0.01, 0.03}[seed%3],
			limits: Limits{Entries: []int{8, 40, 400}[seed/3%3]}}
		for _, b := range s.simulate(t) {
			t.Errorf("seed %d: %s", seed, b)
		}
		died += s.died
		replayed += s.cnt["replayed"].Load()
		orphans += s.cnt["orphans"].Load()
		ckpts += s.cnt["checkpoints"].Load()
	}
	t.Logf("%d deaths, %d replayed, %d orphans, %d checkpoints", died, replayed, orphans, ckpts)
	if died == 0 || replayed == 0 || orphans == 0 || ckpts == 0 {
		t.Error("something never happened")
	}
}
