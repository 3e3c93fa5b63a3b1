package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// mix is what a soak does, and how many of a thousand operations each is. It
// is mostly what the caches answer, so that 1e8 take minutes.
var mix = []struct {
	op    string
	share float64
}{
	{opGetpid, 300}, {opStat, 250}, {opPread, 200}, {opPwrite, 150}, {opOpen, 80},
	{opStatX, 10}, {opCreate, 5}, {opMkdir, 3}, {opReaddir, 1}, {opUnixRTT, 1},
}

// usage of a process, as it can leak.
type usageOf struct {
	rss, shm     float64 // bytes: memory of its own, memory shared with others
	fds, threads int
}

func look(pid int) (u usageOf, err error) {
	for field, p := range map[string]*float64{"RssAnon:": &u.rss, "RssShmem:": &u.shm} {
		n, err := procField(pid, "status", field)
		if err != nil {
			return u, err
		}
		*p = n * 1024
	}
	ents, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	u.fds, u.threads = len(ents), threadsOf(pid)
	return u, err
}

func (u usageOf) String() string {
	return fmt.Sprintf("%.1f MB own, %.1f MB shared, %d fds, %d threads", u.rss/1e6, u.shm/1e6, u.fds, u.threads)
}

// grown is what u has that was not there before, "" if nothing counts: a
// collector's heap breathes, and a few threads come late. The slots of the rings
// show in the shared memory: those in use are always the lowest.
func (u usageOf) grown(before usageOf) string {
	switch {
	case u.rss > before.rss*1.5+16e6:
		return "memory"
	case u.shm > before.shm+1e6:
		return "shared memory (ring slots)"
	case u.fds > before.fds+2:
		return "descriptors"
	case u.threads > before.threads+4:
		return "threads"
	}
	return ""
}

// soak makes n operations as a remote client of a host with components, by
// maxCallers at a time, and compares the processes before and after. What came
// with the first twentieth is not growth.
func soak(n float64, w io.Writer) error {
	exe := hostProgram()
	if exe == "" {
		return errors.New("there is no program rumpus beside this one nor in bin: make build")
	}
	dir, err := os.MkdirTemp("", "rumpus-soak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// A process that stands by comes after a while, and is no growth.
	h, err := startHost(exe, filepath.Join(dir, "s"), "RUMPUS_COMPONENTS__VFS__RESTART__SPARE=false")
	if err != nil {
		return err
	}
	defer h.close()
	if err := h.populate(manyDir); err != nil {
		return err
	}
	c, err := startChild(roleClient, h.socket)
	if err != nil {
		return err
	}
	defer c.close()
	names := []string{"client", "host"}
	pids := append([]int{c.pid(), h.pid()}, h.comps...)
	for i := range h.comps {
		names = append(names, fmt.Sprintf("component %d", i+1))
	}
	before := make([]usageOf, len(pids))
	done, begin := 0.0, time.Now()
	const rounds = 20
	for round := range rounds {
		for _, m := range mix {
			k := n / rounds * m.share / 1000
			s, err := c.run(task{Op: m.op, Callers: maxCallers, Count: max(int(k), 1)})
			if err != nil {
				return fmt.Errorf("%s after %.0f operations: %w", m.op, done, err)
			}
			done += s.Done
		}
		leaks := ""
		for i, pid := range pids {
			now, err := look(pid)
			// What an operation leaves for a moment is no growth.
			for end := time.Now().Add(time.Minute); err == nil && round == rounds-1 && now.grown(before[i]) != "" && time.Now().Before(end); {
				time.Sleep(100 * time.Millisecond)
				now, err = look(pid)
			}
			if err != nil {
				return fmt.Errorf("%s after %.0f operations: %w", names[i], done, err)
			}
			if round == 0 {
				before[i] = now
			} else if what := now.grown(before[i]); what != "" {
				leaks += fmt.Sprintf("; %s of %s", what, names[i])
			}
			if round == 0 || round == rounds-1 {
				fmt.Fprintf(w, "%.3g operations, %v: %s: %v\n", done, time.Since(begin).Round(time.Second), names[i], now)
			}
		}
		if leaks != "" && round == rounds-1 {
			return fmt.Errorf("grown after %.3g operations: %s", done, leaks[2:])
		}
	}
	return nil
}
