package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Objects that several clients change at once: a file that all append to, names
// that are created exclusively, renamed and removed. In short windows all calls
// and answers are noted, and porcupine says whether there is an order of them
// that explains all answers.

// What a client of a window can do.
const (
	doAppend = iota // a tag to the log
	doRead          // all of the log
	doCreate        // name a or b, exclusively, with a tag in it
	doRename        // a to b
	doUnlink        // a or b
	doLook          // what is in a or b
)

// input is a call, output its answer.
type (
	input struct {
		op   int
		name string // a or b
		tag  string
	}
	output struct {
		err  abi.Errno
		text string
	}
	// state is what is in the log, and in a and b; "" is that it is not there.
	state struct {
		log, a, b string
	}
)

// sharedStep is one call on the state: whether it can answer that.
func sharedStep(st, in, out any) (bool, any) {
	s, i, o := st.(state), in.(input), out.(output)
	at := &s.a
	if i.name == "b" {
		at = &s.b
	}
	switch i.op {
	case doAppend:
		s.log += i.tag
		return o.err == 0, s
	case doRead:
		return o.err == 0 && o.text == s.log, s
	case doCreate:
		if *at != "" {
			return o.err == abi.EEXIST, s
		}
		*at = i.tag
		return o.err == 0, s
	case doRename:
		if s.a == "" {
			return o.err == abi.ENOENT, s
		}
		s.a, s.b = "", s.a
		return o.err == 0, s
	case doUnlink:
		if *at == "" {
			return o.err == abi.ENOENT, s
		}
		*at = ""
		return o.err == 0, s
	}
	if *at == "" {
		return o.err == abi.ENOENT, s
	}
	return o.err == 0, s
}

// sharedModel has the log and the names apart: they have nothing to do with each
// other, and two short histories are decided faster.
var sharedModel = porcupine.Model{
	Init: func() any { return state{} },
	Step: sharedStep,
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		parts := make([][]porcupine.Operation, 2)
		for _, o := range all {
			n := 0
			if o.Input.(input).op > doRead {
				n = 1
			}
			parts[n] = append(parts[n], o)
		}
		return parts
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v: %+v", in, out) },
}

// decide bounds how long porcupine may think of a window; what is not decided
// then counts as wrong.
const decide = 30 * time.Second

// judge says whether a history can be explained.
func judge(all []porcupine.Operation) error {
	switch porcupine.CheckOperationsTimeout(sharedModel, all, decide) {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return fmt.Errorf("%d calls could not be judged in %v: %w", len(all), decide, abi.EIO)
	}
	var s strings.Builder
	for _, o := range all {
		fmt.Fprintf(&s, "\n  client %d: %+v: %+v", o.ClientId, o.Input, o.Output)
	}
	return fmt.Errorf("no order explains these answers: %w%s", abi.EIO, s.String())
}

// shared is the clients of the shared objects of a directory.
type shared struct {
	dir     string
	clients []*rumpclient.Client
	rng     *rand.Rand
	windows int
	tag     int
}

// windowOps is how many calls a client makes in a window. A window is short, or
// there are too many orders to think of.
const windowOps = 10

// window makes one.
func (s *shared) window(ctx context.Context) error {
	s.windows++
	dir := fmt.Sprintf("%s/w%d", s.dir, s.windows)
	if err := s.clients[0].Mkdir(ctx, dir, 0o755); err != nil {
		return fmt.Errorf("shared: mkdir %s: %w", dir, err)
	}
	fd, err := s.clients[0].Open(ctx, dir+"/log", abi.O_CREAT|abi.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("shared: open: %w", err)
	}
	if err := s.clients[0].Close(ctx, fd); err != nil {
		return fmt.Errorf("shared: close: %w", err)
	}
	begin := time.Now()
	hist := make([][]porcupine.Operation, len(s.clients))
	errs := make([]error, len(s.clients))
	var wg sync.WaitGroup
	for n, c := range s.clients {
		ins := make([]input, windowOps)
		for i := range ins {
			s.tag++
			ins[i] = input{op: s.rng.IntN(6), name: "ab"[s.rng.IntN(2):][:1], tag: fmt.Sprintf("<%d>", s.tag)}
		}
		wg.Go(func() {
			log, err := c.Open(ctx, dir+"/log", abi.O_RDWR|abi.O_APPEND, 0)
			if err != nil {
				errs[n] = fmt.Errorf("shared: open: %w", err)
				return
			}
			for _, in := range ins {
				call := int64(time.Since(begin))
				out, err := sharedCall(ctx, c, dir, log, in)
				if err != nil {
					errs[n] = fmt.Errorf("shared: %+v: %w", in, err)
					break
				}
				hist[n] = append(hist[n], porcupine.Operation{ClientId: n, Input: in, Call: call, Output: out, Return: int64(time.Since(begin))})
			}
			if err := c.Close(ctx, log); err != nil && errs[n] == nil {
				errs[n] = fmt.Errorf("shared: close: %w", err)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var all []porcupine.Operation
	for _, h := range hist {
		all = append(all, h...)
	}
	if err := judge(all); err != nil {
		return fmt.Errorf("shared: %s: %w", dir, err)
	}
	return s.clients[0].RemoveAll(ctx, dir)
}

// sharedCall makes a call; its error is one that no call may answer.
func sharedCall(ctx context.Context, c *rumpclient.Client, dir string, log int, in input) (output, error) {
	path := dir + "/" + in.name
	var err error
	var text string
	switch in.op {
	case doAppend:
		var n int
		if n, err = c.Write(ctx, log, []byte(in.tag)); err == nil && n != len(in.tag) {
			err = fmt.Errorf("%d bytes of %d: %w", n, len(in.tag), abi.EIO)
		}
	case doRead:
		p := make([]byte, 4096)
		var n int
		n, err = c.Pread(ctx, log, p, 0)
		text = string(p[:max(n, 0)])
	case doCreate:
		var fd int
		if fd, err = c.Open(ctx, path, abi.O_CREAT|abi.O_EXCL|abi.O_WRONLY, 0o644); err == nil {
			err = c.Close(ctx, fd)
		}
	case doRename:
		err = c.Rename(ctx, dir+"/a", dir+"/b")
	case doUnlink:
		err = c.Unlink(ctx, path)
	case doLook:
		_, err = c.Stat(ctx, path)
	}
	e := abi.ErrnoOf(err)
	if err != nil && e != abi.ENOENT && e != abi.EEXIST {
		return output{}, err
	}
	return output{err: e, text: text}, nil
}
