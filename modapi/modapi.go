// Package modapi is the interface between the kernel and a module: a file
// system, protocol, driver or anything else that is loaded into a running
// kernel.
//
// The words. A module is what NetBSD's module(9) calls so: it has an Info
// (modinfo), is initialised and finished (modcmd INIT and FINI), and attaches
// at init what it offers. A plugin is the process that carries one or several
// modules; an instance is one such process as the configuration names it. A
// component is one of the three factions vfs, net and dev.
//
// The usual sequence:
//
//	Info -> Init(fresh): k.AttachFS(...) -> operations -> Fini
//	        Init(restart) in a new process, after the old one died
//
// A module's main function is one line:
//
//	func main() { serve.Main(hello.New()) }
//
// A module may just as well be bound in-process (tests, embedders) or reached
// over a stream or a ring: it cannot tell.
//
// What goes wrong: an error from Init unloads the module; a panic anywhere
// ends the process, and the kernel starts a new one. So does a handler that
// works or waits for too long: operations are to be short, or to call Tick.
// Everything that was attached is detached by the kernel at Fini or death.
package modapi

import (
	"context"
	"os"
	"sync/atomic"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Module is what a component process offers to the kernel.
type Module interface {
	// Info describes the module; always the same answer.
	Info() Info
	// Init attaches what the module has. Its error is the load's error.
	Init(ctx context.Context, k Kernel, r Reason, p Props) error
	// Fini ends the module. EBUSY keeps it loaded.
	Fini(ctx context.Context) error
}

// Stater is a module with something to say (modcmd STAT). Without it: ENOTTY.
type Stater interface {
	Stat(ctx context.Context) (string, error)
}

// AutoUnloader is a module that can be unloaded when idle (modcmd
// AUTOUNLOAD): nil or ENOTTY = may, else not. Without it: ENOTTY.
type AutoUnloader interface {
	AutoUnload(ctx context.Context) error
}

// Kernel is the kernel towards a module. It is valid until Fini returns.
// Attach calls are for Init only (EPERM later); EEXIST if the name is taken.
type Kernel interface {
	// AttachFS adds a file-system type (vfs_attach). c are the declared
	// capabilities; those for optional interfaces are added per mount.
	AttachFS(name string, t vfsops.FSType, c vfsops.Caps) error
	// AttachChr adds a character device driver (devsw_attach).
	AttachChr(name string, d devops.Chr) (abi.Dev, error)
	// AttachBlk adds a block device driver (devsw_attach of a bdevsw) and
	// answers the number of its unit 0. For each node NAME of devops.Noder
	// devfs shows the block device NAME and the raw character device rNAME,
	// which is the kernel's own.
	AttachBlk(name string, d devops.Blk) (abi.Dev, error)
	// BlkChanged makes the kernel ask a driver of the module, by the number
	// that AttachBlk answered, for its nodes and their geometry again: units
	// came or went. When it returns devfs shows them. It is not called with a
	// lock held that Nodes takes. EEXIST: a node is another driver's.
	BlkChanged(dev abi.Dev) error
	// Block opens a block device of the kernel for the module alone: until it
	// is closed another Block or mount of it is EBUSY, but for units of one
	// driver, which may share it. user is the unit that
	// stands on it, a number of the module's own drivers, or abi.NoDev for what
	// is no block device itself. The device's rank becomes one more than that of
	// what it stands on, at most 8: ELOOP beyond, and EDEADLK if the device
	// stands on user, or without a user on any unit of the module. ENXIO: no
	// such device. All that is open is closed by the kernel at Fini or death.
	// A disk of the module's own process is not there yet while that is started
	// again: such a one is opened at its user's Configure, Open or first Buf.
	Block(dev, user abi.Dev) (devops.BlockIO, error)
	// Store is where a file system with vfsops.CapCheckpoint keeps the state of
	// a mount between one process and the next: from the call of Mount on until
	// Unmount. For any other mount all it answers is ENXIO.
	Store(mount abi.Fsid) Store
	// AttachDomain adds a protocol family (domain_attach).
	AttachDomain(af int, d sockops.Domain) error
	// AttachIf adds an interface class (if_clone_attach).
	AttachIf(class string, c sockops.IfClass) error
	// Sysctl adds a node to the sysctl tree below its module's subtree.
	Sysctl(n SysctlNode) error
	// Evcnt is an event counter (evcnt_attach_dynamic), shown by vmstat -e.
	Evcnt(group, name string) *Counter
	// Syscall adds a system call, numbers 640 to 767 or NetBSD's of its
	// modules aio, ksem, mqueue, sysv_ipc. Class misc only.
	Syscall(num int, fn SyscallFn) error
	// Ready says that a socket may have become ready. It never waits.
	Ready(r sockops.Ready)
	// DevReady says that a device may have become ready. It never waits.
	DevReady(r devops.Ready)
	// Granted is a descriptor that the host opened for this instance because
	// the configuration says so ("host.dir:/data"). The caller owns it.
	// ENOENT if there is none of that name. Of a grant "host.connect:..." each
	// call is a new connection, which takes its time (package grant).
	Granted(name string) (*os.File, error)
	// Log is the module's logger. It never waits.
	Log() Logger
}

// Logger is structured logging: a message and pairs of key and value.
type Logger interface {
	Debug(msg string, kv ...any)
	Info(msg string, kv ...any)
	Warn(msg string, kv ...any)
	Error(msg string, kv ...any)
}

// SysctlNode is a value that a module shows in the sysctl tree. Get and Set
// are called in the module's process.
type SysctlNode struct {
	Name string // dotted, "vfs.tmpfs.nodes"
	Desc string
	Get  func() string
	Set  func(string) error // nil: read-only (EPERM)
}

// SyscallFn is a module's system call. It gets the integer arguments and the
// bytes passed in, and answers a result and bytes for the caller, at most max.
type SyscallFn func(ctx context.Context, c *abi.Caller, a [6]uint64, in []byte, max int) (r uint64, out []byte, err error)

// Counter is an event counter (struct evcnt).
type Counter struct {
	n atomic.Uint64
}

// Add adds d.
func (c *Counter) Add(d uint64) { c.n.Add(d) }

// Inc adds one.
func (c *Counter) Inc() { c.n.Add(1) }

// Load is the count so far.
func (c *Counter) Load() uint64 { return c.n.Load() }
