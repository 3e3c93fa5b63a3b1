package rumpclient_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// stressTime is how long clients are killed: RUMPUS_LONG makes it a minute, as
// NetBSD's t_sp.sh does it.
func stressTime() time.Duration {
	if os.Getenv("RUMPUS_LONG") != "" {
		return time.Minute
	}
	return 3 * time.Second
}

// raw connects so that the connection can be cut from outside, as a kill cuts
// it.
func raw(ctx context.Context, path string) (*rumpclient.Client, net.Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, nil, err
	}
	r, err := rumpclient.NewRemote(ctx, nc)
	if err != nil {
		return nil, nil, err
	}
	return rumpclient.New(r), nc, nil
}

// busy are things that a client does until it is killed. None may answer an
// error other than those of being killed.
var busy = []func(ctx context.Context, c *rumpclient.Client, r *rand.Rand) error{
	func(ctx context.Context, c *rumpclient.Client, r *rand.Rand) error {
		name := fmt.Sprintf("/f%d", r.IntN(5))
		fd, err := c.Open(ctx, name, abi.O_RDWR|abi.O_CREAT, 0o600)
		if err != nil {
			return err
		}
		if _, err := c.Pwrite(ctx, fd, make([]byte, r.IntN(100000)), int64(r.IntN(1000))); err != nil {
			return err
		}
		_, err = c.Pread(ctx, fd, make([]byte, 5000), 0)
		return err // the descriptor stays open
	},
	func(ctx context.Context, c *rumpclient.Client, r *rand.Rand) error {
		rd, _, err := c.Pipe2(ctx, 0)
		if err == nil {
			_, err = c.Read(ctx, rd, make([]byte, 10)) // for ever
		}
		return err
	},
	func(ctx context.Context, c *rumpclient.Client, r *rand.Rand) error {
		_, wr, err := c.Pipe2(ctx, 0)
		for err == nil { // until it is full, then for ever
			_, err = c.Write(ctx, wr, make([]byte, 30000))
		}
		return err
	},
	func(ctx context.Context, c *rumpclient.Client, r *rand.Rand) error {
		kq, err := c.Kqueue(ctx)
		if err != nil {
			return err
		}
		fd, err := c.Open(ctx, "/", abi.O_RDONLY, 0)
		if err != nil {
			return err
		}
		_, err = c.Kevent(ctx, kq, []abi.Kevent{
			{Ident: uint64(fd), Filter: abi.EVFILT_VNODE, Flags: abi.EV_ADD, Fflags: abi.NOTE_REVOKE},
			{Ident: 1, Filter: abi.EVFILT_TIMER, Flags: abi.EV_ADD | abi.EV_DISABLE, Data: 1},
			{Ident: 0, Filter: abi.EVFILT_PROC, Flags: abi.EV_ADD, Fflags: abi.NOTE_EXIT},
		}, make([]abi.Kevent, 4), -1) // for ever
		return err
	},
	func(ctx context.Context, c *rumpclient.Client, r *rand.Rand) error {
		s, err := c.Socket(ctx, abi.AF_INET, abi.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		if err := c.ListenFd(ctx, s, 5); err != nil {
			return err
		}
		_, err = c.Poll(ctx, []abi.Pollfd{{Fd: int32(s), Events: abi.POLLIN}}, abi.INFTIM) // for ever
		return err
	},
	func(ctx context.Context, c *rumpclient.Client, r *rand.Rand) error {
		_, _, err := c.Rfork(ctx, []int{0, abi.RUMP_RFFDG, abi.RUMP_RFCFDG}[r.IntN(3)]) // nobody becomes it
		return err
	},
	func(ctx context.Context, c *rumpclient.Client, r *rand.Rand) error {
		p := fmt.Sprintf("/d%d", r.IntN(3))
		c.Mkdir(ctx, p, 0o755)
		c.Rename(ctx, p, fmt.Sprintf("/d%d", r.IntN(3)))
		_, err := c.Stat(ctx, "/")
		return err
	},
}

// TestStressKiller kills clients at random under load: their processes, files,
// sockets and goroutines go with them, and the kernel serves others all the
// time (tests/rump/rumpkern/t_sp.sh stress_killer).
func TestStressKiller(t *testing.T) {
	k := boot(t)
	ctx, cancel := context.WithTimeout(context.Background(), stressTime()+time.Minute)
	defer cancel()
	procs := func() (n int) {
		k.Procs.Each(func(*proc.Proc) { n++ })
		return n
	}
	witness, err := k.Client("witness") // is never disturbed
	must(t, err)
	defer witness.Exit()
	path, stop := proxyStop(t, k)
	for range 2 { // what is made once, is made
		c, _, err := raw(ctx, path)
		must(t, err)
		_, err = c.Stat(ctx, "/")
		must(t, err)
		c.Exit()
	}
	wantProcs, wantFiles := 2, k.Files.Count()

	end := time.Now().Add(stressTime())
	var kills atomic.Int64
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 7))
			for time.Now().Before(end) || kills.Load() < 20 && ctx.Err() == nil {
				c, nc, err := raw(ctx, path)
				if err != nil {
					t.Errorf("connect: %v", err)
					return
				}
				var calls sync.WaitGroup
				for i := range 4 {
					seed := r.Uint64()
					calls.Go(func() {
						r := rand.New(rand.NewPCG(seed, uint64(i)))
						for {
							if err := busy[r.IntN(len(busy))](ctx, c, r); err != nil {
								if e := abi.ErrnoOf(err); !errors.Is(err, rumpclient.ErrGone) && e != abi.EMFILE && e != abi.ENFILE && e != abi.EAGAIN && e != abi.ENOMEM && e != abi.ENOBUFS {
									t.Errorf("before the kill: %v", err)
								}
								if errors.Is(err, rumpclient.ErrGone) {
									return
								}
							}
						}
					})
				}
				kill := time.NewTimer(time.Duration(r.IntN(20_000)) * time.Microsecond)
				<-kill.C
				nc.Close()
				kills.Add(1)
				calls.Wait()
				c.Exit()
			}
		})
	}
	for time.Now().Before(end) {
		if _, err := witness.Stat(ctx, "/"); err != nil {
			t.Fatalf("the others are disturbed: %v", err)
		}
		runtime.Gosched()
		tick := time.NewTimer(time.Millisecond)
		<-tick.C
	}
	wg.Wait()
	stop()
	if n := kills.Load(); n < 20 {
		t.Errorf("only %d clients were killed", n)
	}
	settled(t, "processes", func() int { return procs() }, wantProcs)
	settled(t, "open files", func() int { return int(k.Files.Count()) }, int(wantFiles))
	t.Logf("%d clients killed", kills.Load())
}

// settled waits until get answers want.
func settled(t *testing.T, what string, get func() int, want int) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if get() == want {
			return
		}
		<-tick.C
	}
	t.Errorf("%d %s, %d before", get(), what, want)
}

// Test256Clients has as many clients as are let in, all with a process of its
// own, and one too many, who is told so.
func Test256Clients(t *testing.T) {
	bothEnds := func(k *kernel.Kernel) {
		ctx := soon(t)
		path := proxy(t, k)
		cs := make([]*rumpclient.Client, 256)
		pids := make(map[int]bool)
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range cs {
			wg.Go(func() {
				c, err := rumpclient.Open(ctx, path)
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				cs[i] = c
				pid, err := c.Getpid(ctx)
				if err != nil {
					t.Errorf("client %d: %v", i, err)
				}
				mu.Lock()
				pids[pid] = true
				mu.Unlock()
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		if len(pids) != len(cs) {
			t.Errorf("%d pids for %d clients", len(pids), len(cs))
		}
		if _, err := rumpclient.Open(ctx, path); !errors.Is(err, abi.EAGAIN) {
			t.Errorf("client 257: %v", err)
		}
		must(t, cs[7].Exit())
		var c *rumpclient.Client
		settled(t, "refusals", func() int {
			var err error
			if c, err = rumpclient.Open(ctx, path); err != nil {
				return 1
			}
			return 0
		}, 0)
		cs[7] = c
		for _, c := range cs {
			c.Exit()
		}
	}
	bothEnds(boot(t))
}

// TestIdle: a kernel with clients that want nothing uses no CPU.
func TestIdle(t *testing.T) {
	if testing.Short() {
		t.Skip("takes two seconds")
	}
	ctx := soon(t)
	k := boot(t)
	path := proxy(t, k)
	for range 5 {
		c, err := rumpclient.Open(ctx, path)
		must(t, err)
		defer c.Exit()
		_, err = c.Stat(ctx, "/")
		must(t, err)
	}
	runtime.GC()
	rest := time.NewTimer(300 * time.Millisecond) // what was begun ends
	<-rest.C
	used := func() time.Duration {
		var ru syscall.Rusage
		must(t, syscall.Getrusage(syscall.RUSAGE_SELF, &ru))
		return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	}
	// Who polls uses CPU in every second; the runtime's own work does not come
	// in every one.
	least := time.Hour
	for i := 0; i < 10 && least > 30*time.Millisecond; i++ {
		before := used()
		idle := time.NewTimer(time.Second)
		<-idle.C
		least = min(least, used()-before)
	}
	if least > 30*time.Millisecond {
		t.Errorf("idle for 1 s it used %v of CPU, every time", least)
	}
}
