// Package hyper is what the kernel asks of its host: the hypercalls
// (rumpuser(3)), and starting component processes.
//
// The kernel itself opens no host file but through OpenFile, starts no process and reads no
// environment; who embeds it passes a Hyper. New gives the plain one of an
// embedder: this process's clock, environment and host name, and no component
// processes.
package hyper

import (
	"context"
	"crypto/rand"
	"os"
	"runtime"
	"time"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Hyper is the host towards the kernel.
type Hyper interface {
	// Now is the wall clock with its monotonic part (rumpuser_clock_gettime).
	Now() time.Time
	// Getenv reads the environment (rumpuser_getparam).
	Getenv(name string) (string, bool)
	// Hostname is the host's name.
	Hostname() (string, error)
	// NCPU is how many CPUs the host has.
	NCPU() int
	// Entropy fills p with random bytes (rumpuser_getrandom).
	Entropy(p []byte)
	// Console takes kernel messages when RUMP_VERBOSE is on.
	Console(p []byte)
	// Load starts a plugin instance: the process is up and its modules can be
	// listed, but none is initialised. Errors say in one line what is wrong.
	Load(ctx context.Context, s PluginSpec) (Plugin, error)
	// OpenFile opens a file or block device of the host (rumpuser_open).
	OpenFile(ctx context.Context, o FileOpen) (File, error)
	// RemoveFile removes a file that the kernel made on the host, durably. That
	// there is none is no error.
	RemoveFile(path string) error
}

// PluginSpec says what to start.
type PluginSpec struct {
	Instance string    // name of the instance
	Plugin   string    // name on kern.module.path, or a path with a '/'
	Epoch    abi.Epoch // of the process to be
}

// Plugin is a running component process (or a stand-in of one).
type Plugin interface {
	// Modules lists what it carries.
	Modules() []modapi.Module
	// Pid is the process id on the host; 0: none.
	Pid() int
	// Size is the size of the binary in bytes, for modstat; 0: unknown.
	Size() int64
	// Done is closed when the process has ended or its connection has failed.
	Done() <-chan struct{}
	// Cause says why, after Done: "killed by SIGKILL", "lie: ...".
	Cause() string
	// Stop ends the process politely and returns when it is gone, at most
	// when ctx ends, by force then.
	Stop(ctx context.Context)
}

// Mortal is a Plugin that says more about its end.
type Mortal interface {
	// Death is how it ended, after Done.
	Death() Death
}

// Death is the end of a process.
type Death struct {
	// Cause is one word: exit (by itself, with Status), panic (Go's, status 2),
	// signal (Signal, not from us; with Status 2 if Go's runtime ended it then), killed (SIGKILL from outside), oom (SIGKILL
	// for want of memory), hang and lie (it was ended for that), closed (its
	// connection was, but it lived on).
	Cause  string
	Text   string // for humans, one line
	Signal string // "SIGSEGV"
	Status int
	Calls  int    // that were in flight
	Op     string // the oldest of them
	Own    bool   // it has itself to blame
}

// Judged is a Plugin that is ended when it hangs.
type Judged interface {
	// Hang is how much processor time a call of the class cpu may use without
	// progress.
	Hang() time.Duration
}

// PropsFiler is a Plugin with a file of properties beside its program:
// NAME.json, as NetBSD has NAME.plist beside NAME.kmod.
type PropsFiler interface {
	// PropsFile reads at most max bytes of it. ENOENT: there is none.
	PropsFile(max int) ([]byte, error)
}

// Base is the Hyper of an embedder without component processes.
type Base struct{}

// Now is time.Now.
func (Base) Now() time.Time { return time.Now() }

// Getenv is os.LookupEnv.
func (Base) Getenv(name string) (string, bool) { return os.LookupEnv(name) }

// Hostname is os.Hostname.
func (Base) Hostname() (string, error) { return os.Hostname() }

// NCPU is runtime.NumCPU.
func (Base) NCPU() int { return runtime.NumCPU() }

// Entropy reads crypto/rand.
func (Base) Entropy(p []byte) { rand.Read(p) }

// Console writes to stderr.
func (Base) Console(p []byte) { os.Stderr.Write(p) }

// Load refuses: there is no loader.
func (Base) Load(_ context.Context, s PluginSpec) (Plugin, error) {
	return nil, abi.EOPNOTSUPP
}
