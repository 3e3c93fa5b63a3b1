// Package run is `rumpus run`: a host process around one kernel. It boots the
// kernel of a configuration, serves clients on a unix socket, restarts
// components, and ends everything in order.
//
// The sequence: the socket is taken, so that two hosts never boot for one;
// components are started together, the kernel boots, clients are served, a line
// beginning "ready" goes to standard output, and then it waits: for reboot(2),
// SIGTERM or SIGINT (both: sync, unmount, exit 0; a second signal: at once), or
// the kernel's panic (exit 70). A client that connects while the kernel boots
// waits for it.
//
// Who may connect: the socket's directory is the user's own and 0700, the
// socket has the configured mode, and the peer's uid is checked. The uid of the
// host is the super-user inside; root of the machine as well.
package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/rumpus-kernel/rumpus/host/config"
	"github.com/rumpus-kernel/rumpus/host/repro"
	"github.com/rumpus-kernel/rumpus/host/supervise"
	"github.com/rumpus-kernel/rumpus/kernel"
	"github.com/rumpus-kernel/rumpus/kernel/dev"
	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/kernel/module"
	"github.com/rumpus-kernel/rumpus/kernel/sysproxy"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/wire"
)

// Exit codes of `rumpus run`.
const (
	ExitOK     = 0
	ExitFailed = 1 // the boot failed, the socket is taken
	ExitConfig = 2
	ExitPanic  = 70
)

// Options of a run.
type Options struct {
	Config  *config.Config
	Stdout  io.Writer // the ready line
	Stderr  io.Writer // log and console
	Verbose bool      // log at least at level info
	Environ []string  // nil = the process's

	booted   func(*kernel.Kernel)           // test hook, called when the kernel runs
	deadline func(wire.Class) time.Duration // nil = the classes'
	tune     func(*supervise.Supervisor)    // test hook, called before the kernel boots
}

// Run boots the kernel, serves it until it ends or ctx does, and answers the
// exit code.
func Run(ctx context.Context, o Options) int {
	h, code := newHost(o)
	if h == nil {
		return code
	}
	defer h.close()
	return h.run(ctx)
}

type host struct {
	o      Options
	cfg    *config.Config
	log    hclog.Logger
	logOut io.Closer
	sup    *supervise.Supervisor
	k      *kernel.Kernel
	reboot chan int
	repro  *repro.Dir // nil: reproducers are not kept
	exeDir string     // of the program, for $EXE
}

func newHost(o Options) (*host, int) {
	h := &host{o: o, cfg: o.Config, reboot: make(chan int, 1)}
	if err := h.openLog(); err != nil {
		fmt.Fprintf(o.Stderr, "rumpus: %v\n", err)
		return nil, ExitConfig
	}
	exe, err := os.Executable()
	if err != nil {
		fmt.Fprintf(o.Stderr, "rumpus: %v\n", err)
		return nil, ExitFailed
	}
	dir := filepath.Dir(exe)
	h.exeDir = dir
	policy := make(map[string]supervise.Policy)
	for _, c := range h.cfg.Enabled() {
		policy[c.Name] = supervise.Policy{Grants: c.Grant, StartTimeout: c.StartTimeout, Budget: c.Restart.Budget, Window: c.Restart.Window, Spare: c.Restart.Spare}
	}
	h.sup = supervise.NewSupervisor(func(name string) (string, error) {
		path, err := h.cfg.PluginPath(name, dir)
		if err != nil {
			return "", noPlugin{err}
		}
		return path, nil
	}, policy, h.log)
	h.sup.Deadline = o.deadline
	h.sup.SlowCPU = supervise.SlowCPU
	if o.tune != nil {
		o.tune(h.sup)
	}
	h.keepRepros()
	h.k = kernel.New(h.kernelOptions())
	h.sup.Evcnt = func(group, name string) *modapi.Counter { return h.k.Evcnt.Attach(group, name) }
	return h, 0
}

// noPlugin is the error of a plugin that is not there, ENOENT, or that cannot be
// run, EACCES; with its text.
type noPlugin struct{ error }

func (e noPlugin) Unwrap() error {
	if errors.Is(e.error, fs.ErrPermission) {
		return abi.EACCES
	}
	return abi.ENOENT
}

// openLog opens the host's log: hclog, quiet by default.
func (h *host) openLog() error {
	out := h.o.Stderr
	if f := h.cfg.Log.File; f != "" {
		file, err := os.OpenFile(f, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return fmt.Errorf("log/file: %w", err)
		}
		out, h.logOut = file, file
	}
	level := hclog.LevelFromString(h.cfg.Log.Level)
	if h.o.Verbose && (level == hclog.NoLevel || level > hclog.Info) {
		level = hclog.Info
	}
	h.log = hclog.New(&hclog.LoggerOptions{Name: "rumpus", Level: level, Output: out, JSONFormat: h.cfg.Log.JSON})
	return nil
}

func (h *host) kernelOptions() kernel.Options {
	c := h.cfg
	o := kernel.Options{
		Hyper:      hypercalls{h: h},
		Hostname:   c.Kernel.Hostname,
		NCPU:       c.Kernel.NCPU.Count(),
		MemLimit:   int64(min(c.Kernel.Memlimit.Of(memTotal()), math.MaxInt64)),
		Verbose:    c.Kernel.Verbose,
		Threads:    &c.Kernel.Threads,
		Sysctl:     make(map[string]string),
		Secmodels:  append([]string{}, c.Kernel.Secmodels...),
		ModulePath: strings.Join(c.ModuleDirs(h.exeDir), ":"),
		Mounts:     h.mounts(),
		LogSink:    h.kernelLog,
		OnReboot: func(howto int) {
			select {
			case h.reboot <- howto:
			default:
			}
		},
		Watch: func(k *kernel.Kernel, i *module.Instance) { h.sup.Watch(k.Mod, i) },
	}
	o.BlkFail, _ = dev.ParseFail(c.Kernel.Blkfail, c.Kernel.BlkfailSeed) // the configuration has been checked
	for name, v := range c.Kernel.Sysctl {
		o.Sysctl[name] = sysctlText(v)
	}
	for _, comp := range c.Enabled() {
		o.Components = append(o.Components, kernel.Component{Name: comp.Name, Plugin: comp.Plugin, Class: classOf(comp.Class),
			Essential: comp.Essential, Props: modapi.Props(comp.Props)})
		o.RestartWait = max(o.RestartWait, comp.Restart.Wait)
		o.LoadTimeout = max(o.LoadTimeout, comp.StartTimeout+5*time.Second)
	}
	if h.repro != nil {
		o.Poison = h.repro.Keep
	}
	o.Devices = devices(c)
	o.MountFailed = h.mountFailed
	return o
}

func classOf(s string) modapi.Class {
	switch s {
	case "vfs":
		return modapi.ClassVFS
	case "net":
		return modapi.ClassNet
	case "dev":
		return modapi.ClassDriver
	}
	return modapi.ClassMisc
}

func sysctlText(v any) string {
	switch v := v.(type) {
	case bool:
		if v {
			return "1"
		}
		return "0"
	}
	return fmt.Sprint(v)
}

// memTotal is the machine's memory in bytes.
func memTotal() uint64 {
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) != nil {
		return 0
	}
	return si.Totalram * uint64(si.Unit)
}

// kernelLog passes the kernel's records on to the host's log.
func (h *host) kernelLog(level, msg string, kv []any) {
	name, text, ok := strings.Cut(msg, ": ")
	log := h.log
	if ok && modapi.ValidName(name) {
		log, msg = h.log.Named(name), text
	}
	switch level {
	case "debug":
		log.Debug(msg, kv...)
	case "info":
		log.Info(msg, kv...)
	case "warn":
		log.Warn(msg, kv...)
	default:
		log.Error(msg, kv...)
	}
}

func (h *host) close() {
	h.sup.Close()
	if h.repro != nil {
		h.repro.Wait()
	}
	if h.logOut != nil {
		h.logOut.Close()
	}
}

func (h *host) run(ctx context.Context) int {
	sigs := make(chan os.Signal, 4)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(sigs)
	// Who read the log may be gone: that ends a line of it, not the kernel.
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	defer signal.Stop(pipe)

	path := h.cfg.SocketPath(h.environ())
	l, err := listen(path, os.FileMode(h.cfg.Server.Mode.Perm()))
	if err != nil {
		return h.fail(err)
	}
	defer l.Close()
	bootCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	booted := make(chan error, 1)
	go func() { booted <- h.k.Boot(bootCtx) }()
	select {
	case err := <-booted:
		if err != nil && h.k.PanicString() != "" {
			<-h.k.Done()
			return h.code()
		}
		if err != nil {
			return h.fail(err)
		}
	case <-sigs:
		cancel()
		if err := <-booted; err == nil {
			h.k.Reboot(context.Background(), 0)
		}
		return ExitOK
	}

	ways, err := h.startExports(bootCtx)
	if err != nil {
		h.closeExports(ways)
		h.k.Reboot(context.Background(), 0)
		return h.fail(err)
	}
	serveCtx, stopServing := context.WithCancel(context.Background())
	defer stopServing()
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := h.serve(serveCtx, l); err != nil {
			h.log.Error("no more clients are taken", "error", err)
		}
	}()
	stop := func() {
		stopServing()
		<-served
		h.closeExports(ways)
	}
	if h.o.booted != nil {
		h.o.booted(h.k)
	}
	fmt.Fprintf(h.o.Stdout, "ready: unix://%s pid=%d (try: rumpus --server unix://%s ls -l /)\n", path, os.Getpid(), path)

	howto := 0
	var first signalAt
	select {
	case <-ctx.Done():
	case s := <-sigs:
		first = signalAt{s, time.Now()}
	case howto = <-h.reboot:
		// Let the reply to halt get out before its client is cut off.
		h.settle()
	case <-h.k.Done():
	}
	return h.shutdown(ctx, howto, first, sigs, stop)
}

// signalAt is a signal and when it came; the zero value is none.
type signalAt struct {
	sig os.Signal
	at  time.Time
}

// oneSignal is how close two signals of a kind must be to be one that was sent
// twice, as timeout(1) does: to its child, and then to the group.
const oneSignal = 200 * time.Millisecond

// shutdown ends the kernel in order. A second signal ends it at once, and so
// does a first one (or the end of ctx) if the kernel has halted for ever.
func (h *host) shutdown(run context.Context, howto int, first signalAt, sigs <-chan os.Signal, stop func()) int {
	ctx, unpark := context.WithCancel(context.Background())
	defer unpark()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		stop()
		h.k.Reboot(ctx, howto)
	}()
	gone := run.Done()
	for {
		select {
		case <-ended:
			return h.code()
		case <-gone:
			gone = nil
			unpark()
		case s := <-sigs:
			if s == first.sig && time.Since(first.at) < oneSignal {
				continue
			}
			unpark() // of no effect before the kernel has halted
			second := first.sig != nil
			first = signalAt{s, time.Now()}
			if second && h.k.State() != kernel.Halted {
				fmt.Fprintln(h.o.Stderr, "rumpus: second signal: ending at once, nothing more is synced")
				h.k.Mod.KillAll(context.Background())
				return ExitFailed
			}
		}
	}
}

// code is the exit code of a kernel that has ended.
func (h *host) code() int {
	if s := h.k.PanicString(); s != "" {
		fmt.Fprintf(h.o.Stderr, "rumpus: kernel panic: %s\n", s)
		return ExitPanic
	}
	return ExitOK
}

// settle gives clients a moment to read what they were answered.
func (h *host) settle() {
	t := time.NewTimer(20 * time.Millisecond)
	defer t.Stop()
	<-t.C
}

func (h *host) fail(err error) int {
	fmt.Fprintf(h.o.Stderr, "rumpus: %v\n", err)
	if errors.Is(err, abi.EPROGMISMATCH) || errors.Is(err, abi.ENOENT) {
		return ExitConfig
	}
	return ExitFailed
}

func (h *host) environ() []string {
	if h.o.Environ != nil {
		return h.o.Environ
	}
	return os.Environ()
}

func (h *host) serve(ctx context.Context, l net.Listener) error {
	return sysproxy.Serve(ctx, l, sysproxy.Options{
		Clients: h.cfg.Server.Clients,
		Log:     h.k.Msg.Logger("sysproxy"),
		Evcnt:   h.k.Evcnt.Attach,
		Version: kernel.Getversion().String(),
		Allow:   h.allow,
		NewProc: func(_ context.Context, p sysproxy.Peer) (sysproxy.Proc, error) {
			return h.k.NewProc(p.Name, credOf(p.Uid, p.Gid))
		},
	})
}

// allow decides who is let in besides the owner: everybody whom the configured
// mode of the socket lets connect. Such a client is itself inside, with its own
// uid, and may do what the kernel lets that uid do.
func (h *host) allow(p sysproxy.Peer) error {
	if h.cfg.Server.Mode.Perm()&0o022 != 0 {
		return nil
	}
	return sysproxy.OwnerOnly(p)
}

// credOf is who a peer is inside: the host's own uid and root are the
// super-user, everybody else is himself.
func credOf(uid, gid uint32) *abi.Cred {
	if uid == 0 || int(uid) == os.Getuid() {
		return abi.Root
	}
	return abi.NewCred(uid, gid)
}

// hypercalls is the host towards the kernel.
type hypercalls struct {
	hyper.Base
	h *host
}

func (c hypercalls) Console(p []byte) { c.h.o.Stderr.Write(p) }
func (c hypercalls) NCPU() int        { return runtime.NumCPU() }

func (c hypercalls) Load(ctx context.Context, s hyper.PluginSpec) (hyper.Plugin, error) {
	return c.h.sup.Load(ctx, s)
}
