package rumpclient_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestExec hands a process from one program to another.
func TestExec(t *testing.T) {
	bothKinds(t, func(t *testing.T, k *kernel.Kernel, dial func() *rumpclient.Client) {
		ctx := soon(t)
		for _, leaves := range []bool{true, false} { // the first program, before the second comes
			c, other := dial(), dial()
			pid := pidOf(t, c)
			fd, err := c.Open(ctx, "/", abi.O_RDONLY, 0)
			must(t, err)
			gone, err := c.Open(ctx, "/", abi.O_RDONLY|abi.O_CLOEXEC, 0)
			must(t, err)
			must(t, c.MkdirAll(ctx, "/d", 0o755))
			must(t, c.Chdir(ctx, "/d"))
			must(t, c.Notify(ctx, make(chan abi.Siginfo, 1), abi.SIGUSR1))
			must(t, c.IgnoreSignals(ctx, abi.SIGUSR2))
			kq, err := other.Kqueue(ctx)
			must(t, err)
			_, err = other.Kevent(ctx, kq, []abi.Kevent{{Ident: uint64(pid), Filter: abi.EVFILT_PROC, Flags: abi.EV_ADD, Fflags: abi.NOTE_EXEC | abi.NOTE_EXIT}}, nil, 0)
			must(t, err)

			for _, name := range []string{"", strings.Repeat("x", 32), "a\nb"} {
				if _, err := c.Exec(ctx, name); !errors.Is(err, abi.EINVAL) {
					t.Errorf("%q: %v", name, err)
				}
			}
			cookie, err := c.Exec(ctx, "second")
			must(t, err)
			if _, err := c.Exec(ctx, "third"); !errors.Is(err, abi.EBUSY) {
				t.Errorf("a second cookie: %v", err)
			}
			if _, err := c.Attach(ctx, cookie); !errors.Is(err, abi.EPERM) {
				t.Errorf("its own: %v", err)
			}
			if got := pidOf(t, c); got != pid { // until somebody comes
				t.Errorf("process %d", got)
			}
			if leaves {
				must(t, c.Exit())
			}
			x := dial()
			bad := cookie
			bad[3] ^= 1
			if _, err := x.Attach(ctx, bad); !errors.Is(err, abi.EPERM) {
				t.Errorf("another cookie: %v", err)
			}
			text, err := rumpclient.ParseCookie(cookie.String())
			must(t, err)
			if got, err := x.Attach(ctx, text); got != pid || err != nil {
				t.Fatalf("process %d, %v", got, err)
			}
			if _, err := dial().Attach(ctx, cookie); !errors.Is(err, abi.EPERM) {
				t.Errorf("twice: %v", err)
			}
			if !leaves {
				if _, err := c.Getpid(ctx); !errors.Is(err, abi.ESRCH) {
					t.Errorf("who gave it away: %v", err)
				}
				must(t, c.Exit())
			}
			if got := pidOf(t, x); got != pid {
				t.Errorf("process %d", got)
			}
			if _, err := x.Fstat(ctx, fd); err != nil {
				t.Errorf("a descriptor: %v", err)
			}
			if _, err := x.Fstat(ctx, gone); !errors.Is(err, abi.EBADF) {
				t.Errorf("one with FD_CLOEXEC: %v", err)
			}
			if cwd, err := x.Getcwd(ctx); cwd != "/d" || err != nil {
				t.Errorf("%q, %v", cwd, err)
			}
			if a, err := x.Sigaction(ctx, abi.SIGUSR1, nil); a.Handler != abi.SIG_DFL || err != nil {
				t.Errorf("a handler: %+v, %v", a, err)
			}
			if a, err := x.Sigaction(ctx, abi.SIGUSR2, nil); a.Handler != abi.SIG_IGN || err != nil {
				t.Errorf("what was ignored: %+v, %v", a, err)
			}
			p, err := k.Procs.Find(int32(pid))
			if err != nil || p.Name() != "second" {
				t.Errorf("%v", err)
			}
			evs := make([]abi.Kevent, 1)
			if n, err := other.Kevent(ctx, kq, nil, evs, -1); n != 1 || err != nil || evs[0].Fflags != abi.NOTE_EXEC {
				t.Errorf("%v, %v", evs, err)
			}
			ch := make(chan abi.Siginfo, 1)
			must(t, x.Notify(ctx, ch, abi.SIGUSR1))
			must(t, other.Kill(ctx, pid, abi.SIGUSR1))
			got(t, ch, abi.SIGUSR1)
			must(t, x.Exit())
			for other.Kill(ctx, pid, 0) == nil {
				runtime.Gosched()
			}
		}
		// A process that shares its descriptors; text that is no cookie.
		c := dial()
		_, _, err := c.Rfork(ctx, 0)
		must(t, err)
		if _, err := c.Exec(ctx, "x"); !errors.Is(err, abi.EBUSY) {
			t.Errorf("shared descriptors: %v", err)
		}
		for _, s := range []string{"", "00", strings.Repeat("x", 32), strings.Repeat("0", 34)} {
			if _, err := rumpclient.ParseCookie(s); !errors.Is(err, abi.EINVAL) {
				t.Errorf("%q: %v", s, err)
			}
		}
	})
}

// TestExecOrphans has programs go without a successor, more than may: the others
// end at once.
func TestExecOrphans(t *testing.T) {
	ctx := soon(t)
	k := boot(t)
	n := 0
	for range 70 {
		c, err := k.Client("test")
		must(t, err)
		_, err = c.Exec(ctx, "next")
		must(t, err)
		must(t, c.Exit())
	}
	k.Procs.Each(func(*proc.Proc) { n++ })
	if n != 64+1 {
		t.Errorf("%d processes", n)
	}
}
