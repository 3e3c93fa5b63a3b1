package journal

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Backing is where a file system's state is between two processes. The methods
// are not called at the same time.
type Backing interface {
	// Commit makes what the file system has written valid, at once: its state
	// is that after mutator seq from now on.
	Commit(ctx context.Context, seq abi.OpSeq) error
	// Drop throws away what was written and not committed. No call of the old
	// process is under way any more, and the new one has not been asked
	// anything yet.
	Drop()
}

// Syncer is a Backing that is not itself what has to survive the end of the
// host: fsync takes a checkpoint and then calls Sync.
type Syncer interface {
	// Sync returns when what was committed is on stable storage.
	Sync(ctx context.Context) error
}

// Limits bound the journal.
type Limits struct {
	Replay  time.Duration // how long a replay may take, as far as can be foretold; 0 = 10 ms
	Entries int           // 0 = 65536
	Bytes   int64         // 0 = 16 MiB
}

// Options of an FS.
type Options struct {
	Backing Backing       // nil: nothing has to be committed
	Seq     abi.OpSeq     // the last number that was used: that of the mount itself
	Root    abi.Handle    // which must be the same after a death
	Wait    time.Duration // how long callers wait for a new process; 0 = 5 s
	Limits  Limits
	Log     modapi.Logger                            // nil: no log
	Evcnt   func(group, name string) *modapi.Counter // nil: nothing is counted
	Poison  func(r *Repro)                           // is told of a mutator that killed the process twice, before the next Recover; nil: nobody is
	Event   func(e evlog.Event)                      // is told of replays and divergences, and must not wait; nil: nobody is
	Fault   func(p Fault, e *Entry)                  // for tests: called at every fault point without locks; nil = off
}

// FS is the file system of one mount over all processes that serve it. Its
// methods are those of vfsops and the ones of life, death and recovery below.
type FS struct {
	o      Options
	cnt    counters
	caps   vfsops.Caps
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	loop   sync.WaitGroup
	recMu  sync.Mutex

	cur atomic.Pointer[gen] // changed with mu held; nil while nobody may call

	mu         sync.Mutex
	changed    chan struct{} // closed at the next change that somebody waits for
	waiters    int           // who waits for it
	closed     bool
	failed     bool      // no process will come
	degraded   bool      // no mutators: because of Degrade
	diverged   bool      // no mutators: a replay has gone wrong
	again      bool      // the last Recover ended because its process died
	recovering bool      // Recover is at work
	until      time.Time // while down: when callers stop waiting
	downs      int       // deaths noticed
	lastDown   time.Time
	every      time.Duration // between deaths, lately; 0 = they are rare
	seq        abi.OpSeq     // the last number given
	ckpt       abi.OpSeq     // that of the last committed checkpoint, 0 = none
	tried      abi.OpSeq     // at which the last checkpoint failed
	triedAt    time.Time     // and when
	ckptErr    error         // why
	running    bool          // the checkpointer is
	gate       bool          // a checkpoint is wanted: no mutator begins
	forced     int           // who waits for one whatever the journal is worth
	ckpting    bool          // and under way
	active     int           // mutators between their number and their answer
	sent       int           // calls to cur whose end Recover waits for
	list       []*Entry      // in the order of their numbers; orphans are not in it
	head       int           // list[:head] is gone
	bytes      int64         // of list[head:]
	orphans    []*Entry      // in the order of their first numbers
	suspect    *Entry        // the orphan that is being executed
	granted    int64         // pages by Reserve
	lent       int64         // of them those that the process that is there did not grant again
	cost       time.Duration // of one mutator, lately
}

// gen is the file system as one process serves it.
type gen struct{ fs vfsops.FS }

type counters struct{ entries, bytes, replayed, diverged, checkpoints, failed, orphans, poison, recoveries *modapi.Counter }

// New makes an FS of a file system that has just been mounted.
func New(fs vfsops.FS, o Options) *FS {
	if o.Wait <= 0 {
		o.Wait = 5 * time.Second
	}
	if o.Limits.Replay <= 0 {
		o.Limits.Replay = 10 * time.Millisecond
	}
	if o.Limits.Entries <= 0 {
		o.Limits.Entries = 64 << 10
	}
	if o.Limits.Bytes <= 0 {
		o.Limits.Bytes = 16 << 20
	}
	if o.Log == nil {
		o.Log = nopLog{}
	}
	if o.Evcnt == nil {
		o.Evcnt = func(string, string) *modapi.Counter { return new(modapi.Counter) }
	}
	if o.Backing == nil {
		o.Backing = noBacking{}
	}
	e := func(name string) *modapi.Counter { return o.Evcnt("journal", name) }
	f := &FS{o: o, caps: vfsops.CapsOf(fs), changed: make(chan struct{}), seq: o.Seq, cost: firstCost,
		cnt: counters{entries: e("entries"), bytes: e("bytes"), replayed: e("replayed"), diverged: e("diverged"),
			checkpoints: e("checkpoints"), failed: e("checkpoint_errors"), orphans: e("orphans"), poison: e("poison"), recoveries: e("recoveries")}}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.cur.Store(&gen{fs})
	return f
}

// Caps is what the file system can do.
func (f *FS) Caps() vfsops.Caps { return f.caps }

// Down says that the process died, or is being killed. Callers wait for Recover
// from now on. Judge follows, as soon as it is known why.
func (f *FS) Down() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	f.cur.Store(nil)
	f.failed, f.again = false, false
	now := time.Now()
	f.until = now.Add(f.o.Wait)
	f.downs++
	if d := now.Sub(f.lastDown); f.downs > 1 && d < rareDeaths {
		if f.every == 0 || d < f.every {
			f.every = d
		} else {
			f.every += (d - f.every) / 4
		}
	} else {
		f.every = 0
	}
	f.lastDown = now
	f.wakeLocked()
}

// Judge says why the process died for which Down was called: own, it has itself
// to blame, nobody outside killed it. It decides about a mutator that was alone
// in flight. A Recover that finds no judgement holds the death to be a kill from
// outside.
func (f *FS) Judge(own bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.suspect != nil && !f.closed && f.cur.Load() == nil {
		r := f.judgeLocked(own)
		f.wakeLocked()
		if r != nil {
			f.mu.Unlock()
			f.o.Poison(r)
			f.mu.Lock()
		}
	}
}

// Fail says that no process will come: callers get EIO instead of waiting,
// until another Recover succeeds. It does nothing while there is one, and after a
// Recover or a call that ended because the process died, for which a Down is to
// come.
func (f *FS) Fail() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cur.Load() == nil && !f.again {
		f.failed = true
		f.wakeLocked()
	}
}

// Degrade makes mutators fail with EIO while reads are answered, or undoes
// that. After a divergence it cannot be undone.
func (f *FS) Degrade(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.degraded = on
	f.wakeLocked()
}

func (f *FS) badLocked() bool { return f.degraded || f.diverged }

// Up reports whether calls are answered without waiting for a new process.
func (f *FS) Up() bool { return f.cur.Load() != nil }

// Close ends the FS: callers that wait get EIO. The file system itself has been
// unmounted before, or its process is gone.
func (f *FS) Close() {
	f.mu.Lock()
	f.closed = true
	f.cur.Store(nil)
	f.wakeLocked()
	f.mu.Unlock()
	f.cancel()
	f.loop.Wait()
}

// Stats is the state of a journal.
type Stats struct {
	Seq, Checkpoint abi.OpSeq     // the last number given; to which the last checkpoint is complete
	Entries         int           // in the journal
	Bytes           int64         // that they take
	Orphans         int           // that wait for a new process
	Replay          time.Duration // how long a replay of all of them would take
	Window          time.Duration // how long one may take
	Granted         int64         // pages
	Up, Degraded    bool
}

// Stats describes the journal at this moment.
func (f *FS) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.list) - f.head
	return Stats{Seq: f.seq, Checkpoint: f.ckpt, Entries: n, Bytes: f.bytes, Orphans: len(f.orphans), Granted: f.granted,
		Replay: time.Duration(n) * f.cost, Window: f.windowLocked(), Up: f.cur.Load() != nil, Degraded: f.badLocked()}
}

// wakeLocked wakes who waits for a change.
func (f *FS) wakeLocked() {
	if f.waiters > 0 {
		close(f.changed)
		f.changed = make(chan struct{})
		f.waiters = 0
	}
}

// waitLocked waits for a change, the end of ctx or, if that is not zero, the
// time until. It gives mu up meanwhile. ETIMEDOUT, EINTR if the caller gave up;
// errLate at until.
func (f *FS) waitLocked(ctx context.Context, until time.Time) error {
	f.waiters++
	c := f.changed
	f.mu.Unlock()
	defer f.mu.Lock()
	var late <-chan time.Time
	if !until.IsZero() {
		left := time.Until(until)
		if left <= 0 {
			return errLate
		}
		t := time.NewTimer(left)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-c:
		return nil
	case <-late:
		return errLate
	case <-ctx.Done():
		return abi.ErrnoOf(ctx.Err())
	}
}

var (
	errLate  = fmt.Errorf("no new process in time: %w", abi.EIO)
	errGone  = fmt.Errorf("the file system's process is gone: %w", abi.EIO)
	errBad   = fmt.Errorf("the file system is degraded: %w", abi.EIO)
	errEnded = fmt.Errorf("unmounted: %w", abi.EIO)
)

// downLocked is what to do while there is no process: nil after a wait, else
// the error for the caller.
func (f *FS) downLocked(ctx context.Context) error {
	switch {
	case f.closed:
		return errEnded
	case f.failed:
		return errGone
	}
	until := f.until
	if f.recovering {
		until = time.Time{} // it has a time limit of its own
	}
	err := f.waitLocked(ctx, until)
	if err == errLate && (f.cur.Load() != nil || f.recovering || f.until != until) {
		return nil // things have changed meanwhile
	}
	return err
}

// lost takes note that a call to g failed because its process died.
func (f *FS) lost(g *gen) {
	f.mu.Lock()
	f.lostLocked(g)
	f.mu.Unlock()
}

func (f *FS) lostLocked(g *gen) {
	if f.cur.Load() == g {
		f.cur.Store(nil)
		f.again = true // Down is to come; a Fail before it means the process that died before this one
		f.until = time.Now().Add(f.o.Wait)
		f.wakeLocked()
	}
}

// current answers the process that serves the mount, waiting for one.
func (f *FS) current(ctx context.Context) (*gen, error) {
	if g := f.cur.Load(); g != nil {
		return g, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		if g := f.cur.Load(); g != nil {
			return g, nil
		}
		if err := f.downLocked(ctx); err != nil {
			return nil, err
		}
	}
}

type noBacking struct{}

func (noBacking) Commit(context.Context, abi.OpSeq) error { return nil }
func (noBacking) Drop()                                   {}

type nopLog struct{}

func (nopLog) Debug(string, ...any) {}
func (nopLog) Info(string, ...any)  {}
func (nopLog) Warn(string, ...any)  {}
func (nopLog) Error(string, ...any) {}

// event tells of an event, if anybody wants to know.
func (f *FS) event(e evlog.Event) {
	if f.o.Event != nil {
		f.o.Event(e)
	}
}
