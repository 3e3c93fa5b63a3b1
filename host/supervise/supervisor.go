package supervise

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/kernel/modproxy"
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
	Spare        bool // a started process stands by, so that a restart is quick
}

// DefaultPolicy is the policy of an instance without one of its own, such as
// one loaded by modload.
var DefaultPolicy = Policy{StartTimeout: startTimeout, Budget: 5, Window: 10 * time.Second}

// Supervisor starts the plugin instances of one kernel and restarts them: one
// loop per instance, so that recoveries of one never overlap.
//
// A death counts against the budget if the process had itself to blame: an
// exit, a signal of its own, a hang, a lie, or SIGKILL for want of memory that
// the host's kernel confirms. Another SIGKILL came from outside and does not
// count. Nor do deaths between which operations were carried out for good
// (module.Seqs). The first two restarts come at once; then the wait doubles from
// 10 ms to 1 s, and starts over after a calm window or if the process did
// anything at all.
//
// When the budget is used, a file system's instance is degraded: it is started
// once more, but changes are refused with EIO; after 30 s they are tried again.
// If it does not even come up, that is tried every 30 s. Another instance is
// given up.
type Supervisor struct {
	find   func(plugin string) (path string, err error)
	policy map[string]Policy
	log    hclog.Logger

	// Deadline is how long a component may go without progress on calls of a
	// class; nil is the class's own (wire.Class.Deadline). Set it before the
	// first Load.
	Deadline func(wire.Class) time.Duration

	// HangCPU is how much processor time the component may use without progress
	// while calls of the classes spin and cpu wait (0: 100 ms), SlowCPU while
	// those of the class block do (0: any). Set them before the first Load.
	HangCPU, SlowCPU time.Duration

	// Probe is how often a degraded instance is tried again (0: 30 s). Set it
	// before the first Load.
	Probe time.Duration

	// Evcnt makes a counter of the kernel; nil: nothing is counted. Set it
	// before the first Load.
	Evcnt func(group, name string) *modapi.Counter

	idle time.Duration // after the first start, before a spare is started

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
	return &Supervisor{find: find, policy: policy, log: log, idle: spareIdle,
		ctx: ctx, cancel: cancel, uid: make(map[string]*instanceUID)}
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
func (s *Supervisor) Load(ctx context.Context, spec hyper.PluginSpec) (hyper.Plugin, error) {
	f, err := s.launch(ctx, spec.Instance, spec.Plugin)
	if err != nil {
		return nil, err
	}
	pl, err := s.connect(ctx, f, spec.Epoch)
	if err != nil {
		return nil, err
	}
	return pl, nil
}

// launched is a process that runs and answers, but that nobody has asked for its
// modules yet.
type launched struct {
	p        *Process
	instance string
	program  program
	drop     func() // gives the uid back
}

// kill ends it.
func (f *launched) kill() {
	f.p.Kill()
	f.drop()
}

// program is a file that is executed, as it is now.
type program struct {
	path     string
	dev, ino uint64
	size     int64
	mtime    time.Time
}

func programOf(path string) program {
	g := program{path: path}
	if st, err := os.Stat(path); err == nil {
		g.size, g.mtime = st.Size(), st.ModTime()
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			g.dev, g.ino = sys.Dev, sys.Ino
		}
	}
	return g
}

// launch starts a process of an instance.
func (s *Supervisor) launch(ctx context.Context, instance, plugin string) (_ *launched, err error) {
	path, err := s.find(plugin)
	if err != nil {
		return nil, err
	}
	pol := s.policyOf(instance)
	cred, err := s.hold(instance)
	if err != nil {
		return nil, fmt.Errorf("component %s: %w", instance, err)
	}
	defer func() {
		if err != nil {
			s.drop(instance)
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
			return nil, fmt.Errorf("component %s: %w", instance, err)
		}
		grants = append(grants, Grant{name, f})
	}
	f := &launched{instance: instance, program: programOf(path), drop: sync.OnceFunc(func() { s.drop(instance) })}
	f.p, err = Start(ctx, Spec{Instance: instance, Path: path, Grants: grants, Cred: cred, StartTimeout: pol.StartTimeout, Log: s.log.Named(instance)})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// connect makes a plugin of a process, which is ended if that fails.
func (s *Supervisor) connect(ctx context.Context, f *launched, epoch abi.Epoch) (*plug, error) {
	pl := &plug{p: f.p, path: f.program.path, size: f.program.size, drop: f.drop,
		over: make(chan struct{}), done: make(chan struct{}), busy: make(chan struct{}, 1), ooms: oomKills()}
	pl.judge = judge{p: f.p.l, cpu: s.HangCPU, slowCPU: s.SlowCPU}
	if pl.judge.cpu == 0 {
		pl.judge.cpu = hangCPU
	}
	link, err := modproxy.Open(ctx, f.p.Stream(), f.p, modproxy.Options{
		Instance: f.instance, Epoch: epoch, Ring: f.p.TakeRing(), Counters: ring.NewCounters(s.Evcnt),
		Stream: stream.Options{Deadline: s.Deadline, Busy: pl.waited, Excuse: pl.judge.starved.Load},
	})
	if err != nil {
		f.kill()
		return nil, &StartError{Instance: f.instance, Path: f.program.path, Reason: err}
	}
	pl.link, pl.judge.c = link, link.Conn()
	go pl.watch()
	return pl, nil
}
