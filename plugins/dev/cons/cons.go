// Package cons is the module of the console: the device console, unit 0.
//
// What is written goes to the descriptor that the configuration grants as
// "host.console"; without that grant there is no console and open is ENXIO.
// The console is for output only: a read is at the end of file at once, since
// the host's terminal belongs to whoever runs the host. It is no terminal
// either, so every tty ioctl, TIOCGETA and TIOCGWINSZ included, is ENOTTY and
// isatty(3) says no.
//
// A driver never waits, but the host's end may be a pipe or terminal that
// nobody drains. Bytes therefore go through a queue of QueueSize bytes that
// one goroutine writes out. A full queue is EAGAIN; when there is room again
// DevReady says POLLOUT. A host end that fails for good (the reader is
// gone) makes later writes EIO.
//
// Lock order: driver.mu is the only lock; nothing is called with it held
// except Kernel.DevReady, which never waits.
package cons

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
)

// Grant is the name of the grant that the console writes to.
const Grant = "host.console"

// QueueSize bounds the bytes that wait for the host's end.
const QueueSize = 64 << 10

// New makes the module "cons" (class driver).
func New() modapi.Module { return &module{} }

type module struct{ d *driver }

func (*module) Info() modapi.Info {
	return modapi.Info{
		Name: "cons", Class: modapi.ClassDriver,
		Kern: abi.KernVersionCurrent, Version: "0.1.0",
		Wants: []modapi.Want{{Grant: Grant, Why: "console output goes there"}},
	}
}

func (m *module) Init(_ context.Context, k modapi.Kernel, _ modapi.Reason, _ modapi.Props) error {
	f, err := k.Granted(Grant)
	if err != nil && abi.ErrnoOf(err) != abi.ENOENT {
		return fmt.Errorf("grant %s: %w", Grant, err)
	}
	if err != nil {
		f = nil
	}
	d := newDriver(f)
	dev, err := k.AttachChr("cons", d)
	if err != nil {
		d.stop(0)
		return fmt.Errorf("attach cons: %w", err)
	}
	d.mu.Lock()
	d.ready = func() { k.DevReady(devops.Ready{Dev: dev, Events: abi.POLLOUT}) }
	d.mu.Unlock()
	m.d = d
	return nil
}

// finiWait bounds how long Fini waits for the host's end to take the rest.
const finiWait = 2 * time.Second

// Fini writes out what is queued, for two seconds at most, and closes.
func (m *module) Fini(ctx context.Context) error {
	if m.d == nil {
		return nil
	}
	wait := finiWait
	if t, ok := ctx.Deadline(); ok {
		wait = min(wait, max(0, time.Until(t)))
	}
	m.d.stop(wait)
	m.d = nil
	return nil
}

// driver is the console driver.
type driver struct {
	f    *os.File // nil: no console
	done chan struct{}

	mu    sync.Mutex
	more  sync.Cond // queue or stop changed
	queue []byte    // waits to be written
	full  bool      // somebody was told EAGAIN
	stopd bool
	err   error  // why the host's end is of no more use
	ready func() // never waits; nil until attached
}

var (
	_ devops.Chr   = (*driver)(nil)
	_ devops.Noder = (*driver)(nil)
)

func newDriver(f *os.File) *driver {
	d := &driver{f: f, done: make(chan struct{})}
	d.more.L = &d.mu
	if f == nil {
		close(d.done)
		return d
	}
	go d.drain()
	return d
}

// drain writes the queue out until stop and the queue's end.
func (d *driver) drain() {
	defer close(d.done)
	var batch []byte
	for {
		d.mu.Lock()
		for len(d.queue) == 0 && !d.stopd {
			d.more.Wait()
		}
		if len(d.queue) == 0 || d.err != nil {
			d.mu.Unlock()
			return
		}
		batch, d.queue = d.queue, batch[:0]
		wake := d.full
		d.full = false
		ready := d.ready
		d.mu.Unlock()
		if wake && ready != nil {
			ready()
		}
		if _, err := d.f.Write(batch); err != nil {
			d.mu.Lock()
			d.err = err
			d.queue = nil
			d.full = false
			ready = d.ready
			d.mu.Unlock()
			if ready != nil {
				ready()
			}
			return
		}
	}
}

// stop ends the driver: what is queued may take wait to go out. A host end
// that blocks in a way that cannot be interrupted keeps the goroutine until
// the process ends.
func (d *driver) stop(wait time.Duration) {
	d.mu.Lock()
	d.stopd = true
	d.ready = nil
	d.more.Broadcast()
	d.mu.Unlock()
	if d.f == nil {
		return
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-d.done:
	case <-t.C:
		if d.f.SetWriteDeadline(time.Now()) == nil {
			<-d.done
		}
	}
	d.f.Close()
}

// Nodes is the one node, with the mode of NetBSD's MAKEDEV.
func (*driver) Nodes() []devops.Node {
	return []devops.Node{{Name: "console", Unit: 0, Mode: 0o600}}
}

// check is ENXIO for a unit that does not exist, and without a grant.
func (d *driver) check(unit uint32) error {
	if unit != 0 || d.f == nil {
		return fmt.Errorf("console unit %d: %w", unit, abi.ENXIO)
	}
	return nil
}

func (d *driver) Open(_ context.Context, unit uint32, _ int) error { return d.check(unit) }

func (d *driver) Close(context.Context, uint32, int) error { return nil }

func (d *driver) Read(_ context.Context, unit uint32, _ int64, _ abi.Iov, _ int) (int, error) {
	return 0, d.check(unit)
}

// Write queues what fits. EAGAIN if nothing does, EIO after the host's end
// has failed.
func (d *driver) Write(_ context.Context, unit uint32, _ int64, src abi.Iov, _ int) (int, error) {
	if err := d.check(unit); err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.stopd:
		return 0, fmt.Errorf("write console: %w", abi.ENXIO)
	case d.err != nil:
		return 0, fmt.Errorf("write console: %v: %w", d.err, abi.EIO)
	}
	space := QueueSize - len(d.queue)
	want := src.Len()
	if want > 0 && space == 0 {
		d.full = true
		return 0, abi.EAGAIN
	}
	n := min(space, want)
	for _, p := range src.Slice(0, n) {
		d.queue = append(d.queue, p...)
	}
	if n < want {
		d.full = true
	}
	d.more.Signal()
	return n, nil
}

func (d *driver) Ioctl(_ context.Context, unit uint32, cmd uint32, _ []byte) ([]byte, error) {
	if err := d.check(unit); err != nil {
		return nil, err
	}
	switch cmd {
	case abi.FIONBIO, abi.FIOASYNC:
		return nil, nil
	}
	return nil, abi.ENOTTY
}

func (d *driver) Poll(_ context.Context, unit uint32) (abi.PollEvents, error) {
	if err := d.check(unit); err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ev := abi.POLLIN | abi.POLLRDNORM
	if len(d.queue) < QueueSize || d.err != nil || d.stopd {
		ev |= abi.POLLOUT
	} else {
		d.full = true // whoever polls wants the edge
	}
	return ev, nil
}
