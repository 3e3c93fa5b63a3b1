package run

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rumpus-kernel/rumpus/host/config"
	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Variables that make the test binary play something else.
const (
	envHost   = "RUMPUS_TEST_HOST"   // a host: the path of its configuration
	envClient = "RUMPUS_TEST_CLIENT" // a client: the URL of its kernel
)

func TestMain(m *testing.M) {
	if path := os.Getenv(envHost); path != "" {
		cfg, err := config.Load(config.Options{Path: path, Environ: []string{}})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(ExitConfig)
		}
		os.Exit(Run(context.Background(), Options{Config: cfg, Stdout: os.Stdout, Stderr: os.Stderr}))
	}
	if url := os.Getenv(envClient); url != "" {
		os.Exit(playClient(url))
	}
	code := m.Run()
	if dir, err := plugins(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// playClient says whether it was let in, and what it then can do.
func playClient(url string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	c, err := rumpclient.Open(ctx, url)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer c.Exit()
	uid, err := c.Getuid(ctx)
	fmt.Println("uid", uid, err)
	ents, err := c.ReadDir(ctx, "/")
	fmt.Println("ls", len(ents), err)
	if strings.Contains(os.Getenv("RUMPUS_TEST_ASK"), "halt") {
		fmt.Println("halt", c.Reboot(ctx, abi.RB_AUTOBOOT))
	}
	return 0
}

// plugins builds the first-party plugins and tplug, once.
var plugins = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("/tmp", "rumpus-run-plugins") // not TMPDIR, which a test may have to itself
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir, "./plugins/vfs", "./plugins/net", "./plugins/dev", "./host/run/testdata/tplug")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("building the plugins: %v\n%s", err, out)
	}
	return dir, os.Chmod(dir, 0o755)
})

// shortDir makes a directory whose path leaves room for a socket's name, and
// that components can search.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "rr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// configFile writes a configuration that finds the plugins and has its socket
// in a directory of its own.
func configFile(t *testing.T, yaml string) (path, sock string) {
	t.Helper()
	bin, err := plugins()
	if err != nil {
		t.Fatal(err)
	}
	dir := shortDir(t)
	sock = filepath.Join(dir, "s", "k.sock")
	path = filepath.Join(dir, "config.yaml")
	if !strings.Contains(yaml, "kernel:") {
		yaml += "\nkernel: {}\n"
	}
	if !strings.Contains(yaml, "server:") {
		yaml += "\nserver: {}\n"
	}
	yaml = strings.Replace(yaml, "kernel: {", "kernel: {module-path: ["+bin+"], ", 1)
	if _, given, ok := strings.Cut(yaml, "server: {socket: "); ok {
		sock, _, _ = strings.Cut(given, "}")
	} else {
		yaml = strings.Replace(yaml, "server: {", "server: {socket: "+sock+", ", 1)
	}
	if err := os.WriteFile(path, []byte(yaml), 0o644); err != nil {
		t.Fatal(err)
	}
	return path, sock
}

// buffer collects what a host says.
type buffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{} // one element when there is more
}

func newBuffer() *buffer { return &buffer{more: make(chan struct{}, 1)} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.more <- struct{}{}:
	default:
	}
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// host0 is a host under test, in this process or in one of its own.
type host0 struct {
	t        testing.TB
	url      string
	sock     string
	out, err *buffer
	end      context.CancelFunc // in this process
	cmd      *exec.Cmd          // in its own
	done     chan int           // the exit code, once
}

// bootTime is how long a boot may take on a busy machine.
const bootTime = 60 * time.Second

// start runs a host in this process; it may still be booting.
func start(t *testing.T, yaml string, set ...func(*Options)) *host0 {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	path, sock := configFile(t, yaml)
	cfg, err := config.Load(config.Options{Path: path, Environ: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &host0{t: t, url: "unix://" + sock, sock: sock, out: newBuffer(), err: newBuffer(), end: cancel, done: make(chan int, 1)}
	o := Options{Config: cfg, Stdout: h.out, Stderr: h.err, Environ: []string{}}
	for _, f := range set {
		f(&o)
	}
	h.sock = o.Config.Server.Socket
	h.url = "unix://" + h.sock
	go func() { h.done <- Run(ctx, o) }()
	t.Cleanup(func() {
		cancel()
		if h.done != nil {
			h.wait(ExitOK)
		}
		goleak.VerifyNone(t, leaks)
	})
	return h
}

// boot runs a host in this process until it is ready.
func boot(t *testing.T, yaml string, set ...func(*Options)) *host0 {
	t.Helper()
	h := start(t, yaml, set...)
	h.ready()
	return h
}

// spawn runs a host in a process of its own until it is ready.
func spawn(t *testing.T, yaml string, set ...func(*exec.Cmd)) *host0 {
	t.Helper()
	path, sock := configFile(t, yaml)
	h := &host0{t: t, url: "unix://" + sock, sock: sock, out: newBuffer(), err: newBuffer(), done: make(chan int, 1)}
	h.cmd = exec.Command(os.Args[0])
	h.cmd.Env = []string{envHost + "=" + path, "GORACE=atexit_sleep_ms=0", "TMPDIR=/tmp"}
	h.cmd.Stdout, h.cmd.Stderr = h.out, h.err
	h.cmd.WaitDelay = 5 * time.Second
	for _, f := range set {
		f(h.cmd)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		h.cmd.Wait()
		h.done <- h.cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() {
		if h.done != nil {
			h.cmd.Process.Kill()
			<-h.done
		}
	})
	h.ready()
	return h
}

// ready waits for the ready line.
func (h *host0) ready() {
	h.t.Helper()
	limit := time.After(bootTime)
	for !strings.Contains(h.out.String(), "ready: unix://"+h.sock+" ") {
		select {
		case <-h.out.more:
		case code := <-h.done:
			h.done <- code
			h.t.Fatalf("the host ended with %d:\n%s", code, h.err)
		case <-limit:
			h.t.Fatalf("the host is not ready:\n%s", h.err)
		}
	}
}

// wait expects the host to end.
func (h *host0) wait(want int) {
	h.t.Helper()
	select {
	case code := <-h.done:
		h.done = nil
		if code != want {
			h.t.Errorf("exit code %d, not %d:\n%s", code, want, h.err)
		}
	case <-time.After(bootTime):
		h.t.Fatalf("the host does not end:\n%s", h.err)
	}
}

// client is a client of the test with calls that must succeed.
type client struct {
	*rumpclient.Client
	t testing.TB
}

// client connects to the host over its socket.
func (h *host0) client() *client {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	c, err := rumpclient.Open(ctx, h.url)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Exit() })
	return &client{c, h.t}
}

// limited is a context for one call.
func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (c *client) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// row is the first module of an instance.
func (c *client) row(instance string) rumpclient.Modstat {
	c.t.Helper()
	rows, err := c.Modstat(limited(c.t))
	c.must(err)
	for _, r := range rows {
		if r.Instance == instance {
			return r
		}
	}
	return rumpclient.Modstat{}
}

// pids are the processes of all instances.
func (c *client) pids() map[string]int {
	c.t.Helper()
	rows, err := c.Modstat(limited(c.t))
	c.must(err)
	m := make(map[string]int)
	for _, r := range rows {
		if r.Pid != 0 {
			m[r.Instance] = r.Pid
		}
	}
	return m
}

// dmesg is the message buffer.
func (c *client) dmesg() string {
	c.t.Helper()
	s, err := c.Sysctl(limited(c.t), "kern.msgbuf")
	c.must(err)
	return s
}

// write makes a file with text and reads it back.
func (c *client) write(path, text string) {
	c.t.Helper()
	c.must(c.WriteFile(limited(c.t), path, []byte(text), 0o644))
	if got := c.read(path); got != text {
		c.t.Errorf("%s has %q, not %q", path, got, text)
	}
}

func (c *client) read(path string) string {
	c.t.Helper()
	b, err := c.ReadFile(limited(c.t), path)
	c.must(err)
	return string(b)
}

// refused expects an error number, and a text in the error.
func (c *client) refused(err error, want abi.Errno, text string) {
	c.t.Helper()
	if abi.ErrnoOf(err) != want || err == nil || !strings.Contains(err.Error(), text) {
		c.t.Errorf("got %v, not %v with %q", err, want, text)
	}
}

// alive reports whether a process exists and is no zombie.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// eventually waits until f holds.
func eventually(t testing.TB, limit time.Duration, what string, f func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !f() {
		if time.Since(began) > limit {
			t.Fatalf("after %v: not %s", limit, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return time.Since(began)
}

// allDead expects processes to be gone within d.
func allDead(t testing.TB, pids map[string]int, d time.Duration) {
	t.Helper()
	for name, pid := range pids {
		eventually(t, d, fmt.Sprintf("the end of %s, process %d", name, pid), func() bool { return !alive(pid) })
	}
}

func kill(t testing.TB, pid int, sig syscall.Signal) {
	t.Helper()
	if pid <= 1 {
		t.Fatalf("no process to kill: %d", pid)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

var _ io.Writer = (*buffer)(nil)

func itoa(n int) string { return strconv.Itoa(n) }

// owner is the uid of a file.
func owner(fi os.FileInfo) int {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}
