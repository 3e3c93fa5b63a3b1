// Package kernel assembles a rump kernel: it makes the subsystems in the order
// of the seed's rump__init, hooks them to each other, boots, and reboots.
//
// One Kernel is one kernel; several may live in one process. New makes it cold,
// Boot brings it up, Client gives a program its way in, Reboot ends it:
//
//	k := kernel.New(kernel.Options{Modules: []modapi.Module{tmpfs.New(), inet.New()}})
//	if err := k.Boot(ctx); err != nil { ... }
//	c, err := k.Client("prog")
//	...
//	k.Reboot(ctx, 0)
//
// A kernel boots once. A second Boot while it runs does nothing; after a
// reboot it answers "host process restart required" (defect A of the seed: there
// that case was dead code).
//
// Components are optional. What is absent answers "component not available",
// and boot goes on without it.
//
// Locks: Kernel.mu protects the state only, and is a leaf.
package kernel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rumpus-kernel/rumpus/kernel/bio"
	"github.com/rumpus-kernel/rumpus/kernel/clock"
	"github.com/rumpus-kernel/rumpus/kernel/dev"
	"github.com/rumpus-kernel/rumpus/kernel/etfs"
	"github.com/rumpus-kernel/rumpus/kernel/evcnt"
	"github.com/rumpus-kernel/rumpus/kernel/evlog"
	"github.com/rumpus-kernel/rumpus/kernel/file"
	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/kernel/iostat"
	"github.com/rumpus-kernel/rumpus/kernel/kauth"
	"github.com/rumpus-kernel/rumpus/kernel/kprintf"
	"github.com/rumpus-kernel/rumpus/kernel/ksyms"
	"github.com/rumpus-kernel/rumpus/kernel/kthread"
	"github.com/rumpus-kernel/rumpus/kernel/module"
	"github.com/rumpus-kernel/rumpus/kernel/proc"
	"github.com/rumpus-kernel/rumpus/kernel/socket"
	"github.com/rumpus-kernel/rumpus/kernel/syscall"
	"github.com/rumpus-kernel/rumpus/kernel/sysctl"
	"github.com/rumpus-kernel/rumpus/kernel/vfs"
	"github.com/rumpus-kernel/rumpus/kernel/vnd"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
)

// Version is RUMP_VERSION: what an embedder was compiled against.
const Version = 1

// DefaultMaxFiles is kern.maxfiles unless the options say otherwise.
const DefaultMaxFiles = 16384

// Options configure a kernel. The zero value is a kernel without components.
type Options struct {
	Version     int                               // 0 = Version; another one is EPROGMISMATCH
	Hyper       hyper.Hyper                       // nil = hyper.Base: no component processes
	Modules     []modapi.Module                   // bound in this process, attached at boot
	Props       map[string]modapi.Props           // of these modules, by name
	Components  []Component                       // plugin instances, started together and attached in the order vfs, net, dev, others
	Devices     []Device                          // attached before the root file system or, if they are vnd or stand on what is not there yet, after the mounts that they need; in an order that suits them
	Mounts      []vfs.MountArgs                   // in order; nil and a vfs component: tmpfs on /, devfs on /dev
	Ifs         []sockops.IfConfig                // nil: lo0
	Sysctl      map[string]string                 // set at the end of boot
	ModulePath  string                            // kern.module.path, for who reads it: the host does the looking
	Hostname    string                            // "" = the host's
	NCPU        int                               // 0 = the host's
	MemLimit    int64                             // bytes of all caches of files, see vfs.Memory; 0 = a quarter of the memory
	Secmodels   []string                          // security models (Secmodels); nil = suser; none = everybody may do everything
	Verbose     bool                              // kernel messages to the console (RUMP_VERBOSE)
	Threads     *bool                             // RUMP_THREADS; nil = true
	BlkFail     dev.Fail                          // block requests that fail on purpose (RUMP_BLKFAIL)
	RestartWait time.Duration                     // how long callers wait for a component; 0 = 5 s
	LoadTimeout time.Duration                     // for starting and initialising an instance; 0 = 15 s
	LogSink     func(level, msg string, kv []any) // every log record, for the host's log
	Watch       func(*Kernel, *module.Instance)   // an instance runs: the host's supervisor takes over
	OnReboot    func(howto int)                   // reboot(2) was called; nil: the kernel reboots itself

	// Poison is told of a request that killed the process of a file system
	// twice: see vfs.Options. nil: nobody is.
	Poison func(p *vfs.Poison) string
	// MountFailed is told of one of Mounts that could not be made at boot. An
	// error from it ends the boot; nil, and a nil MountFailed, go on without it.
	MountFailed func(m vfs.MountArgs, err error) error
}

// Component is a plugin instance of the configuration.
type Component struct {
	Name      string
	Plugin    string // name on the module path, or a path
	Class     modapi.Class
	Essential bool // boot fails without it
	Props     modapi.Props
}

// State is where a kernel is in its life.
type State string

// The states.
const (
	Cold     State = "cold"
	Booting  State = "booting"
	Running  State = "running"
	Halting  State = "halting"
	Halted   State = "halted" // RB_HALT: for ever
	Done     State = "done"   // rebooted; a new Kernel is needed
	Panicked State = "panic"
)

// Kernel is a rump kernel.
type Kernel struct {
	o    Options
	hyp  hyper.Hyper
	boot time.Time

	VFS         *vfs.VFS
	Socket      *socket.Layer
	Dev         *dev.Switch
	Etfs        *etfs.Table
	Vnd         *vnd.Table
	Bio         *bio.System
	disks       diskMounts
	Sysctl      *sysctl.Tree
	Evcnt       *evcnt.Set
	Msg         *kprintf.Msgbuf
	Events      *evlog.Log
	Procs       *proc.Table
	Files       *file.Table
	Pipes       *file.Pipes
	Mod         *module.Manager
	Callouts    *clock.Callouts
	Threads     *kthread.Table
	Auth        *kauth.Auth
	sys         *syscall.Kernel
	forks       forks
	sysproxy    atomic.Pointer[sysproxyHook]
	sigmodel    atomic.Pointer[proc.Sigmodel] // nil until SetSigmodel
	howto       atomic.Int64                  // boothowto
	aiodoned    atomic.Pointer[kthread.Workqueue]
	Ksyms       *ksyms.Table
	Iostat      *iostat.Set
	securelevel *kauth.Securelevel // nil: not asked for
	extensions  *kauth.Extensions  // nil: not asked for

	mu         sync.Mutex
	state      State    // protected by mu
	panicstr   string   // protected by mu
	trace      []string // boot steps, protected by mu
	hostname   string   // protected by mu
	domainname string   // protected by mu
	hostid     atomic.Int64
	hooks      []*shutdownHook // protected by mu
	done       chan struct{}

	// Steps of Boot, each closed when it is reached: cancelBoot is set, the
	// subsystems are there, nothing more is attached or mounted.
	began, core, settled chan struct{}
	cancelBoot           context.CancelFunc // before began
}

// New makes a cold kernel.
func New(o Options) *Kernel {
	if o.Hyper == nil {
		o.Hyper = hyper.Base{}
	}
	if o.LoadTimeout == 0 {
		o.LoadTimeout = 15 * time.Second
	}
	k := &Kernel{o: o, hyp: o.Hyper, state: Cold, done: make(chan struct{}),
		began: make(chan struct{}), core: make(chan struct{}), settled: make(chan struct{})}
	k.Evcnt = evcnt.New() // the host counts while it starts the components
	k.boot = o.Hyper.Now()
	k.Msg = kprintf.New(o.Hyper.Now, consoleWriter{k}, o.LogSink)
	k.Events = evlog.New(o.Hyper.Now)
	return k
}

// consoleWriter shows messages on the console of a verbose kernel.
type consoleWriter struct{ k *Kernel }

func (w consoleWriter) Write(p []byte) (int, error) {
	if w.k.verbose() {
		w.k.hyp.Console(p)
	}
	return len(p), nil
}

// State is where the kernel is in its life.
func (k *Kernel) State() State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state
}

// Done is closed when the kernel has ended: rebooted or panicked.
func (k *Kernel) Done() <-chan struct{} { return k.done }

// PanicString is what the kernel panicked with, or "".
func (k *Kernel) PanicString() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.panicstr
}

// BootTrace lists the steps of the boot in order.
func (k *Kernel) BootTrace() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]string(nil), k.trace...)
}

// Boothowto are the RB_* and AB_* flags for boot (rump_boot_gethowto).
func (k *Kernel) Boothowto() int {
	return int(k.howto.Load())
}

// SetBoothowto sets them (rump_boot_sethowto). AB_VERBOSE before Boot shows the
// boot on the console, AB_SILENT shows nothing.
func (k *Kernel) SetBoothowto(howto int) {
	k.howto.Store(int64(howto))
}

// Getversion is the kernel's version (rump_getversion).
func Getversion() abi.KernVersion { return abi.KernVersionCurrent }

// Panic stops the kernel at once: nothing is synced, the components are ended,
// the message buffer stays. The host process goes on. Modules bound in this
// process cannot be ended by force; what they have running stays.
func (k *Kernel) Panic(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	k.mu.Lock()
	first := k.panicstr == "" && k.state != Done
	if first {
		k.panicstr = s
	}
	k.mu.Unlock()
	if first {
		k.Msg.Printf("panic: %s", s)
		go k.Reboot(context.Background(), abi.RB_DUMP)
	}
}

// errRestart is the answer to a Boot after a reboot.
var errRestart = fmt.Errorf("rump_init: host process restart required: %w", abi.EBUSY)

// ErrRestartRequired reports whether err is the answer of Boot to a kernel
// that has ended.
func ErrRestartRequired(err error) bool { return errors.Is(err, errRestart) }
