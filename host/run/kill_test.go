package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// user is somebody who uses one component without a pause. set makes what it
// works with, step works once. An error makes it set up anew.
type user struct {
	name  string
	owner string // the instance whose death may hurt it
	set   func(ctx context.Context, c *rumpclient.Client) (step func() error, end func(), err error)

	ops, errs atomic.Int64
	mu        sync.Mutex
	last      error // protected by mu
	bad       error // not what a caller may see; protected by mu
}

// fair are the numbers that the death of a component may have.
var fair = map[abi.Errno]bool{
	abi.EIO: true, abi.ESTALE: true, abi.ENOENT: true, abi.ENXIO: true, abi.ENETDOWN: true, abi.ECONNRESET: true, abi.EPIPE: true,
	abi.ENOTCONN: true, abi.ECONNREFUSED: true, abi.ECONNABORTED: true, abi.EADDRINUSE: true, abi.EADDRNOTAVAIL: true, abi.EINVAL: true,
}

func (u *user) fail(err error) {
	u.errs.Add(1)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.last = err
	if !fair[abi.ErrnoOf(err)] && !errors.Is(err, io.EOF) && u.bad == nil {
		u.bad = err
	}
}

func (u *user) run(ctx context.Context, c *rumpclient.Client) {
	for ctx.Err() == nil {
		step, end, err := u.set(ctx, c)
		for err == nil && ctx.Err() == nil {
			if err = step(); err == nil {
				u.ops.Add(1)
			}
		}
		if end != nil {
			end()
		}
		if err != nil && ctx.Err() == nil {
			u.fail(err)
			select { // others may need the processor
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

// errPoll is a poll that reports an error.
var errPoll = fmt.Errorf("poll: POLLERR: %w", abi.EIO)

// users are all kinds, one set for each number n.
func users(n int) []*user {
	port := strconv.Itoa(9000 + n)
	data := bytes.Repeat([]byte(port), 3000)
	return []*user{
		{name: "writer", owner: "vfs", set: func(ctx context.Context, c *rumpclient.Client) (func() error, func(), error) {
			path := "/w" + port
			return func() error {
				if err := c.WriteFile(ctx, path, data, 0o600); err != nil {
					return err
				}
				got, err := c.ReadFile(ctx, path)
				if err == nil && !bytes.Equal(got, data) {
					return fmt.Errorf("read %d other bytes: %w", len(got), abi.EIO)
				}
				return errors.Join(err, c.Unlink(ctx, path))
			}, nil, nil
		}},
		{name: "reader", owner: "vfs", set: func(ctx context.Context, c *rumpclient.Client) (func() error, func(), error) {
			f, err := c.OpenFile(ctx, "/r"+port, abi.O_RDWR|abi.O_CREAT, 0o600)
			if err != nil {
				return nil, nil, err
			}
			end := func() { f.Close() }
			if _, err := f.Write(data); err != nil {
				return nil, end, err
			}
			p := make([]byte, len(data))
			return func() error {
				if _, err := c.Stat(ctx, "/r"+port); err != nil {
					return err
				}
				_, err := f.ReadAt(p, 0)
				return err
			}, end, nil
		}},
		{name: "echo", owner: "net", set: func(ctx context.Context, c *rumpclient.Client) (func() error, func(), error) {
			l, err := c.Listen(ctx, "tcp", "127.0.0.1:"+port)
			if err != nil {
				return nil, nil, err
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				nc, err := l.Accept()
				if err == nil {
					io.Copy(nc, nc)
					nc.Close()
				}
			})
			nc, err := c.Dial(ctx, "tcp", "127.0.0.1:"+port)
			end := func() {
				if nc != nil {
					nc.Close()
				}
				l.Close()
				wg.Wait()
			}
			if err != nil {
				return nil, end, err
			}
			stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
			p := make([]byte, 1000)
			return func() error {
				if _, err := nc.Write(data[:1000]); err != nil {
					return err
				}
				_, err := io.ReadFull(nc, p)
				return err
			}, func() { stop(); end() }, nil
		}},
		{name: "zero", owner: "dev", set: func(ctx context.Context, c *rumpclient.Client) (func() error, func(), error) {
			fd, err := c.Open(ctx, "/dev/zero", abi.O_RDONLY, 0)
			if err != nil {
				return nil, nil, err
			}
			p := make([]byte, 4096)
			return func() error {
				_, err := c.Read(ctx, fd, p)
				return err
			}, func() { c.Close(context.Background(), fd) }, nil
		}},
		{name: "poller", owner: "net", set: func(ctx context.Context, c *rumpclient.Client) (func() error, func(), error) {
			s, err := c.Socket(ctx, abi.AF_INET, abi.SOCK_DGRAM, 0)
			if err != nil {
				return nil, nil, err
			}
			return func() error {
				fds := []abi.Pollfd{{Fd: int32(s), Events: abi.POLLIN}}
				_, err := c.Poll(ctx, fds, 5)
				if err == nil && fds[0].Revents&(abi.POLLERR|abi.POLLHUP|abi.POLLNVAL) != 0 {
					return errPoll
				}
				return err
			}, func() { c.Close(context.Background(), s) }, nil
		}},
		{name: "devpoller", owner: "dev", set: func(ctx context.Context, c *rumpclient.Client) (func() error, func(), error) {
			fd, err := c.Open(ctx, "/dev/urandom", abi.O_RDONLY, 0)
			if err != nil {
				return nil, nil, err
			}
			return func() error {
				fds := []abi.Pollfd{{Fd: int32(fd), Events: abi.POLLIN}}
				n, err := c.Poll(ctx, fds, abi.INFTIM)
				if err == nil && (n != 1 || fds[0].Revents&abi.POLLIN == 0) {
					return errPoll
				}
				return err
			}, func() { c.Close(context.Background(), fd) }, nil
		}},
	}
}

// crowd are users at work.
type crowd struct {
	users  []*user
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// work sets n users of each kind to work, each a client of its own.
func (h *host0) work(n int) *crowd {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &crowd{cancel: cancel}
	for i := range n {
		w.users = append(w.users, users(i)...)
	}
	for _, u := range w.users {
		c, err := rumpclient.Open(ctx, h.url)
		if err != nil {
			h.t.Fatal(err)
		}
		w.wg.Go(func() {
			defer c.Exit()
			u.run(ctx, c)
		})
	}
	h.t.Cleanup(w.stop)
	w.progress(h.t, 60*time.Second)
	return w
}

// stop sends them home.
func (w *crowd) stop() {
	w.cancel()
	w.wg.Wait()
}

// progress waits until every user has done something from now on.
func (w *crowd) progress(t testing.TB, limit time.Duration) {
	t.Helper()
	for _, u := range w.users {
		n := u.ops.Load()
		began := time.Now()
		for u.ops.Load() < n+2 {
			if time.Since(began) > limit {
				u.mu.Lock()
				defer u.mu.Unlock()
				t.Fatalf("%s does not get on: %d times well, %d badly, at last %v", u.name, n, u.errs.Load(), u.last)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// TestKillUnderUse: the component that is killed under use comes back, those who did not use it notice nothing, the others get an errno or
// wait, and it is told.
func TestKillUnderUse(t *testing.T) {
	h := boot(t, "")
	c := h.client()
	w := h.work(2)
	for _, victim := range []string{"dev", "net", "vfs"} {
		before := c.row(victim)
		errs := make(map[*user]int64)
		for _, u := range w.users {
			errs[u] = u.errs.Load()
		}
		kill(t, before.Pid, syscall.SIGKILL)
		var after rumpclient.Modstat
		d := eventually(t, 60*time.Second, "the return of "+victim, func() bool {
			after = c.row(victim)
			return after.Restarts == before.Restarts+1 && after.State == "running"
		})
		t.Logf("%s was back after %v", victim, d)
		if after.Epoch != before.Epoch+1 || after.Pid == before.Pid || after.Pid == 0 {
			t.Errorf("%s: before %+v, after %+v", victim, before, after)
		}
		w.progress(t, 60*time.Second)
		for _, u := range w.users {
			if n := u.errs.Load() - errs[u]; u.owner != victim && n != 0 {
				t.Errorf("kill of %s: %s had %d errors, at last %v", victim, u.name, n, u.last)
			}
			if u.bad != nil {
				t.Errorf("kill of %s: %s: %v", victim, u.name, u.bad)
			}
		}
		log := c.dmesg()
		for _, line := range []string{
			fmt.Sprintf("%s: process %d attached: ", victim, before.Pid),
			fmt.Sprintf("%s: process %d died: killed by SIGKILL", victim, before.Pid),
			fmt.Sprintf("%s: restarted as process %d, epoch %d", victim, after.Pid, after.Epoch),
		} {
			if !strings.Contains(log, line) {
				t.Errorf("dmesg does not say %q:\n%s", line, log)
			}
		}
	}
}

// census counts what a leak would add to.
type census struct {
	fds, goroutines, children, files, mounts int
}

// count takes a census of this process, which is the host.
func count(t testing.TB, dirs ...string) (n census, detail string) {
	t.Helper()
	ents, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range ents {
		to, _ := os.Readlink("/proc/self/fd/" + e.Name())
		detail += to + "\n"
	}
	n.fds, n.goroutines = len(ents), goroutines()
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		n.children += len(strings.Fields(string(b)))
	}
	for _, d := range dirs {
		filepath.WalkDir(d, func(p string, _ os.DirEntry, _ error) error {
			n.files++
			detail += p + "\n"
			return nil
		})
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	n.mounts = bytes.Count(b, []byte("\n"))
	return n, detail
}

// goroutines counts all but the idle workers of streams, of which there may be
// more or less.
func goroutines() int {
	b := make([]byte, 4<<20)
	n := 0
	for g := range strings.SplitSeq(string(b[:runtime.Stack(b, true)]), "\n\n") {
		if !strings.Contains(g, "stream.(*Conn).worker(") {
			n++
		}
	}
	return n
}

// atMost reports whether nothing grew.
func (n census) atMost(m census) bool {
	return n.fds <= m.fds && n.goroutines <= m.goroutines && n.children <= m.children && n.files <= m.files && n.mounts <= m.mounts
}

// TestKillAnyComponent kills components at random while they are used. In the
// end everything works and nothing has been left behind. RUMPUS_KILLS is how
// often.
func TestKillAnyComponent(t *testing.T) {
	kills := 100
	if s := os.Getenv("RUMPUS_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		kills = n
	}
	dir := shortDir(t)
	t.Setenv("TMPDIR", dir)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	real := shortDir(t)
	h := boot(t, `
components:
  vfs: {restart: {window: 300ms}, grant: ["host.dir:`+real+`:rw"]}
  net: {restart: {window: 300ms}}
  dev: {restart: {window: 300ms}}
mounts:
  - {dir: /, type: tmpfs}
  - {dir: /dev, type: devfs}
  - {dir: /host, type: hostfs, source: "`+real+`"}
`)
	c := h.client()
	names := []string{"vfs", "net", "dev"}
	restarts := make(map[string]int)
	strike := func(name string) {
		kill(t, c.pids()[name], syscall.SIGKILL)
		restarts[name]++
		eventually(t, 60*time.Second, "the return of "+name, func() bool {
			r := c.row(name)
			return r.Restarts >= restarts[name] && r.State == "running"
		})
	}
	w := h.work(1)
	for _, n := range names { // warm up
		strike(n)
	}
	w.progress(t, 60*time.Second)
	w.stop()
	eventually(t, 60*time.Second, "a vfs that stands by", func() bool { return c.row("vfs").Spare != 0 })
	before, was := settled(t, dir)
	w = h.work(1)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range kills {
		strike(names[r.IntN(len(names))])
	}
	w.progress(t, 60*time.Second)
	for _, u := range w.users {
		if u.bad != nil {
			t.Errorf("%s: %v", u.name, u.bad)
		}
	}
	w.stop()
	var after census
	var is string
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if after, is = count(t, dir); after.atMost(before) {
			break
		}
	}
	if !after.atMost(before) {
		stacks := make([]byte, 1<<20)
		t.Errorf("after %d kills %+v, before %+v:\n%s\nbefore:\n%s\n%s", kills, after, before, is, was, stacks[:runtime.Stack(stacks, true)])
	}
	c.write("/host/x", "still there")
	if n := len(c.pids()); n != 3 {
		t.Errorf("%d processes", n)
	}
}

// settled is the census once it does not change any more.
func settled(t testing.TB, dirs ...string) (census, string) {
	t.Helper()
	n, detail := count(t, dirs...)
	for same := 0; same < 20; time.Sleep(10 * time.Millisecond) {
		m, d := count(t, dirs...)
		if same++; m != n {
			same = 0
		}
		n, detail = m, d
	}
	return n, detail
}

// TestHungComponent: a component that is stopped is fenced when a call of its
// class has had no progress for the time of the class, and restarted.
func TestHungComponent(t *testing.T) {
	real := shortDir(t)
	if err := os.WriteFile(filepath.Join(real, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h := boot(t, `
components:
  vfs: {grant: ["host.dir:`+real+`"]}
  net: {}
  dev: {}
mounts:
  - {dir: /, type: tmpfs}
  - {dir: /dev, type: devfs}
  - {dir: /host, type: hostfs, source: "`+real+`", options: {ro: true}}
`, func(o *Options) {
		o.deadline = func(c wire.Class) time.Duration {
			switch c {
			case wire.ClassSpin, wire.ClassCPU:
				return 300 * time.Millisecond
			case wire.ClassBlock:
				return 600 * time.Millisecond
			}
			return 20 * time.Second
		}
	})
	c := h.client()
	ctx := limited(t)
	zero, err := c.Open(ctx, "/dev/zero", abi.O_RDONLY, 0)
	c.must(err)
	calls := map[string]func(context.Context) error{
		"dev": func(ctx context.Context) error {
			_, err := c.Read(ctx, zero, make([]byte, 10))
			return err
		},
		"net": func(ctx context.Context) error {
			fd, err := c.Socket(ctx, abi.AF_INET, abi.SOCK_STREAM, 0)
			if err == nil {
				c.Close(ctx, fd)
			}
			return err
		},
		"vfs": func(ctx context.Context) error {
			_, err := c.Stat(ctx, "/host/f")
			return err
		},
	}
	before := make(map[string]rumpclient.Modstat)
	for name := range calls {
		before[name] = c.row(name)
		kill(t, before[name].Pid, syscall.SIGSTOP)
	}
	for name := range calls { // a thread that runs goes on until it is told
		eventually(t, 60*time.Second, "the stop of "+name, func() bool { return stopped(before[name].Pid) })
	}
	var wg sync.WaitGroup
	for name, call := range calls {
		wg.Go(func() {
			began := time.Now()
			// A caller in a hurry gives up, the component's time runs on.
			short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			if err := call(short); err == nil {
				t.Errorf("%s answers although it is stopped", name)
			}
			err := call(ctx)
			if d := time.Since(began); d > 25*time.Second { // limited waits for 30
				t.Errorf("%s: the call took %v", name, d)
			}
			if err != nil && !fair[abi.ErrnoOf(err)] {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
	for name, call := range calls {
		eventually(t, 60*time.Second, "the return of "+name, func() bool { return c.row(name).Restarts == 1 && c.row(name).State == "running" })
		c.must(call(ctx))
		if alive(before[name].Pid) {
			t.Errorf("the hung process %d of %s lives", before[name].Pid, name)
		}
		if want := fmt.Sprintf("%s: process %d died: fenced: peer hangs: ", name, before[name].Pid); !strings.Contains(c.dmesg(), want) {
			t.Errorf("dmesg does not say %q:\n%s", want, c.dmesg())
		}
	}
}

// stopped reports whether all threads of a process are (state T of proc(5)).
func stopped(pid int) bool {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			return false
		}
		if _, rest, ok := strings.Cut(string(b), ") "); !ok || !strings.HasPrefix(rest, "T") {
			return false
		}
	}
	return len(stats) > 0
}
