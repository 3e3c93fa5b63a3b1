package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
)

// What is measured of processes, after the operations. The host is the program
// rumpus with its three components, as make build leaves it beside this one or
// in bin of the working directory.
const (
	stBoot    = "boot to ready"  // until a client is served, everything in the page cache
	stIdle    = "idle CPU"       // of the host and its components
	stPSS     = "memory (PSS)"   // of the same, while idle
	stThreads = "threads at 64"  // while 64 callers call
	pathHost  = "processes"      // the host, its components; no client's share
	boots     = 9                // of which the median counts
	bootLimit = 20 * time.Second // a boot that takes longer has failed
)

var states = []string{stBoot, stIdle, stPSS, stThreads}

// measureStates makes the rows about processes that are asked for.
func (c *config) measureStates(ctx context.Context, notes io.Writer) ([]Row, error) {
	var rows []Row
	if c.wants(stBoot, pathInproc, 1) {
		var all []time.Duration
		for range boots {
			d, err := bootInproc()
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", stBoot, pathInproc, err)
			}
			all = append(all, d)
		}
		rows = append(rows, times(stBoot, pathInproc, all))
	}
	want := func(st string) bool { return c.wants(st, pathHost, 1) }
	if !slices.ContainsFunc(states, want) {
		return rows, nil
	}
	exe := hostProgram()
	if exe == "" {
		fmt.Fprintln(notes, "bench: no rows of processes: there is no program rumpus beside this one nor in bin: make build")
		return rows, nil
	}
	dir, err := os.MkdirTemp("", "rumpus-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	n := 1
	if want(stBoot) {
		n = boots + 1 // the first one warms up
	}
	var all []time.Duration
	for i := range n {
		if ctx.Err() != nil {
			return nil, errors.New("interrupted")
		}
		h, err := startHost(exe, filepath.Join(dir, "s"+strconv.Itoa(i)))
		if err != nil {
			return nil, err
		}
		if i > 0 {
			all = append(all, h.took)
		}
		if i == n-1 {
			var more []Row
			more, err = c.watch(h, want)
			if len(all) > 0 {
				rows = append(rows, times(stBoot, pathHost, all))
			}
			rows = append(rows, more...)
		}
		h.close()
		if err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// times are the quantiles of a few times as a row.
func times(st, path string, all []time.Duration) Row {
	slices.Sort(all)
	r := Row{Operation: st, Path: path, Callers: 1, P50: float64(all[len(all)/2]), P99: float64(all[len(all)-1])}
	r.Ops, r.CPU = 1e9/r.P50, 0
	return r
}

// bootInproc boots a kernel in this process and halts it again.
func bootInproc() (time.Duration, error) {
	begin := time.Now()
	k, err := bootBare()
	took := time.Since(begin)
	if err != nil {
		return 0, err
	}
	k.Reboot(bg, 0)
	return took, nil
}

// watch looks at the processes of a host, idle and then busy.
func (c *config) watch(h *hostProc, want func(string) bool) ([]Row, error) {
	var rows []Row
	add := func(st, path string, v float64, unit string) {
		rows = append(rows, Row{Operation: st, Path: path, Callers: 1, Value: v, Unit: unit})
	}
	pids := append([]int{h.pid()}, h.comps...)
	if want(stIdle) || want(stPSS) {
		time.Sleep(100 * time.Millisecond) // what boot has begun
		before := cpuOf(pids)
		if want(stIdle) {
			time.Sleep(c.rest)
			add(stIdle, pathHost, round(float64(cpuOf(pids)-before)/float64(c.rest)*100, 3), "%")
		}
		if want(stPSS) {
			pss, err := pssOf(pids)
			if err != nil {
				return nil, err
			}
			add(stPSS, pathHost, round(pss/1e6, 1), "MB")
		}
	}
	if !want(stThreads) {
		return rows, nil
	}
	if err := h.populate(); err != nil {
		return nil, err
	}
	cl, err := startChild(roleClient, h.socket)
	if err != nil {
		return nil, err
	}
	defer cl.close()
	for _, op := range []string{opGetpid, opStatX} {
		if _, err := cl.run(task{Op: op, Callers: manyCalls, Budget: c.t}); err != nil {
			return nil, err
		}
	}
	most := 0
	for _, pid := range h.comps {
		most = max(most, threadsOf(pid))
	}
	add(stThreads, "client", float64(threadsOf(cl.pid())), "threads")
	add(stThreads, "host", float64(threadsOf(h.pid())), "threads")
	add(stThreads, "component", float64(most), "threads")
	return rows, nil
}

// round rounds to n digits behind the point.
func round(x float64, n int) float64 {
	v, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'f', n, 64), 64)
	return v
}

// hostProgram is the program rumpus, "" if there is none.
func hostProgram() string {
	var dirs []string
	if exe, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Dir(exe))
	}
	if wd, err := os.Getwd(); err == nil {
		dirs = append(dirs, filepath.Join(wd, "bin"), filepath.Join(wd, "..", "..", "bin"))
	}
	for _, d := range dirs {
		p := filepath.Join(d, "rumpus")
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && isDir(filepath.Join(d, "plugins")) {
			return p
		}
	}
	return ""
}

func isDir(p string) bool {
	st, err := os.Stat(p)
	return err == nil && st.IsDir()
}

// hostProc is a running host.
type hostProc struct {
	cmd    *exec.Cmd
	socket string
	took   time.Duration // from its start until a client was served
	comps  []int         // its components
}

// startHost runs a host without a configuration file until it serves; env is
// added to its environment.
func startHost(exe, socket string, env ...string) (*hostProc, error) {
	h := &hostProc{cmd: exec.Command(exe, "run"), socket: socket}
	h.cmd.Dir = filepath.Dir(socket)
	h.cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "RUMP") }),
		append(env, "RUMPUS_SERVER__SOCKET="+socket)...)
	h.cmd.Stderr = os.Stderr
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	late := time.AfterFunc(bootLimit, func() { h.cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "ready") {
		err = fmt.Errorf("it said %q", strings.TrimSpace(line))
	}
	var c *rumpclient.Client
	if err == nil {
		c, err = rumpclient.Open(bg, "unix://"+socket)
	}
	if err == nil {
		_, err = c.Stat(bg, "/")
		h.took = time.Since(begin)
		c.Exit()
	}
	late.Stop()
	if err != nil {
		h.close()
		return nil, fmt.Errorf("%s run: %w", exe, err)
	}
	h.comps = childrenOf(h.pid())
	return h, nil
}

func (h *hostProc) pid() int { return h.cmd.Process.Pid }

// close ends the host, which ends its components.
func (h *hostProc) close() {
	h.cmd.Process.Signal(syscall.SIGTERM)
	t := time.AfterFunc(childEnd, func() { h.cmd.Process.Kill() })
	defer t.Stop()
	h.cmd.Wait()
}

// populate makes what operations of a client role need.
func (h *hostProc) populate(more ...string) error {
	c, err := rumpclient.Open(bg, "unix://"+h.socket)
	if err != nil {
		return err
	}
	defer c.Exit()
	if err := c.Mkdir(bg, "/x", 0o755); err != nil {
		return err
	}
	if err := c.Mount(bg, "tmpfs", "/x", 0, "", map[string]string{"nocache": ""}); err != nil {
		return err
	}
	return populate(c, append(more, hitDir, crossDir)...)
}

// cpuOf is the CPU time that processes have used, in ns.
func cpuOf(pids []int) (ns int64) { return cpuTime(pids) - cpuTime(nil) }

// childrenOf are the processes that pid started and that live.
func childrenOf(pid int) []int {
	var kids []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range tasks {
		p, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for _, w := range strings.Fields(string(p)) {
			if n, err := strconv.Atoi(w); err == nil {
				kids = append(kids, n)
			}
		}
	}
	return kids
}

// pssOf is the proportional set size of processes together, in bytes.
func pssOf(pids []int) (sum float64, err error) {
	for _, pid := range pids {
		n, err := procField(pid, "smaps_rollup", "Pss:")
		if err != nil {
			return 0, err
		}
		sum += n * 1024
	}
	return sum, nil
}

// threadsOf is how many threads a process has, 0 if it is gone.
func threadsOf(pid int) int {
	n, _ := procField(pid, "status", "Threads:")
	return int(n)
}

// procField reads a number from a file of /proc/PID.
func procField(pid int, file, field string) (float64, error) {
	p, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(p)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			if w := strings.Fields(rest); len(w) > 0 {
				return strconv.ParseFloat(w[0], 64)
			}
		}
	}
	return 0, fmt.Errorf("/proc/%d/%s has no %s: %w", pid, file, field, io.ErrUnexpectedEOF)
}
