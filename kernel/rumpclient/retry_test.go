package rumpclient_test

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/kernel/sysproxy"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// serveAt serves k at path until stop is called.
func serveAt(t *testing.T, k *kernel.Kernel, path string) (stop func()) {
	t.Helper()
	l, err := net.Listen("unix", path)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- sysproxy.Serve(ctx, l, sysproxy.Options{NewProc: func(_ context.Context, p sysproxy.Peer) (sysproxy.Proc, error) {
			return k.NewProc(p.Name, abi.Root)
		}})
	}()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
}

// socketPath is a path short enough for a socket.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rump")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir + "/s"
}

// TestRetry loses the server and gets it back, with each policy.
func TestRetry(t *testing.T) {
	k := boot(t)
	ctx := soon(t)
	for _, tc := range []struct {
		name  string
		retry rumpclient.Retry
		waits bool // for a server that is not there
		there bool // finds one that is
	}{
		{"never", rumpclient.RetryNever, false, false},
		{"once", rumpclient.RetryOnce, false, true},
		{"a short time", rumpclient.Retry(30 * time.Millisecond), false, true},
		{"a long time", rumpclient.Retry(60 * time.Second), true, true},
		{"forever", rumpclient.RetryForever, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := socketPath(t)
			stop := serveAt(t, k, path)
			c, err := rumpclient.OpenRetry(ctx, path, tc.retry, nil)
			must(t, err)
			defer c.Exit()
			r, _, err := c.Pipe2(ctx, 0)
			must(t, err)
			inflight := make(chan error, 1)
			pid := pidOf(t, c)
			go func() { _, err := c.Read(ctx, r, make([]byte, 1)); inflight <- err }()
			inState(t, k, pid, "S")
			stop()
			if err := <-inflight; !errors.Is(err, rumpclient.ErrGone) && !errors.Is(err, abi.ESRCH) {
				t.Errorf("the call in flight: %v", err)
			}
			short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
			if !tc.waits { // it must not take the time that it has
				short = ctx
			}
			_, err = c.Getpid(short)
			if want := map[bool]error{false: rumpclient.ErrGone, true: abi.ETIMEDOUT}[tc.waits]; !errors.Is(err, want) {
				t.Errorf("nobody is there: %v", err)
			}
			defer serveAt(t, k, path)()
			if now, err := c.Getpid(ctx); tc.there && (err != nil || now == pid) || !tc.there && !errors.Is(err, rumpclient.ErrGone) {
				t.Errorf("somebody is there: process %d, %v", now, err)
			}
		})
	}
	t.Run("back", func(t *testing.T) {
		path := socketPath(t)
		stop := serveAt(t, k, path)
		agains := 0
		c, err := rumpclient.OpenRetry(ctx, path, rumpclient.RetryForever, func(ctx context.Context, c *rumpclient.Client) error {
			agains++
			return c.Chdir(ctx, "/dir")
		})
		must(t, err)
		defer c.Exit()
		must(t, c.MkdirAll(ctx, "/dir", 0o755))
		fd, err := c.Open(ctx, "/dir", abi.O_RDONLY, 0)
		must(t, err)
		ch := make(chan abi.Siginfo, 1)
		must(t, c.Notify(ctx, ch, abi.SIGUSR1))
		stop()
		pids := make(chan int, 2)
		for range 2 { // both wait for one connection
			go func() {
				pid, err := c.Getpid(ctx)
				for errors.Is(err, rumpclient.ErrGone) { // it was under way when the kernel went
					pid, err = c.Getpid(ctx)
				}
				if err != nil {
					t.Error(err)
				}
				pids <- pid
			}()
		}
		stop = serveAt(t, k, path)
		a, b := <-pids, <-pids
		if a != b || a == 0 || agains != 1 {
			t.Errorf("processes %d and %d, told %d times", a, b, agains)
		}
		if err := c.Close(ctx, fd); !errors.Is(err, abi.EBADF) {
			t.Errorf("an old descriptor: %v", err)
		}
		if cwd, err := c.Getcwd(ctx); cwd != "/dir" || err != nil {
			t.Errorf("%q, %v", cwd, err)
		}
		must(t, c.Notify(ctx, ch, abi.SIGUSR1))
		must(t, c.Kill(ctx, a, abi.SIGUSR1))
		got(t, ch, abi.SIGUSR1)
		// One that a signal ended stays ended.
		if err := c.Kill(ctx, a, abi.SIGKILL); err != nil && !errors.Is(err, abi.ESRCH) {
			t.Error(err)
		}
		for c.EndSignal() == 0 && ctx.Err() == nil {
			runtime.Gosched()
		}
		if _, err := c.Getpid(ctx); !errors.Is(err, abi.ESRCH) {
			t.Errorf("after SIGKILL: %v", err)
		}
		stop()
	})
	t.Run("exit", func(t *testing.T) {
		path := socketPath(t)
		stop := serveAt(t, k, path)
		c, err := rumpclient.OpenRetry(ctx, path, rumpclient.RetryForever, nil)
		must(t, err)
		stop()
		done := make(chan error, 1)
		go func() { _, err := c.Getpid(ctx); done <- err }()
		must(t, c.Exit())
		if err := <-done; err == nil || errors.Is(err, abi.ETIMEDOUT) {
			t.Errorf("%v", err)
		}
		if _, err := c.Getpid(ctx); !errors.Is(err, abi.ESRCH) {
			t.Errorf("after Exit: %v", err)
		}
	})
}
