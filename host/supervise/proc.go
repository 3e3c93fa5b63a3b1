// Package supervise runs component processes: it starts one, connects its
// control plane and data plane, notices its death within milliseconds, and
// can always end it in bounded time.
//
// The words. A Process is one run of a plugin's program for one instance. Its
// control plane is go-plugin's gRPC connection (Life); its data plane is a
// unix stream (Stream). To fence is to kill without asking: after Kill no
// byte of the process counts any more.
//
// The usual sequence:
//
//	p, err := supervise.Start(ctx, supervise.Spec{Instance: "vfs", Path: path})
//	reply, err := p.Life(ctx, initFrame)
//	... traffic on p.Stream() ...
//	<-p.Dead()       // it crashed: p.Exit() says how
//	p.Kill()         // always, at the end: releases everything
//
// A Supervisor keeps the instances of a kernel running: a keeper for each, which
// restarts it, with a spare process that stands by if the configuration wants
// that; and for each process a plug, whose watcher notices the death, and judges
// whether it hangs.
//
// What goes wrong. A process can be stopped, loop, never answer, leave
// descendants behind that hold its pipes, or print megabytes. Therefore
// nothing here waits for an answer without a bound: Kill signals the process
// group first and tidies up afterwards, a descendant loses the pipes 250 ms
// after the death, and gRPC calls end when the process does. If the host
// itself is killed, the kernel kills the component: the liveness pipe's other
// end is set up to send SIGKILL when the host's end closes, which works even
// on a stopped process.
//
// When the host is root each component runs under a uid of its own, so that it
// can neither signal nor trace another one or the host. In any case it has
// no_new_privs, its own process group, an empty environment but for what it
// needs, "/" as working directory, and no descriptor that it was not given.
//
// Locks: launcher.mu, dialer.mu, pipe.mu, plug.mu and uids.mu are leaves; none is
// held while another is taken, except launcher.mu over a launch.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/ring"
	"github.com/rumpus-kernel/rumpus/modapi/serve"
)

// Bounds of waiting.
const (
	startTimeout = 10 * time.Second       // default of Spec.StartTimeout
	lifeTimeout  = 30 * time.Second       // a Life call without a deadline
	stopTimeout  = 2 * time.Second        // Stop, before it kills
	killWait     = 100 * time.Millisecond // Kill, for the death
	endWait      = 3 * time.Second        // for a death that can be seen to be on its way
	releaseWait  = time.Second            // Kill, for the tidying after the death
)

// Grant is a descriptor that a process inherits under a name.
type Grant struct {
	Name string   // without ";" and "="
	File *os.File // stays the caller's: it is duplicated
}

// Spec says how to start one process of a plugin instance.
type Spec struct {
	Instance string   // "vfs"
	Path     string   // the program
	Args     []string // its arguments, none as a rule
	Env      []string // "K=V", beside what every component gets
	Grants   []Grant  // descriptors 5 and up, at most serve.MaxGrants

	// Cred is who the process runs as. nil: a uid of its own without any
	// groups if the host is root, else as the host. See HostCred.
	Cred *syscall.Credential

	StartTimeout time.Duration // from exec until it answers; 0 = 10 s
	Log          hclog.Logger  // named by the instance; nil = none
}

// Process is a running component process, or what is left of one. All
// methods may be called at any time and by anybody.
type Process struct {
	instance string
	l        *launcher
	pid      int
	stream   net.Conn
	ring     *os.File // shared memory, nil if there are no rings
	conn     *grpc.ClientConn
	live     int // write end of the liveness pipe; closed once by closeLive
	liveOnce sync.Once
	released chan struct{} // closed when everything but the stream is
	alive    context.Context
	died     context.CancelFunc
}

// errTooLong is the cause of a start context that ran out.
var errTooLong = errors.New("start timeout")

// Start runs a component and waits until it answers. Its error is a
// *StartError, one clear line; nothing is left behind then. ctx bounds the
// start only.
func Start(ctx context.Context, s Spec) (*Process, error) {
	p, err := start(ctx, s)
	if err != nil {
		return nil, &StartError{Instance: s.Instance, Path: s.Path, Reason: err}
	}
	return p, nil
}

func start(ctx context.Context, s Spec) (*Process, error) {
	if err := s.complete(); err != nil {
		return nil, err
	}
	if err := checkProgram(s.Path); err != nil {
		return nil, err
	}
	cred, giveUID, err := s.credential()
	if err != nil {
		return nil, err
	}
	dir, err := newProcDir(cred != nil)
	if err != nil {
		giveUID()
		return nil, err
	}
	p := &Process{instance: s.Instance, released: make(chan struct{}), live: -1}
	undo := func() { dir.remove(); giveUID(); p.closeStream(); p.closeLive() }
	if err := p.wire(&s); err != nil {
		undo()
		return nil, hostReason(err)
	}
	p.alive, p.died = context.WithCancel(context.Background())
	l := p.l
	l.cred = cred
	l.pin = func(inner string) error { return dir.give(inner, cred) }
	d := &dialer{l: l}
	client := p.newClient(&s, dir, d)

	ctx, cancel := context.WithTimeoutCause(ctx, s.StartTimeout, errTooLong)
	defer cancel()
	unwatch := context.AfterFunc(ctx, l.fence)
	err = p.connect(ctx, client)
	if !unwatch() && err == nil {
		err = ctx.Err() // too late by a hair: it has been killed
	}
	close(l.hold)
	if p.pid, _, _ = l.state(); p.pid == 0 {
		l.neverStarted()
		p.died()
		undo()
		close(p.released)
		return nil, l.explain(ctx, s.StartTimeout, err)
	}
	go p.release(client, d, func() { dir.remove(); giveUID() })
	if err != nil {
		err = l.explain(ctx, s.StartTimeout, err)
		p.Kill()
		return nil, err
	}
	return p, nil
}

// complete checks the Spec and fills its defaults in.
func (s *Spec) complete() error {
	if s.Instance == "" || strings.ContainsAny(s.Instance, "\x00\n=/") {
		return because(abi.EINVAL, "instance name %q is not usable", s.Instance)
	}
	if s.Path == "" || strings.ContainsRune(s.Path, 0) {
		return because(abi.EINVAL, "path %q is not usable", s.Path)
	}
	for _, kv := range append(s.Env[:len(s.Env):len(s.Env)], s.Args...) {
		if strings.ContainsRune(kv, 0) {
			return because(abi.EINVAL, "NUL in %q", kv)
		}
	}
	for _, g := range s.Grants {
		if g.File == nil {
			return because(abi.EINVAL, "grant %q has no file", g.Name)
		}
	}
	abs, err := filepath.Abs(s.Path)
	if err != nil {
		return hostReason(err)
	}
	s.Path = abs
	if s.StartTimeout <= 0 {
		s.StartTimeout = startTimeout
	}
	if s.Log == nil {
		s.Log = hclog.NewNullLogger()
	}
	return nil
}

// credential decides who the process runs as; nil is as the host. give ends
// the reservation of a uid.
func (s *Spec) credential() (c *syscall.Credential, give func(), err error) {
	give = func() {}
	if s.Cred != nil {
		if sameAsHost(s.Cred) {
			return nil, give, nil
		}
		return s.Cred, give, nil
	}
	if why := canIsolate(); why != "" {
		if os.Geteuid() == 0 {
			s.Log.Warn("component runs as root: the host cannot give it a uid of its own", "reason", why)
		}
		return nil, give, nil
	}
	uid, give, err := takeUID()
	if err != nil {
		return nil, nil, because(abi.EAGAIN, "%v", err)
	}
	return &syscall.Credential{Uid: uid, Gid: uid}, give, nil
}

// wire makes the descriptors: liveness pipe, data plane, grants, pipes.
func (p *Process) wire(s *Spec) error {
	names := make([]string, len(s.Grants))
	for i, g := range s.Grants {
		names[i] = g.Name
	}
	grants, err := serve.FormatGrants(names)
	if err != nil {
		return err
	}
	var child []int // descriptors 3 and up of the child
	fail := func(what string, err error) error {
		closeAll(child)
		return fmt.Errorf("%s: %w", what, err)
	}
	var live [2]int
	if err := unix.Pipe2(live[:], unix.O_CLOEXEC); err != nil {
		return fail("liveness pipe", err)
	}
	child, p.live = append(child, live[0]), live[1]
	armLiveness(live[0])
	sv, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail("data plane", err)
	}
	child = append(child, sv[1])
	f := os.NewFile(uintptr(sv[0]), "stream "+s.Instance)
	p.stream, err = net.FileConn(f)
	f.Close()
	if err != nil {
		p.stream = nil
		return fail("data plane", err)
	}
	for _, g := range s.Grants {
		fd, err := dupFd(g.File)
		if err != nil {
			return fail("grant "+g.Name, err)
		}
		child = append(child, fd)
	}
	ringFd := ""
	if ring.Enabled() {
		if p.ring, err = ring.Create(true); err != nil {
			return fail("ring", err)
		}
		fd, err := dupFd(p.ring)
		if err != nil {
			return fail("ring", err)
		}
		ringFd = strconv.Itoa(3 + len(child))
		child = append(child, fd)
	}
	if p.l, err = newLauncher(s.Path, child); err != nil {
		return err
	}
	p.l.args = s.Args
	p.l.env = append([]string{ // the first of a name counts
		serve.EnvInstance + "=" + s.Instance,
		serve.EnvGrants + "=" + grants,
		serve.EnvRing + "=" + ringFd,
		serve.EnvLogLevel + "=" + s.Log.GetLevel().String(),
	}, s.Env...)
	p.l.env = append(p.l.env, "PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/", "TMPDIR=/tmp")
	return nil
}

// dupFd duplicates f's descriptor without touching its blocking mode.
func dupFd(f *os.File) (fd int, err error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	var derr error
	err = rc.Control(func(h uintptr) { fd, derr = unix.FcntlInt(h, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(err, derr)
}

// newClient prepares go-plugin's side.
func (p *Process) newClient(s *Spec, dir *procDir, d *dialer) *plugin.Client {
	return plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  serve.Handshake(),
		VersionedPlugins: serve.Versions(nil),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, tmp string) (runner.Runner, error) {
			p.l.tmp = tmp
			p.l.env = append(p.l.env, cmd.Env...)
			return p.l, nil
		},
		SkipHostEnv:      true,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: dir.path},
		StartTimeout:     s.StartTimeout + time.Second, // the context is first
		Logger:           quiet{Logger: s.Log, component: filepath.Base(s.Path)},
		SyncStdout:       &lineLog{log: s.Log, stream: "stdout"},
		SyncStderr:       &lineLog{log: s.Log, stream: "stderr"},
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithContextDialer(d.dial),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(serve.MaxMessage), grpc.MaxCallSendMsgSize(serve.MaxMessage)),
		},
	})
}

// connect launches the process and brings the control plane up. It always
// returns soon after the launcher was fenced.
func (p *Process) connect(ctx context.Context, client *plugin.Client) error {
	if _, err := client.Start(); err != nil {
		return err
	}
	// From here on Client is called in any case: only then can client.Kill
	// close what it opened.
	cp, err := client.Client()
	if err != nil {
		return err
	}
	gc, ok := cp.(*plugin.GRPCClient)
	if !ok {
		return fmt.Errorf("control plane is a %T", cp)
	}
	p.conn = gc.Conn
	return healthy(ctx, p.conn)
}

// neverStarted finishes a launcher whose process never was.
func (l *launcher) neverStarted() {
	l.mu.Lock()
	extra, failed := l.extra, l.failure != nil
	l.extra = nil
	if l.failure == nil {
		l.failure = errFenced
	}
	l.mu.Unlock()
	if !failed { // go-plugin gave up before it came to Start
		closeAll(append(extra, l.childOut, l.childErr))
		l.stdout.Close()
		l.stderr.Close()
	}
}

// release tidies up behind a dead process. go-plugin's Kill asks the process
// to end over gRPC first, so it comes last, when every connection is dead.
func (p *Process) release(client *plugin.Client, d *dialer, free func()) {
	<-p.l.dead
	p.died()
	p.closeLive()
	d.closeAll()
	<-p.l.drained
	client.Kill()
	free()
	close(p.released)
}

// closeLive closes the host's end of the liveness pipe.
func (p *Process) closeLive() {
	p.liveOnce.Do(func() {
		if p.live >= 0 {
			unix.Close(p.live)
		}
	})
}

// closeStream closes the data plane's host end.
func (p *Process) closeStream() {
	if p.ring != nil {
		p.ring.Close()
	}
	if p.stream != nil {
		p.stream.Close()
	}
}

// Pid is the process number. It may be another process's after Dead.
func (p *Process) Pid() int { return p.pid }

// Stream is the host's end of the data plane. It stays open after the death,
// so that what the process still sent can be read, until Kill.
func (p *Process) Stream() net.Conn { return p.stream }

// TakeRing maps the shared memory of the process's ring, once, for the caller
// to attach or unmap. nil: there is none, or not any more.
func (p *Process) TakeRing() *ring.Mem {
	if p.ring == nil {
		return nil
	}
	m, err := ring.Map(p.ring)
	p.ring.Close()
	if err != nil {
		return nil
	}
	return m
}

// Dead is closed when the process has ended, within milliseconds.
func (p *Process) Dead() <-chan struct{} { return p.l.dead }

// Exit is how the process ended; valid after Dead.
func (p *Process) Exit() Exit {
	x, _ := p.l.exited()
	return x
}

// LastWords, after Dead, is the line on stderr that most likely says why the process
// ended: a panic's, else the last one; "" if there was none. One line of at
// most 200 printable bytes, whatever the component wrote.
func (p *Process) LastWords() string {
	waitFor(p.l.drained, 2*pipeLinger)
	return p.l.stderr.lastWords()
}

// Life sends one encoded frame over the control plane and returns the answer.
// Errors: a *DeadError if the process ended; ctx's error if the caller gave
// up, ETIMEDOUT after 30 s if ctx has no deadline; EMSGSIZE, ENOSYS or EIO
// with gRPC's text for the rest.
func (p *Process) Life(ctx context.Context, frame []byte) ([]byte, error) {
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, lifeTimeout, abi.ETIMEDOUT)
		defer cancel()
	}
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.alive, cancel)()
	out, err := serve.CallLife(call, p.conn, frame)
	if err == nil {
		return out, nil
	}
	switch status.Code(err) {
	case codes.Unavailable: // the connection breaks a moment before the death shows
		p.l.ending()
	case codes.Canceled, codes.DeadlineExceeded: // the component has the deadline too, and may be first
		waitFor(ctx.Done(), killWait)
	}
	if x, dead := p.l.exited(); dead {
		return nil, fmt.Errorf("life: %w", &DeadError{Instance: p.instance, Exit: x})
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("component %s: life: %w", p.instance, context.Cause(ctx))
	}
	if errors.Is(err, abi.EMSGSIZE) {
		return nil, fmt.Errorf("component %s: life: %w", p.instance, err)
	}
	return nil, fmt.Errorf("component %s: life: %s: %w", p.instance, oneLine(status.Convert(err).Message()), callErrno(err))
}

// Kill fences the process: SIGKILL to its group, without asking. It waits at
// most 100 ms for the death and a second for the tidying; both go on in the
// background if they take longer. It may be called again.
func (p *Process) Kill() {
	p.l.fence()
	p.closeStream()
	if waitFor(p.l.dead, killWait) {
		waitFor(p.released, releaseWait)
	}
}

// Fence is the urgent half of Kill: SIGKILL to the group, and 100 ms at most for
// the death. A corpse that stays in the host's kernel (state D) is left behind.
// Kill is to follow.
func (p *Process) Fence() {
	p.l.fence()
	waitFor(p.l.dead, killWait)
}

// Stop asks the process to end by closing the data plane, waits for it until
// ctx is done but at most 2 s, then kills what is left. Call it after the
// modules are finished (Life).
func (p *Process) Stop(ctx context.Context) {
	p.closeStream()
	t := time.NewTimer(stopTimeout)
	defer t.Stop()
	select {
	case <-p.l.dead:
	case <-t.C:
	case <-ctx.Done():
	}
	p.Kill()
}
