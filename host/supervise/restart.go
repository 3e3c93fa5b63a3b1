package supervise

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/kernel/module"
)

// restartTimeout bounds one attempt at a restart, after which it is a failure.
const restartTimeout = 15 * time.Second

// probePeriod is how often a degraded instance is tried again.
const probePeriod = 30 * time.Second

// Watch takes over an instance that runs: it is restarted when its process
// dies, until it is unloaded or the budget is used.
func (s *Supervisor) Watch(m *module.Manager, i *module.Instance) {
	p, _ := m.Proc(i)
	pl, ok := p.(*plug)
	if !ok {
		return
	}
	// The uid stays the instance's between two processes. It has one now, so
	// this cannot fail.
	s.hold(i.Name)
	k := &keeper{s: s, m: m, i: i, pl: pl, pol: s.policyOf(i.Name), log: s.log.Named(i.Name)}
	k.init()
	s.loops.Go(func() {
		defer s.drop(i.Name)
		defer k.retire()
		k.run()
	})
}

// keeper keeps one instance running. It is one goroutine's.
type keeper struct {
	s   *Supervisor
	m   *module.Manager
	i   *module.Instance
	pol Policy
	log hclog.Logger

	pl     *plug
	frames uint64      // that pl had sent when it was up
	seq    uint64      // operations carried out at the last death
	deaths []time.Time // that count, within the window
	last   time.Time   // of any death
	quick  int         // restarts since the last calm

	degraded bool        // changes are refused
	trial    *time.Timer // until they are tried again

	standby
}

var errUnloaded = errors.New("instance was unloaded")

// run returns when the instance has ended.
func (k *keeper) run() {
	for k.await() && k.m.Down(k.i, k.pl) {
		k.count()
		if !k.recover() {
			return
		}
	}
}

// await waits for the death of the process, and sees to it that another stands
// by. False at the end of all.
func (k *keeper) await() bool {
	for {
		select {
		case <-k.pl.over:
			return true
		case <-k.s.ctx.Done():
			return false
		case <-k.trial.C:
			k.retry()
		case <-k.timer.C:
			k.prepare()
		case r := <-k.ready:
			k.arrived(r)
		case <-k.spareDead():
			k.lostSpare()
		}
	}
}

// count takes note of a death.
func (k *keeper) count() {
	now := time.Now()
	k.trial.Stop()
	d := k.pl.Death()
	k.log.Warn("component died", "cause", d.Text, "pid", k.pl.Pid())
	if k.s.Evcnt != nil {
		k.s.Evcnt("supervise", "restarts_"+d.Cause).Inc()
	}
	seq, counted := k.m.Seq(k.i)
	if counted && seq != k.seq {
		k.deaths = nil
	}
	if now.Sub(k.last) > k.pol.Window || counted && seq != k.seq || k.pl.link.Conn().Frames() != k.frames {
		k.quick = 0
	}
	k.last, k.seq = now, seq
	if d.Own {
		k.deaths = append(k.deaths, now)
	}
}

// recover starts a new process until one comes up. False: it is over.
func (k *keeper) recover() bool {
	for {
		now := time.Now()
		for len(k.deaths) > 0 && now.Sub(k.deaths[0]) > k.pol.Window {
			k.deaths = k.deaths[1:]
		}
		if len(k.deaths) > k.pol.Budget || k.pol.Budget == 0 {
			return k.giveUp()
		}
		if !k.pause(pauseOf(k.quick)) {
			return false
		}
		k.quick++
		err := k.restart()
		if err == nil {
			return true
		}
		if errors.Is(err, errUnloaded) || k.s.ctx.Err() != nil {
			return false
		}
		k.failed(err)
		k.deaths = append(k.deaths, time.Now())
	}
}

// failed tells of a restart that did not succeed.
func (k *keeper) failed(err error) {
	k.log.Error("restart failed", "error", err)
	k.m.Emit(k.i, evlog.Event{Kind: evlog.Retry, Text: err.Error()})
	if k.s.Evcnt != nil {
		k.s.Evcnt("supervise", "restarts_failed").Inc()
	}
}

// giveUp is what happens when the budget is used. A file system is degraded:
// its changes are refused, and it is tried again now and then. True if a process
// is up.
func (k *keeper) giveUp() bool {
	why := fmt.Sprintf("%d deaths in %v, more than the restart budget of %d", len(k.deaths), k.pol.Window, k.pol.Budget)
	k.retire()
	if k.pol.Budget == 0 || !k.m.Degrade(k.i, why) {
		k.log.Error("component given up", "reason", why)
		k.m.Gone(k.i, why)
		return false
	}
	k.log.Error("component degraded", "reason", why)
	k.deaths, k.quick = nil, 0
	for first := !k.degraded; ; first = false {
		k.degraded = true
		if !first && !k.pause(k.s.probe()) || !k.m.Wanted(k.i) {
			return false
		}
		err := k.restart()
		if err == nil {
			return true
		}
		if errors.Is(err, errUnloaded) || k.s.ctx.Err() != nil {
			return false
		}
		k.failed(err)
	}
}

// retry lets a degraded instance take changes again: it has been up for a while.
func (k *keeper) retry() {
	k.degraded = false
	k.m.Restore(k.i)
}

// restart brings one new process up: the one that stands by if there is one.
func (k *keeper) restart() error {
	ctx, cancel := context.WithTimeout(k.s.ctx, restartTimeout)
	defer cancel()
	_, epoch := k.m.Proc(k.i)
	var pl *plug
	var err error
	if f := k.take(ctx); f != nil {
		short, cancel := context.WithTimeout(ctx, spareWait)
		pl, err = k.s.connect(short, f, epoch+1)
		cancel()
		if err != nil {
			k.log.Warn("the process that stood by is of no use", "error", err)
		}
	}
	if pl == nil {
		f, err := k.s.launch(ctx, k.i.Name, k.i.Plugin)
		if err != nil {
			return err
		}
		if pl, err = k.s.connect(ctx, f, epoch+1); err != nil {
			return err
		}
	}
	if err := k.m.Up(ctx, k.i, pl); err != nil {
		pl.p.Fence()
		if errors.Is(err, module.ErrEnded) {
			return errUnloaded
		}
		return err
	}
	k.pl, k.frames = pl, pl.link.Conn().Frames()
	k.log.Info("component restarted", "pid", pl.Pid())
	if k.s.Evcnt != nil {
		k.s.Evcnt("supervise", "restarts").Inc()
	}
	if k.degraded {
		k.trial.Reset(k.s.probe())
	}
	k.plan(spareSoon)
	return nil
}

// probe is the time between attempts to bring a degraded instance back.
func (s *Supervisor) probe() time.Duration {
	if s.Probe > 0 {
		return s.Probe
	}
	return probePeriod
}

// pauseOf is the wait before restart n: none for the first two, then 10 ms * 2^k
// up to a second.
func pauseOf(n int) time.Duration {
	if n < 2 {
		return 0
	}
	return min(10*time.Millisecond<<min(n-2, 10), time.Second)
}

// pause waits. False at the end of all.
func (k *keeper) pause(d time.Duration) bool {
	if d == 0 {
		return k.s.ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-k.s.ctx.Done():
		return false
	}
}
