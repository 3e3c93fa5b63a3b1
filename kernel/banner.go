package kernel

import (
	"fmt"
	"runtime"
	"slices"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// MaxCPU bounds Options.NCPU.
const MaxCPU = 256

// verbose reports whether kernel messages go to the console: the option
// (RUMP_VERBOSE), or AB_VERBOSE in boothowto, unless AB_SILENT is set there.
func (k *Kernel) verbose() bool {
	h := k.Boothowto()
	return (k.o.Verbose || h&abi.AB_VERBOSE != 0) && h&abi.AB_SILENT == 0
}

// threads reports whether the kernel may have threads of its own
// (RUMP_THREADS). System calls run on their callers' either way.
func (k *Kernel) threads() bool { return k.o.Threads == nil || *k.o.Threads }

// ncpu is the number of virtual CPUs.
func (k *Kernel) ncpu() int {
	if k.o.NCPU > 0 {
		return k.o.NCPU
	}
	return k.hyp.NCPU()
}

// banner writes what NetBSD's kernel says first, if it is to be verbose.
func (k *Kernel) banner() {
	if !k.verbose() {
		return
	}
	k.Msg.Printf("rumpus %s (%s)", Getversion(), runtime.Version())
	limit := "unlimited (host limit)"
	if k.o.MemLimit > 0 {
		limit = fmt.Sprintf("%d KB", k.o.MemLimit>>10)
	}
	k.Msg.Printf("total memory = %s", limit)
}

// attachCPUs is the virtual CPUs' turn in autoconfiguration. There is nothing
// to attach but the messages: see package proc.
func (k *Kernel) attachCPUs() {
	if !k.verbose() {
		return
	}
	for i := range k.ncpu() {
		k.Msg.Printf("cpu%d at thinair0: rump virtual cpu", i)
	}
}

// ShutdownHook has fn run when the kernel reboots in order
// (shutdownhook_establish): after the modules' ends, the latest hook first, and
// not after a panic or with RB_DUMP. fn must not wait. It answers how to remove
// the hook.
func (k *Kernel) ShutdownHook(fn func()) (remove func()) {
	h := &shutdownHook{fn}
	k.mu.Lock()
	k.hooks = append(k.hooks, h)
	k.mu.Unlock()
	return func() {
		k.mu.Lock()
		k.hooks = slices.DeleteFunc(k.hooks, func(x *shutdownHook) bool { return x == h })
		k.mu.Unlock()
	}
}

type shutdownHook struct{ fn func() }

// doShutdownHooks runs each hook once.
func (k *Kernel) doShutdownHooks() {
	k.mu.Lock()
	hooks := k.hooks
	k.hooks = nil
	k.mu.Unlock()
	for _, h := range slices.Backward(hooks) {
		h.fn()
	}
}
