package rumpclient_test

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/plugins/vfs/tmpfs"
)

// inState waits until a process is in a state of ps.
func inState(t *testing.T, k *kernel.Kernel, pid int, state string) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; runtime.Gosched() {
		p, err := k.Procs.Find(int32(pid))
		if err == nil && p.State() == state {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d is not in state %s: %v", pid, state, err)
		}
	}
}

// got takes a signal from a channel.
func got(t *testing.T, ch <-chan abi.Siginfo, sig int) abi.Siginfo {
	t.Helper()
	select {
	case si := <-ch:
		if si.Signo != sig {
			t.Fatalf("%v, not %s", si, abi.SignalName(sig))
		}
		return si
	case <-time.After(60 * time.Second):
		t.Fatalf("no %s", abi.SignalName(sig))
	}
	return abi.Siginfo{}
}

func pidOf(t *testing.T, c *rumpclient.Client) int {
	t.Helper()
	pid, err := c.Getpid(context.Background())
	must(t, err)
	return pid
}

// TestSigmodels is t_signals: what the models of rump_boot_setsigmodel do with a
// signal for which nothing is set.
func TestSigmodels(t *testing.T) {
	ctx := soon(t)
	with := func(m proc.Sigmodel) (*kernel.Kernel, *rumpclient.Client, int) {
		k := kernel.New(kernel.Options{Modules: []modapi.Module{tmpfs.New()}}) // a network would outlive the panic
		k.SetSigmodel(m)
		must(t, k.Boot(ctx))
		t.Cleanup(func() { k.Reboot(context.Background(), 0) })
		c, err := k.Client("test")
		must(t, err)
		t.Cleanup(func() { c.Exit() })
		return k, c, pidOf(t, c)
	}
	t.Run("raise", func(t *testing.T) {
		k, c, pid := with(proc.SigRaise)
		must(t, c.Kill(ctx, pid, abi.SIGCHLD)) // ignored by default
		_, err := c.Getpid(ctx)
		must(t, err)
		if err := c.Kill(ctx, pid, abi.SIGUSR2); err != nil && !errors.Is(err, abi.ESRCH) {
			t.Fatal(err)
		}
		if _, err := c.Getpid(ctx); !errors.Is(err, abi.ESRCH) || !strings.Contains(err.Error(), "SIGUSR2") {
			t.Errorf("%v", err)
		}
		if c.EndSignal() != abi.SIGUSR2 { // embedded: told before the end
			t.Errorf("ended by %d", c.EndSignal())
		}
		if _, err := k.Client("another"); err != nil {
			t.Error(err)
		}
	})
	t.Run("ignore", func(t *testing.T) {
		_, c, pid := with(proc.SigIgnore)
		for sig := 1; sig < abi.NSIG; sig++ {
			if sig != abi.SIGKILL {
				must(t, c.Kill(ctx, pid, sig))
			}
		}
		if set, err := c.Sigpending(ctx); set != 0 || err != nil {
			t.Errorf("pending %v, %v", set.Signals(), err)
		}
		if err := c.Kill(ctx, pid, abi.SIGKILL); err != nil && !errors.Is(err, abi.ESRCH) {
			t.Error(err)
		}
		if _, err := c.Getpid(ctx); !errors.Is(err, abi.ESRCH) {
			t.Errorf("after SIGKILL: %v", err)
		}
	})
	t.Run("record", func(t *testing.T) {
		_, c, pid := with(proc.SigRecord)
		must(t, c.IgnoreSignals(ctx, abi.SIGINT))
		for _, sig := range []int{abi.SIGUSR1, abi.SIGTERM, abi.SIGINT, abi.SIGCHLD} {
			must(t, c.Kill(ctx, pid, sig))
		}
		if set, err := c.Sigpending(ctx); set != abi.SigsetOf(abi.SIGUSR1, abi.SIGTERM, abi.SIGCHLD) || err != nil {
			t.Errorf("recorded %v, %v", set.Signals(), err)
		}
		if si, err := c.Sigtimedwait(ctx, ^abi.Sigset(0), 0); si.Signo != abi.SIGTERM || err != nil {
			t.Errorf("%v, %v", si, err)
		}
	})
	t.Run("panic", func(t *testing.T) {
		k, c, pid := with(proc.SigPanic)
		must(t, c.Kill(ctx, pid, abi.SIGPIPE))
		must(t, c.Kill(ctx, pid, abi.SIGSYS))
		if s := k.PanicString(); s != "" {
			t.Errorf("panic: %s", s)
		}
		c.Kill(ctx, pid, abi.SIGCONT)
		<-k.Done()
		if s := k.PanicString(); s != "unhandled signal SIGCONT" {
			t.Errorf("panic: %q", s)
		}
	})
}

// TestKill is who gets a signal, and who may send one.
func TestKill(t *testing.T) {
	bothKinds(t, func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client) {
		ctx := soon(t)
		a, b, c := dial(), dial(), dial()
		chans := map[*rumpclient.Client]chan abi.Siginfo{}
		for _, x := range []*rumpclient.Client{a, b, c} {
			chans[x] = make(chan abi.Siginfo, 10)
			must(t, x.Notify(ctx, chans[x], abi.SIGUSR1, abi.SIGUSR2))
		}
		pa, pb, pc := pidOf(t, a), pidOf(t, b), pidOf(t, c)
		if _, err := b.Setsid(ctx); err != nil {
			t.Fatal(err)
		}
		must(t, a.Kill(ctx, pb, abi.SIGUSR1))
		if si := got(t, chans[b], abi.SIGUSR1); int(si.Pid) != pa || si.Uid != 0 || si.Code != abi.SI_USER {
			t.Errorf("%+v", si)
		}
		must(t, c.Kill(ctx, -pb, abi.SIGUSR2)) // b's group is b
		got(t, chans[b], abi.SIGUSR2)
		must(t, c.Kill(ctx, 0, abi.SIGUSR1)) // a and c
		got(t, chans[a], abi.SIGUSR1)
		got(t, chans[c], abi.SIGUSR1)
		must(t, c.Kill(ctx, -1, abi.SIGUSR2)) // all but c
		got(t, chans[a], abi.SIGUSR2)
		got(t, chans[b], abi.SIGUSR2)
		must(t, a.Sigqueue(ctx, pc, abi.SIGUSR1, -77))
		if si := got(t, chans[c], abi.SIGUSR1); si.Value != -77 || si.Code != abi.SI_QUEUE {
			t.Errorf("%+v", si)
		}
		for x, ch := range chans {
			if len(ch) > 0 {
				t.Errorf("process %d got %v", pidOf(t, x), <-ch)
			}
		}
		must(t, a.Kill(ctx, pb, 0))
		for _, tc := range []struct {
			pid, sig int
			want     error
		}{{pb, -1, abi.EINVAL}, {pb, abi.NSIG, abi.EINVAL}, {99999, 0, abi.ESRCH}, {-99999, abi.SIGHUP, abi.ESRCH}, {1, 0, abi.ESRCH}, {1 << 40, 0, abi.ESRCH}} {
			if err := a.Kill(ctx, tc.pid, tc.sig); !errors.Is(err, tc.want) {
				t.Errorf("kill(%d, %d): %v", tc.pid, tc.sig, err)
			}
		}
		user, err := k.NewProc("user", abi.NewCred(1000, 1000))
		must(t, err)
		u := rumpclient.New(user)
		defer u.Exit()
		for _, pid := range []int{pb, -pb, -1} {
			want := abi.EPERM
			if pid < 0 {
				want = abi.ESRCH // those that may not be signalled are passed over
			}
			if err := u.Kill(ctx, pid, 0); !errors.Is(err, want) {
				t.Errorf("uid 1000: kill %d: %v", pid, err)
			}
		}
		must(t, u.Kill(ctx, pa, abi.SIGCONT)) // of the same session
		must(t, u.Kill(ctx, pidOf(t, u), 0))
		must(t, a.Kill(ctx, pidOf(t, u), 0))
	})
}

// TestSigpipe writes to what nobody reads.
func TestSigpipe(t *testing.T) {
	bothKinds(t, func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client) {
		ctx := soon(t)
		c := dial()
		ch := make(chan abi.Siginfo, 10)
		broken := func(flags int) int {
			r, w, err := c.Pipe2(ctx, flags)
			must(t, err)
			must(t, c.Close(ctx, r))
			return w
		}
		socket := func() int {
			s, peer, err := c.Socketpair(ctx, abi.AF_LOCAL, abi.SOCK_STREAM, 0)
			must(t, err)
			must(t, c.Close(ctx, peer))
			return s
		}
		// A client that has said nothing of signals lives on.
		if _, err := c.Write(ctx, broken(0), []byte("x")); !errors.Is(err, abi.EPIPE) {
			t.Errorf("%v", err)
		}
		must(t, c.Notify(ctx, ch, abi.SIGPIPE))
		quiet := socket()
		must(t, c.SetsockoptInt(ctx, quiet, abi.SOL_SOCKET, abi.SO_NOSIGPIPE, 1))
		fset := broken(0)
		_, err := c.Fcntl(ctx, fset, abi.F_SETNOSIGPIPE, 1)
		must(t, err)
		if on, err := c.Fcntl(ctx, fset, abi.F_GETNOSIGPIPE, 0); on != 1 || err != nil {
			t.Errorf("F_GETNOSIGPIPE: %d, %v", on, err)
		}
		var none abi.Sockaddr
		for _, tc := range []struct {
			name string
			send func() (int, error)
			want bool
		}{
			{"O_NOSIGPIPE", func() (int, error) { return c.Write(ctx, broken(abi.O_NOSIGPIPE), []byte("x")) }, false},
			{"F_SETNOSIGPIPE", func() (int, error) { return c.Write(ctx, fset, []byte("x")) }, false},
			{"MSG_NOSIGNAL", func() (int, error) { return c.Sendto(ctx, socket(), []byte("x"), abi.MSG_NOSIGNAL, none) }, false},
			{"SO_NOSIGPIPE", func() (int, error) { return c.Write(ctx, quiet, []byte("x")) }, false},
			{"pipe", func() (int, error) { return c.Write(ctx, broken(0), []byte("x")) }, true},
			{"socket, write", func() (int, error) { return c.Write(ctx, socket(), []byte("x")) }, true},
			{"socket, send", func() (int, error) { return c.Sendto(ctx, socket(), []byte("x"), 0, none) }, true},
			{"socket, sendmsg", func() (int, error) { return c.Sendmsg(ctx, socket(), []byte("x"), nil, none, 0) }, true},
		} {
			if _, err := tc.send(); !errors.Is(err, abi.EPIPE) {
				t.Errorf("%s: %v", tc.name, err)
			}
			if tc.want { // and none came before it
				got(t, ch, abi.SIGPIPE)
			}
		}
		if len(ch) > 0 {
			t.Errorf("%v", <-ch)
		}
		// SIGXFSZ goes with RLIMIT_FSIZE.
		must(t, c.Notify(ctx, ch, abi.SIGXFSZ))
		must(t, c.Setrlimit(ctx, abi.RLIMIT_FSIZE, rumpclient.Rlimit{Cur: 10, Max: 100}))
		fd, err := c.Open(ctx, "/big", abi.O_CREAT|abi.O_RDWR, 0o600)
		must(t, err)
		if _, err := c.Write(ctx, fd, make([]byte, 11)); !errors.Is(err, abi.EFBIG) {
			t.Errorf("%v", err)
		}
		got(t, ch, abi.SIGXFSZ)
	})
}

// TestSignalEnds has processes ended: their calls end, their descriptors are
// closed, their clients are told, and nobody else notices.
func TestSignalEnds(t *testing.T) {
	bothKinds(t, func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client) {
		k.SetSigmodel(proc.SigRaise)
		ctx := soon(t)
		other := dial()
		for _, tc := range []struct {
			name string
			sig  int
			do   func(c *rumpclient.Client, pid int) error
		}{
			{"kill -TERM", abi.SIGTERM, func(_ *rumpclient.Client, pid int) error { return other.Kill(ctx, pid, abi.SIGTERM) }},
			{"kill -KILL", abi.SIGKILL, func(_ *rumpclient.Client, pid int) error { return other.Kill(ctx, pid, abi.SIGKILL) }},
			{"SIGPIPE", abi.SIGPIPE, func(c *rumpclient.Client, pid int) error {
				must(t, c.ResetSignals(ctx, abi.SIGPIPE))
				r, w, err := c.Pipe2(ctx, 0)
				must(t, err)
				must(t, c.Close(ctx, r))
				if _, err := c.Write(ctx, w, []byte("x")); !errors.Is(err, abi.EPIPE) && !errors.Is(err, abi.ESRCH) {
					return err
				}
				return nil
			}},
		} {
			t.Run(tc.name, func(t *testing.T) {
				c := dial()
				pid := pidOf(t, c)
				must(t, c.Mkfifo(ctx, "/fifo", 0o600))
				defer other.Unlink(ctx, "/fifo")
				reader, err := other.Open(ctx, "/fifo", abi.O_RDONLY|abi.O_NONBLOCK, 0)
				must(t, err)
				defer other.Close(ctx, reader)
				_, err = c.Open(ctx, "/fifo", abi.O_WRONLY, 0)
				must(t, err)
				r, _, err := c.Pipe2(ctx, 0)
				must(t, err)
				ended := make(chan error, 1)
				go func() {
					_, err := c.Read(ctx, r, make([]byte, 1))
					ended <- err
				}()
				inState(t, k, pid, "S")
				must(t, tc.do(c, pid))
				if err := <-ended; !errors.Is(err, abi.ESRCH) || !strings.Contains(err.Error(), abi.SignalName(tc.sig)) {
					t.Errorf("the call that waited: %v", err)
				}
				if _, err := c.Getpid(ctx); !errors.Is(err, abi.ESRCH) || !strings.Contains(err.Error(), abi.SignalName(tc.sig)) {
					t.Errorf("and then: %v", err)
				}
				for c.EndSignal() == 0 && ctx.Err() == nil { // it may come behind the answer
					runtime.Gosched()
				}
				if n := c.EndSignal(); n != tc.sig {
					t.Errorf("told that signal %d ended it", n)
				}
				fds := []abi.Pollfd{{Fd: int32(reader), Events: abi.POLLIN}}
				if _, err := other.Poll(ctx, fds, 10000); err != nil || fds[0].Revents&abi.POLLHUP == 0 {
					t.Errorf("its descriptors: %+v, %v", fds, err)
				}
				for other.Kill(ctx, pid, 0) == nil {
					runtime.Gosched()
				}
			})
		}
	})
}

// TestSignalInterrupts has signals end waits, or not.
func TestSignalInterrupts(t *testing.T) {
	bothKinds(t, func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client) {
		ctx := soon(t)
		c, other := dial(), dial()
		pid := pidOf(t, c)
		r, w, err := c.Pipe2(ctx, 0)
		must(t, err)
		kq, err := c.Kqueue(ctx)
		must(t, err)
		read := func() error { _, err := c.Read(ctx, r, make([]byte, 1)); return err }
		poll := func() error {
			_, err := c.Poll(ctx, []abi.Pollfd{{Fd: int32(r), Events: abi.POLLIN}}, -1)
			return err
		}
		kevent := func() error {
			_, err := c.Kevent(ctx, kq, nil, make([]abi.Kevent, 1), -1)
			return err
		}
		for _, tc := range []struct {
			name string
			call func() error
			act  abi.Sigaction
			intr bool
		}{
			{"read", read, abi.Sigaction{Handler: 5}, true},
			{"read, SA_RESTART", read, abi.Sigaction{Handler: 5, Flags: abi.SA_RESTART}, false},
			{"read, ignored", read, abi.Sigaction{Handler: abi.SIG_IGN}, false},
			{"poll", poll, abi.Sigaction{Handler: 5}, true},
			{"poll, SA_RESTART", poll, abi.Sigaction{Handler: 5, Flags: abi.SA_RESTART}, true},
			{"kevent, SA_RESTART", kevent, abi.Sigaction{Handler: 5, Flags: abi.SA_RESTART}, true},
		} {
			t.Run(tc.name, func(t *testing.T) {
				_, err := c.Sigaction(ctx, abi.SIGUSR1, &tc.act)
				must(t, err)
				done := make(chan error, 1)
				go func() { done <- tc.call() }()
				inState(t, k, pid, "S")
				must(t, other.Kill(ctx, pid, abi.SIGUSR1))
				if tc.intr {
					if err := <-done; !errors.Is(err, abi.EINTR) {
						t.Errorf("%v", err)
					}
					return
				}
				_, err = c.Write(ctx, w, []byte("x"))
				must(t, err)
				must(t, <-done)
			})
		}
		// One call is interrupted, not all.
		_, err = c.Sigaction(ctx, abi.SIGUSR1, &abi.Sigaction{Handler: 5})
		must(t, err)
		done := make(chan error, 2)
		for range 2 {
			go func() { done <- read() }()
		}
		p, err := k.Procs.Find(int32(pid))
		must(t, err)
		for len(p.Waiting()) < 2 {
			runtime.Gosched()
		}
		must(t, other.Kill(ctx, pid, abi.SIGUSR1))
		if err := <-done; !errors.Is(err, abi.EINTR) {
			t.Errorf("%v", err)
		}
		_, err = c.Write(ctx, w, []byte("x"))
		must(t, err)
		must(t, <-done)
	})
}

// TestSigmask is sigprocmask, sigpending, sigsuspend, sigtimedwait and pselect.
func TestSigmask(t *testing.T) {
	bothKinds(t, func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client) {
		ctx := soon(t)
		c, other := dial(), dial()
		pid := pidOf(t, c)
		ch := make(chan abi.Siginfo, 10)
		must(t, c.Notify(ctx, ch, abi.SIGUSR1, abi.SIGUSR2, abi.SIGRTMIN))
		mask := abi.SigsetOf(abi.SIGUSR1, abi.SIGRTMIN, abi.SIGKILL)
		if old, err := c.Sigprocmask(ctx, abi.SIG_BLOCK, &mask); old != 0 || err != nil {
			t.Errorf("%v, %v", old.Signals(), err)
		}
		if old, err := c.Sigprocmask(ctx, 0, nil); old != abi.SigsetOf(abi.SIGUSR1, abi.SIGRTMIN) || err != nil {
			t.Errorf("%v, %v", old.Signals(), err)
		}
		if _, err := c.Sigprocmask(ctx, 4, &mask); !errors.Is(err, abi.EINVAL) {
			t.Errorf("how 4: %v", err)
		}
		for i := range 3 {
			must(t, other.Kill(ctx, pid, abi.SIGUSR1))
			must(t, other.Sigqueue(ctx, pid, abi.SIGRTMIN, int64(i)))
		}
		must(t, other.Kill(ctx, pid, abi.SIGUSR2))
		got(t, ch, abi.SIGUSR2)
		if set, err := c.Sigpending(ctx); set != abi.SigsetOf(abi.SIGUSR1, abi.SIGRTMIN) || err != nil {
			t.Errorf("pending %v, %v", set.Signals(), err)
		}
		// The realtime signal is pending three times, the other once.
		for i := range 3 {
			if si, err := c.Sigtimedwait(ctx, abi.SigsetOf(abi.SIGRTMIN), 0); err != nil || si.Value != int64(i) {
				t.Errorf("%+v, %v", si, err)
			}
		}
		if _, err := c.Sigtimedwait(ctx, abi.SigsetOf(abi.SIGRTMIN), time.Millisecond); !errors.Is(err, abi.EAGAIN) {
			t.Errorf("%v", err)
		}
		// sigsuspend lets it through.
		if err := c.Sigsuspend(ctx, 0); !errors.Is(err, abi.EINTR) {
			t.Errorf("sigsuspend: %v", err)
		}
		got(t, ch, abi.SIGUSR1)
		// And waits for it.
		done := make(chan error, 1)
		go func() { done <- c.Sigsuspend(ctx, abi.SigsetOf(abi.SIGUSR2)) }()
		inState(t, k, pid, "S")
		must(t, other.Kill(ctx, pid, abi.SIGUSR1))
		if err := <-done; !errors.Is(err, abi.EINTR) {
			t.Errorf("sigsuspend: %v", err)
		}
		got(t, ch, abi.SIGUSR1)
		// sigwaitinfo takes what would be delivered.
		go func() {
			si, err := c.Sigtimedwait(ctx, abi.SigsetOf(abi.SIGUSR2), -1)
			if err == nil && int(si.Pid) != pidOf(t, other) {
				err = errors.New(si.String())
			}
			done <- err
		}()
		inState(t, k, pid, "S")
		for p, _ := k.Procs.Find(int32(pid)); p.Sigwaiters() == 0; {
			runtime.Gosched()
		}
		must(t, other.Kill(ctx, pid, abi.SIGUSR2))
		must(t, <-done)
		// pselect and pollts wait with a mask of their own.
		must(t, other.Kill(ctx, pid, abi.SIGUSR1))
		a := abi.Sysargs{A: [6]uint64{0, 0, 1}, In: abi.AppendSigset(nil, 0)}
		if err := c.Syscall(ctx, abi.SYS_pselect, &a); !errors.Is(err, abi.EINTR) {
			t.Errorf("pselect: %v", err)
		}
		got(t, ch, abi.SIGUSR1)
		must(t, other.Kill(ctx, pid, abi.SIGUSR1))
		a = abi.Sysargs{A: [6]uint64{0, 1}, In: abi.AppendSigset(nil, 0)}
		if err := c.Syscall(ctx, abi.SYS_pollts, &a); !errors.Is(err, abi.EINTR) {
			t.Errorf("pollts: %v", err)
		}
		got(t, ch, abi.SIGUSR1)
		// What is ignored is not pending any more.
		must(t, other.Kill(ctx, pid, abi.SIGUSR1))
		must(t, c.IgnoreSignals(ctx, abi.SIGUSR1))
		if set, err := c.Sigpending(ctx); set != 0 || err != nil {
			t.Errorf("pending %v, %v", set.Signals(), err)
		}
		for _, sig := range []int{0, -1, abi.NSIG, abi.SIGKILL, abi.SIGSTOP} {
			if _, err := c.Sigaction(ctx, sig, &abi.Sigaction{Handler: abi.SIG_IGN}); !errors.Is(err, abi.EINVAL) {
				t.Errorf("sigaction %d: %v", sig, err)
			}
			if _, err := c.Sigaction(ctx, sig, &abi.Sigaction{}); !errors.Is(err, abi.EINVAL) { // SIG_DFL neither
				t.Errorf("sigaction %d, SIG_DFL: %v", sig, err)
			}
		}
		// SA_RESETHAND.
		_, err := c.Sigaction(ctx, abi.SIGURG, &abi.Sigaction{Handler: 7, Flags: abi.SA_RESETHAND})
		must(t, err)
		must(t, other.Kill(ctx, pid, abi.SIGURG))
		if old, err := c.Sigaction(ctx, abi.SIGURG, nil); old != (abi.Sigaction{}) || err != nil {
			t.Errorf("%+v, %v", old, err)
		}
	})
}

// TestKqueueSignal counts signals that are sent, also those that are ignored.
func TestKqueueSignal(t *testing.T) {
	bothKinds(t, func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client) {
		ctx := soon(t)
		c, other := dial(), dial()
		pid := pidOf(t, c)
		must(t, c.IgnoreSignals(ctx, abi.SIGUSR1))
		kq, err := c.Kqueue(ctx)
		must(t, err)
		add := []abi.Kevent{{Ident: abi.SIGUSR1, Filter: abi.EVFILT_SIGNAL, Flags: abi.EV_ADD, Udata: 9}}
		_, err = c.Kevent(ctx, kq, add, nil, 0)
		must(t, err)
		for range 3 {
			must(t, other.Kill(ctx, pid, abi.SIGUSR1))
			must(t, other.Kill(ctx, pid, abi.SIGCHLD))
		}
		evs := make([]abi.Kevent, 4)
		n, err := c.Kevent(ctx, kq, nil, evs, 0)
		if n != 1 || err != nil || evs[0].Ident != abi.SIGUSR1 || evs[0].Data != 3 || evs[0].Udata != 9 || evs[0].Filter != abi.EVFILT_SIGNAL {
			t.Errorf("%v, %v", evs[:n], err)
		}
		if n, err := c.Kevent(ctx, kq, nil, evs, 0); n != 0 || err != nil {
			t.Errorf("again: %v, %v", evs[:n], err)
		}
		done := make(chan int64, 1)
		go func() {
			n, err := c.Kevent(ctx, kq, nil, evs, -1)
			if n != 1 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
			done <- evs[0].Data
		}()
		inState(t, k, pid, "S")
		must(t, other.Kill(ctx, pid, abi.SIGUSR1))
		if n := <-done; n != 1 {
			t.Errorf("%d", n)
		}
		add[0].Flags = abi.EV_DELETE
		_, err = c.Kevent(ctx, kq, add, nil, 0)
		must(t, err)
		for _, ident := range []uint64{0, abi.NSIG, 1 << 40} {
			add[0] = abi.Kevent{Ident: ident, Filter: abi.EVFILT_SIGNAL, Flags: abi.EV_ADD}
			if _, err := c.Kevent(ctx, kq, add, nil, 0); !errors.Is(err, abi.EINVAL) {
				t.Errorf("signal %d: %v", ident, err)
			}
		}
	})
}

// TestSignalStop has a process stopped: it makes no system calls until it is
// continued.
func TestSignalStop(t *testing.T) {
	bothKinds(t, func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client) {
		k.SetSigmodel(proc.SigRaise)
		ctx := soon(t)
		c, other := dial(), dial()
		pid := pidOf(t, c)
		must(t, other.Kill(ctx, pid, abi.SIGSTOP))
		inState(t, k, pid, "T")
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		if _, err := c.Getpid(short); !errors.Is(err, abi.ETIMEDOUT) {
			t.Errorf("%v", err)
		}
		done := make(chan error, 1)
		go func() { _, err := c.Getpid(ctx); done <- err }()
		must(t, other.Kill(ctx, pid, abi.SIGCONT))
		must(t, <-done)
		must(t, other.Kill(ctx, pid, abi.SIGTSTP))
		inState(t, k, pid, "T")
		go func() { _, err := c.Getpid(ctx); done <- err }()
		must(t, other.Kill(ctx, pid, abi.SIGKILL))
		if err := <-done; !errors.Is(err, abi.ESRCH) {
			t.Errorf("%v", err)
		}
	})
}

// TestSigio has a pipe and a socket tell their owner that they are ready.
func TestSigio(t *testing.T) {
	bothKinds(t, func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client) {
		ctx := soon(t)
		c := dial()
		pid := pidOf(t, c)
		ch := make(chan abi.Siginfo, 100)
		must(t, c.Notify(ctx, ch, abi.SIGIO))
		r, w, err := c.Pipe2(ctx, 0)
		must(t, err)
		s, peer, err := c.Socketpair(ctx, abi.AF_LOCAL, abi.SOCK_STREAM, 0)
		must(t, err)
		for _, ends := range [][2]int{{r, w}, {s, peer}} {
			must(t, c.Setown(ctx, ends[0], pid))
			if own, err := c.Getown(ctx, ends[0]); own != pid || err != nil {
				t.Errorf("F_GETOWN: %d, %v", own, err)
			}
			must(t, c.SetAsync(ctx, ends[0], true))
			if fl, err := c.Fcntl(ctx, ends[0], abi.F_GETFL, 0); fl&abi.O_ASYNC == 0 || err != nil {
				t.Errorf("F_GETFL: %#x, %v", fl, err)
			}
			_, err := c.Write(ctx, ends[1], []byte("x"))
			must(t, err)
			if si := got(t, ch, abi.SIGIO); si.Code != abi.POLL_IN || si.Value&int64(abi.POLLIN) == 0 {
				t.Errorf("%+v", si)
			}
			fl, err := c.Fcntl(ctx, ends[0], abi.F_GETFL, 0)
			must(t, err)
			_, err = c.Fcntl(ctx, ends[0], abi.F_SETFL, fl&^abi.O_ASYNC)
			must(t, err)
		}
		for len(ch) > 0 {
			<-ch
		}
		_, err = c.Write(ctx, w, []byte("x"))
		must(t, err)
		if err := c.Setown(ctx, r, 99999); !errors.Is(err, abi.ESRCH) {
			t.Errorf("an owner that is not: %v", err)
		}
		fd, err := c.Open(ctx, "/f", abi.O_CREAT|abi.O_RDWR, 0o600)
		must(t, err)
		if _, err := c.Fcntl(ctx, fd, abi.F_SETFL, abi.O_ASYNC); err != nil {
			t.Errorf("O_ASYNC on a regular file: %v", err)
		}
		if err := c.Setown(ctx, fd, pid); !errors.Is(err, abi.EINVAL) {
			t.Errorf("a regular file: %v", err)
		}
		if len(ch) > 0 {
			t.Errorf("%v after O_ASYNC was taken away", <-ch)
		}
	})
}

// TestWait4 has children end, and their parent learn of it.
func TestWait4(t *testing.T) {
	bothKinds(t, func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client) {
		k.SetSigmodel(proc.SigRaise)
		ctx := soon(t)
		c := dial()
		if _, _, err := c.Wait4(ctx, -1, 0); !errors.Is(err, abi.ECHILD) {
			t.Errorf("no children: %v", err)
		}
		ch := make(chan abi.Siginfo, 10)
		must(t, c.Notify(ctx, ch, abi.SIGCHLD))
		child := func() (*rumpclient.Client, int) {
			pid, cookie, err := c.Rfork(ctx, abi.RUMP_RFFDG)
			must(t, err)
			x := dial()
			if got, err := x.Attach(ctx, cookie); got != pid || err != nil {
				t.Fatalf("%d, %v", got, err)
			}
			return x, pid
		}
		x, pid := child()
		if n, _, err := c.Wait4(ctx, pid, abi.WNOHANG); n != 0 || err != nil {
			t.Errorf("it lives: %d, %v", n, err)
		}
		if _, _, err := c.Wait4(ctx, pid+1, 0); !errors.Is(err, abi.ECHILD) {
			t.Errorf("another: %v", err)
		}
		if _, _, err := c.Wait4(ctx, pid, 1<<10); !errors.Is(err, abi.EINVAL) {
			t.Errorf("options: %v", err)
		}
		done := make(chan int, 1)
		go func() {
			n, status, err := c.Wait4(ctx, -1, 0)
			if code, ok := abi.WExited(status); n != pid || err != nil || !ok || code != 3 {
				t.Errorf("%d, %#x, %v", n, status, err)
			}
			done <- n
		}()
		must(t, x.ExitStatus(ctx, 3))
		<-done
		if si := got(t, ch, abi.SIGCHLD); int(si.Pid) != pid || si.Code != abi.CLD_EXITED || si.Value != 3 {
			t.Errorf("%+v", si)
		}
		// Stopped, continued, killed.
		_, pid = child()
		must(t, c.Kill(ctx, pid, abi.SIGSTOP))
		if si := got(t, ch, abi.SIGCHLD); si.Code != abi.CLD_STOPPED {
			t.Errorf("%+v", si)
		}
		n, status, err := c.Wait4(ctx, pid, abi.WUNTRACED)
		if sig, ok := abi.WStopped(status); n != pid || err != nil || !ok || sig != abi.SIGSTOP {
			t.Errorf("%d, %#x, %v", n, status, err)
		}
		must(t, c.Kill(ctx, pid, abi.SIGCONT))
		if si := got(t, ch, abi.SIGCHLD); si.Code != abi.CLD_CONTINUED {
			t.Errorf("%+v", si)
		}
		must(t, c.Kill(ctx, pid, abi.SIGTERM))
		n, status, err = c.Wait4(ctx, 0, 0)
		if sig, ok := abi.WSignaled(status); n != pid || err != nil || !ok || sig != abi.SIGTERM {
			t.Errorf("%d, %#x, %v", n, status, err)
		}
		got(t, ch, abi.SIGCHLD)
		// With SA_NOCLDWAIT nothing is left.
		_, err = c.Sigaction(ctx, abi.SIGCHLD, &abi.Sigaction{Flags: abi.SA_NOCLDWAIT})
		must(t, err)
		x, pid = child()
		must(t, x.Exit())
		if n, _, err := c.Wait4(ctx, pid, 0); !errors.Is(err, abi.ECHILD) {
			t.Errorf("%d, %v", n, err)
		}
	})
}

// TestRaiseSignals has signals of the kernel raised on the host.
func TestRaiseSignals(t *testing.T) {
	ctx := soon(t)
	k := boot(t)
	c, err := rumpclient.Open(ctx, "unix://"+proxy(t, k))
	must(t, err)
	defer c.Exit()
	host := make(chan os.Signal, 10)
	signal.Notify(host, syscall.SIGUSR1, syscall.SIGTERM)
	defer signal.Stop(host)
	must(t, c.RaiseSignals(ctx, abi.SIGUSR1))
	must(t, c.Kill(ctx, pidOf(t, c), abi.SIGUSR1))
	if s := <-host; s != syscall.SIGUSR1 {
		t.Errorf("%v", s)
	}
	if err := c.Kill(ctx, pidOf(t, c), abi.SIGTERM); err != nil && !errors.Is(err, abi.ESRCH) {
		t.Error(err)
	}
	if s := <-host; s != syscall.SIGTERM {
		t.Errorf("%v", s)
	}
	for sig, want := range map[int]syscall.Signal{abi.SIGUSR1: syscall.SIGUSR1, abi.SIGBUS: syscall.SIGBUS, abi.SIGCHLD: syscall.SIGCHLD,
		abi.SIGEMT: 0, abi.SIGINFO: 0, abi.SIGRTMIN + 1: 35, abi.SIGRTMAX: 64} {
		if n := rumpclient.HostSignal(sig); n != want {
			t.Errorf("%s is %d on the host, not %d", abi.SignalName(sig), n, want)
		}
	}
}

// TestSignalFlood sends a client that does not read all the signals there are:
// the kernel keeps few, and the client is fine afterwards.
func TestSignalFlood(t *testing.T) {
	bothKinds(t, func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client) {
		ctx := soon(t)
		c, other := dial(), dial()
		pid := pidOf(t, c)
		ch := make(chan abi.Siginfo, 1)
		must(t, c.Notify(ctx, ch, abi.SIGUSR1, abi.SIGRTMIN))
		for range 2000 {
			must(t, other.Kill(ctx, pid, abi.SIGUSR1))
			must(t, other.Kill(ctx, pid, abi.SIGRTMIN))
		}
		if si := <-ch; si.Signo != abi.SIGUSR1 && si.Signo != abi.SIGRTMIN {
			t.Errorf("%v", si)
		}
		_, err := c.Getpid(ctx)
		must(t, err)
	})
}
