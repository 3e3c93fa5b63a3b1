package journal

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

const (
	firstCost  = 10 * time.Microsecond // of a mutator, before one has been timed
	leastCost  = time.Microsecond
	mostCost   = 2 * time.Millisecond
	retryAfter = 100 * time.Millisecond // a checkpoint that failed is tried again by who needs it
	leastWin   = 32                     // entries that are always allowed
	rareDeaths = 2 * time.Second        // deaths that are further apart do not make the window smaller
)

// timed takes the time of one mutator into the estimate, which follows what is
// usual: a call over which the machine did something else says little about a
// replay.
func (f *FS) timed(d time.Duration) {
	d = min(max(d, leastCost), mostCost)
	f.mu.Lock()
	if d < f.cost {
		f.cost += (d - f.cost) / 8
	} else {
		f.cost += (min(d, 4*f.cost) - f.cost) / 64
	}
	f.mu.Unlock()
}

// windowLocked is how long a replay may take: what was configured, and less
// while deaths come one after the other, so that a replay has an end before the
// next one.
func (f *FS) windowLocked() time.Duration {
	w := f.o.Limits.Replay
	if f.every > 0 && time.Now().Sub(f.lastDown) < rareDeaths {
		w = min(w, max(f.every/8, 100*time.Microsecond))
	}
	return w
}

// roomLocked is how many entries the journal may have.
func (f *FS) roomLocked() int {
	return max(min(int(f.windowLocked()/f.cost), f.o.Limits.Entries), min(leastWin, f.o.Limits.Entries))
}

func (f *FS) fullLocked() bool {
	return len(f.list)-f.head >= f.roomLocked() || f.bytes >= f.o.Limits.Bytes
}

// wantedLocked reports whether a checkpoint should be taken: the journal is half
// full, and the last attempt, if it failed, was not just now.
func (f *FS) wantedLocked() bool {
	if f.badLocked() || f.ckptErr != nil && f.seq < f.tried+leastWin {
		return false
	}
	return len(f.list)-f.head >= f.roomLocked()/2 || f.bytes >= f.o.Limits.Bytes/2
}

// kickLocked lets the checkpointer look whether there is something to do.
func (f *FS) kickLocked() {
	if !f.running && !f.closed {
		f.running = true
		f.loop.Go(f.checkpointer)
	}
}

// Checkpoint takes a checkpoint that covers what was answered before, and
// returns when it is committed. EIO, ENOMEM.
func (f *FS) Checkpoint(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	want := f.seq
	f.forced++
	defer func() { f.forced-- }()
	for tried := false; f.ckpt < want; {
		if f.closed {
			return errEnded
		}
		if f.failed && f.cur.Load() == nil {
			return errGone
		}
		if f.badLocked() {
			return errBad
		}
		if tried && f.ckptErr != nil && f.tried >= want {
			return f.ckptErr
		}
		if !tried {
			f.ckptErr, tried = nil, true
		}
		var err error
		if f.cur.Load() == nil {
			err = f.downLocked(ctx)
		} else {
			f.kickLocked()
			err = f.waitLocked(ctx, time.Time{})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkpointer takes checkpoints of a mount that works while they are wanted.
func (f *FS) checkpointer() {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() {
		f.running, f.gate = false, false
		f.wakeLocked()
	}()
	for !f.closed && !f.badLocked() && (f.wantedLocked() || f.ckptErr == nil && (f.forced > 0 || f.fullLocked())) {
		f.gate = true
		for !f.closed && f.active > 0 && f.cur.Load() != nil {
			f.waitLocked(f.ctx, time.Time{})
		}
		g := f.cur.Load()
		if g == nil {
			return // Recover lets it look again
		}
		if f.badLocked() {
			return
		}
		f.ckpting = true
		seq := f.seq
		f.mu.Unlock()
		err := f.checkpoint(f.ctx, g.fs, seq)
		f.mu.Lock()
		f.ckpting, f.gate = false, false
		if died(err) {
			f.lostLocked(g)
		}
		f.wakeLocked()
	}
}

// checkpoint has fs write its state and commits it. Preconditions: no mutator is
// in flight, and all up to seq have been executed by fs.
func (f *FS) checkpoint(ctx context.Context, fs vfsops.FS, seq abi.OpSeq) error {
	f.at(FaultCheckpoint, nil)
	c, ok := fs.(vfsops.Checkpointer)
	if !ok {
		return fmt.Errorf("checkpoint: %w", abi.EOPNOTSUPP)
	}
	err := c.Checkpoint(ctx, seq)
	if err == nil {
		f.at(FaultCommit, nil)
		err = f.o.Backing.Commit(ctx, seq)
	}
	if err != nil {
		if !died(err) {
			f.cnt.failed.Inc()
			f.o.Log.Error("checkpoint", "seq", uint64(seq), "err", err)
			f.mu.Lock()
			f.tried, f.triedAt, f.ckptErr = seq, time.Now(), err
			f.mu.Unlock()
		}
		return err
	}
	f.cnt.checkpoints.Inc()
	f.at(FaultTrim, nil)
	f.mu.Lock()
	f.ckpt, f.ckptErr = seq, nil
	f.trimLocked(seq)
	f.mu.Unlock()
	f.at(FaultCheckpointDone, nil)
	return nil
}

// trimLocked drops the entries that the checkpoint seq covers.
func (f *FS) trimLocked(seq abi.OpSeq) {
	for f.head < len(f.list) && f.list[f.head].Op.Seq <= seq {
		e := f.list[f.head]
		if e.State != Failed {
			f.bytes -= e.bytes()
		}
		f.list[f.head] = nil
		f.head++
	}
	switch {
	case f.head == len(f.list):
		f.list, f.head = f.list[:0], 0
		f.bytes = 0
	case f.head > len(f.list)/2:
		f.list = slices.Delete(f.list, 0, f.head)
		f.head = 0
	}
}
