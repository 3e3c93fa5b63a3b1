package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
)

// roleEnv says what this program is to be when it executes itself.
const roleEnv = "RUMPUS_BENCH_ROLE"

// The roles.
const (
	roleClient   = "client"    // a program of a kernel, RUMPUS_BENCH_ARG its socket
	roleFuse     = "fuse"      // a FUSE server, RUMPUS_BENCH_ARG its directory
	roleMount    = "mount"     // a kernel that is mounted by FUSE, the same
	roleGRPCComp = "grpc-comp" // a go-plugin component
	roleGRPCHost = "grpc-host" // a go-plugin host that forwards to a component
)

const (
	argEnv     = "RUMPUS_BENCH_ARG"
	profileEnv = "RUMPUS_BENCH_PROFILE" // where a client process writes its CPU profile
)

// childEnd bounds how long a child may take to end, childWait how long to
// answer, beside the time of a row.
const (
	childEnd  = 5 * time.Second
	childWait = 30 * time.Second
)

// child is another process of ours that takes requests on its standard input
// and answers on its standard output, one JSON document each.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	enc *json.Encoder
	dec *json.Decoder

	ring bool // it has one
}

// answer is what a child says.
type answer struct {
	Sample sample
	Absent bool
	Ring   bool // when it is ready: a client has a ring
	Err    string
}

// startChild starts a role and waits until it says that it is ready.
func startChild(role, arg string, env ...string) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(exe)}
	c.cmd.Env = append(os.Environ(), append(env, roleEnv+"="+role, argEnv+"="+arg)...)
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	c.enc, c.dec = json.NewEncoder(c.in), json.NewDecoder(out)
	a, err := c.answer(childWait)
	if err != nil {
		c.close()
		return nil, fmt.Errorf("%s process: %w", role, err)
	}
	c.ring = a.Ring
	return c, nil
}

// answer waits for the child to say something; one that does not is killed.
func (c *child) answer(limit time.Duration) (answer, error) {
	t := time.AfterFunc(limit, func() { c.cmd.Process.Kill() })
	defer t.Stop()
	var a answer
	err := c.dec.Decode(&a)
	switch {
	case err != nil:
	case a.Absent:
		err = errAbsent
	case a.Err != "":
		err = errors.New(a.Err)
	}
	return a, err
}

// run has the child measure.
func (c *child) run(t task) (sample, error) {
	if err := c.enc.Encode(t); err != nil {
		return sample{}, err
	}
	a, err := c.answer(childWait + 2*t.Budget + time.Duration(t.Count)*time.Millisecond)
	return a.Sample, err
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// close ends the child: its input ends, and after a while it is killed.
func (c *child) close() {
	c.in.Close()
	t := time.AfterFunc(childEnd, func() { c.cmd.Process.Kill() })
	defer t.Stop()
	c.cmd.Wait()
}

// say writes an answer of this child.
func say(s sample, err error) {
	a := answer{Sample: s, Absent: errors.Is(err, errAbsent), Ring: mapsRing()}
	if err != nil {
		a.Err = err.Error()
	}
	json.NewEncoder(os.Stdout).Encode(a)
}

// mapsRing reports whether the memory of a ring is mapped into this process.
func mapsRing() bool {
	p, err := os.ReadFile("/proc/self/maps")
	return err == nil && bytes.Contains(p, []byte("memfd:rumpus-ring"))
}

// clientRole is the child that measures as a remote client.
func clientRole(socket string) int {
	c, err := rumpclient.Open(bg, "unix://"+socket)
	say(sample{}, err)
	if err != nil {
		return 1
	}
	defer c.Exit()
	if file := os.Getenv(profileEnv); file != "" {
		stop, err := profile(file)
		if err != nil {
			fmt.Fprintf(os.Stderr, "rumpus-bench: %v\n", err)
			return 1
		}
		defer stop()
	}
	dec := json.NewDecoder(os.Stdin)
	for {
		var t task
		if dec.Decode(&t) != nil {
			return 0
		}
		say(runTask(rump{c: c}, t))
	}
}

// runTask binds, measures and ends.
func runTask(w way, t task) (sample, error) {
	fns, end, err := bind(w, t)
	if err != nil {
		return sample{}, err
	}
	defer end()
	return measure(t, fns)
}
