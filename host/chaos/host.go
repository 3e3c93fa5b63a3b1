package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/host/config"
	"github.com/rumpus-kernel/rumpus/host/run"
)

// hostEnv is the path of the configuration if this process is to be a host.
const hostEnv = "RUMPUS_CHAOS_HOST"

// patience is how long anything may take on a machine that is much too busy.
const patience = 90 * time.Second

// program is the path of this program, built without cgo.
var program = sync.OnceValues(os.Executable)

// hostEnviron is more of a host's environment.
var hostEnviron []string

// hostRole is what a process with hostEnv does: `rumpus run`, and a census for
// each line on its standard input. The end of that is the end of who asks, and
// this process's.
func hostRole(path string) int {
	cfg, err := config.Load(config.Options{Path: path, Environ: []string{}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return run.ExitConfig
	}
	go func() {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			if in.Text() == "stacks" {
				b := make([]byte, 1<<20)
				os.Stderr.Write(b[:runtime.Stack(b, true)])
			}
			line, _ := json.Marshal(takeCensus())
			os.Stdout.Write(append(append([]byte("census "), line...), '\n'))
		}
		os.Exit(1)
	}()
	return run.Run(context.Background(), run.Options{Config: cfg, Stdout: os.Stdout, Stderr: os.Stderr, Environ: []string{}})
}

// census is what a host process has.
type census struct {
	Fds, Goroutines, Children int
	Heap, Shared              int64 // bytes: in use after a collection, and of memfds
}

// takeCensus counts this process.
func takeCensus() (n census) {
	ents, _ := os.ReadDir("/proc/self/fd")
	n.Fds = len(ents)
	for _, e := range ents {
		path := "/proc/self/fd/" + e.Name()
		if to, _ := os.Readlink(path); strings.HasPrefix(to, "/memfd:") {
			var st unix.Stat_t
			if unix.Stat(path, &st) == nil {
				n.Shared += st.Blocks * 512
			}
		}
	}
	runtime.GC()
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	n.Heap = int64(ms.HeapInuse)
	b := make([]byte, 4<<20)
	for g := range strings.SplitSeq(string(b[:runtime.Stack(b, true)]), "\n\n") {
		if !strings.Contains(g, "stream.(*Conn).worker(") { // idle ones, of which there may be more or less
			n.Goroutines++
		}
	}
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		n.Children += len(strings.Fields(string(b)))
	}
	return n
}

// The room that a census may differ in: memory is not given back to the last
// byte.
const (
	heapRoom   = 48 << 20
	sharedRoom = 16 << 20
)

// over says what has grown against an earlier census, "" if nothing has.
func (n census) over(base census) string {
	var s []string
	for _, x := range []struct {
		what      string
		is, limit int64
	}{
		{"descriptors", int64(n.Fds), int64(base.Fds)}, {"goroutines", int64(n.Goroutines), int64(base.Goroutines)}, {"processes", int64(n.Children), int64(base.Children)},
		{"bytes of heap", n.Heap, base.Heap + heapRoom}, {"bytes of shared memory", n.Shared, base.Shared + sharedRoom},
	} {
		if x.is > x.limit {
			s = append(s, fmt.Sprintf("%d %s, at most %d", x.is, x.what, x.limit))
		}
	}
	return strings.Join(s, "; ")
}

// host is a host process.
type host struct {
	cmd  *exec.Cmd
	sock string
	in   io.WriteCloser
	said chan census
	err  *tail
	done chan struct{} // closed when it has ended
}

// startHost starts a host and waits until it is ready.
func startHost(ctx context.Context, cfg, sock string) (*host, error) {
	exe, err := program()
	if err != nil {
		return nil, err
	}
	h := &host{cmd: exec.Command(exe), sock: sock, said: make(chan census, 1), err: &tail{}, done: make(chan struct{})}
	h.cmd.Env = append([]string{hostEnv + "=" + cfg, "TMPDIR=" + filepath.Dir(cfg), "PATH=" + os.Getenv("PATH")}, hostEnviron...)
	h.cmd.Stderr = h.err
	h.cmd.WaitDelay = 5 * time.Second
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	go func() {
		defer close(h.done)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if text, ok := strings.CutPrefix(lines.Text(), "census "); ok {
				var n census
				if json.Unmarshal([]byte(text), &n) == nil {
					h.said <- n
				}
			} else if strings.HasPrefix(lines.Text(), "ready: ") {
				close(ready)
			}
		}
		h.cmd.Wait()
	}()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-ready:
		return h, nil
	case <-h.done:
		err = fmt.Errorf("the host ended: %v\n%s", h.cmd.ProcessState, h.err)
	case <-t.C:
		err = fmt.Errorf("the host is not ready after %v\n%s", patience, h.err)
	case <-ctx.Done():
		err = ctx.Err()
	}
	h.kill()
	return nil, err
}

// census asks the host for one.
func (h *host) census() (census, error) {
	if _, err := io.WriteString(h.in, "census\n"); err != nil {
		return census{}, err
	}
	select {
	case n := <-h.said:
		return n, nil
	case <-h.done:
		return census{}, errors.New("the host has ended")
	case <-time.After(patience):
		return census{}, errors.New("the host gives no census")
	}
}

// stacks has the host write the stacks of its goroutines, and answers its last
// words.
func (h *host) stacks() string {
	if _, err := io.WriteString(h.in, "stacks\n"); err == nil {
		select {
		case <-h.said:
		case <-h.done:
		case <-time.After(patience / 3):
		}
	}
	return h.err.String()
}

// settles takes censuses until one is not over the base, or patience ends.
func (h *host) settles(base census) (string, error) {
	for end := time.Now().Add(patience / 3); ; time.Sleep(20 * time.Millisecond) {
		n, err := h.census()
		if err != nil {
			return "", err
		}
		if over := n.over(base); over == "" || time.Now().After(end) {
			return over, nil
		}
	}
}

// baseline is the census once it does not change any more.
func (h *host) baseline() (census, error) {
	last, err := h.census()
	for same := 0; same < 5 && err == nil; time.Sleep(20 * time.Millisecond) {
		var n census
		n, err = h.census()
		if same++; n.Fds != last.Fds || n.Goroutines != last.Goroutines || n.Children != last.Children {
			same = 0
		}
		last = n
	}
	return last, err
}

// kill ends the host by SIGKILL and waits for its end.
func (h *host) kill() {
	h.cmd.Process.Kill()
	<-h.done
	h.in.Close()
}

// ended waits for the host's end by itself, and answers its exit status.
func (h *host) ended() (int, error) {
	select {
	case <-h.done:
		h.in.Close()
		return h.cmd.ProcessState.ExitCode(), nil
	case <-time.After(patience):
		words := h.stacks()
		h.kill()
		return 0, fmt.Errorf("the host does not end:\n%s", words)
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte // protected by mu
}

const tailSize = 512 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > 2*tailSize {
		t.b = bytes.Clone(t.b[len(t.b)-tailSize:])
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b[max(0, len(t.b)-tailSize):])
}
