package supervise

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/serve"
)

func TestLifeAndStream(t *testing.T) {
	p := mustStart(t)
	if got := life(t, p, "hello"); got != "echo hello" {
		t.Fatalf("life: %q", got)
	}
	msg := bytes.Repeat([]byte("0123456789abcdef"), 1<<12)
	go p.Stream().Write(msg)
	got := make([]byte, len(msg))
	if _, err := io.ReadFull(p.Stream(), got); err != nil || !bytes.Equal(got, msg) {
		t.Fatalf("stream: %v, equal %v", err, bytes.Equal(got, msg))
	}
	select {
	case <-p.Dead():
		t.Fatal("dead:", p.Exit())
	default:
	}
	p.Stop(t.Context())
	<-p.Dead()
	if x := p.Exit(); x.Code != 0 || x.Text != "exit status 0" {
		t.Errorf("polite end: %+v", x)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("RUMPUS_SECRET", "x")
	p := mustStart(t)
	env := life(t, p, "env")
	for _, want := range []string{"RUMPUS_INSTANCE=vfs", "PATH="} {
		if !strings.Contains(env, want) {
			t.Errorf("environment lacks %s:\n%s", want, env)
		}
	}
	if strings.Contains(env, "SECRET") {
		t.Errorf("environment has the host's:\n%s", env)
	}
	f := strings.Fields(life(t, p, "stat"))
	if f[1] != strconv.Itoa(p.Pid()) || f[2] != "/" {
		t.Errorf("uid pgid cwd kill: %v, pid %d", f, p.Pid())
	}
	if st := life(t, p, "self status"); !strings.Contains(st, "NoNewPrivs:\t1") {
		t.Error("no_new_privs is not set")
	}
	if c := life(t, p, "self comm"); c != "rumpus-vfs\n" {
		t.Errorf("comm %q", c)
	}
	host, err := os.ReadFile("/proc/self/status")
	if err != nil || !strings.Contains(string(host), "NoNewPrivs:\t0") {
		t.Errorf("host has no_new_privs: %v", err)
	}
	for _, l := range strings.Split(life(t, p, "fds"), "\n") {
		num, what, _ := strings.Cut(l, " ")
		if n, _ := strconv.Atoi(num); n < 3 && n > 0 && !strings.HasPrefix(what, "pipe:") ||
			n == 0 && what != "/dev/null" || strings.Contains(what, ".test") {
			t.Errorf("descriptor %s", l)
		}
	}
}

func TestGrants(t *testing.T) {
	dir := t.TempDir()
	a := dir + "/a"
	if err := os.WriteFile(a, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(a)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := mustStart(t, func(s *Spec) { s.Grants = []Grant{{"host.dir:/data", f}, {"b", f}} })
	if got := life(t, p, "grants"); got != "b,host.dir:/data" {
		t.Errorf("grants %q", got)
	}
	if got := life(t, p, "read host.dir:/data"); got != "content" {
		t.Errorf("read %q", got)
	}
	if _, err := p.Life(t.Context(), []byte("read c")); err == nil || !strings.Contains(err.Error(), `grant "c"`) {
		t.Errorf("unknown grant: %v", err)
	}
	for _, g := range [][]Grant{{{"", f}}, {{"a=b", f}}, {{"a;b", f}}, {{"a", f}, {"a", f}}, {{"a", nil}}} {
		_, err := startRole(t, "echo", func(s *Spec) { s.Grants = g })
		if !errors.Is(err, abi.EINVAL) {
			t.Errorf("grants %v: %v", g, err)
		}
	}
}

func TestIsolation(t *testing.T) {
	if os.Geteuid() != 0 || canIsolate() != "" {
		t.Skip("needs root:", canIsolate())
	}
	p, q := mustStart(t), mustStart(t, func(s *Spec) { s.Instance = "net" })
	a, b := strings.Fields(life(t, p, "stat")), strings.Fields(life(t, q, "stat"))
	if a[0] == b[0] || a[0] == "0" || b[0] == "0" {
		t.Errorf("uids %s and %s", a[0], b[0])
	}
	if !strings.Contains(strings.Join(a[3:], " "), "not permitted") {
		t.Errorf("a component may signal its host: %v", a)
	}
	if st := life(t, p, "self status"); !strings.Contains(st, "Groups:\t\n") && !strings.Contains(st, "Groups:\t \n") {
		t.Errorf("supplementary groups:\n%s", st)
	}
	h := mustStart(t, func(s *Spec) { s.Cred = HostCred() })
	if f := strings.Fields(life(t, h, "stat")); f[0] != "0" {
		t.Errorf("HostCred gives uid %s", f[0])
	}
}

func TestDeaths(t *testing.T) {
	for _, tc := range []struct{ cmd, text, last string }{
		{"exit 3", "exit status 3", ""},
		{"exit 0", "exit status 0", ""},
		{"panic kaboom", "exit status 2", "panic: kaboom"},
		{"signal 9", "killed by SIGKILL", ""},
	} {
		t.Run(tc.cmd, func(t *testing.T) {
			p := mustStart(t)
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			_, err := p.Life(ctx, []byte(tc.cmd))
			var de *DeadError
			if !errors.As(err, &de) || de.Exit.Text != tc.text || abi.ErrnoOf(err) != abi.EIO {
				t.Fatalf("life: %v", err)
			}
			if !strings.Contains(err.Error(), "component vfs "+tc.text) {
				t.Errorf("text: %v", err)
			}
			<-p.Dead()
			if x := p.Exit(); x.Text != tc.text {
				t.Errorf("exit %+v, want %s", x, tc.text)
			}
			if got := p.LastWords(); got != tc.last {
				t.Errorf("last words %q, want %q", got, tc.last)
			}
			if _, err := p.Life(ctx, []byte("x")); !errors.As(err, &de) {
				t.Errorf("life of a dead process: %v", err)
			}
			if n, err := p.Stream().Read(make([]byte, 1)); n != 0 || err == nil {
				t.Errorf("stream of a dead process: %d, %v", n, err)
			}
		})
	}
}

func TestLifeErrors(t *testing.T) {
	p := mustStart(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var de *DeadError
	if _, err := p.Life(ctx, []byte("hang")); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &de) {
		t.Errorf("deadline: %v", err)
	}
	gone, stop := context.WithCancel(t.Context())
	stop()
	if _, err := p.Life(gone, []byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := p.Life(t.Context(), make([]byte, serve.MaxMessage)); !errors.Is(err, abi.EMSGSIZE) {
		t.Errorf("frame too long: %v", err)
	}
	if _, err := p.Life(t.Context(), []byte("big 2000000")); abi.ErrnoOf(err) != abi.EMSGSIZE {
		t.Errorf("answer too long: %v", err)
	}
	if _, err := p.Life(t.Context(), []byte("fail two\nlines")); abi.ErrnoOf(err) != abi.EIO || strings.Contains(err.Error(), "\n") {
		t.Errorf("failure: %v", err)
	}
	if got := life(t, p, "still there"); got != "echo still there" {
		t.Errorf("life: %q", got)
	}
}

// TestStopped: neither a stopped process nor one whose descendants hold its
// pipes can delay Kill.
func TestStopped(t *testing.T) {
	for _, tc := range []string{"stop", "spawn in", "spawn away"} {
		t.Run(tc, func(t *testing.T) {
			p := mustStart(t)
			var child int
			if tc == "stop" {
				if err := syscall.Kill(p.Pid(), syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
			} else {
				child, _ = strconv.Atoi(life(t, p, tc))
				t.Cleanup(func() { syscall.Kill(child, syscall.SIGKILL) })
			}
			t0 := time.Now()
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(p.Kill)
			}
			wg.Wait()
			if d := time.Since(t0); d > time.Minute { // they would delay it for ever
				t.Errorf("Kill took %v", d)
			}
			<-p.Dead()
			<-p.released
			if x := p.Exit(); x.Signal != syscall.SIGKILL || x.Text != "killed by SIGKILL" {
				t.Errorf("exit %+v", x)
			}
			if tc == "spawn in" {
				await(t, 60*time.Second, func() bool { return !running(child) })
			}
		})
	}
}

// TestEnding: one that lives is not on its way out, one that is killed is, and
// has ended in the end.
func TestEnding(t *testing.T) {
	p := mustStart(t)
	if p.l.exiting() || p.l.ending() {
		t.Error("it lives, and ends")
	}
	syscall.Kill(p.Pid(), syscall.SIGKILL)
	await(t, 60*time.Second, p.l.exiting)
	await(t, 60*time.Second, p.l.ending)
	<-p.Dead()
	if !p.l.exiting() {
		t.Error("dead, and not ending")
	}
}

func TestStopHung(t *testing.T) {
	p := mustStart(t)
	syscall.Kill(p.Pid(), syscall.SIGSTOP)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	t0 := time.Now()
	p.Stop(ctx)
	if d := time.Since(t0); d > time.Minute {
		t.Errorf("Stop took %v", d)
	}
	<-p.Dead()
}

func TestSignalsIgnored(t *testing.T) {
	p := mustStart(t)
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		if err := syscall.Kill(p.Pid(), s); err != nil {
			t.Fatal(err)
		}
	}
	if got := life(t, p, "x"); got != "echo x" {
		t.Errorf("life: %q", got)
	}
}

// sink is a log that can be waited on.
type sink struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestLog(t *testing.T) {
	var out sink
	log := hclog.New(&hclog.LoggerOptions{Name: "vfs", Level: hclog.Info, Output: &out})
	p := mustStart(t, func(s *Spec) { s.Log = log })
	life(t, p, "log disk is slow")
	life(t, p, "print to stdout")
	await(t, 60*time.Second, func() bool {
		s := out.String()
		return strings.Contains(s, "[WARN]  vfs: disk is slow: k=1") && strings.Contains(s, "[INFO]  vfs: to stdout: stream=stdout")
	})
	p.Kill()
	for _, l := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		if !strings.Contains(l, "disk is slow") && !strings.Contains(l, "to stdout") {
			t.Errorf("noise in the log: %s", l)
		}
	}
}

// await polls for what no channel announces.
func await(t testing.TB, limit time.Duration, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

// running reports whether a process runs: it exists and is no zombie.
func running(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}
