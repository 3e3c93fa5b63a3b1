package rumpclient

import (
	"context"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Retry says how long a client tries to reach a kernel again that has gone
// (rumpclient_setconnretry): RetryNever, RetryOnce, RetryForever, or a time.
type Retry time.Duration

// The policies besides a time.
const (
	RetryNever   Retry = 0
	RetryOnce    Retry = -1
	RetryForever Retry = -2
)

// The pause between two attempts begins with retryFirst and doubles up to
// retryMost.
const (
	retryFirst = 5 * time.Millisecond
	retryMost  = time.Second
)

// OpenRetry is Open for a client that connects anew when the kernel has gone,
// halted or crashed, and there is one at the address again. The calls that were
// in flight answer ErrGone, as nobody knows what became of them; the next call
// connects, waiting as long as retry and its context allow.
//
// Behind the new connection is a new process: nothing that the old one had is
// there, descriptors, working directory and signal dispositions included, which
// is what again is told, if it is not nil, before the call goes on. A process
// that a signal ended is not replaced, nor is a client that has exited.
func OpenRetry(ctx context.Context, url string, retry Retry, again func(ctx context.Context, c *Client) error) (*Client, error) {
	first, err := Open(ctx, url)
	if err != nil {
		return nil, err
	}
	r := &retrier{url: url, retry: retry, busy: make(chan struct{}, 1), quit: make(chan struct{}), k: first.k.(*remote)}
	c := New(r)
	if again != nil {
		r.again = func(ctx context.Context, k *remote) error {
			n := New(k)
			err := again(ctx, n)
			k.OnSignal(c.sig.tell) // as before n
			return err
		}
	}
	return c, nil
}

// retrier is a Caller over one connection after the other.
type retrier struct {
	url   string
	retry Retry
	again func(ctx context.Context, k *remote) error
	busy  chan struct{} // holds an element while somebody connects
	quit  chan struct{} // closed by Close

	mu     sync.Mutex
	k      *remote                 // protected by mu
	exited bool                    // protected by mu
	tell   func(abi.Siginfo, bool) // protected by mu
}

// current is the connection, and whether it can still be used.
func (r *retrier) current() (k *remote, usable bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.k.conn.Done():
		return r.k, r.exited || r.k.killed.Load() != 0 // which it answers itself
	default:
		return r.k, true
	}
}

// Syscall makes the call on the connection that there is, or on a new one.
func (r *retrier) Syscall(ctx context.Context, num int, a *abi.Sysargs) error {
	k, ok := r.current()
	if !ok {
		var err error
		if k, err = r.connect(ctx); err != nil {
			return err
		}
	}
	return k.Syscall(ctx, num, a)
}

// connect connects anew, unless another call has meanwhile.
func (r *retrier) connect(ctx context.Context) (*remote, error) {
	if r.retry == RetryNever {
		return nil, ErrGone
	}
	select {
	case r.busy <- struct{}{}:
		defer func() { <-r.busy }()
	case <-ctx.Done():
		return nil, abi.ErrnoOf(ctx.Err())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // Close ends it
		select {
		case <-r.quit:
			cancel()
		case <-ctx.Done():
		}
	}()
	begin := time.Now()
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		if k, ok := r.current(); ok {
			return k, nil
		}
		if k, err := r.dial(ctx); err == nil {
			return k, nil
		}
		if r.retry == RetryOnce || r.retry > 0 && time.Since(begin)+pause > time.Duration(r.retry) {
			return nil, ErrGone
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			if k, ok := r.current(); ok {
				return k, nil // it has exited
			}
			return nil, abi.ErrnoOf(ctx.Err())
		}
	}
}

// dial is one attempt.
func (r *retrier) dial(ctx context.Context) (*remote, error) {
	c, err := Open(ctx, r.url)
	if err != nil {
		return nil, err
	}
	k := c.k.(*remote)
	r.mu.Lock()
	tell := r.tell
	r.mu.Unlock()
	if tell != nil {
		k.OnSignal(tell)
	}
	if r.again != nil {
		if err := r.again(ctx, k); err != nil {
			k.Close()
			return nil, err
		}
	}
	r.mu.Lock()
	old, exited := r.k, r.exited
	if !exited {
		r.k = k
	}
	r.mu.Unlock()
	if exited {
		k.Close()
		return nil, errExited
	}
	old.conn.Wait()
	return k, nil
}

// OnSignal says whom to tell of signals of the process.
func (r *retrier) OnSignal(fn func(si abi.Siginfo, ended bool)) {
	r.mu.Lock()
	r.tell = fn
	k := r.k
	r.mu.Unlock()
	k.OnSignal(fn)
}

// Close ends the connection, for good.
func (r *retrier) Close() error {
	r.mu.Lock()
	first := !r.exited
	r.exited = true
	k := r.k
	r.mu.Unlock()
	if first {
		close(r.quit)
	}
	return k.Close()
}
