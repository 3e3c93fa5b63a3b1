package repro

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/rumpus-kernel/rumpus/host/supervise"
	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/kernel/journal"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

type (
	vfsDisk = vfs.DiskState
	block   = bio.TouchedBlock
)

// Options of a run.
type Options struct {
	// Program is the plugin's file.
	Program string
	// Log gets what the module and its process say; nil: nobody does.
	Log hclog.Logger
	// Each is told of every step when it is over; nil: nobody is.
	Each func(Step)
	// Fs is called with the file system once the checkpoint is mounted, before
	// the first step; nil: nobody is.
	Fs func(ctx context.Context, fs vfsops.FS) error
}

// Step is a mutator that was given to the module.
type Step struct {
	N      int // from 1
	Of     int // of all steps, the poison is the last
	Poison bool
	Entry  *journal.Entry
	// Err is what the module answered; journal.Died(Err): nothing, it died.
	Err error
	// Differs: the answer is not the one of then.
	Differs bool
}

// Result is how a run ended.
type Result struct {
	Died    bool        // the process died
	At      string      // over what: "the mount", "step 3 of 9, ...", "the poison, ..."
	Poison  bool        // At is the poison
	Death   hyper.Death // how; if Died
	Answer  error       // what the poison was answered; if not Died
	Differs int         // mutators that were answered differently
	Lacked  int         // sectors of the device that were read and that the file has not got
}

// String is the result in one line.
func (r *Result) String() string {
	s := "answered: done"
	switch {
	case r.Died:
		s = fmt.Sprintf("died: %s, at %s", r.Death.Text, r.At)
	case r.Answer != nil:
		s = fmt.Sprintf("answered: %v", r.Answer)
	}
	if r.Differs > 0 {
		s += fmt.Sprintf("; %d answered differently than then", r.Differs)
	}
	if r.Lacked > 0 {
		s += fmt.Sprintf("; %d sectors were read that the file has not got", r.Lacked)
	}
	return s
}

// runEnd bounds the end of the process, deathWait how long its death may be on
// its way.
const (
	runEnd    = 5 * time.Second
	deathWait = 10 * time.Second
)

// Run lets a new process do what is in the file. The error is that it could not
// be done: no such program, not a module that has the file system.
func Run(ctx context.Context, f *File, o Options) (*Result, error) {
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	sup := supervise.NewSupervisor(func(string) (string, error) { return o.Program, nil }, nil, o.Log)
	defer sup.Close()
	sup.SlowCPU = supervise.SlowCPU
	pl, err := sup.Load(ctx, hyper.PluginSpec{Instance: f.Instance, Plugin: f.Plugin, Epoch: 1})
	if err != nil {
		return nil, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), runEnd)
		defer cancel()
		pl.Stop(ctx)
	}()
	k, err := newStandIn(f, moduleLog{o.Log})
	if err != nil {
		return nil, err
	}
	r := &run{f: f, o: o, k: k, pl: pl, res: new(Result)}
	err = r.all(ctx)
	if k.disk != nil {
		r.res.Lacked = k.disk.lacked()
	}
	if err != nil && journal.Died(err) {
		return r.res, r.died(ctx)
	}
	if err != nil {
		return nil, err
	}
	return r.res, nil
}

type run struct {
	f   *File
	o   Options
	k   *standIn
	pl  hyper.Plugin
	res *Result
}

func (r *run) all(ctx context.Context) error {
	f := r.f
	r.res.At = "the start"
	var initErr error
	for _, m := range r.pl.Modules() {
		err := m.Init(ctx, r.k, modapi.Restart, f.Props)
		if journal.Died(err) {
			return err
		}
		initErr = errors.Join(initErr, err)
	}
	t := r.k.fsType(f.Mount.Type)
	if t == nil {
		return errors.Join(fmt.Errorf("%s has no file system %q: %w", r.o.Program, f.Mount.Type, abi.ENODEV), initErr)
	}
	r.res.At = "the mount"
	req := f.Mount
	req.Seq = f.Checkpoint
	fs, err := t.Mount(ctx, &req)
	if err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	if r.o.Fs != nil {
		if err := r.o.Fs(ctx, fs); err != nil {
			return err
		}
	}
	of := len(f.Entries) + 1
	for i, e := range f.Entries {
		r.res.At = fmt.Sprintf("step %d of %d, %s", i+1, of, describe(e))
		hash, err := e.Apply(ctx, fs)
		s := Step{N: i + 1, Of: of, Entry: e, Err: err, Differs: err != nil || hash != e.Hash}
		if journal.Died(err) {
			r.tell(s)
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if s.Differs {
			r.res.Differs++
		}
		r.tell(s)
	}
	r.res.At, r.res.Poison = "the poison, "+describe(f.Poison), true
	_, err = f.Poison.Apply(ctx, fs)
	r.tell(Step{N: of, Of: of, Poison: true, Entry: f.Poison, Err: err})
	switch {
	case journal.Died(err):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	}
	r.res.Answer = err
	return nil
}

func (r *run) tell(s Step) {
	if r.o.Each != nil {
		r.o.Each(s)
	}
}

// died waits for what there is to know of the death.
func (r *run) died(ctx context.Context) error {
	t := time.NewTimer(deathWait)
	defer t.Stop()
	select {
	case <-r.pl.Done():
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	r.res.Died = true
	r.res.Death = hyper.Death{Cause: "closed", Text: r.pl.Cause()}
	if m, ok := r.pl.(hyper.Mortal); ok {
		r.res.Death = m.Death()
	}
	return nil
}

// describe names a mutator for people, with what it is about.
func describe(e *journal.Entry) string {
	s := fmt.Sprintf("%v", e.Kind)
	switch {
	case e.Kind == journal.Rename:
		s += fmt.Sprintf(" %q in %d to %q in %d", e.Name, e.Dir.File, e.Name2, e.Dir2.File)
	case e.Kind <= journal.Rmdir && e.Kind != journal.Link:
		s += fmt.Sprintf(" %q in %d", e.Name, e.Dir.File)
	case e.Kind == journal.Link:
		s += fmt.Sprintf(" %q in %d to %d", e.Name, e.Dir.File, e.Node.File)
	case e.Kind == journal.Setxattr || e.Kind == journal.Removexattr:
		s += fmt.Sprintf(" %q of %d", e.Name, e.Node.File)
	case e.Kind == journal.Write && e.Append:
		s += fmt.Sprintf(" %d bytes to the end of %d", len(e.Data), e.Node.File)
	case e.Kind == journal.Write || e.Kind == journal.WritePages:
		s += fmt.Sprintf(" %d bytes at %d of %d", len(e.Data), e.Off, e.Node.File)
	case e.Kind == journal.Truncate:
		s += fmt.Sprintf(" %d to %d bytes", e.Node.File, e.Size)
	case e.Kind == journal.Fallocate:
		s += fmt.Sprintf(" %d bytes at %d of %d", e.Size, e.Off, e.Node.File)
	default:
		s += fmt.Sprintf(" %d", e.Node.File)
	}
	return s
}

// String is the step in one line.
func (s Step) String() string {
	answer := "done"
	switch {
	case journal.Died(s.Err):
		answer = "the process died"
	case s.Err != nil:
		answer = abi.ErrnoOf(s.Err).Error()
	}
	if s.Differs && !journal.Died(s.Err) {
		answer += " (not the answer of then)"
	}
	name := describe(s.Entry)
	if s.Poison {
		name = "poison: " + name
	}
	return fmt.Sprintf("%d/%d %s: %s", s.N, s.Of, name, answer)
}

// moduleLog is a module's log as the host writes it.
type moduleLog struct{ l hclog.Logger }

func (l moduleLog) Debug(msg string, kv ...any) { l.l.Debug(msg, kv...) }
func (l moduleLog) Info(msg string, kv ...any)  { l.l.Info(msg, kv...) }
func (l moduleLog) Warn(msg string, kv ...any)  { l.l.Warn(msg, kv...) }
func (l moduleLog) Error(msg string, kv ...any) { l.l.Error(msg, kv...) }
