package rumpclient_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// TestRecordLocks has two processes of one kernel, one of them remote.
func TestRecordLocks(t *testing.T) {
	k := boot(t)
	ctx := soon(t)
	a, err := k.Client("a")
	must(t, err)
	defer a.Exit()
	b, err := rumpclient.Open(ctx, "unix://"+proxy(t, k))
	must(t, err)
	defer b.Exit()
	open := func(c *rumpclient.Client, flags int) int {
		t.Helper()
		fd, err := c.Open(ctx, "/f", abi.O_RDWR|abi.O_CREAT|flags, 0o644)
		must(t, err)
		return fd
	}
	busy := func(err error) {
		t.Helper()
		if !errors.Is(err, abi.EAGAIN) {
			t.Errorf("%v, want EAGAIN", err)
		}
	}
	fa, fb := open(a, 0), open(b, 0)
	wr := func(start, n int64) abi.Flock { return abi.Flock{Type: abi.F_WRLCK, Start: start, Len: n} }
	must(t, a.Lock(ctx, fa, abi.F_SETLK, wr(10, 10)))
	busy(b.Lock(ctx, fb, abi.F_SETLK, wr(15, 1)))
	pid, err := a.Getpid(ctx)
	must(t, err)
	if fl, err := b.Getlk(ctx, fb, wr(0, 0)); err != nil || fl != (abi.Flock{Type: abi.F_WRLCK, Start: 10, Len: 10, Pid: int32(pid)}) {
		t.Errorf("%+v %v", fl, err)
	}
	must(t, b.Lock(ctx, fb, abi.F_SETLK, wr(20, 1)))
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if err := b.Lock(short, fb, abi.F_SETLKW, wr(19, 1)); !errors.Is(err, abi.ETIMEDOUT) && !errors.Is(err, abi.EINTR) {
		t.Errorf("gave up: %v", err)
	}
	// Any close of the file by the process takes its locks away.
	done := make(chan error, 1)
	go func() { done <- b.Lock(ctx, fb, abi.F_SETLKW, wr(0, 0)) }()
	must(t, a.Close(ctx, open(a, 0)))
	must(t, <-done)
	busy(a.Lock(ctx, fa, abi.F_SETLK, wr(0, 1)))
	// dup2 closes as well, but not onto the same descriptor.
	_, err = b.Dup2(ctx, fb, fb)
	must(t, err)
	busy(a.Lock(ctx, fa, abi.F_SETLK, wr(0, 1)))
	other, err := b.Open(ctx, "/other", abi.O_RDWR|abi.O_CREAT, 0o644)
	must(t, err)
	again := open(b, 0)
	_, err = b.Dup2(ctx, other, again)
	must(t, err)
	must(t, a.Lock(ctx, fa, abi.F_SETLK, wr(0, 1)))
	// So does the end of the process.
	go func() { done <- b.Lock(ctx, fb, abi.F_SETLKW, wr(0, 1)) }()
	must(t, a.Exit())
	must(t, <-done)
	if err := b.Lock(ctx, 99, abi.F_SETLK, wr(0, 1)); !errors.Is(err, abi.EBADF) {
		t.Errorf("no descriptor: %v", err)
	}
	if _, err := b.Fcntl(ctx, fb, abi.F_GETLK, 0); !errors.Is(err, abi.EINVAL) {
		t.Errorf("no struct flock: %v", err)
	}
	r, _, err := b.Pipe2(ctx, 0)
	must(t, err)
	if err := b.Lock(ctx, r, abi.F_SETLK, wr(0, 1)); !errors.Is(err, abi.EINVAL) {
		t.Errorf("a pipe: %v", err)
	}
}

func TestFlock(t *testing.T) {
	onBoth(t, func(t *testing.T, c *rumpclient.Client) {
		ctx := soon(t)
		open := func(flags int) (int, error) { return c.Open(ctx, "/f", abi.O_RDWR|abi.O_CREAT|flags, 0o644) }
		a, err := open(abi.O_EXLOCK)
		must(t, err)
		if _, err := open(abi.O_SHLOCK | abi.O_NONBLOCK); !errors.Is(err, abi.EAGAIN) {
			t.Errorf("O_SHLOCK: %v", err)
		}
		b, err := open(0)
		must(t, err)
		if err := c.Flock(ctx, b, abi.LOCK_EX|abi.LOCK_NB); !errors.Is(err, abi.EAGAIN) {
			t.Errorf("locked: %v", err)
		}
		dup, err := c.Dup(ctx, a)
		must(t, err)
		must(t, c.Close(ctx, a))
		if err := c.Flock(ctx, b, abi.LOCK_SH|abi.LOCK_NB); !errors.Is(err, abi.EAGAIN) {
			t.Errorf("a duplicate has it: %v", err)
		}
		done := make(chan error, 1)
		go func() { done <- c.Flock(ctx, b, abi.LOCK_EX) }()
		must(t, c.Close(ctx, dup))
		must(t, <-done)
		must(t, c.Flock(ctx, b, abi.LOCK_UN))
		r, _, err := c.Pipe2(ctx, 0)
		must(t, err)
		if err := c.Flock(ctx, r, abi.LOCK_EX); !errors.Is(err, abi.EOPNOTSUPP) {
			t.Errorf("a pipe: %v", err)
		}
	})
}
