package supervise

import (
	"context"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/evlog"
)

// A spare is a process of an instance that stands by: started, and its handshake
// done, but its modules not asked for. It knows nothing of the kernel yet, so it
// fits whatever comes. A restart by it takes a few milliseconds, as neither exec
// nor the start of the Go runtime and of go-plugin's connection is waited for.
// It costs its memory, some 10 MB. There is one at most; it is started when
// there is time, is replaced when it dies, which is nobody's fault, and when the
// program's file has been replaced since.

// When spares are started.
const (
	spareIdle = time.Second           // after the instance's first process
	spareSoon = 20 * time.Millisecond // after a restart
	spareMax  = 30 * time.Second      // the longest wait after spares that died
	spareWait = 2 * time.Second       // for its modules, when it takes over
)

// standby is the part of a keeper that has the spare.
type standby struct {
	timer    *time.Timer        // when to start one
	ready    chan arrival       // from the goroutine that starts one
	cancel   context.CancelFunc // of that goroutine; nil: there is none
	spare    *launched          // nil: none stands by
	misfires int                // in a row
}

type arrival struct {
	f   *launched
	err error
}

func (k *keeper) init() {
	k.timer = time.NewTimer(time.Hour)
	k.timer.Stop()
	k.trial = time.NewTimer(time.Hour)
	k.trial.Stop()
	k.ready = make(chan arrival, 1)
	k.plan(k.s.idle)
}

// plan has a spare started some time later.
func (k *keeper) plan(d time.Duration) {
	if k.pol.Spare && k.spare == nil && k.cancel == nil {
		k.timer.Reset(d)
	}
}

// prepare begins to start a spare.
func (k *keeper) prepare() {
	if k.spare != nil || k.cancel != nil {
		return
	}
	ctx, cancel := context.WithTimeout(k.s.ctx, restartTimeout)
	k.cancel = cancel
	k.s.loops.Go(func() {
		f, err := k.s.launch(ctx, k.i.Name, k.i.Plugin)
		k.ready <- arrival{f, err}
	})
}

// arrived takes a spare over.
func (k *keeper) arrived(r arrival) {
	k.cancel()
	k.cancel = nil
	if r.err != nil {
		k.misfire(0, r.err.Error())
		return
	}
	k.spare, k.misfires = r.f, 0
	k.m.SetSpare(k.i, r.f.p.Pid())
	k.m.Emit(k.i, evlog.Event{Kind: evlog.Spare, Pid: r.f.p.Pid()})
}

// spareDead is closed when the spare has died; nil, for ever, if there is none.
func (k *keeper) spareDead() <-chan struct{} {
	if k.spare == nil {
		return nil
	}
	return k.spare.p.Dead()
}

// lostSpare replaces a spare that has died.
func (k *keeper) lostSpare() {
	f := k.spare
	k.forget()
	text := f.p.Exit().Text
	k.discard(f)
	k.misfire(f.p.Pid(), text)
}

// misfire tries it again later, and later each time.
func (k *keeper) misfire(pid int, why string) {
	if k.s.ctx.Err() != nil {
		return
	}
	k.log.Debug("no process stands by", "reason", why)
	k.m.Emit(k.i, evlog.Event{Kind: evlog.SpareDied, Pid: pid, Text: why})
	k.plan(min(k.s.idle<<min(k.misfires, 6), spareMax))
	k.misfires++
}

// forget has no spare any more; whose it is says discard or take.
func (k *keeper) forget() {
	k.spare = nil
	k.m.SetSpare(k.i, 0)
}

// discard ends a spare, without waiting for it.
func (k *keeper) discard(f *launched) { k.s.loops.Go(f.kill) }

// take hands the spare out, waiting for one that is on its way: that is quicker
// than another one. nil: there is none that can be used.
func (k *keeper) take(ctx context.Context) *launched {
	k.timer.Stop()
	if k.cancel != nil {
		select {
		case r := <-k.ready:
			k.arrived(r)
		case <-ctx.Done():
			return nil
		}
	}
	f := k.spare
	if f == nil {
		return nil
	}
	k.forget()
	path, err := k.s.find(k.i.Plugin)
	_, dead := f.p.l.exited()
	if st, ok := f.p.l.State(); dead || ok && st == 'T' || err != nil || programOf(path) != f.program {
		k.discard(f)
		return nil
	}
	return f
}

// retire ends the spare, or the start of one.
func (k *keeper) retire() {
	k.timer.Stop()
	if k.cancel != nil {
		k.cancel()
		k.cancel = nil
		if r := <-k.ready; r.err == nil {
			k.discard(r.f)
		}
	}
	if f := k.spare; f != nil {
		k.forget()
		k.discard(f)
	}
}
