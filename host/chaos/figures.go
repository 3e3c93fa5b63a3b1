package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// What faults cost: the throughput that is lost to them, and how long somebody
// waits who calls a component that has just died. Each figure with faults is
// taken in turns with the same without, as a machine is never the same for long.

// figure is a line of the table.
type figure struct {
	what     string
	n        int // faults
	p50, p99 string
	note     string
}

// figures measures for about the time given and writes a table.
func figures(ctx context.Context, total time.Duration, out io.Writer, results string) error {
	var all []figure
	loss, err := throughput(ctx, total*2/3)
	all = append(all, loss...)
	for _, f := range []struct {
		what  string
		dir   string
		files int
		sig   syscall.Signal
		n     int
	}{
		{"tmpfs of 10,000 nodes, killed", "", 10000, syscall.SIGKILL, 100},
		{"tmpfs of 10,000 nodes, stopped", "", 10000, syscall.SIGSTOP, 40},
		{"FAT of 1,000 files, killed", "/fat", 1000, syscall.SIGKILL, 100},
		{"FAT of 1,000 files, stopped", "/fat", 1000, syscall.SIGSTOP, 40},
	} {
		if err != nil {
			break
		}
		var more []figure
		more, err = recovery(ctx, f.what, f.dir, f.files, f.sig, f.n)
		all = append(all, more...)
	}
	if err != nil {
		return err
	}
	load := ""
	if p, err := os.ReadFile("/proc/loadavg"); err == nil {
		load, _, _ = strings.Cut(string(p), " ")
	}
	text := fmt.Sprintf("## Faults, %s, %d CPUs, load %s at the end\n\n| figure | faults | p50 | p99 | |\n|---|--:|--:|--:|---|\n", time.Now().UTC().Format("2006-01-02 15:04"), runtime.NumCPU(), load)
	for _, f := range all {
		text += fmt.Sprintf("| %s | %d | %s | %s | %s |\n", f.what, f.n, f.p50, f.p99, f.note)
	}
	if _, err := io.WriteString(out, text); err != nil || results == "" {
		return err
	}
	file, err := os.OpenFile(results, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.WriteString(file, "\n"+text)
	return errors.Join(err, file.Close())
}

// bench is a kernel for figures.
func bench(ctx context.Context) (*round, func(), error) {
	rep, err := newReport(io.Discard, "")
	if err != nil {
		return nil, nil, err
	}
	r, err := newRound(ctx, 1, rigEtfs, rep, nil)
	if err != nil {
		return nil, nil, err
	}
	return r, func() { r.watch.c.Exit(); r.rig.close() }, nil
}

var errAgain = errors.New("not back yet")

// mutations are ten changes that leave nothing, the mix of host/bench.
func mutations(ctx context.Context, c *rumpclient.Client, d string) error {
	f := d + "/f"
	fd := -1
	for _, fn := range []func() error{
		func() error { return c.Mkdir(ctx, d, 0o755) },
		func() (err error) { fd, err = c.Open(ctx, f, abi.O_CREAT|abi.O_RDWR, 0o644); return },
		func() error { _, err := c.Write(ctx, fd, []byte("contents")); return err },
		func() error { return c.Close(ctx, fd) },
		func() error { return c.Chmod(ctx, f, 0o600) },
		func() error { return c.Link(ctx, f, d+"/g") },
		func() error { return c.Symlink(ctx, "f", d+"/s") },
		func() error { return c.Rename(ctx, f, d+"/h") },
		func() error { return c.Unlink(ctx, d+"/g") },
		func() error { return c.Unlink(ctx, d+"/s") },
		func() error { return c.Unlink(ctx, d+"/h") },
		func() error { return c.Rmdir(ctx, d) },
	} {
		if err := fn(); err != nil {
			return err
		}
	}
	return nil
}

// throughput is what is lost of the mutation mix at a kill every so often.
func throughput(ctx context.Context, total time.Duration) ([]figure, error) {
	r, end, err := bench(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	var ops atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	errs := make([]error, 2)
	for i := range errs {
		c, err := r.rig.client(ctx)
		if err != nil {
			return nil, err
		}
		wg.Go(func() {
			defer c.Exit()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if errs[i] = mutations(ctx, c, fmt.Sprintf("/m%d.%d", i, n)); errs[i] != nil {
					return
				}
				ops.Add(12)
			}
		})
	}
	pg := r.rig.pages["vfs"]
	kills := 0
	// window is the operations a second over a time, with kills.
	window := func(d, every time.Duration) float64 {
		from, began := ops.Load(), time.Now()
		next := began.Add(every / 2)
		for time.Since(began) < d {
			if every == 0 || next.Sub(began) > d {
				time.Sleep(time.Until(began.Add(d)))
				break
			}
			time.Sleep(time.Until(next))
			next = next.Add(every)
			if pid := int(pg.newest.Load()); syscall.Kill(pid, syscall.SIGKILL) == nil {
				kills++
			}
		}
		return float64(ops.Load()-from) / time.Since(began).Seconds()
	}
	window(time.Second, 0) // warm
	var figs []figure
	for _, t := range []struct {
		every, d time.Duration
		share    float64 // of the time
	}{{10 * time.Second, 10 * time.Second, 0.4}, {time.Second, 3 * time.Second, 0.3}, {100 * time.Millisecond, 2 * time.Second, 0.3}} {
		kills = 0
		var lost []float64
		var quiet, with float64
		turns := max(int(t.share*float64(total)/float64(2*t.d)), 1)
		for range turns {
			a := window(t.d/2, 0)
			b := window(t.d, t.every)
			a = (a + window(t.d/2, 0)) / 2
			lost = append(lost, 100*(1-b/a))
			quiet, with = quiet+a/float64(turns), with+b/float64(turns)
		}
		slices.Sort(lost)
		figs = append(figs, figure{what: fmt.Sprintf("throughput lost at a kill every %v", t.every), n: kills,
			p50: fmt.Sprintf("%.1f %%", lost[len(lost)/2]), p99: fmt.Sprintf("%.1f %%", lost[len(lost)-1]),
			note: fmt.Sprintf("%.0f of %.0f calls a second, 2 clients, %d turns; p99 is the worst turn", with, quiet, turns)})
	}
	close(stop)
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
		return figs, errors.Join(errs...)
	case <-time.After(patience / 3): // a change is never answered early, deadline or not
		return nil, fmt.Errorf("a client hangs:\n%s", r.rig.h.stacks())
	}
}

// recovery is how long it takes from a fault until a client's call that needs the
// component is answered, and what of it is from knowing of the fault.
func recovery(ctx context.Context, what, dir string, files int, sig syscall.Signal, n int) ([]figure, error) {
	r, end, err := bench(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	c, err := r.rig.client(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Exit()
	for i := range files {
		d := fmt.Sprintf("%s/d%d", dir, i/100)
		if i%100 == 0 {
			if err := c.Mkdir(ctx, d, 0o755); err != nil {
				return nil, err
			}
		}
		if err := c.WriteFile(ctx, d+"/f"+strconv.Itoa(i), []byte("x"), 0o644); err != nil {
			return nil, err
		}
	}
	var all, own []time.Duration
	pg := r.rig.pages["vfs"]
	for range n {
		time.Sleep(60 * time.Millisecond) // a process stands by again
		for range 20 {                    // something to replay
			if err := mutations(ctx, c, dir+"/m"); dir == "" && err != nil {
				return nil, err
			} else if err != nil {
				c.RemoveAll(ctx, dir+"/m") // FAT has no links
			}
		}
		pid := int(pg.newest.Load())
		began := time.Now()
		if err := syscall.Kill(pid, sig); err != nil {
			return nil, err
		}
		d := dir + "/k"
		back := make(chan error, 1)
		var e rumpclient.Event
		go func() {
			limit, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			var err error
			e, err = r.watch.next(limit, func(e rumpclient.Event) bool { return e.Kind == evlog.Recovered && e.Instance == "vfs" })
			back <- err
		}()
		// A thread that runs goes on for a moment when it is stopped: calls are made
		// until there is one that had to wait.
		for err = errAgain; err == errAgain; {
			if err := c.Mkdir(ctx, d, 0o755); err != nil {
				return nil, err
			}
			took := time.Since(began)
			select {
			case err = <-back:
				all = append(all, took)
			default:
			}
			if err := c.Rmdir(ctx, d); err != nil {
				return nil, err
			}
		}
		if err != nil {
			return nil, err
		}
		own = append(own, time.Duration(e.Ns))
	}
	line := func(what string, ds []time.Duration) figure {
		slices.Sort(ds)
		round := func(q float64) string { return quantile(ds, q).Round(100 * time.Microsecond).String() }
		return figure{what: what, n: n, p50: round(0.5), p99: round(0.99)}
	}
	return []figure{line(what+": until a call is answered", all), line(what+": from knowing of it", own)}, nil
}
