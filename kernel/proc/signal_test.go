package proc

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// wait is a wait of a system call.
type wait struct{ ended atomic.Int32 }

func (w *wait) Interrupt() { w.ended.Add(1) }

func catch(p *Proc, sig int, flags uint32) {
	if _, err := p.Sigaction(sig, &abi.Sigaction{Handler: 2, Flags: flags}); err != nil {
		panic(err)
	}
}

// TestLwpSignals sends signals to lwps of their own, each with its mask.
func TestLwpSignals(t *testing.T) {
	ctx := context.Background()
	tab := table()
	defer tab.Close(ctx)
	p, _ := tab.New("p", abi.Root)
	var told []abi.Siginfo
	p.SetTell(func(si abi.Siginfo, _ bool) { told = append(told, si) })
	catch(p, abi.SIGUSR1, 0)
	catch(p, abi.SIGUSR2, 0)
	a, _ := p.NewLwp()
	b, _ := p.NewLwp()
	usr1 := abi.SigsetOf(abi.SIGUSR1)
	if _, err := a.Sigprocmask(abi.SIG_BLOCK, &usr1); err != nil {
		t.Fatal(err)
	}
	if old, _ := b.Sigprocmask(abi.SIG_BLOCK, nil); old != 0 {
		t.Errorf("another lwp's mask: %v", old.Signals())
	}
	kill := func(lid int32, sig int) error {
		return a.KillLwp(int(lid), abi.Siginfo{Signo: sig, Code: abi.SI_LWP})
	}
	// For a alone: b could take it, and does not.
	if err := kill(a.Lid, abi.SIGUSR1); err != nil || len(told) != 0 || a.Sigpending() != usr1 || b.Sigpending() != 0 {
		t.Errorf("%v, told %v, pending %v and %v", err, told, a.Sigpending(), b.Sigpending())
	}
	// For the process: b takes it.
	p.Signal(abi.Siginfo{Signo: abi.SIGUSR1})
	if len(told) != 1 || told[0].Code != 0 {
		t.Errorf("told %v", told)
	}
	if _, err := a.Sigprocmask(abi.SIG_UNBLOCK, &usr1); err != nil || len(told) != 2 || told[1].Code != abi.SI_LWP {
		t.Errorf("unblocked: %v, told %v", err, told)
	}
	// The wait of whom it is for ends.
	var wa, wb wait
	for _, l := range []*Lwp{a, b} {
		if err := l.Begin(); err != nil {
			t.Fatal(err)
		}
	}
	a.Waits(abi.SYS_read, &wa)
	b.Waits(abi.SYS_read, &wb)
	if err := kill(b.Lid, abi.SIGUSR2); err != nil || wa.ended.Load() != 0 || wb.ended.Load() != 1 {
		t.Errorf("%v: %d, %d", err, wa.ended.Load(), wb.ended.Load())
	}
	if err := kill(b.Lid, abi.SIGUSR2); err != nil || wb.ended.Load() != 1 {
		t.Errorf("a wait was ended twice")
	}
	p.Signal(abi.Siginfo{Signo: abi.SIGUSR2}) // b's wait is over already
	if wa.ended.Load() != 1 {
		t.Error("the other's wait goes on")
	}
	a.Woke()
	b.Woke()
	a.End()
	b.End()
	for lid, want := range map[int32]error{0: abi.ESRCH, -1: abi.ESRCH, 9999: abi.ESRCH} {
		if err := kill(lid, abi.SIGUSR1); !errors.Is(err, want) {
			t.Errorf("lid %d: %v", lid, err)
		}
	}
	if err := kill(a.Lid, abi.NSIG); !errors.Is(err, abi.EINVAL) {
		t.Error(err)
	}
	for _, l := range []*Lwp{a, b} {
		if err := l.Release(ctx); err != nil {
			t.Error(err)
		}
	}
}

// TestSignalBeforeWait has a signal come while a call is under way that waits
// only later: it does not wait.
func TestSignalBeforeWait(t *testing.T) {
	ctx := context.Background()
	tab := table()
	defer tab.Close(ctx)
	for _, tc := range []struct {
		name  string
		flags uint32
		num   int
		want  int32
	}{
		{"read", 0, abi.SYS_read, 1},
		{"read, SA_RESTART", abi.SA_RESTART, abi.SYS_read, 0},
		{"poll, SA_RESTART", abi.SA_RESTART, abi.SYS_poll, 1},
	} {
		p, _ := tab.New("p", abi.Root)
		catch(p, abi.SIGUSR1, tc.flags)
		l, _ := p.Enter()
		p.Signal(abi.Siginfo{Signo: abi.SIGUSR1})
		var w wait
		l.Waits(tc.num, &w)
		if got := w.ended.Load(); got != tc.want {
			t.Errorf("%s: ended %d times", tc.name, got)
		}
		l.Woke()
		l.Leave()
		// Calls that begin later have nothing to do with it.
		l, _ = p.Enter()
		w.ended.Store(0)
		l.Waits(tc.num, &w)
		if w.ended.Load() != 0 {
			t.Errorf("%s: a later call was interrupted", tc.name)
		}
		l.Woke()
		l.Leave()
	}
}

// TestSigtimedwaitBoth hands a signal to one of two waiters, and loses none when
// the time is over at the same moment.
func TestSigtimedwaitBoth(t *testing.T) {
	ctx := context.Background()
	tab := table()
	defer tab.Close(ctx)
	p, _ := tab.New("p", abi.Root)
	set := abi.SigsetOf(abi.SIGUSR1)
	l, _ := p.Enter()
	defer l.Leave()
	if _, err := l.Sigprocmask(abi.SIG_BLOCK, &set); err != nil {
		t.Fatal(err)
	}
	p.SetSigmodel(SigRaise)
	took := make(chan int, 1)
	stop := make(chan struct{})
	go func() {
		l, _ := p.Enter()
		defer l.Leave()
		n := 0
		for {
			if si, err := l.Sigtimedwait(ctx, set, 10*time.Microsecond); err == nil && si.Signo == abi.SIGUSR1 {
				n++
			}
			select {
			case <-stop:
				took <- n
				return
			default:
			}
		}
	}()
	sent := 0
	for range 2000 {
		if l.Sigpending() == 0 {
			p.Signal(abi.Siginfo{Signo: abi.SIGUSR1})
			sent++
		}
	}
	close(stop)
	n := <-took
	if l.Sigpending() != 0 {
		n++
	}
	if n != sent || sent == 0 {
		t.Errorf("%d sent, %d taken", sent, n)
	}
}

// TestSigqueueBound fills the queue of a realtime signal.
func TestSigqueueBound(t *testing.T) {
	ctx := context.Background()
	tab := table()
	defer tab.Close(ctx)
	p, _ := tab.New("p", abi.Root)
	l, _ := p.Enter()
	defer l.Leave()
	all := ^abi.Sigset(0)
	if _, err := l.Sigprocmask(abi.SIG_SETMASK, &all); err != nil {
		t.Fatal(err)
	}
	catch(p, abi.SIGRTMIN, 0)
	for range 10 * MaxSigqueue {
		p.Signal(abi.Siginfo{Signo: abi.SIGRTMIN})
	}
	n := 0
	for {
		if _, err := l.Sigtimedwait(ctx, all, 0); err != nil {
			break
		}
		n++
	}
	if n != MaxSigqueue {
		t.Errorf("%d were kept", n)
	}
}

// TestForkSignals has a child inherit dispositions and mask, and nothing that is
// pending.
func TestForkSignals(t *testing.T) {
	ctx := context.Background()
	tab := table()
	defer tab.Close(ctx)
	p, _ := tab.New("p", abi.Root)
	catch(p, abi.SIGUSR1, abi.SA_RESTART)
	l, _ := p.Enter()
	defer l.Leave()
	set := abi.SigsetOf(abi.SIGUSR1, abi.SIGINT)
	if _, err := l.Sigprocmask(abi.SIG_BLOCK, &set); err != nil {
		t.Fatal(err)
	}
	p.Signal(abi.Siginfo{Signo: abi.SIGUSR1})
	c, err := p.Rfork(RFCFDG)
	if err != nil {
		t.Fatal(err)
	}
	x, _ := c.Enter()
	defer x.Leave()
	mask, _ := x.Sigprocmask(0, nil)
	act, _ := c.Sigaction(abi.SIGUSR1, nil)
	if mask != set || act.Flags != abi.SA_RESTART || !c.Catches() || x.Sigpending() != 0 || l.Sigpending() == 0 {
		t.Errorf("mask %v, %+v, pending %v", mask.Signals(), act, x.Sigpending().Signals())
	}
}

// TestSignalCosts holds what a call pays for signals that never come.
func TestSignalCosts(t *testing.T) {
	tab := table()
	defer tab.Close(context.Background())
	p, _ := tab.New("p", abi.Root)
	var w wait
	l, _ := p.Enter()
	l.Waits(abi.SYS_read, &w)
	l.Woke()
	l.Leave()
	if n := testing.AllocsPerRun(1000, func() {
		l, _ := p.Enter()
		l.Waits(abi.SYS_read, &w)
		l.Woke()
		l.Leave()
	}); n >= 1 {
		t.Errorf("%v allocations a call that waits", n)
	}
}
