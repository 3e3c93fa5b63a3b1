package rumpclient

import (
	"context"
	"os"
	"sync"
	"time"
)

// deadline is one direction's time limit of a connection: a context that ends
// when the time has come or when the connection is closed. A new limit counts
// for calls that wait already, unless their time had come before.
type deadline struct {
	parent context.Context // ends when the connection is closed

	mu     sync.Mutex
	ctx    context.Context         // protected by mu
	cancel context.CancelCauseFunc // protected by mu
	timer  *time.Timer             // protected by mu; nil: no limit
}

func newDeadline(parent context.Context) *deadline {
	d := &deadline{parent: parent}
	d.ctx, d.cancel = context.WithCancelCause(parent)
	return d
}

// set changes the limit; the zero time is none.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.ctx.Err() != nil && d.parent.Err() == nil {
		d.ctx, d.cancel = context.WithCancelCause(d.parent)
	}
	if t.IsZero() || d.parent.Err() != nil {
		return
	}
	cancel := d.cancel
	if left := time.Until(t); left > 0 {
		// A timer that fires in the moment of being stopped must not end
		// the next limit: it looks whether it is still the one.
		var timer *time.Timer
		timer = time.AfterFunc(left, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.timer == timer {
				cancel(os.ErrDeadlineExceeded)
			}
		})
		d.timer = timer
		return
	}
	cancel(os.ErrDeadlineExceeded)
}

// get is the context for the next call.
func (d *deadline) get() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ctx
}

// stop frees the timer.
func (d *deadline) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.cancel(nil)
}
