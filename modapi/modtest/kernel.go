package modtest

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
	"github.com/rumpus-kernel/rumpus/modapi/devops"
	"github.com/rumpus-kernel/rumpus/modapi/grant"
	"github.com/rumpus-kernel/rumpus/modapi/sockops"
	"github.com/rumpus-kernel/rumpus/modapi/vfsops"
)

// Kernel is a modapi.Kernel that remembers. The tables may be read when no
// Init is running.
type Kernel struct {
	tb     testing.TB
	grants map[string]*os.File

	binding string

	mu       sync.Mutex
	attach   bool // an Init is running
	major    uint32
	FSTypes  map[string]FSType
	Chrs     map[string]Chr
	Blks     map[string]Blk
	Domains  map[int]sockops.Domain
	Ifs      map[string]sockops.IfClass
	Sysctls  map[string]modapi.SysctlNode
	Syscalls map[int]modapi.SyscallFn
	counters map[string]*modapi.Counter
	socks    map[abi.SockID]chan struct{}
	devs     map[abi.Dev]chan struct{}
	disks    map[abi.Dev]*testDisk
	stores   map[abi.Fsid]*Store
	logs     []string
	nextSock abi.SockID
	nextFsid abi.Fsid
}

// FSType is an attached file-system type.
type FSType struct {
	Type vfsops.FSType
	Caps vfsops.Caps // as declared
}

// Chr is an attached character device driver.
type Chr struct {
	Dev abi.Dev // unit 0
	Ops devops.Chr
}

// Blk is an attached block device driver.
type Blk struct {
	Dev   abi.Dev // unit 0
	Ops   devops.Blk
	Nodes []devops.Node // as of the last BlkChanged; nil: it names none
}

var _ modapi.Kernel = (*Kernel)(nil)

// NewKernel makes one that hands out grants.
func NewKernel(tb testing.TB, grants map[string]*os.File) *Kernel {
	k := &Kernel{tb: tb, grants: grants, major: 200, counters: map[string]*modapi.Counter{},
		socks: map[abi.SockID]chan struct{}{}, devs: map[abi.Dev]chan struct{}{}, disks: map[abi.Dev]*testDisk{}, stores: map[abi.Fsid]*Store{}}
	k.reset()
	return k
}

func (k *Kernel) reset() {
	k.FSTypes = map[string]FSType{}
	k.Chrs = map[string]Chr{}
	k.Blks = map[string]Blk{}
	k.Domains = map[int]sockops.Domain{}
	k.Ifs = map[string]sockops.IfClass{}
	k.Sysctls = map[string]modapi.SysctlNode{}
	k.Syscalls = map[int]modapi.SyscallFn{}
}

// Init initialises m as the kernel would.
func (k *Kernel) Init(m modapi.Module, r modapi.Reason, p modapi.Props) error {
	return k.InitWith(m, k, r, p)
}

// InitWith is Init with another kernel, which embeds k.
func (k *Kernel) InitWith(m modapi.Module, as modapi.Kernel, r modapi.Reason, p modapi.Props) error {
	k.setAttach(true)
	defer k.setAttach(false)
	return m.Init(k.tb.Context(), as, r, p)
}

// Binding is the name of the binding that EachBinding runs; else it is empty.
func (k *Kernel) Binding() string { return k.binding }

// Forget drops what is attached, as the kernel does after Fini.
func (k *Kernel) Forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reset()
}

func (k *Kernel) setAttach(v bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.attach = v
}

// add puts v into a table under Kernel.mu, if it may.
func add[K comparable, V any](k *Kernel, what string, t func() map[K]V, key K, v V) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.attach {
		return fmt.Errorf("attach %s %v outside Init: %w", what, key, abi.EPERM)
	}
	if _, dup := t()[key]; dup {
		return fmt.Errorf("attach %s %v: %w", what, key, abi.EEXIST)
	}
	t()[key] = v
	return nil
}

// AttachFS implements modapi.Kernel, as do the following.
func (k *Kernel) AttachFS(name string, t vfsops.FSType, c vfsops.Caps) error {
	return add(k, "fs", func() map[string]FSType { return k.FSTypes }, name, FSType{t, c})
}

// AttachChr gives out majors from 201.
func (k *Kernel) AttachChr(name string, d devops.Chr) (abi.Dev, error) {
	k.mu.Lock()
	k.major++
	dev := abi.Makedev(k.major, 0)
	k.mu.Unlock()
	return dev, add(k, "chr", func() map[string]Chr { return k.Chrs }, name, Chr{dev, d})
}

// AttachDomain adds a protocol family.
func (k *Kernel) AttachDomain(af int, d sockops.Domain) error {
	return add(k, "domain", func() map[int]sockops.Domain { return k.Domains }, af, d)
}

// AttachIf adds an interface class.
func (k *Kernel) AttachIf(class string, c sockops.IfClass) error {
	return add(k, "interface class", func() map[string]sockops.IfClass { return k.Ifs }, class, c)
}

// Sysctl adds a node.
func (k *Kernel) Sysctl(n modapi.SysctlNode) error {
	return add(k, "sysctl", func() map[string]modapi.SysctlNode { return k.Sysctls }, n.Name, n)
}

// Syscall adds a system call.
func (k *Kernel) Syscall(num int, fn modapi.SyscallFn) error {
	if num < 640 || num > 767 {
		return fmt.Errorf("system call %d: %w", num, abi.EINVAL)
	}
	return add(k, "system call", func() map[int]modapi.SyscallFn { return k.Syscalls }, num, fn)
}

// Evcnt is the counter of that name.
func (k *Kernel) Evcnt(group, name string) *modapi.Counter {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.counters[group+" "+name]
	if c == nil {
		c = new(modapi.Counter)
		k.counters[group+" "+name] = c
	}
	return c
}

// Ready puts an element into SockEdges.
func (k *Kernel) Ready(r sockops.Ready) { nudge(k.SockEdges(r.Sock)) }

// DevReady puts an element into DevEdges.
func (k *Kernel) DevReady(r devops.Ready) { nudge(k.DevEdges(r.Dev)) }

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// SockEdges has an element while there was an edge of the socket that nobody
// has taken.
func (k *Kernel) SockEdges(id abi.SockID) chan struct{} { return edges(k, k.socks, id) }

// DevEdges has an element while there was an edge of the device.
func (k *Kernel) DevEdges(d abi.Dev) chan struct{} { return edges(k, k.devs, d) }

func edges[K comparable](k *Kernel, t map[K]chan struct{}, key K) chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := t[key]
	if c == nil {
		c = make(chan struct{}, 1)
		t[key] = c
	}
	return c
}

// NewSock issues a socket id, NewFsid a mount id.
func (k *Kernel) NewSock() abi.SockID {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.nextSock++
	return k.nextSock
}

// NewFsid issues a mount id.
func (k *Kernel) NewFsid() abi.Fsid {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.nextFsid++
	return k.nextFsid
}

// Granted answers a duplicate of a grant, or a new connection.
func (k *Kernel) Granted(name string) (*os.File, error) {
	f := k.grants[name]
	if f == nil {
		return nil, fmt.Errorf("granted %q: %w", name, abi.ENOENT)
	}
	return grant.Take(name, f)
}

// Log writes to the test's log, and keeps the lines for Logs.
func (k *Kernel) Log() modapi.Logger { return logger{k} }

// Logs are the lines logged so far, "level: text key=value".
func (k *Kernel) Logs() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]string(nil), k.logs...)
}

type logger struct{ k *Kernel }

func (l logger) Debug(msg string, kv ...any) { l.log("debug", msg, kv) }
func (l logger) Info(msg string, kv ...any)  { l.log("info", msg, kv) }
func (l logger) Warn(msg string, kv ...any)  { l.log("warn", msg, kv) }
func (l logger) Error(msg string, kv ...any) { l.log("error", msg, kv) }

func (l logger) log(level, msg string, kv []any) {
	var b strings.Builder
	b.WriteString(level + ": " + msg)
	for i := 0; i+1 < len(kv); i += 2 {
		fmt.Fprintf(&b, " %v=%v", kv[i], kv[i+1])
	}
	l.k.mu.Lock()
	defer l.k.mu.Unlock()
	l.k.logs = append(l.k.logs, b.String())
}
