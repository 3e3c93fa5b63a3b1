package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/kernel/modproxy"
	"github.com/rumpus-kernel/rumpus/kernel/module"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/ring"
	"github.com/rumpus-kernel/rumpus/modapi/stream"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// Policy says how the processes of one instance are run.
type Policy struct {
	Grants       []string      // what the host opens for it, see OpenGrant
	StartTimeout time.Duration // exec to handshake; 0 = 10 s
	Budget       int           // deaths within Window that are answered by a restart
	Window       time.Duration
}

// DefaultPolicy is the policy of an instance without one of its own, such as
// one loaded by modload.
var DefaultPolicy = Policy{StartTimeout: startTimeout, Budget: 5, Window: 10 * time.Second}

// Supervisor starts the plugin instances of one kernel and restarts them: one
// loop per instance, so that recoveries of one never overlap.
//
// A death counts against the budget if the process had itself to blame: an
// exit, a signal of its own, or a lie. A SIGKILL from outside does not count,
// it only backs off. The first two restarts come at once; then the wait
// doubles from 10 ms to 1 s, and starts over after a calm window.
type Supervisor struct {
	find   func(plugin string) (path string, err error)
	policy map[string]Policy
	log    hclog.Logger

	// Deadline is how long a component may go without progress on calls of a
	// class; nil is the class's own (wire.Class.Deadline). Set it before the
	// first Load.
	Deadline func(wire.Class) time.Duration

	// Evcnt makes a counter of the kernel; nil: nothing is counted. Set it
	// before the first Load.
	Evcnt func(group, name string) *modapi.Counter

	ctx    context.Context
	cancel context.CancelFunc
	loops  sync.WaitGroup

	mu  sync.Mutex
	uid map[string]*instanceUID // protected by mu
}

// instanceUID is the uid of an instance, kept while a process of it may live or
// be started again.
type instanceUID struct {
	cred  *syscall.Credential
	give  func()
	users int
}

// NewSupervisor makes a supervisor. find turns a plugin's name into the path
// of its program.
func NewSupervisor(find func(string) (string, error), policy map[string]Policy, log hclog.Logger) *Supervisor {
	ctx, cancel := context.WithCancel(context.Background())
	return &Supervisor{find: find, policy: policy, log: log, ctx: ctx, cancel: cancel, uid: make(map[string]*instanceUID)}
}

// Close ends the restart loops; processes are not ended by it.
func (s *Supervisor) Close() {
	s.cancel()
	s.loops.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, u := range s.uid {
		u.give()
		delete(s.uid, name)
	}
}

func (s *Supervisor) policyOf(instance string) Policy {
	if p, ok := s.policy[instance]; ok {
		return p
	}
	return DefaultPolicy
}

// hold is who an instance runs as, the same over all its generations. Every
// hold is given back with drop.
func (s *Supervisor) hold(instance string) (*syscall.Credential, error) {
	if canIsolate() != "" {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.uid[instance]
	if u == nil {
		uid, give, err := takeUID()
		if err != nil {
			return nil, err
		}
		u = &instanceUID{cred: &syscall.Credential{Uid: uid, Gid: uid}, give: give}
		s.uid[instance] = u
	}
	u.users++
	return u.cred, nil
}

// drop gives a hold back. The uid of the last one is free again.
func (s *Supervisor) drop(instance string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.uid[instance]
	if u == nil {
		return
	}
	if u.users--; u.users == 0 {
		u.give()
		delete(s.uid, instance)
	}
}

// Load starts a process and connects to its modules.
func (s *Supervisor) Load(ctx context.Context, spec hyper.PluginSpec) (_ hyper.Plugin, err error) {
	path, err := s.find(spec.Plugin)
	if err != nil {
		return nil, err
	}
	pol := s.policyOf(spec.Instance)
	cred, err := s.hold(spec.Instance)
	if err != nil {
		return nil, fmt.Errorf("component %s: %w", spec.Instance, err)
	}
	defer func() {
		if err != nil {
			s.drop(spec.Instance)
		}
	}()
	var grants []Grant
	defer func() {
		for _, g := range grants {
			g.File.Close()
		}
	}()
	for _, g := range pol.Grants {
		uid := os.Geteuid()
		if cred != nil {
			uid = int(cred.Uid)
		}
		name, f, err := OpenGrant(g, uid)
		if err != nil {
			return nil, fmt.Errorf("component %s: %w", spec.Instance, err)
		}
		grants = append(grants, Grant{name, f})
	}
	p, err := Start(ctx, Spec{Instance: spec.Instance, Path: path, Grants: grants, Cred: cred, StartTimeout: pol.StartTimeout, Log: s.log.Named(spec.Instance)})
	if err != nil {
		return nil, err
	}
	link, err := modproxy.Open(ctx, p.Stream(), p, modproxy.Options{Instance: spec.Instance, Epoch: spec.Epoch, Ring: p.TakeRing(), Counters: ring.NewCounters(s.Evcnt), Stream: stream.Options{Deadline: s.Deadline}})
	if err != nil {
		p.Kill()
		return nil, &StartError{Instance: spec.Instance, Path: path, Reason: err}
	}
	pl := &plug{p: p, link: link, path: path, done: make(chan struct{}), drop: func() { s.drop(spec.Instance) }}
	if st, err := os.Stat(path); err == nil {
		pl.size = st.Size()
	}
	go pl.watch()
	return pl, nil
}

// plug is a process with its link: hyper.Plugin.
type plug struct {
	p    *Process
	link *modproxy.Link
	size int64
	path string
	done chan struct{}
	drop func() // gives the uid back

	mu    sync.Mutex
	cause string // protected by mu
	own   bool   // it has itself to blame; protected by mu
}

// watch waits for the death of the process or the failure of the link, which
// is a death sentence.
func (pl *plug) watch() {
	select {
	case <-pl.p.Dead():
	case <-pl.link.Done():
		// The stream of a dying process breaks a moment before its death shows.
		if guilty(pl.link.Err()) || !waitFor(pl.p.Dead(), killWait) {
			pl.mu.Lock()
			pl.cause, pl.own = fmt.Sprintf("fenced: %v", pl.link.Err()), true
			pl.mu.Unlock()
			pl.p.Kill()
		}
	}
	x := pl.p.Exit()
	pl.mu.Lock()
	if pl.cause == "" {
		pl.cause = x.Text
		pl.own = x.Signal != syscall.SIGKILL
	}
	pl.mu.Unlock()
	close(pl.done)
	pl.link.Close()
	pl.p.Kill()
	pl.drop()
}

// guilty reports whether a link ended because the component broke the rules.
func guilty(err error) bool {
	var lie *stream.Lie
	var hang *stream.Hang
	return errors.As(err, &lie) || errors.As(err, &hang)
}

func (pl *plug) Modules() []modapi.Module { return pl.link.Modules() }
func (pl *plug) Pid() int                 { return pl.p.Pid() }
func (pl *plug) Size() int64              { return pl.size }
func (pl *plug) Done() <-chan struct{}    { return pl.done }

// PropsFile reads the program's properties, PATH.json: hyper.PropsFiler.
func (pl *plug) PropsFile(max int) ([]byte, error) {
	f, err := os.Open(pl.path + ".json")
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, abi.ENOENT
		}
		return nil, fmt.Errorf("%v: %w", err, abi.EACCES)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s.json is no file: %w", pl.path, abi.EINVAL)
	}
	return io.ReadAll(io.LimitReader(f, int64(max)))
}

func (pl *plug) Cause() string {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	s := pl.cause
	if pl.own {
		if w := pl.p.LastWords(); w != "" {
			s += ": " + w
		}
	}
	return s
}

func (pl *plug) blamed() bool {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	return pl.own
}

// Stop ends the process: politely, or at once if ctx has ended.
func (pl *plug) Stop(ctx context.Context) {
	pl.link.Close()
	pl.p.Stop(ctx)
	waitFor(pl.done, releaseWait)
}

// restartTimeout bounds one attempt at a restart, after which it is a failure.
const restartTimeout = 15 * time.Second

// Watch takes over an instance that runs: it is restarted when its process
// dies, until it is unloaded or the budget is used.
func (s *Supervisor) Watch(m *module.Manager, i *module.Instance) {
	p, _ := m.Proc(i)
	pl, ok := p.(*plug)
	if !ok {
		return
	}
	// The uid stays the instance's between two processes. It has one now, so
	// this cannot fail.
	s.hold(i.Name)
	s.loops.Go(func() {
		defer s.drop(i.Name)
		s.loop(m, i, pl)
	})
}

func (s *Supervisor) loop(m *module.Manager, i *module.Instance, pl *plug) {
	pol := s.policyOf(i.Name)
	log := s.log.Named(i.Name)
	var deaths []time.Time // that count
	var last time.Time
	quick := 0
	for {
		select {
		case <-pl.done:
		case <-s.ctx.Done():
			return
		}
		if !m.Down(i, pl) {
			return // unloaded
		}
		now := time.Now()
		log.Warn("component died", "cause", pl.Cause(), "pid", pl.Pid())
		if now.Sub(last) > pol.Window {
			quick = 0
		}
		last = now
		blamed := pl.blamed()
		for {
			if blamed {
				deaths = append(deaths, time.Now())
			}
			for len(deaths) > 0 && now.Sub(deaths[0]) > pol.Window {
				deaths = deaths[1:]
			}
			if len(deaths) > pol.Budget || pol.Budget == 0 {
				why := fmt.Sprintf("%d deaths in %v, more than the restart budget of %d", len(deaths), pol.Window, pol.Budget)
				log.Error("component given up", "reason", why)
				m.Gone(i, why)
				return
			}
			if !s.pause(quick) {
				return
			}
			quick++
			next, err := s.restart(m, i)
			if err == nil {
				pl = next
				log.Info("component restarted", "pid", pl.Pid())
				break
			}
			if errors.Is(err, errUnloaded) || s.ctx.Err() != nil {
				return
			}
			log.Error("restart failed", "error", err)
			blamed = true
		}
	}
}

var errUnloaded = errors.New("instance was unloaded")

func (s *Supervisor) restart(m *module.Manager, i *module.Instance) (*plug, error) {
	ctx, cancel := context.WithTimeout(s.ctx, restartTimeout)
	defer cancel()
	_, epoch := m.Proc(i)
	p, err := s.Load(ctx, hyper.PluginSpec{Instance: i.Name, Plugin: i.Plugin, Epoch: epoch + 1})
	if err != nil {
		return nil, err
	}
	pl := p.(*plug)
	if err := m.Up(ctx, i, pl); err != nil {
		pl.p.Kill()
		if errors.Is(err, module.ErrEnded) {
			return nil, errUnloaded
		}
		return nil, err
	}
	return pl, nil
}

// pause waits before restart n: not at all for the first two, then 10 ms * 2^k
// up to a second.
func (s *Supervisor) pause(n int) bool {
	if n < 2 {
		return s.ctx.Err() == nil
	}
	d := min(10*time.Millisecond<<min(n-2, 10), time.Second)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}
