package run

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/host/supervise"
	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// patience is how long a busy machine may take for what takes milliseconds.
const patience = 60 * time.Second

// watchEvents answers a function that waits for the next event of a kind of an
// instance, after those that it answered before.
func (c *client) watchEvents() func(instance string, kind evlog.Kind) rumpclient.Event {
	c.t.Helper()
	_, last, err := c.Events(limited(c.t), 0, false)
	c.must(err)
	var got []rumpclient.Event
	return func(instance string, kind evlog.Kind) rumpclient.Event {
		c.t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for {
			for n, e := range got {
				if e.Instance == instance && e.Kind == kind {
					got = got[n+1:]
					return e
				}
			}
			more, _, err := c.Events(ctx, last, true)
			if err != nil {
				c.t.Fatalf("waiting for %s of %s: %v\n%+v", kind, instance, err, got)
			}
			for _, e := range more {
				if e.Seq != last+1 {
					c.t.Fatalf("event %d after %d", e.Seq, last)
				}
				last = e.Seq
			}
			got = append(got, more...)
		}
	}
}

const faulty = `
components:
  vfs: {}
  t_fault: {class: dev, plugin: tplug, restart: {budget: 1000, wait: 60s, spare: true}}
`

// TestEveryDeath: whatever a component does to itself, it is found out, told
// with its cause, and a new process takes over.
func TestEveryDeath(t *testing.T) {
	h := boot(t, faulty, func(o *Options) {
		o.deadline = func(c wire.Class) time.Duration {
			if c <= wire.ClassCPU {
				return 3 * time.Second // a deadlock uses no processor time
			}
			return 2 * patience
		}
	})
	c := h.client()
	next := c.watchEvents()
	causes := map[string]int{}
	for _, tc := range []struct {
		do     string
		cause  string
		signal string
		status int
		text   string
	}{
		{"panic", "panic", "", 2, "panic: as it was told"},
		{"exit 7", "exit", "", 7, "exit status 7"},
		{"signal 6", "signal", "SIGABRT", 2, "exit status 2: SIGABRT: abort"}, // Go's runtime prints the stacks and exits
		{"kill", "killed", "SIGKILL", 0, "killed by SIGKILL"},
		{"loop", "hang", "SIGKILL", 0, "fenced: peer hangs: no answer to dev-write"},
		{"stop", "hang", "SIGKILL", 0, "fenced: peer hangs: no answer to dev-write"},
		{"deadlock", "hang", "SIGKILL", 0, "fenced: peer hangs: no answer to dev-write"},
		{"bomb", "panic", "", 2, "out of memory"},
		{"lie", "lie", "SIGKILL", 0, "fenced: peer lied: ready: socket"},
	} {
		before := c.row("t_fault")
		fd, err := c.Open(limited(t), "/dev/fault", abi.O_WRONLY, 0)
		c.must(err)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if _, err = c.Write(ctx, fd, []byte(tc.do)); err == nil || !fair[abi.ErrnoOf(err)] {
			t.Errorf("%s: write: %v", tc.do, err)
		}
		cancel()
		d := next("t_fault", evlog.Died)
		r := next("t_fault", evlog.Recovered)
		c.Close(limited(t), fd)
		if d.Signal == "" && strings.HasPrefix(d.Text, "fenced") {
			d.Signal = "SIGKILL" // the new process did not wait for the burial of this one
		}
		if d.Cause != tc.cause || d.Pid != before.Pid || d.Signal != tc.signal || d.Status != tc.status || !strings.Contains(d.Text, tc.text) {
			t.Errorf("%s: %+v, before %+v", tc.do, d, before)
		}
		if r.Pid == before.Pid || r.Ns <= 0 || r.Epoch != abi.Epoch(before.Epoch)+1 {
			t.Errorf("%s: %+v, before %+v", tc.do, r, before)
		}
		causes[d.Cause]++
		row := c.row("t_fault")
		if row.State != "running" || row.Restarts != before.Restarts+1 || row.Cause != d.Cause || fmt.Sprint(row.Causes) != fmt.Sprint(causes) || row.RecoveryNs <= 0 {
			t.Errorf("%s: %+v, not %v", tc.do, row, causes)
		}
	}
	text, err := c.Sysctl(limited(t), "kern.evcnt")
	c.must(err)
	for _, w := range []string{"restarts_hang", "restarts_lie", "restarts_killed"} {
		if !strings.Contains(text, w) {
			t.Errorf("no counter %s:\n%s", w, text)
		}
	}
}

// busy makes n processes that use all the processor time that they get.
func busy(t *testing.T, n int) {
	t.Helper()
	for range n {
		cmd := exec.Command("sh", "-c", "while :; do :; done")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	}
}

// TestSlowIsNotHung: a component that works for longer than its budget, but
// says that it gets on, is left alone, also on a machine that is much too busy.
func TestSlowIsNotHung(t *testing.T) {
	h := boot(t, faulty)
	c := h.client()
	fd, err := c.Open(limited(t), "/dev/fault", abi.O_WRONLY, 0)
	c.must(err)
	busy(t, 30)
	for _, do := range []string{"work 10", "work 130"} {
		ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
		if _, err := c.Write(ctx, fd, []byte(do)); err != nil {
			t.Errorf("%s: %v", do, err)
		}
		cancel()
	}
	if r := c.row("t_fault"); r.Restarts != 0 || r.State != "running" {
		t.Errorf("%+v\n%s", r, c.dmesg())
	}
}

// TestSpare: a process stands by and takes over; one that is killed is replaced,
// and the instance does not notice. Nothing of it outlives the host.
func TestSpare(t *testing.T) {
	h := boot(t, `
components: {vfs: {}, net: {}}
`)
	c := h.client()
	next := c.watchEvents()
	stands := func() rumpclient.Modstat {
		t.Helper()
		var r rumpclient.Modstat
		eventually(t, patience, "a process that stands by", func() bool {
			r = c.row("vfs")
			return r.Spare != 0 && alive(r.Spare)
		})
		return r
	}
	first := stands()
	if first.Spare == first.Pid {
		t.Errorf("%+v", first)
	}
	c.write("/before", "still there")
	kill(t, first.Pid, syscall.SIGKILL)
	if e := next("vfs", evlog.Replayed); e.Mount != "/" || e.Replayed == 0 {
		t.Errorf("%+v", e)
	}
	if e := next("vfs", evlog.Recovered); e.Pid != first.Spare {
		t.Errorf("process %d took over, not %d", e.Pid, first.Spare)
	}
	c.write("/x", "by the one that stood by")
	if got := c.read("/before"); got != "still there" {
		t.Errorf("%q", got)
	}
	second := stands()
	if second.Spare == first.Spare || second.Pid != first.Spare {
		t.Errorf("%+v", second)
	}
	kill(t, second.Spare, syscall.SIGKILL)
	if e := next("vfs", evlog.SpareDied); e.Pid != second.Spare {
		t.Errorf("%+v", e)
	}
	third := stands()
	if third.Restarts != second.Restarts || third.Pid != second.Pid || third.Spare == second.Spare {
		t.Errorf("after the death of one that stood by: %+v", third)
	}
	if r := c.row("net"); r.Spare != 0 {
		t.Errorf("nobody asked for one: %+v", r)
	}
	h.end()
	h.wait(ExitOK)
	allDead(t, map[string]int{"spare": third.Spare, "vfs": third.Pid}, patience)
}

// TestDegraded: a file system that dies again and again takes no changes for a
// while, the rest of the kernel goes on, and then it does again.
func TestDegraded(t *testing.T) {
	h := boot(t, `
components: {vfs: {restart: {budget: 2, window: 1m}}, dev: {}}
`, func(o *Options) {
		o.tune = func(s *supervise.Supervisor) { s.Probe = 2 * time.Second }
	})
	c := h.client()
	next := c.watchEvents()
	for n := range 3 {
		kill(t, c.row("vfs").Pid, syscall.SIGABRT)
		if n < 2 {
			next("vfs", evlog.Recovered)
		}
	}
	if e := next("vfs", evlog.Degraded); !strings.Contains(e.Text, "restart budget of 2") {
		t.Errorf("%+v", e)
	}
	next("vfs", evlog.Recovered)
	if r := c.row("vfs"); r.State != "degraded" && r.State != "running" || r.Pid == 0 {
		t.Errorf("%+v", r)
	}
	_, err := c.ReadDir(limited(t), "/") // what does not change anything is answered
	c.must(err)
	if err := c.Mkdir(limited(t), "/new", 0o700); err != nil && abi.ErrnoOf(err) != abi.EIO {
		t.Error(err)
	}
	fd, err := c.Open(limited(t), "/dev/zero", abi.O_RDONLY, 0)
	c.must(err)
	_, err = c.Read(limited(t), fd, make([]byte, 10))
	c.must(err)
	next("vfs", evlog.Restored)
	c.write("/newer", "it takes changes again")
	if r := c.row("vfs"); r.State != "running" || r.Restarts != 3 || r.Causes["signal"] != 3 {
		t.Errorf("%+v", r)
	}
}

// TestStoppedWhileItTakesOver: also a process that is stopped before it has taken
// over is found out.
func TestStoppedWhileItTakesOver(t *testing.T) {
	h := boot(t, `
components: {vfs: {restart: {wait: 60s}}}
`)
	c := h.client()
	next := c.watchEvents()
	eventually(t, patience, "a process that stands by", func() bool { return c.row("vfs").Spare != 0 })
	r := c.row("vfs")
	kill(t, r.Spare, syscall.SIGSTOP)
	eventually(t, patience, "the stop", func() bool { return stopped(r.Spare) })
	kill(t, r.Pid, syscall.SIGKILL)
	if e := next("vfs", evlog.Recovered); e.Pid == r.Spare || e.Pid == r.Pid {
		t.Errorf("%+v", e)
	}
	c.write("/x", "by another one")
	eventually(t, patience, "the end of the stopped one", func() bool { return !alive(r.Spare) })
}

// TestRecoveryTimes shows how long it takes from a death or a stop until a call
// that waits for the component is answered. It judges nothing but that it is.
func TestRecoveryTimes(t *testing.T) {
	n := 10
	if testing.Short() {
		n = 2
	}
	h := boot(t, `
components:
  vfs: {restart: {budget: 1000, wait: 60s}}
  t_fault: {class: dev, plugin: tplug, restart: {budget: 1000, wait: 60s, spare: true}}
`)
	c := h.client()
	next := c.watchEvents()
	show := func(name string, all, own []time.Duration) {
		slices.Sort(all)
		slices.Sort(own)
		round := func(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
		t.Logf("%s %d times: until a call is answered p50 %v, p99 %v; from knowing of it p50 %v, p99 %v", name, n,
			round(all[n/2]), round(all[n-1]), round(own[n/2]), round(own[n-1]))
	}
	for _, tc := range []struct {
		name string
		sig  syscall.Signal
	}{{"killed", syscall.SIGKILL}, {"stopped", syscall.SIGSTOP}} {
		var all, own []time.Duration
		for i := range n {
			eventually(t, patience, "a process that stands by", func() bool { return c.row("vfs").Spare != 0 })
			pid := c.row("vfs").Pid
			var wg sync.WaitGroup
			began := time.Now()
			kill(t, pid, tc.sig)
			if tc.sig == syscall.SIGSTOP { // a thread that runs goes on until it is told
				eventually(t, patience, "the stop", func() bool { return stopped(pid) })
			}
			wg.Go(func() { // somebody has to ask
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				for ctx.Err() == nil {
					if c.Mkdir(ctx, fmt.Sprintf("/%s%d", tc.name, i), 0o700) == nil {
						return
					}
				}
				t.Error("it does not come back")
			})
			e := next("vfs", evlog.Recovered)
			wg.Wait()
			all, own = append(all, time.Since(began)), append(own, time.Duration(e.Ns))
		}
		show(tc.name, all, own)
	}
	var all, own []time.Duration
	for range n {
		eventually(t, patience, "a process that stands by", func() bool { return c.row("t_fault").Spare != 0 })
		fd, err := c.Open(limited(t), "/dev/fault", abi.O_WRONLY, 0)
		c.must(err)
		began := time.Now()
		c.Write(limited(t), fd, []byte("loop"))
		eventually(t, patience, "an answer", func() bool {
			_, err := c.Write(limited(t), fd, []byte("work 0"))
			return err == nil
		})
		all = append(all, time.Since(began))
		own = append(own, time.Duration(next("t_fault", evlog.Recovered).Ns))
		c.Close(limited(t), fd)
	}
	show("in an endless loop", all, own)
}
