package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// round is a kernel under load with faults, of the tier kill.
type round struct {
	seed  uint64
	rep   *report
	rig   *rig
	hurts map[string]*hurt
	watch *watcher
	calls atomic.Int64

	stop chan struct{}
	wg   sync.WaitGroup
	mu   sync.Mutex
	bad  []error // protected by mu
	ends []func(ctx context.Context) error
	net  []*netUser
}

// load is how much is going on in a round.
type load struct {
	faults, slow int
	trees        int // of each file system
	sole         bool
}

// complain notes that something is wrong.
func (r *round) complain(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.bad) < 20 {
		r.bad = append(r.bad, err)
	}
}

// wrong is what was noted so far, and how often.
func (r *round) wrong() (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.bad), errors.Join(r.bad...)
}

// worker runs step until the round's load ends, or it fails.
func (r *round) worker(ctx context.Context, step func(ctx context.Context) error) {
	r.wg.Go(func() {
		for {
			select {
			case <-r.stop:
				return
			default:
			}
			limit, cancel := context.WithTimeout(ctx, patience)
			for range 16 { // a deadline is not for nothing
				if err := step(limit); err != nil {
					cancel()
					r.complain(err)
					return
				}
			}
			cancel()
		}
	})
}

// newRound boots a kernel.
func newRound(ctx context.Context, seed uint64, kind rigKind, rep *report, lie *liar) (*round, error) {
	r := &round{seed: seed, rep: rep, hurts: map[string]*hurt{"vfs": {}, "net": {}, "dev": {}}}
	var err error
	if r.rig, err = newRig(kind, &r.calls); err != nil {
		return nil, err
	}
	if err = r.rig.boot(ctx); err != nil {
		r.rig.close()
		return nil, fmt.Errorf("boot: %w", err)
	}
	c, err := r.rig.client(ctx)
	if err == nil {
		r.watch, err = newWatcher(ctx, c)
	}
	if err != nil {
		r.rig.close()
		return nil, err
	}
	r.rig.lie = lie
	return r, nil
}

// random is a source of its own for each n.
func (r *round) random(n int) *rand.Rand { return rand.New(rand.NewPCG(r.seed, uint64(n))) }

// begin sets the users to work. n tells the directories of this time from those
// of another.
func (r *round) begin(ctx context.Context, n int, l load) error {
	r.stop, r.ends, r.net = make(chan struct{}), nil, nil
	seed := func(i int) *rand.Rand { return r.random(n*1000 + i) }
	var all []*rumpclient.Client
	client := func() (*rumpclient.Client, error) {
		c, err := r.rig.client(ctx)
		if err == nil {
			all = append(all, c)
		}
		return c, err
	}
	r.ends = append(r.ends, func(context.Context) error {
		for _, c := range all {
			c.Exit()
		}
		return nil
	})
	every := abilities{links: true, symlinks: true, modes: true, xattrs: true}
	for i := range l.trees {
		for dir, can := range map[string]abilities{"": every, "/fat": {}} {
			c, err := client()
			if err != nil {
				return err
			}
			t, err := newTree(ctx, c, fmt.Sprintf("%s/t%d.%d", dir, n, i), can, seed(i))
			if err != nil {
				return err
			}
			r.worker(ctx, t.step)
			r.ends = append(r.ends, func(ctx context.Context) error { return errors.Join(t.all(ctx), t.release(ctx)) })
		}
	}
	if l.sole {
		return nil
	}
	for i, dir := range []string{"", "/fat"} {
		s := &shared{dir: fmt.Sprintf("%s/shared%d", dir, n), rng: seed(100 + i)}
		for range 3 {
			c, err := client()
			if err != nil {
				return err
			}
			s.clients = append(s.clients, c)
		}
		if err := s.clients[0].Mkdir(ctx, s.dir, 0o755); err != nil {
			return err
		}
		r.worker(ctx, s.window)
	}
	c, err := client()
	if err != nil {
		return err
	}
	u, err := newNetUser(ctx, c, 2000+10*n, r.hurts["net"])
	if err != nil {
		return err
	}
	r.net = append(r.net, u)
	r.worker(ctx, u.step)
	if c, err = client(); err != nil {
		return err
	}
	z, err := newChrUser(ctx, c, r.hurts["dev"])
	if err != nil {
		return err
	}
	r.worker(ctx, z.step)
	if c, err = client(); err != nil {
		return err
	}
	ho, err := newHostUser(ctx, c, fmt.Sprintf("/host/h%d", n), r.hurts["vfs"], seed(200))
	if err != nil {
		return err
	}
	r.worker(ctx, ho.step)
	r.ends = append(r.ends, ho.all)
	if r.rig.kind == rigMd {
		return nil
	}
	if c, err = client(); err != nil {
		return err
	}
	disk, err := attachCgd(ctx, c, "disk1")
	if err != nil {
		return err
	}
	const share = diskSize/2 - 1<<20
	var dus []*diskUser
	for i, node := range []string{disk, "r" + disk} {
		if c, err = client(); err != nil {
			return err
		}
		d, err := newDiskUser(ctx, c, node, int64(i)*share, share, seed(300+i))
		if err != nil {
			return fmt.Errorf("disk %s: %w", node, err)
		}
		dus = append(dus, d)
		r.worker(ctx, d.step)
	}
	r.ends = append(r.ends, func(ctx context.Context) error {
		var errs []error
		for _, d := range dus {
			errs = append(errs, d.all(ctx), d.c.Close(ctx, d.fd))
		}
		return errors.Join(append(errs, dus[0].c.DetachDisk(ctx, disk, false))...)
	})
	return nil
}

// end sends the users home and compares all that they know.
func (r *round) end(ctx context.Context) {
	close(r.stop)
	r.wg.Wait()
	for _, u := range r.net {
		u.close()
	}
	if n, _ := r.wrong(); n == 0 { // otherwise models are not exact
		for _, f := range r.ends[1:] {
			limit, cancel := context.WithTimeout(ctx, 2*patience)
			if err := f(limit); err != nil {
				r.complain(fmt.Errorf("in the end: %w", err))
			}
			cancel()
		}
	}
	r.ends[0](ctx)
}

// moves waits until n more system calls were answered.
func (r *round) moves(n int64) error {
	at := r.calls.Load()
	for end := time.Now().Add(patience); r.calls.Load() < at+n; time.Sleep(200 * time.Microsecond) {
		if bad, _ := r.wrong(); bad > 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d system calls in %v: somebody hangs", r.calls.Load()-at, patience)
		}
	}
	return nil
}

// run does the whole round: a warm-up with a fault of each component, a census,
// the faults, a census, the end of the host.
func (r *round) run(ctx context.Context, l load) error {
	rng := r.random(0xc4a05)
	if err := r.begin(ctx, 0, l); err != nil {
		r.complain(fmt.Errorf("begin: %w", err))
	}
	victims := []string{"vfs", "net", "dev"}
	if r.rig.kind == rigMd {
		victims = victims[:2]
	}
	var fs []fault
	for _, v := range victims {
		fs = append(fs, fault{victim: v, order: order{kind: kSIGKILL}, calls: 100})
	}
	r.faults(ctx, fs)
	r.end(ctx)
	base, err := r.rig.h.baseline()
	if err != nil {
		r.complain(err)
	}
	if n, _ := r.wrong(); n == 0 {
		if err := r.begin(ctx, 1, l); err != nil {
			r.complain(fmt.Errorf("begin: %w", err))
		}
		r.faults(ctx, plan(rng, l.faults-len(fs), l.slow, r.rig.kind))
		r.end(ctx)
	}
	if n, _ := r.wrong(); n == 0 {
		if over, err := r.rig.h.settles(base); err != nil || over != "" {
			r.complain(fmt.Errorf("left behind: %s %w", over, errors.Join(err, abi.EMFILE)))
		}
	}
	r.finish(ctx)
	r.rep.calls += r.calls.Load()
	n, err := r.wrong()
	if n > 0 {
		err = fmt.Errorf("%w\nthe host's last words:\n%s", err, lastLines(r.rig.h.err.String(), 20))
	}
	return err
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// faults does faults, and writes a row of each.
func (r *round) faults(ctx context.Context, fs []fault) {
	for _, f := range fs {
		if n, _ := r.wrong(); n > 0 || ctx.Err() != nil {
			return
		}
		time.Sleep(f.pause)
		if f.calls > 0 {
			if err := r.moves(f.calls); err != nil {
				r.complain(err)
				return
			}
		}
		s, err := r.strike(ctx, f)
		if err != nil {
			r.complain(fmt.Errorf("%s of %s, %s: %w", f.kindName(), f.victim, f.momentName(), err))
		}
		n, err := r.wrong()
		r.rep.row(row{tier: "kill", seed: r.seed, kind: f.kindName(), victim: f.victim, moment: f.momentName(), skipped: s.skipped, deaths: s.deaths, recovery: s.recovery, own: s.own, failed: n > 0, err: err})
	}
}

// finish ends the host as a user does, and looks at the images.
func (r *round) finish(ctx context.Context) {
	if n, _ := r.wrong(); n > 0 {
		return
	}
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := r.rig.client(limit)
	if err != nil {
		r.complain(err)
		return
	}
	defer c.Exit()
	if err := c.Unmount(limit, "/fat", 0); err != nil {
		r.complain(fmt.Errorf("unmount: %w", err))
	}
	if err := r.watch.c.Exit(); err != nil {
		r.complain(err)
	}
	r.rig.h.cmd.Process.Signal(syscall.SIGTERM)
	if code, err := r.rig.h.ended(); err != nil || code != 0 {
		r.complain(fmt.Errorf("the host ended with %d: %w\n%s", code, errors.Join(err, abi.EIO), lastLines(r.rig.h.err.String(), 200)))
	}
	if r.rig.kind == rigEtfs {
		if err := fsck(r.rig.image("disk0")); err != nil {
			r.complain(err)
		}
	}
}
