package sysproxy

import (
	"context"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// sigProc is a fakeProc that has signals.
type sigProc struct {
	*fakeProc
	tell chan func(abi.Siginfo, bool)
}

func (p *sigProc) Attend(fn func(abi.Siginfo, bool)) { p.tell <- fn }

// TestSignals tells clients of signals: each at most once if it does not read,
// realtime signals a bounded number of times, the end last; then the connection
// ends.
func TestSignals(t *testing.T) {
	tells := make(chan func(abi.Siginfo, bool), 4)
	k := start(t, func(o *Options) {
		mk := o.NewProc
		o.NewProc = func(ctx context.Context, p Peer) (Proc, error) {
			f, err := mk(ctx, p)
			return &sigProc{f.(*fakeProc), tells}, err
		}
	})
	r := k.dial().hello()
	tell := within(t, tells)
	tell(abi.Siginfo{Signo: abi.SIGUSR1, Pid: 7, Uid: 8, Value: -9}, false)
	next := func() (m wire.SignalMsg, err error) {
		h, args, _, err := r.reply()
		if err != nil {
			return m, err
		}
		if h.Op != wire.OpSignal || h.Flags != wire.FlagOneway {
			t.Fatalf("%v with flags %#x", h.Op, h.Flags)
		}
		return m, m.Parse(args)
	}
	if m, err := next(); err != nil || m != (wire.SignalMsg{Signo: abi.SIGUSR1, Pid: 7, Uid: 8, Value: -9}) {
		t.Fatalf("%+v, %v", m, err)
	}
	for range 20000 { // far more than the socket holds
		tell(abi.Siginfo{Signo: abi.SIGUSR2}, false)
		tell(abi.Siginfo{Signo: abi.SIGRTMIN}, false)
	}
	tell(abi.Siginfo{Signo: abi.NSIG}, false) // no signal
	tell(abi.Siginfo{Signo: abi.SIGTERM}, true)
	n := 0
	for {
		m, err := next()
		if err != nil {
			t.Fatalf("after %d signals: %v", n, err)
		}
		if m.Ended {
			if m.Signo != abi.SIGTERM {
				t.Errorf("ended by %d", m.Signo)
			}
			break
		}
		if m.Signo != abi.SIGUSR2 && m.Signo != abi.SIGRTMIN {
			t.Fatalf("%+v", m)
		}
		n++
	}
	if n == 0 {
		t.Error("none came")
	}
	if _, err := next(); err == nil {
		t.Error("the connection goes on")
	}
	within(t, k.ended)
	tell(abi.Siginfo{Signo: abi.SIGUSR1}, false) // to nobody
	// Others are served.
	r = k.dial().hello()
	within(t, tells)
	r.syscall(abi.SYS_getpid, [6]uint64{}, nil, 0)
	if h, _, _, err := r.reply(); err != nil || h.Errno != 0 {
		t.Errorf("errno %d, %v", h.Errno, err)
	}
}

// TestSignalsUnread has a client that takes nothing: telling it never waits, and
// it ends alone.
func TestSignalsUnread(t *testing.T) {
	tells := make(chan func(abi.Siginfo, bool), 4)
	k := start(t, func(o *Options) {
		mk := o.NewProc
		o.NewProc = func(ctx context.Context, p Peer) (Proc, error) {
			f, err := mk(ctx, p)
			return &sigProc{f.(*fakeProc), tells}, err
		}
		o.IOTimeout = 100e6
	})
	k.dial().hello() // and never reads again
	tell := within(t, tells)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				tell(abi.Siginfo{Signo: abi.SIGRTMIN}, false)
			}
		}
	}()
	within(t, k.ended) // for not reading
	close(stop)
	within(t, done)
}
