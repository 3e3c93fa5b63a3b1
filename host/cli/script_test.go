package cli

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the goldens in testdata")

// TestMain makes the test binary play rumpus in the scripts, beside being the
// test.
func TestMain(m *testing.M) {
	testscript.Main(cleaned{m}, map[string]func(){"rumpus": func() { os.Exit(Main()) }})
}

// cleaned removes the plugins when all tests have run, each as often as -count
// says.
type cleaned struct{ *testing.M }

func (c cleaned) Run() int {
	defer func() {
		if pluginDir != "" {
			os.RemoveAll(pluginDir)
		}
	}()
	return c.M.Run()
}

// noSleep keeps programs under the race detector from sleeping for a second
// before they exit, as they otherwise do.
const noSleep = "atexit_sleep_ms=0"

// pluginDir is the directory that plugins has made.
var pluginDir string

// plugins builds the plugins once, into a directory that lives as long as the
// test binary.
var plugins = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "rumpus-cli-plugins")
	if err != nil {
		return "", err
	}
	pluginDir = dir
	cmd := exec.Command("go", "build", "-o", dir, "./plugins/vfs", "./plugins/net", "./plugins/dev")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("building the plugins: %v\n%s", err, out)
	}
	return dir, nil
})

// TestScript runs the scripts that need no kernel.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: false,
		UpdateScripts:       *update,
		Setup: func(e *testscript.Env) error {
			e.Setenv("XDG_RUNTIME_DIR", e.WorkDir)
			e.Setenv("GORACE", noSleep)
			return nil
		},
	})
}

// TestKernelScript runs the scripts that boot kernels.
func TestKernelScript(t *testing.T) {
	if testing.Short() {
		t.Skip("boots kernels")
	}
	dir, err := plugins()
	if err != nil {
		t.Fatal(err)
	}
	repros, err := filepath.Abs(filepath.Join("testdata", "repro"))
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:           filepath.Join("testdata", "kernel"),
		UpdateScripts: *update,
		Setup: func(e *testscript.Env) error {
			e.Setenv("XDG_RUNTIME_DIR", e.WorkDir)
			e.Setenv("GORACE", noSleep)
			e.Setenv("RUMPUS_KERNEL__MODULE_PATH", "["+dir+"]")
			e.Setenv("PLUGINS", dir)
			e.Setenv("REPRO", repros)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"kernel": cmdKernel,
			"ended":  cmdEnded,
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Getuid() == 0, nil
			case "fuse": // as a user, by fusermount3
				f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
				if err == nil {
					f.Close()
				}
				_, noProg := exec.LookPath("fusermount3")
				return err == nil && (os.Getuid() == 0 || noProg == nil), nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
	})
}

// host is a `rumpus run` in the background of a script.
type host struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; valid when done is closed
	log  *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var (
	hostsMu sync.Mutex
	hosts   = make(map[*testscript.TestScript]*host) // the last kernel of a script; protected by hostsMu
)

// cmdKernel is "kernel [flag ...]": it starts rumpus run with these flags, waits
// until it is ready, and sets RUMP_SERVER and KERNEL_PID.
func cmdKernel(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("kernel cannot be negated")
	}
	exe, err := exec.LookPath("rumpus")
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if p := filepath.Join(dir, "rumpus"); err != nil {
			if _, serr := os.Stat(p); serr == nil {
				exe, err = p, nil
			}
		}
	}
	ts.Check(err)
	h := &host{cmd: exec.Command(exe, append([]string{"run"}, args...)...), done: make(chan struct{}), log: new(lockedBuffer)}
	h.cmd.Dir = ts.MkAbs(".")
	h.cmd.Stderr = h.log
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR", "GORACE", "RUMPUS_KERNEL__MODULE_PATH"} {
		h.cmd.Env = append(h.cmd.Env, name+"="+ts.Getenv(name))
	}
	out, err := h.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(h.cmd.Start())
	ready := make(chan string, 1)
	go func() {
		defer close(h.done)
		sc := bufio.NewScanner(out)
		for sc.Scan() {
			if strings.HasPrefix(sc.Text(), "ready: ") {
				ready <- sc.Text()
				break
			}
			fmt.Fprintln(h.log, sc.Text())
		}
		for sc.Scan() {
			fmt.Fprintln(h.log, sc.Text())
		}
		h.err = h.cmd.Wait()
	}()
	ts.Defer(func() {
		h.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-h.done:
		case <-time.After(60 * time.Second):
			h.cmd.Process.Kill()
			<-h.done
			ts.Logf("the kernel did not end after SIGTERM")
		}
		if log := h.log.String(); log != "" {
			ts.Logf("the kernel's output:\n%s", log)
		}
	})
	select {
	case line := <-ready:
		fields := strings.Fields(line)
		ts.Setenv("RUMP_SERVER", fields[1])
		for _, f := range fields {
			if pid, ok := strings.CutPrefix(f, "pid="); ok {
				ts.Setenv("KERNEL_PID", pid)
			}
		}
	case <-h.done:
		ts.Fatalf("rumpus run ended before it was ready: %v\n%s", h.err, h.log)
	case <-time.After(30 * time.Second):
		ts.Fatalf("rumpus run is not ready after 30 s:\n%s", h.log)
	}
	hostsMu.Lock()
	hosts[ts] = h
	hostsMu.Unlock()
	ts.Defer(func() {
		hostsMu.Lock()
		delete(hosts, ts)
		hostsMu.Unlock()
	})
}

// cmdEnded is "ended CODE": the script's kernel has ended, or does so within 10
// seconds, with this exit code.
func cmdEnded(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: ended CODE")
	}
	hostsMu.Lock()
	h := hosts[ts]
	hostsMu.Unlock()
	if h == nil {
		ts.Fatalf("there is no kernel")
	}
	select {
	case <-h.done:
	case <-time.After(60 * time.Second):
		ts.Fatalf("rumpus run has not ended")
	}
	if code := fmt.Sprint(h.cmd.ProcessState.ExitCode()); code != args[0] {
		ts.Fatalf("rumpus run ended with %s, not %s:\n%s", code, args[0], h.log)
	}
}
