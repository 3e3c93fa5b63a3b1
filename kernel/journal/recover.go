package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// outsideKills is how often a process may be killed from outside while one
// mutator is alone in flight before that counts as its own fault.
const outsideKills = 5

// Remount mounts the file system in the new process as it was after mutator
// seq; 0: as it was when it was new.
type Remount func(ctx context.Context, seq abi.OpSeq) (vfsops.FS, error)

// Recover puts the file system back in a new process, and lets callers in. It
// answers an error wrapping *stream.Dead if that process died too: callers wait
// on, and another Recover is to follow the next Down. After any other error they
// wait too, until Options.Wait is over or Fail is called.
func (f *FS) Recover(ctx context.Context, mount Remount) (err error) {
	f.recMu.Lock()
	defer f.recMu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(f.ctx, cancel)()
	f.mu.Lock()
	if f.closed || f.cur.Load() != nil {
		defer f.mu.Unlock()
		if f.closed {
			return errEnded
		}
		return nil
	}
	f.recovering = true
	downs := f.downs
	for f.sent > 0 || f.ckpting { // what was sent to the old process comes to its end first
		if err := f.waitLocked(ctx, time.Time{}); err != nil {
			f.stopLocked()
			f.mu.Unlock()
			return fmt.Errorf("calls of the old process do not end: %w", err)
		}
	}
	poison := f.judgeLocked(false)
	ckpt := f.ckpt
	f.mu.Unlock()
	if poison != nil {
		f.o.Poison(poison)
	}
	begun := time.Now()
	f.at(FaultMount, nil)
	f.o.Backing.Drop()
	r := recovery{f: f, ctx: ctx, downs: downs}
	if r.fs, err = mount(ctx, ckpt); err == nil {
		err = r.run()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.stopLocked()
	if err == nil && f.downs != downs {
		err = &stream.Dead{Cause: errAgain}
	}
	if err == nil && f.closed {
		err = errEnded
	}
	if err != nil {
		f.again = died(err)
		if f.until.Before(time.Now()) {
			f.until = time.Now().Add(f.o.Wait)
		}
		return err
	}
	f.suspect = nil
	f.failed = false
	f.cur.Store(&gen{r.fs})
	f.cnt.recoveries.Inc()
	f.o.Log.Info("recovered", "replayed", r.replayed, "orphans", r.orphans, "diverged", r.diverged, "took", time.Now().Sub(begun))
	f.event(evlog.Event{Kind: evlog.Replayed, Replayed: r.replayed, Ns: int64(time.Since(begun))})
	f.kickLocked()
	return nil
}

var errAgain = errors.New("the new process died too")

func (f *FS) stopLocked() {
	f.recovering = false
	f.wakeLocked()
}

// recovery is one attempt.
type recovery struct {
	f                           *FS
	ctx                         context.Context
	fs                          vfsops.FS
	downs                       int
	replayed, orphans, diverged int
}

func (r *recovery) run() error {
	f := r.f
	if err := r.check(); err != nil {
		return err
	}
	if err := r.replay(); err != nil {
		return err
	}
	f.at(FaultReplayed, nil)
	if err := r.reserve(); err != nil {
		return err
	}
	if err := r.adopt(); err != nil {
		return err
	}
	f.at(FaultOpen, nil)
	return nil
}

// check compares the file system with what it was.
func (r *recovery) check() error {
	f := r.f
	if caps := vfsops.CapsOf(r.fs); caps != f.caps {
		return fmt.Errorf("the new process has file-system capabilities %#x instead of %#x: %w", uint64(caps), uint64(f.caps), abi.EPROGMISMATCH)
	}
	root, err := r.fs.Root(r.ctx)
	if err != nil {
		return err
	}
	if !f.o.Root.IsZero() && root.Handle != f.o.Root {
		return fmt.Errorf("the root directory is %v instead of %v: %w", root.Handle, f.o.Root, abi.EIO)
	}
	return nil
}

// replay sends the answered entries again. The list does not change meanwhile
// but by its own checkpoints: nobody else is let in.
func (r *recovery) replay() error {
	f := r.f
	f.mu.Lock()
	todo := make([]*Entry, 0, len(f.list)-f.head)
	for _, e := range f.list[f.head:] {
		if e.State == Answered {
			todo = append(todo, e)
		}
	}
	f.mu.Unlock()
	from, since := time.Now(), 0
	for i, e := range todo {
		f.at(FaultReplay, e)
		var res result
		err := e.apply(r.ctx, r.fs, &res)
		if died(err) {
			return fmt.Errorf("replay of %s: %w", e, err)
		}
		f.cnt.replayed.Inc()
		r.replayed++
		since++
		if err != nil || res.hash(e.Kind) != e.Hash {
			r.diverge(e, &res, err)
		}
		if since%sampleEvery != 0 || i == len(todo)-1 || r.diverged > 0 {
			continue
		}
		now := time.Now()
		f.mu.Lock()
		half := f.windowLocked() / 2
		f.mu.Unlock()
		if now.Sub(from) >= half {
			if err := f.checkpoint(r.ctx, r.fs, e.Op.Seq); died(err) {
				return fmt.Errorf("checkpoint: %w", err)
			}
			from, since = time.Now(), 0
		}
	}
	return nil
}

// diverge takes note that the file system is not what it was.
func (r *recovery) diverge(e *Entry, res *result, err error) {
	f := r.f
	r.diverged++
	f.cnt.diverged.Inc()
	f.o.Log.Error("replay diverged: no more changes are made", "op", e.String(), "err", err, "node", res.Node.Handle.String(), "attr", fmt.Sprintf("%+v", res.Node.Vattr))
	f.event(evlog.Event{Kind: evlog.Divergence, Op: e.String(), Text: fmt.Sprint(err)})
	f.spoil()
}

// spoil ends all changes.
func (f *FS) spoil() {
	f.mu.Lock()
	f.diverged = true
	f.wakeLocked()
	f.mu.Unlock()
}

// reserve takes what the kernel holds of the mount's space.
func (r *recovery) reserve() error {
	f := r.f
	f.mu.Lock()
	n := f.granted
	f.mu.Unlock()
	c, ok := r.fs.(vfsops.Reserver)
	if n == 0 || !ok || f.caps&vfsops.HasReserver == 0 {
		return nil
	}
	got, err := c.Reserve(r.ctx, n)
	if died(err) {
		return err
	}
	if f.caps&vfsops.CapKpages == 0 && got >= 0 && got < n && (err == nil || abi.ErrnoOf(err) == abi.ENOSPC) {
		// Files have taken some of it, which the kernel is yet to give back.
		if err != nil {
			got = 0
		}
		f.mu.Lock()
		f.lent = n - got
		f.mu.Unlock()
		return nil
	}
	f.mu.Lock()
	f.lent = 0
	f.mu.Unlock()
	if err != nil || got != n {
		f.cnt.diverged.Inc()
		f.o.Log.Error("space that was granted is gone: no more changes are made", "pages", n, "got", got, "err", err)
		f.spoil()
	}
	return nil
}

// adopt sends what was in flight when the process died, one at a time.
func (r *recovery) adopt() error {
	f := r.f
	for {
		f.mu.Lock()
		if f.badLocked() { // nothing more is changed
			for _, e := range f.orphans {
				e.fail(errBad)
			}
			f.orphans = nil
		}
		if len(f.orphans) == 0 || f.closed {
			f.mu.Unlock()
			return nil
		}
		if f.downs != r.downs {
			f.mu.Unlock()
			return &stream.Dead{Cause: errAgain}
		}
		e := f.orphans[0]
		f.suspect = e
		f.seq++
		e.Op.Seq = f.seq
		f.mu.Unlock()
		f.at(FaultOrphan, e)
		var res result
		err := e.apply(r.ctx, r.fs, &res)
		if died(err) {
			return fmt.Errorf("%s again: %w", e, err)
		}
		f.at(FaultOrphanDone, e)
		f.mu.Lock()
		if e.State != Orphan { // the process is dead, and the entry was judged
			f.mu.Unlock()
			return &stream.Dead{Cause: errAgain}
		}
		f.suspect = nil
		f.unorphanLocked(e)
		r.orphans++
		if err != nil {
			e.fail(err)
		} else {
			e.res = &res
			f.list = append(f.list, e)
			f.bytes += e.bytes()
			f.recordLocked(e, &res, nil)
		}
		f.wakeLocked()
		f.mu.Unlock()
	}
}

// judgeLocked decides about the orphan that was alone in flight when the
// process died. What it answers is for Options.Poison, once mu is given up.
func (f *FS) judgeLocked(blamed bool) *Repro {
	e := f.suspect
	f.suspect = nil
	if e == nil || e.State != Orphan {
		return nil
	}
	if e.kills++; blamed {
		e.blamed++
	}
	if e.blamed == 0 && e.kills < outsideKills {
		return nil
	}
	f.cnt.poison.Inc()
	f.o.Log.Error("a request kills the file system's process: it is left out", "op", e.String(), "deaths", e.kills+1)
	var r *Repro
	if f.o.Poison != nil {
		r = f.reproLocked(e)
	}
	e.fail(errPoison)
	f.unorphanLocked(e)
	return r
}

var errPoison = fmt.Errorf("the request killed the file system's process twice: %w", abi.EIO)
